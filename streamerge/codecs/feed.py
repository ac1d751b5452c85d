"""The compressed bytes, taken in pieces: what joins an iterable of chunks to a decoder."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["CHUNK", "PIECE", "Feed"]

PIECE = 128 * 1024
"""Bytes of input a decoder is given at most in one call."""

CHUNK = 256 * 1024
"""Bytes of output a decoder is asked for at most in one call.

Measured with isal, zstandard and lz4 over 64 KiB to 4 MiB of either: from 128 KiB in and 128 KiB out all are
within a tenth of their best, above 512 KiB they fall out of the cache. 128 KiB in, 256 KiB out was best for
gzip, where all the time goes, and halves what the consumer pays for each chunk.
"""


class Feed:
    """Bytes that come in chunks, go out in pieces no larger than asked, and can be given back.

    No method copies more than it was asked for, so neither a huge chunk nor a thousand tiny members in one
    chunk cost more than their length.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._stack: list[memoryview] = []  # what has been read but not taken, the next piece last

    def take(self, most: int) -> memoryview:
        """The next bytes, ``most`` at most; empty only at the end. O(1), no copy."""
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
        """Put bytes before all others. O(1), no copy."""
        if rest:
            self._stack.append(memoryview(rest))

    def head(self, size: int) -> bytes:
        """Look at the next ``size`` bytes, fewer only at the end; what was seen comes in one piece."""
        parts = []
        missing = size
        while missing and (part := self.take(missing)):
            parts.append(part)
            missing -= len(part)
        head = b"".join(parts)
        self.give_back(head)
        return head

    def skip_zeros(self) -> int:
        """Take zero bytes as far as they go; returns how many there were."""
        count, most = 0, 16
        while piece := self.take(most):
            rest = bytes(piece).lstrip(b"\0")
            count += len(piece) - len(rest)
            if rest:
                self.give_back(rest)
                break
            most = min(4 * most, PIECE)
        return count
