"""The C extension built with sanitizers, and a process in which it can be fuzzed.

Clang's address and undefined-behaviour sanitizers stop the process at the first read or write
beyond a buffer, overflow or bad shift; its coverage counters guide libFuzzer, whose runtime comes
with atheris and has to be there before Python is. Every allocation of Python's goes to malloc,
where the sanitizer sees its ends.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.machinery import ExtensionFileLoader
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "diffcodec" / "coders" / "max" / "_mixing.c"
NAME = "diffcodec.coders.max._mixing"
FOLDER = REPOSITORY / ".fuzz" / "native"
BUILT = FOLDER / "_mixing.so"
# Set where the process was started for the sanitized library.
IS_SANITIZED = "FUZZ_SANITIZED"
COMPILERS = ["clang", *(f"clang-{version}" for version in range(20, 13, -1))]


class UnavailableError(Exception):
    """No compiler, no runtime, or the extension does not compile."""


def build() -> Path:
    """Compile the extension with sanitizers; the library.

    Raises:
        UnavailableError: there is no clang, or it fails.
    """
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise UnavailableError("expected clang with its runtime libraries, found none")
    FOLDER.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [
            *(compiler, "-g", "-O1", "-fPIC", "-shared", "-Wall"),
            "-fsanitize=address,undefined,fuzzer-no-link",
            "-fno-sanitize-recover=undefined",
            f"-I{sysconfig.get_path('include')}",
            *("-o", BUILT, SOURCE),
        ],
        check=False,
    )
    if done.returncode:
        raise UnavailableError(f"expected {SOURCE} to compile, found the errors above")
    return BUILT


def environment() -> dict[str, str]:
    """Variables of a process that loads what `build` made.

    Raises:
        UnavailableError: atheris has no runtime for it.
    """
    spec = importlib.util.find_spec("atheris")
    roots = [Path(p).parent for p in (spec.submodule_search_locations or [])] if spec else []
    runtime = next((r for r in (p / "asan_with_fuzzer.so" for p in roots) if r.exists()), None)
    if runtime is None:
        raise UnavailableError("expected atheris with asan_with_fuzzer.so, found none")
    return {
        **os.environ,
        IS_SANITIZED: "1",
        "LD_PRELOAD": str(runtime),
        "PYTHONMALLOC": "malloc",
        # Python keeps much at its end that is no leak; a refused allocation is Python's to report.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def load() -> None:
    """Make the built library the one that `import diffcodec.coders.max._mixing` gives."""
    loader = ExtensionFileLoader(NAME, str(BUILT))
    spec = importlib.util.spec_from_file_location(NAME, BUILT, loader=loader)
    if spec is None:
        raise UnavailableError(f"expected a library at {BUILT}")
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    sys.modules[NAME] = module
