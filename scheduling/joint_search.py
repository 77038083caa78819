"""The best way through a network over time: where it is cut, and in which form each range between two cuts runs.

A range runs with what it kept (dense or polyphase) or is recomputed from what is kept of its input. Whatever its form,
it hands on the new positions of its output and nothing else. So its price does not depend on the forms of others, and
the multiply-accumulates of all ranges are those of the whole. All share the memories: ``labels.py`` finds the best way.

Over a cut that one map alone crosses, what is handed over goes off chip, or waits in a memory. So a node of the search
is a cut with the memory in which its map waits. A map that waits there takes room in every step, and counts where it is
read. It waits in the lowest memory of which it takes little, if there is one. Else, or where not all has room together,
or nothing is fast enough, it may wait in any that holds it, or go off chip: to move it further costs no less.

Ranges without a price stand there with a bound and take no room. As long as the best way leads over such ranges, they
are priced, so in the end no way is better (known as LazySP, ICAPS 2016). Ranges of equal structure are priced once.
Where a range is known with maps in the lowest memories, this and the map's room elsewhere stand for the bound. In the
same way a range is priced in parts: first with weights that stay, in tiles as large as is good. Smaller tiles stand
there with the prices of these and no room besides what stays, fetched weights with the bound that they have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
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
from dfc.scheduling.step_types import STACK_PJ, Bits, Part, StepOption, fits_together
from dfc.scheduling.structure import structure

#: different ranges that are priced, besides as many as there are plain ones, before the search is ended with what it
#: has; twice as many again where not all that is best has room together. One of more layers than usual counts for more
MOST_PRICED, _USUAL = 48, 8
#: how much it counts to price smaller tiles of a range, or fetched weights
_MORE = 0.5
#: in which all ways of a range are priced
_PARTS = Part.BROAD, Part.DEEP, Part.FETCHED
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
    """One way to run a range; without an option it is a bound of all that part of its ways may cost.

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
    part: Part | None = None


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


#: energy, cycles, and bits of each memory that stay and that do not, all at least
_Limits = tuple[float, float, Bits, Bits]
#: a place for a cut, and the memory in which the map over it waits; off chip it is none
_Node = tuple[int, int | None]


@dataclass
class _Range:
    """An edge: what is known of it.

    fetched: the bound with weights that are fetched, None where there are none. lower: the same range with maps in the
    lowest memories that will do. priced: what was found of each part.
    """

    first: int
    end: int
    form: Form
    before: int | None
    after: int | None
    at: FormRange | None
    bound: tuple[float, float]
    fetched: tuple[float, float] | None
    lower: _Range | None = None
    priced: dict[Part, Sequence[StepOption]] = field(default_factory=dict[Part, Sequence[StepOption]])

    @property
    def options(self) -> list[StepOption]:
        """All that was found."""
        return [option for options in self.priced.values() for option in options]

    @property
    def staying(self) -> list[StepOption]:
        """What was found of it with weights that stay where they can."""
        return [*self.priced.get(Part.BROAD, ()), *self.priced.get(Part.DEEP, ())]


