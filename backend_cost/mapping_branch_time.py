"""What is known of a chain's latency while only its inner cuts are made: the plain side of ``_branch.c``.

The recursion is that of ``timing_rows.py``, for one mapping at a time; names and constants are the same there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from dfc.backend_cost.tables import Bools, Floats, Ints
from dfc.backend_cost.timing_compiled import STEPS_AT
from dfc.backend_cost.timing_rows import APART, AT_ENDS, CONTESTED, HIDDEN, RESERVE

#: cuts with their points, from the innermost outwards
Prefix = tuple[tuple[int, int], ...]


class Kind(Enum):
    """Whether a memory has a second buffer for what is cut there; unsure until all that it holds is known."""

    SECOND = 0
    LONE = 1
    UNSURE = 2


@dataclass(frozen=True, eq=False)
class FlatLayout:
    """The arrays of a ``BranchProblem``: one boundary for each cut."""

    layout: Ints
    numbers: Floats
    values: Floats
    stays: Floats
    periods: Floats
    final: Floats
    partial: Floats
    reduces: Bools
    places: Ints
    room: Floats

    @property
    def cuts(self) -> int:
        """How many there are."""
        return int(self.layout[0])

    @property
    def ports(self) -> int:
        """How many transfers use."""
        return int(self.layout[3])

    @cached_property
    def boundaries(self) -> list[list[int]]:
        """(operand, level, column) of each cut."""
        return self.layout[6 : 6 + 3 * self.cuts].reshape(-1, 3).tolist()

    @cached_property
    def flows(self) -> list[list[int]]:
        """(boundary, kind, upper port, lower port, contested) of each flow."""
        start = 6 + 3 * self.cuts
        return self.layout[start : start + 5 * int(self.layout[2])].reshape(-1, 5).tolist()

    @cached_property
    def pairs(self) -> list[list[int]]:
        """(upper, lower) ports."""
        return self.layout[len(self.layout) - 2 * int(self.layout[4]) :].reshape(-1, 2).tolist()

    @cached_property
    def of_cut(self) -> list[list[int]]:
        """The flows of each cut."""
        return [[i for i, f in enumerate(self.flows) if f[0] == c] for c in range(self.cuts)]

    @cached_property
    def operands(self) -> list[list[int]]:
        """The cuts of each operand."""
        return [[c for c, b in enumerate(self.boundaries) if b[0] == o] for o in range(int(self.layout[1]))]

    @cached_property
    def sequences(self) -> list[list[int]]:
        """Each operand's flows as they follow each other."""
        found: list[list[int]] = []
        for o in range(len(self.operands)):
            mine = [i for i, f in enumerate(self.flows) if self.boundaries[f[0]][0] == o]
            found.append([i for i in mine if self.flows[i][1] == 2] + [i for i in mine if self.flows[i][1] < 2][::-1])
        return found

    @cached_property
    def users(self) -> list[list[int]]:
        """The flows of each port."""
        return [[i for i, f in enumerate(self.flows) if p in f[2:4]] for p in range(self.ports)]

    def buffers(self, prefix: Prefix, point: int) -> dict[int, Kind] | None:
        """Of the cuts made; None where not all find room. The others lie at ``point`` or beyond."""
        at = dict(prefix)
        top = self.final.shape[1] - 1
        whole: list[float] = []
        known = [True] * len(self.room)
        used = [0.0] * len(self.room)
        for c, (slot, cut, below) in enumerate(self.places.tolist()):
            sure = (cut < 0 or cut in at) and (below < 0 or below in at)
            held = top if cut < 0 else at.get(cut, point)
            partial = sure and self.reduces[c, at[below] if below >= 0 else 0]
            whole.append(float((self.partial if partial else self.final)[c, held]))
            used[slot] += whole[-1]
            known[slot] &= sure
        rooms: list[list[float]] = self.room.tolist()
        places: list[list[int]] = self.places.tolist()
        if any(u > size for u, (size, _) in zip(used, rooms, strict=True)):
            return None
        found: dict[int, Kind] = {}
        for bits, (slot, cut, _) in zip(whole, places, strict=True):
            size, access = rooms[slot]
            once, fits = bits <= access, used[slot] + bits <= size
            if known[slot] and fits and not once:
                used[slot] += bits
            if cut in at:
                sure = once or (fits and known[slot])
                found[cut] = Kind.SECOND if sure else Kind.UNSURE if fits else Kind.LONE
        return found


def known_cycles(layout: FlatLayout, prefix: Prefix, kinds: dict[int, Kind]) -> tuple[float, float, float]:
    """Cycles without one stay of all that is waited for, those that ports add, and the reserve: each for sure."""
    run = _Run(layout, prefix, kinds)
    known, added = run.known(returning=False)
    share = float(layout.numbers[0])
    if share > 0:
        with_back, more = run.known(returning=True)
        known, added = share * with_back + (1 - share) * known, share * more + (1 - share) * added
    return known, added, run.reserve()


