"""What no way to run a range of layers in every step over time costs less than, without mapping anything."""

from __future__ import annotations

from collections.abc import Sequence

from dfc.ir import Axis, Interval, Layer, Role
from dfc.passes.stacks import make_stack
from dfc.scheduling.bounds import LayerBounds
from dfc.scheduling.engine import modelled


class StepBounds(LayerBounds):
    """The bounds of layers where a step makes part of each map alone: its past was made by steps before."""

    def map_positions(self, index: int) -> int:
        """Positions (x times y) of the layer's output that a step makes."""
        made = self.graph.made(self.graph.layers[index].output)
        return made[Axis.X] * made[Axis.Y]

    def range_bound(self, layers: Sequence[int]) -> tuple[float, float]:
        """Energy and cycles of layers in one stack: weights and past are there already."""
        if not modelled(self.graph.layers[layers[0]]):
            return 0.0, 0.0
        stack = make_stack(self.graph, layers)
        bits = self.arch.array.output_bits
        leaving = sum(self.graph.made_elements(name) for name in stack.outputs) * bits
        within = sum(self.graph.made_elements(self.graph.layers[i].output) for i in layers) * bits - leaving
        arriving = sum(self._needed_bits(name, stack) for name in stack.inputs if name not in self.graph.past)
        energy = sum(map(self.layer_pj, layers)) + max(0, within) * self.write_pj
        weights_pj, weights_cycles = self._weights(sum(map(self._constant_bits, layers)))
        energy += weights_pj
        energy += self.off_chip_pj(arriving, inwards=True) + self.off_chip_pj(leaving, inwards=False)
        edge = self.off_chip_cycles(arriving, leaving)
        return energy, max(weights_cycles, edge, sum(map(self.layer_cycles, layers)))

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
