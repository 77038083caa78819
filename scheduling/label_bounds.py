"""Ways to run ranges of layers as arrays, and bounds on the rest of a path from each node.

Without regard to memories the rest costs at least the shortest path to the end. With a price per bit of each memory
(Lagrangian relaxation) it costs at least the shortest path where every way pays for what it keeps, less the price of
all the room that is left. Any prices give a bound; those that give good ones at the start are found by subgradient
steps (Held and Karp, "The traveling-salesman problem and minimum spanning trees: part II", 1971).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import inf

import numpy as np

from dfc.backend_cost.grid import Bools, Floats, Ints

_BLOCK = 256
#: pairs of rows that are compared in one step, which has less to set up
_FEW = 400
#: subgradient steps; after so many without a better bound steps are halved
_STEPS = 80
_PATIENCE = 6
#: multiples of the best prices, which suit labels that have taken more or less room than most
_MULTIPLES = (0.0, 0.5, 0.8, 1.0, 1.25, 2.0, 4.0)


@dataclass(frozen=True)
class Ways:
    """All ways that fit alone, edge by edge, edges by falling tail.

    size:    per memory. edge, number: place among the edges, and among the ways of the edge. first: where each edge's
             ways begin; tails, heads: per edge. resident, transient: per way and memory.
    """

    nodes: int
    size: Floats
    edge: Ints
    number: Ints
    first: Ints
    tails: Ints
    heads: Ints
    energy: Floats
    cycles: Floats
    resident: Floats
    transient: Floats

    @staticmethod
    def of(nodes: int, size: Floats, tables: Sequence[tuple[int, int, int, list[list[float]]]]) -> Ways:
        """From edges (number, tail, head, a row per way); of each those that no other of its ways beats."""
        memories, first, count = len(size), list[int](), 0
        chosen: list[tuple[int, int, int, Ints, Floats]] = []
        for edge, tail, head, rows in sorted(tables, key=lambda one: (-one[1], one[0])):
            table = np.array(rows, np.float64).reshape(len(rows), 2 + 2 * memories)
            fit = np.flatnonzero((table[:, 2 : 2 + memories] + table[:, 2 + memories :] <= size).all(1))
            fit = fit[np.lexsort(table[fit].T[::-1])]
            kept = fit[undominated(table[fit])]
            if len(kept):
                first.append(count)
                count += len(kept)
                chosen.append((edge, tail, head, kept, table[kept]))
        table = np.concatenate([one[4] for one in chosen]) if chosen else np.empty((0, 2 + 2 * memories))
        edges = [np.full(len(one[3]), one[0]) for one in chosen]
        return Ways(
            nodes,
            size,
            np.concatenate(edges) if edges else np.empty(0, np.int64),
            np.concatenate([one[3] for one in chosen]) if chosen else np.empty(0, np.int64),
            np.array(first, np.int64),
            np.array([one[1] for one in chosen], np.int64),
            np.array([one[2] for one in chosen], np.int64),
            table[:, 0],
            table[:, 1],
            table[:, 2 : 2 + memories],
            table[:, 2 + memories :],
        )

    @cached_property
    def spans(self) -> list[Ints]:
        """Per edge its ways."""
        return [np.arange(a, b) for a, b in pairwise([*self.first.tolist(), len(self.energy)])]

    @cached_property
    def rest(self) -> Rest:
        """Bounds on bits from each node on."""
        return _rest(self)

    def per_edge(self, costs: Floats) -> Floats:
        """The least of each edge's ways."""
        return np.minimum.reduceat(costs, self.first) if len(self.first) else np.empty(0)

    def _edges(self, costs: Floats) -> list[tuple[int, int, float]]:
        prices: list[float] = costs.tolist()
        ends: list[tuple[int, int]] = [(int(a), int(b)) for a, b in zip(self.tails, self.heads, strict=True)]
        return [(tail, head, cost) for (tail, head), cost in zip(ends, prices, strict=True)]

    def to_end(self, costs: Floats) -> list[float]:
        """Per node the least sum of edges' costs on a path to the end."""
        found = [inf] * self.nodes
        found[-1] = 0.0
        for tail, head, cost in self._edges(costs):
            found[tail] = min(found[tail], cost + found[head])
        return found

    def from_start(self, costs: Floats) -> list[float]:
        """Per node the least sum of edges' costs on a path from the start."""
        found = [inf] * self.nodes
        found[0] = 0.0
        for tail, head, cost in reversed(self._edges(costs)):  # edges out of a node come after all into it
            found[head] = min(found[head], found[tail] + cost)
        return found


@dataclass(frozen=True, slots=True)
class Rest:
    """Per node and memory, of the paths from there to the end: the least and the most that their ways keep together,
    and the least and the most of what one of them needs besides.
    """

    least: Floats
    most: Floats
    floor: Floats
    ceiling: Floats


def _rest(ways: Ways) -> Rest:
    shape = (ways.nodes, len(ways.size))
    least, floor = np.full(shape, inf), np.full(shape, inf)
    most, ceiling = np.zeros(shape), np.zeros(shape)
    least[-1] = floor[-1] = 0.0
    for span, tail, head in zip(ways.spans, ways.tails.tolist(), ways.heads.tolist(), strict=True):
        if not np.isfinite(least[head]).all():
            continue  # nothing leads from there to the end
        resident, transient = ways.resident[span], ways.transient[span]
        least[tail] = np.minimum(least[tail], resident.min(0) + least[head])
        floor[tail] = np.minimum(floor[tail], np.maximum(transient.min(0), floor[head]))
        most[tail] = np.maximum(most[tail], resident.max(0) + most[head])
        ceiling[tail] = np.maximum(ceiling[tail], np.maximum(transient.max(0), ceiling[head]))
    return Rest(least, most, floor, ceiling)


