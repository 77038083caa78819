"""Conversions between floats and integers with a scale."""

from __future__ import annotations

from dataclasses import replace

from onnx import TensorProto

from dfc.frontend.node import MICROSOFT, Node, operator
from dfc.frontend.shapes import feature_sizes, read
from dfc.frontend.values import Value
from dfc.ir import Dim, Kind, Operand, Role, Source


def _scaled(n: Node, op: str, elem: int) -> Value:
    """An element-wise layer with constants per channel (or one for all, which is an immediate)."""
    x = n.need(0)
    out = n.out(x.shape, elem)
    scales = [v for v in n.inputs[1:3] if v is not None and v.elements > 1 and v.constant]
    operands = [read(x)]
    if scales:
        operands.append(Operand(Role.W, (Dim.G,), tuple(Source(v.name) for v in scales), constant=True))
    elements = sum(v.elements for v in scales)
    n.layer(Kind.ELTWISE, op, operands, out, feature_sizes(out), weight_elements=elements)
    return out


@operator("QuantizeLinear")
@operator("QuantizeLinear", domain=MICROSOFT)
def quantize(n: Node) -> None:
    """Floats to integers: x, scale, optional zero point, whose type is the result's."""
    zero = n.maybe(2)
    elem = n.int_("output_dtype", 0) or (TensorProto.UINT8 if zero is None else zero.elem)
    _scaled(n, "quantize", elem)


@operator("DequantizeLinear")
@operator("DequantizeLinear", domain=MICROSOFT)
def dequantize(n: Node) -> None:
    """Integers to floats: x, scale, optional zero point. A constant keeps its stored width."""
    x = n.need(0)
    out = _scaled(n, "dequantize", n.need(1).elem)
    if x.constant:
        n.values[out.name] = replace(out, stored_bits=x.tensor.bits)
