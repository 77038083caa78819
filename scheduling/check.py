"""The independent checker: does everything that a schedule keeps in memories fit, at every moment?

It reads the schedule alone, and shares no code with what placed the tensors: the slow, obvious version. Checked are

1. each buffer: its memory exists, and it lies within one instance of it;
2. addresses: what is alive at the same time in a memory does not overlap (``check_tile.py`` says when that is);
3. loops: what each layer's mapping keeps in each memory, recounted, has a buffer, or two where the file says so;
4. reads: maps, caches, copies of them and weights lie where a layer reads them, and each copy has a source and a place;
5. maps live from the layer that makes them to the last that reads them;
6. maps between stacks: what stays on chip has the same place in the stack that makes it and in the next, which alone
   reads it; what is fetched was left off chip before;
7. caches are as large as their layout, hold what tiles leave in them beside what they still read from them, and are
   those of the mode of their map;
8. what stays from step to step of a network over time does so beside whatever runs; weights that do not stay are
   brought by the first tile;
9. copies that are made early, while layers run (``check_beside.py``): what they copy is there, nothing else lives where
   they go, the ports on their way are idle as long as they take, and the time that is left of them;
10. sums: energies and cycles of layers, classes, stacks and totals; tiles cover each map.

What the file does not tell, and nothing here proves: which positions a tile reads and makes (it gives how many); so of
a cache that it has the lines and the length that one tile after the other asks for, not that each position is
overwritten only after its last use. Constants that no loop reads, and operators that are not modelled, stream through
memories and have no buffers. That energies and cycles are those of the mappings, and that the cycles count on no other
second buffers than the file has, takes a cost model: none is used here, save for how long layers keep ports busy (9).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dfc.backend_cost.schedule import BufferEntry, Schedule, StackEntry
from dfc.hwdsl import Arch, parse_arch
from dfc.ir import Role
from dfc.scheduling.check_beside import check_beside
from dfc.scheduling.check_caches import check_caches, check_cover, check_modes
from dfc.scheduling.check_estimate import estimate
from dfc.scheduling.check_handed import check_handed
from dfc.scheduling.check_steps import check_steps, others
from dfc.scheduling.check_sums import check_sums
from dfc.scheduling.check_tile import Peak, Place, Violation, check_class, worse


@dataclass(frozen=True)
class Check:
    """What was found.

    violations: the worst first. peaks: per memory of the chip the most that is alive in one instance at once.
    stacks, classes, layers, buffers: how many were checked.
    asked: whether the schedule's rules ask that everything fits; else ``violations`` are where it would not, as far as
           can be told, and buffers are none.
    """

    name: str
    hw: str
    policy: str
    violations: tuple[Violation, ...]
    peaks: tuple[Peak, ...]
    stacks: int
    classes: int
    layers: int
    buffers: int

    @property
    def asked(self) -> bool:
        """Whether everything has to fit."""
        return self.policy == "dfc"


def check_schedule(schedule: Schedule, place: str = "schedule") -> Check:
    """Check a schedule.

    Raises:
        HardwareError: where the page in the schedule is damaged.
    """
    arch = parse_arch(schedule.hw.page, f"{place} (hw.page)")
    asked = schedule.policy == "dfc"
    every = [c for stack in schedule.stacks for c in stack.tile_classes]
    peaks: dict[str, Peak] = {}
    found = list(_all(schedule, arch, peaks)) if asked else list(estimate(schedule, arch, peaks))
    buffers = len(schedule.off_chip) + sum(len(s.buffers) for s in schedule.stacks) + sum(len(c.buffers) for c in every)
    return Check(
        schedule.model.name,
        schedule.hw.name,
        schedule.policy,
        tuple(sorted(found, key=worse)),
        tuple(peaks.get(m.name, Peak(m.name, m.size_bits, 0)) for m in arch.memories),
        len(schedule.stacks),
        len(every),
        sum(len(c.layers) for c in every),
        buffers,
    )


def places(schedule: Schedule, arch: Arch) -> Iterator[Place]:
    """All tile classes."""
    outside = arch.memories[arch.paths[Role.O][-1]].name
    for number, stack in enumerate(schedule.stacks):
        for index, tile in enumerate(stack.tile_classes):
            yield Place(number, index, stack, tile, arch, outside, schedule.off_chip, others(schedule, number))


def _all(schedule: Schedule, arch: Arch, peaks: dict[str, Peak]) -> Iterator[Violation]:
    sizes = {m.name: m.size_bits for m in arch.memories}
    listed = {m.name: m.size_bits for m in schedule.hw.memories}
    if listed != sizes:
        yield Violation("the list of memories is not that of the page")
        sizes = {name: min(bits, listed.get(name, bits)) for name, bits in sizes.items()}
    yield from _off_chip(schedule, arch.memories[arch.paths[Role.O][-1]].name)
    yield from _inside(schedule.off_chip, sizes, -1, -1)
    yield from check_handed(schedule, arch.memories[arch.paths[Role.O][-1]].name)
    yield from check_steps(schedule, arch.memories[arch.paths[Role.O][-1]].name)
    layers = {layer.name: layer for layer in schedule.layers}
    for number, stack in enumerate(schedule.stacks):
        yield from _inside(stack.buffers, sizes, number, -1)
        yield from check_caches(stack, number)
        yield from check_cover(stack, number)
        yield from check_modes(stack, number)
        yield from _lasting(stack, number)
    every = list(places(schedule, arch))
    for place in every:
        yield from _inside(place.tile.buffers, sizes, place.number, place.index)
        yield from _apart(place, sizes, peaks)
        yield from check_class(place, layers)
    yield from check_beside(schedule, every)
    yield from check_sums(schedule)


def _inside(buffers: Iterable[BufferEntry], sizes: dict[str, int], stack: int, tile_class: int) -> Iterator[Violation]:
    """Each buffer lies within one instance of a memory that exists."""
    for b in buffers:
        if b.memory not in sizes:
            yield Violation(
                f"{b.what} '{b.name}' lies in a memory that the chip lacks",
                0,
                stack,
                tile_class,
                b.first,
                b.memory,
            )
            continue
        over = b.address_bits + b.bits - sizes[b.memory]
        if b.address_bits < 0 or b.bits < 0 or over > 0:
            what = f"{b.what} '{b.name}' ends at bit {b.address_bits + b.bits:,} of {sizes[b.memory]:,}"
            yield Violation(what, max(over, -b.address_bits, 0), stack, tile_class, b.first, b.memory)


def _lasting(stack: StackEntry, number: int) -> Iterator[Violation]:
    """What stays for the stack is named for all of it; what a tile keeps has a beginning and an end."""
    for b in stack.buffers:
        if b.first or b.last:
            yield Violation(f"{b.what} '{b.name}' does not stay for the whole stack", 0, number, -1, b.first, b.memory)
    for index, tile in enumerate(stack.tile_classes):
        for b in tile.buffers:
            names = stack.layers
            if b.first not in names or b.last not in names or names.index(b.first) > names.index(b.last):
                yield Violation(f"{b.what} '{b.name}' has no beginning or no end", 0, number, index, b.first, b.memory)


def _apart(place: Place, sizes: dict[str, int], peaks: dict[str, Peak]) -> Iterator[Violation]:
    """At each step, what is alive in a memory does not overlap; and how much it is."""
    told: set[tuple[BufferEntry, BufferEntry]] = set()
    for step, layer in enumerate(place.stack.layers):
        alive = [*place.alive(step), *place.others, *place.off_chip]
        for memory, size in sizes.items():
            here = sorted((b for b in alive if b.memory == memory and b.bits > 0), key=lambda b: b.address_bits)
            taken = sum(b.bits for b in here)
            if memory not in peaks or taken > peaks[memory].bits:
                peaks[memory] = Peak(memory, size, taken, place.number, place.index, layer)
            if taken > size:
                yield place.wrong(f"{taken:,} bits are alive at once, of {size:,}", layer, memory, taken - size)
            for i, one in enumerate(here):
                for other in here[i + 1 :]:
                    over = one.address_bits + one.bits - other.address_bits
                    if over <= 0:
                        break
                    if (one, other) not in told:
                        told.add((one, other))
                        what = f"{one.what} '{one.name}' and {other.what} '{other.name}' overlap"
                        yield place.wrong(what, layer, memory, min(over, other.bits))


def _off_chip(schedule: Schedule, outside: str) -> Iterator[Violation]:
    """Weights, what crosses the network's border and what stacks hand over have their place in the outermost memory."""
    have: dict[tuple[str, str], int] = {}
    for b in schedule.off_chip:
        have[b.what, b.name] = have.get((b.what, b.name), 0) + b.bits
        if b.memory != outside or b.first or b.last:
            yield Violation(f"{b.what} '{b.name}' is not kept off chip for all the time", b.bits, memory=b.memory)
    need = {("weights", layer.name): layer.weight_bits for layer in schedule.layers if layer.weight_bits}
    for tensor in (*schedule.model.inputs, *schedule.model.outputs):
        bits = schedule.hw.output_bits
        for extent in tensor.shape:
            bits *= extent
        need["map", tensor.name] = bits
    for stack in schedule.stacks:
        for made in (made for tile in stack.tile_classes for run in tile.layers for made in run.makes):
            if made.bits and (made.fetched or ("map", made.tensor) in have):
                bits = made.map[0] * made.map[1] * (made.bits // max(1, made.extents[0] * made.extents[1]))
                need["map", made.tensor] = max(bits, need.get(("map", made.tensor), 0))
    for (what, name), bits in need.items():
        if have.get((what, name), 0) < bits:
            message = f"{what} '{name}' takes {bits:,} bits, {have.get((what, name), 0):,} are kept for it off chip"
            yield Violation(message, bits - have.get((what, name), 0))
