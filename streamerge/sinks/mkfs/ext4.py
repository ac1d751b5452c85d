"""mke2fs of e2fsprogs, which reads tars from version 1.47.1 on if it finds libarchive."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace

from streamerge.errors import SinkError
from streamerge.sinks.losses import XATTRS_AND_ACLS, Capabilities
from streamerge.sinks.mkfs.commands import NO_EPOCH, Command, RootDirectory, TreeSummary, reproducible_uuid
from streamerge.sinks.mkfs.ext4_size import Ext4Size, ext4_size
from streamerge.sinks.mkfs.options import FilesystemOptions
from streamerge.sinks.mkfs.tools import TreeReadingTool, find_program, run_briefly

__all__ = ["EXT4", "EXT4_TAR", "Mke2fs", "debugfs_command"]

_LATEST_SECOND = (1 << 31) - 1
_EARLIEST_SECOND = -(1 << 31)
_ROOT_INODE = 2
_FIRST_FREE_INODE = 11

EXT4 = Capabilities(
    "ext4 by mke2fs", XATTRS_AND_ACLS, earliest=_EARLIEST_SECOND, latest=_LATEST_SECOND, linked_symlinks=False
)
EXT4_TAR = Capabilities(
    "ext4 by mke2fs from a tar",
    ("security.capability",),
    earliest=_EARLIEST_SECOND,
    latest=_LATEST_SECOND,
    pax_names=False,
)


class Mke2fs(TreeReadingTool):
    """``mke2fs -t ext4 -d - IMAGE SIZE``, or ``-d TREE``. Unlike the other tools it must be told the image's size."""

    name = "mke2fs"
    package = "e2fsprogs"
    version_option = "-V"
    oldest_usable = (1, 43)
    first_reading_tars = (1, 47, 1)
    needs_size = True

    @classmethod
    def is_called(cls, program: str) -> bool:
        """Whether ``program`` is mke2fs or one of its other names, such as mkfs.ext4."""
        return super().is_called(program) or os.path.basename(program).startswith("mkfs.ext")

    def reads_tars(self) -> bool:
        """Whether the installed program reads a tar from a pipe. Cost: may run it once. Raises SinkError."""
        return self.version_reads_tars and self._has_libarchive()

    @property
    def how_to_read_tars(self) -> str:
        """What to install so that the tool can read tars: newer versions load libarchive for it."""
        return "install libarchive (libarchive13t64 in Debian)" if self.version_reads_tars else super().how_to_read_tars

    def tar_capabilities(self, options: FilesystemOptions) -> Capabilities:
        """What an image made from a tar can store."""
        return EXT4_TAR

    def tar_command(self, image: str, options: FilesystemOptions, summary: TreeSummary) -> Command:
        """The command that makes ``image`` from the tar on its standard input. Raises SinkError for a wrong size."""
        return self.command(image, "-", options, _image_size(summary, options))

    def tree_capabilities(self, options: FilesystemOptions) -> Capabilities:
        """What an image made from a directory can store."""
        return EXT4

    def tree_commands(
        self, image: str, tree: str, options: FilesystemOptions, summary: TreeSummary, warn: Callable[[str], None]
    ) -> Iterator[Command]:
        """The commands that make ``image`` from the directory ``tree``: mke2fs, and debugfs if it is installed."""
        assert summary.size is not None
        yield self.command(image, tree, options, _image_size(summary, options))
        debugfs = find_program("debugfs")
        if debugfs is not None:
            yield debugfs_command(debugfs, image, summary.root, inodes=summary.size.inodes, time=options.time)
        else:
            warn(
                "mode, owner and time of the root directory are lost: debugfs is not installed; "
                "install e2fsprogs (e2fsprogs-extra in Alpine)"
            )

    def command(self, image: str, source: str, options: FilesystemOptions, size: Ext4Size) -> Command:
        """The command line of mke2fs. ``source`` is a directory, or ``-`` for a tar.

        No block is reserved for root, so that the files can use the whole size.
        """
        quiet = [] if options.console.progress else ["-q"]
        extended = "root_owner=0:0"
        fixed: list[str] = []
        environment = {**NO_EPOCH}
        if options.time is not None:
            uuid = reproducible_uuid(options.time)
            fixed = ["-U", uuid]
            extended += f",hash_seed={uuid}"
            environment["E2FSPROGS_FAKE_TIME"] = _fake_time(options.time)
        own = ["-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-N", str(size.inodes), "-E", extended, *fixed]
        argv = [self.path, *quiet, *own, *options.arguments, "-d", source, image, f"{size.size // 1024}k"]
        return Command(argv, environment, size=size.size, progress=options.console.progress)

    def _has_libarchive(self) -> bool:
        """Try an empty tar: mke2fs loads libarchive only when it reads one, and some builds lack it."""
        with tempfile.TemporaryDirectory(prefix="streamerge-") as directory:
            image = os.path.join(directory, "probe")
            done = run_briefly([self.path, "-q", "-F", "-t", "ext2", "-d", "-", image, "256k"], bytes(10240))
        return done.returncode == 0


def debugfs_command(debugfs: str, image: str, root: RootDirectory, *, inodes: int, time: int | None) -> Command:
    """The command that sets what mke2fs does not copy from a directory: the root's own metadata.

    With ``time`` it also sets when each inode was changed and read: mke2fs copies that from the directory, which was
    written just now. The ``inodes`` files have the numbers from 11 on; those before are reserved.
    """
    lines = [
        f"sif / mode 0{0o40000 | root.mode:o}",
        f"sif / uid {root.uid}",
        f"sif / gid {root.gid}",
        f"sif / mtime @{min(max(root.mtime, 0), _LATEST_SECOND)}",
    ]
    environment = {}
    if time is not None:
        fake = environment["E2FSPROGS_FAKE_TIME"] = _fake_time(time)
        for number in (_ROOT_INODE, *range(_FIRST_FREE_INODE, _FIRST_FREE_INODE + inodes)):
            lines += [f"sif <{number}> {field} @{fake}" for field in ("atime", "ctime")]
    script = "\n".join([*lines, ""]).encode()
    return Command([debugfs, "-w", "-f", "-", image], environment, stdin=script, silent=True)


def _fake_time(time: int) -> str:
    return str(max(time, 1))  # e2fsprogs takes 0 for "now"


def _image_size(summary: TreeSummary, options: FilesystemOptions) -> Ext4Size:
    """The size and inodes that the tree needs, or the requested size. Raises SinkError if that is too small."""
    tree = summary.size
    assert tree is not None
    needed = ext4_size(tree.blocks + tree.directory_blocks, tree.inodes, options.free)
    if options.size is None:
        return needed
    if options.size < needed.size:
        raise SinkError(f"a size of {options.size:,} bytes is too small: the merged tree needs {needed.size:,} bytes")
    return replace(needed, size=options.size, inodes=max(needed.inodes, options.size // 16384))
