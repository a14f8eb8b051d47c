"""One coverage-guided run of one target, in this process: `python -m tests.fuzz` starts it.

python -m tests.fuzz.explore TARGET CORPUS [libFuzzer's arguments: -max_total_time=60]
"""

import os
import sys
import warnings
from pathlib import Path
from random import Random

import atheris

from tests.fuzz import native

if os.environ.get(native.IS_SANITIZED):
    native.load()

with atheris.instrument_imports(include=["diffcodec"]):
    import diffcodec  # noqa: F401  (its modules are now measured)

from tests.fuzz.targets import INPUTS, TARGETS


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    warnings.simplefilter("error", RuntimeWarning)
    name = sys.argv.pop(1)
    target, corpus = TARGETS[name], Path(sys.argv[1])
    for stem, data in target.seeds().items():
        (corpus / f"seed-{stem}").write_bytes(data)
    for path in INPUTS.glob(f"{name}-*"):
        (corpus / path.name).write_bytes(path.read_bytes())

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        def plainly(content: bytes) -> bytes:
            # Room to grow into: the limit is for the whole input.
            return bytes(atheris.Mutate(content, max(len(content) + 64, 128)))

        return target.mutate(data, Random(seed), plainly)[:max_size]

    atheris.Setup(sys.argv, target.check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
