"""The merged root filesystem as a directory tree, each path created once.

The tree grows in ``.NAME.partial-XXXX`` beside its destination, which nobody else may enter, and is renamed
at the end. Entries come in any order: a directory that is not listed yet is made for its first child, and
all directories get their metadata at the end, deepest first, when nothing more goes into them.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from typing import ClassVar, TypeVar

from streamerge.entry import Entry, Kind
from streamerge.errors import SinkError
from streamerge.metadata import Metadata, metadata
from streamerge.sinks.attributes import Attributes, Ownership, Plan
from streamerge.sinks.dirfds import DirectoryFds
from streamerge.sinks.output import partial_name
from streamerge.sinks.replace import remove_tree, replace_tree, sync_filesystem
from streamerge.sparse import is_sparse, sparse_file
from streamerge.tarheader import parse_number

__all__ = ["DirectorySink"]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
_PATH_ONLY = os.O_RDONLY | getattr(os, "O_PATH", 0) | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC
_DEVICES = {Kind.CHAR: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK}
_PRIVATE = 0o700

_T = TypeVar("_T")
Body = Iterable[bytes | memoryview]


class DirectorySink:
    """Writes entries below ``path``, which appears, complete, when the merge is finished.

    ``force`` lets it replace a directory that is not empty. ``warn`` gets a line for each kind of thing that
    the system refused. Raises SinkError for everything that the file system says.
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
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._path = os.path.realpath(path)
        self._force = force
        self._fsync = fsync
        self._warn = warn
        self._attributes = Attributes(ownership if ownership is not None else Ownership(), xattrs=xattrs)
        self._plans: dict[bytes, Plan] = {}
        self._check_destination()
        self._partial = partial_name(self._path)
        self._begin()

    def add(self, entry: Entry, body: Body) -> None:
        """Create one entry; a path that is there already is replaced."""
        try:
            self._make[entry.kind](self, entry, body)
        except OSError as error:
            raise _failed(error).at(path=entry.path) from error
        except OverflowError as error:
            raise SinkError("its time is more than this system can hold").at(path=entry.path) from error

    def put(self, path: bytes, cut: int, header: bytes, body: memoryview) -> None:
        """Create one plain file: what :meth:`add` does, with the least work that is possible.

        Mode and owner of most files are among a few, so what they need is worked out once for each.
        """
        key = header[100:124]
        plan = self._plans.get(key) or self._new_plan(key)
        try:
            directory = path[: cut - 1] if cut else b""
            if directory not in self._directories:
                self._make_parents(directory)
            fd = os.open(path[cut:], _CREATE, plan.create, dir_fd=self._fds.get(directory))
            try:
                if body:
                    _write(fd, body)
                if plan.owner is not None:
                    self._attributes.own(fd, plan.owner)
                if plan.mode is not None:
                    os.fchmod(fd, plan.mode)
                mtime = parse_number(header[136:148]) * 1_000_000_000
                os.utime(fd, ns=(mtime, mtime))
            finally:
                os.close(fd)
        except OSError as error:
            raise _failed(error).at(path=path) from error

    def restart(self) -> None:
        """Remove what is there and begin again."""
        self._close()
        remove_tree(self._partial)
        self._begin()

    def finish(self) -> None:
        """Give the directories their metadata, flush to disk, and take the destination's place."""
        try:
            for path in sorted(self._directories, reverse=True):
                self._finish_directory(path)
            if self._fsync:
                sync_filesystem(self._root)
            self._close()
            replace_tree(self._partial, self._path, force=self._force, fsync=self._fsync)
        except OSError as error:
            raise _failed(error) from error
        for kind, count in self._attributes.refused.items():
            self._warn(f"{count:,} {kind} could not be set or made, since the system did not allow it")

    def abort(self) -> None:
        """Remove the partial tree."""
        self._close()
        with contextlib.suppress(OSError):
            remove_tree(self._partial)

    # -- the tree's own root -----------------------------------------------------------------------

    def _check_destination(self) -> None:
        """Refuse what cannot be replaced, before any work is done."""
        try:
            if not os.path.lexists(self._path):
                return
            if not os.path.isdir(self._path):
                raise SinkError(f"'{self._path}' is there and is no directory")
            if os.path.ismount(self._path):
                raise SinkError(f"'{self._path}' is a mount point, which cannot be replaced; name a directory in it")
            if not self._force and os.listdir(self._path):
                raise SinkError(f"the directory '{self._path}' is not empty; use --force to replace it")
        except OSError as error:
            raise _failed(error) from error

    def _begin(self) -> None:
        self._directories: dict[bytes, Metadata | None] = {b"": None}
        try:
            os.mkdir(self._partial, _PRIVATE)
            self._root = os.open(self._partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            os.fchmod(self._root, _PRIVATE)  # a setgid parent hands its group bit down
            _drop_inherited_acls(self._root)
        except OSError as error:
            raise SinkError(f"cannot create {self._path}: {error.strerror}") from error
        self._fds = DirectoryFds(self._root)

    def _close(self) -> None:
        self._fds.close()
        root, self._root = self._root, -1
        if root >= 0:
            os.close(root)

    # -- one entry ---------------------------------------------------------------------------------

    def _new_plan(self, key: bytes) -> Plan:
        """Work out what a header's mode and owner fields ask for; the last 4096 answers are kept."""
        mode, uid, gid = parse_number(key[:8]) & 0o7777, parse_number(key[8:16]), parse_number(key[16:])
        if len(self._plans) >= 4096:
            self._plans.clear()
        plan = self._plans[key] = self._attributes.plan(mode, uid, gid)
        return plan

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

    def _mkdir(self, path: bytes) -> None:
        parent, name = self._parent(path)
        os.mkdir(name, _PRIVATE, dir_fd=parent)
        self._directories[path] = None

    def _add_directory(self, entry: Entry, _body: Body) -> None:
        if entry.path not in self._directories:
            self._mkdir(entry.path)
        self._directories[entry.path] = metadata(entry)

    def _add_file(self, entry: Entry, body: Body) -> None:
        parent, name = self._parent(entry.path)
        data = metadata(entry)
        plan = self._attributes.plan(data.mode, data.uid, data.gid)
        fd = self._create(name, parent, lambda: os.open(name, _CREATE, plan.create, dir_fd=parent))
        try:
            if is_sparse(entry):
                _write_sparse(fd, entry, body)
            else:
                for piece in body:
                    _write(fd, piece)
            self._attributes.apply(fd, data, plan)
        finally:
            os.close(fd)

    def _add_symlink(self, entry: Entry, _body: Body) -> None:
        parent, name = self._parent(entry.path)
        self._create(name, parent, lambda: os.symlink(entry.target, name, dir_fd=parent))
        self._attributes.apply_link(name, parent, metadata(entry))

    def _add_hardlink(self, entry: Entry, _body: Body) -> None:
        parent, name = self._parent(entry.path)
        parent = os.dup(parent)  # the source's directory may push it out of the cache
        try:
            source, old_name = self._parent(entry.target)
            self._create(
                name,
                parent,
                lambda: os.link(old_name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False),
            )
        finally:
            os.close(parent)

    def _add_special(self, entry: Entry, _body: Body) -> None:
        parent, name = self._parent(entry.path)
        data = metadata(entry)
        mode = _DEVICES.get(entry.kind, stat.S_IFIFO) | data.mode & 0o777
        device = os.makedev(*data.device)
        try:
            self._create(name, parent, lambda: os.mknod(name, mode, device, dir_fd=parent))
        except PermissionError as error:
            self._attributes.refuse(f"{entry.kind.value}s", error)
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
        if data is None:  # every merge lists every directory; a direct user of the sink may not
            data = Metadata(0o755, 0, 0, 0)
        self._attributes.apply(self._fds.get(path), data)
        self._fds.drop(path)


def _write(fd: int, piece: bytes | memoryview) -> None:
    written = os.write(fd, piece)
    while written < len(piece):
        written += os.write(fd, memoryview(piece)[written:])


def _write_sparse(fd: int, entry: Entry, body: Body) -> None:
    """Write the extents where they belong and leave the holes."""
    file = sparse_file(entry, body)
    os.ftruncate(fd, file.size)
    for offset, piece in file.pieces():
        os.lseek(fd, offset, os.SEEK_SET)
        _write(fd, piece)


def _drop_inherited_acls(fd: int) -> None:
    """A default ACL of the directory above would go down into every file."""
    for name in ("system.posix_acl_default", "system.posix_acl_access"):
        with contextlib.suppress(OSError):
            os.removexattr(fd, name)


def _failed(error: OSError) -> SinkError:
    return SinkError(f"cannot write it: {error.strerror or error}")
