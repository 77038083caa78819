"""The cost of one stack under one plan when everything has to find room: line buffers, weights, maps and mappings.

What stays for the whole stack is placed first (``placement.py``), then what each tile class keeps (``class_walk.py``).
A mapping may use what is left over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from math import inf
from operator import itemgetter
from typing import cast

from dfc.backend_cost.busy_ports import BusyPorts, busy_ports
from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.nest import Borders, Nest, make_nest
from dfc.backend_cost.nest import Mapping as LoopMapping
from dfc.backend_cost.spatial_search import Spatial
from dfc.ir import Axis, Layer
from dfc.passes.tiles import DepthFirstPlan, TileClass
from dfc.scheduling.addresses import ends, hung, laid_out, stacked
from dfc.scheduling.beside import beside_compute, early_cycles
from dfc.scheduling.class_paths import PathFloors, cheapest
from dfc.scheduling.class_view import ClassView
from dfc.scheduling.class_walk import HINT, Choices, ClassWalk, Path, PlacedClass
from dfc.scheduling.copies import CopyRates
from dfc.scheduling.engine import ClassCost, Hopeless, LayerRun, StackCost, StackPricer, modelled
from dfc.scheduling.levels import Infeasible, StackLevels
from dfc.scheduling.nest_floor import LearntFloor, nest_floor
from dfc.scheduling.placement import Buffer, Held, Lasting, Resident
from dfc.scheduling.room import FittedMappings
from dfc.scheduling.weight_places import WeightPlaces, Weights

#: how often a plan is placed with a little more room to spare
_ATTEMPTS = 8
#: ways to share out the weights of a plan that are priced with all classes, of those that are best by one measure
_IN_FULL = 2
#: plans that are remembered in part
_PLANS = 64
#: a class may take other memories than the largest one where it costs so much more per operation, of all that costs
_DEARER = 0.005


class FittedPricer(StackPricer):
    """Prices plans so that all that is alive at once fits, at the levels that cost least."""

    @cached_property
    def mappings(self) -> FittedMappings:
        """Mappings in what is left of memories."""
        return FittedMappings.of(self.cache)

    @cached_property
    def rates(self) -> CopyRates:
        """What copies cost."""
        return CopyRates(self.arch)

    @cached_property
    def _floors(self) -> dict[object, LearntFloor]:
        return {}

    def floor(self, layer: Layer, extents: tuple[int, int], borders: Borders) -> LearntFloor:
        """What no mapping of a layer's tile of (x, y) positions is below."""
        key = layer.name, extents, borders
        found = self._floors.get(key)
        if found is None:
            rules = self.rules.layer(layer.name, extents)
            lanes, temporal = (rules.lanes, rules.temporal) if rules else (None, None)
            t = self.graph.tensors[layer.output].spatial[Axis.T]
            every = {role: len(path) for role, path in self.arch.paths.items()}
            nest = make_nest(layer, (t, extents[1], extents[0]), self.arch, every, borders, lanes=lanes)
            alike = nest, temporal  # what is learnt of mappings that the user has fixed holds for these alone
            found = self._floors.get(alike)
            if found is None:
                found = LearntFloor(nest_floor(nest, self.arch, self.cache.model), self.arch.paths)
            self._floors[key] = self._floors[alike] = found
        return found

    def price(
        self, plan: DepthFirstPlan, spatial: Spatial = Spatial.PREFER, held: Held | None = None
    ) -> StackCost | Infeasible:
        """The cost of a plan, or why it does not fit."""
        found = self._price(plan, spatial, held or {}, None)
        assert found is not None
        return found

    def price_unless(
        self, plan: DepthFirstPlan, spatial: Spatial, held: Held, hopeless: Hopeless
    ) -> StackCost | Infeasible | None:
        """The same, but None as soon as what the plan costs at least is ``hopeless``."""
        return self._price(plan, spatial, held, hopeless)

    def _price(
        self, plan: DepthFirstPlan, spatial: Spatial, held: Held, hopeless: Hopeless | None
    ) -> StackCost | Infeasible | None:
        layers = [self.graph.layers[i] for i in plan.stack.layers]
        if not modelled(layers[0]):
            return self._unmodelled(plan, layers[0])
        resident = Resident(self.graph, self.arch, plan, held)
        return self._priced(plan, resident, spatial, hopeless, None)

    def shared_out(self, plan: DepthFirstPlan, spatial: Spatial, held: Held) -> StackCost | Infeasible:
        """The cost of a plan whose weights stay where they cost least, as far as that is known: at most its price."""
        first = self.price(plan, spatial, held)
        if isinstance(first, Infeasible) or not modelled(self.graph.layers[plan.stack.layers[0]]):
            return first
        resident = Resident(self.graph, self.arch, plan, held)
        key = self._key(plan, resident, spatial)
        if key in self._shared_out:
            every = [weights for weights in [self._shared_out[key]] if weights is not None]
        else:
            every = self._better_weights(plan, resident, spatial)
        best, self._shared_out[key] = first, None
        for weights in every:
            other = self.price_with(weights, plan, spatial, held)
            if isinstance(other, StackCost) and self._score(other) < self._score(best):
                best, self._shared_out[key] = other, weights
        return best

    def price_with(
        self, weights: Weights, plan: DepthFirstPlan, spatial: Spatial, held: Held
    ) -> StackCost | Infeasible | None:
        """The cost of a plan with the weights of these layers in these memories."""
        return self._priced(plan, Resident(self.graph, self.arch, plan, held), spatial, None, weights)

    def _score(self, cost: StackCost) -> tuple[float, ...]:
        return self.cache.objective.of(cost.energy_pj, cost.latency_cycles), cost.energy_pj, cost.latency_cycles

    def _priced(
        self,
        plan: DepthFirstPlan,
        resident: Resident,
        spatial: Spatial,
        hopeless: Hopeless | None,
        weights: Weights | None,
    ) -> StackCost | Infeasible | None:
        """The cost of a plan with weights in these memories, or in the first that will do."""
        choose = partial(self._chosen, plan, resident, spatial, weights=weights)
        return self._side_by_side(plan, resident, choose, spatial, hopeless, {})

    def price_lasting(
        self, plan: DepthFirstPlan, resident: Resident, lasting: Lasting, reserved: Mapping[int, int]
    ) -> StackCost | Infeasible:
        """The cost of a plan where it is given what stays; others keep ``reserved`` bits of memories meanwhile."""
        walk = partial(ClassWalk, self, self._view(plan, plan.classes.index(_main(plan)), resident.held), lasting)

        def choose(spare: Mapping[int, int]) -> tuple[Lasting, Path] | Infeasible:
            path = cheapest(PathFloors(walk(Spatial.PREFER, spare), {}))
            assert path is not None
            return path if isinstance(path, Infeasible) else (lasting, path)

        found = self._side_by_side(plan, resident, choose, Spatial.PREFER, None, reserved)
        assert found is not None
        return found

    def _side_by_side(
        self,
        plan: DepthFirstPlan,
        resident: Resident,
        choose: Callable[[Mapping[int, int]], tuple[Lasting, Path] | Infeasible],
        spatial: Spatial,
        hopeless: Hopeless | None,
        reserved: Mapping[int, int],
    ) -> StackCost | Infeasible | None:
        """All classes of a plan priced and laid out; ``choose`` says what stays where if so much room is spared."""
        spare = dict(reserved)
        for attempt in range(_ATTEMPTS):
            chosen = choose(spare)
            if isinstance(chosen, Infeasible):
                return chosen
            priced = self._all_classes(plan, resident, *chosen, spatial, spare, hopeless, reserved)
            if priced is None:
                return None
            found, over = priced
            if isinstance(found, Infeasible) or not over:
                return found
            # all of it would fit, but not side by side: leave as much room as was missing, and more each time
            spare = {m: spare.get(m, 0) + (over.get(m, 0) << attempt) for m in {*spare, *over}}
        m, bits = next(iter(spare.items()))
        memory = self.arch.memories[m]
        need = memory.size_bits + bits
        return Infeasible("addresses for all that a tile keeps", need, memory.name, memory.size_bits, HINT)

    def _better_weights(self, plan: DepthFirstPlan, resident: Resident, spatial: Spatial) -> list[Weights]:
        """Where weights cost less than in the first memories that will do, by the class of most work; the best few."""
        if not resident.weight_bits:
            return []
        chosen = self._chosen(plan, resident, spatial, {})
        if isinstance(chosen, Infeasible):
            return []
        view = self._view(plan, plan.classes.index(_main(plan)), resident.held)

        def walk_of(lasting: Lasting) -> ClassWalk:
            return ClassWalk(self, view, lasting, spatial, {})

        places = WeightPlaces(resident, *chosen, self._shares(plan, view), walk_of, self.weight)
        if self.cache.objective is Objective.ENERGY and places.lowest:
            return []
        tried = ((weights, self._chosen(plan, resident, spatial, {}, weights)) for weights in places.proposals())
        fit = [(weights, how) for weights, how in tried if not isinstance(how, Infeasible)]
        best: list[Weights] = []
        timed = self.cache.model.played and self.cache.objective is not Objective.ENERGY
        for early in (False, True) if timed else (False,):  # how much passes early is not known here
            about = [(places.total(*how, early=early), weights) for weights, how in fit]
            least = places.total(*chosen, early=early)
            hopeful = [weights for cost, weights in sorted(about, key=itemgetter(0)) if cost < least][:_IN_FULL]
            best += [weights for weights in hopeful if weights not in best]
        return best

    def _shares(self, plan: DepthFirstPlan, view: ClassView) -> list[float]:
        """Per layer of the stack, how many times all tiles compute what one of the largest class does."""
        names = [self.graph.layers[i].output for i in plan.stack.layers]
        return [plan.computed[t] / max(1, view.extents[t][0] * view.extents[t][1]) for t in names]

    def estimate(self, plan: DepthFirstPlan, held: Held | None = None) -> tuple[float, float] | Infeasible:
        """What a plan would cost if all positions of a layer cost what they do in the largest class of tiles."""
        if not modelled(self.graph.layers[plan.stack.layers[0]]):
            return super().estimate(plan, held)
        found = self._chosen(plan, Resident(self.graph, self.arch, plan, held or {}), Spatial.PREFER, {})
        if isinstance(found, Infeasible):
            return found
        energy = cycles = 0.0
        for placed in found[1].placed:
            run = placed.run
            here = run.extents[0] * run.extents[1]
            share = plan.computed[self.graph.layers[run.layer].output] / here if run.nest else 1.0
            energy += share * (run.copy_cost.energy_pj + (run.cost.energy_pj if run.cost else 0.0))
            cycles += share * (run.copy_cost.latency_cycles + (run.cost.latency_cycles if run.cost else 0))
        return energy, cycles

    def outlook(self, plan: DepthFirstPlan, held: Held | None = None) -> tuple[float, float]:
        """What :meth:`estimate` is not below, without mapping anything."""
        if not modelled(self.graph.layers[plan.stack.layers[0]]):
            return super().outlook(plan, held)
        resident = Resident(self.graph, self.arch, plan, held or {})
        shares = self._shares(plan, self._view(plan, plan.classes.index(_main(plan)), resident.held))
        for weights in resident.weight_choices():  # in a lower memory they are cheaper to read
            ways = self._openings(plan, resident, weights, Spatial.PREFER, {})
            if ways:
                each = [floors.least(shares) for _, floors in ways]
                return min(e for e, _ in each), min(c for _, c in each)
        return 0.0, 0.0

    @staticmethod
    def _key(plan: DepthFirstPlan, resident: Resident, spatial: Spatial) -> tuple[object, ...]:
        """What tells a plan with these maps on chip from others."""
        held = tuple(sorted((t, one.memory) for t, one in resident.held.items()))
        return plan.stack.layers, plan.tile, plan.overlap, plan.order, held, spatial

    @cached_property
    def _shared_out(self) -> dict[object, Weights | None]:
        return {}

    @cached_property
    def _known(self) -> dict[object, tuple[Lasting, Path] | Infeasible]:
        return {}

    def _chosen(
        self,
        plan: DepthFirstPlan,
        resident: Resident,
        spatial: Spatial,
        spare: Mapping[int, int],
        weights: Weights | None = None,
    ) -> tuple[Lasting, Path] | Infeasible:
        """The same, found once for a plan that is looked at, priced and taken."""
        where = None if weights is None else tuple(weights.items())
        key = *self._key(plan, resident, spatial), tuple(spare.items()), where
        if key not in self._known:
            choices = resident.weight_choices() if weights is None else [weights]
            self._known[key] = self._choose(plan, resident, spatial, spare, choices)
        return self._known[key]

    def _choose(
        self,
        plan: DepthFirstPlan,
        resident: Resident,
        spatial: Spatial,
        spare: Mapping[int, int],
        choices: Sequence[Weights],
    ) -> tuple[Lasting, Path] | Infeasible:
        """What stays where for the whole stack, and where the tiles of the largest class keep the rest."""
        best: tuple[Path, Lasting] | None = None
        why: Infeasible | None = None
        for weights in choices:
            for lasting, floors in self._openings(plan, resident, weights, spatial, spare):
                if best is not None and resident.off_chip(lasting) and resident.crowd_little(best[1]):
                    break
                found = cheapest(floors, inf if best is None else best[0].score)
                if isinstance(found, Infeasible):
                    why = why or found
                elif found is not None:
                    best = found, lasting
            if best is not None:
                return best[1], best[0]  # weights in a lower memory are cheaper to read
        return why or self.nowhere(resident)

    def _openings(
        self,
        plan: DepthFirstPlan,
        resident: Resident,
        weights: Mapping[int, int],
        spatial: Spatial,
        spare: Mapping[int, int],
    ) -> list[tuple[Lasting, PathFloors]]:
        """What may stay with these weights, and what the largest class costs at least then; off chip comes last."""
        key = "openings", tuple(weights.items()), spatial, tuple(spare.items())
        known = self._notes(plan, resident.held)
        if key in known:
            return cast("list[tuple[Lasting, PathFloors]]", known[key])
        view = self._view(plan, plan.classes.index(_main(plan)), resident.held)
        found = [
            (lasting, PathFloors(ClassWalk(self, view, lasting, spatial, spare), {}))
            for lasting in resident.uniform(weights)
        ]
        found.sort(key=lambda one: (resident.off_chip(one[0]), one[1].rest[0]))
        known[key] = found
        return found

    def _view(self, plan: DepthFirstPlan, number: int, held: Held) -> ClassView:
        """What there is to know of a class, by its number."""
        known = self._notes(plan, held)
        if number not in known:
            tile = plan.classes[number]
            known[number] = ClassView(self.maps, self.arch, self.cache.model, plan, tile, held)
        return cast("ClassView", known[number])

    def _notes(self, plan: DepthFirstPlan, held: Held) -> dict[object, object]:
        """What is known of a plan, as long as few others were looked at since."""
        key = plan.stack.layers, plan.tile, plan.overlap, plan.order, tuple(held.items())
        found = self._plans.get(key)
        if found is None:
            if len(self._plans) >= _PLANS:
                self._plans.pop(next(iter(self._plans)))
            found = self._plans[key] = {}
        return found

    @cached_property
    def _plans(self) -> dict[object, dict[object, object]]:
        return {}

    def nowhere(self, resident: Resident) -> Infeasible:
        """That what is to stay has no room, not even off chip."""
        bits = sum(resident.line_bits(t, b) for t, both in resident.line_buffers.items() for b in both)
        top = self.arch.memories[self.ladder.shared[-1]]
        return Infeasible("the overlap that is kept between tiles", bits, top.name, top.size_bits, HINT)

    def _all_classes(
        self,
        plan: DepthFirstPlan,
        resident: Resident,
        lasting: Lasting,
        main: Path,
        spatial: Spatial,
        spare: Mapping[int, int],
        hopeless: Hopeless | None,
        reserved: Mapping[int, int],
    ) -> tuple[StackCost | Infeasible, Mapping[int, int]] | None:
        """All classes priced and with addresses, and by how many bits memories are too small for these."""
        walks = [
            ClassWalk(self, self._view(plan, n, resident.held), lasting, spatial, spare)
            for n in range(len(plan.classes))
        ]
        placed = self._placed(walks, plan.classes.index(_main(plan)), main, hopeless)
        if placed is None or isinstance(placed, Infeasible):
            return placed if placed is None else (placed, {})
        start = self.taken
        stay = stacked([*resident.held_buffers(high=False), *resident.buffers_of(lasting)], start)
        free = ends(stay, start)
        size = {m: memory.size_bits - reserved.get(m, 0) for m, memory in enumerate(self.arch.memories)}
        hanging = hung(resident.held_buffers(high=True), size)
        for buffer in hanging:
            size[buffer.memory] -= buffer.bits
        over: dict[int, int] = {}
        buffers: list[tuple[Buffer, ...]] = []
        for one in placed:
            laid: list[Buffer] = []
            for m in sorted({b.memory for b in one.buffers}):
                here = laid_out([b for b in one.buffers if b.memory == m], free.get(m, 0), size[m])
                over[m] = max(over.get(m, 0), ends(here, {})[m] - size[m])
                laid += here
            buffers.append(tuple(laid))
        too_long = {m: bits for m, bits in over.items() if bits > 0}
        classes = tuple(one.cost for one in placed)
        cost = StackCost(plan, StackLevels((), 0, 0), classes, (*stay, *hanging), tuple(buffers))
        if self.cache.model.played and not too_long:
            cost = beside_compute(self.graph, self.arch, cost, self._busy)
        return cost, too_long

    def _busy(self, run: LayerRun) -> BusyPorts:
        """What a layer's mapping does on ports."""
        assert run.nest is not None and run.cost is not None
        key = run.nest, run.cost.mapping
        found = self._ports.get(key)
        if found is None:
            found = self._ports[key] = busy_ports(run.nest, self.arch, run.cost.mapping, self.cache.model)
        return found

    @cached_property
    def _ports(self) -> dict[tuple[Nest, LoopMapping], BusyPorts]:
        return {}

    def _placed(
        self, walks: Sequence[ClassWalk], largest: int, main: Path, hopeless: Hopeless | None
    ) -> list[PlacedClass] | Infeasible | None:
        """All classes with what their tiles keep where; None as soon as what all cost at least is ``hopeless``.

        largest: the class whose way ``main`` is.
        """
        most = main.score * max(walk.tile.count for walk in walks)
        least = [_least(walk, main) if hopeless else (0.0, 0.0) for walk in walks]
        found: dict[int, PlacedClass] = {}
        for at in sorted(range(len(walks)), key=lambda at: (-least[at][0] * walks[at].tile.count, at)):
            walk = walks[at]
            energy, cycles = (sum(n[k] * w.tile.count for n, w in zip(least, walks, strict=True)) for k in (0, 1))
            if hopeless and hopeless(energy, cycles):
                return None
            path = main if at == largest else cheapest(PathFloors(walk, main.choices))
            assert path is not None
            if isinstance(path, Infeasible) or path.dearer(main) * walk.tile.count > _DEARER * most:
                path = cheapest(PathFloors(walk, {}))  # it needs more room than most
                assert path is not None
            if isinstance(path, Infeasible):
                return path
            one = found[at] = walk.placed(path)
            least[at] = one.cost.energy_pj, float(one.cost.latency_cycles - self._early(one.cost))
        return [found[at] for at in range(len(walks))]

    def _early(self, cost: ClassCost) -> int:
        """How many cycles of a class may pass while others do."""
        return sum(early_cycles(self.arch, run) for run in cost.runs) if self.cache.model.played else 0

    @cached_property
    def taken(self) -> dict[int, int]:
        """Bits of the memory off chip for all weights, and all maps that the stacks of any schedule might hand over."""
        graph, array = self.graph, self.arch.array
        maps = sum(t.elements for t in graph.tensors.values()) * array.output_bits
        weights = sum(layer.weight_elements for layer in graph.layers) * array.weight_bits
        return {self.ladder.shared[-1]: maps + weights}

    def weight(self, energy_pj: float, cycles: float) -> float:
        """What the way through a tile's layers is chosen by: sums, so a product is not one.

        For the product of both, a cycle counts as much as the energy that the array takes in it.
        """
        objective = self.cache.objective
        if objective is Objective.ENERGY:
            return energy_pj + 1e-9 * cycles
        if objective is Objective.LATENCY:
            return cycles + 1e-12 * energy_pj
        return energy_pj + cycles * self._cycle_pj

    @cached_property
    def _cycle_pj(self) -> float:
        return self.arch.array.mac_pj * self.arch.array.units


def _least(walk: ClassWalk, main: Path) -> tuple[float, float]:
    """What a class costs at least: in its own memories, or in those of the largest class, which may be others."""
    ways: tuple[Choices, Choices] = ({}, main.choices)
    each, early = [1.0] * len(walk.stack.layers), walk.pricer.cache.model.played
    energies, cycles = zip(*(PathFloors(walk, one).least(each, early=early) for one in ways), strict=True)
    return min(energies), min(cycles)


def _main(plan: DepthFirstPlan) -> TileClass:
    """The class that computes most."""
    return max(plan.classes, key=partial(_work, plan.stack.outputs[-1]))


def _extents(name: str, tile: TileClass) -> tuple[int, int]:
    x, y = (dict(step.tensors)[name].fresh for step in (tile.x, tile.y))
    return x, y


def _work(name: str, tile: TileClass) -> tuple[int, bool]:
    """How much of a map the tiles of a class compute; the class that brings the weights comes last among equals."""
    return tile.count * _positions(name, tile), not tile.first


def _positions(name: str, tile: TileClass) -> int:
    """Positions of a map that a tile computes."""
    x, y = _extents(name, tile)
    return x * y
