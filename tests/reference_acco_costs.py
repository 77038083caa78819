"""What ACCO records of a range, from plans and prices of ours; and the defects that its runs have beside DeFiNES's.

- **N1**: runs with NumPy 2 add the cycles that copies hold a port in eight bits, so ports that are shared wrap around.
- **one-row**: the transform builds each layer anew as the workload declares it and then gives the last one the rows of
  its range. A loop of size 1 belongs to no operand, so where the workload declares a single row, the output of that
  layer keeps one row, whatever is computed: the others are neither kept nor written to DRAM.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from math import floor
from typing import Any
from unittest.mock import patch

from reference_acco import RECORDED, Placed, Range
from reference_defects import Prediction, predict

from dfc.backend_cost.nest import Nest, make_nest
from dfc.hwdsl import Arch
from dfc.ir import Axis, Dim, Graph, Layer, Role
from dfc.passes.axis_tiles import AxisStep
from dfc.passes.tiles import DepthFirstPlan, TileClass, plan_spans
from dfc.scheduling import copies, engine
from dfc.scheduling.copies import hops, price_copies
from dfc.scheduling.engine import StackCost, StackPricer

#: what float noise may add to or take from a sum before it is truncated, in pJ
NOISE_PJ = 1e-6
N1, ONE_ROW = "N1", "one-row"


def numpy_2() -> bool:
    """Whether the runs were recorded with a NumPy that keeps sums of eight bits in eight bits."""
    return int(RECORDED["python"].partition("numpy ")[2].partition(".")[0]) >= 2


def one_row_layers() -> set[str]:
    """Layers that the workload declares with a single row."""
    return {f"L{n}" for n, layer in RECORDED["workload"].items() if n != "-1" and layer["dims"]["OY"] == 1}


def _wrapped_port_end(spans: list[tuple[int, int]]) -> int:
    """N1: when a port is done, as ``copies.price_copies`` asks."""
    busy = sum(end - start for start, end in spans)
    if len(spans) > 1 and numpy_2():
        busy = (busy + 128) % 256 - 128
    return max(min(start for start, _ in spans) + busy, max(end for _, end in spans))


def _one_row_nest(layer: Layer, *rest: Any, **named: Any) -> Nest:
    """one-row: nests as ``engine.make_nest`` makes them, the output of some layers without its rows."""
    nest = make_nest(layer, *rest, **named)
    if layer.name not in one_row_layers():
        return nest
    found = (
        replace(o, dims=tuple(d for d in o.dims if d is not Dim.OY)) if o.role is Role.O else o for o in nest.operands
    )
    return replace(nest, operands=tuple(found))


def with_defects(names: Collection[str] = (N1, ONE_ROW)) -> AbstractContextManager[object]:
    """While open, prices have these defects; pricers must be new, as they remember."""
    stack = ExitStack()
    if N1 in names:
        stack.enter_context(patch.object(copies, "_port_end", _wrapped_port_end))
    if ONE_ROW in names:
        stack.enter_context(patch.object(engine, "make_nest", _one_row_nest))
    return stack


def all_tiles(plan: DepthFirstPlan) -> Counter[TileClass]:
    """How many tiles there are of each class."""
    return Counter({c: c.count for c in plan.classes})


def row_of_tiles(graph: Graph, plan: DepthFirstPlan, number: int) -> Counter[TileClass]:
    """How many tiles of each class stand in one row of tiles; ACCO calls a row that stands alone the second, too."""
    rows = [_step_of(plan, Axis.Y, tile.step) for tile in plan_spans(graph, plan, Axis.Y)]
    number = min(number, len(rows) - 1)
    columns = [_step_of(plan, Axis.X, tile.step) for tile in plan_spans(graph, plan, Axis.X)]
    classes = {(c.x, c.y, c.first): c for c in plan.classes}
    return Counter(classes[x, rows[number], number == at == 0] for at, x in enumerate(columns))


def _step_of(plan: DepthFirstPlan, axis: Axis, number: int) -> AxisStep:
    """The steps of an axis in order of appearance."""
    return list(dict.fromkeys(c.x if axis is Axis.X else c.y for c in plan.classes))[number]


@dataclass(frozen=True)
class Item:
    """A recorded layer, or the copies before one, in the tiles of one class: energy and time of one of them.

    The time is the original's "latency_total2": until the last output has left, not until it was computed.
    """

    name: str
    tile: TileClass
    energy_pj: float
    cycles: int


@dataclass(frozen=True)
class Costs:
    """A plan priced item by item, ``defects`` being those that change anything."""

    cost: StackCost
    items: tuple[Item, ...]
    defects: frozenset[str]

    def by_item(self, tiles: Counter[TileClass]) -> dict[str, tuple[float, int]]:
        """Energy and time of every item in some tiles."""
        found: dict[str, tuple[float, int]] = {}
        for item in self.items:
            energy, cycles = found.get(item.name, (0.0, 0))
            n = tiles[item.tile]
            found[item.name] = energy + n * item.energy_pj, cycles + n * item.cycles
        return found

    def energy_pj(self, tiles: Counter[TileClass]) -> tuple[int, int]:
        """Between which numbers the sum of energies lies that are truncated item by item, as ACCO does."""
        energies = [energy for energy, _ in self.by_item(tiles).values()]
        return sum(floor(e - NOISE_PJ) for e in energies if e), sum(floor(e + NOISE_PJ) for e in energies)

    def cycles(self, tiles: Counter[TileClass]) -> int:
        """Time of some tiles."""
        return sum(cycles for _, cycles in self.by_item(tiles).values())


def costs_of(graph: Graph, arch: Arch, prediction: Prediction) -> Costs:
    """Layers and copies of a plan under the recorded names; ``copies`` in front of those of copies."""
    found: list[Item] = []
    for one in prediction.cost.classes:
        for run in one.runs:
            if run.cost is not None:
                cycles = run.cost.latency_cycles + run.cost.offloading_cycles
                found.append(Item(graph.layers[run.layer].name, one.tile, run.cost.energy_pj, cycles))
    for group, cost in prediction.priced(arch):
        found.append(Item(f"copies {group.key}", group.tile, cost.energy_pj, cost.latency_cycles))
    return Costs(prediction.cost, tuple(found), prediction.defects)


def as_recorded(pricer: StackPricer, plan: DepthFirstPlan) -> Costs:
    """What ACCO makes of a plan, with the defects that it shares with DeFiNES and its own; the pricer must be new."""
    with with_defects():
        _, prediction = predict(pricer, plan)
        found = costs_of(pricer.graph, pricer.arch, prediction)
    plain = [price_copies(pricer.arch, group.copies).latency_cycles for group in prediction.groups]
    wrapped = [item.cycles for item in found.items if item.name.startswith("copies")]
    last = pricer.graph.layers[plan.stack.layers[-1]].name
    more = {N1} if plain != wrapped else set[str]()
    more |= {ONE_ROW} if last in one_row_layers() and plan.tile[1] > 1 else set()
    return replace(found, defects=found.defects | more)


# -- what no price is needed for ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Peaks:
    """ACCO's ``peak_f`` in bits: largest of all tiles, of those of the first row, and of those of later rows."""

    warmup: int
    stable: int

    @property
    def total(self) -> int:
        """Of all tiles."""
        return max(self.warmup, self.stable)


