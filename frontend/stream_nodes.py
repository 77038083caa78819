"""Nodes of a model with another stride, dilation, padding or length along time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import onnx
from onnx import helper

from dfc.frontend.node import Node
from dfc.frontend.values import Shape
from dfc.frontend.window import read_window

#: makes a constant vector and gives its name
Indices = Callable[[Iterable[int]], str]
_FAR = 2**31 - 1
_RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})


@dataclass(frozen=True, slots=True)
class Along:
    """What a node does along time in the step."""

    slides: bool
    stride: int
    dilation: int
    begin: int
    end: int


def set_along(node: Node, proto: onnx.NodeProto, axis: int, along: Along, out: Shape, indices: Indices) -> None:
    """Change ``proto``, a copy of ``node``'s: its input's time axis is ``axis``, its output's shape ``out``."""
    if along.slides:
        _slide(node, proto, axis - 2, along)
    elif proto.op_type == "Pad":
        _pad(node, proto, axis, along, indices)
    elif proto.op_type == "Slice":
        _slice(node, proto, axis, along, indices)
    elif proto.op_type in _RESHAPES:
        _reshape(proto, out, indices)


def set_attributes(proto: onnx.NodeProto, **attributes: int | str | Sequence[int]) -> None:
    """Set attributes, instead of those of the same names."""
    kept = [a for a in proto.attribute if a.name not in attributes]
    del proto.attribute[:]
    proto.attribute.extend(kept)
    proto.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())


def _replaced(numbers: Sequence[int], place: int, number: int) -> list[int]:
    return [*numbers[:place], number, *numbers[place + 1 :]]


def _slide(node: Node, proto: onnx.NodeProto, place: int, along: Along) -> None:
    x = node.need(0)
    kernel = node.ints("kernel_shape") or node.need(3 if proto.op_type == "QLinearConv" else 1).shape[2:]
    window = read_window(node, x, tuple(kernel))
    ceil, end = node.int_("ceil_mode", 0), along.end
    if ceil and along.end > window.end[place]:
        end = window.end[place]  # the last window hangs over, as in the model
    set_attributes(
        proto,
        strides=_replaced(window.strides, place, along.stride),
        pads=_replaced(window.begin, place, along.begin) + _replaced(window.end, place, end),
    )
    if node.has("auto_pad"):
        set_attributes(proto, auto_pad="NOTSET")
    if node.has("dilations") or along.dilation > 1:
        set_attributes(proto, dilations=_replaced(window.dilations, place, along.dilation))


def _pad(node: Node, proto: onnx.NodeProto, axis: int, along: Along, indices: Indices) -> None:
    rank = node.need(0).rank
    given = (node.ints("pads") if node.opset < 11 else node.const_ints(1)) or ()
    axes = tuple(node.axis(a, rank) for a in node.const_ints(3) or range(rank))
    pads = list(given)
    if axis in axes:
        place = axes.index(axis)
        pads[place], pads[len(axes) + place] = along.begin, along.end
    if node.opset < 11:
        set_attributes(proto, pads=pads)
    else:
        proto.input[1] = indices(pads)


def _slice(node: Node, proto: onnx.NodeProto, axis: int, along: Along, indices: Indices) -> None:
    """Along time its input begins where it is to begin; the other axes are cut as in the model."""
    rank, old = node.need(0).rank, node.opset < 10
    starts, ends = (node.ints(n) if old else node.const_ints(i) for i, n in enumerate(("starts", "ends"), 1))
    axes, steps = node.ints("axes") if old else node.const_ints(3), None if old else node.const_ints(4)
    order = [node.axis(a, rank) for a in axes or range(len(starts or ()))]
    if axis not in order:
        return
    place = order.index(axis)
    first, last = _replaced(starts or (), place, 0), _replaced(ends or (), place, _FAR)
    if old:
        set_attributes(proto, starts=first, ends=last, axes=order)
        return
    apart = _replaced(steps or (1,) * len(order), place, along.stride)
    proto.input[:] = [proto.input[0], *(indices(numbers) for numbers in (first, last, order, apart))]


def _reshape(proto: onnx.NodeProto, out: Shape, indices: Indices) -> None:
    proto.op_type = "Reshape"
    del proto.attribute[:]
    proto.input[:] = [proto.input[0], indices(out)]
