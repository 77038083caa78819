"""The longest bursts of each stay along one axis, for all loop products at once: what time depends on.

Of the instances of a memory the busiest decides how long a stay's transfers take. Lanes and steps count through a
dimension in order, so the busiest follows from how many lanes work at all; only where a window meets the border of the
map, or where lanes of one dimension lie in several gaps, are stays counted one by one. ``axis_bursts.py`` counts all
instances, for energy.

Tables are (3, boundaries, entries, products): the longest burst of any instance below the boundary, of any above it,
and how many stays have both. Boundaries are those from 1 on; entries may have count 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

import numpy as np

from dfc.backend_cost.axis_bursts import Below, Shape, clipped, periods, ranges, strides, window_of
from dfc.backend_cost.bursts import LoopAxis, Window, largest_bursts
from dfc.backend_cost.grid import Floats, Ints
from dfc.backend_cost.spatial import UnrolledDim


def _busiest(dim: UnrolledDim) -> list[int]:
    """Per threshold, lanes of the busiest instance in the step after those in which all lanes work."""
    if not dim.size % dim.lane_count:
        return [0] * len(dim.inside)
    return [dim.next_step(t)[-1][0] for t in range(len(dim.inside))]


def _lengths(dim: UnrolledDim, below: Below) -> tuple[Floats, Floats]:
    """(thresholds, entries, products) indices of the busiest instance, (entries, products) stays in which anything
    works: those with full steps alone, and the one after them."""
    products = np.array(below, dtype=float)
    full_stays, full_steps = np.divmod(dim.full_steps, products)
    inside, busiest = np.array((dim.inside, _busiest(dim)), dtype=float)[:, :, None]
    last = (full_steps > 0) | bool(busiest.any())
    if not last.any():
        return (inside * products)[:, None], full_stays[None]
    return np.stack([inside * products, inside * full_steps + busiest], axis=1), np.array(
        (full_stays, last), dtype=float
    )


def _table(lengths: Floats, counts: Floats) -> Floats:
    """From sizes per threshold to those below and above each boundary."""
    fed = lengths[1:-1]
    return np.stack([fed, lengths[2:], np.broadcast_to(counts, fed.shape)])


@lru_cache(maxsize=8192)
def plain_longest(dim: UnrolledDim, below: Below) -> Floats:
    """A dimension that addresses the operand by itself."""
    return _table(*_lengths(dim, below))


@lru_cache(maxsize=8192)
def window_longest(dims: tuple[UnrolledDim, UnrolledDim], below: tuple[Below, Below], shape: Shape) -> Floats:
    """The output and kernel loop of a sliding window, the kernel's products run fastest: distinct real positions."""
    window, is_clipped = window_of(dims, shape)
    thresholds = range(len(dims[0].inside))
    spaced = list(zip(strides(dims[0], thresholds), strides(dims[1], thresholds), strict=True))
    even = [(o, f) for o, f in spaced if o is not None and f is not None]
    if not is_clipped and len(even) == len(thresholds):
        (o, o_counts), (f, f_counts) = (_lengths(d, b) for d, b in zip(dims, below, strict=True))
        o, f = o[:, :, None, :, None], f[:, None, :, None, :]
        o_period, f_period = np.array([periods(window, *pair) for pair in even], dtype=float).T[..., *[None] * 4]
        sizes = o * f - np.maximum(o - o_period, 0) * np.maximum(f - f_period, 0)
        counts = o_counts[:, None, :, None] * f_counts[None, :, None, :]
        entries = counts.shape[0] * counts.shape[1]
        return _table(sizes.reshape(len(sizes), entries, -1), counts.reshape(entries, -1))
    largest = {t: _largest(dims, below, window, t) for t in thresholds[1:]}
    pair = _pairs(dims, below)
    return _stacked(
        [_histogram(pair, largest[a], largest[a + 1]) for a in thresholds[1:-1]],
        len(below[0]) * len(below[1]),
    )


