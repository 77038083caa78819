"""Least chains through a lattice: the shortest paths that the mapping search is made of (docs/mapping-search.md).

Operand o makes ``counts[o]`` cuts one after the other; cut k at point p costs ``cost[k, p]``, infinite where it is not
allowed; all cuts together form a chain. One state per tuple of cuts made, one value per state and point: the least cost
of the cuts made, all at or below the point. Making a cut adds its cost; moving to a greater point is free, so that
minima spread along the axes. ``_chains.c`` is the same, compiled; what stands here is used where no compiler was.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from dfc.backend_cost.native import load
from dfc.backend_cost.tables import Floats, Ints

_native = load("_chains")
COMPILED = _native is not None

_State = tuple[int, ...]

#: points looked at for each chain that may be listed, before a list is cut short
_LOOKS = 256


@dataclass(frozen=True, eq=False)
class ChainProblem:
    """The lattice and its cuts.

    shape:    points along each axis, (axes,).
    counts:   cuts of each operand, (operands,).
    idle:     per operand the axes that leave it where it is, one bit each (the first axis is bit 0), (operands,).
    compiled: whether to use the compiled code.
    """

    shape: Ints
    counts: Ints
    idle: Ints
    compiled: bool = COMPILED

    @property
    def cuts(self) -> int:
        """Cuts of all operands."""
        return int(self.counts.sum())

    def least(self, cost: Floats) -> tuple[float, Ints]:
        """The least cost of a chain, and its points (cuts,); infinite where there is none. ``cost`` is (cuts, points).

        Among chains of equal cost it is the one whose last cut lies at the first point, and so on inwards.
        """
        chain = np.zeros(self.cuts, dtype=np.int64)
        if self.compiled and _native is not None:
            return float(_native.least(self.shape, self.counts, np.ascontiguousarray(cost), chain)), chain
        return _Plain(self, cost).least()

    def remaining(self, cost: Floats) -> Floats:
        """The least cost of all cuts that are not made yet, at or above each point: (measures, states, points).

        ``cost`` is (measures, cuts, points). The last operand's cuts count fastest in a state.
        """
        if self.compiled and _native is not None:
            states = int(np.prod(self.counts + 1))
            found = np.empty((len(cost), states, int(np.prod(self.shape))))
            _native.remaining(self.shape, self.counts, np.ascontiguousarray(cost), len(cost), found)
            return found
        layers = [_Plain(self, measure) for measure in cost]
        for layer in layers:
            layer.backwards()
        return np.stack([[layer.left[s] for s in layer.states] for layer in layers])

    def within(
        self, cost: Floats, base: Floats, limits: Floats, most: int, product: float = np.inf
    ) -> tuple[Ints, bool]:
        """Closed chains that stay within limits as rows (chains, cuts), and whether these are all of them.

        In a closed chain, the step from each cut to the next point moves along an axis that is idle for none of the
        operands that are cut there.

        Several measures at once: measure f of a chain is ``base[f]`` and its cuts' ``cost[f, cut, point]``, and at most
        ``limits[f]``, and finite: a cut that may not lie where it does is in no chain. The first measure times the
        greatest of the others is at most ``product``. No more than ``most``
        chains are listed, and not all of them where too many points had to be looked at.
        """
        if self.compiled and _native is not None:
            result = np.empty((most, self.cuts), dtype=np.int64)
            layers = np.ascontiguousarray(cost)
            found = int(
                _native.within(
                    self.shape, self.counts, layers, base, limits, self.idle, product, _LOOKS * (most + 1000), result
                )
            )
            listed = min(most, -found - 1 if found < 0 else found)
            return result[:listed], 0 <= found <= most
        return _Within(self, cost, base, limits, product).run(most)


class _Plain:
    """The search in NumPy."""

    def __init__(self, problem: ChainProblem, cost: Floats):
        self.shape: tuple[int, ...] = tuple(problem.shape.tolist())
        self.counts: tuple[int, ...] = tuple(problem.counts.tolist())
        self.cost = cost
        self.first = [sum(self.counts[:o]) for o in range(len(self.counts))]
        self.states = list(product(*(range(n + 1) for n in self.counts)))
        self.points = np.indices(self.shape).reshape(len(self.shape), -1).T
        self.reach: dict[_State, Floats] = {}
        self.made: dict[_State, Floats] = {}
        self.left: dict[_State, Floats] = {}

    def _spread(self, values: Floats, *, up: bool) -> Floats:
        """Each value replaced by the least of all points below (``up``) or above it."""
        grid = values.reshape(self.shape)
        for axis in range(grid.ndim):
            turned = grid if up else np.flip(grid, axis)
            least: Floats = np.minimum.accumulate(turned, axis=axis)
            grid = least if up else np.flip(least, axis)
        return np.ascontiguousarray(grid).reshape(-1)

    def _cost(self, operand: int, cut: int) -> Floats:
        row: Floats = self.cost[self.first[operand] + cut]
        return row

    def _forwards(self) -> None:
        for state in self.states:
            options = [self.reach[s] + self._cost(o, state[o] - 1) for o, s in self._before(state)]
            if not options:
                self.reach[state] = np.zeros(len(self.points))
                continue
            self.made[state] = np.minimum.reduce(options)
            self.reach[state] = self._spread(self.made[state], up=True)

    def backwards(self) -> None:
        for state in reversed(self.states):
            options = [self._cost(o, state[o]) + self.left[s] for o, s in self.after(state)]
            final = np.zeros(len(self.points))
            self.left[state] = self._spread(np.minimum.reduce(options), up=False) if options else final

    def _before(self, state: _State) -> list[tuple[int, _State]]:
        return [(o, (*state[:o], n - 1, *state[o + 1 :])) for o, n in enumerate(state) if n]

    def after(self, state: _State) -> list[tuple[int, _State]]:
        return [(o, (*state[:o], n + 1, *state[o + 1 :])) for o, n in enumerate(state) if n < self.counts[o]]

    def least(self) -> tuple[float, Ints]:
        self._forwards()
        chain = np.zeros(sum(self.counts), dtype=np.int64)
        state = self.states[-1]
        at = len(self.points) - 1
        value = float(self.reach[state][at])
        while any(state) and np.isfinite(value):
            wanted = self.reach[state][at]
            below = (self.points <= self.points[at]).all(axis=1)
            at = int(np.flatnonzero(below & (self.made[state] == wanted))[0])
            operand, state = next(
                (o, s) for o, s in self._before(state) if self.reach[s][at] + self._cost(o, state[o] - 1)[at] == wanted
            )
            chain[self.first[operand] + state[operand]] = at
        return value, chain


class _Within:
    """Chains within limits, in plain Python."""

    def __init__(self, problem: ChainProblem, cost: Floats, base: Floats, limits: Floats, product: float):
        self.layers = [_Plain(problem, measure) for measure in cost]
        for layer in self.layers:
            layer.backwards()
        self.plain = self.layers[0]
        self.base = base
        self.limits = limits
        self.product = product
        self.idle: list[int] = problem.idle.tolist()
        self.at = [0] * problem.cuts
        self.rows: list[list[int]] = []
        self.looks = self.most_looks = 0

    def run(self, most: int) -> tuple[Ints, bool]:
        self.most_looks = _LOOKS * (most + 1000)
        self._extend(self.plain.states[0], (0, 0), 0, self.base, most)
        complete = len(self.rows) <= most and self.looks <= self.most_looks
        return np.array(self.rows[:most], dtype=np.int64).reshape(-1, len(self.at)), complete

    def _free(self, low: int, high: int, stuck: int) -> bool:
        """Whether a step moves along an axis that is not stuck."""
        axes = np.flatnonzero(self.plain.points[low] < self.plain.points[high]).tolist()
        return low == high or any(not stuck >> a & 1 for a in axes)

    def _extend(self, state: _State, at: tuple[int, int], last: int, spent: Floats, most: int) -> bool:
        """Whether the walk may go on; ``at`` is the point and the axes that are idle for an operand cut there."""
        point, stuck = at
        if state == self.plain.counts:
            if self._free(point, len(self.plain.points) - 1, stuck):
                self.rows.append(self.at.copy())
            return len(self.rows) <= most
        above = (self.plain.points >= self.plain.points[point]).all(axis=1)
        for o, after in self.plain.after(state):
            if self.looks > self.most_looks:
                return False
            self.looks += len(above) - point - (o < last)
            row = self.plain.first[o] + state[o]
            sums = spent[:, None] + np.stack([layer.cost[row] for layer in self.layers])
            whole = sums + np.stack([layer.left[after] for layer in self.layers])
            allowed = above & ((whole <= self.limits[:, None]) & (whole < np.inf)).all(axis=0)
            if len(whole) > 1 and np.isfinite(self.product):
                allowed &= whole[0] * whole[1:].max(axis=0) <= self.product
            for p in np.flatnonzero(allowed).tolist():
                if (p == point and o < last) or not self._free(point, p, stuck):
                    continue  # cuts at one point are made in the operands' order
                self.at[row] = p
                idle = self.idle[o] | (stuck if p == point else 0)
                if not self._extend(after, (p, idle), o, sums[:, p], most):
                    return False
        return True
