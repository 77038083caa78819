"""Element-wise operators of one, two and more inputs, with numpy's broadcasting."""

from __future__ import annotations

from collections.abc import Sequence

from dfc.frontend.node import MICROSOFT, Node, operator
from dfc.frontend.shapes import broadcast, broadcast_shape, feature_sizes, read
from dfc.frontend.values import BOOL, Value, is_float
from dfc.ir import Dim, Kind, Operand, Role, Source

#: operators of one feature map; further inputs (bounds, slopes) are broadcast to it
_UNARY = {
    "Relu": "relu", "LeakyRelu": "leaky_relu", "PRelu": "prelu", "Clip": "clip", "Sigmoid": "sigmoid",
    "HardSigmoid": "hard_sigmoid", "HardSwish": "hard_swish", "Tanh": "tanh", "Gelu": "gelu", "Erf": "erf",
    "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Abs": "abs", "Neg": "neg", "Reciprocal": "reciprocal",
    "Softplus": "softplus", "Softsign": "softsign", "Elu": "elu", "Celu": "celu", "Selu": "selu",
    "Swish": "swish", "Mish": "mish", "ThresholdedRelu": "thresholded_relu", "Shrink": "shrink",
    "Floor": "floor", "Ceil": "ceil", "Round": "round", "Sign": "sign", "Sin": "sin", "Cos": "cos",
    "Tan": "tan", "Asin": "asin", "Acos": "acos", "Atan": "atan", "Sinh": "sinh", "Cosh": "cosh",
    "Asinh": "asinh", "Acosh": "acosh", "Atanh": "atanh", "BitwiseNot": "bitwise_not",
}  # fmt: skip
_BINARY = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Pow": "pow", "Mod": "mod",
    "BitShift": "bit_shift", "BitwiseAnd": "bitwise_and", "BitwiseOr": "bitwise_or",
    "BitwiseXor": "bitwise_xor",
}  # fmt: skip
_LOGIC = {
    "Equal": "equal", "Greater": "greater", "GreaterOrEqual": "greater_or_equal", "Less": "less",
    "LessOrEqual": "less_or_equal", "And": "and", "Or": "or", "Xor": "xor", "Not": "not", "IsNaN": "is_nan",
    "IsInf": "is_inf",
}  # fmt: skip
_VARIADIC = {"Sum": "add", "Max": "max", "Min": "min", "Mean": "mean"}
_GELUS = ("Gelu", "FastGelu", "QuickGelu", "BiasGelu")
_QUANTISED_BINARY, _QUANTISED_UNARY = ("QLinearAdd", "QLinearMul"), ("QLinearSigmoid", "QLinearLeakyRelu")

#: (domain, operator) of all that compute every position from the same position of inputs of one shape, or broadcast
ELEMENTWISE = frozenset(
    [("", name) for name in (*_UNARY, *_BINARY, *_LOGIC, *_VARIADIC)]
    + [(MICROSOFT, name) for name in (*_GELUS, *_QUANTISED_BINARY, *_QUANTISED_UNARY)]
)


@operator(*_UNARY)
def unary(n: Node) -> None:
    """y = f(x), with constants that are broadcast to x."""
    inputs = [v for v in n.inputs if v is not None]
    x = n.need(0)
    if broadcast_shape([v.shape for v in inputs]) != x.shape:
        n.fail(f"an input is wider than the first, of shape {list(x.shape)}")
    element_wise(n, _UNARY[n.op_type], inputs, n.out(x.shape))


@operator(*_GELUS, domain=MICROSOFT)
def gelu(n: Node) -> None:
    """Gelu, with a bias as a second input where there is one."""
    x = n.need(0)
    element_wise(n, "gelu", [v for v in n.inputs if v is not None], n.out(x.shape))


@operator(*_BINARY)
def binary(n: Node) -> None:
    """z = f(x, y)."""
    inputs = [n.need(0), n.need(1)]
    element_wise(n, _BINARY[n.op_type], inputs, n.out(_joint_shape(n, inputs)))


@operator(*_LOGIC)
def logic(n: Node) -> None:
    """Comparisons and logic, with boolean results."""
    inputs = [v for v in n.inputs if v is not None]
    element_wise(n, _LOGIC[n.op_type], inputs, n.out(_joint_shape(n, inputs), BOOL))


