"""Every mapping of a small nest, listed and priced: slow, obvious, and blind to how the search works.

A mapping is an order of all prime factors of the temporal loops and, per operand, a cut of that order at each of its
memories. All orders are listed, and all cuts; what a memory holds is counted here, position by position. Only the price
comes from the cost model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement
from math import ceil, comb, factorial, gcd, prod

import numpy as np

from dfc.backend_cost import evaluate
from dfc.backend_cost.cost_model import CostModel
from dfc.backend_cost.evaluate import Batch
from dfc.backend_cost.mapping_cost import Objective, mapping_times
from dfc.backend_cost.mapping_search import padded_steps
from dfc.backend_cost.nest import Loop, Mapping, Nest, NestOperand, spatial_levels
from dfc.backend_cost.tables import Tables, build_tables
from dfc.hwdsl.arch import Arch
from dfc.ir import KERNEL_DIM, N_DIMS, OUTPUT_DIM, Dim

#: larger problems are refused: mappings without idle steps, and with all ways to be idle
MOST, MOST_WITH_IDLE = 150_000, 20_000_000
#: mappings that are priced at once, and that are listed at once to see which of them fit
CHUNK, LISTED_AT_ONCE = 1 << 15, 1 << 20
#: relative difference below which two values are one
SAME = 1e-9


class TooManyError(ValueError):
    """There are more mappings than anyone wants to list."""


@dataclass(frozen=True)
class Best:
    """What the best mapping has of everything."""

    score: float
    energy_pj: float
    cycles: float


@dataclass(frozen=True)
class Priced:
    """Energy and cycles of every mapping that fits, each (mappings,)."""

    energy_pj: np.ndarray
    cycles: np.ndarray

    def best(self, objective: Objective, max_cycles: float = np.inf) -> Best | None:
        """The least score; among equal scores the least energy, then the fewest cycles; None where nothing is left."""
        rows = np.flatnonzero(self.cycles <= max_cycles + 1e-6)
        if len(rows) == 0:
            return None
        energy, cycles = self.energy_pj[rows], self.cycles[rows]
        score = {Objective.ENERGY: energy, Objective.LATENCY: cycles, Objective.EDP: energy * cycles}[objective]
        tied = score <= score.min() * (1 + SAME)
        tied &= energy <= energy[tied].min() * (1 + SAME)
        return Best(float(score.min()), float(energy[tied].min()), float(cycles[tied].min()))


def factors(nest: Nest) -> list[Loop]:
    """The prime factors of the temporal loops."""
    found: list[Loop] = []
    for dim in Dim:
        left, divisor = nest.temporal[dim], 2
        while left > 1:
            if left % divisor:
                divisor += 1
            else:
                found.append(Loop(dim, divisor))
                left //= divisor
    return found


def orders(loops: list[Loop]) -> list[tuple[Loop, ...]]:
    """All orders of the loops, each once."""
    if not loops:
        return [()]
    found: list[tuple[Loop, ...]] = []
    for first in dict.fromkeys(loops):
        rest = loops.copy()
        rest.remove(first)
        found += [(first, *order) for order in orders(rest)]
    return found


def count(nest: Nest) -> int:
    """How many mappings there are, whether they fit or not."""
    loops = factors(nest)
    different = factorial(len(loops)) // prod(factorial(loops.count(loop)) for loop in set(loops))
    return different * prod(comb(len(loops) + len(o.memories) - 1, len(loops)) for o in nest.operands)


def with_idle(nest: Nest, model: CostModel) -> list[Nest]:
    """The nest, and it in all the numbers of steps, some of them idle, in which the search would run it."""
    return [nest, *(nest.with_steps(steps) for steps in padded_steps(nest, model))]


def listable(nest: Nest, model: CostModel) -> bool:
    """Whether there are few enough mappings to list them."""
    return count(nest) <= MOST and sum(map(count, with_idle(nest, model))) <= MOST_WITH_IDLE


def price_all(nest: Nest, arch: Arch, model: CostModel) -> Priced:
    """Every mapping that fits, priced; mappings that the model cannot tell apart may be listed once.

    Raises:
        TooManyError: there are more than can be listed, before those that do not fit are left out.
    """
    if not listable(nest, model):
        raise TooManyError
    found = [_Listing(n, arch, model).priced() for n in with_idle(nest, model)]
    return Priced(np.concatenate([f.energy_pj for f in found]), np.concatenate([f.cycles for f in found]))


def price_one(nest: Nest, arch: Arch, mapping: Mapping, model: CostModel) -> Best:
    """Energy and cycles of one mapping, before rounding; its score is the product."""
    nest = nest.with_steps(mapping.steps)
    points = np.array(_prefixes(mapping.loops))
    dims = np.array([[loop.dim for loop in mapping.loops]], dtype=np.int64).reshape(1, -1)
    batch = Batch(dims, np.arange(len(points))[None, :], tuple(np.array([c]) for c in mapping.cuts))
    energy, cycles = _priced(build_tables(nest, arch, points, model), batch)
    return Best(float(energy[0] * cycles[0]), float(energy[0]), float(cycles[0]))


def fits(nest: Nest, arch: Arch, mapping: Mapping, model: CostModel) -> bool:
    """Whether every memory holds all that the mapping puts there."""
    room = {m: arch.memories[m].size_bits for o in nest.operands for m in o.memories}
    for (_, memory), bits in held_bits(nest, arch, mapping, model).items():
        room[memory] -= bits
    return min(room.values()) >= 0


def held_bits(nest: Nest, arch: Arch, mapping: Mapping, model: CostModel) -> dict[tuple[int, int], int]:
    """Bits that each memory holds for each operand: (operand, memory) -> bits."""
    prefixes = _prefixes(mapping.loops)
    found: dict[tuple[int, int], int] = {}
    for i, (operand, cuts) in enumerate(zip(nest.operands, mapping.cuts, strict=True)):
        spatial = _spatial_sums(nest, operand, arch, model)
        for m, memory in enumerate(operand.memories):
            beyond = mapping.loops[cuts[m - 1] if m else 0 :]
            partial = spatial[m] or any(operand.irrelevant(loop.dim) for loop in beyond)
            elements = _elements(nest, operand, prefixes[cuts[m]], _shares_below(nest, operand, arch)[m])
            found[i, memory] = elements * (operand.partial_bits if partial else operand.bits)
    return found


def _prefixes(loops: tuple[Loop, ...]) -> list[tuple[float, ...]]:
    """Products per dimension of the first 0, 1, 2 ... loops."""
    found = [(1.0,) * N_DIMS]
    for loop in loops:
        found.append(tuple(n * loop.size if d == loop.dim else n for d, n in enumerate(found[-1])))
    return found


def _shares_below(nest: Nest, operand: NestOperand, arch: Arch) -> list[list[float]]:
    """Per memory the lanes of each dimension that one instance serves, on average."""
    lanes = [1.0] * N_DIMS
    found: list[list[float]] = []
    for gap in spatial_levels(nest, operand, arch)[:-1]:
        for u in gap:
            lanes[u.loop] *= u.share
        found.append(lanes.copy())
    return found


def _spatial_sums(nest: Nest, operand: NestOperand, arch: Arch, model: CostModel) -> list[bool]:
    """Per memory, whether lanes above it still have to be added up (which the reference forgets)."""
    gaps = spatial_levels(nest, operand, arch)
    above = [[u for gap in gaps[m + 1 :] for u in gap] for m in range(len(operand.memories))]
    return [model.whole_lanes and any(operand.irrelevant(u.loop) and u.lanes > 1 for u in us) for us in above]


def _elements(nest: Nest, operand: NestOperand, temporal: tuple[float, ...], lanes: list[float]) -> int:
    """Elements of the operand that the loops of these sizes touch, started iterations counted whole, idle ones not."""
    size = [min(ceil(t * n - 1e-9), most) for t, n, most in zip(temporal, lanes, nest.sizes, strict=True)]
    slid: set[Dim] = set()
    found = 1
    for axis in operand.windows:
        outputs, kernel = OUTPUT_DIM[axis], KERNEL_DIM[axis]
        slid |= {outputs, kernel}
        found *= _positions(size[outputs], size[kernel], nest.strides[axis], nest.dilations[axis])
    return found * prod(size[d] for d in operand.dims if d not in slid)


@lru_cache(maxsize=1024)
def _positions(outputs: int, kernel: int, stride: int, dilation: int) -> int:
    """Input positions along an axis that a sliding window meets."""
    step, spread = stride // gcd(stride, dilation), dilation // gcd(stride, dilation)
    if kernel > step and outputs < spread:
        # the model counts positions as if there were enough outputs for gaps only near the borders
        return step * outputs + spread * kernel - step * spread
    return len({stride * o + dilation * k for o in range(outputs) for k in range(kernel)})


def _priced(tables: Tables, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    cuts = evaluate.effective_cuts(tables, batch)
    return evaluate.energy_pj(tables, batch, cuts), mapping_times(tables, batch, cuts).total


class _Listing:
    """All mappings as arrays: axis 0 for the order, and one axis per operand for its cuts."""

    def __init__(self, nest: Nest, arch: Arch, model: CostModel):
        self.nest = nest
        self.arch = arch
        self.model = model
        listed = orders(factors(nest))
        self.loops = len(listed[0])
        prefixes = [_prefixes(order) for order in listed]
        # sorted, so that the point with nothing below is the first, as tables want it
        number = {point: i for i, point in enumerate(sorted({p for row in prefixes for p in row}))}
        self.points = list(number)
        self.point = np.array([[number[p] for p in row] for row in prefixes], dtype=np.int64)
        self.dims = np.array([[loop.dim for loop in order] for order in listed], dtype=np.int64)
        self.dims = self.dims.reshape(len(listed), self.loops)
        self.cuts = [self._cuts(len(o.memories)) for o in nest.operands]
        self.bits = [self._bits(i) for i in range(len(nest.operands))]

    def _cuts(self, memories: int) -> np.ndarray:
        """All ways to cut an order at memories, (ways, memories): the last takes all loops."""
        ways = combinations_with_replacement(range(self.loops + 1), memories - 1)
        return np.array([(*way, self.loops) for way in ways], dtype=np.int64)

    def _bits(self, i: int) -> np.ndarray:
        """Bits that operand i's memories hold, (orders, ways, memories)."""
        operand = self.nest.operands[i]
        shares = _shares_below(self.nest, operand, self.arch)
        spatial = _spatial_sums(self.nest, operand, self.arch, self.model)
        idle = np.array([operand.irrelevant(d) for d in Dim])[self.dims]
        # whether a loop that leaves the operand where it is lies at or beyond each position
        sums = np.array([idle[:, p:].any(axis=1) for p in range(self.loops + 1)]).T
        layers: list[np.ndarray] = []
        for m in range(len(operand.memories)):
            elements = np.array([_elements(self.nest, operand, p, shares[m]) for p in self.points])
            below = self.cuts[i][:, m - 1] if m else np.zeros(len(self.cuts[i]), dtype=np.int64)
            partial = sums[:, below] | spatial[m]
            each = np.where(partial, operand.partial_bits, operand.bits)
            layers.append(elements[self.point[:, self.cuts[i][:, m]]] * each)
        return np.stack(layers, axis=2)

    def _fitting(self, first: int, end: int) -> tuple[np.ndarray, ...]:
        """Row of the order, and per operand the row of the cuts, of all mappings that fit, for some of the orders.

        One operand joins after the other; what is too large already is not carried on, for nothing makes room again.
        """
        row = np.arange(first, min(end, len(self.point)))
        ways: list[np.ndarray] = []
        room = {m: np.full(len(row), self.arch.memories[m].size_bits) for o in self.nest.operands for m in o.memories}
        for operand, bits in zip(self.nest.operands, self.bits, strict=True):
            good = np.ones((len(row), bits.shape[1]), dtype=bool)
            for m, memory in enumerate(operand.memories):
                good &= bits[row, :, m] <= room[memory][:, None]
            before, way = np.nonzero(good)
            row, ways = row[before], [*(w[before] for w in ways), way]
            room = {memory: left[before] for memory, left in room.items()}
            for m, memory in enumerate(operand.memories):
                room[memory] -= bits[row, way, m]
        return row, *ways

    def priced(self) -> Priced:
        tables = build_tables(self.nest, self.arch, np.array(self.points), self.model)
        found: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros(0), np.zeros(0))]
        orders_at_once = 1 + LISTED_AT_ONCE // prod(map(len, self.cuts))
        for first in range(0, len(self.point), orders_at_once):
            row, *ways = self._fitting(first, first + orders_at_once)
            for start in range(0, len(row), CHUNK):
                part = slice(start, start + CHUNK)
                cuts = tuple(c[w[part]] for c, w in zip(self.cuts, ways, strict=True))
                batch = Batch(self.dims[row[part]], self.point[row[part]], cuts)
                found.append(_priced(tables, batch.take(self._different(tables, batch, row[part]))))
        energy, cycles = zip(*found, strict=True)
        return Priced(np.concatenate(energy), np.concatenate(cycles))

    def _different(self, tables: Tables, batch: Batch, row: np.ndarray) -> np.ndarray:
        """Rows without those that have the order and the effective cuts, which alone are priced, of an earlier one."""
        key = row
        for cuts in evaluate.effective_cuts(tables, batch):
            for column in cuts.T[:-1]:
                key = key * (self.loops + 1) + column
        return np.unique(key, return_index=True)[1]
