"""One tile of a stack while it runs: where its maps lie, and what a layer reads of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dfc.backend_cost.schedule import BufferEntry, MadeEntry, ReadEntry, StackEntry, TileClassEntry
from dfc.execution.fault import Fault, Where
from dfc.execution.layout import MapLayout, Piece, Span, TileMap, window_pieces
from dfc.execution.machine import Machine
from dfc.execution.memory import EMPTY, Array, Place, Rows, read
from dfc.execution.programs import Programs
from dfc.frontend.layer_program import Recipe
from dfc.ir import Axis, Interval, Layer, Source
from dfc.passes.axis_tiles import touched


@dataclass(frozen=True)
class Window:
    """What a layer reads of a map in this tile: a box of positions, which of them, and how many columns of each.

    columns: numbers of the columns that are read; None for all.
    gaps:    whether positions between them are left out along time.
    """

    tensor: str
    ys: Rows
    xs: Rows
    mask: Array
    pieces: tuple[Piece, ...]
    columns: Rows | None
    width: int
    memory: str
    gaps: bool = False

    def away(self) -> Array:
        """The positions that lie in other memories than the one in which the layer reads."""
        found = np.zeros(self.mask.shape, bool)
        for piece in self.pieces:
            if piece.buffer.memory != self.memory:
                found |= piece.mask & self.mask
        return found


@dataclass(frozen=True, slots=True)
class _Read:
    """What a layer reads along one axis: a stretch of positions, and those of it that it really reads."""

    stretch: Span
    read: Rows

    @property
    def has_gaps(self) -> bool:
        """Whether it leaves any out."""
        return len(self.read) < self.stretch[1] - self.stretch[0]


@dataclass
class TileState:
    """One tile (column, row) of a stack: ``maps`` are those that it has made or fetched so far."""

    machine: Machine
    network: Programs
    number: int
    stack: StackEntry
    tile: TileClassEntry
    at: tuple[int, int]
    layouts: Mapping[str, MapLayout]
    maps: dict[str, TileMap] = field(default_factory=dict[str, TileMap])
    layer: str = ""
    step: int = 0

    @property
    def where(self) -> Where:
        """Where the run is."""
        return Where(self.number, *self.at, self.layer)

    @property
    def cache_names(self) -> tuple[str, str]:
        """What the line buffers along and across the walk are called."""
        return ("H cache", "V cache") if self.stack.order == "rows" else ("V cache", "H cache")

    def spans(self, layer: Layer) -> tuple[Span, Span]:
        """(y, x) positions that a layer makes."""
        return self.layouts[layer.output].spans(*self.at)

    def region(self, tensor: str, spans: tuple[Span, Span]) -> tuple[range, ...]:
        """(y, x) positions on the axes that the model gives the tensor."""
        found = [range(extent) for extent in self.network.model.shape(tensor)]
        for axis, span in zip(self.network.axes.places(len(found)), spans, strict=True):
            if axis is not None:
                found[axis] = range(*span)
        return tuple(found)

    def recipe(self, layer: Layer) -> Recipe:
        """How the layer computes its region."""
        return self.network.program(layer.name).recipe(self.region(layer.output, self.spans(layer)))

    def check_made(self, made: MadeEntry) -> None:
        """The extents that a class names are those of the tile's column and row."""
        if made.tensor not in self.layouts:
            raise Fault("file", f"the tile makes '{made.tensor}', of which the stack knows nothing")
        (y0, y1), (x0, x1) = self.layouts[made.tensor].spans(*self.at)
        if (x1 - x0, y1 - y0) != made.extents:
            raise Fault(
                "file",
                f"the class makes {made.extents[0]}x{made.extents[1]} positions of '{made.tensor}', its column and row "
                f"say {x1 - x0}x{y1 - y0}",
                cause="the tile is of another class, or a column or row of tiles is damaged",
            )

        layout = self.layouts[made.tensor]
        a, b = layout.tile_of(*self.at)
        (lo_a, hi_a, kept_a), (lo_b, hi_b, kept_b) = layout.along.made[a], layout.across.made[b]
        each = self.machine.maps[made.tensor].columns * self.machine.map_bits
        across, along = (hi_a - lo_a) * (hi_b - kept_b), (hi_a - kept_a) * (kept_b - lo_b)
        h, v = (along, across) if self.stack.order == "rows" else (across, along)
        said = (made.bits, made.h_cache_bits, made.v_cache_bits)
        if said != ((hi_a - lo_a) * (hi_b - lo_b) * each, h * each, v * each):
            raise Fault(
                "count",
                f"of '{made.tensor}' it makes {said[0]:,} bits by the file, of which {said[1]:,} go into the H cache "
                f"and {said[2]:,} into the V cache; its column and row say {(hi_a - lo_a) * (hi_b - lo_b) * each:,}, "
                f"{h * each:,} and {v * each:,}",
                cause="what a tile keeps for later ones is wrong",
            )

    def tile_map(self, made: MadeEntry) -> TileMap:
        """A map that the tile makes or fetches, and where."""
        layout = self.layouts[made.tensor]
        whole = layout.lasting
        if whole is not None and whole.memory != made.memory:
            what = f"'{made.tensor}' stays in {whole.memory} as a whole, and the tile makes it in {made.memory}"
            raise Fault("file", what, cause="a map lies in another memory")
        if whole is None and made.memory == self.machine.outside:
            whole = self.machine.off_chip("map", made.tensor)
        plain = self.find("map", made.tensor, made.memory)
        return TileMap(layout, *self.at, made.memory, plain, whole)

    # --- buffers

    def find(self, what: str, name: str, memory: str) -> BufferEntry | None:
        """The tile's buffer of a kind and name in a memory, if it is there now."""
        return next(
            (b for b in self.tile.buffers if (b.what, b.name, b.memory) == (what, name, memory) and self.is_alive(b)),
            None,
        )

    def is_alive(self, b: BufferEntry) -> bool:
        """Whether a buffer has room now."""
        if not b.first and not b.last:
            return True
        names = self.stack.layers
        return b.first in names and b.last in names and names.index(b.first) <= self.step <= names.index(b.last)

    def place(self, tensor: str, buffer: BufferEntry, columns: int | None = None) -> Place:
        """Positions of a map in a buffer.

        Raises:
            Fault: where the buffer is not there now.
        """
        if not self.is_alive(buffer):
            raise Fault(
                "data",
                f"{buffer.what} '{buffer.name}' in {buffer.memory} is used, and has room from '{buffer.first}' to "
                f"'{buffer.last}' alone",
                cause="the buffer ends too early or begins too late",
            )
        return self.machine.map_place(tensor, buffer, columns)

    def weights_in(self, layer: str, memory: str) -> BufferEntry | None:
        """Where a layer's weights stay in a memory."""
        return next((b for b in self.stack.buffers if (b.what, b.name, b.memory) == ("weights", layer, memory)), None)

    # --- what a layer reads

    def window(self, layer: Layer, entry: ReadEntry) -> Window:
        """What the layer reads of a map, and where it lies."""
        tensor = entry.tensor
        if tensor not in self.layouts:
            raise Fault("file", f"it reads '{tensor}', of which the stack knows nothing")
        boxes = [box for box in self._boxes(layer, tensor) if all(len(one.read) for one in box)]
        ys, xs = (_hull([box[axis].stretch for box in boxes]) for axis in (0, 1))
        mask = np.zeros((len(ys), len(xs)), bool)
        read = [np.unique(np.concatenate([box[axis].read for box in boxes])) for axis in (0, 1) if boxes]
        if read:
            mask[np.ix_(read[0] - ys[0], read[1] - xs[0])] = True
        pieces = tuple(window_pieces(self.layouts[tensor], self.maps.get(tensor), self.at, ys, xs))
        columns, width = self.columns(layer, entry, int(mask.sum()))
        gaps = any(one.has_gaps for box in boxes for one in box)
        window = Window(tensor, ys, xs, mask, pieces, columns, width, entry.memory, gaps)
        self._check_read(entry, window)
        return window

    def _boxes(self, layer: Layer, tensor: str) -> Iterator[tuple[_Read, _Read]]:
        """(y, x) positions of each of the layer's reads of a map, checked against what the layer needs.

        Along time a window with gaps has those positions alone that the layer reads.
        """
        axes = self.stack.rows[self.at[1]], self.stack.columns[self.at[0]]
        entries = [axis.reads.get(layer.name, ()) for axis in axes]
        if any(len(one) != len(layer.sources) for one in entries):
            raise Fault("file", f"the column or row of tiles does not say what '{layer.name}' reads")
        spans = self.spans(layer)
        for source, y, x in zip(layer.sources, *entries, strict=True):
            if source.tensor != tensor:
                continue
            yield (
                self._along(layer, source, Axis.Y, Interval(*spans[0]), y),
                self._along(layer, source, Axis.X, Interval(*spans[1]), x),
            )

    def _along(
        self, layer: Layer, source: Source, axis: Axis, out: Interval, said: tuple[str, int, int, int, int]
    ) -> _Read:
        """What a layer reads of a source along an axis; ``said`` is the same by the file."""
        tensor, axis_map = source.tensor, source.maps[axis]
        size = self.machine.graph.tensors[tensor].spatial[axis]
        need = axis_map.needs(out, size)
        want = (tensor, need.lo, need.hi, axis_map.padding_before(out), axis_map.padding_after(out, size))
        if tuple(said) != want:
            raise Fault(
                "file",
                f"along {axis.name} it reads positions {said[1]} to {said[2]} of '{said[0]}' with {said[3]} "
                f"and {said[4]} of padding; it needs {want[1]} to {want[2]} of '{tensor}' with {want[3]} and "
                f"{want[4]}",
                cause="a halo, a stride or the padding of a column or row of tiles is wrong",
            )
        read: Sequence[int] = range(need.lo, need.hi)
        if axis is self.machine.graph.time:
            read = touched(layer, axis_map, axis, out, size)
        return _Read((need.lo, need.hi), np.asarray(read, np.int64))

    def columns(self, layer: Layer, entry: ReadEntry, positions: int) -> tuple[Rows | None, int]:
        """(numbers of the columns that are read, how many): all, or those of the channels that the layer needs."""
        info = self.machine.maps[entry.tensor]
        bits = entry.fresh_bits + entry.h_cache_bits + entry.v_cache_bits + entry.held_bits
        full = info.columns
        if bits == positions * full * self.machine.map_bits:
            return None, full
        needed = self._channels(layer, entry.tensor)
        tensor = info.tensor
        t = tensor.spatial[Axis.T]
        columns = np.asarray(
            [(n * tensor.channels + c) * t + k for n in range(tensor.batch) for c in needed for k in range(t)], np.int64
        )
        if bits != positions * len(columns) * self.machine.map_bits:
            raise Fault(
                "count",
                f"it reads {bits:,} bits of '{entry.tensor}' by the file; {positions:,} positions of {full} elements "
                f"are {positions * full * self.machine.map_bits:,}",
                cause="the amounts of the class are not those of its windows",
            )
        return columns, len(columns)

    def _channels(self, layer: Layer, tensor: str) -> list[int]:
        """The channels that the layer needs of a map."""
        recipe = self.recipe(layer)
        found: set[int] = set()
        for feed in recipe.feeds:
            if feed.tensor == tensor and len(feed.region) >= 2:
                found |= set(feed.region[1] if feed.channels is None else feed.channels)
        return sorted(found) or list(range(self.machine.maps[tensor].tensor.channels))

    def _check_read(self, entry: ReadEntry, window: Window) -> None:
        """The amounts that the class names are those of the window."""
        along, across = self.cache_names
        each = window.width * self.machine.map_bits
        counted = {"fresh": 0, "across": 0, "along": 0}
        lies = np.zeros(window.mask.shape, bool)
        for piece in window.pieces:
            counted[piece.part] += int((piece.mask & window.mask).sum())
            lies |= piece.mask
        missing = window.mask & ~lies
        if missing.any():
            y, x = (int(v[0]) for v in np.nonzero(missing))
            raise Fault(
                "data",
                "it reads what no tile has made yet, or what no cache keeps",
                element=f"position (row {window.ys[y]}, column {window.xs[x]}) of '{entry.tensor}'",
                cause="tiles run in another order, or a tile makes or keeps less than later ones read",
            )
        said = {
            "fresh": entry.fresh_bits + entry.held_bits,
            "across": entry.v_cache_bits if across == "V cache" else entry.h_cache_bits,
            "along": entry.h_cache_bits if across == "V cache" else entry.v_cache_bits,
        }
        if self.layouts[entry.tensor].lasting is not None:  # it is read in place, whoever made what of it
            said, counted = ({"fresh": sum(amounts.values())} for amounts in (said, counted))
        for part, name in (("fresh", "this tile's own part"), ("across", across), ("along", along)):
            if part not in said:
                continue
            if counted[part] * each != said[part]:
                raise Fault(
                    "count",
                    f"it reads {said[part]:,} bits of '{entry.tensor}' out of {name} by the file, "
                    f"{counted[part] * each:,} by its window",
                    cause="the amounts of the class are not those of its windows",
                )

    def _rows(self, window: Window) -> tuple[Array, Array]:
        """(values, tags) of a window's box as [position, column]; what is not read is nothing."""
        count = window.mask.size
        image = self.machine.images[self.machine.outside]  # all have the same types
        values = np.zeros((count, window.width), image.values.dtype)
        tags = np.full((count, window.width), EMPTY, image.tags.dtype)
        away = window.away()
        number = np.cumsum(away.ravel()).reshape(away.shape) - 1
        copy = self.find("window", window.tensor, window.memory) if away.any() else None
        for piece in window.pieces:
            chosen = window.mask & piece.mask
            if not chosen.any():
                continue
            flat = np.nonzero(chosen.ravel())[0]
            if piece.buffer.memory == window.memory:
                rows = piece.rows[window.mask[piece.mask]]
                values[flat], tags[flat] = read(self.place(window.tensor, piece.buffer), rows, window.columns)
            elif copy is None:
                raise Fault(
                    "data",
                    f"'{window.tensor}' is read in {window.memory}, where no copy of it has room",
                    cause="a buffer of the tile class is missing, or lies in another memory",
                )
            else:
                values[flat], tags[flat] = read(self.place(window.tensor, copy, window.width), number[chosen])
        return values, tags

    def checked(self, window: Window) -> Array:
        """The values of a window's box, each proved to be the element that it should be."""
        values, tags = self._rows(window)
        wanted = self.machine.maps[window.tensor].tags(window.ys, window.xs, window.columns)
        wrong = (tags != wanted) & window.mask.ravel()[:, None]
        if wrong.any():
            at = np.unravel_index(int(wrong.argmax()), wrong.shape)
            self._lost(int(wanted[at]), int(tags[at]), window, int(at[0]))
        return values

    def _lost(self, wanted: int, found: int, window: Window, position: int) -> None:
        y, x = divmod(position, len(window.xs))
        piece = next(p for p in window.pieces if p.mask[y, x])
        here = piece.buffer.memory == window.memory
        source = f"{piece.buffer.what} '{piece.buffer.name}' in {piece.buffer.memory}"
        place = source if here else f"the copy of it in {window.memory}, from {source}"
        raise Fault(
            "data",
            f"it reads '{window.tensor}' out of {place}, and finds {self.machine.contents(found)}",
            element=self.machine.maps[window.tensor].element(wanted),
            cause=self._cause(found, piece, here),
        )

    def _cause(self, found: int, piece: Piece, here: bool) -> str:
        if found == EMPTY and not here:
            return "a copy is missing, too small or comes too late"
        if found == EMPTY:
            return "it was not written there, or nothing copied it there"
        if self.machine.is_old(found):
            return "the ring buffer has too few lines, or they are in another order"
        if found < EMPTY:
            return "buffers overlap that are alive at the same time"
        if piece.buffer.lines:
            return "the cache is too small or its lines are wrong, or tiles run in another order"
        return "two buffers overlap, or one was filled with another part"


def _hull(parts: list[Span]) -> Rows:
    """All positions from the first of any part to the last."""
    return np.arange(min((lo for lo, _ in parts), default=0), max((hi for _, hi in parts), default=0))
