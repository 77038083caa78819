"""The cost of one stack under one plan: every tile class walked layer by layer, copies between levels included.

Nothing overlaps in time, as in the reference: copies, layers and tiles run one after the other (B.0, B.c). What may
overlap under the exact model is in ``beside.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import MappingCost, TooSmall
from dfc.backend_cost.mapping_rules import LayerRules, MappingRules
from dfc.backend_cost.mapping_space import mapping_space
from dfc.backend_cost.nest import Borders, Nest, make_nest, unroll
from dfc.backend_cost.rules_conflict import explain_contradiction
from dfc.backend_cost.spatial_search import Spatial, SpatialSearch, Unrolling
from dfc.errors import InfeasibleError
from dfc.hwdsl.arch import Arch
from dfc.ir import PLACE_DIMS, Axis, Graph, Kind, Layer, Role
from dfc.passes.axis_tiles import ReadStep, TensorStep
from dfc.passes.stacks import Stack, automatic_stacks
from dfc.passes.tiles import DepthFirstPlan, TileClass, Tiler
from dfc.scheduling.copies import Beside, Copy, CopyCost, Place, in_sequence, price_copies
from dfc.scheduling.levels import Infeasible, MapSizes, MemoryLadder, StackLevels, kernel_bits, stack_levels
from dfc.scheduling.placement import Buffer, Held

#: whether a plan of at least this energy and latency is of no use
Hopeless = Callable[[float, float], bool]

#: how often a layer is retried with one level more for its output or input when nothing fits (B.b.3)
_RETRIES = ((0, 0), (1, 0), (0, 1), (1, 1), (2, 1), (1, 2), (2, 2), (3, 2), (2, 3), (3, 3))


@dataclass(frozen=True)
class LayerRun:
    """One layer in one tile class.

    tops: per role the memory at which the operand lives for this tile. Extents are (x, y) of what is computed.
    room: memories that were smaller for the mapping, as others take part of them: (memory, bits).
    inputs: the memory in which it reads feature maps, where that is not the one of its operand I.
    stages: how many of the copies start together, group after group; none where it does not matter.
    beside: what of its copies passes while layers before it run; their latency is without these ``hidden_cycles``.
    """

    layer: int
    extents: tuple[int, int]
    tops: dict[Role, int]
    nest: Nest | None
    cost: MappingCost | None
    copies: tuple[Copy, ...]
    copy_cost: CopyCost
    room: tuple[tuple[int, int], ...] = ()
    inputs: int | None = None
    stages: tuple[int, ...] = ()
    beside: tuple[Beside, ...] = ()
    hidden_cycles: int = 0

    def reads_in(self, otherwise: int) -> int:
        """The memory in which it reads feature maps."""
        return self.tops.get(Role.I, otherwise) if self.inputs is None else self.inputs


@dataclass(frozen=True)
class ClassCost:
    """One tile class: its layers in order, and the energy and time of one tile of it."""

    tile: TileClass
    runs: tuple[LayerRun, ...]
    energy_pj: float
    latency_cycles: int


@dataclass(frozen=True)
class StackCost:
    """A priced plan.

    stay:    what stays in memories while the stack runs; buffers: per class what one of its tiles keeps in them. Both
             have addresses; both are empty where the rules do not ask whether everything fits.
    """

    plan: DepthFirstPlan
    levels: StackLevels
    classes: tuple[ClassCost, ...]
    stay: tuple[Buffer, ...] = ()
    buffers: tuple[tuple[Buffer, ...], ...] = ()
    energy_pj: float = field(init=False)
    latency_cycles: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "energy_pj", sum(c.energy_pj * c.tile.count for c in self.classes))
        object.__setattr__(self, "latency_cycles", sum(c.latency_cycles * c.tile.count for c in self.classes))

    @property
    def held(self) -> frozenset[str]:
        """Maps that enter or leave the stack on chip, as a whole."""
        return frozenset(b.name for b in self.stay if b.what == "map")


def modelled(layer: Layer) -> bool:
    """Whether a layer has a loop nest that can be mapped."""
    return layer.kind not in (Kind.OPAQUE, Kind.VIEW)


class StackPricer:
    """Prices plans of one network on one chip, mapped as the rules say."""

    def __init__(self, graph: Graph, arch: Arch, cache: MappingCache, rules: MappingRules | None = None):
        self.graph = graph
        self.arch = arch
        self.cache = cache
        self.rules = rules or MappingRules()
        self.maps = MapSizes(graph, arch)
        self.ladder = MemoryLadder(arch)
        if not self.ladder.shared:
            top = arch.memories[arch.paths[Role.O][-1]]
            raise InfeasibleError(
                "MAP002",
                "no single memory holds both inputs and outputs, so feature maps cannot pass from layer to layer",
                span=top.span,
                place=arch.name,
                hint=f"let one instance of '{top.name}' serve the whole array",
            )
        self.spatial = SpatialSearch(cache)
        self._mapped: dict[object, tuple[Nest, MappingCost, dict[Role, int]] | Infeasible] = {}

    def automatic_stacks(self, *, cut_whole_maps: bool) -> list[Stack]:
        """Stacks as long as their weights fit the largest on-chip weight memory."""
        bits = [self.weight_bits(layer) for layer in self.graph.layers]
        return automatic_stacks(self.graph, bits, self.arch.weight_capacity_bits, cut_whole_maps=cut_whole_maps)

    def weight_bits(self, layer: Layer) -> int:
        """Bits of a layer's constants as the chip stores them."""
        return layer.weight_elements * self.arch.array.weight_bits

    def price(
        self, plan: DepthFirstPlan, spatial: Spatial = Spatial.PREFER, held: Held | None = None
    ) -> StackCost | Infeasible:
        """The cost of a plan, or why it does not fit; with ``Spatial.SEARCH`` no layer scores worse.

        ``held`` maps that cross the stack's border stay on chip; by these rules none does.
        """
        assert not held, "the reference hands everything over off chip"
        layers = [self.graph.layers[i] for i in plan.stack.layers]
        if not modelled(layers[0]):
            return self._unmodelled(plan, layers[0])
        levels = stack_levels(self.graph, self.arch, plan, sum(map(self.weight_bits, layers)))
        if isinstance(levels, Infeasible):
            return levels
        classes: list[ClassCost] = []
        for tile, h_memory in zip(plan.classes, levels.h_memory, strict=True):
            found = _TileWalk(self, plan.stack, tile, levels, h_memory, spatial).walk()
            if isinstance(found, Infeasible):
                return found
            classes.append(found)
        return StackCost(plan, levels, tuple(classes))

    def price_unless(
        self, plan: DepthFirstPlan, spatial: Spatial, held: Held, hopeless: Hopeless
    ) -> StackCost | Infeasible | None:
        """The same, but None as soon as what the plan costs at least is ``hopeless``; here nothing is known before."""
        del hopeless
        return self.price(plan, spatial, held)

    def shared_out(self, plan: DepthFirstPlan, spatial: Spatial, held: Held) -> StackCost | Infeasible:
        """The cost of a plan whose weights stay where they cost least; here all are in one memory."""
        return self.price(plan, spatial, held)

    def estimate(self, plan: DepthFirstPlan, held: Held | None = None) -> tuple[float, float] | Infeasible:
        """About the energy and cycles of a plan, or why it does not fit: to compare plans before some are priced."""
        found = self.price(plan, held=held)
        return found if isinstance(found, Infeasible) else (found.energy_pj, float(found.latency_cycles))

    def outlook(self, plan: DepthFirstPlan, held: Held | None = None) -> tuple[float, float]:
        """Energy and cycles that :meth:`estimate` is not below, quickly; here nothing is known."""
        del plan, held
        return 0.0, 0.0

    def _unmodelled(self, plan: DepthFirstPlan, layer: Layer) -> StackCost:
        """An operator that is not modelled moves its tensors and weights on chip and back; a view moves nothing."""
        copies: list[Copy] = []
        if layer.kind is Kind.OPAQUE:
            sizes = self.graph.tensors
            for source in layer.sources:
                bits = sizes[source.tensor].elements * self.arch.array.input_bits
                copies.append(self._top_copy("opaque input", source.tensor, Role.I, bits, inwards=True))
            if layer.weight_elements:
                copies.append(self._top_copy("opaque weights", "", Role.W, self.weight_bits(layer), inwards=True))
            for name in layer.outputs:
                bits = sizes[name].elements * self.arch.array.output_bits
                copies.append(self._top_copy("opaque output", name, Role.O, bits, inwards=False))
        cost = price_copies(self.arch, copies)
        tiler = Tiler(self.graph, plan.stack)
        whole = tiler.plan(tiler.extents, plan.overlap)  # nothing is known of its tiles: it runs once
        run = LayerRun(plan.stack.layers[0], whole.tile, {}, None, None, tuple(copies), cost)
        classes = tuple(ClassCost(tile, (run,), cost.energy_pj, cost.latency_cycles) for tile in whole.classes)
        return StackCost(whole, StackLevels((), 0, 0), classes)

    def copy(self, what: str, name: str, bits: int, source: Place, target: Place) -> list[Copy]:
        """The copy as a list; none when there is nothing to move or nowhere to go."""
        same = self.arch.paths[source.role][source.level] == self.arch.paths[target.role][target.level]
        return [] if bits == 0 or same else [Copy(what, name, bits, source, target)]

    def _top_copy(self, what: str, tensor: str, role: Role, bits: int, *, inwards: bool) -> Copy:
        top = len(self.arch.paths[role]) - 1
        outer, inner = Place(role, top), Place(role, max(0, top - 1))
        return Copy(what, tensor, bits, outer, inner) if inwards else Copy(what, tensor, bits, inner, outer)

    def map_layer(
        self,
        index: int,
        extents: tuple[int, int],
        want: dict[Role, int],
        borders: Borders,
        spatial: Spatial = Spatial.PREFER,
    ) -> tuple[Nest, MappingCost, dict[Role, int]] | Infeasible:
        """The best mapping of a layer tile; ``want`` are levels per role, raised where nothing fits (B.b.3).

        A searched unrolling keeps the levels, and with them the copies, of the preferred one.
        """
        key = (index, extents, tuple(want.items()), borders)
        found = self._mapped.get(key)
        if found is None:
            found = self._mapped[key] = self._map_layer(index, extents, want, borders)
        if isinstance(found, Infeasible) or spatial is Spatial.PREFER:
            return found
        rules = self.rules.layer(self.graph.layers[index].name, extents)
        if rules is not None and rules.lanes is not None:
            return found
        nest, cost, tops = found
        best = self.spatial.best(Unrolling(nest, cost), rules.temporal if rules else None)
        return best.nest, best.cost, tops

    def _map_layer(
        self, index: int, extents: tuple[int, int], want: dict[Role, int], borders: Borders
    ) -> tuple[Nest, MappingCost, dict[Role, int]] | Infeasible:
        layer = self.graph.layers[index]
        t = self.graph.tensors[layer.output].spatial[Axis.T]
        last = {role: len(path) - 1 for role, path in self.arch.paths.items()}
        cost: MappingCost | TooSmall | None = None
        idle: frozenset[str] = frozenset()
        rules = self.rules.layer(layer.name, extents)
        fixed = rules.lanes if rules else None
        while True:
            tried: dict[Nest, None] = {}
            for more_o, more_i in _RETRIES:
                tops = dict(want)
                tops[Role.O] = min(want[Role.O] + more_o, last[Role.O])
                tops[Role.I] = min(want[Role.I] + more_i, last[Role.I])
                levels = {r: n + 1 for r, n in tops.items()}
                nest = make_nest(layer, (t, extents[1], extents[0]), self.arch, levels, borders, idle, fixed)
                cost = self.cache.best(nest, rules.temporal if rules else None)
                if isinstance(cost, MappingCost):
                    return nest, cost, tops
                tried[nest] = None
            blamed = self.blamed(index, extents, rules, list(tried)) if rules else None
            if blamed is not None:
                return blamed
            # a memory too small for one element of each lane that it serves: leave those lanes idle
            assert isinstance(cost, TooSmall)
            served = self.arch.memories[cost.memory].across
            lanes = unroll(layer.tile_sizes((t, extents[1], extents[0])), self.arch, layer, idle, fixed)
            fewer = idle | {u.array_dim for u in lanes if u.array_dim in served}
            if fewer == idle:
                break
            idle = fewer
        memory = self.arch.memories[cost.memory]
        return Infeasible(
            f"a tile of layer '{layer.name}'",
            cost.needed_bits,
            memory.name,
            memory.size_bits,
            f"memory '{memory.name}' must hold at least one element for each lane that it serves",
        )

    def blamed(self, index: int, extents: tuple[int, int], rules: LayerRules, nests: list[Nest]) -> Infeasible | None:
        """That rules leave no mapping of these nests, if there are some without them, or the rules fix the lanes."""
        name = self.graph.layers[index].name
        where = f"layer '{name}' in tiles of {extents[0]}x{extents[1]}"
        for nest in nests:
            space = mapping_space(nest, self.arch, self.cache.model)
            if rules.spatial or not isinstance(space.regions(), TooSmall):
                cause = partial(explain_contradiction, rules, space, where)
                return Infeasible(f"the rules for layer '{name}'", 0, "", 0, "loosen them", cause)
        return None


