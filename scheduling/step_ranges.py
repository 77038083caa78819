"""The best stacks of a streaming step: where it is cut, and how each range of layers between two cuts runs.

All stacks run in every step, so what they keep from step to step shares the memories (``labels.py`` finds the best way
through the network with that). A range is priced on a chip that it has for itself; where what is best does not find
room beside the others, ranges are priced again with part of each memory reserved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf

from dfc.backend_cost.mapping_cost import Objective
from dfc.ir import Graph
from dfc.passes.stacks import cut_after, stands_alone
from dfc.scheduling.labels import Edge, Paths, best_paths
from dfc.scheduling.levels import Infeasible
from dfc.scheduling.step_pricer import StepPricer
from dfc.scheduling.step_types import StepOption

#: places where a network is cut at most, besides those around layers that stand alone
MOST_CUTS = 12
#: parts of each memory that are reserved in turn where not all finds room
_RESERVED = (0.5, 0.75)

#: told of a range (its first layer, and the first after it) once it is priced
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class StepRanges:
    """What was found: the stacks in order; none where nothing fits, and then why.

    priced: ranges that were priced. legal, tried: places for cuts, and how many of them were tried.
    """

    options: tuple[StepOption, ...]
    complete: bool
    priced: int
    legal: int
    tried: int
    why: Infeasible | None = None


def best_ranges(
    pricer: StepPricer,
    objective: Objective,
    *,
    cuts: Iterable[int] | None = None,
    most_cycles: float = inf,
    progress: Progress | None = None,
) -> StepRanges:
    """The best stacks of a step.

    cuts:        layers after which the network is cut, and nowhere else but around layers that stand alone; None leaves
                 it to the search.
    most_cycles: what a step must not exceed.
    """
    graph = pricer.graph
    bounds, legal = _bounds(graph) if cuts is None else (_fixed(graph, cuts), 0)
    spans = list(_spans(graph, bounds, fixed=cuts is not None))
    ways: list[list[StepOption]] = [[] for _ in spans]
    why: Infeasible | None = None
    sizes = [memory.size_bits for memory in pricer.arch.memories]
    sizes[pricer.pricer.ladder.shared[-1]] -= pricer.pricer.off_chip_bits
    found: Paths[StepOption] | None = None
    for share in (0.0, *_RESERVED):
        reserved = {m: int(size * share) for m, size in enumerate(sizes) if share}
        for number, (first, end) in enumerate(spans):
            options = pricer.options(range(bounds[first], bounds[end]), reserved)
            if isinstance(options, Infeasible):
                why = why or options
            else:
                ways[number] += options
            if progress:
                progress(bounds[first], bounds[end])
        edges = [Edge(first, end, tuple(each)) for (first, end), each in zip(spans, ways, strict=True)]
        found = best_paths(len(bounds), edges, sizes, objective, most_cycles=most_cycles)
        alone = best_paths(len(bounds), edges, [1 << 62] * len(sizes), objective, most_cycles=most_cycles)
        if not alone.paths or (found.paths and _same(found, alone, objective)):
            break
    assert found is not None
    chosen = tuple(option for path in found.paths[:1] for _, option in path.edges)
    return StepRanges(chosen, found.complete, len(spans), legal, len(bounds) - 2, None if chosen else why)


def _same(one: Paths[StepOption], other: Paths[StepOption], objective: Objective) -> bool:
    a, b = (objective.of(each.paths[0].energy_pj, each.paths[0].latency_cycles) for each in (one, other))
    return a <= b * (1 + 1e-9)


def _bounds(graph: Graph) -> tuple[list[int], int]:
    """Numbers of layers before which the network may be cut, its ends among them, and how many there are in all.

    Where there are many, those over which least is handed.
    """
    forced = set(_fixed(graph, ()))
    free = [n for n in range(1, len(graph.layers)) if n not in forced]
    chosen = sorted(free, key=lambda n: (_handed(graph, n), n))[:MOST_CUTS]
    return sorted({*forced, *chosen}), len(free) + len(forced) - 2


def _fixed(graph: Graph, cuts: Iterable[int]) -> list[int]:
    return [0, *(stack.layers[-1] + 1 for stack in cut_after(graph, cuts))]


def _handed(graph: Graph, bound: int) -> int:
    """Elements that layers before a bound make in a step and others read."""
    last = {name: max(users, default=-1) for name, users in graph.consumers.items()}
    made = (name for layer in graph.layers[:bound] for name in layer.outputs)
    return sum(graph.made_elements(name) for name in made if last[name] >= bound)


def _spans(graph: Graph, bounds: Sequence[int], *, fixed: bool) -> Iterable[tuple[int, int]]:
    """Ranges between two bounds, by their numbers, that can be a stack."""
    for first in range(len(bounds) - 1):
        for end in range(first + 1, first + 2 if fixed else len(bounds)):
            layers = graph.layers[bounds[first] : bounds[end]]
            if len(layers) == 1 or not any(map(stands_alone, layers)):
                yield first, end


def placed_together(options: Sequence[StepOption]) -> list[StepOption]:
    """The stacks with addresses at which all can keep what they keep from step to step.

    What is resident lies at the low end of each memory, one stack after the other, the rest of the running stack above.
    """
    memories = range(len(options[0].resident_bits)) if options else range(0)
    every = [sum(option.resident_bits[m] for option in options) for m in memories]
    before = [0] * len(every)
    found: list[StepOption] = []
    for option in options:
        cost = option.cost
        up = [total - own for total, own in zip(every, option.resident_bits, strict=True)]
        stay = tuple(b.moved(before[b.memory] if b.steps else up[b.memory]) for b in cost.stay)
        buffers = tuple(tuple(b.moved(up[b.memory]) for b in each) for each in cost.buffers)
        found.append(replace(option, cost=replace(cost, stay=stay, buffers=buffers)))
        before = [a + b for a, b in zip(before, option.resident_bits, strict=True)]
    return found
