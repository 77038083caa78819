"""What the exact model's latency is made of: the durations of a nest's steps and of its transfers, per point.

docs/simulator.md states what a transfer is and when it may start; ``timing.py`` puts them together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf

import numpy as np

from dfc.backend_cost.lane_bursts import outer_entries
from dfc.backend_cost.stay_bursts import Touched, plain_longest, step_classes, window_longest
from dfc.backend_cost.tables import Bools, Floats, OperandTable, Tables
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


class TimeTables:
    """Durations of the steps and of all transfers of a nest, per point of its tables."""

    def __init__(self, tables: Tables, free: frozenset[Port] = frozenset()):
        """``free`` ports are infinitely wide, and keep nothing waiting."""
        self.tables = tables
        self.free = free
        self.boundaries: list[BoundaryTimes] = []
        for index, table in enumerate(tables.operands):
            if table.operand.bits and len(table.operand.memories) > 1:
                self.boundaries += self._of_output(index) if table.operand.is_output else self._of_input(index)

    def _port(self, operand: int, level: int, move: Move) -> tuple[Port, float]:
        """The port of a move at a level, and its width in bits per cycle."""
        found = self.tables.operands[operand].operand
        memory = self.tables.arch.memories[found.memories[level]]
        port = found.memories[level], memory.port_of[found.role, move]
        return port, inf if port in self.free else memory.width(move)

    # ---- transfers -----------------------------------------------------------------------------------------------

    def _sides(self, operand: int, down: bool) -> list[tuple[tuple[Port, float], tuple[Port, float]]]:
        """Per boundary the ports and widths of its memories: the upper one's, the lower one's."""
        moves = (Move.READ_DOWN, Move.WRITE_DOWN) if down else (Move.WRITE_UP, Move.READ_UP)
        levels = range(1, len(self.tables.operands[operand].operand.memories))
        return [(self._port(operand, a, moves[0]), self._port(operand, a - 1, moves[1])) for a in levels]

    def _ports(self, operand: int, down: bool) -> list[tuple[Port, ...]]:
        # a free port serves each transfer by itself: it has a number of its own there
        return [
            tuple(
                (-1 - side, (operand * 64 + a + 1) * 2 + down) if p in self.free else p
                for side, (p, _) in enumerate(both)
            )
            for a, both in enumerate(self._sides(operand, down))
        ]

    def _mean(self, operand: int, down: bool, bits: list[int], longest: Floats) -> Floats:
        """(boundaries, addressed) mean cycles of a transfer of elements of so many bits at each boundary."""
        sides = self._sides(operand, down)
        widths = np.array([[b, upper[1], lower[1]] for b, (upper, lower) in zip(bits, sides, strict=True)])
        size, upper, lower = widths.T[..., None, None]
        fed, feeding, counts = longest
        cycles = np.maximum(np.ceil(feeding * size / upper), np.ceil(fed * size / lower))
        mean: Floats = (cycles * counts).sum(axis=1) / np.maximum(counts.sum(axis=1), 1)
        return mean

    def _of_input(self, index: int) -> list[BoundaryTimes]:
        table = self.tables.operands[index]
        longest = longest_bursts(table)
        cycles = self._mean(index, True, [table.operand.bits] * longest.shape[1], longest)
        cycles = cycles.take(table.traffic.grid.addressed_place, axis=1)
        always = np.ones(cycles.shape[1])
        ports = self._ports(index, True)
        return [
            BoundaryTimes(index, a + 1, Transfer(each, always, port), None, None)
            for a, (each, port) in enumerate(zip(cycles, ports, strict=True))
        ]

    def _of_output(self, index: int) -> list[BoundaryTimes]:
        table = self.tables.operands[index]
        operand, grid = table.operand, table.traffic.grid
        longest = longest_bursts(table)
        partial = [operand.partial_bits] * longest.shape[1]
        reduces = table.traffic.lanes.reduces_above
        final = [operand.partial_bits if reduces[a + 1] else operand.bits for a in range(longest.shape[1])]
        early = self._mean(index, False, partial, longest)
        last = early if final == partial else self._mean(index, False, final, longest)
        back = self._mean(index, True, partial, longest)
        early, last, back = (m.take(grid.addressed_place, axis=1) for m in (early, last, back))
        again = ((grid.visits - 1) / grid.visits).take(grid.idle_place)
        up = early * again + last * (1 - again)
        always = np.ones(len(again))
        ports = zip(self._ports(index, True), self._ports(index, False), strict=True)
        return [
            BoundaryTimes(index, a + 1, None, Transfer(back[a], again, into), Transfer(up[a], always, out))
            for a, (into, out) in enumerate(ports)
        ]

    # ---- how they meet -------------------------------------------------------------------------------------------

    @cached_property
    def flows(self) -> list[Flow]:
        """All transfers of all boundaries."""
        found = [
            Flow(i, kind, b.operand, b.boundary, t.ports)
            for i, b in enumerate(self.boundaries)
            for kind, t in b.transfers
        ]
        return [replace(f, contested=any(f.meets(g) and f.operand != g.operand for g in found)) for f in found]

    @cached_property
    def pairs(self) -> list[tuple[Port, ...]]:
        """Ports of a transfer one of which serves transfers with other ports, too: only then does the pair matter."""
        return sorted({f.ports for f in self.flows if any(f.meets(g) and f.ports != g.ports for g in self.flows)})

    @cached_property
    def ports(self) -> list[Port]:
        """All ports of transfers."""
        return sorted({p for f in self.flows for p in f.ports})

    # ---- steps ---------------------------------------------------------------------------------------------------

    @cached_property
    def step_share(self) -> float:
        """The share of steps in which sums come back from the innermost memory."""
        output = self.tables.operands[0]
        if not output.operand.bits:
            return 0.0
        visits = float(output.traffic.grid.visits[0])
        return (visits - 1) / visits

    @cached_property
    def _steps(self) -> StepClasses:
        return _step_classes(self.tables)

    @cached_property
    def _step_ports(self) -> tuple[dict[Port, Floats], dict[Port, Floats]]:
        """Cycles of each port in each class of steps; those of sums that come back."""
        steps = self._steps
        ports: dict[Port, Floats] = {}
        back: dict[Port, Floats] = {}
        for index, table in enumerate(self.tables.operands):
            operand = table.operand
            moves: list[tuple[dict[Port, Floats], Move, Floats | int]] = [(ports, Move.READ_DOWN, operand.bits)]
            if operand.is_output:
                finished = steps.last & (not table.traffic.lanes.reduces_above[0])
                bits: Floats = np.where(finished, float(operand.bits), float(operand.partial_bits))
                moves = [(ports, Move.WRITE_UP, bits), (back, Move.READ_DOWN, operand.partial_bits)]
            for found, move, each in moves:
                port, width = self._port(index, 0, move)
                cycles: Floats = np.ceil(steps.sizes[index] * each / width)
                found[port] = found[port] + cycles if port in found else cycles
        return ports, back

    def step_cycles(self, returning: bool) -> tuple[float, dict[Port, float]]:
        """Mean cycles of a step, and of each port in it, with or without sums coming back."""
        steps = self._steps
        counts = steps.counts if self.step_share == 0 else steps.counts * (steps.first != returning)
        ports, back = self._step_ports
        if returning:
            ports = ports | {p: ports[p] + cycles if p in ports else cycles for p, cycles in back.items()}
        each = np.array([*ports.values()])
        # sums of whole numbers: their order does not matter
        total = float(counts.sum())
        longest = float((np.maximum(1.0, each.max(axis=0)) * counts).sum()) / total
        return longest, dict(zip(ports, ((each * counts).sum(axis=1) / total).tolist(), strict=True))


def longest_bursts(table: OperandTable) -> Floats:
    """(3, boundaries from 1 on, entries, addressed) the longest bursts of working stays over instances.

    Elements below and above the boundary, and how many stays have both.
    """
    traffic = table.traffic
    grid, dim_of = traffic.grid, traffic.counter.dim
    nest = grid.nest
    found = np.ones((3, len(table.operand.memories) - 1, 1, 1))
    for dim in grid.plain:
        found = outer_entries(found, plain_longest(dim_of(dim), grid.grid.below[dim]))
    for axis in table.operand.windows:
        o, f = OUTPUT_DIM[axis], KERNEL_DIM[axis]
        below = grid.grid.below[o], grid.grid.below[f]
        found = outer_entries(found, window_longest((dim_of(o), dim_of(f)), below, nest.window_shape(axis)))
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


def _step_classes(tables: Tables) -> StepClasses:
    """The classes of all steps of a nest."""
    nest = tables.nest
    rows, counts = np.ones((len(tables.operands) + 2, 1)), np.ones(1)
    for group in _independent(tables):
        touched = tuple(_touched(table, group) for table in tables.operands)
        adds = tuple(tables.operands[0].operand.irrelevant(d) for d in group)
        values, times = step_classes(touched, tuple(nest.fewest_steps[d] for d in group), adds)
        rows = (rows[:, :, None] * values[:, None, :]).reshape(len(rows), -1)
        counts = (counts[:, None] * times[None, :]).reshape(-1)
    return StepClasses(rows[:-2], rows[-2] > 0, rows[-1] > 0, counts)


def _independent(tables: Tables) -> Iterable[tuple[Dim, ...]]:
    """The dimensions of a nest, the two of a window together."""
    windows = [(OUTPUT_DIM[a], KERNEL_DIM[a]) for a in sorted({a for t in tables.operands for a in t.operand.windows})]
    taken = {d for window in windows for d in window}
    return *windows, *((d,) for d in Dim if d not in taken and tables.nest.sizes[d] > 1)


def _touched(table: OperandTable, group: tuple[Dim, ...]) -> Touched:
    operand, dim_of = table.operand, table.traffic.counter.dim
    axis = next((a for a in operand.windows if OUTPUT_DIM[a] is group[0]), None)
    dims = tuple(dim_of(d) if axis is not None or d in operand.dims else None for d in group)
    return Touched(dims, None if axis is None else table.traffic.grid.nest.window_shape(axis))