class _TileWalk:
    """Walks the layers of a stack for one tile class."""

    def __init__(
        self, pricer: StackPricer, stack: Stack, tile: TileClass, levels: StackLevels, h_memory: int, spatial: Spatial
    ):
        self.pricer = pricer
        self.spatial = spatial
        self.graph = pricer.graph
        self.arch = pricer.arch
        self.stack = stack
        self.tile = tile
        self.levels = levels
        self.h_memory = h_memory
        self.steps: dict[str, tuple[TensorStep, TensorStep]] = {
            name: (x, y) for (name, x), (_, y) in zip(tile.x.tensors, tile.y.tensors, strict=True)
        }
        self.home: dict[str, Place] = {}  # where a feature map's fresh part lies
        self.pending: list[Copy] = []  # writes that run before the next layer

    def walk(self) -> ClassCost | Infeasible:
        """Price every layer in order."""
        runs: list[LayerRun] = []
        for i, reads_x, reads_y in zip(self.stack.layers, self.tile.x.reads, self.tile.y.reads, strict=True):
            run = self._layer(i, reads_x, reads_y)
            if isinstance(run, Infeasible):
                return run
            if run is not None:
                runs.append(run)
        energy = sum(r.copy_cost.energy_pj + (r.cost.energy_pj if r.cost else 0.0) for r in runs)
        cycles = sum(r.copy_cost.latency_cycles + (r.cost.latency_cycles if r.cost else 0) for r in runs)
        return ClassCost(self.tile, tuple(runs), energy, cycles)

    def _layer(
        self, index: int, reads_x: tuple[ReadStep, ...], reads_y: tuple[ReadStep, ...]
    ) -> LayerRun | Infeasible | None:
        layer = self.graph.layers[index]
        x, y = self.steps[layer.output]
        constants = self._constants(layer) if self.tile.first else []
        if x.fresh == 0 or y.fresh == 0:  # all that later layers need was or will be computed by other tiles
            if self.tile.first:  # but the first tile brings the weights
                constants += self._constant_copy(layer, kernel_bits(layer, self.arch))
            cost_of = price_copies(self.arch, constants)
            return LayerRun(index, (0, 0), {}, None, None, tuple(constants), cost_of) if constants else None
        extents = (x.fresh, y.fresh)
        borders = borders_of(self.graph, layer, reads_x, reads_y) if self.pricer.cache.model.whole_lanes else Borders()
        want = self._wanted_levels(layer, extents, reads_x, reads_y)
        found = self.pricer.map_layer(index, extents, want, borders, self.spatial)
        if isinstance(found, Infeasible):
            return found
        nest, cost, tops = found
        fetched, rest = self._arrivals(layer, tops, reads_x, reads_y)
        fetched = constants + fetched
        group = [*self.pending, *rest]
        before = price_copies(self.arch, group)
        if fetched:  # the stack's input arrives before anything else may use it
            before = in_sequence(price_copies(self.arch, fetched), before)
        self.pending = self._departures(layer, tops)
        memories = {role: self.arch.paths[role][level] for role, level in tops.items()}
        return LayerRun(index, extents, memories, nest, cost, (*fetched, *group), before)

    def _wanted_levels(
        self,
        layer: Layer,
        extents: tuple[int, int],
        reads_x: tuple[ReadStep, ...],
        reads_y: tuple[ReadStep, ...],
    ) -> dict[Role, int]:
        maps, ladder = self.pricer.maps, self.pricer.ladder
        window_bits = sum(
            maps.read_bits(layer, s.tensor, rx.window, ry.window)
            for s, rx, ry in zip(layer.sources, reads_x, reads_y, strict=True)
        )
        i_level = ladder.lowest(Role.I, window_bits)
        i_memory = self.arch.paths[Role.I][i_level]
        if self._only_outside(layer.output):
            o_level = len(self.arch.paths[Role.O]) - 1
        else:
            out_bits = maps.region_bits(layer.output, *extents)
            o_level = ladder.lowest(Role.O, out_bits, (i_memory, window_bits))
        # weights that change from place to place are a map: each tile brings its own part of it
        everything = self.tile.first or any(o.role is Role.W and PLACE_DIMS.intersection(o.dims) for o in layer.inputs)
        w_level = len(self.arch.paths[Role.W]) - 1 if everything else self.levels.weight_level
        return {Role.O: o_level, Role.W: w_level, Role.I: i_level}

    def _constants(self, layer: Layer) -> list[Copy]:
        """Biases, slopes and the like, which no loop of the nest addresses: brought once, with the first tile."""
        if layer.kind is Kind.OPAQUE:
            return []
        return self._constant_copy(layer, max(0, self.pricer.weight_bits(layer) - kernel_bits(layer, self.arch)))

    def _constant_copy(self, layer: Layer, bits: int) -> list[Copy]:
        level = self.levels.weight_level
        top = len(self.arch.paths[Role.W]) - 1
        return self.pricer.copy("constants", layer.name, bits, Place(Role.W, top), Place(Role.W, min(level, top)))

    def _only_outside(self, tensor: str) -> bool:
        """Whether a tensor leaves the stack and no layer in it reads it."""
        return tensor in self.stack.outputs and not any(c in self.stack.layers for c in self.graph.consumers[tensor])

    def _arrivals(
        self,
        layer: Layer,
        tops: dict[Role, int],
        reads_x: tuple[ReadStep, ...],
        reads_y: tuple[ReadStep, ...],
    ) -> tuple[list[Copy], list[Copy]]:
        """Copies that bring a layer's inputs to its input level: (from outside the stack, from within)."""
        here = Place(Role.I, tops[Role.I])
        fetched: list[Copy] = []
        within: list[Copy] = []
        seen: set[str] = set()
        for source, rx, ry in zip(layer.sources, reads_x, reads_y, strict=True):
            name = source.tensor
            if name in seen:
                continue
            seen.add(name)
            x, y = self.steps[name]
            alone = len([c for c in self.graph.consumers[name] if c in self.stack.layers]) == 1
            maps = self.pricer.maps
            fresh = maps.read_bits(layer, name, x.fresh, y.fresh) if alone else maps.region_bits(name, x.fresh, y.fresh)
            if name in self.stack.inputs and name not in self.home:
                outside = Place(Role.I, len(self.arch.paths[Role.I]) - 1)
                fetched += self.pricer.copy("input", name, fresh, outside, here)
                self.home[name] = here
                self.pending += self._stores(name, here)
            else:
                within += self.pricer.copy("feature map", name, fresh, self.home.get(name, here), here)
            within += self._cache_reads(name, rx, ry, here)
        return fetched, within

    def _cache_reads(self, name: str, rx: ReadStep, ry: ReadStep, here: Place) -> list[Copy]:
        """What earlier tiles left of an input: whole columns of the window, and rows of the remaining columns."""
        maps = self.pricer.maps
        columns = maps.region_bits(name, rx.cached, ry.window)
        rows = maps.region_bits(name, rx.window - rx.cached, ry.cached)
        h_place = Place(Role.I, self.arch.level(Role.I, self.h_memory))
        v_place = Place(Role.I, self.arch.level(Role.I, self.levels.v_memory))
        return [
            *self.pricer.copy("read H cache", name, columns, h_place, here),
            *self.pricer.copy("read V cache", name, rows, v_place, here),
        ]

    def _stores(self, name: str, home: Place) -> list[Copy]:
        """What this tile leaves of a feature map for later ones."""
        x, y = self.steps[name]
        maps = self.pricer.maps
        rows = maps.region_bits(name, x.fresh, y.stored)
        h_place = self._cache_place(name, home, self.h_memory)
        v_place = self._cache_place(name, home, self.levels.v_memory)
        write_rows = self.pricer.copy("write V cache", name, rows, home, v_place)
        copied = y.stored if write_rows else 0  # the corner of both goes with the rows, unless they stay where they are
        columns = maps.region_bits(name, x.stored, y.fresh - copied)
        return [*write_rows, *self.pricer.copy("write H cache", name, columns, home, h_place)]

    def _cache_place(self, name: str, home: Place, memory: int) -> Place:
        """Where what is kept of a map is to be written; a stack's input came down through all that lies above."""
        place = Place(home.role, self.arch.level(home.role, memory))
        return home if name in self.stack.inputs and place.level > home.level else place

    def _departures(self, layer: Layer, tops: dict[Role, int]) -> list[Copy]:
        """What a layer's output leaves behind: caches, and a copy off chip where others outside the stack read it."""
        home = Place(Role.O, tops[Role.O])
        self.home[layer.output] = home
        left = self._stores(layer.output, home)
        if layer.output in self.stack.outputs and not self._only_outside(layer.output):
            x, y = self.steps[layer.output]
            bits = self.pricer.maps.region_bits(layer.output, x.own, y.own)
            left += self.pricer.copy(
                "output", layer.output, bits, home, Place(Role.O, len(self.arch.paths[Role.O]) - 1)
            )
        return left


def borders_of(graph: Graph, layer: Layer, reads_x: tuple[ReadStep, ...], reads_y: tuple[ReadStep, ...]) -> Borders:
    """Where the tile's window meets the map's borders; interleaved layers have no window of their own to clip."""
    if layer.phases != (1, 1, 1) or not layer.sources:
        return Borders()
    source = layer.sources[0]
    t = source.maps[Axis.T]
    whole_t = graph.tensors[source.tensor].spatial[Axis.T]
    return Borders(
        pads=(max(0, -t.lo), reads_y[0].padding, reads_x[0].padding),
        inputs=(whole_t, reads_y[0].span, reads_x[0].span),
    )
