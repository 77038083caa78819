"""The best sequence of stacks, against a list of all sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import inf
from random import Random
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfc.backend_cost.mapping_cost import Objective
from dfc.errors import InternalError
from dfc.scheduling.least_product import Line, least_product
from dfc.scheduling.partition import best_sequence
from dfc.scheduling.partition_types import Limit, Option, Partition

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
    most: int = 40  # units per stack
    asked: list[Edge] = field(default_factory=list[Edge])
    bounds_asked: int = 0

    def places(self, cut: int) -> Sequence[int]:
        assert 0 < cut < self.n
        return self.waiting[cut]

    def ends(self, cut: int) -> Iterable[int]:
        return range(cut + 1, min(self.n, cut + self.most) + 1)

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
    return value(objective, energy, latency), other, latency, len(edges), [(e[1], e[3]) for e in edges]


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
    trade = draw(st.booleans())  # less energy costs latency
    nodes = {0: [0], n: [0], **waiting}
    bounds: dict[Edge, Point] = {}
    prices: dict[Edge, list[Point]] = {}
    for i in range(n):
        for j in range(i + 1, min(n, i + most) + 1):
            for edge in ((i, j, p, q) for p in nodes[i] for q in nodes[j]):
                if random.random() < infeasible / 2:
                    continue
                xs = [float(random.randint(low, low + high)) for _ in range(random.choice([1, 1, 2, 3]))]
                points = [(x, (high**2 // (x + 1)) if trade else float(random.randint(low, low + high))) for x in xs]
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


@pytest.mark.slow
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


class Points:
    """A search among points that are listed, as if it found out step by step."""

    def __init__(self, points: list[Point], best_point: Point | None):
        self.points, self.best_point, self.proved = points, best_point, 0.0
        self.solved = 0

    def useful(self, x: float, y: float) -> bool:
        return self.best_point is None or x * y <= self.best_point[0] * self.best_point[1] * (1 + 1e-9)

    def solve(self, weights: Point, enough: Callable[[float], bool]) -> Line:
        least, x, y = min((weights[0] * x + weights[1] * y, x, y) for x, y in self.points)
        for share in (0.5, 0.9, 0.99, 1):
            if enough(share * least):
                return Line(weights, share * least)
        self.solved += 1
        both = [(x, y), self.best_point or (inf, inf)]
        self.best_point = min(both, key=lambda p: (p[0] * p[1], p[0]))
        return Line(weights, least, (x, y))

    def prove(self, least: float) -> None:
        assert self.best_point is not None
        known = self.best_point[0] * self.best_point[1]
        assert min(least, known) <= min(x * y for x, y in self.points) * (1 + 1e-9)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([6, 60, 1000]), st.integers(1, 40), st.booleans(), st.integers(0, 2**32))
def test_least_product_of_points(high: int, count: int, known: bool, seed: int) -> None:
    """Near x*y = c the hull has many corners, and any may be the best."""
    random = Random(seed)
    xs = [random.randint(0, high) for _ in range(count)]
    points = [(float(x), float(high**2 // (x + 1) + random.randint(0, high // 6))) for x in xs]
    share = random.choice([0, 0.7, 1])
    low = (share * min(x for x, _ in points), share * min(y for _, y in points))
    search = Points(points, random.choice(points) if known else None)
    least_product(search, low)
    assert search.best_point is not None
    assert search.best_point[:1] == min((x * y, x) for x, y in points)[1:]
    assert search.solved <= 2 * count + 3


@settings(max_examples=100, deadline=None)
@given(tables(), st.sampled_from(list(Objective)), st.integers(0, 2**32))
def test_numbers_that_round(table: Table, objective: Objective, seed: int) -> None:
    """Sums of these differ by their order: the score is the least but for that."""
    random = Random(seed)
    scale = {e: random.uniform(1, 1e9) for e in table.bounds}
    table.bounds = {e: (x * scale[e], y / scale[e]) for e, (x, y) in table.bounds.items()}
    table.prices = {e: [(x * scale[e], y / scale[e]) for x, y in points] for e, points in table.prices.items()}
    found = best_sequence(table.n, table, objective)
    least = min((value(objective, x, y) for _, x, y in all_sequences(table)), default=None)
    assert found.complete
    assert bool(found.stacks) == (least is not None)
    if least is not None:
        check_valid(table, found)
        assert value(objective, found.energy_pj, found.latency_cycles) == pytest.approx(least, rel=1e-8)


def chain(n: int, *, places: int = 1, most: int = 40, error: float = 0.1, seed: int = 1) -> Table:
    """A chain of units: longer stacks save traffic until their weights no longer fit; prices are up to ``error`` above.

    Energy and latency disagree about the best length.
    """
    random = Random(seed)
    work = [random.uniform(50, 150) for _ in range(n)]
    weights = [random.uniform(5, 40) for _ in range(n)]
    maps = [random.choice([20, 60, 200]) for _ in range(n + 1)]
    waiting = {cut: list(range(places)) for cut in range(1, n)}
    nodes = {0: [0], n: [0], **waiting}
    table = Table(n, waiting, {}, {})
    for i in range(n):
        inside, held = 0.0, 0.0
        for j in range(i + 1, min(n, i + most) + 1):
            inside, held = inside + work[j - 1], held + weights[j - 1]
            for p, q in product(nodes[i], nodes[j]):
                moved = maps[i] * (0.3 if p else 1) + maps[j] * (0.3 if q else 1)
                over = 2 * max(0, held - 120) + (40 * ((p > 0) + (q > 0)) if held > 60 else 0)
                x, y = inside + moved + over, 0.5 * inside + 0.8 * moved + over + 0.004 * inside * (j - i)
                table.bounds[i, j, p, q] = (x, y)
                table.prices[i, j, p, q] = [
                    (x * (1 + error * random.random() * a), y * (1 + error * random.random() * (2 - a)))
                    for a in (0.5, 1, 1.5)
                ]
    return table


@pytest.mark.parametrize("objective", Objective)
def test_few_edges_are_priced(objective: Objective) -> None:
    """Where bounds are within 10 or 20 % of the prices, far less than half of the stacks; within 50 %, half."""
    for table, share in ((chain(20), 0.2), (chain(30, places=2, error=0.2), 0.1), (chain(20, error=0.5), 0.5)):
        found = best_sequence(table.n, table, objective)
        assert found.complete
        assert found.considered == len(table.bounds)
        assert found.priced == len(table.asked) <= share * found.considered
        assert found.pruned == found.considered - found.priced


@pytest.mark.slow
@pytest.mark.parametrize("objective", Objective)
def test_effort_grows_with_length(objective: Objective) -> None:
    """Per unit, a chain of 500 asks for about as many bounds and prices as one of 125."""
    asked: dict[int, float] = {}
    for n in (125, 500):
        table = chain(n)
        assert best_sequence(n, table, objective).complete
        assert table.bounds_asked <= 40 * n
        asked[n] = len(table.asked) / n
    assert asked[500] <= 1.2 * asked[125]
    assert asked[500] < 2


@pytest.mark.parametrize("objective", Objective)
def test_best_so_far(objective: Objective) -> None:
    """Best and bound close in on the answer, however early an interruption comes."""
    table = chain(30, places=2, error=0.3)
    whole = best_sequence(table.n, table, objective)
    end = value(objective, whole.energy_pj, whole.latency_cycles)
    best, bound = inf, 0.0
    for table.stop_after in range(30, whole.priced, max(1, (whole.priced - 30) // 8)):
        table.asked = []
        early = best_sequence(table.n, table, objective)
        assert not early.complete
        assert early.priced == table.stop_after
        assert early.pruned < early.considered - early.priced
        score = value(objective, early.energy_pj, early.latency_cycles)
        assert best >= score >= end * (1 - 1e-9)
        assert bound * (1 - 1e-9) <= early.bound <= end * (1 + 1e-9)
        best, bound = score, early.bound
    assert best < inf


@settings(max_examples=200, deadline=None)
@given(st.data(), tables(), st.sampled_from(list(Objective)), st.integers(0, 12))
def test_limited_effort(data: st.DataObject, table: Table, objective: Objective, most: int) -> None:
    """No more is priced than may be, what is proved is true, and what suffices finds the best."""
    incumbent = data.draw(incumbents(table))
    first = [(i, i + 1, 0, 0) for i in range(table.n)] if incumbent is None else incumbent
    found = best_sequence(table.n, table, objective, incumbent, most=most)
    least = min((rank(objective, *s) for s in all_sequences(table)), default=None)
    assert found.spent != found.complete
    assert found.priced == len(table.asked) <= len(set(first)) + most + most // 2 + table.n
    if found.stacks:
        check_valid(table, found)
    if found.complete and least is not None:
        assert rank(objective, edges_of(found), found.energy_pj, found.latency_cycles) == least
    assert least is None or found.bound <= cast("float", least[0]) * (1 + 1e-9)


@pytest.mark.parametrize("objective", Objective)
def test_limited_effort_goes_where_it_tells_most(objective: Objective) -> None:
    """First the cuts, then the places at these: no worse than without places."""
    plain, table = chain(14, error=0.3), chain(14, places=3, error=0.3)
    table.prices |= plain.prices
    for one in (plain, table):  # bounds that tell little
        one.bounds = {
            edge: (0.6 * min(p[0] for p in ps), 0.6 * min(p[1] for p in ps)) for edge, ps in one.prices.items()
        }
    without = best_sequence(plain.n, plain, objective)
    found = best_sequence(table.n, table, objective, most=len(plain.asked))
    assert found.spent
    reached = [value(objective, f.energy_pj, f.latency_cycles) for f in (found, without)]
    assert found.bound <= reached[0] <= reached[1]
    assert any(place_in or place_out for _, _, place_in, place_out in table.asked)
    assert reached[0] < reached[1] or objective is not Objective.ENERGY


def test_interrupted_before_anything_is_known() -> None:
    class Slow(Table):
        def bound(self, start: int, end: int, place_in: int, place_out: int) -> Point:
            raise KeyboardInterrupt

    found = best_sequence(2, Slow(2, {1: [0]}, {(0, 1, 0, 0): (1, 1)}, {}), Objective.EDP)
    assert found == Partition((), False, 0.0, 0, 0, 0)


def test_incumbent_is_priced_first() -> None:
    table = chain(20)
    best_sequence(20, table, Objective.ENERGY)
    assert table.asked[:20] == [(i, i + 1, 0, 0) for i in range(20)]
    table.asked = []
    given = [(0, 7, 0, 0), (7, 20, 0, 0), (3, 99, 0, 0), (0, 7, 0, 0)]
    best_sequence(20, table, Objective.ENERGY, given)
    assert table.asked[:2] == given[:2]


def test_ties() -> None:
    """Of equal sequences the other measure decides, then the number of stacks, the earlier cut, the lower place."""
    same = {(i, j, 0, 0): (float(j - i), float(j - i)) for i in range(4) for j in range(i + 1, 5)}

    def cuts(table: dict[Edge, Point], objective: Objective, waiting: Sequence[int] = (0,)) -> list[Edge]:
        provider = Table(4, {c: list(waiting) for c in (1, 2, 3)}, table, {e: [p] for e, p in table.items()})
        return edges_of(best_sequence(4, provider, objective))

    short = {e: p for e, p in same.items() if e[1] - e[0] <= 3}
    places = {(i, j, p, q): c for (i, j, _, _), c in short.items() for p in (0, 1) for q in (0, 1) if j < 4 or q == 0}
    for objective in Objective:
        assert cuts(same, objective) == [(0, 4, 0, 0)]
        assert cuts(short, objective) == [(0, 1, 0, 0), (1, 4, 0, 0)]
        assert cuts(places, objective, (1, 0)) == [(0, 1, 0, 0), (1, 4, 0, 0)]
    fast = same | {(2, 4, 0, 0): (2.0, 1.5)}
    assert cuts(fast, Objective.ENERGY) == [(0, 2, 0, 0), (2, 4, 0, 0)]
    swapped = same | {(0, 4, 0, 0): (2.0, 8.0), (0, 3, 0, 0): (7.0, 1.0)}
    assert cuts(swapped, Objective.EDP) == [(0, 4, 0, 0)]  # 2 x 8, 4 x 4 and 8 x 2


@pytest.mark.parametrize("price", [(3.0, 4.9), (2.9, 5.0), (inf, 5.0), (3.0, float("nan"))])
def test_prices_below_bounds(price: Point) -> None:
    table = Table(2, {1: [3]}, {(0, 1, 0, 3): (3.0, 5.0), (1, 2, 3, 0): (1.0, 1.0)}, {(0, 1, 0, 3): [price]})
    with pytest.raises(InternalError, match="the stack from cut 0 in place 0 to cut 1 in place 3 costs") as caught:
        best_sequence(2, table, Objective.ENERGY, [(0, 1, 0, 3)])
    assert caught.value.code == "IR191"


@pytest.mark.parametrize("bound", [(-1.0, 2.0), (2.0, float("nan")), (float("nan"), 2.0)])
def test_bounds_that_are_none(bound: Point) -> None:
    with pytest.raises(InternalError, match="the stack from cut 0 in place 0 to cut 1 in place 0 has the bounds"):
        best_sequence(1, Table(1, {}, {(0, 1, 0, 0): bound}, {}), Objective.EDP)


def test_no_units() -> None:
    with pytest.raises(ValueError, match="at least one unit"):
        best_sequence(0, Table(0, {}, {}, {}), Objective.ENERGY)
