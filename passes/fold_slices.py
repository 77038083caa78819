"""Case 6 of :mod:`dfc.passes.canonicalise`: a part of a feature map is read where it lies."""

from __future__ import annotations

from dataclasses import replace

from dfc.ir import Axis, AxisMap, Graph, Kind, Layer, Source
from dfc.passes.rewrite import map_sources, sole_source, with_layers

_CUTS = frozenset({"crop", "slice", "split"})
_READERS = (Kind.CONV, Kind.DEPTHWISE, Kind.POOL, Kind.ELTWISE, Kind.MOVE)


def fold_slices(graph: Graph) -> Graph:
    """Let every reader of a spatial slice of step 1 read the whole map, shifted, if all of them can.

    A reader can if it stays within the slice: what a window pads with zeros must not become what was cut away.
    """
    cuts = {layer.output: layer for layer in graph.layers if _is_cut(graph, layer)}
    cuts = {name: layer for name, layer in cuts.items() if _all_stay_within(graph, name)}
    if not cuts:
        return graph
    layers = [_read_in_place(layer, cuts) for layer in graph.layers if layer.output not in cuts]
    return with_layers(graph, layers)


def _is_cut(graph: Graph, layer: Layer) -> bool:
    source = sole_source(layer)
    if source is None or layer.kind is not Kind.MOVE or layer.op not in _CUTS or layer.barrier or layer.fused:
        return False
    whole, part = graph.tensors[source.tensor], graph.tensors[layer.output]
    return (whole.batch, whole.channels) == (part.batch, part.channels) and all(
        source.maps[axis] == AxisMap(lo=source.maps[axis].lo, hi=source.maps[axis].lo)
        and 0 <= source.maps[axis].lo <= whole.spatial[axis] - part.spatial[axis]
        for axis in Axis
    )


def _all_stay_within(graph: Graph, tensor: str) -> bool:
    """Whether the slice has readers, all of them with axis maps that never leave it, and is no output."""
    readers = [graph.layers[i] for i in graph.consumers[tensor]]
    return (
        bool(readers)
        and tensor not in graph.outputs
        and all(layer.kind in _READERS and not layer.barrier for layer in readers)
        and all(
            _stays_within(graph, layer, source)
            for layer in readers
            for source in layer.sources
            if source.tensor == tensor
        )
    )


def _stays_within(graph: Graph, layer: Layer, source: Source) -> bool:
    extents = graph.tensors[source.tensor].spatial
    outputs = graph.tensors[layer.output].spatial
    for axis_map, extent, count in zip(source.maps, extents, outputs, strict=True):
        first = axis_map.lo // axis_map.den
        last = (axis_map.num * (count - 1) + axis_map.hi) // axis_map.den
        if first < 0 or last >= extent:
            return False
    return True


def _read_in_place(layer: Layer, cuts: dict[str, Layer]) -> Layer:
    used: dict[str, Layer] = {}

    def through(source: Source) -> Source:
        while source.tensor in cuts:  # a slice of a slice
            cut = used[source.tensor] = cuts[source.tensor]
            t, y, x = (o.then(shift) for o, shift in zip(source.maps, cut.sources[0].maps, strict=True))
            assert t is not None and y is not None and x is not None  # a shift never multiplies
            source = Source(cut.sources[0].tensor, (t, y, x))
        return source

    layer = map_sources(layer, through)
    origins = tuple(origin for cut in used.values() for origin in cut.origin)
    return replace(layer, origin=layer.origin + origins) if origins else layer
