"""Copies beside compute: under the exact model, a copy is made early where ports and room allow.

What a layer needs is copied before it runs. Such a copy may begin while layers before it run, in the same tile or in
the one before, if

1. its source is complete by then: weights, and maps that other stacks made, always are; what lies in caches is when the
   tile begins; what the tile itself makes or fetches, after the layer that does;
2. its target is free: at the addresses that it has in the memory plan nothing else lives from then on, in any tile that
   may come before. Into a map, and its caches, nothing is fetched while the tile before still reads of them;
3. all ports on its way are idle at the same time: a layer of ``c`` cycles whose transfers keep any of them busy for
   ``b`` leaves ``c - b``, of which several copies take their parts one after the other.

Nothing is placed anew, and energy is what it was. Of what is left of a group of copies, the time is that of
:func:`dfc.scheduling.copies.group_cycles`. Copies that leave something for later tiles, or off chip, are not put off.
Tiles of another stack have no part in it: each stack costs the same whatever runs before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from math import floor
from typing import TypeVar

from dfc.backend_cost.busy_ports import BusyPorts
from dfc.backend_cost.timing_tables import Port
from dfc.hwdsl.arch import Arch
from dfc.ir import Graph
from dfc.scheduling.copies import Beside, Copy, group_cycles, hop_ports, hops, least_cycles
from dfc.scheduling.engine import ClassCost, LayerRun, StackCost
from dfc.scheduling.placement import Buffer

T = TypeVar("T")

#: kinds of copies that may be made early, and the kind of buffer that they go to
TARGETS = {
    "weights": "weights",
    "input": "map",
    "feature map": "window",
    "read H cache": "window",
    "read V cache": "window",
}
#: cycles are sums of fractions: what is missing of a whole one
_ROUNDING = 1e-6

#: what a layer's run does on ports
BusyOf = Callable[[LayerRun], BusyPorts]
#: ports that copies took, and for how many cycles
_Taken = list[tuple[frozenset[Port], int]]


def early_cycles(arch: Arch, run: LayerRun) -> int:
    """By how many cycles a layer's copies take less time, at most, where some are made early."""
    found = 0
    for _, group in _groups(run):
        late = [copy for copy in group if copy.what not in TARGETS]
        if len(late) < len(group):
            found += group_cycles(arch, group, [0] * len(group)) - least_cycles(arch, late)
    return found


def _groups(run: LayerRun) -> list[tuple[int, tuple[Copy, ...]]]:
    """The copies that start together, group after group, with the number of the first."""
    return [(a, run.copies[a:b]) for a, b in pairwise(accumulate(run.stages, initial=0))]


class _Step:
    """A layer that runs in the tiles of some class, and what their own early copies take of it."""

    def __init__(self, run: LayerRun | None, busy: BusyOf):
        self.run = run
        self.busy = busy
        self.taken: _Taken = []
        self._idle: dict[frozenset[Port], int] = {}

    def idle(self, ports: frozenset[Port]) -> int:
        """Whole cycles in which all of the ports are idle, at least, and no early copy takes any of them."""
        if ports not in self._idle:
            self._idle[ports] = self._of_mapping(ports)
        return max(0, self._idle[ports] - _meeting(self.taken, ports))

    def _of_mapping(self, ports: frozenset[Port]) -> int:
        if self.run is None or self.run.cost is None:
            return 0
        return max(0, floor(self.run.cost.latency_cycles - self.busy(self.run).cycles(ports) + _ROUNDING))


def _meeting(taken: _Taken, ports: frozenset[Port]) -> int:
    return sum(cycles for others, cycles in taken if not ports.isdisjoint(others))


def _meet(one: Buffer, other: Buffer) -> bool:
    """Whether two buffers share addresses."""
    a, b = one.address_bits or 0, other.address_bits or 0
    return one.memory == other.memory and a < b + other.bits and b < a + one.bits


@dataclass(frozen=True)
class _Early:
    """A copy that may be made early: the ``copy``-th of the ``run``-th layer that does anything, before step ``step``.

    buffers: where it goes, as far as these are not its own all the time. since: the first step of its tile before which
    its source is complete. ahead: the same in the tile before, None where it is not complete there.
    """

    run: int
    copy: int
    step: int
    cycles: int
    ports: frozenset[Port]
    buffers: tuple[Buffer, ...]
    since: int
    ahead: int | None


