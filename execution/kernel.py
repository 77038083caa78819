"""A layer computed on the windows that a tile reads, by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dfc.execution.fault import Fault
from dfc.execution.memory import Array
from dfc.execution.tile_state import TileState, Window
from dfc.frontend.layer_program import Feed, Recipe
from dfc.ir import Layer


def compute(state: TileState, layer: Layer, windows: Mapping[str, Window], values: Mapping[str, Array]) -> Array:
    """The region of a layer's output that the tile makes, from the values of its windows as [position, column].

    A layer without a rule for its operator is computed as a whole, twice where its windows are not the whole maps: with
    other numbers each time in place of what they lack. What it makes must be the same. Where windows have gaps along
    time, what it makes of the layer with other numbers in the gaps must be what ONNX Runtime makes of the whole map.

    Raises:
        Fault: where the windows lack what is needed.
    """
    program, recipe = state.network.program(layer.name), state.recipe(layer)
    results: list[Array] = []
    for noise in _noises(state, recipe, windows):
        feeds = {f.name: _fed(state, recipe, f, windows, values, noise) for f in recipe.feeds}
        results.append(state.network.compute(program, recipe, feeds)[0])
    first = results[0]
    if len(results) > 1 and not np.array_equal(first, results[1], equal_nan=first.dtype.kind == "f"):
        raise Fault(
            "value",
            f"what it computes of '{layer.output}' depends on positions that it does not read",
            cause="the window that it reads is too small",
        )
    wanted = [len(r) for r in state.region(layer.output, state.spans(layer))]
    if list(first.shape) != wanted:
        raise Fault("value", f"it computes a region of shape {list(first.shape)} where {wanted} is needed")
    return first


def _is_whole(state: TileState, window: Window) -> bool:
    extents = state.machine.maps[window.tensor].extents
    return window.columns is None and window.mask.shape == extents and bool(window.mask.all())


def _noises(state: TileState, recipe: Recipe, windows: Mapping[str, Window]) -> Sequence[int]:
    """Seeds of the noise that takes the place of what windows lack; 0 where they lack nothing."""
    known = [windows[f.tensor] for f in recipe.feeds if f.tensor in windows]
    if recipe.exact:
        return [1] if any(window.gaps for window in known) else [0]
    absent = len(known) < len(recipe.feeds)
    return [1, 2] if absent or not all(_is_whole(state, window) for window in known) else [0]


def _fed(
    state: TileState,
    recipe: Recipe,
    feed: Feed,
    windows: Mapping[str, Window],
    values: Mapping[str, Array],
    noise: int,
) -> Array:
    """What a feed gets; an input that nothing depends on is all noise."""
    if feed.tensor in windows:
        return _feed(state, recipe, feed, windows[feed.tensor], values[feed.tensor], noise)
    model = state.network.model
    shape, kind = model.shape(feed.tensor), model.dtype(feed.tensor)
    return np.random.default_rng(noise).integers(1, 100, shape).astype(kind)


def _feed(state: TileState, recipe: Recipe, feed: Feed, window: Window, values: Array, noise: int) -> Array:
    """A region of a map out of a window's values; what the window lacks is noise."""
    info = state.machine.maps[feed.tensor]
    extents = list(state.network.model.shape(feed.tensor))
    y_axis, x_axis = state.network.axes.places(len(extents))
    ys, xs = (range(1) if axis is None else feed.region[axis] for axis in (y_axis, x_axis))
    rows = np.zeros((len(ys), len(xs), info.columns), values.dtype)
    there = np.zeros((len(ys), len(xs)), bool)
    if noise:
        rows[:] = state.machine.noise(feed.tensor, noise)
    inner_y, outer_y = _shared(window.ys, ys)
    inner_x, outer_x = _shared(window.xs, xs)
    mask = window.mask[inner_y, inner_x]
    found = values.reshape(*window.mask.shape, window.width)[inner_y, inner_x]
    if window.columns is None:
        rows[outer_y, outer_x][mask] = found[mask]
    else:
        part = rows[outer_y, outer_x][mask]
        part[:, window.columns] = found[mask]
        rows[outer_y, outer_x][mask] = part
    there[outer_y, outer_x] = mask | window.gaps
    if recipe.exact and not there.all():
        y, x = (int(v[0]) for v in np.nonzero(~there))
        raise Fault(
            "value",
            "it needs a position that is not in the window that it reads",
            element=f"position (row {ys[y]}, column {xs[x]}) of '{feed.tensor}'",
            cause="the window that it reads is too small",
        )
    for axis, span in ((y_axis, ys), (x_axis, xs)):
        if axis is not None:
            extents[axis] = len(span)
    data = state.machine.array_of(feed.tensor, rows.reshape(len(ys) * len(xs), info.columns), extents)
    for axis, span in enumerate(feed.region):
        if axis not in (y_axis, x_axis) and span != range(data.shape[axis]):
            data = np.take(data, list(span), axis=axis)
    return np.ascontiguousarray(data)


def _shared(have: Array, wanted: range) -> tuple[slice, slice]:
    """The positions that a window and a region share, within the one and within the other."""
    if not len(have):
        return slice(0), slice(0)
    lo, hi = max(int(have[0]), wanted.start), min(int(have[-1]) + 1, wanted.stop)
    hi = max(lo, hi)
    return slice(lo - int(have[0]), hi - int(have[0])), slice(lo - wanted.start, hi - wanted.start)
