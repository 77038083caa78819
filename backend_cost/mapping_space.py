"""The space of a nest's mappings: which cuts there are, where they may lie, and how chains become mappings.

A mapping is a chain of points of the lattice, one for each operand and memory below its uppermost, and an order of the
loops between them. What may lie below a memory is limited by its size; operands that share it share the room. Sums take
more room while they are partial, which the cut before decides: the space falls into regions, by the first of the
output's cuts that has all reductions below it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property, lru_cache
from itertools import chain as chain_from
from itertools import combinations, pairwise, product
from math import factorial, prod

import numpy as np

from dfc.backend_cost.chains import ChainProblem
from dfc.backend_cost.cost_model import CostModel
from dfc.backend_cost.evaluate import Batch, link_pj
from dfc.backend_cost.lattice import Lattice, lattice
from dfc.backend_cost.mapping_cost import TooSmall
from dfc.backend_cost.nest import Mapping, Nest
from dfc.backend_cost.tables import Bools, CutTable, Floats, Ints, Tables, build_tables
from dfc.backend_cost.timing_tables import TimeTables, shared_times
from dfc.hwdsl.arch import Arch
from dfc.ir import Dim


@dataclass(frozen=True, eq=False)
class Region:
    """A part of the space in which the room that everything takes is known.

    bits:    what each cut's memory holds for its operand, (cuts, points).
    room:    bits that cuts may use of each memory; what operands hold whole there is taken off.
    allowed: where each cut may lie as far as it alone is concerned, (cuts, points).
    """

    bits: Ints
    room: dict[int, int]
    allowed: Bools

    def restricted(self, allowed: Bools) -> Region:
        """The same with fewer points."""
        return replace(self, allowed=allowed)


@dataclass(frozen=True, eq=False)
class Coupling:
    """Energy that cut ``inner`` saves when cut ``outer`` has sums start from zero: a product of both.

    saving_pj: per point of the inner cut (the same everywhere for the innermost boundary).
    factor:    per point of the outer cut.
    """

    inner: int  # -1: the boundary at the array
    outer: int
    saving_pj: Floats
    factor: Floats


class Order(Enum):
    """How the loops between two cuts are ordered.

    STAY:           first those that leave the operand of the cut below where it is: its stays become longer.
    MOVE:           first those that move all operands on that are cut below: every cut stays where it is.
    MOVE_IDLE_LAST: so, but loops that leave the operand of the cut above where it is come late.
    IDLE_LAST:      these last, whatever the cut below.
    """

    STAY = 0
    MOVE = 1
    MOVE_IDLE_LAST = 2
    IDLE_LAST = 3


@dataclass(frozen=True, eq=False)
class _Ranked:
    """Cuts of chains from the innermost outwards.

    at: exponents (rows, cuts, axes). idle: axes that leave the cut's operand where it is. stuck: the same for any
    operand that is cut at the same point.
    """

    at: Ints
    idle: Bools
    stuck: Bools


@lru_cache(maxsize=4096)
def _arrangements(steps: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """All orders of ``steps[a]`` loops along each axis a."""
    if not any(steps):
        return ((),)
    return tuple(
        (a, *rest) for a, n in enumerate(steps) if n for rest in _arrangements((*steps[:a], n - 1, *steps[a + 1 :]))
    )


@dataclass(frozen=True, eq=False)
class MappingSpace:
    """All mappings of a nest on a chip under a model."""

    nest: Nest
    arch: Arch
    model: CostModel
    lattice: Lattice
    tables: Tables
    cuts: tuple[tuple[int, int], ...]  # (operand, level of the memory below)

    @cached_property
    def chains(self) -> ChainProblem:
        """The lattice and the number of cuts per operand."""
        operands = self.nest.operands
        return chain_problem(self.lattice, tuple([(o.dims, len(o.memories) - 1) for o in operands]))

    @cached_property
    def times(self) -> TimeTables:
        """Durations of steps and transfers at all points."""
        return shared_times(self.tables)

    @cached_property
    def by_cut(self) -> CutTable:
        """What every cut costs and holds."""
        return self.tables.by_cut()

    @property
    def energy_pj(self) -> Floats:
        """Energy that each cut costs at each point, (cuts, points), couplings left out."""
        return self.by_cut.energy_pj

    @property
    def paths(self) -> tuple[tuple[int, ...], ...]:
        """The memories of each operand."""
        return tuple([o.memories for o in self.nest.operands])

    @cached_property
    def sharing(self) -> dict[int, list[int]]:
        """Cuts by the memory that they fill."""
        found: dict[int, list[int]] = {}
        for k, (i, m) in enumerate(self.cuts):
            found.setdefault(self.nest.operands[i].memories[m], []).append(k)
        return found

    @cached_property
    def couplings(self) -> list[Coupling]:
        """Pairs of cuts of the output whose energies do not simply add up."""
        found: list[Coupling] = []
        if not any(t.operand.is_output and t.fresh_starts for t in self.tables.operands):
            return found
        place = {cut: k for k, cut in enumerate(self.cuts)}
        ones = np.ones(len(self.lattice.points))
        for i, table in enumerate(self.tables.operands):
            for link in table.links if table.operand.is_output else ():
                for outer, words, factor in link.coupled:
                    inner = place[i, link.boundary - 1] if link.boundary else -1
                    saving = words * link_pj(self.tables, link) * ones
                    found.append(Coupling(inner, place[i, outer - 1], saving, factor * ones))
        return found

    @cached_property
    def irrelevant(self) -> Bools:
        """Whether a loop along each axis of the lattice leaves each cut's operand where it is, (cuts, axes)."""
        rows = [[self.nest.operands[i].irrelevant(loop.dim) for loop in self.lattice.loops] for i, _ in self.cuts]
        return np.array(rows, dtype=bool).reshape(len(self.cuts), len(self.lattice.loops))

    def regions(self, allowed: Bools | None = None) -> list[Region] | TooSmall:
        """The parts of the space in which something fits, or the memory that is too small for anything.

        ``allowed`` (cuts, points) limits where cuts may lie beforehand.
        """
        found: list[Region] = []
        shortest: tuple[int, TooSmall] | None = None
        for region in self._regions():
            if allowed is not None:
                region = region.restricted(region.allowed & allowed)
            fitted, short = self._fitted(region)
            if short is None:
                found.append(fitted)
            elif shortest is None or short[0] < shortest[0]:
                shortest = short
        return found if found or shortest is None else shortest[1]

    def _regions(self) -> list[Region]:
        output = self.nest.operands[0]
        reductions = [d for d in Dim if output.irrelevant(d)]
        complete = self.lattice.complete(reductions)
        inner = [k for k, (i, _) in enumerate(self.cuts) if i == 0]
        at_array = bool(complete[0])  # nothing to reduce in time
        regions: list[Region] = []
        for first in [0] if at_array else range(len(inner) + 1):
            bits, room = self.filled(first)
            allowed = np.ones(bits.shape, dtype=bool)
            if not at_array:
                for k in inner:
                    allowed[k] = ~complete if k < inner[0] + first else complete
            regions.append(Region(bits, room, allowed))
        return regions

    def filled(self, first: int) -> tuple[Ints, dict[int, int]]:
        """Of the region in which the output's ``first`` cut is the first with all reductions below it.

        The bits that its cuts' memories hold, (cuts, points), and the room that they have.
        """
        bits = self.by_cut.bits
        room = {m: self.arch.memories[m].size_bits for path in self.paths for m in path}
        in_time = bool(self.chains.idle[0])
        k = 0
        for i, (table, path) in enumerate(zip(self.tables.operands, self.paths, strict=True)):
            for m in range(len(path) - 1):
                if i == 0 and ((in_time and m <= first) or self.lanes_add(m)):
                    bits = bits.copy() if bits is self.by_cut.bits else bits
                    bits[k] = self.by_cut.partial_bits[k]
                k += 1
            last = len(path) - 1
            partial = i == 0 and ((in_time and last <= first) or self.lanes_add(last))
            room[path[last]] -= table.whole_bits[partial]
        return bits, room

    def lanes_add(self, level: int) -> bool:
        """Whether the output's memory takes sums that lanes above still have to add; the reference forgets those."""
        return self.model.whole_lanes and self.tables.operands[0].traffic.lanes.reduces_above[level]

    def _fitted(self, region: Region) -> tuple[Region, tuple[int, TooSmall] | None]:
        """The region without points that leave no room for the others' least; by how many bits what is too small."""
        allowed = region.allowed.copy()
        huge = np.iinfo(np.int64).max // 16
        least = np.where(allowed, region.bits, huge).min(axis=1, initial=huge)
        short: tuple[int, TooSmall] | None = None
        for memory, room in region.room.items():
            members = self.sharing.get(memory, [])
            over = sum(int(least[k]) for k in members) - room
            if over > 0:
                size = self.arch.memories[memory].size_bits
                if short is None or over > short[0]:
                    short = (over, TooSmall(memory, min(size + over, huge)))
            for k in members:
                allowed[k] &= region.bits[k] <= least[k] - over
        return region.restricted(allowed), short

    def fits(self, region: Region, chains: Ints) -> Bools:
        """Whether all that the chains (rows, cuts) put below shared memories finds room."""
        good = np.ones(len(chains), dtype=bool)
        for memory, members in self.sharing.items():
            if len(members) > 1:
                used = sum(region.bits[k][chains[:, k]] for k in members)
                good &= used <= region.room[memory]
        return good

    def relaxed(self, cost: Floats, region: Region) -> Floats:
        """``cost`` (cuts, points) less all that couplings could save: no chain of the region costs less.

        Infinite where a cut may not lie.
        """
        for c in self.couplings:
            most = float(c.factor[region.allowed[c.outer]].max(initial=0.0))
            cost = cost.copy()
            cost[max(c.inner, 0)] -= c.saving_pj * most  # what the array saves is the same wherever the first cut lies
        return np.where(region.allowed, cost, np.inf)

    def chain_energy_pj(self, chains: Ints) -> Floats:
        """Total energy of chains (rows, cuts)."""
        total = np.full(len(chains), self.tables.fixed_pj)
        for k in range(len(self.cuts)):
            total = total + self.energy_pj[k][chains[:, k]]
        for c in self.couplings:
            at = chains[:, c.inner] if c.inner >= 0 else np.zeros(len(chains), dtype=np.int64)
            total = total - c.saving_pj[at] * c.factor[chains[:, c.outer]]
        return total

    def ranked(self, chains: Ints) -> _Ranked:
        """The chains' cuts from the innermost outwards."""
        degree = self.lattice.degree[chains]
        order = np.argsort(degree, axis=1, kind="stable")
        degree = np.take_along_axis(degree, order, axis=1)
        at = self.lattice.exponents[np.take_along_axis(chains, order, axis=1)]
        idle = self.irrelevant[order]
        same = degree[:, :, None] == degree[:, None, :]
        stuck = (same[:, :, :, None] & idle[:, None]).any(axis=2)
        return _Ranked(at, idle, stuck)

    def closed(self, chains: Ints) -> Bools:
        """Whether some order leaves every cut where it is: the next loop moves all operands on that are cut there.

        A cut right below a loop that leaves its operand where it is might as well lie beyond that loop.
        """
        ranked = self.ranked(chains)
        top = np.broadcast_to(self.lattice.exponents[-1], ranked.at[:, :1].shape)
        beyond = np.concatenate([ranked.at[:, 1:], top], axis=1) > ranked.at
        moves = np.logical_or(~beyond.any(axis=2), (beyond & ~ranked.stuck).any(axis=2))
        good: Bools = np.logical_and.reduce(moves, axis=1)
        return good

    def orders(self, chains: Ints, order: Order) -> Ints:
        """An order of the lattice's loops for each chain, innermost first: (rows, loops) of axes."""
        shape = self.lattice.shape
        axes = np.repeat(np.arange(len(self.lattice.loops)), shape[: len(self.lattice.loops)] - 1)
        if len(axes) == 0 or not self.cuts:
            return np.broadcast_to(axes, (len(chains), len(axes)))
        copy = np.concatenate([np.arange(n - 1, dtype=np.int64) for n in shape])
        rows = np.arange(len(chains))[:, None]
        ranked = self.ranked(chains)
        segment = (ranked.at[:, :, axes] <= copy).sum(axis=1)  # rows, loops: cuts that lie below the loop
        inner, outer = np.maximum(segment - 1, 0), np.minimum(segment, len(self.cuts) - 1)
        stuck = ranked.stuck[rows, inner, axes] & (segment > 0)
        idle = ranked.idle[rows, inner, axes] & (segment > 0)
        above = ranked.idle[rows, outer, axes] & (segment < len(self.cuts))
        score = {
            Order.STAY: 2 * ~idle + ~above,
            Order.MOVE: 2 * stuck + ~above,
            Order.MOVE_IDLE_LAST: 2 * stuck + above,
            Order.IDLE_LAST: 2 * above + stuck,
        }[order]
        return np.take(axes, np.argsort(segment * 4 + score, axis=1, kind="stable"))

    def neighbours(self, chain: Ints) -> Ints:
        """Chains that differ from one in a cut, or in two or all cuts at one point, moved together: (rows, cuts)."""
        exponents = self.lattice.exponents
        at = exponents[chain]
        above = np.logical_and.reduce(exponents[None] >= at[:, None], axis=2)  # cuts, points
        below = np.logical_and.reduce(exponents[None] <= at[:, None], axis=2)
        together = [tuple(np.flatnonzero(chain == p).tolist()) for p in sorted(set(chain.tolist()))]
        groups = {(k,) for k in range(len(chain))}.union(together, *(combinations(g, 2) for g in together))
        found = [chain[None]]
        for group in sorted(groups):
            ok = np.ones(len(exponents), dtype=bool)
            for j, (operand, level) in enumerate(self.cuts):
                if j in group:
                    continue
                same = [self.cuts[k][1] for k in group if self.cuts[k][0] == operand]
                over, under = any(m > level for m in same), any(m < level for m in same)
                ok &= above[j] | below[j]
                ok &= above[j] | (not over)
                ok &= below[j] | (not under)
            points = np.flatnonzero(ok)
            rows = np.repeat(chain[None], len(points), axis=0)
            rows[:, list(group)] = points[:, None]
            found.append(rows)
        return np.concatenate(found)

    def all_orders(self, chain: Ints, most: int) -> Ints | None:
        """All orders of the loops that pass a chain's cuts, (orders, loops), or None if they are more than ``most``."""
        degree = self.lattice.degree
        points = [0, *sorted(set(chain.tolist()), key=lambda p: int(degree[p])), self.lattice.top]
        parts: list[list[tuple[int, ...]]] = []
        total = 1
        for low, high in pairwise(points):
            steps = (self.lattice.exponents[high] - self.lattice.exponents[low]).tolist()
            total *= factorial(sum(steps)) // prod(factorial(n) for n in steps)
            if total > most:
                return None
            parts.append(list(_arrangements(tuple(steps))))
        rows = [tuple(chain_from.from_iterable(choice)) for choice in product(*parts)]
        return np.array(rows, dtype=np.int64).reshape(len(rows), -1)

    def batch(self, chains: Ints, orders: Ints) -> Batch:
        """Chains with orders of loops as a batch over the tables' points."""
        stride = np.array(self.lattice.strides, dtype=np.int64)
        point = np.zeros((len(chains), orders.shape[1] + 1), dtype=np.int64)
        point[:, 1:] = np.cumsum(stride[orders], axis=1)
        dims = np.array([loop.dim for loop in self.lattice.loops], dtype=np.int64)
        degree = self.lattice.degree
        cuts: list[Ints] = []
        for i, operand in enumerate(self.nest.operands):
            mine = [k for k, (o, _) in enumerate(self.cuts) if o == i]
            top = np.full((len(chains), 1), orders.shape[1], dtype=np.int64)
            cuts.append(np.concatenate([degree[chains[:, mine]], top], axis=1))
            assert cuts[-1].shape[1] == len(operand.memories)
        return Batch(dims[orders] if len(dims) else orders, point, tuple(cuts))

    def mapping(self, chain: Ints, axes: list[int]) -> Mapping:
        """A chain with an order of loops as a mapping."""
        below = iter(self.lattice.degree[chain].tolist())
        cuts = tuple([(*(next(below) for _ in path[1:]), len(axes)) for path in self.paths])
        return Mapping(tuple([self.lattice.loops[a] for a in axes]), cuts)


