"""From what is written back to what can be priced: a layer's tile as nest, accelerator and mapping.

A schedule holds its chip's page and each tile's loop nest, so none of this needs the model. The same can be written by
hand in a file of its own (schema ``dfc.nest/1``; docs/command-line.md has an example).
"""

from __future__ import annotations

from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import prod
from pathlib import Path
from typing import TypeVar, cast

from dfc.backend_cost.cost_model import EXACT, CostModel, model_by_name
from dfc.backend_cost.nest import Loop, Mapping, Nest, NestOperand, Unrolled, Work, operand_names
from dfc.backend_cost.schedule import BufferEntry, NestEntry, OperandEntry, Schedule, StackEntry, TileLayer, read_object
from dfc.backend_cost.schedule_json import typed
from dfc.errors import UsageError
from dfc.hwdsl import Arch, load_arch, parse_arch
from dfc.ir import KERNEL_DIM, OUTPUT_DIM, Axis, Dim, Role, Triple

NEST_SCHEMA = "dfc.nest/1"
#: what numpy's 64-bit integers and floats hold exactly, with room for words and bits
_MOST_STEPS = 1 << 46
_LARGEST = 1 << 24

T = TypeVar("T")


@dataclass(frozen=True)
class TileProblem:
    """A layer's tile as the cost model sees it.

    what:      one line that says which tile this is.
    others:    what there is besides: the other tile classes.
    entry:     its line in the schedule; none for a nest that stands by itself.
    objective: what the schedule was to have least of.
    held:      whole maps that the layer's stack takes over from the one before on chip, or leaves there for the next.
    overlap:   where the maps of its stack differ in mode, the modes of those that it reads and makes.
    """

    nest: Nest
    arch: Arch
    mapping: Mapping
    model: CostModel
    what: str
    others: str = ""
    entry: TileLayer | None = None
    objective: str = ""
    held: tuple[BufferEntry, ...] = ()
    overlap: str = ""


@dataclass(frozen=True, slots=True)
class _StandaloneNest:
    """A nest by itself: ``hw`` is a name of the library, a page beside the file, or the page's text."""

    schema: str
    hw: str
    nest: NestEntry
    loops: tuple[str, ...]
    cuts: dict[str, tuple[int, ...]]
    name: str = "loop nest"


def rebuild(schedule: Schedule, layer: str, tile_class: int | None = None, place: str = "schedule") -> TileProblem:
    """A layer of one of its stack's tile classes, counted from 0; by default the class with the most tiles.

    Raises:
        UsageError: CLI060 unknown layer, CLI061 no such class, CLI062 nothing to price, CLI063 and CLI051 where
            nest or mapping contradict themselves, CLI009 where the cost model is unknown.
        HardwareError: where the page in the schedule is damaged.
    """
    stack = _stack_of(schedule, layer, place)
    runs = {i: run for i, c in enumerate(stack.tile_classes) for run in c.layers if run.layer == layer}
    count = [c.count for c in stack.tile_classes]
    if not runs:
        raise UsageError("CLI062", f"layer '{layer}' runs in no tile", place=place)
    number = max(runs, key=lambda i: (count[i], -i)) if tile_class is None else tile_class
    if number not in runs:
        known = ", ".join(f"{i} ({_tiles(count[i])})" for i in runs)
        message = f"layer '{layer}' has no tile class {number}"
        raise UsageError("CLI061", message, place="--tile-class", hint=f"it runs in {known}")
    entry = runs[number]
    if entry.nest is None:
        message = f"layer '{layer}' is not modelled: only its traffic is counted, it has no loop nest"
        raise UsageError("CLI062", message, place=place, hint="dfc report shows what is counted")
    arch = parse_arch(schedule.hw.page, f"{place} (hw.page)")
    others = ", ".join(f"{i} ({count[i]:,})" for i in runs if i != number)
    extents = f"{entry.extents[0]}x{entry.extents[1]} positions"
    what = f"{layer} on {arch.name}: tile class {number} ({_tiles(count[number])}), {extents}"
    found = rebuild_tile(entry, arch, model_by_name(schedule.cost_model), what, place)
    held = tuple(b for b in stack.buffers if b.what == "map")
    modes = _modes(stack, entry)
    return replace(found, others=others, objective=schedule.objective, held=held, overlap=modes)


def rebuild_tile(entry: TileLayer, arch: Arch, model: CostModel, what: str, place: str) -> TileProblem:
    """A layer's tile that has a loop nest, on the chip of its schedule.

    Raises:
        UsageError: CLI063 and CLI051 where nest or mapping contradict themselves.
    """
    assert entry.nest is not None
    arch = _with_room(arch, entry.room_bits)
    nest = _nest(entry.nest, arch, place)
    mapping = _mapping(nest, entry.loops, entry.cuts, place)
    nest = nest.with_steps(mapping.steps)
    if nest.idling and not model.whole_lanes:
        names = ", ".join(dim.name for dim in nest.idling)
        message = f"the mapping has more steps over {names} than the loop nest, which the cost model does not price"
        raise UsageError("CLI051", message, place=place, hint="only the model exact knows steps that do nothing")
    return TileProblem(nest, arch, mapping, model, what, "", entry)


