"""Pooling over windows and over everything, and reductions, which are pools without a window."""

from __future__ import annotations

from collections.abc import Sequence

from dfc.frontend.diagnostics import Unmodelled
from dfc.frontend.node import MICROSOFT, Node, operator
from dfc.frontend.shapes import FEATURE_DIMS, Maps, extents, feature_sizes, full_maps, read, same_view, triple
from dfc.frontend.values import INT64, Shape, Value
from dfc.frontend.window import feature_map, output_extents, read_window
from dfc.ir import IDENTITY, AxisMap, Dim, Kind

POOL_INPUT_DIMS = (Dim.B, Dim.G, Dim.OT, Dim.OY, Dim.OX, Dim.FT, Dim.FY, Dim.FX)
_REDUCE_INPUT_DIMS = (Dim.B, Dim.G, Dim.C, Dim.OT, Dim.OY, Dim.OX, Dim.FT, Dim.FY, Dim.FX)


def _pool(n: Node, op: str, out_elem: int | None = None) -> None:
    x = feature_map(n)
    kernel = n.ints("kernel_shape", x.rank - 2)
    if kernel is None:
        n.fail("attribute 'kernel_shape' is missing")
    window = read_window(n, x, kernel)
    spatial = output_extents(n, x, window, ceil=bool(n.int_("ceil_mode", 0)))
    out = n.out((*x.shape[:2], *spatial), out_elem)
    ft, fy, fx = triple(kernel)
    n.layer(
        Kind.POOL,
        op,
        [read(x, window.maps(), POOL_INPUT_DIMS)],
        out,
        feature_sizes(out, FT=ft, FY=fy, FX=fx),
        strides=window.stride_triple(),
        dilations=window.dilation_triple(),
    )


@operator("MaxPool")
def max_pool(n: Node) -> None:
    """The largest of each window; a use of the indices is not modelled."""
    if n.is_used(1):
        raise Unmodelled("the indices of the maxima are used")
    _pool(n, "maxpool")


@operator("AveragePool")
def average_pool(n: Node) -> None:
    """The mean of each window, whether padding counts or not."""
    _pool(n, "avgpool")


@operator("LpPool")
def lp_pool(n: Node) -> None:
    """The p-norm of each window."""
    _pool(n, "lppool")


@operator("QLinearAveragePool", domain=MICROSOFT)
def qlinear_average_pool(n: Node) -> None:
    """The mean of each window of a quantised map."""
    if n.int_("channels_last", 0):
        raise Unmodelled("channels last")
    _pool(n, "avgpool")


def _global(n: Node, op: str) -> None:
    x = feature_map(n)
    out = n.out((*x.shape[:2], *(1 for _ in x.shape[2:])))
    _whole_pool(n, op, x, out)


def _whole_pool(n: Node, op: str, x: Value, out: Value) -> None:
    """A pool whose window is the whole map."""
    ft, fy, fx = x.tensor.spatial
    n.layer(Kind.POOL, op, [read(x, full_maps(x), POOL_INPUT_DIMS)], out, feature_sizes(out, FT=ft, FY=fy, FX=fx))


@operator("GlobalAveragePool")
def global_average_pool(n: Node) -> None:
    """The mean of each channel."""
    _global(n, "global_avgpool")


@operator("GlobalMaxPool")
def global_max_pool(n: Node) -> None:
    """The maximum of each channel."""
    _global(n, "global_maxpool")


@operator("GlobalLpPool")
def global_lp_pool(n: Node) -> None:
    """The p-norm of each channel."""
    _global(n, "global_lppool")


@operator("QLinearGlobalAveragePool", domain=MICROSOFT)
def qlinear_global_average_pool(n: Node) -> None:
    """The mean of each channel of a quantised map."""
    if n.int_("channels_last", 0):
        raise Unmodelled("channels last")
    _global(n, "global_avgpool")


