"""What the user fixes of mappings (docs/mapping-rules.md), and which cuts and orders keep to it.

A page of rules is a list of blocks, each for some layers; :meth:`MappingRules.layer` adds up those that are for one
layer. A rule restricts where cuts may lie on the lattice (:meth:`LayerRules.allowed`), the order of the loops between
cuts (:meth:`LayerRules.ordered`) or the spatial unrolling (:attr:`LayerRules.lanes`). What rules say is compared and
hashed; where they stand on the page is not, so that equal rules of several layers are searched once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

import numpy as np

from dfc.backend_cost.lattice import Lattice, prime_factors
from dfc.backend_cost.mapping_space import MappingSpace
from dfc.backend_cost.nest import Nest
from dfc.backend_cost.tables import Bools, Floats, Ints
from dfc.errors import Span
from dfc.hwdsl.arch import Arch, Unroll
from dfc.ir import N_DIMS, Dim, Role


@dataclass(frozen=True, slots=True)
class SpatialRule:
    """``spatial D1: K 32, D2: C 2``; no lanes at all for ``spatial none``."""

    lanes: tuple[Unroll, ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class LoopPart:
    """A loop in an order: so many of its innermost steps, or (None) all that its earlier parts leave."""

    dim: Dim
    size: int | None = None

    def __str__(self) -> str:
        return self.dim.name if self.size is None else f"{self.dim.name} {self.size}"


@dataclass(frozen=True, slots=True)
class OrderRule:
    """``order C < FX, FY < K``: all loops of a group run inside all loops of the groups after it."""

    groups: tuple[tuple[LoopPart, ...], ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a loop goes while a memory keeps what it holds: ``sign`` is "=", "<=" or ">="; None is all of it."""

    dim: Dim
    sign: str
    size: int | None

    def __str__(self) -> str:
        sign = "" if self.sign == "=" else f"{self.sign} "
        return f"{self.dim.name} {sign}{'all' if self.size is None else self.size}"


@dataclass(frozen=True, slots=True)
class HoldRule:
    """``hold W in lb_w: K 8, C all``.

    number:  which of a role's operands, from 1; 0 is every one.
    extents: empty for ``everything``: the whole operand.
    """

    role: Role
    number: int
    memory: str
    extents: tuple[Extent, ...]
    span: Span = field(compare=False, repr=False)


Rule = SpatialRule | OrderRule | HoldRule


@dataclass(frozen=True)
class LayerRules:
    """All rules for one layer."""

    spatial: tuple[SpatialRule, ...] = ()
    orders: tuple[OrderRule, ...] = ()
    holds: tuple[HoldRule, ...] = ()

    @property
    def lanes(self) -> tuple[Unroll, ...] | None:
        """The spatial unrolling in place of the chip's; None where no rule says anything."""
        return tuple(u for rule in self.spatial for u in rule.lanes) if self.spatial else None

    @property
    def temporal(self) -> LayerRules | None:
        """What matters once the lanes are laid out; None for nothing."""
        return LayerRules((), self.orders, self.holds) if self.orders or self.holds else None

    def allowed(self, space: MappingSpace) -> Bools:
        """Where each cut may lie, (cuts, points); nowhere where a rule cannot be kept.

        Rules about a memory where the operand is at home, or that is beyond it, leave everything as it is.
        """
        points = space.lattice.points
        mask = np.ones((len(space.cuts), len(points)), dtype=bool)
        mask &= self._passed(space.lattice)
        reach = extents_at(space.nest, points)
        for hold in self.holds:
            for k in held_cuts(hold, space):
                mask[k] &= self._holds(hold, space, k, reach)
        return mask

    def orderable(self, points: Lattice) -> bool:
        """Whether some order of the loops keeps to all that is said of their order."""
        before = self._before(points)
        if before is None:
            return False
        left = np.arange(len(before))
        while len(left):
            free = ~before[np.ix_(left, left)].any(axis=0)
            if not free.any():
                return False
            left = left[~free]
        return True

    def ordered(self, points: Lattice, orders: Ints) -> Ints:
        """The nearest orders (rows, loops) that keep to the rules; cuts at :meth:`allowed` points stay where they are.

        Of the loops that may come next it takes the one that came first.
        """
        before = self._before(points)
        if not self.orders or before is None or orders.size == 0:
            return orders
        axis_of = np.repeat(np.arange(len(points.loops)), points.shape[: len(points.loops)] - 1)
        position = np.argsort(orders, axis=1, kind="stable")  # of each loop, those of an axis innermost first
        waits = before.astype(np.int64)
        done = np.zeros(orders.shape, dtype=bool)
        result = np.empty_like(orders)
        rows = np.arange(len(orders))
        for step in range(orders.shape[1]):
            blocked = done | ((~done).astype(np.int64) @ waits > 0)
            pick = np.where(blocked, orders.shape[1], position).argmin(axis=1)
            result[:, step] = axis_of[pick]
            done[rows, pick] = True
        return result

    def _passed(self, points: Lattice) -> Bools:
        """Points that an order passes which keeps to the rules: what lies below them needs nothing above them."""
        good = np.ones(len(points.points), dtype=bool)
        before = self._before(points)
        if before is None or not self.orderable(points):
            return ~good
        below = [points.exponents[:, a] > n for a in range(len(points.loops)) for n in range(int(points.shape[a]) - 1)]
        for first, then in np.argwhere(before).tolist():
            good &= below[first] | ~below[then]
        return good

    def _before(self, points: Lattice) -> Bools | None:
        """[x, y]: prime factor x has to lie inside of y; None where a part of a loop is no product of its factors.

        Prime factors in the order of the axes; equal ones of a loop count from the innermost.
        """
        start = [0, *np.cumsum(points.shape[: len(points.loops)] - 1).tolist()]
        before = np.zeros((start[-1], start[-1]), dtype=bool)
        for a in range(len(points.loops)):
            inner = np.arange(start[a], start[a + 1])
            before[inner[:-1], inner[1:]] = True
        for rule in self.orders:
            groups = _factors(rule, points, start)
            if groups is None:
                return None
            for i, group in enumerate(groups):
                for part in group:
                    before[np.ix_(part.factors, part.outside)] = True
                    for other in (o for later in groups[i + 1 :] for o in later):
                        before[np.ix_(part.factors, other.factors)] = True
        return before

    def _holds(self, hold: HoldRule, space: MappingSpace, cut: int, reach: Floats) -> Bools:
        operand = space.nest.operands[space.cuts[cut][0]]
        good = np.ones(len(reach), dtype=bool)
        for extent in hold.extents or tuple(Extent(d, "=", None) for d in operand.dims):
            if operand.irrelevant(extent.dim):  # it stays for as long as such loops run next, whatever the cut
                if extent.sign == "<=":
                    continue
                extent = replace(extent, sign=">=")
            good &= keeps_to(extent, reach[:, extent.dim], space.nest)
        return good