class JointSearch:
    """Prices ranges as far as it must."""

    def __init__(
        self,
        forms: Forms,
        arch: Arch,
        cache: MappingCache,
        objective: Objective,
        *,
        most_cycles: float = inf,
        most: int = MOST_PRICED,
        progress: Progress | None = None,
    ) -> None:
        self.forms = forms
        self.arch = arch
        self.cache = cache
        self.objective = objective
        self.most_cycles = most_cycles
        self.most = most
        self.progress = progress
        self.why: Infeasible | None = None
        self.ranges: list[_Range] = []
        self._pricers: dict[int, StepPricer] = {}
        self._bounds: dict[int, StepBounds] = {}
        self._handed: dict[tuple[int, int], HandedOver | None] = {}
        self._known: dict[Hashable, Sequence[StepOption]] = {}
        self._effort = 0.0
        self._more: dict[Part, dict[Hashable, Sequence[StepOption]]] = {Part.DEEP: {}, Part.FETCHED: {}}

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
            found = best_or_fastest(*self._edges(()), self.sizes, self.objective, self.most_cycles)
            if not found.paths:
                raise
            ways = tuple(way for path in found.paths for _, way in path.edges)
            return JointPath(ways, False, len(self.ranges), len(self._known), interrupted=True)

    def _run(self) -> JointPath:
        self.enter(anywhere=False)
        if not self.ranges:
            return JointPath((), True, 0, 0)
        plain = [one for one in reversed(self.ranges) if one.form is self.forms.forms[0]]
        lowest = {(one.first, one.end): one for one in plain}  # of each range, with maps in the first places
        for one in reversed(lowest.values()):
            if one.end == one.first + 1:  # with the shortest there is a way
                for part in _PARTS:
                    self._price(one, part)
        most = self.most + len(lowest)
        found = self._settled([_ENDLESS] * len(self.arch.memories), (Part.BROAD, Part.FETCHED), most)
        if not found.paths or not self._fits(found.paths[0]):
            self.enter(anywhere=True)
            found = self._settled(self.sizes, _PARTS, 2 * self.most)
        ways = tuple(way for path in found.paths for _, way in path.edges)
        return JointPath(ways, found.complete, len(self.ranges), len(self._known), None if ways else self.why)

    def enter(self, *, anywhere: bool) -> None:
        """Add all ranges in all forms that they can have, with maps over their ends in the lowest memories of which
        they take little, if there are any; else, or ``anywhere``, in all that hold them and off chip.
        """
        known = {(one.first, one.end, one.form, one.before, one.after) for one in self.ranges}
        lowest = {(one.first, one.end, one.form): one for one in reversed(self.ranges)}
        for first, end in combinations(range(self.forms.places), 2):
            plain = self.forms.of(first, end, self.forms.forms[0])
            if plain is None or not _can_be_one(plain):
                continue
            forms: list[tuple[Form, Sequence[float]]] = [(self.forms.forms[0], ())]
            forms += [(f, work) for f in self.forms.forms[1:] if (work := self.forms.work(first, end, f)) is not None]
            places = product(*(self._waiting(plain, one, anywhere) for one in (self._arriving, self._leaving)))
            for (form, work), (before, after) in product(forms, places):
                at = plain if form is self.forms.forms[0] else None
                bounds = self._bounds_of(plain, work, self._held(plain, before, after) or {})
                one = _Range(first, end, form, before, after, at, *bounds, lowest.get((first, end, form)))
                if (first, end, form, before, after) not in known:
                    self.ranges.append(one)

    def _waiting(
        self, plain: FormRange, over: Callable[[FormRange], HandedOver | None], anywhere: bool
    ) -> Sequence[int | None]:
        """Where the map over the first or the last cut of a range may wait: that which it reads last, or makes."""
        found = over(plain)
        if found is None:
            return [None]
        rooms = partial(waiting_rooms, plain.graph, self.arch, found.name, self._pricer(plain.graph).on_chip)
        little = rooms()[:1]
        return [*rooms(part=1), None] if anywhere or not little else little

    @property
    def sizes(self) -> list[int]:
        """Bits of every memory, off chip without what is there anyway."""
        plain = self.ranges[0].at
        assert plain is not None
        return self._pricer(plain.graph).sizes

    def _fits(self, path: Path[RangeWay]) -> bool:
        return fits_together(self.sizes, [way.option for _, way in path.edges if way.option is not None])

    def _settled(self, sizes: Sequence[int], parts: Collection[Part], most: float) -> Paths[RangeWay]:
        """The best way, all of it priced; the best of what is priced once that takes so much more effort."""
        most += self._effort
        while True:
            found = self._best(sizes, parts)
            open_ = [(number, way.part) for path in found.paths for number, way in path.edges if way.part]
            if not open_:
                return found
            if self._effort >= most:
                known = self._best(sizes, ())
                if known.paths:
                    return replace(known, complete=False)
            for number, part in open_:
                self._price(self.ranges[number], part)

    def _best(self, sizes: Sequence[int], parts: Collection[Part]) -> Paths[RangeWay]:
        return best_paths(*self._edges(parts), sizes, self.objective, most_cycles=self.most_cycles)

    def _edges(self, parts: Collection[Part]) -> tuple[int, list[Edge[RangeWay]]]:
        """How many nodes there are, and the edges, with bounds of these parts where they were not priced."""
        ends: set[_Node] = {(0, None), (self.forms.places - 1, None)}
        for one in self.ranges:
            ends |= {(one.first, one.before), (one.end, one.after)}
        order = sorted(ends, key=lambda node: (node[0], -1 if node[1] is None else node[1]))
        number = {node: i for i, node in enumerate(order)}
        return len(order), [
            Edge(number[one.first, one.before], number[one.end, one.after], self._ways(one, parts))
            for one in self.ranges
        ]

    def _ways(self, one: _Range, parts: Collection[Part]) -> list[RangeWay]:
        at = one.first, one.end, one.form, one.before, one.after
        found = [
            RangeWay(*at, o.energy_pj + STACK_PJ, o.latency_cycles, o.resident_bits, o.transient_bits, o)
            for o in one.options
        ]
        for part, bound in self._open(one) if parts else ():
            if part in parts:
                found.append(RangeWay(*at, bound[0] + STACK_PJ, *bound[1:], part=part))
        return found

    def _open(self, one: _Range) -> Iterator[tuple[Part, _Limits]]:
        """What was not priced of a range yet, with what it takes at least."""
        nothing = (0,) * len(self.arch.memories)
        moved = Part.BROAD not in one.priced and one.lower is not None and bool(one.lower.staying)
        if Part.BROAD not in one.priced:
            yield Part.BROAD, self._moved(one, one.lower) if moved and one.lower else (*one.bound, nothing, nothing)
        if one.fetched is not None and Part.FETCHED not in one.priced and (moved or one.staying):
            yield Part.FETCHED, (*one.fetched, nothing, nothing)
        if Part.DEEP not in one.priced:
            for resident, energy, cycles in _by_room(one.staying):
                yield Part.DEEP, (energy + STACK_PJ, cycles, resident, nothing)

    def _moved(self, one: _Range, lower: _Range) -> _Limits:
        """What a range takes at least, as far as it is known of the same range with maps in the lowest memories: to
        move them costs what they cost off chip at least, and room where they go.
        """
        known = lower.staying
        more = max(0.0, one.bound[0] - lower.bound[0])
        energy = max(one.bound[0], more + min(o.energy_pj for o in known))
        cycles = max(one.bound[1], float(min(o.latency_cycles for o in known)))
        resident = [min(each) for each in zip(*(o.resident_bits for o in known), strict=True)]
        transient = tuple(min(each) for each in zip(*(o.transient_bits for o in known), strict=True))
        if Part.DEEP not in lower.priced:
            transient = (0,) * len(transient)
        assert lower.at is not None
        arriving = self._arriving(lower.at)
        bits = self._map_bits(lower.at.graph, arriving.name) if arriving is not None else 0
        for memory, sign in ((lower.before, -1), (one.before, 1)):
            if memory is not None:
                resident[memory] += sign * bits
        return energy, cycles, tuple(resident), transient

    def _map_bits(self, graph: Graph, name: str) -> int:
        return graph.tensors[name].elements * self.arch.array.output_bits

    # --- prices

    def _bounds_of(
        self, at: FormRange, work: Sequence[float], held: Held
    ) -> tuple[tuple[float, float], tuple[float, float] | None]:
        """What no way is below, with so many times the positions of each layer; a little less, as sums may be rounded.
        Then the same with weights that are fetched, where there are any.

        Of layers that are recomputed more is read and written besides, never less.
        """
        key = id(at.graph)
        if key not in self._bounds:
            known = self.cache.model
            self._bounds[key] = StepBounds(at.graph, self.arch, known, any_lanes=False)
        bounds = self._bounds[key]
        energy = cycles = 0.0
        for index, times in zip(at.layers, work, strict=False):
            energy += (times - 1) * bounds.layer_pj(index)
            cycles += (times - 1) * bounds.layer_cycles(index)
        stay, come = (bounds.range_bound(at.layers, held, fetched=fetched) for fetched in (False, True))
        less = 1 - SLACK
        least, fetched = (((one[0] + energy) * less, (one[1] + cycles) * less) for one in (stay, come))
        return least, fetched if bounds.constant_bits(at.layers) else None

    def _price(self, one: _Range, part: Part) -> None:
        """Price part of the ways; where nothing has room with weights that stay, all of them."""
        at = one.at or self.forms.of(one.first, one.end, one.form)
        one.at = at
        held = None if at is None else self._in_form(one, at)
        if at is None or held is None or not _can_be_one(at):
            one.priced |= dict.fromkeys(_PARTS, ())
            return
        count = len(self._known)
        found = one.priced[part] = self._priced(at, held, part)
        if part is Part.DEEP:  # the broad ones are among them
            one.priced[Part.BROAD] = ()
        if part is Part.BROAD and not found:
            one.priced |= {Part.DEEP: (), Part.FETCHED: self._priced(at, held, Part.FETCHED)}
        if len(self._known) > count and self.progress:
            self.progress(at, one.form, self.cache)

    def _priced(self, at: FormRange, held: Held, part: Part) -> Sequence[StepOption]:
        key = structure(at.graph, make_stack(at.graph, at.layers), held)
        known = self._known if part is Part.BROAD else self._more[part]
        if key not in known:
            known[key] = self._options(at, held, part)
            self._effort += max(1.0, len(at.layers) / _USUAL) * (1.0 if part is Part.BROAD else _MORE)
        return known[key]

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

    def _options(self, at: FormRange, held: Held, part: Part) -> Sequence[StepOption]:
        options = self._pricer(at.graph).options(at.layers, None, held, part)
        if isinstance(options, Infeasible):
            self.why = self.why or options
            return ()
        return options


def _can_be_one(at: FormRange) -> bool:
    return can_be_one(at.graph.layers[at.layers.start : at.layers.stop])


def _by_room(options: Sequence[StepOption]) -> Iterator[tuple[Bits, float, float]]:
    """For all that stays with some option, the least energy and cycles with it."""
    found: dict[Bits, tuple[float, float]] = {}
    for one in options:
        energy, cycles = found.get(one.resident_bits, (inf, inf))
        found[one.resident_bits] = min(energy, one.energy_pj), min(cycles, one.latency_cycles)
    for resident, least in found.items():
        yield resident, *least
