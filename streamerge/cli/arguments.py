"""Arguments of the command line -> values. Each function raises click.BadParameter for text that it cannot read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from streamerge.errors import UsageError

if TYPE_CHECKING:
    from streamerge.sinks.directory.ownership import IdMap
    from streamerge.sinks.mkfs.options import Free

__all__ = ["free", "id_map", "patterns", "reproducible_time", "size", "source_date_epoch"]

_MOST_FREE = 95
_LEAST_FREE = 4096  # a block of an ext4
_IDS = (1 << 32) - 1  # the last one means "do not change" to chown(2)


def size(text: str) -> int:
    """Return a number of bytes: 500, 64K, 64M, 2G."""
    digits = text.upper().removesuffix("B").removesuffix("I")
    unit = {"K": 10, "M": 20, "G": 30, "T": 40}.get(digits[-1:], 0)
    digits = digits[:-1] if unit else digits
    if not digits.isascii() or not digits.isdigit():
        raise click.BadParameter(f"'{text}' is not a size; write 500, 64K, 64M or 2G")
    return int(digits) << unit


def free(text: str) -> Free:
    """Return the free space of a file system: a share, such as 20%, or a number of bytes."""
    from streamerge.sinks.mkfs.options import Free

    if text.isdigit() and 0 < int(text) < _LEAST_FREE:
        raise click.BadParameter(f"{text} bytes are less than a block; write {text}% or {text}M")
    if not text.endswith("%"):
        return Free(bytes=size(text))
    digits = text.removesuffix("%")
    if not digits.isascii() or not digits.isdigit() or int(digits[:4]) > _MOST_FREE:
        raise click.BadParameter(f"'{text}' is not a share; write 0% to {_MOST_FREE}%, or a size")
    return Free(share=int(digits) / 100)


def id_map(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> IdMap | None:
    """Return the id map of ``CONTAINER:HOST:SIZE`` ranges, the format of umoci; None for no ranges."""
    if not texts:
        return None
    from streamerge.sinks.directory.ownership import IdMap

    ranges = []
    for text in texts:
        numbers = text.split(":")
        if len(numbers) != 3 or not all(number.isascii() and number.isdigit() for number in numbers):
            raise click.BadParameter(f"'{text}' is not a range of ids; write three numbers, CONTAINER:HOST:SIZE")
        inside, outside, count = (int(number[:20]) for number in numbers)
        if max(inside, outside) + count > _IDS:
            raise click.BadParameter(f"'{text}' goes beyond the highest id, {_IDS - 1}")
        ranges.append((inside, outside, count))
    return IdMap(tuple(ranges))


def patterns(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return gitignore patterns, checked before any work starts."""
    if texts:
        from streamerge.rules.exclude import Exclude

        try:
            Exclude(texts)
        except UsageError as error:
            raise click.BadParameter(str(error)) from error
    return texts


def source_date_epoch() -> int:
    """Return the time of implicit directories in seconds since 1970: $SOURCE_DATE_EPOCH, else 0."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "0")
    if not text.isascii() or not text.isdigit() or len(text) > 11:
        raise click.UsageError(f"SOURCE_DATE_EPOCH is '{text}'; set it to a number of seconds")
    return int(text)


def reproducible_time(*, asked: bool) -> int | None:
    """Return the fixed time of a file system, if ``asked`` for or $SOURCE_DATE_EPOCH is set; else None."""
    return source_date_epoch() if asked or "SOURCE_DATE_EPOCH" in os.environ else None
