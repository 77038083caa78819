"""The least product of two sums, by searches for the least weighted sum of both.

The positive points where x*y is at least some value are a convex region. So over any set of points x*y is least in a
corner of the set's convex hull, and there some weighted sum is least as well. Each search draws a line that no point is
below. What is left between two lines and the points where they touch the hull is a triangle. In it x*y is least in a
corner: where the outer corner is worse than the best point known, nothing inside is better. Triangles that may matter
are searched along their third side, the usual scheme for two objectives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite
from typing import Protocol

Point = tuple[float, float]
#: how far beyond the best known product a line aims that is to prove it best: more than rounding
_BEYOND = 1e-6


@dataclass(frozen=True, slots=True)
class Line:
    """No point has a sum of weight times coordinate below ``least``; ``point`` has it, where one is known."""

    weights: Point
    least: float
    point: Point | None = None

    def corner(self, other: Line) -> Point | None:
        """Where two lines cross; None: nowhere."""
        (a, b), (c, d) = self.weights, other.weights
        det = a * d - b * c
        if det == 0:
            return None
        return (self.least * d - b * other.least) / det, (a * other.least - self.least * c) / det


class WeightedSearch(Protocol):
    """Finds points of least weighted sum and remembers the best product among all it saw."""

    @property
    def best_point(self) -> Point | None:
        """The known point of least product."""
        ...

    def useful(self, x: float, y: float) -> bool:
        """Whether a point from here on may be as good as the best one."""
        ...

    def solve(self, weights: Point, enough: Callable[[float], bool]) -> Line:
        """The line of these weights with the point that it touches: of several, the one of least x.

        ``enough`` is asked of each value that nothing is proved to be below; where it says so, the search ends early,
        without a point.
        """
        ...

    def prove(self, least: float) -> None:
        """Take note that no product is below the lower of ``least`` and the best one known."""
        ...


def least_product(search: WeightedSearch, low: Point) -> None:
    """Have ``search`` see a point of least x*y; of several the one of least x.

    ``low``: what neither coordinate of any point is below.
    """
    left, right = Line((1.0, 0.0), low[0]), Line((0.0, 1.0), low[1])
    middle = _tangent(search, search.best_point or low)
    if middle.point is None:
        return
    regions = [(left, middle), (middle, right)]
    while regions:
        regions.sort(key=lambda r: _product(*r), reverse=True)
        search.prove(_product(*regions[-1]))
        left, right = regions.pop()
        if not _useful(search, left, right):
            return  # the others are no better
        regions += _divide(search, left, right)


def _tangent(search: WeightedSearch, point: Point) -> Line:
    """The line that touches the hull where going along the curve of equal product through the best point ends."""
    product = inf
    while True:
        x, y = point
        line = search.solve((y or 1.0, x or 1.0), lambda _: False)
        if line.point is None or not line.point[0] * line.point[1] < product:
            return line
        point = line.point
        product = point[0] * point[1]


def _divide(search: WeightedSearch, left: Line, right: Line) -> list[tuple[Line, Line]]:
    """Search between two lines; the regions that remain."""
    weights = _weights(search, left, right)

    def enough(least: float) -> bool:
        new = Line(weights, least)
        return not isfinite(least) or not any(_useful(search, new, old) for old in (left, right))

    line = search.solve(weights, enough)
    if line.point is None:
        return []
    x = line.point[0]
    if (left.point and x <= left.point[0]) or (right.point and x >= right.point[0]):
        return []  # no new corner of the hull
    if weights == left.weights:
        return [(line, right)]
    if weights == right.weights:
        return [(left, line)]
    return [(left, line), (line, right)]


def _weights(search: WeightedSearch, left: Line, right: Line) -> Point:
    """In which direction to search between two lines, of which one has a point at least.

    With two points, along the line through both. With one, so that the line through it would leave a corner just beyond
    the best product: if nothing is below it, that side is done.
    """
    if left.point is not None and right.point is not None:
        return max(0.0, left.point[1] - right.point[1]), right.point[0] - left.point[0]
    open_line, point = (left, right.point) if left.point is None else (right, left.point)
    best = search.best_point
    if open_line.least <= 0 or point is None or best is None:
        return open_line.weights
    other = best[0] * best[1] * (1 + _BEYOND) / open_line.least
    aim = (open_line.least, other) if open_line is left else (other, open_line.least)
    return abs(aim[1] - point[1]), abs(aim[0] - point[0])


def _product(left: Line, right: Line) -> float:
    """What no product between two lines is below."""
    corner = left.corner(right)
    return inf if corner is None else max(0.0, corner[0]) * max(0.0, corner[1])


def _useful(search: WeightedSearch, left: Line, right: Line) -> bool:
    corner = left.corner(right)
    return corner is not None and search.useful(max(0.0, corner[0]), max(0.0, corner[1]))
