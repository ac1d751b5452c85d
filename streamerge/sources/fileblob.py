"""Bytes that lie in a regular file: all of it, or a part, as a blob in a layout or a member of an archive.

All reading is by position (``pread``), so any number of readers share one descriptor, in any thread. A
descriptor is closed with the last object that needs it; nobody has to say when an image is done with.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from streamerge.errors import ImageError, LayerError
from streamerge.streams import CHUNK

__all__ = ["Extent", "ExtentStream", "Handle"]


class Handle:
    """An open file. Owns the descriptor, and closes it when nobody refers to the handle any more."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        weakref.finalize(self, os.close, fd)

    def read(self, size: int, position: int, name: str) -> bytes:
        """Up to ``size`` bytes from ``position``. Raises LayerError."""
        try:
            return os.pread(self.fd, size, position)
        except OSError as error:
            raise LayerError(f"cannot read {name}: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Extent:
    """``size`` bytes from ``start``; ``name`` says which in messages. ``open_file`` gives the file they are in."""

    name: str
    start: int
    size: int
    open_file: Callable[[], Handle]

    def stream(self) -> ExtentStream:
        """Start reading. Raises LayerError."""
        return ExtentStream(self.open_file(), self.start, self.size, self.name)

    def document(self, limit: int) -> bytes:
        """All bytes, if they are no more than ``limit``: nothing is read where they are. Raises ImageError."""
        if self.size > limit:
            raise ImageError(f"{self.name} has {self.size:,} bytes; {limit:,} are the limit for such a document")
        return b"".join(self.stream().chunks())


class ExtentStream:
    """A stream over an extent. What is passed over is never read."""

    seeks = True

    def __init__(self, file: Handle, start: int, size: int, name: str) -> None:
        self._file: Handle | None = file
        self._start = self._pos = start
        self._end = start + size
        self._name = name

    @property
    def place(self) -> tuple[int, int]:
        """The file's descriptor, and where the extent begins."""
        assert self._file is not None
        return self._file.fd, self._start

    def head(self, size: int) -> bytes:
        """Look at the next bytes."""
        assert self._file is not None
        return self._file.read(min(size, self._end - self._pos), self._pos, self._name)

    def read(self) -> bytes:
        """Return up to :data:`~streamerge.streams.CHUNK` bytes; ``b""`` at the end."""
        chunk = self.head(CHUNK)
        self._pos += len(chunk)
        return chunk

    def skip(self, size: int) -> int:
        """Move on; return how many bytes there were."""
        passed = max(0, min(size, self._end - self._pos))
        self._pos += passed
        return passed

    def chunks(self) -> Iterator[bytes]:
        """What is left, chunk by chunk."""
        return iter(self.read, b"")

    def close(self) -> None:
        """Let go of the file."""
        self._file = None
