"""The best mapping of a nest, proved: for energy, time, their product, or energy within a limit of time.

Everything goes through :func:`search_mapping`. docs/mapping-search.md explains why it finds the best.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dfc.backend_cost.cost_model import EXACT, CostModel
from dfc.backend_cost.evaluate import Batch, effective_cuts, energy_pj
from dfc.backend_cost.lattice import prime_factors
from dfc.backend_cost.mapping_cost import MappingCost, MappingTimes, Objective, TooSmall, cost_of, mapping_times
from dfc.backend_cost.mapping_energy import TIE, LeastEnergy, least_energy
from dfc.backend_cost.mapping_rules import LayerRules
from dfc.backend_cost.mapping_slide import floor_pj, guess_pj, sliding_cuts, sliding_orders
from dfc.backend_cost.mapping_space import MappingSpace, Order, Region, mapping_space
from dfc.backend_cost.mapping_time import Floors, time_floors
from dfc.backend_cost.nest import Nest
from dfc.backend_cost.tables import Bools, Floats, Ints
from dfc.errors import InfeasibleError
from dfc.hwdsl.arch import Arch
from dfc.ir import Sizes

#: chains of equal energy of which the fastest is taken
TIES = 64
#: chains that are listed at once; those of them that no other chain stands for are timed if they are no more than this
LISTED = (400, 6_000, 200_000)
TIMED = (300, 3_000, 60_000)
#: chains to start from: best for random weights of what counts
MIXTURES = 32
#: steps of the dual bound
DUAL_STEPS = 12
#: rounds of moving cuts; steps from the best mapping's score down to one that few chains can reach
ROUNDS = 8
STEPS = 4
#: orders of the loops between the cuts that are timed where they matter
ORDERS = 4000
#: a loop with a prime factor above SMOOTH may have up to one idle step in PADDING, to be a product of smaller ones
SMOOTH = 7
PADDING = 8
#: nests of at most so many prime factors are listed to the end, ties and orders of the loops too
FEW_LOOPS = 7


@dataclass(frozen=True, eq=False)
class _Timed:
    """Mappings with energy and time, row by row."""

    chains: Ints
    orders: Ints
    batch: Batch
    energy_pj: Floats
    times: MappingTimes

    def score(self, objective: Objective, max_cycles: float | None) -> Floats:
        """What the objective compares; infinite where the limit of time is passed."""
        total = self.times.total
        score = {Objective.ENERGY: self.energy_pj, Objective.LATENCY: total, Objective.EDP: total * self.energy_pj}[
            objective
        ]
        return score if max_cycles is None else np.where(total <= max_cycles + 1e-6, score, np.inf)

    def best(self, objective: Objective, max_cycles: float | None) -> tuple[int, float]:
        """The row with the least score; ties by energy, then time, then the first."""
        score = self.score(objective, max_cycles)
        rows = np.flatnonzero(score <= score.min() * (1 + TIE))
        for key in (self.energy_pj, self.times.total):
            rows = rows[key[rows] <= key[rows].min() * (1 + TIE)]
        return int(rows[0]), float(score[rows[0]])


def _timed(space: MappingSpace, chains: Ints, orders: Ints, *, hopeful: bool = False) -> _Timed:
    """Energy and time of chains; ``hopeful``: as fast as under any order that leaves the cuts where they are."""
    batch = space.batch(chains, orders)
    cuts = batch.cuts if hopeful else effective_cuts(space.tables, batch)
    known = space.times if "times" in space.__dict__ else None  # worth it where more than a few chains are timed
    times = mapping_times(space.tables, batch, cuts, hopeful=hopeful, times=known)
    energy = energy_pj(space.tables, batch, cuts) if space.couplings else space.chain_energy_pj(chains)
    return _Timed(chains, orders, batch, energy, times)


class _Search:
    """One problem: its space, its regions, and the best mapping so far."""

    def __init__(
        self,
        space: MappingSpace,
        regions: list[Region],
        objective: Objective,
        max_cycles: float | None,
        rules: LayerRules | None,
    ):
        self.space = space
        self.rules = rules
        self.regions = regions
        self.objective = objective
        self.max_cycles = max_cycles
        self.best: tuple[_Timed, int, float] | None = None
        self.slides = sliding_cuts(space)
        self.floor_pj = floor_pj(space, self.slides)
        self.few = int(space.lattice.degree[-1]) <= FEW_LOOPS
        self.seen: set[bytes] = set()
        self.unsure = np.inf  # what some order of some chain might reach that was not timed

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
        closed = self.space.closed(chains)
        kinds = (Order.MOVE,) if played else (Order.MOVE, Order.MOVE_IDLE_LAST, Order.IDLE_LAST)
        parts = [(chains[closed], kind) for kind in kinds]
        if not closed.all():
            parts.append((chains[~closed], Order.STAY))
        for some, kind in parts:
            if len(some):
                self.offer(_timed(self.space, some, self._kept(self.space.orders(some, kind))))
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

    def result(self, bound: float) -> MappingCost:
        """The best mapping, and how far below it a better one may lie."""
        assert self.best is not None
        timed, row, score = self.best
        cost = self._priced(timed, row)
        if self.slides:
            cost = self._slid(timed, row, cost)
            total = cost.latency_cycles
            score = {Objective.ENERGY: cost.energy_pj, Objective.LATENCY: score, Objective.EDP: total * cost.energy_pj}[
                self.objective
            ]
        if self.objective is not Objective.ENERGY or self.max_cycles is not None:
            bound = min(bound, self.unsure)
        return replace(cost, gap=0.0 if score <= bound * (1 + TIE) else 1 - bound / score)

    def _priced(self, timed: _Timed, row: int) -> MappingCost:
        batch = timed.batch.take(np.array([row]))
        mapping = self.space.mapping(batch, timed.orders[row], 0)
        return cost_of(self.space.tables, batch, mapping, timed.times.row(row))

    def _slid(self, timed: _Timed, row: int, cost: MappingCost) -> MappingCost:
        """The best order of the loops where what is fetched depends on it."""
        if self.objective is Objective.LATENCY:
            return cost
        chains = [timed.chains[row]]
        if self.objective is Objective.ENERGY and self.max_cycles is None:
            guess = least_energy(self.space, self.regions, guess_pj(self.space, self.slides))
            chains += [guess.chain] if guess is not None else []
        for chain in chains:
            orders = self._kept(sliding_orders(self.space, chain))
            tried = _timed(self.space, np.repeat(chain[None], len(orders), axis=0), orders)
            for i in np.flatnonzero(tried.times.total <= (self.max_cycles or np.inf) + 1e-6).tolist():
                other = self._priced(tried, i)
                better = other.energy_pj < cost.energy_pj
                if self.objective is Objective.EDP:
                    better = other.energy_pj * other.latency_cycles < cost.energy_pj * cost.latency_cycles
                cost = other if better else cost
        return cost

    # --- least energy

    def energy(self, found: LeastEnergy) -> MappingCost:
        """Of the mappings of least energy the fastest."""
        limit = found.energy_pj + abs(found.energy_pj) * TIE
        parts, more = [found.chain[None]], False
        for region in self.regions:
            cost = np.where(region.allowed, self._energy_floor(region), np.inf)[None]
            base, limits = np.array([self.space.tables.fixed_pj]), np.array([limit])
            tied, complete = self.space.chains.within(cost, base, limits, TIES)
            parts.append(tied[self.space.fits(region, tied)])
            more |= not complete
        self.time(np.concatenate(parts), exhaust=self.few)
        if self.few and more:
            self._all_ties(limit)
        if self.slides:
            least = least_energy(self.space, self.regions, self.floor_pj)
            assert least is not None
            return self.result(least.bound_pj)
        if not self.space.couplings:
            return self.result(found.bound_pj)
        # longer stays can cost more where sums start from zero elsewhere: only chains that stay as they are count
        none = Floors(np.array([float(self.space.tables.total_cycles)]), np.zeros((1, *self.space.energy_pj.shape)))
        return self.result(self._settle(none, found))

    def _all_ties(self, limit: float) -> None:
        """Time all chains of at most this energy that could be as fast as the best."""
        assert self.best is not None
        timed, row, _ = self.best
        floors = time_floors(self.space, np.logical_or.reduce([r.allowed for r in self.regions]))
        cycles = float(timed.times.total[row]) * (1 + TIE)
        limits = np.array([limit, *[cycles] * len(floors.base)])
        base = np.concatenate([[self.space.tables.fixed_pj], floors.base])
        for region in self.regions:
            layers = np.concatenate([self._energy_floor(region)[None], floors.rows])
            cost = np.where(region.allowed, layers, np.inf)
            tied, _ = self.space.chains.within(cost, base, limits, LISTED[-1])
            tied = tied[self.space.fits(region, tied)]
            self.time(tied[self.space.closed(tied)][: TIMED[1]], exhaust=True)

    # --- other objectives

    def search(self, least: LeastEnergy) -> MappingCost | None:
        """The best by time, or by time and energy; None where none is fast enough."""
        floors = time_floors(self.space, np.logical_or.reduce([r.allowed for r in self.regions]))
        if self.slides:
            lowest = least_energy(self.space, self.regions, self.floor_pj)
            least = replace(least, bound_pj=lowest.bound_pj if lowest is not None else 0.0)
        self.time(np.concatenate([least.chain[None], self._mixtures(floors, least.energy_pj)]))
        bound = self._settle(floors, least)
        if self.objective is Objective.LATENCY and self.best is not None:
            self._thrifty(floors, least)
        return self.result(bound) if self.best is not None else None

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
        for stage in range(len(LISTED) if self.few else len(LISTED) - 1):
            if self.best is not None and self.best[2] <= min(bound, self.unsure) * (1 + TIE):
                break
            bound = max(bound, self._enumerate(floors, bound, stage))
        return bound

    def _other(self, objective: Objective, max_cycles: float | None) -> _Search:
        return _Search(self.space, self.regions, objective, max_cycles, self.rules)

    def _thrifty(self, floors: Floors, least: LeastEnergy) -> None:
        """Of the fastest mappings that of least energy."""
        assert self.best is not None
        timed, row, _ = self.best
        other = self._other(Objective.ENERGY, float(timed.times.total[row]))
        other.offer(timed)
        other._improve()
        stages = len(LISTED) if self.few else 1
        for stage in range(stages):
            other._enumerate(floors, least.bound_pj, stage)
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

    def _dual(self, floors: Floors, energy: float, time: float) -> float:
        """A bound on ``energy`` times a mapping's energy plus ``time`` times its cycles.

        Cycles are at least any mean of the floors; the mean is moved towards those that its least chain finds highest.
        """
        lowest = np.inf
        for region in self.regions:
            base = floors.base * time + self.space.tables.fixed_pj * energy
            rows = floors.rows * time + self._energy_floor(region) * energy
            allowed = np.where(region.allowed, 0.0, np.inf)
            weights = np.full(len(base), 1 / len(base))
            alone = (b + self.space.chains.least(r + allowed)[0] for b, r in zip(base, rows, strict=True))
            best = max(float(value) for value in alone)
            for _ in range(DUAL_STEPS):
                value, chain = self.space.chains.least(np.einsum("f,fkp->kp", weights, rows) + allowed)
                best = max(best, float(weights @ base) + value)
                each = base + rows[:, np.arange(len(chain)), chain].sum(axis=1)
                weights = weights * np.exp(2 * each / max(each.max(), 1e-300))
                weights /= weights.sum()
            lowest = min(lowest, best)
        return lowest

    def _valid(self, chains: Ints) -> Ints:
        """Of these chains those that fit, each once."""
        chains = np.unique(chains, axis=0)
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

    def _enumerate(self, floors: Floors, low: float, stage: int) -> float:
        """Time chains in the order of their floors; returns what no other mapping is better than."""
        limit = self.best[2] if self.best is not None else np.inf
        for _ in range(STEPS):
            chains, complete = self._within(floors, limit, LISTED[stage])
            if complete:
                chains = chains[self.space.closed(chains)]  # others are the same mappings as chains with later cuts
                complete = len(chains) <= TIMED[stage]
            if complete:
                self.time(chains, exhaust=True)
                self._improve()
                return limit
            limit = low + (limit - low) / 4 if limit < 16 * low else 4 * low
        return low

    def _within(self, floors: Floors, limit: float, most: int) -> tuple[Ints, bool]:
        """All chains that may score at most ``limit``."""
        energy = np.inf if self.objective is not Objective.ENERGY else limit * (1 + TIE)
        cycles = limit * (1 + TIE) if self.objective is Objective.LATENCY else np.inf
        if self.max_cycles is not None:
            cycles = min(cycles, float(self.max_cycles) + 1e-6)
        product = limit * (1 + TIE) if self.objective is Objective.EDP else np.inf
        base = np.concatenate([[self.space.tables.fixed_pj], floors.base])
        limits = np.array([energy, *[cycles] * len(floors.base)])
        found: list[Ints] = []
        complete = True
        for region in self.regions:
            layers = np.concatenate([self._energy_floor(region)[None], floors.rows])
            cost = np.where(region.allowed, layers, np.inf)
            chains, all_of_them = self.space.chains.within(cost, base, limits, most, product)
            complete &= all_of_them
            found.append(chains[self.space.fits(region, chains)])
        return np.concatenate(found), complete

    def _energy_floor(self, region: Region) -> Floats:
        cost = self.floor_pj
        if self.space.couplings:
            cost = cost.copy()
            for c in self.space.couplings:
                cost[max(c.inner, 0)] -= c.saving_pj * float(c.factor[region.allowed[c.outer]].max(initial=0.0))
        return cost


def _earlier(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether one (energy, time) comes before the other, within rounding."""
    for a, b in zip(one, other, strict=True):
        if a < b * (1 - TIE):
            return True
        if a > b * (1 + TIE):
            return False
    return False


