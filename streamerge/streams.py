"""Streams of bytes: over chunks of any origin, and over regular files.

A stream gives either the stored bytes of a blob or the decoded bytes of a layer; the interface is the same.
"""

from __future__ import annotations

import enum
import os
from abc import abstractmethod
from collections.abc import Generator, Iterable, Iterator
from typing import Protocol

from streamerge.errors import LayerError
from streamerge.fileio import CHUNK, Extent, FileHandle

__all__ = [
    "CHUNK",
    "WORTH_A_PROCESS",
    "ChunkStream",
    "Chunks",
    "FileStream",
    "RawStream",
    "ReadAheadBy",
    "Stream",
    "read_ahead_by",
    "read_descriptor",
]

WORTH_A_PROCESS = 1 << 17
"""Compressed bytes from which on a layer is worth a process: starting one costs as much as decoding this many."""


class ReadAheadBy(enum.Enum):
    """How to read a stream ahead of the merge."""

    NOTHING = "not at all: it is short, or shares memory with the merge"
    THREAD = "in a thread: it may have to wait, or may hold anything"
    PROCESS = "in a process: it needs nothing but its own memory and descriptors"


class Stream(Protocol):
    """Bytes in order, read once. Inherit from it to get the defaults of its attributes.

    ============ ==================================================================================
    seeks        whether :meth:`skip` costs nothing, however many bytes it skips
    extent       where the bytes lie, if they are those of a regular file; else None
    read_ahead   how to read it ahead of the merge
    ============ ==================================================================================
    """

    seeks: bool = False
    read_ahead: ReadAheadBy = ReadAheadBy.THREAD

    @property
    def extent(self) -> Extent | None:
        """Where the bytes lie in a regular file; other processes may then read them too."""
        return None

    @abstractmethod
    def read(self) -> bytes:
        """Return the next chunk, of any size; ``b""`` at the end. Raises LayerError."""
        raise NotImplementedError

    @abstractmethod
    def skip(self, size: int) -> int:
        """Skip ``size`` bytes; return how many there were, which is fewer only at the end."""
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None:
        """Release what the stream holds. May be called twice."""
        raise NotImplementedError

    def stored(self) -> int | None:
        """Return how many stored (compressed) bytes have been read so far; None if that is not known."""
        return None


class Chunks(Stream):
    """The part of a stream that is the same for chunks of any origin; subclasses give :meth:`next_chunk`."""

    def __init__(self) -> None:
        self._rest = b""

    def next_chunk(self) -> bytes:
        """Return the next chunk; ``b""`` at the end, again and again."""
        raise NotImplementedError

    def read(self) -> bytes:
        """Return the next chunk, or what :meth:`skip` or :meth:`peek` left of one; ``b""`` at the end."""
        if self._rest:
            rest, self._rest = self._rest, b""
            return rest
        return self.next_chunk()

    def peek(self, size: int) -> bytes:
        """Return the next ``size`` bytes without consuming them; fewer only at the end."""
        while len(self._rest) < size and (chunk := self.next_chunk()):
            self._rest += chunk
        return self._rest[:size]

    def chunks(self) -> Iterator[bytes]:
        """Yield what is left, chunk by chunk."""
        return iter(self.read, b"")

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
    """A stream over any iterable of chunks; empty chunks are ignored.

    ``source`` is the stream that the chunks are made of, if there is one: it is closed along with this one, and
    counts the stored bytes.
    """

    def __init__(
        self,
        chunks: Iterable[bytes],
        read_ahead: ReadAheadBy = ReadAheadBy.THREAD,
        *,
        source: Stream | None = None,
    ) -> None:
        super().__init__()
        self.read_ahead = read_ahead
        self._chunks = iter(chunks)
        self._source = source

    def next_chunk(self) -> bytes:
        """Return the next chunk that is not empty; ``b""`` at the end."""
        for chunk in self._chunks:
            if chunk:
                return chunk
        return b""

    def close(self) -> None:
        """End the iteration, if it is a generator, and close the source."""
        if isinstance(self._chunks, Generator):
            self._chunks.close()
        if self._source is not None:
            self._source.close()

    def stored(self) -> int | None:
        """Return how many bytes of the source have been read."""
        return self._source.stored() if self._source is not None else None


class FileStream(Stream):
    """A stream over an extent of a regular file. Skipped bytes are never read."""

    seeks = True
    read_ahead = ReadAheadBy.NOTHING

    def __init__(self, extent: Extent, name: str) -> None:
        self._file: FileHandle | None = extent.file
        self._start = self._position = extent.start
        self._end = extent.start + extent.size
        self._name = name

    @property
    def extent(self) -> Extent | None:
        """The whole extent; None once the stream is closed."""
        return Extent(self._file, self._start, self._end - self._start) if self._file is not None else None

    def peek(self, size: int) -> bytes:
        """Return the next ``size`` bytes without consuming them; fewer only at the end. Raises LayerError."""
        assert self._file is not None
        return self._file.read(min(size, self._end - self._position), self._position, self._name)

    def read(self) -> bytes:
        """Return up to :data:`CHUNK` bytes; ``b""`` at the end. Raises LayerError."""
        chunk = self.peek(CHUNK)
        self._position += len(chunk)
        return chunk

    def chunks(self) -> Iterator[bytes]:
        """Yield what is left, chunk by chunk."""
        return iter(self.read, b"")

    def skip(self, size: int) -> int:
        """Move on; return how many bytes there were: fewer also where the file has become shorter."""
        assert self._file is not None
        passed = max(0, min(size, min(self._end, self._file.size) - self._position))
        self._position += passed
        return passed

    def close(self) -> None:
        """Drop the reference to the file."""
        self._file = None

    def stored(self) -> int | None:
        """Return how far into the extent the stream stands."""
        return self._position - self._start


RawStream = Chunks | FileStream
"""Streams that can be looked at before they are read, to detect what they hold."""


def read_ahead_by(raw: Stream) -> ReadAheadBy:
    """Choose how to read ahead what is decoded from ``raw``: in a process, in a thread, or not at all."""
    if raw.extent is None:
        return ReadAheadBy.THREAD
    return ReadAheadBy.PROCESS if raw.extent.size >= WORTH_A_PROCESS else ReadAheadBy.NOTHING


def read_descriptor(handle: FileHandle, name: str) -> Iterator[bytes]:
    """Yield what a pipe or any other descriptor gives, up to :data:`CHUNK` bytes at once. Raises LayerError."""
    while True:
        try:
            chunk = os.read(handle.fd, CHUNK)
        except OSError as error:
            raise LayerError(f"cannot read {name}: {error.strerror}") from error
        if not chunk:
            return
        yield chunk
