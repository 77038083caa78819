"""Which layers form stacks, and how each runs: the best sequence of stacks, each with its best tile and mode.

``partition.py`` asks for stacks, this file prices them: :class:`StackSearch` finds the tiles of one, after bounds have
ruled out what cannot be part of a better schedule. A map that is handed over between two stacks may stay on chip.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

from dfc.backend_cost.mapping_cost import Objective
from dfc.errors import RulesError
from dfc.ir import Kind
from dfc.passes.stacks import Stack, crossing_elements, make_stack, stands_alone
from dfc.scheduling.bounds import LayerBounds
from dfc.scheduling.constraints import StackRules
from dfc.scheduling.levels import MemoryLadder
from dfc.scheduling.partition import best_sequence
from dfc.scheduling.partition_types import Limit, Option, Partition
from dfc.scheduling.placement import Held, HeldMap
from dfc.scheduling.run_bounds import RunBounds
from dfc.scheduling.search import Candidate, StackSearch, frontier
from dfc.scheduling.structure import structure

#: so many layers are cut at no more than MOST_CUTS places, those where least is handed over
WINDOW = 32
MOST_CUTS = 14
#: stacks of more layers are not tried, unless they are asked for first
MOST_LAYERS = 40
#: the effort per window besides that on the first sequence, before the search is ended with what it has; more where
#: maps may stay on chip (partition.py). A unit is a layer of a tile class that is looked at, about a millisecond.
MOST_EFFORT = 6000
#: what a stack counts at least
LEAST_EFFORT = 5


@dataclass(frozen=True)
class Run:
    """How a stack of the network runs: its search, and the candidate that was chosen."""

    search: StackSearch
    candidate: Candidate


@dataclass(frozen=True)
class Found:
    """The best sequence of stacks: of ``legal`` places for cuts ``tried`` ones were tried."""

    sequence: Partition[Run]
    legal: int
    tried: int

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the search."""
        return not self.sequence.complete and not self.sequence.spent


@dataclass(frozen=True, slots=True)
class _Explored:
    """What was found of a stack, and within which limit."""

    search: StackSearch
    limit: Limit | None
    candidates: Sequence[Candidate]

    def covers(self, limit: Limit | None) -> bool:
        """Whether all that a limit allows was allowed."""
        return self.limit is None or (limit is not None and self.limit.no_stricter(limit))


MakeSearch = Callable[[Stack, Held], StackSearch]
#: finds the candidates of a stack, with every effort unless there is a limit to what they may cost
Explore = Callable[[StackSearch, Limit | None], Sequence[Candidate]]


