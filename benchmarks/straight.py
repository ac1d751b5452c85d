"""Is a curve a straight line?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE = 0.2
"""What a point may be off the line, as a share of itself."""


@dataclass(frozen=True, slots=True)
class Line:
    """``offset + slope * x``, and how far the worst point is off it, as a share of that point."""

    offset: float
    slope: float
    worst: float

    @property
    def straight(self) -> bool:
        """Whether the points may be said to lie on it."""
        return self.worst <= TOLERANCE


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """The line that is nearest to at least two points (x, y), y above zero, relative to their y.

    Relative, since otherwise the largest of points decades apart would alone decide.
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
