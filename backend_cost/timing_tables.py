"""What the exact model's latency is made of: the durations of a nest's steps and of its transfers, per point.

docs/simulator.md states what a transfer is and when it may start; ``timing.py`` puts them together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from math import inf

import numpy as np

from dfc.backend_cost.bursts import BurstCounter, Points
from dfc.backend_cost.nest import Nest, Unrolled
from dfc.backend_cost.tables import Bools, Floats, Ints, Tables
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


class TimeTables:
    """Durations of the steps and of all transfers of a nest, per point."""

    def __init__(self, tables: Tables, points: Floats, free: frozenset[Port] = frozenset()):
        """``free`` ports are infinitely wide, and keep nothing waiting."""
        self.tables = tables
        self.free = free
        shared = Points(points)
        self.counters = [BurstCounter(tables.nest, t.operand, tables.arch, shared) for t in tables.operands]
        self.boundaries = [
            self._boundary(index, a)
            for index, table in enumerate(tables.operands)
            for a in range(1, len(table.operand.memories))
            if table.operand.bits
        ]

    def _port(self, operand: int, level: int, move: Move) -> tuple[Port, float]:
        """The port of a move at a level, and its width in bits per cycle."""
        found = self.tables.operands[operand].operand
        memory = self.tables.arch.memories[found.memories[level]]
        port = found.memories[level], memory.port_of[found.role, move]
        return port, inf if port in self.free else memory.width(move)

    def _transfer(
        self, operand: int, a: int, down: bool, bits: int, longest: tuple[Floats, Floats, Floats], share: Floats
    ) -> Transfer:
        fed, feeding, counts = longest
        upper, upper_width = self._port(operand, a, Move.READ_DOWN if down else Move.WRITE_UP)
        lower, lower_width = self._port(operand, a - 1, Move.WRITE_DOWN if down else Move.READ_UP)
        cycles = np.maximum(np.ceil(feeding * bits / upper_width), np.ceil(fed * bits / lower_width))
        mean = (cycles * counts).sum(axis=1) / np.maximum(counts.sum(axis=1), 1)
        # a free port serves each transfer by itself: it has a number of its own there
        ports = [
            (-1 - side, (operand * 64 + a) * 2 + down) if p in self.free else p for side, p in enumerate((upper, lower))
        ]
        return Transfer(mean, share, tuple(ports))

    def _boundary(self, index: int, a: int) -> BoundaryTimes:
        table, counter = self.tables.operands[index], self.counters[index]
        operand = table.operand
        longest = counter.longest(a)
        ones = np.ones(len(longest[2]))
        if not operand.is_output:
            return BoundaryTimes(index, a, self._transfer(index, a, True, operand.bits, longest, ones), None, None)
        visits = counter.visits(a)
        again = (visits - 1) / visits
        last_bits = operand.partial_bits if table.traffic.lanes.reduces_above[a] else operand.bits
        early = self._transfer(index, a, False, operand.partial_bits, longest, ones)
        last = self._transfer(index, a, False, last_bits, longest, ones)
        up = replace(early, cycles=early.cycles * again + last.cycles * (1 - again))
        return BoundaryTimes(index, a, None, self._transfer(index, a, True, operand.partial_bits, longest, again), up)

    @cached_property
    def step_share(self) -> float:
        """The share of steps in which sums come back from the innermost memory."""
        if not self.tables.operands[0].operand.bits:
            return 0.0
        visits = float(self.counters[0].visits(0)[0])
        return (visits - 1) / visits

    @cached_property
    def _steps(self) -> StepClasses:
        return step_classes(self.counters)

    def step_cycles(self, returning: bool) -> tuple[float, dict[Port, float]]:
        """Mean cycles of a step, and of each port in it, with or without sums coming back."""
        steps = self._steps
        counts = steps.counts if self.step_share == 0 else steps.counts * (steps.first != returning)
        ports: dict[Port, Floats] = {}
        for index, table in enumerate(self.tables.operands):
            operand = table.operand
            moves = [(Move.READ_DOWN, np.full(len(counts), operand.bits))]
            if operand.is_output:
                finished = steps.last & (not table.traffic.lanes.reduces_above[0])
                moves = [
                    (Move.WRITE_UP, np.where(finished, operand.bits, operand.partial_bits)),
                    (Move.READ_DOWN, np.full(len(counts), operand.partial_bits * returning)),
                ]
            for move, bits in moves:
                port, width = self._port(index, 0, move)
                ports[port] = ports.get(port, np.zeros(len(counts))) + np.ceil(steps.sizes[index] * bits / width)
        longest = np.maximum(1.0, np.max(list(ports.values()), axis=0))
        weight = counts / counts.sum()
        return float((longest * weight).sum()), {p: float((c * weight).sum()) for p, c in ports.items()}


@dataclass(frozen=True)
class StepClasses:
    """Steps that touch equally much: (operands, classes) elements at the innermost memories, and how many there are.

    first, last: whether they are the first, or the last, that add to their sums.
    """

    sizes: Floats
    first: Bools
    last: Bools
    counts: Floats


@dataclass(frozen=True)
class _Counters:
    """The counters of a nest's operands, the output's first: equal where steps touch equally much."""

    counters: tuple[BurstCounter, ...] = field(compare=False)
    nest: Nest
    gaps: tuple[tuple[tuple[Unrolled, ...], ...], ...]


def step_classes(counters: list[BurstCounter]) -> StepClasses:
    """The classes of all steps of a nest; ``counters`` are those of its operands, the output's first."""
    gaps = tuple(tuple(tuple(gap) for gap in c.gaps) for c in counters)
    return _step_classes(_Counters(tuple(c.without_points() for c in counters), counters[0].nest, gaps))


@lru_cache(maxsize=256)
def _step_classes(of: _Counters) -> StepClasses:
    counters = list(of.counters)
    rows, counts = np.ones((len(counters) + 2, 1)), np.ones(1)
    for group in _independent(counters):
        ends = _ends(counters[0], group)
        found = np.stack([*(c.step_factors(group) for c in counters), *ends], axis=1)
        values, times = np.unique(found, axis=0, return_counts=True)
        rows = (rows[:, :, None] * values.T[:, None, :]).reshape(len(rows), -1)
        counts = (counts[:, None] * times[None, :]).reshape(-1)
    return StepClasses(rows[:-2], rows[-2] > 0, rows[-1] > 0, counts)


def _independent(counters: list[BurstCounter]) -> Iterable[tuple[Dim, ...]]:
    """The dimensions of a nest, the two of a window together."""
    windows = [(OUTPUT_DIM[a], KERNEL_DIM[a]) for a in sorted({a for c in counters for a in c.operand.windows})]
    taken = {d for window in windows for d in window}
    return *windows, *((d,) for d in Dim if d not in taken and counters[0].nest.sizes[d] > 1)


def _ends(output: BurstCounter, dims: tuple[Dim, ...]) -> tuple[Ints, Ints]:
    """Which combinations of these dimensions (the first fastest) are the first to add to their sums, and the last."""
    first = last = np.ones(1, dtype=np.int64)
    for dim in dims:
        steps = np.arange(output.nest.fewest_steps[dim])
        adds = output.operand.irrelevant(dim)
        at_first, at_last = (steps == 0, steps == len(steps) - 1) if adds else (steps >= 0, steps >= 0)
        first, last = np.outer(at_first, first).reshape(-1), np.outer(at_last, last).reshape(-1)
    return first, last