class NetworkStacks:
    """Prices the stacks of a network for the search of the best sequence."""

    def __init__(
        self,
        bounds: LayerBounds,
        first: Sequence[Stack],
        make: MakeSearch,
        explore: Explore,
        *,
        hand_over: bool,
        fixed: bool,
        rules: StackRules | None = None,
        recall: bool = True,
    ):
        """``first`` is the sequence to begin with, ``fixed``: no other; ``hand_over``: maps may stay on chip.

        All sequences keep to the ``rules``; the first does already. ``recall``: stacks of the same structure cost the
        same.
        """
        self.bounds = bounds
        self.graph = bounds.graph
        self.arch = bounds.arch
        self.make = make
        self.explore = explore
        self.hand_over = hand_over
        self.fixed = fixed
        self.first = first
        #: stacks that are priced after the first sequence, as :attr:`begin` has them
        self.also: Sequence[tuple[int, int, int, int]] = ()
        self.rules = rules or StackRules()
        self.cuts = self._cuts(first)
        self.recall = recall
        self._explored: dict[Hashable, _Explored] = {}
        self._effort = 0
        self._runs: dict[int, RunBounds] = {}

    # --- cuts

    def _cuts(self, first: Sequence[Stack]) -> list[int]:
        """Places for cuts: layers before which a stack may begin, and the network's end."""
        layers = len(self.graph.layers)
        forced = {0, layers, *(stack.layers[0] for stack in first)}
        if self.fixed:
            return sorted(forced)
        for i, layer in enumerate(self.graph.layers):
            if stands_alone(layer):
                forced |= {i, i + 1}
        crossing = crossing_elements(self.graph)
        found = set(forced)
        for start in range(0, layers, WINDOW):
            here = range(start, min(layers, start + WINDOW) + (layers <= start + WINDOW))
            closed = forced | self.rules.never
            others = sorted((c for c in here if c not in closed), key=lambda c: (crossing[c], c))
            found.update(others[: max(0, MOST_CUTS - len(forced.intersection(here)))])
        return sorted(found)

    def _handed(self, cut: int) -> str | None:
        """The map that may stay on chip over a cut: what the layer before makes, if only layers after it read it."""
        if not self.hand_over or cut in (0, self.cuts[-1]):
            return None
        before = self.graph.layers[cut - 1]
        if before.kind in (Kind.OPAQUE, Kind.VIEW) or stands_alone(self.graph.layers[cut]):
            return None
        name = before.output
        alone = len(before.outputs) == 1 and name not in self.graph.outputs and self.graph.consumers[name]
        return name if alone and min(self.graph.consumers[name]) >= cut else None

    @cached_property
    def begin(self) -> list[tuple[int, int, int, int]]:
        """The stacks of the first sequence, their maps in the first places that there are."""
        at = {cut: n for n, cut in enumerate(self.cuts)}
        ends = [(at[s.layers[0]], at[s.layers[-1] + 1]) for s in self.first]
        first = [0, *(next(iter(self.places(n)), 0) for n in range(1, len(self.cuts) - 1)), 0]
        return [(start, end, first[start], first[end]) for start, end in ends]

    def effort(self) -> float:
        """How much was spent on stacks so far: layers of tile classes, as :attr:`StackSearch.effort` counts them."""
        return self._effort

    # --- the provider

    def places(self, cut: int) -> Sequence[int]:
        """Off chip, and on-chip memories that hold the whole map; number 0 is off chip, others count from 1."""
        wanted = self.rules.on_chip.get(self.cuts[cut])
        off = [] if wanted and wanted.value else [0]
        name = self._handed(self.cuts[cut])
        if name is None or (wanted and not wanted.value):
            return off
        bits = self.graph.tensors[name].elements * self.arch.array.output_bits
        shared = self._shared()
        return [*off, *(n + 1 for n, m in enumerate(shared) if bits < self.arch.memories[m].size_bits)]

    def check_places(self) -> None:
        """Is there a place for each map that the user wants on chip?

        Raises:
            RulesError: MAP047.
        """
        for number, cut in enumerate(self.cuts):
            wanted = self.rules.on_chip.get(cut)
            if wanted and not self.places(number):
                name = self._handed(cut)
                why = "every memory on chip that holds inputs and outputs is smaller"
                if name is None:
                    why = "only what a stack's last layer makes, and later stacks alone read, can do that"
                message = f"what layer '{self.graph.layers[cut - 1].name}' makes cannot stay on chip: {why}"
                raise RulesError(
                    "MAP047", message, span=wanted.span, hint="leave this line out, or end the stack elsewhere"
                )

    def _shared(self) -> list[int]:
        return [*MemoryLadder(self.arch).shared[:-1]]

    def ends(self, cut: int) -> Iterable[int]:
        """Cuts at which a stack from here on may end."""
        start = self.cuts[cut]
        if self.fixed:
            yield cut + 1
            return
        longest = {stack.layers[-1] + 1 for stack in self.first if stack.layers[0] == start}
        for end in range(cut + 1, len(self.cuts)):
            layers = self.cuts[end] - start
            if layers > 1 and any(map(stands_alone, self.graph.layers[self.cuts[end - 1] : self.cuts[end]])):
                return
            if any(start < must < self.cuts[end] for must in self.rules.must):
                return
            if layers <= MOST_LAYERS or self.cuts[end] in longest:
                yield end
            elif self.cuts[end] > max(longest, default=0):
                return
            if stands_alone(self.graph.layers[start]):
                return

    def _stack(self, start: int, end: int) -> Stack:
        return make_stack(self.graph, range(self.cuts[start], self.cuts[end]))

    def _held(self, start: int, end: int, place_in: int, place_out: int) -> dict[str, HeldMap] | None:
        """What stays on chip at the stack's borders; None where that cannot be."""
        found: dict[str, HeldMap] = {}
        shared = self._shared()
        if place_in:
            name = self._handed(self.cuts[start])
            if name is None or max(self.graph.consumers[name]) >= self.cuts[end]:
                return None  # a later stack reads it too
            found[name] = HeldMap(shared[place_in - 1])
        if place_out:
            name = self._handed(self.cuts[end])
            if name is None:
                return None
            found[name] = HeldMap(shared[place_out - 1], high=True)
        taken = [0] * len(self.arch.memories)
        for name, one in found.items():
            taken[one.memory] += self.graph.tensors[name].elements * self.arch.array.output_bits
        return found if all(bits < m.size_bits for bits, m in zip(taken, self.arch.memories, strict=True)) else None

    def bound(self, start: int, end: int, place_in: int, place_out: int) -> tuple[float, float]:
        """What no schedule of the stack costs less than."""
        held = self._held(start, end, place_in, place_out)
        if held is None:
            return inf, inf
        if self.fixed and not self.hand_over:  # there is one sequence
            return 0.0, 0.0
        first = self.cuts[start]
        if first not in self._runs:
            self._runs[first] = RunBounds(self.bounds, first)
        return self._runs[first].until(self.cuts[end], held_in=bool(place_in), held_out=bool(place_out))

    def options(self, start: int, end: int, place_in: int, place_out: int, limit: Limit) -> Sequence[Option[Run]]:
        """The stack's tiles and modes."""
        key = (start, end, place_in, place_out)
        held = self._held(*key)
        assert held is not None
        stack = self._stack(start, end)
        known = key in self.begin or key in self.also
        search = self.make(stack, held)
        alike = self.recall and stack.layers not in self.rules.blocks
        shape = structure(self.graph, stack, held) if alike else (stack.layers, tuple(held.items()))
        twin = self._explored.get(shape)
        before = search.effort
        found: Sequence[Candidate]
        if twin is not None and twin.covers(None if known else limit):
            search.adopt(twin.search)
            found = [search.renamed(c) for c in twin.candidates]
        else:
            found = self.explore(search, None if known else limit)
            self._explored[shape] = _Explored(search, None if known else limit, found)
        self._effort += max(LEAST_EFFORT, search.effort - before)
        return [Option(c.energy_pj, float(c.latency_cycles), Run(search, c)) for c in frontier(found, _costs)]


