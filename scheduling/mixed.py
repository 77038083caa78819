"""A mode for each map by itself: from the best plans with one mode for all, single maps are turned over.

A map that is kept along an axis needs a line buffer; one that is recomputed needs more work, up to the next map before
it that is kept. Which costs less depends on its channels and on what it takes to compute it, so that maps of one stack
may differ. A descent: maps are turned over one by one and along one axis, those with the largest line buffers first,
and stay so where that costs less; what is no better by its estimate is not priced. Each is tried once, and again after
one beside it was turned over. It begins from candidates with one mode for all and leaves them, so it never does worse.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING

from dfc.backend_cost.mapping_cost import Objective
from dfc.ir import Axis, Graph
from dfc.passes.axis_tiles import maps_of
from dfc.passes.tiles import DepthFirstPlan, Mixed, Modes, Overlap, Tiler, modes_of
from dfc.scheduling.levels import Infeasible, MapSizes
from dfc.scheduling.parts import line_buffers

if TYPE_CHECKING:
    from dfc.scheduling.search import Candidate, StackSearch

#: plans from which maps are turned over: the best of different modes
_STARTS = 2
#: the second is none if it costs more than so many times the best
_BEHIND = 1.1
#: plans that are looked at from each of them
_LOOKS = 32
#: a stack that is beyond its limit by more than this share is left as it is: seldom more is saved
_SAVED = 0.1

#: a map, and an axis along which its overlap is kept instead of recomputed, or the other way round
Turn = tuple[str, Axis]


def turned_over(plan: DepthFirstPlan, turn: Turn, tiler: Tiler) -> DepthFirstPlan:
    """The plan with a map turned over."""
    tensor, axis = turn
    modes = modes_of(plan.overlap, tiler.maps)
    _, keep_y, keep_x = modes[tensor].keeps
    mode = Overlap.keeping(keep_x != (axis is Axis.X), keep_y != (axis is Axis.Y))
    return tiler.plan(plan.tile, Mixed.made({**modes, tensor: mode}), plan.order)


def overlapping(graph: Graph, plan: DepthFirstPlan) -> Iterator[Turn]:
    """The maps of which tiles share positions, each with the axes along which they do."""
    maps = maps_of(graph, plan.stack)
    modes = modes_of(plan.overlap, maps)
    whole = graph.tensors[plan.stack.outputs[-1]].spatial
    for axis, size in ((Axis.X, plan.tile[0]), (Axis.Y, plan.tile[1])):
        others = plan.tiles // -(-whole[axis] // size)  # as many times each step along the axis occurs
        for at, name in enumerate(maps):
            steps = [((c.x if axis is Axis.X else c.y).tensors[at][1], c.count) for c in plan.classes]
            if modes[name].keeps[axis]:
                shared = any(step.stored for step, _ in steps)
            else:
                made = sum(step.fresh * count for step, count in steps)
                shared = made > graph.tensors[name].spatial[axis] * others
            if shared:
                yield name, axis


class MixedModes:
    """The descent from the best candidates of a stack's search."""

    def __init__(self, search: StackSearch, objective: Objective):
        self.search = search
        self.tiler = search.tiler
        self.graph = search.tiler.graph
        self.objective = objective
        self.sizes = MapSizes(self.graph, search.pricer.arch)

    def run(self) -> None:
        """Turn over maps of each start; all that was better on the way is a candidate of the search."""
        limit = self.search.limit
        for start in self._starts():
            hoped = (1 - _SAVED) * start.energy_pj, (1 - _SAVED) * start.latency_cycles
            if limit is None or limit.allows(*hoped):
                self._descend(start)

    def _starts(self) -> list[Candidate]:
        best: dict[Modes, Candidate] = {}
        for one in sorted(self.search.candidates(), key=self._score):
            if one.tile != self.search.whole:
                best.setdefault(one.overlap, one)
        found = list(best.values())[:_STARTS]
        return [c for c in found if self._score(c) <= _BEHIND * self._score(found[0])]

    def _score(self, one: Candidate) -> float:
        return self.objective.of(one.energy_pj, float(one.latency_cycles))

    def _about(self, plan: DepthFirstPlan) -> float:
        """About the score of a plan; infinite where it does not fit."""
        self.search.count(plan)
        found = self.search.pricer.estimate(plan, self.search.held)
        return inf if isinstance(found, Infeasible) else self.objective.of(*found)

    def _descend(self, start: Candidate) -> None:
        plan = self.search.plan(start.tile, start.overlap, start.order)
        about, price = self._about(plan), self._score(start)
        left = _LOOKS
        tried: set[Turn] = set()
        while left and (turn := self._next(plan, tried)):
            tried.add(turn)
            other = turned_over(plan, turn, self.tiler)
            outlook = self.objective.of(*self.search.pricer.outlook(other, self.search.held))
            if outlook >= about or self.search.hopeless(other):
                continue
            left -= 1
            found = self._about(other)
            self.search.tell(plan.tile, other.overlap, plan.order, f"about, {turn[0]}")
            if found >= about:
                continue
            priced = self.search.price(other.tile, other.overlap, order=other.order)
            if isinstance(priced, Infeasible) or self._score(priced) >= price:
                continue  # what is alive at once may find no room side by side: no estimate knows that
            plan, about, price = other, found, self._score(priced)
            tried -= {(name, axis) for name in self._near(turn[0]) for axis in Axis}
            tried.add(turn)

    def _near(self, tensor: str) -> set[str]:
        """The maps that a layer of the stack makes or reads together with this one."""
        found: set[str] = set()
        for index in self.search.stack.layers:
            layer = self.graph.layers[index]
            maps = {*layer.outputs, *(s.tensor for s in layer.sources)}
            found |= maps if tensor in maps else set()
        return found

    def _next(self, plan: DepthFirstPlan, tried: set[Turn]) -> Turn | None:
        """What to turn over next: of what was not tried, the largest line buffer."""
        fixed = {*self.search.pins, *self.search.held}  # whole maps need no line buffers
        left = [t for t in overlapping(self.graph, plan) if t not in tried and t[0] not in fixed]
        if not left:
            return None
        everything = self.tiler.plan(plan.tile, Overlap.CACHED, plan.order)
        sizes: dict[Turn, int] = {}
        for one in (plan, everything):  # what is not kept has the size that it would have
            for name, buffers in line_buffers(self.graph, one).items():
                for axis, buffer in zip(plan.order.axes, buffers, strict=True):
                    bits = buffer.positions * self.sizes.column_bits(name) if buffer else 0
                    sizes[name, axis] = max(bits, sizes.get((name, axis), 0))
        return max(left, key=sizes.__getitem__)
