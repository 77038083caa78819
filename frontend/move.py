"""Data moved without arithmetic: concatenation, slices, padding, transposition, gathering."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dfc.frontend.diagnostics import Unmodelled
from dfc.frontend.node import MICROSOFT, Node, operator
from dfc.frontend.shapes import (
    FEATURE_DIMS,
    Maps,
    broadcast,
    broadcast_shape,
    feature_sizes,
    full_maps,
    read,
    read_all,
    same_view,
    spatial_axis,
)
from dfc.frontend.values import Value
from dfc.ir import IDENTITY, SAME, AxisMap, Dim, Kind, Operand, Role, Source


def on_axis(value: Value, axis: int, axis_map: AxisMap) -> tuple[Maps, bool]:
    """(maps, exact) where one axis of ``value`` is read through ``axis_map`` and the others as they are.

    Not exact where the axis is one of several that join T: then everything is read.
    """
    place = spatial_axis(axis, value.rank)
    if place is None:
        return SAME, True
    if place == 0 and value.rank > 5:
        return full_maps(value), False
    t, y, x = (axis_map if a == place else IDENTITY for a in range(3))
    return (t, y, x), True


@operator("Concat")
def concat(n: Node) -> None:
    """Inputs side by side along one axis; the parts that are constant come from the weights' memory."""
    _concat(n, [v for v in n.inputs if v is not None])


@operator("QLinearConcat", domain=MICROSOFT)
def qlinear_concat(n: Node) -> None:
    """Quantised concatenation: y_scale, y_zero, then (x, scale, zero) for each input."""
    _concat(n, [n.need(i) for i in range(2, len(n.inputs), 3)])


def _concat(n: Node, inputs: Sequence[Value]) -> None:
    if not inputs:
        n.fail("no inputs")
    first = inputs[0]
    axis = n.axis(n.int_("axis", 1), first.rank)
    rests = {(*v.shape[:axis], *v.shape[axis + 1 :]) for v in inputs}
    if len(rests) > 1 or any(v.rank != first.rank for v in inputs):
        n.fail(f"inputs of shape {' and '.join(str(list(v.shape)) for v in inputs)} do not fit along axis {axis}")
    total = sum(v.shape[axis] for v in inputs)
    out = n.out((*first.shape[:axis], total, *first.shape[axis + 1 :]), first.elem)
    moving: list[Source] = []
    fixed: list[Source] = []
    offset, barrier = 0, False
    for value in inputs:
        maps, exact = on_axis(value, axis, AxisMap(lo=-offset, hi=-offset))
        (fixed if value.constant else moving).append(Source(value.name, maps))
        barrier = barrier or not exact
        offset += value.shape[axis]
    operands = [Operand(Role.I, FEATURE_DIMS, tuple(moving))]
    if fixed:
        operands.append(Operand(Role.W, FEATURE_DIMS, tuple(fixed), constant=True))
    n.layer(
        Kind.MOVE,
        "concat",
        operands,
        out,
        feature_sizes(out),
        weight_elements=sum(v.elements for v in inputs if v.constant),
        barrier=barrier,
    )


