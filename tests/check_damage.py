"""Damage to schedules that matters: something no longer fits, lies elsewhere, goes too early, or does not add up."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

from brute_force import held_bits

from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.nest import operand_names
from dfc.backend_cost.rebuild import rebuild
from dfc.backend_cost.schedule import BufferEntry, Schedule, TileClassEntry, TileLayer
from dfc.hwdsl import format_arch, parse_arch

#: where a buffer stands: (stack, class, number); class -1 for the stack's own, stack -1 for what lies off chip
Where = tuple[int, int, int]
Found = tuple[Schedule, str]


def damaged(schedule: Schedule, kind: str, seed: int) -> Found | None:
    """The schedule with one piece of damage, and what it is; None where it has nothing to damage in this way."""
    rng = random.Random(f"{kind} {seed}")
    for _ in range(200):
        found = DAMAGES[kind](schedule, rng)
        if found is not None:
            return found
    return None


# --- buffers


def buffers(schedule: Schedule) -> Iterator[tuple[Where, BufferEntry]]:
    for n, b in enumerate(schedule.off_chip):
        yield (-1, -1, n), b
    for s, stack in enumerate(schedule.stacks):
        for n, b in enumerate(stack.buffers):
            yield (s, -1, n), b
        for c, tile in enumerate(stack.tile_classes):
            for n, b in enumerate(tile.buffers):
                yield (s, c, n), b


def with_buffer(schedule: Schedule, where: Where, new: BufferEntry | None) -> Schedule:
    """With another buffer in one's place, or none."""
    s, c, n = where

    def changed(old: tuple[BufferEntry, ...]) -> tuple[BufferEntry, ...]:
        return (*old[:n], *((new,) if new else ()), *old[n + 1 :])

    if s < 0:
        return replace(schedule, off_chip=changed(schedule.off_chip))
    stack = schedule.stacks[s]
    if c < 0:
        stack = replace(stack, buffers=changed(stack.buffers))
    else:
        classes = list(stack.tile_classes)
        classes[c] = replace(classes[c], buffers=changed(classes[c].buffers))
        stack = replace(stack, tile_classes=tuple(classes))
    return replace(schedule, stacks=(*schedule.stacks[:s], stack, *schedule.stacks[s + 1 :]))


def picked(schedule: Schedule, rng: random.Random) -> tuple[Where, BufferEntry]:
    """A buffer of any kind: kinds that are few come as often as those that are many."""
    every = [(where, b) for where, b in buffers(schedule) if b.bits]
    kind = rng.choice(sorted({(where[0] < 0, b.what) for where, b in every}))
    return rng.choice([(where, b) for where, b in every if (where[0] < 0, b.what) == kind])


def span(schedule: Schedule, where: Where, b: BufferEntry) -> range:
    names = schedule.stacks[where[0]].layers
    if not b.first:
        return range(len(names))
    return range(names.index(b.first), names.index(b.last) + 1)


def moved(schedule: Schedule, rng: random.Random) -> Found | None:
    """Onto another one that is alive at the same time."""
    where, b = picked(schedule, rng)
    others = [
        o
        for at, o in buffers(schedule)
        if at != where
        and o.memory == b.memory
        and o.bits
        and (at[0] < 0 or where[0] < 0 or at[0] == where[0])
        and (at[1] < 0 or where[1] < 0 or at[1] == where[1])
        and (at[0] < 0 or where[0] < 0 or set(span(schedule, at, o)) & set(span(schedule, where, b)))
    ]
    if not others:
        return None
    other = rng.choice(others)
    address = rng.randrange(max(0, other.address_bits - b.bits + 1), other.address_bits + other.bits)
    return with_buffer(schedule, where, replace(b, address_bits=address)), f"{b} moved onto {other}"


def shrunk(schedule: Schedule, rng: random.Random) -> Found | None:
    where, b = picked(schedule, rng)
    bits = rng.choice([b.bits - 1, rng.randrange(b.bits)])
    return with_buffer(schedule, where, replace(b, bits=bits)), f"{b} has {bits} bits"


def dropped(schedule: Schedule, rng: random.Random) -> Found | None:
    where, b = picked(schedule, rng)
    return with_buffer(schedule, where, None), f"{b} dropped"