def chain_cycles(layout: FlatLayout, prefix: Prefix, kinds: dict[int, Kind]) -> float:
    """The latency of a whole chain: running, loading and offloading."""
    run = _Run(layout, prefix, kinds)
    fill, drain = (run.waits(run.cycles, [f[1] == kind for f in layout.flows]) for kind in (0, 2))
    cycles, first, busy = run.whole(returning=False)
    share = float(layout.numbers[0])
    if share > 0:
        with_back, _, busy_with = run.whole(returning=True)
        cycles = share * with_back + (1 - share) * cycles
        busy = [share * b + (1 - share) * a for a, b in zip(busy, busy_with, strict=True)]
    running = max(cycles - first, max(busy) - fill - drain)
    return running + min(run.reserve(), RESERVE * (running + fill + drain)) + fill + drain


class _Run:
    """The recursion over the cuts made."""

    def __init__(self, layout: FlatLayout, prefix: Prefix, kinds: dict[int, Kind]):
        self.layout = layout
        self.order = [c for c, _ in prefix]
        self.rank = {c: j for j, c in enumerate(self.order)}
        self.kinds = kinds
        self.stays = {c: float(layout.stays[p]) for c, p in prefix}
        self.periods = {c: float(layout.periods[p]) for c, p in prefix}
        self.cycles = [0.0] * len(layout.flows)
        for c, p in prefix:
            for i in layout.of_cut[c]:
                self.cycles[i] = float(layout.values[p, i])
        self.sure = next((j for j, c in enumerate(self.order) if kinds[c] is Kind.UNSURE), len(prefix))
        self.chained = [self._chained(j) for j in range(len(prefix))]
        self.hidden = [self._hidden(j) for j in range(len(prefix))]

    def _chained(self, j: int) -> list[bool]:
        """Flows that nothing hides when the ``j``-th boundary changes."""
        found = [False] * len(self.cycles)
        for cuts in self.layout.operands:
            made = [c for c in cuts if self.rank.get(c, j + 1) <= j]
            lone = [k for k, c in enumerate(made) if self.kinds[c] is Kind.LONE]
            for c in made[: lone[-1] + 1] if lone else ():
                for i in self.layout.of_cut[c]:
                    found[i] = True
        return found

    def _hidden(self, j: int) -> list[bool]:
        """Flows that second buffers hide there; unsure ones hide nothing."""
        found = [False] * len(self.cycles)
        for cuts in self.layout.operands:
            made = [c for c in cuts if self.rank.get(c, j + 1) <= j]
            lone = [k for k, c in enumerate(made) if self.kinds[c] is not Kind.SECOND]
            for c in made[lone[-1] + 1 :] if lone else made:
                for i in self.layout.of_cut[c]:
                    found[i] = True
        return found

    def reserve(self) -> float:
        """The least that the reserve may be."""
        found = 0.0
        for c in self.order:
            for i in self.layout.of_cut[c] if self.stays[c] > 1 else ():
                lone = CONTESTED if self.layout.flows[i][4] else 0.0
                weight = HIDDEN if self.kinds[c] is Kind.SECOND else lone
                found += self.cycles[i] * self.stays[c] * weight
        return found

    def waits(self, cycles: list[float], exposed: list[bool], *, chains: bool = False) -> float:
        """The longest wait; with ``chains`` only for each operand's own."""
        layout = self.layout
        late = [e and c > 0 for e, c in zip(exposed, cycles, strict=True)]
        head, tail = [0.0] * len(cycles), [0.0] * len(cycles)
        longest = 0.0
        for sequence in layout.sequences:
            before = 0.0
            mine = [i for i in sequence if late[i]]
            for i in mine:
                head[i] = before
                before += cycles[i]
            for i in mine:
                tail[i] = before - head[i] - cycles[i]
            longest = max(longest, before)
        for users in () if chains else layout.users:
            mine = [i for i in users if late[i]]
            owner = {i: layout.boundaries[layout.flows[i][0]][0] for i in mine}
            if len(set(owner.values())) < 2:
                continue
            last = max(layout.boundaries[layout.flows[i][0]][1] * 16 + owner[i] for i in mine) % 16
            busy = 0.0
            for i in mine:
                busy += cycles[i]
            end = min(tail[i] for i in mine if owner[i] == last)
            longest = max(longest, min(head[i] for i in mine) + busy + end)
        return longest

    def known(self, *, returning: bool) -> tuple[float, float]:
        """Cycles without one stay of all that is waited for, and those that ports add."""
        total, waited_for, added, *_ = self._run(returning)
        return total - waited_for, added

    def whole(self, *, returning: bool) -> tuple[float, float, list[float]]:
        """Cycles of all, those of one change of everything, and what each port carries."""
        total, _, added, known, late, busy, cycles = self._run(returning)
        ends = sum(cycles[i] for i in self.layout.users[late])
        return total - AT_ENDS * min(added, max(0.0, ends - known)), known, busy

    def _run(self, returning: bool) -> tuple[float, float, float, float, int, list[float], list[float]]:
        layout = self.layout
        share, working, total = layout.numbers[:3].tolist()
        scale = 1 / max(share, 1e-12) if returning else 0.0
        cycles = [c * scale if f[1] == 1 else c for f, c in zip(layout.flows, self.cycles, strict=True)]
        start = STEPS_AT + returning * (1 + layout.ports)
        block, *load = layout.numbers[start : start + 1 + layout.ports].tolist()
        pair_load = [max(load[a], load[b]) for a, b in layout.pairs]
        needed = [False] * len(layout.pairs)
        behind = added = waited_for = known = base = 0.0
        before, period = working, 1.0
        late = load.index(max(load))
        base_load = load
        for j, c in enumerate(self.order):
            ratio = before / self.stays[c]
            idle = self.periods[c] - ratio * period
            before, period = self.stays[c], self.periods[c]
            waited = self.waits(cycles, self.chained[j], chains=j >= self.sure)
            more, known = waited - known, waited
            inside = block * ratio + idle
            load = [x * ratio for x in load]
            if ratio > 1 or j == 0:
                base, base_load = inside, load.copy()
            unbound = inside + more - min(behind, more)
            for i in layout.of_cut[c]:
                for p in dict.fromkeys(layout.flows[i][2:4]):
                    load[p] += cycles[i]
            bound = max(unbound, *load)
            if j + 1 < len(self.order) or len(self.order) == layout.cuts:
                bound = self._ring_bound(cycles, j, (base, base_load), unbound, bound)
            bound = self._pair_bound(c, cycles, ratio, pair_load, needed, bound)
            block = bound if before > 1 else unbound
            waited_for += block - inside
            gained = block - unbound
            if gained:
                late = load.index(max(load))
            behind = behind - min(behind, more) + gained
            added += gained * before
        busy = [x * before for x in load]
        return block * before + (total - before * period), waited_for, added, known, late, busy, cycles

    def _pair_bound(
        self, cut: int, cycles: list[float], ratio: float, load: list[float], needed: list[bool], bound: float
    ) -> float:
        """A transfer needs both of its ports at once."""
        for k, pair in enumerate(self.layout.pairs):
            touched = needing = 0.0
            for i in self.layout.of_cut[cut]:
                ports = self.layout.flows[i][2:4]
                touched += cycles[i] if set(ports) & set(pair) else 0.0
                needing += cycles[i] if ports == pair else 0.0
            load[k] = load[k] * ratio + touched
            needed[k] = needing > 0 or (needed[k] and ratio == 1)
            if needed[k]:
                bound = bound + APART * max(0.0, load[k] - bound)
        return bound

    def _ring_bound(
        self, cycles: list[float], j: int, beside: tuple[float, list[float]], unbound: float, bound: float
    ) -> float:
        """Two buffers hide an operand's transfers behind one block."""
        level = self.stays[self.order[j]]
        if j + 1 < len(self.order) and level == self.stays[self.order[j + 1]]:
            return bound
        base, load = beside
        for sequence in self.layout.sequences:
            moving = [i for i in sequence if cycles[i] > 0]
            if len(moving) < 2:
                continue
            most = max(max(load[p] for p in self.layout.flows[i][2:4]) for i in moving)
            hidden = sum(cycles[i] for i in moving if self.hidden[j][i])
            if hidden > max(base - max(0.0, most), bound - base):
                mine = [i for i in moving if self.hidden[j][i]]
                bound = max(bound, self._ring(cycles, mine, level, beside, unbound))
        return bound

    def _ring(
        self, cycles: list[float], flows: list[int], level: float, beside: tuple[float, list[float]], unbound: float
    ) -> float:
        base, load = beside
        now = longest = 0.0
        after = [0.0] * self.layout.ports
        for i in flows:
            cut, _, upper, lower, _ = self.layout.flows[i]
            busy = min(1.0, max(load[upper], load[lower]) / base) if self.stays[cut] == level else 0.0
            fitting = min(cycles[i], max(0.0, base - now) * (1 - busy))
            rest = cycles[i] - fitting
            now = max(base, now) + rest if rest > 1e-9 else now + fitting / max(1 - busy, 1e-9)
            after[upper] += rest
            after[lower] += rest
            longest = max(longest, after[upper], after[lower])
        return max((unbound + now) / 2, base + longest if longest > 0 else 0.0)