def search_mapping(
    nest: Nest,
    arch: Arch,
    objective: Objective = Objective.ENERGY,
    model: CostModel = EXACT,
    *,
    max_cycles: int | None = None,
    rules: LayerRules | None = None,
) -> MappingCost | TooSmall:
    """The best temporal mapping of a nest, or which memory is too small for any.

    Loops with a large prime factor are also tried with a few idle steps (:func:`padded_steps`); the mapping's loops
    say so.
    ``max_cycles`` keeps mappings that take longer out, ``rules`` those that break a user's rules; where the rules leave
    nothing, the answer is :class:`TooSmall` of the output's uppermost memory and 0 bits.

    Raises:
        InfeasibleError: MAP030 where none takes at most ``max_cycles``.
    """
    problems: list[tuple[_Search, LeastEnergy]] = []
    failed: TooSmall | None = None
    for steps in [None, *padded_steps(nest, model)]:
        found = _problem(nest if steps is None else nest.with_steps(steps), arch, (objective, max_cycles), model, rules)
        if isinstance(found, TooSmall):
            failed = failed or found
        else:
            problems.append(found)
    if not problems:
        assert failed is not None
        return failed
    if objective is Objective.ENERGY and max_cycles is None:
        least_pj = min(least.energy_pj for _, least in problems)
        rivals = [p for p in problems if p[1].bound_pj <= least_pj * (1 + TIE)]
        best = _best_of([(search, search.energy(least)) for search, least in rivals], objective)
        assert best is not None
        return best
    best = _best_of([(search, search.search(least)) for search, least in problems], objective)
    if best is None:
        raise InfeasibleError(
            "MAP030",
            f"no mapping of the layer's tile takes at most {max_cycles:,} cycles",
            place=arch.name,
            hint=f"the array alone needs {nest.cycles:,} cycles; allow more, or widen the memories' ports",
        )
    return best


