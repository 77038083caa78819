"""Where the positions of a map lie, as the file's rules say (docs/schedule-format.md).

They are in the tile's own part of the map, in the line buffers along and across the walk, or in the whole map.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dfc.backend_cost.schedule import AxisEntry, BufferEntry, StackEntry
from dfc.execution.fault import Fault
from dfc.execution.memory import Array, Rows

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Steps:
    """A map along the time axis of a step: how many of its first positions earlier steps made, and how many there were.

    ``number`` is that of this step; every step makes as many new positions, behind those of the one before.
    """

    past: int
    number: int


@dataclass(frozen=True)
class WholeMap:
    """How a whole map lies in a buffer, row by row.

    Of a step over time, off chip that is what this step makes (or is given). On chip the past is there as well, and the
    lines along time are a ring: what this step makes takes the place of the oldest.

    extents, past: (y, x) positions, and of these how many earlier steps made. step: how many of them there were.
    """

    extents: tuple[int, int]
    past: tuple[int, int] = (0, 0)
    step: int = 0

    @property
    def made(self) -> tuple[int, int]:
        """(y, x) extents of what is made."""
        return self.extents[0] - self.past[0], self.extents[1] - self.past[1]

    def rows(self, ys: Rows, xs: Rows, *, ring: bool) -> Rows:
        """Rows of the buffer of positions; ``ys`` and ``xs`` broadcast."""
        height, width = self.made
        if not ring:
            return np.asarray((ys - self.past[0]) * width + (xs - self.past[1]))
        lines, columns = self.extents
        return np.asarray((ys + self.step * height) % lines * columns + (xs + self.step * width) % columns)


@dataclass(frozen=True)
class AxisLayout:
    """A map along one axis of tiles.

    made:   per tile the positions [from, to) that it makes, and from where on they wait for later tiles.
    rank:   per position how many positions before it wait at all; -1 where it does not wait itself. Those that earlier
            steps made count, from one step on that is earlier than all of them.
    group:  per position that waits, how many tiles before the one that made it leave something; -1 elsewhere.
    inside: per position that waits, its place among those of its tile.
    """

    made: tuple[tuple[int, int, int], ...]
    own: tuple[Span, ...]
    rank: Rows
    group: Rows
    inside: Rows


def axis_layout(tiles: tuple[AxisEntry, ...], tensor: str, extent: int, *, steps: Steps | None = None) -> AxisLayout:
    """The layout of a map along one axis; ``steps`` where that is time.

    Raises:
        Fault: where the file names positions that the map does not have.
    """
    made, own = _shares(tiles, tensor, extent)
    _shared_out(tensor, own, made, extent, 0 if steps is None else steps.past)
    group, inside = np.full(extent, -1, np.int64), np.full(extent, -1, np.int64)
    groups = 0
    for _, hi, kept in made:
        if hi > kept:
            group[kept:hi], inside[kept:hi] = groups, np.arange(hi - kept)
            groups += 1
    waits = group >= 0
    rank = np.where(waits, np.cumsum(waits) - 1, -1)
    if steps is None:
        return AxisLayout(tuple(made), tuple(own), rank, group, inside)
    before, there = _steps_before(tensor, made, extent, steps)
    ever = waits[there]
    rank = np.where(ever, before * int(waits.sum()) + rank[there], -1)
    group = np.where(ever, before * groups + group[there], -1)
    return AxisLayout(tuple(made), tuple(own), rank, group, np.where(ever, inside[there], -1))


def _steps_before(tensor: str, made: list[tuple[int, int, int]], extent: int, steps: Steps) -> tuple[Rows, Rows]:
    """(the number of the step that made each position, which position it was there), from the first that matters on."""
    new = extent - steps.past
    first = min((lo for lo, hi, _ in made if hi > lo), default=steps.past)
    last = max((hi for lo, hi, _ in made if hi > lo), default=extent)
    if (first, last) != (steps.past, extent):
        wanted = f"it has to make those from {steps.past} to {extent}"
        what = f"a step makes positions {first} to {last} of '{tensor}'; {wanted}"
        raise Fault("file", what, cause="the past of the map, or what is made of it, is wrong")
    positions = np.arange(extent)
    ago = np.maximum(0, -((positions - steps.past) // max(1, new)))
    return steps.number + -(-extent // max(1, new)) - ago, positions + ago * new


def _shares(tiles: tuple[AxisEntry, ...], tensor: str, extent: int) -> tuple[list[tuple[int, int, int]], list[Span]]:
    """What each tile makes of a map and keeps, and what of it is its own."""
    made: list[tuple[int, int, int]] = []
    own: list[Span] = []
    for tile in tiles:
        if tensor not in tile.makes:
            raise Fault("file", f"a column or row of tiles does not say what it makes of '{tensor}'")
        lo, hi, kept, own_lo, own_hi = tile.makes[tensor]
        if not (0 <= lo <= kept <= hi <= extent and 0 <= own_lo <= own_hi <= extent):
            what = f"positions {lo} to {hi}, kept from {kept} on, of '{tensor}', which has {extent}"
            raise Fault("file", what, cause="a column or row of tiles is damaged")
        made.append((lo, hi, kept))
        own.append((own_lo, own_hi))
    return made, own


def _shared_out(tensor: str, own: list[Span], made: list[tuple[int, int, int]], extent: int, past: int) -> None:
    """Of a stack's output, tiles hand out each position behind the past once, and none that they do not make."""
    handed = [span for span in own if span[1] > span[0]]
    if not handed:
        return
    ends = [past, *(hi for _, hi in handed)]
    inside = all(lo == hi or (m[0] <= lo and hi <= m[1]) for (lo, hi), m in zip(own, made, strict=True))
    if [lo for lo, _ in handed] != ends[:-1] or ends[-1] != extent or not inside:
        cause = "what a column or row of tiles hands out is wrong, or they are in another order"
        what = f"tiles do not hand out each of the {extent - past} positions of '{tensor}' once"
        raise Fault("file", what, cause=cause)


