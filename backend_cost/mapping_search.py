"""The temporal mapping search: for one nest, the order of its loops and where memories cut it.

Orders are permutations of the loops' prime factors, merged until at most ``factor_limit`` remain; each order is cut
greedily, memory by memory, so that what is still to be fetched is least (sections B.f of docs/cost-model.md, after
LOMA, Symons et al., AICAS 2021). All orders are priced at once. Everything goes through :func:`search_mapping`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import permutations
from math import prod
from typing import cast

import numpy as np

from dfc.backend_cost.cost_model import DEFINES, CostModel
from dfc.backend_cost.evaluate import Batch, effective_cuts, energy_pj, latency, link_pj
from dfc.backend_cost.nest import Loop, Mapping, Nest
from dfc.backend_cost.sliding import mapping_words
from dfc.backend_cost.tables import Bools, Floats, Ints, Tables, build_tables
from dfc.backend_cost.timing import exact_latency, granted_buffers
from dfc.hwdsl.arch import Arch
from dfc.ir import N_DIMS, Dim, Role

FACTOR_LIMIT = 6
#: energies closer than this (relative) are one energy: the shorter time decides
TIE = 1e-9


class Objective(StrEnum):
    """What a schedule is to have least of."""

    ENERGY = "energy"
    LATENCY = "latency"
    EDP = "edp"


@dataclass(frozen=True)
class MappingCost:
    """A nest's best mapping and what it costs; energies in pJ by (memory, role), cycles as in the reference."""

    mapping: Mapping
    energy_pj: float
    compute_pj: float
    memory_pj: dict[tuple[int, Role], float]
    ideal_cycles: int
    stall_cycles: int
    loading_cycles: int
    offloading_cycles: int
    offloading_counts: bool  # whether the last outputs' way up is part of the latency
    read_bits: dict[int, float]  # per memory
    write_bits: dict[int, float]

    @property
    def latency_cycles(self) -> int:
        """Compute, stall and loading; in the exact model offloading too."""
        return self.ideal_cycles + self.stall_cycles + self.filling_cycles

    @property
    def filling_cycles(self) -> int:
        """Cycles before the first and after the last operation, as far as the model counts them."""
        return self.loading_cycles + (self.offloading_cycles if self.offloading_counts else 0)


@dataclass(frozen=True, slots=True)
class TooSmall:
    """No mapping fits: the memory that was too small for even one element of each lane."""

    memory: int
    needed_bits: int


def prime_factors(number: int) -> list[int]:
    """Prime factors in ascending order; none for 1."""
    found: list[int] = []
    divisor = 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return [*found, number] if number > 1 else found


def loop_factors(nest: Nest, limit: int) -> list[Loop]:
    """The temporal loops split into prime factors; the smallest two of the most split one merge until few enough."""
    factors = {d: prime_factors(nest.temporal[d]) for d in Dim if nest.temporal[d] > 1}
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
            roles = self.tables.arch.memories[memory].roles  # their order on the page decides ties
            here = [i for i, t in enumerate(self.tables.operands) if memory in t.operand.memories]
            self._allocate(memory, sorted(here, key=lambda i: roles.index(self.tables.operands[i].operand.role)))
        return self.valid, tuple(np.stack(c, axis=1) for c in self.cuts)

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


@dataclass(frozen=True)
class _Times:
    """Cycles per mapping, by the tables' model."""

    stall: Ints
    loading: Ints
    offloading: Ints
    total: Floats  # before rounding: what mappings are compared by

    def row(self, i: int) -> tuple[int, int, int]:
        """(stall, loading, offloading) of one mapping."""
        return int(self.stall[i]), int(self.loading[i]), int(self.offloading[i])


