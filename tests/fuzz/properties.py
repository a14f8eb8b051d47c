"""What must hold for every byte string, whoever wrote it.

A header, or a file, gives a value or a CodecError whose message is one line; nothing else is
raised. Decoding in memory and streaming from disk to disk agree. What decodes encodes again, to
bytes that decode to the same. Memory stays below what the header declares: `declared_bytes`.
"""

import tempfile
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

from diffcodec import (
    CodecError,
    Coder,
    DecodedDiff,
    Header,
    Method,
    ParameterSet,
    SectionKind,
    apply,
    apply_file,
    decode,
    encode,
    read_header,
)
from diffcodec.coders.layers import available_coders
from diffcodec.file import seal
from diffcodec.wire import header_from_bytes, header_to_bytes
from tests.fuzz.mutations import parts
from tests.vectors import regenerate

# A layout that a file brings along may ask for this much, and no more.
RESULT_LIMIT_BYTES = 2**18
# Buffers that do not grow with the model: chunks of elements in the few copies that the arithmetic
# makes, blocks of 64 KiB of gaps, blocks of 1 MiB that are hashed. The interpreter, zstd's windows
# of 256 KiB a section and the C coder's models are not counted here.
FIXED_BYTES = 2**22
# The tables of the row coder; each layer has its own.
ROW_TABLES_BYTES = 7 * 2**20
# Objects of protobuf and of `Header` for a byte of a header.
BYTES_A_HEADER_BYTE = 400
# A position (int64), a level, and a second of each while runs are put together.
BYTES_A_NONZERO = 32


class BrokenPropertyError(Exception):
    """A property does not hold: a bug of the codec."""


def check_header(data: bytes) -> None:
    """The properties of a header's bytes."""
    with peak_below(2**16 + BYTES_A_HEADER_BYTE * len(data)):
        try:
            header = header_from_bytes(data)
        except CodecError as error:
            require_one_line(error)
            return
        if header_to_bytes(header) != data:
            raise BrokenPropertyError("expected a header's bytes back, found others")
        try:
            header.resolve(base().layout, RESULT_LIMIT_BYTES)
        except CodecError as error:
            require_one_line(error)


def check_file(data: bytes) -> None:
    """The properties of a file whose checksum is right."""
    try:
        with peak_below(FIXED_BYTES + BYTES_A_HEADER_BYTE * len(parts(data)[0]) + len(data)):
            header = read_header(data)
    except CodecError as error:
        require_one_line(error)
        require_refused_from_disk(data, FIXED_BYTES)
        return
    limit = declared_bytes(header) + len(data)
    mended = with_digests_of_the_base(data, header)
    try:
        with peak_below(limit):
            decoded = decode(mended, base().layout, result_limit_bytes=RESULT_LIMIT_BYTES)
    except CodecError as error:
        require_one_line(error)
        require_refused_from_disk(mended, limit)
        return
    check_diff(mended, decoded, limit)


def check_diff(data: bytes, decoded: DecodedDiff, limit: int) -> None:
    """The properties of a file that decodes."""
    diff = decoded.diff
    start = None if diff.base_digest is None else base()
    try:
        result = apply(start, diff)
    except CodecError as error:
        require_one_line(error)
        require_refused_from_disk(data, limit)
        return
    # Encoding takes 20 times as long as decoding: some inputs, always the same ones, have to do.
    for coder in available_coders() if zlib.crc32(data) % 8 == 0 else ():
        again = encode(diff, start, {coder})
        if decode(again, base().layout, result_limit_bytes=RESULT_LIMIT_BYTES).diff != diff:
            raise BrokenPropertyError(f"expected the same diff through {coder}, found another")
    streamed = applied_from_disk(with_target_digest(data, result.digest()), limit)
    if streamed != result:
        raise BrokenPropertyError("expected the same weights in memory and from disk")


