"""Who owns the files of a directory: the image's owners, mapped ids, or the caller."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from streamerge.errors import SinkError

__all__ = ["IdMap", "Ownership", "is_root"]


@dataclass(frozen=True, slots=True)
class IdMap:
    """A map of user or group ids. Each range is: first id in the image, first id on the host, number of ids."""

    ranges: tuple[tuple[int, int, int], ...] = ()

    def __call__(self, number: int) -> int:
        """Return the mapped id; the id itself if there are no ranges. Raises SinkError for an id in no range."""
        if not self.ranges:
            return number
        for inside, outside, count in self.ranges:
            if inside <= number < inside + count:
                return outside + number - inside
        raise SinkError(f"no range of the id map contains the id {number}", setting="id_map")


def is_root() -> bool:
    """Return whether the caller may change the owners of files."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who owns the files: with ``same_owner`` the image's owners, else the caller. ``uids`` and ``gids`` map ids."""

    same_owner: bool = field(default_factory=is_root)
    uids: IdMap = IdMap()
    gids: IdMap = IdMap()
