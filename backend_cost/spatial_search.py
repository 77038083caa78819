"""The spatial unrolling of a layer's tile: as the chip prefers, or searched with the temporal optimum inside.

Layouts are compared by their outlook: the least energy, or what a few good chains score. Few layouts are listed to the
end. Among many the search goes from the chip's preference, and from what a quick estimate leads to, to better layouts
by changing what lies on one array dimension, until no such change helps. In the end those of the best outlook are
mapped. That proves nothing, but the preference is one of them: what is found is never worse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Protocol

import numpy as np

from dfc.backend_cost.cost_model import CostModel
from dfc.backend_cost.evaluate import effective_cuts, energy_pj
from dfc.backend_cost.mapping_cost import MappingCost, Objective, TooSmall, mapping_times
from dfc.backend_cost.mapping_energy import TIE, least_energy
from dfc.backend_cost.mapping_rules import LayerRules
from dfc.backend_cost.mapping_search import padded_steps
from dfc.backend_cost.mapping_space import Order, mapping_space
from dfc.backend_cost.mapping_time import time_floors
from dfc.backend_cost.nest import Nest
from dfc.backend_cost.spatial_space import Key, Layout, SpatialSpace
from dfc.hwdsl.arch import Arch

#: the objective, energy in pJ, cycles
Score = tuple[float, float, float]
#: of a layout, an array dimension and the layout's score: a better layout that differs there, with its score
Change = Callable[[Layout, int, Score], tuple[Score, Layout] | None]


class Spatial(StrEnum):
    """Who decides the spatial unrolling."""

    PREFER = "prefer"  # the chip's page
    SEARCH = "search"


@dataclass(frozen=True, slots=True)
class Effort:
    """How far to look for a nest's unrolling.

    looks:    layouts that are looked at by their ``outlook``.
    patience: layouts in a row, the most promising first, that one array dimension may disappoint with.
    mapped:   layouts that are mapped in the end.
    few:      layouts that are listed rather than searched.
    """

    looks: int = 400
    patience: int = 8
    mapped: int = 3
    few: int = 48


class Mapper(Protocol):
    """The best temporal mapping of nests on one chip, with one aim; ``MappingCache`` is one."""

    arch: Arch
    objective: Objective
    model: CostModel

    def best(self, nest: Nest, rules: LayerRules | None = None) -> MappingCost | TooSmall:
        """The best mapping that keeps to the rules, or what is too small for any."""
        ...


@dataclass(frozen=True, slots=True)
class Unrolling:
    """A nest with its unrolling, and its best temporal mapping."""

    nest: Nest
    cost: MappingCost


class SpatialSearch:
    """Better unrollings of nests that have the chip's; an identical nest is searched once."""

    def __init__(self, mapper: Mapper, effort: Effort | None = None):
        self.mapper = mapper
        self.effort = effort or Effort()
        self._known: dict[tuple[Nest, LayerRules | None], Unrolling] = {}

    def best(self, preferred: Unrolling, rules: LayerRules | None = None) -> Unrolling:
        """The best unrolling that was found for a nest: the given one, or one with a better mapping.

        ``rules`` are for the temporal mapping.
        """
        key = (preferred.nest, rules)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = _Search(self.mapper, preferred, rules, self.effort).run()
        return found


