"""Why a mapping costs what it costs: what each memory holds and moves, how busy each port is, which limit binds.

All numbers are the cost model's own: words and energy from :mod:`dfc.backend_cost.tables`, totals from
``cost_of``. What only a latency model knows comes in as a :class:`Timing`, so that another one can be put in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

import numpy as np

from dfc.backend_cost.cost_model import CostModel
from dfc.backend_cost.evaluate import (
    Batch,
    double_buffers,
    effective_cuts,
    latency,
    link_pj,
)
from dfc.backend_cost.mapping_cost import MappingCost, cost_of, mapping_times, tables_of, whole_times
from dfc.backend_cost.nest import Mapping, Nest, operand_names
from dfc.backend_cost.rebuild import TileProblem
from dfc.backend_cost.schedule import CopyEntry
from dfc.backend_cost.sliding import mapping_words
from dfc.backend_cost.tables import Bools, Ints, Link, Tables
from dfc.backend_cost.timing import exact_latency, granted_buffers
from dfc.hwdsl.arch import Arch, Move

Port = tuple[int, int]  # (memory, port)
Slot = tuple[int, int]  # (operand, level on its path)


class Cause(StrEnum):
    """What a layer's time goes into, or is lost by."""

    COMPUTE = "compute"
    BANDWIDTH = "bandwidth"  # of a port
    ROOM = "room"  # a second buffer is missing
    LOAD = "load"
    COPY = "copy"


@dataclass(frozen=True, slots=True)
class Saved:
    """Cycles that the layer would save without a limit: the same mapping timed again, each change by itself.

    0 where a change saves nothing, or delays: what may be fetched earlier may keep a port from what is needed first.

    ports:     that port alone is infinitely wide: transfers take no time there and keep no other waiting.
    ends:      the same for both ports of a transfer between two memories, where that saves over a tenth more than
               each of them alone do together: neither helps while the other is as narrow.
    bandwidth: all ports are infinitely wide.
    buffers:   a second buffer for an operand in a memory that has none.
    room:      a second buffer for every operand in every memory.
    """

    ports: dict[Port, int]
    ends: dict[tuple[Port, Port], int]
    bandwidth: int
    buffers: dict[Slot, int]
    room: int


@dataclass(frozen=True, slots=True)
class Timing:
    """What a latency model says of one mapping besides its totals.

    double_buffered: where the next tile may arrive while this one is in use.
    late_cycles:     by port: cycles that its transfers are late (they stall the array), or, negative, have to spare.
                     Where transfers are played, ``saved.ports``. Empty where the model does not tell ports apart.
    saved:           none where the model does not play transfers.
    """

    double_buffered: frozenset[Slot]
    late_cycles: dict[Port, int]
    saved: Saved | None = None


@dataclass(frozen=True, slots=True)
class Utilisation:
    """How much of the chip a mapping uses, as shares: 1 is all of it.

    spatial:  of the array's units while it computes: operations / units, rounded up to cycles, over compute cycles.
    temporal: of the time: compute cycles over those of computing and stalling, over these and loading, and over
              these and offloading.
    array:    both together: operations / units, rounded up to cycles, over the same three times.
    held:     of a memory's size: the bits that one instance holds of an operand, sums that nothing more is added to by
              their final precision. Lanes count by their average, in a model with ``whole_lanes`` as whole ones.
    memories: the same of all operands in a memory.
    """

    spatial: float
    temporal: tuple[float, float, float]
    array: tuple[float, float, float]
    held: dict[Slot, float]
    memories: dict[int, float]


@dataclass(frozen=True, slots=True)
class Held:
    """What an operand occupies in one instance of a memory, as allocation counts it."""

    operand: int
    level: int
    memory: int
    bits: int
    double_buffered: bool
    energy_pj: float


@dataclass(frozen=True, slots=True)
class Flow:
    """Words in one direction across a memory's edge: every ``period`` a transfer of ``cycles`` port cycles."""

    operand: int
    level: int
    memory: int
    move: Move
    port: int
    words: float
    energy_pj: float
    cycles: int
    period: int
    times: int

    @property
    def busy_cycles(self) -> int:
        """Port cycles of all transfers."""
        return self.cycles * self.times


