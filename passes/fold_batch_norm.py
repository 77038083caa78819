"""Case 4 of :mod:`dfc.passes.canonicalise`: scale and shift per channel join the weights before them."""

from __future__ import annotations

from dataclasses import replace

from dfc.ir import Dim, Graph, Kind, Layer, Operand, Role
from dfc.passes.rewrite import absorb, merge_into_producers, sole_source

#: y = a*x + b with a, b per channel; a quotient is not one, since the constant may be the dividend
_AFFINE = frozenset({"batch_norm", "mul", "add", "sub"})
_LINEAR = (Kind.CONV, Kind.DEPTHWISE, Kind.DENSE)


def fold_batch_norms(graph: Graph) -> Graph:
    """Merge affine layers into the convolution, transposed convolution or matrix product before them."""
    return merge_into_producers(graph, _fold)


def _fold(graph: Graph, producer: Layer, layer: Layer) -> Layer | None:
    weights = _constant_weights(producer)
    if weights is None or not _is_affine_per_channel(graph, layer):
        return None
    output = graph.tensors[producer.output]
    columns_on_channels = producer.kind is not Kind.DENSE or len(output.shape) == 2
    if producer.fused or not columns_on_channels or output.shape != graph.tensors[layer.output].shape:
        return None
    with_bias = graph.tensors[weights.sources[0].tensor].elements + output.channels
    elements = max(producer.weight_elements, with_bias)
    return replace(absorb(producer, layer), fused=layer.fused, weight_elements=elements)


def _constant_weights(layer: Layer) -> Operand | None:
    """The weights, if the layer is linear in its only feature map and its weights are known."""
    if layer.kind not in _LINEAR or sole_source(layer) is None:
        return None
    constants = [o for o in layer.inputs if o.constant and o.role is Role.W and len(o.sources) == 1]
    return constants[0] if constants else None


def _is_affine_per_channel(graph: Graph, layer: Layer) -> bool:
    if layer.kind is not Kind.ELTWISE or layer.op not in _AFFINE or layer.barrier:
        return False
    constants = [operand for operand in layer.inputs if operand.constant]
    channels = graph.tensors[layer.output].channels
    return bool(constants) and all(
        set(operand.dims) <= {Dim.G}
        and all(graph.tensors[source.tensor].elements in (1, channels) for source in operand.sources)
        for operand in constants
    )
