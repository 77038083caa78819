"""The cost of every boundary between two memories, as arrays over the points where a loop order can be cut.

A *point* says which temporal loops lie below a boundary: one product per dimension. Words moved across a boundary
depend on that point alone (section B.e of docs/cost-model.md), so a table over points prices any number of mappings:
a mapping is a chain of points, one per operand and boundary, and its energy is a sum of table entries.

Boundary ``a`` of an operand lies below its memory ``a``: boundary 0 between array and first memory, where nothing
temporal lies below.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, prod

import numpy as np
import numpy.typing as npt

from dfc.backend_cost.nest import Nest, NestOperand, Work, dim_vector, spatial_levels, window_extent
from dfc.hwdsl.arch import Arch, Memory, Move
from dfc.ir import KERNEL_DIM, OUTPUT_DIM, Dim

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Link:
    """One direction of traffic across a memory's edge, per point: words (fractional lanes) and cycles (whole lanes)."""

    operand: int
    level: int
    memory: int
    move: Move
    boundary: int
    words: Floats
    energy_pj: Floats
    transfer_cycles: Ints  # port cycles of one period
    active: Bools


@dataclass(frozen=True)
class OperandTable:
    """An operand's tables over points.

    data_bits[m]:   bits that one instance of memory m holds when cut above at each point (fractional lanes).
    alloc_bits[m]:  the same with dimensions rounded up, finished and partial precision: what allocation counts.
    energy_pj[a]:   of all links at boundary a (a >= 1), per point.
    fixed_pj:       of the links at boundary 0.
    """

    operand: NestOperand
    links: tuple[Link, ...]
    data_bits: tuple[Floats, ...]
    alloc_bits: tuple[tuple[Ints, Ints], ...]
    energy_pj: tuple[Floats, ...]
    fixed_pj: float


@dataclass(frozen=True)
class Tables:
    """All that mappings of a nest can be priced with, over a given list of points."""

    nest: Nest
    arch: Arch
    points: Floats  # (points, dims): temporal products below
    cycles: Floats  # (points,): the period of a boundary at that point
    total_cycles: int
    operands: tuple[OperandTable, ...]
    compute_pj: float

    @property
    def fixed_pj(self) -> float:
        """Energy that no mapping changes."""
        return self.compute_pj + sum(o.fixed_pj for o in self.operands)


def window_extents(outputs: Floats, kernels: Floats, stride: int, dilation: int) -> Floats:
    """:func:`window_extent` for arrays."""
    common = np.gcd(stride, dilation)
    gap = np.maximum(0.0, kernels - stride / common) * (outputs - dilation / common)
    extents: Floats = np.trunc(outputs * kernels - gap)
    return extents


def elements(nest: Nest, operand: NestOperand, below: Floats) -> Floats:
    """Elements of the operand that loop products ``below`` (points, dims) touch."""
    in_window = {d for a in operand.windows for d in (OUTPUT_DIM[a], KERNEL_DIM[a])}
    plain = [d for d in operand.dims if d not in in_window]
    count = below[:, plain].prod(axis=1) if plain else np.ones(len(below))
    for a in operand.windows:
        count = count * window_extents(
            below[:, OUTPUT_DIM[a]], below[:, KERNEL_DIM[a]], nest.strides[a], nest.dilations[a]
        )
    return count


@dataclass(frozen=True)
class _Lanes:
    """Spatial facts of an operand: per gap the product vectors, and how many instances and distinct parts there are."""

    below: list[Floats]  # below[a]: products of the unrolled loops under boundary a, per dim
    unique: list[float]  # distinct parts held by all instances at arch level a
    totals: list[float]  # instances in use at arch level a
    boost: list[int]
    reduces_above: list[bool]  # an output-irrelevant unrolled loop lies above arch level a


