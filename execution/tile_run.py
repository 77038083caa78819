"""One tile of a stack: its layers and copies in the order of the file, on the contents of the memories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from dfc.backend_cost.schedule import BufferEntry, CopyEntry, TileLayer
from dfc.execution.copying import execute
from dfc.execution.fault import Fault
from dfc.execution.kernel import compute
from dfc.execution.layout import Span, TileMap
from dfc.execution.memory import EMPTY, Array, mark, read, write
from dfc.execution.tile_state import TileState, Window
from dfc.ir import Layer, Role

#: told of each region (y, x) of a map that a layer computed
Watch = Callable[[TileState, str, tuple[Span, Span], Array], None]


@dataclass
class Counts:
    """What was counted while tiles ran.

    positions: computed, by layer. copies: how often, by (layer, source, target, bits). tiles: how many ran.
    """

    positions: dict[str, int] = field(default_factory=dict[str, int])
    copies: dict[tuple[str, CopyEntry], int] = field(default_factory=dict[tuple[str, CopyEntry], int])
    tiles: int = 0


def run_tile(state: TileState, counts: Counts, watch: Watch | None = None) -> None:
    """All layers of a tile.

    Raises:
        Fault: at the first thing that does not work; ``state`` says where.
    """
    counts.tiles += 1
    for run in state.tile.layers:
        state.layer = run.layer
        if run.layer not in state.stack.layers:
            raise Fault("file", f"the class runs layer '{run.layer}', which is none of the stack's")
        step = state.stack.layers.index(run.layer)
        if step < state.step:
            raise Fault("file", "the class does not run the stack's layers in their order")
        state.step = step
        for b in state.tile.buffers:  # what gets its room now holds nothing yet
            if b.first == run.layer:
                state.machine.images[b.memory].overwrite(b, EMPTY)
        _run(state, run, counts, watch)
    _all_made(state)


def _all_made(state: TileState) -> None:
    """Each layer made what the tile's column and row ask for."""
    for name in state.stack.layers:
        layer = state.network.layers[name]
        (y0, y1), (x0, x1) = state.spans(layer)
        if (y1 - y0) * (x1 - x0) and layer.output not in state.maps:
            state.layer = name
            raise Fault("file", "the class does not run it, and the column and row of the tile ask for it")


def _run(state: TileState, run: TileLayer, counts: Counts, watch: Watch | None) -> None:
    layer = state.network.layers[run.layer]
    for copy in run.copies:
        key = (run.layer, copy)
        counts.copies[key] = counts.copies.get(key, 0) + 1
    if run.nest is None:
        _unmodelled(state, run, layer, watch)
        return
    for made in run.makes:
        if made.fetched:
            state.check_made(made)
            state.maps[made.tensor] = here = state.tile_map(made)
            _wait_off_chip(state, here)
    windows = {entry.tensor: state.window(layer, entry) for entry in run.reads}
    for copy in run.copies:
        if not copy.after:
            execute(state, copy, windows)
    _layer(state, run, layer, windows, watch)
    for copy in run.copies:
        if copy.after:
            execute(state, copy, windows)
    (y0, y1), (x0, x1) = state.spans(layer)
    counts.positions[run.layer] = counts.positions.get(run.layer, 0) + (y1 - y0) * (x1 - x0)


def _layer(state: TileState, run: TileLayer, layer: Layer, windows: Mapping[str, Window], watch: Watch | None) -> None:
    made = next((m for m in run.makes if not m.fetched), None)
    if made is None or made.tensor != layer.output:
        raise Fault("file", f"the class does not say that the layer makes '{layer.output}'")
    missing = {s.tensor for s in layer.sources} - windows.keys()
    if missing:
        raise Fault("file", f"the class does not say that the layer reads '{min(missing)}'")
    state.check_made(made)
    out = state.tile_map(made)
    _overwritten(state, run, layer, out)
    values = {name: state.checked(window) for name, window in windows.items()}
    _check_weights(state, run, layer)
    result = compute(state, layer, windows, values)
    if watch is not None:
        watch(state, made.tensor, out.spans, result)
    _overwritten(state, run, layer, None)
    _store(state, out, result)
    _overwritten(state, run, layer, None)
    state.maps[made.tensor] = out


