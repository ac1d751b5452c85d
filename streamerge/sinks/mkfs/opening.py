"""Which tool makes a file system, and in which way: by a pipe where it can, else from a directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace

from streamerge.errors import SinkError, UsageError
from streamerge.interfaces import Sink
from streamerge.sinks import losses
from streamerge.sinks.directory.ownership import Ownership
from streamerge.sinks.directory.sink import DirectorySink
from streamerge.sinks.losses import Capabilities
from streamerge.sinks.mkfs.commands import (
    Command,
    RootDirectory,
    Settings,
    debugfs_command,
    ext4_command,
    from_tar,
    from_tree,
)
from streamerge.sinks.mkfs.ext4_size import Ext4Size, ext4_size
from streamerge.sinks.mkfs.image import Image
from streamerge.sinks.mkfs.options import FILESYSTEMS, NOTHING_FREE, FilesystemOptions
from streamerge.sinks.mkfs.pipe import PipePlan, TarToTool
from streamerge.sinks.mkfs.tools import Tool, choose_tool, find_program, reads_tars
from streamerge.sinks.mkfs.tree import Steps, TreeToTool
from streamerge.sinks.treesize import TreeSize

__all__ = ["open_filesystem"]


def open_filesystem(
    path: str,
    filesystem: str,
    options: FilesystemOptions | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Sink:
    """Open an image of ``filesystem`` (squashfs, erofs, ext4) for output; it appears when it is complete.

    Raises SinkError where there is no tool that could make it, or none that could give files their owners;
    UsageError for options that do not fit.
    """
    options = options if options is not None else FilesystemOptions()
    if filesystem not in FILESYSTEMS:
        raise UsageError(f"{filesystem} is none of {', '.join(FILESYSTEMS)}")
    if filesystem != "ext4" and (options.size is not None or options.free != NOTHING_FREE):
        raise UsageError(f"a size is for ext4; {filesystem} is as large as what is in it")
    tool = choose_tool(filesystem, options.mkfs)
    image = Image(path, fsync=options.fsync)
    if reads_tars(tool):
        return TarToTool(_plan(tool, options), image, options.console, warn)
    _check_owners(tool, options)
    return TreeToTool(_steps(tool, options, warn), image, _new_tree(options, warn), options.console, warn)


# -- by a pipe -------------------------------------------------------------------------------------


def _plan(tool: Tool, options: FilesystemOptions) -> PipePlan:
    settings = _settings(options)
    if tool.kind == "mke2fs":

        def ext4(image: str, _root: RootDirectory, tree_size: TreeSize | None) -> Command:
            assert tree_size is not None
            size = _ext4_size(tree_size, options)
            return ext4_command(tool, image, "-", settings, size.size, size.inodes)

        return PipePlan(ext4, losses.EXT4_TAR, counts=True)

    def other(image: str, root: RootDirectory, _tree_size: TreeSize | None) -> Command:
        return from_tar(tool, image, settings, root)

    if tool.is_squashfs_tools:
        return PipePlan(other, losses.SQUASHFS_TOOLS if tool.keeps_root else losses.OLD_SQUASHFS_TOOLS, tells_root=True)
    return PipePlan(
        other, losses.SQUASHFS if tool.kind == "tar2sqfs" else _erofs_keeps(tool, losses.EROFS_TAR, options)
    )


# -- from a directory ------------------------------------------------------------------------------


def _steps(tool: Tool, options: FilesystemOptions, warn: Callable[[str], None]) -> Steps:
    settings = _settings(options)
    if tool.kind != "mke2fs":

        def erofs(image: str, tree: str, _root: RootDirectory, _tree_size: TreeSize) -> Iterable[Command]:
            yield from_tree(tool, image, tree, settings)

        return Steps(erofs, _erofs_keeps(tool, losses.EROFS, options))

    def ext4(image: str, tree: str, root: RootDirectory, tree_size: TreeSize) -> Iterable[Command]:
        size = _ext4_size(tree_size, options)
        yield ext4_command(tool, image, tree, settings, size.size, size.inodes)
        debugfs = find_program("debugfs")
        if debugfs is not None:
            yield debugfs_command(debugfs, image, root, inodes=tree_size.inodes, time=options.time)
        else:
            warn("the root directory has no mode, owner and time of its own: there is no debugfs, which gives them")

    return Steps(ext4, losses.EXT4)


def _new_tree(options: FilesystemOptions, warn: Callable[[str], None]) -> Callable[[str], DirectorySink]:
    ownership = Ownership(same_owner=options.same_owner)
    return lambda path: DirectorySink(path, ownership=ownership, fsync=False, warn=warn)


def _check_owners(tool: Tool, options: FilesystemOptions) -> None:
    """From a directory, files have the owners that they have there, which only root may give."""
    if os.geteuid() == 0 or not options.same_owner:
        return
    raise SinkError(
        f"{tool.kind} {tool.said} reads no tars, and only root can give the files of a directory their owners; run "
        f"'fakeroot streamerge …', take a newer {tool.kind}, or let all be yours with --no-same-owner"
    )


# -- both ------------------------------------------------------------------------------------------


def _erofs_keeps(tool: Tool, keeps: Capabilities, options: FilesystemOptions) -> Capabilities:
    """What older versions of mkfs.erofs do not keep either.

    Before 1.6 files named lost+found are left out, before 1.8.5 a name of 255 bytes is cut short, and before 1.8 the
    one way to a fixed time of the file system takes files' times before 1970 for late ones.
    """
    if tool.version < (1, 8, 5):
        keeps = replace(keeps, name=f"mkfs.erofs {tool.said}", longest_name=254)
    if tool.version < (1, 8) and options.time is not None:
        keeps = replace(keeps, earliest=0, latest=(1 << 32) - 1)
    return replace(keeps, lost_and_found=tool.version >= (1, 6))


def _settings(options: FilesystemOptions) -> Settings:
    return Settings(options.time, options.console.progress, options.arguments)


def _ext4_size(tree_size: TreeSize, options: FilesystemOptions) -> Ext4Size:
    """Size and inodes; those of a size that was asked for where it is enough. Raises SinkError where it is not."""
    wanted = ext4_size(tree_size.blocks + tree_size.directory_blocks, tree_size.inodes, options.free)
    if options.size is None:
        return wanted
    if options.size < wanted.size:
        raise SinkError(f"a size of {options.size:,} bytes is too small: what is merged needs {wanted.size:,}")
    return replace(wanted, size=options.size, inodes=max(wanted.inodes, options.size // 16384))