def _times(tables: Tables, batch: Batch, cuts: tuple[Ints, ...]) -> _Times:
    """The latency of each mapping."""
    if not tables.model.played:
        time = latency(tables, batch, cuts)
        return _Times(time.stall_cycles, time.loading_cycles, time.offloading_cycles, time.total_cycles.astype(float))
    exact = exact_latency(tables, batch, cuts, granted_buffers(tables, batch, cuts))

    def whole(cycles: Floats) -> Ints:
        return np.ceil(cycles - 1e-6).astype(np.int64)

    stall = np.maximum(0, whole(exact.running_cycles) - exact.ideal_cycles)
    return _Times(stall, whole(exact.loading_cycles), whole(exact.offloading_cycles), exact.total_cycles)


def _select(tables: Tables, batch: Batch, objective: Objective) -> tuple[int, tuple[int, int, int]]:
    """The row that the objective likes best, with its times; ties by energy, then latency, then the first."""
    cuts = effective_cuts(tables, batch)
    energy = energy_pj(tables, batch, cuts)
    if objective is Objective.ENERGY:
        rows = np.flatnonzero(energy <= energy.min() * (1 + TIE))
        times = _times(tables, batch.take(rows), tuple(c[rows] for c in cuts))
        best = int(np.argmin(times.total))
        return int(rows[best]), times.row(best)
    times = _times(tables, batch, cuts)
    score = times.total if objective is Objective.LATENCY else times.total * energy
    rows = np.flatnonzero(score <= score.min() * (1 + TIE))
    best = int(rows[np.argmin(energy[rows])])
    return best, times.row(best)


def search_mapping(
    nest: Nest,
    arch: Arch,
    objective: Objective = Objective.ENERGY,
    model: CostModel = DEFINES,
    factor_limit: int = FACTOR_LIMIT,
) -> MappingCost | TooSmall:
    """The best temporal mapping of a nest, or which memory is too small for any."""
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
    return _cost(tables, batch.take(np.array([row])), mapping, times)


def price_mapping(nest: Nest, arch: Arch, mapping: Mapping, model: CostModel = DEFINES) -> MappingCost:
    """The cost of one given mapping, whether it fits or not."""
    points = np.ones((len(mapping.loops) + 1, N_DIMS))
    for i, loop in enumerate(mapping.loops):
        points[i + 1] = points[i]
        points[i + 1, loop.dim] *= loop.size
    if prod(loop.size for loop in mapping.loops) != nest.cycles:
        raise ValueError("the mapping's loops do not cover the nest")
    tables = build_tables(nest, arch, points, model)
    batch = Batch(
        np.array([[loop.dim for loop in mapping.loops]], dtype=np.int64).reshape(1, -1),
        np.arange(len(points))[None, :],
        tuple(np.array([c], dtype=np.int64) for c in mapping.cuts),
    )
    times = _times(tables, batch, effective_cuts(tables, batch)).row(0)
    return _cost(tables, batch, mapping, times)


def _cost(tables: Tables, batch: Batch, mapping: Mapping, times: tuple[int, int, int]) -> MappingCost:
    """Everything about one mapping (the batch's only row)."""
    cuts = effective_cuts(tables, batch)
    stall, loading, offloading = times
    moved = mapping_words(tables, batch, mapping, cuts)
    energy: dict[tuple[int, Role], float] = {}
    read: dict[int, float] = {}
    write: dict[int, float] = {}
    for table in tables.operands:
        for link in table.links:
            key = (link.memory, table.operand.role)
            words = moved[link.operand, link.boundary, link.move]
            energy[key] = energy.get(key, 0.0) + words * link_pj(tables, link)
            memory = tables.arch.memories[link.memory]
            reads = link.move in (0, 2)
            width = memory.read_bits_per_cycle if reads else memory.write_bits_per_cycle
            side = read if reads else write
            side[link.memory] = side.get(link.memory, 0.0) + words * width
    return MappingCost(
        mapping=mapping,
        energy_pj=tables.compute_pj + sum(energy.values()),
        compute_pj=tables.compute_pj,
        memory_pj=energy,
        ideal_cycles=tables.total_cycles,
        stall_cycles=stall,
        loading_cycles=loading,
        offloading_cycles=offloading,
        offloading_counts=tables.model.played,
        read_bits=read,
        write_bits=write,
    )
