"""How many positions an instance touches along one axis in one stay, for all loop products of the axis at once.

An axis is a dimension, or the output and kernel loop of a sliding window. Lanes and steps count through a dimension in
order, so along it an instance touches every so-manieth index from its first one on: sizes follow from the ends of such
ranges, remainders, padding, strides and dilation included (docs/simulator.md states what moves when). Only lanes of one
dimension in several gaps can touch other sets under a window; these are listed.

Tables are (2, thresholds, entries, products): sizes, and how many stays and instances have them. Entries may have size
or count 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import gcd

import numpy as np

from dfc.backend_cost.bursts import LoopAxis, Window, listed_sizes
from dfc.backend_cost.grid import Floats, Ints
from dfc.backend_cost.spatial import UnrolledDim

#: loop products of a dimension, ascending
Below = tuple[int, ...]
#: of a window: (stride, dilation, padding before, input extent)
Shape = tuple[int, int, int, int]


def products_of(dim: UnrolledDim, below: Below) -> Floats:
    """(2, products) a dimension's loop products, and how many of its steps remain outside."""
    found = np.empty((2, len(below)))
    found[0] = below
    np.divide(dim.steps, found[0], out=found[1])
    return found


@lru_cache(maxsize=8192)
def plain_sizes(dim: UnrolledDim, below: Below) -> Floats:
    """A dimension that addresses the operand by itself: full stays, then one with idle lanes or steps, then none."""
    products, thresholds = products_of(dim, below), range(len(dim.inside))
    if not dim.remainder:
        return np.array((dim.inside, dim.outside), dtype=float)[:, :, None, None] * products[:, None, None]
    full_stays, full_steps = np.divmod(dim.full_steps, products[0])
    after = [dim.next_step(t) for t in thresholds]
    whole = [0] * len(thresholds)
    if not dim.idles:  # the last step: who is full in it is full in all stays
        whole = [dict(used).get(inside, 0) for used, inside in zip(after, dim.inside, strict=True)]
        after = [tuple(u for u in used if u[0] < inside) for used, inside in zip(after, dim.inside, strict=True)]
    most = max(map(len, after))
    found = np.empty((2, len(thresholds), 1 + most, products.shape[1]))
    each = np.array((dim.inside, dim.outside, whole), dtype=float)[:, :, None]
    found[0, :, 0] = each[0] * products[0]
    found[1, :, 0] = each[1] * full_stays + each[2]
    used = np.array([[*a, *[(0, 0)] * (most - len(a))] for a in after], dtype=float).transpose(2, 0, 1)[..., None]
    found[0, :, 1:] = each[0, :, None] * full_steps + used[0]
    found[1, :, 1:] = used[1]
    return found


@dataclass(frozen=True)
class Ranges:
    """The stays of all instances along a dimension, for every loop product: (stays,) arrays.

    product: which of the dimension's loop products; first: the first index; length: how many indices, which may be 0.
    Indices lie ``stride`` apart.
    """

    product: Ints
    first: Ints
    length: Ints
    stride: int


def strides(dim: UnrolledDim, thresholds: range) -> list[int | None]:
    """Per threshold the distance of neighbouring indices in one instance; None where they are not evenly spaced."""
    if len(dim.lanes) < 2:
        return [dim.outside[t] for t in thresholds]
    return [dim.outside[t] if _evenly_spaced(dim.split(t)) else None for t in thresholds]


def _evenly_spaced(lanes: tuple[tuple[int, bool], ...]) -> bool:
    """Whether lanes that tell instances apart are less significant than all that lie inside of one."""
    inside = [is_inside for _, is_inside in lanes]
    return inside == sorted(inside)


