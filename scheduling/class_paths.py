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

#: binary digits of costs that ways are ordered by
_DIGITS = 40


@dataclass(frozen=True, slots=True)
class StepFloor:
    """What a layer costs at least with its input and output in these memories, copies of the stack's inputs included.

    after_pj: of copies that run before the next layer.
    """

    memories: tuple[int, int]
    energy_pj: float
    cycles: float
    after_pj: float


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
        walk, rates = self.walk, self.walk.pricer.rates
        output, arriving = walk.graph.layers[index].output, walk.view.arriving[index]
        before: dict[int, tuple[float, float, float]] = {}
        for i in dict.fromkeys(i for i, _ in choices):
            fetched = [*walk.weights(index), *walk.fetched(index, arriving, i)]
            lines = walk.gathered(index, list(walk.reads[index]), {}, i)
            after = sum(rates.energy_pj(c) for t in arriving for c in walk.kept(t, i))
            energy = sum(map(rates.energy_pj, (*fetched, *lines)))
            before[i] = energy, max(map(rates.cycles, fetched), default=0), after
        left = {
            o: sum(map(rates.energy_pj, (*walk.kept(output, o), *walk.left(walk.graph.layers[index], o))))
            for o in dict.fromkeys(o for _, o in choices)
        }
        for i, o in choices:
            energy, cycles = walk.floor(index, i, o)
            yield StepFloor((i, o), energy + before[i][0], cycles + before[i][1], before[i][2] + left[o])

    def least(self, shares: Sequence[float]) -> tuple[float, float]:
        """Energy and cycles of the class at least, where each layer counts ``shares`` times."""
        energy = cycles = 0.0
        runs = [floors for floors in self.steps if floors]
        here = [share for floors, share in zip(self.steps, shares, strict=True) if floors]
        for floors, share, following in zip(runs, here, [*here[1:], *here[-1:]], strict=True):
            energy += min(share * f.energy_pj + following * f.after_pj for f in floors)
            cycles += share * min(f.cycles for f in floors)
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
    """A step with what its mapping costs at least; ``free``: that is its best mapping where nobody else takes room."""

    step: Step
    mapping: float
    free: bool = False


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

    def run(self) -> Path | Infeasible | None:
        last = len(self.layers)
        self.push(self.floors.rest[0], 0, self.walk.start)
        while self.open:
            value, _, _, depth, item = heappop(self.open)
            if value >= self.most:
                return None
            if isinstance(item, _Ahead):
                self.take(value, depth, item)
            elif depth > last:
                return item
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
        index = self.layers[depth]
        floors = self.floors.steps[depth]
        if not floors:
            path = self.walk.idle(index, path)
            self.push(self.ahead(depth + 1, path), depth + 1, path)
        for floor in floors:
            step = self.walk.step(index, path, *floor.memories)
            if isinstance(step, Infeasible):
                self.note(depth, step)
                continue
            mapping = self.walk.pricer.weight(*self.walk.floor(index, *floor.memories))
            self.push(self.value(depth, step, mapping), depth, _Ahead(step, mapping))

    def value(self, depth: int, step: Step, mapping: float) -> float:
        """What a complete way over a step costs at least where its mapping does."""
        weight = self.walk.pricer.weight
        copies = weight(step.copy_cost.energy_pj, step.copy_cost.latency_cycles)
        pending = weight(sum(map(self.walk.pricer.rates.energy_pj, step.pending)), 0.0)
        return step.path.score + copies + mapping + pending + self.floors.rest[depth + 1]

    def ahead(self, depth: int, path: Path) -> float:
        pending = sum(map(self.walk.pricer.rates.energy_pj, path.pending))
        return path.score + self.walk.pricer.weight(pending, 0.0) + self.floors.rest[depth]

    def take(self, value: float, depth: int, ahead: _Ahead) -> None:
        """Map a step; where that is dearer than thought, others come first."""
        step = ahead.step
        if (depth + 1, self.walk.state(step.layer, step.homes, step.pending)) in self.reached:
            return
        if not ahead.free:
            known = self.walk.pricer.weight(*self.walk.floor(step.layer, *step.memories))
            if known > ahead.mapping:  # other mappings of this layer have told more since
                self.push(value + known - ahead.mapping, depth, _Ahead(step, known))
                return
            free = self.walk.free_floor(step)
            if free is not None and free > ahead.mapping:
                self.push(value + free - ahead.mapping, depth, _Ahead(step, free, free=True))
                return
        path = self.walk.taken(step)
        if isinstance(path, Infeasible):
            self.note(depth, path)
        else:
            self.push(max(value, self.ahead(depth + 1, path)), depth + 1, path)


def _coarse(value: float) -> float:
    """Without the last digits, which differ by the order of sums."""
    mantissa, exponent = frexp(value)
    return ldexp(round(ldexp(mantissa, _DIGITS)), exponent - _DIGITS)


def cheapest(floors: PathFloors, most: float = inf) -> Path | Infeasible | None:
    """The cheapest way through all layers, or why there is none; None where none scores less than ``most``."""
    return _Search(floors, most).run()
