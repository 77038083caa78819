"""How tensors lie on the loop nest: operands, axis maps and broadcasting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from dfc.frontend.values import Shape, Value
from dfc.ir import IDENTITY, SAME, Axis, AxisMap, Dim, Operand, Role, Sizes, Source, Tensor, Triple, sizes

Maps: TypeAlias = tuple[AxisMap, AxisMap, AxisMap]

#: the loops over a feature map, in the order of :func:`extents`
FEATURE_DIMS = (Dim.B, Dim.G, Dim.OT, Dim.OY, Dim.OX)


def extents(tensor: Tensor) -> tuple[int, int, int, int, int]:
    """(batch, channels, t, y, x) of a tensor seen as a feature map."""
    return (tensor.batch, tensor.channels, *tensor.spatial)


def feature_sizes(value: Value, **more: int) -> Sizes:
    """Loop sizes that walk over every element of ``value``, channels on G; ``more`` adds loops or replaces
    some.
    """
    b, g, t, y, x = extents(value.tensor)
    return sizes(**{"B": b, "G": g, "OT": t, "OY": y, "OX": x, **more})


def full_maps(value: Value) -> Maps:
    """Every output position reads every position of ``value``."""
    t, y, x = value.tensor.spatial
    return (AxisMap.full(t), AxisMap.full(y), AxisMap.full(x))


def read(value: Value, maps: Maps = SAME, dims: tuple[Dim, ...] = FEATURE_DIMS) -> Operand:
    """A feature map as the input operand of a layer."""
    return Operand(Role.I, dims, (Source(value.name, maps),))


def read_all(value: Value, dims: tuple[Dim, ...] = FEATURE_DIMS) -> Operand:
    """A feature map of which every output position needs the whole."""
    return read(value, full_maps(value), dims)


def weight(value: Value, dims: tuple[Dim, ...]) -> Operand:
    """The W operand: constant, or the second of two feature maps, of which a tile needs the whole."""
    maps = SAME if value.constant else full_maps(value)
    return Operand(Role.W, dims, (Source(value.name, maps),), constant=value.constant)


def triple(values: Sequence[int], fill: int = 1) -> Triple:
    """Numbers of the last one to three axes of a tensor as (t, y, x)."""
    t, y, x = (fill, fill, fill, *values)[-3:]
    return (t, y, x)


def spatial_axis(axis: int, rank: int) -> Axis | None:
    """Which spatial axis a tensor's axis lies on; None for batch and channels. Axes beyond five join T."""
    return Axis(max(0, axis - rank + 3)) if axis >= 2 else None


def same_view(a: Value, b: Value) -> bool:
    """Whether both are the same feature map: equal batch, channels and spatial extents."""
    return extents(a.tensor) == extents(b.tensor)


def broadcast_shape(shapes: Sequence[Shape]) -> Shape | None:
    """The shape that numpy's rules broadcast ``shapes`` to; None where they do not fit."""
    rank = max((len(s) for s in shapes), default=0)
    result: list[int] = []
    for column in zip(*((1,) * (rank - len(s)) + s for s in shapes), strict=True):
        wide = {extent for extent in column if extent != 1}
        if len(wide) > 1:
            return None
        result.append(wide.pop() if wide else 1)
    return tuple(result)


def broadcast(value: Value, out: Value) -> tuple[tuple[Dim, ...], Maps, bool]:
    """How ``value`` is read when it is broadcast to ``out``: (loops that address it, axis maps, exact).

    The loops are those along which it is not repeated, from the axes aligned at the right. Where its own view
    as a feature map has other spatial axes than the aligned one (a matrix added to a rank-4 map), every
    position needs the whole of it. Not exact: it is repeated along a part of the axes that join T, which no
    axis map expresses.
    """
    aligned = Tensor(value.name, (1,) * (out.rank - value.rank) + value.shape)
    pairs = list(zip(FEATURE_DIMS, extents(aligned), extents(out.tensor), strict=True))
    dims = tuple(dim for dim, have, want in pairs if have == want or have != 1)
    exact = all(have in (1, want) for _, have, want in pairs)
    if not exact or aligned.spatial != value.tensor.spatial:
        return dims, full_maps(value), exact
    t, y, x = (IDENTITY if have == want else AxisMap.full(have) for _, have, want in pairs[2:])
    return dims, (t, y, x), True
