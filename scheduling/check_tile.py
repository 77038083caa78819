"""A tile class of a schedule, layer by layer: is all that a layer needs where the schedule says that it lies?

Everything is recounted from the schedule's file, slowly and plainly; nothing that placed the tensors is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from dfc.backend_cost.schedule import (
    BufferEntry,
    CopyEntry,
    LayerEntry,
    MadeEntry,
    NestEntry,
    ReadEntry,
    StackEntry,
    TileClassEntry,
    TileLayer,
)
from dfc.hwdsl import Arch
from dfc.scheduling.check_held import NoNestError, held_by

#: copies whose target is no buffer: what streams through on the way to the array
_STREAMED = {"constants", "opaque input", "opaque weights", "opaque output"}

#: copies that also take what lies in caches beside the map that they start from or end in
_WHOLE = {"input", "feature map", "output"}


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that a schedule says and that does not hold.

    ``over_bits`` is by how much, 0 where it is not about bits. The others are empty (-1) where it is not about one.
    """

    what: str
    over_bits: int = 0
    stack: int = -1
    tile_class: int = -1
    layer: str = ""
    memory: str = ""


def worse(found: Violation) -> tuple[int, int, int]:
    """Sorts violations, the worst first; in the order of the file among equals."""
    return -found.over_bits, found.stack, found.tile_class


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that is alive at once in one instance of a memory, and where that is."""

    memory: str
    size_bits: int
    bits: int
    stack: int = -1
    tile_class: int = -1
    layer: str = ""


@dataclass(frozen=True)
class Place:
    """A tile class with all that its tiles can find in memories.

    number, index: of the stack and of the class.
    buffers:       of the class and of the stack.
    off_chip:      what lies in the outermost memory ``outside``.
    others:        what other stacks keep meanwhile, from step to step.
    """

    number: int
    index: int
    stack: StackEntry
    tile: TileClassEntry
    arch: Arch
    outside: str
    off_chip: tuple[BufferEntry, ...]
    others: tuple[BufferEntry, ...] = ()
    step: dict[str, int] = field(init=False)
    _alive: dict[int, list[BufferEntry]] = field(init=False, default_factory=dict[int, list[BufferEntry]])

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", {name: at for at, name in enumerate(self.stack.layers)})

    def wrong(self, what: str, layer: str, memory: str, over_bits: int = 0) -> Violation:
        """Something that does not hold in this class."""
        return Violation(what, over_bits, self.number, self.index, layer, memory)

    def span(self, buffer: BufferEntry) -> tuple[int, int]:
        """First and last step at which a buffer is alive; none at all (1, 0) where it names no layer of the stack."""
        if not buffer.first and not buffer.last:
            return 0, len(self.stack.layers) - 1
        return self.step.get(buffer.first, 1), self.step.get(buffer.last, -1)

    def alive(self, step: int) -> list[BufferEntry]:
        """All buffers that are there while a layer runs."""
        if step not in self._alive:
            spans = [(b, *self.span(b)) for b in self.tile.buffers]
            here = [b for b, first, last in spans if first <= step <= last]
            self._alive[step] = [*self.stack.buffers, *here]
        return self._alive[step]

    def found(self, what: str, name: str, memory: str, step: int) -> list[BufferEntry]:
        """The buffers of a kind and name in a memory at a step."""
        return [b for b in self.alive(step) if (b.what, b.name, b.memory) == (what, name, memory)]

    def bits(self, what: str, name: str, memory: str, step: int) -> int:
        """What they hold."""
        return sum(b.bits for b in self.found(what, name, memory, step))

    def cache_memory(self, what: str, tensor: str) -> str | None:
        """Where a cache of a map lies."""
        return next((b.memory for b in self.stack.buffers if (b.what, b.name) == (what, tensor)), None)

    def whole_map(self, tensor: str) -> tuple[str | None, int]:
        """Where a map lies that the stack before left on chip as a whole, and its bits; None, 0: nowhere."""
        found = (b for b in self.stack.buffers if (b.what, b.name) == ("map", tensor))
        return next(((b.memory, b.bits) for b in found), (None, 0))


@dataclass(frozen=True, slots=True)
class _Map:
    """A map that the tile made or fetched: where, when, and until when it is read."""

    made: MadeEntry
    memory: str
    first: int
    last: int


def check_class(place: Place, layers: dict[str, LayerEntry]) -> Iterator[Violation]:
    """Everything about one class, layer by layer."""
    maps = dict(_maps(place))
    yield from _order(place)
    for run in place.tile.layers:
        if run.layer not in place.step:
            continue
        yield from _copies(place, run)
        if run.nest is None:
            continue
        yield from _loops(place, run, run.nest)
        yield from _weights(place, run, run.nest, layers)
        for read in run.reads:
            yield from _read(place, run, read, maps)
    for name, found in maps.items():
        yield from _lives(place, name, found)


def _order(place: Place) -> Iterator[Violation]:
    """The layers of the class are those of the stack, in its order."""
    steps = [place.step.get(run.layer, -1) for run in place.tile.layers]
    if -1 in steps or steps != sorted(set(steps)):
        yield place.wrong("the class does not run the stack's layers in their order", "", "")
    for run in place.tile.layers:
        if run.nest is not None and [made.fetched for made in run.makes].count(False) != 1:
            yield place.wrong("the file does not say what one map the layer makes", run.layer, "")


def _maps(place: Place) -> Iterator[tuple[str, _Map]]:
    """What the tile makes and fetches of maps, with the time for which it must stay."""
    for run in place.tile.layers:
        for made in run.makes:
            first = place.step.get(run.layer, -1)
            readers = [
                place.step.get(other.layer, -1)
                for other in place.tile.layers
                for read in other.reads
                if read.tensor == made.tensor and read.fresh_bits
            ]
            home = _input_memory(place, run, made.tensor) if made.fetched else run.memories.get("O", "")
            yield made.tensor, _Map(made, home, first, max([first, *readers]))


def _input_memory(place: Place, run: TileLayer, tensor: str) -> str:
    """Where a layer reads maps; a product of two maps that has none as input finds it where the map lies."""
    if "I" in run.memories:
        return run.memories["I"]
    here = (b.memory for b in place.alive(place.step[run.layer]) if b.name == tensor and b.what in ("window", "map"))
    return next(here, place.outside)


# --- what a layer's loops keep


def _loops(place: Place, run: TileLayer, nest: NestEntry) -> Iterator[Violation]:
    step = place.step[run.layer]
    try:
        parts = held_by(run, nest, place.arch)
    except NoNestError as error:
        yield place.wrong(f"the mapping does not belong to the loop nest: {error}", run.layer, "")
        return
    for part in parts:
        buffers = place.found("loops", part.operand, part.memory, step)
        buffers = [b for b in buffers if b.first == b.last == run.layer]
        room = min((b.bits // max(1, b.copies) for b in buffers), default=0)
        if room < part.bits:
            what = f"its loops keep {part.bits:,} bits of {part.operand}, a buffer has {room:,}"
            yield place.wrong(what, run.layer, part.memory, part.bits - room)
        if any(b.copies not in (1, 2) or b.bits % max(1, b.copies) for b in buffers):
            yield place.wrong(f"a buffer of {part.operand} is neither single nor double", run.layer, part.memory)
    tops = {o.role: o.memories[-1] for o in nest.operands}
    if tops != run.memories:
        yield place.wrong("its operands do not live where the loop nest ends", run.layer, "")


# --- what a layer reads


def _weights(place: Place, run: TileLayer, nest: NestEntry, layers: dict[str, LayerEntry]) -> Iterator[Violation]:
    for operand in nest.operands:
        memory = operand.memories[-1]
        if operand.role != "W" or memory == place.outside:
            continue
        need = operand.bits
        for name in operand.dims:
            need *= nest.sizes.get(name, 1)
        layer = layers.get(run.layer)
        if layer is not None:  # a transposed one's loops count taps that some of its phases do not have
            need = layer.weight_bits if layer.op == "conv_transpose" else max(need, layer.weight_bits)
        have = place.bits("weights", run.layer, memory, place.step[run.layer])
        if have < need:
            what = f"its weights are {need:,} bits, {have:,} stay there"
            yield place.wrong(what, run.layer, memory, need - have)


def _read(place: Place, run: TileLayer, read: ReadEntry, maps: dict[str, _Map]) -> Iterator[Violation]:
    """Each part lies in the memory in which the layer reads, or a copy of it does and is there in time."""
    step = place.step[run.layer]
    here = _input_memory(place, run, read.tensor)
    away = 0
    known = maps.get(read.tensor)
    if read.fresh_bits and (known is None or known.first > step or known.made.bits < read.fresh_bits):
        yield place.wrong(f"it reads more of '{read.tensor}' than the tile has made or fetched", run.layer, here)
    parts = [("feature map", known.memory if known else None, read.fresh_bits, known.made.bits if known else 0)]
    for what, bits in (("H cache", read.h_cache_bits), ("V cache", read.v_cache_bits)):
        memory = place.cache_memory(what, read.tensor)
        room = place.bits(what, read.tensor, memory, step) if memory else 0
        parts.append((f"read {what}", memory, bits, room))
        if bits > room:
            what = f"it reads {bits:,} bits of '{read.tensor}' out of the {what}, which has {room:,}"
            yield place.wrong(what, run.layer, memory or "", bits - room)
    memory, room = place.whole_map(read.tensor)
    parts.append(("feature map", memory, read.held_bits, room))
    if read.held_bits > room:
        what = f"it reads {read.held_bits:,} bits of '{read.tensor}' out of a map that stays, which has {room:,}"
        yield place.wrong(what, run.layer, memory or "", read.held_bits - room)
    for what, memory, bits, _ in parts:
        if not bits or memory in (None, here):
            continue
        away += bits
        copied = sum(
            c.bits for c in run.copies if (c.what, c.tensor, c.source, c.target) == (what, read.tensor, memory, here)
        )
        if copied < bits:
            what = f"of {bits:,} bits of '{read.tensor}' in {memory} that it reads, {copied:,} are copied"
            yield place.wrong(what, run.layer, here, bits - copied)
    window = place.bits("window", read.tensor, here, step)
    if window < away:
        what = f"the copy of '{read.tensor}' that it reads needs {away:,} bits, its window has {window:,}"
        yield place.wrong(what, run.layer, here, away - window)


# --- maps between layers


def _lives(place: Place, name: str, found: _Map) -> Iterator[Violation]:
    """The map has room from the layer that makes it to the last that reads it, save for what lies in caches there."""
    need = found.made.bits
    for what, bits in (("H cache", found.made.h_cache_bits), ("V cache", found.made.v_cache_bits)):
        memory = place.cache_memory(what, name)
        room = place.bits(what, name, memory, found.first) if memory else 0
        if bits > room:
            message = f"{bits:,} bits of '{name}' go into the {what}, which has {room:,}"
            yield place.wrong(message, place.stack.layers[found.first], memory or "", bits - room)
        if bits and memory == found.memory:
            need -= bits
        elif bits and memory:
            yield from _written(place, name, found, f"write {what}", memory, bits)
    for step in range(found.first, found.last + 1):
        have = place.bits("map", name, found.memory, step)
        if have < need:
            message = f"'{name}' takes {need:,} bits, {have:,} are kept for it"
            yield place.wrong(message, place.stack.layers[step], found.memory, need - have)


def _written(place: Place, name: str, found: _Map, what: str, memory: str, bits: int) -> Iterator[Violation]:
    """A cache in another memory gets its part by copies that start at the layer itself, or at one after it."""
    key = (what, name, found.memory, memory)
    copied = sum(
        c.bits for run in place.tile.layers for c in run.copies if (c.what, c.tensor, c.source, c.target) == key
    )
    if copied < bits:
        message = f"of {bits:,} bits of '{name}' for later tiles, {copied:,} are copied"
        yield place.wrong(message, place.stack.layers[found.first], memory, bits - copied)


def _copies(place: Place, run: TileLayer) -> Iterator[Violation]:
    """A copy's source and target are there while it runs, and have room for it."""
    step = place.step[run.layer]
    for copy in run.copies:
        if copy.what in _STREAMED:
            continue
        sides = _sides(copy)
        if sides is None:
            yield place.wrong(f"nobody knows copies called '{copy.what}'", run.layer, copy.target)
            continue
        for kind, memory in zip(sides, (copy.source, copy.target), strict=True):
            if kind == "off chip":
                outer = "weights" if copy.what == "weights" else "map"
                whole = [b.bits for b in place.off_chip if (b.what, b.name) == (outer, copy.tensor)]
                have = sum(whole) if memory == place.outside else 0
            else:
                have = place.bits(kind, copy.tensor, memory, step)
                have += _in_caches(place, copy.tensor, memory, step) if copy.what in _WHOLE else 0
            if have < copy.bits:
                message = f"the copy '{copy.what}' of '{copy.tensor}' has {copy.bits:,} bits, its place there {have:,}"
                yield place.wrong(message, run.layer, memory, copy.bits - have)


def _in_caches(place: Place, tensor: str, memory: str, step: int) -> int:
    """What of a map may lie in its caches in the same memory."""
    return sum(place.bits(what, tensor, memory, step) for what in ("H cache", "V cache"))


def _sides(copy: CopyEntry) -> tuple[str, str] | None:
    """The kinds of buffers from which and into which a copy goes."""
    return {
        "input": ("off chip", "map"),
        "weights": ("off chip", "weights"),
        "output": ("map", "off chip"),
        "feature map": ("map", "window"),
        "read H cache": ("H cache", "window"),
        "read V cache": ("V cache", "window"),
        "write H cache": ("map", "H cache"),
        "write V cache": ("map", "V cache"),
    }.get(copy.what)
