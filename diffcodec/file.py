"""The diff file as a whole: magic, version, header, sections, checksum.

    magic (8 bytes) | version u16 | zero u16 | header length u32 | header | sections | xxh3_128

docs/diff-format-v1.md is the specification. The checksum finds damage at once; that the result
is the right one is known by its SHA-256 digest, which the header names.

    data = encode(diff, base)
    assert decode(data, base.layout).diff == diff
"""

import hashlib
import io
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xxhash

from diffcodec.changes import (
    HashDiff,
    LosslessDiff,
    LowRankDiff,
    SparseDiff,
    TensorDiff,
    magnitudes,
)
from diffcodec.coders.frames import FrameReader, compress
from diffcodec.coders.layers import LayerReader, encode_layer
from diffcodec.diff import DecodedDiff, Diff, Layer, apply
from diffcodec.errors import DigestError, FormatError, InputError, UnsupportedError
from diffcodec.header import (
    LAYOUT_CHECK_BYTES,
    MAX_RECORDS,
    MAX_SCALES,
    MAX_TENSORS,
    RESULT_LIMIT_BYTES,
    Coder,
    Header,
    Method,
    Section,
    SectionKind,
    TensorRecord,
)
from diffcodec.parameters import DIGEST_BYTES, Layout, ParameterSet, TensorSpec
from diffcodec.wire import header_from_bytes, header_to_bytes

# As PNG does: a byte that is no text, the name, and line ends that a text transfer would mangle.
MAGIC = b"\x8eNDIFF\r\n"
VERSION = 1
PREFIX = struct.Struct("<8sHHI")
CHECKSUM_BYTES = 16
GRAPH_ZSTD_LEVELS = (19,)
# Holds a snapshot of over 10,000 tensors; `census` bounds what it takes in memory.
MAX_HEADER_BYTES = 2**20


@dataclass(frozen=True)
class OpenDiff:
    """A file whose frame is sound: its checksum fits and its header is read.

    Attributes:
        header: Not yet compared with a layout; `Header.resolve` does that.
        source: The file.
        payload_offset: Where the first section starts.
        file_bytes: Size of the whole file.
    """

    header: Header
    source: BinaryIO
    payload_offset: int
    file_bytes: int

    def layers(self) -> list[LayerReader]:
        """A reader for every layer.

        Raises:
            FormatError: a section is not what the header says.
            UnsupportedError: this machine lacks a coder.
        """
        readers = []
        at = self.payload_offset
        for layer in self.header.layers:
            readers.append(LayerReader(self.source, at, layer))
            at += sum(section.coded_length for section in layer.sections)
        return readers

    def graph(self) -> bytes | None:
        """The graph that replaces the base's, its digest checked; None: it stays.

        Raises:
            FormatError: the section is damaged, or another graph than the header promises.
        """
        if self.header.graph is None:
            return None
        section, digest = self.header.graph
        end = self.payload_offset + sum(s.coded_length for s in self.header.sections)
        reader = FrameReader(self.source, end - section.coded_length, section)
        graph = reader.read(section.raw_length).tobytes()
        reader.finish()
        if hashlib.sha256(graph).digest() != digest:
            raise FormatError(f"expected a graph with SHA-256 {digest.hex()}, found another")
        return graph


def encode(
    diff: Diff, base: ParameterSet | None, coders: Collection[Coder] = (Coder.FAST,)
) -> bytes:
    """Write a diff as a file that is bound to its base, its result and its layout.

    Args:
        diff: What changes.
        base: What it was made for; None for a snapshot.
        coders: What the target can decode; each section takes the coder that makes it smallest.

    Raises:
        InputError: the result would hold infinities or NaN, or the layout has too many tensors.
        UnsupportedError: this machine lacks a coder.
        WrongBaseError: the base is another one.
    """
    try:
        target = apply(base, diff)
    except DigestError as exc:
        if type(exc) is DigestError:
            raise InputError(str(exc)) from exc
        raise
    return pack(diff, target.digest(), coders)


