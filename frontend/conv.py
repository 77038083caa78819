"""Convolutions in one, two and three dimensions, and transposed ones."""

from __future__ import annotations

from math import prod

from dfc.frontend.diagnostics import Unmodelled
from dfc.frontend.node import MICROSOFT, Node, operator
from dfc.frontend.shapes import read, read_all, triple, weight
from dfc.frontend.values import INT32, Value
from dfc.frontend.window import Axes, Window, feature_map, last_axes, output_extents, read_window
from dfc.ir import CONV_INPUT_DIMS, CONV_WEIGHT_DIMS, AxisMap, Dim, Kind, Operand, sizes


@operator("Conv")
def conv(n: Node) -> None:
    """Convolution: X, W, optional B."""
    _conv(n, n.need(1), n.maybe(2), n.need(0).elem)


@operator("ConvInteger")
def conv_integer(n: Node) -> None:
    """Integer convolution with 32-bit results: x, w, zero points."""
    _conv(n, n.need(1), None, INT32)


@operator("QLinearConv")
def qlinear_conv(n: Node) -> None:
    """Quantised convolution: x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, optional B."""
    _conv(n, n.need(3), n.maybe(8), n.need(7).elem)


@operator("FusedConv", domain=MICROSOFT)
def fused_conv(n: Node) -> None:
    """A convolution with an activation; the activation costs nothing by itself. A fourth input is added."""
    if n.maybe(3) is not None:
        raise Unmodelled("a fused addition")
    _conv(n, n.need(1), n.maybe(2), n.need(0).elem)


def _kernel(n: Node, x: Value, w: Value) -> Axes:
    """The kernel's extents, from the weights."""
    if w.rank != x.rank:
        n.fail(f"weights of shape {list(w.shape)} over an input of shape {list(x.shape)}")
    declared = n.ints("kernel_shape")
    if declared is not None and declared != w.shape[2:]:
        n.fail(f"kernel_shape {list(declared)} contradicts weights of shape {list(w.shape)}")
    return w.shape[2:]


def _bias(bias: Value | None) -> tuple[int, list[Operand]]:
    """(constant elements, further operands) of the bias; one that is computed is read like a feature map."""
    if bias is None:
        return 0, []
    return (bias.elements, []) if bias.constant else (0, [read_all(bias, (Dim.G, Dim.K))])