def ranges(dim: UnrolledDim, threshold: int, products: Floats, stride: int) -> Ranges:
    """The stays of all instances; ``products`` (2, count): indices of a stay in steps, and how many stays there are."""
    below, left = products.astype(np.int64)
    inside = dim.inside[threshold]
    product = np.repeat(np.arange(len(below)), left)
    step = np.arange(len(product)) - np.repeat(np.cumsum(left) - left, left)
    start: Ints = step * (below * inside)[product]
    instance = np.arange(stride)[:, None]
    known = -((instance - dim.size) // stride)  # how many indices this instance has in all its stays
    length = np.minimum(known - start, (below * inside)[product])
    first = instance + stride * start
    return Ranges(np.tile(product, stride), first.reshape(-1), np.maximum(length, 0).reshape(-1), stride)


def window_of(dims: tuple[UnrolledDim, UnrolledDim], shape: Shape) -> tuple[Window, bool]:
    """The window of an output and a kernel dimension, and whether borders of the map clip it."""
    window = Window(*shape)
    span = window.stride * (dims[0].size - 1) + window.dilation * (dims[1].size - 1) + 1
    if window.extent > 0 and not 0 <= -window.pad <= window.extent - span:
        return window, True
    return replace(window, pad=0, extent=span), False


@lru_cache(maxsize=8192)
def window_sizes(dims: tuple[UnrolledDim, UnrolledDim], below: tuple[Below, Below], shape: Shape) -> Floats:
    """The output and kernel loop of a sliding window: distinct positions that exist.

    The kernel's products run fastest in the table.
    """
    window, is_clipped = window_of(dims, shape)
    outputs, kernels = dims
    thresholds = range(len(outputs.inside))
    spaced = list(zip(strides(outputs, thresholds), strides(kernels, thresholds), strict=True))
    even = [(o, f) for o, f in spaced if o is not None and f is not None]
    if not is_clipped and len(even) == len(thresholds):
        apart = np.array([periods(window, o, f) for o, f in even], dtype=float)
        return _whole(plain_sizes(outputs, below[0]), plain_sizes(kernels, below[1]), apart)
    products = products_of(outputs, below[0]), products_of(kernels, below[1])
    found: dict[object, tuple[Floats, Floats]] = {}
    keys = [(outputs.split(t), kernels.split(t)) for t in thresholds]
    for t, key, (o, f) in zip(thresholds, keys, spaced, strict=True):
        if key in found:
            continue
        if o is None or f is None:
            found[key] = _listed(dims, below, window, t)
        else:
            stays = ranges(outputs, t, products[0], o), ranges(kernels, t, products[1], f)
            counts = products[0].shape[1], products[1].shape[1]
            sizes = clipped(*stays, window)
            found[key] = _histogram(stays[0].product, stays[1].product, sizes, counts)
    return _stacked([found[key] for key in keys])


def periods(window: Window, output_stride: int, kernel_stride: int) -> tuple[int, int]:
    """By how much the output and the kernel index may move against each other to reach the same position again."""
    o, f = window.stride * output_stride, window.dilation * kernel_stride
    common = gcd(o, f)
    return f // common, o // common


def _whole(outputs: Floats, kernels: Floats, periods: Floats) -> Floats:
    """Nothing is cut off: all pairs, less those that a pair with a smaller kernel index reaches as well."""
    o, f = outputs[:, :, :, None, :, None], kernels[:, :, None, :, None, :]
    found: Floats = o * f
    o_period, f_period = periods.T.reshape(2, -1, 1, 1, 1, 1)
    found[0] -= np.maximum(o[0] - o_period, 0) * np.maximum(f[0] - f_period, 0)
    return found.reshape(2, len(periods), outputs.shape[2] * kernels.shape[2], -1)


def clipped(o: Ranges, f: Ranges, window: Window) -> Ints:
    """(output stays, kernel stays) positions in [0, extent), each counted at the smallest kernel index reaching it."""
    o_period, f_period = periods(window, o.stride, f.stride)
    apart = window.stride * o.stride
    kernel: Ints = np.arange(f.length.max(initial=1), dtype=np.int64)
    at = window.dilation * (f.first[:, None] + f.stride * kernel) - window.pad
    place = window.stride * o.first[:, None, None] + at
    # output indices within the range that this kernel index is the first to reach, and whose position exists
    known = np.maximum(o.length - o_period, 0)[:, None, None] * (kernel >= f_period)
    start = np.maximum(known, -(place // apart))
    end = np.minimum(o.length[:, None, None], -((place - window.extent) // apart))
    found: Ints = (np.maximum(end - start, 0) * (kernel < f.length[:, None])).sum(axis=2)
    return found


def _histogram(o: Ints, f: Ints, sizes: Ints, counts: tuple[int, int]) -> tuple[Floats, Floats]:
    """(entries, products) different sizes of each pair of products, and how often each occurs."""
    pairs = counts[0] * counts[1]
    most = int(sizes.max()) + 1
    keys, times = np.unique(((o * counts[1])[:, None] + f) * most + sizes, return_counts=True)
    pair, size = np.divmod(keys, most)
    entry = np.arange(len(pair)) - np.searchsorted(pair, np.arange(pairs))[pair]
    found = np.zeros((2, int(entry.max()) + 1, pairs))
    found[0, entry, pair] = size
    found[1, entry, pair] = times
    return found[0], found[1]


def _listed(
    dims: tuple[UnrolledDim, UnrolledDim], below: tuple[Below, Below], window: Window, threshold: int
) -> tuple[Floats, Floats]:
    """The same by listing all positions of every pair of products."""
    axes = [
        [LoopAxis(d.size, d.steps, b, tuple((n, 2 if gap < threshold else 0) for n, gap in d.lanes)) for b in each]
        for d, each in zip(dims, below, strict=True)
    ]
    listed = [listed_sizes(o, f, window) for o in axes[0] for f in axes[1]]
    found = np.zeros((2, max(len(sizes) for sizes, _ in listed), len(listed)))
    for i, (sizes, counts) in enumerate(listed):
        found[0, : len(sizes), i] = sizes
        found[1, : len(sizes), i] = counts
    return found[0], found[1]


def _stacked(rows: list[tuple[Floats, Floats]]) -> Floats:
    found = np.zeros((2, len(rows), max(len(sizes) for sizes, _ in rows), rows[0][0].shape[1]))
    for t, (sizes, counts) in enumerate(rows):
        found[0, t, : len(sizes)] = sizes
        found[1, t, : len(sizes)] = counts
    return found
