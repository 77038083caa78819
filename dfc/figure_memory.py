"""What lies where in each memory while a tile runs, layer by layer: buffers as boxes over time and addresses."""

# matplotlib's own types are incomplete
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfc.backend_cost.schedule import BufferEntry, MemoryInfo, Schedule, StackEntry, TileClassEntry
from dfc.errors import UsageError
from dfc.figure_draw import COLOURS, box, colour_key, picture
from dfc.report_table import clean, shorten
from dfc.units import Scale, size, size_unit

if TYPE_CHECKING:
    from dfc.figure_draw import Axes, Figure

#: codes of this module, with the sentence that docs/errors.md prints for each
CODES: Mapping[str, str] = {
    "CLI074": "there is nothing to draw of a schedule's memories, or no such stack, tile class or memory",
}

_COLOUR = {
    "map": COLOURS[2],
    "window": COLOURS[4],
    "loops": COLOURS[0],
    "H cache": COLOURS[1],
    "V cache": COLOURS[6],
    "weights": COLOURS[3],
}
#: boxes lower than this part of a panel have no name written in them
_TALL = 0.045
#: a memory that is less full than this is drawn up to what is taken, not up to its size
_FULL = 0.6


@dataclass(frozen=True, slots=True)
class Box:
    """A buffer over the layers ``first`` to ``last`` (numbers of steps) and over ``bits`` from ``address_bits`` on."""

    kind: str
    name: str
    first: int
    last: int
    address_bits: int
    bits: int


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """A memory, and the buffers in each of its instances while one tile of a class runs."""

    memory: MemoryInfo
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class TileMemories:
    """All of it for one tile class of one stack; both are numbered from 0, as everywhere."""

    model: str
    hw: str
    stack: int
    tile_class: int
    tiles: int
    tile: tuple[int, int]
    overlap: str
    layers: tuple[str, ...]
    memories: tuple[MemoryMap, ...]


def tile_memories(
    schedule: Schedule, place: str, stack: int | None, tile_class: int | None, memories: Sequence[str]
) -> TileMemories:
    """What to draw: of the stack with most layers and its class with most tiles, unless others are named.

    Without names of ``memories``, those on chip in which a map, a cache or weights lie.

    Raises:
        UsageError: CLI074.
    """
    if not any(s.buffers or any(c.buffers for c in s.tile_classes) for s in schedule.stacks):
        raise _nothing(place, "the schedule has no addresses", "schedules by dfc's own rules have them")
    number, which = chosen_class(schedule, place, stack, tile_class)
    stacks = schedule.stacks
    found, classes = stacks[number], stacks[number].tile_classes
    chips = {m.name: m for m in schedule.hw.memories}
    unknown = [name for name in memories if name not in chips]
    if unknown:
        raise _nothing(place, f"no memory is called {unknown[0]!r}", f"one of {', '.join(chips)}")
    boxes = _boxes(found, classes[which])
    outer = {b.memory for b in schedule.off_chip}
    on_chip = [name for name in chips if name not in outer]
    shown = memories or [name for name in on_chip if any(b.kind != "loops" for b in boxes.get(name, ()))]
    if not any(boxes.get(name) for name in shown):
        raise _nothing(place, f"nothing lies on chip in stack {number}", "choose another with --stack or --memory")
    return TileMemories(
        schedule.model.name,
        schedule.hw.name,
        number,
        which,
        classes[which].count,
        found.tile,
        found.overlap,
        found.layers,
        tuple(MemoryMap(chips[name], tuple(boxes.get(name, ()))) for name in shown),
    )


def chosen_class(schedule: Schedule, place: str, stack: int | None, tile_class: int | None) -> tuple[int, int]:
    """Indices of the stack and the tile class that are to be drawn, see :func:`tile_memories`.

    Raises:
        UsageError: CLI074.
    """
    stacks = schedule.stacks
    longest = max(range(len(stacks)), key=lambda i: (len(stacks[i].layers), -i))
    number = longest if stack is None else _chosen(stack, len(stacks), "stack", place)
    classes = stacks[number].tile_classes
    most = max(range(len(classes)), key=lambda i: (classes[i].count, -i))
    return number, most if tile_class is None else _chosen(tile_class, len(classes), "tile class", place)


def _nothing(place: str, message: str, hint: str) -> UsageError:
    return UsageError("CLI074", message, place=place, hint=hint)


