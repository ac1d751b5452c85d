"""mksquashfs and sqfstar of squashfs-tools, tar2sqfs of squashfs-tools-ng. All of them read tars."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from streamerge.sinks.losses import XATTRS, Capabilities
from streamerge.sinks.mkfs.commands import NO_EPOCH, Command, RootDirectory, TreeSummary, epoch
from streamerge.sinks.mkfs.options import FilesystemOptions
from streamerge.sinks.mkfs.tools import MkfsTool, Version

__all__ = ["OLD_SQUASHFS_TOOLS", "SQUASHFS", "SQUASHFS_TOOLS", "Mksquashfs", "Sqfstar", "Tar2sqfs"]

SQUASHFS = Capabilities("squashfs", XATTRS)
SQUASHFS_TOOLS = Capabilities("squashfs by sqfstar or mksquashfs", XATTRS, root_xattrs=False, sparse=False)
OLD_SQUASHFS_TOOLS = replace(SQUASHFS_TOOLS, name="squashfs by sqfstar before 4.6", root=False)

_FIRST_WITH_ROOT_OPTIONS: Version = (4, 6)
"""The first squashfs-tools with options for the root's owner and time; older ones use the caller and the present."""
_LATEST_SECOND = (1 << 32) - 1


class _SquashfsTools(MkfsTool):
    """mksquashfs and sqfstar are one program with two names. Both ignore the tar's entry for the root directory."""

    package = "squashfs-tools"
    version_option = "-version"
    needs_root = True

    @property
    def keeps_root(self) -> bool:
        """Whether the root directory can have its own owner and time."""
        return self.version >= _FIRST_WITH_ROOT_OPTIONS

    def tar_capabilities(self, options: FilesystemOptions) -> Capabilities:
        """What an image made from a tar can store."""
        return SQUASHFS_TOOLS if self.keeps_root else OLD_SQUASHFS_TOOLS

    def tar_command(self, image: str, options: FilesystemOptions, summary: TreeSummary) -> Command:
        """The command that makes ``image`` from the tar on its standard input."""
        progress = options.console.progress
        common = _root_options(summary.root)
        if options.time is not None:
            common += ["-mkfs-time", str(options.time)]
        if not progress:
            common += ["-quiet", "-no-progress"]
        return Command(self._argv(image, common, options.arguments), NO_EPOCH, progress=progress)

    @abstractmethod
    def _argv(self, image: str, common: Sequence[str], arguments: Sequence[str]) -> Sequence[str]:
        """The whole command line; the user's ``arguments`` come after all other options."""


class Mksquashfs(_SquashfsTools):
    """``mksquashfs - IMAGE -tar``."""

    name = "mksquashfs"
    oldest_usable = (4, 6)
    first_reading_tars = (4, 6)

    def _argv(self, image: str, common: Sequence[str], arguments: Sequence[str]) -> Sequence[str]:
        return [self.path, "-", image, "-tar", "-noappend", *common, "-exit-on-error", *arguments]


class Sqfstar(_SquashfsTools):
    """``sqfstar IMAGE``."""

    name = "sqfstar"
    oldest_usable = (4, 5)
    first_reading_tars = (4, 5)

    def _argv(self, image: str, common: Sequence[str], arguments: Sequence[str]) -> Sequence[str]:
        return [self.path, *common, "-exit-on-error", *arguments, image]


class Tar2sqfs(MkfsTool):
    """``tar2sqfs IMAGE``."""

    name = "tar2sqfs"
    package = "squashfs-tools-ng"
    version_option = "--version"
    oldest_usable = (1, 0)
    first_reading_tars = (1, 0)

    def tar_capabilities(self, options: FilesystemOptions) -> Capabilities:
        """What an image made from a tar can store."""
        return SQUASHFS

    def tar_command(self, image: str, options: FilesystemOptions, summary: TreeSummary) -> Command:
        """The command that makes ``image`` from the tar on its standard input."""
        own = ["--quiet", "--compressor", "gzip"]  # without --quiet it prints a line for each file
        return Command([self.path, *own, *options.arguments, image], epoch(options.time or 0))


def _root_options(root: RootDirectory) -> list[str]:
    mtime = min(max(root.mtime, 0), _LATEST_SECOND)
    owner = ["-root-uid", str(root.uid), "-root-gid", str(root.gid)]
    return ["-root-mode", f"{root.mode:o}", *owner, "-root-time", str(mtime)]
