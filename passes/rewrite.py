"""What graph-to-graph passes share: rewiring, and merging a layer into its producer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from dfc.ir import Graph, Layer, Source

#: for the layer that writes a tensor and the only layer that reads it: the one layer that does both, or None
MergeRule = Callable[[Graph, Layer, Layer], Layer | None]


def with_layers(graph: Graph, layers: Iterable[Layer], notes: Iterable[str] = ()) -> Graph:
    """The graph with other layers; tensors that nothing mentions any more are gone."""
    layers = tuple(layers)
    used = {*graph.inputs, *graph.outputs}
    for layer in layers:
        used.update(layer.outputs)
        used.update(source.tensor for operand in layer.inputs for source in operand.sources)
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name in used}
    return replace(graph, tensors=tensors, layers=layers, notes=(*graph.notes, *notes))


def map_sources(layer: Layer, change: Callable[[Source], Source]) -> Layer:
    """The layer with ``change`` applied to every feature map that it reads; constants stay."""
    inputs = tuple(
        operand if operand.constant else replace(operand, sources=tuple(map(change, operand.sources)))
        for operand in layer.inputs
    )
    return layer if inputs == layer.inputs else replace(layer, inputs=inputs)


def sole_source(layer: Layer) -> Source | None:
    """The only feature map that the layer reads, if it reads one, once."""
    sources = layer.sources
    return sources[0] if len(sources) == 1 else None


def is_private(graph: Graph, tensor: str) -> bool:
    """Whether one layer alone reads the tensor, and the network's user does not."""
    return len(graph.consumers[tensor]) == 1 and tensor not in graph.outputs


def same_feature_map(graph: Graph, one: str, other: str) -> bool:
    """Whether two tensors agree in batch, channels and extents; shapes such as (N, C) and (N, C, 1, 1) do."""
    a, b = graph.tensors[one], graph.tensors[other]
    return (a.batch, a.channels, a.spatial) == (b.batch, b.channels, b.spatial)


def merge_into_producers(graph: Graph, rule: MergeRule) -> Graph:
    """Merge layers into the layers that produce their only input, wherever ``rule`` agrees; chains collapse.

    The producer keeps its place, which is topological since the merged layer reads nothing else.
    """
    kept: list[Layer] = []
    writer: dict[str, int] = {}
    for layer in graph.layers:
        source = sole_source(layer)
        at = writer.get(source.tensor) if source is not None and is_private(graph, source.tensor) else None
        merged = rule(graph, kept[at], layer) if at is not None else None
        if at is None or merged is None:
            at = len(kept)
            kept.append(layer)
        else:
            kept[at] = merged
        writer.update(dict.fromkeys(layer.outputs, at))
    return graph if len(kept) == len(graph.layers) else with_layers(graph, kept)


def absorb(producer: Layer, layer: Layer) -> Layer:
    """The producer, writing the layer's output in place of its own and remembering where both came from."""
    return replace(producer, outputs=layer.outputs, origin=producer.origin + layer.origin)
