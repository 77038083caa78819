"""Canonicalise: the same network, said with fewer layers.

1. A view that changes neither shape nor order (identity, dropout, a cast, a squeeze of extents of one) goes;
   its readers read what it reads. Where it was a network output, its source becomes one and a note says so,
   unless the source is a network input or output already.
2. A copy that copies everything (a concatenation of one, a slice of everything, a resize by one) goes
   likewise.
3. A reshape that is read by a matrix product of one row, or by another reshape, is read through: the reader
   takes the whole of the tensor that was reshaped. Other readers keep it.
4. Batch normalisation, or a product, sum or difference with constants per channel, that alone reads a
   convolution or a matrix product with constant weights becomes part of these weights and of the bias. One
   that stands before a convolution stays: zero padding would no longer be zero.
5. A pad of zeros that one convolution alone reads becomes that convolution's padding.
6. A slice of step 1 along spatial axes goes if each of its readers stays within it; they read the whole, shifted.
7. A layer goes whose outputs nothing uses; a note says so unless it was a view.

Multiply-accumulates, and the input positions that an output position depends on, do not change, save that
those of dead layers are gone. Cases are repeated until none applies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dfc.ir import Graph
from dfc.passes.base import Pass
from dfc.passes.fold_batch_norm import fold_batch_norms
from dfc.passes.fold_pads import fold_pads
from dfc.passes.fold_slices import fold_slices
from dfc.passes.fold_views import drop_dead, drop_identities, read_through_reshapes


@dataclass(frozen=True, slots=True)
class Canonicalise(Pass):
    """The cases above; ``batch_norms``, ``pads`` and ``slices`` switch cases 4, 5 and 6."""

    name: ClassVar[str] = "canonicalise"
    batch_norms: bool = True
    pads: bool = True
    slices: bool = True

    def run(self, graph: Graph) -> Graph:
        """Apply all cases until none changes the graph."""
        while (simpler := self._once(graph)) is not graph:
            graph = simpler
        return graph

    def _once(self, graph: Graph) -> Graph:
        graph = drop_identities(graph)  # 1, 2
        graph = read_through_reshapes(graph)  # 3
        if self.batch_norms:
            graph = fold_batch_norms(graph)  # 4
        if self.pads:
            graph = fold_pads(graph)  # 5
        if self.slices:
            graph = fold_slices(graph)  # 6
        return drop_dead(graph)  # 7
