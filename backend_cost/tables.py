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

from dfc.backend_cost.bursts import BoundaryBursts, BurstCounter, Histogram
from dfc.backend_cost.cost_model import DEFINES, CostModel
from dfc.backend_cost.nest import Nest, NestOperand, Work, dim_vector, spatial_levels, window_extent
from dfc.hwdsl.arch import Arch, Memory, Move
from dfc.ir import KERNEL_DIM, OUTPUT_DIM, Dim

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Link:
    """One direction of traffic across a memory's edge, per point (boundary 0 has one).

    coupled: words to take off again, as (boundary g, words per point of this boundary, factor per point of g).
    """

    operand: int
    level: int
    memory: int
    move: Move
    boundary: int
    words: Floats
    energy_pj: Floats
    transfer_cycles: Ints  # port cycles of one period
    active: Bools
    coupled: tuple[tuple[int, Floats, Floats], ...] = ()


@dataclass(frozen=True)
class OperandTable:
    """An operand's tables over points.

    data_bits[m]:   bits that one instance of memory m holds when cut above at each point (fractional lanes).
    alloc_bits[m]:  the same with dimensions rounded up, finished and partial precision: what allocation counts.
    reduces[a]:     whether sums are still partial above boundary a, per point.
    energy_pj[a]:   of all links at boundary a (a >= 1), per point.
    fixed_pj:       of the links at boundary 0.
    """

    operand: NestOperand
    links: tuple[Link, ...]
    data_bits: tuple[Floats, ...]
    reduces: tuple[Bools, ...]
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
    model: CostModel

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


class _Counts:
    """How large bursts are and how often they occur, with the reference's fractional lanes (B.e.3, B.e.4)."""

    def __init__(self, points: Floats, nest: Nest, operand: NestOperand, shared: _Lanes, units: list[int]):
        self.points = points
        self.nest = nest
        self.operand = operand
        self.shared = shared
        self.units = units

    def at(self, a: int) -> BoundaryBursts:
        """The bursts across boundary ``a``; boundary 0 has one step per stay, whatever the point."""
        points = self.points if a else np.ones((1, self.points.shape[1]))
        left = np.array(self.nest.temporal, dtype=float) / points
        others = [d for d in Dim if self.operand.irrelevant(d)]
        visits = left[:, others].prod(axis=1)
        stays = left.prod(axis=1) / visits
        sizes = self._elements(points, a)
        return BoundaryBursts(
            fed=Histogram(sizes[:, None], stays[:, None]),
            feeding=Histogram((sizes * self.shared.boost[a])[:, None], stays[:, None]),
            times_fed=visits * self.units[a],
            times_feeding=visits * self.units[a + 1],
            last_fed=np.full(len(points), float(self.units[a])),
            last_feeding=np.full(len(points), float(self.units[a + 1])),
        )

    def _elements(self, points: Floats, a: int) -> Floats:
        return np.round(elements(self.nest, self.operand, points * self.shared.below[a])) if a else np.ones(1)


