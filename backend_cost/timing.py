"""The latency of the exact model: how long a mapping takes when transfers wait for room and for ports.

docs/simulator.md states when a transfer may start; this is its closed form. Boundaries are taken from the innermost cut
outwards. A block of steps between two changes of what a boundary holds lasts as long as its inner blocks, plus what
must wait because there is no second buffer, and no less than what its busiest port has to carry.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dfc.backend_cost.bursts import BurstCounter, step_classes
from dfc.backend_cost.evaluate import Batch
from dfc.backend_cost.tables import Bools, Floats, Ints, Tables
from dfc.hwdsl.arch import Move

Port = tuple[int, int]  # (memory, port)
#: mappings that are timed together: their arrays stay in the processor's cache
_CHUNK = 4096


@dataclass(frozen=True)
class Transfer:
    """One kind of transfer across a boundary, per point: mean cycles of one, and how many stays have one."""

    cycles: Floats
    share: Floats  # of the stays
    ports: tuple[Port, ...]
    returning: bool = False


@dataclass(frozen=True)
class BoundaryTimes:
    """The transfers at one boundary of one operand: into the lower memory, out of it (outputs)."""

    operand: int
    boundary: int
    fetch: Transfer | None
    back: Transfer | None
    up: Transfer | None


class TimeTables:
    """Durations of all transfers of a nest, per point."""

    def __init__(self, tables: Tables, points: Floats):
        self.tables = tables
        self.nest = tables.nest
        self.arch = tables.arch
        self.boundaries: list[BoundaryTimes] = []
        self.step: list[Transfer] = []
        self.counters = [BurstCounter(self.nest, t.operand, self.arch, points) for t in tables.operands]
        self.reduces = [c.reduces_above(0) for c in self.counters]
        self.classes = step_classes(self.counters)
        for index, (table, counter) in enumerate(zip(tables.operands, self.counters, strict=True)):
            for a in range(len(table.operand.memories)):
                self._add(index, a, counter)

    def _port(self, operand: int, level: int, move: Move) -> tuple[Port, int]:
        """The port of a move at a level, and its width in bits per cycle."""
        found = self.tables.operands[operand].operand
        memory = self.arch.memories[found.memories[level]]
        reads = move in (Move.READ_DOWN, Move.READ_UP)
        width = memory.read_bits_per_cycle if reads else memory.write_bits_per_cycle
        return (found.memories[level], memory.port_of[found.role, move]), width

    def _transfer(
        self, operand: int, a: int, down: bool, bits: int, longest: tuple[Floats, Floats, Floats], share: Floats
    ) -> Transfer:
        fed, feeding, counts = longest
        upper, upper_width = self._port(operand, a, Move.READ_DOWN if down else Move.WRITE_UP)
        cycles = np.ceil(feeding * bits / upper_width)
        ports = [upper]
        if a:
            lower, lower_width = self._port(operand, a - 1, Move.WRITE_DOWN if down else Move.READ_UP)
            cycles = np.maximum(cycles, np.ceil(fed * bits / lower_width))
            ports.append(lower)
        mean = (cycles * counts).sum(axis=1) / np.maximum(counts.sum(axis=1), 1)
        return Transfer(mean, share, tuple(ports))

    def _add(self, index: int, a: int, counter: BurstCounter) -> None:
        operand = self.tables.operands[index].operand
        if operand.bits == 0:
            return
        longest = counter.longest(a)
        points = len(longest[2])
        ones = np.ones(points)
        if not operand.is_output:
            fetch = self._transfer(index, a, True, operand.bits, longest, ones)
            self._keep(BoundaryTimes(index, a, fetch, None, None), a)
            return
        visits = counter.visits(a)
        again = (visits - 1) / visits
        reduces = counter.reduces_above(a)
        last_bits = operand.partial_bits if reduces else operand.bits
        early = self._transfer(index, a, False, operand.partial_bits, longest, ones)
        last = self._transfer(index, a, False, last_bits, longest, ones)
        up = Transfer(early.cycles * again + last.cycles * (1 - again), ones, early.ports)
        back = replace(self._transfer(index, a, True, operand.partial_bits, longest, again), returning=True)
        self._keep(BoundaryTimes(index, a, None, back, up), a)

    def _keep(self, found: BoundaryTimes, a: int) -> None:
        if a:
            self.boundaries.append(found)
        else:
            self.step += [t for t in (found.fetch, found.back, found.up) if t is not None]

    @property
    def step_share(self) -> float:
        """The share of steps in which sums come back from the innermost memory."""
        return min((float(t.share[0]) for t in self.step if t.returning), default=0.0)

    def step_cycles(self, returning: bool) -> tuple[float, dict[Port, float]]:
        """Mean cycles of a step, and of each port in it, with or without sums coming back.

        Of the steps in which they do, the last that touches a sum writes it finished.
        """
        share = self.step_share
        if not returning:
            return self._steps(back=False, finished=share == 0)
        finishing = 1.0 if share == 0 else min(1.0, (1 - share) / share)
        unfinished, ports = self._steps(back=True, finished=False)
        last, last_ports = self._steps(back=True, finished=True)

        def mean(some: float, rest: float) -> float:
            return finishing * some + (1 - finishing) * rest

        return mean(last, unfinished), {p: mean(last_ports[p], ports[p]) for p in ports}

    def _steps(self, *, back: bool, finished: bool) -> tuple[float, dict[Port, float]]:
        """Mean cycles of steps of one kind, over all of them."""
        sizes, counts = self.classes
        ports: dict[Port, Floats] = {}
        for index, table in enumerate(self.tables.operands):
            operand = table.operand
            moves = [(Move.READ_DOWN, operand.bits)]
            if operand.is_output:
                up_bits = operand.bits if finished and not self.reduces[index] else operand.partial_bits
                moves = [(Move.WRITE_UP, up_bits)] + [(Move.READ_DOWN, operand.partial_bits)] * back
            for move, bits in moves:
                port, width = self._port(index, 0, move)
                ports[port] = ports.get(port, np.zeros(len(counts))) + np.ceil(sizes[index] * bits / width)
        longest = np.maximum(1.0, np.max(list(ports.values()), axis=0))
        weight = counts / counts.sum()
        return float((longest * weight).sum()), {p: float((c * weight).sum()) for p, c in ports.items()}


@dataclass(frozen=True)
class ExactLatency:
    """Cycles per mapping."""

    ideal_cycles: int
    running_cycles: Floats  # until the last step, without the first fill
    loading_cycles: Floats
    offloading_cycles: Floats

    @property
    def total_cycles(self) -> Floats:
        """Everything: filling, running, draining."""
        return self.running_cycles + self.loading_cycles + self.offloading_cycles


@dataclass(frozen=True)
class _Flow:
    """One kind of transfer across one boundary: 0 into the array, 1 sums coming back, 2 out of it."""

    boundary: int
    kind: int
    operand: int
    rank: int  # who goes first on a port: the lower boundary, then the earlier operand
    ports: tuple[Port, ...]


class _Rows:
    """The recursion over boundaries, for all mappings at once: every array has one entry per mapping.

    A boundary *changes* when a loop beyond its cut advances; boundaries with a smaller cut change with it.
    """

    def __init__(
        self, times: TimeTables, batch: Batch, cuts: tuple[Ints, ...], double: tuple[Bools, ...], at_point: Ints
    ):
        """``at_point`` says where in ``times`` each of the tables' points stands."""
        self.times = times
        rows = np.arange(len(batch.point))
        found = times.boundaries
        self.size = len(rows)
        self.count = len(found)
        place = [cuts[b.operand][:, b.boundary - 1] for b in found]
        points = [batch.point[rows, p] for p in place]
        # where each boundary stands in the order of the cuts, as an index into boundaries laid end to end
        self.order = np.argsort(np.stack(place), axis=0, kind="stable") * self.size + rows
        #: within[b][c]: boundary c changes whenever boundary b does
        self.within = [[(q <= p) if c <= b else (q < p) for c, q in enumerate(place)] for b, p in enumerate(place)]
        total = float(times.tables.total_cycles)
        self.stays = [total / times.tables.cycles[p] for p in points]
        self.single = [~double[b.operand][:, b.boundary - 1] for b in found]
        self.flows: list[_Flow] = []
        self.cycles: list[Floats] = []  # per flow, mean per stay
        self.share = np.full(self.size, times.step_share)
        for i, (b, p) in enumerate(zip(found, (at_point[p] for p in points), strict=True)):
            for kind, t in enumerate((b.fetch, b.back, b.up)):
                if t is not None:
                    self.flows.append(_Flow(i, kind, b.operand, b.boundary * 16 + b.operand, t.ports))
                    self.cycles.append(t.cycles[p] * t.share[p])
            if b.back is not None:
                self.share = np.maximum(self.share, b.back.share[p])
        self.ports = sorted({p for f in self.flows for p in f.ports})
        self.users = {p: [i for i, f in enumerate(self.flows) if p in f.ports] for p in self.ports}
        self.of_operand = [[i for i, b in enumerate(found) if b.operand == o] for o in range(len(cuts))]

    def _chained(self, change: int) -> list[Bools]:
        """Boundaries that nothing hides when ``change`` does: of each operand from its outermost single buffer inwards.

        What lies inside of a boundary without a second buffer cannot be fetched before that boundary itself is.
        """
        chained: list[Bools] = [np.zeros(0, dtype=bool)] * self.count
        for boundaries in self.of_operand:
            beyond = np.zeros(self.size, dtype=bool)
            for b in reversed(boundaries):
                beyond = beyond | (self.within[change][b] & self.single[b])
                chained[b] = self.within[change][b] & beyond
        return chained

    def exposed(self, change: int, cycles: list[Floats]) -> Floats:
        """Cycles that nothing hides when boundary ``change`` does, and all that change with it."""
        chained = self._chained(change)
        here = [c * self.within[change][f.boundary] for f, c in zip(self.flows, cycles, strict=True)]
        return self._waits([c * chained[f.boundary] for f, c in zip(self.flows, cycles, strict=True)], here)

    def at_once(self, kind: int) -> Floats:
        """Cycles of all transfers of a kind, one stay of each: filling before the first step, or draining."""
        only = [c if f.kind == kind else np.zeros(self.size) for f, c in zip(self.flows, self.cycles, strict=True)]
        return self._waits(only, only, prefetch=True)

    def _waits(self, exposed: list[Floats], here: list[Floats], *, prefetch: bool = False) -> Floats:
        """The longest wait: an operand's transfers follow each other, several operands meet on ports.

        exposed: cycles per flow that wait; here: cycles per flow that may go before them on a port, those of a higher
        rank do. With ``prefetch`` these go twice where there is a second buffer to fill.
        """
        head, tail, longest = self._chains(exposed)
        late = [bool(e.any()) for e in exposed]
        busy_at_all = [bool(h.any()) for h in here]
        for port_users in self.users.values():
            users = [u for u in port_users if busy_at_all[u]]
            if not any(late[u] for u in users) or (len({self.flows[u].operand for u in users}) < 2 and not prefetch):
                continue  # no more than the operand's own chain
            waiting = {u: exposed[u] > 0 for u in users if late[u]}
            worst = np.maximum.reduce([waits * (self.flows[u].rank + 1) for u, waits in waiting.items()]) - 1
            start, end = np.full(self.size, np.inf), np.full(self.size, np.inf)
            busy = np.zeros(self.size)
            last = worst % 16
            for u in users:
                f = self.flows[u]
                cycles = here[u]
                if prefetch:
                    cycles = cycles * (1 + (~self.single[f.boundary] & (self.stays[f.boundary] > 1) & (f.rank < worst)))
                busy += cycles * (f.rank <= worst)
                if u in waiting:
                    np.minimum(start, head[u], out=start, where=waiting[u])
                    np.minimum(end, tail[u], out=end, where=waiting[u] & (last == f.operand))
            longest = np.where(worst >= 0, np.maximum(longest, start + busy + end), longest)
        return longest

    def _chains(self, exposed: list[Floats]) -> tuple[list[Floats], list[Floats], Floats]:
        """Per flow the exposed cycles of its operand before and after it, and the longest chain.

        Inputs come from the outside in; sums leave from the inside out and come back from the outside in.
        """
        head = [np.zeros(0)] * len(exposed)
        tail = [np.zeros(0)] * len(exposed)
        longest = np.zeros(self.size)
        for operand in range(len(self.of_operand)):
            mine = [i for i, f in enumerate(self.flows) if f.operand == operand]
            sequence = [i for i in mine if self.flows[i].kind == 2] + [i for i in mine if self.flows[i].kind < 2][::-1]
            before = np.zeros(self.size)
            for i in sequence:
                head[i] = before
                before = before + exposed[i]
            for i in sequence:
                tail[i] = before - head[i] - exposed[i]
            longest = np.maximum(longest, before)
        return head, tail, longest

    def run(self) -> tuple[Floats, Floats, Floats]:
        """(running, loading, offloading) cycles.

        Stays in which sums come back take longer than those that start from zero; means of both would hide it, so the
        run is a mixture of one with and one without.
        """
        share = self.share
        fill, drain = self.at_once(0), self.at_once(2)
        without, first, busy = self._run(self._scaled(np.zeros(self.size)), returning=False)
        running = without
        if share.max() > 0:
            scale = np.where(share > 0, 1 / np.maximum(share, 1e-12), 0.0)
            with_back, _, busy_with = self._run(self._scaled(scale), returning=True)
            running = share * with_back + (1 - share) * without
            none = np.zeros(self.size)
            busy = {p: share * more + (1 - share) * busy.get(p, none) for p, more in busy_with.items()}
        busiest = np.max(list(busy.values()), axis=0)
        # the first stay is filled, not changed to
        return np.maximum(running - first, busiest - fill - drain), fill, drain

    def _scaled(self, back: Floats) -> list[Floats]:
        """The cycles of all flows, those of returning sums times ``back``."""
        return [c * back if f.kind == 1 else c for f, c in zip(self.flows, self.cycles, strict=True)]

    def _sorted(self, values: list[Floats]) -> Floats:
        """Per boundary values in the order of the cuts."""
        found: Floats = np.concatenate(values).take(self.order)
        return found

    def _per_boundary(self, cycles: list[Floats], ports: frozenset[Port]) -> Floats:
        """Cycles per stay of the flows that touch any of these ports, in the order of the cuts."""
        sums = [np.zeros(self.size) for _ in range(self.count)]
        for f, c in zip(self.flows, cycles, strict=True):
            if ports.intersection(f.ports):
                sums[f.boundary] = sums[f.boundary] + c
        return self._sorted(sums)

    def _run(self, cycles: list[Floats], *, returning: bool) -> tuple[Floats, Floats, dict[Port, Floats]]:
        """If all stays were alike: cycles of all, those of one change of everything, and what each port carries."""
        step, step_ports = self.times.step_cycles(returning)
        waits = self._sorted([self.exposed(b, cycles) for b in range(self.count)])
        stays = self._sorted(self.stays)
        own = self._per_boundary(cycles, frozenset(self.ports))
        carried = {p: self._per_boundary(cycles, frozenset([p])) for p in self.ports}
        pairs = sorted({f.ports for f in self.flows if self._shares_a_port(f)})
        touched = {pair: self._per_boundary(cycles, frozenset(pair)) for pair in pairs}
        needing = {pair: self._sorted(self._needs(cycles, pair)) for pair in pairs}
        block = np.full(self.size, step)
        load = {p: np.full(self.size, step_ports.get(p, 0.0)) for p in sorted({*self.ports, *step_ports})}
        both = {pair: np.full(self.size, max(step_ports.get(p, 0.0) for p in pair)) for pair in pairs}
        before = np.full(self.size, float(self.times.tables.total_cycles))
        known = np.zeros(self.size)
        unhidden = np.zeros(self.size)
        for j in range(self.count):
            ratio = before / stays[j]
            before = stays[j]
            more = waits[j] - known
            known = waits[j]
            # a change out here also leaves time for what the ports could not hide further in
            inner = np.maximum(0, more - own[j])
            unbound = block * ratio + more - np.minimum(unhidden, inner)
            bound = unbound
            for p in load:
                load[p] = load[p] * ratio + (carried[p][j] if p in carried else 0.0)
                bound = np.maximum(bound, load[p])
            # a transfer needs both of its ports at once: what others do on either keeps it waiting
            for pair in pairs:
                both[pair] = both[pair] * ratio + touched[pair][j]
                bound = np.where(needing[pair][j] > 0, np.maximum(bound, both[pair]), bound)
            # with a single stay, what the port carries is part of filling and draining
            block = np.where(before > 1, bound, unbound)
            unhidden = unhidden + block - unbound
        return block * before, known, {p: carries * before for p, carries in load.items()}

    def _shares_a_port(self, flow: _Flow) -> bool:
        """Whether a flow of other ports uses one of this flow's: only then do both its ports keep it waiting longer."""
        return any(set(flow.ports) & set(f.ports) and f.ports != flow.ports for f in self.flows)

    def _needs(self, cycles: list[Floats], pair: tuple[Port, ...]) -> list[Floats]:
        """Per boundary the cycles of the flows that need just these ports."""
        sums = [np.zeros(self.size) for _ in range(self.count)]
        for f, c in zip(self.flows, cycles, strict=True):
            if f.ports == pair:
                sums[f.boundary] = sums[f.boundary] + c
        return sums


