"""The recursion of the exact model's latency over boundaries, for many mappings at once.

Boundaries are taken from the innermost cut outwards. A block of steps between two changes of what a boundary holds
lasts as long as its inner blocks, plus what must wait because there is no second buffer. It lasts no less than what its
busiest port carries, and than what two buffers in each of several memories can hide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dfc.backend_cost.evaluate import Batch
from dfc.backend_cost.tables import Bools, Floats, Ints
from dfc.backend_cost.timing_tables import Port, TimeTables

#: of what two ports of a transfer carry apart from it, the share beyond the longer that keeps it waiting
APART = 0.5
#: of what a port is behind, the share that the first and the last stay take over: filling and draining count it, too
AT_ENDS = 0.25
#: the reserve for what the order of transfers costs: of hidden and of contested cycles, and at most of the latency
HIDDEN, CONTESTED, RESERVE = 0.2, 0.03, 0.04


@dataclass
class _Block:
    """A block of steps, per mapping, while the recursion goes outwards."""

    cycles: Floats
    load: Floats  # (ports, mappings): cycles that each port is in use
    behind: Floats  # cycles that ports add to what is waited for, which later waits may hide
    added: Floats  # the same over the whole run


class Rows:
    """All mappings of a batch: every array has one entry per mapping.

    A boundary *changes* when a loop beyond its cut advances; boundaries with a smaller cut change with it. Stays and
    steps are those in which anything works, and durations are means over these; the other steps take a cycle each.
    """

    def __init__(self, times: TimeTables, batch: Batch, cuts: tuple[Ints, ...], double: tuple[Bools, ...]):
        self.times = times
        rows = np.arange(len(batch.point))
        found = times.boundaries
        self.size, self.count = len(rows), len(found)
        place = [cuts[b.operand][:, b.boundary - 1] for b in found]
        points = [batch.point[rows, p] for p in place]
        ordered = np.argsort(np.stack(place), axis=0, kind="stable")
        # where each boundary stands in the order of the cuts, as an index into boundaries laid end to end
        self.order = ordered * self.size + rows
        self.rank = np.argsort(ordered, axis=0).astype(np.int8)
        #: within[b][c]: boundary c changes whenever boundary b does
        self.within = [[(q <= p) if c <= b else (q < p) for c, q in enumerate(place)] for b, p in enumerate(place)]
        self.total = float(times.tables.working_cycles)
        self.stays = [times.tables.stays[p] for p in points]
        self.periods = [times.tables.cycles[p] for p in points]
        self.single = [~double[b.operand][:, b.boundary - 1] for b in found]
        self.of_operand = [[i for i, b in enumerate(found) if b.operand == o] for o in range(len(cuts))]
        self.share = np.full(self.size, times.step_share)
        self._find_flows(points)
        self.chained = [self._chained(b) for b in range(self.count)]
        self.hidden = self._hidden()

    def _find_flows(self, at: list[Ints]) -> None:
        by_kind = [dict(b.transfers) for b in self.times.boundaries]
        self.flows = self.times.flows
        moved = [(by_kind[f.boundary][f.kind], at[f.boundary]) for f in self.flows]
        self.cycles = [t.cycles[p] * t.share[p] for t, p in moved]  # per flow, mean per stay
        for b, p in zip(self.times.boundaries, at, strict=True):
            if b.back is not None:
                self.share = np.maximum(self.share, b.back.share[p])
        self.ports = self.times.ports
        self.users = {p: [i for i, f in enumerate(self.flows) if p in f.ports] for p in self.ports}
        self.pairs = self.times.pairs

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

    def _hidden(self) -> list[Bools]:
        """Per boundary (boundaries, mappings): whether it changes with the j-th in order, hidden by second buffers."""
        hidden: list[Bools] = [np.zeros(0, dtype=bool)] * self.count
        places = np.arange(self.count, dtype=np.int8)[:, None]
        for boundaries in self.of_operand:
            waited_from = np.full(self.size, self.count, dtype=np.int8)
            for b in reversed(boundaries):
                waited_from = np.where(self.single[b], self.rank[b], waited_from)
                hidden[b] = (self.rank[b] <= places) & (places < waited_from)
        return hidden

    # ---- what is waited for --------------------------------------------------------------------------------------

    def exposed(self, change: int, cycles: list[Floats]) -> Floats:
        """Cycles that nothing hides when boundary ``change`` does, and all that change with it."""
        chained = self.chained[change]
        return self._waits([c * chained[f.boundary] for f, c in zip(self.flows, cycles, strict=True)])

    def at_once(self, kind: int) -> Floats:
        """Cycles of all transfers of a kind, one stay of each: filling before the first step, or draining."""
        nothing = np.zeros(self.size)
        return self._waits([c if f.kind == kind else nothing for f, c in zip(self.flows, self.cycles, strict=True)])

    def _waits(self, exposed: list[Floats]) -> Floats:
        """The longest wait: an operand's transfers follow each other, several operands meet on ports."""
        late = [bool(e.any()) for e in exposed]
        head, tail, longest = self._chains(exposed, late)
        for port_users in self.users.values():
            users = [u for u in port_users if late[u]]
            if len({self.flows[u].operand for u in users}) < 2:
                continue  # no more than the operand's own chain
            start, end = np.full(self.size, np.inf), np.full(self.size, np.inf)
            busy = np.zeros(self.size)
            # the lower boundary goes first, then the earlier operand; what follows the last has to wait for all
            ranks = {
                u: self.times.boundaries[self.flows[u].boundary].boundary * 16 + self.flows[u].operand for u in users
            }
            waiting = {u: exposed[u] > 0 for u in users}
            last = np.maximum.reduce([waits * (ranks[u] + 1) for u, waits in waiting.items()]) - 1
            for u in users:
                busy += exposed[u]
                np.minimum(start, head[u], out=start, where=waiting[u])
                np.minimum(end, tail[u], out=end, where=waiting[u] & (last % 16 == self.flows[u].operand))
            longest = np.where(last >= 0, np.maximum(longest, start + busy + end), longest)
        return longest

    def _chains(self, exposed: list[Floats], late: list[bool]) -> tuple[list[Floats], list[Floats], Floats]:
        """Per flow the exposed cycles of its operand before and after it, and the longest chain."""
        head = [np.zeros(0)] * len(exposed)
        tail = [np.zeros(0)] * len(exposed)
        longest = np.zeros(self.size)
        for operand in range(len(self.of_operand)):
            sequence = [i for i in self.sequence(operand) if late[i]]
            before = np.zeros(self.size)
            for i in sequence:
                head[i] = before
                before = before + exposed[i]
            for i in sequence:
                tail[i] = before - head[i] - exposed[i]
            longest = np.maximum(longest, before)
        return head, tail, longest

    def sequence(self, operand: int) -> list[int]:
        """An operand's flows in the order in which they follow each other.

        Inputs come from the outside in; sums leave from the inside out and come back from the outside in.
        """
        mine = [i for i, f in enumerate(self.flows) if f.operand == operand]
        return [i for i in mine if self.flows[i].kind == 2] + [i for i in mine if self.flows[i].kind < 2][::-1]

    # ---- the run -------------------------------------------------------------------------------------------------

    def run(self) -> tuple[Floats, Floats, Floats]:
        """(running, loading, offloading) cycles.

        Stays in which sums come back take longer than those that start from zero; means of both would hide it, so the
        run is a mixture of one with and one without.
        """
        share = self.share
        fill, drain = self.at_once(0), self.at_once(2)
        running, first, busy = self._run(self._scaled(np.zeros(self.size)), returning=False)
        if share.max() > 0:
            scale = np.where(share > 0, 1 / np.maximum(share, 1e-12), 0.0)
            with_back, _, busy_with = self._run(self._scaled(scale), returning=True)
            running = share * with_back + (1 - share) * running
            busy = share * busy_with + (1 - share) * busy
        # the first stay is filled, not changed to
        running = np.maximum(running - first, busy.max(axis=0) - fill - drain)
        return running + np.minimum(self._uncertain(), RESERVE * (running + fill + drain)), fill, drain

    def _uncertain(self) -> Floats:
        """The reserve: shares of the cycles that are taken to be hidden, and of those that meet other operands'."""
        found = np.zeros(self.size)
        for f, c in zip(self.flows, self.cycles, strict=True):
            stays = self.stays[f.boundary]
            weight = np.where(self.single[f.boundary], CONTESTED if f.contested else 0.0, HIDDEN)
            found += c * stays * weight * (stays > 1)
        return found

    def _scaled(self, back: Floats) -> list[Floats]:
        """The cycles of all flows, those of returning sums times ``back``."""
        return [c * back if f.kind == 1 else c for f, c in zip(self.flows, self.cycles, strict=True)]

    def _sorted(self, values: list[Floats]) -> Floats:
        """Per boundary values in the order of the cuts, (boundaries, mappings)."""
        found: Floats = np.concatenate(values).take(self.order)
        return found

    def per_boundary(self, cycles: list[Floats], flows: list[int]) -> Floats:
        """Cycles per stay of some flows, in the order of the cuts."""
        sums = [np.zeros(self.size) for _ in range(self.count)]
        for i in flows:
            sums[self.flows[i].boundary] = sums[self.flows[i].boundary] + cycles[i]
        return self._sorted(sums)

    def _run(self, cycles: list[Floats], *, returning: bool) -> tuple[Floats, Floats, Floats]:
        """If all stays were alike: cycles of all, those of one change of everything, and what each port carries."""
        step, step_ports = self.times.step_cycles(returning)
        names = self.ports  # what steps alone use is never longer than the steps
        waits = self._sorted([self.exposed(b, cycles) for b in range(self.count)])
        stays = self._sorted(self.stays)
        carried = np.stack([self.per_boundary(cycles, self.users.get(p, [])) for p in names])
        pairs = _Pairs(self, cycles, step_ports)
        rings = _Rings(self, cycles, names, stays)
        nothing = np.zeros(self.size)
        block = _Block(
            np.full(self.size, step),
            np.repeat([[step_ports.get(p, 0.0)] for p in names], self.size, axis=1),
            nothing,
            nothing,
        )
        before, period = np.full(self.size, self.total), np.ones(self.size)
        periods = self._sorted(self.periods)
        known = nothing
        late = block.load.argmax(axis=0)  # the port that is behind
        for j in range(self.count):
            ratio = before / stays[j]
            idle = periods[j] - ratio * period
            before, period = stays[j], periods[j]
            more = waits[j] - known
            known = waits[j]
            inside = block.cycles * ratio + idle
            load = block.load * ratio
            # a change out here also leaves time for what the ports could not hide further in
            unbound = inside + more - np.minimum(block.behind, more)
            block.load = load + carried[:, j]
            bound = np.maximum(unbound, block.load.max(axis=0))
            bound = rings.bound(j, ratio, inside, load, unbound, bound)
            bound = pairs.bound(j, ratio, bound)
            # with a single stay, what the port carries is part of filling and draining
            block.cycles = np.where(before > 1, bound, unbound)
            gained = block.cycles - unbound
            grew = np.flatnonzero(gained)
            late[grew] = block.load[:, grew].argmax(axis=0)
            block.behind = block.behind - np.minimum(block.behind, more) + gained
            block.added = block.added + gained * before
        ends = self._at_ends(cycles, names, late)
        at_ends = np.minimum(block.added, np.maximum(0, ends - known))
        idle = self.times.tables.total_cycles - before * period
        return block.cycles * before + idle - AT_ENDS * at_ends, known, block.load * before

    def _at_ends(self, cycles: list[Floats], names: tuple[Port, ...], port: Ints) -> Floats:
        """Cycles of one stay of everything on one port."""
        nothing = np.zeros(self.size)
        carried = np.stack([sum((cycles[i] for i in self.users.get(p, [])), nothing) for p in names])
        found: Floats = np.take_along_axis(carried, port[None, :], axis=0)[0]
        return found


