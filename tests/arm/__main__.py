"""x86-64 and aarch64 (emulated) give the same digests: `make test-arm`.

    python -m tests.arm [FOLDER]         FOLDER (default .arm) keeps the machine between runs

Exit status: 0 the same, 1 not, 77 (as automake's tests say "skipped") the packages of the
machine cannot be had here.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.arm import digests
from tests.arm.machine import Machine, UnavailableError, prepare

REPOSITORY = Path(__file__).parents[2]
UNAVAILABLE = 77
# What the emulated Python imports: a copy, so that no library of the host's lies beside it.
IMPORTED = ["diffcodec", "protos", "tests/__init__.py", "tests/arm", "tests/vectors"]


def main() -> int:
    """Make the machine, run the same program on both, compare."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / ".arm"
    try:
        machine = prepare(folder)
    except UnavailableError as error:
        print(f"test-arm: cannot be run here: {error}", file=sys.stderr)
        return UNAVAILABLE
    tree = copy_tree(machine, folder / "tree")
    here = digests.all_digests()
    try:
        there = json.loads(machine.python("-m", "tests.arm.digests", folder=tree))
    except subprocess.SubprocessError as error:
        print(f"test-arm: the emulated Python failed: {error}", file=sys.stderr)
        return 1
    return report(here, there)


def copy_tree(machine: Machine, tree: Path) -> Path:
    """The code under test, with its C extensions compiled for the machine."""
    shutil.rmtree(tree, ignore_errors=True)
    for name in IMPORTED:
        source, target = REPOSITORY / name, tree / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(source, target, ignore=ignored)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    for source in (tree / "diffcodec").rglob("*.c"):
        machine.compile_extension(source, source.parent)
    return tree


def report(here: dict[str, dict[str, str]], there: dict[str, dict[str, str]]) -> int:
    """Say what differs, or that nothing does."""
    promised = json.loads((digests.GOLDEN / "manifest.json").read_text())["target_digests"]
    wrong = [
        f"{name}: expected {promised[name.split(', ')[0]]}, found {found}"
        for name, found in there["golden"].items()
        if promised[name.split(", ")[0]] != found
    ]
    for part in here:
        if here[part].keys() != there[part].keys():
            wrong.append(f"{part}: the machines ran different checks")
        wrong += [
            f"{name}: expected {found} as on x86-64, found {there[part].get(name)}"
            for name, found in here[part].items()
            if there[part].get(name) != found
        ]
    for line in wrong:
        print(f"test-arm: {line}", file=sys.stderr)
    if not wrong:
        counts = ", ".join(f"{part} {len(found)}" for part, found in there.items())
        print(f"test-arm: aarch64 gives the digests of x86-64 ({counts})")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
