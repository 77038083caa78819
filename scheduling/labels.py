"""Best ways through a network whose parts share memories.

An edge is a range of layers from one boundary of the network to another, and has several ways to run. All of a path
run one after the other in every step, so what they keep from step to step lies in memories at the same time, beside
what the running one needs: per memory the sum of ``resident_bits`` and the largest of ``transient_bits`` are at most
its size.

``label_search.py`` finds paths of least weighted sums of energy and cycles. The least product of both lies at a corner
of the convex hull of all paths, so sums find it as well (``least_product.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Generic, Protocol, TypeVar

import numpy as np

from dfc.backend_cost.mapping_cost import Objective
from dfc.scheduling.label_bounds import Ways
from dfc.scheduling.label_search import NARROW, Best, LabelSearch
from dfc.scheduling.least_product import Line, least_product
from dfc.scheduling.partition_types import SLACK, Limit

#: labels per node at most: far more than networks have been seen to need
MOST_LABELS = 20_000
#: what a pJ counts beside a cycle where the least cycles are looked for
_TIE = 1e-12


class Way(Protocol):
    """One way to run a range of layers: of a step in the steady state, and bits by memory."""

    @property
    def energy_pj(self) -> float:
        """Energy per step."""
        ...

    @property
    def latency_cycles(self) -> float:
        """Cycles per step."""
        ...

    @property
    def resident_bits(self) -> Sequence[int]:
        """What stays from step to step."""
        ...

    @property
    def transient_bits(self) -> Sequence[int]:
        """The most that anything else takes while it runs."""
        ...


W = TypeVar("W", bound=Way)


@dataclass(frozen=True, slots=True)
class Edge(Generic[W]):
    """A range of layers between two nodes, ``tail < head``, and the ways to run it."""

    tail: int
    head: int
    ways: Sequence[W]


@dataclass(frozen=True, slots=True)
class Path(Generic[W]):
    """A way through the network: its edges by their number, each with the way that was chosen."""

    energy_pj: float
    latency_cycles: float
    edges: tuple[tuple[int, W], ...]


@dataclass(frozen=True, slots=True)
class Paths(Generic[W]):
    """What was found.

    paths:    the best one, or by rising energy those that no other beats in energy and cycles.
    complete: it is proved that none is better; else there were too many labels.
    bound:    no path scores below it.
    labels:   how many were made; widest: how many one node kept at most.
    """

    paths: tuple[Path[W], ...]
    complete: bool
    bound: float
    labels: int
    widest: int


def best_paths(
    nodes: int,
    edges: Sequence[Edge[W]],
    size_bits: Sequence[int],
    objective: Objective | None,
    *,
    most_cycles: float = inf,
    most: int = MOST_LABELS,
    narrow: int = NARROW,
) -> Paths[W]:
    """The best way from node 0 to the last of ``nodes``; no paths where nothing fits.

    size_bits:   per memory.
    objective:   None: all paths that no other beats in energy and cycles.
    most_cycles: what no path may exceed.
    most:        labels per node. narrow: of a first search, for a good path.
    """
    sums = _Sums(nodes, edges, size_bits, objective, most_cycles, (most, narrow))
    if objective is None:
        found = sums.search((1.0, 1.0)).front(most)
        sums.note(found)
        return Paths(tuple(map(sums.path, found.paths)), found.complete, 0.0, sums.labels, sums.widest)
    if objective is Objective.EDP:
        least_product(sums, sums.low())
    else:
        sums.solve((1.0, 0.0) if objective is Objective.ENERGY else (_TIE, 1.0), lambda _: False)
    best = sums.best
    score = objective.of(best.energy_pj, best.latency_cycles) if best else inf
    bound = score if sums.complete else min(score, sums.bound)
    return Paths((best,) if best else (), sums.complete, bound, sums.labels, sums.widest)


def best_or_fastest(
    nodes: int, edges: Sequence[Edge[W]], size_bits: Sequence[int], objective: Objective, most_cycles: float
) -> Paths[W]:
    """The best way within so many cycles; the fastest of all where none keeps to them."""
    found = best_paths(nodes, edges, size_bits, objective, most_cycles=most_cycles)
    return found if found.paths else best_paths(nodes, edges, size_bits, Objective.LATENCY)


class _Sums(Generic[W]):
    """Paths of least weighted sums, as :class:`dfc.scheduling.least_product.WeightedSearch` asks."""

    def __init__(
        self,
        nodes: int,
        edges: Sequence[Edge[W]],
        size_bits: Sequence[int],
        objective: Objective | None,
        most_cycles: float,
        most: tuple[int, int],
    ) -> None:
        self.nodes = nodes
        self.edges = edges
        self.objective = objective
        self.most, self.narrow = most
        self.complete = True
        self.bound = 0.0
        self.labels = self.widest = 0
        self.best: Path[W] | None = None
        size = np.array(size_bits, np.float64)
        limited = most_cycles < inf
        if limited:  # time is taken like a memory, of which all is resident
            size = np.append(size, most_cycles * (1 + SLACK))
        found = [_table(number, edge, len(size_bits), limited=limited) for number, edge in enumerate(edges)]
        self.ways = Ways.of(nodes, size, found)

    def search(self, weights: tuple[float, float]) -> LabelSearch:
        """The search for one weighted sum."""
        return LabelSearch(self.ways, weights, self.narrow)

    def low(self) -> tuple[float, float]:
        """Energy and cycles that no path is below, memories aside."""
        return self.search((1.0, 0.0)).least, self.search((0.0, 1.0)).least

    @property
    def best_point(self) -> tuple[float, float] | None:
        """Energy and cycles of the best path so far."""
        return (self.best.energy_pj, self.best.latency_cycles) if self.best else None

    def useful(self, x: float, y: float) -> bool:
        """Whether a path of at least this energy and these cycles may be as good as the best one."""
        return Limit(Objective.EDP, self._score()).allows(x, y)

    def solve(self, weights: tuple[float, float], enough: Callable[[float], bool]) -> Line:
        """The path of least weighted sum."""
        search = self.search(weights)
        if enough(search.least):
            return Line(weights, search.least)
        found = search.best(self.most)
        self.note(found)
        if self.objective is not Objective.EDP:
            self.bound = found.bound * (1 - SLACK)  # without what energy counts beside cycles
        for one in found.paths:
            self._offer(self.path(one))
        point = (self.best_of(found).energy_pj, self.best_of(found).latency_cycles) if found.paths else None
        return Line(weights, found.bound, point if found.complete else None)

    def best_of(self, found: Best) -> Path[W]:
        """The path of a search that found one."""
        return self.path(found.paths[0])

    def prove(self, least: float) -> None:
        """Take note that no product is below the lower of this and the best one known."""
        if self.complete:
            self.bound = max(self.bound, least)

    def note(self, found: Best) -> None:
        """Add up what searches took."""
        self.complete &= found.complete
        self.labels += found.labels
        self.widest = max(self.widest, found.widest)

    def path(self, chosen: Sequence[tuple[int, int]]) -> Path[W]:
        """Numbers of edges and ways as a path."""
        edges = tuple((edge, self.edges[edge].ways[way]) for edge, way in chosen)
        energy, cycles = sum(w.energy_pj for _, w in edges), sum(w.latency_cycles for _, w in edges)
        return Path(energy, cycles, edges)

    def _score(self) -> float:
        if self.best is None or self.objective is None:
            return inf
        return self.objective.of(self.best.energy_pj, self.best.latency_cycles)

    def _offer(self, path: Path[W]) -> None:
        if self.objective is not None and self.objective.of(path.energy_pj, path.latency_cycles) < self._score():
            self.best = path


def _table(number: int, edge: Edge[W], memories: int, *, limited: bool) -> tuple[int, int, int, list[list[float]]]:
    """An edge with a row per way: energy, cycles, what is resident, what is not."""
    rows: list[list[float]] = []
    for way in edge.ways:
        resident, transient = list(way.resident_bits), list(way.transient_bits)
        assert len(resident) == len(transient) == memories
        time = [way.latency_cycles] * limited
        rows.append([way.energy_pj, way.latency_cycles, *resident, *time, *transient, *([0.0] * limited)])
    return number, edge.tail, edge.head, rows
