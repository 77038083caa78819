"""What every operator does along time: keeps the axis, moves it, slides along it, or mixes it with something else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from dfc.frontend.eltwise import ELEMENTWISE
from dfc.frontend.node import MICROSOFT, Node
from dfc.frontend.values import Shape, Value
from dfc.frontend.window import read_window
from dfc.ir import PER_POSITION, TimeWindow


class Mixed(Exception):  # noqa: N818  an answer, not a mistake
    """Time does not stay apart: the message says with what it is mixed."""


class Reduced(Exception):  # noqa: N818  an answer, not a mistake
    """The operator reduces over time, each of its results over one window."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Time stays apart: its axis in the outputs, and what is read along it."""

    axis: int
    window: TimeWindow = PER_POSITION
    slides: bool = False
    margin: int = 1
    dilates: bool = True


@dataclass(frozen=True, slots=True)
class Timed:
    """A node with the time axes of what it reads.

    axes:    time axis by tensor; None for tensors of a window as a whole. Constants are not among them.
    strides: frames per position by tensor.
    """

    node: Node
    axes: Mapping[str, int | None]
    strides: Mapping[str, int]
    outputs: tuple[Value, ...] = field(default=())

    def axis(self, index: int = 0) -> int:
        """The time axis of an input that has to have one."""
        value = self.node.need(index)
        axis = self.axes.get(value.name)
        if axis is None:
            raise Mixed(f"time comes in through another input than '{value.name}'")
        return axis

    def only(self, index: int = 0) -> int:
        """The time axis of an input beside which every other is constant."""
        axis = self.axis(index)
        name = self.node.need(index).name
        if any(other != name for other in self.axes):
            raise Mixed("several of its inputs depend on the frames")
        return axis

    def same_for_all(self, constants: Iterable[Value | None], from_right: int) -> None:
        """Constants that are broadcast say the same for all positions of the axis so far from the right."""
        for value in constants:
            if value is not None and value.rank >= from_right and value.shape[value.rank - from_right] != 1:
                raise Mixed(f"constant '{value.name}' differs from position to position of the window")


Rule = Callable[[Timed], Kept]
RULES: dict[tuple[str, str], Rule] = {}


