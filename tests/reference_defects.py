"""What the reference's named defects change, so that a recorded point can be predicted from one of ours.

Names are those of the list in docs/depth-first.md, "Differences to the reference". Nothing is listed point by point:
each rule derives from a plan where the defect shows, so points that are not recorded yet are covered too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import Mock, patch

from dfc.backend_cost.nest import Borders, Nest, NestOperand, make_nest
from dfc.hwdsl import Arch
from dfc.hwdsl.arch import Unroll
from dfc.ir import Axis, Dim, Graph, Kind, Layer, Role
from dfc.passes.axis_tiles import AxisStep
from dfc.passes.tiles import DepthFirstPlan, Overlap, TileClass, Tiler
from dfc.scheduling import engine
from dfc.scheduling.copies import Copy, CopyCost, Place, price_copies
from dfc.scheduling.engine import LayerRun, StackCost, StackPricer
from dfc.scheduling.levels import ClassDemand, MapSizes, MemoryLadder, StackLevels, class_demand

#: the pseudo layer that fetches a stack's input, in recorded points
INPUT = "InputLayerNode"
CACHE_WRITES = ("write H cache", "write V cache")
CACHE_READS = ("read H cache", "read V cache")


def reads_cache(step: AxisStep) -> bool:
    """Whether tiles read what earlier ones along an axis kept."""
    return any(read.cached for row in step.reads for read in row)


class CacheLevels:
    """The levels that the reference gives caches: the H cache per class, the V cache of the stack."""

    def __init__(self, graph: Graph, arch: Arch, plan: DepthFirstPlan):
        self.graph = graph
        self.plan = plan
        self.maps = MapSizes(graph, arch)
        self.ladder = MemoryLadder(arch)
        self.kept = Tiler(graph, plan.stack).plan(plan.tile, Overlap.CACHED)

    def h_memory(self, tile: TileClass) -> int:
        """What the tile itself asks for, its H cache sized as if rows were kept (D5)."""
        asks = {self._lowest(self._demand(tile).live_bits + bits) for bits in self._h_bits_if_kept(tile)}
        (ask,) = asks  # otherwise tiles that are alike for us would differ by their row in the reference
        return ask

    def v_memory(self) -> int:
        """What the last tile asks for (D2); D4 compares with the same level."""
        tile = self.plan.classes[-1]
        demand = self._demand(tile)
        need = demand.live_bits + demand.h_cache_bits + demand.v_cache_bits
        without_corner = self._lowest(need - demand.corner_bits)
        h_level = self._lowest(demand.live_bits + demand.h_cache_bits)
        return without_corner if without_corner == h_level else self._lowest(need)

    def _lowest(self, bits: int) -> int:
        return self.ladder.lowest_shared(bits)

    def _demand(self, tile: TileClass) -> ClassDemand:
        return class_demand(self.graph, self.plan.stack, tile, self.maps)

    def _h_bits_if_kept(self, tile: TileClass) -> set[int]:
        """Of all tiles with rows kept that stand in the rows and columns of this class."""
        rows = self._rows_if_kept(tile)
        return {self._demand(c).h_cache_bits for c in self.kept.classes if c.x == tile.x and c.y in rows}

    def _rows_if_kept(self, tile: TileClass) -> set[AxisStep]:
        first, *later = dict.fromkeys(c.y for c in self.kept.classes)
        steps = {c.y for c in self.plan.classes}
        if tile.y != self.plan.classes[0].y:
            return set(later)
        return {first} if len(steps) > 1 or not later else {first, *later}


def reference_levels(graph: Graph, arch: Arch, plan: DepthFirstPlan, ours: StackLevels) -> StackLevels:
    """Our levels, except where D2 or D5 give the reference others."""
    levels = CacheLevels(graph, arch, plan)
    if plan.overlap is Overlap.CACHED and any(reads_cache(c.y) for c in plan.classes):
        return replace(ours, v_memory=levels.v_memory())
    if plan.overlap is not Overlap.H_CACHED:
        return ours
    of_row = {c.y: levels.h_memory(c) for c in plan.classes if reads_cache(c.x)}
    h_memory = tuple(of_row.get(c.y, m) for c, m in zip(plan.classes, ours.h_memory, strict=True))
    return replace(ours, h_memory=h_memory)


def priced_at(pricer: StackPricer, plan: DepthFirstPlan, levels: StackLevels) -> StackCost:
    """The cost of a plan with caches at other levels than the engine's own."""
    with patch.object(engine, "stack_levels", Mock(return_value=levels)):
        cost = pricer.price(plan)
    assert isinstance(cost, StackCost)
    return cost


