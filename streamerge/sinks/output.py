"""Where a sink's bytes go: a file that appears only when complete, or a pipe.

All or nothing: a file grows under a temporary name in its own directory and is renamed at the end, after a
flush to disk; what was there before stays until then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from typing import Protocol

from streamerge.errors import SinkError, show
from streamerge.signals import point_of_no_return
from streamerge.streams import CHUNK

__all__ = [
    "ClosedPipe",
    "FileOutput",
    "Output",
    "PipeOutput",
    "changed",
    "copy_range",
    "fsync_name",
    "is_fifo",
    "open_output",
    "partial_name",
    "read_place",
    "take_name",
    "write_all",
]


class ClosedPipe(SinkError):
    """Whoever read our output has gone away; there is nobody to tell."""


class Output(Protocol):
    """A place for bytes. ``rewinds`` tells whether :meth:`rewind` works."""

    rewinds: bool

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Append all pieces. Raises SinkError."""

    def rewind(self) -> None:
        """Begin again with nothing written."""

    def commit(self) -> None:
        """Make the output appear. Raises SinkError."""

    def discard(self) -> None:
        """Leave nothing behind. Never raises."""


class PipeOutput:
    """Bytes into a descriptor that is not ours: standard output, a FIFO, a device."""

    rewinds = False

    def __init__(self, fd: int, name: str, *, owned: bool = False) -> None:
        self._fd = fd
        self._name = name
        self._owned = owned

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Append all pieces; ClosedPipe where the reader is gone."""
        with _write_errors(self._name):
            _write_pieces(self._fd, pieces)

    def rewind(self) -> None:
        """Not possible: what a pipe has taken, it has taken."""
        raise SinkError(f"{self._name}: what was written cannot be taken back")

    def commit(self) -> None:
        """Close the descriptor, if it is ours to close."""
        self.discard()

    def discard(self) -> None:
        """Close the descriptor, if it is ours to close."""
        if self._owned:
            self._owned = False
            os.close(self._fd)


class FileOutput:
    """Bytes into a new file that takes its name when complete, replacing what was there."""

    rewinds = True

    def __init__(self, path: str, *, fsync: bool = True) -> None:
        self._path = os.path.realpath(path)
        self._fsync = fsync
        self._partial = partial_name(self._path)
        self._room = bytearray(CHUNK)
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
        """Leave room at the end for :meth:`fetch` to fill."""
        with _write_errors(self._path):
            os.lseek(self._fd, size, os.SEEK_CUR)

    def fetch(self, file: int, places: Sequence[int], to: int) -> None:
        """Write what lies in a file at (position, size, …) to room that was left, in whatever process."""
        room, used = memoryview(self._room), 0
        with _write_errors(self._path):
            for position, size in zip(places[::2], places[1::2], strict=True):
                if used and used + size > len(room):
                    write_all(self._fd, room[:used], to)
                    to, used = to + used, 0
                if size <= len(room):
                    read_place(file, position, room[used : used + size])
                    used += size
                else:
                    copy_range(file, position, size, self._fd, to)
                    to += size
            write_all(self._fd, room[:used], to)

    def rewind(self) -> None:
        """Empty the file."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)

    def commit(self) -> None:
        """Flush to disk (unless told not to), rename, and flush the directory."""
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
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def open_output(path: str, *, fsync: bool = True) -> Output:
    """Open ``path`` for output: ``-`` is standard output, a FIFO or device is written to as it stands."""
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


def is_fifo(path: str) -> bool:
    """Whether ``path`` is a FIFO: to open it for output means to wait for who will read it."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


def partial_name(path: str) -> str:
    """A name beside ``path`` for what is not complete yet: ``.NAME.partial-XXXX``."""
    directory, name = os.path.split(path)
    short = os.fsdecode(os.fsencode(name)[:200])
    return os.path.join(directory, f".{short}.partial-{os.urandom(4).hex()}")


def take_name(partial: str, path: str, *, fsync: bool) -> None:
    """Let a file that is complete appear as ``path``, replacing what is there. Raises OSError, SinkError."""
    with point_of_no_return():
        os.replace(partial, path)
    if fsync:
        fsync_name(path)


def fsync_name(path: str) -> None:
    """Flush to disk the name that ``path`` has just got in its directory. Raises SinkError."""
    try:
        fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            shown = show(os.fsencode(path))
            raise SinkError(f"{shown} is complete, but its name may not be on disk: {error.strerror}") from error


def write_all(fd: int, data: bytes | memoryview, position: int = -1) -> None:
    """Write all bytes: at a position of a file if it is given, else where the descriptor stands. Raises OSError."""
    rest = memoryview(data)
    while rest:
        if position < 0:
            rest = rest[os.write(fd, rest) :]
        else:
            written = os.pwrite(fd, rest, position)
            rest, position = rest[written:], position + written


def changed() -> SinkError:
    """What is wrong where a layer's file is not any more what it was."""
    return SinkError("the layer has changed while it was being merged")


def read_place(fd: int, position: int, into: memoryview) -> None:
    """Fill ``into`` with what lies in a file. Raises OSError; SinkError where the file has become shorter."""
    done = 0
    while done < len(into):
        count = os.preadv(fd, [into[done:]], position + done)
        if not count:
            raise changed()
        done += count


def copy_range(source: int, position: int, size: int, target: int, to: int) -> None:
    """Copy from file to file, which may share blocks; both descriptors stay where they stand. Raises as read_place."""
    left = size
    try:
        while left and hasattr(os, "copy_file_range"):
            done = size - left
            count = os.copy_file_range(source, target, min(left, _COPIED_AT_ONCE), position + done, to + done)
            if not count:
                break
            left -= count
    except OSError as error:
        if error.errno not in _CANNOT_COPY:
            raise
    room = memoryview(bytearray(min(left, CHUNK)))
    while left:
        done = size - left
        piece = room[:left]
        read_place(source, position + done, piece)
        write_all(target, piece, to + done)
        left -= len(piece)


def _write_pieces(fd: int, pieces: Sequence[bytes | memoryview]) -> None:
    written = os.writev(fd, pieces)
    if written == sum(map(len, pieces)):
        return
    for piece in pieces:  # a pipe or a nearly full disk took part of it
        skipped = min(written, len(piece))
        written -= skipped
        write_all(fd, memoryview(piece)[skipped:])


@contextlib.contextmanager
def _write_errors(name: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise ClosedPipe(f"{name}: nobody reads it any more") from error
    except OSError as error:
        raise SinkError(f"cannot write {name}: {error.strerror}") from error


_COPIED_AT_ONCE = 8 << 20
"""Bytes; a signal is heard in between."""

_NO_FSYNC = (errno.EINVAL, errno.EBADF)
"""What fsync(2) says of directories on file systems that have nothing to flush there."""

_CANNOT_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)
"""What copy_file_range(2) says of files that can be read and written, but not copied so: on two file systems, say."""
