"""Which tile and overlap mode each stack gets: one mode over a grid of tiles, others from the best of these on.

In the end maps may differ in mode (``mixed.py``).

Most plans are only looked at: their largest class of tiles is mapped, the rest estimated. The best are priced.

Where the spatial unrolling is searched too, that is done for the best of these plans: it takes far longer than pricing
them as the chip prefers. Both are candidates in the end.

Stacks run one after the other and meet in DRAM, so energy and latency add up over them: the least of either is the
least of each stack, and the least product is found on the combined frontier of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from operator import itemgetter
from typing import TypeVar

from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.spatial_search import Spatial
from dfc.passes.stacks import Stack, stands_alone
from dfc.passes.tiles import DepthFirstPlan, Mixed, Modes, Order, Overlap, Tiler, modes_of
from dfc.scheduling.bounds import LayerBounds
from dfc.scheduling.engine import StackCost, StackPricer
from dfc.scheduling.levels import Infeasible
from dfc.scheduling.mixed import MixedModes
from dfc.scheduling.partition_types import Limit
from dfc.scheduling.placement import Held

T = TypeVar("T")
#: a tile, the axes along which overlap is kept, and the order of the tiles
_Key = tuple[tuple[int, int], tuple[bool, bool], Order]

#: plans per stack that the coarse grid aims at, times layers: long stacks get a coarser grid
_GRID_EFFORT = 300
#: plans per stack whose spatial unrolling is searched before the descent
_UNROLLED = 3
#: pricing a plan takes as long as so many looks
_PRICE = 3
#: an order of tiles whose best costs so many times the best of the mode is not refined
_ASIDE = 1.05
#: tiles, the best of other modes, from which each further mode begins
_SEEDS = 4
#: plans that are priced, the best by their estimates
_PRICED = 6
#: a mode whose best costs so many times the best of all is not refined
_BEHIND = 1.5
#: tiles that are priced where the same stack was searched with other maps on chip, the best of these
_FOLLOWED = 3
#: by how many times other modes may make a stack cheaper than the first one
_HOPE = 1.15
#: tiles of each mode that are also walked in other orders
_TURNED = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """A priced tile and mode of a stack, and who decided the spatial unrolling.

    shared_out: its weights stay where they cost least, not in the first memories that will do.
    """

    tile: tuple[int, int]
    overlap: Modes
    energy_pj: float
    latency_cycles: int
    spatial: Spatial = Spatial.PREFER
    order: Order = Order.ROWS
    shared_out: bool = False


Progress = Callable[[str], None]


def halvings(size: int) -> list[int]:
    """Tile sizes that cut a map of ``size`` into 1, 2, 4, ... nearly equal parts, largest first.

    At most 1,024 parts: tiles of a few positions of a very long map are never worth their walk.
    """
    found: list[int] = []
    parts = 1
    while True:
        tile = -(-size // parts)
        if not found or tile < found[-1]:
            found.append(tile)
        if tile == 1 or parts >= 1024:
            return found
        parts *= 2


class StackSearch:
    """Prices tiles and modes of one stack and remembers all."""

    def __init__(
        self,
        pricer: StackPricer,
        stack: Stack,
        progress: Progress | None = None,
        *,
        orders: Sequence[Order] = (Order.ROWS,),
        remainder_first: bool = True,
        held: Held | None = None,
        bounds: LayerBounds | None = None,
        pins: Mapping[str, Overlap] | None = None,
    ):
        """``held`` maps that cross the stack's border stay on chip; without ``bounds`` no plan is ruled out.

        ``pins`` are modes of single maps that the user has fixed, in all plans.
        """
        self.pricer = pricer
        self.stack = stack
        self.tiler = Tiler(pricer.graph, stack, remainder_first=remainder_first)
        self.progress = progress
        self.orders = orders
        self.held = held or {}
        self.bounds = bounds
        self.pins = pins or {}
        self.limit: Limit | None = None
        self.pruned = 0
        self.priced = 0
        #: layers of tile classes that were looked at; pricing one counts as much as a few looks
        self.effort = 0
        self.found: dict[tuple[tuple[int, int], Modes, Spatial, Order], Candidate | Infeasible] = {}
        #: candidates with their weights shared out, or as they are where that is no cheaper
        self.shared_out: dict[Candidate, Candidate] = {}
        self.looked: dict[_Key, Candidate | None] = {}
        #: of plans that were ruled out, what they cost at least
        self.outlooks: dict[_Key, Candidate] = {}
        #: how many times its outlook what was looked at costs at least, in energy and in cycles
        self.above: tuple[float, ...] = (inf, inf)

    @property
    def whole(self) -> tuple[int, int]:
        """The tile that is the whole map."""
        return self.tiler.extents

    def plan(self, tile: tuple[int, int], overlap: Modes, order: Order) -> DepthFirstPlan:
        """The plan for a tile size and mode; maps that the user has pinned have their own."""
        if self.pins:
            overlap = Mixed.made({**modes_of(overlap, self.tiler.maps), **self.pins})
        return self.tiler.plan(tile, overlap, order)

    def price(
        self,
        tile: tuple[int, int],
        overlap: Modes,
        spatial: Spatial = Spatial.PREFER,
        order: Order | None = None,
    ) -> Candidate | Infeasible:
        """The cost of a tile size and mode; a tile that spans an axis has no overlap along it.

        ``order`` is the first that is allowed unless given.
        """
        order = order or self.orders[0]
        tile = (min(tile[0], self.whole[0]), min(tile[1], self.whole[1]))
        key = (tile, overlap, spatial, order)
        if key not in self.found:
            plan = self.plan(tile, overlap, order)
            self.count(plan, _PRICE)
            cost = self.pricer.price(plan, spatial, self.held)
            self._keep(key, cost)
        return self.found[key]

    def count(self, plan: DepthFirstPlan, looks: int = 1) -> None:
        """Add a plan that is looked at to the effort."""
        self.effort += looks * len(plan.classes) * len(self.stack.layers)

    def _keep(self, key: tuple[tuple[int, int], Modes, Spatial, Order], cost: StackCost | Infeasible) -> None:
        tile, overlap, spatial, order = key
        self.priced += 1
        if isinstance(cost, StackCost):
            self.found[key] = Candidate(tile, overlap, cost.energy_pj, cost.latency_cycles, spatial, order)
        else:
            self.found[key] = cost
        self.tell(tile, overlap, order, "spatial" if spatial is Spatial.SEARCH else "")

    def adopt(self, twin: StackSearch) -> None:
        """Take over what was looked at and priced of a stack of the same structure."""
        self.looked = dict(twin.looked)
        for found in twin.found.values():
            if isinstance(found, Candidate):
                mine = self.renamed(found)
                self.found.setdefault((mine.tile, mine.overlap, mine.spatial, mine.order), mine)

    def renamed(self, candidate: Candidate) -> Candidate:
        """A candidate of a stack of the same structure, with the names of this one's maps."""
        if isinstance(candidate.overlap, Overlap):
            return candidate
        modes = (mode for _, mode in candidate.overlap.modes)
        return replace(candidate, overlap=Mixed(tuple(zip(self.tiler.maps, modes, strict=True))))

    def hopeless(self, plan: DepthFirstPlan) -> bool:
        """Whether a plan costs more than a known one, or than it may, by what its layers cost at least."""
        known = self.candidates()
        if self.bounds is None or plan.tile == self.whole:
            return False
        return self._useless(self.bounds.plan_bound(plan, self.held), known)

    def _useless(self, least: tuple[float, float], known: Sequence[Candidate]) -> bool:
        """Whether a plan of at least this energy and latency costs more than a known one, or than it may."""
        objective = self.pricer.cache.objective
        energy, cycles = least
        if self.limit is not None and not self.limit.allows(energy, cycles):
            return True
        if objective is Objective.EDP:
            return any(c.energy_pj <= energy and c.latency_cycles <= cycles for c in known)
        return any(score(c, objective) <= objective.of(energy, cycles) for c in known)

    def _look(self, tile: tuple[int, int], overlap: Overlap, order: Order | None = None) -> Candidate | None:
        """About the cost of a tile size and mode; None where it does not fit, or cannot be better."""
        key = self._key(tile, overlap, order)
        if tile == self.whole:  # it is priced, and modes do not matter
            priced = [c for c in self.candidates() if c.tile == tile]
            self.looked[key] = priced[0] if priced else None
        if key not in self.looked:
            plan = self.plan(tile, overlap, key[2])
            self.looked[key] = None
            if self.hopeless(plan):
                self.pruned += 1
                return None
            outlook = self._outlook(key, plan)
            if self._outlook_is_poor(outlook):
                self.pruned += 1
                return None
            self.count(plan)
            found = self.pricer.estimate(plan, self.held)
            self.outlooks.pop(key)
            if not isinstance(found, Infeasible):
                self.above = tuple(
                    min(known, cost / least) if least else 1.0
                    for known, cost, least in zip(
                        self.above, found, (outlook.energy_pj, outlook.latency_cycles), strict=True
                    )
                )
                self.looked[key] = Candidate(tile, overlap, found[0], round(found[1]), Spatial.PREFER, key[2])
            self.tell(tile, overlap, key[2], "about")
        return self.looked[key]

    def _outlook_is_poor(self, outlook: Candidate) -> bool:
        """Whether a plan is dearer than one that was looked at, or likely to be dearer than it may.

        Likely: if its cost exceeds its outlook by no less than others of this stack do.
        """
        if any(_beats(look, outlook, self.pricer.cache.objective) for look in self.looked.values() if look):
            return True
        energy, cycles = (inf, inf) if inf in self.above else self.above
        if self.limit is None or energy == inf:
            return False
        return not self.limit.allows(outlook.energy_pj * energy, outlook.latency_cycles * cycles)

    def _key(self, tile: tuple[int, int], overlap: Overlap, order: Order | None = None) -> _Key:
        """What tells a plan from others: the order only where it makes a difference."""
        kept = _kept(overlap, tile, self.whole)
        inside = tile[0] < self.whole[0] and tile[1] < self.whole[1]
        return tile, kept, order if order and inside and any(kept) else self.orders[0]

    def _outlook(self, key: _Key, plan: DepthFirstPlan) -> Candidate:
        """What a plan costs at least."""
        if key not in self.outlooks:
            energy, cycles = self.pricer.outlook(plan, self.held)
            self.outlooks[key] = Candidate(plan.tile, plan.overlap, energy, int(cycles), Spatial.PREFER, plan.order)
        return self.outlooks[key]

    def tell(self, tile: tuple[int, int], overlap: Modes, order: Order, how: str = "") -> None:
        """Report progress."""
        if self.progress:
            by = " by columns" if order is Order.COLUMNS else ""
            self.progress(f"{tile[0]}x{tile[1]} {overlap.value}{by}{', ' if how else ''}{how}")

    def _other_orders(self, tiles: Iterable[tuple[int, int]], overlap: Modes, spatial: Spatial) -> None:
        """The same tiles in the other orders, where the order matters: something is kept, and neither axis is whole."""
        for tile in tiles:
            if any(overlap.keeps) and tile[0] < self.whole[0] and tile[1] < self.whole[1]:
                for order in self.orders[1:]:
                    self.price(tile, overlap, spatial, order)

    def candidates(self) -> list[Candidate]:
        """All that fit, cheapest energy first."""
        shared_out = (c for c in self.shared_out.values() if c.shared_out)
        fit = [c for c in (*self.found.values(), *shared_out) if isinstance(c, Candidate)]
        return sorted(fit, key=lambda c: (c.energy_pj, c.latency_cycles, -c.tile[0] * c.tile[1]))

    def explore(
        self,
        overlaps: Sequence[Overlap],
        tile: tuple[int, int] | None,
        objective: Objective,
        limit: Limit | None = None,
        *,
        mixed: bool = False,
    ) -> None:
        """Price what the user left open: modes in ``overlaps``, and tiles unless one is given.

        With a ``limit`` that what it finds must keep, the grid of tiles is coarser. ``mixed``: maps may differ in mode.
        """
        self.limit = limit
        self._explore(overlaps, tile, objective, limit)
        if mixed and self.bounds is not None:
            MixedModes(self, objective).run()

    def _explore(
        self, overlaps: Sequence[Overlap], tile: tuple[int, int] | None, objective: Objective, limit: Limit | None
    ) -> None:
        if tile is not None:
            for overlap in overlaps:
                self.price(tile, overlap)
                self._other_orders([tile], overlap, Spatial.PREFER)
            return
        if limit is None:  # else it is one of many ways to cut, and the whole map one of many tiles
            self.price(self.whole, overlaps[0])
        else:
            self._settle((self.whole, overlaps[0], Spatial.PREFER, self.orders[0]))
        if all(stands_alone(self.pricer.graph.layers[i]) for i in self.stack.layers):
            return
        self._look_over_grid(overlaps[0], objective, coarse=limit is not None)
        self._look_around(overlaps[0], objective)
        if self._far_behind(objective):
            return
        for overlap in overlaps[1:]:  # from the best tiles of all modes until now, in this mode
            for tile in [*dict.fromkeys(c.tile for c in self._best_looks(objective))][:_SEEDS]:
                self._look(tile, overlap)
            self._look_around(overlap, objective)
        for look in self._best_looks(objective)[:_PRICED]:
            self._settle((look.tile, look.overlap, Spatial.PREFER, look.order))

    def _far_behind(self, objective: Objective) -> bool:
        """Whether the stack costs much more than it may, as far as was looked at."""
        if self.limit is None:
            return False
        best = self._best_looks(objective)[:1]
        return not any(self.limit.allows(c.energy_pj / _HOPE, c.latency_cycles / _HOPE) for c in best)

    def _settle(self, key: tuple[tuple[int, int], Modes, Spatial, Order]) -> None:
        """Price a plan, unless it turns out meanwhile that it is of no use."""
        tile, overlap, spatial, order = key
        if key in self.found:
            return
        plan = self.plan(tile, overlap, order)
        known = self.candidates()

        def hopeless(energy_pj: float, cycles: float) -> bool:
            return self._useless((energy_pj, cycles), known)

        self.count(plan, _PRICE)
        cost = self.pricer.price_unless(plan, spatial, self.held, hopeless)
        if cost is not None:
            self._keep(key, cost)

    def _look_over_grid(self, overlap: Overlap, objective: Objective, *, coarse: bool) -> None:
        """Look at tiles of a grid, those first that cost least at least."""
        xs, ys = (halvings(n) for n in self.whole)
        stride = self._grid_stride(len(xs) * len(ys), coarse=coarse)
        grid = [(x, y) for y in ys[::stride] for x in xs[::stride] if (x, y) != self.whole]
        outlooks = {
            tile: self._outlook(self._key(tile, overlap), self.plan(tile, overlap, self.orders[0])) for tile in grid
        }
        for tile in sorted(grid, key=lambda tile: score(outlooks[tile], objective)):
            self._look(tile, overlap)

    def follow(self, other: StackSearch, objective: Objective) -> None:
        """Price the best tiles of the same stack with other maps on chip, and the whole map: they differ little."""
        found = sorted(other.candidates(), key=lambda c: score(c, objective))
        self.price(self.whole, found[0].overlap)
        for candidate in found[:_FOLLOWED]:
            self.price(candidate.tile, candidate.overlap, candidate.spatial, candidate.order)

    def _best_looks(self, objective: Objective, overlap: Overlap | None = None) -> list[Candidate]:
        found = [c for c in self.looked.values() if c is not None and overlap in (None, c.overlap)]
        return sorted(found, key=lambda c: score(c, objective))

    def _ranked(self, objective: Objective, overlap: Overlap) -> list[Candidate]:
        """A mode's plans by what they cost about, or at least where they were ruled out."""
        if self.limit is not None:  # what was ruled out is of no use
            return self._best_looks(objective, overlap)
        ruled_out = [c for key, c in self.outlooks.items() if key in self.looked and c.overlap is overlap]
        return sorted([*self._best_looks(objective, overlap), *ruled_out], key=lambda c: score(c, objective))

    def _look_around(self, overlap: Overlap, objective: Objective) -> None:
        """From the mode's best tiles to neighbouring sizes, in each order, for as long as one is better."""
        for look in self._ranked(objective, overlap)[:_TURNED]:
            if any(overlap.keeps) and look.tile[0] < self.whole[0] and look.tile[1] < self.whole[1]:
                for order in self.orders[1:]:
                    self._look(look.tile, overlap, order)
        for order in dict.fromkeys(look.order for look in self._ranked(objective, overlap)):
            self._look_downhill(overlap, order, objective)

    def _look_downhill(self, overlap: Overlap, order: Order, objective: Objective) -> None:
        """Look around the best tile of a mode and an order until it is the best there, unless others are ahead."""
        xs, ys = (halvings(n) for n in self.whole)
        while looks := [look for look in self._ranked(objective, overlap) if look.order is order]:
            best = looks[0]
            overall = self._best_looks(objective)
            if overall and score(best, objective) > _BEHIND * score(overall[0], objective):
                return  # this mode is far behind: not worth refining
            if score(best, objective) > _ASIDE * score(self._ranked(objective, overlap)[0], objective):
                return  # orders differ by little: this one will not make up for so much
            i, j = xs.index(best.tile[0]), ys.index(best.tile[1])
            around = [(i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
            for a, b in around:
                if 0 <= a < len(xs) and 0 <= b < len(ys):
                    self._look((xs[a], ys[b]), overlap, order)
            if next(look for look in self._ranked(objective, overlap) if look.order is order) is best:
                return

    def unroll(self, overlaps: Sequence[Overlap], tile: tuple[int, int] | None, objective: Objective) -> None:
        """Search the spatial unrolling of what :meth:`explore` found best, and of better tiles around that.

        And of the whole map, to compare with.
        """
        fit = [c for c in self.candidates() if c.spatial is Spatial.PREFER]
        if tile is not None:
            for candidate in fit:
                self.price(candidate.tile, candidate.overlap, Spatial.SEARCH, candidate.order)
            self.price(self.whole, overlaps[0], Spatial.SEARCH)
            return
        self.price(self.whole, overlaps[0], Spatial.SEARCH)
        best = sorted(fit, key=lambda c: score(c, objective))[:_UNROLLED]
        for candidate in best:
            self.price(candidate.tile, candidate.overlap, Spatial.SEARCH, candidate.order)
        if not all(stands_alone(self.pricer.graph.layers[i]) for i in self.stack.layers):
            for overlap in dict.fromkeys(c.overlap for c in best[:1]):
                self._descend(overlap, Spatial.SEARCH, objective)

    def share_out(self, candidates: Iterable[Candidate], objective: Objective) -> bool:
        """Price these with weights where they cost least; whether any is cheaper then."""
        here = [c for c in candidates if not c.shared_out]
        for one in here:
            if one not in self.shared_out:
                plan = self.plan(one.tile, one.overlap, one.order)
                cost = self.pricer.shared_out(plan, one.spatial, self.held)
                assert isinstance(cost, StackCost)
                other = replace(one, energy_pj=cost.energy_pj, latency_cycles=cost.latency_cycles, shared_out=True)
                self.shared_out[one] = other if score(other, objective) < score(one, objective) else one
        return any(self.shared_out[one] is not one for one in here)

    def cost(self, candidate: Candidate, held: Held) -> StackCost:
        """All of a candidate that was priced; ``held`` says at which ends of memories maps lie."""
        plan = self.plan(candidate.tile, candidate.overlap, candidate.order)
        price = self.pricer.shared_out if candidate.shared_out else self.pricer.price
        cost = price(plan, candidate.spatial, held)
        assert isinstance(cost, StackCost)
        return cost

    def _grid_stride(self, plans: int, *, coarse: bool) -> int:
        stride = 3 if coarse else 2
        while plans / stride**2 * len(self.stack.layers) > _GRID_EFFORT and stride < 4:
            stride += 1
        return stride

    def _descend(self, overlap: Modes, spatial: Spatial, objective: Objective) -> None:
        """From the mode's best grid point to neighbouring tile sizes for as long as one is better."""
        xs, ys = (halvings(n) for n in self.whole)
        mine = [c for c in self.candidates() if c.overlap == overlap and c.spatial is spatial]
        if not mine:
            return
        mine.sort(key=lambda c: score(c, objective))
        self._other_orders([c.tile for c in mine[:_TURNED]], overlap, spatial)
        mine = [c for c in self.candidates() if c.overlap == overlap and c.spatial is spatial]
        best = min(mine, key=lambda c: score(c, objective))
        overall = min(self.candidates(), key=lambda c: score(c, objective))
        if score(best, objective) > _BEHIND * score(overall, objective):
            return  # this mode is far behind: not worth refining
        while True:
            i, j = xs.index(best.tile[0]), ys.index(best.tile[1])
            around = [(i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
            tiles = [(xs[a], ys[b]) for a, b in around if 0 <= a < len(xs) and 0 <= b < len(ys)]
            priced = [self.price(t, overlap, spatial, best.order) for t in tiles]
            better = min((c for c in priced if isinstance(c, Candidate)), key=lambda c: score(c, objective))
            if score(better, objective) >= score(best, objective):
                return
            best = better


def _kept(overlap: Overlap, tile: tuple[int, int], whole: tuple[int, int]) -> tuple[bool, bool]:
    """Along which axes (x, y) a mode keeps overlap: along one that a tile spans there is none."""
    _, keep_y, keep_x = overlap.keeps
    return keep_x and tile[0] < whole[0], keep_y and tile[1] < whole[1]


def _beats(one: Candidate, other: Candidate, objective: Objective) -> bool:
    """Whether one costs no more than another."""
    return score(one, objective) <= score(other, objective)


def score(candidate: Candidate, objective: Objective) -> float:
    """What the objective wants least of."""
    return objective.of(candidate.energy_pj, float(candidate.latency_cycles))


def best_combination(choices: Sequence[Sequence[Candidate]], objective: Objective) -> list[Candidate]:
    """One candidate per stack so that the network's total is least; ties by energy, then latency."""
    if objective is not Objective.EDP:
        other = Objective.LATENCY if objective is Objective.ENERGY else Objective.ENERGY
        return [min(c, key=lambda x: (score(x, objective), score(x, other))) for c in choices]
    points: list[tuple[float, int, tuple[int, ...]]] = [(0.0, 0, ())]
    for candidates in choices:
        sums = (
            (energy + c.energy_pj, cycles + c.latency_cycles, (*picked, i))
            for energy, cycles, picked in points
            for i, c in enumerate(candidates)
        )
        points = frontier(sums, itemgetter(0, 1))
    picked = min(points, key=lambda f: (f[0] * f[1], f[0], f[1]))[2]
    return [candidates[i] for candidates, i in zip(choices, picked, strict=True)]


def frontier(points: Iterable[T], costs: Callable[[T], tuple[float, float]]) -> list[T]:
    """The points that no other beats in energy and latency, by rising energy."""
    kept: list[T] = []
    for point in sorted(points, key=costs):
        if not kept or costs(point)[1] < costs(kept[-1])[1]:
            kept.append(point)
    return kept
