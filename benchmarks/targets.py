"""The speed and memory that streamerge should reach, and whether it does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks import ratio
from benchmarks.measure import Series
from benchmarks.ratio import Spread
from benchmarks.rivals import (
    ALL,
    BY_HAND,
    BY_HAND_TREE,
    CHECKED_DIRECTORY,
    CHECKED_TAR,
    DIRECTORY,
    EXTRACTS_PACKED,
    GZIP,
    TAR,
    Contender,
)

MIB = 1 << 20
MEMORY, MEMORY_PER_PATH = 128 * MIB, 120
"""Bytes: the peak memory that a merge may use, and how much more it may use for each distinct path."""


@dataclass(frozen=True, slots=True)
class Place:
    """A working directory, and the kind of file system that it is on."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Subject:
    """The image that was measured, in one compression; sizes are in bytes."""

    name: str
    compression: str
    layers: int
    """How many layers it has."""
    paths: int
    """How many distinct paths its layers have, hidden ones included."""
    plain_bytes: int
    """The size of the layers when decoded, hidden entries included."""
    packed_bytes: int
    """The size of the layers as they are read."""


@dataclass(frozen=True, slots=True)
class Result:
    """All measurements of one image in one compression in one working directory."""

    image: Subject
    place: Place
    contenders: Sequence[Contender]
    series: dict[str, Series]


@dataclass(frozen=True, slots=True)
class Target:
    """The median ratio of our wall time to another command's must not exceed ``limit``."""

    work: str
    against: str
    limit: float
    ours: str
    theirs: str
    images: frozenset[str] = frozenset()
    """Names of the images that it covers; empty for all."""
    compressions: frozenset[str] = ALL

    def applies(self, result: Result) -> bool:
        """Whether it covers such an image, and both commands were run."""
        image = result.image
        wanted = image.compression in self.compressions and (not self.images or image.name in self.images)
        return wanted and self.ours in result.series and self.theirs in result.series


def _unpackers() -> Iterator[Target]:
    yield Target("gzip → tar", BY_HAND, 0.3, TAR, BY_HAND)
    yield Target("gzip → directory", BY_HAND_TREE, 0.3, DIRECTORY, BY_HAND_TREE)
    for theirs in ("umoci raw unpack", "buildah pull, mount, tar", "podman pull, mount, tar"):
        yield Target("gzip, digests checked → tar", theirs, 0.3, CHECKED_TAR, theirs)
        yield Target("gzip, digests checked → directory", theirs, 0.3, CHECKED_DIRECTORY, theirs)


TARGETS = [
    Target("gzip, big files → tar", "igzip -dc", 0.8, TAR, "igzip -dc", frozenset({"big"}), GZIP),
    Target("gzip, 200,000 entries → tar", "igzip -dc", 1.0, TAR, "igzip -dc", frozenset({"many"}), GZIP),
    Target("zstd, big files or 200,000 entries → tar", "zstd -dc", 1.1, TAR, "zstd -dc", frozenset({"big", "many"})),
    Target("plain, big files → tar", "cat", 1.0, TAR, "cat", frozenset({"big"})),
    Target(
        "plain, 100,000 small files → tar",
        "bsdtar -cf @layer",
        0.7,
        TAR,
        "bsdtar -cf @layer",
        frozenset({"small"}),
        frozenset({"plain"}),
    ),
    Target("any compression → directory", "tar -x merged", 1.2, DIRECTORY, "tar -x merged"),
    Target("gzip or zstd → directory", EXTRACTS_PACKED, 1.2, DIRECTORY, EXTRACTS_PACKED),
    *_unpackers(),
]


@dataclass(frozen=True, slots=True)
class Case:
    """A target on one image in one place; the spread is None if one of the two commands failed."""

    target: Target
    result: Result
    spread: Spread | None

    @property
    def met(self) -> bool:
        """Whether the median is within the limit."""
        return self.spread is not None and self.spread.median <= self.target.limit

    @property
    def median(self) -> float:
        """The median ratio, for sorting: a failure is worse than any ratio."""
        return self.spread.median if self.spread else float("inf")


def cases(target: Target, results: Iterable[Result]) -> list[Case]:
    """The target on all images that it covers, where both commands were run and the other one did not fail."""
    return [
        Case(target, result, ratio.compare(result.series[target.ours], result.series[target.theirs]))
        for result in results
        if target.applies(result) and not result.series[target.theirs].failure
    ]


def allowed_memory(result: Result) -> int:
    """Bytes of peak memory that a merge of the image may use."""
    return MEMORY + MEMORY_PER_PATH * result.image.paths


def used_memory(result: Result) -> int:
    """The highest peak of any of our runs, in bytes; 0 if none ran."""
    ours = [series for name, series in result.series.items() if name.startswith("streamerge") and series.rounds]
    return max((series.rss for series in ours), default=0)
