"""The model of a streaming step as a chip runs it: new positions are read where they lie, behind the past.

As it is written, a step joins the past of a tensor and its new positions, and some nodes read the new ones before they
are joined. On a chip there is one map that has both (:mod:`dfc.passes.resident_states`). So that the nodes behind each
layer can be found, these nodes read a slice of the joined tensor here; the numbers are the same.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import helper, numpy_helper

from dfc.frontend.importer import Walked, walk_model
from dfc.frontend.node import attribute_of
from dfc.frontend.stream_model import feed_bodies
from dfc.frontend.stream_nodes import set_attributes
from dfc.ir import free_name


def walk_resident(content: bytes, name: str, kept: Collection[str]) -> Walked:
    """A step's model, walked over; ``kept`` are the tensors that have a past on the chip."""
    model = onnx.load_from_string(content)
    joins = [node for node in model.graph.node if node.output and node.output[0] in kept]
    for join in joins:
        _read_behind(model, join)
    return walk_model(model, name=name)


def _read_behind(model: onnx.ModelProto, join: onnx.NodeProto) -> None:
    """Let all who read the new positions of a join read them out of its result."""
    graph = model.graph
    past, new = join.input
    others = [node for node in graph.node if node is not join]
    names = {name for node in graph.node for name in (*node.input, *node.output)} | {t.name for t in graph.initializer}
    alias = free_name(f"{join.output[0]}.newest", names)
    for node in others:
        node.input[:] = [alias if name == new else name for name in node.input]
        feed_bodies(node, {new: alias})
    axis = int(attribute_of(join, "axis"))  # type: ignore[call-overload]
    (info,) = (one for one in graph.input if one.name == past)
    start = info.type.tensor_type.shape.dim[axis].dim_value
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    node = helper.make_node("Slice", [join.output[0]], [alias], name=alias)
    numbers = {"starts": start, "ends": np.iinfo(np.int64).max, "axes": axis}
    if opset < 10:
        set_attributes(node, **{key: [int(value)] for key, value in numbers.items()})
    else:
        for key, value in numbers.items():
            constant = free_name(f"{alias}.{key}", names)
            graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), constant))
            node.input.append(constant)
    graph.node.append(node)
