"""Which memory level each feature map, cache and weight of a depth-first tile lives at (B.b, as intended there).

Live feature maps come first, then the horizontal cache, then the vertical one, then weights; each takes the lowest
level that is large enough for it and everything before it. Levels count from the array on a role's path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod

from dfc.errors import DfcError
from dfc.hwdsl.arch import Arch
from dfc.ir import Axis, Dim, Graph, Layer, Role
from dfc.passes.axis_tiles import AxisStep
from dfc.passes.stacks import Stack
from dfc.passes.tiles import DepthFirstPlan, TileClass
from dfc.units import sizes

_CHANNELS = frozenset({Dim.G, Dim.K, Dim.C})


@dataclass(frozen=True, slots=True)
class Infeasible:
    """Why a plan does not fit: what was to be stored, how many bits it needs, and the largest memory it may use.

    cause: finds out what the user fixed and has to loosen, where that is to blame.
    """

    what: str
    demand_bits: int
    memory: str
    bound_bits: int
    hint: str
    cause: Callable[[], DfcError | None] | None = None

    def __str__(self) -> str:
        needed, room = sizes(self.demand_bits, self.bound_bits)
        return f"{self.what}: {needed} are needed, memory '{self.memory}' has {room}"


class MapSizes:
    """Bits of feature-map regions as the chip stores them."""

    def __init__(self, graph: Graph, arch: Arch):
        self.graph = graph
        self.bits = arch.array.output_bits
        self._column: dict[str, int] = {}
        self._read: dict[tuple[str, str], int] = {}

    def column_bits(self, tensor: str) -> int:
        """Bits of one position (all channels, batch and time)."""
        found = self._column.get(tensor)
        if found is None:
            t = self.graph.tensors[tensor]
            found = self._column[tensor] = t.batch * t.channels * t.spatial[Axis.T] * self.bits
        return found

    def region_bits(self, tensor: str, x: int, y: int) -> int:
        """Bits of a region of x columns and y rows."""
        return self.column_bits(tensor) * x * y

    def read_bits(self, layer: Layer, tensor: str, x: int, y: int) -> int:
        """Bits that a layer reads of a region: of all channels, save where its loops lead to fewer."""
        have = self.graph.tensors[tensor].channels
        read = self._read.get((layer.name, tensor))
        if read is None:
            read = self._read[layer.name, tensor] = min(have, self._channels_read(layer, tensor))
        return self.region_bits(tensor, x, y) * read // have

    def _channels_read(self, layer: Layer, tensor: str) -> int:
        """Iterations over channels; all channels where loops lead to every element, whichever its axes lie on."""
        size = self.graph.tensors[tensor]
        mine = [o.dims for o in layer.inputs if any(s.tensor == tensor for s in o.sources)]
        if any(prod(layer.sizes[d] for d in dims) >= size.elements for dims in mine):
            return size.channels
        return max(prod(layer.sizes[d] for d in dims if d in _CHANNELS) for dims in mine)

    def row_bits(self, tensor: str, rows: int) -> int:
        """Bits of whole rows of the map."""
        return self.region_bits(tensor, self.graph.tensors[tensor].spatial[Axis.X], rows)


@dataclass(frozen=True)
class ClassDemand:
    """What one tile class keeps alive: feature maps in use at once, column caches, row caches, their corner."""

    live_bits: int
    h_cache_bits: int
    v_cache_bits: int
    corner_bits: int


def class_demand(graph: Graph, stack: Stack, tile: TileClass, maps: MapSizes) -> ClassDemand:
    """The demand of a tile class (B.b.1)."""
    steps = {name: (x, y) for (name, x), (_, y) in zip(tile.x.tensors, tile.y.tensors, strict=True)}
    rows = {name: y.fresh for name, (_, y) in steps.items()}
    last_use = {t: max((i for i in graph.consumers[t] if i in stack.layers), default=-1) for t in steps}
    alive = {t: maps.region_bits(t, steps[t][0].fresh, steps[t][1].fresh) for t in stack.inputs}
    peak = 0
    for i, reads_x, reads_y in zip(stack.layers, tile.x.reads, tile.y.reads, strict=True):
        layer = graph.layers[i]
        windows: dict[str, int] = {}
        for source, rx, ry in zip(layer.sources, reads_x, reads_y, strict=True):
            bits = maps.read_bits(layer, source.tensor, rx.window, ry.window)
            windows[source.tensor] = max(windows.get(source.tensor, 0), bits)
            rows[source.tensor] = max(rows[source.tensor], ry.window)
        made = {t: maps.region_bits(t, steps[t][0].fresh, steps[t][1].fresh) for t in layer.outputs}
        others = sum(bits for t, bits in alive.items() if t not in windows)
        peak = max(peak, others + sum(windows.values()) + sum(made.values()))
        alive |= made
        alive = {t: bits for t, bits in alive.items() if last_use[t] > i}
    return ClassDemand(
        live_bits=peak,
        h_cache_bits=sum(maps.region_bits(t, x.cached, rows[t]) for t, (x, _) in steps.items()),
        v_cache_bits=sum(maps.row_bits(t, y.cached) for t, (_, y) in steps.items()),
        corner_bits=sum(maps.region_bits(t, x.cached, y.cached) for t, (x, y) in steps.items()),
    )


class MemoryLadder:
    """The memories that may hold feature maps between layers: on the paths of inputs and outputs, one instance each."""

    def __init__(self, arch: Arch):
        self.arch = arch

    @cached_property
    def shared(self) -> tuple[int, ...]:
        """Memories that hold inputs and outputs, from the array outwards."""
        inputs = self.arch.paths[Role.I]
        return tuple(m for m in self.arch.paths[Role.O] if m in inputs and self.arch.memories[m].instances == 1)

    def lowest_shared(self, bits: int) -> int:
        """The lowest shared memory of at least ``bits``; the top one if none is (which check_top rules out)."""
        return next((m for m in self.shared if self.arch.memories[m].size_bits >= bits), self.shared[-1])

    def lowest(self, role: Role, bits: int, reserved: tuple[int, int] = (-1, 0)) -> int:
        """The lowest level of a role's path with one instance and room; ``reserved``: (memory, bits taken there)."""
        path = self.arch.paths[role]
        for level, m in enumerate(path):
            taken = reserved[1] if m == reserved[0] else 0
            if self.arch.memories[m].instances == 1 and self.arch.memories[m].size_bits >= bits + taken:
                return level
        return len(path) - 1


