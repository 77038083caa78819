"""Folding and shape inference of single nodes by the onnx package: what our own handlers leave over."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from dfc.frontend.values import Array, Shape, Value, within_limit

#: (element type, shape) of each output; the shape is None where it is not known
Inferred = list[tuple[int, Shape | None]]


class _Evaluator(Protocol):
    """The part of the reference evaluator that is used; its own annotations are incomplete."""

    def run(self, output_names: None, feed_inputs: Mapping[str, Array]) -> list[Any]: ...


def _model(
    node: onnx.NodeProto,
    inputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto],
    opsets: Mapping[str, int],
) -> onnx.ModelProto:
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "node", list(inputs), outputs, initializer=list(constants))
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return helper.make_model(graph, opset_imports=imports)


def evaluate(node: onnx.NodeProto, feeds: Mapping[str, Array], opsets: Mapping[str, int]) -> list[Array]:
    """The outputs of a node whose inputs are known. Raises whatever the reference implementation raises."""
    # a feed may be a broadcast view of one element, which some operators would write to
    owned = {name: np.ascontiguousarray(data).reshape(data.shape) for name, data in feeds.items()}
    model = _model(node, [onnx.ValueInfoProto(name=name) for name in owned], [], opsets)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        outputs = cast(_Evaluator, ReferenceEvaluator(model)).run(None, owned)
    return [np.asarray(data) for data in outputs]


def infer(node: onnx.NodeProto, values: Sequence[Value], opsets: Mapping[str, int]) -> Inferred:
    """Types and shapes of a node's outputs by ONNX's own inference; nothing known where that has no rule."""
    inputs: list[onnx.ValueInfoProto] = []
    constants: list[onnx.TensorProto] = []
    for value in {v.name: v for v in values}.values():
        if value.data is not None and within_limit(value.elements, value.elem):
            constants.append(numpy_helper.from_array(np.ascontiguousarray(value.data).reshape(value.shape), value.name))
        else:
            inputs.append(helper.make_tensor_value_info(value.name, value.elem, list(value.shape)))
    try:
        model = shape_inference.infer_shapes(_model(node, inputs, constants, opsets), data_prop=True)
    except Exception:  # the package raises several types; all of them mean that it does not know
        return [(0, None) for _ in node.output]
    found = {info.name: declared(info) for info in (*model.graph.output, *model.graph.value_info)}
    return [found.get(name, (0, None)) for name in node.output]


def declared(info: onnx.ValueInfoProto, sizes: Mapping[str, int] | None = None) -> tuple[int, Shape | None]:
    """Type and shape that a model declares for a tensor, with ``sizes`` for named dimensions.

    The shape is None where a dimension is not known, the type -1 where it is no tensor.
    """
    if info.type.WhichOneof("value") not in (None, "tensor_type"):
        return -1, None
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    bound = sizes or {}
    extents: list[int] = []
    for dim in tensor.shape.dim:
        extent = dim.dim_value if dim.HasField("dim_value") else bound.get(dim.dim_param, -1)
        if extent < 0:
            return tensor.elem_type, None
        extents.append(int(extent))
    return tensor.elem_type, tuple(extents)
