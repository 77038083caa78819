"""The cost of one stack under one plan when everything has to find room: line buffers, weights, maps and mappings.

What stays for the whole stack is placed first (``placement.py``), then what each tile class keeps (``class_walk.py``).
A mapping may use what is left over.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial

from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.spatial_search import Spatial
from dfc.ir import Kind
from dfc.passes.tiles import DepthFirstPlan, TileClass
from dfc.scheduling.addresses import ends, hung, laid_out, stacked
from dfc.scheduling.class_walk import HINT, ClassWalk, Path
from dfc.scheduling.engine import ClassCost, StackCost, StackPricer
from dfc.scheduling.levels import Infeasible, StackLevels
from dfc.scheduling.placement import Buffer, Held, Lasting, Resident
from dfc.scheduling.room import FittedMappings

#: how often a plan is placed with a little more room to spare
_ATTEMPTS = 8
#: a class may take other memories than the largest one where it costs so much more per operation, of all that costs
_DEARER = 0.005


class FittedPricer(StackPricer):
    """Prices plans so that all that is alive at once fits, at the levels that cost least."""

    @cached_property
    def mappings(self) -> FittedMappings:
        """Mappings in what is left of memories."""
        return FittedMappings(self.cache)

    def price(
        self, plan: DepthFirstPlan, spatial: Spatial = Spatial.PREFER, held: Held | None = None
    ) -> StackCost | Infeasible:
        """The cost of a plan, or why it does not fit."""
        layers = [self.graph.layers[i] for i in plan.stack.layers]
        if layers[0].kind in (Kind.OPAQUE, Kind.VIEW):
            return self._unmodelled(plan, layers[0])
        resident = Resident(self.graph, self.arch, plan, held or {})
        spare: dict[int, int] = {}
        for attempt in range(_ATTEMPTS):
            chosen = self._chosen(plan, resident, spatial, spare)
            if isinstance(chosen, Infeasible):
                return chosen
            found, over = self._all_classes(plan, resident, *chosen, spatial, spare)
            if isinstance(found, Infeasible) or not over:
                return found
            # all of it would fit, but not side by side: leave as much room as was missing, and more each time
            spare = {m: spare.get(m, 0) + (over.get(m, 0) << attempt) for m in {*spare, *over}}
        m, bits = next(iter(spare.items()))
        memory = self.arch.memories[m]
        need = memory.size_bits + bits
        return Infeasible("addresses for all that a tile keeps", need, memory.name, memory.size_bits, HINT)

    def estimate(self, plan: DepthFirstPlan, held: Held | None = None) -> tuple[float, float] | Infeasible:
        """What a plan would cost if all positions of a layer cost what they do in the largest class of tiles."""
        if self.graph.layers[plan.stack.layers[0]].kind in (Kind.OPAQUE, Kind.VIEW):
            return super().estimate(plan, held)
        found = self._chosen(plan, Resident(self.graph, self.arch, plan, held or {}), Spatial.PREFER, {})
        if isinstance(found, Infeasible):
            return found
        energy = cycles = 0.0
        for placed in found[1].placed:
            run = placed.run
            here = max(1, run.extents[0] * run.extents[1])
            name = self.graph.layers[run.layer].output
            share = sum(c.count * _positions(name, c) for c in plan.classes) / here if run.nest else 1.0
            energy += share * (run.copy_cost.energy_pj + (run.cost.energy_pj if run.cost else 0.0))
            cycles += share * (run.copy_cost.latency_cycles + (run.cost.latency_cycles if run.cost else 0))
        return energy, cycles

    @cached_property
    def _known(self) -> dict[object, tuple[Lasting, Path] | Infeasible]:
        return {}

    def _chosen(
        self, plan: DepthFirstPlan, resident: Resident, spatial: Spatial, spare: Mapping[int, int]
    ) -> tuple[Lasting, Path] | Infeasible:
        """The same, found once for a plan that is looked at, priced and taken."""
        held = tuple(sorted((t, one.memory) for t, one in resident.held.items()))
        key = plan.stack.layers, plan.tile, plan.overlap, plan.order, held, spatial, tuple(spare.items())
        if key not in self._known:
            self._known[key] = self._choose(plan, resident, spatial, spare)
        return self._known[key]

    def _choose(
        self, plan: DepthFirstPlan, resident: Resident, spatial: Spatial, spare: Mapping[int, int]
    ) -> tuple[Lasting, Path] | Infeasible:
        """What stays where for the whole stack, and where the tiles of the largest class keep the rest."""
        main = max(plan.classes, key=partial(_work, plan.stack.outputs[-1]))
        best: tuple[Path, Lasting] | None = None
        why: Infeasible | None = None
        for weights in resident.weight_choices():
            for lasting in resident.uniform(weights):
                if best is not None and resident.off_chip(lasting) and resident.crowd_little(best[1]):
                    break
                found = ClassWalk(self, plan, main, lasting, spatial, spare, resident.held).cheapest()
                if isinstance(found, Infeasible):
                    why = why or found
                elif best is None or found.score < best[0].score:
                    best = found, lasting
            if best is not None:
                return best[1], best[0]  # weights in a lower memory are cheaper to read
        return why or self._nowhere(resident)

    def _nowhere(self, resident: Resident) -> Infeasible:
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
    ) -> tuple[StackCost | Infeasible, Mapping[int, int]]:
        """All classes priced and with addresses, and by how many bits memories are too small for these."""
        start = {self.ladder.shared[-1]: self.off_chip_bits}
        stay = stacked([*resident.held_buffers(high=False), *resident.buffers_of(lasting)], start)
        free = ends(stay, start)
        size = {m: memory.size_bits for m, memory in enumerate(self.arch.memories)}
        hanging = hung(resident.held_buffers(high=True), size)
        for buffer in hanging:
            size[buffer.memory] -= buffer.bits
        over: dict[int, int] = {}
        choices, most = main.choices, main.score * max(tile.count for tile in plan.classes)
        classes: list[ClassCost] = []
        buffers: list[tuple[Buffer, ...]] = []
        for tile in plan.classes:
            walk = ClassWalk(self, plan, tile, lasting, spatial, spare, resident.held)
            found = walk.cheapest(choices)
            if isinstance(found, Infeasible) or found.dearer(main) * tile.count > _DEARER * most:
                found = walk.cheapest()  # it needs more room than most
            if isinstance(found, Infeasible):
                return found, {}
            placed = walk.placed(found)
            classes.append(placed.cost)
            laid: list[Buffer] = []
            for m in sorted({b.memory for b in placed.buffers}):
                here = laid_out([b for b in placed.buffers if b.memory == m], free.get(m, 0), size[m])
                over[m] = max(over.get(m, 0), ends(here, {})[m] - size[m])
                laid += here
            buffers.append(tuple(laid))
        too_long = {m: bits for m, bits in over.items() if bits > 0}
        return StackCost(plan, StackLevels((), 0, 0), tuple(classes), (*stay, *hanging), tuple(buffers)), too_long

    @cached_property
    def off_chip_bits(self) -> int:
        """Bits of all weights, and of all maps that the stacks of any schedule might hand over off chip."""
        graph, array = self.graph, self.arch.array
        maps = sum(t.elements for t in graph.tensors.values()) * array.output_bits
        return maps + sum(layer.weight_elements for layer in graph.layers) * array.weight_bits

    def weight(self, energy_pj: float, cycles: float) -> float:
        """What the way through a tile's layers is chosen by: sums, so a product is not one.

        For the product of both, a cycle counts as much as the energy that the array takes in it.
        """
        objective = self.cache.objective
        if objective is Objective.ENERGY:
            return energy_pj + 1e-9 * cycles
        if objective is Objective.LATENCY:
            return cycles + 1e-12 * energy_pj
        return energy_pj + cycles * self.arch.array.mac_pj * self.arch.array.units


def _work(name: str, tile: TileClass) -> tuple[int, bool]:
    """How much of a map the tiles of a class compute; the class that brings the weights comes last among equals."""
    return tile.count * _positions(name, tile), not tile.first


def _positions(name: str, tile: TileClass) -> int:
    """Positions of a map that a tile computes."""
    x, y = (dict(step.tensors)[name].fresh for step in (tile.x, tile.y))
    return x * y
