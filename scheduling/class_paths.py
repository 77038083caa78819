"""The cheapest way of a tile class through the memories, with few of the mappings on the other ways.

A way grows by layers. It is ranked by what it costs so far and what the layers ahead cost at least; the first that is
complete is the cheapest (A*; Hart, Nilsson, Raphael, 1968). A step enters with the floor of its nest and is mapped when
its turn comes: in memories that nobody else uses at first, and if that does not fit in the room there is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush
from itertools import accumulate, count
from math import frexp, inf, ldexp

from dfc.scheduling.class_walk import Choices, ClassWalk, Path, Step
from dfc.scheduling.levels import Infeasible
from dfc.scheduling.mapping_least import LeastMappings

#: binary digits of costs that ways are ordered by
_DIGITS = 40
#: a search that looks at so many times as many ways as there are layers needs to know more of mappings
_STRAIGHT = 2


@dataclass(frozen=True, slots=True)
class StepFloor:
    """What a layer costs at least with its input and output in these memories, copies of the stack's inputs included.

    mapped: the cycles of its mapping alone. after_pj: of copies that run before the next layer. copies: what all copies
    count at least, those too that are there only on some ways.
    """

    memories: tuple[int, int]
    energy_pj: float
    cycles: float
    mapped: float
    after_pj: float
    copies: float


class PathFloors:
    """What the layers of a tile class cost at least, whatever the way; ``fixed`` choices leave no other memories."""

    def __init__(self, walk: ClassWalk, fixed: Choices):
        self.walk = walk
        self.fixed = fixed

    @cached_property
    def steps(self) -> tuple[tuple[StepFloor, ...], ...]:
        """Per layer of the stack, its memories; none where it computes nothing."""
        found: list[tuple[StepFloor, ...]] = []
        for index in self.walk.stack.layers:
            choices = self.walk.view.choices[index]
            if choices and index in self.fixed:
                choices = [self.fixed[index]]
            found.append(tuple(self._floors(index, choices)) if choices else ())
        return tuple(found)

    def _floors(self, index: int, choices: list[tuple[int, int]]) -> Iterator[StepFloor]:
        copies = self._copies(index, choices)
        for memories in choices:
            energy, cycles = self.walk.floor(index, *memories)
            here = copies[memories]
            more = here.energy_pj, here.cycles
            yield StepFloor(memories, energy + more[0], cycles + more[1], cycles, here.after_pj, here.copies)

    def _copies(self, index: int, choices: list[tuple[int, int]]) -> dict[tuple[int, int], StepFloor]:
        """The floors of a layer without its mapping: worked out once for all with the same of it to stay."""
        known = self.walk.view.copies
        key = index, self.walk.lasting_for(index), tuple(choices), not self.fixed
        if key not in known:
            known[key] = {floor.memories: floor for floor in self._copy_floors(index, choices)}
        return known[key]

    def _copy_floors(self, index: int, choices: list[tuple[int, int]]) -> Iterator[StepFloor]:
        walk, rates, weight = self.walk, self.walk.pricer.rates, self.walk.pricer.weight
        output, arriving = walk.graph.layers[index].output, walk.view.arriving[index]
        before: dict[int, tuple[float, float, float]] = {}
        more: dict[int, tuple[float, float]] = {}
        for i in dict.fromkeys(i for i, _ in choices):
            fetched = [*walk.weights(index), *walk.fetched(index, arriving, i)]
            lines = walk.gathered(index, list(walk.reads[index]), {}, i)
            after = sum(rates.energy_pj(c) for t in arriving for c in walk.kept(t, i))
            energy = sum(map(rates.energy_pj, (*fetched, *lines)))
            before[i] = energy, max(map(rates.cycles, fetched), default=0), after
            carried, cycles = self._carried(index, i)
            more[i] = carried, max(cycles, *map(rates.cycles, lines), 0)
        left = {
            o: sum(map(rates.energy_pj, (*walk.kept(output, o), *walk.left(walk.graph.layers[index], o))))
            for o in dict.fromkeys(o for _, o in choices)
        }
        for i, o in choices:
            energy, cycles, after = before[i]
            counts = weight(energy + after + left[o] + more[i][0], cycles + more[i][1])
            yield StepFloor((i, o), energy, cycles, 0.0, after + left[o], counts)

    def _carried(self, index: int, here: int) -> tuple[float, float]:
        """Energy and cycles at least to bring maps there that cannot lie there."""
        walk, rates = self.walk, self.walk.pricer.rates
        energy = cycles = 0.0
        for tensor in walk.reads[index]:
            homes = {here} if self.fixed else walk.view.homes[tensor]
            if tensor not in walk.view.arriving[index] and here not in homes:
                ways = [walk.carried(index, tensor, home, here) for home in homes]
                energy += min(sum(map(rates.energy_pj, way)) for way in ways)
                cycles = max(cycles, min(sum(map(rates.cycles, way)) for way in ways))
        return energy, cycles

    def least(self, shares: Sequence[float], *, early: bool = False) -> tuple[float, float]:
        """Energy and cycles of the class at least, where each layer counts ``shares`` times.

        ``early``: what comes from outside of the stack may pass while other layers run.
        """
        energy = cycles = 0.0
        runs = [floors for floors in self.steps if floors]
        here = [share for floors, share in zip(self.steps, shares, strict=True) if floors]
        for floors, share, following in zip(runs, here, [*here[1:], *here[-1:]], strict=True):
            energy += min(share * f.energy_pj + following * f.after_pj for f in floors)
            cycles += share * min(f.mapped if early else f.cycles for f in floors)
        return energy, cycles

    @cached_property
    def rest(self) -> tuple[float, ...]:
        """Per layer, what it and those after it cost at least, by what ways are chosen by; nothing after the last."""
        weight = self.walk.pricer.weight
        each = [
            min((weight(f.energy_pj + f.after_pj, f.cycles) for f in floors), default=0.0)
            for floors in reversed(self.steps)
        ]
        return tuple(accumulate(each, initial=0.0))[::-1]


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A step with what its mapping costs at least."""

    step: Step
    mapping: float