def peaks(graph: Graph, plan: DepthFirstPlan, part: Range, bits: int = 8) -> Peaks:
    """Live maps, column caches and row caches, for every class of tiles.

    Column caches count in tiles that read them, and never in the first column, which is the original's mistake (it
    looks its caches up by nodes of another copy of the network); row caches count in all tiles, over the full width.
    """
    lone = one_row_layers()
    lines = sum((_span(layer) - layer.stride[0]) * columns * channels for layer, channels, columns in _entering(part))
    first = plan_spans(graph, plan, Axis.Y)[0].step
    found = [0, 0]
    for tile in plan.classes:
        made = {name: (x.fresh, y.fresh) for (name, x), (_, y) in zip(tile.x.tensors, tile.y.tensors, strict=True)}
        live = columns = 0
        for index, (across,), (down,) in zip(plan.stack.layers, tile.x.reads, tile.y.reads, strict=True):
            layer = graph.layers[index]
            (source,), out = layer.sources, graph.tensors[layer.output]
            deep = graph.tensors[source.tensor].channels
            wide, high = made[layer.output]
            high = 1 if layer.name in lone else high
            live = max(live, across.window * down.window * deep + wide * high * out.channels)
            columns += across.cached * down.window * deep
        later = tile.y is not _step_of(plan, Axis.Y, first)
        found[later] = max(found[later], (live + columns + lines) * bits)
    return Peaks(*found)


def _span(layer: Placed) -> int:
    """Rows that one row of a layer's output reaches over."""
    return (layer.step.kernel[0] - 1) * layer.dilation + 1


def _entering(part: Range) -> Iterator[tuple[Placed, int, int]]:
    """Every layer with the channels and columns of what it reads."""
    channels, columns = part.channels, part.fed[1]
    for layer in part.layers:
        yield layer, channels, columns
        channels, columns = layer.step.channels, layer.made[1]


@dataclass(frozen=True)
class Crossing:
    """What of a range's cost is the way between DRAM and the memory below it, and would be saved by staying on chip."""

    bits: float
    energy_pj: float
    cycles: int = 0


def entering(costs: Costs, arch: Arch, tiles: Counter[TileClass]) -> Crossing:
    """Of the range's input: the first hop of its copies."""
    found = [(tiles[c.tile], copy) for c in costs.cost.classes for run in c.runs for copy in run.copies]
    first = [(n, hops(arch, copy)[0]) for n, copy in found if copy.what == "input"]
    return Crossing(
        sum(n * hop.read_bits for n, hop in first),
        sum(n * (hop.read_pj + hop.write_pj) for n, hop in first),
        sum(n * hop.cycles for n, hop in first),
    )


def leaving(costs: Costs, arch: Arch, tiles: Counter[TileClass]) -> Crossing:
    """Of its output: what the last layer writes to DRAM and reads for it."""
    below, dram = (arch.memories[m] for m in arch.paths[Role.O][-2:])
    each_pj = dram.write_pj / dram.write_bits_per_cycle + below.read_pj / below.read_bits_per_cycle
    written = 0.0
    for one in costs.cost.classes:
        last = one.runs[-1].cost
        assert last is not None
        written += tiles[one.tile] * last.write_bits[arch.paths[Role.O][-1]]
    return Crossing(written, written * each_pj)
