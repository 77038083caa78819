"""The compiled parts between tables and mappings agree with NumPy."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from nest_strategies import Case, Problem, cramped, idling_nests, problems

from dfc.backend_cost import axes_compiled, least_compiled, mapping_branch, played
from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.evaluate import effective_cuts
from dfc.backend_cost.mapping_branch import compiled_sums, plain_sums
from dfc.backend_cost.mapping_cost import TooSmall, whole_times
from dfc.backend_cost.mapping_energy import least_energy
from dfc.backend_cost.mapping_space import MappingSpace, Order, Region, mapping_space
from dfc.backend_cost.tables import Ints
from dfc.backend_cost.timing import ExactLatency, exact_latency, granted_buffers
from dfc.backend_cost.timing_tables import mean_cycles

EXAMPLES = 200
ROWS = 6

compiled = pytest.mark.skipif(
    not (played.COMPILED and least_compiled.COMPILED and axes_compiled.COMPILED and mapping_branch.COMPILED),
    reason="installed without a compiler",
)
random_problems = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=[Phase.generate],
)


def random_chains(space: MappingSpace, random: np.random.Generator) -> Ints:
    """Chains of any points, closed or not."""
    rows: list[list[int]] = []
    for _ in range(ROWS):
        point, path = 0, [0]
        axes = np.repeat(np.arange(len(space.lattice.loops)), space.lattice.shape[: len(space.lattice.loops)] - 1)
        for axis in random.permutation(axes).tolist():
            point += space.lattice.strides[axis]
            path.append(point)
        row: list[int] = []
        for path_of in space.paths:
            row += [path[i] for i in sorted(random.integers(0, len(path), len(path_of) - 1).tolist())]
        rows.append(row)
    return np.array(rows, dtype=np.int64).reshape(ROWS, len(space.cuts))


@pytest.mark.slow
@compiled
def test_chains_are_played_alike() -> None:
    seen: Counter[str] = Counter()

    @seed(1)
    @random_problems
    @given(idling_nests(), st.integers(0, 1 << 30))
    def check(case: Case, number: int) -> None:
        random = np.random.default_rng(number)
        space = mapping_space(case.nest, cramped(case.arch, random), EXACT)
        chains = random_chains(space, random)
        found = played.play(space, chains)
        if found is None:
            seen["nothing to time"] += 1
            return
        closed = space.closed(chains)
        assert found.closed.tolist() == closed.tolist()
        orders = np.where(closed[:, None], space.orders(chains, Order.MOVE), space.orders(chains, Order.STAY))
        assert found.orders.tolist() == orders.tolist()
        batch = space.batch(chains, orders)
        cuts = effective_cuts(space.tables, batch)
        assert found.cuts.tolist() == np.concatenate(cuts, axis=1).tolist()
        double = granted_buffers(space.tables, batch, cuts, compiled=False)
        times = whole_times(exact_latency(space.tables, batch, cuts, double, times=space.times, compiled=False))
        cycles = whole_times(ExactLatency(space.tables.total_cycles, *found.cycles))
        np.testing.assert_allclose(cycles.total, times.total, rtol=1e-12)
        for row in range(ROWS):
            assert cycles.row(row) == times.row(row)
        if not space.couplings:
            np.testing.assert_allclose(found.energy_pj, space.chain_energy_pj(chains), rtol=1e-12)
        seen.update("closed" if c else "open" for c in closed.tolist())

    check()
    assert min(seen["closed"], seen["open"]) > EXAMPLES


@st.composite
def cramped_nests(draw: st.DrawFn) -> Problem:
    """Of which some do not fit."""
    case = draw(idling_nests())
    return Problem(case.nest, cramped(case.arch, np.random.default_rng(draw(st.integers(0, 1 << 30)))))


@pytest.mark.slow
@compiled
def test_regions_and_the_least_energy_are_alike() -> None:
    seen: Counter[str] = Counter()

    @seed(2)
    @random_problems
    @given(st.one_of(cramped_nests(), problems(100_000)))
    def check(case: Problem) -> None:
        space = mapping_space(case.nest, case.arch, EXACT)
        if not least_compiled.can_tell(space):
            seen["not told"] += 1
            return
        regions, found = space.regions(), least_compiled.solve(space)
        if isinstance(regions, TooSmall):
            seen["too small"] += 1
            assert found == regions
            return
        assert not isinstance(found, TooSmall)
        assert len(found[0]) == len(regions)
        for one, other in zip(found[0], regions, strict=True):
            assert one.room == other.room
            assert (one.allowed == other.allowed).all()
            assert (one.bits == other.bits).all()
        least = least_energy(space, regions)
        assert (found[1] is None) == (least is None)
        if found[1] is not None and least is not None:
            seen["split" if least.energy_pj > first_bound(space, regions) * (1 + 1e-9) else "found"] += 1
            assert found[1].chain.tolist() == least.chain.tolist()
            assert found[1].energy_pj == pytest.approx(least.energy_pj, rel=1e-12)
            assert found[1].bound_pj == pytest.approx(least.bound_pj, rel=1e-12)

    def first_bound(space: MappingSpace, regions: list[Region]) -> float:
        return space.tables.fixed_pj + min(space.chains.least(space.relaxed(space.energy_pj, r))[0] for r in regions)

    check()
    assert min(seen["too small"], seen["found"], seen["split"]) > 15, seen


@pytest.mark.slow
@compiled
def test_sums_of_cuts_and_of_axes_are_alike() -> None:
    @seed(3)
    @random_problems
    @given(idling_nests(), st.integers(0, 1 << 30))
    def check(case: Case, number: int) -> None:
        space = mapping_space(case.nest, case.arch, EXACT)
        for table in space.tables.operands:
            traffic, whole = table.traffic, table.whole or table
            np.testing.assert_array_equal(traffic.counted.accesses, traffic.plain_accesses(traffic.bursts))
            if whole.levels > 1:
                transfers = np.random.default_rng(number).integers(1, 64, (2, whole.levels - 1, 3)).astype(float)
                one, other = (mean_cycles(whole, transfers, compiled=how) for how in (True, False))
                np.testing.assert_allclose(one, other, rtol=1e-12)
        if all(o.bits for o in case.nest.operands) and space.times.boundaries:
            allowed = np.random.default_rng(number).random(space.energy_pj.shape) < 0.8
            one, other = (sums(space, space.chains, space.energy_pj, allowed) for sums in (compiled_sums, plain_sums))
            assert one[3] == other[3]
            for fast, slow in zip(one[:3], other[:3], strict=True):
                np.testing.assert_allclose(fast, slow, rtol=1e-12)

    check()