@dataclass(frozen=True, slots=True)
class StackLevels:
    """Where a stack's caches and weights live: memories for the caches (per class), a level for the weights."""

    h_memory: tuple[int, ...]
    v_memory: int
    weight_level: int


def stack_levels(graph: Graph, arch: Arch, plan: DepthFirstPlan, weight_bits: int) -> StackLevels | Infeasible:
    """Cache and weight levels of a plan, consistent between its tile classes (B.b.1 and B.b.2 as intended).

    Caches live where the tiles that read them ask for, at the highest level among those: the horizontal cache of each
    row of tiles, the vertical cache of the stack. The first column and the first row have larger working sets (their
    whole halo is new) but read no such cache, and leave what they keep where their neighbours want it. The weights have
    one level for the stack.
    """
    ladder = MemoryLadder(arch)
    maps = MapSizes(graph, arch)
    rank = {m: i for i, m in enumerate(ladder.shared)}
    demands = [class_demand(graph, plan.stack, c, maps) for c in plan.classes]
    top = arch.memories[ladder.shared[-1]]
    for d in demands:
        need = d.live_bits + d.h_cache_bits + d.v_cache_bits
        if need > top.size_bits:
            hint = "a smaller tile, a mode that recomputes overlap, or a larger memory would make it fit"
            return Infeasible("the smallest working set of the tile", need, top.name, top.size_bits, hint)
    h_of_row = dict.fromkeys((c.y for c in plan.classes), ladder.shared[0])
    for c, d in zip(plan.classes, demands, strict=True):
        if _reads_cache(c.x):
            want = ladder.lowest_shared(d.live_bits + d.h_cache_bits)
            h_of_row[c.y] = max(h_of_row[c.y], want, key=rank.__getitem__)
    v_memory = ladder.shared[0]
    for c, d in zip(plan.classes, demands, strict=True):
        if not _reads_cache(c.y):
            continue
        need = d.live_bits + d.h_cache_bits + d.v_cache_bits
        want = ladder.lowest_shared(need)
        with_corner = ladder.lowest_shared(need - d.corner_bits)
        if with_corner == h_of_row[c.y]:
            want = with_corner
        v_memory = max(v_memory, want, key=rank.__getitem__)
    level = _weight_level(arch, ladder, demands, [h_of_row[c.y] for c in plan.classes], v_memory, weight_bits)
    if isinstance(level, Infeasible):
        return level
    return StackLevels(tuple(h_of_row[c.y] for c in plan.classes), v_memory, level)


def _reads_cache(step: AxisStep) -> bool:
    """Whether a tile reads what earlier ones along this axis left."""
    return any(read.cached for row in step.reads for read in row)


def _weight_level(
    arch: Arch,
    ladder: MemoryLadder,
    demands: list[ClassDemand],
    h_memory: list[int],
    v_memory: int,
    weight_bits: int,
) -> int | Infeasible:
    """The lowest level at which a stack's weights fit beside the feature maps and caches that share it."""
    path = arch.paths[Role.W]
    needs = [weight_bits]
    for level, m in enumerate(path):
        needs = list[int]()
        for d, h in zip(demands, h_memory, strict=True):
            io = ladder.lowest_shared(d.live_bits)
            taken = d.live_bits if ladder.shared.index(io) >= _rank(ladder, m) >= 0 else 0
            if m == h:
                taken = d.live_bits + d.h_cache_bits
            if m == v_memory and d.v_cache_bits:
                taken = d.live_bits + d.h_cache_bits + d.v_cache_bits - (d.corner_bits if m == h else 0)
            needs.append(weight_bits + taken)
        if arch.memories[m].size_bits >= max(needs):
            return level
    top = arch.memories[path[-1]]
    hint = "cut the network into smaller stacks (--stacks), or enlarge the memory"
    return Infeasible("the stack's weights, beside its feature maps", max(needs), top.name, top.size_bits, hint)


def _rank(ladder: MemoryLadder, memory: int) -> int:
    return ladder.shared.index(memory) if memory in ladder.shared else -1


def kernel_bits(layer: Layer, arch: Arch) -> int:
    """Bits of the constant operands that the layer's loop nest reads."""
    bits = arch.array.weight_bits
    return sum(prod(layer.sizes[d] for d in o.dims) * bits for o in layer.inputs if o.role is Role.W and o.constant)
