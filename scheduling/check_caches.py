"""The caches of a stack: are they as large as their layout, and the layout as large as what tiles leave in them?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dfc.backend_cost.schedule import BufferEntry, MadeEntry, StackEntry
from dfc.scheduling.check_tile import Violation


@dataclass(frozen=True, slots=True)
class Left:
    """What tiles of a class leave of a map in one cache, and what they read from it; sizes as [along, across] the walk.

    ``stored`` lines of positions in the cache's own direction, each ``length`` positions long.
    """

    tile_class: int
    layer: str
    count: int
    extents: tuple[int, int]
    stored: int
    length: int
    left_bits: int
    read_bits: int


def check_caches(stack: StackEntry, number: int) -> Iterator[Violation]:
    """All caches of a stack."""
    for name in dict.fromkeys(made.tensor for made in _made(stack)):
        across, along = ("V cache", "H cache") if stack.order == "rows" else ("H cache", "V cache")
        for what in (across, along):
            buffers = [b for b in stack.buffers if (b.what, b.name) == (what, name)]
            tiles = list(_left(stack, name, what, across))
            used = any(tile.left_bits or tile.read_bits for tile in tiles)
            if used and len(buffers) != 1:
                yield Violation(f"'{name}' needs one {what} and has {len(buffers)}", 0, number)
            for buffer in buffers:
                for text, bits, where in _ring(stack, buffer, tiles, what == across):
                    tile_class, layer = (where.tile_class, where.layer) if where else (-1, "")
                    yield Violation(f"{what} of '{name}': {text}", bits, number, tile_class, layer, buffer.memory)


def _made(stack: StackEntry) -> Iterator[MadeEntry]:
    for tile in stack.tile_classes:
        for run in tile.layers:
            yield from run.makes


def _left(stack: StackEntry, name: str, what: str, across: str) -> Iterator[Left]:
    rows = stack.order == "rows"
    for index, tile in enumerate(stack.tile_classes):
        reads = [read for run in tile.layers for read in run.reads if read.tensor == name]
        read_bits = max((r.h_cache_bits if what == "H cache" else r.v_cache_bits for r in reads), default=0)
        for run in tile.layers:
            for made in run.makes:
                if made.tensor != name:
                    continue
                x, y = made.extents
                along, over = (x, y) if rows else (y, x)
                of_along, of_across = made.h_cache_bits, made.v_cache_bits
                if not rows:
                    of_along, of_across = of_across, of_along
                each = made.bits // max(1, x * y)
                lines_across = of_across // max(1, each * along)
                if what == across:
                    yield Left(index, run.layer, tile.count, (along, over), lines_across, along, of_across, read_bits)
                else:
                    length = over - lines_across
                    lines = of_along // max(1, each * length)
                    yield Left(index, run.layer, tile.count, (along, over), lines, length, of_along, read_bits)


def position_bits(stack: StackEntry, name: str) -> int:
    """Bits of one position of a map."""
    each = [made.bits // (made.extents[0] * made.extents[1]) for made in _made(stack) if made.tensor == name]
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
    if buffer.skewed:
        longest += max((tile.extents[0] for tile in tiles), default=0)
    if buffer.length < longest:
        missing = (longest - buffer.length) * buffer.lines * each
        yield f"its lines have {buffer.length} positions, a row of tiles asks for {longest}", missing, None
    for tile in tiles:
        if tile.stored > buffer.lines or (tile.stored and tile.length > buffer.length):
            text = f"a tile leaves {tile.stored} x {tile.length} positions, it has {buffer.lines} x {buffer.length}"
            yield text, max(0, tile.left_bits - buffer.bits), tile
        if not buffer.skewed and tile.read_bits + tile.left_bits > buffer.bits:
            over = tile.read_bits + tile.left_bits - buffer.bits
            yield "what a tile reads and what it leaves do not fit together", over, tile


def whole_along(stack: StackEntry, name: str) -> int:
    """The map's extent along the walk as far as it can be told: each tile makes its own part where overlap is kept.

    All rows of tiles have the same columns, so a sum over tiles counts the extent once per row.
    """
    rows = stack.order == "rows"
    axis = 0 if rows else 1
    most, total = 0, 0
    for tile in stack.tile_classes:
        for run in tile.layers:
            for made in run.makes:
                if made.tensor == name:
                    most = max(most, made.extents[axis])
                    total += made.extents[axis] * tile.count
    kept = stack.overlap in ("cached", "h-cached" if rows else "v-cached")
    others = -(-stack.map[1 - axis] // max(1, stack.tile[1 - axis]))
    return max(most, -(-total // others)) if kept else most
