"""One tile class walked through the memories: the cheapest way that fits, layer by layer.

A layer reads its input in some memory and leaves its output in some memory. What a way costs from some layer on depends
on where the maps lie that are still needed, so the cheapest is a shortest path over these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dfc.backend_cost.mapping_cost import TooSmall
from dfc.backend_cost.nest import Borders, Nest, make_nest, operand_names, unroll
from dfc.backend_cost.spatial_search import Spatial, Unrolling, score_of
from dfc.ir import Axis, Kind, Layer, Role
from dfc.passes.tiles import DepthFirstPlan, TileClass
from dfc.scheduling.copies import Copy, Place, in_sequence, price_copies
from dfc.scheduling.engine import ClassCost, LayerRun, borders_of
from dfc.scheduling.levels import Infeasible, kernel_bits
from dfc.scheduling.parts import MapParts, ReadParts, TileParts
from dfc.scheduling.placement import Buffer, Held, Lasting
from dfc.scheduling.room import Fitted

if TYPE_CHECKING:
    from dfc.scheduling.fitted import FittedPricer

#: per layer the memories in which it reads its inputs and leaves its output
Choices = Mapping[int, tuple[int, int]]
#: what would make a plan fit
HINT = "a smaller tile, a mode that recomputes overlap, or a larger memory would make it fit"
#: where the maps lie that a later layer of the tile needs, and the map whose kept part is still to be copied
State = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Placed:
    """A layer of a tile class: what it costs, and what it keeps in memories while it runs.

    alive:   maps that lie somewhere meanwhile: (map, memory, bits).
    windows: copies of what it reads, in the memory in which it reads them, alike.
    """

    run: LayerRun
    fitted: Fitted | None
    alive: tuple[tuple[str, int, int], ...] = ()
    windows: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True)
class PlacedClass:
    """A tile class with what its tiles keep where."""

    cost: ClassCost
    buffers: tuple[Buffer, ...]


@dataclass(frozen=True)
class Path:
    """The cheapest way to a state: the layers so far, and where each map lay."""

    score: float
    placed: tuple[Placed, ...]
    homes: Mapping[str, int]
    pending: tuple[Copy, ...] = ()

    @property
    def operations(self) -> int:
        """What the array does."""
        return sum(p.run.nest.operations for p in self.placed if p.run.nest)

    def dearer(self, other: Path) -> float:
        """By how much its score exceeds that of another for as many operations."""
        return self.score - other.score * self.operations / max(1, other.operations)

    @property
    def choices(self) -> Choices:
        """The memories that were chosen."""
        return {p.run.layer: (p.run.tops[Role.I], p.run.tops[Role.O]) for p in self.placed if p.run.nest}


class ClassWalk:
    """The ways of one tile class through the memories."""

    def __init__(
        self,
        pricer: FittedPricer,
        plan: DepthFirstPlan,
        tile: TileClass,
        lasting: Lasting,
        spatial: Spatial,
        spare: Mapping[int, int],
        held: Held,
    ):
        """``spare`` bits of memories stay empty."""
        self.pricer = pricer
        self.graph = pricer.graph
        self.arch = pricer.arch
        self.maps = pricer.maps
        self.plan = plan
        self.stack = plan.stack
        self.tile = tile
        self.lasting = lasting
        self.spatial = spatial
        self.spare = spare
        self.held = held
        self.parts = TileParts(pricer.graph, plan, tile)
        self.top = {role: len(path) - 1 for role, path in self.arch.paths.items()}
        inside = set(self.stack.layers)
        readers = {t: [c for c in self.graph.consumers[t] if c in inside] for t in self._maps()}
        #: the last layer that reads a map in this tile; a map that nobody reads lies until its own layer is done
        self.last_use = {t: max(users, default=-1) for t, users in readers.items()}
        self.reads: dict[int, dict[str, ReadParts]] = {i: self.parts.windows(i) for i in self.stack.layers}

    def _maps(self) -> Iterator[str]:
        yield from self.stack.inputs
        for i in self.stack.layers:
            yield from self.graph.layers[i].outputs

    # --- the shortest path

    def cheapest(self, choices: Choices | None = None) -> Path | Infeasible:
        """The cheapest way through all layers, or why there is none; ``choices`` leave no other memories."""
        there = {t: self.held[t].memory for t in self.stack.inputs if t in self.held}
        paths: dict[State, Path] = {(): Path(0.0, (), there)}
        for index in self.stack.layers:
            after: dict[State, Path] = {}
            why: Infeasible | None = None
            for path in paths.values():
                for found in self._steps(index, path, choices or {}):
                    if isinstance(found, Infeasible):
                        why = why or found
                        continue
                    key = self._state(index, found)
                    if key not in after or found.score < after[key].score:
                        after[key] = found
            if not after:
                assert why is not None
                return why
            paths = after
        return min((self._flushed(p) for p in paths.values()), key=lambda p: p.score)

    def _state(self, index: int, path: Path) -> State:
        """What of a path decides the rest: where maps lie that are needed later, or have something to be copied."""
        waiting = {c.tensor for c in path.pending}
        alive = (t for t in path.homes if self.last_use[t] > index or t in waiting)
        return tuple((t, path.homes[t]) for t in alive)

    def _steps(self, index: int, path: Path, choices: Choices) -> Iterator[Path | Infeasible]:
        """All ways to run a layer after a path."""
        layer = self.graph.layers[index]
        made = self.parts.map(layer.output)
        if made.fresh == 0:  # other tiles compute all that is needed of it
            yield self._idle(index, path)
            return
        why: Infeasible | None = None
        any_fits = False
        every = ((i, o) for i in self._input_memories(index) for o in self._output_memories(layer))
        for inputs, output in [choices[index]] if index in choices else every:
            found = self._run(index, path, inputs, output)
            if isinstance(found, Infeasible):
                why = why or found
            else:
                any_fits = True
                yield found
        if not any_fits:
            assert why is not None
            yield why

    def _idle(self, index: int, path: Path) -> Path:
        copies = tuple(self._weights(index))
        if not copies:
            return path
        run = LayerRun(index, (0, 0), {}, None, None, copies, price_copies(self.arch, copies))
        return self._longer(path, Placed(run, None), {}, path.pending)

    def _input_memories(self, index: int) -> list[int]:
        """Where a layer may read its inputs: from the lowest memory with room for the windows upwards, two of them."""
        path = self.arch.paths[Role.I]
        bits = sum(self._bits(index, t, parts.window) for t, parts in self.reads[index].items())
        fit = [m for m in path if self.arch.memories[m].instances == 1 and self.arch.memories[m].size_bits >= bits]
        return fit[:2] or [path[-1]]

    def _output_memories(self, layer: Layer) -> list[int]:
        """Where a layer may leave its output, alike; off chip where only others read it."""
        path = self.arch.paths[Role.O]
        if layer.output in self.held:
            return [self.held[layer.output].memory]
        if self.last_use[layer.output] < 0 and layer.output in self.stack.outputs:
            return [path[-1]]
        bits = self._bits(None, layer.output, self.parts.map(layer.output).fresh)
        fit = [m for m in path if self.arch.memories[m].instances == 1 and self.arch.memories[m].size_bits >= bits]
        return fit[:2] or [path[-1]]

    def _run(self, index: int, path: Path, i_memory: int, o_memory: int) -> Path | Infeasible:
        layer = self.graph.layers[index]
        homes = dict(path.homes)
        arriving = [t for t in self.reads[index] if t not in homes]
        homes |= dict.fromkeys(arriving, i_memory)
        homes[layer.output] = o_memory
        windows = tuple(self._windows(index, homes, i_memory))
        alive = tuple(self._alive(index, homes, {c.tensor for c in path.pending}))
        room = self._room((*alive, *windows))
        short = [m for m, bits in room.items() if bits < 0]
        if short:
            return self._too_full(index, short[0], -room[short[0]])
        found = self._mapped(index, i_memory, o_memory, room)
        if isinstance(found, Infeasible):
            return found
        nest, fitted = found
        fetched = [*self._weights(index), *self._fetched(index, arriving, i_memory)]
        group = [*path.pending, *self._gathered(index, arriving, homes, i_memory)]
        before = price_copies(self.arch, group)
        if fetched:  # the stack's input arrives before anything else may use it
            before = in_sequence(price_copies(self.arch, fetched), before)
        memories = {o.role: o.memories[-1] for o in nest.operands}
        x, y = self._extents(layer.output)
        run = LayerRun(index, (x, y), memories, nest, fitted.cost, (*fetched, *group), before, fitted.sizes, i_memory)
        pending = [c for t in (*arriving, layer.output) for c in self._kept(t, homes[t])]
        pending += self._left(layer, o_memory)
        return self._longer(path, Placed(run, fitted, alive, windows), homes, tuple(pending))

    def _longer(self, path: Path, placed: Placed, homes: Mapping[str, int], pending: tuple[Copy, ...]) -> Path:
        run = placed.run
        energy = run.copy_cost.energy_pj + (run.cost.energy_pj if run.cost else 0.0)
        cycles = run.copy_cost.latency_cycles + (run.cost.latency_cycles if run.cost else 0)
        score = path.score + self.pricer.weight(energy, cycles)
        return Path(score, (*path.placed, placed), {**path.homes, **homes}, pending)

    def _flushed(self, path: Path) -> Path:
        """With the copies that would run before the next layer: they run after the last."""
        if not path.pending:
            return path
        at = max(i for i, placed in enumerate(path.placed) if placed.run.nest)  # it left what is pending
        last = path.placed[at]
        cost = price_copies(self.arch, path.pending)
        run = replace(
            last.run, copies=(*last.run.copies, *path.pending), copy_cost=in_sequence(last.run.copy_cost, cost)
        )
        score = path.score + self.pricer.weight(cost.energy_pj, cost.latency_cycles)
        placed = (*path.placed[:at], replace(last, run=run), *path.placed[at + 1 :])
        return Path(score, placed, path.homes)

    # --- room

    def _bits(self, index: int | None, tensor: str, positions: int) -> int:
        """Bits of positions of a map: of all channels, or of those that a layer reads."""
        if index is None:
            return self.maps.region_bits(tensor, positions, 1)
        return self.maps.read_bits(self.graph.layers[index], tensor, positions, 1)

    def _plain_bits(self, tensor: str, home: int) -> int:
        """What a map takes where it lies, apart from what goes straight into line buffers of the same memory."""
        if tensor in self.held:
            return 0
        parts = self.parts.map(tensor)
        inside = parts.across * (self.lasting.across.get(tensor) == home)
        inside += parts.along * (self.lasting.along.get(tensor) == home)
        return self._bits(None, tensor, parts.fresh - inside)

    def _windows(self, index: int, homes: Mapping[str, int], here: int) -> Iterator[tuple[str, int, int]]:
        """Copies of what a layer reads and does not find in the memory in which it reads: (map, memory, bits)."""
        for tensor, parts in self.reads[index].items():
            away = (parts.window if tensor in self.held else parts.fresh) * (homes[tensor] != here)
            away += parts.across * (self.lasting.across.get(tensor) not in (None, here))
            away += parts.along * (self.lasting.along.get(tensor) not in (None, here))
            if away:
                yield tensor, here, self._bits(index, tensor, away)

    def _alive(self, index: int, homes: Mapping[str, int], pending: Set[str]) -> Iterator[tuple[str, int, int]]:
        """Maps that lie somewhere while a layer runs: (map, memory, bits); ``pending`` ones are still to be copied."""
        made = self.graph.layers[index].output
        for tensor, home in homes.items():
            if self.last_use[tensor] >= index or tensor == made or tensor in pending:
                bits = self._plain_bits(tensor, home)
                if bits:
                    yield tensor, home, bits

    def _room(self, here: tuple[tuple[str, int, int], ...]) -> dict[int, int]:
        """Bits that are left of each memory for what the mapping keeps below; negative where too much is in it."""
        left = {m: memory.size_bits for m, memory in enumerate(self.arch.memories)}
        for taken in (self.lasting.taken, self.spare):
            for m, bits in taken.items():
                left[m] -= bits
        for _, m, bits in here:
            left[m] -= bits
        return left

    def _too_full(self, index: int, memory: int, over: int) -> Infeasible:
        chip = self.arch.memories[memory]
        what = f"what is alive while layer '{self.graph.layers[index].name}' runs"
        return Infeasible(what, chip.size_bits + over, chip.name, chip.size_bits, HINT)

    # --- mappings

    def _extents(self, tensor: str) -> tuple[int, int]:
        x, y = (dict(step.tensors)[tensor].fresh for step in (self.tile.x, self.tile.y))
        return x, y

    def _mapped(
        self, index: int, i_memory: int, o_memory: int, room: Mapping[int, int]
    ) -> tuple[Nest, Fitted] | Infeasible:
        """The layer's best mapping in the room; lanes for which a memory is too small stay idle."""
        layer = self.graph.layers[index]
        x, y = self._extents(layer.output)
        t = self.graph.tensors[layer.output].spatial[Axis.T]
        at = self.stack.layers.index(index)
        exact = self.pricer.cache.model.whole_lanes
        reads = self.tile.x.reads[at], self.tile.y.reads[at]
        borders = borders_of(self.graph, layer, *reads) if exact else Borders()
        w_memory = self.lasting.weights.get(index)
        levels = {
            Role.O: self.arch.level(Role.O, o_memory) + 1,
            Role.I: self.arch.level(Role.I, i_memory) + 1,
            Role.W: self.top[Role.W] + 1 if w_memory is None else self.arch.level(Role.W, w_memory) + 1,
        }
        rules = self.pricer.rules.layer(layer.name, (x, y))
        fixed = rules.lanes if rules else None
        idle: frozenset[str] = frozenset()
        while True:
            nest = make_nest(layer, (t, y, x), self.arch, levels, borders, idle, fixed)
            found = self.pricer.mappings.best(nest, room, rules.temporal if rules else None)
            if isinstance(found, Fitted):
                return self._unrolled(found, room, index)
            blamed = self.pricer.blamed(index, (x, y), rules, [nest]) if rules else None
            if blamed is not None and blamed.cause is not None and blamed.cause() is not None:
                return blamed
            served = self.arch.memories[found.memory].across
            lanes = unroll(layer.tile_sizes((t, y, x)), self.arch, layer, idle, fixed)
            fewer = idle | {u.array_dim for u in lanes if u.array_dim in served}
            if fewer == idle:
                return self._unmapped(index, found)
            idle = fewer

    def _unmapped(self, index: int, small: TooSmall) -> Infeasible:
        layer = self.graph.layers[index]
        memory = self.arch.memories[small.memory]
        hint = f"memory '{memory.name}' must hold at least one element for each lane that it serves"
        return Infeasible(f"a tile of layer '{layer.name}'", small.needed_bits, memory.name, memory.size_bits, hint)

    def _unrolled(self, found: Fitted, room: Mapping[int, int], index: int) -> tuple[Nest, Fitted]:
        """With ``Spatial.SEARCH`` on the unrolling that is best, if that finds room too."""
        if self.spatial is Spatial.PREFER:
            return found.nest, found
        layer = self.graph.layers[index]
        rules = self.pricer.rules.layer(layer.name, self._extents(layer.output))
        if rules is not None and rules.lanes is not None:
            return found.nest, found
        temporal = rules.temporal if rules else None
        best = self.pricer.spatial.best(Unrolling(found.nest, found.cost), temporal)
        other = self.pricer.mappings.best(best.nest, room, temporal)
        if isinstance(other, Fitted) and self._score(other) < self._score(found):
            return best.nest, other
        return found.nest, found

    def _score(self, found: Fitted) -> tuple[float, float, float]:
        return score_of(self.pricer.cache.objective, found.cost.energy_pj, found.cost.latency_cycles)

    # --- copies

    def _place(self, role: Role, memory: int) -> Place:
        return Place(role, self.arch.level(role, memory))

    def _weights(self, index: int) -> list[Copy]:
        """The weights that stay, with the first tile; constants that no loop reads come for each tile else."""
        layer = self.graph.layers[index]
        bits = layer.weight_elements * self.arch.array.weight_bits
        top = Place(Role.W, self.top[Role.W])
        memory = self.lasting.weights.get(index)
        if memory is not None:
            return (
                self.pricer.copy("weights", layer.name, bits, top, self._place(Role.W, memory))
                if self.tile.first
                else []
            )
        rest = max(0, bits - kernel_bits(layer, self.arch)) if layer.kind is not Kind.OPAQUE else 0
        return self.pricer.copy("constants", layer.name, rest, top, Place(Role.W, max(0, top.level - 1)))

    def _fetched(self, index: int, arriving: list[str], here: int) -> list[Copy]:
        """The stack's inputs that nobody in this tile read before."""
        outside = Place(Role.I, self.top[Role.I])
        found: list[Copy] = []
        for tensor in arriving:
            users = [c for c in self.graph.consumers[tensor] if c in self.stack.layers]
            only = index if len(users) == 1 else None  # the channels that it reads
            bits = self._bits(only, tensor, self.parts.map(tensor).fresh)
            found += self.pricer.copy("input", tensor, bits, outside, self._place(Role.I, here))
        return found

    def _role(self, tensor: str) -> Role:
        """The path on which a map lies."""
        return Role.I if tensor in self.stack.inputs else Role.O

    def _gathered(self, index: int, arriving: list[str], homes: Mapping[str, int], here: int) -> list[Copy]:
        """What a layer reads and does not find in the memory in which it reads."""
        target = self._place(Role.I, here)
        found: list[Copy] = []
        for tensor, parts in self.reads[index].items():
            if tensor not in arriving:
                home = self._place(self._role(tensor), homes[tensor])
                positions = parts.window if tensor in self.held else parts.fresh  # all of it lies there
                found += self.pricer.copy("feature map", tensor, self._bits(index, tensor, positions), home, target)
            for what, memories, positions in (
                (f"read {self.plan.line_names[0]}", self.lasting.along, parts.along),
                (f"read {self.plan.line_names[1]}", self.lasting.across, parts.across),
            ):
                if tensor in memories:
                    bits = self._bits(index, tensor, positions)
                    found += self.pricer.copy(what, tensor, bits, self._place(Role.I, memories[tensor]), target)
        return found

    def _kept(self, tensor: str, home: int) -> list[Copy]:
        """What this tile leaves of a map for later ones."""
        parts: MapParts = self.parts.map(tensor)
        role = self._role(tensor)
        found: list[Copy] = []
        for what, memories, positions in (
            (f"write {self.plan.line_names[1]}", self.lasting.across, parts.across),
            (f"write {self.plan.line_names[0]}", self.lasting.along, parts.along),
        ):
            if tensor in memories:
                target = self._place(role, memories[tensor])
                bits = self._bits(None, tensor, positions)
                found += self.pricer.copy(what, tensor, bits, self._place(role, home), target)
        return found

    def _left(self, layer: Layer, memory: int) -> list[Copy]:
        """An output that is read here and outside goes off chip as well."""
        inside = layer.output not in self.stack.outputs or layer.output in self.held
        if inside or self.last_use[layer.output] < 0:
            return []
        bits = self._bits(None, layer.output, self.parts.own(layer.output))
        return self.pricer.copy(
            "output", layer.output, bits, self._place(Role.O, memory), Place(Role.O, self.top[Role.O])
        )

    # --- the result

    def placed(self, path: Path) -> PlacedClass:
        """The class with its costs, and its buffers without addresses."""
        runs = tuple(p.run for p in path.placed)
        energy = sum(r.copy_cost.energy_pj + (r.cost.energy_pj if r.cost else 0.0) for r in runs)
        cycles = sum(r.copy_cost.latency_cycles + (r.cost.latency_cycles if r.cost else 0) for r in runs)
        return PlacedClass(ClassCost(self.tile, runs, energy, cycles), tuple(self._buffers(path)))

    def _buffers(self, path: Path) -> Iterator[Buffer]:
        step = {index: at for at, index in enumerate(self.stack.layers)}
        spans: dict[tuple[str, int, int], list[int]] = {}
        for placed in path.placed:
            at = step[placed.run.layer]
            for item in placed.alive:
                spans.setdefault(item, []).append(at)
        for (tensor, memory, bits), steps in spans.items():
            yield Buffer("map", tensor, memory, bits, min(steps), max(steps))
        for placed in path.placed:
            at = step[placed.run.layer]
            for tensor, memory, bits in placed.windows:
                yield Buffer("window", tensor, memory, bits, at, at)
            if placed.fitted:
                names = operand_names(placed.fitted.nest)
                for part in placed.fitted.parts:
                    yield Buffer("loops", names[part.operand], part.memory, part.room_bits, at, at, copies=part.copies)
