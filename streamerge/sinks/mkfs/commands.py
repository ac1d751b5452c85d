"""Options -> the command lines of the tools. Pure: a tool is given as what it is, never run here."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streamerge.sinks.mkfs.tools import Tool

__all__ = ["Command", "RootDirectory", "Settings", "debugfs_command", "ext4_command", "from_tar", "from_tree"]

_NAMESPACE = uuid.UUID("6f1dbd5c-7d0c-5e4b-9b0a-0d3c5b1f3a77")
_LAST_SECOND = (1 << 32) - 1
_LAST_SIGNED_SECOND = (1 << 31) - 1
_EROFS_OPENS_PIPES = (1, 8, 7)
"""The first mkfs.erofs that opens a pipe at /dev/stdin. Older ones resolve the name, which fails ("No such file or
directory"; erofs-utils 1.7 to 1.8.6, mkfs/main.c), but read standard input if no source is given."""


@dataclass(frozen=True, slots=True)
class RootDirectory:
    """The root directory's own metadata; ``mtime`` is in seconds. The default is what no layer lists (rule 5)."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user asks of a tool. ``time`` (seconds) makes the same input give the same image: it is the file
    system's own time; None leaves time and UUID to the tool. ``arguments`` go to the tool as they are, after ours.
    """

    time: int | None = None
    progress: bool = False
    arguments: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """A command line, what it needs in its environment (None takes a variable away), and what it reads as input.

    ``size`` is what the image, sparse, must have before it starts. What a ``silent`` one says is kept for the case
    that it fails; ``progress`` is what it shows by itself on a terminal.
    """

    argv: Sequence[str]
    environment: Mapping[str, str | None] = field(default_factory=dict)
    stdin: bytes | None = None
    silent: bool = False
    size: int | None = None
    progress: bool = False


def from_tar(tool: Tool, image: str, settings: Settings, root: RootDirectory) -> Command:
    """The command that makes ``image`` of the tar on its standard input; ``root`` is for those that must be told."""
    if tool.kind == "tar2sqfs":
        own = ["--quiet", "--compressor", "gzip"]  # its progress would be a line for each file
        return Command([tool.path, *own, *settings.arguments, image], _epoch(settings.time or 0))
    if tool.kind == "mkfs.erofs":
        source = ["/dev/stdin"] if tool.version >= _EROFS_OPENS_PIPES else []
        return _erofs(tool, ["--tar=f"], image, source, settings)
    return _squashfs(tool, image, settings, root)


def from_tree(tool: Tool, image: str, tree: str, settings: Settings) -> Command:
    """The command that makes ``image`` of the directory ``tree``."""
    return _erofs(tool, [], image, [tree], settings)


def ext4_command(tool: Tool, image: str, source: str, settings: Settings, size: int, inodes: int) -> Command:
    """The same for ext4, which must know its size in bytes and how many inodes it will have. ``source`` is a directory,
    or ``-`` for a tar. No block is reserved for root: what the size leaves is all to be used.
    """
    quiet = [] if settings.progress else ["-q"]
    extended = "root_owner=0:0"
    fixed: list[str] = []
    environment: dict[str, str | None] = {"SOURCE_DATE_EPOCH": None}  # it would also change the times of files
    if settings.time is not None:
        name = str(_uuid(settings.time))
        fixed = ["-U", name]
        extended += f",hash_seed={name}"
        environment["E2FSPROGS_FAKE_TIME"] = str(max(settings.time, 1))  # 0 means "now" to mke2fs
    own = ["-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-N", str(inodes), "-E", extended, *fixed]
    argv = [tool.path, *quiet, *own, *settings.arguments, "-d", source, image, f"{size // 1024}k"]
    return Command(argv, environment, size=size, progress=settings.progress)


def debugfs_command(debugfs: str, image: str, root: RootDirectory, *, inodes: int, time: int | None) -> Command:
    """The command that sets what mke2fs forgets of a directory tree: the root's own metadata.

    With ``time`` also when inodes were changed and read: mke2fs takes that from the tree, which has just been made. It
    gives ``inodes`` files the numbers from 11 on, after those that are reserved.
    """
    lines = [
        f"sif / mode 0{0o40000 | root.mode:o}",
        f"sif / uid {root.uid}",
        f"sif / gid {root.gid}",
        f"sif / mtime @{min(max(root.mtime, 0), _LAST_SIGNED_SECOND)}",
    ]
    environment = {}
    if time is not None:
        environment["E2FSPROGS_FAKE_TIME"] = str(max(time, 1))
        for number in (2, *range(11, 11 + inodes)):
            lines += [f"sif <{number}> {field} @{max(time, 1)}" for field in ("atime", "ctime")]
    script = "\n".join([*lines, ""]).encode()
    return Command([debugfs, "-w", "-f", "-", image], environment, stdin=script, silent=True)


def _squashfs(tool: Tool, image: str, settings: Settings, root: RootDirectory) -> Command:
    """mksquashfs and sqfstar, one program by two names, take no notice of the tar's entry of the root."""
    mtime = min(max(root.mtime, 0), _LAST_SECOND)
    options = ["-root-mode", f"{root.mode:o}", "-root-uid", str(root.uid), "-root-gid", str(root.gid)]
    options += ["-root-time", str(mtime)]
    if settings.time is not None:
        options += ["-mkfs-time", str(settings.time)]
    if not settings.progress:
        options += ["-quiet", "-no-progress"]
    if tool.kind == "sqfstar":
        argv = [tool.path, *options, "-exit-on-error", *settings.arguments, image]
    else:
        argv = [tool.path, "-", image, "-tar", "-noappend", *options, "-exit-on-error", *settings.arguments]
    return Command(argv, {"SOURCE_DATE_EPOCH": None}, progress=settings.progress)  # it would change files' times too


def _erofs(tool: Tool, options: Sequence[str], image: str, source: Sequence[str], settings: Settings) -> Command:
    environment: dict[str, str | None] = {"SOURCE_DATE_EPOCH": None}  # it would also change the times of files
    fixed: list[str] = []
    if settings.time is not None:
        # An inode of the file system's own time would be a compact one, which has no fraction of a second.
        fixed = ["-U", str(_uuid(settings.time)), "-Eforce-inode-extended"]
        if tool.version >= (1, 8):
            fixed += [f"-T{settings.time}", "--mkfs-time"]
        else:  # -T would set all files' times, the variable those that are later
            environment = _epoch(_LAST_SECOND)
    quiet = [] if settings.progress else ["-d0"] if tool.version < (1, 5) else ["--quiet"]
    argv = [tool.path, *options, *quiet, *fixed, *settings.arguments, image, *source]
    return Command(argv, environment, progress=settings.progress)


def _epoch(time: int) -> dict[str, str | None]:
    return {"SOURCE_DATE_EPOCH": str(time)}


def _uuid(time: int) -> uuid.UUID:
    """The same for every image of that time; ``-- -U UUID`` gives another."""
    return uuid.uuid5(_NAMESPACE, str(time))
