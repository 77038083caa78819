"""The best way through a network over time: where it is cut, and in which form each range between two cuts runs.

A range runs with what it kept (dense or polyphase) or is recomputed from what is kept of its input. Whatever its form,
it hands on the new positions of its output and nothing else. So its price does not depend on the forms of others, and
the multiply-accumulates of all ranges are those of the whole. All share the memories: ``labels.py`` finds the best way.

Over a cut that one map alone crosses, what is handed over goes off chip, or waits in a memory. So a node of the search
is a cut with the memory in which its map waits. A map that waits there takes room in every step, and counts where it is
read. It waits in the lowest memory of which it takes little, if there is one. Only where not all has room together, or
nothing is fast enough, it may wait in any that holds it, or go off chip: to move it further costs no less.

Ranges without a price stand there with a bound and take no room. As long as the best way leads over such ranges, they
are priced, so in the end no way is better (known as LazySP, ICAPS 2016). Ranges of equal structure are priced once.
Where a range is known with maps in the lowest memories, this and the map's room elsewhere stand for the bound.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations, product
from math import inf
from typing import Protocol

from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import Objective
from dfc.hwdsl.arch import Arch
from dfc.ir import Graph
from dfc.passes.causal_plan import Form
from dfc.passes.stacks import can_be_one, make_stack
from dfc.scheduling.labels import Edge, Path, Paths, best_or_fastest, best_paths
from dfc.scheduling.levels import Infeasible
from dfc.scheduling.partition_types import SLACK
from dfc.scheduling.placement import Held, HeldMap
from dfc.scheduling.step_bounds import StepBounds
from dfc.scheduling.step_handed import HandedOver, handed_over, waiting_rooms
from dfc.scheduling.step_pricer import StepPricer
from dfc.scheduling.step_types import STACK_PJ, Bits, StepOption, close, fits_together
from dfc.scheduling.structure import structure

#: parts of each memory that are reserved in turn where not all finds room together
RESERVED = (0.0, 0.5, 0.75)
#: different ranges besides the plain ones that are priced before the search is ended with what it has; as many again
#: where not all that is best has room together
MOST_PRICED = 48
#: what all memories together are where room does not count
_ENDLESS = 1 << 62


@dataclass(frozen=True, slots=True)
class FormRange:
    """The layers of a range in some form, as part of a step."""

    graph: Graph
    layers: range


#: told of a range in a form once it is priced, with the mappings that are known by then
Progress = Callable[[FormRange, Form, MappingCache], None]


class Forms(Protocol):
    """The forms of a network's ranges; places for cuts count from 0 (start)."""

    @property
    def places(self) -> int:
        """How many places for cuts there are, start and end among them."""
        ...

    @property
    def forms(self) -> Sequence[Form]:
        """Which forms there are, the plainest first."""
        ...

    def of(self, first: int, end: int, form: Form) -> FormRange | None:
        """A range in a form; None where it cannot have it, or is no different in a plainer one. Slow."""
        ...

    def work(self, first: int, end: int, form: Form) -> Sequence[float] | None:
        """How many times as many positions each layer of the plain range makes in a form, at least; None where the
        form cannot be or makes no difference. Quick.
        """
        ...


@dataclass(frozen=True, slots=True)
class RangeWay:
    """One way to run a range; without an option it is a bound.

    before, after: the memory in which the map over its first and its last cut waits, None for off chip.
    """

    first: int
    end: int
    form: Form
    before: int | None
    after: int | None
    energy_pj: float
    latency_cycles: float
    resident_bits: Bits
    transient_bits: Bits
    option: StepOption | None = None


@dataclass(frozen=True, slots=True)
class JointPath:
    """What was found: the ranges in order; none where nothing fits, and then why.

    complete: it is proved that none is better, of all cuts and forms that were tried; else too much was to be priced.
    interrupted: Ctrl-C ended the search; it is the best of what was priced until then.
    ranges: how many there are, forms counted; priced: of how many different ones the price was asked.
    """

    ways: tuple[RangeWay, ...]
    complete: bool
    ranges: int
    priced: int
    why: Infeasible | None = None
    interrupted: bool = False

    @property
    def energy_pj(self) -> float:
        """Of a step."""
        return sum(way.option.energy_pj for way in self.ways if way.option)

    @property
    def latency_cycles(self) -> float:
        """Of a step."""
        return sum(way.latency_cycles for way in self.ways)