@dataclass(frozen=True, slots=True)
class PortUse:
    """A port with what it carries; ``late_cycles`` as in :class:`Timing`, none where the model does not say."""

    memory: int
    port: int
    flows: tuple[Flow, ...]
    late_cycles: int | None

    @property
    def busy_cycles(self) -> int:
        """Cycles of all transfers, one after the other."""
        return sum(f.busy_cycles for f in self.flows)


@dataclass(frozen=True, slots=True)
class Fill:
    """The first tile of an operand on its way in: cycles between two neighbouring memories."""

    operand: int
    source: int
    target: int
    cycles: int


@dataclass(frozen=True)
class Explanation:
    """One mapping, explained.

    cuts:   per operand, how many loops lie below the upper boundary of each of its memories, after loops that
            change nothing for it have moved below.
    copies: of feature maps before the layer starts; energy and cycles of them follow, and those that pass beside other
            layers.
    """

    nest: Nest
    arch: Arch
    mapping: Mapping
    model: CostModel
    names: tuple[str, ...]
    cuts: tuple[tuple[int, ...], ...]
    cost: MappingCost
    held: tuple[Held, ...]
    flows: tuple[Flow, ...]
    ports: tuple[PortUse, ...]
    fills: tuple[Fill, ...]
    used: Utilisation
    saved: Saved | None = None
    copies: tuple[CopyEntry, ...] = ()
    copy_energy_pj: float = 0.0
    copy_cycles: int = 0
    hidden_cycles: int = 0

    @property
    def cycles_by_cause(self) -> dict[str, int]:
        """The parts of the latency."""
        cost = self.cost
        stall, load = cost.stall_cycles, cost.filling_cycles
        return {"compute": cost.ideal_cycles, "stall": stall, "load": load, "copy": self.copy_cycles}

    @property
    def energy_by_cause(self) -> dict[str, float]:
        """The parts of the energy, the largest first: the array, each operand in each memory, the copies."""
        parts = {"array": self.cost.compute_pj, "copies": self.copy_energy_pj}
        for held in self.held:
            parts[f"{self.names[held.operand]} in {self.arch.memories[held.memory].name}"] = held.energy_pj
        return dict(sorted(parts.items(), key=lambda part: -part[1]))

    @property
    def busiest(self) -> PortUse | None:
        """The port that delays the array most; where none is said to, the one with most to carry."""
        lates = [p for p in self.ports if p.late_cycles is not None and p.late_cycles > 0]
        if lates:
            return max(lates, key=lambda p: p.late_cycles or 0)
        return max(self.ports, key=lambda p: p.busy_cycles, default=None)

    @property
    def binds(self) -> Cause:
        """What the largest part of the time goes into.

        Stalls are due to room where second buffers everywhere save more than the port, or the two ends of a transfer,
        that saves most; else to bandwidth.
        """
        parts = self.cycles_by_cause
        most = max(parts, key=lambda cause: parts[cause])
        if most != "stall":
            return Cause(most)
        if self.saved is None:
            return Cause.BANDWIDTH
        wider = max([0, *self.saved.ports.values(), *self.saved.ends.values()])
        return Cause.ROOM if self.saved.room > wider else Cause.BANDWIDTH


def port_timing(tables: Tables, batch: Batch, cuts: tuple[Ints, ...]) -> Timing:
    """The timing of the tables' model for the batch's only mapping; ``cuts`` are the effective ones."""
    double = double_buffered(tables, batch, cuts)
    if tables.model.played:
        saved = _saved(tables, batch, cuts, granted_buffers(tables, batch, cuts))
        return Timing(double, saved.ports, saved)
    late = latency(tables, batch, cuts).port_stall_cycles
    return Timing(double, {port: int(cycles[0]) for port, cycles in late.items()})


def double_buffered(tables: Tables, batch: Batch, cuts: tuple[Ints, ...]) -> frozenset[Slot]:
    """Where the tables' model grants the batch's only mapping a second buffer; ``cuts`` are the effective ones.

    The uppermost memory of a path needs none.
    """
    if tables.model.played:
        granted = [row[0].tolist() for row in granted_buffers(tables, batch, cuts)]
    else:
        granted = [[bool(one[0]) for one in row] for row in double_buffers(tables, batch, cuts)]
    return frozenset((i, m) for i, row in enumerate(granted) for m, one in enumerate(row[:-1]) if one)