def keeps_to(extent: Extent, reach: Floats, nest: Nest) -> Bools:
    """Which of these extents of its loop are as they should be."""
    size = nest.sizes[extent.dim] if extent.size is None else extent.size
    if extent.sign == "<=":
        return reach <= size
    return reach >= size if extent.sign == ">=" else reach == size


def extents_at(nest: Nest, points: Floats) -> Floats:
    """Iterations of each loop below points (points, N_DIMS), all of its lanes included; no more than there are."""
    lanes = np.ones(N_DIMS)
    for u in nest.unrolled:
        lanes[u.loop] *= u.lanes
    reach: Floats = np.minimum(points * lanes, np.array(nest.sizes, dtype=float))
    return reach


def held_cuts(hold: HoldRule, space: MappingSpace) -> list[int]:
    """The cuts that a rule about a memory restricts."""
    return [space.cuts.index(place) for place in held_levels(hold, space.nest, space.arch)]


def held_levels(hold: HoldRule, nest: Nest, arch: Arch) -> list[tuple[int, int]]:
    """(operand, level) of what a rule about a memory restricts: below the operands' homes."""
    mine = [i for i, o in enumerate(nest.operands) if o.role is hold.role]
    mine = mine[hold.number - 1 : hold.number] if hold.number else mine
    inner = [(i, m, memory) for i in mine for m, memory in enumerate(nest.operands[i].memories[:-1])]
    return [(i, m) for i, m, memory in inner if arch.memories[memory].name == hold.memory]


@dataclass(frozen=True, slots=True)
class _Part:
    """Numbers of the prime factors of a part of a loop, and of those that are left of the loop outside of it."""

    factors: list[int]
    outside: list[int]


def _factors(rule: OrderRule, points: Lattice, start: list[int]) -> list[list[_Part]] | None:
    """The parts of each group of an order; None where a size is no product of factors that are left."""
    used = [0] * len(points.loops)
    groups: list[list[_Part]] = []
    for group in rule.groups:
        parts: list[_Part] = []
        for part in group:
            found: list[int] = []
            axes = {loop.size: a for a, loop in enumerate(points.loops) if loop.dim is part.dim}
            if part.size is None:
                wanted = [(a, int(points.shape[a]) - 1 - used[a]) for a in axes.values()]
            else:
                primes = prime_factors(part.size)
                if any(p not in axes for p in primes):
                    return None
                wanted = [(axes[p], primes.count(p)) for p in dict.fromkeys(primes)]
            for a, count in wanted:
                if used[a] + count > points.shape[a] - 1:
                    return None
                found += range(start[a] + used[a], start[a] + used[a] + count)
                used[a] += count
            outside = [n for a in axes.values() for n in range(start[a] + used[a], start[a + 1])]
            parts.append(_Part(found, outside))
        groups.append(parts)
    return groups


@dataclass(frozen=True, slots=True)
class Pattern:
    """A layer's name, or a pattern of names in which ``*`` stands for any text: ``conv*``."""

    text: str
    span: Span

    def matches(self, name: str) -> bool:
        """Whether a layer is meant."""
        return fnmatchcase(name, re.sub(r"[?[]", r"[\g<0>]", self.text))  # only * is special


@dataclass(frozen=True, slots=True)
class Block:
    """``layer PATTERN, ... tile WIDTHxHEIGHT { ... }``; without ``tile`` it is for tiles of every size."""

    patterns: tuple[Pattern, ...]
    tile: tuple[int, int] | None
    rules: LayerRules


@dataclass(frozen=True)
class MappingRules:
    """A page of rules; the empty one restricts nothing."""

    blocks: tuple[Block, ...] = ()
    file: str = ""

    def layer(self, name: str, tile: tuple[int, int]) -> LayerRules | None:
        """What all blocks together say of a layer in tiles of (width, height) positions; None for nothing."""
        mine = [b.rules for b in self.blocks if b.tile in (None, tile) and any(p.matches(name) for p in b.patterns)]
        if not mine:
            return None
        return LayerRules(
            tuple(r for rules in mine for r in rules.spatial),
            tuple(r for rules in mine for r in rules.orders),
            tuple(r for rules in mine for r in rules.holds),
        )