class AsDeclared:
    """Nests as the reference's workload of a network on a chip declares its layers, in place of the engine's own.

    Its 1x1 convolutions have windows there, so that fractions of lanes are truncated (C5), and each layer has its own
    spatial unrolling, which may be another than the chip prefers.
    """

    def __init__(self, layers: dict[str, Any], chip: str):
        self.layers = {f"L{number}": layer for number, layer in layers.items()}
        self.chip = chip

    def __enter__(self) -> None:
        self._patch = patch.object(engine, "make_nest", self.nest)
        self._patch.start()

    def __exit__(self, *_: object) -> None:
        self._patch.stop()

    def nest(
        self,
        layer: Layer,
        extents: tuple[int, int, int],
        arch: Arch,
        tops: dict[Role, int],
        borders: Borders,
        idle: frozenset[str] = frozenset(),
        _: object = None,
    ) -> Nest:
        """As the engine's ``make_nest``; layers that the workload does not have stay as they are."""
        declared = self.layers.get(layer.name)
        if declared is None:
            return make_nest(layer, extents, arch, tops, borders, idle)
        wanted = declared["spatial_mapping"][self.chip].items()
        lanes = tuple(Unroll(array_dim, Dim[loop], size) for array_dim, (loop, size) in wanted)
        nest = make_nest(layer, extents, arch, tops, borders, idle, lanes)
        if not declared["windows"]:
            return nest
        return replace(nest, operands=tuple(_windowed(o) if o.role is Role.I else o for o in nest.operands))


def _windowed(operand: NestOperand) -> NestOperand:
    dims = tuple(sorted({*operand.dims, Dim.FY, Dim.FX}))
    return replace(operand, dims=dims, windows=(Axis.Y, Axis.X))


@dataclass(frozen=True)
class Group:
    """Copies that the reference gathers in one pseudo layer, for one tile class."""

    key: str
    tile: TileClass
    copies: tuple[Copy, ...]

    @property
    def count(self) -> int:
        """How many tiles pay for them."""
        return self.tile.count


@dataclass(frozen=True)
class Prediction:
    """What the reference records of a plan of ours: the copies of every class, and which defects changed them."""

    cost: StackCost
    groups: tuple[Group, ...]
    defects: frozenset[str]

    def priced(self, arch: Arch) -> Iterator[tuple[Group, CopyCost]]:
        """Every group with what one tile pays for it."""
        for group in self.groups:
            yield group, price_copies(arch, group.copies)


def predict(pricer: StackPricer, plan: DepthFirstPlan) -> tuple[StackCost, Prediction]:
    """Our cost of a plan, and what the reference makes of the same plan."""
    ours = pricer.price(plan)
    assert isinstance(ours, StackCost)
    levels = reference_levels(pricer.graph, pricer.arch, plan, ours.levels)
    found: set[str] = set()
    if levels.v_memory != ours.levels.v_memory:
        found.add("D2")
    if levels.h_memory != ours.levels.h_memory:
        found.add("D5")
    theirs = priced_at(pricer, plan, levels) if found else ours
    groups: list[Group] = []
    for tile in theirs.classes:
        for run in tile.runs:
            layer = pricer.graph.layers[run.layer]
            for key, copies in _groups(run, layer.name).items():
                read = [c for c in copies if not _reads_delayed(layer, c)]
                kept = [_lowered(pricer, c) for c in read if not _writes_input(plan, c)]
                found |= {"D7"} if len(read) < len(copies) else set()
                found |= {"D8"} if len(kept) < len(read) else set()
                found |= {"D9"} if any(c not in copies for c in kept) else set()
                groups.append(Group(key, tile.tile, tuple(kept)))
    return ours, Prediction(theirs, tuple(groups), frozenset(found))


def _groups(run: LayerRun, layer: str) -> dict[str, list[Copy]]:
    """Copies before a layer; the reference numbers layers where the example networks name them L0, L1, ..."""
    found: dict[str, list[Copy]] = {}
    for copy in run.copies:
        found.setdefault(INPUT if copy.what == "input" else f"LayerNode_{layer.removeprefix('L')}", []).append(copy)
    return found


def _reads_delayed(layer: Layer, copy: Copy) -> bool:
    """D7: an add's own window overlaps with none, so what its delayed input left in caches is not read."""
    return layer.kind is Kind.ELTWISE and copy.what in CACHE_READS


def _writes_input(plan: DepthFirstPlan, copy: Copy) -> bool:
    """D8: overlap of the stack's input is read from caches into which the reference never wrote it.

    Ours is written only where the input did not pass on its way in, which is below the level that it arrives at.
    """
    return copy.what in CACHE_WRITES and copy.tensor in plan.stack.inputs


def _lowered(pricer: StackPricer, copy: Copy) -> Copy:
    """D9: the new part of the input stays at the lowest level that holds it, also below where its reader looks."""
    if copy.what != "input":
        return copy
    level = pricer.ladder.lowest(Role.I, copy.bits)
    return replace(copy, target=Place(Role.I, level)) if level < copy.target.level else copy


#: bits, and level by role of where from and where to
Moved = tuple[int, Role, int, Role, int]
ROLES = {"I1": Role.I, "O": Role.O}


def movement(copy: Copy) -> Moved:
    return copy.bits, copy.source.role, copy.source.level, copy.target.role, copy.target.level


def recorded_movements(layer: dict[str, Any]) -> Counter[Moved]:
    found: Counter[Moved] = Counter()
    for variant in layer["variants"]:
        for action in variant["actions"]:
            (source, out, *_), (target, into, *_) = action["from"], action["to"]
            found[int(action["bits"]), ROLES[source], out, ROLES[target], into] += variant["count"]
    return found
