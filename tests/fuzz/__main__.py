"""Coverage-guided fuzzing: `make fuzz`.

    python -m tests.fuzz --seconds 60                 every target, a minute each
    python -m tests.fuzz --seconds 1800 decoder       one, for half an hour

The corpus stays in .fuzz/corpus/TARGET and is gone on with; an input that breaks a property is
kept in .fuzz/found, and the command that replays it is printed. Exit status 1 when there is one.
"""

import argparse
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import INPUTS, TARGETS

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / ".fuzz"
# An input is a few hundred bytes and takes milliseconds: ten seconds are a hang.
TIMEOUT_S = 10
# The process at rest takes 70 MB; `properties` holds the codec itself to far less.
RSS_LIMIT_MB = 256
LONGEST_INPUT_BYTES = 16_384
# libFuzzer's lines about every new input and its dictionary; the "pulse" lines show progress.
SKIPPED = re.compile(r"#\d+\s+(NEW|REDUCE|RELOAD)|#####|\"|INFO: (Using|Running|Loaded|Instr)")


def main() -> int:
    """Run the targets one after the other."""
    options = _options()
    if importlib.util.find_spec("atheris") is None:
        print("error: expected atheris; install the extra `fuzz`", file=sys.stderr)
        return 1
    failed = [name for name in options.targets or TARGETS if not explore(name, options.seconds)]
    return 1 if failed else 0


def explore(name: str, seconds: int) -> bool:
    """Fuzz one target; whether all was well."""
    corpus, found = FOLDER / "corpus" / name, FOLDER / "found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for stem, data in TARGETS[name].seeds().items():
        (corpus / f"golden-{stem}").write_bytes(data)
    for path in INPUTS.glob(f"{name}-*"):
        (corpus / path.name).write_bytes(path.read_bytes())
    before = set(found.iterdir())
    print(f"fuzz: {name}, {seconds} s", flush=True)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.fuzz.explore", name, corpus),
            f"-artifact_prefix={found}/{name}-",
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST_INPUT_BYTES}",
            f"-timeout={TIMEOUT_S}",
            f"-rss_limit_mb={RSS_LIMIT_MB}",
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    for line in process.stdout:
        if not SKIPPED.match(line):
            print(line, end="", flush=True)
    is_well = process.wait() == 0
    for path in sorted(set(found.iterdir()) - before):
        shown = path.relative_to(REPOSITORY)
        print(f"fuzz: {name} broke; replay it: python -m tests.fuzz.replay {shown}")
    return is_well


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], help="default: all")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
