"""Fuse: element-wise work is done where its input is produced, before that is written.

An element-wise layer joins the layer that writes its input if

1. it reads one feature map, position for position and channel for channel (softmax over channels and local
   response normalisation look at others);
2. nothing else reads that map, and it is no network output;
3. the two tensors have one shape (their bits may differ: a quantisation is element-wise work like any other);
4. the producer computes: it is no opaque layer, no view, and no element-wise layer that is a barrier.

Chains join link by link. An addition of two feature maps reads both, so it stays a layer of its own, as the
reference model costs it. A per-channel constant (the slopes of a PReLU) is counted among the producer's
weight elements.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

from dfc.ir import PLACE_DIMS, SAME, Dim, Graph, Kind, Layer
from dfc.passes.base import Pass
from dfc.passes.rewrite import absorb, merge_into_producers, sole_source

#: element-wise in their shape, yet each output needs several channels of its position
ACROSS_CHANNELS = frozenset(
    {"softmax", "log_softmax", "hardmax", "lrn", "lp_norm", "layer_norm", "rms_norm", "group_norm"}
    | {"instance_norm", "mean_variance_norm"}
)
_REDUCTIONS = (Dim.K, Dim.C, Dim.FT, Dim.FY, Dim.FX)


@dataclass(frozen=True, slots=True)
class Fuse(Pass):
    """The rule above."""

    name: ClassVar[str] = "fuse"

    def run(self, graph: Graph) -> Graph:
        """Fuse every chain of element-wise layers into its producer."""
        return merge_into_producers(graph, _fuse)


def _fuse(graph: Graph, producer: Layer, layer: Layer) -> Layer | None:
    same_shape = graph.tensors[producer.output].shape == graph.tensors[layer.output].shape
    if not (_is_pointwise(layer) and _takes_an_epilogue(producer) and same_shape):
        return None
    return replace(
        absorb(producer, layer),
        fused=(*producer.fused, layer.op, *layer.fused),
        weight_elements=producer.weight_elements + layer.weight_elements,
    )


def _is_pointwise(layer: Layer) -> bool:
    """Whether each output element depends on the input element at its own place alone."""
    source = sole_source(layer)
    return (
        layer.kind is Kind.ELTWISE
        and layer.op not in ACROSS_CHANNELS
        and not layer.barrier
        and source is not None
        and source.maps == SAME
        and prod(layer.sizes[dim] for dim in _REDUCTIONS) == 1
        and not any(o.constant and PLACE_DIMS.intersection(o.dims) for o in layer.inputs)
    )


def _takes_an_epilogue(layer: Layer) -> bool:
    return layer.kind not in (Kind.OPAQUE, Kind.VIEW) and not (layer.kind is Kind.ELTWISE and layer.barrier)
