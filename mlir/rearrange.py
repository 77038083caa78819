"""Products of matrices, and operators that move elements: concatenation, slices, pads, reshapes, transposition."""

from __future__ import annotations

import numpy as np

from dfc.frontend import Operation
from dfc.ir import Axis
from dfc.mlir.layer import LayerCode, operator, spatial_axes
from dfc.mlir.pointwise import combine
from dfc.mlir.writer import Offset, Shape, Value, dictionary

# -- products


@operator("Gemm")
def gemm(code: LayerCode, operation: Operation) -> Value:
    """A·B + C, with constant B and C."""
    if operation.int_("transA", 0):
        code.fail("a Gemm whose first factor is transposed")
    matrix = code.needed(operation, 1) * operation.float_("alpha", 1.0)
    weights = code.writer.constant(matrix.T if operation.int_("transB", 0) else matrix, operation.inputs[1])
    found = _product(code, code.value(operation.inputs[0]), weights)
    addend = code.constant(operation, 2)
    if addend is None:
        return found
    bias = code.writer.constant(addend * operation.float_("beta", 1.0), operation.inputs[2])
    return combine(code, "arith.addf", found, bias)


@operator("MatMul")
def matmul(code: LayerCode, operation: Operation) -> Value:
    """A product of matrices: by one constant matrix, or of batches of one shape."""
    a, b = (code.value(name) for name in operation.inputs)
    if len(b.shape) == 2 and len(a.shape) >= 2:
        flat = code.writer.reshape(a, (int(np.prod(a.shape[:-1])), a.shape[-1]))
        return code.writer.reshape(_product(code, flat, b), (*a.shape[:-1], b.shape[-1]))
    if a.shape[:-2] != b.shape[:-2] or len(a.shape) < 3:
        code.fail(f"a product of {list(a.shape)} and {list(b.shape)}")
    count = int(np.prod(a.shape[:-2]))
    left, right = (code.writer.reshape(v, (count, *v.shape[-2:])) for v in (a, b))
    found = _product(code, left, right, "batch_matmul")
    return code.writer.reshape(found, (*a.shape[:-1], b.shape[-1]))


def _product(code: LayerCode, a: Value, b: Value, name: str = "matmul") -> Value:
    if len(a.shape) != len(b.shape) or a.shape[-1] != b.shape[-2]:
        code.fail(f"a product of {list(a.shape)} and {list(b.shape)}")
    start = code.writer.filled(0.0, (*a.shape[:-1], b.shape[-1]))
    marks = dictionary(code.marks())
    text = f"linalg.{name} {marks}ins({a.name}, {b.name} : {a.type}, {b.type}) outs({start.typed}) -> {start.type}"
    return code.writer.op(text, start.shape)


# -- moves


@operator("Concat")
def concat(code: LayerCode, operation: Operation) -> Value:
    """Parts one after the other; along a spatial axis, what of each lies in the tile."""
    axis = operation.int_("axis", 0) % len(code.out.shape)
    tiled = spatial_axes(code.out).get(axis)
    found = code.writer.empty(code.out_shape, code.marks())
    at = 0
    for name in operation.inputs:
        known = code.operations.constant(name) is not None
        if tiled is not None and known:
            code.fail("a constant joined to a map along a spatial axis")
        part = code.value(name) if known else code.window(name)[0]
        if tiled is not None:
            source = code.source(name)
            out = code.runs[tiled].tile.fresh[code.layer.output]
            at = code.read(source, tiled).first - source.maps[tiled].lo - out.lo
        if part.shape[axis]:
            places = [Offset(at if a == axis else 0) for a in range(len(part.shape))]
            found = code.writer.insert(part, found, places)
        at += part.shape[axis]
    return found


