"""The best way through a network over time: where it is cut, and in which form each range between two cuts runs.

A range runs with what it kept (dense or polyphase) or is recomputed from what is kept of its input. Whatever its form,
it hands on the new positions of its output and nothing else. So its price does not depend on the forms of others, and
the multiply-accumulates of all ranges are those of the whole. All share the memories: ``labels.py`` finds the best way.

Ranges without a price stand there with a bound and take no room. As long as the best way leads over such ranges, they
are priced, so in the end no way is better (known as LazySP, ICAPS 2016). Ranges of equal structure are priced once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from typing import Protocol

from dfc.backend_cost.mapping_cache import MappingCache
from dfc.hwdsl.arch import Arch
from dfc.ir import Graph
from dfc.passes.causal_plan import Form
from dfc.passes.stacks import can_be_one, make_stack
from dfc.scheduling.labels import Edge, Path, Paths, best_paths
from dfc.scheduling.levels import Infeasible
from dfc.scheduling.partition_types import SLACK
from dfc.scheduling.step_bounds import StepBounds
from dfc.scheduling.step_pricer import StepPricer
from dfc.scheduling.step_types import Bits, StepOption, fits_together
from dfc.scheduling.structure import structure

#: parts of each memory that are reserved in turn where not all finds room together
RESERVED = (0.0, 0.5, 0.75)
#: different ranges that are priced before the search is ended with what it has
MOST_PRICED = 72
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
    """One way to run a range; without an option it is a bound."""

    first: int
    end: int
    form: Form
    energy_pj: float
    latency_cycles: float
    resident_bits: Bits
    transient_bits: Bits
    option: StepOption | None = None


@dataclass(frozen=True, slots=True)
class JointPath:
    """What was found: the ranges in order; none where nothing fits, and then why.

    complete: it is proved that none is better, of all cuts and forms that were tried; else too much was to be priced.
    ranges: how many there are, forms counted; priced: of how many different ones the price was asked.
    """

    ways: tuple[RangeWay, ...]
    complete: bool
    ranges: int
    priced: int
    why: Infeasible | None = None

    @property
    def energy_pj(self) -> float:
        """Of a step."""
        return sum(way.energy_pj for way in self.ways)

    @property
    def latency_cycles(self) -> float:
        """Of a step."""
        return sum(way.latency_cycles for way in self.ways)


@dataclass
class _Range:
    """An edge: what is known of it."""

    first: int
    end: int
    form: Form
    at: FormRange | None
    bound: tuple[float, float]
    options: list[StepOption] = field(default_factory=list[StepOption])
    shares: int = 0


class JointSearch:
    """Prices ranges as far as it must."""

    def __init__(
        self,
        forms: Forms,
        arch: Arch,
        cache: MappingCache,
        *,
        reserved: Sequence[float] = RESERVED,
        most_cycles: float = inf,
        most: int = MOST_PRICED,
        progress: Progress | None = None,
    ) -> None:
        self.forms = forms
        self.arch = arch
        self.cache = cache
        self.objective = cache.objective
        self.reserved = reserved
        self.most_cycles = most_cycles
        self.most = most
        self.progress = progress
        self.why: Infeasible | None = None
        self._pricers: dict[int, StepPricer] = {}
        self._bounds: dict[int, StepBounds] = {}
        self._known: dict[Hashable, list[StepOption]] = {}

    def run(self) -> JointPath:
        """The best way by the objective, within so many cycles per step."""
        plain = self.forms.forms[0]
        for one in self.ranges:
            if one.form is plain:
                self._price(one, 1)
        endless = [_ENDLESS] * len(self.arch.memories)
        found = self._settled(endless, 1)
        if found.paths and not self._fits(found.paths[0]):
            found = self._settled(self.sizes, len(self.reserved))
        ways = tuple(way for path in found.paths for _, way in path.edges)
        return JointPath(ways, found.complete, len(self.ranges), len(self._known), None if ways else self.why)

    @cached_property
    def ranges(self) -> list[_Range]:
        """All ranges in all forms that they can have."""
        found: list[_Range] = []
        for first in range(self.forms.places - 1):
            for end in range(first + 1, self.forms.places):
                plain = self.forms.of(first, end, self.forms.forms[0])
                if plain is None or not _can_be_one(plain):
                    continue
                found.append(_Range(first, end, self.forms.forms[0], plain, self._bound(plain, ())))
                for form in self.forms.forms[1:]:
                    work = self.forms.work(first, end, form)
                    if work is not None:
                        found.append(_Range(first, end, form, None, self._bound(plain, work)))
        return found

    @property
    def sizes(self) -> list[int]:
        """Bits of every memory, off chip without what is there anyway."""
        return next(iter(self._pricers.values())).sizes

    def _fits(self, path: Path[RangeWay]) -> bool:
        return fits_together(self.sizes, [way.option for _, way in path.edges if way.option is not None])

    def _settled(self, sizes: Sequence[int], shares: int) -> Paths[RangeWay]:
        """The best way, all of it priced; the best of what is priced once that is as much as may be."""
        while True:
            found = self._best(sizes, shares)
            open_ = [number for path in found.paths for number, way in path.edges if way.option is None]
            if not open_:
                return found
            if len(self._known) >= self.most:
                known = self._best(sizes, 0)
                if known.paths:
                    return replace(known, complete=False)
            for number in open_:
                self._price(self.ranges[number], shares)

    def _best(self, sizes: Sequence[int], shares: int) -> Paths[RangeWay]:
        edges = [Edge(one.first, one.end, self._ways(one, shares)) for one in self.ranges]
        return best_paths(self.forms.places, edges, sizes, self.objective, most_cycles=self.most_cycles)

    def _ways(self, one: _Range, shares: int) -> list[RangeWay]:
        nothing = (0,) * len(self.arch.memories)
        found = [
            RangeWay(one.first, one.end, one.form, o.energy_pj, o.latency_cycles, o.resident_bits, o.transient_bits, o)
            for o in one.options
        ]
        if one.shares < shares and (one.options or not one.shares):
            # with part of the memories nothing is cheaper than with all of them
            energy = min((o.energy_pj for o in one.options), default=one.bound[0])
            cycles = min((o.latency_cycles for o in one.options), default=one.bound[1])
            found.append(RangeWay(one.first, one.end, one.form, energy, cycles, nothing, nothing))
        return found

    # --- prices

    def _bound(self, at: FormRange, work: Sequence[float]) -> tuple[float, float]:
        """What no way is below, with so many times the positions of each layer; a little less, as sums may be rounded.

        Of layers that are recomputed more is read and written besides, never less.
        """
        key = id(at.graph)
        if key not in self._bounds:
            known = self.cache.model
            self._bounds[key] = StepBounds(at.graph, self.arch, known, any_lanes=False)
        bounds = self._bounds[key]
        energy, cycles = bounds.range_bound(at.layers)
        for index, times in zip(at.layers, work, strict=False):
            energy += (times - 1) * bounds.layer_pj(index)
            cycles += (times - 1) * bounds.layer_cycles(index)
        return energy * (1 - SLACK), cycles * (1 - SLACK)

    def _price(self, one: _Range, shares: int) -> None:
        at = one.at or self.forms.of(one.first, one.end, one.form)
        one.at = at
        for share in self.reserved[one.shares : shares]:
            if at is None or not _can_be_one(at):
                break
            key = structure(at.graph, make_stack(at.graph, at.layers), {}), share
            if key not in self._known:
                self._known[key] = self._options(at, share)
                if self.progress:
                    self.progress(at, one.form, self.cache)
            one.options += self._known[key]
        one.shares = max(one.shares, shares)

    def _options(self, at: FormRange, share: float) -> list[StepOption]:
        key = id(at.graph)
        if key not in self._pricers:
            self._pricers[key] = StepPricer(at.graph, self.arch, self.cache)
        reserved = {m: int(size * share) for m, size in enumerate(self.sizes) if share}
        options = self._pricers[key].options(at.layers, reserved)
        if isinstance(options, Infeasible):
            self.why = self.why or options
            return []
        return options


def _can_be_one(at: FormRange) -> bool:
    return can_be_one(at.graph.layers[at.layers.start : at.layers.stop])