def _modes(stack: StackEntry, entry: TileLayer) -> str:
    maps = dict.fromkeys([*(read.tensor for read in entry.reads), *(made.tensor for made in entry.makes)])
    return ", ".join(f"{name} {stack.overlap_by_map[name]}" for name in maps if name in stack.overlap_by_map)


def _with_room(arch: Arch, room_bits: dict[str, int]) -> Arch:
    """The accelerator as the mapping saw it: what others keep in a memory is not there for it."""
    memories = tuple(replace(m, size_bits=room_bits.get(m.name, m.size_bits)) for m in arch.memories)
    return replace(arch, memories=memories)


def _tiles(count: int) -> str:
    return "1 tile" if count == 1 else f"{count:,} tiles"


def read_problem(
    text: str, folder: Path, layer: str | None, tile_class: int | None = None, place: str = "schedule"
) -> TileProblem:
    """The same from a file's text: a schedule, of which ``layer`` says what, or a nest by itself.

    ``folder`` is where a nest's page may lie. Raises as :func:`rebuild`, and CLI020, CLI021 for the file.
    """
    if f'"{NEST_SCHEMA.partition("/")[0]}/' in text[:1000]:  # of any version
        return _read_nest(text, folder, place)
    schedule = Schedule.from_json(text, place)
    if layer is None:
        raise UsageError(
            "CLI060", "a schedule has many layers: which one?", place="--layer", hint=_listed(schedule.layers)
        )
    return rebuild(schedule, layer, tile_class, place)


def _listed(layers: tuple[object, ...]) -> str:
    names = [str(getattr(layer, "name", "")) for layer in layers]
    more = f", and {len(names) - 8} more" if len(names) > 8 else ""
    return f"--layer NAME, with one of {', '.join(names[:8])}{more}"


def _read_nest(text: str, folder: Path, place: str) -> TileProblem:
    data = read_object(text, "loop nest", NEST_SCHEMA, place)
    try:
        found = cast("_StandaloneNest", typed(_StandaloneNest, data))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError("CLI020", f"not a loop nest: {error}", place=place) from None
    arch = _arch(found.hw, folder, place)
    nest = _nest(found.nest, arch, place)
    mapping = _mapping(nest, found.loops, found.cuts, place)
    return TileProblem(nest.with_steps(mapping.steps), arch, mapping, EXACT, f"{found.name} on {arch.name}")


def _arch(hw: str, folder: Path, place: str) -> Arch:
    if "{" in hw:
        return parse_arch(hw, f"{place} (hw)")
    if Path(hw).name != hw or "\\" in hw:
        hint = "a name of the library, the name of a .hw file in the same folder, or the text of a page"
        raise UsageError("CLI063", f"hw names a page in another folder: {hw!r}", place=place, hint=hint)
    return load_arch(folder / hw)


def _stack_of(schedule: Schedule, layer: str, place: str) -> StackEntry:
    for stack in schedule.stacks:
        if layer in stack.layers:
            return stack
    names = [name for stack in schedule.stacks for name in stack.layers]
    near = get_close_matches(layer, names, n=3, cutoff=0.4) or names[:3]
    hint = f"did you mean {' or '.join(near)}?" if near else ""
    raise UsageError("CLI060", f"the schedule has no layer '{layer}'", place=place, hint=hint)


class _Reader:
    """Words of a file as values, or CLI063."""

    def __init__(self, place: str):
        self.place = place

    def wrong(self, message: str, hint: str = "") -> UsageError:
        return UsageError("CLI063", message, place=self.place, hint=hint)

    def named(self, what: str, name: str, known: MappingOf[str, T]) -> T:
        """What a name stands for."""
        if name not in known:
            raise self.wrong(f"unknown {what} '{name}'", f"one of {', '.join(known)}")
        return known[name]

    def dim(self, name: str) -> Dim:
        return self.named("loop", name, cast("MappingOf[str, Dim]", Dim.__members__))

    def within(self, what: str, number: float, least: float, most: float = _LARGEST) -> None:
        if not least <= number <= most:
            raise self.wrong(f"{what} is {number:g}, outside of {least:g} to {most:g}")

    def triple(self, what: str, values: tuple[int, int, int], least: int) -> Triple:
        for value in values:
            self.within(what, value, least)
        return values


