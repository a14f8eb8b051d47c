"""Run inputs that a fuzzer kept: `python -m tests.fuzz.replay FILE...`; exit 1 when one fails.

A file's name begins with its target's, as the fuzzer names them: `decoder-crash-12ab`. With
--native the C extension is the one with sanitizers, in a process of its own.
"""

import faulthandler
import os
import subprocess
import sys
import traceback
import warnings
from pathlib import Path

from tests.fuzz import native
from tests.fuzz.targets import target_of


def main() -> int:
    """Check each file given."""
    if "--native" in sys.argv:
        native.build()
        command = [sys.executable, "-m", "tests.fuzz.replay", *sys.argv[1:]]
        command.remove("--native")
        return subprocess.run(command, env=native.environment(), check=False).returncode
    if os.environ.get(native.IS_SANITIZED):
        native.load()
    else:
        faulthandler.enable()
    warnings.simplefilter("error", RuntimeWarning)
    failed = 0
    for name in sys.argv[1:]:
        path = Path(name)
        try:
            target_of(path).check(path.read_bytes())
        except Exception:
            traceback.print_exc()
            failed += 1
            print(f"{path}: FAILS", file=sys.stderr)
        else:
            print(f"{path}: holds")
    return 1 if failed or len(sys.argv) < 2 else 0


if __name__ == "__main__":
    sys.exit(main())