def _lanes(nest: Nest, operand: NestOperand, arch: Arch, whole: bool) -> _Lanes:
    gaps = spatial_levels(nest, operand, arch)
    n = len(operand.memories)

    def size(lanes: int, share: float) -> float:
        return float(lanes) if whole else share

    relevant: list[float] = []
    everything: list[float] = []
    below: list[Floats] = [np.ones(len(Dim))]
    data_before = 1.0
    running = np.ones(len(Dim))
    for gap in gaps:
        running = running * np.array(dim_vector([(u.loop, size(u.lanes, u.share)) for u in gap]))
        below.append(running)
        data = _spatial_elements(nest, operand, running)
        relevant.append(data / data_before)
        everything.append(prod(size(u.lanes, u.share) for u in gap))
        data_before = data
    unique = [prod(relevant[a:]) for a in range(n + 1)]
    totals = [prod(everything[a:]) for a in range(n + 1)]
    boost = [int(unique[a] / unique[a + 1]) if a < n else 1 for a in range(n + 1)]
    reduces = [any(operand.irrelevant(u.loop) for gap in gaps[a + 1 :] for u in gap) for a in range(n + 1)]
    return _Lanes(below, unique, totals, boost, reduces)


def _spatial_elements(nest: Nest, operand: NestOperand, below: Floats) -> float:
    """Elements that unrolled loops alone touch, windows truncated to whole positions as in the reference (C5)."""
    in_window = {d for a in operand.windows for d in (OUTPUT_DIM[a], KERNEL_DIM[a])}
    count = prod(float(below[d]) for d in operand.dims if d not in in_window)
    for a in operand.windows:
        outputs, kernels = float(below[OUTPUT_DIM[a]]), float(below[KERNEL_DIM[a]])
        count *= window_extent(outputs, kernels, nest.strides[a], nest.dilations[a])
    return count


def _unit_counts(lanes: list[_Lanes]) -> list[list[int]]:
    """Instances in use as whole numbers: rounded, unless that makes operands disagree about the array (then up)."""
    for how in (round, ceil, floor):
        counts = [[int(how(t)) for t in lane.totals] for lane in lanes]
        if len({c[0] for c in counts}) <= 1:
            return counts
    return [[max(1, round(t)) for t in lane.totals] for lane in lanes]