@lru_cache(maxsize=1024)
def chain_problem(points: Lattice, operands: tuple[tuple[tuple[Dim, ...], int], ...]) -> ChainProblem:
    """Chains of cuts of operands, each given by the dimensions that address it and how many cuts it has."""
    idle = [sum([1 << a for a, loop in enumerate(points.loops) if loop.dim not in dims]) for dims, _ in operands]
    counts = [count for _, count in operands]
    return ChainProblem(points.shape, np.array(counts, dtype=np.int64), np.array(idle, dtype=np.int64))


@lru_cache(maxsize=256)
def path_columns(paths: tuple[tuple[int, ...], ...]) -> tuple[Ints, tuple[int, ...]]:
    """(operand, slot, cut or -1) of each memory of each operand's path, and the memories by slot."""
    slots = {memory: i for i, memory in enumerate(dict.fromkeys(m for path in paths for m in path))}
    found: list[tuple[int, int, int]] = []
    cut = 0
    for i, path in enumerate(paths):
        for level, memory in enumerate(path):
            inner = level < len(path) - 1
            found.append((i, slots[memory], cut if inner else -1))
            cut += inner
    return np.array(found, dtype=np.int64), tuple(slots)


def mapping_space(nest: Nest, arch: Arch, model: CostModel) -> MappingSpace:
    """The space of a nest's mappings."""
    points = lattice(nest.temporal)
    tables = build_tables(nest, arch, points.points, model, points.grid)
    cuts = tuple((i, m) for i, o in enumerate(nest.operands) for m in range(len(o.memories) - 1))
    return MappingSpace(nest, arch, model, points, tables, cuts)
