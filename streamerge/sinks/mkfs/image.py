"""The file that a tool makes: it grows under a temporary name and takes its own when it is complete and on disk."""

from __future__ import annotations

import contextlib
import os

from streamerge.errors import SinkError, show
from streamerge.fileio import partial_name, take_name

__all__ = ["Image"]


class Image:
    """An image at ``path``, which must be a file or nothing. ``partial`` is where the tool is to make it."""

    def __init__(self, path: str, *, fsync: bool) -> None:
        self.path = os.path.realpath(path)
        if os.path.lexists(self.path) and not os.path.isfile(self.path):
            raise SinkError(f"'{show(os.fsencode(path))}' is no regular file; make the image in one, then copy it")
        directory = os.path.dirname(self.path)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise SinkError(f"cannot create {show(os.fsencode(path))}: {_why_not(directory)}")
        self.partial = partial_name(self.path)
        self._fsync = fsync

    def reserve(self, size: int | None) -> None:
        """Make the image a sparse file of ``size`` bytes, for a tool that wants to find one. Raises SinkError."""
        if size is None:
            return
        try:
            fd = os.open(self.partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            with contextlib.closing(os.fdopen(fd, "wb")) as file:
                file.truncate(size)
        except OSError as error:
            raise SinkError(f"cannot create {self.path} with {size:,} bytes: {error.strerror}") from error

    def commit(self) -> None:
        """Flush the image to disk, rename it, flush its directory. Raises SinkError.

        The tool's own writes may still be in flight: who boots the image at once would read stale blocks.
        """
        if not os.path.isfile(self.partial):
            raise SinkError("the tool that was to make the image has ended well, but made no image")
        try:
            if self._fsync:
                _fsync(self.partial)
            take_name(self.partial, self.path, fsync=self._fsync)
        except OSError as error:
            raise SinkError(f"cannot write {self.path}: {error.strerror}") from error

    def discard(self) -> None:
        """Remove what the tool has made so far. Never raises."""
        with contextlib.suppress(OSError):
            os.unlink(self.partial)


def _fsync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _why_not(directory: str) -> str:
    return "Permission denied" if os.path.isdir(directory) else "No such file or directory"
