"""Ratios of times taken in the same round, and how far they spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.measure import Series


@dataclass(frozen=True, slots=True)
class Spread:
    """Some values: their median, the lowest, the highest, and how many there are."""

    median: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        if self.count == 1:
            return f"{self.median:.2f}"
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


def spread(values: Sequence[float]) -> Spread:
    """The spread of at least one value."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def compare(ours: Series, theirs: Series) -> Spread | None:
    """Our wall time over theirs, round by round; none if no round has both, or one of the two failed."""
    ratios = [our / their for our, their in _pairs(ours, theirs)]
    return spread(ratios) if ratios else None


def surplus(ours: Series, theirs: Series) -> Spread | None:
    """Our wall time less theirs, round by round, in milliseconds; none as with ``compare``."""
    differences = [1000 * (our - their) for our, their in _pairs(ours, theirs)]
    return spread(differences) if differences else None


def _pairs(ours: Series, theirs: Series) -> list[tuple[float, float]]:
    if ours.failure or theirs.failure:
        return []
    both = sorted(ours.rounds.keys() & theirs.rounds.keys())
    return [(ours.rounds[number].wall, theirs.rounds[number].wall) for number in both]
