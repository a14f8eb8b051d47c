"""Files that lie, behind right checksums: the fuzzer's properties in the test suite."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcodec import CodecError, decode, read_header
from diffcodec.file import CHECKSUM_BYTES, PREFIX, seal
from tests.fuzz.mutations import mutated, mutated_header, parts, resealed
from tests.fuzz.properties import base, check_file, check_header
from tests.fuzz.targets import GOLDEN, INPUTS, golden_files, target_of

# numpy warns where arithmetic goes wrong unnoticed; a device's log is no place for that.
pytestmark = pytest.mark.filterwarnings("error")

SEEDS = golden_files()
SMALL = ["sparse-2-levels", "sparse-2-levels.max"]


@pytest.mark.parametrize("path", sorted(INPUTS.iterdir()), ids=lambda path: path.name)
def test_inputs_that_a_fuzzer_found_keep_the_properties(path: Path):
    target_of(path).check(path.read_bytes())


@pytest.mark.parametrize("name", SEEDS)
def test_golden_files_keep_the_properties(name: str):
    check_file(SEEDS[name])
    check_header(parts(SEEDS[name])[0])
    assert resealed(SEEDS[name]) == SEEDS[name]


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(SEEDS)), st.randoms(use_true_random=False), st.integers(1, 4))
def test_mutated_and_resealed_files_decode_or_are_refused(name: str, random: Random, times: int):
    data = SEEDS[name]
    for _ in range(times):
        data = mutated(data, random)
    check_file(data)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(SEEDS)), st.randoms(use_true_random=False), st.integers(1, 4))
def test_mutated_headers_are_read_or_refused(name: str, random: Random, times: int):
    header = parts(SEEDS[name])[0]
    for _ in range(times):
        header = mutated_header(header, random)
    check_header(header)


@pytest.mark.parametrize("name", SMALL)
def test_resealed_flips_of_every_bit_decode_or_are_refused(name: str):
    data = SEEDS[name]
    for bit in range(8 * PREFIX.size, 8 * (len(data) - CHECKSUM_BYTES)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        check_file(resealed(bytes(flipped)))


@pytest.mark.parametrize("name", SMALL)
def test_resealed_truncations_are_refused(name: str):
    header, payload = parts(SEEDS[name])
    for end in range(len(payload)):
        with pytest.raises(CodecError):
            decode(seal(header, payload[:end]), base().layout)
    for end in range(len(header)):
        with pytest.raises(CodecError):
            decode(seal(header[:end], payload), base().layout)


@pytest.mark.parametrize("name", SEEDS)
def test_any_flipped_bit_and_any_truncation_of_a_golden_file_is_refused(name: str):
    data = (GOLDEN / f"{name}.ndiff").read_bytes()
    for at in range(len(data)):
        with pytest.raises(CodecError):
            read_header(data[:at])
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            with pytest.raises(CodecError):
                read_header(bytes(flipped))