class _Rest:
    """What the layers of a class count at least, by what is known of their mappings: the more, the higher."""

    def __init__(self, floors: PathFloors):
        self.walk = floors.walk
        self.layers = floors.walk.stack.layers
        self.mappings = LeastMappings(floors.walk, fixed=bool(floors.fixed))
        #: per layer of the stack and memories, what copies count
        self.copies = [{f.memories: f.copies for f in steps} for steps in floors.steps]
        self.each = [self._least(depth) for depth in range(len(self.layers))]
        #: per layer of the stack, what it and those after it count; nothing after the last
        self.rest = [*accumulate(reversed(self.each), initial=0.0)][::-1]
        self._loose = len(self.layers)  # from there on all layers were looked at by :meth:`tighten`

    def _least(self, depth: int) -> float:
        index, copies = self.layers[depth], self.copies[depth]
        return min((more + self.mappings.least(index, memories) for memories, more in copies.items()), default=0.0)

    def learn(self, depth: int, memories: tuple[int, int]) -> None:
        """Find out more of a layer's mapping."""
        self.mappings.learn(self.layers[depth], memories)
        least = self._least(depth)
        if least > self.each[depth]:
            self.each[depth] = least
            for k in range(depth, -1, -1):
                self.rest[k] = self.each[k] + self.rest[k + 1]

    def tighten(self) -> None:
        """Find out more of a mapping that what the layers count at least rests on, the last of these first."""
        while self._loose:
            depth = self._loose - 1
            index, copies = self.layers[depth], self.copies[depth]
            if copies:
                memories = min(copies, key=lambda m: copies[m] + self.mappings.least(index, m))
                if not self.mappings.known(index, memories):
                    return self.learn(depth, memories)
            self._loose -= 1
        return None


