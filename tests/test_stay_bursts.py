"""The longest bursts of stays, and what steps touch, along one axis: against listing every position."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_axis_bursts import GAPS, dims, products

from dfc.backend_cost.spatial import UnrolledDim
from dfc.backend_cost.stay_bursts import Touched, plain_longest, step_classes, window_longest

Instances = dict[tuple[int, ...], set[int]]


def stays(dim: UnrolledDim, below: int, threshold: int) -> list[Instances]:
    """Per stay in which anything works, the indices of every instance."""
    total = dim.lane_count
    found: dict[int, Instances] = {}
    for index in range(dim.size):
        step, rest = divmod(index, total)
        outside: list[int] = []
        for n, gap in dim.lanes:
            if gap >= threshold:
                outside.append(rest % n)
            rest //= n
        found.setdefault(step // below, {}).setdefault(tuple(outside), set()).add(index)
    return [found[stay] for stay in sorted(found)]


def longest(instances: Instances) -> int:
    return max(map(len, instances.values()))


def table_at(table: np.ndarray, boundary: int, place: int) -> Counter[tuple[int, int]]:
    found: Counter[tuple[int, int]] = Counter()
    for fed, feeding, count in table[:, boundary - 1, :, place].T.astype(int).tolist():
        found[fed, feeding] += count
    return +found


@given(dims)
@settings(max_examples=150, deadline=None)
def test_plain(dim: UnrolledDim) -> None:
    table = plain_longest(dim, products(dim))
    assert table.shape[:2] == (3, GAPS - 2)
    for a in range(1, GAPS - 1):
        for i, below in enumerate(products(dim)):
            pairs = zip(stays(dim, below, a), stays(dim, below, a + 1), strict=True)
            assert table_at(table, a, i) == Counter((longest(fed), longest(feeding)) for fed, feeding in pairs)


shapes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, 6), st.integers(0, 30))


def positions(o: Instances, f: Instances, shape: tuple[int, int, int, int]) -> int:
    """Distinct real positions of the busiest instance."""
    stride, dilation, pad, extent = shape
    most = 0
    for outputs, kernels in product(o.values(), f.values()):
        places = {stride * x + dilation * y - pad for x in outputs for y in kernels}
        most = max(most, len([p for p in places if not extent or 0 <= p < extent]))
    return most


@given(dims, dims, shapes)
@settings(max_examples=200, deadline=None)
def test_window(o: UnrolledDim, f: UnrolledDim, shape: tuple[int, int, int, int]) -> None:
    below = products(o), products(f)
    table = window_longest((o, f), below, shape)
    for a in range(1, GAPS - 1):
        for place, (b, c) in enumerate(product(*below)):
            sides = [[positions(x, y, shape) for x, y in product(stays(o, b, t), stays(f, c, t))] for t in (a, a + 1)]
            assert table_at(table, a, place) == Counter(zip(*sides, strict=True))


@given(dims, dims, shapes, st.tuples(st.booleans(), st.booleans()), st.tuples(st.booleans(), st.booleans()))
@settings(max_examples=200, deadline=None)
def test_steps(
    o: UnrolledDim,
    f: UnrolledDim,
    shape: tuple[int, int, int, int],
    adds: tuple[bool, bool],
    addressed: tuple[bool, bool],
) -> None:
    alone = Touched(tuple(d if here else None for d, here in zip((o, f), addressed, strict=True)))
    every = [stays(d, 1, 1) for d in (o, f)]
    steps = tuple(map(len, every))
    values, counts = step_classes((alone, Touched((o, f), shape)), steps, adds)
    listed: Counter[tuple[int, ...]] = Counter()
    for at in product(*map(range, steps)):
        here = [of[i] for of, i in zip(every, at, strict=True)]
        sizes = [longest(each) if mine else 1 for each, mine in zip(here, addressed, strict=True)]
        first = all(i == 0 or not add for i, add in zip(at, adds, strict=True))
        last = all(i == n - 1 or not add for i, n, add in zip(at, steps, adds, strict=True))
        listed[sizes[0] * sizes[1], positions(here[0], here[1], shape), first, last] += 1
    found: Counter[tuple[int, ...]] = Counter()
    for row, count in zip(values.T.astype(int).tolist(), counts.astype(int).tolist(), strict=True):
        found[tuple(row)] += count
    assert found == listed