def declared_bytes(header: Header) -> int:
    """The memory that decoding or applying may take, by the header alone.

    Every count in it is compared with the layout before anything is allocated, and the layout is
    the base's, or limited.
    """
    if header.layout is not None and header.layout.file_bytes > RESULT_LIMIT_BYTES:
        return FIXED_BYTES + BYTES_A_HEADER_BYTE * len(header_to_bytes(header))
    layout = header.layout or base().layout
    total = FIXED_BYTES + BYTES_A_HEADER_BYTE * len(header_to_bytes(header))
    for layer in header.layers:
        kinds = {(section.kind, section.coder) for section in layer.sections}
        total += ROW_TABLES_BYTES if (SectionKind.ENTRIES, Coder.FAST) in kinds else 0
        for record, spec in zip(layer.records, layout.tensors, strict=False):
            entries = min(record.count, spec.size)
            if record.method is Method.LOWRANK:
                entries = record.count * sum(spec.matrix)
            total += BYTES_A_NONZERO * min(entries, 2 * spec.size + 2) + 3 * spec.nbytes
    # The result, and the graph: read, hashed, copied.
    graph = header.graph[0].raw_length if header.graph else 0
    return total + 3 * layout.file_bytes + 3 * min(graph, 2**24)


@contextmanager
def peak_below(limit_bytes: int) -> Iterator[None]:
    """Require that what Python and numpy allocate meanwhile stays below a limit."""
    # Tracing stays on: starting and stopping it again and again leaks memory of its own.
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    try:
        yield
    finally:
        _, peak = tracemalloc.get_traced_memory()
        if peak - before > limit_bytes:
            raise BrokenPropertyError(
                f"expected at most {limit_bytes} bytes allocated, found {peak - before}"
            )


def require_one_line(error: CodecError) -> None:
    """Messages are for people: one line, whatever the file put into its names."""
    message = str(error)
    if not message or "\n" in message or len(message) > 5000:
        raise BrokenPropertyError(f"expected a message of one line, found {message!r}")


def require_refused_from_disk(data: bytes, limit: int) -> None:
    """What is refused in memory is refused from disk too, and leaves nothing behind."""
    try:
        applied_from_disk(data, limit)
    except CodecError as error:
        require_one_line(error)
        return
    raise BrokenPropertyError("expected a refusal as in memory, found a result")


def applied_from_disk(data: bytes, limit: int) -> ParameterSet:
    """What `apply_file` makes of the base and a file.

    Raises:
        CodecError: as `apply_file`; then nothing is left at the target.
    """
    diff, target = scratch() / "diff.ndiff", scratch() / "target.bin"
    diff.write_bytes(data)
    try:
        with peak_below(limit):
            applied = apply_file(
                store(), base().layout, diff, target, result_limit_bytes=RESULT_LIMIT_BYTES
            )
        return ParameterSet.read(target, applied.layout)
    except CodecError as error:
        if target.exists():
            raise BrokenPropertyError("expected no target after a refusal, found one") from error
        raise
    finally:
        target.unlink(missing_ok=True)


def with_digests_of_the_base(data: bytes, header: Header) -> bytes:
    """The file as one for the base that is at hand: a mutated digest is refused soon enough."""
    start = header.layout if header.is_snapshot else base().layout
    assert start is not None
    mended = replace(
        header,
        base_digest=None if header.is_snapshot else base().digest(),
        layout_check=start.fingerprint[: len(header.layout_check)],
    )
    return seal(header_to_bytes(mended), parts(data)[1])


def with_target_digest(data: bytes, digest: bytes) -> bytes:
    """The file, promising another result."""
    header = replace(read_header(data), target_digest=digest)
    return seal(header_to_bytes(header), parts(data)[1])


@cache
def base() -> ParameterSet:
    """The base of the golden files."""
    return regenerate.base()


@cache
def store() -> Path:
    """The base on disk."""
    path = scratch() / "base.bin"
    base().write(path)
    return path


@cache
def scratch() -> Path:
    """A folder in memory where there is one: nothing here needs to survive."""
    memory = Path("/dev/shm")
    folder = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
    _KEPT.append(folder)
    return Path(folder.name)


_KEPT: list[tempfile.TemporaryDirectory] = []
