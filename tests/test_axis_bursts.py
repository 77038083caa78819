"""Sizes of bursts along one axis in closed form, against listing every position."""

from __future__ import annotations

from collections import Counter
from math import ceil, prod

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dfc.backend_cost.axis_bursts import plain_sizes, window_sizes
from dfc.backend_cost.spatial import UnrolledDim

GAPS = 4


def unrolled(size: int, lanes: list[tuple[int, int]]) -> UnrolledDim:
    total = prod(n for n, _ in lanes)
    steps = ceil(size / total)
    inside = tuple(prod(n for n, gap in lanes if gap < t) for t in range(GAPS))
    return UnrolledDim(size, steps, tuple(lanes), inside, tuple(total // i for i in inside), total * steps - size)


dims = st.builds(unrolled, st.integers(1, 14), st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), max_size=3))


def products(dim: UnrolledDim) -> tuple[int, ...]:
    return tuple(b for b in range(1, dim.steps + 1) if dim.steps % b == 0)


def stays(dim: UnrolledDim, below: int, threshold: int) -> list[set[int]]:
    """The indices of every stay of every instance."""
    total = prod(n for n, _ in dim.lanes)
    found: dict[tuple[int, ...], set[int]] = {}
    for step in range(dim.steps):
        for lane in range(total):
            rest, outside = lane, [step // below]
            for n, gap in dim.lanes:
                if gap >= threshold:
                    outside.append(rest % n)
                rest //= n
            index = step * total + lane
            found.setdefault(tuple(outside), set()).update({index} if index < dim.size else ())
    return list(found.values())


def histogram(table: np.ndarray, threshold: int, product: int) -> Counter[int]:
    sizes, counts = table[0][threshold if table.shape[1] > 1 else 0], table[1][threshold if table.shape[1] > 1 else 0]
    found: Counter[int] = Counter()
    for size, count in zip(sizes[:, product].tolist(), counts[:, product].tolist(), strict=True):
        found[int(size)] += int(count)
    return Counter({size: count for size, count in found.items() if size and count})


@given(dims)
@settings(max_examples=150, deadline=None)
def test_plain(dim: UnrolledDim) -> None:
    table = plain_sizes(dim, products(dim))
    for t in range(GAPS):
        for i, below in enumerate(products(dim)):
            listed = Counter(len(s) for s in stays(dim, below, t) if s)
            assert histogram(table, t, i) == listed


@given(dims, dims, st.integers(1, 4), st.integers(1, 4), st.integers(0, 6), st.integers(0, 30))
@settings(max_examples=250, deadline=None)
def test_window(o: UnrolledDim, f: UnrolledDim, stride: int, dilation: int, pad: int, extent: int) -> None:
    below = products(o), products(f)
    table = window_sizes((o, f), below, (stride, dilation, pad, extent))
    for t in range(GAPS):
        for i, b in enumerate(below[0]):
            for j, c in enumerate(below[1]):
                listed: Counter[int] = Counter()
                for outputs in stays(o, b, t):
                    for kernels in stays(f, c, t):
                        places = {stride * x + dilation * y - pad for x in outputs for y in kernels}
                        listed[len([p for p in places if not extent or 0 <= p < extent])] += 1
                del listed[0]
                assert histogram(table, t, i * len(below[1]) + j) == listed
