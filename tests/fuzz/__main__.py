"""Coverage-guided fuzzing: `make fuzz` and `make fuzz-native`.

    python -m tests.fuzz --seconds 60                 header and decoder, a minute each
    python -m tests.fuzz --seconds 1800 decoder       one target, for half an hour
    python -m tests.fuzz --native                     the C extension, built with sanitizers

The corpus stays in .fuzz/corpus/TARGET and is gone on with; an input that breaks a property is
kept in .fuzz/found, and the command that replays it is printed. Exit status 1 when there is one.
"""

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.fuzz import native
from tests.fuzz.targets import TARGETS

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / ".fuzz"
# An input is a few hundred bytes and takes milliseconds: ten seconds are a hang.
TIMEOUT_S = 10
# `properties` holds the codec to far less, but atheris leaks 5 KB for each input that it measures
# (none without its instrumentation): so a long run is made of rounds. Sanitizers keep what was
# freed for a while.
ROUND_S = 300
RSS_LIMIT_MB, RSS_LIMIT_NATIVE_MB = 768, 2048
LONGEST_INPUT_BYTES = 16_384
# libFuzzer's lines about every new input and its dictionary; the "pulse" lines show progress.
SKIPPED = re.compile(r"#\d+\s+(NEW|REDUCE|RELOAD)|#####|\"|INFO: (Using|Running|Loaded|Instr)")


def main() -> int:
    """Run the targets one after the other."""
    options = _options()
    if importlib.util.find_spec("atheris") is None:
        print("error: expected atheris; install the extra `fuzz`", file=sys.stderr)
        return 1
    environment: Mapping[str, str] = os.environ
    if options.native:
        try:
            native.build()
            environment = native.environment()
        except native.UnavailableError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    names = options.targets or [n for n in TARGETS if TARGETS[n].is_native == options.native]
    failed = [name for name in names if not explore(name, options.seconds, environment)]
    return 1 if failed else 0


def explore(name: str, seconds: int, environment: Mapping[str, str]) -> bool:
    """Fuzz one target until something breaks; whether all was well."""
    corpus, found = FOLDER / "corpus" / name, FOLDER / "found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    is_native = native.IS_SANITIZED in environment
    print(f"fuzz: {name}, {seconds} s{' with sanitizers' if is_native else ''}", flush=True)
    rounds = [ROUND_S] * (seconds // ROUND_S) + [seconds % ROUND_S]
    is_well = all(run_round(name, left, environment) for left in rounds if left)
    for path in sorted(set(found.glob(f"{name}-*")) - before):
        command = f"python -m tests.fuzz.replay {'--native ' if is_native else ''}"
        print(f"fuzz: {name} broke; replay it: {command}{path.relative_to(REPOSITORY)}")
    return is_well


def run_round(name: str, seconds: int, environment: Mapping[str, str]) -> bool:
    """Fuzz in one process; whether it ended well."""
    corpus, found = FOLDER / "corpus" / name, FOLDER / "found"
    limit_mb = RSS_LIMIT_NATIVE_MB if native.IS_SANITIZED in environment else RSS_LIMIT_MB
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.fuzz.explore", name, corpus),
            f"-artifact_prefix={found}/{name}-",
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST_INPUT_BYTES}",
            f"-timeout={TIMEOUT_S}",
            f"-rss_limit_mb={limit_mb}",
        ],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    for line in process.stdout:
        if not SKIPPED.match(line):
            print(line, end="", flush=True)
    return process.wait() == 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--native", action="store_true", help="with sanitizers in the C extension")
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}")
    options = parser.parse_args()
    for name in options.targets:
        if name not in TARGETS:
            parser.error(f"expected a target of {', '.join(TARGETS)}, found {name}")
    return options


if __name__ == "__main__":
    sys.exit(main())
