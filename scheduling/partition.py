"""The best sequence of stacks from a network's start to its end, with a proof, pricing few of them.

Between two stacks the tensors that cross a cut wait in a *place*. A node is a cut with a place, an edge is a stack from
node to node. Edges carry their bounds until they are priced, so no sequence is better than the best path. As long as
that path has edges without prices, the largest of them is priced, and only the ways that led over it are chosen
anew (known as LazySP, ICAPS 2016). When all its edges have prices, the path is the best sequence.

Products of energy and latency do not add up along a path: ``least_product.py`` finds the least by weighted sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf, isfinite
from typing import Generic, TypeVar

import numpy as np

from dfc.backend_cost.grid import Bools, Floats
from dfc.backend_cost.mapping_cost import Objective
from dfc.errors import InternalError
from dfc.scheduling.lazy_paths import BestPaths, EdgeList
from dfc.scheduling.least_product import Line, least_product
from dfc.scheduling.partition_types import SLACK, ChosenStack, Limit, Option, Partition, Provider

T = TypeVar("T")


def best_sequence(
    n: int,
    provider: Provider[T],
    objective: Objective,
    incumbent: Iterable[tuple[int, int, int, int]] | None = None,
    most: int | None = None,
    effort: Callable[[], float] | None = None,
) -> Partition[T]:
    """The sequence of stacks from cut 0 to cut ``n`` of least energy, latency or product of both.

    Ties: less of the other measure (for the product: less energy, then less latency), then fewer stacks, then the
    earlier cut or lower place where they first differ.

    Args:
        n: the last cut, at least 1.
        provider: places, bounds and prices.
        objective: what to have least of.
        incumbent: stacks (start, end, place_in, place_out) to price first, such as those of a known good sequence, so
            that limits bite early; None: each unit alone, in place 0.
        most: how much effort may be spent besides that on ``incumbent``; None: no limit. It is spent in rounds: first
            on sequences that hand everything over in the lowest place of each cut; then on other places at the cuts of
            the best of these, where half of ``most`` more may be spent, and one on each of its stacks; then on
            everything, with what the first round left over. A stack that is begun with is priced to its end.
        effort: how much was spent so far; None: each stack counts one.

    A KeyboardInterrupt that ``provider`` raises ends the search with what it has.

    Raises:
        ValueError: n is less than 1.
        InternalError: the provider gave a price below its bound, or a number that is none.
    """
    if n < 1:
        raise ValueError(f"a network has at least one unit, not {n}")
    search = _Search(n, provider, objective, effort)
    try:
        search.lay_out()
        search.price_first([(i, i + 1, 0, 0) for i in range(n)] if incumbent is None else incumbent)
        if not isfinite(search.least[0]):
            return search.result(complete=True)  # no way leads to the end
        if most is not None:
            search.first_rounds(most)
        if objective is Objective.EDP:
            least_product(search, search.least)
        else:
            search.solve((1.0, 0.0) if objective is Objective.ENERGY else (0.0, 1.0), lambda _: False)
        return search.result(complete=True)
    except _SpentError:
        return search.result(complete=False, spent=True)
    except KeyboardInterrupt:
        return search.result(complete=False)


class _SpentError(Exception):
    """As much effort is spent as may be."""


@dataclass(frozen=True, slots=True)
class _Best(Generic[T]):
    """A sequence, its energy and latency, and what it is ranked by: score, other measure, latency, stacks, nodes.

    One value, so that no interruption tears it.
    """

    key: tuple[float, float, float, int, tuple[int, ...]]
    point: tuple[float, float] | None
    stacks: tuple[ChosenStack[T], ...]


class _Search(Generic[T]):
    """Edges with what is known of them, and the best sequence of priced edges so far."""

    def __init__(self, n: int, provider: Provider[T], objective: Objective, effort: Callable[[], float] | None = None):
        self.n, self.provider, self.objective = n, provider, objective
        self.effort = effort or (lambda: len(self.prices))
        self.nodes: list[tuple[int, int]] = [(0, 0)]
        self.edges = EdgeList(1, [])
        self.bounds: tuple[Floats, Floats] = (np.zeros(0), np.zeros(0))  # energy and latency by edge
        self.known = self.bounds  # the least of the options where there are prices; infinite: of no use
        self.rests = self.bounds  # what other stacks cost at least, by edge
        self.least = (0.0, 0.0)  # energy and latency that no sequence is below
        self.prices: dict[int, Sequence[Option[T]]] = {}
        self.dropped: set[int] = set()  # without a price, since their bounds are too much
        self.refresh_at = 0  # how many prices there are when the next refresh is due
        self.weights = (1.0, 0.0)
        self.proved = 0.0
        self.left: float = inf  # the effort that may still be spent
        self.best: _Best[T] = _Best((inf, inf, inf, 0, ()), None, ())

    def lay_out(self) -> None:
        """Ask the provider for nodes and bounds; what the start does not lead to is left out."""
        at: dict[int, list[int]] = {0: [0]}
        self.nodes = [(0, 0)]
        for cut in range(1, self.n + 1):
            places = sorted(set(self.provider.places(cut))) if cut < self.n else [0]
            at[cut] = list(range(len(self.nodes), len(self.nodes) + len(places)))
            self.nodes += [(cut, place) for place in places]
        edges: dict[tuple[int, int], tuple[float, float]] = {}
        reached = {0}
        for cut in range(self.n):
            ends = sorted({end for end in self.provider.ends(cut) if cut < end <= self.n})
            for tail in filter(reached.__contains__, at[cut]):
                for head in (node for end in ends for node in at[end]):
                    bound = self.provider.bound(*self._stack(tail, head))
                    if not all(least >= 0 for least in bound):
                        raise self._error(tail, head, f"has the bounds {bound}")
                    if all(map(isfinite, bound)):
                        edges[tail, head] = bound
                        reached.add(head)
        self.edges = EdgeList(len(self.nodes), list(edges))
        bounds = np.array(list(edges.values()), dtype=np.float64).reshape(-1, 2).T
        self.bounds = (bounds[0].copy(), bounds[1].copy())
        self.known = (bounds[0].copy(), bounds[1].copy())
        self.refresh()
        self.proved = self.objective.of(*self.least)

    def price_first(self, stacks: Iterable[tuple[int, int, int, int]]) -> None:
        """Price these stacks, as far as their bounds are finite."""
        number = {node: k for k, node in enumerate(self.nodes)}
        self.weights = self._towards_best()
        for start, end, place_in, place_out in stacks:
            tail, head = number.get((start, place_in)), number.get((end, place_out))
            found = None if tail is None or head is None else self.edges.find(tail, head)
            if found is not None and found not in self.prices:
                self.price(found)
        self.refresh()

    def first_rounds(self, most: float) -> None:
        """The first two rounds: an effort that is limited begins with what promises most, not with what is least known.

        Bounds tell little of what a place is worth: by them alone the effort would be spent on places at cuts that are
        of no use.
        """
        ends = zip(self.edges.tails.tolist(), self.edges.heads.tolist(), strict=True)
        stacks = [self._stack(tail, head) for tail, head in ends]
        first = dict(reversed(self.nodes))  # per cut the lowest place
        plain: Bools = np.array([p == first[a] and q == first[b] for a, b, p, q in stacks], dtype=bool)
        if plain.all():
            self.left = most
            return
        left = self._round(plain, most)
        cuts = {(stack.start, stack.end) for stack in self.best.stacks}
        same: Bools = np.array([stack[:2] in cuts for stack in stacks], dtype=bool)
        self._round(same, len(cuts) + most // 2)
        self.left = left
        self.proved = max(self.proved, self.objective.of(*self.least))

    def _round(self, among: Bools, most: float) -> float:
        """The best sequence of some edges, as far as an effort of ``most`` leads; how much is left over."""
        self.left = most
        with suppress(_SpentError):
            self.solve(self._towards_best(), lambda _: False, among)
        self.refresh()
        return self.left

    def _towards_best(self) -> tuple[float, float]:
        """Weights of energy and latency; for the product those that fit the best point known."""
        x, y = self.best_point or self.least
        weights = {Objective.ENERGY: (1.0, 0.0), Objective.LATENCY: (0.0, 1.0), Objective.EDP: (y or 1.0, x or 1.0)}
        return weights[self.objective]

    def solve(self, weights: tuple[float, float], enough: Callable[[float], bool], among: Bools | None = None) -> Line:
        """The least weighted sum of energy and latency, as :class:`WeightedSearch` says; prices what it must.

        ``among`` says which edges there are, all unless given.
        """
        self.weights = weights
        costs, others = self._weigh(*self.bounds)
        for edge in self.prices:
            costs[edge], others[edge] = self._value(edge)
        costs[list(self.dropped)] = inf
        if among is not None:
            costs[~among] = inf
        paths = BestPaths(self.edges, costs, others)
        while not enough(paths.least):
            if self.objective is not Objective.EDP and among is None:
                self.proved = paths.least
            path = paths.path()
            waiting = [edge for edge in path if edge not in self.prices]
            if not waiting:
                return Line(weights, paths.least, self._offer(path))
            largest = max(
                waiting, key=lambda edge: costs[edge]
            )  # a twentieth fewer prices than first come, first served
            self.price(largest)
            paths.raise_edge(largest, *self._value(largest))
        return Line(weights, paths.least)

    def price(self, edge: int) -> None:
        """Ask for the options of an edge, unless its bounds alone are too much."""
        bound = (float(self.bounds[0][edge]), float(self.bounds[1][edge]))
        limit = Limit(self.objective, self.best.key[0], float(self.rests[0][edge]), float(self.rests[1][edge]))
        if not (isfinite(limit.rest_energy_pj) and limit.allows(*bound)):
            self.dropped.add(edge)
            self.known[0][edge] = self.known[1][edge] = inf
            return
        if self.left <= 0:
            raise _SpentError
        before = self.effort()
        tail, head = int(self.edges.tails[edge]), int(self.edges.heads[edge])
        options = tuple(self.provider.options(*self._stack(tail, head), limit))
        for o in options:
            cost = (o.energy_pj, o.latency_cycles)
            if not all(isfinite(c) and c >= b * (1 - SLACK) for c, b in zip(cost, bound, strict=True)):
                raise self._error(tail, head, f"costs {cost}, its bounds are {bound}")
        self.prices[edge] = options
        self.left -= self.effort() - before
        self.known[0][edge] = max(bound[0], min((o.energy_pj for o in options), default=inf))
        self.known[1][edge] = max(bound[1], min((o.latency_cycles for o in options), default=inf))
        if len(self.prices) >= self.refresh_at:
            self.refresh()

    def refresh(self) -> None:
        """Find the best sequence of priced edges, and anew what the rest costs at least.

        Due whenever prices have grown by a twentieth, so that all refreshes together take time in proportion to them.
        """
        self.refresh_at = len(self.prices) + 1 + len(self.prices) // 20
        costs, others = np.full((2, len(self.edges.tails)), inf)
        for edge in self.prices:
            costs[edge], others[edge] = self._value(edge)
        self._offer(BestPaths(self.edges, costs, others).path())
        rests: list[Floats] = []
        least: list[float] = []
        for known in self.known:
            before, after = self.edges.from_start(known), self.edges.to_end(known)
            rests.append(before[self.edges.tails] + after[self.edges.heads])
            least.append(float(after[0]))
        self.rests, self.least = (rests[0], rests[1]), (least[0], least[1])

    @property
    def best_point(self) -> tuple[float, float] | None:
        """Energy and latency of the best sequence so far."""
        return self.best.point

    def useful(self, x: float, y: float) -> bool:
        """Whether a whole of at least this energy and latency may be as good as the best one."""
        return Limit(self.objective, self.best.key[0]).allows(x, y)

    def prove(self, least: float) -> None:
        """No score is below the lower of this and the best so far."""
        self.proved = max(self.proved, least)

    def result(self, complete: bool, *, spent: bool = False) -> Partition[T]:
        """The best so far, and what has been proved."""
        considered, priced = len(self.edges.tails), len(self.prices)
        pruned = considered - priced
        best = self.best.key[0]
        if not complete:
            rows = zip(*self.known, *self.rests, strict=True)
            waiting = (row for edge, row in enumerate(rows) if edge not in self.prices)
            pruned = sum(not self.useful(x + rest_x, y + rest_y) for x, y, rest_x, rest_y in waiting)
        bound = best if complete else min(self.proved, best)
        return Partition(self.best.stacks, complete, bound, considered, priced, pruned, spent)

    def _stack(self, tail: int, head: int) -> tuple[int, int, int, int]:
        """Cuts and places as the provider wants them."""
        (start, place_in), (end, place_out) = self.nodes[tail], self.nodes[head]
        return start, end, place_in, place_out

    def _weigh(self, energy: Floats, latency: Floats) -> tuple[Floats, Floats]:
        """What is to be least, and what decides between equals: the other measure, or energy."""
        x, y = self.weights
        return x * energy + y * latency, (energy if y else latency).copy()

    def _pick(self, edge: int) -> Option[T] | None:
        """The best of an edge's options in this sense."""
        x, y = self.weights

        def rank(o: Option[T]) -> tuple[float, float]:
            return x * o.energy_pj + y * o.latency_cycles, o.energy_pj if y else o.latency_cycles

        return min(self.prices[edge], key=rank, default=None)

    def _value(self, edge: int) -> tuple[float, float]:
        """What a priced edge is worth in this sense; no less than with its bounds, which rounding could allow."""
        x, y = self.weights
        option = self._pick(edge) if edge in self.prices else None
        if option is None:
            return inf, inf
        energy = max(option.energy_pj, float(self.bounds[0][edge]))
        latency = max(option.latency_cycles, float(self.bounds[1][edge]))
        return x * energy + y * latency, energy if y else latency

    def _offer(self, path: list[int]) -> tuple[float, float] | None:
        """Keep a path of priced edges if it is the best so far; its energy and latency."""
        picked = [(edge, option) for edge in path if (option := self._pick(edge)) is not None]
        if not picked:
            return None
        energy = sum(o.energy_pj for _, o in picked)
        latency = sum(o.latency_cycles for _, o in picked)
        other = latency if self.objective is Objective.ENERGY else energy
        ends = [(int(self.edges.tails[e]), int(self.edges.heads[e])) for e, _ in picked]
        key = (self.objective.of(energy, latency), other, latency, len(path), tuple(head for _, head in ends))
        if key < self.best.key:
            stacks = tuple(ChosenStack(*self._stack(*e), o) for e, (_, o) in zip(ends, picked, strict=True))
            self.best = _Best(key, (energy, latency), stacks)
        return energy, latency

    def _error(self, tail: int, head: int, what: str) -> InternalError:
        start, end, place_in, place_out = self._stack(tail, head)
        name = f"the stack from cut {start} in place {place_in} to cut {end} in place {place_out}"
        return InternalError("IR191", f"{name} {what}", hint="this is a defect of dfc; please report it")
