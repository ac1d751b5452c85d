"""A sink that writes a directory from which a tool makes an image: for tools that do not read tars.

The directory grows beside the image, under a temporary name, and is removed afterwards. It costs its size on disk
and a few system calls for each file, twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from streamerge.entry import Entry
from streamerge.errors import SinkError
from streamerge.fileio import Check, no_check, partial_name
from streamerge.interfaces import Run, Takes, TreeSink
from streamerge.signals import signals_wait
from streamerge.sinks.base import AbortOnExit
from streamerge.sinks.directory.replace import remove_tree
from streamerge.sinks.directory.sink import DirectorySink
from streamerge.sinks.losses import Capabilities, LossReport
from streamerge.sinks.mkfs.commands import Command, RootDirectory
from streamerge.sinks.mkfs.image import ImageFile
from streamerge.sinks.mkfs.options import Console
from streamerge.sinks.mkfs.plaintar import plain_entry
from streamerge.sinks.mkfs.process import Process
from streamerge.sinks.treesize import TreeSize
from streamerge.tar.fields import TYPE_AT
from streamerge.tar.header import parse_entry
from streamerge.tar.metadata import metadata
from streamerge.tar.runs import SYMLINK, split_run

__all__ = ["TreePlan", "TreeToTool"]

Body = Iterable[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class TreePlan:
    """How a tool is run: ``commands`` gives its command lines for image, tree, root directory and size, run in turn."""

    commands: Callable[[str, str, RootDirectory, TreeSize], Iterable[Command]]
    capabilities: Capabilities


class TreeToTool(AbortOnExit, TreeSink):
    """Writes all entries into a directory, from which a tool makes ``image``. Raises SinkError if that fails.

    ``new_tree`` opens the directory to write. Memory: a number for each directory.
    """

    takes = Takes.FILE_RUNS | Takes.ANY_ORDER | Takes.RESTART | Takes.CHECK

    def __init__(
        self,
        plan: TreePlan,
        image: ImageFile,
        new_tree: Callable[[str], DirectorySink],
        console: Console,
        warn: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._image = image
        self._console = console
        self._warn = warn
        self._tree = new_tree(partial_name(image.path))
        self._tree_size = TreeSize(any_order=True, splits_symlinks=not plan.capabilities.linked_symlinks)
        self._process: Process | None = None
        self._check: Check = no_check
        self._begin()

    def set_check(self, check: Check) -> None:
        """Call ``check`` while the tool is waited for."""
        self._check = check

    def enter_directory(self, path: bytes) -> None:
        """Make sure that a directory is there."""
        self._tree.enter_directory(path)

    def write_run(self, run: Run) -> None:
        """Create what a run holds: all at once, if nothing needs a check."""
        assert run.data is not None
        files = list(split_run(memoryview(run.data)))
        odd = {
            path
            for path, cut, header, _ in files
            if header[TYPE_AT] == SYMLINK or self._losses.must_check(path, cut, header)
        }
        if not odd:
            self._tree.write_run(run)
        for path, cut, header, body in files:
            if path in odd:
                self.add(parse_entry(header), (body,))
                continue
            self._tree_size.add_file(path, cut, header, body)
            if odd:
                self._tree.write_run(Run(header + body))

    def add_directory(self, path: bytes, header: bytes) -> None:
        """Create a directory."""
        self.add(parse_entry(header), ())

    def add(self, entry: Entry, body: Body) -> None:
        """Create one entry."""
        self._losses.note(entry)
        self._tree_size.add(entry, body)
        if not entry.path:
            data = metadata(entry, with_xattrs=False)
            self._root = RootDirectory(data.mode, data.uid, data.gid, data.mtime // 1_000_000_000)
        self._tree.add(plain_entry(entry, self._plan.capabilities), body)

    def restart(self) -> None:
        """Remove what is there and begin again."""
        self._tree.restart()
        self._tree_size.restart()
        self._begin()

    def finish(self) -> None:
        """Run the tool, make the image appear, and remove the directory."""
        self._tree.complete()
        for command in self._plan.commands(self._image.partial, self._tree.partial, self._root, self._tree_size):
            self._image.reserve(command.size)
            with signals_wait():
                self._process = Process(command, self._console, feeds=False)
            self._process.finish(self._check)
        self._remove_tree()
        self._image.commit()
        self._losses.report(self._warn)

    def abort(self) -> None:
        """Kill the tool, and remove the directory and the image."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
        self._tree.abort()
        self._image.discard()

    def _begin(self) -> None:
        self._losses = LossReport(self._plan.capabilities)
        self._root = RootDirectory()

    def _remove_tree(self) -> None:
        try:
            remove_tree(self._tree.partial)
        except OSError as error:
            raise SinkError(f"cannot remove {os.path.basename(self._tree.partial)}: {error.strerror}") from error
