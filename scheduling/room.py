"""Room in memories: what a mapping takes of them, and mappings that make do with what is left."""

from __future__ import annotations

from collections.abc import Mapping as AbstractMapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf

from dfc.backend_cost.contents import contents
from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import MappingCost, TooSmall
from dfc.backend_cost.mapping_rules import LayerRules
from dfc.backend_cost.nest import Nest
from dfc.backend_cost.spatial import elements
from dfc.hwdsl.arch import Arch

#: bits left of a memory, by its index; memories that are not named are free
Room = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class HeldPart:
    """What a running layer keeps of one operand in one memory: bits per instance, ``copies`` of them (two buffers)."""

    operand: int
    level: int
    memory: int
    bits: int
    copies: int

    @property
    def room_bits(self) -> int:
        """All that it takes."""
        return self.bits * self.copies


@dataclass(frozen=True)
class Fitted:
    """A mapping with what it takes besides the operands themselves where they live.

    That is what it keeps below, and where an output's sums are still partial when they come to where it lives, the bits
    by which these are wider.
    """

    nest: Nest
    cost: MappingCost
    parts: tuple[HeldPart, ...]
    sizes: Room = ()  # of memories that were smaller for the mapping than they are

    def fits(self, room: AbstractMapping[int, int]) -> bool:
        """Whether what it takes fits the bits left of memories; of those that are not named, all is left."""
        return all(bits <= room.get(m, bits) for m, bits in self.taken.items())

    @cached_property
    def taken(self) -> dict[int, int]:
        """Bits by memory."""
        found: dict[int, int] = {}
        for part in self.parts:
            found[part.memory] = found.get(part.memory, 0) + part.room_bits
        return found


class FittedMappings:
    """Best mappings of nests in memories that are partly taken."""

    def __init__(self, cache: MappingCache):
        self.cache = cache
        self.arch = cache.arch
        self._views: dict[Room, MappingCache] = {}
        self._held: dict[tuple[Nest, Room, LayerRules | None], Fitted | TooSmall] = {}
        self._best: dict[tuple[Nest, LayerRules | None], list[tuple[Room, Fitted]]] = {}

    @classmethod
    def of(cls, cache: MappingCache) -> FittedMappings:
        """The same for all who ask the same cache."""
        found = cache.notes.get(cls)
        if not isinstance(found, FittedMappings):
            found = cache.notes[cls] = cls(cache)
        return found

    def best(self, nest: Nest, room: AbstractMapping[int, int], rules: LayerRules | None = None) -> Fitted | TooSmall:
        """The best mapping whose parts below the operands' top memories fit the bits left of each memory in ``room``.

        Memories that ``room`` does not name are as large as they are.
        """
        free = self.free(nest, rules)
        if isinstance(free, TooSmall) or free.fits(room):
            return free
        used = {m for operand in nest.operands for m in operand.memories[:-1]}
        left = {m: bits for m, bits in sorted(room.items()) if m in used}
        known = self._best.setdefault((nest, rules), [])
        better = next((best for more, best in known if best.fits(room) and _within(left, more)), None)
        if better is not None:
            return better
        asked = tuple(left.items())
        while True:
            found = self._fit(nest, tuple(left.items()), rules)
            if isinstance(found, TooSmall):
                return found
            over = {m: found.taken.get(m, 0) - room[m] for m in left}
            if all(bits <= 0 for bits in over.values()):
                if found.cost.gap == 0.0 and asked == tuple(left.items()):
                    known.append((asked, found))  # no other is better in less room in which it fits
                return found
            short = next((m for m, bits in left.items() if over[m] > 0 >= bits), None)
            if short is not None:  # it was left nothing
                return TooSmall(short, self.arch.memories[short].size_bits + over[short])
            # the search counts lanes that idle in part of the steps by their share: leave it less
            left = {m: bits - max(0, over[m]) for m, bits in left.items()}

    def free(self, nest: Nest, rules: LayerRules | None = None) -> Fitted | TooSmall:
        """The best mapping where memories are as large as they are."""
        return self._fit(nest, (), rules)

    def _fit(self, nest: Nest, room: Room, rules: LayerRules | None) -> Fitted | TooSmall:
        key = (nest, room, rules)
        found = self._held.get(key)
        if found is None:
            found = self._held[key] = self._solve(nest, self._sized(nest, room), rules)
        return found

    def _sized(self, nest: Nest, room: Room) -> Room:
        """Sizes that leave the parts ``room``: the mapping search takes off the operands that live there itself."""
        own = {m: 0 for m, _ in room}
        for operand, bits in zip(nest.operands, whole_bits(nest), strict=True):
            if operand.memories[-1] in own:
                own[operand.memories[-1]] += bits
        sizes = ((m, max(0, bits) + own[m]) for m, bits in room)
        return tuple((m, bits) for m, bits in sizes if bits != self.arch.memories[m].size_bits)

    def _solve(self, nest: Nest, sizes: Room, rules: LayerRules | None) -> Fitted | TooSmall:
        cache = self._view(sizes)
        cost = cache.best(nest, rules)
        if isinstance(cost, TooSmall):
            return cost
        return held(nest, cache.arch, cost, sizes)

    def _view(self, sizes: Room) -> MappingCache:
        if not sizes:
            return self.cache
        found = self._views.get(sizes)
        if found is None:
            memories = list(self.arch.memories)
            for m, bits in sizes:
                memories[m] = replace(memories[m], size_bits=bits)
            view = replace(self.arch, memories=tuple(memories))
            found = self._views[sizes] = MappingCache(view, self.cache.objective, self.cache.model, self.cache.store)
        return found


def _within(room: AbstractMapping[int, int], more: Room) -> bool:
    """Whether no memory has more room than there."""
    return all(room.get(m, inf) <= bits for m, bits in more)


def whole_bits(nest: Nest) -> list[int]:
    """Per operand, the finished bits of all of it, as the mapping search counts them at its uppermost memory."""
    extents = [float(n) for n in nest.sizes]
    return [int(elements(nest, operand, extents)) * operand.bits for operand in nest.operands]


def held(nest: Nest, arch: Arch, cost: MappingCost, sizes: Room = ()) -> Fitted:
    """What a mapping keeps where, with the second buffers that are granted in what ``arch`` has room for.

    ``sizes`` say in which memories that is less than there is. Lanes are counted whole: the mapping search counts them
    by the share of them that works on average, which is less.

    What is replaced in a single access needs no second buffer (docs/simulator.md).
    """
    parts: list[HeldPart] = []
    for i, (operand, levels) in enumerate(zip(nest.operands, contents(nest, arch, cost.mapping), strict=True)):
        for level, (memory, content) in enumerate(zip(operand.memories, levels, strict=True)):
            bits = content.most * (operand.partial_bits if content.partial else operand.bits)
            if level == len(operand.memories) - 1:
                wider = bits - content.most * operand.bits
                parts += [HeldPart(i, level, memory, wider, 1)] if wider else []
                continue
            chip = arch.memories[memory]
            at_once = bits <= min(chip.read_bits_per_cycle, chip.write_bits_per_cycle)
            parts.append(HeldPart(i, level, memory, bits, 2 if content.second and not at_once else 1))
    return Fitted(nest, cost, tuple(parts), sizes)
