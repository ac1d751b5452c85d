"""Outputs for bytes: a file that appears only when complete, a pipe, or a file object.

All or nothing: a file has a temporary name in the same directory until it is complete. Then it is flushed to disk and
renamed; until then the old file stays.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Protocol

from streamerge.codecs import Codec
from streamerge.errors import SinkError
from streamerge.fileio import CHUNK, Check, copy_range, no_check, partial_name, read_at, take_name, write_all, write_at

if TYPE_CHECKING:
    from streamerge.codecs.encoders import Encoder

__all__ = [
    "ClosedPipe",
    "CompressedOutput",
    "FileObjectOutput",
    "FileOutput",
    "Output",
    "OutputTarget",
    "PipeOutput",
    "compressed",
    "is_fifo",
    "open_output",
]

OutputTarget = str | os.PathLike[str] | IO[bytes]
"""An output's destination: a path, ``-`` for standard output, or a binary file object."""


class ClosedPipe(SinkError):
    """The reader of the output has closed it."""


class Output(Protocol):
    """Takes bytes. ``rewinds`` is whether :meth:`rewind` works."""

    rewinds: bool

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Append all pieces. Raises SinkError."""

    def rewind(self) -> None:
        """Drop all bytes written so far."""

    def commit(self) -> None:
        """Make the output appear. Raises SinkError."""

    def discard(self) -> None:
        """Remove everything written so far. Never raises."""


class PipeOutput:
    """Writes to a descriptor: standard output, a FIFO, a device."""

    rewinds = False

    def __init__(self, fd: int, name: str, *, owned: bool = False) -> None:
        self._fd = fd
        self._name = name
        self._owned = owned

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Append all pieces. Raises ClosedPipe if the reader has closed the pipe, SinkError."""
        with _write_errors(self._name):
            _write_pieces(self._fd, pieces)

    def rewind(self) -> None:
        """Raise SinkError: a pipe cannot be rewound."""
        raise SinkError(f"{self._name} is a pipe and cannot be rewound")

    def commit(self) -> None:
        """Close the descriptor if this output owns it."""
        self.discard()

    def discard(self) -> None:
        """Close the descriptor if this output owns it."""
        if self._owned:
            self._owned = False
            os.close(self._fd)


class FileOutput:
    """Writes a new file, which gets its name when it is complete and replaces the old file."""

    rewinds = True

    def __init__(self, path: str, *, fsync: bool = True) -> None:
        self._path = os.path.realpath(path)
        self._fsync = fsync
        self._partial = partial_name(self._path)
        self._room = bytearray(CHUNK)
        self._closed = False
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        try:
            self._fd = os.open(self._partial, flags, 0o666)
        except OSError as error:
            raise SinkError(f"cannot create {path}: {error.strerror}") from error

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Append all pieces."""
        with _write_errors(self._path):
            _write_pieces(self._fd, pieces)

    def leave(self, size: int) -> None:
        """Leave space at the end, which :meth:`fetch` fills later."""
        with _write_errors(self._path):
            os.lseek(self._fd, size, os.SEEK_CUR)

    def fetch(self, file: int, extents: Sequence[int], to: int, check: Check = no_check) -> None:
        """Copy extents of a file (start, size, …) into space that was left. Can be called in any process."""
        room, used = memoryview(self._room), 0
        with _write_errors(self._path):
            for position, size in zip(extents[::2], extents[1::2], strict=True):
                if used and used + size > len(room):
                    write_at(self._fd, room[:used], to)
                    to, used = to + used, 0
                if size <= len(room):
                    read_at(file, position, room[used : used + size])
                    used += size
                else:
                    copy_range(file, position, size, self._fd, to, check)
                    to += size
            write_at(self._fd, room[:used], to)

    def rewind(self) -> None:
        """Empty the file."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)

    def commit(self) -> None:
        """Flush the file to disk with ``fsync``, rename it, and flush the directory."""
        try:
            if self._fsync:
                os.fsync(self._fd)
            self._close()
            take_name(self._partial, self._path, fsync=self._fsync)
        except OSError as error:
            raise SinkError(f"cannot write {self._path}: {error.strerror}") from error

    def discard(self) -> None:
        """Remove the partial file."""
        self._close()
        with contextlib.suppress(OSError):
            os.unlink(self._partial)

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            os.close(self._fd)