def _costs(candidate: Candidate) -> tuple[float, float]:
    return candidate.energy_pj, candidate.latency_cycles


def search_network(stacks: NetworkStacks, objective: Objective, most: int | None = None) -> Found:
    """The best sequence of stacks; an effort of ``most`` is spent besides that on the first sequence.

    By default :data:`MOST_EFFORT` per window.
    """
    if most is None:
        most = MOST_EFFORT * -(-len(stacks.graph.layers) // WINDOW)
    found = best_sequence(
        len(stacks.cuts) - 1, stacks, objective, [*stacks.begin, *stacks.also], most=most, effort=stacks.effort
    )
    legal = len(stacks.graph.layers) - 1 - len(stacks.rules.never)
    return Found(found, legal, tried=len(stacks.cuts) - 2)


def turned(searches: Sequence[StackSearch]) -> list[dict[str, HeldMap]]:
    """Per stack, the maps that stay on chip at its borders: they take turns at the two ends of their memories."""
    found: list[dict[str, HeldMap]] = []
    before: dict[str, HeldMap] = {}
    high = False
    for search in searches:
        leaving = {t: HeldMap(one.memory, high) for t, one in search.held.items() if t not in before}
        found.append({t: before.get(t) or leaving[t] for t in search.held})
        before = leaving
        high = not high
    return found
