"""What no schedule of a stack can cost less than, whatever its tiles and mappings: worked out without mapping anything.

Each position of a map is computed at least once. An iteration of a layer's loops costs its operation, and what crosses
the edge of the array for it: that depends on how many lanes work side by side, so the least over all numbers of lanes
is taken, and only positions are counted whose windows lie inside of their maps. Each output is written to some memory
once; what enters and leaves the stack crosses the edge of the chip once. Weights that have no room on chip come again
with every tile that computes something of their layers.

Operations take no less time than on all lanes that the loops fill, and in the exact model no less than the ports at the
edge of the chip need for what crosses it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache, cached_property
from itertools import product
from math import inf, prod

import numpy as np

from dfc.backend_cost.cost_model import CostModel
from dfc.backend_cost.nest import Borders, Nest, make_nest, window_extent
from dfc.backend_cost.tables import build_tables
from dfc.hwdsl.arch import Arch
from dfc.ir import N_DIMS, OUTPUT_DIM, Axis, AxisMap, Graph, Interval, Kind, Layer, Role, Source
from dfc.passes.stacks import Stack
from dfc.passes.tiles import DepthFirstPlan, TileClass
from dfc.scheduling.levels import MapSizes
from dfc.scheduling.placement import fetches_weights

_PLANE = (Axis.X, Axis.Y)
#: what is left of a number of elements, at least, where it is rounded to a whole one: 1 of just under 1.5
_ROUNDED = 2 / 3
#: more combinations of lanes or tiles than this are not looked at: then only operations count
_MOST_LANES = 256


class LayerBounds:
    """Energy and cycles of a layer that no schedule is below, per position of its output and for its borders."""

    def __init__(self, graph: Graph, arch: Arch, model: CostModel, *, any_lanes: bool):
        """``any_lanes``: the unrolling is not known to be what the chip prefers, so that lanes tell nothing."""
        self.graph = graph
        self.arch = arch
        self.model = model
        self.any_lanes = any_lanes
        self.sizes = MapSizes(graph, arch)
        self._stacks: dict[tuple[tuple[int, ...], frozenset[str]], tuple[float, float]] = {}
        self._constants: dict[int, int] = {}
        self._positions: dict[int, tuple[float, float, float]] = {}
        self._cycles: dict[int, float] = {}
        #: what is counted at least of each bit that crosses a boundary; fractions of lanes are rounded
        self.counted = 1.0 if model.whole_lanes else _ROUNDED

    def layer_pj(self, index: int) -> float:
        """At least this for each position of a layer's output once."""
        inside, any_position, count = self._of(index)
        return any_position * self.map_positions(index) + (inside - any_position) * count

    def map_positions(self, index: int) -> int:
        """Positions (x times y) of the layer's output."""
        extents = self.graph.tensors[self.graph.layers[index].output].spatial
        return extents[Axis.X] * extents[Axis.Y]

    def position_cycles(self, index: int) -> float:
        """Cycles of a position of a layer's output, at least: with all lanes that its loops fill."""
        found = self._cycles.get(index)
        if found is None:
            found = self._cycles[index] = self._fewest_cycles(self.graph.layers[index], index)
        return found

    def layer_cycles(self, index: int) -> float:
        """Cycles of the whole layer, at least: with all lanes that its loops fill."""
        return self.position_cycles(index) * self.map_positions(index)

    def _fewest_cycles(self, layer: Layer, index: int) -> float:
        """Per position, over all numbers of lanes along X and Y: more positions only repeat one of these."""
        busy = prod(layer.sizes) / max(1, self.map_positions(index)) / self.arch.array.units
        if layer.kind in (Kind.OPAQUE, Kind.VIEW) or layer.barrier or self.any_lanes:
            return busy
        lanes = self._lanes(layer)
        if prod(lanes.values()) > _MOST_LANES:
            return busy
        per_position = (nest.cycles / positions for nest, positions in self._nests(layer, lanes))
        return max(busy, min(per_position))

    @cached_property
    def write_pj(self) -> float:
        """Per bit, the least that it costs to leave an output in a memory.

        Nothing where that may be the memory beside the array: what crosses the array's edge is counted already.
        """
        path = self.arch.paths[Role.O]
        memories = [self.arch.memories[m] for m in path]
        if memories[0].instances == 1:
            return 0.0
        homes = [m for m in memories if m.instances == 1] or memories[-1:]
        return self.counted * min(m.write_pj / m.write_bits_per_cycle for m in homes)

    def _of(self, index: int) -> tuple[float, float, float]:
        """Energy of a position inside the map, of any position, and how many positions are known to lie inside."""
        found = self._positions.get(index)
        if found is None:
            found = self._positions[index] = self._work_out(self.graph.layers[index], index)
        return found

    def _work_out(self, layer: Layer, index: int) -> tuple[float, float, float]:
        if layer.kind in (Kind.OPAQUE, Kind.VIEW):
            return 0.0, 0.0, 0.0
        positions = max(1, self.map_positions(index))
        array = self.arch.array
        other = array.op_pj if self.model.op_energy else array.mac_pj
        moves = 0.0 if layer.kind is Kind.MOVE else other
        per_position = prod(layer.sizes) / positions * (array.mac_pj if layer.macs else moves)
        if layer.barrier or self.any_lanes:
            return per_position, per_position, 0.0
        edge = self._edge_pj(layer)
        return per_position + edge, per_position, self._inside(layer)

    def _edge_pj(self, layer: Layer) -> float:
        """Per position, the least that crosses the edge of the array, over all numbers of lanes along X and Y.

        Where the model counts fractions of lanes, 9 positions on 4 lanes are 3 steps of 3: then, over all tiles.
        """
        lanes = self._lanes(layer)
        if not self.model.whole_lanes:
            lanes = {axis: layer.sizes[OUTPUT_DIM[axis]] if n > 1 else 1 for axis, n in lanes.items()}
        if prod(lanes.values()) > _MOST_LANES:
            return 0.0
        least = inf
        for nest, positions in self._nests(layer, lanes):
            tables = build_tables(nest, self.arch, np.ones((1, N_DIMS)), self.model)
            least = min(least, sum(table.fixed_pj for table in tables.operands) / positions)
        return float(least)

    def _lanes(self, layer: Layer) -> dict[Axis, int]:
        """The most lanes that a layer's output positions can have along Y and X."""
        lanes: dict[Axis, int] = {Axis.Y: 1, Axis.X: 1}
        for unroll in self.arch.unrolls.get(layer.kind, ()):
            for axis in lanes:
                if unroll.loop is OUTPUT_DIM[axis]:
                    size = next(d.size for d in self.arch.array.dims if d.name == unroll.array_dim)
                    lanes[axis] *= min(size, unroll.size or size)
        return lanes

    def _nests(self, layer: Layer, lanes: Mapping[Axis, int]) -> Iterator[tuple[Nest, int]]:
        """The nests of up to so many lanes of output positions along Y and X, and how many positions each makes."""
        t = self.graph.tensors[layer.output].spatial[Axis.T]
        levels = {role: len(path) for role, path in self.arch.paths.items()}
        for y, x in product(range(1, lanes[Axis.Y] + 1), range(1, lanes[Axis.X] + 1)):
            extents = (t, y * layer.phases[Axis.Y], x * layer.phases[Axis.X])
            yield make_nest(layer, extents, self.arch, levels, Borders()), extents[Axis.Y] * extents[Axis.X]

    def _inside(self, layer: Layer) -> float:
        """Positions of the output whose windows meet no padding."""
        found = 1.0
        for axis in (Axis.Y, Axis.X):
            made = self._span(layer, axis)
            low, high = made.lo, made.hi
            for source in layer.sources:
                size = self.graph.tensors[source.tensor].spatial[axis]
                span = source.maps[axis]
                while low < high and not _whole(span, low, size):
                    low += 1
                while high > low and not _whole(span, high - 1, size):
                    high -= 1
            found *= high - low
        return found

    def _span(self, layer: Layer, axis: Axis) -> Interval:
        """The positions of the layer's output that are made."""
        return Interval(0, self.graph.tensors[layer.output].spatial[axis])

    # --- stacks

    def stack_bound(self, stack: Stack, held: Collection[str]) -> tuple[float, float]:
        """Energy and cycles of a stack; ``held`` maps enter or leave it on chip."""
        key = stack.layers, frozenset(held)
        if key not in self._stacks:
            self._stacks[key] = self._stack_bound(stack, held)
        return self._stacks[key]

    def _stack_bound(self, stack: Stack, held: Collection[str]) -> tuple[float, float]:
        layers = [self.graph.layers[i] for i in stack.layers]
        if layers[0].kind in (Kind.OPAQUE, Kind.VIEW):
            return 0.0, 0.0
        arriving, leaving = self._crossing_bits(stack, held)
        gone = {t for t in stack.outputs if t not in held}
        within = [layer.output for layer in layers if layer.output not in gone]
        energy = sum(map(self.layer_pj, stack.layers))
        energy += sum(self._map_bits(t, self.arch.array.output_bits) for t in within) * self.write_pj
        energy += self.off_chip_pj(arriving, inwards=True) + self.off_chip_pj(leaving, inwards=False)
        return energy, max(sum(map(self.layer_cycles, stack.layers)), self.off_chip_cycles(arriving, leaving))

    def _crossing_bits(self, stack: Stack, held: Collection[str]) -> tuple[int, int]:
        """Bits that come from off chip at least, and bits that go there."""
        array = self.arch.array
        weights = sum(self.graph.layers[i].weight_elements for i in stack.layers) * array.weight_bits
        arriving = weights + sum(self._needed_bits(t, stack) for t in stack.inputs if t not in held)
        return arriving, sum(self._map_bits(t, array.output_bits) for t in stack.outputs if t not in held)

    def _streamed_bits(self, layers: Iterable[int]) -> int:
        """Bits of constants that have no room on chip, all together: each tile that needs them fetches as many."""
        path = self.arch.paths[Role.W]
        room = sum(self.arch.memories[m].size_bits * self.arch.memories[m].instances for m in path[:-1])
        return max(0, sum(self._constant_bits(i) for i in layers) - room)

    def _constant_bits(self, index: int) -> int:
        """Bits of weights that every tile of a layer needs."""
        found = self._constants.get(index)
        if found is None:
            layer = self.graph.layers[index]
            elements = 0 if fetches_weights(layer) else layer.weight_elements
            found = self._constants[index] = elements * self.arch.array.weight_bits
        return found

    def _map_bits(self, tensor: str, bits: int) -> int:
        return self.graph.tensors[tensor].elements * bits

    def _needed_bits(self, tensor: str, stack: Stack) -> int:
        """Bits of a stack's input that its layers read at least: strides may leave borders out, slices channels."""
        return max(self.read_bits(tensor, c) for c in self.graph.consumers[tensor] if c in stack.layers)

    def read_bits(self, tensor: str, index: int) -> int:
        """Bits of a map that a layer reads at least."""
        layer = self.graph.layers[index]
        sources = (source for source in layer.sources if source.tensor == tensor)
        return max(self._source_bits(layer, s, *(self._positions_read(layer, s, a) for a in _PLANE)) for s in sources)

    def _source_bits(self, layer: Layer, source: Source, x: int, y: int) -> int:
        """Bits of (x, y) positions of a map, as far as a layer reads them: not all channels, nor all of T.

        Where the model counts fractions of lanes, each window is cut off to whole positions: to 1 of just under 2.
        """
        slides = 0 if self.model.whole_lanes else sum(layer.window(axis)[0] > 1 for axis in Axis)
        whole = self.graph.tensors[source.tensor].spatial[Axis.T]
        t = self._positions_read(layer, source, Axis.T)
        return self.sizes.read_bits(layer, source.tensor, x, y) * t // whole >> slides

    def _positions_read(self, layer: Layer, source: Source, axis: Axis) -> int:
        """Positions of a map along an axis that a layer reads at least."""
        made, whole = (self.graph.tensors[t].spatial[axis] for t in (layer.output, source.tensor))
        return _read(source.maps[axis], made, whole, layer.phases[axis], layer.window(axis))

    def off_chip_pj(self, bits: int, *, inwards: bool) -> float:
        """Energy of bits that come from off chip, or go there."""
        top = self.arch.memories[self.arch.paths[Role.O][-1]]
        if inwards:
            return self.counted * bits / top.read_bits_per_cycle * top.read_pj
        return self.counted * bits / top.write_bits_per_cycle * top.write_pj

    def off_chip_cycles(self, arriving_bits: int, leaving_bits: int) -> float:
        """Cycles in which the ports at the edge of the chip pass on so much, all of them together.

        Nothing where the model does not play transfers: there some are hidden behind others on the same port.
        """
        if not self.model.played:
            return 0.0
        top = self.arch.memories[self.arch.paths[Role.O][-1]]
        read, written = arriving_bits / top.read_bits_per_cycle, leaving_bits / top.write_bits_per_cycle
        readers, writers = (sum(way in port.kind for port in top.ports) for way in "rw")
        return max(read / readers, written / writers, (read + written) / len(top.ports))

    def plan_bound(self, plan: DepthFirstPlan, held: Collection[str]) -> tuple[float, float]:
        """The same for a plan of a stack, with the positions that it computes or fetches again."""
        energy, _ = self.stack_bound(plan.stack, held)
        if self.graph.layers[plan.stack.layers[0]].kind in (Kind.OPAQUE, Kind.VIEW):
            return energy, 0.0
        cycles = sum(map(self.layer_cycles, plan.stack.layers))
        for index in plan.stack.layers:
            again = plan.computed[self.graph.layers[index].output] - self.map_positions(index)
            energy += self._of(index)[1] * again
            cycles += self.position_cycles(index) * again
        streamed = self._streamed_by(plan) - self._streamed_bits(plan.stack.layers)
        again_bits = max(0, streamed) + sum(self._refetched_bits(t, plan) for t in plan.stack.inputs if t not in held)
        arriving, leaving = self._crossing_bits(plan.stack, held)
        edge = self.off_chip_cycles(arriving + again_bits, leaving)
        return energy + self.off_chip_pj(again_bits, inwards=True), max(cycles, edge)

    def _streamed_by(self, plan: DepthFirstPlan) -> int:
        """Bits of constants that all tiles together fetch beyond what has room on chip."""
        found = 0
        for tile in plan.classes:
            x, y = dict(tile.x.tensors), dict(tile.y.tensors)
            names = ((i, self.graph.layers[i].output) for i in plan.stack.layers)
            found += tile.count * self._streamed_bits(i for i, t in names if x[t].fresh and y[t].fresh)
        return found

    def _refetched_bits(self, tensor: str, plan: DepthFirstPlan) -> int:
        """Bits of a stack's input that all tiles together read at least, beyond those that its layers need once."""
        found = sum(tile.count * self._tile_bits(tensor, plan.stack, tile) for tile in plan.classes)
        return max(0, found - self._needed_bits(tensor, plan.stack))

    def _tile_bits(self, tensor: str, stack: Stack, tile: TileClass) -> int:
        """Bits of a stack's input that come from off chip for a tile: what is new of it, or what a layer reads there.

        Some layer that computes anything in the tile brings it.
        """
        steps = dict(tile.x.tensors), dict(tile.y.tensors)
        found: list[int] = []
        for at, index in enumerate(stack.layers):
            layer = self.graph.layers[index]
            made = [step[layer.output].fresh for step in steps]
            for source, *reads in zip(layer.sources, tile.x.reads[at], tile.y.reads[at], strict=True):
                if source.tensor == tensor and all(made):
                    each = zip(_PLANE, steps, made, reads, strict=True)
                    x, y = (min(s[tensor].fresh, _taps(layer, source, a, n, read.window)) for a, s, n, read in each)
                    found.append(self._source_bits(layer, source, x, y))
        return min(found, default=0)


