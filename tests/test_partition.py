"""The best sequence of stacks, against a list of all sequences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfc.backend_cost.mapping_cost import Objective
from dfc.errors import InternalError
from dfc.scheduling.partition import best_sequence
from dfc.scheduling.partition_types import ChosenStack, Limit, Option, Partition

Edge = tuple[int, int, int, int]
Point = tuple[float, float]


@dataclass
class Table:
    """A network as a table: bounds and options of each stack; what is asked of it is counted."""

    n: int
    waiting: dict[int, list[int]]
    bounds: dict[Edge, Point]
    prices: dict[Edge, list[Point]]
    prune: bool = True  # leave out what the limit does not allow
    stop_after: float = inf
    asked: list[Edge] = field(default_factory=list)
    bounds_asked: int = 0

    def places(self, cut: int) -> Sequence[int]:
        assert 0 < cut < self.n
        return self.waiting[cut]

    def ends(self, cut: int) -> Iterable[int]:
        return sorted({e[1] for e in self.bounds if e[0] == cut})

    def bound(self, start: int, end: int, place_in: int, place_out: int) -> Point:
        self.bounds_asked += 1
        return self.bounds.get((start, end, place_in, place_out), (inf, inf))

    def options(self, start: int, end: int, place_in: int, place_out: int, limit: Limit) -> list[Option[str]]:
        edge = (start, end, place_in, place_out)
        assert edge not in self.asked, "priced twice"
        assert self.bounds[edge] < (inf, inf)
        if len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked.append(edge)
        found = [Option(x, y, f"{edge} {k}") for k, (x, y) in enumerate(self.prices[edge])]
        for o in found:
            if limit.allows(o.energy_pj, o.latency_cycles):
                assert value(limit.objective, o.energy_pj, o.latency_cycles) <= limit.most
        return [o for o in found if not self.prune or limit.allows(o.energy_pj, o.latency_cycles)]


def value(objective: Objective, energy: float, latency: float) -> float:
    return {Objective.ENERGY: energy, Objective.LATENCY: latency, Objective.EDP: energy * latency}[objective]


def all_sequences(table: Table) -> Iterator[tuple[list[Edge], float, float]]:
    """Every way to cut, to place and to run: slow and obvious."""

    def ways(cut: int, place: int) -> Iterator[list[Edge]]:
        if cut == table.n:
            yield []
        for edge in table.prices:
            if edge[0] == cut and edge[2] == place:
                for rest in ways(edge[1], edge[3]):
                    yield [edge, *rest]

    for edges in ways(0, 0):
        for points in product(*(table.prices[e] for e in edges)):
            yield edges, sum(p[0] for p in points), sum(p[1] for p in points)


def rank(objective: Objective, edges: list[Edge], energy: float, latency: float) -> tuple[object, ...]:
    other = latency if objective is Objective.ENERGY else energy
    return value(objective, energy, latency), other, len(edges), [(e[1], e[3]) for e in edges]


def edges_of(found: Partition[str]) -> list[Edge]:
    return [(s.start, s.end, s.place_in, s.place_out) for s in found.stacks]


def check_valid(table: Table, found: Partition[str]) -> None:
    """The stacks follow each other, and are options that the table has."""
    at = (0, 0)
    for s in found.stacks:
        assert (s.start, s.place_in) == at
        at = (s.end, s.place_out)
        assert (s.option.energy_pj, s.option.latency_cycles) in table.prices[s.start, s.end, s.place_in, s.place_out]
    assert at == (table.n, 0)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    n = draw(st.integers(1, 7))
    most = 4 if n < 6 else 3
    waiting = {cut: draw(st.sampled_from([[0], [0], [0, 1], [1, 0], [0, 2], [1]])) for cut in range(1, n)}
    random = Random(draw(st.integers(0, 2**32)))
    high, infeasible, slack = draw(st.sampled_from([(3, 0.1, 1), (20, 0.1, 4), (1000, 0.3, 200), (1000, 0, 30)]))
    low = draw(st.sampled_from([0, 0, 1, high]))
    nodes = {0: [0], n: [0], **waiting}
    bounds: dict[Edge, Point] = {}
    prices: dict[Edge, list[Point]] = {}
    for i in range(n):
        for j in range(i + 1, min(n, i + most) + 1):
            for edge in ((i, j, p, q) for p in nodes[i] for q in nodes[j]):
                if random.random() < infeasible / 2:
                    continue
                points = [
                    (float(random.randint(low, low + high)), float(random.randint(low, low + high)))
                    for _ in range(random.choice([1, 1, 2, 3]))
                ]
                least = [min(p[k] for p in points) for k in (0, 1)]
                bounds[edge] = (
                    max(0.0, least[0] - random.randint(0, slack)),
                    max(0.0, least[1] - random.randint(0, slack)),
                )
                prices[edge] = points if random.random() >= infeasible / 2 else []
    return Table(n, waiting, bounds, prices)


def incumbents(table: Table) -> st.SearchStrategy[list[Edge] | None]:
    return st.one_of(
        st.none(), st.just([]), st.lists(st.sampled_from(sorted(table.bounds) or [(0, 9, 0, 0)]), max_size=4)
    )


@settings(max_examples=400, deadline=None)
@given(st.data(), tables(), st.sampled_from(list(Objective)), st.booleans())
def test_best_of_all_sequences(data: st.DataObject, table: Table, objective: Objective, prune: bool) -> None:
    table.prune = prune
    every = [rank(objective, *s) for s in all_sequences(table)]
    found = best_sequence(table.n, table, objective, data.draw(incumbents(table)))
    assert found.complete
    assert found.considered == found.priced + found.pruned
    assert found.priced == len(table.asked)
    if not every:
        assert not found.stacks
        assert found.bound == inf
        return
    check_valid(table, found)
    best = min(every)
    assert rank(objective, edges_of(found), found.energy_pj, found.latency_cycles) == best
    assert found.bound == best[0]


@settings(max_examples=200, deadline=None)
@given(st.data(), tables(), st.sampled_from(list(Objective)))
def test_interrupted(data: st.DataObject, table: Table, objective: Objective) -> None:
    incumbent = data.draw(incumbents(table))
    best_sequence(table.n, table, objective, incumbent)
    table.stop_after = data.draw(st.integers(0, max(0, len(table.asked) - 1)))
    last = not table.asked
    table.asked = []
    found = best_sequence(table.n, table, objective, incumbent)
    assert found.complete == last
    least = min((rank(objective, *s) for s in all_sequences(table)), default=(inf,))[0]
    assert isinstance(least, float)
    assert found.bound <= least * (1 + 1e-9)
    assert found.priced + found.pruned <= found.considered
    if found.stacks:
        check_valid(table, found)
        assert found.bound <= value(objective, found.energy_pj, found.latency_cycles)
