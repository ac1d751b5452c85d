"""The tools: where they are, what version they have, what that version can do, which packages hold them.

What a version can do is found by trying and by reading their sources; see ``docs/filesystems.md``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass

from streamerge.errors import SinkError, UsageError, show

__all__ = ["Tool", "Version", "choose_tool", "find_program", "parse_version", "reads_tars"]

Version = tuple[int, ...]

_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Kind:
    """A program that makes file systems. ``asks`` makes it say its version; ``since`` is the first that will do,
    ``reads_tars`` the first that takes a tar by a pipe. The package has one name in Debian, Fedora and Alpine.
    """

    asks: str
    since: Version
    reads_tars: Version
    package: str


_KINDS = {
    "mksquashfs": Kind("-version", (4, 6), (4, 6), "squashfs-tools"),
    "sqfstar": Kind("-version", (4, 5), (4, 5), "squashfs-tools"),
    "tar2sqfs": Kind("--version", (1, 0), (1, 0), "squashfs-tools-ng"),
    "mkfs.erofs": Kind("-V", (1, 3), (1, 7), "erofs-utils"),
    "mke2fs": Kind("-V", (1, 43), (1, 47, 1), "e2fsprogs"),
}
_ROOT_OPTIONS: Version = (4, 6)
"""The squashfs-tools that can be told the root directory's owner and time; before, they take the caller and now."""

_CHOICES: dict[str, tuple[tuple[str, Version], ...]] = {
    "squashfs": (
        ("mksquashfs", (4, 6)),
        ("sqfstar", _ROOT_OPTIONS),
        ("tar2sqfs", (1, 0)),
        ("sqfstar", (4, 5)),
    ),
    "erofs": (("mkfs.erofs", (1, 3)),),
    "ext4": (("mke2fs", (1, 43)),),
}
"""What makes each file system, the best first, and from which version on."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that is there: its kind's name, where it is, its version."""

    kind: str
    path: str
    version: Version

    @property
    def said(self) -> str:
        """The version as people write it."""
        return dotted(self.version)

    @property
    def reads_tars(self) -> bool:
        """Whether this version takes a tar by a pipe; whether mke2fs finds libarchive, :func:`reads_tars` asks it."""
        return self.version >= _KINDS[self.kind].reads_tars

    @property
    def is_squashfs_tools(self) -> bool:
        """Whether the root directory's metadata must be told by options: these take no notice of its entry."""
        return self.kind in ("mksquashfs", "sqfstar")

    @property
    def keeps_root(self) -> bool:
        """Whether the root directory can have an owner and a time of its own."""
        return not self.is_squashfs_tools or self.version >= _ROOT_OPTIONS


def parse_version(text: str) -> Version | None:
    """The version in what a tool says when asked for it; None where there is none.

    >>> parse_version("mke2fs 1.47.2 (1-Jan-2025)"), parse_version("mkfs.erofs (erofs-utils) 1.8.4")
    ((1, 47, 2), (1, 8, 4))
    """
    found = re.search(r"(?:^|[\s(v-])(\d+(?:\.\d+)+)", text, re.MULTILINE)
    return tuple(int(part) for part in found[1].split(".")) if found else None


def choose_tool(filesystem: str, wanted: str | None = None) -> Tool:
    """The tool that makes ``filesystem``: ``wanted``, a name or a path, else the best of those that are there.

    Raises SinkError with the packages to install where there is none, UsageError for one that makes something else.
    """
    choices = _CHOICES[filesystem]
    if wanted is not None:
        kind = _kind_of(wanted, [name for name, _ in choices])
        path = find_program(wanted)
        if path is None:
            raise SinkError(f"{show(os.fsencode(wanted))} is not installed; {_install([kind])}")
        tool = Tool(kind, path, _ask_version(path, _KINDS[kind]))
        if tool.version < _KINDS[kind].since:
            raise SinkError(f"{tool.path} is too old: {dotted(tool.version)}, {dotted(_KINDS[kind].since)} will do")
        return tool
    found = _found([name for name, _ in choices])
    for name, since in choices:
        if name in found and found[name].version >= since:
            return found[name]
    raise SinkError(_none_will_do(filesystem, choices, found))


def find_program(name: str) -> str | None:
    """Where a program is: on $PATH, or where only root's has it."""
    return shutil.which(name) or shutil.which(name, path=_PATH)


def reads_tars(tool: Tool) -> bool:
    """Whether the tool takes a tar, asked of itself where its version alone does not tell.

    mke2fs loads libarchive when it needs it, and distributions build it without: so it is given an empty tar.
    """
    if tool.kind != "mke2fs" or not tool.reads_tars:
        return tool.reads_tars
    with tempfile.TemporaryDirectory(prefix="streamerge-") as directory:
        image = os.path.join(directory, "probe")
        done = subprocess.run(
            [tool.path, "-q", "-F", "-t", "ext2", "-d", "-", image, "256k"],
            input=bytes(10240),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    return done.returncode == 0


def _kind_of(wanted: str, names: Iterable[str]) -> str:
    base = os.path.basename(wanted)
    for name in names:
        if base == name or (name == "mke2fs" and base.startswith("mkfs.ext")):
            return name
    raise UsageError(f"--mkfs {wanted}: what makes this file system is {' or '.join(dict.fromkeys(names))}")


def _found(names: Iterable[str]) -> dict[str, Tool]:
    tools = {}
    for name in dict.fromkeys(names):
        path = find_program(name)
        if path is not None:
            tools[name] = Tool(name, path, _ask_version(path, _KINDS[name]))
    return tools


def _none_will_do(filesystem: str, choices: Iterable[tuple[str, Version]], found: dict[str, Tool]) -> str:
    least = {name: since for name, since in choices}  # noqa: C416 - the last of a name is the least
    wants = " or ".join(f"{name} {dotted(since)}" for name, since in least.items())
    old = ", ".join(f"{tool.kind} {dotted(tool.version)}" for tool in found.values())
    there = f"only {old} is installed" if old else "none is installed"
    return f"an image of {filesystem} needs {wants} or newer, and {there}; {_install(least)}"


def _install(names: Iterable[str]) -> str:
    packages = " or ".join(dict.fromkeys(_KINDS[name].package for name in names))
    return f"install {packages} (so called in Debian, Fedora and Alpine)"


def dotted(version: Version) -> str:
    return ".".join(map(str, version))


def _ask_version(path: str, kind: Kind) -> Version:
    """What the tool says, whatever its exit code: mkfs.erofs 1.5 does not know the option, but says it all the same."""
    try:
        done = subprocess.run(
            [path, kind.asks],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SinkError(f"cannot run {path}: {error}") from error
    version = parse_version((done.stdout + b"\n" + done.stderr).decode(errors="replace"))
    if version is None:
        raise SinkError(f"{path} does not say its version when asked with {kind.asks}")
    return version
