"""The chain of least energy: a shortest path, and branch and bound where operands share a memory.

A shortest path that ignores what operands share is a bound. Where its cuts put more below a memory than it holds, every
mapping that fits has at least one of them hold less, by thresholds that leave no mapping out: one branch for each.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from dfc.backend_cost.mapping_space import MappingSpace, Region
from dfc.backend_cost.tables import Floats, Ints

#: branches that are solved before the search settles for what it has, with a proved gap
NODES = 4000
#: relative difference below which energies are one
TIE = 1e-9


@dataclass(frozen=True, eq=False)
class LeastEnergy:
    """A chain (cuts,) with its region and energy, and the energy that no mapping is below."""

    region: Region
    chain: Ints
    energy_pj: float
    bound_pj: float


class _Search:
    def __init__(self, space: MappingSpace, cost: Floats | None, nodes: int):
        self.space = space
        self.cost = space.energy_pj if cost is None else cost
        self.fixed = space.tables.fixed_pj
        self.left = nodes
        self.number = count()
        self.open: list[tuple[float, int, Region, Ints]] = []
        self.best: LeastEnergy | None = None

    def push(self, region: Region) -> None:
        self.left -= 1
        value, chain = self.space.chains.least(self.space.relaxed(self.cost, region))
        if np.isfinite(value) and not self.beaten(self.fixed + value):
            heapq.heappush(self.open, (self.fixed + value, next(self.number), region, chain))

    def beaten(self, bound: float) -> bool:
        return self.best is not None and bound >= self.best.energy_pj * (1 - TIE / 100)

    def run(self, regions: list[Region]) -> LeastEnergy | None:
        for region in regions:
            self.push(region)
        left = np.inf  # the least bound of what is not looked at
        while self.open:
            value, _, region, chain = heapq.heappop(self.open)
            if self.beaten(value) or (self.left <= 0 and self.best is not None):
                left = value
                break
            branches = self.overfull(region, chain)
            if not branches:
                self.offer(region, chain)
                branches = self.uncoupled(region, chain)
            for branch in branches:
                self.push(branch)
        if self.best is None:
            return None
        return replace(self.best, bound_pj=min(left, self.best.energy_pj))

    def offer(self, region: Region, chain: Ints) -> None:
        extra = sum(float(self.cost[k, p] - self.space.energy_pj[k, p]) for k, p in enumerate(chain))
        energy = float(self.space.chain_energy_pj(chain[None, :])[0]) + extra
        if self.best is None or energy < self.best.energy_pj:
            self.best = LeastEnergy(region, chain, energy, energy)

    def overfull(self, region: Region, chain: Ints) -> list[Region]:
        """Branches that leave this chain out, if it puts too much below a memory."""
        for memory, members in self.space.sharing.items():
            held = [int(region.bits[k][chain[k]]) for k in members]
            over = sum(held) - region.room[memory]
            if over <= 0 or len(members) < 2:
                continue
            # whoever fits holds at most held - cut for one of the members, if the cuts sum to at most this
            share, rest = divmod(over + len(members) - 1, len(members))
            less = [max(1, share + (i < rest)) for i in range(len(members))]
            return [
                region.restricted(self._only(region, k, region.bits[k] <= h - c))
                for k, h, c in zip(members, held, less, strict=True)
            ]
        return []

    def uncoupled(self, region: Region, chain: Ints) -> list[Region]:
        """Branches that part the points of a cut by what it saves elsewhere, where the bound counted too much."""
        for c in self.space.couplings:
            values = c.factor[region.allowed[c.outer]]
            mine = c.factor[chain[c.outer]]
            if mine < values.max(initial=0.0):
                high = c.factor > mine
                return [region.restricted(self._only(region, c.outer, part)) for part in (high, ~high)]
        return []

    def _only(self, region: Region, cut: int, points: np.ndarray) -> np.ndarray:
        allowed = region.allowed.copy()
        allowed[cut] &= points
        return allowed


def least_energy(
    space: MappingSpace, regions: list[Region], cost: Floats | None = None, nodes: int = NODES
) -> LeastEnergy | None:
    """The chain of least energy, or of least ``cost`` (cuts, points); None where nothing fits."""
    return _Search(space, cost, nodes).run(regions)
