"""Compressed bytes for a decoder: an iterable of chunks, taken in pieces of any size."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["CHUNK", "PIECE", "Feed"]

PIECE = 128 * 1024
"""Most bytes of input given to a decoder in one call."""

CHUNK = 256 * 1024
"""Most bytes of output that a decoder may return in one call.

Measured with isal, zstandard and lz4, with input and output of 64 KiB to 4 MiB. From 128 KiB all are within a tenth
of their best speed; above 512 KiB they fall out of the cache. 128 KiB in and 256 KiB out was best for gzip, the
slowest to decode, and halves the number of chunks for the consumer.
"""


class Feed:
    """Bytes that arrive in chunks, are taken in pieces of limited size, and can be given back.

    No method copies more bytes than requested. So a huge chunk, or a thousand tiny members in one chunk, cost no more
    than their length.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._stack: list[memoryview] = []  # read but not taken yet, the next piece last

    def take(self, most: int) -> memoryview:
        """The next bytes, at most ``most``; empty only at the end. O(1), no copy."""
        view = self._stack.pop() if self._stack else self._next_chunk()
        if len(view) > most:
            self._stack.append(view[most:])
            return view[:most]
        return view

    def _next_chunk(self) -> memoryview:
        for chunk in self._chunks:
            if chunk:
                return memoryview(chunk)
        return memoryview(b"")

    def give_back(self, rest: bytes | memoryview) -> None:
        """Put ``rest`` back: it is taken next. O(1), no copy."""
        if rest:
            self._stack.append(memoryview(rest))

    def head(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer only at the end, not taken. The next ``take`` gets them as one piece."""
        parts = []
        missing = size
        while missing and (part := self.take(missing)):
            parts.append(part)
            missing -= len(part)
        head = b"".join(parts)
        self.give_back(head)
        return head

    def skip_zeros(self) -> int:
        """Take all zero bytes that come next; return their number."""
        count, most = 0, 16
        while piece := self.take(most):
            rest = bytes(piece).lstrip(b"\0")
            count += len(piece) - len(rest)
            if rest:
                self.give_back(rest)
                break
            most = min(4 * most, PIECE)
        return count