class _Search:
    """The search for one nest."""

    def __init__(self, mapper: Mapper, preferred: Unrolling, rules: LayerRules | None, effort: Effort):
        self.mapper = mapper
        self.rules = rules
        self.effort = effort
        self.space = SpatialSpace(preferred.nest, mapper.arch)
        self.best = preferred
        self._promises: dict[Nest, Score] = {}
        self._outlooks: dict[Key, tuple[Score, Nest]] = {}

    def run(self) -> Unrolling:
        """List or descend, then map the most hopeful."""
        listed = self.space.listed(self.effort.few)
        if listed is None:
            idle: Layout = ((),) * len(self.space.preferred)
            promising = self._descend(idle, self._promise(self.space.laid_out(idle)), self._promised)
            for layout in (promising, self.space.preferred):
                self._descend(layout, self._look(self.space.laid_out(layout)), self._change)
        for nest in listed or ():
            self._look(nest)
        preferred = self.space.key(self.best.nest.unrolled)
        ranked = sorted((score, key, nest) for key, (score, nest) in self._outlooks.items() if key != preferred)
        for score, _, nest in ranked[: self.effort.mapped]:
            worse = _compared(score, self._score_of(self.best)) > 0
            if score[0] == inf or (worse and self.mapper.objective is Objective.ENERGY):
                break
            cost = self.mapper.best(nest, self.rules)
            if isinstance(cost, MappingCost):
                self._offer(Unrolling(nest, cost))
        return self.best

    def _descend(self, layout: Layout, here: Score, change: Change) -> Layout:
        """Change one array dimension after the other for as long as that is better."""
        unchanged = at = 0
        while unchanged < len(layout):
            better = change(layout, at, here)
            if better is not None:
                here, layout = better
            unchanged = 0 if better is not None else unchanged + 1
            at = (at + 1) % len(layout)
        return layout

    def _change(self, layout: Layout, at: int, here: Score) -> tuple[Score, Layout] | None:
        """The change of one array dimension with the best outlook; None if none is better."""
        found: tuple[Score, Layout] | None = None
        disappointed = 0
        for nest, changed in self._neighbours(layout, at):
            if self.mapper.objective is Objective.LATENCY and nest.cycles > here[0] * (1 + TIE):
                continue
            if disappointed >= self.effort.patience:
                break
            score = self._look(nest)
            disappointed += 1
            if _compared(score, here) < 0:
                here = score
                found = score, changed
                disappointed = 0
        return found

    def _neighbours(self, layout: Layout, at: int) -> list[tuple[Nest, Layout]]:
        """Layouts that differ on one array dimension, the most promising first."""
        layouts = [(*layout[:at], loops, *layout[at + 1 :]) for loops in self.space.choices(layout, at)]
        found = {self.space.laid_out(changed): changed for changed in layouts}
        fitting = [item for item in found.items() if self._promise(item[0])[0] < inf]
        return sorted(fitting, key=lambda item: (self._promise(item[0]), item[1]))

    def _promised(self, layout: Layout, at: int, here: Score) -> tuple[Score, Layout] | None:
        """The same if the estimate alone counts."""
        for nest, changed in self._neighbours(layout, at)[:1]:
            if self._promise(nest) < here:
                return self._promise(nest), changed
        return None

    def _promise(self, nest: Nest) -> Score:
        """About what its best mapping scores; little energy is little traffic, and so few stalls."""
        found = self._promises.get(nest)
        if found is None:
            aim = Objective.ENERGY if self.mapper.objective is Objective.ENERGY else Objective.EDP
            found = self._promises[nest] = score_of(aim, self.space.estimate_pj(nest), nest.cycles)
        return found

    def _look(self, nest: Nest) -> Score:
        """The nest's outlook; infinite where enough were looked at."""
        key = self.space.key(nest.unrolled)
        if key not in self._outlooks:
            if len(self._outlooks) >= self.effort.looks:
                return inf, inf, inf
            self._outlooks[key] = outlook(nest, self.mapper, self.rules), nest
        return self._outlooks[key][0]

    def _score_of(self, one: Unrolling) -> Score:
        return score_of(self.mapper.objective, one.cost.energy_pj, one.cost.latency_cycles)

    def _offer(self, one: Unrolling) -> None:
        """Keep what is better by the objective, energy and time; or else closer to the preference; or else first."""
        sign = _compared(self._score_of(one), self._score_of(self.best))
        if sign < 0 or (sign == 0 and self._rank(one) < self._rank(self.best)):
            self.best = one

    def _rank(self, one: Unrolling) -> tuple[int, tuple[tuple[str, int, int], ...]]:
        mine = {(u.array_dim, u.loop, u.lanes) for u in one.nest.unrolled}
        preferred = {(u.array_dim, u.loop, u.lanes) for u in self.space.nest.unrolled}
        changed = {name for name, _, _ in mine ^ preferred}
        return len(changed), tuple((u.array_dim, int(u.loop), u.lanes) for u in one.nest.unrolled)


def outlook(nest: Nest, mapper: Mapper, rules: LayerRules | None) -> Score:
    """About the score of a nest's best mapping; infinite where none fits.

    For energy it is the energy of the best, or what no mapping is below where the order of loops decides, and cycles
    without stalls. Otherwise it is the score of the best of a few chains: those least in energy or in a floor of time.
    """
    padded = (nest.with_steps(steps) for steps in padded_steps(nest, mapper.model))
    return min(_outlook(one, mapper, rules) for one in (nest, *padded))


def _outlook(nest: Nest, mapper: Mapper, rules: LayerRules | None) -> Score:
    nothing = inf, inf, inf
    space = mapping_space(nest, mapper.arch, mapper.model)
    if rules is not None and not rules.orderable(space.lattice):
        return nothing
    regions = space.regions(None if rules is None else rules.allowed(space))
    least = None if isinstance(regions, TooSmall) else least_energy(space, regions)
    if least is None or isinstance(regions, TooSmall):
        return nothing
    if mapper.objective is Objective.ENERGY:
        return score_of(mapper.objective, least.bound_pj, nest.cycles)
    chains = [least.chain]
    floors = time_floors(space, np.logical_or.reduce([r.allowed for r in regions]))
    for region in regions:
        tried = (space.chains.least(np.where(region.allowed, row, np.inf)) for row in floors.rows)
        fast = np.array([chain for value, chain in tried if value < inf], dtype=np.int64)
        fast = fast.reshape(len(fast), len(space.cuts))
        chains += list(fast[space.fits(region, fast)])
    each = np.array(chains)
    batch = space.batch(each, space.orders(each, Order.MOVE))
    cuts = effective_cuts(space.tables, batch)
    energies = energy_pj(space.tables, batch, cuts)
    cycles = mapping_times(space.tables, batch, cuts).total
    return min(score_of(mapper.objective, float(e), float(t)) for e, t in zip(energies, cycles, strict=True))


def score_of(objective: Objective, energy_pj: float, cycles: float) -> Score:
    """What the objective compares, and what decides ties."""
    return objective.of(energy_pj, cycles), energy_pj, cycles


def _compared(one: Score, other: Score) -> int:
    """-1 where one is less than the other, number by number, 1 where it is more, 0 within rounding."""
    for a, b in zip(one, other, strict=True):
        if a < b * (1 - TIE):
            return -1
        if a > b * (1 + TIE):
            return 1
    return 0
