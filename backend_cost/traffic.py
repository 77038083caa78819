"""What crosses the boundaries of one operand: words, energy and durations over the operand's grid (B.e.4, B.e.5).

A boundary is crossed in up to four directions, and words of sums are partial or finished. Each such *kind* of word is a
number of words per burst, which depends on the dimensions that address the operand, times how often the burst occurs,
which depends on the others. Arrays over kinds are (boundaries, sides, kinds, ...): side 0 is the lower edge of the
memory above, side 1 the upper edge of the memory below (boundary 0 has none: the array stores nothing).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

import numpy as np

from dfc.backend_cost.axes_compiled import COMPILED, accesses
from dfc.backend_cost.cost_model import CostModel
from dfc.backend_cost.grid import Bools, Floats, Ints, OperandGrid
from dfc.backend_cost.lane_bursts import Bursts, LaneBursts, reference_bursts
from dfc.backend_cost.spatial import Gaps, Lanes, operand_lanes
from dfc.hwdsl.arch import Arch, Memory, Move

_INNER, _OUTER = 0, 1
_OUTPUT_MOVES = (
    (Move.WRITE_UP, Move.WRITE_UP, Move.READ_DOWN),
    (Move.READ_UP, Move.READ_UP, Move.WRITE_DOWN),
)
_INPUT_MOVES = ((Move.READ_DOWN,), (Move.WRITE_DOWN,))
#: by whether the operand is an output: (1, sides, kinds) whether the memory reads
_READS = [np.array([[[int(move.reads) for move in side] for side in moves]]) for moves in (_INPUT_MOVES, _OUTPUT_MOVES)]
#: (boundaries, sides, 1) the level of the memory at each edge; the last one's stands where boundary 0 has none
_LEVELS = np.arange(64)[:, None, None] - np.arange(2)[:, None]


@dataclass(frozen=True)
class Link:
    """One direction of traffic across a memory's edge; arrays are per point (boundary 0 has one).

    kinds: which kinds of words of its side it carries. levels: how many memories are on the operand's path.
    """

    operand: int
    level: int
    memory: int
    move: Move
    boundary: int
    traffic: Traffic
    kinds: tuple[int, ...]
    levels: int

    @property
    def side(self) -> int:
        """0 at the lower edge of the memory above the boundary, 1 at the upper edge of the memory below."""
        return self.boundary - self.level

    @cached_property
    def words(self) -> Floats:
        """Accesses of the memory's full width."""
        a, side = self.boundary, self.side
        traffic = self.traffic
        found = [traffic.words_of(a, side, k) * traffic.times_of(a, side, k) for k in self.kinds]
        return found[0] if len(found) == 1 else found[0] + found[1]

    @cached_property
    def energy_pj(self) -> Floats:
        """Energy of the words."""
        return self.words * self.traffic.memories[self.level].word_pj(self.move)

    @cached_property
    def active(self) -> Bools:
        """Whether there is any traffic."""
        traffic = self.traffic
        bits = traffic.bits
        often = [traffic.times_of(self.boundary, self.side, k) for k in self.kinds]
        found: Bools = np.logical_or.reduce([(o > 0) & (bits[k] > 0) for k, o in zip(self.kinds, often, strict=True)])
        return found

    @cached_property
    def transfer_cycles(self) -> Ints:
        """Port cycles of one period."""
        return self.traffic.transfer_cycles(self)

    @cached_property
    def coupled(self) -> tuple[tuple[int, Floats, Floats], ...]:
        """Sums that start from zero because an unrolled reduction lies above (docs/simulator.md).

        Words to take off again, as (boundary g, words per point of this boundary, factor per point of g).
        """
        if self.move in (Move.WRITE_UP, Move.READ_UP):
            return ()
        starts = self.traffic.fresh_starts.items()
        each = [(g, factor) for g, factor in starts if self.boundary < g < self.levels]
        words = self.traffic.words_of(self.boundary, self.side, self.kinds[-1]) if each else np.zeros(0)
        return tuple((g, words, factor) for g, factor in each)