def rule(*names: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Register the decorated rule for operators ``names`` of ``domain``."""

    def register(one: Rule) -> Rule:
        for name in names:
            RULES[domain, name] = one
        return one

    return register


def along_time(timed: Timed) -> Kept:
    """What a node does along time.

    Raises:
        Mixed: time is mixed with something else.
        Reduced: time is reduced over.
    """
    node = timed.node
    domain = "" if node.proto.domain == "ai.onnx" else node.proto.domain
    found = RULES.get((domain, node.op_type))
    if found is None:
        raise Mixed(f"{node.op_type} is not known to keep time apart")
    return found(timed)


# -- one position at a time ------------------------------------------------------------------------------------


def _broadcast(t: Timed) -> Kept:
    """Numpy's broadcasting: axes are aligned at the right."""
    rank = len(t.outputs[0].shape)
    places: set[tuple[int, int]] = set()
    for value in filter(None, t.node.inputs):
        axis = t.axes.get(value.name)
        if axis is not None:
            places.add((axis + rank - value.rank, t.strides[value.name]))
    if len(places) != 1:
        raise Mixed("its inputs do not run along one time axis at one rate")
    ((place, _),) = places
    for value in filter(None, t.node.inputs):
        axis = t.axes.get(value.name)
        if axis is not None and value.shape[axis] != t.outputs[0].shape[place]:
            raise Mixed(f"'{value.name}' is repeated along time")
    t.same_for_all((v for v in t.node.inputs if v is not None and v.name not in t.axes), rank - place)
    return Kept(place)


for _domain, _name in ELEMENTWISE:
    RULES[_domain, _name] = _broadcast
for _name in ("Identity", "Where"):
    RULES["", _name] = _broadcast


@rule("Dropout", "Cast", "CastLike")
def _same_shape(t: Timed) -> Kept:
    if t.node.op_type == "Dropout" and t.node.maybe(2) is not None and t.node.const_ints(2) != (0,):
        raise Mixed("it drops at random")
    return Kept(t.only())


@rule("QuantizeLinear", "DequantizeLinear")
@rule("QuantizeLinear", "DequantizeLinear", domain=MICROSOFT)
def _per_channel(t: Timed) -> Kept:
    axis, x, scale = t.only(), t.node.need(0), t.node.need(1)
    if scale.rank > 1:  # one for each block of positions along its axis, which are all along the others
        t.same_for_all(t.node.inputs[1:], x.rank - axis)
    if (scale.elements > 1 or scale.rank > 1) and t.node.axis(t.node.int_("axis", 1), x.rank) == axis:
        raise Mixed("its scales differ from position to position of the window")
    return Kept(axis)


@rule("LRN")
def _not_over_channels(t: Timed) -> Kept:
    axis = t.only()
    if axis == 1:
        raise Mixed("time lies on the channels' axis")
    return Kept(axis)


@rule("BatchNormalization")
def _batch_norm(t: Timed) -> Kept:
    if t.node.int_("training_mode", 0) or any(t.node.proto.output[1:]):
        raise Mixed("it normalises over time")
    return _not_over_channels(t)


@rule("Softmax", "LogSoftmax", "Hardmax")
def _softmax(t: Timed) -> Kept:
    old, rank = t.node.opset < 13, t.node.need(0).rank
    first = t.node.axis(t.node.int_("axis", 1 if old else -1), rank)
    return _normalised(t, range(first, rank) if old else (first,))


@rule("LayerNormalization", "RMSNormalization")
@rule("SimplifiedLayerNormalization", domain=MICROSOFT)
def _layer_norm(t: Timed) -> Kept:
    rank = t.node.need(0).rank
    kept = _normalised(t, range(t.node.axis(t.node.int_("axis", -1), rank), rank))
    t.same_for_all(t.node.inputs[1:], rank - kept.axis)
    return kept


@rule("LpNormalization")
def _lp_norm(t: Timed) -> Kept:
    return _normalised(t, (t.node.axis(t.node.int_("axis", -1), t.node.need(0).rank),))


@rule("MeanVarianceNormalization")
def _mean_variance(t: Timed) -> Kept:
    rank = t.node.need(0).rank
    return _normalised(t, [t.node.axis(a, rank) for a in t.node.ints("axes") or (0, 2, 3)])


@rule("InstanceNormalization")
def _instance_norm(t: Timed) -> Kept:
    _not_over_channels(t)
    return _normalised(t, range(2, t.node.need(0).rank))


def _normalised(t: Timed, axes: Sequence[int]) -> Kept:
    axis = t.only()
    if axis in axes:
        raise Mixed("it normalises over time")
    return Kept(axis)


# -- windows ---------------------------------------------------------------------------------------------------


@rule("Conv", "ConvInteger")
@rule("FusedConv", domain=MICROSOFT)
def _conv(t: Timed) -> Kept:
    return _slide(t, t.node.need(1).shape[2:])


@rule("QLinearConv")
def _qlinear_conv(t: Timed) -> Kept:
    return _slide(t, t.node.need(3).shape[2:])


@rule("MaxPool", "AveragePool", "LpPool")
@rule("QLinearAveragePool", domain=MICROSOFT)
def _pool(t: Timed) -> Kept:
    if any(t.node.is_used(i) for i in range(1, len(t.node.proto.output))):
        raise Mixed("the positions of the maxima are used")
    if t.node.int_("channels_last", 0):
        raise Mixed("its channels come last")
    return _slide(t, t.node.ints("kernel_shape") or (), dilates=_pool_dilates(t.node))


def _pool_dilates(node: Node) -> bool:
    since = {"MaxPool": 10, "AveragePool": 19, "LpPool": 18}
    return node.opset >= since.get(node.op_type, 1 << 30)


def _slide(t: Timed, kernel: Sequence[int], *, dilates: bool = True) -> Kept:
    axis = t.only()
    if axis == 0:
        return Kept(0)
    if axis == 1:
        raise Mixed("time lies on the channels' axis")
    window, place = read_window(t.node, t.node.need(0), tuple(kernel)), axis - 2
    reads = TimeWindow(window.kernel[place], window.strides[place], window.dilations[place], -window.begin[place])
    return Kept(axis, reads, slides=True, dilates=dilates)


@rule("ConvTranspose")
def _conv_transpose(t: Timed) -> Kept:
    axis, x = t.only(), t.node.need(0)
    if axis == 0:
        return Kept(0)
    if axis == 1:
        raise Mixed("time lies on the channels' axis")
    window, place = read_window(t.node, x, t.node.need(1).shape[2:]), axis - 2
    shape = t.outputs[0].shape[axis], window.kernel[place], window.strides[place], window.begin[place]
    if shape != (x.shape[axis], 1, 1, 0):
        raise Mixed("it makes new positions along time")
    if t.node.has("output_shape"):
        raise Mixed("its size is fixed, not its scale")
    return Kept(axis)


@rule("Resize", "Upsample")
def _resize(t: Timed) -> Kept:
    axis = t.only()
    scales = t.node.maybe(1 if t.node.op_type == "Upsample" or t.node.opset < 11 else 2)
    if t.node.has("axes") or scales is None or scales.data is None or scales.elements <= axis:
        raise Mixed("its size is fixed, not its scale")
    if float(np.ravel(scales.data)[axis]) != 1.0:
        raise Mixed("it resizes along time")
    if t.node.text("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        raise Mixed("it cuts out a part of the window")
    return Kept(axis)


@rule("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
@rule("QLinearGlobalAveragePool", domain=MICROSOFT)
def _global_pool(t: Timed) -> Kept:
    axis = t.only()
    if t.node.int_("channels_last", 0):
        raise Mixed("its channels come last")
    if axis >= 2:
        raise Reduced
    return Kept(axis)


@rule(
    *("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd", "ReduceL1", "ReduceL2"),
    *("ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
)
def _reduce(t: Timed) -> Kept:
    node, axis, rank = t.node, t.only(), t.node.need(0).rank
    given = node.ints("axes") if node.has("axes") else node.const_ints(1)
    if not given and node.int_("noop_with_empty_axes", 0):
        return Kept(axis)
    return _without(t, axis, {node.axis(a, rank) for a in given} if given else set(range(rank)))


@rule("ArgMax", "ArgMin")
def _arg_extreme(t: Timed) -> Kept:
    return _without(t, t.only(), {t.node.axis(t.node.int_("axis", 0), t.node.need(0).rank)})


def _without(t: Timed, axis: int, reduced: set[int]) -> Kept:
    if axis in reduced:
        raise Reduced
    dropped = 0 if t.node.int_("keepdims", 1) else sum(a < axis for a in reduced)
    return Kept(axis - dropped)


@rule("RNN", "GRU", "LSTM")
def _recurrent(_t: Timed) -> Kept:
    raise Mixed("it runs through the window from its first frame on")


# -- parts, orders, shapes -------------------------------------------------------------------------------------


@rule("Concat")
def _concat(t: Timed) -> Kept:
    places = {(t.axes.get(v.name), t.strides.get(v.name, 0)) for v in t.node.inputs if v is not None}
    if len(places) != 1 or None in {axis for axis, _ in places}:
        raise Mixed("its inputs do not run along one time axis at one rate")
    ((axis, _),) = places
    assert axis is not None
    if t.node.axis(t.node.int_("axis", 1), t.node.need(0).rank) == axis:
        raise Mixed("it joins maps along time")
    return Kept(axis)


@rule("Split")
def _split(t: Timed) -> Kept:
    axis = t.only()
    if t.node.axis(t.node.int_("axis", 0), t.node.need(0).rank) == axis:
        raise Mixed("it splits the window along time")
    return Kept(axis)


@rule("Slice")
def _slice(t: Timed) -> Kept:
    node, axis, x = t.node, t.only(), t.node.need(0)
    if node.opset < 10:
        starts, axes, steps = node.ints("starts"), node.ints("axes"), None
    else:
        starts, axes, steps = node.const_ints(1), node.const_ints(3), node.const_ints(4)
    starts = starts or ()
    order = [node.axis(a, x.rank) for a in axes or range(len(starts))]
    if axis not in order:
        return Kept(axis)
    place = order.index(axis)
    step = steps[place] if steps else 1
    if step < 1:
        raise Mixed("it turns time around")
    first = slice(starts[place], None).indices(x.shape[axis])[0]
    return Kept(axis, TimeWindow(1, step, 1, first))


@rule("Pad")
def _pad(t: Timed) -> Kept:
    node, axis, x = t.node, t.only(), t.node.need(0)
    pads = node.ints("pads") if node.opset < 11 else node.const_ints(1)
    order = tuple(node.axis(a, x.rank) for a in node.const_ints(3) or range(x.rank))
    if pads is None or axis not in order:
        return Kept(axis)
    place = order.index(axis)
    begin, end = pads[place], pads[len(order) + place]
    mode = node.text("mode", "constant")
    if (begin or end) and (mode == "wrap" or (mode != "constant" and min(begin, end) < 0)):
        raise Mixed("it joins the window's ends")
    margin = max(begin, end) + 1 if mode == "reflect" else 1
    return Kept(axis, TimeWindow(lo=-begin), margin=margin)


@rule("Transpose")
def _transpose(t: Timed) -> Kept:
    rank = t.node.need(0).rank
    perm = t.node.ints("perm") or tuple(reversed(range(rank)))
    return Kept(perm.index(t.only()))


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(t: Timed) -> Kept:
    axis = t.only()
    place = kept_axis(t.node.need(0).shape, axis, t.outputs[0].shape)
    if place is None:
        if t.node.need(0).shape[axis] == 1:
            raise Reduced  # nothing is joined with the one position that is left
        raise Mixed("it joins time with another axis")
    return Kept(place)


def kept_axis(before: Shape, axis: int, after: Shape) -> int | None:
    """Where an axis is after a reshape: the same extent behind as many elements; None where it is gone."""
    ahead, extent = prod(before[:axis]), before[axis]
    places = [i for i, have in enumerate(after) if have == extent and prod(after[:i]) == ahead]
    return min(places, key=lambda i: abs(i - axis)) if places else None


@rule("Tile")
def _tile(t: Timed) -> Kept:
    axis, repeats = t.only(), t.node.const_ints(1)
    if repeats is None or repeats[axis] != 1:
        raise Mixed("it repeats the window")
    return Kept(axis)


@rule("Gather")
def _gather(t: Timed) -> Kept:
    axis, x, indices = t.only(), t.node.need(0), t.node.need(1)
    place = t.node.axis(t.node.int_("axis", 0), x.rank)
    if place == axis:
        raise Mixed("it picks positions of the window")
    return Kept(axis + indices.rank - 1 if place < axis else axis)


# -- matrix products -------------------------------------------------------------------------------------------


@rule("MatMul", "MatMulInteger")
def _matmul(t: Timed) -> Kept:
    return _rows(t, t.node.need(1), t.node.inputs[2:3])


@rule("QLinearMatMul")
def _qlinear_matmul(t: Timed) -> Kept:
    return _rows(t, t.node.need(3), (*t.node.inputs[1:3], *t.node.inputs[6:]))


def _rows(t: Timed, b: Value, scales: Sequence[Value | None]) -> Kept:
    """``scales`` are those of the rows, zero points among them."""
    axis, a = t.only(), t.node.need(0)
    if axis == a.rank - 1:
        raise Mixed("it sums over time")
    if any(scale is not None and scale.elements > 1 for scale in scales):
        raise Mixed("its scales differ from position to position of the window")
    from_right = a.rank - axis
    if b.rank > 2 and from_right > 2 and from_right <= b.rank and b.shape[-from_right] != 1:
        raise Mixed("its weights differ from position to position of the window")
    return Kept(axis if b.rank == 1 else len(t.outputs[0].shape) - from_right)


@rule("Gemm")
def _gemm(t: Timed) -> Kept:
    axis, c = t.only(), t.node.maybe(2)
    if axis != (1 if t.node.int_("transA", 0) else 0):
        raise Mixed("it sums over time")
    if c is not None and c.rank == 2 and c.shape[0] != 1:
        raise Mixed("its bias differs from position to position of the window")
    return Kept(0)
