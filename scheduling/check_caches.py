"""The caches of a stack: are they as large as their layout, and the layout as large as what tiles leave in them?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dfc.backend_cost.schedule import BufferEntry, MadeEntry, StackEntry
from dfc.scheduling.check_tile import Violation


@dataclass(frozen=True, slots=True)
class Left:
    """What a tile does with a cache of a map, in positions; the cache's own direction first, then its length's.

    stored: lines that it leaves; ``before`` those that earlier tiles left, for it or for later ones.
    length: positions of such a line; ``back`` how far before them this tile still reads the line.
    """

    tile_class: int
    layer: str
    stored: int
    before: int
    length: int
    back: int
    left_bits: int


def check_caches(stack: StackEntry, number: int) -> Iterator[Violation]:
    """All caches of a stack."""
    across, along = ("V cache", "H cache") if stack.order == "rows" else ("H cache", "V cache")
    for name in dict.fromkeys(made.tensor for _, _, made in _made(stack)):
        for what, found in ((across, _across(stack, name)), (along, _along(stack, name))):
            tiles = list(found)
            buffers = [b for b in stack.buffers if (b.what, b.name) == (what, name)]
            if any(tile.left_bits for tile in tiles) and len(buffers) != 1:
                yield Violation(f"'{name}' needs one {what} and has {len(buffers)}", 0, number)
            for buffer in buffers:
                for text, bits, where in _ring(stack, buffer, tiles, what == across):
                    tile_class, layer = (where.tile_class, where.layer) if where else (-1, "")
                    yield Violation(f"{what} of '{name}': {text}", bits, number, tile_class, layer, buffer.memory)


def _made(stack: StackEntry) -> Iterator[tuple[int, str, MadeEntry]]:
    for index, tile in enumerate(stack.tile_classes):
        for run in tile.layers:
            for made in run.makes:
                yield index, run.layer, made


def _turned(stack: StackEntry, made: MadeEntry) -> tuple[tuple[int, int], tuple[int, int], int, int]:
    """(extents, what is left before them) as [along, across] the walk; bits for the cache along and across it."""
    if stack.order == "rows":
        return made.extents, made.left, made.h_cache_bits, made.v_cache_bits
    (x, y), (left_x, left_y) = made.extents, made.left
    return (y, x), (left_y, left_x), made.v_cache_bits, made.h_cache_bits


def _across(stack: StackEntry, name: str) -> Iterator[Left]:
    """Of the cache across the walk: what a row of tiles leaves for the next."""
    each = position_bits(stack, name)
    for index, layer, made in _made(stack):
        if made.tensor == name:
            (along, _), (back, before), _, bits = _turned(stack, made)
            yield Left(index, layer, bits // max(1, each * along), before, along, back, bits)


def _along(stack: StackEntry, name: str) -> Iterator[Left]:
    """Of the cache along the walk: what a tile leaves for the next one, save for what goes into the other cache."""
    each = position_bits(stack, name)
    for index, layer, made in _made(stack):
        if made.tensor == name:
            (along, over), (before, _), bits, others = _turned(stack, made)
            length = over - others // max(1, each * along)
            yield Left(index, layer, bits // max(1, each * length), before, length, 0, bits)


def position_bits(stack: StackEntry, name: str) -> int:
    """Bits of one position of a map."""
    each = [
        m.bits // (m.extents[0] * m.extents[1]) for _, _, m in _made(stack) if m.tensor == name and min(m.extents) > 0
    ]
    return max(each, default=0)


def _ring(
    stack: StackEntry, buffer: BufferEntry, tiles: list[Left], across: bool
) -> Iterator[tuple[str, int, Left | None]]:
    """What is wrong with a cache's layout: text, bits that are missing, where."""
    each = position_bits(stack, buffer.name)
    need = buffer.lines * buffer.length * each
    if buffer.bits < need:
        yield (
            f"{buffer.lines} x {buffer.length} positions take {need:,} bits, it has {buffer.bits:,}",
            need - buffer.bits,
            None,
        )
    longest = whole_along(stack, buffer.name) if across else 0
    if buffer.skewed:  # of the row before from where this tile still reads, and of this row up to where this tile ends
        longest += max((tile.back + tile.length for tile in tiles), default=0)
    if buffer.length < longest:
        missing = (longest - buffer.length) * buffer.lines * each
        yield f"its lines have {buffer.length} positions, a row of tiles asks for {longest}", missing, None
    for tile in tiles:
        lines = max(tile.stored, tile.before) if buffer.skewed else tile.stored + tile.before
        over = (lines - buffer.lines) * tile.length * each
        if lines > buffer.lines:
            yield f"it has {buffer.lines} lines, {tile.before} wait and {tile.stored} are added", over, tile
        if tile.stored and tile.length > buffer.length:
            over = (tile.length - buffer.length) * tile.stored * each
            yield f"its lines have {buffer.length} positions, a tile leaves {tile.length}", over, tile
        if buffer.skewed and not {tile.stored, tile.before} <= {0, buffer.lines}:
            yield "it is skewed, and tiles leave lines of several numbers", 0, tile


