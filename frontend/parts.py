"""Which part of its inputs a node needs for a part of its output, and the node that computes just that.

Regions hold one range of positions per axis of a tensor. A rule answers with the regions of the node's inputs and with
nodes that compute the region of the output from exactly these: padding shrinks to what lies outside of the map, the
numbers of slices and shapes change. All follows from the ONNX standard's description of the operators; nothing of the
axis maps of the importer is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import helper

from dfc.frontend.node import attribute_of
from dfc.frontend.values import Array, Shape

#: positions on each axis; on those of batch and channels with any step, elsewhere they follow each other
Region = tuple[range, ...]


class NoRule(Exception):  # noqa: N818  a reason to take another path, not a mistake
    """There is no rule for this use of an operator: it is executed as a whole."""


def whole(shape: Shape) -> Region:
    """All of a tensor."""
    return tuple(range(extent) for extent in shape)


@dataclass
class Part:
    """A node that computes a region of its first output.

    inputs:    regions of the inputs by their number in ``node``; those that are missing are read as they are.
    nodes:     what computes it, in order.
    constants: small constants that these nodes read besides.
    channels:  those of its first input that are needed, where they are not all of its region.
    """

    inputs: dict[int, Region]
    nodes: list[onnx.NodeProto]
    constants: dict[str, Array] = field(default_factory=dict[str, Array])
    channels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Task:
    """A node, one of its outputs and the region of it that is wanted, and the shapes and constants around it.

    ``shapes`` by name of tensor; ``constants`` are None where a tensor is no constant.
    """

    node: onnx.NodeProto
    output: str
    region: Region
    shapes: Callable[[str], Shape]
    constants: Callable[[str], Array | None]
    opset: int

    @property
    def shape(self) -> Shape:
        """Of the output as a whole."""
        return self.shapes(self.output)

    @property
    def is_whole(self) -> bool:
        """Whether all of the output is wanted."""
        return self.region == whole(self.shape)

    def input_shape(self, number: int = 0) -> Shape:
        """Of an input as a whole."""
        return self.shapes(self.node.input[number])

    def attribute(self, name: str, default: object) -> object:
        """An attribute's value."""
        value = attribute_of(self.node, name)
        return default if value is None else value

    def ints(self, name: str, default: Sequence[int]) -> list[int]:
        """A list of integers."""
        return [int(v) for v in self.attribute(name, default)]  # type: ignore[attr-defined]

    def has(self, name: str) -> bool:
        """Whether an attribute is set."""
        return any(a.name == name for a in self.node.attribute)

    def number(self, name: str, default: int) -> int:
        """An integer."""
        return int(self.attribute(name, default))  # type: ignore[call-overload,no-any-return]

    def text(self, name: str, default: str) -> str:
        """A string."""
        value = self.attribute(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def fresh(self, suffix: str) -> str:
        """A name that no tensor of the model has."""
        return f"{self.output}\x1f{suffix}"

    def renamed(self, op: str | None = None, inputs: Sequence[str] | None = None, **changed: Any) -> onnx.NodeProto:
        """The node with other inputs or attributes; None removes an attribute."""
        kept: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in self.node.attribute}
        kept |= changed
        return helper.make_node(
            op or self.node.op_type,
            list(self.node.input if inputs is None else inputs),
            list(self.node.output),
            name=self.node.name,
            domain=self.node.domain,
            **{k: v for k, v in kept.items() if v is not None},
        )

    def cropped(self, part: Part, start: Mapping[int, int]) -> Part:
        """A part whose nodes compute more than the region: what begins at ``start`` by axis is cut out of it."""
        inner = self.fresh("more")
        last = part.nodes[-1]
        last.output[list(last.output).index(self.output)] = inner
        axes = sorted(start)
        numbers = {
            "starts": [start[a] for a in axes],
            "ends": [start[a] + len(self.region[a]) for a in axes],
            "axes": axes,
        }
        names = {key: self.fresh(key) for key in numbers}
        part.constants.update({names[key]: np.asarray(values, np.int64) for key, values in numbers.items()})
        part.nodes.append(helper.make_node("Slice", [inner, *names.values()], [self.output]))
        return part


Rule = Callable[[Task], Part]


# --- element-wise

#: constants of one number per channel, which no broadcasting rule aligns
_PER_CHANNEL = frozenset({"BatchNormalization", "QuantizeLinear", "DequantizeLinear", "InstanceNormalization"})


