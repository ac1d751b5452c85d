"""Which tools make which file system, and the choice of an installed one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from streamerge.errors import SinkError, UsageError, show
from streamerge.sinks.mkfs.erofs import MkfsErofs
from streamerge.sinks.mkfs.ext4 import Mke2fs
from streamerge.sinks.mkfs.squashfs import Mksquashfs, Sqfstar, Tar2sqfs
from streamerge.sinks.mkfs.tools import MkfsTool, dotted, find_program

__all__ = ["TOOLS", "choose_tool"]

TOOLS: dict[str, tuple[type[MkfsTool], ...]] = {
    "squashfs": (Mksquashfs, Sqfstar, Tar2sqfs),
    "erofs": (MkfsErofs,),
    "ext4": (Mke2fs,),
}
"""The tools for each file system, the preferred one first."""


def choose_tool(filesystem: str, wanted: str | None = None) -> MkfsTool:
    """The tool that makes ``filesystem``: ``wanted``, a name or a path, else the first usable one of :data:`TOOLS`.

    A tool that can set the root directory's owner comes before one that cannot. Raises SinkError with the packages to
    install if no usable tool is found, UsageError if ``wanted`` makes other file systems.
    """
    if wanted is not None:
        return _named_tool(filesystem, wanted)
    installed = list(_installed_tools(TOOLS[filesystem]))
    usable = [tool for tool in installed if tool.is_usable]
    if not usable:
        raise SinkError(_none_usable(filesystem, installed))
    return next((tool for tool in usable if tool.keeps_root), usable[0])


def _named_tool(filesystem: str, wanted: str) -> MkfsTool:
    shown = show(os.fsencode(wanted))
    candidates = TOOLS[filesystem]
    tool_type = next((candidate for candidate in candidates if candidate.is_called(wanted)), None)
    if tool_type is None:
        names = " or ".join(candidate.name for candidate in candidates)
        raise UsageError(f"{shown} cannot make {filesystem} images; use {names}")
    path = find_program(wanted)
    if path is None:
        raise SinkError(f"{shown} is not installed; {_install([tool_type])}")
    tool = tool_type.at(path)
    if not tool.is_usable:
        raise SinkError(f"{path} {tool.version_text} is too old; use {dotted(tool.oldest_usable)} or newer")
    return tool


def _installed_tools(candidates: Iterable[type[MkfsTool]]) -> Iterable[MkfsTool]:
    for candidate in candidates:
        path = find_program(candidate.name)
        if path is not None:
            yield candidate.at(path)


def _none_usable(filesystem: str, installed: Sequence[MkfsTool]) -> str:
    candidates = TOOLS[filesystem]
    needed = " or ".join(f"{candidate.name} {dotted(candidate.oldest_usable)}" for candidate in candidates)
    old = ", ".join(f"{tool.name} {tool.version_text}" for tool in installed)
    found = f"only found {old}" if old else "none is installed"
    return f"{filesystem} images need {needed} or newer: {found}; {_install(candidates)}"


def _install(candidates: Iterable[type[MkfsTool]]) -> str:
    packages = " or ".join(dict.fromkeys(candidate.package for candidate in candidates))
    return f"install {packages} (named so in Debian, Fedora and Alpine)"
