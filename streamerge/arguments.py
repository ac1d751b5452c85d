"""Words of the command line -> values. Each raises click.BadParameter with what it takes."""

from __future__ import annotations

import os

import click

from streamerge.sinks.attributes import IdMap

__all__ = ["id_map", "size", "source_date_epoch"]


def size(text: str) -> int:
    """Read a number of bytes: 500, 64K, 64M, 2G."""
    digits = text.upper().removesuffix("B").removesuffix("I")
    unit = {"K": 10, "M": 20, "G": 30, "T": 40}.get(digits[-1:], 0)
    digits = digits[:-1] if unit else digits
    if not digits.isascii() or not digits.isdigit():
        raise click.BadParameter(f"'{text}' is no size; write 500, 64K, 64M or 2G")
    return int(digits) << unit


def id_map(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> IdMap:
    """Read ``CONTAINER:HOST:SIZE``, repeated for each range, as umoci takes it."""
    ranges = []
    for text in texts:
        numbers = text.split(":")
        if len(numbers) == 2:
            numbers.append("1")
        if len(numbers) != 3 or not all(number.isascii() and number.isdigit() for number in numbers):
            raise click.BadParameter(f"'{text}' is not CONTAINER:HOST:SIZE, three numbers")
        ranges.append((int(numbers[0]), int(numbers[1]), int(numbers[2])))
    return IdMap(tuple(ranges))


def source_date_epoch() -> int:
    """What implicit directories get as their time, in seconds: $SOURCE_DATE_EPOCH, else 0."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "0")
    if not text.isascii() or not text.isdigit() or len(text) > 11:
        raise click.UsageError(f"SOURCE_DATE_EPOCH is '{text}'; it should be a number of seconds")
    return int(text)
