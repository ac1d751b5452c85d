"""A layer's decoded bytes, as they come: streams over chunks and over regular files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from streamerge.errors import LayerError

__all__ = ["CHUNK", "ChunkStream", "FileStream", "read_chunks"]

CHUNK = 1 << 18
"""Bytes asked of a file at once."""


class ChunkStream:
    """A stream over any iterable of chunks; empty chunks are passed over."""

    seeks = False

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self) -> bytes:
        """Return the next chunk; ``b""`` at the end."""
        if self._rest:
            rest, self._rest = self._rest, b""
            return rest
        for chunk in self._chunks:
            if chunk:
                return chunk
        return b""

    def skip(self, size: int) -> int:
        """Read and drop ``size`` bytes."""
        left = size
        while left:
            chunk = self.read()
            if not chunk:
                break
            self._rest = chunk[left:]
            left -= len(chunk) - len(self._rest)
        return size - left

    def close(self) -> None:
        """End the iteration, where it is a generator."""
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()


class FileStream:
    """A stream over a regular file, from where its descriptor stands. Owns the descriptor."""

    seeks = True

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._name = name
        self._pos = os.lseek(fd, 0, os.SEEK_CUR)

    def read(self) -> bytes:
        """Return up to :data:`CHUNK` bytes."""
        chunk = _read(self._fd, self._name)
        self._pos += len(chunk)
        return chunk

    def skip(self, size: int) -> int:
        """Seek; what is passed over is never read."""
        end = os.fstat(self._fd).st_size
        passed = max(0, min(size, end - self._pos))
        self._pos = os.lseek(self._fd, self._pos + passed, os.SEEK_SET)
        return passed

    def close(self) -> None:
        """Close the descriptor."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def read_chunks(fd: int, name: str) -> Iterator[bytes]:
    """Yield what a descriptor gives, up to :data:`CHUNK` bytes at once, and close it. Raises LayerError."""
    try:
        while chunk := _read(fd, name):
            yield chunk
    finally:
        os.close(fd)


def _read(fd: int, name: str) -> bytes:
    try:
        return os.read(fd, CHUNK)
    except OSError as error:
        raise LayerError(f"cannot read {name}: {error.strerror}") from error