def _conv(n: Node, w: Value, bias: Value | None, elem: int) -> None:
    x = feature_map(n)
    kernel = _kernel(n, x, w)
    groups = n.int_("group", 1)
    batch, channels = x.shape[:2]
    if groups < 1 or w.shape[1] * groups != channels or w.shape[0] % groups:
        n.fail(f"{groups} groups of weights {list(w.shape)} do not fit {channels} input channels")
    window = read_window(n, x, kernel)
    spatial = output_extents(n, x, window)
    out = n.out((batch, w.shape[0], *spatial), elem)
    ft, fy, fx = triple(kernel)
    ot, oy, ox = triple(spatial)
    bias_elements, extra = _bias(bias)
    n.layer(
        Kind.DEPTHWISE if w.shape[1] == 1 and groups > 1 else Kind.CONV,
        "conv",
        [read(x, window.maps(), CONV_INPUT_DIMS), weight(w, CONV_WEIGHT_DIMS), *extra],
        out,
        sizes(B=batch, G=groups, K=w.shape[0] // groups, C=w.shape[1], OT=ot, OY=oy, OX=ox, FT=ft, FY=fy, FX=fx),
        strides=window.stride_triple(),
        dilations=window.dilation_triple(),
        macs=out.elements * w.shape[1] * prod(kernel),
        weight_elements=(w.elements if w.constant else 0) + bias_elements,
    )


@operator("ConvTranspose")
def conv_transpose(n: Node) -> None:
    """Transposed convolution of stride s: s interleaved convolutions per axis, one per output phase.

    K holds the phases of all axes; a phase has ceil(kernel / s) taps. Where s > 1 meets a dilation, the taps
    of a phase are not evenly spread and the whole kernel is counted.
    """
    x, w = feature_map(n), n.need(1)
    kernel = _kernel(n, x, w)
    groups = n.int_("group", 1)
    batch, channels = x.shape[:2]
    if groups < 1 or w.shape[0] != channels or channels % groups:
        n.fail(f"{groups} groups of weights {list(w.shape)} do not fit {channels} input channels")
    window, spatial = _transposed_window(n, x, kernel)
    out = n.out((batch, w.shape[1] * groups, *spatial))
    phases = window.stride_triple()
    steps = tuple(-(-extent // s) for extent, s in zip(triple(spatial), phases, strict=True))
    taps = tuple(
        -(-k // s) if d == 1 else k for k, s, d in zip(triple(kernel), phases, window.dilation_triple(), strict=True)
    )
    bias_elements, extra = _bias(n.maybe(2))
    n.layer(
        Kind.CONV,
        "conv_transpose",
        [read(x, _transposed_maps(window), CONV_INPUT_DIMS), weight(w, CONV_WEIGHT_DIMS), *extra],
        out,
        sizes(
            B=batch, G=groups, K=w.shape[1] * prod(phases), C=channels // groups,
            OT=steps[0], OY=steps[1], OX=steps[2], FT=taps[0], FY=taps[1], FX=taps[2],
        ),
        dilations=triple([d if s == 1 else 1 for s, d in zip(window.strides, window.dilations, strict=True)]),
        phases=phases,
        macs=x.elements * w.shape[1] * prod(kernel),
        weight_elements=(w.elements if w.constant else 0) + bias_elements,
    )  # fmt: skip


def _transposed_window(n: Node, x: Value, kernel: Axes) -> tuple[Window, Axes]:
    """(window with the padding that is cut from the output, output extents), by the formulas of the ONNX
    standard.
    """
    rank = x.rank - 2
    strides = n.ints("strides", rank) or (1,) * rank
    dilations = n.ints("dilations", rank) or (1,) * rank
    extra = n.ints("output_padding", rank) or (0,) * rank
    pads = n.ints("pads", 2 * rank) or (0,) * (2 * rank)
    auto = n.text("auto_pad", "NOTSET")
    wanted = n.ints("output_shape")
    if min(*kernel, *strides, *dilations) < 1:
        n.fail(f"kernel {list(kernel)}, strides {list(strides)} and dilations {list(dilations)} must be positive")
    if wanted is not None:
        wanted = wanted[-rank:]
        if len(wanted) != rank:
            n.fail(f"output_shape has {len(wanted)} entries; {rank} expected")
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(extent * s for extent, s in zip(x.shape[2:], strides, strict=True))
    elif auto == "VALID":
        pads = (0,) * (2 * rank)
    reach = Window(kernel, strides, dilations, kernel, kernel).reach
    room = tuple(
        s * (extent - 1) + more + r for extent, s, more, r in zip(x.shape[2:], strides, extra, reach, strict=True)
    )
    begin, end = pads[:rank], pads[rank:]
    if wanted is not None:
        cut = tuple(max(0, have - want) for have, want in zip(room, wanted, strict=True))
        small, large = tuple(c // 2 for c in cut), tuple(c - c // 2 for c in cut)
        begin, end = (small, large) if auto == "SAME_UPPER" else (large, small)
    spatial = wanted or tuple(have - b - e for have, b, e in zip(room, begin, end, strict=True))
    if min(spatial) < 1:
        n.fail(f"its output would have extents {list(spatial)}")
    return Window(kernel, strides, dilations, begin, end), spatial


def _transposed_maps(window: Window) -> tuple[AxisMap, AxisMap, AxisMap]:
    """Output position o takes input i where o = i*s + f*d - p: i from ceil((o+p-d*(F-1))/s) to
    floor((o+p)/s).

    Where the kernel is smaller than the stride some positions take none; the form claims one there.
    """
    maps: list[AxisMap] = []
    for s, reach, p in zip(window.strides, window.reach, window.begin, strict=True):
        maps.append(AxisMap(num=1, den=s, lo=min(p - (reach - 1) + s - 1, p), hi=p))
    return last_axes(tuple(maps))
