"""The mapping search against all mappings of small problems, and against the recorded search of the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import comb, prod

import numpy as np
import pytest
import reference
from brute_force import MOST, Best, Priced, TooManyError, count, factors, fits, listable, orders, price_all, price_one
from effort import share
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis import strategies as st
from nest_strategies import Problem, problems

from dfc.backend_cost.cost_model import DEFINES, EXACT, MODELS, CostModel
from dfc.backend_cost.mapping_cost import MappingCost, Objective, TooSmall, price_mapping
from dfc.backend_cost.mapping_energy import least_energy
from dfc.backend_cost.mapping_search import padded_steps, search_mapping
from dfc.backend_cost.mapping_space import mapping_space
from dfc.backend_cost.tables import build_tables
from dfc.hwdsl.arch import Arch
from dfc.ir import N_DIMS

BLOCKS = share(10, 3)
SEEDS = 5  # per block
#: of one seed: up to ten, hypothesis draws each problem afresh; beyond, it would vary earlier ones
PROBLEMS = 10
MAPPINGS = 60_000

CASES = reference.load("mapping_cases.json.gz", "DFC_REFERENCE_CASES")["cases"]


def same(value: float) -> object:
    return pytest.approx(value, rel=1e-9)


def check(
    problem: Problem, model: CostModel, priced: Priced, objective: Objective, max_cycles: int | None = None
) -> bool:
    """The search's answer has the value and the ties of the list of all mappings, and costs what it says.

    Returns whether it is proved. All are of up to six prime factors, and all least energies. Idle steps can make more
    factors; where a gap is left then, it has to be true.
    """
    nest, arch = problem.nest, problem.arch
    found = search_mapping(nest, arch, objective, model, max_cycles=max_cycles)
    best = priced.best(objective, np.inf if max_cycles is None else max_cycles)
    if best is None:
        assert isinstance(found, TooSmall)
        assert found.memory in {m for o in nest.operands for m in o.memories}
        assert found.needed_bits > arch.memories[found.memory].size_bits
        return True
    assert isinstance(found, MappingCost)
    mapping = found.mapping
    assert Counter(mapping.loops) == Counter(factors(nest.with_steps(mapping.steps)))
    assert all(list(cuts) == sorted(cuts) and cuts[-1] == len(mapping.loops) for cuts in mapping.cuts)
    assert fits(nest, arch, mapping, model)
    assert found.gap is not None
    mine = price_one(nest, arch, mapping, model)
    if max_cycles is not None:
        assert mine.cycles <= max_cycles + 1e-6
    if found.gap == 0.0:
        agree(mine, best, objective)
    else:
        assert objective is not Objective.ENERGY or max_cycles is not None
        assert max(len(factors(nest.with_steps(steps))) for steps in padded_steps(nest, model)) > 6
        score = {Objective.ENERGY: mine.energy_pj, Objective.LATENCY: mine.cycles, Objective.EDP: mine.score}[objective]
        assert best.score >= score * (1 - found.gap) * (1 - 1e-9)
    assert replace(found, gap=None) == price_mapping(nest, arch, mapping, model)
    assert found.energy_pj == same(mine.energy_pj)
    return found.gap == 0.0


def agree(mine: Best, best: Best, objective: Objective) -> None:
    """Equal scores; among these no mapping has less energy, and among these none is faster."""
    score = {Objective.ENERGY: mine.energy_pj, Objective.LATENCY: mine.cycles, Objective.EDP: mine.score}[objective]
    if objective is Objective.LATENCY:
        assert score == pytest.approx(best.score, rel=0, abs=1e-6)
    else:
        assert score == same(best.score)
    assert mine.energy_pj == same(best.energy_pj)
    assert mine.cycles == same(best.cycles)


def limit_between(priced: Priced, share: float) -> int | None:
    """A limit of cycles from the fastest mapping's to those of the one of least energy."""
    fastest, thriftiest = priced.best(Objective.LATENCY), priced.best(Objective.ENERGY)
    if fastest is None or thriftiest is None:
        return None
    return int(np.ceil(fastest.cycles + share * (thriftiest.cycles - fastest.cycles) - 1e-6))


def roomy(arch: Arch) -> Arch:
    """The accelerator with memories that hold everything."""
    return replace(arch, memories=tuple(replace(m, size_bits=1 << 50) for m in arch.memories))


def traits(problem: Problem, priced: Priced) -> set[str]:
    """What makes a problem hard."""
    nest, arch = problem.nest, problem.arch
    best = priced.best(Objective.ENERGY)
    found = {"infeasible"} if best is None else {"feasible"}
    tables = build_tables(nest, arch, np.ones((1, N_DIMS)), EXACT)
    if any(link.coupled for table in tables.operands for link in table.links):
        found.add("coupled")
    below = Counter(m for o in nest.operands for m in o.memories[:-1])
    if any(n > 1 for n in below.values()):
        found.add("shared")
    if any(u.share != u.lanes for u in nest.unrolled):
        found.add("remainder")
    unbound = search_mapping(nest, roomy(arch), Objective.ENERGY, EXACT)
    assert isinstance(unbound, MappingCost)
    if best is not None and unbound.energy_pj < best.energy_pj * (1 - 1e-9):
        found.add("bound by size")
    return found


