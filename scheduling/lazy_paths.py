"""Best paths through a graph without cycles whose edges become dearer while one looks.

Nodes are numbered so that edges lead upwards, from node 0 (the start) to the last (the end).
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import pairwise
from math import isinf

import numpy as np

from dfc.backend_cost.grid import Floats, Ints


class EdgeList:
    """Edges sorted by tail, then by head, at most one between two nodes."""

    def __init__(self, nodes: int, edges: Sequence[tuple[int, int]]):
        self.nodes = nodes
        self.tails: Ints = np.array([t for t, _ in edges], dtype=np.int64)
        self.heads: Ints = np.array([h for _, h in edges], dtype=np.int64)
        bounds = np.searchsorted(self.tails, np.arange(nodes + 1))
        self.out = [slice(int(a), int(b)) for a, b in pairwise(bounds)]

    def find(self, tail: int, head: int) -> int | None:
        """The edge between two nodes, if there is one."""
        here = self.out[tail]
        k = here.start + int(np.searchsorted(self.heads[here], head))
        return k if k < here.stop and self.heads[k] == head else None

    def from_start(self, costs: Floats) -> Floats:
        """Per node, the least sum of ``costs`` (one per edge) of a way from the start."""
        least = np.full(self.nodes, np.inf)
        least[0] = 0.0
        for node, out in enumerate(self.out):
            heads = self.heads[out]
            least[heads] = np.minimum(least[heads], least[node] + costs[out])
        return least

    def to_end(self, costs: Floats) -> Floats:
        """Per node, the least sum of ``costs`` of a way to the end."""
        least = np.full(self.nodes, np.inf)
        least[-1] = 0.0
        for node in range(self.nodes - 2, -1, -1):
            out = self.out[node]
            least[node] = np.min(costs[out] + least[self.heads[out]], initial=np.inf)
        return least


class BestPaths:
    """The best way from every node to the end, kept true while edges become dearer.

    Least ``costs``, then least ``others``, then fewest edges, then the lowest node where ways first differ.
    """

    def __init__(self, edges: EdgeList, costs: Floats, others: Floats):
        self.edges = edges
        self.costs, self.others = costs, others
        self.cost = np.full(edges.nodes, np.inf)
        self.other = np.full(edges.nodes, np.inf)
        self.length = np.zeros(edges.nodes, dtype=np.int64)
        self.next_edge = np.full(edges.nodes, -1)
        self.next_node = np.full(edges.nodes, -1)
        self.cost[-1] = self.other[-1] = 0.0
        for node in range(edges.nodes - 2, -1, -1):
            self._choose(node)

    @property
    def least(self) -> float:
        """Cost of the best way from start to end; infinite: there is none."""
        return float(self.cost[0])

    def path(self) -> list[int]:
        """Its edges; none where there is no way."""
        found: list[int] = []
        node = 0
        while self.next_edge[node] >= 0:
            found.append(int(self.next_edge[node]))
            node = int(self.next_node[node])
        return found

    def raise_edge(self, edge: int, cost: float, other: float) -> None:
        """Let an edge cost more; the pair must not be lower than before."""
        self.costs[edge], self.others[edge] = cost, other
        tail = int(self.edges.tails[edge])
        if self.next_edge[tail] != edge:
            return
        waiting = [-tail]  # nodes whose best way led over what has changed, last first
        while waiting:
            node = -heappop(waiting)
            if self._choose(node):
                for before in np.flatnonzero(self.next_node[:node] == node):
                    heappush(waiting, -int(before))

    def _choose(self, node: int) -> bool:
        """Pick the best edge out of a node; whether its cost has changed."""
        out = self.edges.out[node]
        heads = self.edges.heads[out]
        sums = self.costs[out] + self.cost[heads]
        pick = int(sums.argmin()) if len(sums) else -1
        if pick < 0 or isinf(sums[pick]):
            changed = not isinf(self.cost[node])
            self.cost[node] = self.other[node] = np.inf
            self.next_edge[node] = self.next_node[node] = -1
            return changed
        ties = np.flatnonzero(sums == sums[pick])
        if len(ties) > 1:
            others = self.others[out][ties] + self.other[heads[ties]]
            ties = ties[others == others.min()]
            pick = int(ties[self.length[heads[ties]].argmin()])
        head = heads[pick]
        new = (sums[pick], self.others[out.start + pick] + self.other[head], self.length[head] + 1)
        changed = new != (self.cost[node], self.other[node], self.length[node])
        self.cost[node], self.other[node], self.length[node] = new
        self.next_edge[node], self.next_node[node] = out.start + pick, head
        return changed
