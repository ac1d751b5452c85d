"""Files by descriptor: read and write at a position, make temporary names, rename complete files.

The functions raise OSError unless they say otherwise: their callers know what the file is for.
"""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Callable
from typing import Final, NamedTuple

from streamerge.errors import LayerError, SinkError, show
from streamerge.signals import point_of_no_return

__all__ = [
    "CHUNK",
    "Check",
    "Extent",
    "FileHandle",
    "copy_range",
    "few_descriptors",
    "fsync_name",
    "layer_changed",
    "no_check",
    "partial_name",
    "read_at",
    "take_name",
    "write_all",
    "write_at",
]

CHUNK: Final = 1 << 18
"""Most bytes that are read at once from a file or a decoder."""

Check = Callable[[], None]
"""Called regularly during long work. What it raises ends the work."""

_COPIED_AT_ONCE = 8 << 20
"""Most bytes that one system call copies, so that signals and checks are handled in between."""

_NO_FSYNC = (errno.EINVAL, errno.EBADF)
"""Errors of fsync(2) for directories on file systems that need no flush."""

_CANNOT_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)
"""Errors of copy_file_range(2) for files that must be read and written instead."""


def no_check() -> None:
    """The check of work that cannot be cancelled."""


class FileHandle:
    """An open file. Closes its descriptor when the last reference to the handle is dropped."""

    __slots__ = ("__weakref__", "fd", "first_stamp")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        weakref.finalize(self, os.close, fd)
        self.first_stamp = self.stamp()
        """The stamp of the file when it was opened, before anything of it was read."""

    @property
    def size(self) -> int:
        """The file's current length in bytes."""
        return os.fstat(self.fd).st_size

    def read(self, size: int, position: int, name: str) -> bytes:
        """Return up to ``size`` bytes from ``position``. Raises LayerError; ``name`` is what it calls the file."""
        try:
            return os.pread(self.fd, size, position)
        except OSError as error:
            raise LayerError(f"cannot read {name}: {error.strerror}") from error

    def stamp(self) -> tuple[int, ...]:
        """Return values that change if the file is replaced or written: device, inode, size, mtime."""
        status = os.fstat(self.fd)
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class Extent(NamedTuple):
    """``size`` bytes of a file from position ``start``."""

    file: FileHandle
    start: int
    size: int

    def part(self, offset: int, size: int) -> Extent:
        """Return the extent of ``size`` bytes that begins ``offset`` bytes into this one."""
        return Extent(self.file, self.start + offset, size)


def few_descriptors(count: int) -> int:
    """Return ``count``, or a quarter of the allowed descriptors (``ulimit -n``) if that is less."""
    limit = os.sysconf("SC_OPEN_MAX")
    return min(count, max(limit // 4, 2)) if limit >= 0 else count


def layer_changed() -> SinkError:
    """Return the error for a layer's file that was changed during the merge."""
    return SinkError("the layer has changed while it was being merged")


def read_at(fd: int, position: int, into: memoryview) -> None:
    """Fill ``into`` from ``position``. Raises SinkError if the file has become shorter."""
    done = 0
    while done < len(into):
        count = os.preadv(fd, [into[done:]], position + done)
        if not count:
            raise layer_changed()
        done += count


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all bytes at the descriptor's position."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def write_at(fd: int, data: bytes | memoryview, position: int) -> None:
    """Write all bytes at ``position``. The descriptor's own position does not change."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, position)
        rest, position = rest[written:], position + written


def copy_range(source: int, position: int, size: int, target: int, to: int, check: Check = no_check) -> None:
    """Copy ``size`` bytes between files, which may share blocks afterwards. The descriptors' positions do not change.

    ``check`` is called every few megabytes. Raises SinkError if the source has become shorter.
    """
    left = size
    try:
        while left and hasattr(os, "copy_file_range"):
            done = size - left
            count = os.copy_file_range(source, target, min(left, _COPIED_AT_ONCE), position + done, to + done)
            if not count:
                break
            left -= count
            check()
    except OSError as error:
        if error.errno not in _CANNOT_COPY:
            raise
    room = memoryview(bytearray(min(left, CHUNK)))
    while left:
        done = size - left
        piece = room[:left]
        read_at(source, position + done, piece)
        write_at(target, piece, to + done)
        left -= len(piece)
        check()


def partial_name(path: str) -> str:
    """Return a temporary name in the directory of ``path``: ``.NAME.partial-XXXX``."""
    directory, name = os.path.split(path)
    short = os.fsdecode(os.fsencode(name)[:200])
    return os.path.join(directory, f".{short}.partial-{os.urandom(4).hex()}")


def take_name(partial: str, path: str, *, fsync: bool) -> None:
    """Rename a complete file to ``path``, and replace a file of that name. Raises OSError, SinkError."""
    with point_of_no_return():
        os.replace(partial, path)
    if fsync:
        fsync_name(path)


def fsync_name(path: str) -> None:
    """Flush the directory of ``path`` to disk, after a rename. Raises SinkError."""
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
