"""How long a mapping keeps ports busy: equal to what the simulator counts while it plays the same transfers."""

from __future__ import annotations

from collections import Counter

import pytest
from effort import share
from hypothesis import HealthCheck, Phase, given, seed, settings
from nest_strategies import Case, cases
from test_exact_model import product_case

from dfc.backend_cost.busy_ports import busy_ports
from dfc.backend_cost.simulate import simulate
from dfc.hwdsl import Move
from dfc.ir import Role


def test_by_hand() -> None:
    """O[k] += W[k,c] * I[c], three sums of four products each, the sum outermost, so that sums leave and come back."""
    nest, arch, mapping = product_case()
    top = arch.memories[1]
    found = busy_ports(nest, arch, mapping)
    writes, reads = (1, top.port_of[Role.O, Move.WRITE_UP]), (1, top.port_of[Role.W, Move.READ_DOWN])
    result = simulate(nest, arch, mapping)
    assert found.cycles([writes]) == result.port_busy[writes] == 12  # each sum leaves four times, a cycle each
    # 12 steps read a weight and an input of 8 bits through the port; of the 12 sums that leave, 9 come back
    assert found.cycles([reads]) == result.port_busy[reads]
    # a sum holds the port of the buffer that it leaves together with the top's: both count it once
    buffer = 0, arch.memories[0].port_of[Role.O, Move.READ_UP]
    assert found.cycles([writes, buffer]) < found.cycles([writes]) + found.cycles([buffer])


@pytest.mark.slow
def test_as_simulated() -> None:
    """Every port of random cases; memories that fetch only what is new are not busier than said."""
    seen: Counter[str] = Counter()

    @seed(31)
    @settings(
        max_examples=share(400),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],
    )
    @given(cases())
    def check(case: Case) -> None:
        theirs = simulate(case.nest, case.arch, case.mapping, double_buffer=case.double_buffer)
        ours = busy_ports(case.nest, case.arch, case.mapping)
        less = any(m.fetch_new for m in case.arch.memories)
        for port, cycles in theirs.port_busy.items():
            busy = ours.cycles([port])
            assert busy >= cycles - 1e-6
            assert less or busy == pytest.approx(cycles, rel=1e-9)
            seen["busy" if cycles else "free"] += 1
        seen["cases"] += 1
        seen["fetch new"] += less

    check()
    assert seen["cases"] >= share(350)
    assert min(seen.values()) > share(15), seen
