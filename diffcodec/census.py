"""Counts what a raw header holds, before protobuf makes an object of each part.

An empty message takes two bytes in a header and several hundred in memory, so a header within
its limit of bytes could still ask for hundreds of megabytes. This walk allocates nothing.
It is no parser: what it lets pass may still be refused.
"""

from collections.abc import Iterator

from diffcodec.diff import MAX_LAYERS
from diffcodec.errors import FormatError
from diffcodec.header import MAX_TENSORS, SectionKind

# Field numbers of DiffHeader, and of Layout and Layer in it.
_LAYOUT, _LAYERS = 4, 5
_LAYOUT_TENSORS = 1
_LAYER_SECTIONS = 7

_VARINT, _FIXED64, _MESSAGE, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT = 10


def require_few_parts(header: bytes) -> None:
    """Refuse a header with more parts than any diff has.

    Raises:
        FormatError: over `MAX_TENSORS` tensors in its layout, over `MAX_LAYERS` layers, more
            sections in a layer than there are kinds, or the bytes are no protobuf.
    """
    layers = tensors = 0
    for number, content in _messages(memoryview(header)):
        if number == _LAYOUT:
            tensors += _count(content, _LAYOUT_TENSORS, MAX_TENSORS, "tensors in the layout")
            _require_at_most(MAX_TENSORS, tensors, "tensors in the layout")
        elif number == _LAYERS:
            layers += 1
            _require_at_most(MAX_LAYERS, layers, "layers")
            _count(content, _LAYER_SECTIONS, len(SectionKind), "sections in a layer")


def _count(message: memoryview, number: int, limit: int, what: str) -> int:
    """How many fields of a number a message has, which must not be over the limit."""
    found = 0
    for inner, _ in _messages(message):
        found += inner == number
        _require_at_most(limit, found, what)
    return found


def _require_at_most(limit: int, found: int, what: str) -> None:
    if found > limit:
        raise FormatError(f"expected at most {limit} {what}, found more")


def _messages(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of every length-delimited field; the other fields are passed over."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            _, at = _varint(data, at)
        elif wire_type in _FIXED_BYTES:
            at += _FIXED_BYTES[wire_type]
        elif wire_type == _MESSAGE:
            length, start = _varint(data, at)
            at = start + length
            if at <= len(data):
                yield number, data[start:at]
        else:
            raise FormatError(f"expected a header in protobuf, found wire type {wire_type}")
    if at != len(data):
        raise FormatError("expected a header in protobuf, found one that is cut short")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = 0
    for index, byte in enumerate(data[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise FormatError("expected a header in protobuf, found a number without an end")