@operator("Slice")
def cut(code: LayerCode, operation: Operation) -> Value:
    """Part of a map: along spatial axes as the axis maps say, along channels as the operator does."""
    starts, ends = (code.needed(operation, i).reshape(-1) for i in (1, 2))
    axes, steps = (code.constant(operation, i) for i in (3, 4))
    return _cut(
        code,
        operation,
        {
            int(axis) % len(code.out.shape): (int(start), int(end), int(step))
            for axis, start, end, step in zip(
                range(len(starts)) if axes is None else axes.reshape(-1),
                starts,
                ends,
                np.ones_like(starts) if steps is None else steps.reshape(-1),
                strict=True,
            )
        },
    )


@operator("Split")
def split(code: LayerCode, operation: Operation) -> Value:
    """One of the parts of a map."""
    axis = operation.int_("axis", 0) % len(code.out.shape)
    number = operation.outputs.index(code.layer.output) if code.layer.output in operation.outputs else 0
    sizes = code.constant(operation, 1)
    part = code.out.shape[axis]
    start = int(sizes.reshape(-1)[:number].sum()) if sizes is not None else number * part
    return _cut(code, operation, {axis: (start, start + part, 1)})


def _cut(code: LayerCode, operation: Operation, cuts: dict[int, tuple[int, int, int]]) -> Value:
    source = code.source(operation.inputs[0])
    whole = code.graph.tensors[source.tensor]
    found, around = code.window(operation.inputs[0])
    if around is not None or len(found.shape) != len(code.out.shape):
        code.fail("a slice that reaches beyond its map")
    tiled = spatial_axes(whole)
    starts: list[int] = []
    strides: list[int] = []
    for place, extent in enumerate(whole.shape):
        start, end, step = cuts.get(place, (0, extent, 1))
        if step < 1:
            code.fail("a slice that runs backwards")
        if place in tiled:  # the window begins at the first position that is wanted
            starts.append(0)
            strides.append(source.maps[tiled[place]].num)
        else:
            starts.append(slice(start, end, step).indices(extent)[0])
            strides.append(step)
    return code.writer.slice(found, [Offset(s) for s in starts], code.out_shape, tuple(strides), layer=code.layer.name)


@operator("Pad")
def pad(code: LayerCode, operation: Operation) -> Value:
    """A map with a number around it."""
    if operation.attributes.get("mode", "constant") != "constant":
        code.fail("a pad that repeats what is in the map")
    number = code.constant(operation, 2)
    value = float(number.reshape(-1)[0]) if number is not None and number.size else 0.0
    found, around = code.window(operation.inputs[0])
    rank = len(code.out.shape)
    pads = code.constant(operation, 1)
    axes = code.constant(operation, 3)
    if pads is None:
        code.fail("a pad whose widths are attributes")
    where = list(range(rank)) if axes is None else [int(a) % rank for a in axes.reshape(-1)]
    widths = pads.reshape(2, -1)
    low, high = around or ((0,) * rank, (0,) * rank)
    tiled = spatial_axes(code.out)
    before, after = list(low), list(high)
    for i, axis in enumerate(where):
        if axis not in tiled:
            before[axis], after[axis] = int(widths[0, i]), int(widths[1, i])
    if min((*before, *after)) < 0:
        code.fail("a pad that crops")
    return code.writer.pad(found, tuple(before), tuple(after), value)


# -- views


