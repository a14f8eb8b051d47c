"""Damaged and hostile files: every one is refused as a CodecError, before memory is spent.

A damaged file fails its checksum. A hostile one has a right checksum and lies elsewhere, so these
are sealed anew after each change.
"""

import contextlib
import dataclasses
import io
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcodec import (
    CodecError,
    Coder,
    DigestError,
    FormatError,
    Header,
    InputError,
    LayoutError,
    Method,
    ParameterSet,
    SectionKind,
    UnsupportedError,
    WrongBaseError,
    apply,
    decode,
    encode,
    lossless_diff,
    read_header,
)
from diffcodec.coders import fast, layers
from diffcodec.coders.frames import FrameReader
from diffcodec.coders.streams import Window
from diffcodec.file import CHECKSUM_BYTES, PREFIX, seal
from diffcodec.wire import header_from_bytes, header_to_bytes, scale_to_wire
from protos.ota.v1 import diff_pb2
from tests.unit.diffcodec.strategies import example

BASE, DIFF = example()
# Entries as gap bytes, whichever form is the smallest: frames are the easier ones to forge.
with pytest.MonkeyPatch.context() as patch:
    patch.setattr(layers, "ENTRIES_FORMS", ((Coder.FAST, fast.encode_gap_bytes),))
    FILE = encode(DIFF, BASE)
LAYOUT = BASE.layout
SNAPSHOT = encode(lossless_diff(None, BASE), None)


def parts(data: bytes = FILE) -> tuple[bytes, bytes]:
    """The header's bytes and the sections' bytes of a file."""
    header_bytes = int.from_bytes(data[12:16], "little")
    end = PREFIX.size + header_bytes
    return data[PREFIX.size : end], data[end:-CHECKSUM_BYTES]


def lying(change: Callable[[diff_pb2.DiffHeader], None], data: bytes = FILE) -> bytes:
    """The file with another header and a right checksum."""
    header, payload = parts(data)
    message = diff_pb2.DiffHeader.FromString(header)
    change(message)
    return seal(message.SerializeToString(deterministic=True), payload)


def with_section(kind: SectionKind, raw: bytes, frame: bytes | None = None) -> bytes:
    """The file with other bytes in one section; its lengths in the header follow."""
    header_bytes, payload = parts()
    header = header_from_bytes(header_bytes)
    (layer,) = header.layers
    sections, pieces, at = [], [], 0
    for section in layer.sections:
        piece = payload[at : at + section.coded_length]
        at += section.coded_length
        if section.kind is kind:
            piece = zstandard.compress(raw) if frame is None else frame
            section = dataclasses.replace(section, raw_length=len(raw), coded_length=len(piece))
        sections.append(section)
        pieces.append(piece)
    changed = dataclasses.replace(layer, sections=tuple(sections))
    header = dataclasses.replace(header, layers=(changed,))
    return seal(header_to_bytes(header), b"".join(pieces))


def raw_section(kind: SectionKind) -> bytes:
    header_bytes, payload = parts()
    at = 0
    for section in header_from_bytes(header_bytes).sections:
        if section.kind is kind:
            return zstandard.decompress(payload[at : at + section.coded_length])
        at += section.coded_length
    raise AssertionError(kind)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    length, left = bytearray(), len(content)
    while left >= 0x80:
        length.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([number << 3 | 2, *length, left]) + content


def layer(name: str, index: int, value: int) -> Callable[[diff_pb2.DiffHeader], None]:
    """Another item in one of the layer's lists."""

    def change(message: diff_pb2.DiffHeader) -> None:
        getattr(message.layers[0], name)[index] = value

    return change


def scale(index: int, magnitude: float) -> Callable[[diff_pb2.DiffHeader], None]:
    return layer("scales", index, scale_to_wire(magnitude))


def section(index: int, **fields: int) -> Callable[[diff_pb2.DiffHeader], None]:
    def change(message: diff_pb2.DiffHeader) -> None:
        for name, value in fields.items():
            setattr(message.layers[0].sections[index], name, value)

    return change


# Methods of the example: 1 embedding is sparse, 2 half is lossless, 5 weight is a hash; counts,
# largest and scales are those of 1 and 5. Sections: 0 gaps, 1 levels, 2 arrays, 3 bytes.


