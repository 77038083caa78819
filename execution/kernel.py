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
    other numbers each time in place of what they lack. What it makes must be the same.

    Raises:
        Fault: where the windows lack what is needed.
    """
    program, recipe = state.network.program(layer.name), state.recipe(layer)
    whole = all(_is_whole(state, windows[f.tensor]) for f in recipe.feeds)
    results: list[Array] = []
    for noise in [0] if recipe.exact or whole else [1, 2]:
        feeds = {f.name: _feed(state, recipe, f, windows[f.tensor], values[f.tensor], noise) for f in recipe.feeds}
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


def _feed(state: TileState, recipe: Recipe, feed: Feed, window: Window, values: Array, noise: int) -> Array:
    """A region of a map out of a window's values; what the window lacks is noise."""
    info = state.machine.maps[feed.tensor]
    shape = info.tensor.shape
    xs = feed.region[-1] if len(shape) >= 3 else range(1)
    ys = feed.region[-2] if len(shape) >= 4 else range(1)
    rows = np.zeros((len(ys), len(xs), info.columns), values.dtype)
    there = np.zeros((len(ys), len(xs)), bool)
    if noise:
        rows[:] = _noise(state, feed.tensor, noise)[:1]
    inner_y, outer_y = _shared(window.ys, ys)
    inner_x, outer_x = _shared(window.xs, xs)
    mask = window.mask[inner_y, inner_x]
    found = values.reshape(*window.mask.shape, -1)[inner_y, inner_x]
    if window.columns is None:
        rows[outer_y, outer_x][mask] = found[mask]
    else:
        part = rows[outer_y, outer_x][mask]
        part[:, window.columns] = found[mask]
        rows[outer_y, outer_x][mask] = part
    there[outer_y, outer_x] = mask
    if recipe.exact and not there.all():
        y, x = (int(v[0]) for v in np.nonzero(~there))
        raise Fault(
            "value",
            "it needs a position that is not in the window that it reads",
            element=f"position (row {ys[y]}, column {xs[x]}) of '{feed.tensor}'",
            cause="the window that it reads is too small",
        )
    extents = list(shape)
    extents[2:] = [*shape[2:-2], len(ys), len(xs)][-len(shape[2:]) :] if len(shape) > 2 else []
    data = state.machine.array_of(feed.tensor, rows.reshape(len(ys) * len(xs), info.columns), extents)
    return _chosen(data, feed.region)


def _shared(have: Array, wanted: range) -> tuple[slice, slice]:
    """The positions that a window and a region share, within the one and within the other."""
    lo, hi = max(int(have[0]), wanted.start), min(int(have[-1]) + 1, wanted.stop)
    hi = max(lo, hi)
    return slice(lo - int(have[0]), hi - int(have[0])), slice(lo - wanted.start, hi - wanted.start)


def _chosen(data: Array, region: Sequence[Sequence[int]]) -> Array:
    """What a region has of the axes of batch, channels and time."""
    last = max(2, data.ndim - 2)
    for axis, span in enumerate(region[:last]):
        if span != range(data.shape[axis]):
            data = np.take(data, list(span), axis=axis)
    return np.ascontiguousarray(data)


def _noise(state: TileState, tensor: str, seed: int) -> Array:
    """Numbers that no one should depend on, as raw rows."""
    info = state.machine.maps[tensor]
    rng = np.random.default_rng(seed)
    one = (*info.tensor.shape[:2], *(1 for _ in info.tensor.shape[2:]))
    data = rng.integers(1, 100, one).astype(info.dtype)
    rows = state.machine.rows_of(tensor, data)
    return np.resize(rows, (1, info.columns))
