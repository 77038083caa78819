"""The reference's mapping search, kept as an oracle: slow, greedy, and without a proof.

Orders are permutations of the loops' prime factors, merged until at most ``factor_limit`` remain; each order is cut
greedily, memory by memory, so that what is still to be fetched is least (sections B.f of docs/cost-model.md, after
LOMA, Symons et al., AICAS 2021). All orders are priced at once.
"""

from __future__ import annotations

from functools import lru_cache, partial
from itertools import permutations
from typing import cast

import numpy as np

from dfc.backend_cost.cost_model import DEFINES, CostModel
from dfc.backend_cost.evaluate import Batch, effective_cuts, energy_pj
from dfc.backend_cost.lattice import prime_factors
from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import MappingCost, Objective, TooSmall, cost_of, mapping_times
from dfc.backend_cost.mapping_rules import LayerRules
from dfc.backend_cost.nest import Loop, Mapping, Nest
from dfc.backend_cost.tables import Bools, Floats, Ints, Tables, build_tables
from dfc.hwdsl.arch import Arch
from dfc.ir import N_DIMS, Dim

FACTOR_LIMIT = 6
#: energies closer than this (relative) are one energy: the shorter time decides
TIE = 1e-9


def loop_factors(nest: Nest, limit: int) -> list[Loop]:
    """The temporal loops split into prime factors; the smallest two of the most split one merge until few enough."""
    factors = {d: list(prime_factors(nest.temporal[d])) for d in Dim if nest.temporal[d] > 1}
    while sum(map(len, factors.values())) > max(limit, len(factors)):
        crowded = max(factors.values(), key=len)
        crowded.sort()
        crowded[:2] = [crowded[0] * crowded[1]]
    return [Loop(d, size) for d, sizes in factors.items() for size in sorted(sizes)]


@lru_cache(maxsize=256)
def _orders(pattern: tuple[int, ...]) -> tuple[Ints, Ints]:
    """All distinct orders of labelled loops (equal labels are the same loop), and the bit masks of their prefixes."""
    n = len(pattern)
    found: list[tuple[int, ...]] = []
    for order in permutations(range(n)):
        where = [0] * n
        for position, loop in enumerate(order):
            where[loop] = position
        if all(where[i] < where[j] for i in range(n) for j in range(i + 1, n) if pattern[i] == pattern[j]):
            found.append(order)
    orders = np.array(found, dtype=np.int64).reshape(len(found), n)
    masks = np.zeros((len(found), n + 1), dtype=np.int64)
    masks[:, 1:] = np.cumsum(1 << orders, axis=1)
    return orders, masks


def _points(loops: list[Loop]) -> Floats:
    """Products per dimension of every subset of the loops, indexed by bit mask."""
    points = np.ones((1 << len(loops), N_DIMS))
    for i, loop in enumerate(loops):
        points[1 << i : 1 << (i + 1)] = points[: 1 << i]
        points[1 << i : 1 << (i + 1), loop.dim] *= loop.size
    return points