def test_crafting_without_a_lie_gives_the_same_file():
    assert lying(lambda message: None) == FILE
    same = with_section(SectionKind.GAPS, raw_section(SectionKind.GAPS))
    assert decode(same, LAYOUT).diff == DIFF


@pytest.mark.parametrize("data", [FILE, SNAPSHOT], ids=["diff", "snapshot"])
def test_any_changed_byte_is_refused(data: bytes):
    for at in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= flip
            with pytest.raises(CodecError):
                decode(bytes(damaged), LAYOUT)
            with pytest.raises(CodecError):
                read_header(bytes(damaged))


def test_any_truncation_is_refused():
    for end in range(len(FILE)):
        with pytest.raises(FormatError):
            decode(FILE[:end], LAYOUT)
        with pytest.raises(FormatError):
            read_header(FILE[:end])


@given(st.binary(min_size=1, max_size=40))
def test_anything_appended_is_refused(tail: bytes):
    with pytest.raises(FormatError):
        decode(FILE + tail, LAYOUT)


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes):
    for source in (data, FILE[:8] + data, seal(data, b"")):
        with pytest.raises(CodecError):
            decode(source, LAYOUT)


@settings(max_examples=300)
@given(st.data())
def test_edited_and_resealed_files_decode_or_are_refused(data: st.DataObject):
    header, payload = parts(data.draw(st.sampled_from([FILE, SNAPSHOT])))
    body = bytearray(header + payload)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([len(header), len(header) - 1, len(header) + 1]))
    forged = seal(bytes(body[:cut]), bytes(body[cut:]))
    try:
        apply(BASE, decode(forged, LAYOUT, result_limit_bytes=2**20))
    except CodecError as error:
        assert "\n" not in str(error)
    with contextlib.suppress(CodecError):
        read_header(forged)


@pytest.mark.parametrize("version", [0, 2, 255, 65535])
def test_other_versions_are_refused(version: int):
    data = FILE[:8] + version.to_bytes(2, "little") + FILE[10:]
    with pytest.raises(UnsupportedError, match=f"expected diff format version 1, found {version}"):
        decode(data, LAYOUT)


