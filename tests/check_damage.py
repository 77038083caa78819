"""Damage to schedules that matters: something no longer fits, lies elsewhere, goes too early, or does not add up."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

from brute_force import held_bits

from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.nest import operand_names
from dfc.backend_cost.rebuild import rebuild
from dfc.backend_cost.schedule import BufferEntry, ReadEntry, Schedule, TensorInfo, TileClassEntry, TileLayer
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


# --- maps that stay on chip between stacks


def rehanded(schedule: Schedule, rng: random.Random) -> Found | None:
    """What two stacks hand over on chip, no longer so: in another place, too small, gone, or in the wrong hands."""
    held = [(where, b) for where, b in buffers(schedule) if where[1] < 0 <= where[0] and b.what == "map"]
    if not held:
        return None
    where, b = rng.choice(held)
    both = [at for at, other in held if other.name == b.name]
    damage = rng.choice(sorted(_HANDED))
    found = _HANDED[damage](schedule, rng, where, b, both)
    return found and (found, f"{damage}: {b} in {where}")


Handed = Callable[[Schedule, random.Random, Where, BufferEntry, list[Where]], Schedule | None]


def _in_both(schedule: Schedule, both: list[Where], new: BufferEntry | None) -> Schedule:
    for where in both:
        schedule = with_buffer(schedule, where, new)
    return schedule


def _shifted_map(
    schedule: Schedule, rng: random.Random, where: Where, b: BufferEntry, both: list[Where]
) -> Schedule | None:
    """In one stack alone it lies at another address, free or not."""
    del both
    size = next(m.size_bits for m in schedule.hw.memories if m.name == b.memory)
    address = rng.choice([0, size - b.bits, rng.randrange(size - b.bits + 1)])
    return with_buffer(schedule, where, replace(b, address_bits=address)) if address != b.address_bits else None


def _onto_another(
    schedule: Schedule, rng: random.Random, where: Where, b: BufferEntry, both: list[Where]
) -> Schedule | None:
    """In both stacks it lies where something else lies in one of them."""
    here = {at[0] for at in both}
    others = [
        o
        for at, o in buffers(schedule)
        if at[0] in here and o.memory == b.memory and o.bits and (o.what, o.name) != ("map", b.name)
    ]
    if not others:
        return None
    other = rng.choice(others)
    address = rng.randrange(max(0, other.address_bits - b.bits + 1), other.address_bits + other.bits)
    return _in_both(schedule, both, replace(b, address_bits=address))


def _smaller_map(
    schedule: Schedule, rng: random.Random, where: Where, b: BufferEntry, both: list[Where]
) -> Schedule | None:
    new = replace(b, bits=rng.choice([b.bits - 1, rng.randrange(b.bits)]))
    return with_buffer(schedule, where, new) if rng.random() < 0.5 else _in_both(schedule, both, new)


def _dropped_map(
    schedule: Schedule, rng: random.Random, where: Where, b: BufferEntry, both: list[Where]
) -> Schedule | None:
    del b
    return _in_both(schedule, rng.choice([both, [where]]), None)


def _other_memory(
    schedule: Schedule, rng: random.Random, where: Where, b: BufferEntry, both: list[Where]
) -> Schedule | None:
    """At the free end of another memory."""
    del where
    others = [m for m in schedule.hw.memories if m.name != b.memory and m.size_bits > 2 * b.bits]
    if not others:
        return None
    memory = rng.choice(others)
    return _in_both(schedule, both, replace(b, memory=memory.name, address_bits=memory.size_bits - b.bits))


def _read_again(
    schedule: Schedule, rng: random.Random, where: Where, b: BufferEntry, both: list[Where]
) -> Schedule | None:
    """A stack reads it that does not follow the one that makes it; perhaps it too has the buffer."""
    others = [s for s in range(len(schedule.stacks)) if s != max(at[0] for at in both)]
    s = rng.choice(others)
    runs = [
        (c, n) for c, tile in enumerate(schedule.stacks[s].tile_classes) for n, x in enumerate(tile.layers) if x.nest
    ]
    if not runs:
        return None
    c, n = rng.choice(runs)
    run = schedule.stacks[s].tile_classes[c].layers[n]
    read = ReadEntry(b.name, 0, 0, 0, run.memories.get("I", ""), rng.randrange(1, b.bits))
    found = with_layer(schedule, s, c, n, replace(run, reads=(*run.reads, read)))
    if rng.random() < 0.5 and s not in {at[0] for at in both}:
        stack = found.stacks[s]
        stack = replace(stack, buffers=(*stack.buffers, b))
        found = replace(found, stacks=(*found.stacks[:s], stack, *found.stacks[s + 1 :]))
    return found


def _more_than_it_has(
    schedule: Schedule, rng: random.Random, where: Where, b: BufferEntry, both: list[Where]
) -> Schedule | None:
    """A layer reads more of it than there is, or as if this tile had fetched it."""
    del where
    s = max(at[0] for at in both)
    readers = [
        (c, n, k)
        for c, tile in enumerate(schedule.stacks[s].tile_classes)
        for n, run in enumerate(tile.layers)
        for k, read in enumerate(run.reads)
        if read.tensor == b.name
    ]
    c, n, k = rng.choice(readers)
    run = schedule.stacks[s].tile_classes[c].layers[n]
    old = run.reads[k]
    bits = old.held_bits
    new = rng.choice(
        [
            replace(old, held_bits=b.bits + 1),
            replace(old, held_bits=0, fresh_bits=bits),
            replace(old, held_bits=0, h_cache_bits=bits),
        ]
    )
    reads = (*run.reads[:k], new, *run.reads[k + 1 :])
    return with_layer(schedule, s, c, n, replace(run, reads=reads))


def _crosses_the_border(
    schedule: Schedule, rng: random.Random, where: Where, b: BufferEntry, both: list[Where]
) -> Schedule | None:
    """The user wants it too, or it is to lie off chip as well."""
    del where, both
    if rng.random() < 0.5:
        return replace(schedule, off_chip=(*schedule.off_chip, replace(b, memory=schedule.off_chip[0].memory)))
    outputs = (*schedule.model.outputs, TensorInfo(b.name, (1,), 8))
    return replace(schedule, model=replace(schedule.model, outputs=outputs))


_HANDED: dict[str, Handed] = {
    "another address in one stack": _shifted_map,
    "onto another": _onto_another,
    "too small": _smaller_map,
    "gone": _dropped_map,
    "another memory": _other_memory,
    "another reader": _read_again,
    "more than it has": _more_than_it_has,
    "the network's border": _crosses_the_border,
}


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


def remoded(schedule: Schedule, rng: random.Random) -> Found | None:
    """A map that is kept along an axis is said not to be."""
    s = rng.randrange(len(schedule.stacks))
    stack = schedule.stacks[s]
    made = [m for c in stack.tile_classes for run in c.layers for m in run.makes]
    kept = [m.tensor for m in made if m.h_cache_bits or m.v_cache_bits]
    if not kept:
        return None
    name = rng.choice(kept)
    every = {m.tensor: stack.overlap_by_map.get(m.tensor, stack.overlap) for m in made}
    bits = [m for m in made if m.tensor == name]
    wrong = ["recompute"] + ["v-cached"] * any(m.h_cache_bits for m in bits)
    modes = {t: m for t, m in every.items() if m != "mixed"} | {name: rng.choice(wrong)}
    new = replace(stack, overlap="mixed", overlap_by_map=modes)
    stacks = (*schedule.stacks[:s], new, *schedule.stacks[s + 1 :])
    return replace(schedule, stacks=stacks), f"{modes[name]} for {every[name]} of {name}"


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
    "rehanded": rehanded,
    "remoded": remoded,
}
