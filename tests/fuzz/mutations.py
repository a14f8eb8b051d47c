"""Diff files that lie: changes to a valid file that keep all that a decoder checks first.

Whatever is changed, lengths and checksum follow, so that a change reaches the code behind them.
Headers are changed field by field, sections before or after compression. Randomness is passed in:
a fuzzer's seed, or hypothesis, which then shrinks what it finds.
"""

import io
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import zstandard
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from diffcodec.file import CHECKSUM_BYTES, MAX_HEADER_BYTES, PREFIX, seal
from protos.ota.v1 import diff_pb2

BytesMutator = Callable[[bytes], bytes]

# Where counts, lengths and bits go wrong.
NUMBERS = [0, 1, 2, 3, 126, 127, 128, 254, 255, 256, 65_535, 65_536, 131_072, 131_073]
NUMBERS += [2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1]
_BITS = {
    FieldDescriptor.TYPE_UINT32: 32,
    FieldDescriptor.TYPE_UINT64: 64,
    FieldDescriptor.TYPE_FIXED64: 64,
    FieldDescriptor.TYPE_ENUM: 4,
}
BOMB_BYTES = 2**22


def resealed(data: bytes) -> bytes:
    """The file with a right prefix and checksum, whatever lies between."""
    header, payload = parts(data)
    return seal(header, payload)


def parts(data: bytes) -> tuple[bytes, bytes]:
    """The header's bytes and the sections' bytes of any file, as far as it has such."""
    body = data[PREFIX.size : max(PREFIX.size, len(data) - CHECKSUM_BYTES)]
    header_bytes = int.from_bytes(data[PREFIX.size - 4 : PREFIX.size], "little")
    end = min(header_bytes, len(body), MAX_HEADER_BYTES)
    return body[:end], body[end:]


def mutated(data: bytes, random: Random, mutate: BytesMutator | None = None) -> bytes:
    """The file with one thing changed, sealed again.

    Args:
        data: A diff file, valid or not.
        random: Decides what changes.
        mutate: Changes bytes; by default a few random edits.
    """
    mutate = mutate or (lambda content: edited(content, random))
    header, payload = parts(data)
    try:
        message = diff_pb2.DiffHeader.FromString(header)
    except DecodeError:
        return seal(mutate(header)[:MAX_HEADER_BYTES], payload)
    change = random.choice([_change_field, _change_section, _change_section, _change_bytes])
    return change(message, payload, random, mutate)


def mutated_header(header: bytes, random: Random, mutate: BytesMutator | None = None) -> bytes:
    """A header with one thing changed, in canonical form if it was."""
    mutate = mutate or (lambda content: edited(content, random))
    try:
        message = diff_pb2.DiffHeader.FromString(header)
    except DecodeError:
        return mutate(header)
    change_some_field(message, random)
    return _serialised(message) if random.random() < 0.7 else mutate(header)


def edited(content: bytes, random: Random) -> bytes:
    """Some bytes overwritten, inserted, removed or repeated."""
    body = bytearray(content)
    for _ in range(random.randint(1, 3)):
        at = random.randint(0, len(body))
        length = random.choice([1, 1, 1, 2, 4, 16])
        likely = [0, 1, 127, 128, 255, random.randrange(256)]
        fresh = bytes(random.choice(likely) for _ in range(length))
        match random.randrange(5):
            case 0:
                body[at : at + length] = fresh
            case 1:
                body[at:at] = fresh
            case 2:
                del body[at : at + length]
            case 3:
                body[at:at] = body[max(0, at - 16 * length) : at]
            case _ if at < len(body):
                body[at] ^= 1 << random.randrange(8)
    return bytes(body)


def change_some_field(message: Message, random: Random) -> None:
    """Change one scalar, add or remove one item, anywhere in a message."""
    places = list(_places(message))
    owner, field = random.choice(places)
    if field.is_repeated:
        _change_repeated(owner, field, random)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        if owner.HasField(field.name):
            owner.ClearField(field.name)
        else:
            getattr(owner, field.name).SetInParent()
    else:
        setattr(owner, field.name, _scalar(field, getattr(owner, field.name), random))