def test_a_file_of_another_kind_is_refused():
    with pytest.raises(FormatError, match="expected a diff file, found one that starts with 504b"):
        decode(b"PK\3\4" + bytes(100), LAYOUT)
    with pytest.raises(FormatError, match="found an empty file"):
        decode(b"", LAYOUT)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (layer("methods", 1, 77), UnsupportedError, "expected a method .* found number 77"),
        (layer("methods", 1, 2), FormatError, "2 numbers of hashes|sections"),
        (layer("methods", 0, 1), FormatError, "expected 3 counts .* found 2"),
        (layer("methods", 1, 0), FormatError, "expected 1 counts .* found 2"),
        (layer("methods", 1, 5), FormatError, "scales"),
        (layer("methods", 1, 3), FormatError, "embedding: expected a rank|sections"),
        (section(0, coder=9), UnsupportedError, "expected a coder .* found number 9"),
        (section(0, coder=0), UnsupportedError, "coder"),
        (section(0, coder=2), FormatError, r"sections .* found gaps \(max\)"),
        (section(0, kind=9), UnsupportedError, "section"),
        (scale(0, float("nan")), FormatError, "positive finite float32, found nan"),
        (scale(0, float("inf")), FormatError, "float32, found inf"),
        (scale(0, 0.0), FormatError, "float32, found 0.0"),
        (scale(1, float("inf")), FormatError, "float32, found inf"),
        (layer("scales", 0, 2**31), FormatError, "scale of 31 bits"),
        (lambda m: m.layers[0].scales.append(1), FormatError, "scales .* found more"),
        (lambda m: m.layers[0].scales.pop(), FormatError, "scales .* found fewer"),
        (lambda m: m.layers[0].scales.extend([1] * 2**16), FormatError, "at most 65536 scales"),
        (layer("counts", 0, 0), FormatError, "expected 1 to 3000 non-zeros, found 0"),
        (layer("counts", 0, 3001), FormatError, "expected 1 to 3000 non-zeros, found 3001"),
        (layer("counts", 0, 2**32 - 1), FormatError, "found 4294967295"),
        (layer("counts", 0, 6), FormatError, "raw bytes"),
        (layer("largest", 0, 0), FormatError, "embedding: expected levels up to a K of 1 to 127"),
        (layer("largest", 0, 128), FormatError, "found 128"),
        (layer("largest", 0, 1), FormatError, "raw bytes"),
        (lambda m: m.layers[0].largest.append(3), FormatError, "expected 2 largest levels"),
        (layer("counts", 1, 0), FormatError, "1 to 800 hashed levels"),
        (layer("counts", 1, 801), FormatError, "1 to 800 hashed levels, found 801"),
        (layer("hashes", 0, 0), FormatError, "canonical"),
        (layer("hashes", 0, 5), FormatError, "1 to 4 hashes, found 5"),
        (lambda m: m.layers[0].hashes.append(1), FormatError, "numbers of hashes"),
        (section(0, raw_length=2**40), FormatError, "raw bytes from the tensor records"),
        (section(0, coded_length=10**6), FormatError, "bytes by the header"),
        (lambda m: m.layers[0].sections.reverse(), FormatError, "expected the sections"),
        (lambda m: m.layers[0].sections.add(), UnsupportedError, "section"),
        (
            lambda m: [m.layers[0].sections.add() for _ in range(7)],
            FormatError,
            "expected at most 6 sections in a layer, found more",
        ),
        (
            lambda m: m.layers[0].methods.append(0),
            FormatError,
            "expected 6 tensor records, found 7",
        ),
        (lambda m: m.layers[0].methods.pop(0), FormatError, "expected 6 tensor records, found 5"),
        (
            lambda m: [m.layers.add() for _ in range(6)],
            FormatError,
            "expected at most 6 layers, found more",
        ),
        (lambda m: m.layers.add(), FormatError, r"in every layer, found \[0, 6\]"),
        (lambda m: m.ClearField("base_digest"), FormatError, "either a base digest or"),
        (lambda m: setattr(m, "base_digest", b"short"), FormatError, "base digest of 32 bytes"),
        (lambda m: setattr(m, "target_digest", b""), FormatError, "target digest of 32 bytes"),
        (lambda m: setattr(m, "layout_check", bytes(8)), LayoutError, "layout"),
        (lambda m: setattr(m, "layout_check", bytes(32)), FormatError, "check of 8 bytes"),
        (lambda m: m.layout.SetInParent(), FormatError, "expected 0 tensor records, found 6"),
        (lambda m: m.graph.SetInParent(), FormatError, "graph digest of 32 bytes"),
        (lambda m: setattr(m, "graph_digest", bytes(32)), FormatError, "canonical"),
    ],
)
def test_headers_that_lie_are_refused(change, error, message: str):
    with pytest.raises(error, match=message):
        decode(lying(change), LAYOUT)


def test_a_wrong_target_digest_is_found_by_applying():
    data = lying(lambda m: setattr(m, "target_digest", bytes(32)))
    with pytest.raises(DigestError, match="expected weights with digest 0000"):
        apply(BASE, decode(data, LAYOUT))


def test_a_wrong_base_digest_is_found_by_applying():
    data = lying(lambda m: setattr(m, "base_digest", bytes(32)))
    with pytest.raises(WrongBaseError, match="expected a base with digest 0000"):
        apply(BASE, decode(data, LAYOUT))


def test_unknown_and_repeated_header_fields_are_refused():
    header, payload = parts()
    check = field(3, LAYOUT.fingerprint[:8])
    assert check in header
    for extra in (b"\xf8\x07\x01", check):
        with pytest.raises(FormatError, match="canonical"):
            decode(seal(header + extra, payload), LAYOUT)


def test_headers_that_are_no_protobuf_are_refused():
    with pytest.raises(FormatError, match="expected a header in protobuf"):
        decode(seal(b"\xff\xff\xff", b""), LAYOUT)


