"""What a mapping keeps in memories, counted for it alone, is what the tables say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from nest_strategies import Case, cramped, idling_nests

from dfc.backend_cost.contents import contents
from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.evaluate import effective_cuts
from dfc.backend_cost.mapping_cost import tables_of
from dfc.backend_cost.nest import spatial_levels
from dfc.backend_cost.spatial import elements, operand_lanes
from dfc.backend_cost.timing import granted_buffers
from dfc.ir import Dim

random_problems = settings(
    max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), database=None, phases=[Phase.generate]
)


@pytest.mark.slow
def test_contents_of_one_mapping() -> None:
    """Counted for a mapping alone as from tables: partial sums, second buffers, and elements in whole lanes."""
    idling: list[bool] = []

    @seed(6)
    @random_problems
    @given(idling_nests(), st.integers(0, 1 << 30))
    def check(case: Case, number: int) -> None:
        nest, arch = case.nest, cramped(case.arch, np.random.default_rng(number))
        idling.append(bool(nest.idling))
        tables, batch = tables_of(nest, arch, case.mapping, EXACT)
        cuts = effective_cuts(tables, batch)
        granted = granted_buffers(tables, batch, cuts)
        found = contents(nest, arch, case.mapping)
        for table, cut, double, levels in zip(tables.operands, cuts, granted, found, strict=True):
            operand = table.operand
            lanes = operand_lanes(nest, operand, spatial_levels(nest, operand, arch), whole=True)
            for level, content in enumerate(levels):
                at = int(batch.point[0, cut[0, level]])
                below = int(batch.point[0, cut[0, level - 1]]) if level else 0
                assert content.partial == table.reduces[level][below]
                assert content.second == double[0, level]
                steps = tables.points[at].tolist()
                extents = [float(min(nest.sizes[d], steps[d] * lanes.below[level + 1][d])) for d in Dim]
                assert content.most == elements(nest, operand, extents)

    check()
    assert sum(idling) > 20
