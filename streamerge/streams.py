"""Streams of bytes: from chunks, and from regular files.

A stream yields the stored bytes of a blob or the decoded bytes of a layer. The interface is the same.
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
"""Least compressed bytes that are decoded in a process: starting one costs as much as decoding these."""


class ReadAheadBy(enum.Enum):
    """How to read a stream ahead of the merge."""

    NOTHING = "not at all: it is short, or in memory"
    THREAD = "in a thread: it may wait, or use objects of this process"
    PROCESS = "in a process: it needs only its own memory and descriptors"


class Stream(Protocol):
    """Bytes in order, read once. Inherit from it to get the defaults of its attributes.

    ============ ==================================================================================
    seeks        whether :meth:`skip` costs nothing for any number of bytes
    extent       the extent of a regular file that holds the bytes; None if there is none
    read_ahead   how to read the stream ahead of the merge
    ============ ==================================================================================
    """

    seeks: bool = False
    read_ahead: ReadAheadBy = ReadAheadBy.THREAD

    @property
    def extent(self) -> Extent | None:
        """The extent of a regular file that holds the bytes. Other processes can read it too."""
        return None

    @abstractmethod
    def read(self) -> bytes:
        """Return the next chunk, of any size; ``b""`` at the end. Raises LayerError."""
        raise NotImplementedError

    @abstractmethod
    def skip(self, size: int) -> int:
        """Skip ``size`` bytes. Return how many were skipped: fewer only at the end. Raises LayerError."""
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None:
        """Release all resources. May be called twice."""
        raise NotImplementedError

    def stored(self) -> int | None:
        """Return how many stored (compressed) bytes have been read; None if that is not known."""
        return None


class Chunks(Stream):
    """A stream that is read chunk by chunk. Subclasses define :meth:`next_chunk`."""

    def __init__(self) -> None:
        self._rest = b""

    def next_chunk(self) -> bytes:
        """Return the next chunk; ``b""`` at the end, and on every later call."""
        raise NotImplementedError

    def read(self) -> bytes:
        """Return the next chunk, or the rest of one after :meth:`skip` or :meth:`peek`; ``b""`` at the end."""
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
        """Yield the remaining chunks."""
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

    ``source`` is the stream that the chunks are decoded from, if there is one. It is closed with this stream, and
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
        """Close the chunks, if they are a generator, and the source."""
        if isinstance(self._chunks, Generator):
            self._chunks.close()
        if self._source is not None:
            self._source.close()

    def stored(self) -> int | None:
        """Return how many bytes of the source have been read."""
        return self._source.stored() if self._source is not None else None


class FileStream(Stream):
    """A stream over an extent of a regular file. Skipped bytes are not read."""

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
        """Yield the remaining chunks."""
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
        """Return the position in the extent."""
        return self._position - self._start


RawStream = Chunks | FileStream
"""Streams with ``peek``, by which their format can be detected before they are read."""


def read_ahead_by(raw: Stream) -> ReadAheadBy:
    """Return how to read ahead the bytes that are decoded from ``raw``."""
    if raw.extent is None:
        return ReadAheadBy.THREAD
    return ReadAheadBy.PROCESS if raw.extent.size >= WORTH_A_PROCESS else ReadAheadBy.NOTHING


def read_descriptor(handle: FileHandle, name: str) -> Iterator[bytes]:
    """Yield the bytes of a pipe or another descriptor in chunks of up to :data:`CHUNK` bytes. Raises LayerError."""
    while True:
        try:
            chunk = os.read(handle.fd, CHUNK)
        except OSError as error:
            raise LayerError(f"cannot read {name}: {error.strerror}") from error
        if not chunk:
            return
        yield chunk
