"""What no way to run a range of layers in every step over time costs less than, without mapping anything."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dfc.ir import Axis, Interval, Layer, Role
from dfc.passes.stacks import Stack, make_stack
from dfc.scheduling.bounds import LayerBounds
from dfc.scheduling.engine import modelled


class StepBounds(LayerBounds):
    """The bounds of layers where a step makes part of each map alone: its past was made by steps before."""

    def map_positions(self, index: int) -> int:
        """Positions (x times y) of the layer's output that a step makes."""
        made = self.graph.made(self.graph.layers[index].output)
        return made[Axis.X] * made[Axis.Y]

    def range_bound(
        self, layers: Sequence[int], on_chip: Collection[str] = (), *, fetched: bool = False
    ) -> tuple[float, float]:
        """Energy and cycles of layers in one stack: the past is there already.

        on_chip: maps that cross its border on chip. fetched: whether weights come from off chip, else they are there.
        """
        if not modelled(self.graph.layers[layers[0]]):
            return 0.0, 0.0
        stack = make_stack(self.graph, layers)
        bits = self.arch.array.output_bits
        leaving = sum(self.graph.made_elements(name) for name in stack.outputs if name not in on_chip) * bits
        within = sum(self.graph.made_elements(self.graph.layers[i].output) for i in layers) * bits - leaving
        arriving = sum(self._arriving_bits(name, stack) for name in stack.inputs if name not in on_chip)
        energy = sum(map(self.layer_pj, layers)) + max(0, within) * self.write_pj
        constant = self.constant_bits(layers)
        weights_pj, weights_cycles = self._weights(constant)
        if fetched:  # once at least, and in the least case straight to the array
            top = self.arch.memories[self.arch.paths[Role.W][-1]]
            weights_pj = max(weights_pj, self.counted * constant / top.read_bits_per_cycle * top.read_pj)
        energy += weights_pj
        energy += self.off_chip_pj(arriving, inwards=True) + self.off_chip_pj(leaving, inwards=False)
        edge = self.off_chip_cycles(arriving, leaving)
        return energy, max(weights_cycles, edge, sum(map(self.layer_cycles, layers)))

    def constant_bits(self, layers: Sequence[int]) -> int:
        """Bits of weights that may stay from step to step."""
        return sum(map(self._constant_bits, layers))

    def _arriving_bits(self, name: str, stack: Stack) -> int:
        """Bits of a stack's input that come in every step: of one with a past, what is new, all of it along time."""
        time = self.graph.time
        if name not in self.graph.past or time is None:
            return self._needed_bits(name, stack)
        found: list[int] = []
        for index in stack.layers:
            layer = self.graph.layers[index]
            for source in layer.sources:
                if source.tensor == name:
                    read = [
                        self.graph.made(name)[axis] if axis is time else self._positions_read(layer, source, axis)
                        for axis in (Axis.X, Axis.Y)
                    ]
                    found.append(self._source_bits(layer, source, read[0], read[1]))
        return max(found, default=0)

    def _weights(self, bits: int) -> tuple[float, float]:
        """Energy and cycles that it takes at least to bring weights to the array: lower memories are full of them, and
        all others are read through every port that there is.
        """
        memories = [self.arch.memories[m] for m in self.arch.paths[Role.W]]
        reads = [memory.read_pj / memory.read_bits_per_cycle for memory in memories]
        widths = [m.read_bits_per_cycle * m.instances * len(m.ports) for m in memories]
        energy = cycles = 0.0
        for level, memory in enumerate(memories):
            if level:
                cycles = max(cycles, bits / max(widths[level:]))
            here = min(bits, memory.size_bits * memory.instances) if level + 1 < len(memories) else bits
            energy += here * min(reads[level:]) if level else 0.0
            bits -= here
        return self.counted * energy, self.counted * cycles

    def _span(self, layer: Layer, axis: Axis) -> Interval:
        return self.graph.made_along(layer.output, axis)
