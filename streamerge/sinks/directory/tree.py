"""Create the entries of a tree below a directory descriptor.

Entries come in any order: a missing directory is created for its first child. Hard links are created after all files.
Directories get the rest of their metadata at the end, deepest first, when they are complete.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, TypeVar

from streamerge.entry import Entry, Kind
from streamerge.errors import SinkError
from streamerge.fileio import write_all
from streamerge.sinks.directory.attributes import Attributes
from streamerge.sinks.directory.fds import DirectoryFds
from streamerge.sinks.directory.plainfiles import CREATE, PlainFiles, failed
from streamerge.sinks.directory.replace import PRIVATE
from streamerge.tar.metadata import Metadata, metadata
from streamerge.tar.sparse import is_sparse, sparse_file

__all__ = ["Tree", "tree_errors"]

_PATH_ONLY = os.O_RDONLY | getattr(os, "O_PATH", 0) | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC
_DEVICES = {Kind.CHAR: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK}

_T = TypeVar("_T")
Body = Iterable[bytes | memoryview]


class Tree:
    """Creates entries below ``root``, a descriptor that :meth:`close` closes.

    ``attributes`` counts what the system refuses. Memory: the metadata of each directory and the paths of each hard
    link.
    """

    def __init__(self, root: int, attributes: Attributes, *, xattrs: bool) -> None:
        self._root = root
        self._attributes = attributes
        self._xattrs = xattrs
        self._fds = DirectoryFds(root)
        self.files = PlainFiles(attributes, self._fds)
        """Creates the files of runs."""
        self._directories: dict[bytes, Metadata | bytes | None] = {b"": None}
        self._private: set[bytes] = set()  # directories that do not have their own mode yet
        self._refused_paths: set[bytes] = set()
        self._links: dict[bytes, bytes] = {}  # targets of hard links, by path
        self._closed = False

    def add(self, entry: Entry, body: Body) -> None:
        """Create one entry. It replaces an entry that is already at its path. Raises SinkError."""
        self._links.pop(entry.path, None)
        with tree_errors(entry.path):
            self._make[entry.kind](self, entry, body)

    def enter(self, directory: bytes) -> None:
        """Create a directory (``b"a/b/"``) if it does not exist yet."""
        if directory[:-1] not in self._directories:
            with tree_errors(directory):
                self._make_parents(directory[:-1])

    def add_directory(self, path: bytes, header: bytes) -> None:
        """Create a directory. Its header is kept until the directory is complete."""
        if path in self._directories:
            self._private.add(path)  # it was created with another mode
        else:
            with tree_errors(path):
                self._mkdir(path, self.files.directory_mode(header))
        self._directories[path] = header

    def complete(self) -> None:
        """Create the hard links and set the metadata of the directories. Nothing can be added after this."""
        for path, target in self._links.items():
            with tree_errors(path):
                self._link(path, target)
        for path in sorted(self._directories, reverse=True):
            with tree_errors(path):
                self._complete_directory(path)

    def close(self) -> None:
        """Close all descriptors. May be called twice."""
        self._fds.close()
        if not self._closed:
            self._closed = True
            os.close(self._root)

    # -- directories -------------------------------------------------------------------------------

    def _parent(self, path: bytes) -> tuple[int, bytes]:
        """Return the descriptor of the parent directory, created if it is missing, and the base name."""
        parent, _, name = path.rpartition(b"/")
        if parent not in self._directories:
            self._make_parents(parent)
        return self._fds.get(parent), name

    def _make_parents(self, path: bytes) -> None:
        cuts = [at for at in range(len(path)) if path[at : at + 1] == b"/"]
        for ancestor in (*(path[:cut] for cut in cuts), path):
            if ancestor not in self._directories:
                self._mkdir(ancestor)

    def _mkdir(self, path: bytes, mode: int = PRIVATE) -> None:
        parent, name = self._parent(path)
        os.mkdir(name, mode, dir_fd=parent)
        self._directories[path] = None
        if mode == PRIVATE:
            self._private.add(path)

    def _complete_directory(self, path: bytes) -> None:
        data = self._directories[path]
        if not isinstance(data, bytes):
            # a merge lists every directory, but other users of the sink may not
            self._attributes.apply(self._fds.get(path), data if data is not None else Metadata(0o755, 0, 0, 0))
        elif path in self._private:
            self.files.complete_directory(self._fds.get(path), data)
        else:
            parent, _, name = path.rpartition(b"/")
            self.files.complete_named(name, self._fds.get(parent), data)
        self._fds.drop(path)

    # -- entries -----------------------------------------------------------------------------------

    def _add_directory(self, entry: Entry, _body: Body) -> None:
        if entry.path not in self._directories:
            self._mkdir(entry.path)
        self._directories[entry.path] = self._metadata(entry)

    def _metadata(self, entry: Entry) -> Metadata:
        return metadata(entry, with_xattrs=self._xattrs)

    def _add_file(self, entry: Entry, body: Body) -> None:
        parent, name = self._parent(entry.path)
        data = self._metadata(entry)
        plan = self._attributes.plan(data.mode, data.uid, data.gid, xattrs=bool(data.xattrs))
        fd = self._create(name, parent, lambda: os.open(name, CREATE, plan.create, dir_fd=parent))
        try:
            if is_sparse(entry):
                _write_sparse(fd, entry, body)
            else:
                for piece in body:
                    write_all(fd, piece)
            self._attributes.apply(fd, data, plan)
        finally:
            os.close(fd)

    def _add_symlink(self, entry: Entry, _body: Body) -> None:
        parent, name = self._parent(entry.path)
        self._create(name, parent, lambda: os.symlink(entry.target, name, dir_fd=parent))
        self._attributes.apply_link(name, parent, self._metadata(entry))

    def _add_hardlink(self, entry: Entry, _body: Body) -> None:
        if entry.target in self._refused_paths:
            self._attributes.refused["hard links to devices"] += 1
            self._refused_paths.add(entry.path)
            return
        self._links[entry.path] = entry.target

    def _link(self, path: bytes, target: bytes) -> None:
        parent, name = self._parent(path)
        parent = os.dup(parent)  # opening the target's directory may close it
        try:
            source, old_name = self._parent(target)
            self._create(
                name,
                parent,
                lambda: os.link(old_name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False),
            )
        finally:
            os.close(parent)

    def _add_special(self, entry: Entry, _body: Body) -> None:
        parent, name = self._parent(entry.path)
        data = self._metadata(entry)
        mode = _DEVICES.get(entry.kind, stat.S_IFIFO) | data.mode & 0o777
        device = os.makedev(*data.device)
        try:
            self._create(name, parent, lambda: os.mknod(name, mode, device, dir_fd=parent))
        except PermissionError as error:
            self._attributes.refuse(f"{entry.kind.value}s", error)
            self._refused_paths.add(entry.path)
            return
        fd = os.open(name, _PATH_ONLY, dir_fd=parent)
        try:
            self._attributes.apply(b"/proc/self/fd/%d" % fd, data)
        finally:
            os.close(fd)

    _make: ClassVar[dict[Kind, Callable[[Tree, Entry, Body], None]]] = {
        Kind.FILE: _add_file,
        Kind.DIRECTORY: _add_directory,
        Kind.SYMLINK: _add_symlink,
        Kind.HARDLINK: _add_hardlink,
        Kind.CHAR: _add_special,
        Kind.BLOCK: _add_special,
        Kind.FIFO: _add_special,
    }

    def _create(self, name: bytes, parent: int, make: Callable[[], _T]) -> _T:
        """Create a file. It replaces a file that was already at its path."""
        try:
            return make()
        except FileExistsError:
            os.unlink(name, dir_fd=parent)
            return make()


def _write_sparse(fd: int, entry: Entry, body: Body) -> None:
    """Write the data of a sparse file to its positions, and leave the holes."""
    file = sparse_file(entry, body)
    os.ftruncate(fd, file.size)
    for offset, piece in file.pieces():
        os.lseek(fd, offset, os.SEEK_SET)
        write_all(fd, piece)


@contextlib.contextmanager
def tree_errors(path: bytes | None = None) -> Iterator[None]:
    """Turn errors of the file system into a SinkError with the entry's path."""
    try:
        yield
    except OSError as error:
        raise failed(error).at(path=path) from error
    except OverflowError as error:
        raise SinkError("its time is out of range for this system").at(path=path) from error
    except SinkError as error:
        error.at(path=path)
        raise
