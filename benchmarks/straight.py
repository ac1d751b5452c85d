"""Fit a straight line to measured points, and tell how well it fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE = 0.2
"""How far a point may be off the line, as a share of its own value."""


@dataclass(frozen=True, slots=True)
class Line:
    """``offset + slope * x``; ``worst`` is how far the worst point is off, as a share of its own value."""

    offset: float
    slope: float
    worst: float

    @property
    def straight(self) -> bool:
        """Whether every point is within the tolerance."""
        return self.worst <= TOLERANCE


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """The line that fits at least two points (x, y) best, with distances measured relative to y, which is above 0.

    With absolute distances, the largest of points that are decades apart would decide alone.
    """
    weights = [1 / y**2 for _, y in points]
    total = sum(weights)
    mean_x = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    mean_y = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    covariance = sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points, strict=True))
    variance = sum(w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    slope = covariance / variance
    offset = mean_y - slope * mean_x
    return Line(offset, slope, max(abs(offset + slope * x - y) / y for x, y in points))
