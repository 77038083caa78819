"""Maps between stacks: what stays on chip lies where both stacks say, and is whole; all else goes off chip and back.

Stacks run one after the other, so a map that stays is safe from the last write to the last read if both stacks keep the
same buffer for as long as they run: within a stack ``check.py`` proves that nothing overlaps it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dfc.backend_cost.schedule import BufferEntry, MadeEntry, Schedule, StackEntry, TileLayer
from dfc.scheduling.check_caches import position_bits
from dfc.scheduling.check_tile import Violation

#: copies over the border of the chip
_OFF_CHIP = ("input", "output")


@dataclass(frozen=True, slots=True)
class _Made:
    """How a map comes about: the stack, the layer and its memory for it, all of its bits, and those copied off chip."""

    stack: int
    layer: str
    memory: str
    bits: int
    copied_bits: int


def check_handed(schedule: Schedule, outside: str) -> Iterator[Violation]:
    """All maps that cross a border of a stack; ``outside`` is the outermost memory."""
    made = dict(_made(schedule))
    for number, stack in enumerate(schedule.stacks):
        maps = whole_maps(stack)
        for name, buffers in maps.items():
            if len(buffers) > 1:
                yield Violation(f"'{name}' stays on chip in {len(buffers)} places", 0, number, memory=buffers[0].memory)
            yield from _handed(schedule, number, buffers[0], made.get(name))
        for run in _runs(stack):
            yield from _parts(number, run, set(maps))
    yield from _left(schedule, made, outside)


def whole_maps(stack: StackEntry) -> dict[str, list[BufferEntry]]:
    """Buffers of whole maps that a stack finds on chip or leaves there."""
    found: dict[str, list[BufferEntry]] = {}
    for b in stack.buffers:
        if b.what == "map":
            found.setdefault(b.name, []).append(b)
    return found


def _runs(stack: StackEntry) -> Iterator[TileLayer]:
    for tile in stack.tile_classes:
        yield from tile.layers


def _made(schedule: Schedule) -> Iterator[tuple[str, _Made]]:
    """All maps that are made."""
    for number, stack in enumerate(schedule.stacks):
        found: dict[str, tuple[TileLayer, MadeEntry]] = {}
        copied: dict[str, int] = {}
        for tile in stack.tile_classes:
            for run in tile.layers:
                found |= {made.tensor: (run, made) for made in run.makes if not made.fetched}
                for copy in run.copies:
                    copied[copy.tensor] = copied.get(copy.tensor, 0) + tile.count * copy.bits * (copy.what == "output")
        for name, (run, made) in found.items():
            bits = made.map[0] * made.map[1] * position_bits(stack, name)
            yield name, _Made(number, run.layer, run.memories.get("O", ""), bits, copied.get(name, 0))


def _handed(schedule: Schedule, number: int, b: BufferEntry, made: _Made | None) -> Iterator[Violation]:
    """A whole map in a stack's memories: made there for the next stack alone, or made by the stack before."""

    def wrong(what: str, bits: int = 0, stack: int = number) -> Violation:
        return Violation(f"'{b.name}' stays on chip: {what}", bits, stack, memory=b.memory)

    if made is None or made.stack not in (number - 1, number):
        yield wrong("neither this stack nor the one before makes it")
        return
    other = number + 1 if made.stack == number else made.stack
    there = whole_maps(schedule.stacks[other]).get(b.name, []) if other < len(schedule.stacks) else []
    if [(o.memory, o.address_bits, o.bits) for o in there] != [(b.memory, b.address_bits, b.bits)]:
        yield wrong(f"stack {other} does not keep it in the same place", b.bits)
    if made.stack != number:
        return  # the rest is told of the stack that makes it
    if b.bits < made.bits:
        yield wrong(f"it has {made.bits:,} bits, {b.bits:,} are kept for it", made.bits - b.bits)
    if made.memory != b.memory:
        yield wrong(f"layer '{made.layer}' makes it in '{made.memory}'")
    if ("map", b.name) in {(o.what, o.name) for o in schedule.off_chip}:
        yield wrong("it has a place off chip too")
    if b.name in {t.name for t in (*schedule.model.inputs, *schedule.model.outputs)}:
        yield wrong("it crosses the network's border")
    for reader, stack in enumerate(schedule.stacks):
        reads = [run for run in _runs(stack) if any(read.tensor == b.name for read in run.reads)]
        if reads and reader != other:
            yield wrong(f"layer '{reads[0].layer}' reads it, which is not in the next stack", b.bits, reader)
        if reader == other and not reads:
            yield wrong("no layer of the next stack reads it")


def _parts(number: int, run: TileLayer, held: set[str]) -> Iterator[Violation]:
    """What stays on chip is read as it lies there: no part is fetched, waits in caches, or leaves the chip."""
    for read in run.reads:
        if read.tensor in held and read.fresh_bits + read.h_cache_bits + read.v_cache_bits:
            what = f"'{read.tensor}' stays on chip as a whole, and is read in parts"
            yield Violation(what, 0, number, -1, run.layer)
    moved = {made.tensor for made in run.makes if made.fetched}
    moved |= {copy.tensor for copy in run.copies if copy.what in _OFF_CHIP}
    kept = {m.tensor for m in run.makes if m.h_cache_bits or m.v_cache_bits}
    for name in sorted((moved | kept) & held):
        what = "moves over the border of the chip" if name in moved else "waits in caches"
        yield Violation(f"'{name}' stays on chip as a whole, and {what}", 0, number, -1, run.layer)


def _left(schedule: Schedule, made: dict[str, _Made], outside: str) -> Iterator[Violation]:
    """What a stack fetches has been left off chip by an earlier one, and so has what the network puts out."""
    needed = [(t.name, len(schedule.stacks)) for t in schedule.model.outputs]
    for number, stack in enumerate(schedule.stacks):
        needed += [(m.tensor, number) for run in _runs(stack) for m in run.makes if m.fetched and m.bits]
    for name, reader in dict.fromkeys(needed):
        one = made.get(name)
        if one is None:
            continue  # the network's input, or of a layer that is not modelled
        if one.stack >= reader:
            yield Violation(f"'{name}' is fetched before it is made", 0, reader)
        elif one.memory != outside and one.copied_bits < one.bits:
            what = f"of {one.bits:,} bits of '{name}' that later stacks need, {one.copied_bits:,} leave the chip"
            yield Violation(what, one.bits - one.copied_bits, one.stack, -1, one.layer, one.memory)
