"""The spatial unrolling as an operand's memories see it: lanes below each boundary, and instances in use (B.e.3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from math import ceil, floor, prod

import numpy as np

from dfc.backend_cost.nest import Nest, NestOperand, Unrolled, window_extent
from dfc.ir import KERNEL_DIM, N_DIMS, OUTPUT_DIM, Dim

Gaps = list[list[Unrolled]]  # per gap between memories, from the array outwards


@dataclass(frozen=True)
class Lanes:
    """Spatial facts of an operand, in average or in whole lanes.

    below[a]:         products of the unrolled loops under boundary a, per dimension.
    reduces_above[a]: an unrolled loop of several lanes that is irrelevant to the operand lies above boundary a.
    relevant[g]:      how many times as much of the operand the lanes of gap g touch.
    everything[g]:    all lanes of gap g.
    """

    below: list[list[float]]
    reduces_above: list[bool]
    relevant: list[float]
    everything: list[float]

    @cached_property
    def unique(self) -> list[float]:
        """[a]: distinct parts held by all instances at level a."""
        return [prod(self.relevant[a:]) for a in range(len(self.relevant))]

    @cached_property
    def totals(self) -> list[float]:
        """[a]: instances in use at level a."""
        return [prod(self.everything[a:]) for a in range(len(self.everything))]

    @cached_property
    def boost(self) -> list[int]:
        """[a]: different parts fed by one access of level a (a fraction is cut off, C5)."""
        return [*(int(here / above) for here, above in pairwise(self.unique)), 1]


def operand_lanes(nest: Nest, operand: NestOperand, gaps: Gaps, *, whole: bool) -> Lanes:
    """The lanes of one operand: ``whole`` ones, or the share that is in use on average."""
    relevant = [1.0] * len(gaps)
    everything = [1.0] * len(gaps)
    running = [1.0] * N_DIMS
    below = [running]
    data_before = 1.0
    for g, gap in enumerate(gaps):
        if gap:
            running = _times(running, gap, whole)
            data = elements(nest, operand, running)
            relevant[g] = data / data_before
            data_before = data
            everything[g] = prod(float(u.lanes) if whole else u.share for u in gap)
        below.append(running)
    reducing = [any(u.lanes > 1 and operand.irrelevant(u.loop) for u in gap) for gap in gaps]
    return Lanes(below, [any(reducing[a + 1 :]) for a in range(len(gaps))], relevant, everything)


def _times(running: list[float], gap: list[Unrolled], whole: bool) -> list[float]:
    here = [1.0] * N_DIMS
    for u in gap:
        here[u.loop] *= u.lanes if whole else u.share
    return [old * more for old, more in zip(running, here, strict=True)]


def elements(nest: Nest, operand: NestOperand, extents: list[float]) -> float:
    """Elements that loops of these extents touch, windows truncated to whole positions as in the reference (C5)."""
    if not operand.windows:
        return prod([extents[d] for d in operand.dims])
    paired = [d for a in operand.windows for d in (OUTPUT_DIM[a], KERNEL_DIM[a])]
    count = prod([extents[d] for d in operand.dims if d not in paired])
    for a in operand.windows:
        count *= window_extent(extents[OUTPUT_DIM[a]], extents[KERNEL_DIM[a]], nest.strides[a], nest.dilations[a])
    return count


def unit_counts(lanes: list[Lanes]) -> list[list[int]]:
    """Instances in use as whole numbers: rounded, unless that makes operands disagree about the array (then up)."""
    for how in (round, ceil, floor):
        counts = [[int(how(t)) for t in lane.totals] for lane in lanes]
        if len({c[0] for c in counts}) <= 1:
            return counts
    return [[max(1, round(t)) for t in lane.totals] for lane in lanes]


@dataclass(frozen=True, slots=True)
class UnrolledDim:
    """A dimension with its lanes as (number, gap), the least significant first.

    Index = step * lanes + lane; indices from ``size`` on do not exist: in the first steps all lanes work, in the next
    perhaps some, and in what remains none. A *threshold* t splits the lanes of an operand: those in gaps below t lie
    inside of one instance, the others tell instances apart.

    inside, outside: per threshold, the lanes inside of one instance and the number of instances.
    remainder:       lanes that idle, over all steps.
    """

    size: int
    steps: int
    lanes: tuple[tuple[int, int], ...]
    inside: tuple[int, ...]
    outside: tuple[int, ...]
    remainder: int

    def split(self, threshold: int) -> tuple[tuple[int, bool], ...]:
        """The lanes as (number, inside), the least significant first; single lanes left out."""
        return tuple((n, gap < threshold) for n, gap in self.lanes if n > 1)

    @property
    def full_steps(self) -> int:
        """Steps in which all lanes work; they come first."""
        return self.size // self.lane_count

    @property
    def lane_count(self) -> int:
        """All lanes."""
        return prod([n for n, _ in self.lanes])

    @property
    def idles(self) -> bool:
        """Whether there are steps in which no lane works: these come last."""
        return self.remainder >= self.lane_count

    def next_step(self, threshold: int, only_first: int = -1) -> tuple[tuple[int, int], ...]:
        """Instances in the step after the full ones, as (lanes in use, instances).

        With ``only_first`` only the instances at the first of the lanes of that gap count.
        """
        lanes = tuple((n, 2 if gap < threshold else 1 if gap == only_first else 0) for n, gap in self.lanes)
        return _next_step(lanes, self.size % self.lane_count)


@lru_cache(maxsize=4096)
def _next_step(lanes: tuple[tuple[int, int], ...], valid: int) -> tuple[tuple[int, int], ...]:
    """``lanes`` are (number, 2 inside, 1 must be the first, 0 any); the first ``valid`` lanes are in use."""
    outwards = lanes[::-1]
    used = (np.arange(prod(n for n, _ in lanes)) < valid).reshape([n for n, _ in outwards])
    kept = used[tuple(slice(0, 1) if how == 1 else slice(None) for _, how in outwards)]
    counts = kept.sum(axis=tuple(i for i, (_, how) in enumerate(outwards) if how == 2)).reshape(-1)
    histogram: list[int] = np.bincount(counts).tolist()
    return tuple((v, c) for v, c in enumerate(histogram) if c)


def unrolled_dim(nest: Nest, gaps: Gaps, dim: Dim) -> UnrolledDim:
    """A dimension of a nest on the gaps of an operand, for the thresholds 0 to the number of its memories."""
    lanes = tuple([(u.lanes, g) for u in nest.unrolled if u.loop is dim for g, gap in enumerate(gaps) if u in gap])
    return _unrolled_dim(nest.sizes[dim], nest.temporal[dim], lanes, len(gaps))


@lru_cache(maxsize=4096)
def _unrolled_dim(size: int, steps: int, lanes: tuple[tuple[int, int], ...], gaps: int) -> UnrolledDim:
    total = prod(n for n, _ in lanes)
    inside = tuple(prod(n for n, gap in lanes if gap < t) for t in range(gaps))
    return UnrolledDim(size, steps, lanes, inside, tuple(total // i for i in inside), total * steps - size)