def test_a_header_longer_than_the_file_is_refused():
    data = FILE[:12] + (2**32 - 1).to_bytes(4, "little") + FILE[16:]
    with pytest.raises(FormatError, match="expected a header of at most"):
        decode(data, LAYOUT)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.layout.tensors.append(m.layout.tensors[0]),
        lambda m: m.layout.tensors.reverse(),
        lambda m: setattr(m.layout.tensors[0], "name", "a\tb"),
        lambda m: setattr(m.layout.tensors[0], "dtype", 0),
        lambda m: setattr(m.layout.tensors[0], "dtype", 9),
        lambda m: m.layout.tensors[0].shape.extend([2**31, 2**31]),
        lambda m: m.layout.tensors[0].shape.extend([1] * 8),
        lambda m: m.layout.tensors[0].shape.append(2),
    ],
)
def test_snapshots_with_impossible_layouts_are_refused(change):
    with pytest.raises(CodecError):
        decode(lying(change, SNAPSHOT))


def test_a_snapshot_larger_than_the_limit_is_refused():
    with pytest.raises(FormatError, match="expected a result of at most 1000 bytes"):
        decode(SNAPSHOT, result_limit_bytes=1000)


@pytest.mark.parametrize(
    ("kind", "raw", "message"),
    [
        (SectionKind.GAPS, bytes([0, 0, 255, 43, 255, 255]), "expected 5 entries, found 3"),
        (SectionKind.GAPS, bytes([0] * 15), "section gaps: expected its end, found more"),
        (SectionKind.GAPS, bytes([255] * 15), "positions below 3000"),
        (SectionKind.GAPS, bytes([0, 0, 0, 0, 255]), "expected 5 entries, found 4"),
        (
            SectionKind.GAPS,
            bytes([0, 255, 0, 255, 0, 255, 0, 255, 0, *[255] * 6]),
            "positions|more|escape",
        ),
        (SectionKind.LEVELS, bytes([0, 1, 2, 3]), "raw bytes"),
        (SectionKind.LEVELS, bytes([30, 0, 0, 0, 0]), "expected 30 symbols of levels, found .* 30"),
        (SectionKind.ARRAYS, bytes([0x70, 0, 0]), "weight: expected 7 symbols .* number 7"),
    ],
)
def test_section_contents_that_cannot_be_are_refused(kind, raw: bytes, message: str):
    with pytest.raises(FormatError, match=message):
        decode(with_section(kind, raw), LAYOUT)


def test_bits_after_the_last_level_are_refused():
    raw = bytearray(raw_section(SectionKind.LEVELS))
    assert len(raw) == 5  # 8 bits a level: no bits are left over, so take 5 levels of 4 bits
    data = lying(layer("largest", 0, 8), with_section(SectionKind.LEVELS, b"\x10\x32\xf4"))
    with pytest.raises(FormatError, match="expected zero bits after its last level"):
        decode(data, LAYOUT)


