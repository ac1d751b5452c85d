"""zstd: a bounded reader by zstandard, and a walk over the headers that knows where frames end.

``stream_reader`` is bounded, decodes frame after frame, skippable ones too, and tells of garbage. But at the
end of the input it does not tell a whole frame from a cut one. So the headers are followed, no more, as the
compressed bytes pass by; it costs a microsecond for each block of up to 128 KiB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, cast

import zstandard

from streamerge.codecs.feed import CHUNK, PIECE, Feed
from streamerge.codecs.magic import SKIPPABLE_MAGICS, ZSTD_MAGIC
from streamerge.errors import LayerError

__all__ = ["WINDOW_LIMIT", "FrameWalk", "decode_zstd"]

WINDOW_LIMIT = 1 << 27
"""128 MiB, what ``zstd -d`` takes unless told otherwise. A header that claims more allocates nothing."""

_FOREVER = 1 << 62


def decode_zstd(feed: Feed) -> Iterator[bytes]:
    """Decode all frames, RFC 8878; see :func:`streamerge.codecs.decode`."""
    source = _Source(feed)
    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_LIMIT)
    reader = decompressor.stream_reader(
        cast("IO[bytes]", source), read_size=PIECE, read_across_frames=True, closefd=False
    )
    while chunk := _read(reader):
        yield chunk
    if not source.walk.complete:
        raise LayerError("zstd: the stream ends in the middle of a frame")


def _read(reader: zstandard.ZstdDecompressionReader) -> bytes:
    try:
        return reader.read(CHUNK)
    except zstandard.ZstdError as error:
        raise LayerError(f"zstd: {_explain(str(error))}") from error


def _explain(problem: str) -> str:
    if "too much memory" in problem:
        return f"a frame needs a window of more than {WINDOW_LIMIT >> 20} MiB (zstd --long=27 makes no such)"
    if "Dictionary mismatch" in problem:
        return "a frame needs a dictionary, which is not supported"
    if "Unknown frame descriptor" in problem:
        return "there are bytes where a frame should start, or after the last one, that are no frame"
    return f"the data is corrupt ({problem})"


class _Source:
    """What ``stream_reader`` reads from: "any object with a ``read(size)`` method"."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.walk = FrameWalk()

    def read(self, size: int) -> memoryview:
        piece = self._feed.take(size)
        self.walk.pass_by(piece)
        return piece


class FrameWalk:
    """Follow frames and blocks by their headers alone, to know whether the end is the end of a frame.

    ``pass_by`` takes the stream in any pieces; ``complete`` is true at the start and after each whole frame.
    What is no frame is left to the decoder, which refuses it: from there on ``complete`` stays false.
    Cost: O(headers), no copy of what is between them.
    """

    def __init__(self) -> None:
        self._part = b""  # of the header that is being collected
        self._checksum_size = 0
        self._skip = 0  # bytes from here to the next header
        self._expect(4, self._magic)

    @property
    def complete(self) -> bool:
        """Whether what has passed by ends where a frame ends, or is nothing."""
        return self._parse == self._magic and not self._part and not self._skip

    def pass_by(self, piece: bytes | memoryview) -> None:
        """Follow the headers in the next piece of the stream."""
        at, end = self._skip, len(piece)
        while at < end:
            part = piece[at : at + self._size - len(self._part)]
            self._part += part
            at += len(part)
            if len(self._part) == self._size:
                header, self._part = self._part, b""
                at += self._parse(header)
        self._skip = at - end

    def _expect(self, size: int, parse: Callable[[bytes], int]) -> None:
        """The next header has ``size`` bytes; ``parse`` tells how far behind it the one after starts."""
        self._size = size
        self._parse = parse

    def _magic(self, header: bytes) -> int:
        if header == ZSTD_MAGIC:
            self._expect(1, self._descriptor)
        elif header in SKIPPABLE_MAGICS:
            self._expect(4, self._skippable)
        else:
            return _FOREVER
        return 0

    def _skippable(self, header: bytes) -> int:
        """RFC 8878, 3.1.2: the size of the user data, 4 bytes, little-endian."""
        self._expect(4, self._magic)
        return int.from_bytes(header, "little")

    def _descriptor(self, header: bytes) -> int:
        """RFC 8878, 3.1.1.1: one byte tells how long the rest of the frame header is."""
        flags = header[0]
        single_segment = flags >> 5 & 1
        content_size = (single_segment, 2, 4, 8)[flags >> 6]
        dictionary_id = (0, 1, 2, 4)[flags & 3]
        self._checksum_size = 4 * (flags >> 2 & 1)
        self._expect(3, self._block)
        return (1 - single_segment) + dictionary_id + content_size

    def _block(self, header: bytes) -> int:
        """RFC 8878, 3.1.1.2: last-block flag, two bits of type, size; an RLE block (1) is one byte."""
        value = int.from_bytes(header, "little")
        size = 1 if value >> 1 & 3 == 1 else value >> 3
        if not value & 1:
            return size
        self._expect(4, self._magic)
        return size + self._checksum_size
