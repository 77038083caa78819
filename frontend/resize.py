"""Resize and Upsample: which input positions an output position takes, found by evaluating the standard's
formulas.

For each axis the exact range of input positions of every output position is computed (with the clamping at
the borders), and the tightest :class:`~dfc.ir.AxisMap` of the axis' scale that holds all of them is taken.
The map is therefore a superset, and exact for integer scales.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

import numpy as np
import numpy.typing as npt

from dfc.frontend.diagnostics import Unmodelled
from dfc.frontend.node import Node, operator
from dfc.frontend.shapes import feature_sizes, read
from dfc.frontend.values import Value
from dfc.ir import IDENTITY, AxisMap, Kind

_Floats = npt.NDArray[np.float64]
#: positions of an axis that are looked at one by one
_LONGEST = 1 << 20
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Rule:
    """How positions are mapped and how many neighbours are read; from the node's attributes."""

    mode: str  # nearest, linear or cubic
    coordinates: str
    rounding: str
    antialias: bool


@operator("Upsample")
def upsample(n: Node) -> None:
    """The older Resize: asymmetric coordinates, rounded down."""
    x = n.need(0)
    scales = n.floats("scales") if n.has("scales") else _float_input(n, 1)
    if scales is None or len(scales) != x.rank:
        n.fail(f"{'no' if scales is None else len(scales)} scales for a tensor of rank {x.rank}")
    shape = _scaled(n, x.shape, scales)
    _resize(n, x, shape, scales, _Rule(n.text("mode", "nearest"), "asymmetric", "floor", False))


@operator("Resize")
def resize(n: Node) -> None:
    """Resize by scales or to sizes; operator set 10 has scales only, and Upsample's coordinates."""
    x = n.need(0)
    if n.opset < 11:
        scales = _float_input(n, 1)
        rule = _Rule(n.text("mode", "nearest"), "asymmetric", "floor", False)
        _resize(n, x, *_by_scales(n, x, scales, tuple(range(x.rank))), rule)
        return
    rule = _Rule(
        n.text("mode", "nearest"),
        n.text("coordinate_transformation_mode", "half_pixel"),
        n.text("nearest_mode", "round_prefer_floor"),
        bool(n.int_("antialias", 0)),
    )
    axes = tuple(n.axis(a, x.rank) for a in n.ints("axes") or range(x.rank))
    given = n.maybe(3)
    if given is not None and given.elements:
        _resize(n, x, *_by_sizes(n, x, n.const_ints(3) or (), axes), rule)
    else:
        _resize(n, x, *_by_scales(n, x, _float_input(n, 2), axes), rule)


def _float_input(n: Node, index: int) -> tuple[float, ...] | None:
    data = n.array(index)
    return None if data is None else tuple(float(v) for v in np.ravel(data))


