"""The image file: written under a temporary name, renamed when it is complete and on disk."""

from __future__ import annotations

import contextlib
import os

from streamerge.errors import SinkError, show
from streamerge.fileio import partial_name, take_name

__all__ = ["ImageFile"]


class ImageFile:
    """An image at ``path``, which must be a regular file or not exist. ``tool`` writes it to :attr:`partial`."""

    def __init__(self, path: str, tool: str, *, fsync: bool) -> None:
        self.path = os.path.realpath(path)
        self._shown = show(os.fsencode(path))
        self._tool = tool
        self._fsync = fsync
        if os.path.lexists(self.path) and not os.path.isfile(self.path):
            raise SinkError(f"'{self._shown}' is not a regular file; write the image to one, then copy it")
        directory = os.path.dirname(self.path)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise SinkError(f"cannot create {self._shown}: {_access_error(directory)}")
        self.partial = partial_name(self.path)

    def reserve(self, size: int | None) -> None:
        """Create the image as a sparse file of ``size`` bytes, for a tool that needs one. Raises SinkError."""
        if size is None:
            return
        try:
            fd = os.open(self.partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            with contextlib.closing(os.fdopen(fd, "wb")) as file:
                file.truncate(size)
        except OSError as error:
            raise SinkError(f"cannot create {self._shown} with {size:,} bytes: {error.strerror}") from error

    def commit(self) -> None:
        """Flush the image to disk, rename it, flush its directory. Raises SinkError.

        The tool's own writes may not be on disk yet: a virtual machine that boots the image at once would read stale
        blocks.
        """
        if not os.path.isfile(self.partial):
            raise SinkError(f"{self._tool} exited with 0 but wrote no image")
        try:
            if self._fsync:
                _fsync(self.partial)
            take_name(self.partial, self.path, fsync=self._fsync)
        except OSError as error:
            raise SinkError(f"cannot write {self._shown}: {error.strerror}") from error

    def discard(self) -> None:
        """Remove what the tool has written so far. Never raises."""
        with contextlib.suppress(OSError):
            os.unlink(self.partial)


def _fsync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _access_error(directory: str) -> str:
    return "Permission denied" if os.path.isdir(directory) else "No such file or directory"
