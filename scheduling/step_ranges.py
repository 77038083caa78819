"""The best stacks of a streaming step: where it is cut, and how each range of layers between two cuts runs.

All stacks run in every step, so what they keep from step to step shares the memories (``labels.py`` finds the best way
through the network with that). A range is priced on a chip that it has for itself; where what is best does not find
room beside the others and the way that does is much dearer, ranges are priced again, with maps that go off chip too,
then with part of each memory reserved.

Over a bound that one map alone crosses, this waits on chip if it takes little of a memory there: a place of its own
from step to step, in which its past is its ring buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf

from dfc.backend_cost.mapping_cost import Objective
from dfc.ir import Graph
from dfc.passes.stacks import can_be_one, crossing_elements, cut_after
from dfc.scheduling.addresses import ends, stacked
from dfc.scheduling.labels import Edge, Paths, best_or_fastest, best_paths
from dfc.scheduling.levels import Infeasible
from dfc.scheduling.placement import Buffer, HeldMap
from dfc.scheduling.step_handed import handed_over, waiting_rooms
from dfc.scheduling.step_pricer import StepPricer
from dfc.scheduling.step_types import STACK_PJ, Bits, StepOption, close

#: places where a network is cut at most, besides those around layers that stand alone
MOST_CUTS = 12
#: parts of each memory that are reserved in turn where not all finds room
_RESERVED = (0.5, 0.75)

#: where the map over a bound waits: its name and memory, or off chip
Place = tuple[str, HeldMap] | None
#: told of a range (its first layer, and the first after it) once it is priced
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class StepRanges:
    """What was found: the stacks in order; none where nothing fits, and then why.

    interrupted: Ctrl-C ended the search; it is the best of what was priced until then.
    legal, tried: places for cuts, and how many of them were tried.
    """

    options: tuple[StepOption, ...]
    complete: bool
    legal: int
    tried: int
    why: Infeasible | None = None
    interrupted: bool = False


def best_ranges(
    pricer: StepPricer,
    objective: Objective,
    *,
    cuts: Iterable[int] | None = None,
    most_cycles: float = inf,
    progress: Progress | None = None,
    on_chip: bool = True,
    levels: Mapping[int, int | None] | None = None,
) -> StepRanges:
    """The best stacks of a step.

    cuts:        layers after which the network is cut, and nowhere else but around layers that stand alone; None leaves
                 it to the search.
    most_cycles: what a step must not exceed.
    on_chip:     whether maps may wait on chip between stacks.
    levels:      in which memory the map waits that is handed over after each layer of ``cuts``, None for off chip; None
                 leaves it to the search.

    A KeyboardInterrupt ends the search with what it has; with nothing at all it goes on to the caller.
    """
    graph = pricer.graph
    bounds, legal = _bounds(graph) if cuts is None else (_fixed(graph, cuts), 0)
    ranges = _Ranges(pricer, bounds, levels, fixed=cuts is not None, on_chip=on_chip)
    found: Paths[_Way] | None = None
    interrupted = False
    try:
        for one in _rounds(ranges, objective, most_cycles, progress):
            found = one
    except KeyboardInterrupt:
        interrupted = True
        if found is None or not found.paths:
            found = best_or_fastest(*ranges.edges(), pricer.sizes, objective, most_cycles)
            if not found.paths:
                raise
    assert found is not None
    chosen = tuple(way.option for path in found.paths[:1] for _, way in path.edges)
    tried, why = len(bounds) - 2, None if chosen else ranges.why
    return StepRanges(chosen, found.complete, legal, tried, why, interrupted)


def _rounds(
    ranges: _Ranges, objective: Objective, most_cycles: float, progress: Progress | None
) -> Iterator[Paths[_Way]]:
    """The best way with ever more ways to run ranges, until it is good enough."""
    sizes = ranges.pricer.sizes
    for share, off_chip in ((0.0, False), (0.0, True), *((share, True) for share in _RESERVED)):
        ranges.price(ranges.pricer.set_aside(share), progress, off_chip=off_chip)
        nodes, edges = ranges.edges()
        found = best_paths(nodes, edges, sizes, objective, most_cycles=most_cycles)
        yield found
        alone = best_paths(nodes, edges, [1 << 62] * len(sizes), objective, most_cycles=most_cycles)
        if (found.paths and close(found, alone, objective)) or (off_chip and not alone.paths):
            return


@dataclass(frozen=True, slots=True)
class _Way:
    """An option as the search of paths sees it: with next to nothing for being a stack, so that of equals few win."""

    option: StepOption

    @property
    def energy_pj(self) -> float:
        return self.option.energy_pj + STACK_PJ

    @property
    def latency_cycles(self) -> float:
        return self.option.latency_cycles

    @property
    def resident_bits(self) -> Bits:
        return self.option.resident_bits

    @property
    def transient_bits(self) -> Bits:
        return self.option.transient_bits


class _Ranges:
    """The ranges between two bounds that can be a stack, with their options.

    Each end of a range is a bound with the place where the map over it waits.
    """

    def __init__(
        self,
        pricer: StepPricer,
        bounds: Sequence[int],
        levels: Mapping[int, int | None] | None,
        *,
        fixed: bool,
        on_chip: bool,
    ) -> None:
        self.pricer = pricer
        self.bounds = bounds
        # the shortest first: with them there is a way
        self.spans = sorted(_spans(pricer.graph, bounds, fixed=fixed), key=lambda span: span[1] - span[0])
        if levels is not None:
            self.over = [_given(pricer.graph, bound, levels.get(bound - 1)) for bound in bounds]
        else:
            self.over = [_over(pricer, bound) if on_chip else None for bound in bounds]
        self.ways: dict[tuple[tuple[int, Place], tuple[int, Place]], list[StepOption]] = {}
        self.why: Infeasible | None = None

    def price(self, reserved: Mapping[int, int], progress: Progress | None, *, off_chip: bool) -> None:
        """Add the options with so many bits of memories reserved; ``off_chip``: all maps may also go there."""
        for first, end in self.spans:
            layers = range(self.bounds[first], self.bounds[end])
            for before, after in product(self._before(first, end, off_chip), self._after(first, end, off_chip)):
                held = dict(place for place in (before, after) if place is not None)
                options = self.pricer.options(layers, reserved, held)
                if isinstance(options, Infeasible):
                    self.why = self.why or options
                else:
                    self.ways.setdefault(((first, before), (end, after)), []).extend(options)
            if progress:
                progress(layers.start, layers.stop)

    def _before(self, first: int, end: int, off_chip: bool) -> list[Place]:
        """Where the map over the first bound may wait."""
        over = self.over[first]
        if over is None or over.last >= self.bounds[end]:
            return [None]
        return [over.place, None] if off_chip or over.maker < self.bounds[first - 1] else [over.place]

    def _after(self, first: int, end: int, off_chip: bool) -> list[Place]:
        """Where the map over the last bound may wait."""
        over = self.over[end]
        if over is None or over.maker < self.bounds[first]:
            return [None]
        return [over.place, None] if off_chip or over.last >= self.bounds[end + 1] else [over.place]

    def edges(self) -> tuple[int, list[Edge[_Way]]]:
        """How many nodes there are, and the edges with their options."""
        ends = {end for pair in self.ways for end in pair} | {(0, None), (len(self.bounds) - 1, None)}
        order = sorted(ends, key=lambda end: (end[0], end[1] is not None))
        node = {end: number for number, end in enumerate(order)}
        ways = sorted(self.ways.items(), key=lambda item: (item[0][0][0], item[0][1][0]))
        return len(node), [Edge(node[a], node[b], tuple(map(_Way, found))) for (a, b), found in ways]


@dataclass(frozen=True, slots=True)
class _Over:
    """The one map over a bound: where it waits on chip, the layer that makes it, and the last that reads it."""

    place: tuple[str, HeldMap]
    maker: int
    last: int


def _over(pricer: StepPricer, bound: int) -> _Over | None:
    """The one map over a bound, if it can wait in a memory of which it takes little, the lowest of these."""
    found = handed_over(pricer.graph, bound)
    if found is None:
        return None
    rooms = waiting_rooms(pricer.graph, pricer.arch, found.name, pricer.on_chip)
    return _Over((found.name, HeldMap(rooms[0])), found.maker, found.last) if rooms else None


def _given(graph: Graph, bound: int, memory: int | None) -> _Over | None:
    """The same in a memory that is given; None for off chip."""
    found = handed_over(graph, bound) if memory is not None else None
    return None if found is None or memory is None else _Over((found.name, HeldMap(memory)), found.maker, found.last)


def _bounds(graph: Graph) -> tuple[list[int], int]:
    """Numbers of layers before which the network may be cut, its ends among them, and how many there are in all.

    Where there are many, those over which least is handed.
    """
    forced = set(_fixed(graph, ()))
    free = [n for n in range(1, len(graph.layers)) if n not in forced]
    crossing = crossing_elements(graph)
    chosen = sorted(free, key=lambda n: (crossing[n], n))[:MOST_CUTS]
    return sorted({*forced, *chosen}), len(free) + len(forced) - 2


def _fixed(graph: Graph, cuts: Iterable[int]) -> list[int]:
    return [0, *(stack.layers[-1] + 1 for stack in cut_after(graph, cuts))]


def _spans(graph: Graph, bounds: Sequence[int], *, fixed: bool) -> Iterable[tuple[int, int]]:
    """Ranges between two bounds, by their numbers, that can be a stack."""
    for first in range(len(bounds) - 1):
        for end in range(first + 1, first + 2 if fixed else len(bounds)):
            layers = graph.layers[bounds[first] : bounds[end]]
            if can_be_one(layers):
                yield first, end


def placed_together(pricer: StepPricer, options: Sequence[StepOption]) -> list[StepOption]:
    """The stacks with addresses at which all can keep what they keep from step to step.

    What is resident lies at the low end of each memory, one stack after the other, the rest of the running stack above.
    A map that one stack makes and the next reads on chip lies where the reader has it.
    """
    memories = range(len(pricer.arch.memories))
    start = pricer.pricer.taken
    own = [[b for b in option.cost.stay if b.steps and not _made_here(option, b)] for option in options]
    lasting = stacked((b for buffers in own for b in buffers), start)
    top = ends(lasting, start)
    maps = {b.name: b for b in lasting if b.what == "map"}
    following = iter(lasting)
    found: list[StepOption] = []
    for option in options:
        cost = option.cost
        here = ends([b for b in cost.stay if b.steps], start)
        up = [top.get(m, 0) - here.get(m, 0) for m in memories]
        stay = tuple(
            b.moved(up[b.memory])
            if not b.steps
            else b.at(maps[b.name].address_bits or 0)
            if _made_here(option, b)
            else next(following)
            for b in cost.stay
        )
        buffers = tuple(tuple(b.moved(up[b.memory]) for b in each) for each in cost.buffers)
        found.append(replace(option, cost=replace(cost, stay=stay, buffers=buffers)))
    return found


def _made_here(option: StepOption, buffer: Buffer) -> bool:
    """Whether it is a map that the next stack keeps."""
    return buffer.what == "map" and buffer.name in option.cost.plan.stack.outputs
