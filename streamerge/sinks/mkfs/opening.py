"""Opens a file system image for output: chooses the tool, and the sink that passes the merged tree to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from streamerge.errors import SinkError, UsageError, show
from streamerge.interfaces import Sink
from streamerge.sinks.directory.ownership import Ownership
from streamerge.sinks.directory.sink import DirectorySink
from streamerge.sinks.formats import FILESYSTEMS
from streamerge.sinks.mkfs.commands import Command, RootDirectory, TreeSummary
from streamerge.sinks.mkfs.image import ImageFile
from streamerge.sinks.mkfs.options import NOTHING_FREE, FilesystemOptions
from streamerge.sinks.mkfs.pipe import PipePlan, TarToTool
from streamerge.sinks.mkfs.registry import choose_tool
from streamerge.sinks.mkfs.tools import MkfsTool, TreeReadingTool
from streamerge.sinks.mkfs.tree import TreePlan, TreeToTool
from streamerge.sinks.treesize import TreeSize

__all__ = ["open_filesystem"]


def open_filesystem(
    path: str,
    filesystem: str,
    options: FilesystemOptions | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Sink:
    """Open an image of ``filesystem`` (squashfs, erofs, ext4) for output; it appears when it is complete.

    The tool reads a tar from a pipe if it can, else a directory. Raises SinkError if no usable tool is installed, or
    if only root could set the owners of files; UsageError for options that do not fit.
    """
    options = options if options is not None else FilesystemOptions()
    _check_options(filesystem, options)
    tool = choose_tool(filesystem, options.mkfs)
    image = ImageFile(path, tool.name, fsync=options.fsync)
    if tool.reads_tars():
        return TarToTool(_pipe_plan(tool, options), image, options.console, warn)
    assert isinstance(tool, TreeReadingTool)
    _check_owners(tool, options)
    return TreeToTool(_tree_plan(tool, options, warn), image, _new_tree(options, warn), options.console, warn)


def _check_options(filesystem: str, options: FilesystemOptions) -> None:
    if filesystem not in FILESYSTEMS:
        shown = show(os.fsencode(filesystem))
        raise UsageError(f"{shown} is not a supported file system; use {', '.join(FILESYSTEMS)}")
    if filesystem != "ext4" and (options.size is not None or options.free != NOTHING_FREE):
        raise UsageError(f"size and free room are for ext4 only; a {filesystem} image is as large as its contents")


def _check_owners(tool: MkfsTool, options: FilesystemOptions) -> None:
    """From a directory, files have the owners that they have there, which only root can set."""
    if os.geteuid() == 0 or not options.same_owner:
        return
    raise SinkError(
        f"{tool.name} {tool.version_text} cannot read tars, and only root can set the owners of files in a directory; "
        f"run the program under fakeroot or install a newer {tool.name}",
        setting="same_owner",
    )


def _pipe_plan(tool: MkfsTool, options: FilesystemOptions) -> PipePlan:
    def command(image: str, root: RootDirectory, size: TreeSize | None) -> Command:
        return tool.tar_command(image, options, TreeSummary(root, size))

    return PipePlan(command, tool.tar_capabilities(options), needs_root=tool.needs_root, needs_size=tool.needs_size)


def _tree_plan(tool: TreeReadingTool, options: FilesystemOptions, warn: Callable[[str], None]) -> TreePlan:
    def commands(image: str, tree: str, root: RootDirectory, size: TreeSize) -> Iterable[Command]:
        return tool.tree_commands(image, tree, options, TreeSummary(root, size), warn)

    return TreePlan(commands, tool.tree_capabilities(options))


def _new_tree(options: FilesystemOptions, warn: Callable[[str], None]) -> Callable[[str], DirectorySink]:
    ownership = Ownership(same_owner=options.same_owner)
    return lambda path: DirectorySink(path, ownership=ownership, fsync=False, warn=warn)