def _steps_alone(times: TimeTables) -> float:
    """Cycles of a nest whose operands all stay in the memory beside the array."""
    share = times.step_share
    mean = share * times.step_cycles(True)[0] + (1 - share) * times.step_cycles(False)[0]
    return mean * times.tables.total_cycles


def exact_latency(tables: Tables, batch: Batch, cuts: tuple[Ints, ...], double: tuple[Bools, ...]) -> ExactLatency:
    """Cycles of each mapping; ``cuts`` are the effective ones, ``double`` (mappings, memories) per operand."""
    rows = np.arange(len(batch.point))[:, None]
    used = np.unique(np.concatenate([batch.point[rows, c].reshape(-1) for c in cuts]))
    times = TimeTables(tables, tables.points[used])
    if not times.boundaries:
        running = np.full(len(batch.point), _steps_alone(times))
        return ExactLatency(tables.total_cycles, running, np.zeros_like(running), np.zeros_like(running))
    place = np.zeros(len(tables.points), dtype=np.int64)
    place[used] = np.arange(len(used))
    parts = [
        _Rows(times, batch.take(rows), tuple(c[rows] for c in cuts), tuple(d[rows] for d in double), place).run()
        for rows in np.split(np.arange(len(batch.point)), range(_CHUNK, len(batch.point), _CHUNK))
    ]
    running, loading, offloading = (np.concatenate(found) for found in zip(*parts, strict=True))
    return ExactLatency(tables.total_cycles, running, loading, offloading)


