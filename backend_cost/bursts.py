"""How large the bursts across a boundary are, counted by listing positions lane by lane: what time depends on.

A stay of a memory touches a product of per-axis position sets, so its size is a product of per-axis counts. An axis is
a single loop dimension, or the output and kernel loop of a sliding window together. Each axis is counted by listing its
positions, which is exact for remainders, padding, strides and dilation alike (docs/simulator.md states what moves
when); results are kept, as few different axes occur. ``axis_bursts.py`` counts the same in closed form, for energy.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
import numpy.typing as npt

from dfc.backend_cost.nest import Nest, NestOperand, spatial_levels
from dfc.hwdsl.arch import Arch
from dfc.ir import KERNEL_DIM, OUTPUT_DIM, Axis, Dim

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_NOWHERE = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class LoopAxis:
    """One dimension at one boundary: its size, temporal steps, steps below the boundary, and its lanes.

    ``lanes`` are (number, where) from the least significant: where they fan out, 2 within an instance below the
    boundary, 1 between the instance above and those that it feeds, 0 among the instances above.
    """

    size: int
    steps: int
    below: int
    lanes: tuple[tuple[int, int], ...]

    def indices(self) -> Ints:
        """Index per (outer step, inner step, lane above, lane between, lane inside); -1 where beyond the size."""
        outwards = self.lanes[::-1]
        total = prod(n for n, _ in outwards)
        place = [where for _, where in outwards]
        order = sorted(range(len(place)), key=place.__getitem__)
        split = [prod(n for n, where in outwards if where == w) for w in range(3)]
        lane = np.arange(total, dtype=np.int64).reshape([n for n, _ in outwards]).transpose(order).reshape(1, 1, *split)
        step = np.arange(self.steps, dtype=np.int64).reshape(self.steps // self.below, self.below, 1, 1, 1)
        index = step * total + lane
        return np.where(index < self.size, index, -1)

    def working(self) -> Ints:
        """The same for the outer steps in which anything works: they come first."""
        stays = -(-self.size // (self.below * prod(n for n, _ in self.lanes)))
        return self.indices()[:stays]


@dataclass(frozen=True, slots=True)
class Window:
    """How an axis' output and kernel loops address the input together."""

    stride: int
    dilation: int
    pad: int
    extent: int


#: over the stays of an axis, the largest burst of any instance below and above the boundary, with counts
Longest = tuple[tuple[int, int, int], ...]


def _longest(fed: Ints, feeding: Ints, stays: int) -> Longest:
    largest = np.stack([fed.reshape(stays, -1).max(axis=1), feeding.reshape(stays, -1).max(axis=1)], axis=1)
    pairs, counts = np.unique(largest, axis=0, return_counts=True)
    return tuple((int(a), int(b), int(n)) for (a, b), n in zip(pairs.tolist(), counts.tolist(), strict=True))


@lru_cache(maxsize=65536)
def plain_longest(axis: LoopAxis) -> Longest:
    """A dimension that addresses the operand by itself."""
    valid = axis.working() >= 0
    fed = valid.sum(axis=(1, 4))
    return _longest(fed, fed.sum(axis=2), len(valid))


@lru_cache(maxsize=65536)
def window_longest(outputs: LoopAxis, kernels: LoopAxis, window: Window) -> Longest:
    """A sliding window: distinct real input positions."""
    fed, feeding = _window_bursts(outputs, kernels, window)
    return _longest(fed, feeding, len(fed))


