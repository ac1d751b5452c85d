"""What a caller can ask of a file system image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["NOTHING_FREE", "Console", "FilesystemOptions", "Free"]


class Free(NamedTuple):
    """Free room in the file system: a share of it (0.2 is a fifth), or bytes."""

    share: float = 0.0
    bytes: int = 0


NOTHING_FREE = Free()


class Console:
    """How a tool's output is shown: as lines on standard error, or with ``progress`` unchanged on the terminal.

    ``quiet`` shows nothing but the last lines of a tool that fails. ``before`` is called when a tool starts to show
    its progress.
    """

    def __init__(
        self, *, progress: bool = False, quiet: bool = False, before: Callable[[], None] = lambda: None
    ) -> None:
        self.progress = progress and not quiet
        self.quiet = quiet
        self.before = before


@dataclass(frozen=True, slots=True)
class FilesystemOptions:
    """How to make a file system image.

    ``mkfs`` is the tool, by name or path; None chooses one. ``arguments`` are passed to it unchanged, after ours.
    ``size`` (bytes) and ``free`` are for ext4 only. ``time`` (seconds since 1970) is the file system's own time and
    makes the same input give the same image; with None the tool sets time and UUID. ``same_owner`` applies to tools
    that read a directory: its files get the image's owners, which only root can set, else the caller's.
    """

    mkfs: str | None = None
    arguments: Sequence[str] = ()
    size: int | None = None
    free: Free = NOTHING_FREE
    time: int | None = None
    fsync: bool = True
    same_owner: bool = True
    console: Console = field(default_factory=lambda: Console(quiet=True))
