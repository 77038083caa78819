"""What a schedule claims, counted again: operations, traffic off chip, the most that memories hold at once.

Operations and copies are counted while tiles run; what the loops of a layer move off chip is what the cost model says
of the file's loop nest, once for each tile that ran. The nests themselves are compared with the layers of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from dfc.backend_cost.cost_model import model_by_name
from dfc.backend_cost.mapping_cost import price_mapping
from dfc.backend_cost.rebuild import rebuild_tile
from dfc.backend_cost.schedule import (
    BufferEntry,
    CopyEntry,
    NestEntry,
    Schedule,
    StackEntry,
    TileClassEntry,
    TileLayer,
)
from dfc.errors import UsageError
from dfc.execution.fault import Fault
from dfc.execution.tile_run import Counts
from dfc.hwdsl import Arch
from dfc.ir import OUTPUT_DIMS, Axis, Dim, Graph, Layer, Role

#: traffic is counted in whole words, and sums of many parts are rounded once
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Claim:
    """A number that the schedule claims, and what was counted."""

    what: str
    claimed: int
    counted: int

    @property
    def holds(self) -> bool:
        """Whether both are the same, save for rounding of large sums."""
        return abs(self.claimed - self.counted) <= max(0.0, _ROUNDING * self.claimed)


@dataclass(frozen=True, slots=True)
class Peak:
    """The most bits of one instance of a memory that are taken at once."""

    memory: str
    size_bits: int
    bits: int


def peaks(schedule: Schedule, arch: Arch) -> list[Peak]:
    """Of every memory; all tiles of a class take the same."""
    lasting: dict[str, int] = {}
    for b in schedule.off_chip:
        lasting[b.memory] = lasting.get(b.memory, 0) + b.bits
    most = dict(lasting)
    staying = dict.fromkeys(b for stack in schedule.stacks for b in stack.buffers if b.steps)
    for stack in schedule.stacks:
        others = [b for b in staying if b not in stack.buffers]
        for tile in stack.tile_classes:
            for bits in _taken(stack, tile, others):
                for memory, here in bits.items():
                    most[memory] = max(most.get(memory, 0), here + lasting.get(memory, 0))
    return [Peak(m.name, m.size_bits, most.get(m.name, 0)) for m in arch.memories]


def _taken(stack: StackEntry, tile: TileClassEntry, others: Sequence[BufferEntry]) -> Iterator[dict[str, int]]:
    """Bits by memory while each layer runs; ``others`` is what stays of other stacks from step to step."""
    names = {name: step for step, name in enumerate(stack.layers)}
    for step in range(len(names)):
        found: dict[str, int] = {}
        for b in (*stack.buffers, *tile.buffers, *others):
            if not b.first or names.get(b.first, 0) <= step <= names.get(b.last, -1):
                found[b.memory] = found.get(b.memory, 0) + b.bits
        yield found


def macs(schedule: Schedule, graph: Graph, counts: Counts) -> Iterator[Claim]:
    """Multiply-accumulates of each layer and in all.

    Raises:
        Fault: where the file lists a layer that there is not.
    """
    total = 0
    for entry in schedule.layers:
        if entry.name not in graph.index:
            raise Fault("file", f"the list of layers has '{entry.name}', which the model lacks")
        layer = graph.layers[graph.index[entry.name]]
        extents = graph.made(layer.output)
        counted = layer.macs * counts.positions.get(layer.name, 0) // max(1, extents[Axis.X] * extents[Axis.Y])
        yield Claim(f"multiply-accumulates of '{entry.name}'", entry.macs, counted)
        total += counted
    yield Claim("multiply-accumulates", schedule.totals.macs, total)
    yield Claim("multiply-accumulates of the network", schedule.totals.network_macs, graph.macs)


class Traffic:
    """Bits that cross the chip's border, read from off chip and written there."""

    def __init__(self, schedule: Schedule, arch: Arch, graph: Graph):
        self.schedule = schedule
        self.arch = arch
        self.graph = graph
        self.outside = arch.paths[Role.O][-1]
        self.names = {m.name: n for n, m in enumerate(arch.memories)}

    def claims(self, counts: Counts, ran: dict[tuple[int, int], int]) -> list[Claim]:
        """``ran``: how many tiles of each (stack, class) ran.

        Raises:
            Fault: where a loop nest or a mapping contradicts itself.
        """
        read = write = 0.0
        for (_, copy), times in counts.copies.items():
            r, w = self._copy(copy)
            read, write = read + times * r, write + times * w
        for (stack, number), times in ran.items():
            for run in self.schedule.stacks[stack].tile_classes[number].layers:
                r, w = self._loops(run)
                read, write = read + times * r, write + times * w
        totals = self.schedule.totals
        return [
            Claim("bits read off chip", totals.dram_read_bits, round(read)),
            Claim("bits written off chip", totals.dram_write_bits, round(write)),
        ]

    def _copy(self, copy: CopyEntry) -> tuple[float, float]:
        """(bits read, bits written) off chip, in whole words."""
        memory = self.arch.memories[self.outside]
        words_out = ceil(copy.bits / memory.min_read_bits) * memory.min_read_bits
        words_in = ceil(copy.bits / memory.min_write_bits) * memory.min_write_bits
        ends = [self.names.get(name, -1) for name in (copy.source, copy.target)]
        if -1 in ends:
            raise Fault("file", f"a copy goes from {copy.source} to {copy.target}: the chip lacks one of them")
        if self.outside not in ends:
            return (words_out, words_in) if self._meet_outside(*ends) else (0.0, 0.0)
        if ends[0] == ends[1]:
            return 0.0, 0.0
        return (words_out, 0.0) if ends[0] == self.outside else (0.0, words_in)

    def _meet_outside(self, source: int, target: int) -> bool:
        """Whether the ways outwards from two memories meet off chip alone."""
        ways = [
            {m for path in self.arch.paths.values() if end in path for m in path[path.index(end) :]}
            for end in (source, target)
        ]
        return ways[0] & ways[1] == {self.outside}

    def _loops(self, run: TileLayer) -> tuple[float, float]:
        if run.nest is None:
            return 0.0, 0.0
        model = model_by_name(self.schedule.cost_model)
        try:
            problem = rebuild_tile(run, self.arch, model, run.layer, "schedule")
        except UsageError as error:
            raise Fault("file", f"the loops of '{run.layer}': {error.message}") from None
        cost = price_mapping(problem.nest, problem.arch, problem.mapping, model)
        return cost.read_bits.get(self.outside, 0.0), cost.write_bits.get(self.outside, 0.0)


