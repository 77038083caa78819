"""What the mappings of a tile class's layers count at least, by what is known of them.

The best mapping where nobody else takes room is the mapping, wherever all it keeps has room. Elsewhere no mapping is
better by the objective. Where that is the product of energy and cycles, ways are chosen by a weighted sum of both, and
of two numbers with a product of at least q the sum a + b is at least 2 * sqrt(q).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

from dfc.backend_cost.mapping_cost import Objective, TooSmall
from dfc.backend_cost.spatial_search import Spatial
from dfc.scheduling.class_walk import ClassWalk
from dfc.scheduling.nest_floor import LearntFloor
from dfc.scheduling.room import Fitted

#: where a layer reads its inputs and leaves its output
Memories = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Known:
    """What ways are chosen by of a layer's mapping: ``alone`` of the best where nobody else takes room, if it has been
    searched and has room, which it has ``anywhere`` if wherever maps lie; else at least ``least``.
    """

    free: Fitted | None
    alone: float
    least: float
    anywhere: bool


class LeastMappings:
    """The mappings of one class with what stays where; what is learnt of one holds for others of the same nests."""

    def __init__(self, walk: ClassWalk, *, fixed: bool):
        """``fixed``: where maps lie was chosen elsewhere, it may be in other memories than this class has for them."""
        self.walk = walk
        self.fixed = fixed
        self.objective = walk.pricer.cache.objective
        self.cycle = walk.pricer.weight(0.0, 1.0)
        self._empty = walk.room(())
        self._known: dict[tuple[int, Memories], _Known] = {}

    def known(self, index: int, memories: Memories) -> bool:
        """Whether :meth:`learn` would tell no more."""
        if self.walk.spatial is not Spatial.PREFER:  # nothing is known of other unrollings
            return True
        return LearntFloor.key(self.walk.levels(index, *memories)) in self.walk.learnt(index).free

    def learn(self, index: int, memories: Memories) -> None:
        """Search the best mapping of a layer where nobody else takes room."""
        found = self.walk.free(index, *memories)
        levels, learnt = self.walk.levels(index, *memories), self.walk.learnt(index)
        learnt.free[LearntFloor.key(levels)] = found
        if isinstance(found, Fitted) and self.objective is Objective.ENERGY:
            learnt.learn(levels, found.cost.energy_pj * _proved(found))
        self._known = {key: known for key, known in self._known.items() if key[0] != index}

    def least(self, index: int, memories: Memories, room: Mapping[int, int] | None = None) -> float:
        """What ways are chosen by of a layer's mapping, at least; with so much ``room``, or with any that is left."""
        known = self._known.get((index, memories))
        if known is None:
            known = self._known[index, memories] = self._worked_out(index, memories)
        if known.free is None:
            return known.least
        has_room = known.anywhere if room is None else known.free.fits(room)
        return known.alone if has_room else known.least

    def _worked_out(self, index: int, memories: Memories) -> _Known:
        energy, cycles = self.walk.floor(index, *memories)
        weight = self.walk.pricer.weight
        found: Fitted | TooSmall | None = None
        if self.walk.spatial is Spatial.PREFER:
            found = self.walk.learnt(index).free.get(LearntFloor.key(self.walk.levels(index, *memories)))
        if not isinstance(found, Fitted):
            return _Known(None, 0.0, weight(energy, cycles), anywhere=False)
        cost, proved = found.cost, _proved(found)
        if self.objective is Objective.ENERGY:
            least = weight(max(energy, cost.energy_pj * proved), cycles)
        elif self.objective is Objective.LATENCY:
            least = weight(energy, max(cycles, cost.latency_cycles * proved))
        else:
            least = self._of_product(cost.energy_pj * cost.latency_cycles * proved, energy, cycles)
        anywhere = not self.fixed and found.fits(self._left(index, memories))
        return _Known(found, weight(cost.energy_pj, cost.latency_cycles), least, anywhere=anywhere)

    def _of_product(self, product: float, energy: float, cycles: float) -> float:
        """The least weight where neither factor is below these and their product is not below ``product``."""
        if product <= energy * cycles:
            return self.walk.pricer.weight(energy, cycles)
        best = max(energy, sqrt(product * self.cycle))
        if cycles:
            best = min(best, product / cycles)
        return self.walk.pricer.weight(best, product / best if best else cycles)

    def _left(self, index: int, memories: Memories) -> Mapping[int, int]:
        """What is left of each memory, wherever maps lie."""
        view, left = self.walk.view, dict(self._empty)
        for taken in (view.most[index], view.own(index, *memories)):
            for m, bits in taken.items():
                left[m] -= bits
        return left


def _proved(found: Fitted) -> float:
    """The share of what a mapping costs that no mapping is below."""
    return 0.0 if found.cost.gap is None else 1 - found.cost.gap
