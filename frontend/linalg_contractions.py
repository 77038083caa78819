"""Which convolution or matrix product a ``linalg.generic`` is, by its indexing maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dfc.frontend.mlir_function import Form, MlirOp
from dfc.frontend.values import Shape

Forms = tuple[Form, ...]


@dataclass(frozen=True, slots=True)
class Contraction:
    """A sum of products. ``swapped``: the second operand is the input.

    conv:    the kernel axes of the input in its order, with stride and dilation; ``weights`` is the order of the
             weights' axes as (groups, output channels, input channels, kernel...), and groups may be none.
    product: ``left`` and ``right`` are the orders of axes as (batch..., rows, inner) and (batch..., inner, columns).
    """

    swapped: bool
    grouped: bool = False
    strides: Shape = ()
    dilations: Shape = ()
    weights: Shape = ()
    left: Shape = ()
    right: Shape = ()


def is_sum_of_products(op: MlirOp) -> bool:
    """Whether the body adds the product of both inputs to the output."""
    body = [one for one in op.body if not one.name.startswith("arith.ext")]
    if [one.name for one in body] not in (["arith.mulf", "arith.addf", "linalg.yield"],):
        return False
    product, total, result = body
    return (
        len(op.arguments) == 3
        and op.arguments[2] in total.operands
        and product.results[0] in total.operands
        and result.operands == total.results
    )


def _loop(form: Form) -> int | None:
    """The loop that a result is by itself."""
    factors, start = form
    return next(iter(factors)) if start == 0 and list(factors.values()) == [1] else None


def _loops(forms: Forms) -> list[int | None]:
    return [_loop(form) for form in forms]


def contraction(maps: Sequence[Forms]) -> Contraction | None:
    """The convolution or product that the maps of both inputs and the output describe; None where it is another."""
    for swapped in (False, True):
        first, second = (maps[1], maps[0]) if swapped else (maps[0], maps[1])
        found = _conv(first, second, maps[2], swapped) or _product(first, second, maps[2], swapped)
        if found is not None:
            return found
    return None


def pool_steps(op: MlirOp, maps: Sequence[Forms]) -> tuple[Shape, Shape] | None:
    """(strides, dilations) of a maximum or sum over windows, whose second input only says how large they are."""
    body = [one.name for one in op.body]
    if op.inputs != 2 or body not in (["arith.maximumf", "linalg.yield"], ["arith.addf", "linalg.yield"]):
        return None
    if set(op.body[0].operands) != {op.arguments[0], op.arguments[2]}:
        return None
    made, inner = _loops(maps[2]), _loops(maps[1])
    if len(made) != len(maps[0]) or None in made or None in inner or _loops(maps[0])[:2] != made[:2]:
        return None
    strides: list[int] = []
    dilations: list[int] = []
    for (factors, start), out, kernel in zip(maps[0][2:], made[2:], inner, strict=True):
        if start or out is None or kernel is None or set(factors) != {out, kernel}:
            return None
        strides.append(factors[out])
        dilations.append(factors[kernel])
    return tuple(strides), tuple(dilations)


def _conv(image: Forms, weights: Forms, out: Forms, swapped: bool) -> Contraction | None:
    """(n, [g,] c, o*s + f*d, ...) by weights of (g, k, c, f...) in any order to (n, [g,] k, o...)."""
    made, taken = _loops(out), _loops(weights)
    count = sum(len(form[0]) == 2 for form in image)
    spatial = image[len(image) - count :] if count else ()
    lead = _loops(image[: len(image) - count])
    if None in made or None in taken or None in lead or not count or len(out) != len(image):
        return None
    outs = made[len(made) - count :]
    strides: list[int] = []
    dilations: list[int] = []
    kernel: list[int | None] = []
    for (factors, start), loop in zip(spatial, outs, strict=True):
        if start or loop not in factors or len(factors) != 2:
            return None
        (inner,) = [one for one in factors if one != loop]
        assert loop is not None
        strides.append(factors[loop])
        dilations.append(factors[inner])
        kernel.append(inner)
    grouped = len(lead) == 3
    wanted = [made[1] if grouped else None, made[-count - 1], lead[-1], *kernel]
    order = [one for one in wanted if one is not None]
    depthwise = len(lead) == 2 and lead == made[:2]
    if depthwise:
        order = [one for one in (made[1], *kernel) if one is not None]
    if len(lead) not in (2, 3) or lead[0] != made[0] or sorted(map(str, order)) != sorted(map(str, taken)):
        return None
    if grouped and lead[1] != made[1]:
        return None
    axes = tuple(taken.index(one) for one in order)
    return Contraction(swapped, grouped or depthwise, tuple(strides), tuple(dilations), axes)


def _product(a: Forms, b: Forms, out: Forms, swapped: bool) -> Contraction | None:
    """(batch..., m, k) by (batch..., k, n), axes in any order, to (batch..., m, n)."""
    left, right, made = _loops(a), _loops(b), _loops(out)
    if None in (*left, *right, *made) or len(made) < 2:
        return None
    batch, row, column = made[:-2], made[-2], made[-1]
    inner = [one for one in left if one not in made]
    if len(inner) != 1 or row not in left or column not in right:
        return None
    wanted_left, wanted_right = [*batch, row, inner[0]], [*batch, inner[0], column]
    if sorted(map(str, left)) != sorted(map(str, wanted_left)) or sorted(map(str, right)) != sorted(
        map(str, wanted_right)
    ):
        return None
    orders = tuple(left.index(one) for one in wanted_left), tuple(right.index(one) for one in wanted_right)
    return Contraction(swapped, left=orders[0], right=orders[1])
