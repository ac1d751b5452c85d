"""File stores: the named files of an image, in a directory or in an archive (:mod:`streamerge.sources.archive`).

A file store finds a file by its name, and refuses names and links that lead out of it. Which names the files of an
image have depends on its format: see ``oci``, ``docker_archive`` and ``skopeo_dir``.
"""

from __future__ import annotations

import os
import stat
from typing import Protocol

from streamerge.errors import LayerError, UnsafePathError, show
from streamerge.fileio import FileHandle
from streamerge.sources.fileblob import FileBlob
from streamerge.sources.names import safe_name, show_text

__all__ = ["DirectoryStore", "FileStore"]


class FileStore(Protocol):
    """Named files. ``name`` is what messages call the store."""

    name: str

    def find(self, name: str) -> FileBlob | None:
        """Return the file of that name; None if there is none. Raises UnsafePathError, LayerError."""


class DirectoryStore:
    """The files below a directory. Symbolic links are followed if they stay below it."""

    def __init__(self, path: str) -> None:
        self.name = show(os.fsencode(path))
        self._root = os.path.realpath(path)

    def find(self, name: str) -> FileBlob | None:
        """Return the file of that name. Raises UnsafePathError for a symbolic link that leads out, LayerError."""
        name = safe_name(name)
        try:
            size = os.stat(self._resolve(name)).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise LayerError(f"cannot open {show_text(name)} in {self.name}: {error.strerror}") from error
        return FileBlob(f"{show_text(name)} in {self.name}", 0, size, lambda: self._open(name))

    def _resolve(self, name: str) -> str:
        path = os.path.realpath(os.path.join(self._root, name))
        if os.path.commonpath((self._root, path)) != self._root:
            what = f"{show_text(name)} in {self.name}"
            raise UnsafePathError(f"{what} is a symbolic link out of it, to {show_text(path)}; it is refused")
        return path

    def _open(self, name: str) -> FileHandle:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # opening a FIFO must not block
        try:
            file = FileHandle(os.open(self._resolve(name), flags))
        except OSError as error:
            raise LayerError(f"cannot open {show_text(name)} in {self.name}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(file.fd).st_mode):
            raise LayerError(f"{show_text(name)} in {self.name} is not a regular file")
        return file
