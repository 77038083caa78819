"""What one tile computes of each map of its stack, and what earlier tiles left of it: regions to scale."""

# matplotlib's own types are incomplete
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfc.backend_cost.schedule import MadeEntry, Schedule
from dfc.errors import UsageError
from dfc.figure_draw import COLOURS, box, colour_key, picture
from dfc.figure_memory import chosen_class
from dfc.report_table import clean, shorten

if TYPE_CHECKING:
    from dfc.figure_draw import Axes, Figure

_COMPUTED, _FETCHED, _COLUMNS, _ROWS = COLOURS[2], COLOURS[3], COLOURS[1], COLOURS[6]
#: maps beside each other
_ACROSS = 6


@dataclass(frozen=True, slots=True)
class TileRegions:
    """The maps of a stack in the order in which a tile of a class makes or fetches them."""

    model: str
    stack: int
    tile_class: int
    tiles: int
    tile: tuple[int, int]
    overlap: str
    maps: tuple[MadeEntry, ...]


def tile_regions(schedule: Schedule, place: str, stack: int | None, tile_class: int | None) -> TileRegions:
    """What to draw: of the stack with most layers and its class with most tiles, unless others are named.

    Raises:
        UsageError: CLI074.
    """
    number, which = chosen_class(schedule, place, stack, tile_class)
    found = schedule.stacks[number]
    one = found.tile_classes[which]
    maps = tuple(made for layer in one.layers for made in layer.makes)
    if not maps:
        hint = "choose another with --stack"
        raise UsageError("CLI074", f"the layers of stack {number} are not modelled", place=place, hint=hint)
    return TileRegions(schedule.model.name, number, which, one.count, found.tile, found.overlap, maps)


def region_rows(found: TileRegions) -> list[dict[str, str | int | float | None]]:
    """The regions as rows of a table, in positions."""
    return [
        {
            "map": made.tensor,
            "fetched": int(made.fetched),
            "width": made.extents[0],
            "height": made.extents[1],
            "kept_columns": made.left[0],
            "kept_rows": made.left[1],
            "map_width": made.map[0],
            "map_height": made.map[1],
        }
        for made in found.maps
    ]


def regions(found: TileRegions, kind: str) -> bytes:
    """A panel per map, all to one scale."""
    across = min(_ACROSS, len(found.maps))
    down = -(-len(found.maps) // across)
    width = max(m.extents[0] + m.left[0] for m in found.maps)
    height = max(m.extents[1] + m.left[1] for m in found.maps)
    shape = min(3.0, max(0.6, height / max(1, width)))

    def draw(figure: Figure) -> None:
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for axes, made in zip(panels, found.maps, strict=False):
            _panel(axes, made, (width, height))
        for axes in panels[len(found.maps) :]:
            axes.axis("off")
        shown = {
            "computed by this tile": _COMPUTED,
            "fetched for this tile": _FETCHED,
            "columns that earlier tiles left": _COLUMNS,
            "rows that earlier tiles left": _ROWS,
        }
        colour_key(figure, shown, 2)
        tile = f"{found.tile[0]}x{found.tile[1]} {found.overlap}"
        count = f"{found.tiles:,} tile{'s' if found.tiles > 1 else ''}"
        where = f"stack {found.stack}, {tile}, class {found.tile_class} ({count})"
        figure.suptitle(f"What a tile computes, and what it finds: {clean(found.model)}\n{where}\n")

    return picture((1.0 + 1.9 * across, 1.9 + down * (0.9 + 1.5 * shape)), kind, draw)


def _panel(axes: Axes, made: MadeEntry, most: tuple[int, int]) -> None:
    (x, y), (columns, rows) = made.extents, made.left
    for left, top, wide, high, colour in (
        (0, rows, columns, y, _COLUMNS),
        (0, 0, columns + x, rows, _ROWS),
        (columns, rows, x, y, _FETCHED if made.fetched else _COMPUTED),
    ):
        if wide and high:
            box(axes, (left, top), (wide, high), colour)
    kept = f"\nkept {columns} columns, {rows} rows" if columns or rows else ""
    axes.set_title(f"{shorten(clean(made.tensor), 18)}\n{x}x{y} of {made.map[0]}x{made.map[1]}{kept}", fontsize=8.5)
    axes.set_xlim(-0.5, most[0] + 0.5)
    axes.set_ylim(most[1] + 0.5, -0.5)  # rows run downwards, as in a picture
    axes.set_aspect("equal", adjustable="box")
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
