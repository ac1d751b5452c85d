"""Ratios of times from the same round, and how much they vary."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.measure import Series


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, the lowest and the highest of some values, and their number."""

    median: float
    low: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """The spread of at least one value."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def compare(ours: Series, theirs: Series) -> Spread | None:
    """Our wall time divided by theirs, by round; None if no round has both, or if one of the two failed."""
    ratios = [our / their for our, their in _pairs(ours, theirs)]
    return spread(ratios) if ratios else None


def surplus(ours: Series, theirs: Series) -> Spread | None:
    """Our wall time minus theirs, by round, in milliseconds; None in the same cases as for ``compare``."""
    differences = [1000 * (our - their) for our, their in _pairs(ours, theirs)]
    return spread(differences) if differences else None


def _pairs(ours: Series, theirs: Series) -> list[tuple[float, float]]:
    if ours.failure or theirs.failure:
        return []
    both = sorted(ours.rounds.keys() & theirs.rounds.keys())
    return [(ours.rounds[number].wall, theirs.rounds[number].wall) for number in both]