@dataclass(frozen=True, slots=True)
class Prices:
    """Several prices per bit of each memory, and what the rest of a path from each node costs with them at least."""

    per_bit: Floats
    to_end: Floats

    def bound(self, node: int, costs: Floats, room: Floats) -> Floats:
        """What no path through labels at a node costs less than; ``room``: per label and memory, what is left."""
        rest: Floats = (self.to_end[:, node] - room @ self.per_bit.T).max(1)
        return costs + rest


def free_prices(ways: Ways, costs: Floats) -> Prices:
    """Room costs nothing."""
    return _priced(ways, costs, np.zeros((1, len(ways.size))))


def _priced(ways: Ways, costs: Floats, per_bit: Floats) -> Prices:
    paid = [ways.to_end(ways.per_edge(costs + ways.resident @ one)) for one in per_bit]
    return Prices(per_bit, np.array(paid))


def good_prices(ways: Ways, costs: Floats, target: float) -> Prices:
    """Prices that give good bounds at the start; ``target`` is what a known path costs, infinite without one."""
    room = ways.size - ways.rest.floor[0]
    scale = 1 / np.maximum(ways.size, 1.0)
    per_bit = np.zeros(len(ways.size))
    best, best_prices, step, stale = -inf, per_bit, 1.0, 0
    for _ in range(_STEPS):
        bound, taken = _relaxed(ways, costs, per_bit, room)
        if bound > best + 1e-9 * abs(best if best > -inf else 0.0):
            best, best_prices, stale = bound, per_bit, 0
        else:
            stale += 1
            if stale >= _PATIENCE:
                step, stale, per_bit = step / 2, 0, best_prices
                continue
        slope = (taken - room) * scale
        slope[(per_bit <= 0) & (slope < 0)] = 0.0
        if not slope.any() or bound == inf:
            break
        goal = target if target < inf else best * 1.05 + 1e-9
        length = step * max(goal - bound, 1e-3 * abs(goal)) / float(slope @ slope)
        per_bit = np.maximum(0.0, per_bit + length * slope * scale)
    return _priced(ways, costs, np.unique(np.outer(_MULTIPLES, best_prices), axis=0))


def _relaxed(ways: Ways, costs: Floats, per_bit: Floats, room: Floats) -> tuple[float, Floats]:
    """The bound at the start with some prices, and what its path keeps."""
    paid = costs + ways.resident @ per_bit
    least = ways.per_edge(paid)
    to_end = ways.to_end(least)
    taken = np.zeros(len(ways.size))
    if to_end[0] == inf:
        return inf, taken
    node = 0
    onwards = least + np.array(to_end)[ways.heads]
    while node < ways.nodes - 1:
        out = np.flatnonzero(ways.tails == node)
        edge = int(out[np.argmin(onwards[out])])
        span = ways.spans[edge]
        taken += ways.resident[span][int(np.argmin(paid[span]))]
        node = int(ways.heads[edge])
    return to_end[0] - float(per_bit @ room), taken


def of_use(ways: Ways, costs: Floats, prices: Prices, most: float) -> Bools:
    """Ways that may be part of a path that costs at most so much."""
    bound = np.full(len(costs), -inf)
    per_way = np.repeat(np.arange(len(ways.first)), np.diff(np.append(ways.first, len(costs))))
    tails, heads = ways.tails[per_way], ways.heads[per_way]
    room = ways.size - np.maximum(ways.transient, ways.rest.floor[0])
    for per_bit, to_end in zip(prices.per_bit, prices.to_end, strict=True):
        paid = costs + ways.resident @ per_bit
        start = np.array(ways.from_start(ways.per_edge(paid)))
        bound = np.maximum(bound, start[tails] + paid + to_end[heads] - room @ per_bit)
    return bound <= most


def undominated(table: Floats) -> Ints:
    """The rows of which no other is at most as large in every column; the first of equal ones.

    Rows are in lexicographic order, so only earlier ones can beat a row.
    """
    kept = np.empty((0, table.shape[1]))
    numbers: list[Ints] = []
    for first in range(0, len(table), _BLOCK):
        block = table[first : first + _BLOCK]
        alive = np.flatnonzero(~_beaten(block, kept))
        mine = alive[~np.triu(_no_worse(block[alive], block[alive]), 1).any(0)]
        numbers.append(mine + first)
        kept = np.concatenate([kept, block[mine]])
    return np.concatenate(numbers) if numbers else np.empty(0, np.int64)


def _beaten(rows: Floats, by: Floats) -> Bools:
    """Which rows some row of ``by`` is no worse than."""
    found = np.zeros(len(rows), bool)
    for first in range(0, len(by), 16 * _BLOCK):
        part = by[first : first + 16 * _BLOCK]
        left = np.flatnonzero(~found)
        found[left] = _no_worse(part, rows[left]).any(0)
    return found


def _no_worse(a: Floats, b: Floats) -> Bools:
    """[i, k]: whether row i of ``a`` is at most as large as row k of ``b`` in every column."""
    if len(a) * len(b) <= _FEW:
        return np.asarray((a[:, None] <= b[None]).all(2))
    found = a[:, 0, None] <= b[None, :, 0]  # column by column: numpy is slow along short last axes
    for column in range(1, a.shape[1]):
        found &= a[:, column, None] <= b[None, :, column]
    return found
