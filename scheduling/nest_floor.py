"""What no mapping of a nest costs less than, worked out without a search.

What crosses the edge of the array is the same for all mappings. Above it, each element moves across each boundary below
the memory in which its operand lives once at least: the traffic of a boundary that has all loops below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from dfc.backend_cost.cost_model import CostModel
from dfc.backend_cost.evaluate import link_pj
from dfc.backend_cost.mapping_cost import TooSmall
from dfc.backend_cost.nest import Nest
from dfc.backend_cost.tables import OperandTable, Tables, build_tables
from dfc.hwdsl.arch import Arch
from dfc.ir import N_DIMS, Role
from dfc.scheduling.room import Fitted

#: how many memories the operands of each role use: outputs, weights, inputs
Levels = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class NestFloor:
    """Energy and cycles that no mapping is below.

    fixed_pj:   operations, and what crosses the edge of the array.
    carried_pj: per operand, what it costs to move each element once through the memories that it uses, by their number.
    adds_up:    what crosses one boundary does not change what another costs.
    """

    fixed_pj: float
    carried_pj: tuple[tuple[Role, tuple[float, ...]], ...]
    cycles: int
    adds_up: bool

    def energy_pj(self, levels: Mapping[Role, int]) -> float:
        """Energy where the operands of each role use so many memories, counted from the array."""
        return self.fixed_pj + sum(carried[levels[role] - 1] for role, carried in self.carried_pj)


class LearntFloor:
    """The energy that no mapping of a layer's tile is below, raised by what its mappings turned out to cost.

    Where an operand lives in a higher memory, its mapping is one for the lower memory with each element carried on from
    there, unless other operands have parts in that memory too, for which there is less room then.
    """

    def __init__(self, floor: NestFloor, paths: Mapping[Role, tuple[int, ...]]):
        self.floor = floor
        self.paths = paths
        #: best mappings where nobody else takes room, by :meth:`key`: filled by who asks for them
        self.free: dict[Levels, Fitted | TooSmall] = {}
        self._mapped: list[tuple[Mapping[Role, int], float]] = []
        self._known: dict[Levels, float] = {}

    @staticmethod
    def key(levels: Mapping[Role, int]) -> Levels:
        """What tells memories of operands from others."""
        return levels[Role.O], levels[Role.W], levels[Role.I]

    def energy_pj(self, levels: Mapping[Role, int]) -> float:
        """Where the operands of each role use so many memories."""
        key = self.key(levels)
        found = self._known.get(key)
        if found is None:
            more = (self._carried(known, levels, least) for known, least in self._mapped)
            found = self._known[key] = max([self.floor.energy_pj(levels), *more])
        return found

    def learn(self, levels: Mapping[Role, int], least_pj: float) -> None:
        """No mapping with these memories, as large as they are, costs less than ``least_pj``."""
        if self.floor.adds_up and not any(levels == known for known, _ in self._mapped):
            self._mapped.append((levels, least_pj))
            self._known.clear()

    def _carried(self, known: Mapping[Role, int], levels: Mapping[Role, int], least_pj: float) -> float:
        raised = [role for role, _ in self.floor.carried_pj if levels[role] > known[role]]
        if any(levels[role] < known[role] for role, _ in self.floor.carried_pj):
            return 0.0
        inner = {m for role, _ in self.floor.carried_pj for m in self.paths[role][: known[role] - 1]}
        if any(self.paths[role][known[role] - 1] in inner for role in raised):
            return 0.0
        more = (carried[levels[role] - 1] - carried[known[role] - 1] for role, carried in self.floor.carried_pj)
        return least_pj + sum(more)


def nest_floor(nest: Nest, arch: Arch, model: CostModel) -> NestFloor:
    """The floor of a nest, and of the same with fewer memories than its operands have.

    The reference counts fractions of lanes, so that the sum over parts may be less than the whole: under its model only
    what is the same for all mappings counts.
    """
    points = np.array([[1.0] * N_DIMS, [float(n) for n in nest.temporal]])
    tables = build_tables(nest, arch, points, model)
    carried = tuple((table.operand.role, _carried(tables, table, model)) for table in tables.operands)
    saved = sum(_saved(tables, table, 0) for table in tables.operands)
    apart = model.whole_lanes and not any(link.coupled for table in tables.operands for link in table.links)
    return NestFloor(tables.fixed_pj - saved, carried, nest.cycles, apart)


def _carried(tables: Tables, table: OperandTable, model: CostModel) -> tuple[float, ...]:
    boundaries = range(1, len(table.operand.memories))
    if not model.whole_lanes:
        return (0.0, *(0.0 for _ in boundaries))
    each = (max(0.0, float(table.energy_pj[a][-1]) - _saved(tables, table, a)) for a in boundaries)
    return tuple(accumulate(each, initial=0.0))


def _saved(tables: Tables, table: OperandTable, boundary: int) -> float:
    """What sums that start from zero may save at a boundary at most."""
    links = (link for link in table.links if link.boundary == boundary) if table.operand.is_output else ()
    return sum(
        float(words[-1]) * link_pj(tables, link) * float(factor.max())
        for link in links
        for _, words, factor in link.coupled
    )
