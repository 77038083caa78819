"""The simulator's bursts: every transfer between memories that a nest causes, and its words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dfc.backend_cost.nest import Nest, Work
from dfc.backend_cost.simulate_walk import NOTHING, Elements, Held, Lane, OperandWalk, Walk
from dfc.hwdsl.arch import Arch, Memory, Move


@dataclass(frozen=True, slots=True)
class Transfer:
    """All that one operand moves across one boundary at one occasion.

    operand:  index into the nest's operands.
    boundary: 0 between the array and memory 0, a between memories a-1 and a of the path.
    up:       away from the array. Inputs always move down; outputs up, and as returning sums down.
    number:   of the stay of memory ``boundary - 1``; of the step at boundary 0.
    inner, outer: bits of every burst at memory ``boundary - 1`` and at memory ``boundary``, one per instance that
              takes part. The array has none.
    after:    for returning sums, the stay that touched them last; else -1.
    """

    operand: int
    boundary: int
    up: bool
    number: int
    inner: tuple[int, ...]
    outer: tuple[int, ...]
    after: int = -1

    def edges(self) -> tuple[tuple[int, Move, tuple[int, ...]], ...]:
        """(level, move, bits of each burst) of the memories that take part."""
        outer = (self.boundary, Move.WRITE_UP if self.up else Move.READ_DOWN, self.outer)
        inner = (self.boundary - 1, Move.READ_UP if self.up else Move.WRITE_DOWN, self.inner)
        return (outer, inner) if self.boundary else (outer,)


def transfers(walk: Walk) -> tuple[Transfer, ...]:
    """Every transfer of the nest, also the empty ones; per operand, boundary and direction in order of time."""
    found: list[Transfer] = []
    for view in walk.operands:
        found.extend(_Sums(view).transfers() if view.operand.is_output else _input_transfers(view))
    return tuple(found)


def _bits(held: Held, bits: int) -> tuple[int, ...]:
    return tuple(len(elements) * bits for elements in held.values() if elements and bits)


def _input_transfers(view: OperandWalk) -> Iterator[Transfer]:
    bits = view.operand.bits
    for step, touched in enumerate(view.touched):
        yield Transfer(view.number, 0, False, step, (), _bits(touched, bits))
    for level in range(view.top):
        before: Held = {}
        for number, stay in enumerate(view.stays[level]):
            fetched = held = view.held(level, stay)
            if view.memories[level].fetch_new:
                fetched = {name: held[name] - before.get(name, NOTHING) for name in held}
            sent = view.union([fetched], level + 1)
            yield Transfer(view.number, level + 1, False, number, _bits(fetched, bits), _bits(sent, bits))
            before = held


class _Sums:
    """Partial sums on their way: what every instance has, as the steps go by."""

    def __init__(self, view: OperandWalk):
        self.view = view
        #: per level, the sums that each instance has in its current stay
        self.has: list[dict[Lane, Elements]] = [{} for _ in view.memories]
        #: per boundary, the stay below it (at boundary 0 the step) that touched each element most recently
        self.recent: list[dict[int, int]] = [{} for _ in view.memories]
        #: the same over the whole walk: the last that ever touches it
        self.last = [self._last(boundary) for boundary in range(len(view.memories))]

    def _last(self, boundary: int) -> dict[int, int]:
        view = self.view
        level = boundary - 1
        occasions = [view.held(level, stay) for stay in view.stays[level]] if boundary else view.touched
        return {e: number for number, held in enumerate(occasions) for part in held.values() for e in part}

    def transfers(self) -> Iterator[Transfer]:
        """All transfers of the output."""
        view = self.view
        levels = range(view.top)
        for step in range(view.walk.steps):
            now = [view.stay_at(level, step) for level in levels]
            for level in reversed(levels):
                if view.stays[level][now[level]].first == step:
                    yield self._return(level, now[level])
            yield from self._step(step)
            for level in levels:
                if view.stays[level][now[level]].end == step + 1:
                    yield self._write_back(level, now[level])

    def _return(self, level: int, number: int) -> Transfer:
        """A stay of a memory begins: what the memory above has of it comes back, each element to one instance."""
        view = self.view
        held = view.held(level, view.stays[level][number])
        given: dict[Lane, set[int]] = {}  # by instance of the memory above
        received: Held = {}
        for name in sorted(held):
            above = view.instance(name, level + 1)
            gone = given.setdefault(above, set())
            received[name] = (held[name] & self.has[level + 1].get(above, NOTHING)) - gone
            gone |= received[name]
        self.has[level] = dict(received)
        after = max((self.recent[level + 1].get(e, -1) for part in received.values() for e in part), default=-1)
        sent = view.union([received], level + 1)
        bits = view.operand.partial_bits
        return Transfer(view.number, level + 1, False, number, _bits(received, bits), _bits(sent, bits), after)

    def _step(self, step: int) -> Iterator[Transfer]:
        """The array adds to sums: those that memory 0 already has are read before, all are written after."""
        view = self.view
        touched = view.touched[step]
        known = {name: touched[name] & self.has[0].get(name, NOTHING) for name in touched}
        yield Transfer(view.number, 0, False, step, (), _bits(known, view.operand.partial_bits))
        yield Transfer(view.number, 0, True, step, (), self._bits_up(touched, 0, step))
        self._take(0, step, touched)

    def _write_back(self, level: int, number: int) -> Transfer:
        """A stay of a memory ends: it sends its sums up; those of several instances are added on the way."""
        view = self.view
        sent = view.held(level, view.stays[level][number])
        taken = view.union([sent], level + 1)
        boundary = level + 1
        self._take(boundary, number, taken)
        inner, outer = self._bits_up(sent, boundary, number), self._bits_up(taken, boundary, number)
        return Transfer(view.number, boundary, True, number, inner, outer)

    def _take(self, boundary: int, number: int, taken: Held) -> None:
        for name, elements in taken.items():
            self.has[boundary][name] = self.has[boundary].get(name, NOTHING) | elements
            self.recent[boundary].update(dict.fromkeys(elements, number))

    def _bits_up(self, held: Held, boundary: int, number: int) -> tuple[int, ...]:
        """Bits of each burst up: of partial sums while more is to be added, of finished outputs at the end."""
        view, last = self.view, self.last[boundary]
        parted = any(
            gap > boundary and u.lanes > 1 and u.loop not in view.operand.dims
            for gap, u in zip(view.gaps, view.walk.nest.unrolled, strict=True)
        )
        final, partial = view.operand.bits, view.operand.partial_bits
        bursts = [sum(partial if parted or last[e] > number else final for e in part) for part in held.values()]
        return tuple(bits for bits in bursts if bits)


Key = tuple[int, int, Move]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What a mapping moves, counted.

    words:  by (index in ``nest.operands``, level on the operand's path, move), in words of the memory's full width
            in that direction; a narrow access counts as the fraction that it costs. All moves are present.
    bursts, bits: how many bursts these are, and the bits in them (before rounding to the smallest access).
    operations: lane-steps that work.
    steps:  combinations of the temporal loops: the cycles without any stall.
    """

    nest: Nest
    words: dict[Key, float]
    bursts: dict[Key, int]
    bits: dict[Key, int]
    operations: int
    steps: int

    def energy_pj(self, arch: Arch) -> float:
        """The energy of all words and operations."""
        array = arch.array
        per_operation = {Work.MAC: array.mac_pj, Work.OPERATION: array.op_pj, Work.NOTHING: 0.0}[self.nest.work]
        total = self.operations * per_operation
        for (operand, level, move), words in self.words.items():
            memory = arch.memories[self.nest.operands[operand].memories[level]]
            total += words * (memory.read_pj if is_read(move) else memory.write_pj)
        return total