@operator("Split")
def split(n: Node) -> None:
    """One layer for each part that is used; without sizes the parts are equal, the last one smaller."""
    x = n.need(0)
    axis = n.axis(n.int_("axis", 0), x.rank)
    count = len(n.proto.output)
    given = n.ints("split") if n.has("split") else n.const_ints(1)
    if given is None:
        part = -(-x.shape[axis] // count)
        given = tuple(max(0, min(part, x.shape[axis] - i * part)) for i in range(count))
    if sum(given) != x.shape[axis] or len(given) != count or min(given) < 0:
        n.fail(f"parts of {list(given)} do not split {x.shape[axis]} positions into {count} outputs")
    offset = 0
    for index, part in enumerate(given):
        if n.proto.output[index]:
            out = n.out((*x.shape[:axis], part, *x.shape[axis + 1 :]), index=index)
            if n.is_used(index):
                maps, exact = on_axis(x, axis, AxisMap(lo=offset, hi=offset))
                suffix = str(index) if count > 1 else ""
                n.layer(
                    Kind.MOVE,
                    "split",
                    [read(x, maps)],
                    out,
                    feature_sizes(out),
                    barrier=not exact,
                    suffix=suffix,
                )
        offset += part


@operator("Slice")
def slice_(n: Node) -> None:
    """A stretch of some axes; parameters are attributes before operator set 10."""
    x = n.need(0)
    if n.opset < 10:
        starts, ends, axes, steps = n.ints("starts"), n.ints("ends"), n.ints("axes"), None
    else:
        starts, ends, axes, steps = (n.const_ints(i) for i in range(1, 5))
    if starts is None or ends is None or len(starts) != len(ends):
        n.fail("starts and ends are missing or differ in number")
    axes = axes or tuple(range(len(starts)))
    steps = steps or (1,) * len(starts)
    if not len(axes) == len(steps) == len(starts) or 0 in steps:
        n.fail("starts, axes and steps differ in number, or a step is zero")
    shape, maps, barrier = list(x.shape), SAME, False
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        place = n.axis(axis, x.rank)
        first, last, _ = slice(start, _stop(end, step, shape[place]), step).indices(shape[place])
        shape[place] = len(range(first, last, step))
        if step > 0:
            one, exact = on_axis(x, place, AxisMap(num=step, lo=first, hi=first))
        else:
            one, exact = (
                on_axis(x, place, AxisMap.full(x.shape[place]))[0],
                spatial_axis(place, x.rank) is None,
            )
        maps = _joined(maps, one)
        barrier = barrier or not exact
    out = n.out(shape)
    op = "reverse" if any(step < 0 for step in steps) else "slice"  # a reversal may keep the shape: no copy
    n.layer(Kind.MOVE, op, [read(x, maps)], out, feature_sizes(out), barrier=barrier)


def _stop(end: int, step: int, extent: int) -> int | None:
    """Python's stop for an ONNX end: a backward slice that ends before the first position has none."""
    return None if step < 0 and end < -extent else end


def _joined(maps: Maps, more: Maps) -> Maps:
    """Maps that differ from the identity on different axes, together."""
    t, y, x = (b if a.is_identity else a for a, b in zip(maps, more, strict=True))
    return (t, y, x)


@operator("Pad")
def pad(n: Node) -> None:
    """Padding before and after each axis; negative padding crops.

    op is "pad" for constant zeros, which a pass may fold into a convolution, "pad_value" for another
    constant, and "pad_reflect", "pad_edge", "pad_wrap", which read positions that no axis map gives.
    """
    x = n.need(0)
    pads = n.ints("pads") if n.opset < 11 else n.const_ints(1)
    axes = tuple(n.axis(a, x.rank) for a in n.const_ints(3) or range(x.rank))
    if pads is None or len(pads) != 2 * len(axes):
        n.fail(f"{'no' if pads is None else len(pads)} pads for {len(axes)} axes")
    mode = n.text("mode", "constant")
    shape, maps, barrier = list(x.shape), SAME, False
    for axis, begin, end in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        shape[axis] += begin + end
        if begin or end:
            one, exact = on_axis(x, axis, AxisMap(lo=-begin, hi=-begin))
            if mode != "constant":
                one, exact = (
                    on_axis(x, axis, AxisMap.full(x.shape[axis]))[0],
                    spatial_axis(axis, x.rank) is None,
                )
            maps = _joined(maps, one)
            barrier = barrier or not exact
    out = n.out(shape)
    n.layer(Kind.MOVE, _pad_name(n, mode), [read(x, maps)], out, feature_sizes(out), barrier=barrier)


def _pad_name(n: Node, mode: str) -> str:
    if mode != "constant":
        return f"pad_{mode}"
    if n.opset < 11:
        return "pad" if n.float_("value", 0.0) == 0 else "pad_value"
    value = n.maybe(2)
    if value is None:
        return "pad"
    return "pad" if value.data is not None and not np.any(np.asarray(value.data, dtype=np.float64)) else "pad_value"


@operator("Transpose")
def transpose(n: Node) -> None:
    """Axes in another order: the same bytes if only axes of extent one move, else a move of everything."""
    x = n.need(0)
    perm = n.ints("perm") or tuple(reversed(range(x.rank)))
    if sorted(perm) != list(range(x.rank)):
        n.fail(f"perm {list(perm)} does not order the axes of a tensor of rank {x.rank}")
    out = n.out([x.shape[a] for a in perm])
    wide = [a for a in perm if x.shape[a] > 1]
    if wide == sorted(wide):
        same = same_view(x, out)
        n.layer(
            Kind.VIEW,
            "transpose",
            [read(x) if same else read_all(x)],
            out,
            feature_sizes(out),
            barrier=not same,
        )
    else:
        n.layer(Kind.MOVE, "transpose", [read_all(x)], out, feature_sizes(out), barrier=True)


@operator("Expand")
def expand(n: Node) -> None:
    """Broadcast to a shape."""
    x, wanted = n.need(0), n.const_ints(1)
    shape = broadcast_shape([x.shape, wanted or ()])
    if shape is None:
        n.fail(f"a tensor of shape {list(x.shape)} cannot be expanded to {list(wanted or ())}")
    out = n.out(shape)
    dims, maps, exact = broadcast(x, out)
    n.layer(Kind.MOVE, "expand", [read(x, maps, dims)], out, feature_sizes(out), barrier=not exact)


@operator("Tile")
def tile(n: Node) -> None:
    """Copies side by side; a repeated axis is read in full."""
    x = n.need(0)
    repeats = n.const_ints(1)
    if repeats is None or len(repeats) != x.rank or min(repeats, default=1) < 0:
        n.fail(f"repeats {list(repeats or ())} for a tensor of rank {x.rank}")
    maps, barrier = SAME, False
    for axis, times in enumerate(repeats):
        if times != 1:
            one, exact = on_axis(x, axis, AxisMap.full(x.shape[axis]))
            maps, barrier = _joined(maps, one), barrier or not exact
    out = n.out([extent * times for extent, times in zip(x.shape, repeats, strict=True)])
    n.layer(Kind.MOVE, "tile", [read(x, maps)], out, feature_sizes(out), barrier=barrier)


@operator("Gather")
def gather(n: Node) -> None:
    """Positions of one axis, picked by constant indices; the axis is read in full."""
    x, indices = n.need(0), n.need(1)
    axis = n.axis(n.int_("axis", 0), x.rank)
    out = n.out((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))
    if not indices.constant:
        raise Unmodelled("indices that depend on the input")
    if indices.rank != 1:
        n.layer(Kind.MOVE, "gather", [read_all(x)], out, feature_sizes(out), barrier=True)
        return
    maps, exact = on_axis(x, axis, AxisMap.full(x.shape[axis]))
    n.layer(Kind.MOVE, "gather", [read(x, maps)], out, feature_sizes(out), barrier=not exact)


@operator("DepthToSpace")
def depth_to_space(n: Node) -> None:
    """Blocks of channels spread over b*b positions: b*b phases on K."""
    x = n.need(0)
    b = n.int_("blocksize", 0)
    if x.rank != 4 or b < 1 or x.shape[1] % (b * b):
        n.fail(f"blocks of {b} do not fit an input of shape {list(x.shape)}")
    batch, channels, height, width = x.shape
    out = n.out((batch, channels // (b * b), height * b, width * b))
    axis_map = AxisMap(num=1, den=b)
    dims = (Dim.B, Dim.G, Dim.K, Dim.OT, Dim.OY, Dim.OX)
    loops = feature_sizes(out, K=b * b, OY=height, OX=width)
    source = read(x, (IDENTITY, axis_map, axis_map), dims)
    n.layer(Kind.MOVE, "depth_to_space", [source], out, loops, phases=(1, b, b))


@operator("SpaceToDepth")
def space_to_depth(n: Node) -> None:
    """Blocks of b*b positions stacked as channels."""
    x = n.need(0)
    b = n.int_("blocksize", 0)
    if x.rank != 4 or b < 1 or x.shape[2] % b or x.shape[3] % b:
        n.fail(f"blocks of {b} do not fit an input of shape {list(x.shape)}")
    batch, channels, height, width = x.shape
    out = n.out((batch, channels * b * b, height // b, width // b))
    axis_map = AxisMap(num=b, lo=0, hi=b - 1)
    n.layer(Kind.MOVE, "space_to_depth", [read(x, (IDENTITY, axis_map, axis_map))], out, feature_sizes(out))
