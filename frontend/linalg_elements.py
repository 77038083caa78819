"""Element-wise work of linalg programs: from comparisons and selections to the operators that were lowered to them.

1. select(a < b, b, a), select(a > b, a, b) and their kin are the larger or the smaller of both.
2. max(x, 0) is Relu; min(max(x, low), high) is Clip.
3. select(x < 0, x * s, x) and max(x, 0) + min(x, 0) * s are LeakyRelu, or PRelu where the slopes are several.
4. 1 / (1 + exp(-x)) is Sigmoid.
5. ((x - m) * s) * g + b with numbers per channel is BatchNormalization.
6. What is known is computed.
"""

from __future__ import annotations

from math import prod

import numpy as np

from dfc.frontend.linalg_values import Apply, Constant, Held, WindowSum, scalar
from dfc.frontend.values import Array, Shape

#: (less, greater) by the predicate of arith.cmpf: ordered and unordered, with and without equality
_GREATER, _LESS = {2, 3, 9, 10}, {4, 5, 11, 12}
_COMPUTED = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Sqrt": np.sqrt, "Exp": np.exp,
    "Neg": np.negative, "Max": np.maximum, "Min": np.minimum,
}  # fmt: skip


def apply(op: str, inputs: tuple[Held, ...], shape: Shape) -> Held:
    """Element-wise work in its simplest form."""
    if op == "select":
        return _select(inputs, shape)
    if op in _COMPUTED and all(isinstance(one, Constant) and one.data is not None for one in inputs):
        numbers = [one.data for one in inputs if isinstance(one, Constant) and one.data is not None]  # 6
        found: Array = np.asarray(_COMPUTED[op](*numbers))
        return Constant(found, tuple(found.shape))
    if op == "Rsqrt":
        return apply("Div", (Constant(np.ones((), np.float32), ()), apply("Sqrt", inputs, shape)), shape)
    return Apply(op, inputs, shape)


def _select(inputs: tuple[Held, ...], shape: Shape) -> Held:
    test, yes, no = inputs
    if isinstance(test, Apply) and test.op.startswith("compare"):
        predicate = int(test.op.removeprefix("compare"))
        a, b = test.inputs
        if predicate in _LESS:
            a, b, predicate = b, a, 2  # b > a
        if predicate in _GREATER:  # a > b
            if _same(yes, a) and _same(no, b):
                return apply("Max", (a, b), shape)  # 1
            if _same(yes, b) and _same(no, a):
                return apply("Min", (a, b), shape)
            if scalar(a) == 0.0 and _same(no, b):  # 3: 0 > x
                return _leaky(b, yes, inputs, shape)
            if scalar(b) == 0.0 and _same(yes, a):
                return _leaky(a, no, inputs, shape)
    return Apply("select", inputs, shape)


def _leaky(x: Held, below: Held, inputs: tuple[Held, ...], shape: Shape) -> Held:
    if isinstance(below, Apply) and below.op == "Mul":
        a, b = below.inputs
        if _same(b, x):
            a, b = b, a
        if _same(a, x):
            return Apply("PRelu", (x, b), shape)
    return Apply("select", inputs, shape)


def leaky(held: Apply) -> tuple[Held, Held] | None:
    """(x, slopes) of max(x, 0) + min(x, 0) * s (3)."""
    if held.op != "Add":
        return None
    for above, below in (held.inputs, held.inputs[::-1]):
        if not isinstance(above, Apply) or not isinstance(below, Apply) or (above.op, below.op) != ("Max", "Mul"):
            continue
        for part, slope in (below.inputs, below.inputs[::-1]):
            if isinstance(part, Apply) and part.op == "Min":
                (x, zero), (same, other) = _number_last(above), _number_last(part)
                if zero == other == 0.0 and _same(x, same):
                    return x, slope
    return None


def _same(a: Held, b: Held) -> bool:
    one, other = scalar(a), scalar(b)
    return a is b or a == b or (one is not None and one == other)


def clip(held: Apply) -> tuple[Held, float | None, float | None] | None:
    """(what is clipped, lowest, highest) of bounds by numbers (2); None where it is none."""
    low: float | None = None
    high: float | None = None
    found: Held = held
    while isinstance(found, Apply) and found.op in ("Max", "Min") and len(found.inputs) == 2:
        x, bound = _number_last(found)
        if bound is None or (high if found.op == "Min" else low) is not None:
            break
        if found.op == "Min":
            high = bound
        else:
            low = bound
        found = x
    return None if found is held else (found, low, high)


def _number_last(held: Apply) -> tuple[Held, float | None]:
    a, b = held.inputs
    return (a, scalar(b)) if scalar(b) is not None else (b, scalar(a))


def sigmoid(held: Apply) -> Held | None:
    """What a sigmoid is taken of (4)."""
    if held.op != "Div" or scalar(held.inputs[0]) != 1.0:
        return None
    below = held.inputs[1]
    if not isinstance(below, Apply) or below.op != "Add":
        return None
    rest, one = _number_last(below)
    if one != 1.0 or not isinstance(rest, Apply) or rest.op != "Exp":
        return None
    inner = rest.inputs[0]
    return inner.inputs[0] if isinstance(inner, Apply) and inner.op == "Neg" else None


def batch_norm(held: Apply) -> tuple[Held, Array, Array, Array] | None:
    """(x, mean, factor, shift) of a normalisation by numbers per channel (5)."""
    if held.op != "Add" or len(held.shape) < 2:
        return None
    channels = held.shape[1]
    inner, shift = _split(held, channels)
    factor = np.ones(channels)
    if shift is None or not isinstance(inner, Apply) or inner.op != "Mul":
        return None
    while isinstance(inner, Apply) and inner.op == "Mul":
        inner, more = _split(inner, channels)
        if more is None:
            return None
        factor = factor * more
    if not isinstance(inner, Apply) or inner.op != "Sub":
        return None
    mean = per_channel(inner.inputs[1], channels, len(held.shape))
    return None if mean is None else (inner.inputs[0], mean, factor, shift)


def _split(held: Apply, channels: int) -> tuple[Held, Array | None]:
    """(the map, the numbers) of an operation of both."""
    a, b = held.inputs
    for one, other in ((a, b), (b, a)):
        numbers = per_channel(other, channels, len(held.shape))
        if numbers is not None:
            return one, numbers
    return held, None


def per_channel(held: Held, channels: int, rank: int) -> Array | None:
    """A constant's numbers, one for each channel of a map of this rank."""
    if not isinstance(held, Constant) or held.data is None:
        return None
    shape = (1,) * (rank - held.data.ndim) + held.data.shape
    if len(shape) != rank or prod(shape) != channels or shape[1] != channels:
        return None
    return held.data.reshape(-1)


def average(held: Apply) -> WindowSum | None:
    """The sum that a division makes an average of, if it divides by how many positions a window has."""
    if held.op not in ("Div", "Mul") or len(held.inputs) != 2:
        return None
    total, number = held.inputs[0], scalar(held.inputs[1])
    if not isinstance(total, WindowSum) or not number:
        return None
    count = number if held.op == "Div" else 1 / number
    return total if abs(count - prod(total.kernel)) < 1e-3 else None