def pointwise(task: Task) -> Part:
    """Each output element needs the elements at its own place; inputs are broadcast, aligned at the last axis."""
    inputs: dict[int, Region] = {}
    for number, name in enumerate(task.node.input):
        if not name or (task.node.op_type in _PER_CHANNEL and number):
            continue
        shape = task.input_shape(number)
        aligned = task.region[len(task.region) - len(shape) :] if len(shape) <= len(task.region) else None
        if aligned is None:
            raise NoRule
        inputs[number] = tuple(
            span if extent != 1 or full == 1 else range(1)
            for span, extent, full in zip(aligned, shape, task.shape[len(task.shape) - len(shape) :], strict=True)
        )
    return Part(inputs, [task.renamed()])


def normalised(task: Task) -> Part:
    """Softmax and its kin: along their axes everything is needed; before operator set 13 these are several."""
    old = task.opset < 13 and task.node.op_type != "LpNormalization"
    axis = task.number("axis", 1 if old else -1) % len(task.shape)
    for one in range(axis, len(task.shape)) if old else [axis]:
        if len(task.region[one]) != task.shape[one]:
            raise NoRule
    return Part({0: task.region}, [task.renamed()])


def local_response(task: Task) -> Part:
    """Neighbouring channels of one position."""
    if len(task.region[1]) != task.shape[1]:
        raise NoRule
    return Part({0: task.region}, [task.renamed()])


# --- windows


@dataclass(frozen=True, slots=True)
class _Axis:
    """A window along one axis."""

    kernel: int
    stride: int
    dilation: int
    begin: int
    end: int

    @property
    def reach(self) -> int:
        return self.dilation * (self.kernel - 1) + 1


