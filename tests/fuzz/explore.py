"""One coverage-guided run of one target, in this process: `python -m tests.fuzz` starts it.

python -m tests.fuzz.explore TARGET [libFuzzer's arguments: corpus folders, -max_total_time=60]
"""

import sys
from random import Random

import atheris

with atheris.instrument_imports(include=["diffcodec"]):
    import diffcodec  # noqa: F401  (its modules are now measured)

from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    target = TARGETS[sys.argv.pop(1)]

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        def plainly(content: bytes) -> bytes:
            # Room to grow into: the limit is for the whole input.
            return bytes(atheris.Mutate(content, max(len(content) + 64, 128)))

        return target.mutate(data, Random(seed), plainly)[:max_size]

    atheris.Setup(sys.argv, target.check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