#: a place for a cut, and the memory in which the map over it waits; off chip it is none
_Node = tuple[int, int | None]


@dataclass
class _Range:
    """An edge: what is known of it; ``lower``: the same range with maps in the lowest memories that will do."""

    first: int
    end: int
    form: Form
    before: int | None
    after: int | None
    at: FormRange | None
    bound: tuple[float, float]
    lower: _Range | None = None
    options: list[StepOption] = field(default_factory=list[StepOption])
    shares: int = 0


class JointSearch:
    """Prices ranges as far as it must."""

    def __init__(
        self,
        forms: Forms,
        arch: Arch,
        cache: MappingCache,
        objective: Objective,
        *,
        reserved: Sequence[float] = RESERVED,
        most_cycles: float = inf,
        most: int = MOST_PRICED,
        progress: Progress | None = None,
    ) -> None:
        self.forms = forms
        self.arch = arch
        self.cache = cache
        self.objective = objective
        self.reserved = reserved
        self.most_cycles = most_cycles
        self.most = most
        self.progress = progress
        self.why: Infeasible | None = None
        self.ranges: list[_Range] = []
        self._pricers: dict[int, StepPricer] = {}
        self._bounds: dict[int, StepBounds] = {}
        self._handed: dict[tuple[int, int], HandedOver | None] = {}
        self._known: dict[Hashable, list[StepOption]] = {}

    def run(self) -> JointPath:
        """The best way by the objective, within so many cycles per step.

        A KeyboardInterrupt ends the search with what it has, the fastest where nothing is fast enough; with nothing at
        all it goes on to the caller.
        """
        try:
            return self._run()
        except KeyboardInterrupt:
            if not self._known:
                raise
            found = best_or_fastest(*self._edges(0), self.sizes, self.objective, self.most_cycles)
            if not found.paths:
                raise
            ways = tuple(way for path in found.paths for _, way in path.edges)
            return JointPath(ways, False, len(self.ranges), len(self._known), interrupted=True)

    def _run(self) -> JointPath:
        self.enter(anywhere=False)
        if not self.ranges:
            return JointPath((), True, 0, 0)
        for one in sorted(self.ranges, key=lambda one: one.end - one.first):  # with the shortest there is a way
            if one.form is self.forms.forms[0]:
                self._price(one, 1)
        found = alone = self._settled([_ENDLESS] * len(self.arch.memories), 1)
        if not found.paths or not self._fits(found.paths[0]):
            self.enter(anywhere=True)
            found = self._settled(self.sizes, 1)
            if not close(found, alone, self.objective):
                found = self._settled(self.sizes, len(self.reserved))
        ways = tuple(way for path in found.paths for _, way in path.edges)
        return JointPath(ways, found.complete, len(self.ranges), len(self._known), None if ways else self.why)

    def enter(self, *, anywhere: bool) -> None:
        """Add all ranges in all forms that they can have, with maps over their ends in the lowest memories of which
        they take little, or in any and off chip.
        """
        lowest = {(one.first, one.end, one.form): one for one in self.ranges}
        for first, end in combinations(range(self.forms.places), 2):
            plain = self.forms.of(first, end, self.forms.forms[0])
            if plain is None or not _can_be_one(plain):
                continue
            forms: list[tuple[Form, Sequence[float]]] = [(self.forms.forms[0], ())]
            forms += [(f, work) for f in self.forms.forms[1:] if (work := self.forms.work(first, end, f)) is not None]
            places = product(*(self._waiting(plain, one, anywhere) for one in (self._arriving, self._leaving)))
            for (form, work), (before, after) in product(forms, places):
                at = plain if form is self.forms.forms[0] else None
                bound = self._bound(plain, work, self._held(plain, before, after) or {})
                one = _Range(first, end, form, before, after, at, bound, lowest.get((first, end, form)))
                if one.lower is None or (before, after) != (one.lower.before, one.lower.after):
                    self.ranges.append(one)

    def _waiting(
        self, plain: FormRange, over: Callable[[FormRange], HandedOver | None], anywhere: bool
    ) -> Sequence[int | None]:
        """Where the map over the first or the last cut of a range may wait: that which it reads last, or makes."""
        found = over(plain)
        if found is None:
            return [None]
        rooms = partial(waiting_rooms, plain.graph, self.arch, found.name, self._pricer(plain.graph).on_chip)
        return [*rooms(part=1), None] if anywhere else (rooms()[:1] or [None])

    @property
    def sizes(self) -> list[int]:
        """Bits of every memory, off chip without what is there anyway."""
        plain = self.ranges[0].at
        assert plain is not None
        return self._pricer(plain.graph).sizes

    def _fits(self, path: Path[RangeWay]) -> bool:
        return fits_together(self.sizes, [way.option for _, way in path.edges if way.option is not None])

    def _settled(self, sizes: Sequence[int], shares: int) -> Paths[RangeWay]:
        """The best way, all of it priced; the best of what is priced once that is as much as may be."""
        most = len(self._known) + self.most
        while True:
            found = self._best(sizes, shares)
            open_ = [number for path in found.paths for number, way in path.edges if way.option is None]
            if not open_:
                return found
            if len(self._known) >= most:
                known = self._best(sizes, 0)
                if known.paths:
                    return replace(known, complete=False)
            for number in open_:
                self._price(self.ranges[number], shares)

    def _best(self, sizes: Sequence[int], shares: int) -> Paths[RangeWay]:
        return best_paths(*self._edges(shares), sizes, self.objective, most_cycles=self.most_cycles)

    def _edges(self, shares: int) -> tuple[int, list[Edge[RangeWay]]]:
        """How many nodes there are, and the edges; with no shares those alone that are priced."""
        ends: set[_Node] = {(0, None), (self.forms.places - 1, None)}
        for one in self.ranges:
            ends |= {(one.first, one.before), (one.end, one.after)}
        order = sorted(ends, key=lambda node: (node[0], -1 if node[1] is None else node[1]))
        number = {node: i for i, node in enumerate(order)}
        return len(order), [
            Edge(number[one.first, one.before], number[one.end, one.after], self._ways(one, shares))
            for one in self.ranges
        ]

    def _ways(self, one: _Range, shares: int) -> list[RangeWay]:
        nothing = (0,) * len(self.arch.memories)
        at = one.first, one.end, one.form, one.before, one.after
        found = [
            RangeWay(*at, o.energy_pj + STACK_PJ, o.latency_cycles, o.resident_bits, o.transient_bits, o)
            for o in one.options
        ]
        if one.shares < shares and (one.options or not one.shares):
            energy, cycles = one.bound
            if one.options:  # with part of the memories nothing is cheaper than with all of them
                energy = min(o.energy_pj for o in one.options)
                cycles = min(o.latency_cycles for o in one.options)
            elif one.lower is not None and one.lower.options:
                return [RangeWay(*at, *self._moved(one, one.lower))]
            found.append(RangeWay(*at, energy + STACK_PJ, cycles, nothing, nothing))
        return found

    def _moved(self, one: _Range, lower: _Range) -> tuple[float, float, Bits, Bits]:
        """What a range takes at least, as far as it is known of the same range with maps in the lowest memories: to
        move them costs what they cost off chip at least, and room where they go.
        """
        more = max(0.0, one.bound[0] - lower.bound[0])
        energy = max(one.bound[0], more + min(o.energy_pj for o in lower.options))
        cycles = max(one.bound[1], float(min(o.latency_cycles for o in lower.options)))
        resident = [min(each) for each in zip(*(o.resident_bits for o in lower.options), strict=True)]
        transient = tuple(min(each) for each in zip(*(o.transient_bits for o in lower.options), strict=True))
        assert lower.at is not None
        arriving = self._arriving(lower.at)
        bits = self._map_bits(lower.at.graph, arriving.name) if arriving is not None else 0
        for memory, sign in ((lower.before, -1), (one.before, 1)):
            if memory is not None:
                resident[memory] += sign * bits
        return energy + STACK_PJ, cycles, tuple(resident), transient

    def _map_bits(self, graph: Graph, name: str) -> int:
        return graph.tensors[name].elements * self.arch.array.output_bits

    # --- prices

    def _bound(self, at: FormRange, work: Sequence[float], held: Held) -> tuple[float, float]:
        """What no way is below, with so many times the positions of each layer; a little less, as sums may be rounded.

        Of layers that are recomputed more is read and written besides, never less.
        """
        key = id(at.graph)
        if key not in self._bounds:
            known = self.cache.model
            self._bounds[key] = StepBounds(at.graph, self.arch, known, any_lanes=False)
        bounds = self._bounds[key]
        energy, cycles = bounds.range_bound(at.layers, held)
        for index, times in zip(at.layers, work, strict=False):
            energy += (times - 1) * bounds.layer_pj(index)
            cycles += (times - 1) * bounds.layer_cycles(index)
        return energy * (1 - SLACK), cycles * (1 - SLACK)

    def _price(self, one: _Range, shares: int) -> None:
        at = one.at or self.forms.of(one.first, one.end, one.form)
        one.at = at
        held = None if at is None else self._in_form(one, at)
        for share in self.reserved[one.shares : shares]:
            if at is None or held is None or not _can_be_one(at):
                break
            key = structure(at.graph, make_stack(at.graph, at.layers), held), share
            new = key not in self._known
            if new:
                self._known[key] = self._options(at, held, share)
            one.options += self._known[key]
            if new and self.progress:
                self.progress(at, one.form, self.cache)
        one.shares = max(one.shares, shares)

    def _in_form(self, one: _Range, at: FormRange) -> Held | None:
        """The maps that wait on chip; None where the range in its form reads or makes others than the plain one."""
        held = self._held(at, one.before, one.after)
        plain = self.forms.of(one.first, one.end, self.forms.forms[0])
        assert plain is not None
        theirs = self._held(plain, one.before, one.after)
        assert theirs is not None
        if held is None or held.keys() != theirs.keys():
            return None
        same = all(at.graph.made_shape(name) == plain.graph.made_shape(name) for name in held)
        return held if same else None

    def _held(self, at: FormRange, before: int | None, after: int | None) -> Held | None:
        """The maps that wait on chip before and after a range, with their memories; None where there are none such."""
        found: dict[str, HeldMap] = {}
        for memory, one in ((before, self._arriving(at)), (after, self._leaving(at))):
            if memory is not None:
                if one is None:
                    return None
                found[one.name] = HeldMap(memory)
        return found

    def _arriving(self, at: FormRange) -> HandedOver | None:
        """The one map over a range's first cut, if it reads it last."""
        found = self._over(at.graph, at.layers.start)
        return found if found is not None and found.last < at.layers.stop else None

    def _leaving(self, at: FormRange) -> HandedOver | None:
        """The one map over a range's last cut, if it makes it."""
        found = self._over(at.graph, at.layers.stop)
        return found if found is not None and found.maker >= at.layers.start else None

    def _over(self, graph: Graph, cut: int) -> HandedOver | None:
        key = id(graph), cut
        if key not in self._handed:
            self._handed[key] = handed_over(graph, cut)
        return self._handed[key]

    def _pricer(self, graph: Graph) -> StepPricer:
        if id(graph) not in self._pricers:
            self._pricers[id(graph)] = StepPricer(graph, self.arch, self.cache)
        return self._pricers[id(graph)]

    def _options(self, at: FormRange, held: Held, share: float) -> list[StepOption]:
        # with ways in every part, the ranges that may be priced are used up before better forms are met (without
        # registers stft_cnn_050 takes 8 % more energy times cycles on meta_proto_df)
        pricer = self._pricer(at.graph)
        options = pricer.options(at.layers, pricer.set_aside(share, registers=True), held)
        if isinstance(options, Infeasible):
            self.why = self.why or options
            return []
        return options


def _can_be_one(at: FormRange) -> bool:
    return can_be_one(at.graph.layers[at.layers.start : at.layers.stop])
