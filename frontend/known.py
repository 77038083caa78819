"""Operators whose results are known while importing: constants and the shapes of tensors."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import cast

import numpy as np
import onnx
from onnx import helper, numpy_helper

from dfc.frontend.diagnostics import Unmodelled
from dfc.frontend.external import is_external
from dfc.frontend.node import Node, operator
from dfc.frontend.values import FLOAT, INT64, Array, within_limit


@operator("Shape")
def shape(n: Node) -> None:
    """The extents of a tensor, which are always known here."""
    x = n.need(0)
    extents = x.shape[n.int_("start", 0) : n.int_("end", x.rank) if n.has("end") else None]
    n.constant(np.array(extents, dtype=np.int64), INT64)


@operator("Size")
def size(n: Node) -> None:
    """The number of elements of a tensor."""
    n.constant(np.array(n.need(0).elements, dtype=np.int64), INT64)


@operator("Constant")
def constant(n: Node) -> None:
    """A tensor in an attribute."""
    attributes = {a.name: a for a in n.proto.attribute}
    for name, dtype, elem in (
        ("value_float", np.float32, FLOAT),
        ("value_floats", np.float32, FLOAT),
        ("value_int", np.int64, INT64),
        ("value_ints", np.int64, INT64),
    ):
        if name in attributes:
            number = cast("float | list[float]", helper.get_attribute_value(attributes[name]))
            n.constant(np.array(number, dtype=dtype), elem)
            return
    if "value" not in attributes:
        raise Unmodelled("a constant that is neither a tensor nor a number")
    tensor = attributes["value"].t
    if is_external(tensor) or not within_limit(prod(tensor.dims), tensor.data_type):
        out = n.out(tensor.dims, tensor.data_type)  # weights: what they hold does not matter
        n.values[out.name] = replace(out, constant=True)
    else:
        n.constant(_data(n, tensor), tensor.data_type)


@operator("ConstantOfShape")
def constant_of_shape(n: Node) -> None:
    """One number everywhere, of any size: held as a broadcast view of one element."""
    wanted = n.const_ints(0)
    extents = n.checked(wanted or ())
    value, elem = np.zeros((1,), np.float32), FLOAT
    for attribute in n.proto.attribute:
        if attribute.name == "value":
            value, elem = _data(n, attribute.t), attribute.t.data_type
    if value.size != 1:
        n.fail("its value must be a tensor of one element")
    n.constant(np.broadcast_to(value.reshape(()), extents), elem)


def _data(n: Node, tensor: onnx.TensorProto) -> Array:
    if is_external(tensor):
        raise Unmodelled("a value in a file of its own")
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:  # the package raises whatever numpy or its own code meets
        n.fail(f"its value cannot be read: {error}")


@operator("Range")
def range_(n: Node) -> None:
    """Numbers from start to limit; only constants have a length."""
    start, limit, delta = (n.array(i) for i in range(3))
    if start is None or limit is None or delta is None or float(delta) == 0:
        n.fail("start, limit or delta is missing, or delta is zero")
    n.out((max(0, int(np.ceil((float(limit) - float(start)) / float(delta)))),))
