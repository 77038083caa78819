"""Kernel, stride, dilation and padding of convolutions and pools, each on its own axis."""

from __future__ import annotations

from dataclasses import dataclass

from dfc.frontend.diagnostics import Unmodelled
from dfc.frontend.node import Node
from dfc.frontend.shapes import Maps, triple
from dfc.frontend.values import Shape, Value
from dfc.ir import IDENTITY, AxisMap, Triple

Axes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """One number per spatial axis of the tensor, in the tensor's order: ([t, [y,]] x)."""

    kernel: Axes
    strides: Axes
    dilations: Axes
    begin: Axes  # padding before the first position; negative crops
    end: Axes  # padding after the last

    @property
    def reach(self) -> Axes:
        """Input positions from the first to the last that one output position reads."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def maps(self) -> Maps:
        """The axis maps of a sliding window."""
        each = zip(self.strides, self.kernel, self.dilations, self.begin, strict=True)
        return last_axes(tuple(AxisMap.window(*axis) for axis in each))

    def stride_triple(self) -> Triple:
        """Strides as (t, y, x)."""
        return triple(self.strides)

    def dilation_triple(self) -> Triple:
        """Dilations as (t, y, x)."""
        return triple(self.dilations)


def last_axes(maps: tuple[AxisMap, ...]) -> Maps:
    """Maps of the last one to three axes as (t, y, x)."""
    t, y, x = (IDENTITY, IDENTITY, IDENTITY, *maps)[-3:]
    return (t, y, x)


def feature_map(n: Node, index: int = 0) -> Value:
    """An input with spatial axes: Unmodelled where it has more than three, a diagnostic where none."""
    x = n.need(index)
    if x.rank < 3:
        n.fail(f"input '{x.name}' has shape {list(x.shape)}; at least one spatial axis expected")
    if x.rank > 5:
        raise Unmodelled(f"{x.rank - 2} spatial axes")
    return x


def read_window(n: Node, x: Value, kernel: Axes) -> Window:
    """The window attributes of ``n`` over the spatial axes of ``x``, with auto_pad resolved."""
    rank = x.rank - 2
    ones = (1,) * rank
    strides = n.ints("strides", rank) or ones
    dilations = n.ints("dilations", rank) or ones
    pads = n.ints("pads", 2 * rank) or (0,) * (2 * rank)
    if min(*kernel, *strides, *dilations) < 1:
        n.fail(f"kernel {list(kernel)}, strides {list(strides)} and dilations {list(dilations)} must be positive")
    auto = n.text("auto_pad", "NOTSET")
    window = Window(kernel, strides, dilations, pads[:rank], pads[rank:])
    if auto in ("", "NOTSET"):
        return window
    if auto == "VALID":
        return Window(kernel, strides, dilations, (0,) * rank, (0,) * rank)
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        n.fail(f"auto_pad '{auto}' does not exist")
    return _same(window, x.shape[2:], upper=auto == "SAME_UPPER")


def _same(window: Window, extents: Shape, *, upper: bool) -> Window:
    """Padding such that the output has ceil(input / stride) positions; the odd one goes to the end if
    ``upper``.
    """
    begin: list[int] = []
    end: list[int] = []
    for extent, stride, reach in zip(extents, window.strides, window.reach, strict=True):
        total = max(0, (-(-extent // stride) - 1) * stride + reach - extent)
        small, large = total // 2, total - total // 2
        begin.append(small if upper else large)
        end.append(large if upper else small)
    return Window(window.kernel, window.strides, window.dilations, tuple(begin), tuple(end))


def output_extents(n: Node, x: Value, window: Window, *, ceil: bool = False) -> Axes:
    """Output positions per spatial axis.

    With ``ceil`` a last, partial window counts if it starts within the input or the padding before it.
    """
    result: list[int] = []
    each = zip(x.shape[2:], window.strides, window.reach, window.begin, window.end, strict=True)
    for extent, stride, reach, begin, end in each:
        room = extent + begin + end - reach
        count = room // stride + 1
        if ceil and room % stride and 0 <= count * stride < extent + begin:
            count += 1
        if count < 1:
            n.fail(f"a window of {reach} does not fit into {extent} positions with padding ({begin}, {end})")
        result.append(count)
    return tuple(result)