class _LinkBuilder:
    """Builds the links of one operand; see B.e.4 and B.e.5 of docs/cost-model.md."""

    def __init__(
        self,
        points: Floats,
        nest: Nest,
        index: int,
        arch: Arch,
        lanes: tuple[_Lanes, _Lanes, list[int]],
        model: CostModel,
    ):
        self.points = points
        self.nest = nest
        self.index = index
        self.model = model
        self.operand = nest.operands[index]
        self.memories = [arch.memories[m] for m in self.operand.memories]
        self.shared, self.whole, units = lanes
        self.exact = BurstCounter(nest, self.operand, arch, points)
        self.counts = self.exact if model.whole_lanes else _Counts(points, nest, self.operand, self.shared, units)

    def data(self, a: int, whole: bool) -> Floats:
        """Elements in one instance below boundary ``a``; boundary 0 feeds one unit of the array."""
        if a == 0:
            return np.ones(1)
        lanes = self.whole if whole else self.shared
        return np.round(elements(self.nest, self.operand, self.points * lanes.below[a]))

    def reduces_above(self, a: int) -> Bools:
        """Whether sums are still partial above boundary ``a``: some output-irrelevant loop lies above it."""
        points = self.points if a else np.ones((1, self.points.shape[1]))
        if a == len(self.memories):
            return np.zeros(len(points), dtype=bool)
        left = np.array(self.nest.temporal, dtype=float) / points
        dims = [d for d in Dim if self.operand.irrelevant(d)]
        found: Bools = (left[:, dims].prod(axis=1) > 1.0) | self.shared.reduces_above[a]
        return found

    def links(self, a: int) -> list[Link]:
        """All traffic across boundary ``a``: at the upper edge of memory ``a-1`` and the lower one of memory ``a``."""
        bursts = self.counts.at(a)
        return self._output_links(a, bursts) if self.operand.is_output else self._input_links(a, bursts)

    def _input_links(self, a: int, bursts: BoundaryBursts) -> list[Link]:
        """Stays begin with a fetch: read above, written below."""
        bits = self.operand.bits
        found = [self._edge(a, Move.READ_DOWN, bursts.feeding, [(bits, bursts.times_feeding)])]
        if a:
            found.append(self._edge(a, Move.WRITE_DOWN, bursts.fed, [(bits, bursts.times_fed)]))
        return found

    def _output_links(self, a: int, bursts: BoundaryBursts) -> list[Link]:
        """Stays end with a write up, and begin with sums coming back where there are some."""
        partial = self.reduces_above(a)
        up = self._edge(
            a, Move.WRITE_UP, bursts.feeding, self._up(a, partial, bursts.times_feeding, bursts.last_feeding)
        )
        back = np.where(partial, bursts.times_feeding, 0.0)
        down = np.where(partial, bursts.times_fed, 0.0)
        if self.model.first_sum_free:
            back = back - np.where(partial, bursts.last_feeding, 0.0)
            down = down - np.where(partial, bursts.last_fed, 0.0)
        if self.model.first_sum_free and self.model.whole_lanes:
            back = down = bursts.times_feeding - 1.0  # one receiver for each sender, and one first visit
        bits = self.operand.partial_bits
        found = [up, self._edge(a, Move.READ_DOWN, bursts.feeding, [(bits, back)], a)]
        if a:
            found.append(
                self._edge(a, Move.READ_UP, bursts.fed, self._up(a, partial, bursts.times_fed, bursts.last_fed))
            )
            found.append(self._edge(a, Move.WRITE_DOWN, bursts.fed, [(bits, down)], a))
        return found

    def _up(self, a: int, partial: Bools, times: Floats, last: Floats) -> list[tuple[int, Floats]]:
        """Writes of sums as (bits, how many): partial ones until the last visit."""
        operand = self.operand
        if not self.model.last_sum_final:
            return [
                (operand.partial_bits, np.where(partial, times, 0.0)),
                (operand.bits, np.where(partial, 0.0, times)),
            ]
        if self.shared.reduces_above[a]:
            return [(operand.partial_bits, times)]
        return [(operand.partial_bits, times - last), (operand.bits, last)]

    def _edge(
        self,
        a: int,
        move: Move,
        sizes: Histogram,
        times: list[tuple[int, Floats]],
        returning: int = -1,
    ) -> Link:
        """Traffic in one direction at one edge of boundary ``a``; ``times`` are (bits per element, how often)."""
        inner = move in (Move.READ_DOWN, Move.WRITE_UP)  # the lower edge of the memory above
        level = a if inner else a - 1
        memory = self.memories[level]
        width, step, cost = _port_of(memory, move)
        words = np.zeros(len(sizes.sizes))
        slowest = np.zeros(len(sizes.sizes))
        data = self.data(a, True) * (self.whole.boost[a] if inner else 1)
        active = np.zeros(len(sizes.sizes), dtype=bool)
        one_of_each = words
        for bits, how_often in times:
            if bits == 0:
                continue
            one_of_each = (self._words(a, move, sizes.sizes, bits, width, step) * sizes.counts).sum(axis=1)
            words = words + one_of_each * how_often
            active |= how_often > 0
            cycles = np.ceil(data * bits / self._cycle_width(memory, move, width))
            slowest = np.maximum(slowest, np.where(how_often > 0, cycles, 0.0))
        return Link(
            operand=self.index,
            level=level,
            memory=self.operand.memories[level],
            move=move,
            boundary=a,
            words=words,
            energy_pj=words * cost,
            transfer_cycles=slowest.astype(np.int64),
            active=active,
            coupled=self._coupled(returning, one_of_each),
        )

    def _cycle_width(self, memory: Memory, move: Move, width: int) -> int:
        """Bits per cycle on the port."""
        port = memory.ports[memory.port_of[self.operand.role, move]]
        return width if self.model.write_width or port.kind != "rw" else memory.read_bits_per_cycle

    def _words(self, a: int, move: Move, sizes: Floats, bits: int, width: int, step: int) -> Floats:
        """Words of bursts of ``sizes`` elements."""
        one: Floats = np.ceil(sizes * bits / step) * (step / width)
        if self.model.one_burst or a == 0 or move not in (Move.READ_DOWN, Move.WRITE_UP):
            return one
        below = self.memories[a - 1]  # the reference: accesses as wide as the narrower of both sides
        other = below.read_bits_per_cycle if move is Move.WRITE_UP else below.write_bits_per_cycle
        lanes = self.shared.unique[a] / self.shared.unique[a + 1]
        burst = np.minimum(min(other * lanes / bits, width / bits), np.maximum(sizes, 1e-12))
        found: Floats = np.ceil(burst * bits / step) * (step / width) * np.ceil(sizes / burst)
        return found

    def _coupled(self, a: int, per_burst: Floats) -> tuple[tuple[int, Floats, Floats], ...]:
        """Sums that start from zero again where an unrolled reduction lies above (docs/simulator.md).

        Triples (boundary g, words that one such start saves per point of ``a``, starts per point of ``g``).
        """
        if a < 0 or not (self.model.whole_lanes and self.model.first_sum_free):
            return ()
        starts = ((g, self.exact.fresh_starts(g)) for g in range(max(a, 0) + 1, len(self.memories)))
        return tuple((g, per_burst, factor) for g, factor in starts if factor is not None)

    def table(self) -> OperandTable:
        """All links, and what each memory holds."""
        n = len(self.memories)
        links = [link for a in range(n) for link in self.links(a)]
        held = [self.data(m + 1, False) * self._held_bits(m + 1) for m in range(n)]
        energy = [np.zeros(len(self.points) if a else 1) for a in range(n)]
        for link in links:
            energy[link.boundary] = energy[link.boundary] + link.energy_pj
        return OperandTable(
            operand=self.operand,
            links=tuple(links),
            data_bits=tuple(held),
            reduces=tuple(self.reduces_above(a) for a in range(n + 1)),
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


def build_tables(nest: Nest, arch: Arch, points: Floats, model: CostModel = DEFINES) -> Tables:
    """Price every boundary of every operand of a nest at each of the points (points, dims)."""
    shared = [_lanes(nest, o, arch, whole=False) for o in nest.operands]
    whole = [_lanes(nest, o, arch, whole=True) for o in nest.operands]
    units = _unit_counts(shared)
    built = [
        _LinkBuilder(points, nest, i, arch, (shared[i], whole[i], units[i]), model).table()
        for i in range(len(nest.operands))
    ]
    operation_pj = arch.array.op_pj if model.op_energy else arch.array.mac_pj
    each = {Work.MAC: arch.array.mac_pj, Work.OPERATION: operation_pj, Work.NOTHING: 0.0}[nest.work]
    return Tables(
        nest=nest,
        arch=arch,
        points=points,
        cycles=points.prod(axis=1),
        total_cycles=nest.cycles,
        operands=tuple(built),
        compute_pj=each * nest.operations,
        model=model,
    )