def _places(message: Message) -> Iterator[tuple[Message, FieldDescriptor]]:
    """Every field of a message and of those inside it, set or not."""
    for field in message.DESCRIPTOR.fields:
        yield message, field
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            inner = getattr(message, field.name)
            if field.is_repeated:
                for item in inner:
                    yield from _places(item)
            elif message.HasField(field.name):
                yield from _places(inner)


def _change_repeated(owner: Message, field: FieldDescriptor, random: Random) -> None:
    items: Any = getattr(owner, field.name)
    action = random.randrange(5) if len(items) else 0
    at = random.randrange(len(items)) if len(items) else 0
    if action == 1:
        del items[at]
    elif action == 2 and len(items) > 1:
        values = list(items)
        random.shuffle(values)
        owner.ClearField(field.name)
        getattr(owner, field.name).extend(values)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        new = items.add()
        if action:
            new.CopyFrom(items[at])
    elif action in (3, 4):
        items[at] = _scalar(field, items[at], random)
    else:
        items.insert(at, _scalar(field, 0, random))


def _scalar(field: FieldDescriptor, value: Any, random: Random) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return edited(value, random)
    if field.type == FieldDescriptor.TYPE_STRING:
        return random.choice([value[1:], value + "x", value * 2, "", "a\0b", "ü" * 600])
    bits = _BITS[field.type]
    chosen = random.choice(
        [value + 1, value - 1, value * 2, random.choice(NUMBERS), random.getrandbits(bits)]
    )
    return chosen % 2**bits


def _serialised(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def _change_field(
    message: diff_pb2.DiffHeader, payload: bytes, random: Random, mutate: BytesMutator
) -> bytes:
    for _ in range(random.choice([1, 1, 2])):
        change_some_field(message, random)
    return seal(_serialised(message)[:MAX_HEADER_BYTES], payload)


def _change_section(
    message: diff_pb2.DiffHeader, payload: bytes, random: Random, mutate: BytesMutator
) -> bytes:
    """Another content of one section; its lengths in the header follow."""
    sections = sections_of(message)
    if not sections:
        return _change_field(message, payload, random, mutate)
    chosen = random.randrange(len(sections))
    pieces, at = [], 0
    for section in sections:
        pieces.append(payload[at : at + section.coded_length])
        at += section.coded_length
    raw = _decompressed(pieces[chosen])
    if raw is None or random.random() < 0.3:
        pieces[chosen] = mutate(pieces[chosen])
    else:
        raw = bytes(BOMB_BYTES) if random.random() < 0.01 else mutate(raw)
        pieces[chosen] = zstandard.ZstdCompressor(level=1).compress(raw)
        if random.random() < 0.8:
            sections[chosen].raw_length = len(raw)
    sections[chosen].coded_length = len(pieces[chosen])
    return seal(_serialised(message)[:MAX_HEADER_BYTES], b"".join(pieces) + payload[at:])


def _change_bytes(
    message: diff_pb2.DiffHeader, payload: bytes, random: Random, mutate: BytesMutator
) -> bytes:
    """Header and sections as bytes; the last section takes up what their number changes by."""
    if random.random() < 0.2:
        return seal(mutate(_serialised(message))[:MAX_HEADER_BYTES], payload)
    payload = mutate(payload)
    sections = sections_of(message)
    if sections:
        before = sum(section.coded_length for section in sections[:-1])
        sections[-1].coded_length = max(0, len(payload) - before)
    return seal(_serialised(message)[:MAX_HEADER_BYTES], payload)


def sections_of(message: diff_pb2.DiffHeader) -> list[diff_pb2.Section]:
    """All sections in file order."""
    sections = [section for layer in message.layers for section in layer.sections]
    return [*sections, message.graph] if message.HasField("graph") else sections


def _decompressed(frame: bytes) -> bytes | None:
    """The content of a small zstd frame; None where there is none."""
    reader = zstandard.ZstdDecompressor(max_window_size=2**20).stream_reader(io.BytesIO(frame))
    try:
        return reader.read(2**20)
    except zstandard.ZstdError:
        return None
