"""Whose the files in a directory become: the image's owners, the caller, or what a map makes of them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from streamerge.errors import SinkError

__all__ = ["IdMap", "Ownership", "is_root"]


@dataclass(frozen=True, slots=True)
class IdMap:
    """Ranges (first id in the image, first id on the host, how many), as ``--uid-map C:H:N`` gives them."""

    ranges: tuple[tuple[int, int, int], ...] = ()

    def __call__(self, number: int) -> int:
        """Map one id; without ranges every id is itself. Raises SinkError for an id in no range."""
        if not self.ranges:
            return number
        for inside, outside, count in self.ranges:
            if inside <= number < inside + count:
                return outside + number - inside
        raise SinkError(f"no --uid-map or --gid-map range holds the id {number}")


def is_root() -> bool:
    """Whether the caller may give files away."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose the files become. ``same_owner``: the image's owners, else the caller's."""

    same_owner: bool = field(default_factory=is_root)
    uids: IdMap = IdMap()
    gids: IdMap = IdMap()