def _by_scales(
    n: Node, x: Value, scales: tuple[float, ...] | None, axes: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    if scales is None or len(scales) != len(axes) or min(scales, default=0.0) <= 0:
        n.fail(f"scales {list(scales or ())} for {len(axes)} axes")
    wide = [1.0] * x.rank
    for axis, scale in zip(axes, scales, strict=True):
        wide[axis] = scale
    return _scaled(n, x.shape, wide), tuple(wide)


def _scaled(n: Node, shape: Sequence[int], scales: Sequence[float]) -> tuple[int, ...]:
    """Extents times scales, rounded down, in single precision: 10 * 2.3 is 23 there and 22 in double precision."""
    with np.errstate(over="ignore", invalid="ignore"):
        products = np.asarray(shape, dtype=np.float32) * np.asarray(scales, dtype=np.float32)
    if not np.all(np.isfinite(products)):
        n.fail(f"scales {list(scales)} are not finite numbers")
    return tuple(int(extent) for extent in np.floor(products))


def _by_sizes(
    n: Node, x: Value, wanted: tuple[int, ...], axes: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    if len(wanted) != len(axes) or min(wanted, default=0) < 1:
        n.fail(f"sizes {list(wanted)} for {len(axes)} axes")
    if x.elements < 1:
        n.fail("its input has no elements")
    ratios = [size / x.shape[axis] for axis, size in zip(axes, wanted, strict=True)]
    policy = n.text("keep_aspect_ratio_policy", "stretch")
    shape, scales = list(x.shape), [1.0] * x.rank
    for axis, size, ratio in zip(axes, wanted, ratios, strict=True):
        if policy == "stretch":
            shape[axis], scales[axis] = size, ratio
        else:
            scales[axis] = min(ratios) if policy == "not_larger" else max(ratios)
            shape[axis] = int(np.floor(scales[axis] * x.shape[axis] + 0.5))
    return tuple(shape), tuple(scales)


def _resize(n: Node, x: Value, shape: tuple[int, ...], scales: tuple[float, ...], rule: _Rule) -> None:
    out = n.out(shape)
    if out.elements < 1 or x.elements < 1:
        n.fail(f"it resizes {list(x.shape)} to {list(shape)}, which has no elements")
    if shape[:2] != x.shape[:2] or x.rank > 5:
        raise Unmodelled("batch or channels are resized, or more than three spatial axes")
    maps, factors = [IDENTITY] * 3, [1, 1, 1]
    for axis in range(2, x.rank):
        place = axis - x.rank + 3
        maps[place] = _axis_map(x.shape[axis], shape[axis], scales[axis], rule)
        factors[place] = shape[axis] // x.shape[axis] if shape[axis] % x.shape[axis] == 0 else 0
    t, y, width = maps
    source = read(x, (t, y, width))
    if rule.mode == "nearest" and all((m.num, m.den) == (1, f) for m, f in zip(maps, factors, strict=True)):
        steps = x.tensor.spatial
        loops = feature_sizes(out, K=prod(factors), OT=steps[0], OY=steps[1], OX=steps[2])
        n.layer(Kind.MOVE, "resize", [source], out, loops, phases=(factors[0], factors[1], factors[2]))
        return
    op = "resize" if rule.mode == "nearest" else f"resize_{rule.mode}"
    n.layer(Kind.MOVE, op, [source], out, feature_sizes(out))


def _axis_map(before: int, after: int, scale: float, rule: _Rule) -> AxisMap:
    if before == after and scale == 1.0 and rule.coordinates not in ("tf_half_pixel_for_nn", "tf_crop_and_resize"):
        return IDENTITY
    if rule.coordinates == "tf_crop_and_resize" or max(before, after) > _LONGEST:  # the region may be an input
        return AxisMap.full(before)
    if before == 1:
        return AxisMap(num=1, den=after)
    positions = _positions(before, after, scale, rule.coordinates)
    slack = 0.0 if float(scale).is_integer() or _dyadic(scale) else 1e-3
    first, last = _neighbours(positions, scale, rule, slack)
    return _fit(np.clip(first, 0, before - 1), np.clip(last, 0, before - 1), _step(before, after, scale, rule))


def _dyadic(scale: float) -> bool:
    """Whether dividing by the scale is exact in single precision."""
    return float(np.frexp(scale)[0]) == 0.5


def _step(before: int, after: int, scale: float, rule: _Rule) -> Fraction:
    """Input positions per output position, close enough that the error over the axis stays below one
    position.
    """
    if rule.coordinates == "align_corners":
        return Fraction(before - 1, max(1, after - 1))
    exact = 1 / Fraction(scale)
    return exact.limit_denominator(4 * max(before, after, 16))


def _positions(before: int, after: int, scale: float, coordinates: str) -> _Floats:
    """The input coordinate of each output position, by coordinate_transformation_mode."""
    o = np.arange(after, dtype=np.float64)
    if coordinates == "asymmetric":
        return o / scale
    if coordinates == "align_corners":
        return o * (before - 1) / (after - 1) if after > 1 else o * 0.0
    if coordinates == "tf_half_pixel_for_nn":
        return (o + 0.5) / scale
    if coordinates == "pytorch_half_pixel" and after == 1:
        return o * 0.0
    if coordinates == "half_pixel_symmetric":
        adjustment = after / (scale * before)
        return before / 2 * (1 - adjustment) + (o + 0.5) / scale - 0.5
    if coordinates in ("half_pixel", "pytorch_half_pixel"):
        return (o + 0.5) / scale - 0.5
    raise Unmodelled(f"coordinate_transformation_mode '{coordinates}'")


def _neighbours(positions: _Floats, scale: float, rule: _Rule, slack: float) -> tuple[_Ints, _Ints]:
    """(first, last) input position read by each output position, before clamping to the input."""
    low, high = positions - slack, positions + slack
    if rule.mode == "nearest":
        return _rounded(low, rule.rounding), _rounded(high, rule.rounding)
    reach = 1 if rule.mode == "linear" else 2
    if rule.antialias and scale < 1:  # the filter is stretched to cover what is skipped
        reach = int(np.ceil(reach / scale)) + 1
    return np.floor(low).astype(np.int64) - (reach - 1), np.floor(high).astype(np.int64) + reach


def _rounded(positions: _Floats, rounding: str) -> _Ints:
    if rounding == "floor":
        return np.floor(positions).astype(np.int64)
    if rounding == "ceil":
        return np.ceil(positions).astype(np.int64)
    if rounding == "round_prefer_ceil":
        return np.floor(positions + 0.5).astype(np.int64)
    return np.ceil(positions - 0.5).astype(np.int64)


def _fit(first: _Ints, last: _Ints, step: Fraction) -> AxisMap:
    """The tightest map of ``step`` whose interval at every output position o holds first[o] .. last[o]."""
    num, den = step.numerator, step.denominator
    o = np.arange(len(first), dtype=np.int64)
    low = int(np.min(first * den + den - 1 - num * o))
    high = int(np.max(last * den - num * o))
    return AxisMap(num, den, min(low, high), high)