class _Search:
    def __init__(self, floors: PathFloors, most: float):
        self.walk = walk = floors.walk
        self.most = most
        self.floors = floors
        self.layers = walk.stack.layers
        self.number = count()
        self.open: list[tuple[float, float, int, int, Path | _Ahead]] = []
        self.reached: set[tuple[int, object]] = set()
        self.deepest: tuple[int, Infeasible] | None = None
        self.ahead = _Rest(floors)
        self.spent = 0

    def run(self) -> Path | Infeasible | None:
        last = len(self.layers)
        self.push(self.after(0, self.walk.start), 0, self.walk.start)
        while self.open:
            value, _, _, depth, item = heappop(self.open)
            if value >= self.most:
                return None
            if isinstance(item, _Ahead):
                self.take(value, depth, item)
            elif depth > last:
                return item
            elif _coarse(now := self.after(depth, item)) > value:  # more is known of layers ahead since
                self.push(now, depth, item)
            elif self.fresh(depth, item):
                if depth == last:
                    done = self.walk.flushed(item)
                    self.push(done.score, depth + 1, done)
                else:
                    self.expand(depth, item)
        assert self.deepest is not None
        return self.deepest[1]

    def push(self, value: float, depth: int, item: Path | _Ahead) -> None:
        """To be looked at in its turn: of what costs the same but for rounding, what is better in the other measure."""
        tie = (item.step.path if isinstance(item, _Ahead) else item).tie
        heappush(self.open, (_coarse(value), tie, next(self.number), depth, item))

    def fresh(self, depth: int, path: Path) -> bool:
        """Whether a way is the first to its state, which makes it the cheapest."""
        key = depth, self.walk.state(self.layers[depth - 1] if depth else -1, path.homes, path.pending)
        if key in self.reached:
            return False
        self.reached.add(key)
        return True

    def note(self, depth: int, why: Infeasible) -> None:
        if self.deepest is None or depth > self.deepest[0]:
            self.deepest = depth, why

    def expand(self, depth: int, path: Path) -> None:
        self.spent += 1
        if self.spent > _STRAIGHT * len(self.layers):
            self.ahead.tighten()
        index = self.layers[depth]
        floors = self.floors.steps[depth]
        if not floors:
            path = self.walk.idle(index, path)
            self.push(self.after(depth + 1, path), depth + 1, path)
        for floor in floors:
            step = self.walk.step(index, path, *floor.memories)
            if isinstance(step, Infeasible):
                self.note(depth, step)
                continue
            ahead = _Ahead(step, self.ahead.mappings.least(index, floor.memories, step.room))
            self.push(self.value(depth, ahead), depth, ahead)

    def value(self, depth: int, ahead: _Ahead) -> float:
        """What a complete way over a step costs at least."""
        weight, step = self.walk.pricer.weight, ahead.step
        copies = weight(step.moves.cost.energy_pj, step.moves.cost.latency_cycles)
        pending = weight(step.moves.pending.energy_pj, 0.0)
        return step.path.score + copies + ahead.mapping + pending + self.ahead.rest[depth + 1]

    def after(self, depth: int, path: Path) -> float:
        """What a complete way costs at least that begins with a way."""
        return path.score + self.walk.pricer.weight(path.pending.energy_pj, 0.0) + self.ahead.rest[depth]

    def take(self, value: float, depth: int, ahead: _Ahead) -> None:
        """Map a step; where that is dearer than thought, others come first."""
        step = ahead.step
        if (depth + 1, self.walk.state(step.layer, step.homes, step.moves.pending)) in self.reached:
            return
        mappings = self.ahead.mappings
        for learn in (False, True):
            if learn:
                if mappings.known(step.layer, step.memories):
                    break
                self.ahead.learn(depth, step.memories)
            now = _Ahead(step, max(ahead.mapping, mappings.least(step.layer, step.memories, step.room)))
            if _coarse(self.value(depth, now)) > value:
                self.push(self.value(depth, now), depth, now)
                return
        path = self.walk.taken(step)
        if isinstance(path, Infeasible):
            self.note(depth, path)
        else:
            self.push(max(value, self.after(depth + 1, path)), depth + 1, path)


def _coarse(value: float) -> float:
    """Without the last digits, which differ by the order of sums."""
    mantissa, exponent = frexp(value)
    return ldexp(round(ldexp(mantissa, _DIGITS)), exponent - _DIGITS)


def cheapest(floors: PathFloors, most: float = inf) -> Path | Infeasible | None:
    """The cheapest way through all layers, or why there is none; None where none scores less than ``most``."""
    return _Search(floors, most).run()
