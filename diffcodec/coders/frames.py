"""zstd frames of a file as streams that give exactly what the header promised, or an error.

libzstd alone would allocate whatever a frame asks for and ends silently where a frame is cut, so
the frame is walked block by block before it is decoded: its window, its declared size and its
end are known first (RFC 8878, section 3.1.1).
"""

from typing import BinaryIO

import numpy as np
import zstandard
from numpy.typing import NDArray

from diffcodec.coders.streams import Window
from diffcodec.errors import FormatError
from diffcodec.header import Section

# Larger windows gain nothing on levels and gaps and would cost the device memory.
WINDOW_LOG = 18
MAX_FRAME_HEADER_BYTES = 18
READ_BYTES = 65_536


class FrameReader:
    """Reads the raw bytes of one section, a zstd frame, in order.

    Args:
        source: The file; its position is moved at every read.
        offset: Where the section starts.
        section: What the header says of it. Its raw_length is believed, so check it first.

    Raises:
        FormatError: the section is not one complete frame of the promised size.
    """

    def __init__(self, source: BinaryIO, offset: int, section: Section) -> None:
        self._what = f"section {section.kind}"
        self._left = section.raw_length
        _check_length(section)
        check_frame(source, offset, section)
        window = Window(source, offset, section.coded_length)
        decompressor = zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG)
        self._stream = decompressor.stream_reader(window, read_size=READ_BYTES)  # type: ignore[arg-type]

    @property
    def left(self) -> int:
        """Raw bytes that were not read yet."""
        return self._left

    def read(self, length: int) -> NDArray[np.uint8]:
        """The next bytes: uint8, shape (length,), writable.

        Raises:
            FormatError: there are fewer, or the frame is damaged.
        """
        if length > self._left:
            raise FormatError(f"{self._what}: expected {length} more bytes, found {self._left}")
        self._left -= length
        data = np.empty(length, dtype=np.uint8)
        filled = 0
        try:
            while filled < length:
                got = self._stream.readinto(data[filled:].data)
                if not got:
                    raise FormatError(f"{self._what}: expected {length - filled} bytes more")
                filled += got
        except zstandard.ZstdError as exc:
            raise FormatError(f"{self._what}: not decodable: {exc}") from exc
        return data

    def finish(self) -> None:
        """Require that all was read.

        Raises:
            FormatError: bytes are left over.
        """
        try:
            is_over = self._left == 0 and not self._stream.read(1)
        except zstandard.ZstdError as exc:
            raise FormatError(f"{self._what}: not decodable: {exc}") from exc
        if not is_over:
            raise FormatError(f"{self._what}: expected its end, found more bytes")


def compress(raw: bytes, levels: tuple[int, ...]) -> bytes:
    """The smallest single zstd frame that one of the compression levels gives."""
    return min((_frame(raw, level) for level in levels), key=len)


def longest_coded(raw_length: int) -> int:
    """Bytes that a frame may take at most: zstd's own bound for incompressible input."""
    return raw_length + (raw_length >> 8) + 128


def _check_length(section: Section) -> None:
    longest = longest_coded(section.raw_length)
    if section.coded_length > longest:
        raise FormatError(
            f"section {section.kind}: expected at most {longest} bytes, "
            f"found {section.coded_length}"
        )


def check_frame(source: BinaryIO, offset: int, section: Section) -> None:
    """Walk a frame's blocks and require one complete frame of the promised lengths.

    Raises:
        FormatError: naming what is wrong.
    """
    what = f"section {section.kind}"
    end = offset + section.coded_length
    at = offset + _check_frame_header(source, offset, section)
    # A block of fewer bytes than this on average is no compression but a way to keep us busy.
    for _ in range(16 + section.raw_length // 64):
        source.seek(at)
        block = int.from_bytes(source.read(3), "little")
        is_last, kind, size = block & 1, block >> 1 & 3, block >> 3
        at += 3 + (1 if kind == 1 else size)
        if kind == 3 or at > end:
            break
        if is_last:
            if at != end:
                raise FormatError(f"{what}: expected the end of its frame, found {end - at} bytes")
            return
    raise FormatError(f"{what}: expected a complete zstd frame of {section.coded_length} bytes")


def _check_frame_header(source: BinaryIO, offset: int, section: Section) -> int:
    """Length of the frame's header in bytes, once it promises what the section does."""
    what = f"section {section.kind}"
    source.seek(offset)
    start = source.read(min(MAX_FRAME_HEADER_BYTES, section.coded_length))
    try:
        frame = zstandard.get_frame_parameters(start)
        header_bytes = zstandard.frame_header_size(start)
    except zstandard.ZstdError as exc:
        raise FormatError(f"{what}: expected a zstd frame: {exc}") from exc
    if frame.content_size != section.raw_length:
        raise FormatError(
            f"{what}: expected a frame that declares {section.raw_length} bytes, "
            f"found {frame.content_size}"
        )
    if frame.window_size > 1 << WINDOW_LOG:
        raise FormatError(
            f"{what}: expected a window of at most {1 << WINDOW_LOG} bytes, "
            f"found {frame.window_size}"
        )
    if frame.dict_id or frame.has_checksum:
        raise FormatError(f"{what}: expected a frame without dictionary or checksum")
    return header_bytes


def _frame(raw: bytes, level: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, source_size=len(raw), window_log=WINDOW_LOG, write_content_size=True
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(raw)