def _working_stays(dim: UnrolledDim, below: Below) -> list[int]:
    """Per product, the stays in which anything works: they come first."""
    return [-(-dim.size // (b * dim.lane_count)) for b in below]


def _pairs(dims: tuple[UnrolledDim, UnrolledDim], below: tuple[Below, Below]) -> Ints:
    """(output stays, kernel stays) which pair of products they belong to."""
    o, f = (np.arange(len(b)).repeat(_working_stays(d, b)) for d, b in zip(dims, below, strict=True))
    found: Ints = (o * len(below[1]))[:, None] + f
    return found


def _largest(dims: tuple[UnrolledDim, UnrolledDim], below: tuple[Below, Below], window: Window, threshold: int) -> Ints:
    """(output stays, kernel stays) of all products: distinct real positions of the busiest instance."""
    spaced = [strides(d, range(threshold, threshold + 1))[0] for d in dims]
    o_stride, f_stride = spaced
    if o_stride is None or f_stride is None:
        axes = [
            [LoopAxis(d.size, d.steps, b, tuple((n, 2 if gap < threshold else 0) for n, gap in d.lanes)) for b in each]
            for d, each in zip(dims, below, strict=True)
        ]
        return np.block([[largest_bursts(o, f, window) for f in axes[1]] for o in axes[0]])
    o, f = (
        ranges(d, threshold, np.array((b, _working_stays(d, b)), dtype=float), stride)
        for d, b, stride in zip(dims, below, (o_stride, f_stride), strict=True)
    )
    sizes = clipped(o, f, window)
    found: Ints = sizes.reshape(o_stride, len(sizes) // o_stride, f_stride, -1).max(axis=(0, 2))
    return found


def _histogram(pair: Ints, fed: Ints, feeding: Ints) -> tuple[Ints, Ints]:
    """(which pair of products, entry) of different sizes, and (fed, feeding, stays)."""
    most_fed, most = int(fed.max(initial=0)) + 1, int(feeding.max(initial=0)) + 1
    keys, counts = np.unique((pair * most_fed + fed) * most + feeding, return_counts=True)
    keys, above = np.divmod(keys, most)
    owner, size = np.divmod(keys, most_fed)
    entry = np.arange(len(owner)) - np.searchsorted(owner, owner)
    return np.stack([entry, owner]), np.stack([size, above, counts])


def _stacked(rows: list[tuple[Ints, Ints]], products: int) -> Floats:
    entries = max((int(at[0].max()) + 1 for at, _ in rows), default=1)
    found = np.zeros((3, len(rows), entries, products))
    for a, (at, values) in enumerate(rows):
        found[:, a, at[0], at[1]] = values
    return found


# ---- steps -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Touched:
    """What of an operand the steps of some dimensions touch: those that address it, and the window they belong to."""

    dims: tuple[UnrolledDim | None, ...]
    window: Shape | None = None


#: (rows, classes) and (classes,) how many steps there are of each
Classes = tuple[Floats, Floats]


@lru_cache(maxsize=8192)
def step_classes(operands: tuple[Touched, ...], steps: tuple[int, ...], adds: tuple[bool, ...]) -> Classes:
    """Steps over one or two dimensions that touch equally much, in the busiest instance of the innermost memory.

    ``steps`` are those of each dimension in which anything works; ``adds`` whether it adds to sums. A row per operand,
    and two: whether they are the first, or the last, that add to their sums.
    """
    kinds = [_kinds(n) for n in steps]
    found: dict[tuple[int, ...], int] = {}
    whole = [_window_steps(operand) if operand.window is not None else None for operand in operands]
    if any(sizes is None and operand.window is not None for sizes, operand in zip(whole, operands, strict=True)):
        return _listed_classes(operands, steps, adds)
    for at in product(*kinds):
        first = all(i == 0 or not add for (i, _), add in zip(at, adds, strict=True))
        last = all(i == n - 1 or not add for (i, _), n, add in zip(at, steps, adds, strict=True))
        lengths = [[_length(dim, i) for dim, (i, _) in zip(operand.dims, at, strict=True)] for operand in operands]
        sizes = [prod(each) if p is None else _overlapped(each, p) for each, p in zip(lengths, whole, strict=True)]
        row = (*sizes, first, last)
        found[row] = found.get(row, 0) + prod(count for _, count in at)
    return np.array(list(found), dtype=float).T, np.array(list(found.values()), dtype=float)


def _kinds(steps: int) -> list[tuple[int, int]]:
    """The first step, the last one and one between, with how many there are of each."""
    return [(0, 1), *([(1, steps - 2)] if steps > 2 else []), *([(steps - 1, 1)] if steps > 1 else [])]


def _length(dim: UnrolledDim | None, step: int) -> int:
    if dim is None:
        return 1
    return dim.inside[1] if step < dim.full_steps else dim.next_step(1)[-1][0]


def _overlapped(lengths: list[int], apart: tuple[int, int]) -> int:
    (o, f), (o_period, f_period) = lengths, apart
    return o * f - max(o - o_period, 0) * max(f - f_period, 0)


def _window_steps(operand: Touched) -> tuple[int, int] | None:
    """The periods of a window that no border clips; None where its steps have to be counted one by one."""
    window, is_clipped, spaced = _window(operand)
    o, f = spaced
    return None if is_clipped or o is None or f is None else periods(window, o, f)


def _window(operand: Touched) -> tuple[Window, bool, list[int | None]]:
    o, f = operand.dims
    assert o is not None and f is not None and operand.window is not None
    window, is_clipped = window_of((o, f), operand.window)
    return window, is_clipped, [strides(d, range(1, 2))[0] for d in (o, f)]


def _listed_classes(operands: tuple[Touched, ...], steps: tuple[int, ...], adds: tuple[bool, ...]) -> Classes:
    """The same, counting every pair of steps of a window by itself."""
    rows: list[Ints] = []
    at = [np.arange(n) for n in steps]
    for operand in operands:
        if operand.window is None:
            o, f = (np.array([_length(d, i) for i in range(n)]) for d, n in zip(operand.dims, steps, strict=True))
            rows.append(np.multiply.outer(o, f))
        else:
            o_dim, f_dim = operand.dims
            assert o_dim is not None and f_dim is not None
            rows.append(_largest((o_dim, f_dim), ((1,), (1,)), _window(operand)[0], 1))
    for end in ([0, 0], [n - 1 for n in steps]):
        o, f = ((i == e) | (not add) for i, e, add in zip(at, end, adds, strict=True))
        rows.append(np.logical_and.outer(o, f).astype(np.int64))
    values, counts = np.unique(np.stack(rows).reshape(len(rows), -1), axis=1, return_counts=True)
    return values.astype(float), counts.astype(float)