@lru_cache(maxsize=65536)
def listed_sizes(outputs: LoopAxis, kernels: LoopAxis, window: Window) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Distinct real input positions of each stay and instance below the boundary: (sizes, how many have them)."""
    fed, _ = _window_bursts(outputs, kernels, window)
    sizes, counts = np.unique(fed, return_counts=True)
    return tuple(sizes.tolist()), tuple(counts.tolist())


def _window_bursts(outputs: LoopAxis, kernels: LoopAxis, window: Window) -> tuple[Ints, Ints]:
    """Distinct real input positions by (stay, instance above, instance fed) and by (stay, instance above)."""
    place = _places(outputs.working(), kernels.working(), window)
    # axes: 0 outer, 1 inner, 2 above, 3 between, 4 inside of o; 5 to 9 alike of f
    by_stay = place.transpose(0, 5, 2, 7, 3, 8, 1, 4, 6, 9)
    stays = by_stay.shape[0] * by_stay.shape[1]
    above = by_stay.shape[2] * by_stay.shape[3]
    between = by_stay.shape[4] * by_stay.shape[5]
    fed = _distinct(by_stay.reshape(stays * above * between, -1)).reshape(stays, above, between)
    feeding = _distinct(by_stay.reshape(stays * above, -1)).reshape(stays, above)
    return fed, feeding


def _places(o: Ints, f: Ints, window: Window) -> Ints:
    """Input position of every pair of indices: the five axes of ``o``, then those of ``f``; _NOWHERE for padding."""
    o = o.reshape(*o.shape, 1, 1, 1, 1, 1)
    f = f.reshape(1, 1, 1, 1, 1, *f.shape)
    place = window.stride * o + window.dilation * f - window.pad
    real = (o >= 0) & (f >= 0)
    if window.extent:
        real &= (place >= 0) & (place < window.extent)
    return np.where(real, place, _NOWHERE)


def _distinct(rows: Ints) -> Ints:
    """Distinct positions in each row."""
    ordered = np.sort(rows, axis=1)
    fresh = np.ones(ordered.shape, dtype=bool)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    counts: Ints = (fresh & (ordered != _NOWHERE)).sum(axis=1)
    return counts


@dataclass(frozen=True)
class PerPoint:
    """What depends on few numbers of a point: the distinct values, and which one each point has."""

    values: list[Longest]
    of_point: Ints


class Points:
    """Points (points, dims) where loops are cut, and the few different numbers of their dimensions."""

    def __init__(self, points: Floats):
        self.points: Ints = points.astype(np.int64)
        self._distinct: dict[tuple[Dim, ...], tuple[list[tuple[int, ...]], Ints]] = {}

    def distinct(self, dims: tuple[Dim, ...]) -> tuple[list[tuple[int, ...]], Ints]:
        """The different tuples of numbers in some dimensions, and which one each point has."""
        if dims not in self._distinct:
            columns = [self.points[:, d] for d in dims]
            code = columns[0]
            for column in columns[1:]:
                code = code * (column.max(initial=0) + 1) + column
            _, where, of_point = np.unique(code, return_index=True, return_inverse=True)
            below = list(zip(*(column[where].tolist() for column in columns), strict=True))
            self._distinct[dims] = below, of_point
        return self._distinct[dims]


class BurstCounter:
    """Counts the bursts of one operand over points; ``Points`` may be shared with the counters of other operands."""

    def __init__(self, nest: Nest, operand: NestOperand, arch: Arch, points: Floats | Points):
        self.nest = nest
        self.operand = operand
        self.points = points if isinstance(points, Points) else Points(points)
        self.gaps = spatial_levels(nest, operand, arch)
        self._found: dict[tuple[Dim, int], tuple[tuple[int, int], ...]] = {}
        self.windows = {d: a for a in operand.windows for d in (OUTPUT_DIM[a], KERNEL_DIM[a])}

    def without_points(self) -> BurstCounter:
        """The same for boundary 0 alone, which no point moves: small enough to be kept."""
        found = copy(self)
        found.points = self._points_at(0)
        return found

    def window(self, dim: Dim) -> Window:
        """The window that a dimension belongs to."""
        axis = self.windows[dim]
        nest = self.nest
        return Window(nest.strides[axis], nest.dilations[axis], nest.pads[axis], nest.inputs[axis])

    def axis(self, dim: Dim, below: int, boundary: int) -> LoopAxis:
        """A dimension at a boundary with ``below`` steps inside of the cut."""
        return LoopAxis(self.nest.sizes[dim], self.nest.temporal[dim], below, self._lanes(dim, boundary))

    def _lanes(self, dim: Dim, boundary: int) -> tuple[tuple[int, int], ...]:
        """A dimension's lanes and where they fan out, as in ``LoopAxis``."""
        if (dim, boundary) not in self._found:
            lanes: list[tuple[int, int]] = []
            for u in self.nest.unrolled:
                if u.loop is dim:
                    gap = next(g for g, unrolled in enumerate(self.gaps) if u in unrolled)
                    lanes.append((u.lanes, 2 if gap < boundary else 1 if gap == boundary else 0))
            self._found[dim, boundary] = tuple(lanes)
        return self._found[dim, boundary]

    def _profiles(self, boundary: int, points: Points) -> list[PerPoint]:
        """Per axis that addresses the operand, the longest bursts at each point."""
        found: list[PerPoint] = []
        for dim in Dim:
            if dim in self.windows or dim not in self.operand.dims or self.nest.sizes[dim] == 1:
                continue
            below, of_point = points.distinct((dim,))
            found.append(PerPoint([plain_longest(self.axis(dim, p, boundary)) for (p,) in below], of_point))
        return found + [self._window_profiles(axis, boundary, points) for axis in self.operand.windows]

    def _window_profiles(self, axis: Axis, boundary: int, points: Points) -> PerPoint:
        o, f = OUTPUT_DIM[axis], KERNEL_DIM[axis]
        window = self.window(o)
        below, of_point = points.distinct((o, f))
        found = [window_longest(self.axis(o, p, boundary), self.axis(f, q, boundary), window) for p, q in below]
        return PerPoint(found, of_point)

    def visits(self, boundary: int) -> Floats:
        """How many stays touch the same elements, per point."""
        points = self._points_at(boundary)
        left = np.ceil(np.array(self.nest.fewest_steps) / points.points)
        others = [d for d in Dim if self.operand.irrelevant(d)]
        visits: Floats = left[:, others].prod(axis=1)
        return visits

    def _points_at(self, boundary: int) -> Points:
        return self.points if boundary else Points(np.ones((1, len(Dim))))

    def longest(self, boundary: int) -> tuple[Floats, Floats, Floats]:
        """The longest bursts of working stays over instances: sizes below and above the boundary, how many stays."""
        points = self._points_at(boundary)
        n = len(points.points)
        found = np.ones((n, 1, 3))
        for axis in self._profiles(boundary, points):
            width = max(map(len, axis.values))
            rows = [[*p, *[(0, 0, 0)] * (width - len(p))] for p in axis.values]
            padded = np.array(rows, dtype=float)[axis.of_point]
            found = (found[:, :, None, :] * padded[:, None, :, :]).reshape(n, -1, 3)
        return found[:, :, 0], found[:, :, 1], found[:, :, 2]

    def step_factors(self, dims: tuple[Dim, ...]) -> Ints:
        """How many positions along one axis the innermost memory's busiest instance touches in each working step.

        ``dims`` is a dimension, or the output and kernel loop of a window; steps run over both, the first fastest.
        """
        factors = [self._step_factor(d) for d in dims]
        if len(dims) == 2 and dims[0] in self.windows:
            o, f = (self.axis(d, 1, 0).working() for d in dims)
            return _window_steps(o, f, self.window(dims[0]))
        if len(dims) == 1:
            return factors[0]
        return (factors[1][:, None] * factors[0][None, :]).reshape(-1)

    def _step_factor(self, dim: Dim) -> Ints:
        if dim not in self.operand.dims:
            return np.ones(self.nest.fewest_steps[dim], dtype=np.int64)
        valid = self.axis(dim, 1, 0).working() >= 0
        counts: Ints = valid.sum(axis=(1, 3, 4)).max(axis=1)
        return counts


def _window_steps(o: Ints, f: Ints, window: Window) -> Ints:
    """Distinct real positions of a window in each step (kernel outer, output inner), of the busiest instance."""
    by_step = _places(o, f, window).transpose(5, 0, 2, 7, 1, 3, 4, 6, 8, 9)
    steps = by_step.shape[0] * by_step.shape[1]
    rows = by_step.shape[2] * by_step.shape[3]
    largest: Ints = _distinct(by_step.reshape(steps * rows, -1)).reshape(steps, rows).max(axis=1)
    return largest
