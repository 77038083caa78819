"""Words of a memory that fetches only what is new of a sliding window (``fetch new`` on the page).

What is new depends on which loop advanced: when loop j beyond the cut steps on, the loops inside of it start again.
Along each axis the positions before and after are compared; a stay keeps the product of what every axis keeps. The
memory above sends what is new to at least one of the instances that it feeds (docs/simulator.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil

import numpy as np

from dfc.backend_cost.bursts import DimLister, Ints
from dfc.backend_cost.nest import Loop, Mapping
from dfc.backend_cost.tables import Bools, Tables
from dfc.hwdsl.arch import Move
from dfc.ir import KERNEL_DIM, OUTPUT_DIM, Dim

#: (outer position before, outer position after) along the dimensions of one axis; None before the first stay
Change = tuple[tuple[int, ...] | None, tuple[int, ...]]
#: (positions now, of these kept) and how often
Kept = Counter[tuple[int, int]]


class _AxisSets:
    """The positions that instances touch along one axis (a dimension, or a window's two), per outer position."""

    def __init__(self, counter: DimLister, dims: tuple[Dim, ...], below: dict[Dim, int], boundary: int):
        self.dims = dims
        operand = counter.operand
        self.relevant = dims[0] in operand.dims
        self.indices = [counter.axis(d, below[d], boundary).indices() for d in dims]
        self.window = counter.window(dims[0]) if len(dims) == 2 else None

    def touched(self, at: tuple[int, ...]) -> Bools:
        """Whether each (instance above, instance fed) touches each position; for an idle axis one position: work."""
        if self.window is None:
            index = self.indices[0][at[0]]  # inner step, above, between, inside
            if not self.relevant:
                work = np.where(index >= 0, 0, -1).max(axis=(0, 3))  # the one position of an idle axis
                return _members(work[:, :, None], 1)
            rows = index.transpose(1, 2, 0, 3).reshape(*index.shape[1:3], -1)
            return _members(rows, int(self.indices[0].max()) + 1)
        o, f = (i[p] for i, p in zip(self.indices, at, strict=True))
        o = o.reshape(*o.shape, 1, 1, 1, 1)
        f = f.reshape(1, 1, 1, 1, *f.shape)
        w = self.window
        place = w.stride * o + w.dilation * f - w.pad
        real = (o >= 0) & (f >= 0)
        real &= (place >= 0) & (place < w.extent) if w.extent else True
        offset = w.pad  # positions before the map count when the window is not clipped
        shifted = np.where(real, place + offset, -1).transpose(1, 5, 2, 6, 0, 3, 4, 7)
        shape = shifted.shape
        rows = shifted.reshape(shape[0] * shape[1], shape[2] * shape[3], -1)
        span = w.stride * (self.indices[0].max() + 1) + w.dilation * (self.indices[1].max() + 1) + 1
        return _members(rows, int(span))

    def compare(self, change: Change) -> tuple[Kept, Kept]:
        """(below, above) the boundary: positions now and kept, over instances."""
        before, after = change
        now = self.touched(after)
        had = np.zeros_like(now) if before is None else self.touched(before)
        kept = now & had
        fed = Counter(zip(now.sum(axis=2).reshape(-1).tolist(), kept.sum(axis=2).reshape(-1).tolist(), strict=True))
        union = now.any(axis=1)
        fresh_to_some = (now & ~had).any(axis=1)
        held = union & ~fresh_to_some
        feeding = Counter(zip(union.sum(axis=1).tolist(), held.sum(axis=1).tolist(), strict=True))
        return fed, feeding


def _members(rows: Ints, size: int) -> Bools:
    """Membership (above, between, position) of index lists; negative indices are nowhere."""
    found = np.zeros((*rows.shape[:2], max(1, int(size)) + 1), dtype=bool)
    above: Ints = np.arange(rows.shape[0], dtype=np.int64).reshape(-1, 1, 1)
    between: Ints = np.arange(rows.shape[1], dtype=np.int64).reshape(1, -1, 1)
    found[above, between, np.where(rows >= 0, rows, -1)] = True
    found[:, :, -1] = False
    return found


def _changes(dims: tuple[Dim, ...], loops: list[Loop], advancing: int) -> Iterator[Change]:
    """Every change of an axis' outer position when loop ``advancing`` steps on (-1: the first stay)."""
    choices: list[list[tuple[int, int]]] = []
    for k, loop in enumerate(loops):
        if loop.dim not in dims:
            continue
        if advancing < 0:
            choices.append([(0, 0)])
        elif k < advancing:
            choices.append([(loop.size - 1, 0)])
        elif k == advancing:
            choices.append([(v, v + 1) for v in range(loop.size - 1)])
        else:
            choices.append([(v, v) for v in range(loop.size)])
    mine = [loop for loop in loops if loop.dim in dims]
    for digits in product(*choices):
        before, after = [0] * len(dims), [0] * len(dims)
        weight = [1] * len(dims)
        for loop, (old, new) in zip(mine, digits, strict=True):
            i = dims.index(loop.dim)
            before[i] += old * weight[i]
            after[i] += new * weight[i]
            weight[i] *= loop.size
        yield (None if advancing < 0 else tuple(before)), tuple(after)


def _times(loops: list[Loop], dims_known: set[Dim], advancing: int) -> int:
    """How often a loop steps on because of loops that belong to no axis that was counted."""
    times = 1
    for k, loop in enumerate(loops):
        if loop.dim not in dims_known and k >= advancing >= 0:
            times *= loop.size - 1 if k == advancing else loop.size
    return times


@dataclass(frozen=True)
class NewBursts:
    """Bursts across a boundary by their number of new elements, below and above it."""

    fed: Counter[int]
    feeding: Counter[int]

    def words(self, feeding: bool, bits: int, step: int, width: int) -> float:
        """Words of all bursts at one edge."""
        side = self.feeding if feeding else self.fed
        return sum(ceil(n * bits / step) * step / width * times for n, times in side.items() if n > 0)


def new_bursts(counter: DimLister, boundary: int, inner: dict[Dim, int], beyond: list[tuple[Dim, int]]) -> NewBursts:
    """Count the bursts of an input whose memory below ``boundary`` fetches only what is new.

    inner: products of the loops inside the (effective) cut per dimension; beyond: the other loops, innermost first.
    """
    nest, operand = counter.nest, counter.operand
    pairs = [(OUTPUT_DIM[a], KERNEL_DIM[a]) for a in operand.windows]
    paired = {d for p in pairs for d in p}
    single = [d for d in Dim if d not in paired and (nest.sizes[d] > 1 or d in nest.idling)]
    axes: list[tuple[Dim, ...]] = [*pairs, *((d,) for d in single)]
    sets = [_AxisSets(counter, dims, inner, boundary) for dims in axes]
    loops = [Loop(d, s) for d, s in beyond]
    fed: Counter[int] = Counter()
    feeding: Counter[int] = Counter()
    for advancing in range(-1, len(loops)):
        sides: tuple[Kept, Kept] = (Counter({(1, 1): 1}), Counter({(1, 1): 1}))
        for dims, axis in zip(axes, sets, strict=True):
            below: Kept = Counter()
            above: Kept = Counter()
            for change in _changes(dims, loops, advancing):
                a, b = axis.compare(change)
                below += a
                above += b
            sides = (_joined(sides[0], below), _joined(sides[1], above))
        times = _times(loops, {d for dims in axes for d in dims}, advancing)
        for side, kept in zip((fed, feeding), sides, strict=True):
            for (now, had), count in kept.items():
                side[now - (0 if advancing < 0 else had)] += count * times
    return NewBursts(fed, feeding)


def _joined(one: Kept, other: Kept) -> Kept:
    found: Kept = Counter()
    for (a, b), m in one.items():
        for (c, d), n in other.items():
            if a * c:
                found[a * c, b * d] += m * n
    return found


def mapping_words(
    tables: Tables, mapping: Mapping, point: list[int], ends: list[list[int]]
) -> dict[tuple[int, int, Move], float]:
    """Words of every link of a mapping: (operand, boundary, move) -> words.

    ``point`` is the tables' point after each number of loops, ``ends`` where the cuts of each operand end up.
    """
    found: dict[tuple[int, int, Move], float] = {}
    for table, cuts in zip(tables.operands, ends, strict=True):
        points = [0, *(point[cut] for cut in cuts[:-1])]  # by boundary
        words = table.traffic.words_at(points)
        for link in table.links:
            kinds = words[link.boundary][link.side]
            moved = sum([kinds[k] for k in link.kinds])
            for boundary, off, factor in link.coupled if table.fresh_starts else ():
                moved -= float(off[points[link.boundary] if link.boundary else 0] * factor[points[boundary]])
            found[link.operand, link.boundary, link.move] = moved
    return found | sliding_words(tables, mapping, ends)


def sliding_words(tables: Tables, mapping: Mapping, ends: list[list[int]]) -> dict[tuple[int, int, Move], float]:
    """Words of the links of a mapping whose lower memory fetches only what is new: (operand, boundary, move) -> words.

    The search compares mappings as if whole tiles were fetched; what is found is priced with what is new.
    """
    found: dict[tuple[int, int, Move], float] = {}
    if not tables.model.whole_lanes:
        return found
    for index, (table, cuts) in enumerate(zip(tables.operands, ends, strict=True)):
        operand = table.operand
        for a in range(1, len(operand.memories)):
            if operand.is_output or operand.bits == 0 or not tables.arch.memories[operand.memories[a - 1]].fetch_new:
                continue
            counter = DimLister(tables.nest, operand, tables.arch)
            inside = cuts[a - 1]
            inner = dict.fromkeys(Dim, 1)
            for loop in mapping.loops[:inside]:
                inner[loop.dim] *= loop.size
            bursts = new_bursts(counter, a, inner, [(x.dim, x.size) for x in mapping.loops[inside:]])
            upper, lower = (tables.arch.memories[operand.memories[i]] for i in (a, a - 1))
            found[index, a, Move.READ_DOWN] = bursts.words(
                True, operand.bits, upper.min_read_bits, upper.read_bits_per_cycle
            )
            found[index, a, Move.WRITE_DOWN] = bursts.words(
                False, operand.bits, lower.min_write_bits, lower.write_bits_per_cycle
            )
    return found
