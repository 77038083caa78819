"""Copies between memories, as a schedule lists them: each moves what its name says, and as many bits as it says."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dfc.backend_cost.schedule import BufferEntry, CopyEntry, ReadEntry
from dfc.execution.fault import Fault
from dfc.execution.layout import TileMap, window_pieces
from dfc.execution.memory import EMPTY, read, write
from dfc.execution.tile_state import TileState, Window

#: copies of what streams through memories on the way to the array: no buffer holds it
STREAMED = frozenset({"constants", "opaque input", "opaque weights", "opaque output"})


def execute(state: TileState, copy: CopyEntry, windows: Mapping[str, Window]) -> None:
    """Make a copy; ``windows`` are those of the layer.

    Raises:
        Fault: where what it moves does not lie there, has no room, or has another size.
    """
    if copy.what in STREAMED:
        return
    if copy.what == "weights":
        _copy_weights(state, copy)
    elif copy.tensor not in state.layouts:
        raise Fault("file", f"a copy of '{copy.tensor}', of which the stack knows nothing")
    elif copy.what in ("input", "output", "write H cache", "write V cache"):
        _copy_own(state, copy)
    elif copy.what in ("feature map", "read H cache", "read V cache"):
        if copy.tensor not in windows:
            raise Fault("file", f"a copy '{copy.what}' of '{copy.tensor}', which the layer does not read")
        _copy_window(state, copy, windows[copy.tensor])
    else:
        raise Fault("file", f"nobody knows copies called '{copy.what}'")


def _moved(copy: CopyEntry, bits: int) -> None:
    if bits != copy.bits:
        raise Fault(
            "count",
            f"the copy '{copy.what}' of '{copy.tensor}' from {copy.source} to {copy.target} has {copy.bits:,} bits, "
            f"what is to be copied {bits:,}",
            cause="a copy is too small or too large",
        )


def _copy_weights(state: TileState, copy: CopyEntry) -> None:
    source = state.machine.off_chip("weights", copy.tensor)
    target = state.weights_in(copy.tensor, copy.target)
    if source is None or target is None or copy.source != source.memory:
        raise Fault(
            "file",
            f"the weights of '{copy.tensor}' are copied from {copy.source} to {copy.target}, where they have no place",
            cause="a buffer for weights is missing, or lies in another memory",
        )
    count = len(state.machine.weight_tags(copy.tensor))
    _moved(copy, count * state.machine.weight_bits)
    values, tags = read(state.machine.weight_place(source), np.arange(count))
    write(state.machine.weight_place(target), np.arange(count), values, tags)


def _copy_own(state: TileState, copy: CopyEntry) -> None:
    """What this tile made or fetched: from off chip, off chip, or into a cache."""
    here = state.maps.get(copy.tensor)
    whole = state.machine.off_chip("map", copy.tensor)
    inside, outside = (copy.target, copy.source) if copy.what == "input" else (copy.source, copy.target)
    if here is None or here.memory != inside:
        what = f"'{copy.tensor}' is copied ({copy.what}) with {inside}, and does not lie there"
        raise Fault("file", what, cause="a copy has a wrong source or target, or comes too early")
    if copy.what.startswith("write"):
        _copy_to_cache(state, copy, here)
        return
    if whole is None or outside != whole.memory:
        what = f"'{copy.tensor}' is copied ({copy.what}) with {outside}, where it has no place"
        raise Fault("file", what, cause="a copy has a wrong source or target")
    if copy.what == "input":
        _fetch(state, copy, here, whole)
    else:
        _hand_out(state, copy, here, whole)


def _fetch(state: TileState, copy: CopyEntry, here: TileMap, whole: BufferEntry) -> None:
    info = state.machine.maps[copy.tensor]
    (y0, y1), (x0, x1) = here.spans
    positions = (y1 - y0) * (x1 - x0)
    columns = None
    if copy.bits != positions * info.columns * state.machine.map_bits:
        layer = state.network.layers[state.layer]
        columns, _ = state.columns(layer, ReadEntry(copy.tensor, copy.bits, 0, 0), positions)
    for piece in here.pieces:
        ys, xs = np.nonzero(piece.mask)
        source = here.layout.grid.rows(ys + y0, xs + x0, ring=False)
        values, tags = read(state.place(copy.tensor, whole), source)
        if columns is not None:
            left = np.ones(info.columns, bool)
            left[columns] = False
            tags[:, left] = EMPTY
        write(state.place(copy.tensor, piece.buffer), piece.rows, values, tags)


def _hand_out(state: TileState, copy: CopyEntry, here: TileMap, whole: BufferEntry) -> None:
    info = state.machine.maps[copy.tensor]
    (y0, y1), (x0, x1) = here.layout.own(*state.at)
    ys, xs = np.arange(y0, y1), np.arange(x0, x1)
    _moved(copy, len(ys) * len(xs) * info.columns * state.machine.map_bits)
    for piece in window_pieces(here.layout, here, state.at, ys, xs):
        if piece.part == "fresh":
            values, tags = read(state.place(copy.tensor, piece.buffer), piece.rows)
            at = np.nonzero(piece.mask)
            target = here.layout.grid.rows(ys[at[0]], xs[at[1]], ring=False)
            write(state.place(copy.tensor, whole), target, values, tags)


def _copy_to_cache(state: TileState, copy: CopyEntry, here: TileMap) -> None:
    layout = here.layout
    across_name = state.cache_names[1]
    which = "across" if copy.what == f"write {across_name}" else "along"
    line = layout.line_across if which == "across" else layout.line_along
    if line is None or line.memory != copy.target:
        what = f"'{copy.tensor}' is copied ({copy.what}) to {copy.target}, where it has no cache"
        raise Fault("file", what, cause="a cache is missing, or lies in another memory")
    mask = here.kept_parts()[0 if which == "across" else 1]
    info = state.machine.maps[copy.tensor]
    _moved(copy, int(mask.sum()) * info.columns * state.machine.map_bits)
    rows = here.line_rows(which)
    for piece in here.pieces:
        chosen = piece.mask & mask
        if chosen.any():
            values, tags = read(state.place(copy.tensor, piece.buffer), piece.rows[mask[piece.mask]])
            write(state.place(copy.tensor, line), rows[chosen], values, tags)


def _copy_window(state: TileState, copy: CopyEntry, window: Window) -> None:
    """Into the copy that a layer reads: what this tile made, or what lies in one of the caches."""
    across = state.cache_names[1]
    part = {"feature map": "fresh", f"read {across}": "across"}.get(copy.what, "along")
    target = state.find("window", copy.tensor, copy.target)
    if target is None or copy.target != window.memory:
        what = f"'{copy.tensor}' is copied ({copy.what}) to {copy.target}, where no copy of it has room"
        raise Fault("file", what, cause="a copy has a wrong target, or a buffer is missing")
    away = window.away()
    number = np.cumsum(away.ravel()).reshape(away.shape) - 1
    moved = 0
    for piece in window.pieces:
        if piece.part != part:
            continue
        home = state.maps[copy.tensor].memory if part == "fresh" and copy.tensor in state.maps else None
        if copy.source != (home or piece.buffer.memory):
            what = f"'{copy.tensor}' is copied ({copy.what}) from {copy.source}, and lies in {piece.buffer.memory}"
            raise Fault("file", what, cause="a copy has a wrong source")
        chosen = piece.mask & window.mask
        values, tags = read(state.place(copy.tensor, piece.buffer), piece.rows[window.mask[piece.mask]], window.columns)
        if chosen.any() and piece.buffer.memory != window.memory:
            write(state.place(copy.tensor, target, window.width), number[chosen], values, tags)
            moved += len(values)
    _moved(copy, moved * window.width * state.machine.map_bits)