def whole_along(stack: StackEntry, name: str) -> int:
    """The map's extent along the walk."""
    return max(
        (made.map[0 if stack.order == "rows" else 1] for _, _, made in _made(stack) if made.tensor == name), default=0
    )


#: by mode, whether columns and rows that two tiles need are kept
_KEEPS = {
    "recompute": (False, False),
    "h-cached": (True, False),
    "v-cached": (False, True),
    "cached": (True, True),
}


def _mode(stack: StackEntry, name: str) -> str:
    return stack.overlap_by_map.get(name, "") if stack.overlap == "mixed" else stack.overlap


def check_cover(stack: StackEntry, number: int) -> Iterator[Violation]:
    """Tiles make each map as a whole: each position once where overlap is kept, else at least once."""
    positions: dict[str, int] = {}
    lines: dict[str, tuple[int, int]] = {}  # the sums of all tiles' columns, and of their rows
    whole: dict[str, set[tuple[int, int]]] = {}
    for index, _, made in _made(stack):
        if not made.fetched:
            (x, y), count = made.extents, stack.tile_classes[index].count
            positions[made.tensor] = positions.get(made.tensor, 0) + count * x * y
            before = lines.get(made.tensor, (0, 0))
            lines[made.tensor] = before[0] + count * x, before[1] + count * y
            whole.setdefault(made.tensor, set()).add(made.map)
    columns, rows = (-(-stack.map[axis] // max(1, stack.tile[axis])) for axis in (0, 1))
    for name, area in positions.items():
        (width, height), keeps = max(whole[name]), _KEEPS.get(_mode(stack, name), (False, False))
        once = all(keeps) or stack.tiles == 1
        if len(whole[name]) > 1 or area < width * height or (once and area > width * height):
            yield Violation(f"tiles make {area:,} positions of '{name}', which has {width * height:,}", 0, number)
        for kept, what, found, most in zip(
            keeps, ("columns", "rows"), lines[name], (width * rows, height * columns), strict=True
        ):
            if kept and found > most:
                yield Violation(f"tiles make {what} of '{name}' again that they are said to keep", 0, number)


def check_modes(stack: StackEntry, number: int) -> Iterator[Violation]:
    """A map has caches only along the axes along which its mode keeps overlap."""
    known = {made.tensor for _, _, made in _made(stack)}
    for name in (*known, *stack.overlap_by_map):
        mode = _mode(stack, name)
        if mode not in _KEEPS or (name not in known and known):
            yield Violation(f"nobody knows the overlap mode '{mode}' of '{name}'", 0, number)
    for index, layer, made in _made(stack):
        mode = _mode(stack, made.tensor)
        for kept, what, bits in zip(
            _KEEPS.get(mode, (True, True)), ("H cache", "V cache"), (made.h_cache_bits, made.v_cache_bits), strict=True
        ):
            if bits and not kept:
                text = f"{bits:,} bits of '{made.tensor}' go into the {what}, and its mode is '{mode}'"
                yield Violation(text, bits, number, index, layer)
