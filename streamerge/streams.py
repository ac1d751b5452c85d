"""A layer's decoded bytes, as they come: streams over chunks and over regular files."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable, Iterator

from streamerge.errors import LayerError

__all__ = [
    "CHUNK",
    "WORTH_A_PROCESS",
    "ChunkStream",
    "Chunks",
    "FileStream",
    "Reader",
    "file_stamp",
    "read_chunks",
    "reader_for",
]

CHUNK = 1 << 18
"""Bytes asked of a file at once, and of a decoder."""

WORTH_A_PROCESS = 1 << 17
"""Compressed bytes from which on a layer is worth a process, which costs as much as decoding this."""


class Reader(enum.Enum):
    """Who had best read a stream ahead of the merge."""

    NOBODY = "it is short, or shares its memory with the merge"
    THREAD = "a thread: it may wait for others, and there is no telling what it holds"
    PROCESS = "a process: it needs nothing but its own memory and descriptors"


def reader_for(packed_size: int) -> Reader:
    """Who had best read a compressed file of that many bytes."""
    return Reader.PROCESS if packed_size >= WORTH_A_PROCESS else Reader.NOBODY


class Chunks:
    """The part of a stream that is the same wherever its chunks come from; they are given by :meth:`next_chunk`."""

    seeks = False

    def __init__(self) -> None:
        self._rest = b""

    def next_chunk(self) -> bytes:
        """Return the next chunk; ``b""`` at the end, again and again."""
        raise NotImplementedError

    def read(self) -> bytes:
        """Return the next chunk, or what :meth:`skip` has left of one; ``b""`` at the end."""
        if self._rest:
            rest, self._rest = self._rest, b""
            return rest
        return self.next_chunk()

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


class ChunkStream(Chunks):
    """A stream over any iterable of chunks; empty chunks are passed over."""

    def __init__(self, chunks: Iterable[bytes], reader: Reader = Reader.THREAD) -> None:
        super().__init__()
        self.reader = reader
        self._chunks = iter(chunks)

    def next_chunk(self) -> bytes:
        """Return the next chunk that is not empty; ``b""`` at the end."""
        for chunk in self._chunks:
            if chunk:
                return chunk
        return b""

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
        self._start = self._pos = os.lseek(fd, 0, os.SEEK_CUR)

    @property
    def place(self) -> tuple[int, int]:
        """The descriptor, and where the stream began."""
        return self._fd, self._start

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


def file_stamp(fd: int) -> tuple[int, ...]:
    """What tells a file from another, and from what it was before it was written to."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


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