def _saved(tables: Tables, batch: Batch, cuts: tuple[Ints, ...], double: tuple[Bools, ...]) -> Saved:
    """The batch's only mapping timed again without one limit at a time."""

    def cycles(free: frozenset[Port] = frozenset(), buffers: tuple[Bools, ...] = double) -> int:
        found = exact_latency(tables, batch, cuts, buffers, free)
        return found.ideal_cycles + sum(whole_times(found).row(0))

    now = cycles()

    def without(free: Iterable[Port]) -> int:
        return max(0, now - cycles(frozenset(free)))

    def with_room(buffers: tuple[Bools, ...]) -> int:
        return max(0, now - cycles(buffers=buffers))

    links = [link for table in tables.operands for link in table.links if link.active[_point(batch, cuts, link)]]
    used = sorted({_port(tables, link) for link in links})
    ports = {port: without([port]) for port in used}
    ends: dict[tuple[Port, Port], int] = {}
    for pair in sorted({(_port(tables, a), _port(tables, b)) for a in links for b in links if _one_transfer(a, b)}):
        both = without(pair)
        if 10 * both > 11 * sum(ports[port] for port in pair):
            ends[pair] = both
    missing = [(i, m) for i, row in enumerate(double) for m, has in enumerate(row[0][:-1]) if not has]
    buffers = {slot: with_room(_with_buffer(double, slot)) for slot in missing}
    return Saved(ports, ends, without(used), buffers, with_room(tuple(np.ones_like(d) for d in double)))


def _one_transfer(outer: Link, inner: Link) -> bool:
    """Whether these are the two ends of one transfer between two memories."""
    ends = ((Move.READ_DOWN, Move.WRITE_DOWN), (Move.WRITE_UP, Move.READ_UP))
    same = (outer.operand, outer.boundary) == (inner.operand, inner.boundary)
    return same and (outer.move, inner.move) in ends


def _with_buffer(double: tuple[Bools, ...], slot: Slot) -> tuple[Bools, ...]:
    changed = tuple(d.copy() for d in double)
    changed[slot[0]][:, slot[1]] = True
    return changed


def utilisation(tables: Tables, batch: Batch, cuts: tuple[Ints, ...], cost: MappingCost) -> Utilisation:
    """How much of the chip the batch's only mapping uses; ``cuts`` are the effective ones, ``cost`` is its cost."""
    least = ceil(tables.nest.operations / tables.arch.array.units)
    running = cost.ideal_cycles + cost.stall_cycles
    loaded = running + cost.loading_cycles
    drained = loaded + cost.offloading_cycles
    held: dict[Slot, float] = {}
    memories: dict[int, float] = {}
    for i, (table, cut) in enumerate(zip(tables.operands, cuts, strict=True)):
        for m, memory in enumerate(table.operand.memories):
            at = int(batch.point[0, cut[0, m]])
            share = _held_bits(tables, i, m, at) / tables.arch.memories[memory].size_bits
            held[i, m] = share
            memories[memory] = memories.get(memory, 0.0) + share
    return Utilisation(
        spatial=least / cost.ideal_cycles,
        temporal=(cost.ideal_cycles / running, cost.ideal_cycles / loaded, cost.ideal_cycles / drained),
        array=(least / running, least / loaded, least / drained),
        held=held,
        memories=memories,
    )


def _held_bits(tables: Tables, operand: int, level: int, at: int) -> float:
    table = tables.operands[operand]
    if not tables.model.whole_lanes:
        return float(table.data_bits[level][at])
    final, partial = table.alloc_bits[level]
    return float(partial[at] if table.reduces[level + 1][at] else final[at])