def pack(diff: Diff, target_digest: bytes, coders: Collection[Coder] = (Coder.FAST,)) -> bytes:
    """Write a diff whose result is known. Prefer `encode`, which computes the digest.

    Raises:
        InputError: the layout has more tensors than a file can hold.
        UnsupportedError: this machine lacks a coder.
    """
    tensors = len(diff.layout.tensors)
    if tensors > MAX_TENSORS or tensors * len(diff.layers) > MAX_RECORDS:
        raise InputError(
            f"expected at most {MAX_TENSORS} tensors, and {MAX_RECORDS} over all layers, found "
            f"{tensors} tensors and {len(diff.layers)} layers"
        )
    layers = [encode_layer(layer, diff.layout, coders) for layer in diff.layers]
    records = [r for layer in layers for r in layer.header.records if r.count]
    scales = sum(len(magnitudes(record.scale)) for record in records)
    if scales > MAX_SCALES:
        raise InputError(f"expected at most {MAX_SCALES} steps and magnitudes, found {scales}")
    payloads = [payload for layer in layers for payload in layer.payloads]
    graph = None
    if diff.graph is not None:
        payloads.append(compress(diff.graph, GRAPH_ZSTD_LEVELS))
        section = Section(SectionKind.GRAPH, Coder.FAST, len(diff.graph), len(payloads[-1]))
        graph = section, hashlib.sha256(diff.graph).digest()
    is_new_layout = diff.base_digest is None or diff.base_layout is not None
    header = Header(
        base_digest=diff.base_digest,
        target_digest=target_digest,
        layout_check=diff.starts_from.fingerprint[:LAYOUT_CHECK_BYTES],
        layout=diff.layout if is_new_layout else None,
        layers=tuple(layer.header for layer in layers),
        graph=graph,
    )
    return seal(header_to_bytes(header), b"".join(payloads))


def seal(header: bytes, payload: bytes) -> bytes:
    """Put prefix and checksum around a header and its sections.

    Raises:
        InputError: the header is longer than a file can hold.
    """
    if len(header) > MAX_HEADER_BYTES:
        raise InputError(
            f"expected a header of at most {MAX_HEADER_BYTES} bytes, found {len(header)}; "
            f"the layout has too many tensors"
        )
    body = PREFIX.pack(MAGIC, VERSION, 0, len(header)) + header + payload
    return body + xxhash.xxh3_128_digest(body)


def encoded_size(diff: Diff, coders: Collection[Coder] = (Coder.FAST,)) -> int:
    """Bytes of the file that a diff makes, without applying it."""
    return len(pack(diff, bytes(DIGEST_BYTES), coders))


def decode(
    data: bytes,
    layout: Layout | None = None,
    *,
    result_limit_bytes: int = RESULT_LIMIT_BYTES,
) -> DecodedDiff:
    """Read a diff file into values. Memory is bounded by the result's layout.

    Args:
        data: The whole file.
        layout: The base's; a snapshot brings its own.
        result_limit_bytes: Largest flat store that a file with a layout of its own may rebuild to.

    Raises:
        FormatError: the bytes are not a sound diff file.
        UnsupportedError: its version, or a coder, is not known here.
        LayoutError: the diff was made for another layout, or none is known.
    """
    opened = open_stream(io.BytesIO(data), len(data))
    header = opened.header
    result = header.resolve(layout, result_limit_bytes)
    layers = []
    for reader, part in zip(opened.layers(), header.layers, strict=True):
        tensors = {
            spec.name: _decode_tensor(reader, record, spec)
            for record, spec in zip(part.records, result.tensors, strict=True)
            if record.method is not Method.UNCHANGED
        }
        reader.finish()
        layers.append(Layer(tensors, part.hash_seed))
    base_layout = None if header.is_snapshot or header.layout is None else layout
    diff = Diff(result, header.base_digest, tuple(layers), base_layout, opened.graph())
    return DecodedDiff(diff, header.target_digest)


