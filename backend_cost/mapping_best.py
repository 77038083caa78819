"""The best mapping in one space: for energy, time, their product, or energy within a limit of time, with a bound.

``mapping_search.py`` asks for it; docs/mapping-search.md explains why it is the best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate

import numpy as np

from dfc.backend_cost.contents import moved_cuts
from dfc.backend_cost.evaluate import effective_cuts, energy_pj
from dfc.backend_cost.mapping_branch import BranchProblem, Goal, branch_problem
from dfc.backend_cost.mapping_cost import MappingCost, MappingTimes, Objective, cost_at, mapping_times, whole_times
from dfc.backend_cost.mapping_energy import TIE, LeastEnergy, least_energy
from dfc.backend_cost.mapping_rules import LayerRules
from dfc.backend_cost.mapping_slide import floor_pj, guess_pj, sliding_cuts, sliding_orders
from dfc.backend_cost.mapping_space import MappingSpace, Order, Region
from dfc.backend_cost.mapping_time import Floors, dual_bound, time_floors
from dfc.backend_cost.played import play
from dfc.backend_cost.tables import Bools, Floats, Ints
from dfc.backend_cost.timing import ExactLatency

#: chains of equal energy of which the fastest is taken
TIES = 64
#: chains that are listed and timed at once: first so many, then, where that proves nothing, so many, ...
LISTED = (300, 3_000, 600_000)
#: chains to start from: best for random weights of what counts
MIXTURES = 32
#: rounds of moving cuts; steps from the best mapping's score down to one that few chains can reach
ROUNDS = 8
STEPS = 4
#: orders of the loops between the cuts that are timed where they matter
ORDERS = 4000
#: chains that are timed under all kinds of orders in one go
TOGETHER = 1 << 12
#: nests of at most so many prime factors are listed to the end, ties and orders of the loops too
FEW_LOOPS = 6
#: work of a branch and bound: at first; then that of few loops, which are searched to the end; of others
START_WORK, MOST_WORK, WORK = 60_000, 16_000_000, 600_000


@dataclass(frozen=True, eq=False)
class _Timed:
    """Mappings with energy and time, row by row."""

    chains: Ints
    orders: Ints
    energy_pj: Floats
    times: MappingTimes

    def take(self, rows: Ints) -> _Timed:
        """The mappings at ``rows``."""
        t = self.times
        times = MappingTimes(t.stall[rows], t.loading[rows], t.offloading[rows], t.total[rows])
        return _Timed(self.chains[rows], self.orders[rows], self.energy_pj[rows], times)

    def score(self, objective: Objective, max_cycles: float | None) -> Floats:
        """What the objective compares; infinite where the limit of time is passed."""
        total = self.times.total
        score = objective.of(self.energy_pj, total)
        return score if max_cycles is None else np.where(total <= max_cycles + 1e-6, score, np.inf)

    def best(self, objective: Objective, max_cycles: float | None) -> tuple[int, float]:
        """The row with the least score; ties by energy, then time, then the first."""
        score = self.score(objective, max_cycles)
        if len(score) == 1:
            return 0, float(score[0])
        rows = np.flatnonzero(score <= score.min() * (1 + TIE))
        for key in (self.energy_pj, self.times.total):
            rows = rows[key[rows] <= key[rows].min() * (1 + TIE)]
        return int(rows[0]), float(score[rows[0]])


def _timed(space: MappingSpace, chains: Ints, orders: Ints, *, hopeful: bool = False) -> _Timed:
    """Energy and time of chains; ``hopeful``: as fast as under any order that leaves the cuts where they are."""
    batch = space.batch(chains, orders)
    cuts = batch.cuts if hopeful else effective_cuts(space.tables, batch)
    times = mapping_times(space.tables, batch, cuts, hopeful=hopeful, times=space.times if space.model.played else None)
    energy = energy_pj(space.tables, batch, cuts) if space.couplings else space.chain_energy_pj(chains)
    return _Timed(chains, orders, energy, times)


def _played(space: MappingSpace, chains: Ints) -> _Timed | None:
    """The same in compiled code for the exact model, closed chains first; None where that cannot tell."""
    found = play(space, chains) if not space.couplings else None
    if found is None:
        return None
    running, loading, offloading = found.cycles
    times = whole_times(ExactLatency(space.tables.total_cycles, running, loading, offloading))
    timed = _Timed(chains, found.orders, found.energy_pj, times)
    return timed if found.closed.all() else timed.take(np.argsort(~found.closed, kind="stable"))


@dataclass(frozen=True, slots=True)
class Answer:
    """The best mapping of a space: its score, energy and cycles (before rounding), and the score that none is below.

    cost: all that it costs, worked out when it is asked for.
    """

    score: float
    energy_pj: float
    cycles: float
    bound: float
    cost: Callable[[], MappingCost]


class MappingSearch:
    """One problem: its space, its regions, and the best mapping so far."""

    def __init__(
        self,
        space: MappingSpace,
        regions: list[Region],
        objective: Objective,
        max_cycles: float | None,
        rules: LayerRules | None,
        *,
        few: bool,
    ):
        """``few``: the nest has few loops, and everything is searched to the end."""
        self.space = space
        self.rules = rules
        self.regions = regions
        self.objective = objective
        self.max_cycles = max_cycles
        self.best: tuple[_Timed, int, float] | None = None
        self.slides = sliding_cuts(space)
        self.floor_pj = floor_pj(space, self.slides)
        self.ideal = space.tables.total_cycles
        self.few = few
        self.known = np.inf, np.inf, np.inf  # score, energy and cycles of another nest's mapping that is to be beaten
        self.seen: set[bytes] = set()
        self.unsure = np.inf  # what some order of some chain might reach that was not timed

    @cached_property
    def branch(self) -> BranchProblem | None:
        """The exact model's time can be bounded cut by cut."""
        return branch_problem(self.space, self.regions, self.floor_pj) if self.space.model.played else None

    def outlook(self, least: LeastEnergy) -> float:
        """What no mapping scores below, as far as is known at once."""
        branch = self.branch
        return 0.0 if branch is None else branch.least_score(self.objective, least.bound_pj)

    def offer(self, timed: _Timed) -> None:
        """Keep the best of these if it is better than what is known."""
        row, score = timed.best(self.objective, self.max_cycles)
        if not np.isfinite(score):
            return
        if self.best is not None:
            known, at, value = self.best
            mine = (timed.energy_pj[row], timed.times.total[row])
            other = (known.energy_pj[at], known.times.total[at])
            if score > value * (1 + TIE) or (score > value * (1 - TIE) and not _earlier(mine, other)):
                return
        self.best = timed, row, score

    def time(self, chains: Ints, *, exhaust: bool = False) -> None:
        """Time chains, each under orders that leave its cuts where they are if there are any.

        With ``exhaust`` every order is timed that can matter, or what it could reach goes into ``unsure``.
        """
        played = self.space.model.played  # then time depends on the cuts alone
        if not exhaust or played:
            chains = self._unseen(chains)
        if len(chains) == 0:
            return
        timed = _played(self.space, chains) if played and self.rules is None else None
        if timed is not None:
            self.offer(timed)
            return
        closed = self.space.closed(chains)
        kinds = (Order.MOVE,) if played else (Order.MOVE, Order.MOVE_IDLE_LAST, Order.IDLE_LAST)
        parts = [(chains[closed], kind) for kind in kinds]
        if not closed.all():
            parts.append((chains[~closed], Order.STAY))
        together = [parts] if len(chains) <= TOGETHER else [[part] for part in parts]
        for group in together:
            some = np.concatenate([rows for rows, _ in group])
            if len(some):
                orders = np.concatenate([self.space.orders(rows, kind) for rows, kind in group])
                self.offer(_timed(self.space, some, self._kept(orders)))
        if exhaust and not played and closed.any():
            self._exhaust(chains[closed])

    def _unseen(self, chains: Ints) -> Ints:
        """Those that were not timed before, each once."""
        keep: list[int] = []
        for row, chain in enumerate(chains):
            key = chain.tobytes()
            if key not in self.seen:
                self.seen.add(key)
                keep.append(row)
        return chains[keep]

    def _exhaust(self, chains: Ints) -> None:
        """Time all orders of those chains that could be better than the best under some order."""
        hoped = _timed(self.space, chains, self.space.orders(chains, Order.MOVE), hopeful=True)
        score = hoped.score(self.objective, self.max_cycles)
        left = ORDERS
        for row in np.argsort(score, kind="stable").tolist():
            if not self._could_win(hoped, row, float(score[row])):
                continue
            orders = self.space.all_orders(chains[row], left)
            if orders is None:
                self.unsure = min(self.unsure, float(score[row]))
                continue
            left -= len(orders)
            self.offer(_timed(self.space, np.repeat(chains[row][None], len(orders), axis=0), self._kept(orders)))

    def _kept(self, orders: Ints) -> Ints:
        """Orders that keep to the user's rules."""
        return orders if self.rules is None else self.rules.ordered(self.space.lattice, orders)

    def _could_win(self, hoped: _Timed, row: int, score: float) -> bool:
        if self.best is None:
            return bool(np.isfinite(score))
        known, at, value = self.best
        if score < value * (1 - TIE):
            return True
        mine = (float(hoped.energy_pj[row]), float(hoped.times.total[row]))
        other = (float(known.energy_pj[at]), float(known.times.total[at]))
        return score <= value * (1 + TIE) and _earlier(mine, other)

    def result(self, bound: float) -> Answer:
        """The best mapping, and what no mapping is better than."""
        if self.slides:
            self._slide()
        assert self.best is not None
        timed, row, score = self.best
        if self.objective is not Objective.ENERGY or self.max_cycles is not None:
            bound = min(bound, self.unsure)
        energy_pj, cycles = float(timed.energy_pj[row]), float(timed.times.total[row])
        return Answer(score, energy_pj, cycles, bound, partial(self._priced, timed, row))

    def _priced(self, timed: _Timed, row: int) -> MappingCost:
        space = self.space
        axes: list[int] = timed.orders[row].tolist()
        mapping = space.mapping(timed.chains[row], axes)
        stride = space.lattice.strides
        point = [0, *accumulate([stride[axis] for axis in axes])]
        ends = [moved_cuts(o, mapping.loops, cuts) for o, cuts in zip(space.nest.operands, mapping.cuts, strict=True)]
        return cost_at(space.tables, mapping, timed.times.row(row), point, ends)

    def _slide(self) -> None:
        """Price the best, and what the guess likes best, under several orders: what is fetched depends on them."""
        assert self.best is not None
        timed, row, _ = self.best
        guess = least_energy(self.space, self.regions, guess_pj(self.space, self.slides))
        self.best = None
        for chain in [timed.chains[row], *([guess.chain] if guess is not None else [])]:
            orders = self._kept(sliding_orders(self.space, chain))
            tried = _timed(self.space, np.repeat(chain[None], len(orders), axis=0), orders)
            energies = [self._priced(tried, i).energy_pj for i in range(len(orders))]
            self.offer(replace(tried, energy_pj=np.array(energies)))

    # --- least energy

    def energy(self, found: LeastEnergy) -> Answer:
        """Of the mappings of least energy the fastest."""
        if (self.few or self.space.couplings) and self.branch is not None:
            self.time(found.chain[None])
            return self.result(max(self._branched(self.branch, found), found.bound_pj))
        limit = found.energy_pj + abs(found.energy_pj) * TIE
        tied, complete = self._listed(np.array([limit]), TIES)
        self.time(np.concatenate([found.chain[None], tied]), exhaust=self.few)
        if self.few and not complete:
            self._all_ties(limit)
        if self.slides or not self.space.couplings:
            return self.result(found.bound_pj)
        # longer stays can cost more where sums start from zero elsewhere: only chains that stay as they are count
        ideal = Floors(np.array([float(self.space.tables.total_cycles)]), np.zeros((1, *self.space.energy_pj.shape)))
        return self.result(self._settle(ideal, found))

    def _all_ties(self, limit: float) -> None:
        """Time all chains of at most this energy that could be as fast as the best."""
        assert self.best is not None
        timed, row, _ = self.best
        floors = self._floors()
        cycles = float(timed.times.total[row]) * (1 + TIE)
        tied, _ = self._listed(np.array([limit, *[cycles] * len(floors.base)]), LISTED[-1], floors)
        self.time(tied[: LISTED[1]], exhaust=True)

    # --- other objectives

    def search(self, least: LeastEnergy) -> Answer | None:
        """The best by time, or by time and energy; None where none is fast enough."""
        if self.branch is not None:
            return self._fastest(self.branch, least)
        floors = self._floors()
        self.time(np.concatenate([least.chain[None], self._mixtures(floors, least.energy_pj)]))
        bound = self._settle(floors, least)
        if self.objective is Objective.LATENCY and self.best is not None:
            self._thrifty(floors, least)
        return self.result(bound) if self.best is not None else None

    def _fastest(self, branch: BranchProblem, least: LeastEnergy) -> Answer | None:
        """The same where the exact model's time can be bounded cut by cut."""
        self.time(least.chain[None])
        if self.best is None:
            fast = self._other(Objective.LATENCY, None)
            fast.time(least.chain[None])
            bound = fast._branched(branch, least)
            if bound > (self.max_cycles or 0) + 1e-6:
                return None
            assert fast.best is not None
            self.offer(fast.best[0])
        bound = self._branched(branch, least)
        return self.result(bound) if self.best is not None else None

    def _branched(self, branch: BranchProblem, least: LeastEnergy) -> float:
        """Improve the best by branch and bound; returns what no mapping is better than.

        Where little work does not prove it, chains to start from are worth their time.
        """
        limit = np.inf if self.max_cycles is None else self.max_cycles + 1e-6
        bound = 0.0
        most = MOST_WORK if int(self.space.lattice.degree[-1]) <= FEW_LOOPS else WORK
        for work in (START_WORK, most):
            score, energy, cycles = np.inf, np.inf, np.inf
            if self.best is not None:
                timed, row, score = self.best
                energy, cycles = float(timed.energy_pj[row]), float(timed.times.total[row])
            score, energy, cycles = min(self.known, (score, energy, cycles))
            goal = Goal(self.objective, limit, least.bound_pj, score, energy, cycles)
            found = branch.search(goal, work)
            self.time(self._valid(found.chains))
            bound = max(bound, found.bound)
            if found.work <= work:
                break
            if self.objective is Objective.ENERGY and self.max_cycles is None:
                continue  # it has the least energy; ties are all that is left
            if work == START_WORK:
                self.time(self._mixtures(self._floors(), least.energy_pj))
            self._improve()
        return bound

    def _floors(self) -> Floors:
        return time_floors(self.space, np.logical_or.reduce([r.allowed for r in self.regions]))

    def _settle(self, floors: Floors, least: LeastEnergy) -> float:
        """Improve the best as long as that helps; returns what no mapping is better than."""
        if self.max_cycles is not None and self.best is None:
            fast = self._other(Objective.LATENCY, None)
            fast.time(self._mixtures(floors, least.energy_pj))
            bound = fast._settle(floors, least)
            assert fast.best is not None
            if min(bound, fast.best[2]) > self.max_cycles + 1e-6:
                return np.inf
            self.offer(fast.best[0])
        self._improve()
        bound = self._bound(floors, least)
        for most in LISTED if self.few else LISTED[:-1]:
            if self.best is not None and self.best[2] <= min(bound, self.unsure) * (1 + TIE):
                break
            bound = max(bound, self._enumerate(floors, bound, most))
        return bound

    def _other(self, objective: Objective, max_cycles: float | None) -> MappingSearch:
        return MappingSearch(self.space, self.regions, objective, max_cycles, self.rules, few=self.few)

    def _thrifty(self, floors: Floors, least: LeastEnergy) -> None:
        """Of the fastest mappings that of least energy."""
        assert self.best is not None
        timed, row, _ = self.best
        other = self._other(Objective.ENERGY, float(timed.times.total[row]))
        other.offer(timed)
        other._improve()
        for most in LISTED if self.few else LISTED[:1]:
            other._enumerate(floors, least.bound_pj, most)
        assert other.best is not None
        self.offer(other.best[0])

    def _mixtures(self, floors: Floors, least_pj: float) -> Ints:
        """Chains to start from: the best for random weights of what counts."""
        found: list[Ints] = []
        measures = np.concatenate([floors.rows, self.space.energy_pj[None] * floors.base.max() / least_pj])
        for region in self.regions:
            for rows in floors.rows:
                value, chain = self.space.chains.least(np.where(region.allowed, rows, np.inf))
                if np.isfinite(value):
                    found.append(chain)
            for weights in np.random.default_rng(0).exponential(1.0, (MIXTURES, *measures.shape[:2])):
                mixed = np.einsum("fkp,fk->kp", measures, weights)
                value, chain = self.space.chains.least(np.where(region.allowed, mixed, np.inf))
                if np.isfinite(value):
                    found.append(chain)
        return self._valid(np.array(found, dtype=np.int64).reshape(len(found), len(self.space.cuts)))

    def _bound(self, floors: Floors, least: LeastEnergy) -> float:
        """What no mapping's score is below."""
        cycles = max(float(self.space.tables.total_cycles), self._dual(floors, 0.0, 1.0))
        if self.objective is Objective.LATENCY:
            return cycles
        if self.best is None:
            return least.bound_pj if self.objective is Objective.ENERGY else least.bound_pj * cycles
        timed, row, _ = self.best
        energy_pj, time = float(timed.energy_pj[row]), float(timed.times.total[row])
        if self.objective is Objective.EDP:  # a product is at least half the sum, squared
            half = self._dual(floors, 1 / energy_pj, 1 / time) / 2
            return max(least.bound_pj * cycles, half * half * energy_pj * time)
        bound = least.bound_pj
        for price in (0.1, 0.5, 2.0, 10.0) if self.max_cycles is not None else ():
            price *= energy_pj / time
            bound = max(bound, self._dual(floors, 1.0, price) - price * (self.max_cycles or 0))
        return bound

    def _dual(self, floors: Floors, energy: float, cycles: float) -> float:
        return dual_bound(self.space, self.regions, floors, (self.floor_pj, energy), cycles)

    def _valid(self, chains: Ints) -> Ints:
        """Of these chains those that fit, each once."""
        if len(chains) > 1:
            chains = np.unique(chains, axis=0)
        elif not len(chains):
            return chains
        good = np.zeros(len(chains), dtype=bool)
        for region in self.regions:
            good |= self._inside(region, chains)
        return chains[good]

    def _improve(self) -> None:
        """Move cuts of the best chain as long as that helps."""
        for _ in range(ROUNDS):
            if self.best is None:
                return
            timed, row, score = self.best
            self.time(self._valid(self.space.neighbours(timed.chains[row])))
            if self.best[2] >= score * (1 - TIE):
                return

    def _inside(self, region: Region, chains: Ints) -> Bools:
        allowed = np.ones(len(chains), dtype=bool)
        for k in range(len(self.space.cuts)):
            allowed &= region.allowed[k][chains[:, k]]
        return allowed & self.space.fits(region, chains)

    def _enumerate(self, floors: Floors, low: float, most: int) -> float:
        """Time chains in the order of their floors, ``most`` at once; returns what no other mapping is better than."""
        limit = self.best[2] if self.best is not None else np.inf
        above = limit  # too many chains lie below it
        listed: Ints | None = None
        for _ in range(STEPS):
            chains, complete = self._within(floors, limit, most)
            if complete:
                listed, low = chains, limit
                if limit == above:
                    break
                limit = (limit + above) / 2
            else:
                above = limit
                limit = low + (limit - low) / 4 if limit < 16 * low else 4 * low
        if listed is None:
            return low
        self.time(listed, exhaust=True)
        self._improve()
        return low

    def _within(self, floors: Floors, limit: float, most: int) -> tuple[Ints, bool]:
        """All chains that may score at most ``limit``."""
        energy = np.inf if self.objective is not Objective.ENERGY else limit * (1 + TIE)
        cycles = limit * (1 + TIE) if self.objective is Objective.LATENCY else np.inf
        if self.max_cycles is not None:
            cycles = min(cycles, float(self.max_cycles) + 1e-6)
        product = limit * (1 + TIE) if self.objective is Objective.EDP else np.inf
        return self._listed(np.array([energy, *[cycles] * len(floors.base)]), most, floors, product)

    def _listed(
        self, limits: Floats, most: int, floors: Floors | None = None, product: float = np.inf
    ) -> tuple[Ints, bool]:
        """Chains that fit and stay within limits of energy and of each floor, ``most`` per region; and whether all."""
        base = np.array([self.space.tables.fixed_pj, *(floors.base if floors is not None else ())])
        found: list[Ints] = []
        complete = True
        for region in self.regions:
            layers = self.space.relaxed(self.floor_pj, region)[None]
            if floors is not None:
                layers = np.concatenate([layers, np.where(region.allowed, floors.rows, np.inf)])
            chains, all_of_them = self.space.chains.within(layers, base, limits, most, product)
            complete &= all_of_them
            found.append(chains[self.space.fits(region, chains)])
        return np.concatenate(found), complete


def _earlier(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether one (energy, time) comes before the other, within rounding."""
    for a, b in zip(one, other, strict=True):
        if a < b * (1 - TIE):
            return True
        if a > b * (1 + TIE):
            return False
    return False
