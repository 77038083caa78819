"""The branch and bound for fast mappings: compiled and plain agree, and no bound is above what it bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from nest_strategies import Problem, problems

from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.evaluate import effective_cuts
from dfc.backend_cost.mapping_best import MappingSearch
from dfc.backend_cost.mapping_branch import COMPILED, BranchProblem, Goal, branch_problem
from dfc.backend_cost.mapping_branch_time import FlatLayout, chain_cycles, known_cycles
from dfc.backend_cost.mapping_cost import Objective, TooSmall, mapping_times
from dfc.backend_cost.mapping_space import MappingSpace, Order, mapping_space

#: of the plain search: it takes tens of microseconds for each step
WORK = 20_000


def branch_of(problem: Problem) -> tuple[MappingSpace, BranchProblem] | None:
    space = mapping_space(problem.nest, problem.arch, EXACT)
    regions = space.regions()
    if isinstance(regions, TooSmall):
        return None
    search = MappingSearch(space, regions, Objective.LATENCY, None, None, few=True)
    branch = branch_problem(space, regions, search.floor_pj)
    return None if branch is None else (space, branch)


def flat_of(branch: BranchProblem) -> FlatLayout:
    tables = branch.space.tables
    arrays = branch.final, branch.partial, branch.reduces, branch.places, branch.room
    return FlatLayout(branch.layout, branch.numbers, branch.values, tables.stays, tables.cycles, *arrays)


@pytest.mark.skipif(not COMPILED, reason="installed without a compiler")
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=problems(3000))
def test_compiled_and_plain_take_the_same_steps(problem: Problem) -> None:
    found = branch_of(problem)
    for objective in Objective if found else ():
        assert found is not None
        goal = Goal(objective)
        fast = found[1].search(goal, WORK)
        slow = replace(found[1], compiled=False).search(goal, WORK)
        assert fast.chains.tolist() == slow.chains.tolist()
        assert fast.work == slow.work
        assert fast.bound == pytest.approx(slow.bound, rel=1e-12)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=problems(20_000))
def test_what_is_known_early_is_never_too_much(problem: Problem) -> None:
    """Of every chain found, whole, and of its inner cuts alone: the latency, and no more than that."""
    found = branch_of(problem)
    if found is None:
        return
    space, branch = found
    layout = flat_of(branch)
    ends = 2 + layout.ports
    chains = np.concatenate([branch.search(Goal(o), WORK).chains for o in Objective])
    batch = space.batch(chains, space.orders(chains, Order.MOVE))
    cycles = mapping_times(space.tables, batch, effective_cuts(space.tables, batch), times=space.times).total
    for chain, true in zip(chains[:, branch.cuts].tolist(), cycles.tolist(), strict=True):
        degree = space.lattice.degree
        order = sorted(range(len(chain)), key=lambda c: (degree[chain[c]], c))
        prefix = tuple((c, chain[c]) for c in order)
        kinds = layout.buffers(prefix, space.lattice.top)
        assert kinds is not None
        assert chain_cycles(layout, prefix, kinds) == pytest.approx(true, rel=1e-12)
        sums = branch.base + sum(branch.cost[:, c, p] for c, p in prefix)
        for made in range(len(prefix)):
            point = prefix[made - 1][1] if made else 0
            kinds = layout.buffers(prefix[:made], point)
            assert kinds is not None
            known, added, reserve = known_cycles(layout, prefix[:made], kinds)
            least = max(*sums[2:ends], known + max(sums[ends:]) - 0.25 * added)
            assert least + min(reserve, 0.04 * least) <= true * (1 + 1e-9)
            assert branch.least_score(Objective.LATENCY, 0.0) <= true * (1 + 1e-9)
