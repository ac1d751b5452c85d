"""The merged root filesystem as a directory tree, each path created once.

The tree is built in ``.NAME.partial-XXXX`` beside its destination and renamed at the end. Until then, other users
cannot enter it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable

from streamerge.entry import Entry
from streamerge.errors import SinkError, show
from streamerge.fileio import Check, FileHandle, partial_name
from streamerge.interfaces import Run, Takes, TreeSink
from streamerge.parallel.pool import ENOUGH, MAX_EXTENTS, Pool
from streamerge.signals import point_of_no_return
from streamerge.sinks.base import AbortOnExit
from streamerge.sinks.directory.attributes import Attributes
from streamerge.sinks.directory.ownership import Ownership
from streamerge.sinks.directory.replace import (
    check_destination,
    make_private,
    remove_tree,
    replace_tree,
    sync_filesystem,
)
from streamerge.sinks.directory.tree import Tree, tree_errors

__all__ = ["DirectorySink"]


class DirectorySink(AbortOnExit, TreeSink):
    """Writes entries below ``path``, which appears when the merge is finished.

    ``force`` allows it to replace a directory that is not empty. ``workers`` processes help to create files. They are
    forked, so keep 0 in a program with threads of its own. ``warn`` gets one line for each kind of thing that the
    system refused. Raises SinkError for all errors of the file system.
    """

    takes = Takes.ANY_ORDER | Takes.RESTART | Takes.FILE_RUNS | Takes.EXTENTS | Takes.CHECK

    def __init__(
        self,
        path: str | os.PathLike[str],
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
        check_destination(self._path, force=force)
        self.partial = partial_name(self._path)
        """The tree's path until it is finished."""
        self._file: FileHandle | None = None  # the file that the extents are of
        self._extents: list[int] = []  # start, size, …
        self._to_fetch = 0
        self._begin()

    def set_check(self, check: Check) -> None:
        """Call ``check`` while waiting for worker processes."""
        self._pool.check = check

    def add(self, entry: Entry, body: Iterable[bytes | memoryview]) -> None:
        """Create one entry. It replaces an entry that is already at its path."""
        self._tree.add(entry, body)

    def enter_directory(self, path: bytes) -> None:
        """Create a directory (``b"a/b/"``) if it does not exist yet."""
        self._tree.enter(path)

    def add_directory(self, path: bytes, header: bytes) -> None:
        """Create a directory. Its metadata is set when it is complete."""
        self._tree.add_directory(path, header)

    def write_run(self, run: Run) -> None:
        """Create the files of a run: in a worker, or here if all workers are busy."""
        if run.data is None or (run.extent is not None and self._pool.has_workers):
            assert run.extent is not None
            if run.extent.file is not self._file:
                self._hand_over()
                self._file = run.extent.file
            self._extents += (run.extent.start, run.extent.size)
            self._to_fetch += run.extent.size
            if self._to_fetch >= ENOUGH or len(self._extents) >= 2 * MAX_EXTENTS:
                self._hand_over()
        elif not self._pool.make(run.data):
            self._tree.files.make(memoryview(run.data))

    def restart(self) -> None:
        """Remove the tree and start with an empty one."""
        check = self._pool.check
        self._pool.kill()
        self._tree.close()
        with tree_errors():
            remove_tree(self.partial)
        self._begin()
        self._pool.check = check

    def complete(self) -> None:
        """Complete the tree under its temporary name, and flush it to disk. Nothing can be added after this."""
        self._hand_over()
        for refused in self._pool.finish():
            self._attributes.refused.update(refused)
        self._file = None
        self._tree.complete()
        with tree_errors():
            if self._fsync:
                sync_filesystem(self._root)
        self._tree.close()

    def finish(self) -> None:
        """Complete the tree, and rename it to its destination."""
        self.complete()
        with tree_errors(), point_of_no_return():
            old = replace_tree(self.partial, self._path, force=self._force, fsync=self._fsync)
        if old is not None:
            self._remove_old(old)
        for kind, count in self._attributes.refused.items():
            self._warn(f"{kind}: {count:,} could not be set or created; the system did not allow it")

    def abort(self) -> None:
        """Remove the partial tree."""
        self._pool.kill()
        self._file = None
        self._tree.close()
        with contextlib.suppress(OSError):
            remove_tree(self.partial)

    def _begin(self) -> None:
        self._attributes.refused.clear()
        try:
            self._root = make_private(self.partial)
        except OSError as error:
            raise SinkError(f"cannot create {self._shown}: {error.strerror}") from error
        self._tree = Tree(self._root, self._attributes, xattrs=self._xattrs)
        files, refused = self._tree.files, self._attributes.refused
        self._pool = Pool(self._workers, fetch=files.fetch, make=files.make, refused=lambda: refused)
        self._file, self._extents, self._to_fetch = None, [], 0

    def _hand_over(self) -> None:
        """Give the collected extents of the layer's file to the pool."""
        extents, size = self._extents, self._to_fetch
        if extents:
            assert self._file is not None
            self._extents, self._to_fetch = [], 0
            self._pool.fetch(self._file, extents, size)

    def _remove_old(self, old: str) -> None:
        """Remove the replaced tree. A failure is only a warning, because the output is complete."""
        self.partial = old  # so that abort() removes it if Ctrl-C is pressed now
        try:
            remove_tree(old)
        except OSError as error:
            self._warn(f"the old content of '{self._shown}' is left in '{show(os.fsencode(old))}': {error.strerror}")
