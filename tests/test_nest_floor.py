"""What no mapping costs less than, against mappings of random nests on random chips."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from nest_strategies import Case, Problem, cases, problems

from dfc.backend_cost.cost_model import DEFINES, EXACT, CostModel
from dfc.backend_cost.mapping_cost import MappingCost, price_mapping
from dfc.backend_cost.mapping_search import search_mapping
from dfc.backend_cost.nest import Nest
from dfc.hwdsl.arch import Arch
from dfc.ir import Role
from dfc.scheduling.nest_floor import LearntFloor, nest_floor


def levels_of(nest: Nest) -> dict[Role, int]:
    found = dict.fromkeys(Role, 1)
    return found | {operand.role: len(operand.memories) for operand in nest.operands}


def paths_of(nest: Nest) -> dict[Role, tuple[int, ...]]:
    return {operand.role: operand.memories for operand in nest.operands}


@pytest.mark.parametrize("model", [EXACT, DEFINES], ids=lambda m: m.name)
def test_no_mapping_is_below_its_floor(model: CostModel) -> None:
    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(cases())
    def check(case: Case) -> None:
        nest = replace(case.nest, steps=None)
        assume(model.whole_lanes or not case.nest.idling)
        floor = nest_floor(nest, case.arch, model)
        cost = price_mapping(case.nest, case.arch, case.mapping, model)
        assert cost.energy_pj >= floor.energy_pj(levels_of(nest)) * (1 - 1e-9)
        assert cost.latency_cycles >= floor.cycles

    check()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(problems(2000), st.data())
def test_what_is_learnt_is_no_more_than_what_mappings_cost(problem: Problem, data: st.DataObject) -> None:
    """Of a nest in fewer memories, for the same in more."""
    nest: Nest = problem.nest
    arch: Arch = problem.arch
    paths = paths_of(nest)
    most = levels_of(nest)
    fewer = {role: data.draw(st.integers(1, most[role])) for role in Role}
    operands = tuple(replace(o, memories=o.memories[: fewer[o.role]]) for o in nest.operands)
    lower = search_mapping(replace(nest, operands=operands), arch, model=EXACT)
    higher = search_mapping(nest, arch, model=EXACT)
    assume(isinstance(lower, MappingCost) and isinstance(higher, MappingCost))
    assert isinstance(lower, MappingCost)
    assert isinstance(higher, MappingCost)
    floor = LearntFloor(nest_floor(nest, arch, EXACT), paths)
    before = floor.energy_pj(most)
    floor.learn(fewer, lower.energy_pj * (1 - (lower.gap or 0.0)))
    assert before <= floor.energy_pj(most) <= higher.energy_pj * (1 + 1e-9)
    assert floor.energy_pj(fewer) <= lower.energy_pj * (1 + 1e-9)
