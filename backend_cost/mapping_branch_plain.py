"""The branch and bound of ``_branch.c`` in plain Python, step by step: used where no compiler was, and to check it.

A node is a prefix of a chain: some cuts, from the innermost outwards. Its bound is the exact model's recursion
(``timing_rows.py``) as far as it is known, and the least that all other cuts add to it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from math import inf

import numpy as np

from dfc.backend_cost.mapping_branch_time import FlatLayout, Prefix, chain_cycles, known_cycles
from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.tables import Floats
from dfc.backend_cost.timing_rows import AT_ENDS, RESERVE

TIE = 1e-9
#: every so many nodes are followed down to a whole chain
DIVE = 8
#: chains that are kept, the latest first to be forgotten last
MOST_RESULTS = 64
#: measures: energy, the least reserve, then ports
_SPENT, _RESERVED, _FIRST_PORT = 0, 1, 2


@dataclass(frozen=True, slots=True)
class PlainProblem:
    """What ``_branch.c`` reads, by the same names as in ``BranchProblem``."""

    counts: tuple[int, ...]
    exponents: np.ndarray  # (points, axes)
    idle: np.ndarray  # (operands, axes)
    cost: Floats
    left: Floats
    energy_pj: Floats
    base: Floats
    layout: FlatLayout
    coupled: list[tuple[int, int]]
    saving: Floats
    factor: Floats
    small_back: bool
    sliding: bool


@dataclass(slots=True)
class Best:
    """What has to be beaten."""

    objective: Objective
    max_cycles: float
    least_pj: float
    score: float
    energy_pj: float
    cycles: float

    def hopeless(self, cycles: float, energy: float) -> bool:
        """Whether nothing of at least these cycles and this energy is better."""
        energy = max(energy, self.least_pj)
        score = self.objective.of(energy, cycles)
        if not energy < inf or cycles > self.max_cycles or score > self.score * (1 + TIE):
            return True
        if score < self.score * (1 - TIE):
            return False
        less = energy < self.energy_pj * (1 - TIE)
        return not (less or (energy <= self.energy_pj * (1 + TIE) and cycles < self.cycles * (1 - TIE)))


@dataclass(slots=True)
class _Seen:
    """What is known of a node: cycles, what ports may give back at the ends, the reserve."""

    sure: float
    less: float
    reserve: float


_Node = tuple[float, int, int, Prefix, float, float]  # key, -cuts, number, the cuts, cycles, energy


class PlainSearch:
    """One search; :meth:`run` finds chains that are better than ``best``."""

    def __init__(self, problem: PlainProblem, best: Best, most_work: int):
        self.problem = problem
        self.best = best
        self.most_work = most_work
        self.work = 0
        self.leaves = inf
        self.chains: list[list[int]] = []
        self.heap: list[_Node] = []
        self.operand_of = [o for o, n in enumerate(problem.counts) for _ in range(n)]
        self.stride = [1] * len(problem.counts)
        for o in reversed(range(len(problem.counts) - 1)):
            self.stride[o] = self.stride[o + 1] * (problem.counts[o + 1] + 1)
        self.ends = _FIRST_PORT + problem.layout.ports

    def run(self) -> float:
        """What no chain scores below."""
        bound = inf
        self.heap = [(0.0, 0, 0, (), 0.0, 0.0)]
        pops = 0
        while self.heap:
            node = heapq.heappop(self.heap)
            if pops and node[0] > self.best.score * (1 + TIE):
                break
            if self.work > self.most_work:
                bound = node[0]
                break
            pops += 1
            if self.best.hopeless(node[4], node[5]):
                continue
            follow: _Node | None = node
            while follow is not None:
                follow = self._expand(follow, dive=(pops - 1) % DIVE == 0)
        return min(bound, self.leaves, self.best.score)

    def _expand(self, node: _Node, *, dive: bool) -> _Node | None:
        """Push a node's children; with ``dive`` the best is returned instead."""
        problem, prefix = self.problem, node[3]
        point = prefix[-1][1] if prefix else 0
        last = self.operand_of[prefix[-1][0]] if prefix else 0
        stuck = np.zeros(problem.exponents.shape[1], dtype=bool)
        sums = problem.base.copy()
        state = 0
        for cut, p in prefix:
            sums += problem.cost[:, cut, p]
            state += self.stride[self.operand_of[cut]]
            if p == point:
                stuck |= problem.idle[self.operand_of[cut]]
        sums[_RESERVED] = 0.0
        seen = self._look(prefix, point)
        if seen is None:
            return None
        best: _Node | None = None
        size = len(problem.exponents)
        steps = problem.exponents - problem.exponents[point]
        reachable = (steps >= 0).all(axis=1)
        moves = (steps[:, ~stuck] > 0).any(axis=1)
        first = 0
        for o, count in enumerate(problem.counts):
            made = state // self.stride[o] % (count + 1)
            cut, first = first + made, first + count
            if made == count:
                continue
            self.work += (size - point) // 32
            good = reachable & np.isfinite(problem.cost[_SPENT, cut])
            good[: point + (o < last)] = False
            if prefix:
                good[point + 1 :] &= moves[point + 1 :]
            to = state + self.stride[o]
            for p in np.flatnonzero(good).tolist():
                child = self._child(node, (cut, p, to), sums, seen, stuck)
                if child is None:
                    continue
                if dive and (best is None or child < best):
                    best, child = child, best
                if child is not None:
                    heapq.heappush(self.heap, child)
        return best

    def _child(
        self, node: _Node, step: tuple[int, int, int], sums: Floats, parent: _Seen, stuck: np.ndarray
    ) -> _Node | None:
        problem, best = self.problem, self.best
        cut, p, state = step
        prefix = (*node[3], (cut, p))
        own = problem.cost[:, cut, p].copy()
        own[_RESERVED] = 0.0
        whole = (sums + own + problem.left[:, state, p]).tolist()
        if best.hopeless(self._least_cycles(parent, whole), whole[_SPENT]):
            return None
        if len(prefix) == len(self.operand_of):
            top = problem.exponents[-1] - problem.exponents[p]
            held = problem.idle[self.operand_of[cut]] | (stuck & bool(node[3] and node[3][-1][1] == p))
            if p == len(problem.exponents) - 1 or (top[~held] > 0).any():
                self._offer(prefix, whole[_SPENT])
            return None
        seen = self._look(prefix, p)
        if seen is None:
            return None
        cycles = self._least_cycles(seen, whole)
        if best.hopeless(cycles, whole[_SPENT]):
            return None
        energy = max(whole[_SPENT], best.least_pj)
        return best.objective.of(energy, cycles), -len(prefix), self.work, prefix, cycles, energy

    def _look(self, prefix: Prefix, point: int) -> _Seen | None:
        """What is sure after the cuts made; None where they do not fit."""
        kinds = self.problem.layout.buffers(prefix, point)
        if kinds is None:
            return None
        self.work += 8
        known, added, reserve = known_cycles(self.problem.layout, prefix, kinds)
        return _Seen(known, AT_ENDS * added, reserve)

    def _least_cycles(self, seen: _Seen, sums: list[float]) -> float:
        """The least cycles of all chains that go on from here."""
        ends = max(sums[self.ends :])
        found = max(0.0, *sums[_FIRST_PORT : self.ends], seen.sure + ends - seen.less)
        if self.problem.small_back:
            found = max(found, seen.sure + ends / 2)
        return found + min(seen.reserve + sums[_RESERVED], RESERVE * found)

    def _offer(self, prefix: Prefix, least_pj: float) -> None:
        """Keep a whole chain where it is better."""
        problem, best = self.problem, self.best
        kinds = problem.layout.buffers(prefix, len(problem.exponents) - 1)
        if kinds is None:
            return
        self.work += 8
        cycles = chain_cycles(problem.layout, prefix, kinds)
        at = dict(prefix)
        energy = float(problem.base[_SPENT]) + sum(float(problem.energy_pj[c, at[c]]) for c in sorted(at))
        for k, (inner, outer) in enumerate(problem.coupled):
            energy -= float(problem.saving[k, at[inner] if inner >= 0 else 0] * problem.factor[k, at[outer]])
        if problem.sliding and cycles <= best.max_cycles:
            self.leaves = min(self.leaves, best.objective.of(min(energy, least_pj), cycles))
        if best.hopeless(cycles, energy):
            return
        best.score, best.energy_pj, best.cycles = best.objective.of(energy, cycles), energy, cycles
        self.chains = [*self.chains[1 - MOST_RESULTS :], [at[c] for c in range(len(at))]]
