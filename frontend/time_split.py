"""Global pools over time and space as two steps: over space for each frame, then over the frames of a window.

The streaming form keeps what is left of a frame after the first step, instead of all its positions.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper

from dfc.frontend.node import Node
from dfc.frontend.stream_nodes import set_attributes
from dfc.frontend.values import INT64, Value
from dfc.ir import TimedTensor, free_name

_REDUCTIONS = {"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}


def split_pool(node: Node, x: TimedTensor, taken: Container[str]) -> tuple[Node, Node, list[Value]] | None:
    """(over space, over what is left, values to know); None for other operators, or where there is time alone.

    ``taken`` has the names that the values must not have.
    """
    reduction = _REDUCTIONS.get(node.op_type)
    if reduction is None or x.axis is None or x.axis < 2:
        return None
    axes = [a for a in range(2, len(x.shape)) if a != x.axis and x.shape[a] > 1]
    if not axes:
        return None
    given = node.need(0)
    shape = tuple(1 if a in axes else extent for a, extent in enumerate(given.shape))
    inner = Value(free_name(f"{node.proto.output[0]}.frames", taken), shape, given.elem)
    values, inputs = [inner], [given.name]
    if node.opset >= 18:
        numbers = Value(free_name(f"{inner.name}.axes", taken), (len(axes),), INT64, True, np.array(axes, np.int64))
        values, inputs = [inner, numbers], [given.name, numbers.name]
    name = f"{node.label}.frames"
    space = helper.make_node(reduction, inputs, [inner.name], name=name)
    if node.opset < 18:
        set_attributes(space, axes=axes)
    first = Node(space, name, node.place, node.opset, (given, *values[1:]), (True,))
    rest = onnx.NodeProto()
    rest.CopyFrom(node.proto)
    rest.input[0] = inner.name
    return first, replace(node, proto=rest, inputs=(inner,)), values
