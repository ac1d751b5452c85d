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

from streamerge.errors import SinkError

__all__ = ["ClosedPipe", "FileOutput", "Output", "PipeOutput", "fsync_directory", "open_output", "partial_name"]


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
        _write_all(self._fd, pieces, self._name)

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
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        try:
            self._fd = os.open(self._partial, flags, 0o666)
        except OSError as error:
            raise SinkError(f"cannot create {path}: {error.strerror}") from error

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Append all pieces."""
        _write_all(self._fd, pieces, self._path)

    def copy(self, fd: int, size: int) -> int:
        """Append bytes of a file without looking at them; return how many the system could."""
        if not hasattr(os, "copy_file_range"):
            return 0
        with _write_errors(self._path):
            return _copy_range(fd, self._fd, size)

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
            os.replace(self._partial, self._path)
            if self._fsync:
                fsync_directory(os.path.dirname(self._path))
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


def partial_name(path: str) -> str:
    """A name beside ``path`` for what is not complete yet: ``.NAME.partial-XXXX``."""
    directory, name = os.path.split(path)
    short = os.fsdecode(os.fsencode(name)[:200])
    return os.path.join(directory, f".{short}.partial-{os.urandom(4).hex()}")


def fsync_directory(path: str) -> None:
    """Flush a directory's entries to disk. Raises OSError."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_all(fd: int, pieces: Sequence[bytes | memoryview], name: str) -> None:
    with _write_errors(name):
        written = os.writev(fd, pieces)
        if written == sum(map(len, pieces)):
            return
        for piece in pieces:  # a pipe or a nearly full disk took part of it
            skipped = min(written, len(piece))
            written -= skipped
            rest = memoryview(piece)[skipped:]
            while rest:
                rest = rest[os.write(fd, rest) :]


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

_CANNOT_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)
"""What copy_file_range(2) says of files that can be read and written, but not copied so: on two file systems, say."""


def _copy_range(source: int, target: int, size: int) -> int:
    """Copy from file to file, which may share blocks, as far as the system can; return how many bytes that was."""
    left = size
    try:
        while left and (count := os.copy_file_range(source, target, min(left, _COPIED_AT_ONCE))):
            left -= count
    except OSError as error:
        if error.errno not in _CANNOT_COPY:
            raise
    return size - left
