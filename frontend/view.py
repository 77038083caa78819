"""The same bytes under another shape: reshapes and what does nothing at inference."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from dfc.frontend.diagnostics import Unmodelled
from dfc.frontend.node import Node, operator
from dfc.frontend.shapes import feature_sizes, read, read_all, same_view
from dfc.frontend.values import Value
from dfc.ir import Kind


def _view(n: Node, op: str, x: Value, shape: Sequence[int]) -> None:
    """A view of ``x``; a barrier where batch, channels or a spatial extent changes."""
    if prod(shape) != x.elements:
        n.fail(f"{list(x.shape)} cannot be seen as {list(shape)}: the number of elements differs")
    out = n.out(shape)
    same = same_view(x, out)
    n.layer(Kind.VIEW, op, [read(x) if same else read_all(x)], out, feature_sizes(out), barrier=not same)


@operator("Identity")
def identity(n: Node) -> None:
    """Nothing."""
    x = n.need(0)
    _view(n, "identity", x, x.shape)


@operator("Dropout")
def dropout(n: Node) -> None:
    """Nothing, at inference."""
    if n.is_used(1):
        raise Unmodelled("the mask is used")
    x = n.need(0)
    _view(n, "dropout", x, x.shape)


@operator("Reshape")
def reshape(n: Node) -> None:
    """A new shape: 0 keeps an extent (unless allowzero), -1 takes what is left."""
    x = n.need(0)
    wanted = n.const_ints(1)
    if wanted is None:
        n.fail("the new shape is missing")
    shape = list(wanted)
    if not n.int_("allowzero", 0):
        if any(v == 0 and i >= x.rank for i, v in enumerate(shape)):
            n.fail(f"the new shape {shape} copies an extent that {list(x.shape)} lacks")
        shape = [x.shape[i] if v == 0 else v for i, v in enumerate(shape)]
    if shape.count(-1) > 1 or min(shape, default=0) < -1:
        n.fail(f"the new shape {shape} is ambiguous")
    if -1 in shape:
        known = prod(v for v in shape if v != -1)
        if known == 0 or x.elements % known:
            n.fail(f"{list(x.shape)} cannot be seen as {shape}: the number of elements differs")
        shape[shape.index(-1)] = x.elements // known
    _view(n, "reshape", x, shape)


@operator("Flatten")
def flatten(n: Node) -> None:
    """A matrix: axes before ``axis`` are its rows."""
    x = n.need(0)
    axis = n.int_("axis", 1)
    if not -x.rank <= axis <= x.rank:
        n.fail(f"axis {axis} does not exist in a tensor of rank {x.rank}")
    axis = axis + x.rank if axis < 0 else axis
    _view(n, "flatten", x, (prod(x.shape[:axis]), prod(x.shape[axis:])))


@operator("Squeeze")
def squeeze(n: Node) -> None:
    """Axes of extent one dropped; axes are an attribute before operator set 13."""
    x = n.need(0)
    given = n.ints("axes") if n.opset < 13 else n.const_ints(1)
    if given is None:
        axes = {a for a, extent in enumerate(x.shape) if extent == 1}
    else:
        axes = {n.axis(a, x.rank) for a in given}
    if any(x.shape[a] != 1 for a in axes):
        n.fail(f"axes {sorted(axes)} of a tensor of shape {list(x.shape)} are not all of extent one")
    _view(n, "squeeze", x, [extent for a, extent in enumerate(x.shape) if a not in axes])


@operator("Unsqueeze")
def unsqueeze(n: Node) -> None:
    """Axes of extent one inserted; axes are an attribute before operator set 13."""
    x = n.need(0)
    given = n.ints("axes") if n.opset < 13 else n.const_ints(1)
    if given is None:
        n.fail("the axes are missing")
    rank = x.rank + len(given)
    axes = {n.axis(a, rank) for a in given}
    if len(axes) != len(given):
        n.fail(f"axes {list(given)} repeat one")
    extents = iter(x.shape)
    _view(n, "unsqueeze", x, [1 if a in axes else next(extents) for a in range(rank)])
