"""Sizes and counts in readable form."""

from __future__ import annotations

__all__ = ["show_count", "show_size"]


def show_size(size: float) -> str:
    """Return a number of bytes with a unit: 1.5 GiB.

    >>> show_size(1536)
    '1.5 KiB'
    """
    if size < 1024:
        return f"{size:.0f} bytes"
    power = min((int(size).bit_length() - 1) // 10, 4)
    return f"{size / (1 << 10 * power):.1f} {'KMGT'[power - 1]}iB"


def show_count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural if needed.

    >>> show_count(1, "layer"), show_count(2000, "layer")
    ('1 layer', '2,000 layers')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
