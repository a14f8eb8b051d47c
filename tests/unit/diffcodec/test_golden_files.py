"""Golden files: bytes that every past and future decoder must read the same way."""

import json
from pathlib import Path

import pytest
import zstandard

from diffcodec import CodecError, Coder, ParameterSet, apply, apply_file, decode
from diffcodec.coders.layers import available_coders
from diffcodec.weights import read_weights
from tests.vectors import independent_decoder, independent_header, regenerate

FOLDER = regenerate.FOLDER
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())
NAMES = sorted(MANIFEST["target_digests"])


def golden(name: str) -> bytes:
    return (FOLDER / f"{name}.ndiff").read_bytes()


def base() -> ParameterSet:
    return read_weights(FOLDER / "base.safetensors")


def test_the_base_is_the_one_that_the_files_are_for():
    assert base().digest().hex() == MANIFEST["base_digest"]
    assert base() == regenerate.base()


def test_every_golden_file_is_in_the_manifest():
    assert sorted(p.stem for p in FOLDER.glob("*.ndiff")) == NAMES
    assert sorted(regenerate.golden_files()) == NAMES


@pytest.fixture(autouse=True)
def coder(request: pytest.FixtureRequest) -> None:
    """Skip a file whose coder this installation lacks."""
    name = request.node.callspec.params.get("name", "") if hasattr(request.node, "callspec") else ""
    if name.endswith(".max") and Coder.MAX not in available_coders():
        pytest.skip("the C extension of coder max is not built")


@pytest.mark.parametrize("name", NAMES)
def test_golden_file_gives_its_digest_and_values(name: str):
    decoded = decode(golden(name), base().layout)
    start, diff, _ = regenerate.golden_files()[name]
    assert decoded.diff == diff
    assert apply(start, decoded).digest().hex() == MANIFEST["target_digests"][name]


@pytest.mark.parametrize("name", NAMES)
def test_golden_file_streams_to_its_digest(name: str, tmp_path: Path):
    base().write(tmp_path / "base.bin")
    applied = apply_file(
        tmp_path / "base.bin", base().layout, FOLDER / f"{name}.ndiff", tmp_path / "new.bin"
    )
    assert applied.target_digest.hex() == MANIFEST["target_digests"][name]


@pytest.mark.parametrize("name", NAMES)
def test_encoding_gives_the_golden_bytes(name: str):
    if ".".join(map(str, zstandard.ZSTD_VERSION)) != MANIFEST["zstd"]:
        pytest.skip(f"compressed bytes are those of zstd {MANIFEST['zstd']}")
    assert regenerate.encoded(name) == golden(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_decoder_written_from_the_document_gives_the_same_store(name: str, tmp_path: Path):
    numbers = {text: number for number, text in independent_header.DTYPE_NAMES.items()}
    layout = [
        independent_header.Tensor(t.name, numbers[t.dtype], t.shape) for t in base().layout.tensors
    ]
    base().write(tmp_path / "base.bin")
    _, store, graph = independent_decoder.apply_file(
        golden(name), layout, (tmp_path / "base.bin").read_bytes()
    )
    start, diff, _ = regenerate.golden_files()[name]
    apply(start, diff).write(tmp_path / "new.bin")
    assert store == (tmp_path / "new.bin").read_bytes()
    assert graph == diff.graph


@pytest.mark.parametrize("name", NAMES)
def test_any_flipped_bit_of_a_golden_file_is_refused(name: str):
    data = golden(name)
    layout = base().layout
    for at in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            with pytest.raises(CodecError):
                decode(bytes(flipped), layout)


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_file_cut_anywhere_is_refused(name: str):
    data = golden(name)
    for end in range(len(data)):
        with pytest.raises(CodecError):
            decode(data[:end], base().layout)


def test_the_vectors_stay_small():
    assert sum(p.stat().st_size for p in FOLDER.iterdir()) < 60_000