@cache
def _read(span: AxisMap, outputs: int, size: int, phases: int, window: tuple[int, int, int]) -> int:
    """Positions along an axis that outputs read at least: without those that strides and dilated kernels skip.

    The loops of an interleaved layer begin with a whole group of outputs, whose inputs may be fewer than those of all.
    """
    kernel, stride, dilation = window
    hull = span.needs(Interval(0, outputs), size).size
    if span.den != 1:
        return min(hull, window_extent(-(-outputs // phases), kernel, stride, dilation))
    taps = range(span.lo, span.lo + dilation * kernel, dilation)
    touched = {at for o in range(outputs) for tap in taps if 0 <= (at := span.num * o + tap) < size}
    return min(hull, len(touched))


def _taps(layer: Layer, source: Source, axis: Axis, outputs: int, window: int) -> int:
    """Positions of a tile's window along an axis that its loops touch at least."""
    if source.maps[axis].is_full:
        return window
    kernel, stride, dilation = layer.window(axis)
    groups = -(-outputs // layer.phases[axis])
    outside = max(0, stride * (groups - 1) + dilation * (kernel - 1) + 1 - window)
    return max(0, min(window, window_extent(groups, kernel, stride, dilation) - outside))


def _whole(span: AxisMap, at: int, size: int) -> bool:
    """Whether all that an output position reads along an axis lies on the map."""
    return (span.num * at + span.lo) // span.den >= 0 and (span.num * at + span.hi) // span.den < size