def is_read(move: Move) -> bool:
    """Whether a move reads the memory (else it writes it)."""
    return move in (Move.READ_DOWN, Move.READ_UP)


def width(memory: Memory, move: Move) -> int:
    """Bits per cycle of the memory in a move's direction."""
    return memory.read_bits_per_cycle if is_read(move) else memory.write_bits_per_cycle


def count(walk: Walk, moved: tuple[Transfer, ...]) -> Traffic:
    """Add all bursts up."""
    keys = [(view.number, level, move) for view in walk.operands for level in range(view.top + 1) for move in Move]
    accessed, bursts, bits = (dict.fromkeys(keys, 0) for _ in range(3))
    for transfer in moved:
        memories = walk.operands[transfer.operand].memories
        for level, move, edge in transfer.edges():
            memory, key = memories[level], (transfer.operand, level, move)
            least = memory.min_read_bits if is_read(move) else memory.min_write_bits
            accessed[key] += sum(-(-burst // least) * least for burst in edge)
            bursts[key] += len(edge)
            bits[key] += sum(edge)
    words = {key: accessed[key] / width(walk.operands[key[0]].memories[key[1]], key[2]) for key in keys}
    operations = int(walk.valid.sum())
    return Traffic(nest=walk.nest, words=words, bursts=bursts, bits=bits, operations=operations, steps=walk.steps)
