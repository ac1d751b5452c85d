"""Sizes for people."""

from __future__ import annotations

__all__ = ["show_size"]


def show_size(size: float) -> str:
    """Return a number of bytes as people write it: 1.5 GiB.

    >>> show_size(1536)
    '1.5 KiB'
    """
    if size < 1024:
        return f"{size:.0f} bytes"
    power = min((int(size).bit_length() - 1) // 10, 4)
    return f"{size / (1 << 10 * power):.1f} {'KMGT'[power - 1]}iB"
