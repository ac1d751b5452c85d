"""zstd: zstandard's bounded reader, and a walk over the headers that knows where frames end.

``stream_reader`` is bounded, decodes all frames, also skippable ones, and reports garbage. But at the end of the input
it cannot distinguish a whole frame from a truncated one. So the frame and block headers are also followed here. That
costs a microsecond for each block of up to 128 KiB.
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
"""128 MiB, the default limit of ``zstd -d``. For a header that claims more, nothing is allocated."""

_REST = 1 << 62
"""More bytes than any stream has: no further header is looked for."""


def decode_zstd(feed: Feed) -> Iterator[bytes]:
    """Yield the decoded bytes of all frames (RFC 8878); see :func:`streamerge.codecs.decode`."""
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
        raise LayerError(f"zstd: {_plain_words(str(error))}") from error


def _plain_words(problem: str) -> str:
    if "too much memory" in problem:
        return f"a frame needs a window of more than {WINDOW_LIMIT >> 20} MiB (zstd --long=27 stays below it)"
    if "Dictionary mismatch" in problem:
        return "a frame needs a dictionary, which is not supported"
    if "Unknown frame descriptor" in problem:
        return "the bytes at the start or after a frame are not a frame"
    return f"the data is corrupt ({problem})"


class _Source:
    """The source for ``stream_reader``: "any object with a ``read(size)`` method"."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.walk = FrameWalk()

    def read(self, size: int) -> memoryview:
        piece = self._feed.take(size)
        self.walk.follow(piece)
        return piece


class FrameWalk:
    """Follows frames and blocks by their headers, to know whether the stream ends at the end of a frame.

    ``follow`` takes the stream in pieces of any size. ``complete`` is true at the start and after each whole frame.
    Bytes that are not a frame are refused by the decoder; from there on ``complete`` stays false. Cost: O(headers);
    the bytes between them are not copied.
    """

    def __init__(self) -> None:
        self._part = b""  # of the next header, as far as it has arrived
        self._checksum_size = 0
        self._skip = 0  # bytes from here to the next header
        self._expect(4, self._magic)

    @property
    def complete(self) -> bool:
        """Whether the stream so far is empty or ends at the end of a frame."""
        return self._parse == self._magic and not self._part and not self._skip

    def follow(self, piece: bytes | memoryview) -> None:
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
        """The next header has ``size`` bytes; ``parse`` returns the number of bytes from its end to the one after."""
        self._size = size
        self._parse = parse

    def _magic(self, header: bytes) -> int:
        if header == ZSTD_MAGIC:
            self._expect(1, self._descriptor)
        elif header in SKIPPABLE_MAGICS:
            self._expect(4, self._skippable)
        else:
            return _REST
        return 0

    def _skippable(self, header: bytes) -> int:
        """RFC 8878, 3.1.2: the size of the user data, 4 bytes, little-endian."""
        self._expect(4, self._magic)
        return int.from_bytes(header, "little")

    def _descriptor(self, header: bytes) -> int:
        """RFC 8878, 3.1.1.1: one byte that gives the length of the rest of the frame header."""
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
