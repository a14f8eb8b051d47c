"""The diff file as a whole: magic, version, header, sections, checksum.

    magic (8 bytes) | version u16 | zero u16 | header length u32 | header | sections | xxh3_128

docs/diff-format-v1.md is the specification. The checksum finds damage at once; that the result
is the right one is known by its SHA-256 digest, which the header names.

    data = encode(diff, base)
    assert decode(data, base.layout).diff == diff
"""

import io
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xxhash

from diffcodec.coders.fast import encode_sections, read_hash, read_lossless, read_sparse
from diffcodec.coders.sections import SectionReader, longest_coded
from diffcodec.diff import (
    DecodedDiff,
    Diff,
    HashDiff,
    LosslessDiff,
    SparseDiff,
    TensorDiff,
    apply,
)
from diffcodec.errors import DigestError, FormatError, InputError, UnsupportedError
from diffcodec.header import (
    MAX_TENSORS,
    SNAPSHOT_LIMIT_BYTES,
    Header,
    Method,
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

    def readers(self) -> Mapping[SectionKind, SectionReader]:
        """A reader for every section.

        Raises:
            FormatError: a section is longer than its raw bytes could ever need, or not a frame.
        """
        readers = {}
        at = self.payload_offset
        for section in self.header.sections:
            longest = longest_coded(section.raw_length)
            if section.coded_length > longest:
                raise FormatError(
                    f"section {section.kind}: expected at most {longest} bytes, "
                    f"found {section.coded_length}"
                )
            readers[section.kind] = SectionReader(self.source, at, section)
            at += section.coded_length
        return readers


def encode(diff: Diff, base: ParameterSet | None) -> bytes:
    """Write a diff as a file that is bound to its base, its result and its layout.

    Args:
        diff: What changes.
        base: What it was made for; None for a snapshot.

    Raises:
        InputError: the result would hold infinities or NaN, or the layout has too many tensors.
        WrongBaseError: the base is another one.
    """
    try:
        target = apply(base, diff)
    except DigestError as exc:
        if type(exc) is DigestError:
            raise InputError(str(exc)) from exc
        raise
    return pack(diff, target.digest())


def pack(diff: Diff, target_digest: bytes) -> bytes:
    """Write a diff whose result is known. Prefer `encode`, which computes the digest.

    Raises:
        InputError: the layout has more tensors than a file can hold.
    """
    if len(diff.layout.tensors) > MAX_TENSORS:
        raise InputError(
            f"expected at most {MAX_TENSORS} tensors, found {len(diff.layout.tensors)}"
        )
    encoded = encode_sections(diff)
    header = Header(
        base_digest=diff.base_digest,
        target_digest=target_digest,
        layout_fingerprint=diff.layout.fingerprint,
        layout=diff.layout if diff.base_digest is None else None,
        records=encoded.records,
        sections=encoded.sections,
        hash_seed=diff.hash_seed,
    )
    return seal(header_to_bytes(header), b"".join(encoded.payloads))


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


def encoded_size(diff: Diff) -> int:
    """Bytes of the file that a diff makes, without applying it."""
    return len(pack(diff, bytes(DIGEST_BYTES)))


def decode(
    data: bytes,
    layout: Layout | None = None,
    *,
    snapshot_limit_bytes: int = SNAPSHOT_LIMIT_BYTES,
) -> DecodedDiff:
    """Read a diff file into values. Memory is bounded by the layout.

    Args:
        data: The whole file.
        layout: The base's; a snapshot brings its own.
        snapshot_limit_bytes: Largest flat store that a snapshot may rebuild to.

    Raises:
        FormatError: the bytes are not a sound diff file.
        LayoutError: the diff was made for another layout, or none is known.
    """
    opened = open_stream(io.BytesIO(data), len(data))
    header = opened.header
    layout = header.resolve(layout, snapshot_limit_bytes)
    readers = opened.readers()
    tensors = {
        spec.name: _decode_tensor(readers, record, spec)
        for record, spec in zip(header.records, layout.tensors, strict=True)
        if record.method is not Method.UNCHANGED
    }
    for reader in readers.values():
        reader.finish()
    diff = Diff(layout, header.base_digest, tensors, header.hash_seed)
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
    if file_bytes < PREFIX.size + CHECKSUM_BYTES:
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


def _decode_tensor(
    readers: Mapping[SectionKind, SectionReader], record: TensorRecord, spec: TensorSpec
) -> TensorDiff:
    if record.method is Method.SPARSE:
        runs = list(read_sparse(readers, record, spec))
        positions = np.concatenate([p for p, _ in runs])
        levels = np.concatenate([level for _, level in runs])
        return SparseDiff(positions, levels, record.step)
    if record.method is Method.HASH:
        return HashDiff(read_hash(readers, record, spec), record.step, record.hashes)
    return LosslessDiff(np.concatenate(list(read_lossless(readers, spec))))