def _overwritten(state: TileState, run: TileLayer, layer: Layer, out: TileMap | None) -> None:
    """What the layer's loops keep, and what it writes, overwrites what lay there before it has read everything.

    Loops also overwrite afterwards: nothing may lie where they keep theirs.
    """
    tags = state.machine.overwriters
    for b in state.tile.buffers:
        if b.what == "loops" and b.first == b.last == run.layer:
            name = f"what the loops of '{run.layer}' keep of {b.name}"
            state.machine.images[b.memory].overwrite(b, tags.tag(name))
    for piece in out.pieces if out is not None else ():
        mark(state.place(layer.output, piece.buffer), piece.rows, tags.tag(f"the output of '{layer.name}'"))


def _store(state: TileState, out: TileMap, result: Array) -> None:
    """Write what a layer computed where it lies."""
    name = out.layout.tensor
    (y0, y1), (x0, x1) = out.spans
    rows = state.machine.rows_of(name, result)
    tags = state.machine.maps[name].tags(np.arange(y0, y1), np.arange(x0, x1))
    for piece in (*out.pieces, *(out.straight if out.whole is not None else ())):
        chosen = np.nonzero(piece.mask.ravel())[0]
        write(state.place(name, piece.buffer), piece.rows, rows[chosen], tags[chosen])


def _wait_off_chip(state: TileState, here: TileMap) -> None:
    """What a tile reads off chip in place, and what of it waits off chip: it is there already, nothing copies it."""
    if here.whole is None:
        return
    name = here.layout.tensor
    (source,) = here.pieces
    for piece in here.straight:
        values, tags = read(state.place(name, source.buffer), source.rows[piece.mask.ravel()])
        write(state.place(name, piece.buffer), piece.rows, values, tags)


def _check_weights(state: TileState, run: TileLayer, layer: Layer) -> None:
    """The layer's constants lie where it reads them."""
    if not layer.weight_elements:
        return
    place = _weights_of(state, run, layer)
    if place is None:
        cause = "a buffer for weights is missing, or lies in another memory"
        raise Fault("data", f"it reads weights in {run.memories.get('W')}, where they have no place", cause=cause)
    wrong = state.machine.wrong_weight(layer.name, place)
    if wrong is not None:
        at, found = wrong
        raise Fault(
            "data",
            f"it reads its weights in {place.memory}, and finds {state.machine.contents(found)}",
            element=f"weight {at:,} of layer '{layer.name}'",
            cause="weights come too late or not at all" if found == EMPTY else "buffers overlap",
        )


def _weights_of(state: TileState, run: TileLayer, layer: Layer) -> BufferEntry | None:
    """Where a layer reads its constants: in the memory of its operand W; without one, where they stay or off chip."""
    outside = state.machine.off_chip("weights", layer.name)
    if any(o.role is Role.W and not o.constant for o in layer.inputs):
        return outside  # another layer computes its weights: these are its other constants
    memory = run.memories.get("W")
    if memory is None:
        return next((b for b in state.stack.buffers if (b.what, b.name) == ("weights", layer.name)), outside)
    return outside if memory == state.machine.outside else state.weights_in(layer.name, memory)


def _unmodelled(state: TileState, run: TileLayer, layer: Layer, watch: Watch | None) -> None:
    """A layer that is not modelled, or a view, runs as a whole off chip; what computes nothing in this tile rests."""
    for copy in run.copies:
        execute(state, copy, {})
    if run.extents == (0, 0):
        return
    machine = state.machine
    feeds: dict[str, Array] = {}
    program = state.network.program(layer.name)
    recipe = program.whole()
    for feed in recipe.feeds:
        buffer = machine.off_chip("map", feed.tensor)
        if buffer is None:
            raise Fault("file", f"it reads '{feed.tensor}' off chip, where it has no place")
        data, tags = machine.whole_map(feed.tensor, buffer)
        machine.expect(feed.tensor, tags)
        feeds[feed.name] = data
    for name, data in zip(layer.outputs, state.network.compute(program, recipe, feeds), strict=True):
        buffer = machine.off_chip("map", name)
        if buffer is not None:
            machine.load_map(name, buffer, data)
        if watch is not None:
            y, x = machine.maps[name].extents
            watch(state, name, ((0, y), (0, x)), data)
        state.maps[name] = TileMap(state.layouts[name], *state.at, machine.outside, None, buffer)
