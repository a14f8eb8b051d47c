"""What is fuzzed: by name, the seeds, the property that every input must keep, and how to mutate.

Inputs of `decoder` are diff files, sealed anew before each run: the checksum would stop nearly
every mutation, and nobody who means harm leaves it wrong. Inputs of `header` are headers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzz.mutations import BytesMutator, mutated, mutated_header, parts, resealed
from tests.fuzz.properties import check_file, check_header
from tests.fuzz.streams import check_calls, check_stream, mutated_stream, stream_seeds
from tests.vectors.regenerate import FOLDER as GOLDEN

# Inputs that were interesting once, committed; names begin with the target's.
INPUTS = Path(__file__).parent / "inputs"


@dataclass(frozen=True)
class Target:
    """Something to fuzz.

    Attributes:
        check: Raises unless the properties hold for an input.
        mutate: Another input, from one, some randomness and a mutator of plain bytes.
        seeds: Inputs to start from, by name.
        is_native: Whether it is the C extension's, to be run with sanitizers.
    """

    check: Callable[[bytes], None]
    mutate: Callable[[bytes, Random, BytesMutator], bytes]
    seeds: Callable[[], Mapping[str, bytes]]
    is_native: bool = False


def golden_files() -> Mapping[str, bytes]:
    """Every golden file."""
    return {path.stem: path.read_bytes() for path in sorted(GOLDEN.glob("*.ndiff"))}


def golden_headers() -> Mapping[str, bytes]:
    """The header of every golden file."""
    return {name: parts(data)[0] for name, data in golden_files().items()}


TARGETS = {
    "header": Target(check_header, mutated_header, golden_headers),
    "decoder": Target(lambda data: check_file(resealed(data)), mutated, golden_files),
    "stream": Target(check_stream, mutated_stream, stream_seeds, is_native=True),
    "calls": Target(
        check_calls, lambda data, _, mutate: mutate(data), lambda: {"a": b"calls"}, True
    ),
}


def target_of(path: Path) -> Target:
    """The target that an input's file name begins with.

    Raises:
        ValueError: it begins with none.
    """
    name = path.name.split("-")[0]
    if name not in TARGETS:
        raise ValueError(f"expected a name that begins with {' or '.join(TARGETS)}, found {path}")
    return TARGETS[name]