@dataclass(frozen=True)
class MapLayout:
    """A map of a stack: along the walk (the next tile) and across it (the next row of tiles).

    turned: whether the walk goes along Y (columns of tiles) and not along X.
    """

    tensor: str
    grid: WholeMap
    along: AxisLayout
    across: AxisLayout
    turned: bool
    line_along: BufferEntry | None
    line_across: BufferEntry | None
    lasting: BufferEntry | None = None

    @property
    def whole(self) -> tuple[int, int]:
        """Extents (y, x)."""
        return self.grid.extents

    def oriented(self, along: Array, across: Array) -> tuple[Array, Array]:
        """Numbers along and across the walk as two arrays that broadcast to [y, x]."""
        return (along[:, None], across[None, :]) if self.turned else (along[None, :], across[:, None])

    def tile_of(self, column: int, row: int) -> tuple[int, int]:
        """(tile along, tile across) of a column and a row."""
        return (row, column) if self.turned else (column, row)

    def spans(self, column: int, row: int) -> tuple[Span, Span]:
        """(y, x) positions that a tile makes."""
        a, b = self.tile_of(column, row)
        along, across = self.along.made[a][:2], self.across.made[b][:2]
        return (along, across) if self.turned else (across, along)

    def own(self, column: int, row: int) -> tuple[Span, Span]:
        """(y, x) positions that a tile hands out of a stack's output."""
        a, b = self.tile_of(column, row)
        return (self.along.own[a], self.across.own[b]) if self.turned else (self.across.own[b], self.along.own[a])

    def across_rows(self, along: Rows, across: Rows) -> Rows:
        """Rows of the line buffer across the walk, as [y, x]."""
        line = self.line_across
        assert line is not None
        p = self.oriented(along, across)[0]
        if line.skewed:
            start = self.oriented(along, self.across.group[across])[1] * self.whole[0 if self.turned else 1]
            inside = self.oriented(along, self.across.inside[across])[1]
            return (start + p) % max(1, line.length) * line.lines + inside
        rank: Rows = self.oriented(along, self.across.rank[across])[1]
        found: Rows = rank % max(1, line.lines) * line.length + p
        return found

    def along_rows(self, along: Rows, across: Rows, row: int) -> Rows:
        """Rows of the line buffer along the walk, as [y, x], while a row of tiles is walked."""
        line = self.line_along
        assert line is not None
        a = self.oriented(along, across)[1]
        rank: Rows = self.oriented(self.along.rank[along], across)[0]
        found: Rows = rank % max(1, line.lines) * line.length + (a - self.across.made[row][0])
        return found


