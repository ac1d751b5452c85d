"""Words of the command line: what is taken, what is refused, and that refusing says what would be taken."""

from __future__ import annotations

import click
import pytest

from streamerge.cli.arguments import id_map, patterns, size, source_date_epoch
from streamerge.cli.merge_command import merge_command
from streamerge.errors import SinkError
from streamerge.sinks.directory.ownership import IdMap

CONTEXT = click.Context(merge_command)
OPTION = next(option for option in merge_command.params if option.name == "uid_map")


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("500", 500), ("64K", 65536), ("64k", 65536), ("64KiB", 65536), ("64KB", 65536), ("1M", 1 << 20),
     ("2G", 2 << 30), ("3T", 3 << 40), ("5B", 5), ("007", 7)],
)  # fmt: skip
def test_sizes(text: str, number: int) -> None:
    assert size(text) == number


@pytest.mark.parametrize("text", ["", "K", "-1", "1.5G", "1 K", "1P", "0x10", "٣", "1KK", "1e3", "inf", "B", "IB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a size"):
        size(text)


@pytest.mark.parametrize(
    ("texts", "mapped"),
    [
        ((), {0: 0, 1000: 1000}),
        (("0:100000:65536",), {0: 100000, 65535: 165535}),
        (("0:1000:1", "1:100000:65535"), {0: 1000, 1: 100000, 65535: 165534}),
        (("0:0:4294967295",), {4294967294: 4294967294}),
        (("5:9:0", "5:7:1"), {5: 7}),
    ],
)
def test_maps(texts: tuple[str, ...], mapped: dict[int, int]) -> None:
    found = id_map(CONTEXT, OPTION, texts) or IdMap()
    assert {number: found(number) for number in mapped} == mapped


def test_an_id_in_no_range() -> None:
    found = id_map(CONTEXT, OPTION, ("0:1000:1", "10:2000:5"))
    assert found is not None
    for number in (1, 9, 15):
        with pytest.raises(SinkError, match=f"contains the id {number}$"):
            found(number)


@pytest.mark.parametrize("text", ["", "0", "0:1000", "a:b:c", "0:1:2:3", "0:-1:1", "0::1", "0:1:٣", " 0:1:1", "0:1:1 "])
def test_what_is_no_map(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is not a range of ids.*CONTAINER:HOST:SIZE"):
        id_map(CONTEXT, OPTION, (text,))


@pytest.mark.parametrize(
    "text", ["0:4294967295:1", "4294967295:0:1", "0:1:4294967295", "0:0:4294967296", "0:0:" + "9" * 5000]
)
def test_maps_beyond_the_last_id(text: str) -> None:
    """chown(2) would be given a number that it does not take: this was a traceback from the hot loop."""
    with pytest.raises(click.BadParameter, match="goes beyond the highest id"):
        id_map(CONTEXT, OPTION, (text,))


def test_patterns() -> None:
    assert patterns(CONTEXT, OPTION, ("dev/*", "!x", "")) == ("dev/*", "!x", "")
    assert patterns(CONTEXT, OPTION, ()) == ()


def test_what_is_no_pattern() -> None:
    with pytest.raises(click.BadParameter, match="nvalid git pattern"):
        patterns(CONTEXT, OPTION, ("fine", "!"))


@pytest.mark.parametrize(("text", "seconds"), [(None, 0), ("0", 0), ("1700000000", 1700000000)])
def test_source_date_epoch(monkeypatch: pytest.MonkeyPatch, text: str | None, seconds: int) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    if text is not None:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    assert source_date_epoch() == seconds


@pytest.mark.parametrize("text", ["", "-1", "1.5", "now", "٣", "1" * 12])
def test_what_is_no_epoch(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(click.UsageError, match="number of seconds"):
        source_date_epoch()
