"""Normalisations and softmax: element-wise work, some of it after a look at whole axes."""

from __future__ import annotations

from collections.abc import Iterable

from dfc.frontend.diagnostics import Unmodelled
from dfc.frontend.node import MICROSOFT, Node, operator
from dfc.frontend.shapes import FEATURE_DIMS, Maps, broadcast, feature_sizes, full_maps, read, spatial_axis
from dfc.frontend.values import Value
from dfc.ir import IDENTITY, AxisMap, Dim, Kind, Operand, Role, Source


@operator("BatchNormalization")
def batch_norm(n: Node) -> None:
    """Scale and shift per channel; inference only."""
    if n.int_("training_mode", 0) or any(n.is_used(i) for i in range(1, 5)):
        raise Unmodelled("training mode")
    x = n.need(0)
    statistics = [n.need(i) for i in range(1, 5)]
    channels = x.tensor.channels
    if any(v.elements != channels for v in statistics):
        n.fail(f"its statistics do not have one number for each of {channels} channels")
    out = n.out(x.shape)
    constants = [v for v in statistics if v.constant]
    operands = [read(x), *(read(v, full_maps(v), (Dim.G,)) for v in statistics if not v.constant)]
    if constants:
        operands.append(Operand(Role.W, (Dim.G,), tuple(Source(v.name) for v in constants), constant=True))
    n.layer(
        Kind.ELTWISE,
        "batch_norm",
        operands,
        out,
        feature_sizes(out),
        weight_elements=sum(v.elements for v in constants),
    )


@operator("LRN")
def local_response(n: Node) -> None:
    """Local response normalisation: over neighbouring channels of one position."""
    _normalise(n, "lrn", n.need(0), ())


@operator("InstanceNormalization")
def instance_norm(n: Node) -> None:
    """Per image and channel, over all positions."""
    x = n.need(0)
    _normalise(n, "instance_norm", x, range(2, x.rank), [n.need(1), n.need(2)], per_channel=True)


@operator("GroupNormalization")
def group_norm(n: Node) -> None:
    """Per image and group of channels, over all positions."""
    x = n.need(0)
    _normalise(n, "group_norm", x, range(1, x.rank), [n.need(1), n.need(2)], per_channel=True)


@operator("LayerNormalization", "RMSNormalization")
def layer_norm(n: Node) -> None:
    """Over all axes from ``axis`` on; scale and bias are broadcast from the right."""
    if n.is_used(1) or n.is_used(2):
        raise Unmodelled("its statistics are used")
    x = n.need(0)
    first = n.axis(n.int_("axis", -1), x.rank)
    bias = n.maybe(2)
    op = "layer_norm" if n.op_type == "LayerNormalization" else "rms_norm"
    _normalise(n, op, x, range(first, x.rank), [n.need(1), *([] if bias is None else [bias])])


@operator("SimplifiedLayerNormalization", domain=MICROSOFT)
def simplified_layer_norm(n: Node) -> None:
    """Root-mean-square normalisation under its older name."""
    x = n.need(0)
    _normalise(n, "rms_norm", x, range(n.axis(n.int_("axis", -1), x.rank), x.rank), [n.need(1)])


@operator("MeanVarianceNormalization")
def mean_variance(n: Node) -> None:
    """Zero mean, unit variance over the given axes."""
    x = n.need(0)
    axes = n.ints("axes") or (0, 2, 3)  # the default is for images
    _normalise(n, "mean_variance_norm", x, [n.axis(a, x.rank) for a in axes])


@operator("LpNormalization")
def lp_norm(n: Node) -> None:
    """Unit p-norm along one axis."""
    x = n.need(0)
    _normalise(n, "lp_norm", x, [n.axis(n.int_("axis", -1), x.rank)])


@operator("Softmax", "LogSoftmax", "Hardmax")
def softmax(n: Node) -> None:
    """Along one axis; before operator set 13 over all axes from ``axis`` on."""
    x = n.need(0)
    op = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Hardmax": "hardmax"}[n.op_type]
    old = n.opset < 13
    if x.rank == 0:
        _normalise(n, op, x, ())
        return
    axis = n.axis(n.int_("axis", 1 if old else -1), x.rank)
    _normalise(n, op, x, range(axis, x.rank) if old else [axis])


def _normalise(
    n: Node,
    op: str,
    x: Value,
    axes: Iterable[int],
    constants: list[Value] | None = None,
    *,
    per_channel: bool = False,
) -> None:
    """An element-wise layer that reads the spatial ones among ``axes`` in full and is then a barrier."""
    out = n.out(x.shape)
    wide = {spatial_axis(a, x.rank) for a in axes if x.shape[a] > 1} - {None}
    t, y, width = (AxisMap.full(extent) if axis in wide else IDENTITY for axis, extent in enumerate(x.tensor.spatial))
    operands = [read(x, (t, y, width))]
    weights: list[tuple[Value, tuple[Dim, ...], Maps]] = []
    for value in constants or ():
        dims, maps = ((Dim.G,), (IDENTITY, IDENTITY, IDENTITY)) if per_channel else broadcast(value, out)[:2]
        if value.constant:
            weights.append((value, tuple(d for d in dims if feature_sizes(out)[d] > 1), maps))
        else:
            operands.append(read(value, full_maps(value), dims))
    if weights:
        dims = tuple(d for d in FEATURE_DIMS if any(d in used for _, used, _ in weights))
        sources = tuple(Source(v.name, maps) for v, _, maps in weights)
        operands.append(Operand(Role.W, dims, sources, constant=True))
    n.layer(
        Kind.ELTWISE,
        op,
        operands,
        out,
        feature_sizes(out),
        weight_elements=sum(v.elements for v, _, _ in weights),
        barrier=bool(wide),
    )
