"""Least chains: compiled and plain code agree with each other and with all chains listed."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfc.backend_cost.chains import COMPILED, ChainProblem


def listed(shape: tuple[int, ...], counts: tuple[int, ...], cost: np.ndarray) -> dict[tuple[int, ...], float]:
    """Every tuple of cut points of which any two are comparable, each operand's ascending, with its cost."""
    points = list(product(*map(range, shape)))

    def below(a: int, b: int) -> bool:
        return all(x <= y for x, y in zip(points[a], points[b], strict=True))

    found: dict[tuple[int, ...], float] = {}
    for chain in product(range(len(points)), repeat=sum(counts)):
        comparable = all(below(a, b) or below(b, a) for a in chain for b in chain)
        first = [sum(counts[:o]) for o in range(len(counts))]
        rising = all(
            below(chain[k], chain[k + 1]) for f, n in zip(first, counts, strict=True) for k in range(f, f + n - 1)
        )
        value = sum(cost[k, p] for k, p in enumerate(chain))
        if comparable and rising and np.isfinite(value):
            found[chain] = value
    return found


@st.composite
def problems(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], np.ndarray]:
    shape = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    counts = draw(st.sampled_from([(1,), (0, 1), (2,), (1, 1), (2, 1), (1, 0, 2), (1, 1, 1)]))
    size = int(np.prod(shape)) * sum(counts)
    values = draw(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, 5.0, 8.0, np.inf]), min_size=size, max_size=size))
    return shape, counts, np.array(values).reshape(sum(counts), -1)


def closed(shape: tuple[int, ...], counts: tuple[int, ...], idle: list[int], chain: tuple[int, ...]) -> bool:
    """Whether some path through the chain goes on from each cut along an axis that is idle for nobody cut there."""
    points = list(product(*map(range, shape)))
    owner = [o for o, n in enumerate(counts) for _ in range(n)]
    stops = [*sorted(set(chain), key=lambda p: sum(points[p])), len(points) - 1]
    for here, there in pairwise(stops):
        cut = [owner[k] for k, p in enumerate(chain) if p == here]
        ahead = [a for a in range(len(shape)) if points[there][a] > points[here][a]]
        if here != there and not any(all(not idle[o] >> a & 1 for o in cut) for a in ahead):
            return False
    return True


@pytest.mark.parametrize("compiled", [True, False])
@settings(deadline=None, max_examples=80)
@given(problem=problems(), limit=st.integers(0, 12), idle=st.lists(st.integers(0, 7), min_size=3, max_size=3))
def test_least_and_within(
    compiled: bool, problem: tuple[tuple[int, ...], tuple[int, ...], np.ndarray], limit: int, idle: list[int]
) -> None:
    if compiled and not COMPILED:
        pytest.skip("installed without a compiler")
    shape, counts, cost = problem
    chains = ChainProblem(np.array(shape), np.array(counts), np.array(idle[: len(counts)]), compiled)
    everything = listed(shape, counts, cost)
    value, chain = chains.least(cost)
    assert value == min(everything.values(), default=np.inf)
    if everything:
        assert everything[tuple(chain.tolist())] == value
    everything = {c: v for c, v in everything.items() if closed(shape, counts, idle, c)}
    one = (cost[None], np.zeros(1), np.array([float(limit)]))
    rows, complete = chains.within(*one, 5000)
    wanted = sorted(c for c, v in everything.items() if v <= limit)
    assert sorted(map(tuple, rows.tolist())) == wanted
    assert complete
    if len(wanted) > 1:
        assert not chains.within(*one, len(wanted) - 1)[1]
    rows, _ = chains.within(cost[None], np.zeros(1), np.array([np.inf]), 5000)
    assert sorted(map(tuple, rows.tolist())) == sorted(everything)  # no limit allows what is not allowed
    # two measures: the second counts cuts away from the least point, and their product is limited
    away = np.where(np.isfinite(cost), np.arange(cost.shape[1])[None, :] > 0, np.inf).astype(float)
    both = (np.stack([cost, away]), np.array([0.0, 1.0]), np.array([np.inf, 2.0]))
    rows, _ = chains.within(*both, 5000, float(limit))
    second = {c: 1.0 + sum(p > 0 for p in c) for c in everything}
    wanted = sorted(c for c, v in everything.items() if second[c] <= 2 and v * second[c] <= limit)
    assert sorted(map(tuple, rows.tolist())) == wanted


@settings(deadline=None, max_examples=60)
@given(problem=problems())
def test_compiled_and_plain_choose_the_same(problem: tuple[tuple[int, ...], tuple[int, ...], np.ndarray]) -> None:
    if not COMPILED:
        pytest.skip("installed without a compiler")
    shape, counts, cost = problem
    value, chain = ChainProblem(
        np.array(shape), np.array(counts), np.zeros(len(counts), np.int64), compiled=True
    ).least(cost)
    other, same = ChainProblem(
        np.array(shape), np.array(counts), np.zeros(len(counts), np.int64), compiled=False
    ).least(cost)
    assert value == other
    if np.isfinite(value):
        assert chain.tolist() == same.tolist()


@settings(deadline=None, max_examples=60)
@given(problem=problems())
def test_remaining_from_the_start_is_the_least(problem: tuple[tuple[int, ...], tuple[int, ...], np.ndarray]) -> None:
    shape, counts, cost = problem
    idle = np.zeros(len(counts), np.int64)
    both = [
        ChainProblem(np.array(shape), np.array(counts), idle, compiled).remaining(np.stack([cost, 2 * cost]))
        for compiled in (True, False)
    ]
    assert (both[0] == both[1]).all()
    least = ChainProblem(np.array(shape), np.array(counts), idle).least(cost)[0]
    assert both[0][:, 0, 0].tolist() == [least, 2 * least]
    assert (both[0][:, -1] == 0).all()


@pytest.mark.skipif(not COMPILED, reason="installed without a compiler")
def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="belong together"):
        ChainProblem(np.array([2, 2]), np.array([1]), np.array([0])).least(np.zeros((1, 3)))
