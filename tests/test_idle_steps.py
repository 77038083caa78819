"""Loops with more steps than they need: what lies beyond the size does nothing, moves nothing and takes its cycle."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from effort import share
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from nest_examples import Example, mapping, memory
from nest_strategies import Case, cases, draw_mapping

from dfc.backend_cost.cost_model import DEFINES, EXACT
from dfc.backend_cost.evaluate import effective_cuts, energy_pj
from dfc.backend_cost.explain import model_flows
from dfc.backend_cost.mapping_cost import price_mapping, tables_of
from dfc.backend_cost.rebuild import read_problem
from dfc.backend_cost.simulate import simulate, simulate_words
from dfc.backend_cost.simulate_compare import compare
from dfc.backend_cost.timing import exact_latency
from dfc.hwdsl import Move
from dfc.ir import KERNEL_DIM, OUTPUT_DIM, Dim

NEST = Path(__file__).parent.parent / "examples" / "nests" / "conv3x3.json"


@st.composite
def idling(draw: st.DrawFn, *, fetch_new: bool = True) -> Case:
    """A case whose loops may make up to twice the steps that they need, and four times in all."""
    case = draw(cases(400))
    steps = list(case.nest.fewest_steps)
    room = 4.0
    for dim in draw(st.permutations(tuple(Dim))):
        least = steps[dim]
        # a loop of one step now and then too, be it of size 1 or all on lanes
        most = draw(st.sampled_from((2, least))) if least > 1 else draw(st.sampled_from((0, 0, 0, 0, 1)))
        more = draw(st.integers(0, most))
        if least + more <= room * least:
            steps[dim] += more
            room /= steps[dim] / least
    nest = case.nest.with_steps(tuple(steps))
    memories = tuple(replace(m, fetch_new=m.fetch_new and fetch_new) for m in case.arch.memories)
    return replace(case, nest=nest, arch=replace(case.arch, memories=memories), mapping=draw_mapping(draw, nest))


@pytest.mark.slow
def test_words_and_energy_equal_the_simulators() -> None:
    """Each operand, level and direction of 600 random cases, and no mismatch."""
    seen: Counter[str] = Counter()

    @seed(7)
    @settings(max_examples=share(600, 3), deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(idling())
    def check(case: Case) -> None:
        tables, batch = tables_of(case.nest, case.arch, case.mapping, EXACT)
        cuts = effective_cuts(tables, batch)
        ours = {(f.operand, f.level, f.move): f.words for f in model_flows(tables, batch, case.mapping, cuts)}
        theirs = simulate_words(case.nest, case.arch, case.mapping)
        assert set(ours) <= set(theirs.words)
        for key, words in theirs.words.items():
            assert ours.get(key, 0.0) == pytest.approx(words, rel=1e-9, abs=1e-9), key
        energy = theirs.energy_pj(case.arch)
        assert price_mapping(case.nest, case.arch, case.mapping, EXACT).energy_pj == pytest.approx(energy)
        fetch_new = any(m.fetch_new for m in case.arch.memories)
        if not fetch_new:  # what the search compares
            assert energy_pj(tables, batch, cuts)[0] == pytest.approx(energy)
        idle = case.nest.idling
        seen["idle"] += bool(idle)
        seen["fetch new"] += bool(idle) and fetch_new
        seen["of size 1"] += any(case.nest.sizes[d] == 1 for d in idle)
        seen["on lanes"] += any(u.loop in idle for u in case.nest.unrolled)
        seen["window"] += any(
            d in idle for o in case.nest.operands for a in o.windows for d in (OUTPUT_DIM[a], KERNEL_DIM[a])
        )
        seen["reduction"] += any(case.nest.operands[0].irrelevant(d) for d in idle)
        seen["sums come back"] += any(theirs.words[0, m, Move.WRITE_DOWN] > 0 for m in range(len(case.mapping.cuts[0])))

    check()
    assert seen["idle"] >= share(500, 3)
    assert min(seen.values()) > share(20, 3), seen


@pytest.mark.slow
def test_cycles_follow_the_simulators() -> None:
    """As closely as without idle steps (tests/test_exact_model.py); every step takes its cycle, idle or not."""
    errors: list[float] = []

    @seed(1)
    @settings(
        max_examples=share(300, 3),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],
    )
    @given(idling(fetch_new=False))
    def check(case: Case) -> None:
        tables, batch = tables_of(case.nest, case.arch, case.mapping, EXACT)
        double = tuple(
            np.array([[(i, m) in case.double_buffer for m in range(len(t.operand.memories))]])
            for i, t in enumerate(tables.operands)
        )
        with np.errstate(all="raise", under="ignore"):
            found = exact_latency(tables, batch, effective_cuts(tables, batch), double)
        theirs = simulate(case.nest, case.arch, case.mapping, double_buffer=case.double_buffer)
        assert found.ideal_cycles == theirs.steps
        if theirs.steps > 1:
            errors.append(float(found.total_cycles[0]) / theirs.total_cycles - 1)

    check()
    error = np.array(errors)
    assert np.median(np.abs(error)) <= 0.03
    assert np.mean(np.abs(error) <= 0.10) >= 0.94
    assert error.min() > -0.2


# --- 241 outputs of a dot product of 4, in 243 steps with tiles of 27 --------------------------------------------

BUFFER, TOP = memory("buffer", "OW", read=8, write=8), memory("top", "IWO", read=8, write=8)
#: two channels of 4 inside of the tile of 27 outputs, two outside; the output's tile in the buffer, the weights' too
TILED = mapping("K27 C2 K9 C2", (2, 4), (2, 4), (4,))


def prime() -> Example:
    return Example({"K": 241, "C": 4}, (BUFFER, TOP))


def test_a_prime_number_of_outputs() -> None:
    """Counted by hand: eight tiles of 27, one of 25; sums leave twice for K9 runs inside of C2."""
    example = prime()
    nest = example.nest.with_steps(TILED.steps)
    assert nest.idling == (Dim.K,)
    tables, batch = tables_of(nest, example.arch, TILED, EXACT)
    flows = model_flows(tables, batch, TILED, effective_cuts(tables, batch))
    words = {(f.operand, f.level, f.move): f.words for f in flows}
    assert words[0, 0, Move.WRITE_UP] == 241 * 4 * 2 - 241  # sums of 16 bits in words of 8, and 241 finished of 8 bits
    assert words[0, 0, Move.READ_DOWN] == 241 * 3 * 2
    assert words[0, 0, Move.READ_UP] == words[0, 1, Move.WRITE_UP] == 241 * 2 + 241
    assert words[0, 1, Move.READ_DOWN] == words[0, 0, Move.WRITE_DOWN] == 241 * 2
    assert words[1, 1, Move.READ_DOWN] == words[1, 0, Move.WRITE_DOWN] == 241 * 4
    assert words[2, 0, Move.READ_DOWN] == 241 * 4
    assert {key: w for key, w in simulate_words(nest, example.arch, TILED).words.items() if w} == words


def test_what_a_prime_number_of_outputs_costs() -> None:
    """Energy is of the 964 operations; idle steps take their cycles; memories hold no more than there is."""
    example = prime()
    cost = price_mapping(example.nest, example.arch, TILED, EXACT)
    assert cost.compute_pj == pytest.approx(241 * 4 * example.arch.array.mac_pj)
    assert cost.ideal_cycles == 243 * 4
    theirs = simulate(example.nest, example.arch, TILED)
    assert (theirs.operations, theirs.steps) == (241 * 4, 243 * 4)
    assert cost.energy_pj == pytest.approx(theirs.energy_pj(example.arch))
    tables, _ = tables_of(example.nest.with_steps(TILED.steps), example.arch, TILED, EXACT)
    held = tables.operands[1].alloc_bits[0][0] // 8
    assert held.tolist() == [1, 27, 27 * 2, 241 * 2, 241 * 4]


def test_idle_steps_move_nothing() -> None:
    """With 242 steps, 243 or none idle, the same words where tiles hold the same; each idle step is a cycle more."""
    example = prime()
    whole = [mapping(f"K{k} C4", (1, 2), (1, 2), (2,)) for k in (241, 242, 243, 482)]
    costs = [price_mapping(example.nest, example.arch, m, EXACT) for m in whole]
    assert len({round(c.energy_pj, 6) for c in costs}) == 1
    assert [c.ideal_cycles for c in costs] == [964, 968, 972, 1928]


def test_only_the_exact_lanes_know_idle_steps() -> None:
    example = prime()
    for model in (DEFINES, EXACT.without("whole_lanes")):
        with pytest.raises(ValueError, match="whole_lanes"):
            price_mapping(example.nest, example.arch, TILED, model)
    with pytest.raises(ValueError, match="cover"):
        price_mapping(example.nest, example.arch, mapping("K240 C4", (1, 2), (1, 2), (2,)), EXACT)


def test_a_file_may_have_idle_steps() -> None:
    """A nest of 2 x 3 x 3 x 2 x 2 steps run in 2 x 4 x 3 x 2 x 2: the model's energy is the simulator's."""
    data = json.loads(NEST.read_text(encoding="utf-8"))
    data["loops"][1] = "FX 4"
    problem = read_problem(json.dumps(data), NEST.parent, None)
    assert problem.nest.idling == (Dim.FX,)
    found = compare(problem)
    assert found.simulated_pj == pytest.approx(found.modelled_pj)
    assert found.simulation.steps == 96
