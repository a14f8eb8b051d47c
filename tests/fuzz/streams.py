"""The C coder by its Python face: any stream, in any pieces, for tensors of any shape.

An input names a kind of stream, a few tensors and how to cut the stream; the rest is the stream.
Whatever it is, the entries lie in their tensors, cutting changes nothing, and what was read can be
written and read again. A stream that ends as it must is the only one for the entries it gives;
of bytes there may be several (a zero byte can be announced, or spelled out).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from diffcodec.coders.max import reference, reference_sparse
from diffcodec.coders.max.coding import NO_START
from diffcodec.coders.max.reference import decode_bytes, decode_symbols
from diffcodec.errors import FormatError
from tests.fuzz.mutations import BytesMutator, edited
from tests.fuzz.properties import BrokenPropertyError

SPARSE, SYMBOLS, BYTES = range(3)
# Few enough that an input takes milliseconds.
MOST_ELEMENTS = 2_000
# The reference takes tens of microseconds for each.
MOST_IN_PLAIN_PYTHON = 200
SEGMENT = 96
# Bytes before the stream, and bytes that describe a tensor.
PREFIX_BYTES, TENSOR_BYTES = 4, 8
REFUSALS = (ValueError, RuntimeError, MemoryError, OverflowError, TypeError)


@dataclass(frozen=True)
class Tensor:
    """What `Coder.begin` is told. `largest` is the item size of bytes."""

    size: int
    width: int
    lag: int
    count: int
    largest: int


@dataclass(frozen=True)
class Script:
    """An input in parts: how to cut is bytes a window and elements a call."""

    kind: int
    tensors: tuple[Tensor, ...]
    window_bytes: int
    elements: int
    stream: bytes


def parse(data: bytes) -> Script:
    """The script that any bytes make."""
    head = data[:PREFIX_BYTES].ljust(PREFIX_BYTES, b"\0")
    kind, count = head[0] % 3, 1 + head[1] % 3
    end = PREFIX_BYTES + count * TENSOR_BYTES
    described = data[PREFIX_BYTES:end].ljust(count * TENSOR_BYTES, b"\0")
    tensors = tuple(
        _tensor(kind, described[at : at + TENSOR_BYTES])
        for at in range(0, len(described), TENSOR_BYTES)
    )
    return Script(kind, tensors, 1 + head[2] * 16, 1 + head[3] * 16, data[end:])


def _tensor(kind: int, about: bytes) -> Tensor:
    width = int.from_bytes(about[:2], "little") % 1000
    largest = 1 + about[3] % 127
    if kind != SPARSE:
        largest = (1, 2, 4)[largest % 3] if kind == BYTES else largest
        size = min(max(1, width) * (1 + about[2]), MOST_ELEMENTS)
        # One column is none: `coding` never asks for it.
        return Tensor(size, width if width > 1 else 0, 0, 0, largest)
    width = max(1, width)
    rows = 1 + about[2] % max(1, MOST_ELEMENTS // width)
    has_gates = about[4] & 1
    if has_gates:
        rows = 4 * max(1, rows // 4)
    size = width * rows
    # Without gates the last row may be cut short.
    size -= 0 if has_gates else about[5] % width
    count = 1 + int.from_bytes(about[6:8], "little") % size
    return Tensor(size, width, size // 4 if has_gates else 0, count, largest)


def check_stream(data: bytes) -> None:
    """The properties of a stream."""
    script = parse(data)
    whole, is_sound = decoded(script, len(script.stream) + 1, 2**40)
    cut, is_sound_cut = decoded(script, script.window_bytes, script.elements)
    if is_sound != is_sound_cut or not _equal(whole, cut):
        raise BrokenPropertyError("expected the same from a stream in pieces, found another")
    for tensor, (positions, values) in zip(script.tensors, whole, strict=True):
        _check_values(script.kind, tensor, positions, values)
    if sum(tensor.size for tensor in script.tensors) <= MOST_IN_PLAIN_PYTHON:
        _compare_with_reference(script, whole, is_sound)
    if not all(_is_complete(script.kind, t, v) for t, v in zip(script.tensors, whole, strict=True)):
        return
    again = encoded(script.kind, script.tensors, whole)
    if is_sound and script.kind != BYTES and again != script.stream:
        raise BrokenPropertyError("expected the stream back, found another")
    copy = Script(script.kind, script.tensors, 1, 1, again)
    values, is_sound = decoded(copy, len(again) + 1, 2**40)
    if not is_sound or not _equal(values, whole):
        raise BrokenPropertyError("expected the same values from their encoding")


def _compare_with_reference(
    script: Script, found: list[tuple[np.ndarray, np.ndarray]], is_sound: bool
) -> None:
    """The plain Python decoder refuses the same streams, and gives the same for the others."""
    try:
        expected = plainly_decoded(script)
    except FormatError:
        if is_sound:
            raise BrokenPropertyError("expected a refusal as in plain Python, found none") from None
        return
    if not is_sound:
        raise BrokenPropertyError("expected no refusal, as in plain Python, found one")
    for tensor, (positions, values), content in zip(script.tensors, found, expected, strict=True):
        dense = np.array(list(content), np.int64).astype(np.int8)
        if script.kind == SPARSE:
            sparse, values = values, np.zeros(tensor.size, np.int8)
            values[positions] = sparse
        if not np.array_equal(dense, values):
            raise BrokenPropertyError("expected the values of the plain Python decoder")


def plainly_decoded(script: Script) -> list[Sequence[int]]:
    """Dense levels, or bytes, of each tensor by the reference.

    Raises:
        FormatError: the stream is not what an encoder writes.
    """
    tensors = script.tensors
    if script.kind == SYMBOLS:
        return list(decode_symbols(script.stream, [(t.size, t.largest, t.width) for t in tensors]))
    if script.kind == BYTES:
        about = [(t.size * t.largest, t.largest, t.width) for t in tensors]
        return list(decode_bytes(script.stream, about))
    coder, learnt = reference.RangeDecoder(script.stream), reference_sparse.Learnt()
    views = [(reference_sparse.Matrix(t.size, t.width, t.lag), t.count, t.largest) for t in tensors]
    dense = [reference_sparse.Tensor(coder, learnt, *view).decode() for view in views]
    coder.finish()
    return list(dense)


def decoded(
    script: Script, window_bytes: int, elements: int
) -> tuple[list[tuple[np.ndarray, np.ndarray]], bool]:
    """Positions and values of each tensor, and whether the stream ended as it must."""
    coder = _coder(script.kind, True)
    stream, at, size = script.stream, 0, window_bytes
    result = []
    for tensor in script.tensors:
        coder.begin(tensor.size, tensor.width, tensor.lag, tensor.count, tensor.largest)
        left, positions, values = tensor.size, [], []
        while left > 0:
            asked = min(elements, left)
            room = (asked + SEGMENT) * (tensor.largest if script.kind == BYTES else 1)
            data, places = np.zeros(room, np.int8), np.zeros(room, np.int64)
            buffers = (data, places) if script.kind == SPARSE else (data,)
            # A copy of its own: what lies behind a window is not to be read.
            window, is_final = bytes(stream[at : at + size]), at + size >= len(stream)
            consumed, covered, found = coder.decode(window, is_final, asked, *buffers)
            if not 0 <= consumed <= len(window) or not 0 <= covered <= left:
                raise BrokenPropertyError(f"expected to stay inside, found {consumed}, {covered}")
            if not consumed and not covered:
                if is_final:
                    raise BrokenPropertyError("expected to go on at the end, found no progress")
                size *= 2
            if script.kind != SPARSE:
                found = covered * (tensor.largest if script.kind == BYTES else 1)
            at, left = at + consumed, left - covered
            positions.append(places[:found])
            values.append(data[:found])
        result.append((np.concatenate(positions), np.concatenate(values)))
    # Two things are the reader's to check: how a stream starts, and that it ends in no zero byte.
    is_written = not stream.startswith(NO_START) and not stream.endswith(b"\0")
    is_complete = not coder.missing() and at == len(stream) and is_written
    return result, coder.finish() and is_complete and not _any_missing(script, result)


def encoded(
    kind: int, tensors: tuple[Tensor, ...], content: list[tuple[np.ndarray, np.ndarray]]
) -> bytes:
    """The stream of some tensors."""
    coder = _coder(kind, False)
    for tensor, (positions, values) in zip(tensors, content, strict=True):
        coder.begin(tensor.size, tensor.width, tensor.lag, tensor.count, tensor.largest)
        arrays = (positions, values) if kind == SPARSE else (values,)
        coder.encode(*arrays)
    return bytes(coder.finish())


def check_calls(data: bytes) -> None:
    """Calls in any order with any numbers are refused as Python errors, or do their work."""
    random = Random(data[:4])
    coder = None
    numbers = Random(data)
    for _ in range(min(len(data), 24)):
        try:
            match numbers.randrange(5):
                case 0:
                    coder = _coder(numbers.randrange(-1, 4), numbers.random() < 0.5)
                case 1 if coder:
                    coder.begin(*(_number(numbers) for _ in range(5)))
                case 2 if coder:
                    arrays = [_array(numbers, data) for _ in range(numbers.choice([1, 2]))]
                    coder.encode(*arrays)
                case 3 if coder:
                    arrays = [_array(numbers, data) for _ in range(numbers.choice([1, 2]))]
                    coder.decode(data, numbers.random() < 0.5, _number(numbers), *arrays)
                case 4 if coder:
                    coder.missing() if random.random() < 0.9 else coder.finish()
        except REFUSALS:
            continue


def _number(random: Random) -> int:
    return random.choice(
        [0, 1, 2, 3, 4, 8, 16, 127, 128, 400, 65_536, 65_537, 2**20, 2**40, -1, 2**63, -(2**63)]
    )


def _array(random: Random, data: bytes) -> np.ndarray:
    kind = random.choice([np.int8, np.int64, np.uint8])
    size = random.choice([0, 1, 2, 16, 100, 400, 1000])
    array = np.frombuffer((data * 8000)[: size * 8].ljust(size * 8, b"\1"), np.uint8)
    array = array[: size * np.dtype(kind).itemsize].view(kind).copy()
    return np.abs(np.sort(array % max(1, size))) if kind is np.int64 else array


def mutated_stream(data: bytes, random: Random, mutate: BytesMutator | None = None) -> bytes:
    """Another script, or another stream for it."""
    end = PREFIX_BYTES + (1 + data[1] % 3 if len(data) > 1 else 1) * TENSOR_BYTES
    if random.random() < 0.25 and data:
        head = bytearray(data[:end])
        head[random.randrange(len(head))] = random.choice([0, 1, 2, 255, random.randrange(256)])
        return bytes(head) + data[end:]
    mutate = mutate or (lambda content: edited(content, random))
    return data[:end] + mutate(data[end:])


def stream_seeds() -> dict[str, bytes]:
    """Streams that an encoder wrote, one of each kind and shape that matters."""
    rng = np.random.default_rng(3)
    seeds = {}
    for name, head in {
        "sparse": bytes([SPARSE, 0, 1, 9]) + bytes([60, 0, 30, 7, 0, 3, 90, 0]),
        "gates": bytes([SPARSE, 1, 2, 90]) + 2 * bytes([100, 0, 5, 0, 1, 0, 200, 1]),
        "wide": bytes([SPARSE, 0, 255, 255]) + bytes([20, 3, 9, 126, 0, 0, 20, 0]),
        "symbols": bytes([SYMBOLS, 1, 1, 4]) + 2 * bytes([8, 0, 40, 6, 0, 0, 0, 0]),
        "floats": bytes([BYTES, 0, 4, 4]) + bytes([50, 0, 9, 2, 0, 0, 0, 0]),
        "halves": bytes([BYTES, 0, 4, 4]) + bytes([0, 0, 50, 1, 0, 0, 0, 0]),
    }.items():
        script = parse(head)
        content = [_content(script.kind, tensor, rng) for tensor in script.tensors]
        seeds[name] = head + encoded(script.kind, script.tensors, content)
    return seeds


def _content(kind: int, tensor: Tensor, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    if kind == BYTES:
        values = np.where(rng.random(tensor.size * tensor.largest) < 0.3, rng.integers(0, 256), 0)
        return np.empty(0, np.int64), values.astype(np.uint8).view(np.int8)
    if kind == SYMBOLS:
        values = rng.integers(-tensor.largest, tensor.largest + 1, tensor.size)
        return np.empty(0, np.int64), values.astype(np.int8)
    positions = np.sort(rng.choice(tensor.size, tensor.count, replace=False)).astype(np.int64)
    magnitudes = rng.integers(1, tensor.largest + 1, tensor.count)
    return positions, (magnitudes * rng.choice([-1, 1], tensor.count)).astype(np.int8)


def _coder(kind: int, decoding: bool):  # type: ignore[no-untyped-def]
    # Late: which library this is was decided before the first use.
    from diffcodec.coders.max import _mixing

    return _mixing.Coder(kind, decoding)


def _check_values(kind: int, tensor: Tensor, positions: np.ndarray, values: np.ndarray) -> None:
    magnitudes = np.abs(values.astype(np.int64))
    is_sound = kind == BYTES or bool((magnitudes <= tensor.largest).all())
    if kind == SPARSE:
        is_sound = is_sound and positions.size <= tensor.count and bool(magnitudes.all())
        is_sound = is_sound and bool((np.diff(positions, prepend=-1) > 0).all())
        is_sound = is_sound and bool((positions < tensor.size).all())
    if not is_sound:
        raise BrokenPropertyError(f"expected entries of {tensor}, found others")


def _is_complete(kind: int, tensor: Tensor, found: tuple[np.ndarray, np.ndarray]) -> bool:
    return kind != SPARSE or found[0].size == tensor.count


def _any_missing(script: Script, content: list[tuple[np.ndarray, np.ndarray]]) -> bool:
    pairs = zip(script.tensors, content, strict=True)
    return not all(_is_complete(script.kind, tensor, found) for tensor, found in pairs)


def _equal(
    some: list[tuple[np.ndarray, np.ndarray]], others: list[tuple[np.ndarray, np.ndarray]]
) -> bool:
    return all(
        np.array_equal(a, b)
        for one, other in zip(some, others, strict=True)
        for a, b in zip(one, other, strict=True)
    )
