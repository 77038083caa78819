"""Element-wise operators: ``linalg.generic`` with numpy's broadcasting, and the arithmetic inside of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dfc.frontend import Operation
from dfc.ir import Axis
from dfc.mlir.layer import LayerCode, along_axes, operator
from dfc.mlir.writer import Array, Offset, Shape, Value, Writer, dictionary


class Body:
    """The arithmetic on the elements of one position."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.elem = writer.elem

    def _op(self, text: str) -> str:
        found = self.writer.fresh("e")
        self.writer.line(f"{found} = {text}")
        return found

    def unary(self, name: str, x: str) -> str:
        """``math.exp`` and the like."""
        return self._op(f"{name} {x} : {self.elem}")

    def binary(self, name: str, a: str, b: str) -> str:
        """``arith.addf`` and the like."""
        return self._op(f"{name} {a}, {b} : {self.elem}")

    def number(self, value: float) -> str:
        """A constant."""
        return self.writer.scalar(value)

    def choose(self, test: str, a: str, b: str, yes: str, no: str) -> str:
        """``yes`` where the comparison ``test`` of ``a`` and ``b`` holds, else ``no``."""
        decided = self._op(f"arith.cmpf {test}, {a}, {b} : {self.elem}")
        return self._op(f"arith.select {decided}, {yes}, {no} : {self.elem}")


#: what a position's element is, from those of the inputs (and of the output before, last)
Compute = Callable[[Body, Sequence[str]], str]
#: a tensor with what addresses each of its axes
Addressed = tuple[Value, Sequence[str]]


def generic(
    code: LayerCode,
    parallel: Sequence[str],
    reduced: Sequence[str],
    inputs: Sequence[Addressed],
    output: Addressed,
    compute: Compute,
) -> Value:
    """A ``linalg.generic`` over named loops: the parallel ones, then those that are summed over."""
    writer = code.writer
    loops = ", ".join((*parallel, *reduced))
    maps = ", ".join(f"affine_map<({loops}) -> ({', '.join(places)})>" for _, places in (*inputs, output))
    kinds = ", ".join(['"parallel"'] * len(parallel) + ['"reduction"'] * len(reduced))
    target = output[0]
    names, types = ", ".join(v.name for v, _ in inputs), ", ".join(v.type for v, _ in inputs)
    result = Value(writer.fresh("v"), target.shape, target.elem)
    marks = dictionary(code.marks())
    writer.line(
        f"{result.name} = linalg.generic {{indexing_maps = [{maps}], iterator_types = [{kinds}]}}"
        f"{f' ins({names} : {types})' if inputs else ''} outs({target.typed}) "
        f"{f'attrs = {marks}' if marks else ''}{{"
    )
    seen = [writer.fresh("a") for _ in (*inputs, output)]
    writer.line(f"^bb0({', '.join(f'{one}: {target.elem}' for one in seen)}):")
    with writer.block():
        found = compute(Body(writer), seen)
        writer.line(f"linalg.yield {found} : {target.elem}")
    writer.line(f"}} -> {result.type}")
    return result


def element_wise(code: LayerCode, inputs: Sequence[Value], compute: Compute) -> Value:
    """A generic over the elements of the inputs, broadcast to one shape from the right."""
    rank = max(len(value.shape) for value in inputs)
    columns = zip(*((1,) * (rank - len(v.shape)) + v.shape for v in inputs), strict=True)
    shape: Shape = tuple(next((extent for extent in column if extent != 1), 1) for column in columns)
    loops = [f"d{axis}" for axis in range(rank)]
    addressed = [(value, _places(value.shape, shape, loops)) for value in inputs]
    return generic(code, loops, [], addressed, (code.writer.empty(shape), loops), compute)


def _places(shape: Shape, whole: Shape, loops: Sequence[str]) -> list[str]:
    """What addresses each axis of an input that is broadcast: its loop, or 0 where it is repeated."""
    skipped = len(whole) - len(shape)
    pairs = zip(shape, whole[skipped:], loops[skipped:], strict=True)
    return [loop if extent == full else "0" for extent, full, loop in pairs]


def combine(code: LayerCode, name: str, a: Value, b: Value) -> Value:
    """An arithmetic operation of two tensors."""
    return element_wise(code, [a, b], lambda body, seen: body.binary(name, seen[0], seen[1]))


# -- operators of one map

_UNARY: Mapping[str, str] = {
    "Exp": "math.exp", "Log": "math.log", "Sqrt": "math.sqrt", "Abs": "math.absf", "Neg": "arith.negf",
    "Tanh": "math.tanh", "Erf": "math.erf", "Floor": "math.floor", "Ceil": "math.ceil", "Round": "math.roundeven",
    "Sin": "math.sin", "Cos": "math.cos",
}  # fmt: skip


def _relu(body: Body, x: str) -> str:
    return body.binary("arith.maximumf", x, body.number(0.0))


def _sigmoid(body: Body, x: str) -> str:
    below = body.binary("arith.addf", body.number(1.0), body.unary("math.exp", body.unary("arith.negf", x)))
    return body.binary("arith.divf", body.number(1.0), below)


