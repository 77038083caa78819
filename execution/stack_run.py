"""One stack: its tiles in their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from dfc.backend_cost.schedule import BufferEntry, NestEntry, StackEntry, TileClassEntry, TileLayer
from dfc.execution.fault import Fault, Where
from dfc.execution.layout import MapLayout, axis_layout, line_buffers
from dfc.execution.machine import Machine
from dfc.execution.memory import Array, write
from dfc.execution.network import Network
from dfc.execution.tile_run import Counts, Watch, run_tile
from dfc.execution.tile_state import TileState


class StackRun:
    """A stack of a schedule, ready to run."""

    def __init__(self, machine: Machine, network: Network, number: int, stack: StackEntry):
        """Raises Fault where columns and rows of tiles contradict the maps or the classes."""
        self.machine = machine
        self.network = network
        self.number = number
        self.stack = stack
        self.where = Where(number)
        self.layouts: dict[str, MapLayout] = {name: self._layout(name) for name in self._names()}
        self.classes = self._classes()
        self.ran: dict[int, int] = {}
        self.numbers = {id(tile): n for n, tile in enumerate(stack.tile_classes)}

    def _names(self) -> list[str]:
        axes = (*self.stack.columns, *self.stack.rows)
        names = list(dict.fromkeys(name for axis in axes for name in axis.makes))
        unknown = [name for name in names if name not in self.machine.maps]
        if unknown:
            raise Fault("file", f"the stack's tiles make '{unknown[0]}', which the model lacks")
        for layer in self.stack.layers:
            missing = [name for name in self.network.layers[layer].outputs if name not in names]
            if missing:
                raise Fault("file", f"the stack does not say what its tiles make of '{missing[0]}'")
        return names

    def _layout(self, tensor: str) -> MapLayout:
        turned = self.stack.order != "rows"
        extents = self.machine.maps[tensor].extents
        y, x = axis_layout(self.stack.rows, tensor, extents[0]), axis_layout(self.stack.columns, tensor, extents[1])
        lines = line_buffers(self.stack, tensor)
        for line in lines:
            self._check_line(line, tensor)
        lasting = next((b for b in self.stack.buffers if (b.what, b.name) == ("map", tensor)), None)
        return MapLayout(tensor, extents, *((y, x) if turned else (x, y)), turned, *lines, lasting)

    def _check_line(self, line: BufferEntry | None, tensor: str) -> None:
        """A cache is as large as its layout."""
        each = self.machine.maps[tensor].columns * self.machine.map_bits
        if line is not None and line.lines * line.length * each != line.bits:
            what = f"{line.what} of '{tensor}' has {line.bits:,} bits, {line.lines} x {line.length} positions have"
            raise Fault("file", f"{what} {line.lines * line.length * each:,}", cause="a cache's layout is wrong")

    def _classes(self) -> Mapping[tuple[int, int, bool], TileClassEntry]:
        found: dict[tuple[int, int, bool], TileClassEntry] = {}
        for tile in self.stack.tile_classes:
            key = (*tile.kinds, tile.first)
            if key in found:
                raise Fault("file", f"two tile classes are of column kind {tile.kinds[0]} and row kind {tile.kinds[1]}")
            found[key] = tile
        return found

    def class_of(self, column: int, row: int) -> TileClassEntry:
        """The class of a tile.

        Raises:
            Fault: where there is none.
        """
        kinds = self.stack.columns[column].kind, self.stack.rows[row].kind
        found = self.classes.get((*kinds, column == row == 0))
        if found is None:
            raise Fault("file", f"no tile class is of column kind {kinds[0]} and row kind {kinds[1]}")
        return found

    def tiles(self, rows: set[int] | None = None) -> Iterator[tuple[int, int]]:
        """(column, row) of the tiles in order; ``rows`` are some rows of tiles (columns, where these come first)."""
        columns, lines = range(len(self.stack.columns)), range(len(self.stack.rows))
        if self.stack.order == "rows":
            yield from ((c, r) for r in lines if rows is None or r in rows for c in columns)
        else:
            yield from ((c, r) for c in columns if rows is None or c in rows for r in lines)

    def nests(self) -> Iterator[tuple[TileLayer, NestEntry]]:
        """All loop nests with their layers."""
        for tile in self.stack.tile_classes:
            yield from (
                (run, run.nest) for run in tile.layers if run.nest is not None and run.layer in self.network.layers
            )

    @property
    def sweeps(self) -> int:
        """How many rows of tiles there are, or columns where these come first."""
        return len(self.stack.rows if self.stack.order == "rows" else self.stack.columns)

    # --- running

    def begin(self) -> None:
        """Memories on chip hold nothing but whole maps that stay from the stack before."""
        inside = [name for name in self.machine.images if name != self.machine.outside]
        self.machine.forget(inside, [b for b in self.stack.buffers if b.what == "map"])

    def run(self, counts: Counts, watch: Watch | None = None, sweeps: set[int] | None = None) -> None:
        """All tiles, or those of some rows.

        Raises:
            Fault: at the first thing that does not work; ``where`` says where.
        """
        self.where = Where(self.number)
        self.ran = {}
        for column, row in self.tiles(sweeps):
            self.where = Where(self.number, column, row)
            tile = self.class_of(column, row)
            number = self.numbers[id(tile)]
            self.ran[number] = self.ran.get(number, 0) + 1
            state = TileState(self.machine, self.network, self.number, self.stack, tile, (column, row), self.layouts)
            try:
                run_tile(state, counts, watch)
            finally:
                self.where = state.where
        self.where = Where(self.number)
        if sweeps is None:
            self._check_counts()

    def _check_counts(self) -> None:
        for number, tile in enumerate(self.stack.tile_classes):
            found = self.ran.get(number, 0)
            if found != tile.count:
                what = (
                    f"{tile.count:,} tiles are of column kind {tile.kinds[0]} and row kind {tile.kinds[1]} by the file"
                )
                raise Fault("count", f"{what}, {found:,} by its columns and rows", cause="a wrong number of tiles")
        ran = sum(self.ran.values())
        if ran != self.stack.tiles:
            raise Fault("count", f"the stack has {self.stack.tiles:,} tiles by the file, {ran:,} ran")

    # --- samples

    def prepare_sweep(self, sweep: int, truth: Mapping[str, Array]) -> None:
        """Put what earlier rows of tiles left into the line buffers across the walk, and weights into place."""
        self.begin()
        for b in self.stack.buffers:
            if b.what == "weights":
                self.machine.load_weights(b.name, b)
        for name, layout in self.layouts.items():
            if layout.line_across is not None and name in truth:
                self._fill(name, layout, truth[name], sweep)

    def _fill(self, name: str, layout: MapLayout, truth: Array, sweep: int) -> None:
        line = layout.line_across
        assert line is not None
        info = self.machine.maps[name]
        rows = self.machine.rows_of(name, truth)
        along = np.arange(layout.whole[0 if layout.turned else 1])
        for _, hi, kept in layout.across.made[:sweep]:
            across = np.arange(kept, hi)
            if len(across):
                places = layout.across_rows(along, across)
                ys, xs = (along, across) if layout.turned else (across, along)
                positions = (ys[:, None] * info.extents[1] + xs).ravel()
                place = self.machine.map_place(name, line)
                write(
                    place, np.broadcast_to(places, (len(ys), len(xs))).ravel(), rows[positions], info.tags_at(positions)
                )