@dataclass(frozen=True)
class Piece:
    """Positions of a window of a map that lie in one buffer.

    part:  "fresh" (this tile made or fetched them), "across" or "along" (earlier tiles did).
    mask:  which positions of the window, as [y, x]; ``rows`` are their rows in the buffer, in order.
    """

    part: str
    buffer: BufferEntry
    mask: Array
    rows: Rows


@dataclass
class TileMap:
    """A map in one tile: what it made or fetched of it, and where that lies."""

    layout: MapLayout
    column: int
    row: int
    memory: str
    plain: BufferEntry | None
    whole: BufferEntry | None
    _places: list[Piece] = field(init=False)

    def __post_init__(self) -> None:
        self._places = list(self._fresh())

    @property
    def spans(self) -> tuple[Span, Span]:
        """(y, x) positions that the tile makes."""
        return self.layout.spans(self.column, self.row)

    @property
    def pieces(self) -> list[Piece]:
        """Where each position that the tile makes lies."""
        return self._places

    def _fresh(self) -> list[Piece]:
        layout = self.layout
        (y0, y1), (x0, x1) = self.spans
        ys, xs = np.arange(y0, y1), np.arange(x0, x1)
        everywhere = np.ones((len(ys), len(xs)), bool)
        if self.whole is not None:
            rows = layout.grid.rows(ys[:, None], xs, ring=self.whole is layout.lasting)
            return [Piece("fresh", self.whole, everywhere, rows.ravel())]
        found = self.straight
        for piece in found:
            everywhere = everywhere & ~piece.mask
        if everywhere.any():
            if self.plain is None:
                raise Fault(
                    "file",
                    f"the tile makes {int(everywhere.sum()):,} positions of '{layout.tensor}' in {self.memory}, "
                    "and no buffer is kept for them",
                    cause="a buffer of the tile class is missing, or lies in another memory",
                )
            found.append(Piece("fresh", self.plain, everywhere, np.arange(int(everywhere.sum()))))
        return found

    @property
    def straight(self) -> list[Piece]:
        """What waits for later tiles in the memory in which the tile leaves the map: it goes there at once."""
        if self.layout.lasting is not None:
            return []
        found: list[Piece] = []
        lines = (self.layout.line_across, self.layout.line_along)
        for which, mask, line in zip(("across", "along"), self.kept_parts(), lines, strict=True):
            if line is not None and line.memory == self.memory and mask.any():
                found.append(Piece("fresh", line, mask, self.line_rows(which)[mask]))
        return found

    @property
    def _tile(self) -> tuple[int, int]:
        return self.layout.tile_of(self.column, self.row)

    def _turned(self, ys: Rows, xs: Rows) -> tuple[Rows, Rows]:
        return (ys, xs) if self.layout.turned else (xs, ys)

    def kept_parts(self) -> tuple[Array, Array]:
        """Of what the tile makes, as [y, x]: what later rows of tiles need, and what of the rest the next tiles do."""
        a, b = self._tile
        lo_a, hi_a, kept_a = self.layout.along.made[a]
        lo_b, hi_b, kept_b = self.layout.across.made[b]
        along, across = self.layout.oriented(np.arange(lo_a, hi_a) >= kept_a, np.arange(lo_b, hi_b) >= kept_b)
        shape = np.broadcast_shapes(along.shape, across.shape)
        return np.broadcast_to(across, shape), np.broadcast_to(along & ~across, shape)

    def line_rows(self, which: str) -> Rows:
        """Rows in a line buffer of what the tile makes, as [y, x]."""
        (y0, y1), (x0, x1) = self.spans
        along, across = self._turned(np.arange(y0, y1), np.arange(x0, x1))
        found = (
            self.layout.across_rows(along, across)
            if which == "across"
            else self.layout.along_rows(along, across, self._tile[1])
        )
        return np.broadcast_to(found, (y1 - y0, x1 - x0))


