"""One tile class walked through the memories: the cheapest way that fits, layer by layer.

A layer reads its input in some memory and leaves its output in some memory. What a way costs from some layer on depends
on where the maps lie that are still needed, so the cheapest is a shortest path over these.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from dfc.backend_cost.mapping_cost import MappingCost, Objective, TooSmall
from dfc.backend_cost.mapping_rules import LayerRules
from dfc.backend_cost.nest import Nest, make_nest, operand_names, unroll
from dfc.backend_cost.spatial_search import Spatial, Unrolling, score_of
from dfc.ir import Kind, Layer, Role
from dfc.scheduling.class_view import ClassView
from dfc.scheduling.copies import Copy, CopyCost, Place, in_sequence, price_copies
from dfc.scheduling.engine import ClassCost, LayerRun
from dfc.scheduling.levels import Infeasible, kernel_bits
from dfc.scheduling.nest_floor import LearntFloor
from dfc.scheduling.parts import MapParts
from dfc.scheduling.placement import Buffer, Lasting
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


@dataclass(frozen=True, slots=True)
class Step:
    """A layer after a way, without its mapping.

    memories: in which it reads its inputs and leaves its output. homes: where maps lie then. alive: maps that lie
    somewhere meanwhile, as in :class:`Placed`. room: bits left of each memory.
    """

    layer: int
    path: Path
    memories: tuple[int, int]
    homes: Mapping[str, int]
    alive: tuple[tuple[str, int, int], ...]
    room: Mapping[int, int]
    moves: Moves


@dataclass(frozen=True)
class PlacedClass:
    """A tile class with what its tiles keep where."""

    cost: ClassCost
    buffers: tuple[Buffer, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """Copies that run before the next layer does, and of which maps; equal is only the same."""

    copies: tuple[Copy, ...]
    tensors: frozenset[str]
    energy_pj: float


NOTHING = Pending((), frozenset(), 0.0)


@dataclass(frozen=True, slots=True)
class Moves:
    """What is copied around a layer: before it runs, with what that costs; ``pending`` after it.

    stages: how many of the copies start together, as in :class:`LayerRun`. windows: copies of what it reads, as in
    :class:`Placed`.
    """

    copies: tuple[Copy, ...]
    stages: tuple[int, ...]
    cost: CopyCost
    windows: tuple[tuple[str, int, int], ...]
    pending: Pending


@dataclass(frozen=True)
class Path:
    """The cheapest way to a state: the layers so far, and where the maps lie that may be needed.

    tie: energy and cycles, whichever the score hardly counts.
    """

    score: float
    placed: tuple[Placed, ...]
    homes: Mapping[str, int]
    pending: Pending = NOTHING
    tie: float = 0.0

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
        view: ClassView,
        lasting: Lasting,
        spatial: Spatial,
        spare: Mapping[int, int],
    ):
        """``spare`` bits of memories stay empty."""
        self.pricer = pricer
        self.view = view
        self.graph = view.graph
        self.arch = view.arch
        self.plan = view.plan
        self.stack = view.stack
        self.tile = view.tile
        self.held = view.held
        self.parts = view.parts
        self.reads = view.reads
        self.last_use = view.last_use
        self.lasting = lasting
        self.spatial = spatial
        self.spare = spare
        self.top = {role: len(path) - 1 for role, path in self.arch.paths.items()}
        self._bits = view.bits
        self._empty = {m: memory.size_bits for m, memory in enumerate(self.arch.memories)}
        for taken in (lasting.taken, spare):
            for m, bits in taken.items():
                self._empty[m] -= bits
        self._plain: dict[tuple[str, int], int] = {}
        self._lying: dict[int, Hashable] = {}

    # --- steps of a way

    @cached_property
    def start(self) -> Path:
        """Before the first layer."""
        return Path(0.0, (), {t: self.held[t].memory for t in self.stack.inputs if t in self.held})

    def state(self, index: int, homes: Mapping[str, int], pending: Pending) -> State:
        """What of a way decides the rest: where maps lie that are needed later, or have something to be copied."""
        alive = (t for t in homes if self.last_use[t] > index or t in pending.tensors)
        return tuple((t, homes[t]) for t in alive)

    def idle(self, index: int, path: Path) -> Path:
        """After a layer that computes nothing in this tile."""
        copies = tuple(self.weights(index))
        if not copies:
            return path
        cost = price_copies(self.arch, copies)
        run = LayerRun(index, (0, 0), {}, None, None, copies, cost, stages=(len(copies),))
        return self._longer(path, Placed(run, None), path.homes, path.pending)

    def step(self, index: int, path: Path, i_memory: int, o_memory: int) -> Step | Infeasible:
        """A layer after a way, with these memories: all but its mapping; or why it has no room."""
        waiting = path.pending.tensors
        homes = {t: m for t, m in path.homes.items() if self.last_use[t] >= index or t in waiting}
        homes |= dict.fromkeys(self.view.arriving[index], i_memory)
        homes[self.graph.layers[index].output] = o_memory
        moves = self._moves(index, path.pending, homes, i_memory)
        alive = tuple(self._alive(index, homes, waiting))
        room = self.room((*alive, *moves.windows))
        for m, bits in room.items():
            if bits < 0:
                return self._too_full(index, m, -bits)
        return Step(index, path, (i_memory, o_memory), homes, alive, room, moves)

    def _moves(self, index: int, pending: Pending, homes: Mapping[str, int], here: int) -> Moves:
        """What is copied around a layer that reads its inputs ``here``: worked out once for all ways alike."""
        key = index, pending, here, *(homes[t] for t in self._touched(index)), self.lasting_for(index)
        found = self.view.moves.get(key)
        if found is None:
            found = self.view.moves[key] = self._moved(index, pending, homes, here)
        return found

    def _touched(self, index: int) -> list[str]:
        """The maps that a layer reads and makes."""
        return [*self.reads[index], self.graph.layers[index].output]

    def lasting_for(self, index: int) -> Hashable:
        """What a layer has to do with of what stays."""
        found = self._lying.get(index)
        if found is None:
            lasting = self.lasting
            lines = tuple((lasting.along.get(t), lasting.across.get(t)) for t in self._touched(index))
            found = self._lying[index] = lasting.weights.get(index), index in lasting.resident, lines
        return found

    def _moved(self, index: int, pending: Pending, homes: Mapping[str, int], here: int) -> Moves:
        layer, arriving = self.graph.layers[index], self.view.arriving[index]
        fetched = [*self.weights(index), *self.fetched(index, arriving, here)]
        group = [*pending.copies, *self.gathered(index, arriving, homes, here)]
        before = price_copies(self.arch, group)
        if fetched:  # the stack's input arrives before anything else may use it
            before = in_sequence(price_copies(self.arch, fetched), before)
        after = [c for t in (*arriving, layer.output) for c in self.kept(t, homes[t])]
        after += self.left(layer, homes[layer.output])
        energy = sum(map(self.pricer.rates.energy_pj, after))
        following = Pending(tuple(after), frozenset(c.tensor for c in after), energy) if after else NOTHING
        stages = len(fetched), len(group)
        return Moves((*fetched, *group), stages, before, tuple(self._windows(index, homes, here)), following)

    def taken(self, step: Step) -> Path | Infeasible:
        """The way that is longer by a step, with the layer's best mapping, or why there is none."""
        found = self._mapped(step.layer, *step.memories, step.room)
        if isinstance(found, Infeasible):
            return found
        nest, fitted = found
        tops = {o.role: o.memories[-1] for o in nest.operands}
        extents = self.view.extents[self.graph.layers[step.layer].output]
        costs = fitted.cost, step.moves.copies, step.moves.cost
        run = LayerRun(step.layer, extents, tops, nest, *costs, fitted.sizes, step.memories[0], step.moves.stages)
        placed = Placed(run, fitted, step.alive, step.moves.windows)
        return self._longer(step.path, placed, step.homes, step.moves.pending)

    def _longer(self, path: Path, placed: Placed, homes: Mapping[str, int], pending: Pending) -> Path:
        run = placed.run
        energy = run.copy_cost.energy_pj + (run.cost.energy_pj if run.cost else 0.0)
        cycles = run.copy_cost.latency_cycles + (run.cost.latency_cycles if run.cost else 0)
        score = path.score + self.pricer.weight(energy, cycles)
        tie = energy if self.pricer.cache.objective is Objective.LATENCY else float(cycles)
        return Path(score, (*path.placed, placed), homes, pending, path.tie + tie)

    def flushed(self, path: Path) -> Path:
        """With the copies that would run before the next layer: they run after the last."""
        if not path.pending.copies:
            return path
        at = max(i for i, placed in enumerate(path.placed) if placed.run.nest)  # it left what is pending
        last = path.placed[at]
        cost = price_copies(self.arch, path.pending.copies)
        run = replace(
            last.run,
            copies=(*last.run.copies, *path.pending.copies),
            copy_cost=in_sequence(last.run.copy_cost, cost),
            stages=(*last.run.stages, len(path.pending.copies)),
        )
        score = path.score + self.pricer.weight(cost.energy_pj, cost.latency_cycles)
        placed = (*path.placed[:at], replace(last, run=run), *path.placed[at + 1 :])
        return Path(score, placed, path.homes, NOTHING, path.tie)

    # --- room

    def _plain_bits(self, tensor: str, home: int) -> int:
        """What a map takes where it lies, apart from what goes straight into line buffers of the same memory."""
        found = self._plain.get((tensor, home))
        if found is None:
            parts = self.parts.map(tensor)
            inside = parts.across * (self.lasting.across.get(tensor) == home)
            inside += parts.along * (self.lasting.along.get(tensor) == home)
            found = 0 if tensor in self.held else self._bits(None, tensor, parts.fresh - inside)
            self._plain[tensor, home] = found
        return found

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

    def room(self, here: tuple[tuple[str, int, int], ...]) -> dict[int, int]:
        """Bits that are left of each memory for what the mapping keeps below; negative where too much is in it."""
        left = dict(self._empty)
        for _, m, bits in here:
            left[m] -= bits
        return left

    def _too_full(self, index: int, memory: int, over: int) -> Infeasible:
        chip = self.arch.memories[memory]
        what = f"what is alive while layer '{self.graph.layers[index].name}' runs"
        return Infeasible(what, chip.size_bits + over, chip.name, chip.size_bits, HINT)

    # --- mappings

    def levels(self, index: int, i_memory: int, o_memory: int) -> dict[Role, int]:
        """How many memories the operands of each role use."""
        key = i_memory, o_memory, self.lasting.weights.get(index)
        found = self.view.levels.get(key)
        if found is None:
            w_level = self.top[Role.W] if key[2] is None else self.arch.level(Role.W, key[2])
            o_level, i_level = self.arch.level(Role.O, o_memory), self.arch.level(Role.I, i_memory)
            found = self.view.levels[key] = {Role.O: o_level + 1, Role.I: i_level + 1, Role.W: w_level + 1}
        return found

    def _nest(self, index: int, levels: dict[Role, int], idle: frozenset[str], rules: LayerRules | None) -> Nest:
        key = index, LearntFloor.key(levels), idle
        found = self.view.nests.get(key)
        if found is None:
            layer = self.graph.layers[index]
            lanes = rules.lanes if rules else None
            extents = self.view.whole_extents(layer.output)
            found = make_nest(layer, extents, self.arch, levels, self.view.borders[index], idle, lanes)
            self.view.nests[key] = found
        return found

    def floor(self, index: int, i_memory: int, o_memory: int) -> tuple[float, float]:
        """Energy and cycles that no mapping of a layer is below with its maps in these memories."""
        if self.spatial is not Spatial.PREFER:  # nothing is known of other unrollings
            return 0.0, 0.0
        found = self.learnt(index)
        return found.energy_pj(self.levels(index, i_memory, o_memory)), found.floor.cycles

    def learnt(self, index: int) -> LearntFloor:
        """What is known of the mappings of a layer's tile."""
        found = self.view.floors.get(index)
        if found is None:
            layer = self.graph.layers[index]
            found = self.pricer.floor(layer, self.view.extents[layer.output], self.view.borders[index])
            self.view.floors[index] = found
        return found

    def free(self, index: int, i_memory: int, o_memory: int) -> Fitted | TooSmall:
        """A layer's best mapping where nobody else takes room, all lanes busy."""
        return self.pricer.mappings.free(*self._problem(index, i_memory, o_memory))

    def mapping_cost(self, index: int, i_memory: int, o_memory: int, room: Mapping[int, int]) -> MappingCost | None:
        """What a layer's best mapping costs in so many bits of some memories, all lanes busy; None where none fits."""
        nest, temporal = self._problem(index, i_memory, o_memory)
        found = self.pricer.mappings.best(nest, room, temporal)
        return found.cost if isinstance(found, Fitted) else None

    def _problem(self, index: int, i_memory: int, o_memory: int) -> tuple[Nest, LayerRules | None]:
        """What a mapping of a layer is searched for, all lanes busy, and what the user asks of its loops."""
        rules = self._rules(index)
        nest = self._nest(index, self.levels(index, i_memory, o_memory), frozenset(), rules)
        return nest, rules.temporal if rules else None

    def _rules(self, index: int) -> LayerRules | None:
        """What the user asks of a layer's mapping."""
        layer = self.graph.layers[index]
        return self.pricer.rules.layer(layer.name, self.view.extents[layer.output])

    def _mapped(
        self, index: int, i_memory: int, o_memory: int, room: Mapping[int, int]
    ) -> tuple[Nest, Fitted] | Infeasible:
        """The layer's best mapping in the room; lanes for which a memory is too small stay idle."""
        layer = self.graph.layers[index]
        levels = self.levels(index, i_memory, o_memory)
        rules = self._rules(index)
        idle: frozenset[str] = frozenset()
        while True:
            nest = self._nest(index, levels, idle, rules)
            found = self.pricer.mappings.best(nest, room, rules.temporal if rules else None)
            if isinstance(found, Fitted):
                return self._unrolled(found, room, index)
            blamed = self.pricer.blamed(index, self.view.extents[layer.output], rules, [nest]) if rules else None
            if blamed is not None and blamed.cause is not None and blamed.cause() is not None:
                return blamed
            served = self.arch.memories[found.memory].across
            sizes = layer.tile_sizes(self.view.whole_extents(layer.output))
            lanes = unroll(sizes, self.arch, layer, idle, rules.lanes if rules else None)
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
        rules = self._rules(index)
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

    def weights(self, index: int) -> list[Copy]:
        """The weights that stay, with the first tile, unless they have stayed since an earlier step.

        Of layers whose weights come for each tile, the constants that no loop reads.
        """
        layer = self.graph.layers[index]
        bits = layer.weight_elements * self.arch.array.weight_bits
        top = Place(Role.W, self.top[Role.W])
        memory = self.lasting.weights.get(index)
        if memory is not None:
            return (
                self.pricer.copy("weights", layer.name, bits, top, self._place(Role.W, memory))
                if self.tile.first and index not in self.lasting.resident
                else []
            )
        rest = max(0, bits - kernel_bits(layer, self.arch)) if layer.kind is not Kind.OPAQUE else 0
        return self.pricer.copy("constants", layer.name, rest, top, Place(Role.W, max(0, top.level - 1)))

    def fetched(self, index: int, arriving: list[str], here: int) -> list[Copy]:
        """The stack's inputs that nobody in this tile read before."""
        outside = Place(Role.I, self.top[Role.I])
        found: list[Copy] = []
        for tensor in arriving:
            only = index if tensor in self.view.only_user else None  # the channels that it reads
            bits = self._bits(only, tensor, self.parts.map(tensor).fresh)
            found += self.pricer.copy("input", tensor, bits, outside, self._place(Role.I, here))
        return found

    def _role(self, tensor: str) -> Role:
        """The path on which a map lies."""
        return Role.I if tensor in self.stack.inputs else Role.O

    def gathered(self, index: int, arriving: list[str], homes: Mapping[str, int], here: int) -> list[Copy]:
        """What a layer reads and does not find in the memory in which it reads."""
        target = self._place(Role.I, here)
        found: list[Copy] = []
        for tensor, parts in self.reads[index].items():
            if tensor not in arriving:
                found += self.carried(index, tensor, homes[tensor], here)
            for what, memories, positions in (
                (f"read {self.plan.line_names[0]}", self.lasting.along, parts.along),
                (f"read {self.plan.line_names[1]}", self.lasting.across, parts.across),
            ):
                if tensor in memories:
                    bits = self._bits(index, tensor, positions)
                    found += self.pricer.copy(what, tensor, bits, self._place(Role.I, memories[tensor]), target)
        return found

    def carried(self, index: int, tensor: str, home: int, here: int) -> list[Copy]:
        """What a layer reads of a map that earlier ones of this tile made, if it is not where it reads it."""
        parts = self.reads[index][tensor]
        positions = parts.window if tensor in self.held else parts.fresh  # all of it lies there
        bits = self._bits(index, tensor, positions)
        return self.pricer.copy(
            "feature map", tensor, bits, self._place(self._role(tensor), home), self._place(Role.I, here)
        )

    def kept(self, tensor: str, home: int) -> list[Copy]:
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

    def left(self, layer: Layer, memory: int) -> list[Copy]:
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
