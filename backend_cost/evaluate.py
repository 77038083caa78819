"""Energy and latency of a batch of mappings, from tables over points.

A batch is a set of loop orders and, per operand and memory, where each order is cut: loops before the cut stay below
the memory's upper boundary. Sections B.e.2, B.e.6 to B.e.9 of docs/cost-model.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dfc.backend_cost.tables import Bools, Floats, Ints, Link, Tables
from dfc.hwdsl.arch import Move
from dfc.ir import Dim

#: mappings that are looked at one after the other: NumPy would take longer
_FEW = 4


@dataclass(frozen=True)
class Batch:
    """Mappings of one nest.

    loop_dim:  (mappings, loops) the dimension of each loop, innermost first.
    point:     (mappings, loops + 1) index into the tables' points of the first i loops.
    cuts:      per operand (mappings, memories): how many loops lie below each memory's upper boundary.
    """

    loop_dim: Ints
    point: Ints
    cuts: tuple[Ints, ...]

    def take(self, rows: Ints) -> Batch:
        """The mappings at ``rows``."""
        return Batch(self.loop_dim[rows], self.point[rows], tuple(c[rows] for c in self.cuts))


@dataclass(frozen=True)
class Latency:
    """Cycles per mapping: stalls, loading before the first operation, offloading after the last."""

    ideal_cycles: int
    stall_cycles: Ints
    loading_cycles: Ints
    offloading_cycles: Ints
    port_stall_cycles: dict[tuple[int, int], Ints]  # (memory, port) -> slack (negative) or stall

    @property
    def running_cycles(self) -> Ints:
        """Compute and stall (the reference's latency_total0)."""
        return self.ideal_cycles + self.stall_cycles

    @property
    def total_cycles(self) -> Ints:
        """Compute, stall and loading (the reference's latency_total1, which its paper uses)."""
        return self.running_cycles + self.loading_cycles


def effective_cuts(tables: Tables, batch: Batch) -> tuple[Ints, ...]:
    """Cuts moved outwards over loops that do not change what the memory holds (stationary merge-down, B.e.2)."""
    if len(batch.loop_dim) <= _FEW:
        return _effective_rows(tables, batch)
    moved: list[Ints] = []
    by_position = np.ascontiguousarray(batch.loop_dim.T)
    loops = len(by_position)
    rows = np.arange(len(batch.loop_dim))
    for table, cuts in zip(tables.operands, batch.cuts, strict=True):
        idle = np.array([table.operand.irrelevant(d) for d in Dim])[by_position]
        skip = np.full((loops + 1, len(rows)), loops, dtype=np.int16)
        for i in range(loops - 1, -1, -1):
            skip[i] = np.where(idle[i], skip[i + 1], i)
        moved.append(np.stack([skip[cut, rows] for cut in cuts.T], axis=1).astype(np.int64))
    return tuple(moved)


def _effective_rows(tables: Tables, batch: Batch) -> tuple[Ints, ...]:
    """The same for few mappings, one after the other."""
    loops = batch.loop_dim.tolist()
    moved: list[Ints] = []
    for table, cuts in zip(tables.operands, batch.cuts, strict=True):
        addressed = frozenset(map(int, table.operand.dims))
        rows: list[list[int]] = []
        for dims, row in zip(loops, cuts.tolist(), strict=True):
            beyond = [i for i, dim in enumerate(dims) if dim in addressed]
            rows.append([next((i for i in beyond if i >= cut), len(dims)) for cut in row])
        moved.append(np.array(rows, dtype=np.int64).reshape(cuts.shape))
    return tuple(moved)


def energy_pj(tables: Tables, batch: Batch, cuts: tuple[Ints, ...]) -> Floats:
    """Total energy of each mapping; ``cuts`` are the effective ones."""
    total = np.full(len(batch.point), tables.fixed_pj)
    rows = np.arange(len(batch.point))
    for table, cut in zip(tables.operands, cuts, strict=True):
        for a in range(1, len(table.energy_pj)):
            total += table.energy_pj[a][batch.point[rows, cut[:, a - 1]]]
        for link in table.links:
            total -= coupled_words(link, batch, cut) * link_pj(tables, link)
    return total


def link_pj(tables: Tables, link: Link) -> float:
    """Energy of one word of a link."""
    return tables.arch.memories[link.memory].word_pj(link.move)


def coupled_words(link: Link, batch: Batch, cut: Ints) -> Floats | float:
    """Words to take off a link because sums start from zero at another boundary, per mapping."""
    off: Floats | float = 0.0
    rows = np.arange(len(batch.point))
    for boundary, words, factor in link.coupled:
        at = batch.point[rows, cut[:, link.boundary - 1]] if link.boundary else batch.point[:, 0]
        off = off + words[at] * factor[batch.point[rows, cut[:, boundary - 1]]]
    return off


@dataclass(frozen=True)
class _Active:
    """A link of every mapping on its port."""

    link: Link
    period: Ints
    count: Ints
    transfer: Ints
    allowed: Ints
    active: Bools

    def take(self, rows: Ints) -> _Active:
        """The mappings at ``rows``."""
        return _Active(
            self.link,
            self.period[rows],
            self.count[rows],
            self.transfer[rows],
            self.allowed[rows],
            self.active[rows],
        )


class _Timing:
    """Evaluates the latency of a batch; one method per step of B.e.6 to B.e.8."""

    def __init__(self, tables: Tables, batch: Batch, cuts: tuple[Ints, ...], all_buffered: bool = False):
        self.tables = tables
        self.all_buffered = all_buffered
        self.rows: Ints = np.arange(len(batch.point))
        # one row per loop position: everything below works on whole rows
        self.loop_dim: Ints = np.ascontiguousarray(batch.loop_dim.T)
        point: Ints = np.ascontiguousarray(batch.point.T)
        self.cuts: list[list[Ints]] = [
            [np.zeros_like(self.rows), *np.ascontiguousarray(c.T)] for c in cuts
        ]  # by boundary
        self.points: list[list[Ints]] = [[point[cut, self.rows] for cut in by_boundary] for by_boundary in self.cuts]
        self.periods: Ints = tables.cycles.astype(np.int64)[point]

    def boundary_point(self, operand: int, a: int) -> Ints:
        """Point of boundary ``a``; the tables' first point (nothing below) for boundary 0."""
        return self.points[operand][a]

    def period(self, operand: int, a: int) -> Ints:
        """Cycles of the loops below boundary ``a``."""
        found: Ints = self.periods[self.cuts[operand][a], self.rows]
        return found

    def _before_runs(self, operand: int, keep: Bools) -> list[Ints]:
        """Per boundary, the cycles below the outermost run of ``keep`` loops just below it (in one memory's loops)."""
        flags = keep[self.loop_dim]
        start = np.zeros((len(flags) + 1, len(self.rows)), dtype=np.int16)
        for i, kept in enumerate(flags):
            start[i + 1] = np.where(kept, start[i], i + 1)
        found = [np.ones_like(self.rows)]
        for below, cut in pairwise(self.cuts[operand]):
            found.append(self.periods[np.maximum(start[cut, self.rows], below), self.rows])
        return found

    def double_buffers(self) -> list[list[Bools]]:
        """Per operand and memory: whether the next tile may be fetched while this one is in use (B.e.6)."""
        if self.all_buffered:
            yes = np.ones(len(self.rows), dtype=bool)
            return [[yes for _ in table.operand.memories] for table in self.tables.operands]
        held: dict[int, Floats] = {}
        share: list[list[Floats]] = []
        for i, table in enumerate(self.tables.operands):
            before = self._before_runs(i, np.array([table.operand.relevant(d) for d in Dim]))
            parts: list[Floats] = []
            for m, memory in enumerate(table.operand.memories):
                bits = table.data_bits[m][self.boundary_point(i, m + 1)]
                part = (
                    np.floor(bits / (self.period(i, m + 1) // before[m + 1]))
                    / self.tables.arch.memories[memory].size_bits
                )
                parts.append(part)
                held[memory] = held.get(memory, np.zeros(len(self.rows))) + part
            share.append(parts)
        granted: list[list[Bools]] = []
        for table, parts in zip(self.tables.operands, share, strict=True):
            row: list[Bools] = []
            for memory, part in zip(table.operand.memories, parts, strict=True):
                free = held[memory] <= 0.5
                fits = ~free & (part <= 1 - held[memory])
                held[memory] = np.where(fits, held[memory] + part, held[memory])
                row.append(free | fits)
            granted.append(row)
        return granted

    def activities(self) -> list[_Active]:
        """Every link with its period, how often it runs, and the cycles it may take without stalling (B.e.4)."""
        buffered = self.double_buffers()
        found: list[_Active] = []
        never = np.zeros(len(self.rows), dtype=bool)
        for i, table in enumerate(self.tables.operands):
            windows = self._before_runs(i, np.array([table.operand.irrelevant(d) for d in Dim]))
            by_boundary: dict[int, tuple[Ints, Ints, Ints]] = {}
            for link in table.links:
                a = link.boundary
                if a not in by_boundary:
                    period = self.period(i, a)
                    allowed = np.where(buffered[i][a - 1] if a else never, period, windows[a])
                    by_boundary[a] = (period, self.tables.total_cycles // period, allowed)
                period, count, allowed = by_boundary[a]
                at = self.boundary_point(i, a)
                found.append(
                    _Active(
                        link=link,
                        period=period,
                        count=count,
                        transfer=link.transfer_cycles[at],
                        allowed=allowed,
                        active=link.active[at],
                    )
                )
        return found

    def stalls(self) -> tuple[Ints, dict[tuple[int, int], Ints]]:
        """Stall cycles of the nest, and slack or stall of each port (B.e.7)."""
        by_port: dict[tuple[int, int], list[_Active]] = {}
        for activity in self.activities():
            memory = self.tables.arch.memories[activity.link.memory]
            role = self.tables.operands[activity.link.operand].operand.role
            port = memory.port_of[role, activity.link.move]
            by_port.setdefault((activity.link.memory, port), []).append(activity)
        slack = {port: port_slack(found) for port, found in by_port.items()}
        worst = np.zeros(len(self.rows), dtype=np.int64)
        for value in slack.values():
            worst = np.maximum(worst, value)
        return worst, slack

    def _pair_cycles(self, operand: int, lower: int) -> tuple[Ints, int]:
        """Cycles to move one tile between memories ``lower`` and ``lower + 1`` (inputs: down), and ports shared."""
        table = self.tables.operands[operand]
        at = self.boundary_point(operand, lower + 1)
        wanted = {(lower, Move.WRITE_DOWN), (lower + 1, Move.READ_DOWN)}
        links = [k for k in table.links if (k.level, k.move) in wanted and k.boundary == lower + 1]
        both: Ints = np.stack([k.transfer_cycles[at] * k.active[at] for k in links]).max(axis=0)
        return both, sum(self._serves_two_inputs(k) for k in links)

    def _serves_two_inputs(self, link: Link) -> bool:
        """Whether the link's port also serves another input operand."""
        memory = self.tables.arch.memories[link.memory]
        port = memory.port_of[self.tables.operands[link.operand].operand.role, link.move]
        users: set[int] = set()
        for i, table in enumerate(self.tables.operands):
            if not table.operand.is_output and link.memory in table.operand.memories:
                level = table.operand.memories.index(link.memory)
                moves = [Move.READ_DOWN] + [Move.WRITE_DOWN] * (level < len(table.operand.memories) - 1)
                if any(memory.port_of[table.operand.role, m] == port for m in moves):
                    users.add(i)
        return len(users) > 1

    def loading(self) -> Ints:
        """Cycles before the first operation: every level below the top is filled once (B.e.8)."""
        zero = np.zeros(len(self.rows), dtype=np.int64)
        parts: list[tuple[Ints, Ints, Ints]] = []  # individual, half shared, shared
        for i, table in enumerate(self.tables.operands):
            if table.operand.is_output:
                continue
            single, half, shared = zero, zero, zero
            for lower in range(len(table.operand.memories) - 1):
                cycles, ports = self._pair_cycles(i, lower)
                if ports == 2:
                    shared = shared + cycles
                elif ports == 1:
                    half = cycles  # overwritten as in the reference (C2)
                else:
                    single = single + cycles
            parts.append((single, half, shared))
        if not parts:
            return zero
        if len(parts) == 1:
            return parts[0][0]
        (ind_a, half_a, sh_a), (ind_b, half_b, sh_b) = parts[0], parts[1]
        first = sh_a + np.maximum(sh_b + half_b + ind_b, half_a + ind_a)
        second = sh_b + np.maximum(sh_a + half_a + ind_a, half_b + ind_b)
        sooner: Ints = np.minimum(first, second)
        return sooner

    def offloading(self) -> Ints:
        """Cycles after the last operation: the last tile of outputs climbs to the top (B.e.8)."""
        zero = np.zeros(len(self.rows), dtype=np.int64)
        for i, table in enumerate(self.tables.operands):
            n = len(table.operand.memories)
            if not table.operand.is_output or n < 2:
                continue
            at = self.boundary_point(i, n - 1)
            wanted = {(n - 2, Move.READ_UP), (n - 1, Move.WRITE_UP)}
            links = [k for k in table.links if (k.level, k.move) in wanted and k.boundary == n - 1]
            slowest: Ints = np.stack([k.transfer_cycles[at] for k in links]).max(axis=0)
            return slowest + (n - 2)
        return zero


def port_slack(found: list[_Active]) -> Ints:
    """Cycles by which a port's transfers exceed (or, negative, stay within) what they are allowed (B.e.7)."""
    slack = [np.where(f.active, (f.transfer - f.allowed) * (f.count - 1), 0) for f in found]
    worst = _total(slack)
    together = np.flatnonzero(_total([f.active.astype(np.int64) for f in found]) > 1)
    if len(together) == 0:
        return worst
    found = [f.take(together) for f in found]
    slack = [s[together] for s in slack]
    late = _total([np.maximum(s, 0) for s in slack])
    early = _total([np.minimum(s, 0) for s in slack])
    demand = _total([np.where(f.active, f.allowed * (f.count - 1), 0) for f in found])
    worst[together] = late + np.maximum(0, early + demand - _available(found))
    return worst


def _total(parts: list[Ints]) -> Ints:
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


def _available(found: list[_Active]) -> Ints:
    """Cycles in which at least one transfer of the port is allowed (U of B.e.7).

    Periods are products of the first loops of one order, so each divides every longer one, and the union of the
    periodic windows follows from the shortest period to the longest, not from an array as long as that.
    """
    available = found[0].period * found[0].count
    always = np.logical_or.reduce([f.active & (f.allowed == f.period) for f in found])
    rows = np.flatnonzero(~always)
    found = [f.take(rows) for f in found]
    periods = [np.where(f.active, f.period, 1) for f in found]
    allowed = [np.where(f.active, f.allowed, 0) for f in found]
    _sort_together(periods, allowed)
    longest = periods[-1]
    available[rows] -= available[rows] // longest * _Uncovered(periods, allowed).per_period[-1]
    return available


def _sort_together(keys: list[Ints], values: list[Ints]) -> None:
    """Sort the keys of every row in place, and its values with them; there are only a few."""
    for last in range(len(keys) - 1, 0, -1):
        for i in range(last):
            swap = keys[i] > keys[i + 1]
            keys[i], keys[i + 1] = np.minimum(keys[i], keys[i + 1]), np.maximum(keys[i], keys[i + 1])
            values[i], values[i + 1] = (
                np.where(swap, values[i + 1], values[i]),
                np.where(swap, values[i], values[i + 1]),
            )


class _Uncovered:
    """Cycles in which none of some periodic windows is open; periods ascend, and each divides the next.

    per_period[k]: in one period k, of windows 0 .. k. behind[k]: in the open part of window k, of windows 0 .. k-1.
    """

    def __init__(self, periods: list[Ints], allowed: list[Ints]):
        self.periods = periods
        self.allowed = allowed
        self.behind: list[Ints] = []
        self.per_period: list[Ints] = []
        for k, (period, window) in enumerate(zip(periods, allowed, strict=True)):
            before = period // periods[k - 1] * self.per_period[k - 1] if k else period
            self.behind.append(self.until(k - 1, window))
            self.per_period.append(before - self.behind[k])

    def until(self, last: int, end: Ints) -> Ints:
        """Cycles of ``[0, end)`` in which none of the windows 0 .. ``last`` is open."""
        if last < 0:
            return end
        whole, rest = np.divmod(end, self.periods[last])
        outside = self.until(last - 1, rest) - self.behind[last]
        found: Ints = whole * self.per_period[last] + np.where(rest > self.allowed[last], outside, 0)
        return found


def double_buffers(tables: Tables, batch: Batch, cuts: tuple[Ints, ...]) -> list[list[Bools]]:
    """Per operand and memory, for each mapping: whether the reference grants a second buffer (B.e.6)."""
    return _Timing(tables, batch, cuts).double_buffers()


def latency(tables: Tables, batch: Batch, cuts: tuple[Ints, ...], *, all_buffered: bool = False) -> Latency:
    """Cycles of each mapping; ``cuts`` are the effective ones. ``all_buffered``: as if all had a second buffer."""
    timing = _Timing(tables, batch, cuts, all_buffered)
    stall, slack = timing.stalls()
    return Latency(tables.total_cycles, stall, timing.loading(), timing.offloading(), slack)
