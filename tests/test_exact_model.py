"""The exact model against the simulator, which shares no formula with it, and each term that it mends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from effort import share
from hypothesis import HealthCheck, Phase, given, seed, settings
from nest_examples import memory
from nest_strategies import Case, cases

from dfc.backend_cost.cost_model import DEFINES, EXACT, CostModel
from dfc.backend_cost.evaluate import effective_cuts
from dfc.backend_cost.explain import model_flows
from dfc.backend_cost.mapping_cost import price_mapping, tables_of
from dfc.backend_cost.nest import Loop, Mapping, Nest, NestOperand, Unrolled, Work
from dfc.backend_cost.simulate import simulate, simulate_words
from dfc.backend_cost.timing import exact_latency
from dfc.hwdsl import Arch, ArrayDim, Move, OperationalArray, Port
from dfc.ir import Dim, Role, sizes


@pytest.mark.slow
def test_words_equal_the_simulators() -> None:
    """At least 2,000 random cases, each operand, level and direction, and no mismatch."""
    seen: Counter[str] = Counter()

    @seed(20)
    @settings(max_examples=share(2200), deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(cases())
    def check(case: Case) -> None:
        tables, batch = tables_of(case.nest, case.arch, case.mapping, EXACT)
        flows = model_flows(tables, batch, case.mapping, effective_cuts(tables, batch))
        ours = {(f.operand, f.level, f.move): f.words for f in flows}
        theirs = simulate_words(case.nest, case.arch, case.mapping).words
        assert set(ours) <= set(theirs)
        for key, words in theirs.items():
            assert ours.get(key, 0.0) == pytest.approx(words, rel=1e-9, abs=1e-9), key
        seen["cases"] += 1
        seen["fetch new"] += any(m.fetch_new for m in case.arch.memories)
        seen["padding"] += any(case.nest.pads)
        seen["idle lanes"] += any(u.share != u.lanes for u in case.nest.unrolled)
        seen["sums come back"] += any(w > 0 for (o, lv, mv), w in theirs.items() if mv is Move.WRITE_DOWN and o == 0)

    check()
    assert seen["cases"] >= share(2000)
    assert min(seen.values()) > share(100), seen


@pytest.mark.slow
def test_cycles_follow_the_simulators(record_testsuite_property: Callable[[str, object], None]) -> None:
    """What docs/cost-model.md says of the distribution of (model - simulator) / simulator, and not less.

    The seeds are two that the constants of timing_rows.py were not chosen with: on those that they were chosen with,
    hardly a case is optimistic by more than 5 %, on these about one in a hundred.
    """
    errors: list[float] = []

    def check(case: Case) -> None:
        whole = replace(
            case, arch=replace(case.arch, memories=tuple(replace(m, fetch_new=False) for m in case.arch.memories))
        )
        tables, batch = tables_of(whole.nest, whole.arch, whole.mapping, EXACT)
        double = tuple(
            np.array([[(i, m) in case.double_buffer for m in range(len(t.operand.memories))]])
            for i, t in enumerate(tables.operands)
        )
        ours = exact_latency(tables, batch, effective_cuts(tables, batch), double).total_cycles[0]
        theirs = simulate(whole.nest, whole.arch, whole.mapping, double_buffer=case.double_buffer)
        if theirs.steps > 1:
            errors.append(float(ours) / theirs.total_cycles - 1)

    for number in (21, 22):
        every = settings(
            max_examples=share(1100),
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            phases=[Phase.generate],
        )
        seed(number)(every(given(cases())(check)))()
    error = np.array(errors)
    within, optimistic = np.mean(np.abs(error) <= 0.10), np.mean(error < -0.05)
    text = f"{len(error):,} cases, median {np.median(np.abs(error)):.2%}, within 10 %: {within:.1%}"
    text += f", optimistic by more than 5 %: {optimistic:.2%}, worst {-error.min():.1%}"
    print(text)
    record_testsuite_property("exact_cycles", text)
    assert len(error) > share(2000)
    assert np.median(np.abs(error)) <= 0.02
    assert within >= 0.95
    assert optimistic <= 0.015, "too often optimistic"
    assert error.min() > -0.15


# --- one small nest for each term --------------------------------------------------------------------------------

TOP = memory("top", "IWO")
ARRAY = OperationalArray((ArrayDim("A", 4),), 0.5, 0.1, 8, 8, 16, 8)


def product_case(k: int = 3, c: int = 4, lanes: int = 1, work: Work = Work.MAC) -> tuple[Nest, Arch, Mapping]:
    """O[k] += W[k,c] * I[c]: the output in a buffer of its own, the sum outermost, so that sums leave and come back."""
    arch = Arch("small", ARRAY, (memory("buf", "O"), TOP), {Role.O: (0, 1), Role.W: (1,), Role.I: (1,)}, {})
    steps = -(-k // lanes)
    unrolled = (Unrolled("A", Dim.K, -(-k // steps), k / steps),) if lanes > 1 else ()
    operands = (
        NestOperand(Role.O, (Dim.K,), (), 8, 16, (0, 1)),
        NestOperand(Role.W, (Dim.K, Dim.C), (), 8, 8, (1,)),
        NestOperand(Role.I, (Dim.C,), (), 8, 8, (1,)),
    )
    nest = Nest(sizes(K=k, C=c), (1, 1, 1), (1, 1, 1), operands, unrolled, work)
    loops = tuple(Loop(d, s) for d, s in ((Dim.K, steps), (Dim.C, c)) if s > 1)
    return nest, arch, Mapping(loops, ((0, len(loops)), (len(loops),), (len(loops),)))


def words(model: CostModel, case: tuple[Nest, Arch, Mapping]) -> dict[tuple[int, int, Move], float]:
    nest, arch, mapping = case
    tables, batch = tables_of(nest, arch, mapping, model)
    flows = model_flows(tables, batch, mapping, effective_cuts(tables, batch))
    return {(f.operand, f.level, f.move): f.words for f in flows}


def test_first_sum_free() -> None:
    """C4: three sums, four visits each: the reference reads 12 times, of which the first 3 have nothing to read."""
    key = (0, 1, Move.READ_DOWN)
    width = TOP.read_bits_per_cycle
    both = [words(m, product_case())[key] * width / 16 for m in (EXACT.without("first_sum_free"), EXACT)]
    assert both[1] == 9
    assert words(DEFINES, product_case())[key] * width / 16 == 12


def test_last_sum_final() -> None:
    """The last of four writes of each sum is of 8 bits, the others of 16; the reference writes 16 each time."""
    key = (0, 1, Move.WRITE_UP)
    width = TOP.write_bits_per_cycle
    assert words(EXACT, product_case())[key] * width == 3 * (3 * 16 + 8)
    assert words(EXACT.without("last_sum_final"), product_case())[key] * width == 3 * 4 * 16


def test_whole_lanes() -> None:
    """C6: five channels on four lanes take two steps of three and two lanes; the reference sees 2.5 lanes twice."""
    case = product_case(k=5, c=1, lanes=4)
    key = (1, 0, Move.READ_DOWN)
    width = TOP.read_bits_per_cycle
    assert words(EXACT, case)[key] * width == 5 * 8
    fractional = words(EXACT.without("whole_lanes"), case)[key] * width
    assert fractional != 5 * 8


def test_op_energy() -> None:
    """A9: twelve additions at 0.1 pJ, not at the 0.5 pJ of a multiply-accumulate."""
    nest, arch, mapping = product_case(work=Work.OPERATION)
    assert price_mapping(nest, arch, mapping, EXACT).compute_pj == pytest.approx(1.2)
    assert price_mapping(nest, arch, mapping, EXACT.without("op_energy")).compute_pj == pytest.approx(6.0)


def test_one_burst() -> None:
    """C17: a tile of 5 elements of 8 bits between ports of 64 and 16 bits: one access of 40 bits, not three of 16."""
    narrow = replace(memory("buf", "I"), write_bits_per_cycle=16, min_write_bits=16)
    wide = replace(TOP, read_bits_per_cycle=64, min_read_bits=8)
    arch = Arch("small", ARRAY, (narrow, wide), {Role.I: (0, 1), Role.W: (1,), Role.O: (1,)}, {})
    operands = (
        NestOperand(Role.O, (Dim.OX,), (), 8, 8, (1,)),
        NestOperand(Role.I, (Dim.OX,), (), 8, 8, (0, 1)),
    )
    nest = Nest(sizes(OX=5), (1, 1, 1), (1, 1, 1), operands, (), Work.OPERATION)
    case = nest, arch, Mapping((Loop(Dim.OX, 5),), ((1,), (1, 1)))
    key = (1, 1, Move.READ_DOWN)
    assert words(EXACT, case)[key] * 64 == 40
    assert words(EXACT.without("one_burst"), case)[key] * 64 == 48


def test_write_width() -> None:
    """C14: a read-write port of 64 bits for reads and 8 for writes needs eight cycles for a word, not one."""
    port = replace(
        memory("buf", "O"), read_bits_per_cycle=64, write_bits_per_cycle=8, ports=(Port("rw1", "rw"),),
        port_of={(Role.O, m): 0 for m in Move}, min_write_bits=8,
    )  # fmt: skip
    arch = Arch("small", ARRAY, (port, TOP), {Role.O: (0, 1), Role.W: (1,), Role.I: (1,)}, {})
    nest, _, mapping = product_case()
    for model, cycles in ((EXACT, 2), (EXACT.without("write_width"), 1)):
        tables, _ = tables_of(nest, arch, mapping, model)
        link = next(k for k in tables.operands[0].links if (k.level, k.move) == (0, Move.WRITE_UP))
        assert link.transfer_cycles[0] == cycles


def test_played() -> None:
    """C1 to C3, C9: a buffer without room for a second tile waits for each fetch; the reference hides them."""
    small = replace(memory("buf", "I", read=16, write=16), size_bits=64)
    arch = Arch("small", ARRAY, (small, replace(TOP, read_bits_per_cycle=8)), {
        Role.I: (0, 1), Role.W: (1,), Role.O: (1,)}, {})  # fmt: skip
    operands = (
        NestOperand(Role.O, (Dim.K, Dim.OX), (), 8, 8, (1,)),
        NestOperand(Role.I, (Dim.OX,), (), 8, 8, (0, 1)),
    )
    nest = Nest(sizes(OX=16, K=8), (1, 1, 1), (1, 1, 1), operands, (), Work.OPERATION)
    mapping = Mapping((Loop(Dim.OX, 8), Loop(Dim.K, 8), Loop(Dim.OX, 2)), ((3,), (1, 3)))
    exact = price_mapping(nest, arch, mapping, EXACT)
    simulated = simulate(nest, arch, mapping)
    assert exact.latency_cycles == simulated.total_cycles
    assert price_mapping(nest, arch, mapping, EXACT.without("played")).latency_cycles < simulated.total_cycles


def test_terms_have_names() -> None:
    assert set(CostModel.terms()) >= {
        "whole_lanes",
        "first_sum_free",
        "one_burst",
        "op_energy",
        "write_width",
        "played",
    }
    assert not any(getattr(DEFINES, t) for t in CostModel.terms())
    assert all(getattr(EXACT, t) for t in CostModel.terms())