@operator("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(code: LayerCode, operation: Operation) -> Value:
    """The same elements under another shape; all of the map."""
    x = code.value(operation.inputs[0])
    return code.writer.reshape(x, _target(code, operation, x.shape))


def _target(code: LayerCode, operation: Operation, shape: Shape) -> Shape:
    if operation.outputs[0] == code.layer.output:
        return code.out_shape
    match operation.op_type:
        case "Flatten":
            axis = operation.int_("axis", 1) % (len(shape) + 1)
            return int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))
        case "Reshape":
            wanted = [int(v) for v in code.needed(operation, 1).reshape(-1)]
            sizes = [shape[i] if v == 0 else v for i, v in enumerate(wanted)]
            rest = int(np.prod([v for v in sizes if v > 0]))
            return tuple(int(np.prod(shape)) // rest if v < 0 else v for v in sizes)
        case "Squeeze":
            axes = _axes(code, operation, len(shape)) or [i for i, v in enumerate(shape) if v == 1]
            return tuple(v for i, v in enumerate(shape) if i not in axes)
        case _:
            given = code.constant(operation, 1)
            count = len(given.reshape(-1)) if given is not None else len(_axes(code, operation, len(shape)))
            axes = _axes(code, operation, len(shape) + count)
            rest_of = iter(shape)
            return tuple(1 if i in axes else next(rest_of) for i in range(len(shape) + count))


def _axes(code: LayerCode, operation: Operation, rank: int) -> list[int]:
    given = code.constant(operation, 1)
    axes = operation.ints("axes") if given is None else given.reshape(-1)
    return [int(a) % rank for a in axes]


@operator("Transpose")
def transpose(code: LayerCode, operation: Operation) -> Value:
    """Axes in another order; all of the map."""
    x = code.value(operation.inputs[0])
    rank = len(x.shape)
    order = operation.ints("perm") or tuple(range(rank))[::-1]
    source = code.source(operation.inputs[0])
    if x.shape != code.graph.tensors[source.tensor].shape:
        code.fail("a transposition that is tiled")
    shape = tuple(x.shape[a] for a in order)
    target = code.writer.empty(shape, code.marks())
    text = f"linalg.transpose ins({x.typed}) outs({target.typed}) permutation = {list(order)}"
    return code.writer.op(text, shape)


@operator("Softmax")
def softmax(code: LayerCode, operation: Operation) -> Value:
    """Along one axis, all of which the tile has."""
    x = code.value(operation.inputs[0])
    axis = operation.int_("axis", -1 if code.operations.opset >= 13 else 1) % len(x.shape)
    if x.shape[axis] != code.out.shape[axis] or code.operations.opset < 13:
        code.fail("a softmax over several axes, or over part of one")
    target = code.writer.empty(x.shape, code.marks())
    text = f"linalg.softmax dimension({axis}) ins({x.typed}) outs({target.typed}) -> {target.type}"
    return code.writer.op(text, x.shape)


@operator("Resize", "Upsample")
def resize(code: LayerCode, operation: Operation) -> Value:
    """Every position repeated: nearest neighbours of a whole factor, as the axis maps say."""
    source = code.source(operation.inputs[0])
    maps = source.maps
    steady = all(maps[axis].num == 1 and maps[axis].lo == maps[axis].hi for axis in Axis)
    if operation.attributes.get("mode", "nearest") != "nearest" or not steady:
        code.fail("a resize that is not by nearest neighbours and a whole factor")
    found = code.window(operation.inputs[0])[0]
    for place, axis in spatial_axes(code.out).items():
        found = _repeated(code, found, place, maps[axis].den, _phase(code, axis, source.tensor))
    return found


def _phase(code: LayerCode, axis: Axis, tensor: str) -> int:
    """Where in the first repeated position the tile begins."""
    source = code.source(tensor)
    out = code.runs[axis].tile.fresh[code.layer.output].lo
    return (out + source.maps[axis].lo) - source.maps[axis].den * code.read(source, axis).first


def _repeated(code: LayerCode, value: Value, place: int, times: int, phase: int) -> Value:
    """Every position along one axis ``times`` times, from ``phase`` on, as many as the tile has."""
    if times == 1:
        return value
    wide = (*value.shape[: place + 1], times, *value.shape[place + 1 :])
    target = code.writer.empty(wide, code.marks())
    text = f"linalg.broadcast ins({value.typed}) outs({target.typed}) dimensions = [{place + 1}]"
    spread = code.writer.op(text, wide)
    joined = (*value.shape[:place], value.shape[place] * times, *value.shape[place + 1 :])
    found = code.writer.reshape(spread, joined)
    sizes = (*joined[:place], code.out_shape[place], *joined[place + 1 :])
    return code.writer.slice(found, [Offset(phase if a == place else 0) for a in range(len(joined))], sizes)