def _problem(
    nest: Nest, arch: Arch, goal: tuple[Objective, int | None], model: CostModel, rules: LayerRules | None
) -> tuple[_Search, LeastEnergy] | TooSmall:
    """The search for one nest and its mapping of least energy, or what leaves none."""
    space = mapping_space(nest, arch, model)
    nothing = TooSmall(nest.operands[0].memories[-1], 0)
    if rules is not None and not rules.orderable(space.lattice):
        return nothing
    regions = space.regions(None if rules is None else rules.allowed(space))
    if isinstance(regions, TooSmall):
        return regions
    least = least_energy(space, regions)
    return nothing if least is None else (_Search(space, regions, *goal, rules), least)


def _best_of(found: list[tuple[_Search, MappingCost | None]], objective: Objective) -> MappingCost | None:
    """The best of several nests' best mappings, and a gap that holds for all of them."""
    scored: list[tuple[float, float, float, MappingCost]] = []
    for search, cost in found:
        if cost is not None and search.best is not None:
            timed, row, _ = search.best
            cycles, energy = float(timed.times.total[row]), cost.energy_pj  # before rounding
            score = {Objective.ENERGY: energy, Objective.LATENCY: cycles, Objective.EDP: cycles * energy}[objective]
            scored.append((score, energy, cycles, cost))
    if not scored:
        return None
    score, *_, best = min(scored, key=lambda row: row[:3])
    bound = min(value * (1 - (cost.gap or 0.0)) for value, *_, cost in scored)
    return best if len(scored) == 1 else replace(best, gap=max(0.0, 1 - bound / score))


def padded_steps(nest: Nest, model: CostModel) -> list[Sizes]:
    """Loop sizes with a few idle steps that split better, where a loop has a large prime factor; each alone and all.

    Only a model that prices idle steps has them: the reference's does not.
    """
    if not model.whole_lanes or nest.steps is not None:
        return []
    smooth = {
        d: next((n for n in range(t + 1, t + t // PADDING + 1) if max(prime_factors(n)) <= SMOOTH), t)
        for d, t in enumerate(nest.temporal)
        if t > SMOOTH and max(prime_factors(t)) > SMOOTH
    }
    changes = [{d: n} for d, n in smooth.items() if n > nest.temporal[d]]
    if len(changes) > 1:
        changes.append({d: n for change in changes for d, n in change.items()})
    return [tuple(change.get(d, t) for d, t in enumerate(nest.temporal)) for change in changes]
