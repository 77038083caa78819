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


def check_cover(stack: StackEntry, number: int) -> Iterator[Violation]:
    """Tiles make each map as a whole: each position once where overlap is kept, else at least once."""
    positions: dict[str, int] = {}
    whole: dict[str, set[int]] = {}
    for index, _, made in _made(stack):
        if not made.fetched:
            area = stack.tile_classes[index].count * made.extents[0] * made.extents[1]
            positions[made.tensor] = positions.get(made.tensor, 0) + area
            whole.setdefault(made.tensor, set()).add(made.map[0] * made.map[1])
    once = stack.overlap == "cached" or stack.tiles == 1
    for name, area in positions.items():
        if len(whole[name]) > 1 or area < max(whole[name]) or (once and area > max(whole[name])):
            what = f"tiles make {area:,} positions of '{name}', which has {max(whole[name]):,}"
            yield Violation(what, 0, number)
