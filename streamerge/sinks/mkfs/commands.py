"""Values that describe one run of a tool: its command line, and what it is told about the merged tree. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streamerge.sinks.treesize import TreeSize

__all__ = ["NO_EPOCH", "Command", "RootDirectory", "TreeSummary", "epoch", "reproducible_uuid"]

_NAMESPACE = uuid.UUID("6f1dbd5c-7d0c-5e4b-9b0a-0d3c5b1f3a77")

NO_EPOCH: Mapping[str, str | None] = {"SOURCE_DATE_EPOCH": None}
"""Removes the variable from the environment, for tools that would also change the times of files by it."""


@dataclass(frozen=True, slots=True)
class RootDirectory:
    """The root directory's own metadata; ``mtime`` is in seconds. The default applies if no layer lists it (rule 5)."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int = 0


@dataclass(frozen=True, slots=True)
class TreeSummary:
    """What a tool can be told about the merged tree when it starts. ``size`` is None if the tree was not counted."""

    root: RootDirectory
    size: TreeSize | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A command line, changes to the environment (None removes a variable), and the bytes of its standard input.

    ``size``: the image must exist as a sparse file of so many bytes before the command starts. ``silent``: its output
    is shown only if it fails. ``progress``: it shows its own progress on a terminal.
    """

    argv: Sequence[str]
    environment: Mapping[str, str | None] = field(default_factory=dict)
    stdin: bytes | None = None
    silent: bool = False
    size: int | None = None
    progress: bool = False


def epoch(time: int) -> dict[str, str | None]:
    """The environment that sets SOURCE_DATE_EPOCH to ``time`` seconds."""
    return {"SOURCE_DATE_EPOCH": str(time)}


def reproducible_uuid(time: int) -> str:
    """A UUID that is the same for every image of that time; ``-- -U UUID`` sets another."""
    return str(uuid.uuid5(_NAMESPACE, str(time)))