def granted_buffers(tables: Tables, batch: Batch, cuts: tuple[Ints, ...]) -> tuple[Bools, ...]:
    """Which operands have a second buffer, (mappings, memories) per operand: first come, first served, where it fits.

    What each holds is counted whole; the reference grants a second buffer for a part of it (C9). What is replaced in a
    single access is replaced between two cycles, as in a register, and needs no second buffer: it counts as having one.
    """
    rows = np.arange(len(batch.point))
    held: list[list[Floats]] = []
    used: dict[int, Floats] = {}
    for table, cut in zip(tables.operands, cuts, strict=True):
        bits: list[Floats] = []
        for m, memory in enumerate(table.operand.memories):
            at = batch.point[rows, cut[:, m]]
            final, partial = table.alloc_bits[m]
            whole = np.where(table.reduces[m + 1][at], partial[at], final[at]).astype(float)
            bits.append(whole)
            used[memory] = used.get(memory, np.zeros(len(rows))) + whole
        held.append(bits)
    granted: list[Bools] = []
    for table, bits in zip(tables.operands, held, strict=True):
        row: list[Bools] = []
        for memory, whole in zip(table.operand.memories, bits, strict=True):
            found = tables.arch.memories[memory]
            at_once = whole <= min(found.read_bits_per_cycle, found.write_bits_per_cycle)
            fits = used[memory] + whole <= found.size_bits
            used[memory] = used[memory] + np.where(fits & ~at_once, whole, 0.0)
            row.append(fits | at_once)
        granted.append(np.stack(row, axis=1))
    return tuple(granted)
