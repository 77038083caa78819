"""Label-setting: per boundary of a network the partial paths that no other beats, until the end is reached.

A label is a path from the start to a node: its cost, and per memory the sum R of what its ways keep and the maximum T
of what one of them needs besides. The rest of the way may need any transient t between a floor and a ceiling. Label a
never needs more than b if R + max(T, t) is no more at both ends, since in between the difference is monotone. So a
label that is no better in cost and in these two sums per memory is dropped. A memory does not count where the most
demanding rest would fit (labelling with dominance: Desrochers and Soumis, "A generalized permanent labelling algorithm
for the shortest path problem with time windows", 1988). Labels whose bound is above a known path are dropped too
(``label_bounds.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

import numpy as np

from dfc.backend_cost.grid import Bools, Floats, Ints
from dfc.scheduling.label_bounds import Prices, Ways, free_prices, good_prices, of_use, undominated
from dfc.scheduling.partition_types import SLACK

#: labels per node of the narrow searches, which find good paths
NARROW = 64
#: labels that are grown in one step of arrays
_AT_ONCE = 100_000


@dataclass(frozen=True, slots=True)
class Best:
    """Paths as numbers (edge, way) from the start on; ``bound``: no path has a lower sum."""

    paths: tuple[tuple[tuple[int, int], ...], ...]
    complete: bool
    bound: float
    labels: int
    widest: int


@dataclass(frozen=True, slots=True)
class _Labels:
    """The labels of one node; ``measures``: what each is kept for. ``back``: its last way, and the label before it."""

    measures: Floats
    resident: Floats
    transient: Floats
    back: Ints

    def pick(self, chosen: Ints | Bools) -> _Labels:
        return _Labels(self.measures[chosen], self.resident[chosen], self.transient[chosen], self.back[chosen])

    def __len__(self) -> int:
        return len(self.back)


class LabelSearch:
    """Paths of the least weighted sum of energy and cycles."""

    def __init__(self, ways: Ways, weights: tuple[float, float], narrow: int = NARROW) -> None:
        self.ways = ways
        self.narrow = narrow
        self.costs = weights[0] * ways.energy + weights[1] * ways.cycles

    @cached_property
    def _free(self) -> Prices:
        return free_prices(self.ways, self.costs)

    @property
    def least(self) -> float:
        """What no path's sum is below, memories aside; infinite where there is no path."""
        return float(self._free.to_end[0, 0])

    def best(self, most: int) -> Best:
        """The path of the least sum, with at most so many labels per node."""
        if self.least == inf:
            return Best((), True, inf, 0, 0)
        measures = self.costs[:, None]
        found = _Round(self.ways, measures, self._free, min(most, self.narrow), inf, None).run()
        if found.complete:
            return found
        prices = good_prices(self.ways, self.costs, _sum(found, self.costs, self.ways))
        again = _Round(self.ways, measures, prices, min(most, self.narrow), inf, None).run()
        known = min((found, again), key=lambda one: _sum(one, self.costs, self.ways))
        limit = _sum(known, self.costs, self.ways)
        open_ = of_use(self.ways, self.costs, prices, limit * (1 + SLACK))
        last = _Round(self.ways, measures, prices, most, limit, open_).run()
        best = min((last, known), key=lambda one: _sum(one, self.costs, self.ways))
        labels = found.labels + again.labels + last.labels
        bound = _sum(best, self.costs, self.ways) if last.complete else min(last.bound, limit)
        return Best(best.paths, last.complete, bound, labels, last.widest)

    def front(self, most: int) -> Best:
        """All paths that no other beats in energy and cycles, by rising energy."""
        measures = np.stack([self.ways.energy, self.ways.cycles], axis=1)
        return _Round(self.ways, measures, self._free, most, inf, None).run()


def _sum(found: Best, costs: Floats, ways: Ways) -> float:
    """What the path found costs; infinite without one."""
    if not found.paths:
        return inf
    at = {(int(e), int(n)): i for i, (e, n) in enumerate(zip(ways.edge, ways.number, strict=True))}
    return float(sum(costs[at[one]] for one in found.paths[0]))