@dataclass(frozen=True)
class Counted:
    """Words and energy by (boundaries, sides, kinds).

    accesses: (..., addressed) smallest accesses of all bursts along these dimensions.
    times:    (..., idle) how often each of these happens.
    share:    (...) of a full access that the smallest is.
    weights:  (boundaries, sides * kinds, idle) energy of one of ``accesses``.
    """

    accesses: Floats
    times: Floats
    share: Floats
    weights: Floats


class Traffic:
    """All traffic of one operand.

    What crosses a boundary does not depend on the memories beyond it: where ``levels`` are asked for, the answer is
    that of the same operand on so many of the first memories.
    """

    def __init__(
        self,
        grid: OperandGrid,
        arch: Arch,
        lanes: tuple[Gaps, Lanes, list[int]],
        model: CostModel,
    ):
        self.grid = grid
        self.operand = grid.operand
        self.memories = [arch.memories[m] for m in self.operand.memories]
        self.model = model
        self.gaps, self.lanes, self.units = lanes
        self.moves = _OUTPUT_MOVES if self.operand.is_output else _INPUT_MOVES

    @cached_property
    def _elements(self) -> Floats:
        """Elements below all boundaries, with average lanes and for the reference's bursts."""
        below, n = self.lanes.below, len(self.memories)
        if self.model.whole_lanes:
            return self.grid.elements(below[1:-1], 0)
        # the lanes of boundary 0 are counted with all others, and not used: it feeds one unit
        return self.grid.elements(below[:n] + below[1:-1], n, stays=True)

    @property
    def capacity(self) -> Floats:
        """(memories, addressed) elements that a memory holds, average lanes rounded up: what allocation counts."""
        return self._elements if self.model.whole_lanes else self._elements[len(self.memories) : -1]

    @cached_property
    def counter(self) -> LaneBursts:
        """What counts lane by lane."""
        return LaneBursts(self.grid, self.gaps)

    @cached_property
    def bursts(self) -> Bursts:
        """What crosses the boundaries."""
        if self.model.whole_lanes:
            return self.counter.bursts()
        n = len(self.memories)
        return reference_bursts(self.grid, self.lanes, self.units, self._elements[:n], self._elements[-1])

    # ---- words -------------------------------------------------------------------------------------------------

    @cached_property
    def bits(self) -> tuple[int, ...]:
        """Per kind, bits of an element."""
        final, partial = self.operand.bits, self.operand.partial_bits
        return (partial, final, partial) if self.operand.is_output else (final,)

    @cached_property
    def edges(self) -> Floats:
        """(boundaries, sides, kinds, 3) of the memory at each edge: ``edge_facts``."""
        found: Floats = edge_facts(self.memories)[_READS[self.operand.is_output], _LEVELS[: len(self.memories)]]
        return found

    @cached_property
    def counted(self) -> Counted:
        """Words and energy of all kinds."""
        edges = self.edges
        if COMPILED and self.model.whole_lanes and self.model.one_burst:
            common, tables = self.counter.axes()
            found = accesses(tables, common, self.bits, edges[..., 0])
            times = self._times(*self.counter.often())
        else:
            found = self.plain_accesses(self.bursts)
            times = self._times(self.bursts.times, self.bursts.last)
        n, sides, kinds, idle = times.shape
        weights = (times * edges[..., 2:]).reshape(n, sides * kinds, idle)
        return Counted(found, times, edges[..., 1], weights)

    def plain_accesses(self, bursts: Bursts) -> Floats:
        """``Counted.accesses`` of these bursts; the exact model's are counted in compiled code where there is any."""
        step = self.edges[..., :1, None]
        sizes = bursts.sizes[:, :, None]
        bits = np.array(self.bits, dtype=float)[:, None, None]
        if self.model.one_burst:
            found = sizes * bits
            found /= step
            np.ceil(found, out=found)
            found *= self._per_kind(bursts.counts)
        else:
            burst = np.minimum(self._widest(), np.maximum(sizes, 1e-12) if self.model.whole_lanes else sizes)
            found = burst * bits
            found /= step
            np.ceil(found, out=found)
            np.divide(sizes, burst, out=burst)
            np.ceil(burst, out=burst)
            found *= burst
            found *= self._per_kind(bursts.counts)
        result: Floats = found[:, :, :, 0] if found.shape[3] == 1 else found.sum(axis=3)
        return result

    def _per_kind(self, counts: Floats) -> Floats:
        return counts[:, :, None] if counts.ndim > 1 else counts

    def _widest(self) -> Floats:
        """(boundaries, sides, kinds, 1, 1) elements of the reference's accesses at a lower edge: as wide as the
        narrower of both sides."""
        found: list[list[list[float]]] = [[[inf] * len(self.bits)] * 2]
        for a in range(1, len(self.memories)):
            parts = self.lanes.unique[a] / self.lanes.unique[a + 1]
            below, here = self.memories[a - 1], self.memories[a]
            down = min(below.write_bits_per_cycle * parts, here.read_bits_per_cycle)
            up = min(below.read_bits_per_cycle * parts, here.write_bits_per_cycle)
            widths = (up, up, down) if self.operand.is_output else (down,)
            inner = [width / bits if bits else inf for width, bits in zip(widths, self.bits, strict=True)]
            found.append([inner, [inf] * len(inner)])
        return np.array(found)[..., None, None]

    def _times(self, every: Floats, last: Floats) -> Floats:
        if not self.operand.is_output:
            return every[:, :, None]
        model = self.model
        n, _, idle = every.shape
        found = np.empty((n, 2, 3, idle))
        partial = self.partial[:n, None]
        if model.last_sum_final:
            found[:, :, 1] = last
            found[:, :, 1][self.lanes.reduces_above[:n]] = 0.0
        else:
            np.multiply(every, ~partial, out=found[:, :, 1])
        np.subtract(every, found[:, :, 1], out=found[:, :, 0])
        if model.first_sum_free and model.whole_lanes:
            np.subtract(every[:, :1], 1.0, out=found[:, :, 2])  # one receiver for each sender, and one first visit
        else:
            np.multiply(every - last if model.first_sum_free else every, partial, out=found[:, :, 2])
        return found

    @cached_property
    def partial(self) -> Bools:
        """(boundaries + 1, idle) whether sums are still partial above: an output-irrelevant loop lies above."""
        found: Bools = (self.grid.visits > 1.0) | np.array(self.lanes.reduces_above)[:, None]
        return found

    @cached_property
    def fixed_pj(self) -> float:
        """Energy of the traffic between array and first memory."""
        found = self.counted
        inner = found.accesses.shape[2]  # the array has no outer edge
        return float((found.accesses[0, _INNER, :, 0] * found.weights[0, :inner, 0]).sum())

    def energy_pj(self) -> Floats:
        """(boundaries - 1, points) energy of all traffic across each boundary from 1 on."""
        found = self.counted
        n, sides, kinds, addressed = found.accesses.shape
        accesses = found.accesses[1:].reshape(n - 1, sides * kinds, addressed)
        energy = accesses.swapaxes(1, 2) @ found.weights[1:]
        return energy.reshape(n - 1, addressed * energy.shape[2]).take(self.grid.place, axis=1)

    def elements_held(self, memories: int) -> Floats:
        """(memories, points) elements that the first memories hold, as allocation counts them."""
        return self.capacity[:memories].take(self.grid.addressed_place, axis=1)

    def words_at(self, points: list[int]) -> list[list[list[float]]]:
        """Words by boundary, side and kind where boundary a is cut at ``points[a]``; boundary 0 has only one point."""
        counted, grid = self.counted, self.grid
        levels = len(points)
        at, idle = grid.addressed_place[points], grid.idle_place[points]
        at[0] = idle[0] = 0
        rows = np.arange(levels)
        words = counted.accesses[rows, :, :, at] * counted.share[:levels]
        words *= counted.times[rows, :, :, idle]
        found: list[list[list[float]]] = words.tolist()
        return found

    def words_of(self, a: int, side: int, kind: int) -> Floats:
        """(points,) words of one kind in all stays that the addressing dimensions make; of boundary 0 only one."""
        found: Floats = self.addressed(a, self.counted.accesses[a, side, kind]) * self.counted.share[a, side, kind]
        return found

    def times_of(self, a: int, side: int, kind: int) -> Floats:
        """(points,) how often these happen; of boundary 0 only one."""
        times: Floats = self.counted.times[a, side, kind]
        return times.take(self.grid.idle_place) if a else times[:1]

    def addressed(self, a: int, values: Floats) -> Floats:
        """Values over the addressing dimensions, per point; the first of them for boundary 0."""
        return values.take(self.grid.addressed_place) if a else values[:1]

    @cached_property
    def fresh_starts(self) -> dict[int, Floats]:
        """Boundary above which an unrolled reduction makes sums start from zero -> how often, per point."""
        if not (self.operand.is_output and self.model.whole_lanes and self.model.first_sum_free):
            return {}
        found = ((g, self.counter.fresh_starts(g)) for g in range(1, len(self.memories)))
        return {g: starts.take(self.grid.idle_place) for g, starts in found if starts is not None}

    # ---- time --------------------------------------------------------------------------------------------------

    @cached_property
    def _whole(self) -> Lanes:
        return operand_lanes(self.grid.nest, self.operand, self.gaps, whole=True)

    @cached_property
    def _whole_elements(self) -> Floats:
        """(boundaries, addressed) elements below each boundary in whole lanes; boundary 0 feeds one unit."""
        n = len(self.memories)
        found = np.rint(self.grid.elements(self._whole.below[:n], n))
        found[0] = 1.0
        return found

    def transfer_cycles(self, link: Link) -> Ints:
        """Port cycles of one period of a link, per point."""
        a, side = link.boundary, link.side
        data = self.addressed(a, self._whole_elements[a]) * (self._whole.boost[a] if side == _INNER else 1)
        width = self._cycle_width(self.memories[link.level], link.move)
        slowest = np.zeros(len(data))
        for kind in link.kinds:
            cycles = np.ceil(data * self.bits[kind] / width)
            slowest = np.maximum(slowest, np.where(self.times_of(a, side, kind) > 0, cycles, 0.0))
        return slowest.astype(np.int64)

    def _cycle_width(self, memory: Memory, move: Move) -> int:
        """Bits per cycle on the port."""
        port = memory.ports[memory.port_of[self.operand.role, move]]
        if port.kind == "rw" and not self.model.write_width:
            return memory.read_bits_per_cycle
        return memory.width(move)

    # ---- links and contents ------------------------------------------------------------------------------------

    def links(self, index: int, levels: int) -> tuple[Link, ...]:
        """All links of the operand, which is the nest's ``index``-th, from the array outwards."""
        found: list[Link] = []
        for a in range(levels):
            for side in (_INNER, _OUTER)[: 1 + (a > 0)]:
                level = a - side
                carried: dict[Move, tuple[int, ...]] = {}
                for kind, move in enumerate(self.moves[side]):
                    carried[move] = (*carried.get(move, ()), kind)
                for move, kinds in carried.items():
                    found.append(Link(index, level, self.operand.memories[level], move, a, self, kinds, levels))
        return tuple(found)

    def data_bits(self, levels: int) -> tuple[Floats, ...]:
        """Per memory (points,) bits that one instance holds, with average lanes."""
        count = np.rint(self.grid.elements(self.lanes.below[1 : levels + 1], levels))
        bits = np.where(self._partial_below(levels)[1:], self.operand.partial_bits, self.operand.bits)
        place = self.grid.addressed_place, self.grid.idle_place
        return tuple(c.take(place[0]) * b.take(place[1]) for c, b in zip(count, bits, strict=True))

    def _partial_below(self, levels: int) -> Bools:
        """``partial`` of the boundaries up to the top of a path of so many memories, where sums are complete."""
        found = self.partial[: levels + 1].copy()
        found[-1] = False
        return found

    def reduces(self, levels: int) -> tuple[Bools, ...]:
        """Per boundary (points,) whether sums are still partial above; boundary 0 has one."""
        first, *others = self._partial_below(levels)
        return (first[:1], *(row.take(self.grid.idle_place) for row in others))


def edge_facts(memories: Sequence[Memory]) -> Floats:
    """(2, memories, 3) for writes and for reads: bits of the smallest access, its share of a full one, its energy."""
    found = np.array(
        [
            [(m.min_write_bits, m.write_bits_per_cycle, m.write_pj) for m in memories],
            [(m.min_read_bits, m.read_bits_per_cycle, m.read_pj) for m in memories],
        ],
        dtype=float,
    )
    np.divide(found[..., 0], found[..., 1], out=found[..., 1])
    found[..., 2] *= found[..., 1]
    return found
