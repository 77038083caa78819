"""Fast mappings under the exact model, proved: branch and bound over chains of cuts, from the innermost outwards.

What goes into it is put together here; ``_branch.c`` searches, or ``mapping_branch_plain.py`` where no compiler was.
docs/mapping-search.md explains the bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np

from dfc.backend_cost.chains import ChainProblem
from dfc.backend_cost.mapping_branch_plain import Best, PlainProblem, PlainSearch
from dfc.backend_cost.mapping_branch_time import FlatLayout
from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.mapping_space import MappingSpace, Region
from dfc.backend_cost.native import load
from dfc.backend_cost.tables import Bools, Floats, Ints
from dfc.backend_cost.timing_compiled import STEPS_AT, flat_times
from dfc.backend_cost.timing_rows import CONTESTED
from dfc.backend_cost.timing_tables import TimeTables

_native, _sums = load("_branch"), load("_measures")
COMPILED = _native is not None


@dataclass(frozen=True, slots=True)
class Goal:
    """What is searched: less of the objective than a score known, among equal scores less energy, then fewer cycles."""

    objective: Objective
    max_cycles: float = np.inf
    least_pj: float = 0.0
    score: float = np.inf
    energy_pj: float = np.inf
    cycles: float = np.inf


@dataclass(frozen=True, slots=True)
class Found:
    """Chains (rows, cuts), each better than those before; the score that no chain is below; the work that it took."""

    chains: Ints
    bound: float
    work: int


@dataclass(frozen=True, eq=False)
class BranchProblem:
    """One space as flat arrays. Operands of 0 bits take no time or energy: none of their cuts are here.

    cost:      (measures, cuts, points): energy (infinite where a cut may not lie), reserve, ports, ends.
    base:      (measures,) what every chain has of them.
    left:      (measures, states, points) the least that cuts not made yet add.
    energy_pj: (cuts, points) of a whole chain's cuts.
    layout, numbers, values, stays, periods: as ``timing_compiled`` hands them to ``_timing.c``.
    final, partial, reduces: (columns, points) bits that memories hold, and whether what is cut there is partial above.
    places:    (columns, 3) slot, cut, cut below of each operand and memory; -1 for none.
    room:      (slots, 2) size and smallest width in bits.
    coupled, saving, factor: as ``MappingSpace.couplings``.
    """

    space: MappingSpace
    chains: ChainProblem
    cuts: list[int]  # of the space's
    cost: Floats
    base: Floats
    left: Floats
    energy_pj: Floats
    layout: Ints
    numbers: Floats
    values: Floats
    final: Floats
    partial: Floats
    reduces: np.ndarray
    places: Ints
    room: Floats
    coupled: Ints
    saving: Floats
    factor: Floats
    small_back: bool  # sums that come back take no longer than those that leave
    sliding: bool  # a whole chain's energy may be less than its cuts'
    compiled: bool

    def least_score(self, objective: Objective, least_pj: float) -> float:
        """What no chain scores below, before any is looked at."""
        least: list[float] = (self.base + self.left[:, 0, 0]).tolist()
        numbers: list[float] = self.numbers.tolist()
        ports = int(self.layout[3])
        share, working, total = numbers[:3]
        step = share * numbers[STEPS_AT + 1 + ports] + (1 - share) * numbers[STEPS_AT]
        cycles = max(*least[2 : 2 + ports], total + (step - 1) * working + max(least[2 + ports :]))
        return objective.of(max(least[0], least_pj), cycles)

    def search(self, goal: Goal, most_work: int) -> Found:
        """Chains that are better than the goal's, with at most about so much work."""
        if self.compiled and _native is not None and self._small(_native):
            return self._compiled(_native, goal, most_work)
        best = Best(goal.objective, goal.max_cycles, goal.least_pj, goal.score, goal.energy_pj, goal.cycles)
        plain = PlainSearch(self._plain(), best, most_work)
        bound = plain.run()
        chains = np.array(plain.chains, dtype=np.int64).reshape(-1, len(self.cuts))
        return Found(self._whole(chains), bound, plain.work)

    def _small(self, native: ModuleType) -> bool:
        most = native.MOST_CUTS, native.MOST_MEASURES, native.MOST_COLUMNS, native.MOST_AXES
        mine = len(self.cuts), len(self.base), len(self.places), len(self.space.lattice.loops)
        timed = native.MOST_FLOWS, native.MOST_PORTS, native.MOST_PAIRS
        return all(n <= m for n, m in zip((*mine, *self.layout[2:5]), (*most, *timed), strict=True))

    def _compiled(self, native: ModuleType, goal: Goal, most_work: int) -> Found:
        space, counts = self.space, self.chains.counts
        exponents, idle = self._bytes()
        result = np.zeros((native.MOST_RESULTS, len(self.cuts)), dtype=np.int64)
        kind = (Objective.LATENCY, Objective.EDP, Objective.ENERGY).index(goal.objective)
        best = goal.score, goal.energy_pj, goal.cycles, goal.least_pj
        bound, found, work = native.search(
            (
                np.array([len(space.lattice.points), len(counts), *counts], dtype=np.int64),
                exponents,
                idle,
                self.cost,
                self.left,
                self.energy_pj,
                self.base,
                self.layout,
                self.numbers,
                self.values,
                space.tables.stays,
                space.tables.cycles,
                self.final,
                self.partial,
                self.reduces,
                self.places,
                self.room,
                self.coupled,
                self.saving,
                self.factor,
                np.array([kind, most_work, goal.max_cycles, self.small_back, *best, self.sliding], dtype=float),
                result,
            )
        )
        rows = [i % len(result) for i in range(max(0, found - len(result)), found)]
        return Found(self._whole(result[rows]), bound, work)

    def _plain(self) -> PlainProblem:
        tables, lattice = self.space.tables, self.space.lattice
        idle = [[o.irrelevant(loop.dim) for loop in lattice.loops] for o in self.space.nest.operands]
        flat = self.layout, self.numbers, self.values, tables.stays, tables.cycles
        return PlainProblem(
            tuple(self.chains.counts.tolist()),
            lattice.exponents[:, : len(lattice.loops)],
            np.array(idle, dtype=bool).reshape(len(idle), len(lattice.loops)),
            self.cost,
            self.left,
            self.energy_pj,
            self.base,
            FlatLayout(*flat, self.final, self.partial, self.reduces, self.places, self.room),
            [(int(inner), int(outer)) for inner, outer in self.coupled.tolist()],
            self.saving,
            self.factor,
            self.small_back,
            self.sliding,
        )

    def _whole(self, chains: Ints) -> Ints:
        """With the cuts of operands of 0 bits, which lie beyond all loops."""
        whole = np.full((len(chains), len(self.space.cuts)), self.space.lattice.top, dtype=np.int64)
        whole[:, self.cuts] = chains
        return whole

    def _bytes(self) -> tuple[np.ndarray, np.ndarray]:
        """Exponents (words, points) and idle axes (operands, words), a byte for each axis."""
        lattice = self.space.lattice
        axes = len(lattice.loops)
        words = max(1, -(-axes // 8))
        exponents = np.zeros((len(lattice.points), 8 * words), dtype=np.uint8)
        exponents[:, :axes] = lattice.exponents[:, :axes]
        idle = np.zeros((len(self.space.nest.operands), 8 * words), dtype=np.uint8)
        for i, operand in enumerate(self.space.nest.operands):
            idle[i, :axes] = [0x7F * operand.irrelevant(loop.dim) for loop in lattice.loops]
        return np.ascontiguousarray(exponents.view(np.uint64).T), idle.view(np.uint64)


def branch_problem(
    space: MappingSpace, regions: list[Region], floor_pj: Floats, *, compiled: bool = COMPILED
) -> BranchProblem | None:
    """The problem of a space's regions; ``floor_pj`` (cuts, points) is what cuts cost at least. None without cuts."""
    operands = space.nest.operands
    cuts = [k for k, (i, _) in enumerate(space.cuts) if operands[i].bits]
    if not cuts:
        return None
    some = [len(o.memories) - 1 if o.bits else 0 for o in operands]
    chains = ChainProblem(space.lattice.shape, np.array(some, dtype=np.int64), space.chains.idle)
    allowed = np.logical_or.reduce([r.allowed for r in regions])
    energy = space.relaxed(floor_pj, replace(regions[0], allowed=allowed)) if space.couplings else floor_pj
    place = {k: n for n, k in enumerate(cuts)}
    flat = flat_times(space.times)
    measured = compiled_sums if compiled and _sums is not None and flat.small else plain_sums
    cost, left, base, small_back = measured(space, chains, energy[cuts], allowed[cuts])
    base[0] = space.tables.fixed_pj
    final, partial, reduces, places, room = _memories(space, place)
    c = [x for x in space.couplings if x.outer in place]  # else of sums of 0 bits
    return BranchProblem(
        space,
        chains,
        cuts,
        cost,
        base,
        left,
        np.ascontiguousarray(space.energy_pj[cuts]),
        flat.layout,
        flat.numbers,
        flat.values,
        final,
        partial,
        reduces,
        places,
        room,
        np.array([(place[x.inner] if x.inner >= 0 else -1, place[x.outer]) for x in c], dtype=np.int64).reshape(-1, 2),
        np.array([x.saving_pj for x in c], dtype=float).reshape(len(c), len(space.lattice.points)),
        np.array([x.factor for x in c], dtype=float).reshape(len(c), len(space.lattice.points)),
        small_back,
        floor_pj is not space.energy_pj and bool((floor_pj < space.energy_pj).any()),
        compiled,
    )


#: cost, what is left of it, base (its energy is to be set), and whether sums that come back are never slower
Sums = tuple[Floats, Floats, Floats, bool]


def plain_sums(space: MappingSpace, chains: ChainProblem, energy: Floats, allowed: Bools) -> Sums:
    """The sums of cuts (cuts, points) that cost so much energy and may lie where they are allowed."""
    times = space.times
    bases, rows = _measures(space, times)
    cost = np.where(allowed, np.concatenate([energy[None], rows]), np.inf)
    pairs = ((b.back, b.up) for b in times.boundaries if b.back and b.up)
    small_back = all((back.cycles * back.share <= up.cycles).all() for back, up in pairs)
    return cost, chains.remaining(cost), np.array([0.0, *bases]), bool(small_back)


def compiled_sums(space: MappingSpace, chains: ChainProblem, energy: Floats, allowed: Bools) -> Sums:
    """The same in ``_measures.c``."""
    assert _sums is not None
    flat = flat_times(space.times)
    points, states = len(space.lattice.points), int(np.prod(chains.counts + 1))
    ends = len({f.operand for f in space.times.flows if f.kind == 0}) or 1
    count = 2 + int(flat.layout[3]) + ends
    cost, left, base = np.empty((count, *energy.shape)), np.empty((count, states, points)), np.zeros(count)
    given = chains.shape, chains.counts, flat.layout, flat.numbers, flat.values, space.tables.stays, energy, allowed
    return cost, left, base, _sums.measured((*given, cost, left, base))


def _measures(space: MappingSpace, times: TimeTables) -> tuple[list[float], Floats]:
    """(measures,) and (measures, cuts, points): the least reserve; what each port carries; one fill and the drain."""
    tables = space.tables
    stays = tables.stays
    flows, ports = times.flows, times.ports
    moved = [t for b in times.boundaries for _, t in b.transfers]
    number = {p: 1 + i for i, p in enumerate(ports)}
    inputs = {o: 1 + len(ports) + i for i, o in enumerate(dict.fromkeys(f.operand for f in flows if f.kind == 0))}
    ends = list(inputs.values()) or [1 + len(ports)]
    count = ends[-1] + 1
    rows = np.zeros((count, len(times.boundaries), len(tables.points)))
    base = [0.0] * count
    for port, cycles in times.step_busy.items():
        if port in number:
            base[number[port]] = cycles
    for f, t in zip(flows, moved, strict=True):
        carried = t.cycles * t.share * stays
        for port in dict.fromkeys(t.ports):
            rows[number[port], f.boundary] += carried
        if f.contested:
            rows[0, f.boundary] += CONTESTED * carried * (stays > 1)
        if f.kind == 0:
            rows[inputs[f.operand], f.boundary] += t.cycles
        if f.kind == 2:
            rows[ends, f.boundary] += t.cycles
    return base, rows


def _memories(space: MappingSpace, place: dict[int, int]) -> tuple[Floats, Floats, np.ndarray, Ints, Floats]:
    """(final, partial, reduces, places, room) of a problem."""
    number = {cut: place[k] for k, cut in enumerate(space.cuts) if k in place}
    slots: dict[int, int] = {}
    places: list[tuple[int, int, int]] = []
    parts: list[tuple[Ints, Ints, Bools]] = []
    for i, table in enumerate(space.tables.operands):
        for m, memory in enumerate(table.operand.memories if table.operand.bits else ()):
            slot = slots.setdefault(memory, len(slots))
            places.append((slot, number.get((i, m), -1), number.get((i, m - 1), -1)))
            parts.append((*table.alloc_bits[m], table.reduces[m]))
    final, partial, reduces = zip(*parts, strict=True)
    partly = np.empty((len(parts), len(space.lattice.points)), dtype=bool)
    for row, each in zip(partly, reduces, strict=True):
        row[:] = each
    chips = [space.arch.memories[m] for m in slots]
    room = [(m.size_bits, min(m.read_bits_per_cycle, m.write_bits_per_cycle)) for m in chips]
    return (
        np.array(final, dtype=float),
        np.array(partial, dtype=float),
        partly,
        np.array(places),
        np.array(room, dtype=float),
    )