class _Tile:
    """A tile class: what its steps leave idle, what lives where, and what copies are made early."""

    def __init__(self, graph: Graph, arch: Arch, cost: StackCost, number: int, busy: BusyOf):
        self.graph = graph
        self.arch = arch
        self.layers = cost.plan.stack.layers
        self.held = cost.held
        self.cost: ClassCost = cost.classes[number]
        self.buffers = cost.buffers[number]
        self.at = {index: step for step, index in enumerate(self.layers)}
        runs = {self.at[run.layer]: run for run in self.cost.runs}
        self.steps = [_Step(runs.get(step), busy) for step in range(len(self.layers))]
        #: buffers that live longer for early copies, from a first to a last step before their own
        self.early: list[tuple[Buffer, int, int]] = []
        self.parts: list[list[Beside]] = [[] for _ in self.cost.runs]
        #: the same in the tile before, of whichever class it is: ports that are taken by step, buffers from which on
        self.taken_ahead: list[_Taken] = [[] for _ in self.layers]
        self.early_ahead: list[tuple[Buffer, int]] = []
        #: from which step on tiles that come next have buffers here
        self.lent: list[tuple[Buffer, int]] = []
        self._undo: list[Callable[[], object]] = []

    # --- which copies

    def groups(self) -> Iterator[tuple[int, int, tuple[Copy, ...], list[_Early]]]:
        """Groups of copies that start together: the run's number, the first's, all, and those that may be early."""
        known: dict[str, int] = {}  # maps that the tile has made or fetched, by step
        for number, run in enumerate(self.cost.runs):
            step = self.at[run.layer]
            for first, group in _groups(run):
                each = (self._early(number, first + n, step, copy, known) for n, copy in enumerate(group))
                found = [one for one in each if one is not None]
                if found:
                    yield number, first, group, found
            if run.nest is not None:
                layer = self.graph.layers[run.layer]
                for tensor in (*(source.tensor for source in layer.sources), layer.output):
                    known.setdefault(tensor, step)

    def _early(self, run: int, number: int, step: int, copy: Copy, known: Mapping[str, int]) -> _Early | None:
        buffers = self._buffers(copy, step) if copy.what in TARGETS else None
        if buffers is None:
            return None
        since, ahead = 0, None
        if copy.what == "input":
            ahead = 1 + max(self.at[c] for c in self.graph.consumers[copy.tensor] if c in self.at)
        elif copy.what == "feature map" and copy.tensor in self.held:
            ahead = 0
        elif copy.what == "feature map":
            since = known[copy.tensor] + 1
        way = hops(self.arch, copy)
        ports = frozenset(port for hop in way for port in hop_ports(self.arch, hop))
        return _Early(run, number, step, sum(hop.cycles for hop in way), ports, buffers, since, ahead)

    def _buffers(self, copy: Copy, step: int) -> tuple[Buffer, ...] | None:
        """The buffers of the tile's plan to which a copy goes; None where it has no place of its own."""
        what, memory = TARGETS[copy.what], self.arch.paths[copy.target.role][copy.target.level]
        if what == "weights":
            return ()  # theirs for as long as the stack runs
        alike = [b for b in self.buffers if (b.what, b.name, b.memory) == (what, copy.tensor, memory)]
        here = tuple(b for b in alike if b.first <= step <= b.last)
        if any(b.first != step for b in here) or not (here or what == "map"):  # a map may all go to caches
            return None
        return here

    # --- room

    def free(self, buffer: Buffer, step: int, *, own: bool) -> bool:
        """Whether nothing else lives at a buffer's addresses while a layer runs; ``own``: it is one of this tile."""
        if any(b.first <= step <= b.last and _meet(b, buffer) for b in self.buffers):
            return False
        early = (b for b, first, last in self.early if first <= step <= last and not (own and b == buffer))
        lent = (b for b, since in self.lent if own and since <= step)
        return not any(_meet(b, buffer) for b in (*early, *lent))

    def _since(self, early: _Early) -> int:
        """The first step from which on its buffers are free until the copy's own."""
        for step in range(early.step - 1, early.since - 1, -1):
            if not all(self.free(b, step, own=True) for b in early.buffers):
                return step + 1
        return early.since

    def _since_ahead(self, early: _Early, before: Sequence[_Tile]) -> int:
        """The same in the tile before; beyond the last step where they are not free."""
        last = len(self.layers)
        at_once = all(self.free(b, step, own=True) for b in early.buffers for step in range(early.step))
        if early.ahead is None or not before or not at_once:
            return last
        for step in range(last - 1, early.ahead - 1, -1):
            others = [b for b, since in self.early_ahead if since <= step]
            for buffer in early.buffers:
                if any(b != buffer and _meet(b, buffer) for b in others):
                    return step + 1
                if not all(tile.free(buffer, step, own=False) for tile in before):
                    return step + 1
        return early.ahead

    # --- early copies

    def done(self, run: int, copy: int) -> int:
        """Cycles of a copy that pass early."""
        return sum(part.cycles for part in self.parts[run] if part.copy == copy)

    def make_early(self, early: _Early) -> None:
        """Make a copy beside layers of its own tile, the earliest first."""
        left, start = early.cycles, None
        for step in range(self._since(early), early.step):
            cycles = min(left, self.steps[step].idle(early.ports))
            if cycles > 0:
                start = step if start is None else start
                left -= cycles
                self._add(self.steps[step].taken, (early.ports, cycles))
                self._add(self.parts[early.run], Beside(early.copy, self.layers[step], False, cycles))
        if start is not None:
            for buffer in early.buffers:
                self._add(self.early, (buffer, start, early.step - 1))

    def make_ahead(self, early: _Early, before: Sequence[_Tile]) -> None:
        """Make what is left of a copy beside layers of the tile before, whichever of these classes it is of."""
        left, start = early.cycles - self.done(early.run, early.copy), None
        for step in range(self._since_ahead(early, before), len(self.layers)):
            idle = min(tile.steps[step].idle(early.ports) for tile in before)
            cycles = min(left, idle - _meeting(self.taken_ahead[step], early.ports))
            if cycles > 0:
                start = step if start is None else start
                left -= cycles
                self._add(self.taken_ahead[step], (early.ports, cycles))
                self._add(self.parts[early.run], Beside(early.copy, self.layers[step], True, cycles))
        if start is not None:
            for buffer in early.buffers:
                self._add(self.early, (buffer, 0, early.step - 1))
                self._add(self.early_ahead, (buffer, start))
                for tile in before:
                    self._add(tile.lent, (buffer, start))

    def _add(self, entries: list[T], entry: T) -> None:
        entries.append(entry)
        self._undo.append(entries.pop)

    def accept(self) -> None:
        """What was made early stays so."""
        self._undo.clear()

    def take_back(self) -> None:
        """What was made early since the last time is not."""
        while self._undo:
            self._undo.pop()()

    # --- what it saves

    def left_cycles(self, run: int, first: int, group: Sequence[Copy]) -> int:
        """The time of a group of copies, without what passes early."""
        return group_cycles(self.arch, group, [self.done(run, first + n) for n in range(len(group))])

    def result(self) -> ClassCost:
        """The class with less time for copies."""
        runs = tuple(self._shorter(number, run) for number, run in enumerate(self.cost.runs))
        hidden = sum(run.hidden_cycles for run in runs)
        return replace(self.cost, runs=runs, latency_cycles=self.cost.latency_cycles - hidden)

    def _shorter(self, number: int, run: LayerRun) -> LayerRun:
        parts = self.parts[number]
        if not parts:
            return run
        left = sum(self.left_cycles(number, first, group) for first, group in _groups(run))
        hidden = run.copy_cost.latency_cycles - left
        cost = replace(run.copy_cost, latency_cycles=left)
        order = sorted(parts, key=lambda part: (part.copy, not part.ahead, self.at[part.layer]))
        return replace(run, copy_cost=cost, beside=tuple(order), hidden_cycles=hidden)


