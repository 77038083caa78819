"""Tables that nests share are those that each would have alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from nest_strategies import Case, cramped, idling_nests

from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.lattice import lattice
from dfc.backend_cost.tables import build_tables
from dfc.backend_cost.timing_tables import TimeTables

random_problems = settings(
    max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), database=None, phases=[Phase.generate]
)


@pytest.mark.slow
def test_tables_are_shared_by_paths_and_sizes() -> None:
    """Tables of a nest whose operands live further in, on a chip with other sizes: as if made for them alone."""
    shorter: list[bool] = []

    @seed(4)
    @random_problems
    @given(idling_nests(), st.integers(0, 1 << 30))
    def check(case: Case, number: int) -> None:
        random = np.random.default_rng(number)
        points = lattice(case.nest.temporal)
        first = build_tables(case.nest, case.arch, points.points, EXACT, points.grid)
        operands = [
            replace(o, memories=o.memories[: int(random.integers(1, len(o.memories) + 1))]) for o in case.nest.operands
        ]
        nest, arch = replace(case.nest, operands=tuple(operands)), cramped(case.arch, random)
        shared = build_tables(nest, arch, points.points, EXACT, points.grid)
        own = build_tables(nest, arch, points.points, EXACT)
        assert shared.fixed_pj == pytest.approx(own.fixed_pj, rel=1e-12)
        for one, known in zip(shared.operands, first.operands, strict=True):
            assert one.traffic is known.traffic
        for one, other in zip(shared.operands, own.operands, strict=True):
            assert one.operand == other.operand
            shorter.append(one.whole is not None)
            for mine, its in zip(one.energy_pj, other.energy_pj, strict=True):
                np.testing.assert_allclose(mine, its, rtol=1e-12)
            for mine, its in zip(one.contents, other.contents, strict=True):
                np.testing.assert_array_equal(mine, its)
            for mine, its in zip(one.data_bits, other.data_bits, strict=True):
                np.testing.assert_array_equal(mine, its)
            for mine, its in zip(one.links, other.links, strict=True):
                assert (mine.memory, mine.move, mine.boundary, mine.kinds) == (
                    its.memory,
                    its.move,
                    its.boundary,
                    its.kinds,
                )
                np.testing.assert_allclose(mine.words, its.words, rtol=1e-12)
                assert [c[0] for c in mine.coupled] == [c[0] for c in its.coupled]
        mine, its = TimeTables(shared), TimeTables(own)
        assert mine.step_share == its.step_share
        assert mine.flows == its.flows
        for returning in (False, True):
            assert mine.step_cycles(returning) == its.step_cycles(returning)
        for one, other in zip(mine.boundaries, its.boundaries, strict=True):
            for (_, fast), (_, slow) in zip(one.transfers, other.transfers, strict=True):
                np.testing.assert_allclose(fast.cycles, slow.cycles, rtol=1e-12)
                np.testing.assert_array_equal(fast.share, slow.share)

    check()
    assert 0.2 < np.mean(shorter) < 0.8