@operator("Where")
def where(n: Node) -> None:
    """Selection by a condition."""
    inputs = [n.need(0), n.need(1), n.need(2)]
    element_wise(n, "where", inputs, n.out(_joint_shape(n, inputs), inputs[1].elem))


@operator(*_QUANTISED_BINARY, domain=MICROSOFT)
def qlinear_binary(n: Node) -> None:
    """Quantised addition and product: a, a_scale, a_zero, b, b_scale, b_zero, c_scale, c_zero."""
    inputs = [n.need(0), n.need(3)]
    element_wise(n, "add" if n.op_type == "QLinearAdd" else "mul", inputs, n.out(_joint_shape(n, inputs)))


@operator(*_QUANTISED_UNARY, domain=MICROSOFT)
def qlinear_unary(n: Node) -> None:
    """Quantised activations: x, x_scale, x_zero, y_scale, y_zero."""
    op = "sigmoid" if n.op_type == "QLinearSigmoid" else "leaky_relu"
    element_wise(n, op, [n.need(0)], n.out(n.need(0).shape))


@operator(*_VARIADIC)
def variadic(n: Node) -> None:
    """An operator of any number of inputs: a chain of layers of two."""
    op = _VARIADIC[n.op_type]
    # constants last, so that every partial result is a feature map; all four operators are symmetric
    inputs = sorted((n.need(i) for i in range(len(n.inputs))), key=lambda v: v.constant)
    if not inputs:
        n.fail("no inputs")
    out = n.out(_joint_shape(n, inputs))
    if len(inputs) == 1:
        n.layer(Kind.VIEW, "identity", [read(inputs[0])], out, feature_sizes(out))
        return
    so_far = inputs[0]
    for step, value in enumerate(inputs[1:-1], 1):
        partial = n.inner(f"partial{step}", _joint_shape(n, [so_far, value]), out.elem)
        element_wise(n, op, [so_far, value], partial, suffix=f"partial{step}")
        so_far = partial
    element_wise(n, op, [so_far, inputs[-1]], out)


@operator("Cast", "CastLike")
def cast_type(n: Node) -> None:
    """Conversion of the element type; between floats of one width, and to the same type, nothing moves."""
    x = n.need(0)
    elem = n.need(1).elem if n.op_type == "CastLike" else n.int_("to", x.elem)
    out = n.out(x.shape, elem)
    same = elem == x.elem or (is_float(elem) and is_float(x.elem) and out.tensor.bits == x.tensor.bits)
    n.layer(Kind.VIEW if same else Kind.ELTWISE, "cast", [read(x)], out, feature_sizes(out))


def _joint_shape(n: Node, inputs: Sequence[Value]) -> tuple[int, ...]:
    shape = broadcast_shape([v.shape for v in inputs])
    if shape is None:
        n.fail(f"inputs of shape {' and '.join(str(list(v.shape)) for v in inputs)} cannot be broadcast together")
    return shape


def element_wise(
    n: Node, op: str, inputs: Sequence[Value], out: Value, *, kind: Kind = Kind.ELTWISE, suffix: str = ""
) -> None:
    """One layer over the elements of ``out``: feature maps on I, constants together on W.

    A tensor that occurs twice is read once. A constant of one element is an immediate of the instruction and
    is not counted as a weight.
    """
    operands: list[Operand] = []
    constants: list[tuple[Value, tuple[Dim, ...], Source]] = []
    barrier = False
    for value in dict.fromkeys(inputs):
        dims, maps, exact = broadcast(value, out)
        barrier = barrier or not exact
        if not value.constant:
            operands.append(read(value, maps, dims))
        elif value.elements > 1:
            varying = tuple(d for d in dims if feature_sizes(out)[d] > 1)
            constants.append((value, varying, Source(value.name, maps)))
    if constants:
        union = tuple(sorted({d for _, dims, _ in constants for d in dims}))
        operands.append(Operand(Role.W, union, tuple(s for _, _, s in constants), constant=True))
    n.layer(
        kind,
        op,
        operands,
        out,
        feature_sizes(out),
        weight_elements=sum(v.elements for v, _, _ in constants),
        barrier=barrier,
        suffix=suffix,
    )
