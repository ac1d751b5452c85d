"""What a caller can choose about a merge."""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

__all__ = ["DEFAULT_READ_AHEAD", "DEFAULT_SPOOL_MEMORY", "Options", "Whiteouts"]

DEFAULT_SPOOL_MEMORY: Final = 64 << 20
"""Bytes that a spool keeps in memory before it goes to disk."""

DEFAULT_READ_AHEAD: Final = 20 << 20
"""Decoded bytes that may wait for the merge, of all layers together."""


class Whiteouts(enum.Enum):
    """Which conventions count as whiteouts."""

    OCI = "oci"
    OVERLAY = "overlay"
    ANY = "any"


class Options(NamedTuple):
    """How to merge. Sizes are in bytes.

    ============ ====================================================================================
    whiteouts    which conventions count as whiteouts
    rescan       read each layer's headers first; needed only for layers that list a path twice and
                 an output that cannot be restarted
    mtime        the time of implicit directories, in seconds since 1970
    spool_memory memory for what cannot be read twice; more goes to ``$TMPDIR``
    read_ahead   memory for what is decoded before its turn
    processes    decode in forked processes: nearly twice as fast, but only for programs without
                 threads of their own
    exclude      gitignore patterns of what to leave out
    max_entries  raise LimitExceeded before more entries are written
    max_bytes    raise LimitExceeded before more bytes of file contents are written
    ============ ====================================================================================
    """

    whiteouts: Whiteouts = Whiteouts.OCI
    rescan: bool = False
    mtime: int = 0
    spool_memory: int = DEFAULT_SPOOL_MEMORY
    read_ahead: int = DEFAULT_READ_AHEAD
    processes: bool = False
    exclude: tuple[str, ...] = ()
    max_entries: int | None = None
    max_bytes: int | None = None