def _nest(entry: NestEntry, arch: Arch, place: str) -> Nest:
    read = _Reader(place)
    sizes = {read.dim(name): size for name, size in entry.sizes.items()}
    for dim, size in sizes.items():
        read.within(f"loop {dim.name}", size, 1)
    if prod(sizes.values()) > _MOST_STEPS:
        raise read.wrong("the loop nest is too large to count")
    if entry.work not in list(Work):
        raise read.wrong(f"unknown work '{entry.work}'", f"one of {', '.join(Work)}")
    operands = tuple(_operand(o, arch, read) for o in entry.operands)
    order = ["OWI".index(o.role.value) for o in operands]
    if order.count(0) != 1 or order != sorted(order):
        raise read.wrong("the operands are not in order", "one output O first, then weights W, then inputs I")
    unrolled = tuple(_unrolled(u, arch, read) for u in entry.unrolled)
    for array_dim in arch.array.dims:
        lanes = prod(u.lanes for u in unrolled if u.array_dim == array_dim.name)
        read.within(f"the product of all lanes on {array_dim.name}", lanes, 1, array_dim.size)
    return Nest(
        sizes=tuple(sizes.get(d, 1) for d in Dim),
        strides=read.triple("a stride", entry.strides, 1),
        dilations=read.triple("a dilation", entry.dilations, 1),
        operands=operands,
        unrolled=unrolled,
        work=Work(entry.work),
        pads=read.triple("a padding", entry.pads, 0),
        inputs=read.triple("an input extent", entry.inputs, 0),
    )


def _operand(entry: OperandEntry, arch: Arch, read: _Reader) -> NestOperand:
    role = read.named("role", entry.role, {r.value: r for r in Role})
    dims = tuple(map(read.dim, entry.dims))
    windows = tuple(read.named("axis", a, cast("MappingOf[str, Axis]", Axis.__members__)) for a in entry.windows)
    if len(set(dims)) < len(dims) or len(set(windows)) < len(windows):
        raise read.wrong(f"operand {role} names a loop or an axis twice")
    for axis in windows:
        both = (OUTPUT_DIM[axis], KERNEL_DIM[axis])
        if not set(both) <= set(dims) or role is Role.O:
            hint = f"an input with {both[0].name} and {both[1].name} among its dims"
            raise read.wrong(f"operand {role} slides no window along {axis.name}", hint)
    path = [arch.memories[m].name for m in arch.paths[role]]
    if not entry.memories or list(entry.memories) != path[: len(entry.memories)]:
        hint = f"from the array outwards: {', '.join(path)}, or the first of these"
        raise read.wrong(f"the memories of operand {role} are not those of its path", hint)
    for bits in (entry.bits, entry.partial_bits):
        read.within(f"an element of {role} in bits", bits, 0, 1 << 16)
    return NestOperand(role, dims, windows, entry.bits, entry.partial_bits, arch.paths[role][: len(entry.memories)])


def _unrolled(entry: tuple[str, str, int, float], arch: Arch, read: _Reader) -> Unrolled:
    array_dim, loop, lanes, share = entry
    size = read.named("array dimension", array_dim, {d.name: d.size for d in arch.array.dims})
    read.within(f"lanes of {loop} on {array_dim}", lanes, 1, size)
    read.within(f"lanes of {loop} in use on average", share, 1e-9, lanes)
    return Unrolled(array_dim, read.dim(loop), lanes, share)


def _mapping(nest: Nest, loops: tuple[str, ...], cuts: dict[str, tuple[int, ...]], place: str) -> Mapping:
    """The mapping, or CLI051 where it is none of this nest."""

    def wrong(what: str, hint: str) -> UsageError:
        return UsageError("CLI051", f"the mapping does not belong to the loop nest: {what}", place=place, hint=hint)

    found: list[Loop] = []
    for text in loops:
        name, _, size = text.partition(" ")
        if name not in Dim.__members__ or not size.isdecimal() or not 1 <= int(size[:12]) <= _LARGEST:
            raise wrong(f"{text!r} is no loop", "loops are written from the innermost on as 'OX 4'")
        found.append(Loop(Dim[name], int(size)))
    for dim in Dim:
        covered = prod(loop.size for loop in found if loop.dim is dim)
        if covered < nest.fewest_steps[dim]:
            hint = f"{nest.fewest_steps[dim]:,} are left of {nest.sizes[dim]:,} after unrolling"
            raise wrong(f"its loops over {dim.name} make {covered:,} steps", hint)
        if covered > 2 * nest.fewest_steps[dim]:
            hint = f"at most half of the steps may do nothing, and {nest.fewest_steps[dim]:,} do all the work"
            raise wrong(f"its loops over {dim.name} make {covered:,} steps", hint)
    if prod(loop.size for loop in found) > _MOST_STEPS:
        raise wrong("it has too many steps to count", f"at most {_MOST_STEPS:,}, idle ones included")
    names = operand_names(nest)
    if sorted(cuts) != sorted(names):
        raise wrong("its cuts are not those of its operands", f"one list each for {', '.join(names)}")
    for name, operand in zip(names, nest.operands, strict=True):
        cut = cuts[name]
        rising = len(cut) == len(operand.memories) and list(cut) == sorted(cut) and cut[0] >= 0
        if not rising or cut[-1] != len(found):
            hint = f"{len(operand.memories)} numbers that never fall, the last of them {len(found)}"
            raise wrong(f"the cuts of {name} are not those of its memories", hint)
    return Mapping(tuple(found), tuple(cuts[name] for name in names))
