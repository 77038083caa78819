"""Case 5 of :mod:`dfc.passes.canonicalise`: explicit zeros become padding of the convolution behind them."""

from __future__ import annotations

from dataclasses import replace

from dfc.ir import Axis, AxisMap, Graph, Kind, Layer, Source
from dfc.passes.rewrite import is_private, map_sources, sole_source, with_layers


def fold_pads(graph: Graph) -> Graph:
    """Let the only reader of a pad, where it is a convolution, read the unpadded tensor through wider maps.

    Zeros beyond a map are what a convolution reads there anyway. A maximum is not: there, padding means minus
    infinity; and an average may leave padding out of its count.
    """
    pads: dict[str, Layer] = {}
    readers: dict[str, Layer] = {}
    for layer in graph.layers:
        pad = _pad_of(layer, pads)
        if pad is not None:
            readers[layer.name] = pad
        if _is_foldable_pad(graph, layer):
            pads[layer.output] = layer
    if not readers:
        return graph
    folded = {pad.name for pad in readers.values()}
    layers = [
        _without_pad(layer, readers[layer.name]) if layer.name in readers else layer
        for layer in graph.layers
        if layer.name not in folded
    ]
    return with_layers(graph, layers)


def _is_foldable_pad(graph: Graph, layer: Layer) -> bool:
    """Whether the layer puts zeros around a feature map, crops nothing, and one layer reads the result."""
    source = sole_source(layer)
    if source is None or layer.kind is not Kind.MOVE or layer.op != "pad" or layer.barrier or layer.fused:
        return False
    inner, outer = graph.tensors[source.tensor], graph.tensors[layer.output]
    if (inner.batch, inner.channels) != (outer.batch, outer.channels) or not is_private(graph, layer.output):
        return False
    return all(_grows(source.maps[axis], inner.spatial[axis], outer.spatial[axis]) for axis in Axis)


def _grows(axis_map: AxisMap, inner: int, outer: int) -> bool:
    """Whether an axis map shifts by a padding that is negative neither before nor behind."""
    before = -axis_map.lo
    return axis_map == AxisMap(lo=-before, hi=-before) and 0 <= before <= outer - inner


def _pad_of(layer: Layer, pads: dict[str, Layer]) -> Layer | None:
    """The pad that the layer can take over."""
    if layer.op != "conv" or layer.kind not in (Kind.CONV, Kind.DEPTHWISE):
        return None
    source = next((s for o in layer.inputs if not o.constant for s in o.sources), None)
    reads_once = source is not None and [s.tensor for s in layer.sources].count(source.tensor) == 1
    return pads.get(source.tensor) if source is not None and reads_once else None


def _without_pad(layer: Layer, pad: Layer) -> Layer:
    inner = pad.sources[0]

    def through(source: Source) -> Source:
        if source.tensor != pad.output:
            return source
        t, y, x = (outer.then(shift) for outer, shift in zip(source.maps, inner.maps, strict=True))
        assert t is not None and y is not None and x is not None  # a shift never divides
        return Source(inner.tensor, (t, y, x))

    return replace(map_sources(layer, through), origin=layer.origin + pad.origin)