@dataclass
class _Round:
    """One pass over all nodes, with at most ``most`` labels each, none of which costs above ``limit`` in the end."""

    ways: Ways
    measures: Floats
    prices: Prices
    most: int
    limit: float
    open: Bools | None

    def run(self) -> Best:
        ways, memories = self.ways, len(self.ways.size)
        nothing = np.zeros((1, memories))
        start = _Labels(np.zeros((1, self.measures.shape[1])), nothing, nothing, np.zeros((1, 2), np.int64))
        labels: list[_Labels | None] = [start, *[None] * (ways.nodes - 1)]
        into: dict[int, list[tuple[int, Ints]]] = {}
        for tail, head, span in zip(ways.tails.tolist(), ways.heads.tolist(), ways.spans, strict=True):
            chosen = span if self.open is None else span[self.open[span]]
            if len(chosen):
                into.setdefault(head, []).append((tail, chosen))
        made = widest = 0
        dropped = inf
        for node in range(1, ways.nodes):
            if not np.isfinite(self.prices.to_end[0, node]):
                continue
            before = [(here, span) for tail, span in into.get(node, ()) if (here := labels[tail]) is not None]
            grown = [self._grow(some, node) for some in _shared_out(before)]
            if not any(map(len, grown)):
                continue
            here = _joined(grown)
            made += len(here)
            kept, worst = self._narrowed(self._undominated(here, node), node)
            dropped = min(dropped, worst)
            widest = max(widest, len(kept))
            labels[node] = kept
        last = labels[-1]
        paths = tuple(self._path(labels, i) for i in range(len(last))) if last else ()
        least = float(last.measures[0, 0]) if last else inf
        return Best(paths, dropped == inf, min(least, dropped), made, widest)

    def _grow(self, before: Sequence[tuple[_Labels, Ints]], node: int) -> _Labels:
        """All labels at the tails of some edges, each with each of its edge's ways, as far as they may be of use."""
        ways, rest = self.ways, self.ways.rest
        labels = _joined([one for one, _ in before])
        first = 0
        pairs: list[tuple[Ints, Ints, Ints]] = []  # a label among all, its number at its node, and a way
        for one, chosen in before:
            own = np.repeat(np.arange(len(one)), len(chosen))
            pairs.append((own + first, own, np.tile(chosen, len(one))))
            first += len(one)
        at, own, way = (np.concatenate(each) for each in zip(*pairs, strict=True))
        measures = labels.measures[at] + self.measures[way]
        resident = labels.resident[at] + ways.resident[way]
        transient = np.maximum(labels.transient[at], ways.transient[way])
        room = ways.size - resident - np.maximum(transient, rest.floor[node])
        useful = (room >= rest.least[node]).all(1)
        if self.limit < inf:
            useful &= self.prices.bound(node, measures[:, 0], room) <= self.limit * (1 + SLACK)
        return _Labels(measures, resident, transient, np.stack([way, own], axis=1)).pick(useful)

    def _undominated(self, labels: _Labels, node: int) -> _Labels:
        rest, size = self.ways.rest, self.ways.size
        low = labels.resident + np.maximum(labels.transient, rest.floor[node])
        high = labels.resident + np.maximum(labels.transient, rest.ceiling[node])
        plenty = high + rest.most[node] <= size
        sums = np.concatenate([np.where(plenty, 0, low), np.where(plenty, 0, high)], axis=1)
        table = np.concatenate([labels.measures, sums[:, np.ptp(sums, axis=0) > 0]], axis=1)
        order = np.lexsort(table.T[::-1])
        return labels.pick(order[undominated(table[order])])

    def _narrowed(self, labels: _Labels, node: int) -> tuple[_Labels, float]:
        """At most so many labels, and what none of those left out can cost less than (infinite: none was)."""
        if len(labels) <= self.most:
            return labels, inf
        rest, size = self.ways.rest, self.ways.size
        room = size - labels.resident - np.maximum(labels.transient, rest.floor[node])
        bound = self.prices.bound(node, labels.measures[:, 0], room)
        emptiest = ((room - rest.least[node]) / np.maximum(size, 1)).min(1) if len(size) else -bound
        chosen = np.zeros(len(labels), bool)
        chosen[np.argsort(bound, kind="stable")[: -(-self.most * 3 // 4)]] = True
        chosen[np.argsort(-emptiest, kind="stable")[: self.most // 4]] = True
        return labels.pick(chosen), float(bound[~chosen].min())

    def _path(self, labels: Sequence[_Labels | None], label: int) -> tuple[tuple[int, int], ...]:
        found: list[tuple[int, int]] = []
        tail_of = {number: int(self.ways.tails[i]) for i, span in enumerate(self.ways.spans)
                   for number in span.tolist()}  # fmt: skip
        node = self.ways.nodes - 1
        while node:
            here = labels[node]
            assert here is not None
            way, label = (int(number) for number in here.back[label])
            found.append((int(self.ways.edge[way]), int(self.ways.number[way])))
            node = tail_of[way]
        return tuple(reversed(found))


def _shared_out(before: Sequence[tuple[_Labels, Ints]]) -> Iterator[list[tuple[_Labels, Ints]]]:
    """Edges in groups that make about so many labels each: for most, one step of arrays in place of one per edge."""
    group: list[tuple[_Labels, Ints]] = []
    made = 0
    for one, chosen in before:
        if group and made + len(one) * len(chosen) > _AT_ONCE:
            yield group
            group, made = [], 0
        group.append((one, chosen))
        made += len(one) * len(chosen)
    if group:
        yield group


def _joined(parts: Sequence[_Labels]) -> _Labels:
    """One after the other."""
    return _Labels(
        np.concatenate([p.measures for p in parts]),
        np.concatenate([p.resident for p in parts]),
        np.concatenate([p.transient for p in parts]),
        np.concatenate([p.back for p in parts]),
    )
