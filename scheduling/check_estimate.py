"""Where a schedule would not fit whose rules do not ask: what is alive at least, from tops, maps and mappings."""

from __future__ import annotations

from collections.abc import Iterator

from dfc.backend_cost.schedule import Schedule, StackEntry, TileClassEntry, TileLayer
from dfc.hwdsl import Arch
from dfc.scheduling.check_caches import position_bits, whole_along
from dfc.scheduling.check_held import NoNestError, held_by
from dfc.scheduling.check_tile import Peak, Violation, worse
from dfc.units import sizes

#: stacks and memories that are named in notes
_MOST_NOTES = 4


def estimate(schedule: Schedule, arch: Arch, peaks: dict[str, Peak]) -> Iterator[Violation]:
    """Per stack and memory the layer at which most is missing; ``peaks`` are filled in.

    Counted are a layer's windows and output where they live, maps that wait for a later layer, what its loops keep
    below (one buffer of each), the weights that stay, and the caches as far as the file tells their size.
    """
    for number, stack in enumerate(schedule.stacks):
        worst: dict[str, Violation] = {}
        lasting = _lasting(stack)
        for index, tile in enumerate(stack.tile_classes):
            for run in tile.layers:
                if run.nest is None:
                    continue
                taken = _alive(stack, tile, run, arch, lasting)
                for memory in arch.memories:
                    bits = taken.get(memory.name, 0)
                    if memory.name not in peaks or bits > peaks[memory.name].bits:
                        where = number, index, run.layer
                        peaks[memory.name] = Peak(memory.name, memory.size_bits, bits, *where)
                    over = bits - memory.size_bits
                    if over > 0 and (memory.name not in worst or over > worst[memory.name].over_bits):
                        what = f"at least {bits:,} bits would be alive at once, of {memory.size_bits:,}"
                        worst[memory.name] = Violation(what, over, number, index, run.layer, memory.name)
        yield from worst.values()


def misfit_notes(schedule: Schedule, arch: Arch) -> tuple[str, ...]:
    """For a schedule's notes: which stacks would not fit in which memory, the worst first."""
    size_bits = {m.name: m.size_bits for m in arch.memories}
    found = sorted(estimate(schedule, arch, {}), key=worse)
    notes = [
        f"the rules of '{schedule.policy}' do not ask that everything fits, and stack {v.stack} would not: "
        f"{' of '.join(sizes(size_bits[v.memory] + v.over_bits, size_bits[v.memory]))} in {v.memory} at layer {v.layer}"
        for v in found[:_MOST_NOTES]
    ]
    if len(found) > _MOST_NOTES:
        notes.append(f"{len(found) - _MOST_NOTES} more memories of stacks would not do: dfc check lists them")
    return tuple(notes)


def _lasting(stack: StackEntry) -> dict[str, int]:
    """Weights and caches, where the stack says that they lie; bits by memory."""
    found: dict[str, int] = {}

    def add(memory: str, bits: int) -> None:
        if bits:
            found[memory] = found.get(memory, 0) + bits

    add(stack.weight_memory, stack.weight_bits)
    rows = stack.order == "rows"
    for name in dict.fromkeys(m.tensor for c in stack.tile_classes for run in c.layers for m in run.makes):
        each = position_bits(stack, name)
        along, lines = 0, 0
        for tile in stack.tile_classes:
            for run in tile.layers:
                for read in run.reads:
                    if read.tensor == name:
                        along = max(along, read.h_cache_bits if rows else read.v_cache_bits)
                for made in run.makes:
                    if made.tensor == name:
                        length = made.extents[0 if rows else 1] * each
                        lines = max(lines, (made.v_cache_bits if rows else made.h_cache_bits) // max(1, length))
        across = lines * whole_along(stack, name) * each
        h, v = (along, across) if rows else (across, along)
        add(stack.h_cache_memory, h)
        add(stack.v_cache_memory, v)
    return found


def _alive(
    stack: StackEntry, tile: TileClassEntry, run: TileLayer, arch: Arch, lasting: dict[str, int]
) -> dict[str, int]:
    """Bits by memory while a layer runs."""
    found = dict(lasting)
    if tile.first:  # it brings the weights, and reads them from outside
        found = {m: bits - stack.weight_bits * (m == stack.weight_memory) for m, bits in found.items()}
    at = list(stack.layers).index(run.layer)

    def add(memory: str, bits: int) -> None:
        found[memory] = found.get(memory, 0) + bits

    here = run.memories.get("I", "")
    reads = {read.tensor: read for read in run.reads}
    for other in tile.layers:
        made_at = list(stack.layers).index(other.layer)
        for made in other.makes:
            home = other.memories.get("I" if made.fetched else "O", "")
            later = [list(stack.layers).index(r.layer) for r in tile.layers for x in r.reads if x.tensor == made.tensor]
            inside = made.h_cache_bits * (home == stack.h_cache_memory) + made.v_cache_bits * (
                home == stack.v_cache_memory
            )
            if made_at <= at <= max([made_at, *later]):
                add(home, made.bits - inside)
            if made.tensor in reads and home != here:
                add(here, reads[made.tensor].fresh_bits)
    for read in run.reads:
        add(
            here,
            read.h_cache_bits * (here != stack.h_cache_memory) + read.v_cache_bits * (here != stack.v_cache_memory),
        )
    try:
        for part in held_by(run, run.nest, arch) if run.nest else ():
            add(part.memory, part.bits)
    except NoNestError:
        pass  # nothing is known of what it keeps
    return found
