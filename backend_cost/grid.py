"""The loop products of a list of points, dimension by dimension, and what they multiply up to.

Points are products of few numbers per dimension. What crosses a boundary is a product over dimensions too, so it is
worked out on those few numbers, combined over the dimensions that matter, and only then looked up for every point.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from math import gcd, prod

import numpy as np
import numpy.typing as npt

from dfc.backend_cost.nest import Nest, NestOperand
from dfc.ir import KERNEL_DIM, OUTPUT_DIM, Dim

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Grid:
    """Which products occur.

    products: (2, values) loop products, ascending from 1 (which always is there), dimension after dimension, and
              below each how many steps of its dimension remain outside.
    owner:    (values,) the dimension of each.
    start:    where the values of each dimension begin, and their number at the end.
    running:  dimensions with more than one step.
    place:    (running dims, points) which of its dimension's values a point has.
    """

    products: Floats
    owner: Ints
    start: list[int]
    running: list[int]
    place: Floats

    def count(self, dim: Dim) -> int:
        """How many products of a dimension occur."""
        return self.start[dim + 1] - self.start[dim]

    @cached_property
    def below(self) -> list[tuple[int, ...]]:
        """Per dimension, its products as whole numbers."""
        products: list[int] = self.products[0].astype(np.int64).tolist()
        return [tuple(products[start:stop]) for start, stop in pairwise(self.start)]

    def of(self, dim: Dim) -> Floats:
        """(2, count) the products of a dimension, and the steps outside of each."""
        return self.products[:, self.start[dim] : self.start[dim + 1]]


def grid_of(points: Floats, temporal: tuple[int, ...]) -> Grid:
    """The grid of points (points, dims)."""
    running = [d for d, steps in enumerate(temporal) if steps > 1]
    if not running:
        return _grid(temporal, [], np.ones(0), [1] * len(temporal), np.empty((0, len(points))))
    whole = points.T[running].astype(np.int64)
    room = whole.max(axis=1, initial=1) + 1
    end = room.cumsum()
    first: Ints = end - room
    whole += first[:, None]
    seen = np.zeros(end[-1], dtype=bool)
    seen[whole] = True
    seen[first + 1] = True
    rank = seen.cumsum()
    begin: Ints = rank[first]
    found: Ints = seen.nonzero()[0]
    starts: list[int] = [*begin.tolist(), len(found)]
    here = [stop - start for start, stop in pairwise(starts)]
    counts = [1] * len(temporal)
    for dim, count in zip(running, here, strict=True):
        counts[dim] = count
    place = (rank.take(whole) - (begin + 1)[:, None]).astype(np.float64)
    return _grid(temporal, running, found - first.repeat(here), counts, place)


def _grid(
    temporal: tuple[int, ...], running: list[int], moving: npt.NDArray[np.generic], counts: list[int], place: Floats
) -> Grid:
    """``moving`` are the products of the running dimensions, ``counts`` how many every dimension has."""
    owner = np.arange(len(temporal)).repeat(counts)
    steps = np.array(temporal)[owner]
    products = np.ones((2, len(owner)))
    if running:
        products[0, steps > 1] = moving
    np.divide(steps, products[0], out=products[1])
    return Grid(products, owner, [0, *accumulate(counts)], running, place)


@dataclass(frozen=True)
class OperandGrid:
    """A grid as one operand sees it.

    plain:    dimensions that address it alone.
    idle:     dimensions that do not address it.
    idle_count: how many products these have.
    addressed_place: (points,) where a point stands among all products of the dimensions that address it (``plain`` in
              order, then the output and kernel loop of every window); the last dimension runs fastest.
    place:    (points,) where a point stands in an array over (addressed, idle).
    """

    grid: Grid
    nest: Nest
    operand: NestOperand
    plain: tuple[Dim, ...]
    idle: tuple[Dim, ...]
    idle_count: int
    addressed_place: Ints
    place: Ints

    @cached_property
    def idle_place(self) -> Ints:
        """(points,) where a point stands among all products of the dimensions that do not address the operand."""
        found: Ints = self.place - self.addressed_place * self.idle_count
        return found

    @cached_property
    def visits(self) -> Floats:
        """How many stays touch the same elements: working steps outside of the dimensions that do not address it."""
        found = np.ones(1)
        for dim in self.idle:
            inside, left = self.grid.of(dim)
            if dim in self.nest.idling:
                left = np.ceil(self.nest.fewest_steps[dim] / inside)
            found = found * left if len(found) == 1 or len(left) == 1 else np.multiply.outer(found, left).reshape(-1)
        return found

    def elements(self, lanes: list[list[float]], whole_from: int, *, stays: bool = False) -> Floats:
        """(rows, addressed) elements that the products touch together with the lanes of each row (rows, dims).

        From row ``whole_from`` on, dimensions are rounded up. With ``stays`` a last row is added: how many steps of the
        dimensions that address it remain outside.
        """
        grid, nest = self.grid, self.nest
        rows = len(lanes) + stays
        sizes = np.empty((rows, len(grid.owner)))
        np.multiply(np.array(lanes).take(grid.owner, axis=1), grid.products[0], out=sizes[: len(lanes)])
        if nest.idling:
            # steps that do nothing touch nothing
            np.minimum(sizes, np.array(nest.sizes, dtype=float)[grid.owner], out=sizes)
        if whole_from < len(lanes):
            whole = sizes[whole_from : len(lanes)]
            whole -= 1e-9
            np.ceil(whole, out=whole)
        if stays:
            sizes[-1] = grid.products[1]
        start = grid.start
        found = np.ones((rows, 1))
        for dim in self.plain:
            found = _outer(found, sizes[:, start[dim] : start[dim + 1]])
        for axis in self.operand.windows:
            o, f = OUTPUT_DIM[axis], KERNEL_DIM[axis]
            outputs = sizes[:, start[o] : start[o + 1], None]
            kernels = sizes[:, None, start[f] : start[f + 1]]
            extents = window_extents(outputs, kernels, nest.strides[axis], nest.dilations[axis])
            if stays:
                np.multiply(outputs[-1], kernels[-1], out=extents[-1])
            found = _outer(found, extents.reshape(rows, -1))
        return found


def window_extents(outputs: Floats, kernels: Floats, stride: int, dilation: int) -> Floats:
    """``window_extent`` of nest.py for arrays."""
    common = gcd(stride, dilation)
    gap = np.maximum(0.0, kernels - stride / common)
    found = outputs * kernels
    found -= gap * (outputs - dilation / common)
    return np.trunc(found, out=found)


def _outer(found: Floats, more: Floats) -> Floats:
    """Row by row, all products of two lists."""
    if more.shape[1] == 1 or found.shape[1] == 1:
        return found * more
    return (found[:, :, None] * more[:, None, :]).reshape(len(found), -1)


def operand_grid(grid: Grid, nest: Nest, operand: NestOperand) -> OperandGrid:
    """The grid as an operand of a nest sees it."""
    running = [d for d in Dim if nest.sizes[d] > 1 or d in nest.idling]
    counts = [stop - start for start, stop in pairwise(grid.start)]
    paired = [d for a in operand.windows for d in (OUTPUT_DIM[a], KERNEL_DIM[a])]
    plain = tuple(d for d in running if d in operand.dims and d not in paired)
    idle = tuple(d for d in running if d not in operand.dims)
    idle_count = prod([counts[d] for d in idle])
    addressed, both = [0] * len(counts), [0] * len(counts)
    here, total = 1, idle_count
    for dim in reversed([*plain, *paired]):
        addressed[dim], both[dim] = here, total
        here *= counts[dim]
        total *= counts[dim]
    here = 1
    for dim in reversed(idle):
        both[dim] = here
        here *= counts[dim]
    weights = np.array((addressed, both), dtype=float)
    places: Ints = (weights[:, grid.running] @ grid.place).astype(np.int64)
    return OperandGrid(grid, nest, operand, plain, idle, idle_count, places[0], places[1])