def used(tile: TileClassEntry, b: BufferEntry) -> list[str]:
    """Layers at which a buffer is needed: they make, fetch or read what it has, or copy from or to it."""
    found: list[str] = []
    for run in tile.layers:
        names = {made.tensor for made in run.makes} | {read.tensor for read in run.reads if read.fresh_bits}
        names |= {
            copy.tensor for copy in run.copies if b.memory in (copy.source, copy.target) and "read" not in copy.what
        }
        if b.what == "map" and b.name in names:
            found.append(run.layer)
    return found


def shortened(schedule: Schedule, rng: random.Random) -> Found | None:
    """So that it is not there when it is first or last needed."""
    where, b = picked(schedule, rng)
    s, c, _ = where
    if s < 0 or c < 0 or b.what != "map" or b.first == b.last:
        return None
    names = schedule.stacks[s].layers
    steps = [names.index(name) for name in used(schedule.stacks[s].tile_classes[c], b)]
    first, last = names.index(b.first), names.index(b.last)
    if rng.random() < 0.5:
        first = min(steps) + 1
    else:
        last = max(steps) - 1
    if first > last:
        return None
    return with_buffer(schedule, where, replace(b, first=names[first], last=names[last])), f"{b} from {first} to {last}"


def elsewhere(schedule: Schedule, rng: random.Random) -> Found | None:
    """In another memory, at an address where nothing else is."""
    where, b = picked(schedule, rng)
    others = [m for m in schedule.hw.memories if m.name != b.memory and m.size_bits > 2 * b.bits]
    if not others:
        return None
    memory = rng.choice(others)
    new = replace(b, memory=memory.name, address_bits=memory.size_bits - b.bits)
    return with_buffer(schedule, where, new), f"{b} in {memory.name}"


def shifted(schedule: Schedule, rng: random.Random) -> Found | None:
    """What a layer reads a copy of, or its loops keep, there while another layer runs."""
    where, b = picked(schedule, rng)
    if b.what not in ("window", "loops"):
        return None
    other = rng.choice(schedule.stacks[where[0]].layers)
    return (
        (with_buffer(schedule, where, replace(b, first=other, last=other)), f"{b} in {other}")
        if other != b.first
        else None
    )


def shallower(schedule: Schedule, rng: random.Random) -> Found | None:
    """A cache of fewer or shorter lines, with as much room as these need."""
    where, b = picked(schedule, rng)
    if not b.lines:
        return None
    new = replace(b, lines=b.lines - 1) if rng.random() < 0.5 else replace(b, length=b.length - 1)
    bits = b.bits * new.lines * new.length // (b.lines * b.length)
    return with_buffer(schedule, where, replace(new, bits=bits)), f"{b} as {new}"


# --- the chip


def smaller(schedule: Schedule, rng: random.Random) -> Found | None:
    """A memory that ends before the last of its buffers does."""
    arch = parse_arch(schedule.hw.page)
    number = rng.randrange(len(arch.memories))
    name = arch.memories[number].name
    end = max((b.address_bits + b.bits for _, b in buffers(schedule) if b.memory == name), default=0)
    least = 64  # a page needs room for an element of each operand
    if end <= least:
        return None
    size = rng.choice([end - 1, rng.randrange(least, end)])
    memories = list(arch.memories)
    memories[number] = replace(memories[number], size_bits=size)
    page = format_arch(replace(arch, memories=tuple(memories)))
    listed = tuple(replace(m, size_bits=size) if m.name == name else m for m in schedule.hw.memories)
    return replace(schedule, hw=replace(schedule.hw, page=page, memories=listed)), f"{name} has {size} bits"


# --- layers


def with_layer(schedule: Schedule, s: int, c: int, n: int, new: TileLayer) -> Schedule:
    stack = schedule.stacks[s]
    classes = list(stack.tile_classes)
    classes[c] = replace(classes[c], layers=(*classes[c].layers[:n], new, *classes[c].layers[n + 1 :]))
    stack = replace(stack, tile_classes=tuple(classes))
    return replace(schedule, stacks=(*schedule.stacks[:s], stack, *schedule.stacks[s + 1 :]))