def _clamp(body: Body, x: str, low: float, high: float) -> str:
    return body.binary("arith.minimumf", body.binary("arith.maximumf", x, body.number(low)), body.number(high))


def _hard_sigmoid(body: Body, x: str, alpha: float, beta: float) -> str:
    line = body.binary("arith.addf", body.binary("arith.mulf", x, body.number(alpha)), body.number(beta))
    return _clamp(body, line, 0.0, 1.0)


def _slope(body: Body, x: str, slope: str) -> str:
    return body.choose("olt", x, body.number(0.0), body.binary("arith.mulf", x, slope), x)


@operator(*_UNARY, "Relu", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Clip", "Reciprocal", "Softplus")
def unary(code: LayerCode, operation: Operation) -> Value:
    """y = f(x)."""
    x = code.value(operation.inputs[0])
    kind = operation.op_type
    low, high = _bounds(code, operation) if kind == "Clip" else (0.0, 0.0)
    alpha, beta = operation.float_("alpha", 0.01 if kind == "LeakyRelu" else 0.2), operation.float_("beta", 0.5)

    def compute(body: Body, seen: Sequence[str]) -> str:
        e = seen[0]
        match kind:
            case "Relu":
                return _relu(body, e)
            case "LeakyRelu":
                return _slope(body, e, body.number(alpha))
            case "Sigmoid":
                return _sigmoid(body, e)
            case "HardSigmoid":
                return _hard_sigmoid(body, e, alpha, beta)
            case "HardSwish":
                return body.binary("arith.mulf", e, _hard_sigmoid(body, e, 1 / 6, 0.5))
            case "Clip":
                return _clamp(body, e, low, high)
            case "Reciprocal":
                return body.binary("arith.divf", body.number(1.0), e)
            case "Softplus":
                return body.unary("math.log1p", body.unary("math.exp", e))
            case _:
                return body.unary(_UNARY[kind], e)

    return element_wise(code, [x], compute)


def _bounds(code: LayerCode, operation: Operation) -> tuple[float, float]:
    """Those of a Clip: attributes in older operator sets, inputs since."""
    low, high = (code.constant(operation, index) for index in (1, 2))
    below = float(low.reshape(-1)[0]) if low is not None else operation.float_("min", float("-inf"))
    above = float(high.reshape(-1)[0]) if high is not None else operation.float_("max", float("inf"))
    return below, above


# -- operators of several maps and of constants

_BINARY = {
    "Add": "arith.addf", "Sub": "arith.subf", "Mul": "arith.mulf", "Div": "arith.divf", "Pow": "math.powf",
    "Max": "arith.maximumf", "Min": "arith.minimumf", "Sum": "arith.addf",
}  # fmt: skip


@operator(*_BINARY)
def several(code: LayerCode, operation: Operation) -> Value:
    """An operator of two or more tensors, one after the other."""
    name = _BINARY[operation.op_type]
    first, *others = [_operand(code, one) for one in operation.inputs]
    for other in others:
        first = combine(code, name, first, other)
    return first


@operator("PRelu")
def prelu(code: LayerCode, operation: Operation) -> Value:
    """x, times a slope where it is negative."""
    inputs = [code.value(operation.inputs[0]), _operand(code, operation.inputs[1])]
    return element_wise(code, inputs, lambda body, seen: _slope(body, seen[0], seen[1]))


@operator("BatchNormalization")
def batch_norm(code: LayerCode, operation: Operation) -> Value:
    """Scale and shift per channel, made out of the statistics."""
    scale, bias, mean, variance = (code.needed(operation, i).astype(np.float64) for i in range(1, 5))
    factor = scale / np.sqrt(variance + operation.float_("epsilon", 1e-5))
    x = code.value(operation.inputs[0])
    column = (-1, *(1 for _ in x.shape[2:]))
    label = operation.name or operation.outputs[0]
    factors = code.writer.constant(factor.reshape(column), f"{label}.factor")
    shifts = code.writer.constant((bias - mean * factor).reshape(column), f"{label}.shift")
    return element_wise(
        code,
        [x, factors, shifts],
        lambda body, seen: body.binary("arith.addf", body.binary("arith.mulf", seen[0], seen[1]), seen[2]),
    )


def _operand(code: LayerCode, name: str) -> Value:
    """A tensor on this tile; of a constant with a number for each place, those of the tile's places."""
    known = code.operations.constant(name)
    return code.value(name) if known is None else _at_tile(code, known, name)


def _at_tile(code: LayerCode, data: Array, label: str) -> Value:
    rank, shape = len(code.out.shape), code.out_shape
    skipped = rank - data.ndim
    whole = code.writer.constant(data, label)
    if skipped < 0 or all(have in (1, want) for have, want in zip(data.shape, shape[skipped:], strict=True)):
        return whole

    def offset(axis: Axis) -> Offset:
        return code.out_offset(axis)

    offsets = along_axes(code.out, offset, lambda _: Offset(0))[skipped:]
    wide = [extent > 1 for extent in data.shape]
    sizes = tuple(shape[skipped + i] if wide[i] else 1 for i in range(data.ndim))
    return code.writer.slice(whole, [o if w else Offset(0) for o, w in zip(offsets, wide, strict=True)], sizes)