def check_nest(run: TileLayer, nest: NestEntry, layer: Layer, graph: Graph) -> None:
    """The file's loop nest is that of the layer's tile.

    Raises:
        Fault: where it is not.
    """
    t = graph.tensors[layer.output].spatial[Axis.T]
    sizes = layer.tile_sizes((t, run.extents[1], run.extents[0]))
    wanted = {d.name: sizes[d] for d in Dim if sizes[d] > 1}
    work = "mac" if layer.macs else None
    dims = sorted((o.role.value, tuple(d.name for d in o.dims)) for o in layer.inputs)
    dims = [("O", tuple(d.name for d in OUTPUT_DIMS)), *dims]
    said = [(o.role, o.dims) for o in nest.operands if o.role == "O"]
    said += sorted((o.role, o.dims) for o in nest.operands if o.role != "O")
    homes = {o.role: o.memories[-1] for o in nest.operands if o.memories}
    for what, have, want in (
        ("sizes", nest.sizes, wanted),
        ("strides", nest.strides, layer.strides),
        ("dilations", nest.dilations, layer.dilations),
        ("operands", said, dims),
        ("homes of operands", homes, run.memories),
        ("work", nest.work == "mac", work == "mac"),
    ):
        if have != want:
            cause = "a parameter of the layer is wrong"
            raise Fault(
                "file", f"the {what} of the loop nest are {have}, those of the layer's tile {want}", cause=cause
            )
