"""What the exact model's latency is made of: the durations of a nest's steps and of its transfers, per point.

docs/simulator.md states what a transfer is and when it may start; ``timing.py`` puts them together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from math import inf

import numpy as np

from dfc.backend_cost import axes_compiled
from dfc.backend_cost.axes_compiled import COMPILED
from dfc.backend_cost.lane_bursts import outer_entries
from dfc.backend_cost.nest import Nest
from dfc.backend_cost.stay_bursts import Touched, plain_longest, step_classes, window_longest
from dfc.backend_cost.tables import TABLES, Bools, Floats, OperandTable, Tables
from dfc.hwdsl.arch import Move
from dfc.ir import KERNEL_DIM, OUTPUT_DIM, Dim

Port = tuple[int, int]  # (memory, port)


@dataclass(frozen=True)
class Transfer:
    """One kind of transfer across a boundary, per point: mean cycles of one, and how many stays have one."""

    cycles: Floats
    share: Floats  # of the stays
    ports: tuple[Port, ...]


@dataclass(frozen=True)
class BoundaryTimes:
    """The transfers at one boundary of one operand: into the lower memory, out of it (outputs)."""

    operand: int
    boundary: int
    fetch: Transfer | None
    back: Transfer | None
    up: Transfer | None

    @property
    def transfers(self) -> list[tuple[int, Transfer]]:
        """Those that there are, by kind: 0 into the array, 1 sums coming back, 2 out of it."""
        return [(kind, t) for kind, t in enumerate((self.fetch, self.back, self.up)) if t is not None]


@dataclass(frozen=True, slots=True)
class Flow:
    """One kind of transfer across one boundary: 0 into the array, 1 sums coming back, 2 out of it."""

    boundary: int  # in the list of all operands' boundaries
    kind: int
    operand: int
    level: int  # the boundary on the operand's path
    ports: tuple[Port, ...]
    contested: bool = False  # whether another operand moves on one of the ports

    def meets(self, other: Flow) -> bool:
        """Whether both use one port."""
        return bool(set(self.ports) & set(other.ports))


@lru_cache(maxsize=256)
def _contested(flows: tuple[tuple[int, int, int, int, tuple[Port, ...]], ...]) -> tuple[Flow, ...]:
    found = [Flow(*flow) for flow in flows]
    return tuple(replace(f, contested=any(f.meets(g) and f.operand != g.operand for g in found)) for f in found)


@lru_cache(maxsize=256)
def meeting_pairs(flows: tuple[Flow, ...]) -> tuple[tuple[Port, ...], ...]:
    """Ports of a transfer one of which serves transfers with other ports, too: only then does the pair matter."""
    return tuple(sorted({f.ports for f in flows if any(f.meets(g) and f.ports != g.ports for g in flows)}))


@lru_cache(maxsize=256)
def meeting_ports(flows: tuple[Flow, ...]) -> tuple[Port, ...]:
    """All ports of transfers."""
    return tuple(sorted({p for f in flows for p in f.ports}))


class TimeTables:
    """Durations of the steps and of all transfers of a nest, per point of its tables."""

    def __init__(self, tables: Tables, free: frozenset[Port] = frozenset()):
        """``free`` ports are infinitely wide, and keep nothing waiting."""
        self.tables = tables
        self.free = free
        self.boundaries = [
            b for t in tables.operands for b in boundary_times(t.whole or t, free)[: max(0, t.levels - 1)]
        ]

    # ---- how they meet -------------------------------------------------------------------------------------------

    @cached_property
    def flows(self) -> tuple[Flow, ...]:
        """All transfers of all boundaries."""
        each = [(i, b, kind, t.ports) for i, b in enumerate(self.boundaries) for kind, t in b.transfers]
        return _contested(tuple([(i, kind, b.operand, b.boundary, ports) for i, b, kind, ports in each]))

    @property
    def pairs(self) -> tuple[tuple[Port, ...], ...]:
        """Ports of transfers where the pair matters."""
        return meeting_pairs(self.flows)

    @property
    def ports(self) -> tuple[Port, ...]:
        """All ports of transfers."""
        return meeting_ports(self.flows)

    # ---- steps ---------------------------------------------------------------------------------------------------

    @cached_property
    def _steps(self) -> StepTimes:
        return step_times(tuple([t.whole or t for t in self.tables.operands]), self.free)

    @property
    def step_share(self) -> float:
        """The share of steps in which sums come back from the innermost memory."""
        return self._steps.share

    def step_cycles(self, returning: bool) -> tuple[float, dict[Port, float]]:
        """Mean cycles of a step, and of each port in it, with or without sums coming back."""
        return self._steps.returning if returning else self._steps.alone

    @property
    def steps_alone(self) -> float:
        """Cycles of the nest if no transfer kept its steps waiting."""
        share, working = self.step_share, self.tables.working_cycles
        mean = share * self.step_cycles(True)[0] + (1 - share) * self.step_cycles(False)[0]
        return mean * working + (self.tables.total_cycles - working)

    @cached_property
    def step_busy(self) -> dict[Port, float]:
        """Cycles for which the steps of the whole run hold each port."""
        found: dict[Port, float] = {}
        for returning, share in ((True, self.step_share), (False, 1 - self.step_share)):
            if share:
                for port, cycles in self.step_cycles(returning)[1].items():
                    found[port] = found.get(port, 0.0) + share * cycles * self.tables.working_cycles
        return found


@dataclass(frozen=True)
class _TimesOf:
    operands: tuple[OperandTable, ...]
    tables: Tables = field(compare=False)


@lru_cache(maxsize=TABLES)
def _shared_times(wanted: _TimesOf) -> TimeTables:
    return TimeTables(wanted.tables)


def shared_times(tables: Tables) -> TimeTables:
    """The durations of some tables: the same where those of their operands are; sizes of memories may differ."""
    return _shared_times(_TimesOf(tables.operands, tables))


@dataclass(frozen=True, eq=False)
class StepTimes:
    """Durations of the steps of a nest; they touch the innermost memories alone."""

    operands: tuple[OperandTable, ...]
    free: frozenset[Port]

    @cached_property
    def share(self) -> float:
        """The share of steps in which sums come back from the innermost memory."""
        output = self.operands[0]
        if not output.operand.bits:
            return 0.0
        visits = float(output.traffic.grid.visits[0])
        return (visits - 1) / visits

    @cached_property
    def returning(self) -> tuple[float, dict[Port, float]]:
        """Mean cycles of a step, and of each port in it, where sums come back."""
        ports, back = self._ports
        return self._mean(ports | {p: ports[p] + cycles if p in ports else cycles for p, cycles in back.items()}, True)

    @cached_property
    def alone(self) -> tuple[float, dict[Port, float]]:
        """The same where none do."""
        return self._mean(self._ports[0], False)

    @cached_property
    def _classes(self) -> StepClasses:
        return _step_classes(self.operands)

    @cached_property
    def _ports(self) -> tuple[dict[Port, Floats], dict[Port, Floats]]:
        """Cycles of each port in each class of steps; those of sums that come back."""
        steps = self._classes
        ports: dict[Port, Floats] = {}
        back: dict[Port, Floats] = {}
        for index, table in enumerate(self.operands):
            operand = table.operand
            moves: list[tuple[dict[Port, Floats], Move, Floats | int]] = [(ports, Move.READ_DOWN, operand.bits)]
            if operand.is_output:
                finished = steps.last & (not table.traffic.lanes.reduces_above[0])
                bits: Floats = np.where(finished, float(operand.bits), float(operand.partial_bits))
                moves = [(ports, Move.WRITE_UP, bits), (back, Move.READ_DOWN, operand.partial_bits)]
            for found, move, each in moves:
                port, width = _port(table, 0, move, self.free)
                cycles: Floats = np.ceil(steps.sizes[index] * each / width)
                found[port] = found[port] + cycles if port in found else cycles
        return ports, back

    def _mean(self, ports: dict[Port, Floats], returning: bool) -> tuple[float, dict[Port, float]]:
        steps = self._classes
        counts = steps.counts if self.share == 0 else steps.counts * (steps.first != returning)
        each = np.array([*ports.values()])
        # sums of whole numbers: their order does not matter
        total = float(counts.sum())
        longest = float((np.maximum(1.0, each.max(axis=0)) * counts).sum()) / total
        return longest, dict(zip(ports, ((each * counts).sum(axis=1) / total).tolist(), strict=True))


@lru_cache(maxsize=TABLES)
def step_times(operands: tuple[OperandTable, ...], free: frozenset[Port]) -> StepTimes:
    """Durations of the steps of a nest with these operands."""
    return StepTimes(operands, free)


def _port(table: OperandTable, level: int, move: Move, free: frozenset[Port]) -> tuple[Port, float]:
    """The port of a move at a level, and its width in bits per cycle."""
    memory = table.traffic.memories[level]
    port = table.operand.memories[level], memory.port_of[table.operand.role, move]
    return port, inf if port in free else memory.width(move)


class _Way:
    """One direction across all boundaries of an operand: the ports on both sides, and how wide they are."""

    def __init__(self, table: OperandTable, down: bool, free: frozenset[Port]):
        upper, lower = (Move.READ_DOWN, Move.WRITE_DOWN) if down else (Move.WRITE_UP, Move.READ_UP)
        self.widths: list[tuple[float, float]] = []
        self.ports: list[tuple[Port, ...]] = []
        for a in range(1, len(table.operand.memories)):
            sides = _port(table, a, upper, free), _port(table, a - 1, lower, free)
            self.widths.append((sides[0][1], sides[1][1]))
            # a free port serves each transfer by itself: it has a number of its own there
            number = (table.index * 64 + a) * 2 + down
            self.ports.append(tuple((-1 - i, number) if p in free else p for i, (p, _) in enumerate(sides)))

    def transfers(self, bits: list[int]) -> list[tuple[float, float, float]]:
        """Of elements of so many bits at each boundary: these, and bits per cycle above and below."""
        return [(each, *widths) for each, widths in zip(bits, self.widths, strict=True)]


def mean_cycles(table: OperandTable, transfers: Floats, *, compiled: bool = COMPILED) -> Floats:
    """(transfers, boundaries, addressed) mean cycles of transfers (transfers, boundaries, 3) over working stays."""
    if compiled:
        return axes_compiled.mean_cycles(longest_axes(table), transfers)
    fed, feeding, counts = longest_bursts(table)
    bits, upper, lower = np.moveaxis(transfers, 2, 0)[..., None, None]
    cycles = np.maximum(np.ceil(feeding * bits / upper), np.ceil(fed * bits / lower))
    found: Floats = (cycles * counts).sum(axis=2) / np.maximum(counts.sum(axis=1), 1)
    return found


@lru_cache(maxsize=TABLES)
def boundary_times(table: OperandTable, free: frozenset[Port]) -> tuple[BoundaryTimes, ...]:
    """The transfers at all boundaries of one operand on its whole path."""
    operand, grid = table.operand, table.traffic.grid
    count = len(operand.memories) - 1
    if not operand.bits or not count:
        return ()
    place, down = grid.addressed_place, _Way(table, True, free)
    always = np.ones(len(place))
    if not operand.is_output:
        cycles = mean_cycles(table, np.array([down.transfers([operand.bits] * count)]))[0].take(place, axis=1)
        fetches = [Transfer(each, always, ports) for each, ports in zip(cycles, down.ports, strict=True)]
        return tuple(BoundaryTimes(table.index, a + 1, fetch, None, None) for a, fetch in enumerate(fetches))
    up = _Way(table, False, free)
    partial = [operand.partial_bits] * count
    final = [operand.partial_bits if above else operand.bits for above in table.traffic.lanes.reduces_above[1:-1]]
    ways = np.array([up.transfers(partial), up.transfers(final), down.transfers(partial)])
    early, last, back = mean_cycles(table, ways).take(place, axis=2)
    again = ((grid.visits - 1) / grid.visits).take(grid.idle_place)
    raised = early * again + last * (1 - again)
    each = zip(back, down.ports, raised, up.ports, strict=True)
    return tuple(
        BoundaryTimes(table.index, a + 1, None, Transfer(b, again, into), Transfer(r, always, out))
        for a, (b, into, r, out) in enumerate(each)
    )


def longest_axes(table: OperandTable) -> list[Floats]:
    """The longest bursts of working stays over instances, axis by axis: (3, boundaries from 1 on, entries, products).

    Elements below and above the boundary, and how many stays have both.
    """
    traffic = table.traffic
    grid, dim_of = traffic.grid, traffic.counter.dim
    found = [plain_longest(dim_of(dim), grid.grid.below[dim]) for dim in grid.plain]
    for axis in table.operand.windows:
        o, f = OUTPUT_DIM[axis], KERNEL_DIM[axis]
        below = grid.grid.below[o], grid.grid.below[f]
        found.append(window_longest((dim_of(o), dim_of(f)), below, grid.nest.window_shape(axis)))
    return found


def longest_bursts(table: OperandTable) -> Floats:
    """The same over all axes together, (3, boundaries from 1 on, entries, addressed)."""
    found = np.ones((3, len(table.operand.memories) - 1, 1, 1))
    for each in longest_axes(table):
        found = outer_entries(found, each)
    return found


@dataclass(frozen=True)
class StepClasses:
    """Steps that touch equally much: (operands, classes) elements at the innermost memories, and how many there are.

    first, last: whether they are the first, or the last, that add to their sums.
    """

    sizes: Floats
    first: Bools
    last: Bools
    counts: Floats


def _step_classes(operands: tuple[OperandTable, ...]) -> StepClasses:
    """The classes of all steps of a nest."""
    nest = operands[0].traffic.grid.nest
    rows, counts = np.ones((len(operands) + 2, 1)), np.ones(1)
    for group in _independent(operands, nest):
        touched = tuple(_touched(table, group) for table in operands)
        adds = tuple(operands[0].operand.irrelevant(d) for d in group)
        values, times = step_classes(touched, tuple(nest.fewest_steps[d] for d in group), adds)
        rows = (rows[:, :, None] * values[:, None, :]).reshape(len(rows), -1)
        counts = (counts[:, None] * times[None, :]).reshape(-1)
    return StepClasses(rows[:-2], rows[-2] > 0, rows[-1] > 0, counts)


def _independent(operands: tuple[OperandTable, ...], nest: Nest) -> Iterable[tuple[Dim, ...]]:
    """The dimensions of a nest, the two of a window together."""
    windows = [(OUTPUT_DIM[a], KERNEL_DIM[a]) for a in sorted({a for t in operands for a in t.operand.windows})]
    taken = {d for window in windows for d in window}
    return *windows, *((d,) for d in Dim if d not in taken and nest.sizes[d] > 1)


def _touched(table: OperandTable, group: tuple[Dim, ...]) -> Touched:
    operand, dim_of = table.operand, table.traffic.counter.dim
    axis = next((a for a in operand.windows if OUTPUT_DIM[a] is group[0]), None)
    dims = tuple(dim_of(d) if axis is not None or d in operand.dims else None for d in group)
    return Touched(dims, None if axis is None else table.traffic.grid.nest.window_shape(axis))
