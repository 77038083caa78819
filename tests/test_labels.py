"""Label-setting over ranges of layers that share memories, against all ways there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfc.backend_cost.mapping_cost import Objective
from dfc.scheduling.label_bounds import undominated
from dfc.scheduling.labels import Edge, Path, best_paths


@dataclass(frozen=True)
class Way:
    energy_pj: float
    latency_cycles: float
    resident_bits: tuple[int, ...]
    transient_bits: tuple[int, ...]


@dataclass(frozen=True)
class Problem:
    nodes: int
    edges: tuple[Edge[Way], ...]
    sizes: tuple[int, ...]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    nodes, memories = draw(st.integers(2, 6)), draw(st.integers(0, 3))
    bits = st.tuples(*[st.integers(0, 6)] * memories)
    ways = st.builds(Way, st.integers(1, 9), st.integers(1, 9), bits, bits)
    edges = [
        Edge(tail, head, draw(st.lists(ways, max_size=3)))
        for head in range(1, nodes)
        for tail in range(head)
        if head - tail < 4
    ]
    return Problem(nodes, tuple(edges), draw(st.tuples(*[st.integers(3, 14)] * memories)))


def every(problem: Problem, node: int = 0) -> Iterator[list[Way]]:
    """All ways from a node to the end, whether they fit or not."""
    if node == problem.nodes - 1:
        yield []
    for edge in problem.edges:
        if edge.tail == node:
            for rest in every(problem, edge.head):
                yield from ([way, *rest] for way in edge.ways)


def fits(ways: Sequence[Way], sizes: Sequence[int]) -> bool:
    return all(
        sum(w.resident_bits[m] for w in ways) + max(w.transient_bits[m] for w in ways) <= size
        for m, size in enumerate(sizes)
    )


def costs(ways: Sequence[Way]) -> tuple[float, float]:
    return sum(w.energy_pj for w in ways), sum(w.latency_cycles for w in ways)


def check(problem: Problem, path: Path[Way]) -> None:
    """It leads from the start to the end, fits, and costs what it says."""
    node, ways = 0, [way for _, way in path.edges]
    for number, way in path.edges:
        edge = problem.edges[number]
        assert edge.tail == node
        assert way in edge.ways
        node = edge.head
    assert node == problem.nodes - 1
    assert fits(ways, problem.sizes)
    assert costs(ways) == (path.energy_pj, path.latency_cycles)


@settings(max_examples=300, deadline=None)
@given(problem=problems(), limit=st.sampled_from([inf, inf, 12]), narrow=st.sampled_from([1, 2, 64]))
def test_as_good_as_all_ways_tried(problem: Problem, limit: float, narrow: int) -> None:
    all_costs = {costs(ways) for ways in every(problem) if fits(ways, problem.sizes)}
    all_costs = {(e, c) for e, c in all_costs if c <= limit}
    front = sorted(p for p in all_costs if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in all_costs))
    found = best_paths(problem.nodes, problem.edges, problem.sizes, None, most_cycles=limit)
    assert found.complete
    assert [(p.energy_pj, p.latency_cycles) for p in found.paths] == front
    for path in found.paths:
        check(problem, path)
    for objective in Objective:
        best = best_paths(problem.nodes, problem.edges, problem.sizes, objective, most_cycles=limit, narrow=narrow)
        assert best.complete
        least = min((objective.of(*p) for p in all_costs), default=inf)
        assert best.bound == least
        assert [objective.of(p.energy_pj, p.latency_cycles) for p in best.paths] == [least] * bool(all_costs)
        for path in best.paths:
            check(problem, path)
        if objective is Objective.LATENCY and best.paths:
            assert best.paths[0].energy_pj == min(e for e, c in all_costs if c == least)


@settings(max_examples=100, deadline=None)
@given(problem=problems(), most=st.integers(1, 3))
def test_too_many_labels_still_bound(problem: Problem, most: int) -> None:
    """Where labels are left out, what is found fits, and nothing is better than the bound."""
    all_costs = {costs(ways) for ways in every(problem) if fits(ways, problem.sizes)}
    for objective in Objective:
        found = best_paths(problem.nodes, problem.edges, problem.sizes, objective, most=most)
        least = min((objective.of(*p) for p in all_costs), default=inf)
        assert found.bound <= least
        assert not found.complete or found.bound == least
        for path in found.paths:
            check(problem, path)
            assert objective.of(path.energy_pj, path.latency_cycles) >= least


def long_network(layers: int, seed: int = 1) -> Problem:
    """Ranges of up to 8 layers with 12 ways each; energy and time fall with what they keep. Memories are scarce."""
    rng = np.random.default_rng(seed)
    edges: list[Edge[Way]] = []
    work, bits = rng.integers(50, 200, layers), rng.integers(20, 200, layers)
    for tail in range(layers):
        for head in range(tail + 1, min(layers, tail + 8) + 1):
            ways: list[Way] = []
            for _ in range(12):
                inner, outer = rng.uniform(0, 1, 2)
                keeps = int(bits[tail:head].sum() * inner), int(bits[tail:head].sum() * outer)
                factor = 2.0 - 0.9 * inner - 0.3 * outer + 0.05 * rng.uniform()
                energy = float(work[tail:head].sum()) * factor * (1 + 1 / (head - tail))
                cycles = float(work[tail:head].sum() * (1.8 - 0.4 * inner - 0.5 * outer + 0.2 * rng.uniform()))
                own = int(rng.integers(10, 100)), int(rng.integers(10, 100))
                ways.append(Way(energy, round(cycles), keeps, own))
            edges.append(Edge(tail, head, ways))
    total = int(bits.sum())
    return Problem(layers + 1, tuple(edges), (total // 3, total // 2))


@pytest.mark.parametrize("objective", Objective)
def test_a_dozen_layers_stay_narrow(objective: Objective) -> None:
    problem = long_network(12)
    found = best_paths(problem.nodes, problem.edges, problem.sizes, objective)
    assert found.complete
    check_close(problem, found.paths[0])
    assert found.widest < 5_000


def check_close(problem: Problem, path: Path[Way]) -> None:
    ways = [way for _, way in path.edges]
    assert fits(ways, problem.sizes)
    assert costs(ways) == pytest.approx((path.energy_pj, path.latency_cycles))


def test_undominated_rows_in_many_blocks() -> None:
    rng = np.random.default_rng(2)
    rows = np.unique(rng.integers(0, 9, (3_000, 4)), axis=0).astype(float)
    found = set(undominated(rows).tolist())
    beaten = [(rows <= row).all(1).sum() > 1 for row in rows]
    assert found == {i for i, lost in enumerate(beaten) if not lost}
