"""Do a schedule's numbers add up? Layers to classes, classes to stacks, stacks to totals; tiles cover the map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

from dfc.backend_cost.schedule import LatencySplit, Schedule, StackEntry
from dfc.scheduling.check_tile import Violation

#: sums of energies in another order differ by rounding
_SAME = 1e-9


def check_sums(schedule: Schedule) -> Iterator[Violation]:
    """All sums."""
    totals = schedule.totals
    yield from _same("the stacks' energies", (s.energy_pj for s in schedule.stacks), totals.energy_pj)
    yield from _same("the layers' energies", (x.energy_pj for x in schedule.layers), totals.energy_pj)
    yield from _same("the stacks' cycles", (s.latency_cycles for s in schedule.stacks), totals.latency_cycles)
    yield from _same("the layers' cycles", (x.latency_cycles for x in schedule.layers), totals.latency_cycles)
    yield from _same("the layers' MACs", (x.macs for x in schedule.layers), totals.macs)
    hidden = (c.count * r.hidden_cycles for s in schedule.stacks for c in s.tile_classes for r in c.layers)
    yield from _same("the cycles that copies take beside layers", hidden, totals.hidden_cycles)
    parts = [totals.compute_energy_pj, *totals.energy_by_memory_pj.values()]
    yield from _same("energies of array and memories", parts, totals.energy_pj)
    yield from _same("the parts of the latency", _split(totals.latency), totals.latency_cycles)
    for number, stack in enumerate(schedule.stacks):
        yield from _stack(number, stack)
        yield from _layers(number, stack, schedule)
    names = [name for stack in schedule.stacks for name in stack.layers]
    if sorted(names) != sorted(layer.name for layer in schedule.layers):
        yield Violation("the stacks do not run each layer once")


def _split(split: LatencySplit) -> tuple[int, ...]:
    return split.compute, split.stall, split.load, split.copy


def _same(
    what: str, parts: Sequence[float] | Iterator[float], whole: float, stack: int = -1, tile_class: int = -1
) -> Iterator[Violation]:
    found = sum(parts)
    if abs(found - whole) > _SAME * max(1.0, abs(whole)):
        yield Violation(f"{what} sum to {found:,.12g}, the whole is {whole:,.12g}", 0, stack, tile_class)


def _stack(number: int, stack: StackEntry) -> Iterator[Violation]:
    classes = stack.tile_classes
    tiles = [ceil(whole / max(1, part)) for whole, part in zip(stack.map, stack.tile, strict=True)]
    yield from _same("the classes' tiles", (c.count for c in classes), stack.tiles, number)
    yield from _same("columns times rows of tiles", (tiles[0] * tiles[1],), stack.tiles, number)
    yield from _same("the classes' energies", (c.energy_pj * c.count for c in classes), stack.energy_pj, number)
    yield from _same("the classes' cycles", (c.latency_cycles * c.count for c in classes), stack.latency_cycles, number)
    yield from _same("the parts of the latency", _split(stack.latency), stack.latency_cycles, number)
    if [c.count for c in classes if c.first] != [1]:
        yield Violation("not one tile is the first", 0, number)
    for index, one in enumerate(classes):
        yield from _same("the layers' energies", (r.energy_pj for r in one.layers), one.energy_pj, number, index)
        yield from _same(
            "the layers' cycles", (r.latency_cycles for r in one.layers), one.latency_cycles, number, index
        )


def _layers(number: int, stack: StackEntry, schedule: Schedule) -> Iterator[Violation]:
    """What tiles spend on a layer is what the layer's entry says."""
    entries = {layer.name: layer for layer in schedule.layers}
    for name in stack.layers:
        entry = entries.get(name)
        if entry is None:
            continue  # told above
        runs = [(c.count, run) for c in stack.tile_classes for run in c.layers if run.layer == name]
        if entry.stack != number:
            yield Violation(f"layer '{name}' is said to run in stack {entry.stack}", 0, number, -1, name)
        energy, cycles = (n * r.energy_pj for n, r in runs), (n * r.latency_cycles for n, r in runs)
        yield from _same(f"energies of '{name}'", energy, entry.energy_pj, number)
        yield from _same(f"cycles of '{name}'", cycles, entry.latency_cycles, number)
        yield from _same(f"the parts of the latency of '{name}'", _split(entry.latency), entry.latency_cycles, number)
