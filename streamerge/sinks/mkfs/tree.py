"""A sink that writes a directory and lets a tool make an image of that: for tools that read no tars.

The directory grows beside the image, under a temporary name, and is removed afterwards. It costs its size on disk
and a few system calls for each file, twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from streamerge.engine.scan import SYMLINK, files_of
from streamerge.entry import Entry
from streamerge.errors import SinkError
from streamerge.signals import signals_wait
from streamerge.sinks.directory.replace import remove_tree
from streamerge.sinks.directory.sink import DirectorySink
from streamerge.sinks.losses import Capabilities, LossReport
from streamerge.sinks.mkfs.commands import Command, RootDirectory
from streamerge.sinks.mkfs.image import ImageFile
from streamerge.sinks.mkfs.options import Console
from streamerge.sinks.mkfs.plaintar import plain_entry
from streamerge.sinks.mkfs.process import Process
from streamerge.sinks.output import partial_name
from streamerge.sinks.treesize import TreeSize
from streamerge.tar.header import parse_entry
from streamerge.tar.metadata import metadata

__all__ = ["TreePlan", "TreeToTool"]

Body = Iterable[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class TreePlan:
    """How a tool is run: ``commands`` gives its command lines for image, tree, root directory and size, run in turn."""

    commands: Callable[[str, str, RootDirectory, TreeSize], Iterable[Command]]
    capabilities: Capabilities


class TreeToTool:
    """Writes all entries into a directory, from which a tool makes ``image``. Raises SinkError if that fails.

    ``new_tree`` opens the directory to write. Memory: a number for each directory.
    """

    any_order = True
    restartable = True

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
        self._begin()

    def enter(self, directory: bytes) -> None:
        """Make sure that a directory is there."""
        self._tree.enter(directory)

    def write_files(self, run: bytes | memoryview, _offset: int = -1) -> None:
        """Create what a run holds; all at once, where nothing needs a look."""
        files = list(files_of(memoryview(run)))
        odd = {
            path for path, cut, header, _ in files if header[156] == SYMLINK or self._losses.wants(path, cut, header)
        }
        if not odd:
            self._tree.write_files(run)
        for path, cut, header, body in files:
            if path in odd:
                self.add(parse_entry(header), (body,))
                continue
            self._tree_size.put(path, cut, header, body)
            if odd:
                self._tree.write_files(header + body)

    def add_directory(self, _path: bytes, header: bytes) -> None:
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
            self._process.finish()
        self._remove_tree()
        self._image.commit()
        self._losses.tell(self._warn)

    def abort(self) -> None:
        """End the tool and remove all that there is."""
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
