"""MLIR in: a function of linalg operations on tensors, raised to the ONNX operators that it was lowered from.

The importer then takes these as any other model, so that a network gives the same graph whichever way it comes. Named
operations say what they are; a ``linalg.generic`` is recognised by its indexing maps (``linalg_contractions.py``) and
its body (``linalg_elements.py``). Values that no operator of ONNX has by itself (a padded map, a repeated bias, a sum
that is divided later) are held back until their user takes them up (``linalg_values.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NoReturn

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dfc.frontend import linalg_elements as elements
from dfc.frontend.linalg_contractions import Contraction, Forms, contraction, is_sum_of_products, pool_steps
from dfc.frontend.linalg_values import (
    Apply,
    Constant,
    Filled,
    Held,
    Named,
    Padded,
    Spread,
    View,
    WindowSum,
    scalar,
)
from dfc.frontend.mlir_function import MlirFunction, MlirOp, MlirValue
from dfc.frontend.raised import Made, Raised
from dfc.frontend.values import Array, Shape

OPSET = 17
_ELEMENTS = {
    "f16": TensorProto.FLOAT16, "f32": TensorProto.FLOAT, "f64": TensorProto.DOUBLE, "i8": TensorProto.INT8,
    "i32": TensorProto.INT32, "i64": TensorProto.INT64, "i1": TensorProto.BOOL,
}  # fmt: skip
_BINARY = {
    "arith.addf": "Add", "arith.subf": "Sub", "arith.mulf": "Mul", "arith.divf": "Div", "arith.maximumf": "Max",
    "arith.minimumf": "Min", "arith.maxnumf": "Max", "arith.minnumf": "Min", "math.powf": "Pow",
}  # fmt: skip
_UNARY = {
    "math.exp": "Exp", "math.log": "Log", "math.sqrt": "Sqrt", "math.rsqrt": "Rsqrt", "math.tanh": "Tanh",
    "math.erf": "Erf", "math.absf": "Abs", "math.floor": "Floor", "math.ceil": "Ceil", "arith.negf": "Neg",
}  # fmt: skip
#: operations between element types of which the result is the same number
_CASTS = frozenset({"arith.extf", "arith.truncf", "tensor.cast"})


def raise_linalg(function: MlirFunction) -> Raised:
    """The ONNX model that computes what a function does.

    Raises:
        MlirError: MLIR020 an operation that is not understood, with its place.
    """
    raiser = _Raiser(function)
    return Raised(raiser.model(), raiser.made)


class _Raiser:
    def __init__(self, function: MlirFunction) -> None:
        self.function = function
        self.nodes: list[onnx.NodeProto] = []
        self.made: dict[str, Made] = {}
        self.constants: dict[str, onnx.TensorProto] = {}
        self.held: dict[int, Held] = {}
        self.done: dict[int, tuple[Held, str]] = {}  # by identity, with what keeps it alive
        self.counts: Counter[str] = Counter()
        self.elem = TensorProto.FLOAT
        self.at = function.ops[0]

    def model(self) -> onnx.ModelProto:
        """Walk over the function."""
        inputs: list[onnx.ValueInfoProto] = []
        for value, name in zip(self.function.arguments, self.function.names, strict=True):
            kind = _ELEMENTS.get(value.elem, TensorProto.FLOAT)
            inputs.append(helper.make_tensor_value_info(name, kind, list(value.shape)))
            self.held[value.number] = Named(name, value.shape)
            self.elem = kind
        outputs: list[str] = []
        for op in self.function.ops:
            self.at = op
            try:
                if op.name == "func.return":
                    outputs = [self.tensor(self.held[value.number]) for value in op.operands]
                else:
                    self.held |= dict.fromkeys((value.number for value in op.results), self.visit(op))
            except (ArithmeticError, LookupError, TypeError, ValueError):
                # what mlir-opt verifies and xDSL does not: ranks, numbers of operands, attributes that have to be there
                op.fail("operands, attributes and results do not go together")
        infos = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(
            self.nodes, self.function.name, inputs, infos, initializer=list(self.constants.values())
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)

    # nodes

    def node(self, kind: str, inputs: Sequence[str], shape: Shape, **attributes: Any) -> Named:
        """An operator with one output."""
        self.counts[kind] += 1
        name = f"{kind.lower()}{self.counts[kind]}"
        self.made[name] = Made(self.at.span, f"{name}.out", shape)
        self.nodes.append(helper.make_node(kind, list(inputs), [f"{name}.out"], name=name, **attributes))
        return Named(f"{name}.out", shape)

    def initializer(self, data: Array) -> str:
        """A constant."""
        name = f"constant{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(data).reshape(data.shape), name)
        return name

    def unknown(self, shape: Shape) -> str:
        """A constant whose numbers the text leaves out."""
        name = f"constant{len(self.constants)}"
        absent = TensorProto(name=name, dims=shape, data_type=self.elem, data_location=TensorProto.EXTERNAL)
        self.constants[name] = absent
        return name

    def tensor(self, held: Held) -> str:
        """The name of the tensor that a value is, made now if need be."""
        if id(held) not in self.done:
            self.done[id(held)] = (held, self._tensor(held))
        return self.done[id(held)][1]

    def _tensor(self, held: Held) -> str:
        match held:
            case Named():
                return held.name
            case Constant(data=None):
                return self.unknown(held.shape)
            case Constant(data=data):
                assert data is not None
                return self.initializer(data)
            case Filled():
                return self.initializer(np.full(held.shape, held.value or 0.0, np.float32))
            case Padded():
                pads = self.initializer(np.array([*held.low, *held.high]))
                inputs = [self.tensor(held.source), pads, self.initializer(np.array(held.value, np.float32))]
                return self.node("Pad", inputs, held.shape).name
            case Spread():
                ones = tuple(e if axis in held.axes else 1 for axis, e in enumerate(held.shape))
                shape = self.initializer(np.array(held.shape))
                return self.node("Expand", [self.tensor(self.view(held.source, ones)), shape], held.shape).name
            case View():
                shape = self.initializer(np.array(held.shape))
                return self.node("Reshape", [self.tensor(held.source), shape], held.shape).name
            case WindowSum() if prod(held.kernel) == 1:
                return self.average(held)
            case WindowSum():
                count = Constant(np.array(prod(held.kernel), np.float32), ())
                return self.node("Mul", [self.average(held), self.tensor(count)], held.shape).name
            case _:
                return self.apply(held)

    def apply(self, held: Apply) -> str:
        """Element-wise work by the operator that says it best."""
        total = elements.average(held)
        if total is not None:
            return self.average(total)
        below = elements.sigmoid(held)
        if below is not None:
            return self.node("Sigmoid", [self.tensor(below)], held.shape).name
        bounds = elements.clip(held)
        if bounds is not None:
            return self.clip(*bounds, held.shape)
        norm = elements.batch_norm(held)
        if norm is not None:
            x, mean, factor, shift = norm
            numbers = [self.initializer(v.astype(np.float32)) for v in (factor, shift, mean, np.ones_like(mean))]
            return self.node("BatchNormalization", [self.tensor(x), *numbers], held.shape, epsilon=0.0).name
        slope = elements.leaky(held)
        if slope is not None:
            held = Apply("PRelu", slope, held.shape)
        if held.op == "PRelu" and scalar(held.inputs[1]) is not None:
            alpha = scalar(held.inputs[1])
            return self.node("LeakyRelu", [self.tensor(held.inputs[0])], held.shape, alpha=alpha).name
        if held.op.startswith("compare") or held.op == "select":
            self.fail("a comparison that is no maximum, minimum or slope")
        return self.node(held.op, [self.tensor(one) for one in held.inputs], held.shape).name

    def clip(self, x: Held, low: float | None, high: float | None, shape: Shape) -> str:
        """A bound below, above, or both."""
        name = self.tensor(x)
        if low == 0.0 and high is None:
            return self.node("Relu", [name], shape).name
        ends = ["" if v is None else self.initializer(np.array(v, np.float32)) for v in (low, high)]
        return self.node("Clip", [name, *ends], shape).name

    def average(self, held: WindowSum) -> str:
        """Means over windows, or over all positions."""
        source, low, high = self.padding(held.source, 0.0)
        whole = source.shape[2:]
        if whole == held.kernel and not any((*low, *high)):
            return self.node("GlobalAveragePool", [self.tensor(source)], held.shape).name
        if any(d != 1 for d in held.dilations):
            self.fail("an average over a dilated window")
        return self.node(
            "AveragePool", [self.tensor(source)], held.shape, kernel_shape=held.kernel, strides=held.strides,
            pads=[*low, *high], count_include_pad=1,
        ).name  # fmt: skip

    def fail(self, message: str) -> NoReturn:
        """MLIR020 at the operation that is being read."""
        self.at.fail(message)

    # operations

    def visit(self, op: MlirOp) -> Held:
        """What an operation makes."""
        shape = op.results[0].shape if op.results else ()
        if op.name == "arith.constant":
            return Constant(op.data, shape)
        if op.name == "tensor.empty":
            return Filled(None, shape)
        if op.name in _CASTS:
            return self.of(op, 0)
        if op.name == "linalg.generic":
            return self.generic(op, shape)
        handler = _HANDLERS.get(op.name)
        if handler is None:
            op.fail("an operation that is not understood")
        return handler(self, op, shape)

    def of(self, op: MlirOp, index: int) -> Held:
        """What an operand of an operation stands for."""
        return self.held[op.operands[index].number]

    def view(self, held: Held, shape: Shape) -> Held:
        """Another shape; a constant is reshaped at once, and there and back is nothing."""
        while isinstance(held, View):
            held = held.source
        if held.shape == shape:
            return held
        if isinstance(held, Constant):
            return Constant(None if held.data is None else held.data.reshape(shape), shape)
        return View(held, shape)

    def turned(self, held: Held, order: Shape) -> Held:
        """Axes in another order."""
        if order == tuple(range(len(order))):
            return held
        shape = tuple(held.shape[axis] for axis in order)
        if isinstance(held, Constant):
            return Constant(None if held.data is None else held.data.transpose(order), shape)
        return self.node("Transpose", [self.tensor(held)], shape, perm=order)

    def padding(self, held: Held, value: float) -> tuple[Held, Shape, Shape]:
        """(the map, zeros before, zeros after it along its spatial axes) of a map that may be padded."""
        while isinstance(held, View) and held.source.shape == held.shape:
            held = held.source
        none = (0,) * max(0, len(held.shape) - 2)
        if isinstance(held, Padded) and held.value == value and not any((*held.low[:2], *held.high[:2])):
            return held.source, held.low[2:], held.high[2:]
        return held, none, none

    # convolutions and products

    def conv(self, x: Held, weights: Held, start: Held, groups: int, steps: tuple[Shape, Shape], shape: Shape) -> Held:
        """A convolution; ``weights`` as ONNX has them."""
        source, low, high = self.padding(x, 0.0)
        inputs = [self.tensor(source), self.tensor(weights)]
        bias = start.source if isinstance(start, Spread) and start.axes == (1,) else None
        if bias is not None:
            inputs.append(self.tensor(bias))
        found = self.node(
            "Conv", inputs, shape, kernel_shape=weights.shape[2:], strides=steps[0], dilations=steps[1],
            pads=[*low, *high], group=groups,
        )  # fmt: skip
        if bias is None and scalar(start) != 0.0:
            return elements.apply("Add", (found, start), shape)
        return found

    def product(self, a: Held, b: Held, start: Held, shape: Shape) -> Held:
        """A matrix product, with what its sums begin with."""
        if isinstance(start, Spread) and len(shape) == 2 and start.axes == (1,) and isinstance(start.source, Constant):
            return self.node("Gemm", [self.tensor(a), self.tensor(b), self.tensor(start.source)], shape)
        found = self.node("MatMul", [self.tensor(a), self.tensor(b)], shape)
        return found if scalar(start) == 0.0 else elements.apply("Add", (found, start), shape)

    # generics

    def generic(self, op: MlirOp, shape: Shape) -> Held:
        """A generic by its maps and its body."""
        maps = [one for one in op.maps if one is not None]
        if len(maps) != len(op.operands) or len(op.results) != 1:
            op.fail("maps that are not linear, or several results")
        if "reduction" in op.loops:
            return self.reduction(op, maps, shape)
        loops = len(op.loops)
        if [(dict(f), s) for f, s in maps[-1]] != [({d: 1}, 0) for d in range(loops)]:
            op.fail("an output whose axes are in another order")
        body = op.body[:-1]
        result = op.body[-1].operands[0]
        if not body and result in op.arguments[: op.inputs]:
            return self.copied(op, op.arguments.index(result), maps, shape)
        values = [self.aligned(op, self.of(op, i), maps[i], shape) for i in range(op.inputs)]
        known = {value.number: held for value, held in zip(op.arguments, values, strict=False)}
        for inner in body:
            known[inner.results[0].number] = self.element(inner, known, shape)
        return self.read(known, result)

    def read(self, known: dict[int, Held], value: MlirValue) -> Held:
        """A value inside of a body: of the body itself, or from outside."""
        found = known.get(value.number) or self.held.get(value.number)
        if found is None:
            self.fail("a body that reads its output, or the place that it is at")
        return found

    def element(self, op: MlirOp, known: dict[int, Held], shape: Shape) -> Held:
        """One operation of an element-wise body."""
        inputs = tuple(self.read(known, value) for value in op.operands)
        if op.name in _CASTS:
            return inputs[0]
        if op.name == "arith.constant":
            return self.visit(op)
        if op.name == "arith.cmpf":
            return Apply(f"compare{op.ints('predicate')[0]}", inputs, shape)
        if op.name == "arith.select":
            return elements.apply("select", inputs, shape)
        kind = _BINARY.get(op.name) or _UNARY.get(op.name)
        if kind is None:
            op.fail("an element-wise operation that is not understood")
        if all(isinstance(one, Constant) for one in inputs):
            shape = np.broadcast_shapes(*(one.shape for one in inputs))
        return elements.apply(kind, inputs, shape)

    def aligned(self, op: MlirOp, held: Held, forms: Forms, shape: Shape) -> Held:
        """An input whose axes are those of the output from the right, or 1."""
        rank = len(shape)
        places = [_single(form) for form in forms]
        skipped = rank - len(places)
        if all(place in (axis + skipped, -1) for axis, place in enumerate(places)):
            return held
        axes = [place for place in places if place is not None]
        if len(axes) != len(places) or -1 in axes or axes != sorted(set(axes)):
            op.fail("an input whose axes are in another order")
        ones = tuple(held.shape[axes.index(axis)] if axis in axes else 1 for axis in range(rank))
        return self.view(held, ones)

    def copied(self, op: MlirOp, index: int, maps: list[Forms], shape: Shape) -> Held:
        """A body that only hands on: a transposition, or a repetition."""
        held = self.of(op, index)
        number = scalar(held)
        if number is not None:
            return Filled(number, shape)
        axes = [_single(form) for form in maps[index]]
        found = tuple(axis for axis in axes if axis is not None and axis >= 0)
        if len(found) == len(shape) == len(axes):
            return self.turned(held, tuple(found.index(axis) for axis in range(len(shape))))
        if len(found) == len(axes) and list(found) == sorted(found):
            return Spread(held, found, shape)
        return Spread(self.view(held, tuple(held.shape[i] for i, a in enumerate(axes) if a != -1)), found, shape)

    def reduction(self, op: MlirOp, maps: list[Forms], shape: Shape) -> Held:
        """A sum of products, or a sum or maximum over axes."""
        if op.inputs == 2 and is_sum_of_products(op):
            found = contraction(maps)
            if found is None:
                op.fail("a sum of products that is no convolution and no matrix product of a known layout")
            return self.contraction(op, found, shape)
        body = [one.name for one in op.body]
        steps = pool_steps(op, maps)
        if steps is not None:
            return self.pool(op, body[0] == "arith.maximumf", op.operands[1].shape, steps, shape)
        x = self.of(op, 0)
        kept = {_single(form) for form in maps[-1]}
        spatial = {axis for axis in range(len(x.shape)) if axis not in kept}
        same = [_single(form) for form in maps[0]] == list(range(len(x.shape)))
        if (
            op.inputs != 1
            or not same
            or body != ["arith.addf", "linalg.yield"]
            or spatial != set(range(2, len(x.shape)))
        ):
            op.fail("a reduction that is not a sum over all positions")
        ones = (1,) * len(spatial)
        total = WindowSum(x, x.shape[2:], ones, ones, (*x.shape[:2], *ones))
        return total if len(shape) == len(x.shape) else View(total, shape)

    def pool(self, op: MlirOp, largest: bool, kernel: Shape, steps: tuple[Shape, Shape], shape: Shape) -> Held:
        """The largest of each window, or its sum."""
        start = scalar(self.of(op, 2))
        if start != (float("-inf") if largest else 0.0):
            op.fail("a pool that begins with another number than minus infinity, or zero for a sum")
        if not largest:
            return WindowSum(self.of(op, 0), kernel, *steps, shape)
        x, low, high = self.padding(self.of(op, 0), float("-inf"))
        return self.node(
            "MaxPool", [self.tensor(x)], shape, kernel_shape=kernel, strides=steps[0], dilations=steps[1],
            pads=[*low, *high],
        )  # fmt: skip

    def contraction(self, op: MlirOp, found: Contraction, shape: Shape) -> Held:
        """The convolution or product."""
        first, second = (1, 0) if found.swapped else (0, 1)
        a, b, start = self.of(op, first), self.of(op, second), self.of(op, 2)
        if found.left:
            return self.product(self.turned(a, found.left), self.turned(b, found.right), start, shape)
        weights = self.turned(b, found.weights)
        return self.windows(a, weights, start, (found.strides, found.dilations), shape)

    def windows(self, x: Held, weights: Held, start: Held, steps: tuple[Shape, Shape], shape: Shape) -> Held:
        """A convolution by weights of (k, c, f...), depthwise (c, f...) or in groups (g, k, c, f...)."""
        count = len(steps[0])
        extra = len(weights.shape) - count
        if extra == 1:
            weights = self.view(weights, (weights.shape[0], 1, *weights.shape[1:]))
            return self.conv(x, weights, start, weights.shape[0], steps, shape)
        if extra == 2:
            return self.conv(x, weights, start, 1, steps, shape)
        groups, k, *rest = weights.shape
        whole = (shape[0], groups * k, *shape[3:])
        x, start = self.joined(x), self.joined(start)
        found = self.conv(x, self.view(weights, (groups * k, *rest)), start, groups, steps, whole)
        return View(found, shape)

    def joined(self, held: Held) -> Held:
        """Groups and channels as one axis."""
        shape = (held.shape[0], held.shape[1] * held.shape[2], *held.shape[3:])
        if isinstance(held, Padded):
            low, high = (w[0:1] + w[2:] for w in (held.low, held.high))
            return Padded(self.joined(held.source), low, high, held.value, shape)
        if isinstance(held, Filled):
            return Filled(held.value, shape)
        if isinstance(held, Spread) and held.axes == (1, 2):
            return Spread(self.view(held.source, (shape[1],)), (1,), shape)
        return self.view(held, shape)


def _single(form: tuple[Any, int]) -> int | None:
    """The loop that a result is by itself; -1 where it is always 0; None for others."""
    factors, start = form
    if not factors and start == 0:
        return -1
    return next(iter(factors)) if start == 0 and list(factors.values()) == [1] else None


# -- operations by name

_Handler = Callable[[_Raiser, MlirOp, Shape], Held]


def _fill(r: _Raiser, op: MlirOp, shape: Shape) -> Held:
    return Filled(scalar(r.of(op, 0)), shape)


def _broadcast(r: _Raiser, op: MlirOp, shape: Shape) -> Held:
    gone = op.ints("dimensions")
    return Spread(r.of(op, 0), tuple(axis for axis in range(len(shape)) if axis not in gone), shape)


def _transpose(r: _Raiser, op: MlirOp, _shape: Shape) -> Held:
    return r.turned(r.of(op, 0), op.ints("permutation"))


def _pad(r: _Raiser, op: MlirOp, shape: Shape) -> Held:
    low, high = op.ints("static_low"), op.ints("static_high")
    value = scalar(r.held.get(op.body[-1].operands[0].number, Filled(None, ())))
    if value is None or min((*low, *high), default=0) < 0:
        op.fail("a pad of several numbers, or of a width that is not known")
    return Padded(r.of(op, 0), low, high, value, shape)


def _conv(r: _Raiser, op: MlirOp, shape: Shape) -> Held:
    steps = op.ints("strides"), op.ints("dilations")
    return r.windows(r.of(op, 0), r.of(op, 1), r.of(op, 2), steps, shape)


def _pool(r: _Raiser, op: MlirOp, shape: Shape) -> Held:
    steps = op.ints("strides"), op.ints("dilations")
    return r.pool(op, op.name.endswith("max"), op.operands[1].shape, steps, shape)


def _matmul(r: _Raiser, op: MlirOp, shape: Shape) -> Held:
    return r.product(r.of(op, 0), r.of(op, 1), r.of(op, 2), shape)


def _view(r: _Raiser, op: MlirOp, shape: Shape) -> Held:
    return r.view(r.of(op, 0), shape)


def _concat(r: _Raiser, op: MlirOp, shape: Shape) -> Held:
    (axis,) = op.ints("dim")
    return r.node("Concat", [r.tensor(r.held[v.number]) for v in op.operands], shape, axis=axis)


def _insert(r: _Raiser, op: MlirOp, shape: Shape) -> Held:
    """Parts written side by side into an empty tensor are a concatenation; one by one here, so joined at the last."""
    part, into = r.of(op, 0), r.of(op, 1)
    starts, sizes = op.ints("static_offsets"), op.ints("static_sizes")
    wide = [axis for axis in range(len(shape)) if sizes[axis] != shape[axis]]
    if not wide:
        return part
    before = into.inputs if isinstance(into, Apply) and into.op == "parts" else ()
    end = sum(one.shape[wide[0]] for one in before)
    empty = isinstance(into, Filled) and into.value is None
    if len(wide) != 1 or starts[wide[0]] != end or not (before or empty) or set(op.ints("static_strides")) != {1}:
        op.fail("a part that is not written behind the one before")
    if end + sizes[wide[0]] == shape[wide[0]]:
        return r.node("Concat", [r.tensor(one) for one in (*before, part)], shape, axis=wide[0])
    return Apply("parts", (*before, part), shape)


def _extract(r: _Raiser, op: MlirOp, shape: Shape) -> Held:
    starts, sizes, steps = op.ints("static_offsets"), op.ints("static_sizes"), op.ints("static_strides")
    whole = r.of(op, 0)
    if min((*starts, *sizes, *steps), default=0) < 0 or len(shape) != len(whole.shape):
        op.fail("a slice whose place is not known, or that drops axes")
    axes = [a for a in range(len(shape)) if (starts[a], sizes[a], steps[a]) != (0, whole.shape[a], 1)]
    if not axes:
        return whole
    ends = [starts[a] + (sizes[a] - 1) * steps[a] + 1 for a in axes]
    lists = ([starts[a] for a in axes], ends, axes, [steps[a] for a in axes])
    return r.node("Slice", [r.tensor(whole), *(r.initializer(np.array(v)) for v in lists)], shape)


_CONVS = (
    "conv_1d_ncw_fcw", "conv_2d_nchw_fchw", "conv_3d_ncdhw_fcdhw", "conv_2d_ngchw_gfchw",
    "depthwise_conv_1d_ncw_cw", "depthwise_conv_2d_nchw_chw", "depthwise_conv_3d_ncdhw_cdhw",
)  # fmt: skip
_HANDLERS: dict[str, _Handler] = {
    "linalg.fill": _fill, "linalg.broadcast": _broadcast, "linalg.transpose": _transpose, "tensor.pad": _pad,
    "linalg.pooling_nchw_max": _pool, "linalg.pooling_ncw_max": _pool, "linalg.pooling_nchw_sum": _pool,
    "linalg.pooling_ncw_sum": _pool, "linalg.matmul": _matmul, "linalg.batch_matmul": _matmul,
    "tensor.collapse_shape": _view, "tensor.expand_shape": _view, "tensor.concat": _concat,
    "tensor.insert_slice": _insert, "tensor.extract_slice": _extract,
    **{f"linalg.{name}": _conv for name in _CONVS},
}  # fmt: skip