class _Pairs:
    """A transfer needs both of its ports at once: what others do on either keeps it waiting."""

    def __init__(self, rows: Rows, cycles: list[Floats], step_ports: dict[Port, float]):
        flows = list(enumerate(rows.flows))
        touching = [[i for i, f in flows if set(pair) & set(f.ports)] for pair in rows.pairs]
        using = [[i for i, f in flows if f.ports == pair] for pair in rows.pairs]
        self.touched = [rows.per_boundary(cycles, found) for found in touching]
        self.needing = [rows.per_boundary(cycles, found) > 0 for found in using]
        self.load = [np.full(rows.size, max(step_ports.get(p, 0.0) for p in pair)) for pair in rows.pairs]
        self.needed = [np.zeros(rows.size, dtype=bool) for _ in rows.pairs]

    def bound(self, j: int, ratio: Floats, bound: Floats) -> Floats:
        """``bound``, and no less than what the pairs that are needed at the ``j``-th boundary carry."""
        same = ratio == 1
        for k, touched in enumerate(self.touched):
            self.load[k] = self.load[k] * ratio + touched[j]
            self.needed[k] = self.needing[k][j] | (self.needed[k] & same)
            longer = bound + APART * np.maximum(0, self.load[k] - bound)
            bound = np.where(self.needed[k], longer, bound)
        return bound


