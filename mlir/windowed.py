"""Convolutions and pools on a tile: linalg's named operations, and generic ones where there is no name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from dfc.frontend import Operation
from dfc.ir import Axis
from dfc.mlir.layer import LayerCode, operator, spatial_axes
from dfc.mlir.pointwise import combine, generic
from dfc.mlir.writer import Array, Shape, Value, dictionary, tensor_type

_CONV = {1: "conv_1d_ncw_fcw", 2: "conv_2d_nchw_fchw", 3: "conv_3d_ncdhw_fcdhw"}
_DEPTHWISE = {1: "depthwise_conv_1d_ncw_cw", 2: "depthwise_conv_2d_nchw_chw", 3: "depthwise_conv_3d_ncdhw_cdhw"}
_POOL = {
    ("max", 1): "pooling_ncw_max",
    ("max", 2): "pooling_nchw_max",
    ("sum", 1): "pooling_ncw_sum",
    ("sum", 2): "pooling_nchw_sum",
}
_COMBINE = {"max": "arith.maximumf", "sum": "arith.addf"}
_LETTERS = "tyx"


def _integers(operation: Operation, name: str, count: int) -> Shape:
    return operation.ints(name) or (1,) * count


def _steps(strides: Sequence[int], dilations: Sequence[int]) -> dict[str, str]:
    return {"strides": _dense(strides), "dilations": _dense(dilations)}


def _dense(numbers: Sequence[int]) -> str:
    text = str(list(numbers)) if len(set(numbers)) > 1 else str(numbers[0])
    return f"dense<{text}> : tensor<{len(numbers)}xi64>"


def _attributes(steps: Mapping[str, str], marks: Mapping[str, object]) -> str:
    """Strides and dilations, then what is discardable."""
    own = ", ".join(f"{key} = {value}" for key, value in steps.items())
    more = dictionary(marks).strip()
    return f"{{{own}{', ' + more[1:-1] if more else ''}}} "


@operator("Conv")
def conv(code: LayerCode, operation: Operation) -> Value:
    """A convolution: named where it has one group or is depthwise, else generic."""
    weights = code.needed(operation, 1)
    groups = operation.int_("group", 1)
    x = code.padded(operation.inputs[0], 0.0)
    count = len(x.shape) - 2
    strides, dilations = _integers(operation, "strides", count), _integers(operation, "dilations", count)
    shape = (x.shape[0], weights.shape[0], *_extents(x.shape[2:], weights.shape[2:], strides, dilations))
    start = _start(code, operation, 2, shape)
    steps = _steps(strides, dilations)
    if groups == 1:
        w = code.writer.constant(weights, operation.inputs[1])
        return _named(code, _CONV[count], steps, (x, w), start)
    if groups == weights.shape[0] == x.shape[1]:
        w = code.writer.constant(weights[:, 0], operation.inputs[1])
        return _named(code, _DEPTHWISE[count], steps, (x, w), start)
    return _grouped(code, operation, x, weights, groups, start, (strides, dilations))


def _extents(size: Shape, kernel: Shape, strides: Shape, dilations: Shape) -> Shape:
    """How many positions a window takes on ``size`` positions."""
    each = zip(size, kernel, strides, dilations, strict=True)
    return tuple((extent - d * (k - 1) - 1) // s + 1 for extent, k, s, d in each)


def _start(code: LayerCode, operation: Operation, index: int, shape: Shape) -> Value:
    """What a sum begins with: the bias along the second axis, or zeros."""
    if index >= len(operation.inputs) or not operation.inputs[index]:
        return code.writer.filled(0.0, shape)
    bias = code.value(operation.inputs[index])
    target = code.writer.empty(shape)
    others = [axis for axis in range(len(shape)) if axis != 1]
    text = f"linalg.broadcast ins({bias.typed}) outs({target.typed}) dimensions = {others}"
    return code.writer.op(text, shape)


def _named(code: LayerCode, name: str, steps: Mapping[str, str], inputs: Sequence[Value], start: Value) -> Value:
    names, types = ", ".join(v.name for v in inputs), ", ".join(v.type for v in inputs)
    marks = _attributes(steps, code.marks())
    text = f"linalg.{name} {marks}ins({names} : {types}) outs({start.typed}) -> {start.type}"
    return code.writer.op(text, start.shape)


def _grouped(
    code: LayerCode,
    operation: Operation,
    x: Value,
    weights: Array,
    groups: int,
    start: Value,
    steps: tuple[Shape, Shape],
) -> Value:
    """Channels split into (group, channel): every group is a convolution of its own."""
    writer = code.writer
    split = (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    wide = (start.shape[0], groups, start.shape[1] // groups, *start.shape[2:])
    w = writer.constant(weights.reshape(groups, -1, *weights.shape[1:]), operation.inputs[1])
    axes = range(len(x.shape) - 2)
    outs, kernel = [f"o{_LETTERS[a]}" for a in axes], [f"f{_LETTERS[a]}" for a in axes]
    places = [f"{o} * {s} + {f} * {d}" for o, f, s, d in zip(outs, kernel, *steps, strict=True)]
    maps = (["b", "g", "c", *places], ["g", "k", "c", *kernel], ["b", "g", "k", *outs])
    found = generic(
        code,
        ["b", "g", "k", *outs],
        ["c", *kernel],
        [(_split(code, x, split), maps[0]), (w, maps[1])],
        (_split(code, start, wide), maps[2]),
        lambda body, seen: body.binary("arith.addf", seen[2], body.binary("arith.mulf", seen[0], seen[1])),
    )
    return _split(code, found, start.shape)


def _split(code: LayerCode, value: Value, shape: Shape) -> Value:
    """The second axis split in two, or the second and third joined."""
    longer, shorter = max(value.shape, shape, key=len), min(value.shape, shape, key=len)
    groups: list[list[int]] = [[0], [1, 2], *([axis] for axis in range(3, len(longer)))]
    assert len(longer) == len(shorter) + 1
    name = "expand_shape" if shape is longer else "collapse_shape"
    more = f" output_shape {list(shape)}" if shape is longer else ""
    kind = tensor_type(shape, value.elem)
    return code.writer.op(f"tensor.{name} {value.name} {groups}{more} : {value.type} into {kind}", shape)


# -- pools


@operator("MaxPool")
def max_pool(code: LayerCode, operation: Operation) -> Value:
    """The largest of each window; what lies outside of the map is less than everything."""
    kernel, strides, dilations = _pool_window(operation)
    x = code.padded(operation.inputs[0], float("-inf"))
    return _pool(code, "max", x, kernel, strides, dilations)


@operator("AveragePool")
def average_pool(code: LayerCode, operation: Operation) -> Value:
    """The mean of each window: a sum, divided by how many positions count."""
    kernel, strides, dilations = _pool_window(operation)
    total = _pool(code, "sum", code.padded(operation.inputs[0], 0.0), kernel, strides, dilations)
    if operation.int_("count_include_pad", 0) and operation.int_("ceil_mode", 0):
        code.fail("an average that counts padding, rounded up")
    if operation.int_("count_include_pad", 0):
        counts = np.full((1,) * len(kernel), float(prod(kernel)))
    else:
        counts = _counts(code, operation.inputs[0], kernel, strides, dilations)
    return combine(code, "arith.divf", total, code.writer.constant(counts))


def _counts(code: LayerCode, name: str, kernel: Shape, strides: Shape, dilations: Shape) -> Array:
    """Per output position of the tile how many positions of its window lie on the map."""
    source = code.source(name)
    axes = spatial_axes(code.graph.tensors[source.tensor]).values()
    counts = np.ones((1,) * len(kernel))
    for place, axis in enumerate(axes):
        read = code.read(source, axis)
        there = np.array([0.0] * read.before + [1.0] * read.size + [0.0] * read.after)
        starts = range(0, there.size - dilations[place] * (kernel[place] - 1), strides[place])
        reach = dilations[place] * (kernel[place] - 1) + 1
        along = np.array([there[s : s + reach : dilations[place]].sum() for s in starts])
        counts = counts * along.reshape([-1 if other == place else 1 for other in range(len(kernel))])
    return counts if len(set(counts.ravel().tolist())) > 1 else counts.ravel()[:1].reshape((1,) * len(kernel))


def _pool_window(operation: Operation) -> tuple[Shape, Shape, Shape]:
    sizes = operation.ints("kernel_shape")
    return sizes, _integers(operation, "strides", len(sizes)), _integers(operation, "dilations", len(sizes))


@operator("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceSum")
def whole_pool(code: LayerCode, operation: Operation) -> Value:
    """One number per channel, out of all positions."""
    x = code.value(operation.inputs[0])
    if len(code.out.shape) != len(x.shape) or code.out_shape[:2] != x.shape[:2] or prod(code.out_shape[2:]) != 1:
        code.fail(f"{operation.op_type} over other axes than the spatial ones, or one that drops them")
    kernel, ones = x.shape[2:], (1,) * (len(x.shape) - 2)
    found = _pool(code, "max" if "Max" in operation.op_type else "sum", x, kernel, ones, ones)
    if operation.op_type in ("GlobalAveragePool", "ReduceMean"):
        found = combine(code, "arith.divf", found, code.writer.constant(np.full(ones, float(prod(kernel)))))
    return found


def _pool(code: LayerCode, what: str, x: Value, kernel: Shape, strides: Shape, dilations: Shape) -> Value:
    shape = (*x.shape[:2], *_extents(x.shape[2:], kernel, strides, dilations))
    start = code.writer.filled(float("-inf") if what == "max" else 0.0, shape)
    over = code.writer.empty(kernel)
    name = _POOL.get((what, len(kernel)))
    if name is not None:
        return _named(code, name, _steps(strides, dilations), (x, over), start)
    outs, inner = ([f"{letter}{a.name.lower()}" for a in Axis] for letter in "of")
    each = zip(outs, inner, strides, dilations, strict=True)
    places = [f"{o} * {s} + {f} * {d}" for o, f, s, d in each]
    return generic(
        code,
        ["b", "c", *outs],
        inner,
        [(x, ["b", "c", *places]), (over, inner)],
        (start, ["b", "c", *outs]),
        lambda body, seen: body.binary(_COMBINE[what], seen[0], seen[2]),
    )
