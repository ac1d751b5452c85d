"""The merged root filesystem as a directory tree, each path created once.

The tree grows in ``.NAME.partial-XXXX`` beside its destination, which nobody else may enter, and is renamed
at the end. Entries come in any order: a directory that is not listed yet is made for its first child, and
all directories get their metadata at the end, deepest first, when nothing more goes into them.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, TypeVar

from streamerge.entry import Entry, Kind
from streamerge.errors import SinkError, show
from streamerge.interfaces import InFile
from streamerge.parallel.pool import ENOUGH, MOST_PLACES, Pool
from streamerge.signals import point_of_no_return
from streamerge.sinks.directory.attributes import Attributes
from streamerge.sinks.directory.fds import DirectoryFds
from streamerge.sinks.directory.ownership import Ownership
from streamerge.sinks.directory.plainfiles import CREATE, PlainFiles, failed
from streamerge.sinks.directory.replace import (
    PRIVATE,
    make_private,
    mounts_in,
    remove_tree,
    replace_tree,
    sync_filesystem,
)
from streamerge.sinks.output import partial_name, write_all
from streamerge.tar.metadata import Metadata, metadata
from streamerge.tar.sparse import is_sparse, sparse_file

__all__ = ["DirectorySink"]

_PATH_ONLY = os.O_RDONLY | getattr(os, "O_PATH", 0) | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC
_DEVICES = {Kind.CHAR: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK}

_T = TypeVar("_T")
Body = Iterable[bytes | memoryview]


class DirectorySink:
    """Writes entries below ``path``, which appears, complete, when the merge is finished.

    ``force`` lets it replace a directory that is not empty. ``workers`` processes make small files beside this one;
    they are forked, so a program with threads of its own had better have none. ``warn`` gets a line for each kind of
    thing that the system refused. Raises SinkError for everything that the file system says.
    """

    any_order = True
    restartable = True

    def __init__(
        self,
        path: str,
        *,
        ownership: Ownership | None = None,
        xattrs: bool = True,
        force: bool = False,
        fsync: bool = True,
        workers: int = 0,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._path = os.path.realpath(path)
        self._shown = show(os.fsencode(self._path))
        self._force = force
        self._fsync = fsync
        self._warn = warn
        self._xattrs = xattrs
        self._workers = workers
        self._attributes = Attributes(ownership if ownership is not None else Ownership())
        self._check_destination()
        self.partial = partial_name(self._path)
        """Where the tree is until it is finished."""
        self._begin()

    def add(self, entry: Entry, body: Body) -> None:
        """Create one entry; a path that is there already is replaced."""
        self._links.pop(entry.path, None)
        with _failures(entry.path):
            self._make[entry.kind](self, entry, body)

    def enter(self, directory: bytes) -> None:
        """Make sure that a directory (``b"a/b/"``) is there."""
        if directory[:-1] not in self._directories:
            with _failures(directory):
                self._make_parents(directory[:-1])

    def add_directory(self, path: bytes, header: bytes) -> None:
        """Create a directory; what its header says is kept until all is in it."""
        if path in self._directories:
            self._private.add(path)  # its mode is not what this header says
        else:
            with _failures(path):
                self._mkdir(path, self._files.directory_mode(header))
        self._directories[path] = header

    def write_files(self, run: bytes | memoryview, offset: int = -1) -> None:
        """Create what a run holds: by the workers, or here where they have enough to do."""
        if self._pool.helps and offset >= 0 and self._start >= 0:
            self.fetch(offset, len(run))
        elif not self._pool.takes(run):
            self._files.make(memoryview(run))

    def read_from(self, file: InFile | None) -> None:
        """Take note of where the next layer lies."""
        self._hand_over()
        fd, self._start = file.place if file is not None else (-1, -1)
        self._pool.read_from(fd)

    def fetch(self, offset: int, size: int) -> None:
        """Create what a run holds that lies in the layer's file."""
        self._places += (self._start + offset, size)
        self._to_fetch += size
        if self._to_fetch >= ENOUGH or len(self._places) >= 2 * MOST_PLACES:
            self._hand_over()

    def restart(self) -> None:
        """Remove what is there and begin again."""
        self._pool.kill()
        self._close()
        with _failures():
            remove_tree(self.partial)
        self._begin()

    def complete(self) -> None:
        """Make the links, give the directories their metadata, and flush to disk; nothing may be added any more."""
        for refused in self._pool.finish():
            self._attributes.refused.update(refused)
        for path, target in self._links.items():
            with _failures(path):
                self._link(path, target)
        for path in sorted(self._directories, reverse=True):
            with _failures(path):
                self._finish_directory(path)
        with _failures():
            if self._fsync:
                sync_filesystem(self._root)
        self._close()

    def finish(self) -> None:
        """Complete the tree, and let it take the destination's place."""
        self.complete()
        with _failures(), point_of_no_return():
            old = replace_tree(self.partial, self._path, force=self._force, fsync=self._fsync)
        if old is not None:
            self._remove_old(old)
        for kind, count in self._attributes.refused.items():
            self._warn(f"{kind}: {count:,} could not be set or made, since the system did not allow it")

    def abort(self) -> None:
        """Remove the partial tree."""
        self._pool.kill()
        self._close()
        with contextlib.suppress(OSError):
            remove_tree(self.partial)

    def _remove_old(self, old: str) -> None:
        """Remove the tree that was replaced. The output is complete by now, so that a failure is no error."""
        self.partial = old  # abort() removes it, should a caller's Ctrl-C come now
        try:
            remove_tree(old)
        except OSError as error:
            self._warn(f"what was in '{self._shown}' before is left in '{show(os.fsencode(old))}': {error.strerror}")

    # -- the tree's own root -----------------------------------------------------------------------

    def _check_destination(self) -> None:
        """Refuse what cannot be replaced, before any work is done."""
        try:
            if not os.path.lexists(self._path):
                return
            if not os.path.isdir(self._path):
                raise SinkError(f"'{self._shown}' is there and is no directory")
            mounted = mounts_in(self._path)
            if os.path.ismount(self._path) or self._path in mounted:
                raise SinkError(f"'{self._shown}' is a mount point, which cannot be replaced; name a directory in it")
            if mounted:
                raise SinkError(f"'{show(os.fsencode(mounted[0]))}' is mounted in '{self._shown}'; unmount it first")
            if os.path.commonpath([self._path, _working_directory()]) == self._path:
                raise SinkError(f"'{self._shown}' is in use as the working directory; run this from outside it")
            if not self._force and os.listdir(self._path):
                raise SinkError(f"the directory '{self._shown}' is not empty; use --force to replace it")
        except OSError as error:
            raise failed(error).at(path=os.fsencode(self._path)) from error

    def _begin(self) -> None:
        self._directories: dict[bytes, Metadata | bytes | None] = {b"": None}
        self._private: set[bytes] = set()  # those that do not have their own mode yet
        self._refused_paths: set[bytes] = set()
        self._attributes.refused.clear()
        try:
            self._root = make_private(self.partial)
        except OSError as error:
            raise SinkError(f"cannot create {self._shown}: {error.strerror}") from error
        self._fds = DirectoryFds(self._root)
        files = self._files = PlainFiles(self._attributes, self._fds)
        refused = self._attributes.refused
        self._pool = Pool(self._workers, fetch=files.fetch, make=files.make, report=lambda: refused)
        self._links: dict[bytes, bytes] = {}  # targets of hard links, by path: they are made when all files are there
        self._start = -1  # where the layer at hand begins in its file, if it lies in one
        self._places: list[int] = []
        self._to_fetch = 0

    def _close(self) -> None:
        self._fds.close()
        root, self._root = self._root, -1
        if root >= 0:
            os.close(root)

    # -- many files --------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        """Have somebody create what has been gathered from the layer's file."""
        places, size = self._places, self._to_fetch
        if places:
            self._places, self._to_fetch = [], 0
            self._pool.fetch(places, size)

    # -- one entry ---------------------------------------------------------------------------------

    def _parent(self, path: bytes) -> tuple[int, bytes]:
        """Descriptor of the directory that ``path`` goes into, made where it is missing, and the base name."""
        parent, _, name = path.rpartition(b"/")
        if parent not in self._directories:
            self._make_parents(parent)
        return self._fds.get(parent), name

    def _make_parents(self, path: bytes) -> None:
        start = 0
        while start >= 0:
            start = path.find(b"/", start + 1)
            ancestor = path[:start] if start >= 0 else path
            if ancestor not in self._directories:
                self._mkdir(ancestor)

    def _mkdir(self, path: bytes, mode: int = PRIVATE) -> None:
        parent, name = self._parent(path)
        os.mkdir(name, mode, dir_fd=parent)
        self._directories[path] = None
        if mode == PRIVATE:
            self._private.add(path)

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
        parent = os.dup(parent)  # the source's directory may push it out of the cache
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

    _make: ClassVar[dict[Kind, Callable[[DirectorySink, Entry, Body], None]]] = {
        Kind.FILE: _add_file,
        Kind.DIRECTORY: _add_directory,
        Kind.SYMLINK: _add_symlink,
        Kind.HARDLINK: _add_hardlink,
        Kind.CHAR: _add_special,
        Kind.BLOCK: _add_special,
        Kind.FIFO: _add_special,
    }

    def _create(self, name: bytes, parent: int, make: Callable[[], _T]) -> _T:
        """Make a file; what a layer has listed at the same path before gives way."""
        try:
            return make()
        except FileExistsError:
            os.unlink(name, dir_fd=parent)
            return make()

    def _finish_directory(self, path: bytes) -> None:
        data = self._directories[path]
        if isinstance(data, bytes):
            if path in self._private:
                self._files.complete_directory(self._fds.get(path), data)
            else:
                parent, _, name = path.rpartition(b"/")
                self._files.complete_named(name, self._fds.get(parent), data)
            self._fds.drop(path)
            return
        if data is None:  # every merge lists every directory; a direct user of the sink may not
            data = Metadata(0o755, 0, 0, 0)
        self._attributes.apply(self._fds.get(path), data)
        self._fds.drop(path)


def _write_sparse(fd: int, entry: Entry, body: Body) -> None:
    """Write the extents where they belong and leave the holes."""
    file = sparse_file(entry, body)
    os.ftruncate(fd, file.size)
    for offset, piece in file.pieces():
        os.lseek(fd, offset, os.SEEK_SET)
        write_all(fd, piece)


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it has been removed
        return os.sep


@contextlib.contextmanager
def _failures(path: bytes | None = None) -> Iterator[None]:
    """Say in our words, and with the entry's path, what the file system says."""
    try:
        yield
    except OSError as error:
        raise failed(error).at(path=path) from error
    except OverflowError as error:
        raise SinkError("its time is more than this system can hold").at(path=path) from error
    except SinkError as error:
        raise error.at(path=path) from error.__cause__