def test_large_problems_are_refused() -> None:
    case = CASES[0]
    arch = reference.arch_of(case["accelerator"])
    nest, _ = reference.nest_of(case, arch)
    assert count(nest) > MOST
    with pytest.raises(TooManyError):
        price_all(nest, arch, EXACT)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=problems(3000))
def test_listed_as_counted(problem: Problem) -> None:
    """With room for all, every order and every way to cut it is listed."""
    nest, arch = problem.nest, roomy(problem.arch)
    listed = orders(factors(nest))
    assert len(set(listed)) == len(listed)
    assert all(Counter(order) == Counter(factors(nest)) for order in listed)
    assert prod(loop.size for loop in listed[0]) == nest.cycles
    cuts = prod(comb(len(listed[0]) + len(o.memories) - 1, len(o.memories) - 1) for o in nest.operands)
    assert count(nest) == len(listed) * cuts
    assert 0 < len(price_all(nest, arch, DEFINES).energy_pj) <= count(nest)  # no idle steps in this model


@pytest.mark.slow
@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_listed_mapping_is_better(block: int) -> None:
    """For each objective and both models, on problems that are different in every block."""
    met: Counter[str] = Counter()

    @settings(
        max_examples=PROBLEMS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(problem=problems(MAPPINGS), share=st.sampled_from((0.0, 0.2, 0.5, 0.8)))
    def agrees(problem: Problem, share: float) -> None:
        assume(listable(problem.nest, EXACT))  # five in 500 may idle in so many ways that listing takes minutes
        for model in MODELS.values():
            priced = price_all(problem.nest, problem.arch, model)
            for objective in Objective:
                met["open"] += not check(problem, model, priced, objective)
                met["searches"] += 1
            limit = limit_between(priced, share)
            if limit is not None:
                met["open"] += not check(problem, model, priced, Objective.ENERGY, limit)
            if model is EXACT:
                met.update(["all", *traits(problem, priced)])

    for number in range(SEEDS):
        seed(block * SEEDS + number)(agrees)()
    assert met["all"] >= SEEDS * PROBLEMS
    assert met["open"] <= 0.01 * met["searches"]
    # the problems are worth solving: sizes bind, operands share memories, savings couple cuts
    assert met["bound by size"] > met["all"] / 3
    assert met["shared"] > met["all"] / 3
    assert met["coupled"]
    assert met["remainder"]
    assert met["feasible"] > met["all"] / 2


@pytest.mark.slow
def test_a_search_given_up_has_a_true_bound() -> None:
    """Where savings couple cuts and branches run out, the least chain lies between what is kept and its bound."""
    open_ones = 0

    @seed(1)
    @settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(problem=problems(MAPPINGS))
    def bounded(problem: Problem) -> None:
        nonlocal open_ones
        space = mapping_space(problem.nest, problem.arch, EXACT)
        regions = space.regions()
        if not space.couplings or isinstance(regions, TooSmall):
            return
        best, some = least_energy(space, regions), least_energy(space, regions, nodes=0)
        assert best is not None
        assert some is not None
        assert some.bound_pj <= best.energy_pj * (1 + 1e-9) <= some.energy_pj * (1 + 2e-9)
        open_ones += some.bound_pj < some.energy_pj

    bounded()
    assert open_ones


@pytest.mark.reference
def test_never_above_the_recorded_energy(record_testsuite_property: Callable[[str, object], None]) -> None:
    """The recorded search tries few orders and allocates greedily: the optimum is at most what it found."""
    gains: list[float] = []
    for case in CASES:
        arch = reference.arch_of(case["accelerator"])
        nest, _ = reference.nest_of(case, arch)
        found = search_mapping(nest, arch, Objective.ENERGY, DEFINES)
        assert isinstance(found, MappingCost), case["case_id"]
        recorded = case["loma"]["min_energy"]
        assert found.energy_pj <= recorded * (1 + 1e-9), case["case_id"]
        assert found.gap == 0.0, case["case_id"]
        assert fits(nest, arch, found.mapping, DEFINES), case["case_id"]
        gains.append(1 - found.energy_pj / recorded)
    record_testsuite_property("mean_gain", float(np.mean(gains)))
    record_testsuite_property("largest_gain", float(np.max(gains)))
    print(f"{len(gains)} cases: mean gain {np.mean(gains):.2%}, largest {np.max(gains):.2%}")
    assert np.mean(gains) > 0
