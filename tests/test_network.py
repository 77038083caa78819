"""The stacks of whole networks: the search against every sequence of cuts and places, and what stays on chip."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise, product
from math import inf

import pytest
from graph_builder import Builder
from graph_strategies import random_cnn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import Objective
from dfc.hwdsl import load_arch
from dfc.ir import Graph
from dfc.passes import PassManager, default_pipeline
from dfc.passes.stacks import Stack, single_layer_stacks
from dfc.passes.tiles import Overlap
from dfc.scheduling.bounds import LayerBounds
from dfc.scheduling.fitted import FittedPricer
from dfc.scheduling.network import NetworkStacks, search_network
from dfc.scheduling.partition_types import Limit
from dfc.scheduling.placement import Held
from dfc.scheduling.search import Candidate, StackSearch

TILES = ((4, 3), (64, 64))
#: an effort that is no limit
EVERYTHING = 10_000


class Small:
    """A network with few tiles to choose from."""

    def __init__(self, graph: Graph, chip: str, objective: Objective):
        self.graph = graph
        arch = load_arch(chip)
        self.pricer = FittedPricer(graph, arch, MappingCache(arch, objective, EXACT))
        self.bounds = LayerBounds(graph, arch, EXACT, any_lanes=False)
        self.known: dict[tuple[tuple[int, ...], tuple[str, ...]], StackSearch] = {}

    def make(self, stack: Stack, held: Held) -> StackSearch:
        key = (stack.layers, tuple(f"{t}@{h.memory}" for t, h in held.items()))
        if key not in self.known:
            self.known[key] = StackSearch(self.pricer, stack, remainder_first=False, held=held)
        return self.known[key]

    def explore(self, search: StackSearch, limit: Limit | None) -> list[Candidate]:
        del limit
        for tile in TILES:
            search.price(tile, Overlap.CACHED)
        return search.candidates()

    def stacks(self, longest: int = 5) -> NetworkStacks:
        first = single_layer_stacks(self.graph)
        found = Short(self.bounds, first, self.make, self.explore, hand_over=True, fixed=False)
        found.longest = longest
        return found


class Short(NetworkStacks):
    """Stacks of so many layers at most: then something has to be handed over."""

    longest = 5

    def ends(self, cut: int) -> Iterator[int]:
        yield from (end for end in super().ends(cut) if self.cuts[end] - self.cuts[cut] <= self.longest)


def sequences(stacks: NetworkStacks) -> Iterator[list[tuple[int, int, int, int]]]:
    """Every way to cut, and every place for what is handed over."""
    last = len(stacks.cuts) - 1
    for count in range(last):
        for inner in combinations(range(1, last), count):
            cuts = [0, *inner, last]
            for places in product(*(stacks.places(c) for c in inner)):
                at = [0, *places, 0]
                yield [(a, b, p, q) for (a, b), (p, q) in zip(pairwise(cuts), pairwise(at), strict=True)]


def exhaustive(stacks: NetworkStacks, objective: Objective) -> float:
    """The least score of all sequences, each stack with its best options: every combination of these."""
    options: dict[tuple[int, int, int, int], list[tuple[float, float]]] = {}
    best = inf
    everything = Limit(objective, inf)
    for sequence in sequences(stacks):
        if any(b not in list(stacks.ends(a)) for a, b, *_ in sequence):
            continue
        if any(stacks.bound(*key)[0] == inf for key in sequence):
            continue
        for key in sequence:
            if key not in options:
                options[key] = [(o.energy_pj, o.latency_cycles) for o in stacks.options(*key, everything)]
        for chosen in product(*(options[key] for key in sequence)):
            best = min(best, objective.of(sum(e for e, _ in chosen), sum(c for _, c in chosen)))
    return best


def chain(layers: int) -> Graph:
    b = Builder()
    x = b.input(3, 12, 12)
    for _ in range(layers):
        x = b.conv(x, 4)
    return b.graph(x)


def few_layers() -> st.SearchStrategy[Graph]:
    """Networks of 3 to 5 layers: others are no choice, or too many."""
    prepared = random_cnn(max_steps=7, head=False).map(PassManager(default_pipeline(), verify=True).run)
    return prepared.filter(lambda graph: 3 <= len(graph.layers) <= 5)


def test_the_effort_is_limited() -> None:
    """Enough is no interruption: the result is as good as it gets with that effort, and the bound is true."""
    small = Small(chain(4), "meta_proto_df", Objective.ENERGY)
    found = search_network(small.stacks(), Objective.ENERGY, 1)
    assert found.sequence.spent
    assert not found.sequence.complete
    assert not found.interrupted
    assert found.sequence.bound <= found.sequence.energy_pj


def test_an_interruption_is_no_effort() -> None:
    """Also while the last stack that may be priced is explored."""
    small = Small(chain(4), "meta_proto_df", Objective.ENERGY)
    stacks = small.stacks()
    explore = small.explore

    def stop(search: StackSearch, limit: Limit | None) -> list[Candidate]:
        if limit is not None:
            raise KeyboardInterrupt
        return explore(search, limit)

    stacks.explore = stop
    found = search_network(stacks, Objective.ENERGY, 1)
    assert found.interrupted
    assert len(found.sequence.stacks) == 4


@pytest.mark.slow
@pytest.mark.parametrize("objective", list(Objective))
def test_no_other_sequence_is_better(objective: Objective) -> None:
    seen = on_chip = 0

    @settings(
        max_examples=17,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(few_layers(), st.sampled_from(["meta_proto_df", "tpu_like_df"]), st.sampled_from([2, 2, 5]))
    def check(graph: Graph, chip: str, longest: int) -> None:
        nonlocal seen, on_chip
        small = Small(graph, chip, objective)
        found = search_network(small.stacks(longest), objective, EVERYTHING).sequence
        expected = exhaustive(small.stacks(longest), objective)
        assert found.complete
        on_chip += any(s.place_out for s in found.stacks)
        assert objective.of(found.energy_pj, found.latency_cycles) == pytest.approx(expected, rel=1e-9)
        assert found.bound <= expected * (1 + 1e-9)
        seen += 1

    check()
    assert seen >= 17
    assert on_chip >= 3  # the best one hands something over on chip