def _chosen(number: int, count: int, what: str, place: str) -> int:
    if not 0 <= number < count:
        raise _nothing(place, f"there is no {what} {number}", f"they are numbered from 0 to {count - 1}")
    return number


def _boxes(stack: StackEntry, tile: TileClassEntry) -> dict[str, list[Box]]:
    step = {name: at for at, name in enumerate(stack.layers)}
    found: dict[str, list[Box]] = {}
    for buffer in (*stack.buffers, *tile.buffers):
        first, last = _span(buffer, step)
        one = Box(buffer.what, buffer.name, first, last, buffer.address_bits, buffer.bits)
        found.setdefault(buffer.memory, []).append(one)
    return found


def _span(buffer: BufferEntry, step: Mapping[str, int]) -> tuple[int, int]:
    if not buffer.first and not buffer.last:
        return 0, len(step) - 1
    return step.get(buffer.first, 0), step.get(buffer.last, len(step) - 1)


def memory_rows(found: TileMemories) -> list[dict[str, str | int | float | None]]:
    """The boxes as rows of a table."""
    return [
        {
            "memory": one.memory.name,
            "size_bits": one.memory.size_bits,
            "what": b.kind,
            "name": b.name,
            "first_layer": found.layers[b.first],
            "last_layer": found.layers[b.last],
            "address_bits": b.address_bits,
            "bits": b.bits,
        }
        for one in found.memories
        for b in one.boxes
    ]


def memory_maps(found: TileMemories, kind: str) -> bytes:
    """A panel per memory: layers to the right, addresses upwards."""
    panels = len(found.memories)
    across = max(7.0, 2.5 + 0.95 * len(found.layers))

    def draw(figure: Figure) -> None:
        axes = figure.subplots(panels, 1, squeeze=False, sharex=True)[:, 0]
        for one, at in zip(found.memories, axes, strict=True):
            _panel(at, one, len(found.layers))
        names = [shorten(clean(name), 16) for name in found.layers]
        ticks = [i + 0.5 for i in range(len(names))]
        axes[-1].set_xticks(ticks, names, rotation=35, ha="right", rotation_mode="anchor")
        axes[-1].set_xlabel("layer that runs")
        kinds = {b.kind for one in found.memories for b in one.boxes}
        colours = {kind: colour for kind, colour in _COLOUR.items() if kind in kinds}
        colour_key(figure, colours, len(colours))
        figure.suptitle(_title(found))

    return picture((across, 1.9 + 2.6 * panels), kind, draw)


def _title(found: TileMemories) -> str:
    tile = f"{found.tile[0]}x{found.tile[1]} {found.overlap}"
    count = f"{found.tiles:,} tile{'s' if found.tiles > 1 else ''}"
    where = f"{clean(found.model)} on {clean(found.hw)}"
    return (
        f"What lies where while a tile runs: {where}\nstack {found.stack}, {tile}, class {found.tile_class} ({count})"
    )


def _panel(axes: Axes, one: MemoryMap, steps: int) -> None:
    taken = max((b.address_bits + b.bits for b in one.boxes), default=0)
    bits = one.memory.size_bits
    top = bits if taken >= _FULL * bits else taken * 1.1
    scale, unit = size_unit(top)
    for b in one.boxes:
        _draw_box(axes, b, top, (scale, unit))
    if top == bits:
        axes.axhline(bits / scale, color="black", linewidth=1.5)
    axes.set_xlim(0, steps)
    axes.set_ylim(0, top / scale * 1.02)
    axes.set_ylabel(f"address ({unit})")
    instances = f", each of {one.memory.instances:,}" if one.memory.instances > 1 else ""
    axes.set_title(f"{clean(one.memory.name)}{instances}: {size(taken)} taken of {size(bits)}", loc="left")
    axes.tick_params(axis="x", length=0)
    for i in range(1, steps):
        axes.axvline(i, color="#DDDDDD", linewidth=0.5, zorder=0)


def _draw_box(axes: Axes, one: Box, top: float, unit: Scale) -> None:
    wide, high, low = one.last + 1 - one.first, one.bits / unit[0], one.address_bits / unit[0]
    box(axes, (one.first, low), (wide, high), _COLOUR.get(one.kind, COLOURS[7]))
    if one.bits >= _TALL * top:
        text = shorten(clean(one.name), max(4, round(12 * wide)))
        axes.text(one.first + wide / 2, low + high / 2, text, ha="center", va="center", fontsize=6.5)
