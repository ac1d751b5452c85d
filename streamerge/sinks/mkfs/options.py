"""What may be asked of a file system image. No more than that, since every start of the command imports it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["FILESYSTEMS", "NOTHING_FREE", "Console", "FilesystemOptions", "Free"]

FILESYSTEMS = ("squashfs", "erofs", "ext4")


class Free(NamedTuple):
    """Room to leave: a share of the file system (0.2 is a fifth), or bytes."""

    share: float = 0.0
    bytes: int = 0


NOTHING_FREE = Free()


class Console:
    """Where a tool's words go: lines to standard error, or with ``progress`` its progress to the terminal as it is.

    ``quiet`` keeps everything back but the last lines of one that fails. ``before`` is called when a tool takes the
    terminal.
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

    ``mkfs`` is the tool, by name or path; ``arguments`` go to it as they are. ``size`` (bytes) and ``free`` are for
    ext4. ``time`` (seconds) makes the same input give the same image. ``same_owner`` is what a directory on the way
    must have, where the tool reads no tars: the image's owners, which only root can give, else the caller's.
    """

    mkfs: str | None = None
    arguments: Sequence[str] = ()
    size: int | None = None
    free: Free = NOTHING_FREE
    time: int | None = None
    fsync: bool = True
    same_owner: bool = True
    console: Console = field(default_factory=lambda: Console(quiet=True))