class _Allocator:
    """Cuts every order at every memory, in the order of the chip's page (B.f.4)."""

    def __init__(self, tables: Tables, loop_dim: Ints, masks: Ints):
        self.tables = tables
        self.masks = masks
        self.rows = np.arange(len(masks))
        self.loops = loop_dim.shape[1]
        self.position: Ints = np.arange(self.loops + 1)
        self.remaining = tables.total_cycles / tables.cycles[masks]
        self.valid: Bools = np.ones(len(masks), dtype=bool)
        self.level = [0] * len(tables.operands)
        self.done = [np.zeros(len(masks), dtype=np.int64) for _ in tables.operands]
        self.cuts: list[list[Ints]] = [[] for _ in tables.operands]
        self.first_failure: TooSmall | None = None
        output_idle = np.array([tables.operands[0].operand.irrelevant(d) for d in Dim])[loop_dim]
        # whether an output-irrelevant loop lies at or beyond position i
        self.sums_left = np.zeros((len(masks), self.loops + 1), dtype=bool)
        for i in range(self.loops - 1, -1, -1):
            self.sums_left[:, i] = self.sums_left[:, i + 1] | output_idle[:, i]

    def run(self) -> tuple[Bools, tuple[Ints, ...]]:
        """Which orders are valid, and the cuts per operand (orders, memories)."""
        used = {m for t in self.tables.operands for m in t.operand.memories}
        for memory in sorted(used):
            here = [i for i, t in enumerate(self.tables.operands) if memory in t.operand.memories]
            self._allocate(memory, sorted(here, key=partial(self._turn, memory)))
        return self.valid, tuple(np.stack(c, axis=1) for c in self.cuts)

    def _turn(self, memory: int, operand: int) -> tuple[int, int]:
        """What decides ties: the order of roles on the page; an add's second input joined the memories last (B.b.3)."""
        role = self.tables.operands[operand].operand.role
        before = sum(t.operand.role is role for t in self.tables.operands[:operand])
        return before, self.tables.arch.memories[memory].roles.index(role)

    def _sizes(self, operand: int) -> Ints:
        """Bits at this memory of the first i loops, for every order and i."""
        table = self.tables.operands[operand]
        final, partial = table.alloc_bits[self.level[operand]]
        bits = final[self.masks]
        if table.operand.is_output:
            still = self.sums_left[self.rows, self.done[operand]]
            bits = np.where(still[:, None], partial[self.masks], bits)
        return bits

    def _allocate(self, memory: int, here: list[int]) -> None:
        capacity = self.tables.arch.memories[memory].size_bits
        choices: list[tuple[Bools, Ints, Floats]] = []
        for i in here:
            sizes = self._sizes(i)
            allowed = np.logical_and(self.position >= self.done[i][:, None], sizes <= capacity)
            empty = np.logical_not(allowed.max(axis=1))
            self._fail(memory, empty, sizes[self.rows, self.done[i]])
            cost = self.remaining * sizes
            if self.level[i] == len(self.tables.operands[i].operand.memories) - 1:
                last = self.loops - np.argmax(allowed[:, ::-1], axis=1)
                allowed = allowed & (self.position == last[:, None])
                cost = np.zeros_like(cost)
            choices.append((allowed, sizes, cost))
        for i, cut in zip(here, self._choose(capacity, choices), strict=True):
            cut = np.maximum(cut, self.done[i])
            if self.level[i] == len(self.tables.operands[i].operand.memories) - 1:
                self._fail(memory, cut < self.loops, self._sizes(i)[:, -1])
            self.cuts[i].append(cut)
            self.done[i] = cut
            self.level[i] += 1

    def _fail(self, memory: int, which: Bools, needed: Ints) -> None:
        if self.first_failure is None and which.any():
            self.first_failure = TooSmall(memory, int(needed[which].min()))
        self.valid &= ~which

    def _choose(self, capacity: int, choices: list[tuple[Bools, Ints, Floats]]) -> list[Ints]:
        """Per operand the cut that leaves least to fetch while all fit; the largest cuts among equals."""
        shape = [len(self.rows)] + [self.loops + 1] * len(choices)
        allowed = np.ones(shape, dtype=bool)
        bits = np.zeros(shape, dtype=np.int64)
        cost = np.zeros(shape)
        for axis, (ok, size, price) in enumerate(choices, start=1):
            view = [len(self.rows)] + [1] * len(choices)
            view[axis] = self.loops + 1
            allowed &= ok.reshape(view)
            bits += size.reshape(view)
            cost += price.reshape(view)
        cost[~allowed | (bits > capacity)] = np.inf
        flat = cost.reshape(len(self.rows), -1)[:, ::-1]
        best = flat.shape[1] - 1 - np.argmin(flat, axis=1)
        none = ~np.isfinite(flat).any(axis=1)
        picked = cast("tuple[Ints, ...]", np.unravel_index(best, shape[1:]))
        return [np.where(none, 0, p) for p in picked]


def _select(tables: Tables, batch: Batch, objective: Objective) -> tuple[int, tuple[int, int, int]]:
    """The row that the objective likes best, with its times; ties by energy, then latency, then the first."""
    cuts = effective_cuts(tables, batch)
    energy = energy_pj(tables, batch, cuts)
    if objective is Objective.ENERGY:
        rows = np.flatnonzero(energy <= energy.min() * (1 + TIE))
        times = mapping_times(tables, batch.take(rows), tuple(c[rows] for c in cuts))
        best = int(np.argmin(times.total))
        return int(rows[best]), times.row(best)
    times = mapping_times(tables, batch, cuts)
    score = times.total if objective is Objective.LATENCY else times.total * energy
    rows = np.flatnonzero(score <= score.min() * (1 + TIE))
    best = int(rows[np.argmin(energy[rows])])
    return best, times.row(best)


def loma(
    nest: Nest,
    arch: Arch,
    objective: Objective = Objective.ENERGY,
    model: CostModel = DEFINES,
    factor_limit: int = FACTOR_LIMIT,
) -> MappingCost | TooSmall:
    """The best mapping of a nest among those that are tried, or which memory is too small for any."""
    loops = loop_factors(nest, factor_limit)
    labels: dict[Loop, int] = {}
    pattern = tuple(labels.setdefault(loop, len(labels)) for loop in loops)
    orders, masks = _orders(pattern)
    tables = build_tables(nest, arch, _points(loops), model)
    loop_dim = np.array([loop.dim for loop in loops], dtype=np.int64)[orders]
    allocator = _Allocator(tables, loop_dim, masks)
    valid, cuts = allocator.run()
    keep = np.flatnonzero(valid)
    if len(keep) == 0:
        assert allocator.first_failure is not None
        return allocator.first_failure
    batch = Batch(loop_dim, masks, cuts).take(keep)
    row, times = _select(tables, batch, objective)
    chosen: list[int] = orders[keep[row]].tolist()
    ordered = tuple(loops[i] for i in chosen)
    mapping = Mapping(ordered, tuple(tuple(int(x) for x in c[row]) for c in batch.cuts))
    return cost_of(tables, batch.take(np.array([row])), mapping, times)


class LomaCache(MappingCache):
    """Maps nests as the reference does: least energy under its model."""

    def __init__(self, arch: Arch):
        super().__init__(arch, Objective.ENERGY, DEFINES)

    def solve(self, nest: Nest, rules: LayerRules | None) -> MappingCost | TooSmall:
        return loma(nest, self.arch)
