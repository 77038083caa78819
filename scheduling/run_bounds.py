"""Bounds of all stacks that begin with the same layer, each from the one that is a layer shorter.

The same as :meth:`LayerBounds.stack_bound`, for long networks: a stack costs as much time as it has layers more.
"""

from __future__ import annotations

from dataclasses import dataclass

from dfc.ir import Kind
from dfc.scheduling.bounds import LayerBounds


@dataclass(frozen=True, slots=True)
class _Sums:
    """Of the layers until some layer.

    arriving_bits: constants, and what is read of the stack's inputs; entering_bits: of these, of the one map that the
    layer before the stack makes. leaving_bits, within_bits: of maps that are handed over, and of outputs that are not.
    """

    energy_pj: float
    cycles: float
    arriving_bits: int
    entering_bits: int
    leaving_bits: int
    within_bits: int


class RunBounds:
    """Bounds of the stacks from layer ``first`` on."""

    def __init__(self, bounds: LayerBounds, first: int):
        self.bounds = bounds
        self.graph = bounds.graph
        self.first = first
        self.entering = self.graph.layers[first - 1].output if first else ""
        self.unknown = self.graph.layers[first].kind in (Kind.OPAQUE, Kind.VIEW)
        self._sums: list[_Sums] = [_Sums(0.0, 0.0, 0, 0, 0, 0)]
        self._made: set[str] = set()
        self._needed: dict[str, int] = {}

    def until(self, end: int, *, held_in: bool, held_out: bool) -> tuple[float, float]:
        """Energy and cycles of the layers before layer ``end``.

        held_in, held_out: what the layer before the stack makes, and what its last layer makes, stay on chip.
        """
        if self.unknown:
            return 0.0, 0.0
        while len(self._sums) <= end - self.first:
            self._sums.append(self._longer(self._sums[-1], self.first + len(self._sums) - 1))
        found = self._sums[end - self.first]
        arriving, leaving, within = found.arriving_bits, found.leaving_bits, found.within_bits
        last = self._bits(self.graph.layers[end - 1].output)
        if leaving == 0:  # a dead end still computes
            leaving, within = last, within - last
        if held_in:
            arriving -= found.entering_bits
        if held_out:
            leaving, within = leaving - last, within + last
        energy = found.energy_pj + within * self.bounds.write_pj
        energy += self.bounds.off_chip_pj(arriving, inwards=True) + self.bounds.off_chip_pj(leaving, inwards=False)
        return energy, max(found.cycles, self.bounds.off_chip_cycles(arriving, leaving))

    def _bits(self, tensor: str) -> int:
        return self.graph.tensors[tensor].elements * self.bounds.arch.array.output_bits

    def _longer(self, sums: _Sums, index: int) -> _Sums:
        layer = self.graph.layers[index]
        arriving = sums.arriving_bits + layer.weight_elements * self.bounds.arch.array.weight_bits
        leaving, within = sums.leaving_bits, sums.within_bits
        for tensor in dict.fromkeys(s.tensor for s in layer.sources):
            if tensor not in self._made:
                more = self.bounds.read_bits(tensor, index) - self._needed.get(tensor, 0)
                self._needed[tensor] = self._needed.get(tensor, 0) + max(0, more)
                arriving += max(0, more)
            elif self.graph.consumers[tensor][-1] == index and tensor not in self.graph.outputs:
                leaving -= self._bits(tensor)
                within += self._bits(tensor) * self._counts(tensor)
        for tensor in layer.outputs:
            self._made.add(tensor)
            if self.graph.consumers[tensor] or tensor in self.graph.outputs:
                leaving += self._bits(tensor)
            else:
                within += self._bits(tensor) * self._counts(tensor)
        energy = sums.energy_pj + self.bounds.layer_pj(index)
        cycles = sums.cycles + self.bounds.layer_cycles(index)
        return _Sums(energy, cycles, arriving, self._needed.get(self.entering, 0), leaving, within)

    def _counts(self, tensor: str) -> bool:
        """Whether it is the first output of its layer: of others no writing is counted."""
        return self.graph.layers[self.graph.producer[tensor]].output == tensor