class _LinkBuilder:
    """Builds the links of one operand; see B.e.4 and B.e.5 of docs/cost-model.md."""

    def __init__(
        self, tables_points: Floats, nest: Nest, index: int, arch: Arch, lanes: list[tuple[_Lanes, list[int]]]
    ):
        self.points = tables_points
        self.nest = nest
        self.index = index
        self.operand = nest.operands[index]
        self.memories = [arch.memories[m] for m in self.operand.memories]
        (self.shared, self.units), (self.whole, _) = lanes
        self.cycles = tables_points.prod(axis=1)
        self.count = float(nest.cycles) / self.cycles

    def data(self, a: int, whole: bool) -> Floats:
        """Elements in one instance below boundary ``a``; boundary 0 feeds one unit of the array."""
        if a == 0:
            return np.ones(len(self.points))
        lanes = self.whole if whole else self.shared
        return np.round(elements(self.nest, self.operand, self.points * lanes.below[a]))

    def reduces_above(self, a: int) -> Bools:
        """Whether sums are still partial above boundary ``a``: some output-irrelevant loop lies above it."""
        if a == len(self.memories):
            return np.zeros(len(self.points), dtype=bool)
        left = np.array(self.nest.temporal, dtype=float) / self.points
        dims = [d for d in Dim if self.operand.irrelevant(d)]
        found: Bools = (left[:, dims].prod(axis=1) > 1.0) | self.shared.reduces_above[a]
        return found

    def links(self, a: int) -> list[Link]:
        """All traffic across boundary ``a``: up from and down to memory ``a-1``, and at the edge of memory ``a``."""
        at_start: Ints = np.arange(len(self.points)) if a else np.zeros(len(self.points), dtype=np.int64)
        partial = self.reduces_above(a)[at_start]
        bits = np.where(partial, self.operand.partial_bits, self.operand.bits)
        always = np.ones(len(self.points), dtype=bool)
        if self.operand.is_output:
            below = [(Move.READ_UP, always), (Move.WRITE_DOWN, partial)]
            above = [(Move.WRITE_UP, always), (Move.READ_DOWN, partial)]
        else:
            below, above = [(Move.WRITE_DOWN, always)], [(Move.READ_DOWN, always)]
        found = [self._outer_edge(a, move, active, bits) for move, active in below] if a else []
        return found + [self._inner_edge(a, move, active, bits) for move, active in above]

    def _outer_edge(self, a: int, move: Move, active: Bools, bits: Ints) -> Link:
        """The upper edge of memory ``a-1``: one burst per period."""
        memory = self.memories[a - 1]
        width, step, cost = _port_of(memory, move)
        words = np.ceil(self.data(a, False) * bits / step) * (step / width) * self.count * self.units[a]
        transfer = np.ceil(self.data(a, True) * bits / width)
        return self._link(a - 1, move, a, np.where(active, words, 0.0), cost, transfer, active & (bits > 0))

    def _inner_edge(self, a: int, move: Move, active: Bools, bits: Ints) -> Link:
        """The lower edge of memory ``a``: accesses as wide as the narrower of both sides."""
        memory = self.memories[a]
        width, step, cost = _port_of(memory, move)
        amount = self.data(a, False) * self.shared.boost[a]
        count = self.count if a else np.full(len(self.points), float(self.nest.cycles))
        with np.errstate(divide="ignore", invalid="ignore"):
            if a == 0:
                burst, bursts = amount, np.ones(len(self.points))
            else:
                below = self.memories[a - 1]
                other = below.read_bits_per_cycle if move is Move.WRITE_UP else below.write_bits_per_cycle
                lanes = self.shared.unique[a] / self.shared.unique[a + 1]
                burst = np.minimum(np.minimum(other * lanes / bits, width / bits), amount)
                bursts = np.ceil(amount / burst)
            words = np.ceil(burst * bits / step) * (step / width) * count * bursts * self.units[a + 1]
        words = np.where(active & (bits > 0), words, 0.0)
        transfer = np.ceil(self.data(a, True) * self.whole.boost[a] * bits / width)
        return self._link(a, move, a, words, cost, transfer, active & (bits > 0))

    def _link(
        self,
        level: int,
        move: Move,
        boundary: int,
        words: Floats,
        cost: float,
        transfer: Floats,
        active: Bools,
    ) -> Link:
        return Link(
            operand=self.index,
            level=level,
            memory=self.operand.memories[level],
            move=move,
            boundary=boundary,
            words=words,
            energy_pj=words * cost,
            transfer_cycles=transfer.astype(np.int64),
            active=active,
        )

    def table(self) -> OperandTable:
        """All links, and what each memory holds."""
        n = len(self.memories)
        links = [link for a in range(n) for link in self.links(a)]
        held = [self.data(m + 1, False) * self._held_bits(m + 1) for m in range(n)]
        energy = [np.zeros(len(self.points)) for _ in range(n)]
        for link in links:
            energy[link.boundary] = energy[link.boundary] + link.energy_pj
        return OperandTable(
            operand=self.operand,
            links=tuple(links),
            data_bits=tuple(held),
            alloc_bits=tuple(self._alloc_bits(m) for m in range(n)),
            energy_pj=tuple(energy),
            fixed_pj=float(energy[0][0]),
        )

    def _held_bits(self, a: int) -> Ints:
        return np.where(self.reduces_above(a), self.operand.partial_bits, self.operand.bits)

    def _alloc_bits(self, m: int) -> tuple[Ints, Ints]:
        whole = np.ceil(self.points * self.shared.below[m + 1] - 1e-9)
        count = elements(self.nest, self.operand, whole)
        return (count * self.operand.bits).astype(np.int64), (count * self.operand.partial_bits).astype(np.int64)


def _port_of(memory: Memory, move: Move) -> tuple[int, int, float]:
    """(bits per cycle, bits per smallest access, energy of a full access) in a direction."""
    if move in (Move.READ_DOWN, Move.READ_UP):
        return memory.read_bits_per_cycle, memory.min_read_bits, memory.read_pj
    return memory.write_bits_per_cycle, memory.min_write_bits, memory.write_pj


def build_tables(nest: Nest, arch: Arch, points: Floats) -> Tables:
    """Price every boundary of every operand of a nest at each of the points (points, dims)."""
    shared = [_lanes(nest, o, arch, whole=False) for o in nest.operands]
    whole = [_lanes(nest, o, arch, whole=True) for o in nest.operands]
    units = _unit_counts(shared)
    built = [
        _LinkBuilder(points, nest, i, arch, [(shared[i], units[i]), (whole[i], units[i])]).table()
        for i in range(len(nest.operands))
    ]
    each = {Work.MAC: arch.array.mac_pj, Work.OPERATION: arch.array.op_pj, Work.NOTHING: 0.0}[nest.work]
    return Tables(
        nest=nest,
        arch=arch,
        points=points,
        cycles=points.prod(axis=1),
        total_cycles=nest.cycles,
        operands=tuple(built),
        compute_pj=each * nest.operations,
    )