def window_pieces(layout: MapLayout, here: TileMap | None, tile: tuple[int, int], ys: Rows, xs: Rows) -> list[Piece]:
    """Where the positions of a window lie; those that lie nowhere are in none of the pieces.

    ``here`` is what the tile (column, row) made or fetched of the map.
    """
    whole = layout.lasting
    if whole is not None:
        rows = layout.grid.rows(ys[:, None], xs, ring=True)
        return [Piece("fresh", whole, np.ones((len(ys), len(xs)), bool), rows.ravel())]
    a, b = layout.tile_of(*tile)
    lo_a, hi_a, _ = layout.along.made[a]
    lo_b, hi_b, kept_b = layout.across.made[b]
    along, across = (ys, xs) if layout.turned else (xs, ys)
    new_a, new_b = layout.oriented((along >= lo_a) & (along < hi_a), (across >= lo_b) & (across < hi_b))
    fresh = new_a & new_b
    earlier = (across < lo_b) | (lo_b == hi_b)  # made by an earlier row of tiles; a row may make nothing at all
    row_line = layout.oriented(along, earlier | ((across >= kept_b) & (kept_b < hi_b)))[1]
    old_rows = ~fresh & row_line
    found = _fresh_window(here, fresh, ys, xs) if here is not None else []
    found += _old(layout, "across", old_rows & _waits(layout, across, along, "across"), along, across, b)
    found += _old(layout, "along", ~fresh & ~row_line & _waits(layout, across, along, "along"), along, across, b)
    return found


def _waits(layout: MapLayout, across: Rows, along: Rows, which: str) -> Array:
    """Whether a position waits at all in a line buffer."""
    if which == "across":
        return layout.oriented(along, layout.across.rank[across] >= 0)[1]
    return layout.oriented(layout.along.rank[along] >= 0, across)[0]


def _old(layout: MapLayout, which: str, mask: Array, along: Rows, across: Rows, row: int) -> list[Piece]:
    line = layout.line_across if which == "across" else layout.line_along
    if line is None or not mask.any():
        return []
    rows = layout.across_rows(along, across) if which == "across" else layout.along_rows(along, across, row)
    return [Piece(which, line, mask, np.broadcast_to(rows, mask.shape)[mask])]


def _fresh_window(here: TileMap, fresh: Array, ys: Rows, xs: Rows) -> list[Piece]:
    """The part of a window that the tile itself made."""
    (y0, y1), (x0, x1) = here.spans
    number = np.full((y1 - y0, x1 - x0), -1, np.int64)
    found: list[Piece] = []
    inside_y, inside_x = (ys >= y0) & (ys < y1), (xs >= x0) & (xs < x1)
    if not (inside_y.any() and inside_x.any()):
        return []
    for piece in here.pieces:
        number[:] = -1
        number[piece.mask] = piece.rows
        part = np.full(fresh.shape, -1, np.int64)
        part[np.ix_(inside_y, inside_x)] = number[np.ix_(ys[inside_y] - y0, xs[inside_x] - x0)]
        mask = fresh & (part >= 0)
        if mask.any():
            found.append(Piece("fresh", piece.buffer, mask, part[mask]))
    return found


def line_buffers(stack: StackEntry, tensor: str) -> tuple[BufferEntry | None, BufferEntry | None]:
    """The line buffers of a map (along, across) the walk."""
    names = ("H cache", "V cache") if stack.order == "rows" else ("V cache", "H cache")
    along, across = (next((b for b in stack.buffers if (b.what, b.name) == (what, tensor)), None) for what in names)
    return along, across