class FileObjectOutput:
    """Writes to a binary file object, which stays open. It rewinds if the object can seek."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._name = str(getattr(file, "name", "the output"))
        with _write_errors(self._name):
            self.rewinds = file.seekable()
            self._start = file.tell() if self.rewinds else 0
            file.write(b"")  # raises an error now if the file is closed or a text file

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Append all pieces."""
        with _write_errors(self._name):
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    rest = rest[self._file.write(rest) or 0 :]

    def rewind(self) -> None:
        """Truncate the file to its position at the start."""
        with _write_errors(self._name):
            self._file.seek(self._start)
            self._file.truncate()

    def commit(self) -> None:
        """Flush the file object."""
        with _write_errors(self._name):
            self._file.flush()
        self.rewinds = False  # a complete output is not discarded

    def discard(self) -> None:
        """Remove what was written, if the object can seek."""
        if self.rewinds:
            with contextlib.suppress(SinkError):
                self.rewind()


class CompressedOutput:
    """Compresses into another output. The same input gives the same bytes.

    ``new_encoder`` returns a new compressor.
    """

    def __init__(self, inner: Output, new_encoder: Callable[[], Encoder]) -> None:
        self.rewinds = inner.rewinds
        self._inner = inner
        self._new_encoder = new_encoder
        self._encoder = new_encoder()

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Compress and append all pieces."""
        packed = [data for piece in pieces if (data := self._encoder.write(piece))]
        if packed:
            self._inner.write(packed)

    def rewind(self) -> None:
        """Drop all bytes written so far, and start a new compressed stream."""
        self._encoder = self._new_encoder()
        self._inner.rewind()

    def commit(self) -> None:
        """End the compressed stream and make the output appear."""
        self._inner.write([self._encoder.finish()])
        self._inner.commit()

    def discard(self) -> None:
        """Remove everything written so far."""
        self._inner.discard()


def open_output(target: OutputTarget, *, fsync: bool = True) -> Output:
    """Return an output for ``target``: ``-`` is standard output; FIFOs and devices are written directly.

    Raises SinkError.
    """
    if not isinstance(target, str | os.PathLike):
        return FileObjectOutput(target)
    path = os.fspath(target)
    if path == "-":
        if sys.stdout is None:
            raise SinkError("standard output is closed")
        return PipeOutput(1, "standard output")
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return FileOutput(path, fsync=fsync)
    if stat.S_ISREG(mode):
        return FileOutput(path, fsync=fsync)
    try:
        return PipeOutput(os.open(path, os.O_WRONLY | os.O_CLOEXEC), path, owned=True)
    except OSError as error:
        raise SinkError(f"cannot write to {path}: {error.strerror}") from error


def compressed(inner: Output, codec: Codec, new_encoder: Callable[[], Encoder]) -> Output:
    """Return an output that compresses with ``codec``; ``inner`` itself for Codec.NONE."""
    return inner if codec is Codec.NONE else CompressedOutput(inner, new_encoder)


def is_fifo(path: str) -> bool:
    """Return whether ``path`` is a FIFO: opening it for output waits for a reader."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


def _write_pieces(fd: int, pieces: Sequence[bytes | memoryview]) -> None:
    written = os.writev(fd, pieces)
    if written == sum(map(len, pieces)):
        return
    for piece in pieces:  # a pipe or a nearly full disk may take only a part
        skipped = min(written, len(piece))
        written -= skipped
        write_all(fd, memoryview(piece)[skipped:])


@contextlib.contextmanager
def _write_errors(name: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise ClosedPipe(f"{name} was closed by its reader") from error
    except (OSError, ValueError) as error:  # ValueError: a file object that is closed
        raise SinkError(f"cannot write {name}: {getattr(error, 'strerror', None) or error}") from error
