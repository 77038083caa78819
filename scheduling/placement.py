"""Where a stack's tensors live: line buffers and weights for as long as the stack runs, feature maps tile by tile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from dfc.hwdsl.arch import Arch
from dfc.ir import PLACE_DIMS, Graph, Layer, Role
from dfc.passes.tiles import DepthFirstPlan
from dfc.scheduling.levels import MapSizes, MemoryLadder
from dfc.scheduling.parts import LineBuffer, line_buffers

#: what takes less than this part of a memory does not crowd it
_LITTLE = 10


def fetches_weights(layer: Layer) -> bool:
    """Whether each tile brings its own weights: they change from place to place, or another layer computes them."""
    return any(o.role is Role.W and (PLACE_DIMS.intersection(o.dims) or not o.constant) for o in layer.inputs)


@dataclass(frozen=True)
class Lasting:
    """What stays in memories for as long as a stack runs, by index of the memory.

    along, across: per map, the memory of its line buffer along the walk and across it.
    weights:       per layer, the memory in which its weights and constants stay; layers that are not named fetch their
                   weights for every tile.
    taken:         bits by memory.
    resident:      layers whose weights an earlier step brought: they stay from step to step.
    """

    along: Mapping[str, int]
    across: Mapping[str, int]
    weights: Mapping[int, int]
    taken: Mapping[int, int] = field(default_factory=dict[int, int])
    resident: frozenset[int] = frozenset()

    def fits(self, arch: Arch) -> bool:
        """Whether all of it has room."""
        return all(bits <= arch.memories[m].size_bits for m, bits in self.taken.items())


@dataclass(frozen=True, slots=True)
class HeldMap:
    """A whole map that stays on chip from the stack that makes it to the next: its memory, and at which end of it.

    Neighbouring stacks take turns, so that what one reads and what it makes do not meet; not those of a step over time,
    whose maps all have places of their own.
    """

    memory: int
    high: bool = False


Held = Mapping[str, HeldMap]


class Resident:
    """What may stay while a stack runs under a plan, and how much room it takes; ``held`` maps do in any case.

    Others keep ``reserved`` bits of memories meanwhile.
    """

    def __init__(
        self,
        graph: Graph,
        arch: Arch,
        plan: DepthFirstPlan,
        held: Held,
        reserved: Mapping[int, int] = MappingProxyType({}),
    ):
        self.graph = graph
        self.arch = arch
        self.plan = plan
        self.maps = MapSizes(graph, arch)
        self.held = held
        self.reserved = reserved
        lines = line_buffers(graph, plan)
        self.line_buffers = {t: (None, None) if t in held else both for t, both in lines.items()}
        layers = {i: graph.layers[i] for i in plan.stack.layers}
        bits = arch.array.weight_bits
        self.weight_bits = {
            i: layer.weight_elements * bits
            for i, layer in layers.items()
            if layer.weight_elements and not fetches_weights(layer)
        }
        self.ladder = MemoryLadder(arch).shared

    def off_chip(self, lasting: Lasting) -> bool:
        """Whether a line buffer lies in the outermost memory."""
        return self.ladder[-1] in {*lasting.along.values(), *lasting.across.values()}

    def crowd_little(self, lasting: Lasting) -> bool:
        """Whether what stays leaves most of each memory to maps: then none of it is worth keeping off chip."""
        sizes = {m: self.arch.memories[m].size_bits for m in lasting.taken}
        return all(bits * _LITTLE <= sizes[m] for m, bits in lasting.taken.items() if m in self.ladder)

    def map_bits(self, tensor: str) -> int:
        """Bits of a whole map."""
        return self.graph.tensors[tensor].elements * self.arch.array.output_bits

    def line_bits(self, tensor: str, buffer: LineBuffer | None) -> int:
        """Bits of a line buffer."""
        return buffer.positions * self.maps.column_bits(tensor) if buffer else 0

    def lasting(self, along: Mapping[str, int], across: Mapping[str, int], weights: Mapping[int, int]) -> Lasting:
        """These memories, and what they take."""
        taken: dict[int, int] = {}
        for tensor, one in self.held.items():
            taken[one.memory] = taken.get(one.memory, 0) + self.map_bits(tensor)
        for tensor, (a, b) in self.line_buffers.items():
            for chosen, buffer in ((along, a), (across, b)):
                if buffer:
                    taken[chosen[tensor]] = taken.get(chosen[tensor], 0) + self.line_bits(tensor, buffer)
        for layer, memory in weights.items():
            taken[memory] = taken.get(memory, 0) + self.weight_bits[layer]
        return Lasting(along, across, weights, taken)

    def everywhere(self, along: int, across: int, weights: Mapping[int, int]) -> Lasting:
        """All line buffers of a direction in one memory."""
        a = {t: along for t, (buffer, _) in self.line_buffers.items() if buffer}
        b = {t: across for t, (_, buffer) in self.line_buffers.items() if buffer}
        return self.lasting(a, b, weights)

    def uniform(self, weights: Mapping[int, int]) -> list[Lasting]:
        """All ways to keep the line buffers of each direction in one memory that has room; off chip comes last."""
        any_along = any(a for a, _ in self.line_buffers.values())
        any_across = any(b for _, b in self.line_buffers.values())
        found = [
            lasting
            for b in (self.ladder if any_across else self.ladder[:1])
            for a in (self.ladder if any_along else self.ladder[:1])
            if (lasting := self.everywhere(a, b, weights)).fits(self.arch)
        ]
        return sorted(found, key=self.off_chip)

    def weight_choices(self) -> list[dict[int, int]]:
        """Where weights may stay, the most hopeful first: all in the lowest memory with room for them, or in higher
        ones; where not all have room, the largest that do; or none.
        """
        path = self.arch.paths[Role.W][:-1]
        total = sum(self.weight_bits.values())
        free = {m: self.for_weights(m) for m in path}
        found = [dict.fromkeys(self.weight_bits, m) for m in path if total <= free[m]]
        if not found and path:
            found.append(self._some(path, free))
        return [*found, {}] if self.weight_bits else [{}]

    def for_weights(self, memory: int) -> int:
        """Bits of a memory that weights may take: half of it where feature maps share it."""
        size = self.arch.memories[memory].size_bits - self.reserved.get(memory, 0)
        return size // 2 if memory in (*self.arch.paths[Role.I], *self.arch.paths[Role.O]) else size

    def _some(self, path: Sequence[int], free: Mapping[int, int]) -> dict[int, int]:
        left = dict(free)
        found: dict[int, int] = {}
        for layer, bits in sorted(self.weight_bits.items(), key=lambda item: (-item[1], item[0])):
            memory = next((m for m in reversed(path) if bits <= left[m]), None)
            if memory is not None:
                found[layer] = memory
                left[memory] -= bits
        return dict(sorted(found.items()))

    def held_buffers(self, *, high: bool) -> list[Buffer]:
        """Whole maps that stay at the low or at the high end of their memories, without addresses."""
        last = len(self.plan.stack.layers) - 1
        steps = self.graph.time is not None
        return [
            Buffer("map", tensor, one.memory, self.map_bits(tensor), 0, last, steps=steps)
            for tensor, one in self.held.items()
            if one.high is high
        ]

    def buffers_of(self, lasting: Lasting) -> list[Buffer]:
        """What else stays, without addresses: weights first, then line buffers; before both what outlives the step."""
        last = len(self.plan.stack.layers) - 1
        layers = self.graph.layers
        found = [
            Buffer("weights", layers[i].name, memory, self.weight_bits[i], 0, last, steps=i in lasting.resident)
            for i, memory in lasting.weights.items()
        ]
        along, across = self.plan.line_names
        for what, memories, which in ((across, lasting.across, 1), (along, lasting.along, 0)):
            steps = which == 1 and self.graph.time is not None
            for tensor, memory in memories.items():
                line = self.line_buffers[tensor][which]
                bits = self.line_bits(tensor, line)
                found.append(Buffer(what, tensor, memory, bits, 0, last, line=line, steps=steps))
        return sorted(found, key=lambda buffer: not buffer.steps)


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bits of a memory that something takes, from step ``first`` to step ``last`` of a tile, a step for each layer.

    ``address_bits`` is None until ``addresses.py`` gave it one. ``line`` is a line buffer's layout; of
    ``copies`` there are two where a loop nest has a second buffer, and ``bits`` are of both. What ``steps`` stays from
    step to step.
    """

    what: str
    name: str
    memory: int
    bits: int
    first: int
    last: int
    address_bits: int | None = None
    line: LineBuffer | None = None
    copies: int = 1
    steps: bool = False

    def at(self, address_bits: int) -> Buffer:
        """The same with an address."""
        return replace(self, address_bits=address_bits)

    def moved(self, bits: int) -> Buffer:
        """The same so many bits further up."""
        return replace(self, address_bits=(self.address_bits or 0) + bits)