def _windows(task: Task, kernel: Sequence[int]) -> list[_Axis]:
    rank = len(kernel)
    strides, dilations = task.ints("strides", [1] * rank), task.ints("dilations", [1] * rank)
    pads = task.ints("pads", [0] * (2 * rank))
    auto = task.text("auto_pad", "NOTSET")
    found: list[_Axis] = []
    for n, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True)):
        begin, end = pads[n], pads[rank + n]
        if auto == "VALID":
            begin = end = 0
        elif auto in ("SAME_UPPER", "SAME_LOWER"):
            extent = task.input_shape()[2 + n]
            total = max(0, (-(-extent // s) - 1) * s + d * (k - 1) + 1 - extent)
            begin, end = total // 2, total - total // 2
            if auto == "SAME_LOWER":
                begin, end = end, begin
        found.append(_Axis(k, s, d, begin, end))
    return found


def _slid(task: Task, axes: Sequence[_Axis], number: int = 0) -> tuple[Region, list[int]]:
    """What windows read of an input, and the padding that is left: all that lies outside of the map."""
    shape = task.input_shape(number)
    region: list[range] = [range(shape[0]), range(shape[1])]
    before: list[int] = []
    after: list[int] = []
    for span, extent, axis in zip(task.region[2:], shape[2:], axes, strict=True):
        first = span.start * axis.stride - axis.begin
        last = (span.stop - 1) * axis.stride - axis.begin + axis.reach
        inside = range(min(max(first, 0), extent), max(min(last, extent), 0))
        if not len(inside):
            raise NoRule  # nothing but padding
        region.append(inside)
        before.append(inside.start - first)
        after.append(last - inside.stop)
    return tuple(region), before + after


def convolution(task: Task) -> Part:
    """Convolutions of any kind: the weights tell the kernel."""
    quantised = task.node.op_type == "QLinearConv"
    weights = task.input_shape(3 if quantised else 1)
    if len(task.region[1]) != task.shape[1]:
        raise NoRule
    region, pads = _slid(task, _windows(task, weights[2:]))
    inputs = {0: (task.region[0], *region[1:])}
    return Part(inputs, [task.renamed(pads=pads, auto_pad=None)])


def pool(task: Task) -> Part:
    """Pools: as many padded positions as lie outside, so that a mean counts as it did."""
    kernel = task.ints("kernel_shape", ())
    average = task.node.op_type == "AveragePool"
    if task.number("ceil_mode", 0) and average:
        raise NoRule  # how its last windows count depends on where the map ends
    if len(task.node.output) > 1 and task.node.output[1]:
        raise NoRule
    region, pads = _slid(task, _windows(task, kernel))
    if any(pad >= k for pad, k in zip(pads, [*kernel, *kernel], strict=True)):
        raise NoRule  # ONNX Runtime takes no such padding
    inputs = {0: (task.region[0], task.region[1], *region[2:])}
    return Part(inputs, [task.renamed(pads=pads, auto_pad=None, ceil_mode=None)])


def transposed(task: Task) -> Part:
    """Transposed convolutions: output position o takes input i where o = i * stride + tap * dilation - padding."""
    if task.has("output_shape") or task.text("auto_pad", "NOTSET") not in ("NOTSET", ""):
        raise NoRule
    if len(task.region[1]) != task.shape[1]:
        raise NoRule
    kernel = task.input_shape(1)[2:]
    region: list[range] = [task.region[0], range(task.input_shape()[1])]
    before: list[int] = []
    after: list[int] = []
    each = zip(task.region[2:], task.input_shape()[2:], _windows(task, kernel), strict=True)
    for span, extent, axis in each:
        first = -(-(span.start + axis.begin - axis.reach + 1) // axis.stride)
        last = (span.stop - 1 + axis.begin) // axis.stride
        inside = range(max(first, 0), min(last + 1, extent))
        if not len(inside):
            raise NoRule
        reaches = inside.start * axis.stride - axis.begin
        ends = (inside.stop - 1) * axis.stride + axis.reach - axis.begin
        if span.start < reaches or span.stop > ends:
            raise NoRule  # positions that take no input
        region.append(inside)
        before.append(span.start - reaches)
        after.append(ends - span.stop)
    return Part({0: tuple(region)}, [task.renamed(pads=before + after, output_padding=None, auto_pad=None)])


# --- parts put together and taken apart


def concat(task: Task) -> Part:
    """Of each part what lies in the region."""
    axis = task.number("axis", 1) % len(task.shape)
    span, offset = task.region[axis], 0
    inputs: dict[int, Region] = {}
    names: list[str] = []
    for number, name in enumerate(task.node.input):
        extent = task.input_shape(number)[axis]
        here = range(max(span.start - offset, 0), min(max(span.stop - offset, 0), extent))
        offset += extent
        if len(here):
            inputs[len(names)] = (*task.region[:axis], here, *task.region[axis + 1 :])
            names.append(name)
    return Part(inputs, [task.renamed(inputs=names)])


def split(task: Task) -> Part:
    """A part is read where it lies."""
    used = next(n for n, name in enumerate(task.node.output) if name == task.output)
    axis = task.number("axis", 0) % len(task.shape)
    offset = sum(task.shapes(name)[axis] for name in task.node.output[:used])
    span = task.region[axis]
    moved = range(span.start + offset, span.stop + offset)
    region = (*task.region[:axis], moved, *task.region[axis + 1 :])
    return Part({0: region}, [helper.make_node("Identity", [task.node.input[0]], [task.output])])


def slice_(task: Task) -> Part:
    """Slices: read where they lie; a step that is left is taken in what was read."""
    shape = task.input_shape()
    numbers = _slice_numbers(task)
    region = list(task.region)
    left: dict[int, int] = {}
    for axis, (start, step) in numbers.items():
        span = task.region[axis]
        if step < 0:
            raise NoRule
        first = start + span.start * step
        last = start + (span.stop - 1) * step
        region[axis] = range(first, last + 1) if step == 1 else range(first, last + 1, step)
        if axis >= 2 and step > 1:
            region[axis] = range(first, last + 1)
            left[axis] = step
    if any(span.stop > extent for span, extent in zip(region, shape, strict=True)):
        raise NoRule
    if not left:
        return Part({0: tuple(region)}, [helper.make_node("Identity", [task.node.input[0]], [task.output])])
    axes = sorted(left)
    constants = {
        task.fresh("starts"): np.zeros(len(axes), np.int64),
        task.fresh("ends"): np.full(len(axes), np.iinfo(np.int64).max, np.int64),
        task.fresh("axes"): np.asarray(axes, np.int64),
        task.fresh("steps"): np.asarray([left[a] for a in axes], np.int64),
    }
    node = helper.make_node("Slice", [task.node.input[0], *constants], [task.output])
    return Part({0: tuple(region)}, [node], constants)


def _slice_numbers(task: Task) -> dict[int, tuple[int, int]]:
    """Per axis where a slice starts and its step."""
    shape = task.input_shape()

    def given(number: int, name: str) -> list[int] | None:
        if task.has(name):
            return task.ints(name, ())
        if len(task.node.input) <= number or not task.node.input[number]:
            return None
        data = task.constants(task.node.input[number])
        if data is None:
            raise NoRule
        return [int(v) for v in np.ravel(data)]

    starts = given(1, "starts") or []
    axes = given(3, "axes") or list(range(len(starts)))
    steps = given(4, "steps") or [1] * len(starts)
    found: dict[int, tuple[int, int]] = {}
    for axis, start, step in zip(axes, starts, steps, strict=True):
        extent = shape[axis % len(shape)]
        found[axis % len(shape)] = (min(max(start + extent if start < 0 else start, 0), extent), step)
    return found


def pad(task: Task) -> Part:
    """Constant padding: what is left of it lies outside of the map."""
    if task.text("mode", "constant") != "constant":
        raise NoRule
    rank = len(task.shape)
    pads, axes = _pad_numbers(task, rank)
    begin = dict.fromkeys(range(rank), 0) | dict(zip(axes, pads[: len(axes)], strict=True))
    region: list[range] = []
    before: list[int] = []
    after: list[int] = []
    for axis, (span, extent) in enumerate(zip(task.region, task.input_shape(), strict=True)):
        first, last = span.start - begin[axis], span.stop - begin[axis]
        inside = range(min(max(first, 0), extent), max(min(last, extent), 0))
        if not len(inside):
            raise NoRule
        region.append(inside)
        before.append(inside.start - first)
        after.append(last - inside.stop)
    if task.has("pads"):
        return Part({0: tuple(region)}, [task.renamed(pads=before + after)])
    constants = {task.fresh("pads"): np.asarray(before + after, np.int64)}
    names = [task.node.input[0], *constants, *task.node.input[2:3]]
    return Part({0: tuple(region)}, [task.renamed(inputs=names)], constants)


def _pad_numbers(task: Task, rank: int) -> tuple[list[int], list[int]]:
    if task.has("pads"):
        return task.ints("pads", ()), list(range(rank))
    data = task.constants(task.node.input[1])
    if data is None:
        raise NoRule
    axes = list(range(rank))
    if len(task.node.input) > 3 and task.node.input[3]:
        given = task.constants(task.node.input[3])
        if given is None:
            raise NoRule
        axes = [int(a) % rank for a in np.ravel(given)]
    return [int(v) for v in np.ravel(data)], axes


def gather(task: Task) -> Part:
    """Picks positions of an axis that is not tiled."""
    axis = task.number("axis", 0) % len(task.input_shape())
    indices = task.constants(task.node.input[1])
    if indices is None or indices.ndim != 1 or len(task.region[axis]) != task.shape[axis]:
        raise NoRule
    extent = task.input_shape()[axis]
    region = (*task.region[:axis], range(extent), *task.region[axis + 1 :])
    picked = tuple(sorted({int(i) % extent for i in indices})) if axis == 1 else None
    return Part({0: region}, [task.renamed()], channels=picked)


# --- positions spread and gathered


def depth_to_space(task: Task) -> Part:
    """Blocks of channels become blocks of positions."""
    return _spread(task, task.number("blocksize", 1), [task.renamed()], {})


def space_to_depth(task: Task) -> Part:
    """Blocks of positions become channels."""
    b = task.number("blocksize", 1)
    shape = task.input_shape()
    spans = [range(span.start * b, span.stop * b) for span in task.region[2:]]
    if len(task.region[1]) != task.shape[1]:
        raise NoRule
    return Part({0: (task.region[0], range(shape[1]), *spans)}, [task.renamed()])


def _spread(task: Task, factor: int, nodes: list[onnx.NodeProto], constants: dict[str, Array]) -> Part:
    shape = task.input_shape()
    if len(task.region[1]) != task.shape[1]:
        raise NoRule
    spans = [range(span.start // factor, (span.stop - 1) // factor + 1) for span in task.region[2:]]
    part = Part({0: (task.region[0], range(shape[1]), *spans)}, nodes, constants)
    start = {2 + n: task.region[2 + n].start - span.start * factor for n, span in enumerate(spans)}
    return task.cropped(part, start)


def resize(task: Task) -> Part:
    """Nearest neighbours at whole scales; every other resizing needs to know where the map ends."""
    if task.text("mode", "nearest") != "nearest":
        raise NoRule
    way = (
        task.text("coordinate_transformation_mode", "half_pixel" if task.node.op_type == "Resize" else "asymmetric"),
        task.text("nearest_mode", "round_prefer_floor"),
    )
    if task.node.op_type == "Resize" and way not in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")):
        raise NoRule
    factors = [out / have for out, have in zip(task.shape, task.input_shape(), strict=True)]
    if task.shape[:2] != task.input_shape()[:2] or any(f != int(f) for f in factors):
        raise NoRule
    region = list(task.region[:2])
    start: dict[int, int] = {}
    for axis, factor in enumerate(map(int, factors)):
        if axis >= 2:
            span = task.region[axis]
            region.append(range(span.start // factor, (span.stop - 1) // factor + 1))
            start[axis] = span.start - region[-1].start * factor
    scales = task.fresh("scales")
    names = [task.node.input[0], "", scales] if task.node.op_type == "Resize" else [task.node.input[0], scales]
    changed: dict[str, Any] = {"scales": None, "axes": None, "keep_aspect_ratio_policy": None}
    part = Part(
        {0: tuple(region)},
        [task.renamed(inputs=names, **changed)],
        {scales: np.asarray(factors, np.float32)},
    )
    return task.cropped(part, start)


# --- the same elements under other axes


def reshape(task: Task) -> Part:
    """Axes at the end that stay as they are keep their part; those before are needed as a whole."""
    before, after = task.input_shape(), task.shape
    kept = _common_tail(before, after)
    inner: list[range] = []
    for axis, extent in enumerate(before):
        inner.append(task.region[kept[axis]] if axis in kept else range(extent))
    whole_out = {axis for axis in range(len(after)) if axis not in kept.values()}
    if any(len(task.region[axis]) != after[axis] for axis in whole_out):
        raise NoRule
    shape = task.fresh("shape")
    constants = {shape: np.asarray([len(span) for span in task.region], np.int64)}
    node = helper.make_node("Reshape", [task.node.input[0], shape], [task.output])
    return Part({0: tuple(inner)}, [node], constants)


def _common_tail(before: Shape, after: Shape) -> dict[int, int]:
    """Axes of ``before`` that are axes of ``after``, as the extents from the last axis on show; extents of 1 aside."""
    found: dict[int, int] = {}
    a = [n for n, extent in enumerate(before) if extent != 1]
    b = [n for n, extent in enumerate(after) if extent != 1]
    while a and b and before[a[-1]] == after[b[-1]]:
        found[a.pop()] = b.pop()
    if prod(before[n] for n in a) != prod(after[n] for n in b):
        raise NoRule
    return found


def transpose(task: Task) -> Part:
    """Axes in another order."""
    rank = len(task.shape)
    perm = task.ints("perm", list(reversed(range(rank))))
    region: list[range] = [range(0)] * rank
    for out, axis in enumerate(perm):
        region[axis] = task.region[out]
    return Part({0: tuple(region)}, [task.renamed()])


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("Conv", "QLinearConv", "ConvInteger", "FusedConv"), convolution),
    "ConvTranspose": transposed,
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool", "QLinearAveragePool"), pool),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization"), normalised),
    "LRN": local_response,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Pad": pad,
    "Gather": gather,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Resize": resize,
    "Upsample": resize,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), reshape),
    "Transpose": transpose,
    **dict.fromkeys(
        (
            "Identity", "Dropout", "Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh",
            "Gelu", "Erf", "Exp", "Log", "Sqrt", "Abs", "Neg", "Reciprocal", "Softplus", "Softsign", "Elu", "Celu",
            "Selu", "Swish", "Mish", "ThresholdedRelu", "Shrink", "Floor", "Ceil", "Round", "Sign", "Sin", "Cos", "Tan",
            "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "BitwiseNot", "Add", "Sub", "Mul", "Div",
            "Pow", "Mod", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Equal", "Greater", "GreaterOrEqual",
            "Less", "LessOrEqual", "And", "Or", "Xor", "Not", "IsNaN", "IsInf", "Sum", "Max", "Min", "Mean", "Where",
            "Cast", "CastLike", "BatchNormalization", "QuantizeLinear", "DequantizeLinear", "FastGelu", "QuickGelu",
            "BiasGelu", "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu",
        ),
        pointwise,
    ),
}  # fmt: skip
