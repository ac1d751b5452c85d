"""Descriptors of the directories in a tree, opened one path component at a time.

Each component is opened relative to its parent's descriptor with ``O_NOFOLLOW``. So no symlink is followed, neither one
of a layer nor one that another process creates meanwhile (openat(2), "Rationale").
"""

from __future__ import annotations

import os

from streamerge.errors import UnsafePathError
from streamerge.fileio import few_descriptors

__all__ = ["DirectoryFds"]

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC
_MAX_OPEN = 128


class DirectoryFds:
    """Descriptors of directories below a root, by clean path. At most 128 stay open, fewer if ``ulimit -n`` is low.

    ``root`` is a descriptor that the caller closes. Raises OSError. No path leads out of the root, not even one that is
    not clean.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._most = few_descriptors(_MAX_OPEN)
        self._open: dict[bytes, int] = {}

    def get(self, path: bytes) -> int:
        """Return the descriptor of the directory ``path``. It is valid until the next call.

        Cost: a dict lookup, or an ``openat`` for each component below the nearest open directory.
        """
        if not path:
            return self._root
        fd = self._open.get(path)
        if fd is None:
            fd = self._descend(path)
        return fd

    def drop(self, path: bytes) -> None:
        """Close the descriptor of a directory, which may then be removed or replaced."""
        fd = self._open.pop(path, None)
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        """Close all descriptors except the root's."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def _descend(self, path: bytes) -> int:
        start = len(path)
        while start > 0 and path[:start] not in self._open:
            start = path.rfind(b"/", 0, start)
        fd = self._open[path[:start]] if start > 0 else self._root
        start = max(start, 0)
        while start < len(path):
            begin = start + 1 if start else 0
            end = path.find(b"/", begin)
            end = end if end >= 0 else len(path)
            if path[begin:end] == b"..":  # only if the layer's file has changed since the scan
                raise UnsafePathError("the layer has changed while it was being merged").at(path=path)
            fd = self._keep(path[:end], os.open(path[begin:end], _FLAGS, dir_fd=fd))
            start = end
        return fd

    def _keep(self, path: bytes, fd: int) -> int:
        if len(self._open) >= self._most:
            for old in list(self._open)[: self._most // 2]:
                os.close(self._open.pop(old))
        self._open[path] = fd
        return fd