def layer(schedule: Schedule, rng: random.Random) -> tuple[int, int, int, TileLayer]:
    s = rng.randrange(len(schedule.stacks))
    c = rng.randrange(len(schedule.stacks[s].tile_classes))
    layers = schedule.stacks[s].tile_classes[c].layers
    n = rng.randrange(len(layers))
    return s, c, n, layers[n]


def recut(schedule: Schedule, rng: random.Random) -> Found | None:
    """A cut moved outwards, so that by another count (that of the tests of the mapping search) more is kept."""
    s, c, n, run = layer(schedule, rng)
    if run.nest is None:
        return None
    name = rng.choice(sorted(run.cuts))
    cuts = list(run.cuts[name])
    level = rng.randrange(len(cuts))
    if level == len(cuts) - 1 or cuts[level] == cuts[level + 1]:
        return None
    cuts[level] = rng.randint(cuts[level] + 1, cuts[level + 1])
    broken = with_layer(schedule, s, c, n, replace(run, cuts={**run.cuts, name: tuple(cuts)}))
    kept = [_kept(one, run.layer, c, name, level) for one in (schedule, broken)]
    return (broken, f"{run.layer}: cuts {cuts} of {name} in {run}") if kept[1] > kept[0] else None


def _kept(schedule: Schedule, layer: str, number: int, name: str, level: int) -> int:
    problem = rebuild(schedule, layer, number)
    operand = operand_names(problem.nest).index(name)
    memory = problem.nest.operands[operand].memories[level]
    return held_bits(problem.nest, problem.arch, problem.mapping, EXACT)[operand, memory]


def uncopied(schedule: Schedule, rng: random.Random) -> Found | None:
    """A copy within the chip left out."""
    s, c, n, run = layer(schedule, rng)
    copies = [x for x in run.copies if x.what.startswith(("read", "write", "feature"))]
    if not copies:
        return None
    gone = rng.choice(copies)
    left = tuple(x for x in run.copies if x != gone)
    return with_layer(schedule, s, c, n, replace(run, copies=left)), f"{gone} left out"


def rereading(schedule: Schedule, rng: random.Random) -> Found | None:
    """A layer that reads twice as much."""
    s, c, n, run = layer(schedule, rng)
    if not run.reads:
        return None
    at = rng.randrange(len(run.reads))
    old = run.reads[at]
    new = replace(old, fresh_bits=2 * old.fresh_bits + 1)
    reads = (*run.reads[:at], new, *run.reads[at + 1 :])
    made = [m.bits for x in schedule.stacks[s].tile_classes[c].layers for m in x.makes if m.tensor == old.tensor]
    if new.fresh_bits <= max(made, default=0):
        return None  # it may: there is as much
    return with_layer(schedule, s, c, n, replace(run, reads=reads)), f"{new} in place of {old}"


def miscounted(schedule: Schedule, rng: random.Random) -> Found | None:
    """Another energy, latency or number of tiles."""
    s, c, n, run = layer(schedule, rng)
    choice = rng.randrange(4)
    if choice == 0 and run.energy_pj:
        new = replace(run, energy_pj=run.energy_pj * 1.01)
        return with_layer(schedule, s, c, n, new), f"energy of {run.layer}"
    if choice == 1:
        return with_layer(schedule, s, c, n, replace(run, latency_cycles=run.latency_cycles + 1)), "cycles"
    if choice == 2:
        totals = replace(schedule.totals, latency_cycles=schedule.totals.latency_cycles - 1)
        return replace(schedule, totals=totals), "cycles of all"
    stack = schedule.stacks[s]
    classes = list(stack.tile_classes)
    classes[c] = replace(classes[c], count=classes[c].count + 1)
    stack = replace(stack, tile_classes=tuple(classes))
    return replace(schedule, stacks=(*schedule.stacks[:s], stack, *schedule.stacks[s + 1 :])), "tiles"


DAMAGES: dict[str, Callable[[Schedule, random.Random], Found | None]] = {
    "moved": moved,
    "shrunk": shrunk,
    "dropped": dropped,
    "elsewhere": elsewhere,
    "shortened": shortened,
    "shifted": shifted,
    "shallower": shallower,
    "smaller": smaller,
    "recut": recut,
    "uncopied": uncopied,
    "rereading": rereading,
    "miscounted": miscounted,
}