def explain(
    problem: TileProblem, timing: Callable[[Tables, Batch, tuple[Ints, ...]], Timing] = port_timing
) -> Explanation:
    """Everything about a tile's mapping."""
    nest, arch, entry = problem.nest, problem.arch, problem.entry
    tables, batch = tables_of(nest, arch, problem.mapping, problem.model)
    cuts = effective_cuts(tables, batch)
    timed = timing(tables, batch, cuts)
    flows = model_flows(tables, batch, problem.mapping, cuts)
    cost = cost_of(tables, batch, problem.mapping, mapping_times(tables, batch, cuts).row(0))
    return Explanation(
        nest=nest,
        arch=arch,
        mapping=problem.mapping,
        model=problem.model,
        names=operand_names(nest),
        cuts=tuple(tuple(int(c) for c in cut[0]) for cut in cuts),
        cost=cost,
        held=tuple(_held(tables, problem.mapping, flows, timed)),
        flows=flows,
        ports=tuple(_ports(flows, timed)),
        fills=tuple(_fills(flows, nest)),
        used=utilisation(tables, batch, cuts, cost),
        saved=timed.saved,
        copies=entry.copies if entry else (),
        copy_energy_pj=entry.copy_energy_pj if entry else 0.0,
        copy_cycles=entry.copy_cycles if entry else 0,
        hidden_cycles=entry.hidden_cycles if entry else 0,
    )


def model_flows(tables: Tables, batch: Batch, mapping: Mapping, cuts: tuple[Ints, ...]) -> tuple[Flow, ...]:
    """Every direction in which words move, also those in which none do; ``cuts`` are the effective ones."""
    moved = mapping_words(tables, mapping, batch.point[0].tolist(), [cut[0].tolist() for cut in cuts])
    return tuple(
        _flow(tables, batch, cuts, link, moved[link.operand, link.boundary, link.move])
        for table in tables.operands
        for link in table.links
    )


def _point(batch: Batch, cuts: tuple[Ints, ...], link: Link) -> int:
    """The point at which the only mapping cuts a link's operand."""
    cut = int(cuts[link.operand][0, link.boundary - 1]) if link.boundary else 0
    return int(batch.point[0, cut])


def _port(tables: Tables, link: Link) -> Port:
    role = tables.operands[link.operand].operand.role
    return link.memory, tables.arch.memories[link.memory].port_of[role, link.move]


def _flow(tables: Tables, batch: Batch, cuts: tuple[Ints, ...], link: Link, words: float) -> Flow:
    at = _point(batch, cuts, link)
    period = int(tables.cycles[at]) if link.boundary else 1
    active = bool(link.active[at])
    return Flow(
        operand=link.operand,
        level=link.level,
        memory=link.memory,
        move=link.move,
        port=_port(tables, link)[1],
        words=words,
        energy_pj=words * link_pj(tables, link),
        cycles=int(link.transfer_cycles[at]) if active else 0,
        period=period,
        times=int(tables.stays[at]) if active else 0,
    )


def _held(tables: Tables, mapping: Mapping, flows: tuple[Flow, ...], timed: Timing) -> list[Held]:
    found: list[Held] = []
    for i, (table, cuts) in enumerate(zip(tables.operands, mapping.cuts, strict=True)):
        for level, memory in enumerate(table.operand.memories):
            final, partial = table.alloc_bits[level]
            outside = mapping.loops[cuts[level - 1] if level else 0 :]
            sums_left = any(table.operand.irrelevant(loop.dim) for loop in outside)
            if tables.model.whole_lanes:  # the reference forgets what lanes above still have to add
                sums_left |= table.traffic.lanes.reduces_above[level]
            energy = sum(f.energy_pj for f in flows if (f.operand, f.level) == (i, level))
            bits = int((partial if sums_left and table.operand.is_output else final)[cuts[level]])
            found.append(Held(i, level, memory, bits, (i, level) in timed.double_buffered, energy))
    return found


def _ports(flows: tuple[Flow, ...], timed: Timing) -> list[PortUse]:
    """Ports that carry anything, from the array outwards."""
    keys = sorted({(f.memory, f.port) for f in flows if f.times})
    return [
        PortUse(*key, tuple(f for f in flows if (f.memory, f.port) == key and f.times), timed.late_cycles.get(key))
        for key in keys
    ]


def _fills(flows: tuple[Flow, ...], nest: Nest) -> list[Fill]:
    """Per input operand and gap between memories, how long its first tile takes: as long as the slower side."""
    found: list[Fill] = []
    for i, operand in enumerate(nest.operands):
        for level in range(len(operand.memories) - 1 if not operand.is_output else 0):
            sides = ((level, Move.WRITE_DOWN), (level + 1, Move.READ_DOWN))
            cycles = max(f.cycles for f in flows if f.operand == i and (f.level, f.move) in sides)
            found.append(Fill(i, operand.memories[level + 1], operand.memories[level], cycles))
    return found
