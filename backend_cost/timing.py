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


class _Rows:
    """The recursion over boundaries, for all mappings at once.

    Arrays are (boundaries sorted by cut, mappings) or (boundaries, kinds of transfer, mappings): with the mappings
    last, sums over the others add whole rows.
    """

    def __init__(
        self, times: TimeTables, batch: Batch, cuts: tuple[Ints, ...], double: tuple[Bools, ...], at_point: Ints
    ):
        """``at_point`` says where in ``times`` each of the tables' points stands."""
        self.times = times
        rows = np.arange(len(batch.point))
        found = times.boundaries
        self.count = len(found)
        place = [cuts[b.operand][:, b.boundary - 1] for b in found]
        points = [batch.point[rows, p] for p in place]
        at = [at_point[p] for p in points]
        order = np.argsort(np.stack(place), axis=0, kind="stable")
        total = float(times.tables.total_cycles)

        def column(values: list[Floats]) -> Floats:
            sorted_values: Floats = np.take_along_axis(np.stack(values), order, axis=0)
            return sorted_values

        def by_place(table: Floats) -> Floats:
            """Per boundary and kind of transfer, the same for all mappings, where each boundary stands."""
            placed: Floats = np.ascontiguousarray(table[order].transpose(0, 2, 1))
            return placed

        def mean(pick: str) -> Floats:
            none = np.zeros(len(rows))
            parts: list[Floats] = []
            for b, p in zip(found, at, strict=True):
                t: Transfer | None = getattr(b, pick)
                parts.append(none if t is None else t.cycles[p] * t.share[p])
            return column(parts)

        self.order = order
        self.stays = column([total / times.tables.cycles[p] for p in points])
        self.cycles = np.stack([mean("fetch"), mean("back"), mean("up")], axis=1)  # mean per stay
        backs = [(b.back, p) for b, p in zip(found, at, strict=True)]
        self.share = column([np.zeros(len(rows)) if t is None else t.share[p] for t, p in backs])
        self.single = column([np.where(double[b.operand][:, b.boundary - 1], 0.0, 1.0) for b in found]) > 0
        self.operand = np.array([b.operand for b in found])[order]
        self.rank = np.array([b.boundary * 16 + b.operand for b in found])[order]
        self.ports = sorted({p for b in found for t in (b.fetch, b.back, b.up) if t for p in t.ports})
        uses = {
            p: np.array([[t is not None and p in t.ports for t in (b.fetch, b.back, b.up)] for b in found], dtype=float)
            for p in self.ports
        }
        self.uses = {p: by_place(u) for p, u in uses.items()}
        pairs = sorted({t.ports for b in found for t in (b.fetch, b.back, b.up) if t})
        self.touches: dict[tuple[Port, ...], Floats] = {}
        self.needs: dict[tuple[Port, ...], Floats] = {}
        for pair in pairs:
            rows_of = [[(t.ports if t else ()) for t in (b.fetch, b.back, b.up)] for b in found]
            touching = np.array([[bool(set(pair) & set(t)) for t in row] for row in rows_of], dtype=float)
            needing = np.array([[t == pair for t in row] for row in rows_of], dtype=float)
            self.touches[pair], self.needs[pair] = by_place(touching), by_place(needing)

    def _chained(self, reach: int, everything: bool) -> Bools:
        """Boundaries up to a column that nothing hides: of each operand those from its outermost single buffer inwards.

        What lies inside of a boundary without a second buffer cannot be fetched before that boundary itself is.
        """
        if everything:
            return np.ones((reach + 1, self.order.shape[1]), dtype=bool)
        chained = np.zeros((reach + 1, self.order.shape[1]), dtype=bool)
        for operand in range(len(self.times.tables.operands)):
            mine = self.operand[: reach + 1] == operand
            beyond = np.logical_or.accumulate((mine & self.single[: reach + 1])[::-1])[::-1]
            chained |= mine & beyond
        return chained

    def exposed(self, reach: int, kinds: tuple[bool, bool, bool], everything: bool = False) -> Floats:
        """Cycles that nothing hides when all boundaries up to column ``reach`` change at once.

        ``kinds`` says which transfers take part: into the array, returning sums, and out of it. An operand's transfers
        follow each other; those of several operands meet on ports, where others of a higher rank go first.
        """
        chained = self._chained(reach, everything)
        takes_part = np.array(kinds, dtype=float)
        cycles = self.cycles[: reach + 1] * takes_part[:, None]
        exposed = cycles * chained[:, None]
        head, tail, longest = self._chains(exposed)
        for uses in self.uses.values():
            on_port = exposed * uses[: reach + 1] > 0
            rank = np.where(on_port.any(axis=1), self.rank[: reach + 1], -1)
            worst = rank.max(axis=0)
            before = (self.rank[: reach + 1] <= worst)[:, None] * cycles * uses[: reach + 1]
            if everything:  # prefetches of a higher rank go before the first fetch of a lower one
                again = ~self.single[: reach + 1] & (self.stays[: reach + 1] > 1)
                again &= self.rank[: reach + 1] < worst
                before = before * (1 + again)[:, None]
            last = on_port & (self.operand[: reach + 1] == worst % 16)[:, None]
            start = np.where(on_port, head, np.inf).min(axis=(0, 1))
            end = np.where(last, tail, np.inf).min(axis=(0, 1))
            busy = before.sum(axis=(0, 1))
            longest = np.where(worst >= 0, np.maximum(longest, start + busy + end), longest)
        return longest

    def _chains(self, exposed: Floats) -> tuple[Floats, Floats, Floats]:
        """Per transfer the exposed cycles of its operand before and after it, and the longest chain.

        Inputs come from the outside in; sums leave from the inside out and come back from the outside in.
        """
        head, tail = np.zeros_like(exposed), np.zeros_like(exposed)
        longest = np.zeros(exposed.shape[2])
        for operand in range(len(self.times.tables.operands)):
            mine = exposed * (self.operand[: len(exposed)] == operand)[:, None]
            into, out = mine[:, 0] + mine[:, 1], mine[:, 2]
            total = mine.sum(axis=(0, 1))
            longest = np.maximum(longest, total)
            out_before = np.cumsum(out, axis=0) - out
            into_after = np.cumsum(into, axis=0) - into
            first_out = total - into.sum(axis=0)
            after_up = total - out_before - out
            before_in = first_out + into.sum(axis=0) - into_after - into
            here = mine > 0
            head = np.where(here, np.stack([before_in, before_in, out_before], axis=1), head)
            tail = np.where(here, np.stack([into_after, into_after, after_up], axis=1), tail)
        return head, tail, longest

    def run(self) -> tuple[Floats, Floats, Floats]:
        """(running, loading, offloading) cycles.

        Stays in which sums come back take longer than those that start from zero; means of both would hide it, so the
        run is a mixture of one with and one without.
        """
        mean = self.cycles
        share = np.maximum(self.share.max(axis=0), self.times.step_share)
        fill = self.exposed(self.count - 1, (True, False, False), everything=True)
        drain = self.exposed(self.count - 1, (False, False, True), everything=True)
        scale = np.where(share > 0, 1 / np.maximum(share, 1e-12), 0.0)
        self.cycles = mean * np.stack([np.ones_like(scale), scale, np.ones_like(scale)])
        with_back, _, busy_with = self._run(returning=True)
        self.cycles = mean * np.array([1.0, 0.0, 1.0])[:, None]
        without, first, busy_without = self._run(returning=False)
        self.cycles = mean
        running = share * with_back + (1 - share) * without - first  # the first stay is filled, not changed to
        none = np.zeros_like(share)
        busiest = np.max(
            [share * busy + (1 - share) * busy_without.get(p, none) for p, busy in busy_with.items()], axis=0
        )
        return np.maximum(running, busiest - fill - drain), fill, drain

    def _run(self, returning: bool) -> tuple[Floats, Floats, dict[Port, Floats]]:
        """If all stays were alike: cycles of all, those of one change of everything, and what each port carries."""
        step, step_ports = self.times.step_cycles(returning)
        rows = self.order.shape[1]
        block = np.full(rows, step)
        load = {p: np.full(rows, step_ports.get(p, 0.0)) for p in sorted({*self.ports, *step_ports})}
        before = np.full(rows, float(self.times.tables.total_cycles))
        known = np.zeros(rows)
        unhidden = np.zeros(rows)
        both = {pair: np.full(rows, max(step_ports.get(p, 0.0) for p in pair)) for pair in self.touches}
        for j in range(self.count):
            ratio = before / self.stays[j]
            before = self.stays[j]
            waits = self.exposed(j, (True, True, True))
            more = waits - known
            known = waits
            # a change out here also leaves time for what the ports could not hide further in
            inner = np.maximum(0, more - self.cycles[j].sum(axis=0))
            block = block * ratio + more - np.minimum(unhidden, inner)
            unbound = block
            for p in load:
                load[p] = load[p] * ratio
                if p in self.uses:
                    load[p] += (self.cycles[j] * self.uses[p][j]).sum(axis=0)
                # with a single stay, what the port carries is part of filling and draining
                block = np.where(before > 1, np.maximum(block, load[p]), block)
            # a transfer needs both of its ports at once: what others do on either keeps it waiting
            for pair, touching in self.touches.items():
                both[pair] = both[pair] * ratio + (self.cycles[j] * touching[j]).sum(axis=0)
                waiting = (self.cycles[j] * self.needs[pair][j]).sum(axis=0) > 0
                block = np.where((before > 1) & waiting, np.maximum(block, both[pair]), block)
            unhidden = unhidden + block - unbound
        return block * before, known, {p: carried * before for p, carried in load.items()}


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
    running, loading, offloading = _Rows(times, batch, cuts, double, place).run()
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
