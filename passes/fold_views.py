"""Cases 1 to 3 and 7 of :mod:`dfc.passes.canonicalise`: layers that only rename, copy or reshape."""

from __future__ import annotations

from dataclasses import replace

from dfc.ir import SAME, AxisMap, Dim, Graph, Kind, Layer, Source, Tensor
from dfc.passes.rewrite import map_sources, same_feature_map, sole_source, with_layers

#: rearrangements that do nothing if their maps and shapes do not show it; a permutation of channels is none
_COPIES = frozenset(
    {"concat", "copy", "crop", "expand", "identity", "pad", "resize", "slice", "split", "tile", "upsample"}
)


def drop_identities(graph: Graph) -> Graph:
    """Cases 1 and 2: readers of a view or a copy that changes nothing read what it reads."""
    source_of: dict[str, str] = {}
    kept: list[Layer] = []
    outputs = list(graph.outputs)
    notes: list[str] = []
    for old in graph.layers:
        layer = map_sources(old, lambda source: replace(source, tensor=source_of.get(source.tensor, source.tensor)))
        source = _identity_source(graph, layer)
        if source is None or (layer.output in outputs and not _may_be_output(graph, source, outputs)):
            kept.append(layer)
            continue
        source_of[layer.output] = source
        if layer.output in outputs:
            outputs[outputs.index(layer.output)] = source
            notes.append(f"network output {layer.output!r} is tensor {source!r}")
    if len(kept) == len(graph.layers):
        return graph
    return with_layers(replace(graph, outputs=tuple(outputs)), kept, notes)


def _identity_source(graph: Graph, layer: Layer) -> str | None:
    """The tensor that the layer's output equals, if there is one."""
    source = sole_source(layer)
    if source is None or source.maps != SAME or layer.barrier or layer.fused:
        return None
    copies = layer.kind is Kind.VIEW or (layer.kind is Kind.MOVE and layer.op in _COPIES)
    return source.tensor if copies and same_feature_map(graph, source.tensor, layer.output) else None


def _may_be_output(graph: Graph, tensor: str, outputs: list[str]) -> bool:
    return tensor not in graph.inputs and tensor not in outputs


def read_through_reshapes(graph: Graph) -> Graph:
    """Case 3: a layer that reads a reshaped tensor whole reads the tensor that was reshaped."""
    reshaped: dict[str, Source] = {}
    layers: list[Layer] = []
    for old in graph.layers:
        layer = map_sources(old, lambda source: reshaped.get(source.tensor, source)) if _reads_whole(old) else old
        layers.append(layer)
        source = sole_source(layer)
        if source is not None and _reshapes(graph, layer):
            reshaped[layer.output] = Source(source.tensor, _whole(graph.tensors[source.tensor]))
    return graph if tuple(layers) == graph.layers else with_layers(graph, layers)


def _whole(tensor: Tensor) -> tuple[AxisMap, AxisMap, AxisMap]:
    t, y, x = tensor.spatial
    return AxisMap.full(t), AxisMap.full(y), AxisMap.full(x)


def _reads_whole(layer: Layer) -> bool:
    one_row = all(layer.sizes[dim] == 1 for dim in (Dim.OT, Dim.OY, Dim.OX))
    return (layer.kind is Kind.DENSE and one_row) or (layer.kind is Kind.VIEW and layer.barrier)


def _reshapes(graph: Graph, layer: Layer) -> bool:
    """Whether the layer is a view that keeps every element and may move any of them anywhere."""
    source = sole_source(layer)
    if layer.kind is not Kind.VIEW or source is None:
        return False
    whole = _whole(graph.tensors[source.tensor])
    everything = all(m == w or m.reduced() == w for m, w in zip(source.maps, whole, strict=True))
    same_size = graph.tensors[source.tensor].elements == graph.tensors[layer.output].elements
    return same_size and (layer.barrier or everything)


def drop_dead(graph: Graph) -> Graph:
    """Case 7: layers whose outputs are never used; a note for each that is more than a view."""
    wanted = set(graph.outputs)
    kept: list[Layer] = []
    notes: list[str] = []
    for layer in reversed(graph.layers):
        if not wanted.isdisjoint(layer.outputs):
            kept.append(layer)
            wanted.update(source.tensor for source in layer.sources)
        elif layer.kind is not Kind.VIEW:
            notes.append(f"removed layer {layer.name!r} ({layer.op}): nothing uses what it writes")
    if len(kept) == len(graph.layers):
        return graph
    return with_layers(graph, reversed(kept), reversed(notes))
