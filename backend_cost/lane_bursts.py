"""Bursts across the boundaries of an operand, as arrays over its grid: counted lane by lane, or as the reference does.

The memory below a boundary takes a burst per stay, the memory above sends one that serves all the instances that it
feeds. With whole lanes both are the same count at different *thresholds* (:class:`UnrolledDim`): what an instance above
boundary a touches is what an instance at threshold a + 1 does.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from dfc.backend_cost.axis_bursts import plain_sizes, window_sizes
from dfc.backend_cost.grid import Floats, OperandGrid
from dfc.backend_cost.spatial import Gaps, Lanes, UnrolledDim, unrolled_dim
from dfc.ir import KERNEL_DIM, OUTPUT_DIM, Dim

#: (boundaries, sides) thresholds at which the memory above and the memory below a boundary are counted
_SIDES = np.arange(64)[:, None] + np.array([1, 0])


@dataclass(frozen=True)
class Bursts:
    """All bursts of an operand by (boundary, side): side 0 is sent by the memory above, side 1 taken by the one below.

    Boundary 0 has one step per stay and is meant at the grid's first product.

    sizes, counts: (boundaries, sides, entries, addressed) sizes in elements, and how many stays and instances along
                   the dimensions that address the operand have them.
    times:         (boundaries, sides, idle) how often each of them happens because of the other dimensions.
    last:          (boundaries, sides, idle or 1) how many of those happen in the last of these' outer steps with work.
    """

    sizes: Floats
    counts: Floats
    times: Floats
    last: Floats


def reference_bursts(grid: OperandGrid, lanes: Lanes, units: list[int], elements: Floats, stays: Floats) -> Bursts:
    """Bursts with the reference's fractional lanes (B.e.3, B.e.4).

    ``units`` are the instances in use per level; ``elements`` (boundaries, addressed), those of boundary 0 being
    ignored; ``stays`` (addressed,) the steps outside of the dimensions that address the operand.
    """
    n = len(elements)
    factors = np.array(((lanes.boost[:n], [1] * n), (units[1:], units[:n])), dtype=float).transpose(0, 2, 1)
    fed = np.rint(elements)
    fed[0] = 1.0
    sizes = fed[:, None] * factors[0, :, :, None]
    instances = factors[1, :, :, None]
    return Bursts(sizes[:, :, None], stays, instances * grid.visits, instances)


class LaneBursts:
    """Counts the bursts of one operand lane by lane."""

    def __init__(self, grid: OperandGrid, gaps: Gaps):
        self.grid = grid
        self.nest = grid.nest
        self.gaps = gaps
        self.thresholds = range(len(grid.operand.memories) + 1)
        dims = {int(u.loop): u.loop for u in self.nest.unrolled}
        dims.update((int(d), d) for d in self.nest.idling)
        #: dimensions with lanes, or with steps that do nothing
        self.dims = {i: unrolled_dim(self.nest, gaps, d) for i, d in dims.items()}

    def dim(self, dim: Dim) -> UnrolledDim:
        """A dimension with the operand's lanes."""
        found = self.dims.get(int(dim))
        if found is None:
            found = self.dims[int(dim)] = unrolled_dim(self.nest, self.gaps, dim)
        return found

    def bursts(self) -> Bursts:
        """The bursts: rows are thresholds until here."""
        sides = _SIDES[: len(self.thresholds) - 1]
        common, tables = self.axes()
        found = common[:, :, None, None]
        for table in tables:
            found = outer_entries(found, table)
        return Bursts(found[0][sides], found[1][sides], *self.often())

    def often(self) -> tuple[Floats, Floats]:
        """``Bursts.times`` and ``Bursts.last``."""
        sides = _SIDES[: len(self.thresholds) - 1]
        times, last = self._idle()
        return times[sides], last[sides]

    def axes(self) -> tuple[Floats, list[Floats]]:
        """Sizes and counts over the dimensions that address the operand, all of them independent of each other.

        (2, thresholds) what all products have in common, and a table of each axis: (2, thresholds or 1, entries,
        products).
        """
        sizes = [1.0] * len(self.thresholds)
        counts = [1.0] * len(self.thresholds)
        tables: list[Floats] = []
        for dim in self.grid.plain:
            unrolled = self.dims.get(int(dim))
            if unrolled is not None and unrolled.remainder:
                tables.append(plain_sizes(unrolled, self.grid.grid.below[dim]))
                continue
            if unrolled is not None:
                sizes = [s * i for s, i in zip(sizes, unrolled.inside, strict=True)]
                counts = [c * o for c, o in zip(counts, unrolled.outside, strict=True)]
            tables.append(self.grid.grid.of(dim)[:, None, None])
        for axis in self.grid.operand.windows:
            o, f = OUTPUT_DIM[axis], KERNEL_DIM[axis]
            below = self.grid.grid.below[o], self.grid.grid.below[f]
            tables.append(window_sizes((self.dim(o), self.dim(f)), below, self.nest.window_shape(axis)))
        return np.array((sizes, counts)), tables

    def _idle(self) -> tuple[Floats, Floats]:
        """How often instances have work because of the dimensions that do not address the operand."""
        lanes = [self.dims[int(d)] for d in self.grid.idle if int(d) in self.dims]
        if not any(unrolled.remainder for unrolled in lanes):
            instances = np.array([[float(prod(u.outside[t] for u in lanes))] for t in self.thresholds])
            return instances * self.grid.visits, instances
        times = last = np.ones((len(self.thresholds), 1))
        for dim in self.grid.idle:
            busy = self._busy(dim)
            times = _outer_rows(times, busy[0])
            last = _outer_rows(last, busy[1])
        return times, last

    def _busy(self, dim: Dim, first_of_gap: int = -1) -> Floats:
        """(2, thresholds, count) stays of instances with work along an idle dimension; those of the last with any.

        With ``first_of_gap`` only the instances at the first of the lanes of that gap count.
        """
        products = self.grid.grid.of(dim)
        unrolled = self.dim(dim)
        found = np.empty((2, len(self.thresholds), products.shape[1]))
        full_stays, full_steps = np.divmod(unrolled.full_steps, products[0])
        for t in self.thresholds:
            outside = unrolled.outside[t]
            if first_of_gap >= 0:
                outside = 1
                for n, gap in unrolled.lanes:
                    outside *= n if gap >= t and gap != first_of_gap else 1
            after = sum(count for used, count in unrolled.next_step(t, first_of_gap) if used)
            found[0, t] = outside * full_stays + np.where(full_steps > 0, outside, after)
            # the last stay with work: of instances that all have full steps, or of some in the step after these alone
            found[1, t] = np.where(full_steps == 0, after or outside, outside)
        return found

    def fresh_starts(self, gap: int) -> Floats | None:
        """How often sums start from zero because an unrolled reduction in ``gap`` lies above, over the idle grid.

        An instance that is not the first lane of the reduction gets nothing back from above the gap: it starts anew
        with each stay of the memory below the gap. Counts stays and such instances; None where nothing is unrolled so.
        """
        if not any(self.grid.operand.irrelevant(u.loop) and u.lanes > 1 for u in self.gaps[gap]):
            return None
        every = first = np.ones((1, 1))
        for dim in self.grid.idle:
            every = _outer_rows(every, self._busy(dim)[0, gap : gap + 1])
            first = _outer_rows(first, self._busy(dim, gap)[0, gap : gap + 1])
        starts: Floats = (every - first)[0]
        return starts


def _outer_rows(found: Floats, more: Floats) -> Floats:
    return (found[:, :, None] * more[:, None, :]).reshape(len(found), -1)


def outer_entries(found: Floats, more: Floats) -> Floats:
    """Sizes and counts (kinds, thresholds, entries, products) of independent axes together."""
    if found.shape[2:] == (1, 1) or more.shape[2:] == (1, 1):
        return found * more
    kinds, rows, entries, products = found.shape
    both = found[:, :, :, None, :, None] * more[:, :, None, :, None, :]
    return both.reshape(kinds, rows, entries * more.shape[2], products * more.shape[3])
