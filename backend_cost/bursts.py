"""How large the bursts across a boundary are along one axis, counted by listing positions lane by lane.

An axis is a single loop dimension, or the output and kernel loop of a sliding window together. Listing is exact for
remainders, padding, strides and dilation alike (docs/simulator.md states what moves when), and slow: ``axis_bursts.py``
and ``stay_bursts.py`` count in closed form, and ask here where lanes are not evenly spaced. Memories that fetch only
what is new are counted so (``sliding.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
import numpy.typing as npt

from dfc.backend_cost.nest import Nest, NestOperand, spatial_levels
from dfc.hwdsl.arch import Arch
from dfc.ir import KERNEL_DIM, OUTPUT_DIM, Dim

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


@lru_cache(maxsize=65536)
def listed_sizes(outputs: LoopAxis, kernels: LoopAxis, window: Window) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Distinct real input positions of each stay and instance below the boundary: (sizes, how many have them)."""
    sizes, counts = np.unique(_window_bursts(outputs, kernels, window), return_counts=True)
    return tuple(sizes.tolist()), tuple(counts.tolist())


@lru_cache(maxsize=65536)
def largest_bursts(outputs: LoopAxis, kernels: LoopAxis, window: Window) -> Ints:
    """(output stays, kernel stays) distinct real input positions of the busiest instance below the boundary."""
    largest: Ints = _window_bursts(outputs, kernels, window).max(axis=(2, 3))
    return largest


def _window_bursts(outputs: LoopAxis, kernels: LoopAxis, window: Window) -> Ints:
    """Distinct real input positions by (output stay, kernel stay, instance above, instance fed)."""
    place = _places(outputs.working(), kernels.working(), window)
    # axes: 0 outer, 1 inner, 2 above, 3 between, 4 inside of o; 5 to 9 alike of f
    by_stay = place.transpose(0, 5, 2, 7, 3, 8, 1, 4, 6, 9)
    above = by_stay.shape[2] * by_stay.shape[3]
    between = by_stay.shape[4] * by_stay.shape[5]
    rows = by_stay.reshape(prod(by_stay.shape[:6]), -1)
    return _distinct(rows).reshape(by_stay.shape[0], by_stay.shape[1], above, between)


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


class DimLister:
    """The dimensions of one operand, to list positions of."""

    def __init__(self, nest: Nest, operand: NestOperand, arch: Arch):
        self.nest = nest
        self.operand = operand
        self.gaps = spatial_levels(nest, operand, arch)
        self.windows = {d: a for a in operand.windows for d in (OUTPUT_DIM[a], KERNEL_DIM[a])}

    def window(self, dim: Dim) -> Window:
        """The window that a dimension belongs to."""
        axis = self.windows[dim]
        nest = self.nest
        return Window(nest.strides[axis], nest.dilations[axis], nest.pads[axis], nest.inputs[axis])

    def axis(self, dim: Dim, below: int, boundary: int) -> LoopAxis:
        """A dimension at a boundary with ``below`` steps inside of the cut."""
        lanes: list[tuple[int, int]] = []
        for u in self.nest.unrolled:
            if u.loop is dim:
                gap = next(g for g, unrolled in enumerate(self.gaps) if u in unrolled)
                lanes.append((u.lanes, 2 if gap < boundary else 1 if gap == boundary else 0))
        return LoopAxis(self.nest.sizes[dim], self.nest.temporal[dim], below, tuple(lanes))