class _Rings:
    """Two buffers hide an operand's transfers behind one block: all its transfers are done before the block after next.

    A transfer can only go on while the block leaves its ports free, and what follows it waits.
    """

    def __init__(self, rows: Rows, cycles: list[Floats], names: tuple[Port, ...], level: Floats):
        self.rows = rows
        self.ports = [[names.index(p) for p in f.ports] for f in rows.flows]
        self.cycles = cycles
        self.moving = [[i for i in rows.sequence(o) if cycles[i].any()] for o in range(len(rows.of_operand))]
        self.level = level  # stays, in the order of the cuts
        #: per operand, (boundaries, mappings): cycles of all that second buffers hide
        self.hidden = [self._hidden(moving) for moving in self.moving]
        self.base = np.zeros(rows.size)  # the block beside which transfers go, and what its ports carry
        self.load = np.zeros((len(names), rows.size))

    def _hidden(self, moving: list[int]) -> Floats:
        found = np.zeros((self.rows.count, self.rows.size))
        for i in moving:
            found += self.cycles[i] * self.rows.hidden[self.rows.flows[i].boundary]
        return found

    def bound(self, j: int, ratio: Floats, inside: Floats, load: Floats, unbound: Floats, bound: Floats) -> Floats:
        """``bound``, and no less than what the rings of the ``j``-th boundary and those further in take."""
        fresh = (ratio > 1) | (j == 0)
        np.copyto(self.base, inside, where=fresh)
        np.copyto(self.load, load, where=fresh)
        for moving, hidden in zip(self.moving, self.hidden, strict=True):
            if len(moving) < 2:
                continue  # the port's own bound says as much
            # in some mappings nothing may move where it does in others: no mapping depends on its neighbours
            moves = np.array([self.cycles[i] > 0 for i in moving])
            loads = [np.maximum.reduce([self.load[p] for p in self.ports[i]]) for i in moving]
            most = np.maximum.reduce(np.where(moves, loads, 0.0))
            tight = hidden[j] > np.maximum(self.base - most, bound - self.base)
            tight &= moves.sum(axis=0) > 1
            if j + 1 < len(self.level):
                tight &= self.level[j] != self.level[j + 1]  # else those of the same cut come together
            at = np.flatnonzero(tight)
            if len(at):
                bound[at] = np.maximum(bound[at], self._ring(moving, at, j, unbound[at]))
        return bound

    def _ring(self, moving: list[int], at: Ints, j: int, unbound: Floats) -> Floats:
        """Cycles of a block if the one after next waits for its transfers, which follow each other beside the next."""
        base, level = self.base[at], self.level[j][at]
        now: Floats = np.zeros(len(at))
        after: dict[int, Floats] = {}  # per port, cycles that do not fit beside the block
        for i in moving:
            cycles = self.cycles[i][at] * self.rows.hidden[self.rows.flows[i].boundary][j, at]
            # transfers that also change further in have their part of the block already
            newly = self.rows.stays[self.rows.flows[i].boundary][at] == level
            upper, lower = self.ports[i]
            busy: Floats = np.minimum(1.0, np.maximum(self.load[upper, at], self.load[lower, at]) / base) * newly
            beside: Floats = np.minimum(cycles, np.maximum(0, base - now) * (1 - busy))
            rest = cycles - beside
            late = rest > 1e-9
            now = np.where(late, np.maximum(base, now) + rest, now + beside / np.maximum(1 - busy, 1e-9))
            for p in self.ports[i]:
                after[p] = after.get(p, np.zeros(len(at))) + rest
        longest = np.maximum.reduce(list(after.values()))
        return np.maximum((unbound + now) / 2, np.where(longest > 0, base + longest, 0))
