"""What a stack is apart from names: stacks of the same structure cost the same."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from dfc.ir import Graph
from dfc.passes.stacks import Stack
from dfc.scheduling.placement import Held


def structure(graph: Graph, stack: Stack, held: Held) -> Hashable:
    """Equal for stacks whose plans cost the same: tensors are numbered in order of appearance, layers have no names.

    Rules for mappings may name layers: under such rules stacks of equal structure may differ.
    """
    number: dict[str, str] = {}
    shapes: list[tuple[tuple[int, ...], int]] = []

    def renamed(tensor: str) -> str:
        if tensor not in number:
            number[tensor] = str(len(number))
            shapes.append((graph.tensors[tensor].shape, graph.past.get(tensor, 0)))
        return number[tensor]

    inputs = tuple(map(renamed, stack.inputs))
    layers: list[Hashable] = []
    for index in stack.layers:
        layer = graph.layers[index]
        operands = tuple(
            replace(o, sources=tuple(replace(s, tensor=renamed(s.tensor)) for s in o.sources)) for o in layer.inputs
        )
        outputs = tuple(map(renamed, layer.outputs))
        layers.append(replace(layer, name="", inputs=operands, outputs=outputs, origin=()))
    leaving = tuple(map(renamed, stack.outputs))
    return (
        graph.time,
        inputs,
        tuple(layers),
        leaving,
        tuple(shapes),
        tuple((renamed(t), one) for t, one in held.items()),
    )