def test_cut_and_overlong_frames_are_refused():
    raw = raw_section(SectionKind.BYTES)
    frame = zstandard.compress(raw)
    for bad in (frame[:-1], frame + b"\0", frame + frame, frame[: len(frame) // 2], b"", raw):
        with pytest.raises(FormatError, match="section bytes"):
            decode(with_section(SectionKind.BYTES, raw, bad), LAYOUT)


def test_frames_that_declare_another_size_or_none_are_refused():
    raw = raw_section(SectionKind.BYTES)
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(raw)
    longer = zstandard.compress(raw + b"x")
    summed = zstandard.ZstdCompressor(write_checksum=True).compress(raw)
    for bad in (silent, longer, summed):
        with pytest.raises(FormatError, match="section bytes: expected a frame"):
            decode(with_section(SectionKind.BYTES, raw, bad), LAYOUT)


def test_frames_that_ask_for_a_large_window_are_refused():
    parameters = zstandard.ZstdCompressionParameters(window_log=24, write_content_size=True)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compress(bytes(2**25))
    section_of = dataclasses.replace(
        header_from_bytes(parts()[0]).sections[0], raw_length=2**25, coded_length=len(frame)
    )
    with pytest.raises(FormatError, match="expected a window of at most 262144 bytes"):
        FrameReader(io.BytesIO(frame), 0, section_of)


def test_a_decompression_bomb_is_refused_before_memory_is_spent():
    bomb = zstandard.compress(bytes(2**28))
    data = with_section(SectionKind.GAPS, raw_section(SectionKind.GAPS), bomb)
    tracemalloc.start()
    with pytest.raises(FormatError, match="expected"):
        decode(data, LAYOUT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_a_snapshot_bomb_is_refused_before_memory_is_spent():
    big = ParameterSet.from_arrays({"w": np.zeros(2**22, np.float32)})
    header, payload = parts(encode(lossless_diff(None, big), None))
    tracemalloc.start()
    with pytest.raises(FormatError, match="expected a result of at most 1048576 bytes"):
        decode(seal(header, payload), result_limit_bytes=2**20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


READ_AND_PRINT_GROWTH = """
import re, sys
from pathlib import Path
from diffcodec import FormatError, read_header

def peak_kib():
    # Not ru_maxrss: that begins with the peak of the process that started this one.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before = peak_kib()
try:
    read_header(Path(sys.argv[1]))
except FormatError as error:
    assert len(str(error)) < 1000
    print(peak_kib() - before)
"""


RESULT = field(2, bytes(32)) + field(3, bytes(8))
NAMED = field(1, b"w") + b"\x10\x01"  # a tensor's name, and its dtype: float32


@pytest.mark.parametrize(
    "header",
    [
        field(1, bytes(32)) + RESULT + field(5, b"") * 524_237,
        field(1, bytes(32)) + RESULT + field(5, field(7, b"") * 524_237),
        field(1, bytes(32)) + RESULT + field(5, field(1, bytes(1_048_400))),
        field(1, bytes(32)) + RESULT + field(5, field(2, bytes(1_048_400))),
        RESULT + field(4, field(1, b"")) * 262_100,
        RESULT + field(4, field(1, b"") * 524_237),
        RESULT + field(4, field(1, NAMED + field(3, b"\x01" * 1_048_000))),
    ],
    ids=["layers", "sections", "methods", "counts", "layouts", "tensors of a layout", "dimensions"],
)
def test_a_header_of_countless_parts_is_refused_before_memory_is_spent(
    tmp_path: Path, header: bytes
):
    (tmp_path / "hostile.ndiff").write_bytes(seal(header, b""))
    done = subprocess.run(
        [sys.executable, "-c", READ_AND_PRINT_GROWTH, str(tmp_path / "hostile.ndiff")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 20 * 1024


def test_more_tensors_than_a_file_can_hold_are_refused_when_writing():
    many = ParameterSet.from_arrays({f"t{n}": np.zeros(1, np.float32) for n in range(2**14 + 1)})
    with pytest.raises(InputError, match=r"expected at most 16384 tensors, .* found 16385 tensors"):
        encode(lossless_diff(None, many), None)


def test_a_frame_of_countless_empty_blocks_is_refused_soon():
    raw = raw_section(SectionKind.BYTES)
    header_end = zstandard.frame_header_size(zstandard.compress(raw))
    frame = zstandard.compress(raw)
    stuffed = frame[:header_end] + b"\0\0\0" * 30 + frame[header_end:]
    with pytest.raises(FormatError, match="section bytes"):
        decode(with_section(SectionKind.BYTES, raw, stuffed), LAYOUT)


def test_a_header_survives_its_wire_form():
    header = read_header(FILE)
    assert isinstance(header, Header)
    assert header_from_bytes(header_to_bytes(header)) == header
    assert header.methods[Method.SPARSE] == 1


def test_layers_of_different_lengths_are_refused_when_the_header_is_read():
    data = lying(lambda m: m.layers.add().methods.extend([0] * 5))
    with pytest.raises(FormatError, match=r"as many tensor records in every layer, found \[5, 6\]"):
        read_header(data)


def test_a_file_that_is_cut_while_its_sections_are_read_is_refused():
    window = Window(io.BytesIO(bytes(10)), 4, 8)
    with pytest.raises(FormatError, match="expected 8 more bytes of a section, found 6"):
        window.read(100)


def test_a_snapshot_of_empty_tensors_with_vast_dimensions_is_refused():
    vast = ParameterSet.from_arrays({"w": np.zeros((0, 1, 1), np.float32)})

    def change(message: diff_pb2.DiffHeader) -> None:
        message.layout.tensors[0].shape[:] = [0, 2**32 - 1, 2**32 - 1]

    with pytest.raises(FormatError, match="in the layout that the diff brings"):
        decode(lying(change, encode(lossless_diff(None, vast), None)))