def read_header(source: bytes | Path) -> Header:
    """The header of a diff file, once its checksum is right. Nothing is decompressed.

    Raises:
        FormatError: not a diff file, or a damaged one.
        OSError: the file cannot be read.
    """
    if isinstance(source, bytes):
        return open_stream(io.BytesIO(source), len(source)).header
    with open_path(source) as opened:
        return opened.header


@contextmanager
def open_path(path: Path) -> Iterator[OpenDiff]:
    """Open a diff file on disk.

    Raises:
        FormatError: not a diff file, or a damaged one; the message names the file.
        OSError: the file cannot be read.
    """
    with path.open("rb") as source:
        size = source.seek(0, io.SEEK_END)
        try:
            opened = open_stream(source, size)
        except UnsupportedError as exc:
            raise UnsupportedError(f"{path}: {exc}") from exc
        except FormatError as exc:
            raise FormatError(f"{path}: {exc}") from exc
        yield opened


def open_stream(source: BinaryIO, file_bytes: int) -> OpenDiff:
    """Check the frame around a diff and read its header.

    Raises:
        FormatError: not a diff file, or a damaged one.
    """
    header_bytes = _check_prefix(source, file_bytes)
    _check_checksum(source, file_bytes)
    source.seek(PREFIX.size)
    header = header_from_bytes(source.read(header_bytes))
    payload_offset = PREFIX.size + header_bytes
    expected = payload_offset + sum(s.coded_length for s in header.sections) + CHECKSUM_BYTES
    if expected != file_bytes:
        raise FormatError(f"expected {expected} bytes by the header, found {file_bytes}")
    return OpenDiff(header, source, payload_offset, file_bytes)


def _check_prefix(source: BinaryIO, file_bytes: int) -> int:
    """Length of the header in bytes."""
    source.seek(0)
    start = source.read(PREFIX.size)
    if not start:
        raise FormatError("expected a diff file, found an empty file")
    if start[: len(MAGIC)] != MAGIC[: len(start)]:
        raise FormatError(f"expected a diff file, found one that starts with {start[:8].hex()}")
    if len(start) < PREFIX.size or file_bytes < PREFIX.size + CHECKSUM_BYTES:
        raise FormatError(f"expected a whole diff file, found only {file_bytes} bytes")
    _, version, reserved, header_bytes = PREFIX.unpack(start)
    if version != VERSION:
        raise UnsupportedError(f"expected diff format version {VERSION}, found {version}")
    if reserved:
        raise FormatError(f"expected zero after the version, found {reserved}")
    longest = min(MAX_HEADER_BYTES, file_bytes - PREFIX.size - CHECKSUM_BYTES)
    if header_bytes > longest:
        raise FormatError(f"expected a header of at most {longest} bytes, found {header_bytes}")
    return int(header_bytes)


def _check_checksum(source: BinaryIO, file_bytes: int) -> None:
    checksum = xxhash.xxh3_128()
    source.seek(0)
    left = file_bytes - CHECKSUM_BYTES
    while left > 0 and (block := source.read(min(left, 2**20))):
        checksum.update(block)
        left -= len(block)
    found = source.read(CHECKSUM_BYTES)
    if checksum.digest() != found:
        raise FormatError(
            f"expected checksum {checksum.hexdigest()}, found {found.hex()}: the file is damaged"
        )


def _decode_tensor(reader: LayerReader, record: TensorRecord, spec: TensorSpec) -> TensorDiff:
    if record.method is Method.SPARSE:
        runs = list(reader.entries(record, spec))
        positions = np.concatenate([p for p, _ in runs])
        levels = np.concatenate([level for _, level in runs])
        return SparseDiff(positions, levels, record.scale)
    if record.method is Method.HASH:
        return HashDiff(reader.array(record, spec), record.step, record.hashes)
    if record.method is Method.LOWRANK:
        return LowRankDiff(*reader.factors(record, spec), record.step)
    return LosslessDiff(np.concatenate(list(reader.xor(spec))))
