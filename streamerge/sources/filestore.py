"""Where an image's files are: a directory, or an archive (:mod:`streamerge.sources.archive`).

Both are :class:`Files`: they find a file by its name and never by a way that leads out. How the files of an
image are named is the business of the formats: ``oci``, ``dockersave``, ``dirlayout``.
"""

from __future__ import annotations

import os
import stat
from typing import Protocol

from streamerge.errors import LayerError, UnsafePathError, show
from streamerge.fileio import FileHandle
from streamerge.sources.fileblob import FileBlob

__all__ = ["Directory", "Files", "safe_name", "shown"]


class Files(Protocol):
    """A place with named files. ``name`` is what messages call it."""

    name: str

    def find(self, name: str) -> FileBlob | None:
        """The file of that name, None where there is none. Raises UnsafePathError, LayerError."""


def safe_name(name: str) -> str:
    """A relative name without ``.`` and empty components. Raises UnsafePathError for any way out.

    >>> safe_name("./blobs//sha256/ab")
    'blobs/sha256/ab'
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name or not parts:
        raise UnsafePathError(f"the image names the file '{shown(name)}', which is not a path inside it; it is refused")
    return "/".join(parts)


def shown(name: str) -> str:
    """A file's name, fit for a message."""
    return show(name[:300].encode("utf-8", "surrogateescape"))


class Directory:
    """The files below a directory. Symbolic links are followed as long as they stay below it."""

    def __init__(self, path: str) -> None:
        self.name = show(os.fsencode(path))
        self._root = os.path.realpath(path)

    def find(self, name: str) -> FileBlob | None:
        """The regular file of that name. Raises UnsafePathError where a symbolic link leads out."""
        name = safe_name(name)
        try:
            size = os.stat(self._resolve(name)).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise LayerError(f"cannot open {shown(name)} in {self.name}: {error.strerror}") from error
        return FileBlob(f"{shown(name)} in {self.name}", 0, size, lambda: self._open(name))

    def _resolve(self, name: str) -> str:
        path = os.path.realpath(os.path.join(self._root, name))
        if os.path.commonpath((self._root, path)) != self._root:
            raise UnsafePathError(
                f"{shown(name)} in {self.name} is a symbolic link out of it, to {shown(path)}; it is refused"
            )
        return path

    def _open(self, name: str) -> FileHandle:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO must not make us wait
        try:
            file = FileHandle(os.open(self._resolve(name), flags))
        except OSError as error:
            raise LayerError(f"cannot open {shown(name)} in {self.name}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(file.fd).st_mode):
            raise LayerError(f"{shown(name)} in {self.name} is no regular file")
        return file
