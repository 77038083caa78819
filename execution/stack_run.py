"""One stack: its tiles in their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from dfc.backend_cost.schedule import BufferEntry, StackEntry, TileClassEntry
from dfc.execution.counting import check_nest
from dfc.execution.fault import Fault, Where
from dfc.execution.layout import AxisLayout, MapLayout, Steps, axis_layout, line_buffers
from dfc.execution.machine import Machine
from dfc.execution.memory import Array, Rows, read, write
from dfc.execution.programs import Programs
from dfc.execution.tile_run import Counts, Watch, run_tile
from dfc.execution.tile_state import TileState
from dfc.ir import Axis


class StackRun:
    """A stack of a schedule, ready to run."""

    def __init__(self, machine: Machine, network: Programs, number: int, stack: StackEntry):
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
        y, x = self._axis(tensor, Axis.Y), self._axis(tensor, Axis.X)
        lines = line_buffers(self.stack, tensor)
        for line in lines:
            self._check_line(line, tensor)
        lasting = next((b for b in self.stack.buffers if (b.what, b.name) == ("map", tensor)), None)
        return MapLayout(tensor, self.machine.grid(tensor), *((y, x) if turned else (x, y)), turned, *lines, lasting)

    def _axis(self, tensor: str, axis: Axis) -> AxisLayout:
        """The layout of a map along one axis. A step over time is walked along the other."""
        time, across = self.machine.graph.time, Axis.Y if self.stack.order == "rows" else Axis.X
        if time is not None and time is not across:
            raise Fault("file", f"tiles follow each other along {time.name}, which is time", cause="another order")
        tiles = self.stack.rows if axis is Axis.Y else self.stack.columns
        info, place = self.machine.maps[tensor], 0 if axis is Axis.Y else 1
        steps = Steps(info.past[place], self.machine.step) if axis is time else None
        return axis_layout(tiles, tensor, info.extents[place], steps=steps)

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

    def check_nests(self) -> None:
        """Loop nests are those of their layers.

        Raises:
            Fault: where one is not; ``where`` says which.
        """
        for run in (run for tile in self.stack.tile_classes for run in tile.layers):
            if run.nest is not None and run.layer in self.network.layers:
                self.where = Where(self.number, layer=run.layer)
                check_nest(run, run.nest, self.network.layers[run.layer], self.network.graph)

    @property
    def sweeps(self) -> int:
        """How many rows of tiles there are, or columns where these come first."""
        return len(self.stack.rows if self.stack.order == "rows" else self.stack.columns)

    # --- running

    def begin(self) -> None:
        """Memories on chip hold nothing but whole maps that stay from the stack before, and what stays for steps."""
        inside = [name for name in self.machine.images if name != self.machine.outside]
        self.machine.forget(inside, [*(b for b in self.stack.buffers if b.what == "map"), *self.machine.lasting])

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
                rows = self.machine.rows_of(name, truth[name])
                for _, hi, kept in layout.across.made[:sweep]:
                    if kept < hi:
                        self._leave(layout, rows, np.arange(kept, hi))

    def _leave(self, layout: MapLayout, rows: Array, across: Rows, lasting: BufferEntry | None = None) -> None:
        """Put positions across the walk where they wait: in the line buffer, if they do, and in a whole map that stays.

        ``rows`` are those of the whole map.
        """
        info = self.machine.maps[layout.tensor]
        along = np.arange(layout.whole[0 if layout.turned else 1])
        ys, xs = (along, across) if layout.turned else (across, along)
        numbers = info.numbers(ys, xs)
        places = [] if lasting is None else [(lasting, layout.grid.rows(ys[:, None], xs, ring=True))]
        if layout.line_across is not None and layout.across.rank[across].min() >= 0:
            places.append((layout.line_across, layout.across_rows(along, across)))
        for buffer, there in places:
            there = np.broadcast_to(there, (len(ys), len(xs))).ravel()
            write(self.machine.map_place(layout.tensor, buffer), there, rows[numbers], info.tags_at(numbers))

    # --- steps over time

    def begin_steps(self, kept: Mapping[str, Array]) -> None:
        """Put what earlier steps left where it stays: resident weights, and the pasts of maps (``kept`` with them).

        Raises:
            Fault: where something has no room, or weights have no place off chip that the first step loads them from.
        """
        for b in self.stack.buffers:
            if b.what == "weights" and b.steps:
                source = self.machine.off_chip("weights", b.name)
                if source is None:
                    raise Fault("file", f"weights of '{b.name}' stay in {b.memory}, and have no place off chip")
                rows = np.arange(len(self.machine.weight_tags(b.name)))
                write(self.machine.weight_place(b), rows, *read(self.machine.weight_place(source), rows))
        for name, layout in self.layouts.items():
            if max(layout.grid.past):
                rows = self.machine.rows_of(name, kept[name])
                for position in range(max(layout.grid.past)):  # the oldest first: in a ring newer ones replace them
                    self._leave(layout, rows, np.array([position]), layout.lasting)