_GLOBAL_NAMES = {"ReduceMean": "global_avgpool", "ReduceMax": "global_maxpool"}
_REDUCE_NAMES = {
    "ReduceMean": "reduce_mean", "ReduceMax": "reduce_max", "ReduceMin": "reduce_min",
    "ReduceSum": "reduce_sum", "ReduceProd": "reduce_prod", "ReduceL1": "reduce_l1",
    "ReduceL2": "reduce_l2", "ReduceLogSum": "reduce_log_sum", "ReduceLogSumExp": "reduce_log_sum_exp",
    "ReduceSumSquare": "reduce_sum_square",
}  # fmt: skip


@operator(*_REDUCE_NAMES)
def reduce(n: Node) -> None:
    """A reduction over any axes; axes are an attribute or, in later operator sets, the second input."""
    x = n.need(0)
    given = n.ints("axes") if n.has("axes") else n.const_ints(1)
    if not given and n.int_("noop_with_empty_axes", 0):
        out = n.out(x.shape)
        n.layer(Kind.VIEW, "identity", [read(x)], out, feature_sizes(out))
        return
    axes = {n.axis(a, x.rank) for a in given} if given else set(range(x.rank))
    _reduce(n, x, axes, bool(n.int_("keepdims", 1)), None)


@operator("ArgMax", "ArgMin")
def arg_extreme(n: Node) -> None:
    """The position of the extreme along one axis."""
    x = n.need(0)
    _reduce(n, x, {n.axis(n.int_("axis", 0), x.rank)}, bool(n.int_("keepdims", 1)), INT64)


def _reduce(n: Node, x: Value, axes: set[int], keep: bool, elem: int | None) -> None:
    kept = tuple(1 if a in axes else extent for a, extent in enumerate(x.shape))
    out = n.out(kept if keep else [e for a, e in enumerate(kept) if a not in axes], elem)
    spatial = set(range(2, x.rank))
    if n.op_type in _GLOBAL_NAMES and 3 <= x.rank <= 5 and axes == spatial:
        _whole_pool(n, _GLOBAL_NAMES[n.op_type], x, out)
        return
    op = _REDUCE_NAMES.get(n.op_type, n.op_type.lower())
    _reduction_nest(n, op, x, Value(out.name, kept, out.elem), out)


def _reduction_nest(n: Node, op: str, x: Value, kept: Value, out: Value) -> None:
    """The loops of a reduction: reduced channels run on C, reduced spatial axes on the kernel loops.

    ``kept`` is the output with its reduced axes kept as ones. Reduced batches join C. Where dropping the axes
    moves others (a reduction over channels without keepdims), no axis map holds.
    """
    before, after = extents(x.tensor), extents(kept.tensor)
    aligned = same_view(kept, out)
    inner = before[0] // max(1, after[0]) * (before[1] // max(1, after[1]))
    kernel = _kernel_extents(before[2:], after[2:])
    batch, groups, t, y, width = after
    n.layer(
        Kind.POOL,
        op,
        [read(x, _reduce_maps(before[2:], after[2:]) if aligned else full_maps(x), _reduce_dims(inner))],
        out,
        feature_sizes(kept, B=batch, G=groups, C=inner, OT=t, OY=y, OX=width, FT=kernel[0], FY=kernel[1], FX=kernel[2]),
        barrier=not aligned or x.rank > 5,
    )


def _kernel_extents(before: Sequence[int], after: Sequence[int]) -> Shape:
    return tuple(b // max(1, a) for b, a in zip(before, after, strict=True))


def _reduce_dims(inner: int) -> tuple[Dim, ...]:
    return _REDUCE_INPUT_DIMS if inner > 1 else (*FEATURE_DIMS, Dim.FT, Dim.FY, Dim.FX)


def _reduce_maps(before: Sequence[int], after: Sequence[int]) -> Maps:
    t, y, x = (IDENTITY if b == a else AxisMap.full(b) for b, a in zip(before, after, strict=True))
    return (t, y, x)
