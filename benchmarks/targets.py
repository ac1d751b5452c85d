"""What streamerge shall reach, and whether it does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks import ratio
from benchmarks.images import Image
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
"""Bytes: what a merge may take at its peak, and how much more for each distinct path."""


@dataclass(frozen=True, slots=True)
class Place:
    """A directory to work in, and the kind of file system that it is on."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one image in one compression at one place."""

    image: Image
    place: Place
    contenders: Sequence[Contender]
    series: dict[str, Series]
    paths: int
    """How many distinct paths its layers have."""


@dataclass(frozen=True, slots=True)
class Target:
    """At most so many times the rival's wall time, of the median."""

    work: str
    against: str
    limit: float
    ours: str
    theirs: str
    images: frozenset[str] = frozenset()
    """Names; empty for all."""
    compressions: frozenset[str] = ALL

    def applies(self, result: Result) -> bool:
        """Whether it is about such an image, and both took part."""
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
    Target("zstd, both of these → tar", "zstd -dc", 1.1, TAR, "zstd -dc", frozenset({"big", "many"})),
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
    Target("any → directory", "tar -x merged", 1.2, DIRECTORY, "tar -x merged"),
    Target("compressed → directory", EXTRACTS_PACKED, 1.2, DIRECTORY, EXTRACTS_PACKED),
    *_unpackers(),
]


@dataclass(frozen=True, slots=True)
class Case:
    """A target on one image at one place; no spread where one of the two failed."""

    target: Target
    result: Result
    spread: Spread | None

    @property
    def met(self) -> bool:
        """Whether the median is within the limit."""
        return self.spread is not None and self.spread.median <= self.target.limit

    @property
    def median(self) -> float:
        """For sorting: a failure is worse than any ratio."""
        return self.spread.median if self.spread else float("inf")


def cases(target: Target, results: Iterable[Result]) -> list[Case]:
    """The target on all images that it is about, where both took part and the rival did not fail."""
    return [
        Case(target, result, ratio.compare(result.series[target.ours], result.series[target.theirs]))
        for result in results
        if target.applies(result) and not result.series[target.theirs].failure
    ]


def allowed_memory(result: Result) -> int:
    """Bytes that a merge of the image may take at its peak."""
    return MEMORY + MEMORY_PER_PATH * result.paths


def used_memory(result: Result) -> int:
    """The most that any of our runs took; 0 if none ran."""
    ours = [series for name, series in result.series.items() if name.startswith("streamerge") and series.rounds]
    return max((series.rss for series in ours), default=0)
