"""What the layers of one tile class read, make and may choose, whatever stays in memories meanwhile."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from dfc.backend_cost.cost_model import CostModel
from dfc.backend_cost.nest import Borders, Nest
from dfc.hwdsl.arch import Arch
from dfc.ir import Axis, Graph, Layer, Role
from dfc.passes.tiles import DepthFirstPlan, TileClass
from dfc.scheduling.engine import borders_of
from dfc.scheduling.levels import MapSizes
from dfc.scheduling.nest_floor import LearntFloor, Levels
from dfc.scheduling.parts import ReadParts, TileParts
from dfc.scheduling.placement import Held

if TYPE_CHECKING:
    from dfc.scheduling.class_paths import StepFloor
    from dfc.scheduling.class_walk import Moves


class ClassView:
    """A tile class of a plan; ``held`` maps that cross the stack's border stay on chip."""

    def __init__(self, maps: MapSizes, arch: Arch, model: CostModel, plan: DepthFirstPlan, tile: TileClass, held: Held):
        self.graph: Graph = maps.graph
        self.arch = arch
        self.maps = maps
        self.model = model
        self.plan = plan
        self.stack = plan.stack
        self.tile = tile
        self.held = held
        self.parts = TileParts(self.graph, plan, tile)
        inside = set(self.stack.layers)
        readers = {t: [c for c in self.graph.consumers[t] if c in inside] for t in self._maps()}
        #: the last layer that reads a map in this tile; a map that nobody reads lies until its own layer is done
        self.last_use = {t: max(users, default=-1) for t, users in readers.items()}
        #: the only layer that reads a map in this stack
        self.only_user = {t: users[0] for t, users in readers.items() if len(users) == 1}
        self.reads: dict[int, dict[str, ReadParts]] = {i: self.parts.windows(i) for i in self.stack.layers}
        #: what mappings cost at least, by layer, and how many memories operands use, by memories: filled by who asks
        self.floors: dict[int, LearntFloor] = {}
        self.levels: dict[tuple[int, int, int | None], dict[Role, int]] = {}
        #: nests of layers by memories and idle lanes, and what is copied around layers, alike
        self.nests: dict[tuple[int, Levels, frozenset[str]], Nest] = {}
        self.moves: dict[Hashable, Moves] = {}
        #: what layers cost at least without their mappings, by memories
        self.copies: dict[Hashable, dict[tuple[int, int], StepFloor]] = {}

    def _maps(self) -> Iterator[str]:
        yield from self.stack.inputs
        for i in self.stack.layers:
            yield from self.graph.layers[i].outputs

    @cached_property
    def extents(self) -> dict[str, tuple[int, int]]:
        """(x, y) positions that the tile computes or fetches of each map."""
        steps = zip(self.tile.x.tensors, self.tile.y.tensors, strict=True)
        return {name: (x.fresh, y.fresh) for (name, x), (_, y) in steps}

    @cached_property
    def borders(self) -> dict[int, Borders]:
        """Where the windows of each layer meet borders of their maps, as far as the model asks."""
        if not self.model.whole_lanes:
            return dict.fromkeys(self.stack.layers, Borders())
        reads = zip(self.stack.layers, self.tile.x.reads, self.tile.y.reads, strict=True)
        return {i: borders_of(self.graph, self.graph.layers[i], x, y) for i, x, y in reads}

    @cached_property
    def choices(self) -> dict[int, list[tuple[int, int]]]:
        """The memories in which each layer may read its inputs and leave its output; none where it computes nothing.

        Then other tiles compute all that is needed of it.
        """
        found: dict[int, list[tuple[int, int]]] = {}
        for index in self.stack.layers:
            layer = self.graph.layers[index]
            idle = self.parts.map(layer.output).fresh == 0
            inputs = [] if idle else self._input_memories(index)
            found[index] = [(i, o) for i in inputs for o in self._output_memories(layer)]
        return found

    def _input_memories(self, index: int) -> list[int]:
        """Where a layer may read its inputs: from the lowest memory with room for the windows upwards, two of them."""
        path = self.arch.paths[Role.I]
        bits = sum(self.bits(index, t, parts.window) for t, parts in self.reads[index].items())
        fit = [m for m in path if self.arch.memories[m].instances == 1 and self.arch.memories[m].size_bits >= bits]
        return fit[:2] or [path[-1]]

    def _output_memories(self, layer: Layer) -> list[int]:
        """Where a layer may leave its output, alike; off chip where only others read it."""
        path = self.arch.paths[Role.O]
        if layer.output in self.held:
            return [self.held[layer.output].memory]
        if self.last_use[layer.output] < 0 and layer.output in self.stack.outputs:
            return [path[-1]]
        bits = self.bits(None, layer.output, self.parts.map(layer.output).fresh)
        fit = [m for m in path if self.arch.memories[m].instances == 1 and self.arch.memories[m].size_bits >= bits]
        return fit[:2] or [path[-1]]

    @cached_property
    def arriving(self) -> dict[int, list[str]]:
        """Per layer that computes something, the stack's inputs that no layer before it read in this tile."""
        known = {t for t in self.stack.inputs if t in self.held}
        found: dict[int, list[str]] = {}
        for index in self.stack.layers:
            if self.choices[index]:
                found[index] = [t for t in self.reads[index] if t not in known]
                known |= {*found[index], self.graph.layers[index].output}
        return found

    @cached_property
    def homes(self) -> dict[str, set[int]]:
        """The memories in which each map may lie."""
        found = {t: {self.held[t].memory} for t in self.stack.inputs if t in self.held}
        for index, choices in self.choices.items():
            if choices:
                found |= {t: {i for i, _ in choices} for t in self.arriving[index]}
                found[self.graph.layers[index].output] = {o for _, o in choices}
        return found

    @cached_property
    def most(self) -> dict[int, dict[int, int]]:
        """Per layer and memory, bits of maps that may lie there while it runs, save its output and what it reads first.

        More never do.
        """
        found: dict[int, dict[int, int]] = {}
        made: list[str] = []
        waiting: list[str] = []  # what the layer before left may still be to be copied
        for index in self.stack.layers:
            if self.choices[index]:
                found[index] = {}
                for tensor in made:
                    if self.last_use[tensor] >= index or tensor in waiting:
                        bits = self.bits(None, tensor, self.parts.map(tensor).fresh)
                        for m in self.homes[tensor]:
                            found[index][m] = found[index].get(m, 0) + bits
                waiting = [*self.arriving[index], self.graph.layers[index].output]
                made += waiting
        return found

    def own(self, index: int, i_memory: int, o_memory: int) -> dict[int, int]:
        """By memory, bits that a layer's output, what it reads first, and copies of what it reads take at most."""
        output = self.graph.layers[index].output
        found = {i_memory: 0, o_memory: self.bits(None, output, self.parts.map(output).fresh)}
        found[i_memory] += sum(self.bits(None, t, self.parts.map(t).fresh) for t in self.arriving[index])
        found[i_memory] += sum(self.bits(index, t, parts.window) for t, parts in self.reads[index].items())
        return found

    def bits(self, index: int | None, tensor: str, positions: int) -> int:
        """Bits of positions of a map: of all channels, or of those that a layer reads."""
        if index is None:
            return self.maps.region_bits(tensor, positions, 1)
        return self.maps.read_bits(self.graph.layers[index], tensor, positions, 1)

    def whole_extents(self, tensor: str) -> tuple[int, int, int]:
        """(t, y, x) positions that the tile computes; T is never tiled."""
        x, y = self.extents[tensor]
        return self.graph.tensors[tensor].spatial[Axis.T], y, x