def beside_compute(graph: Graph, arch: Arch, cost: StackCost, busy: BusyOf) -> StackCost:
    """A priced plan, all of whose buffers have addresses, with copies made early; first in each tile, then ahead of it.

    Copies of the layers that come first have the first choice. A group of copies is made early only if it takes less
    time then.
    """
    if not any(copy.what in TARGETS for one in cost.classes for run in one.runs for copy in run.copies):
        return cost
    tiles = [_Tile(graph, arch, cost, number, busy) for number in range(len(cost.classes))]
    for tile in tiles:
        _each_group(tile, None)
    for tile, numbers in zip(tiles, cost.plan.before, strict=True):
        _each_group(tile, [tiles[n] for n in numbers])
    return replace(cost, classes=tuple(tile.result() for tile in tiles))


def _each_group(tile: _Tile, before: Sequence[_Tile] | None) -> None:
    """Make copies early in their own tile, or in those before it, where that saves time."""
    for run, first, group, found in list(tile.groups()):
        time = tile.left_cycles(run, first, group)
        if not time:
            continue
        for early in found:
            if before is None:
                tile.make_early(early)
            else:
                tile.make_ahead(early, before)
        if tile.left_cycles(run, first, group) < time:
            tile.accept()
        else:
            tile.take_back()
