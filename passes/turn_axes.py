"""Two axes of a network exchanged: what lay along one lies along the other, and the same loops run over it.

Tiles are along X and Y. Where time is T, as in a network over space and time, T and Y change places, so that time is an
axis along which tiles follow each other. A chip that unrolls OT where it unrolled OY before, and FT where FY, takes the
same time and energy for it (:func:`exchanged`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from dfc.ir import KERNEL_DIM, OUTPUT_DIM, Axis, Dim, Graph, Layer, Operand, Source, Tensor, Triple

T = TypeVar("T")


def rows_for_time(graph: Graph) -> Graph:
    """The same network with T and Y exchanged, names and all else as they were."""
    maps = {name for layer in graph.layers for name in (*layer.outputs, *(s.tensor for s in layer.sources))}
    maps |= {*graph.inputs, *graph.outputs}
    tensors = {name: _turned(t) if name in maps else t for name, t in graph.tensors.items()}
    time = graph.time if graph.time is None else (Axis.Y, Axis.T, Axis.X)[graph.time]
    return replace(graph, tensors=tensors, layers=tuple(map(_layer, graph.layers)), time=time)


def exchanged(dim: Dim) -> Dim:
    """The loop that takes the place of another."""
    for pair in (OUTPUT_DIM, KERNEL_DIM):
        if dim in pair[:2]:
            return pair[1 - pair.index(dim)]
    return dim


def _turned(tensor: Tensor) -> Tensor:
    """As a map of five axes, where it has rows or time."""
    t, y, x = tensor.spatial
    if t == y:
        return tensor
    return replace(tensor, shape=(tensor.batch, tensor.channels, y, t, x))


def _swapped(values: Sequence[T]) -> tuple[T, T, T]:
    t, y, x = values
    return y, t, x


def _layer(layer: Layer) -> Layer:
    sizes = tuple(layer.sizes[exchanged(dim)] for dim in Dim)
    triples: list[Triple] = [_swapped(v) for v in (layer.strides, layer.dilations, layer.phases)]
    inputs = tuple(map(_operand, layer.inputs))
    return replace(layer, inputs=inputs, sizes=sizes, strides=triples[0], dilations=triples[1], phases=triples[2])


def _operand(operand: Operand) -> Operand:
    dims = tuple(sorted(exchanged(dim) for dim in operand.dims))
    return replace(operand, dims=dims, sources=tuple(Source(s.tensor, _swapped(s.maps)) for s in operand.sources))
