"""The simulator against counts made by hand on paper; test_simulate_time.py and test_simulate_properties.py go on."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nest_examples import Example, mapping, memory

from dfc.backend_cost.nest import NestOperand, Work
from dfc.backend_cost.simulate import Simulation, simulate, simulate_words
from dfc.backend_cost.simulate_words import Traffic
from dfc.errors import UsageError
from dfc.hwdsl.arch import Move
from dfc.ir import Dim, Role

O, W, I = 0, 1, 2  # noqa: E741  operands in the order of Example
DOWN, WRITE_UP, READ_UP, WRITE_DOWN = Move.READ_DOWN, Move.WRITE_UP, Move.READ_UP, Move.WRITE_DOWN

ALL = memory("all", "IWO")
IO = memory("io", "IO")
WI = memory("wi", "WI")


def counted(traffic: Traffic, operand: int, level: int, move: Move) -> tuple[int, int]:
    """(bursts, bits)."""
    key = (operand, level, move)
    return traffic.bursts[key], traffic.bits[key]


def words(example: Example, order: str, *cuts: tuple[int, ...]) -> Traffic:
    return simulate_words(example.nest, example.arch, mapping(order, *cuts))


def test_matrix_product_in_one_memory() -> None:
    # 2 x 3 times 3 x 2: 12 products. Each step reads a weight and an input. Each of the 4 sums is written three
    # times, twice as a partial sum, and read twice: nothing is read before the first accumulation.
    example = Example({"K": 2, "C": 3, "OX": 2}, (ALL,))
    got = words(example, "C3 K2 OX2", (3,), (3,), (3,))
    assert counted(got, W, 0, DOWN) == counted(got, I, 0, DOWN) == (12, 12 * 8)
    assert counted(got, O, 0, WRITE_UP) == (12, 8 * 16 + 4 * 8)
    assert counted(got, O, 0, DOWN) == (8, 8 * 16)
    assert got.words[W, 0, DOWN] == 12 * 8 / 1024
    assert (got.operations, got.steps) == (12, 12)
    assert all(got.bits[o, 0, move] == 0 for o in (O, W, I) for move in (READ_UP, WRITE_DOWN))


def test_order_does_not_matter_in_one_memory_but_precision_follows_the_reduction() -> None:
    example = Example({"K": 2, "C": 3, "OX": 2}, (ALL,))
    inner, outer = (words(example, order, (3,), (3,), (3,)) for order in ("C3 K2 OX2", "K2 OX2 C3"))
    assert inner == outer


@pytest.mark.parametrize(
    ("order", "cut", "fetched"),
    [
        ("OX4 K3", 0, (3, 3 * 8)),  # weight stationary: OX lies above the cut but does not end a stay
        ("OX4 K3", 1, (3, 3 * 8)),
        ("K3 OX4", 0, (12, 12 * 8)),  # every step another weight
        ("K3 OX4", 1, (1, 3 * 8)),  # all three weights stay for good, fetched in one burst
    ],
)
def test_stays_of_weights(order: str, cut: int, fetched: tuple[int, int]) -> None:
    example = Example({"K": 3, "OX": 4}, (memory("rf", "W"), ALL))
    got = words(example, order, (2,), (cut, 2), (2,))
    assert counted(got, W, 0, WRITE_DOWN) == counted(got, W, 1, DOWN) == fetched
    assert counted(got, W, 0, DOWN) == (12, 12 * 8)  # the array reads in every step


def test_output_stationary() -> None:
    # the reduction lies inside: each of the 2 outputs leaves once, finished
    example = Example({"K": 2, "C": 3}, (memory("rf", "O"), ALL))
    got = words(example, "C3 K2", (1, 2), (2,), (2,))
    assert counted(got, O, 0, READ_UP) == counted(got, O, 1, WRITE_UP) == (2, 2 * 8)
    assert counted(got, O, 1, DOWN) == counted(got, O, 0, WRITE_DOWN) == (0, 0)
    assert counted(got, O, 0, WRITE_UP) == (6, 4 * 16 + 2 * 8)
    assert counted(got, O, 0, DOWN) == (4, 4 * 16)


def test_sums_that_leave_and_come_back() -> None:
    # K advances in every step and C outside it: 6 stays of one sum each. The first two find nothing; the other
    # four get their sum back. The last two are finished.
    example = Example({"K": 2, "C": 3}, (memory("rf", "O"), ALL))
    got = words(example, "K2 C3", (0, 2), (2,), (2,))
    assert counted(got, O, 0, READ_UP) == counted(got, O, 1, WRITE_UP) == (6, 4 * 16 + 2 * 8)
    assert counted(got, O, 1, DOWN) == counted(got, O, 0, WRITE_DOWN) == (4, 4 * 16)
    assert counted(got, O, 0, DOWN) == (4, 4 * 16)  # what came back is read; a fresh sum is not


def test_sums_come_back_through_two_memories() -> None:
    # K2 inside, then C2, K3 and C2 outside: the middle memory holds 2 sums per stay, six stays, of which the last
    # three find their sums in the outer memory. In each of its stays the register file visits each sum twice.
    example = Example({"K": 6, "C": 4}, (memory("rf", "O"), memory("mid", "O"), ALL))
    got = words(example, "K2 C2 K3 C2", (0, 2, 4), (4,), (4,))
    assert counted(got, O, 2, WRITE_UP) == (6, 3 * 2 * 16 + 3 * 2 * 8)
    assert counted(got, O, 2, DOWN) == counted(got, O, 1, WRITE_DOWN) == (3, 3 * 2 * 16)
    # boundary 1: 24 stays of one sum; new ones only in the first pass over C of the first half: 6
    assert counted(got, O, 0, WRITE_DOWN) == (18, 18 * 16)
    assert counted(got, O, 1, WRITE_UP) == (24, 18 * 16 + 6 * 8)


def test_multicast_is_sent_once() -> None:
    # K on A and OX on B: four lanes with a register each, two different inputs
    example = Example({"K": 2, "OX": 2}, (memory("rf", "I", across=""), ALL), (("A", "K", 2), ("B", "OX", 2)))
    got = words(example, "", (0,), (0,), (0, 0))
    assert counted(got, I, 1, DOWN) == (1, 2 * 8)
    assert counted(got, I, 0, WRITE_DOWN) == counted(got, I, 0, DOWN) == (4, 4 * 8)
    assert counted(got, W, 0, DOWN) == (1, 2 * 8)  # two weights for four lanes, in one access


def test_register_that_serves_one_array_dimension() -> None:
    # the register serves B: the two lanes along B read it as one, and there are two of it along A
    example = Example({"K": 2, "OX": 2}, (memory("rf", "I", across="B"), ALL), (("A", "K", 2), ("B", "OX", 2)))
    got = words(example, "", (0,), (0,), (0, 0))
    assert counted(got, I, 0, DOWN) == counted(got, I, 0, WRITE_DOWN) == (2, 4 * 8)
    assert counted(got, I, 1, DOWN) == (1, 2 * 8)


def test_remainder_lanes_and_smallest_access() -> None:
    # K = 5 in two steps of three lanes: three weights, then two. An access is 16 bits at least, 24 become 32.
    rf = memory("rf", "W", across="")
    example = Example({"K": 5}, (rf, memory("all", "IWO", read=64, least=16)), (("A", "K", 3),))
    got = words(example, "K2", (1,), (0, 1), (1,))
    assert counted(got, W, 0, WRITE_DOWN) == counted(got, W, 0, DOWN) == (5, 5 * 8)
    assert counted(got, W, 1, DOWN) == (2, 5 * 8)
    assert got.words[W, 1, DOWN] == (32 + 16) / 64
    assert got.operations == 5
    assert counted(got, I, 0, DOWN) == (2, 2 * 8)


def test_two_array_dimensions_on_one_loop() -> None:
    # K = 10 on A (3 lanes) and B (4 lanes): lane index a + 3 b, so the two idle lanes are a = 1, 2 of b = 3
    lanes = (("A", "K", 3), ("B", "K", 4))
    example = Example({"K": 10}, (memory("rf", "W", across="A"), ALL), lanes)
    got = words(example, "", (0,), (0, 0), (0,))
    assert got.operations == 10
    assert counted(got, W, 0, WRITE_DOWN) == (4, 10 * 8)
    narrow = replace(example, memories=(memory("rf", "W", across="B"), ALL))
    assert counted(words(narrow, "", (0,), (0, 0), (0,)), W, 0, WRITE_DOWN) == (3, 10 * 8)


def test_sums_of_reduction_lanes_meet_on_the_way() -> None:
    # C on A, a register per lane: both registers send their half of a sum, the memory above takes one. When the
    # sum returns (second pass over C), only the first lane's register gets it and the second starts from zero.
    example = Example({"C": 4, "K": 2}, (memory("rf", "O", across=""), ALL), (("A", "C", 2),))
    got = words(example, "K2 C2", (0, 2), (2,), (2,))
    assert counted(got, O, 0, READ_UP) == (8, 4 * 16 + 4 * 8)
    assert counted(got, O, 1, WRITE_UP) == (4, 2 * 16 + 2 * 8)
    assert counted(got, O, 1, DOWN) == counted(got, O, 0, WRITE_DOWN) == counted(got, O, 0, DOWN) == (2, 2 * 16)
    # into the registers: halves of sums are never finished
    assert counted(got, O, 0, WRITE_UP) == (8, 8 * 16)


def test_idle_reduction_lane_sends_nothing() -> None:
    # C = 3 in two steps of two lanes: the second lane is idle in the second
    example = Example({"C": 3, "K": 2}, (memory("rf", "O", across=""), ALL), (("A", "C", 2),))
    got = words(example, "K2 C2", (0, 2), (2,), (2,))
    assert counted(got, O, 0, READ_UP) == (6, 4 * 16 + 2 * 8)
    assert counted(got, O, 1, WRITE_UP) == (4, 2 * 16 + 2 * 8)


@pytest.mark.parametrize(
    ("pad", "extent", "read", "tile"),
    [
        (0, 0, 12, 6),  # four windows of three; they span six positions
        (1, 0, 12, 6),  # without a bound every position is real
        (1, 4, 10, 4),  # one position of padding at either end, touched once each
        (0, 5, 11, 5),  # the sixth position is padding
    ],
)
def test_padding_does_not_move(pad: int, extent: int, read: int, tile: int) -> None:
    example = Example({"OX": 4, "FX": 3}, (memory("buf", "I"), ALL), pad=pad, extent=extent)
    got = words(example, "FX3 OX4", (2,), (2,), (2, 2))
    assert counted(got, I, 0, DOWN) == (read, read * 8)
    assert counted(got, I, 0, WRITE_DOWN) == (1, tile * 8)
    assert got.operations == 12


@pytest.mark.parametrize(
    ("stride", "cut", "whole", "new"),
    [
        (1, 1, (4, 12), (4, 6)),  # windows of 3: whole each time; or 3, then 1 each
        (2, 1, (4, 12), (4, 9)),  # 3, then 2 each
        (3, 1, (4, 12), (4, 12)),  # nothing overlaps
        (1, 2, (1, 6), (1, 6)),  # one stay: nothing slides
        (1, 0, (12, 12), (12, 12)),  # one position at a time never is the one before
    ],
)
def test_fetching_only_what_is_new(stride: int, cut: int, whole: tuple[int, int], new: tuple[int, int]) -> None:
    buf = memory("buf", "I")
    for fetch_new, (bursts, elements) in ((False, whole), (True, new)):
        memories = (replace(buf, fetch_new=fetch_new), ALL)
        example = Example({"OX": 4, "FX": 3}, memories, stride=stride)
        got = words(example, "FX3 OX4", (2,), (2,), (cut, 2))
        assert counted(got, I, 0, WRITE_DOWN) == counted(got, I, 1, DOWN) == (bursts, elements * 8)
        assert counted(got, I, 0, DOWN) == (12, 12 * 8)


def test_new_positions_that_another_instance_held_are_sent_again() -> None:
    # two registers side by side, OX on A, hold windows {0,1} and {1,2}, then {2,3} and {3,4}. Position 2 of the
    # second step was in the other register: the first takes it anew
    buf = replace(memory("buf", "I", across=""), fetch_new=True)
    example = Example({"OX": 4, "FX": 2}, (buf, ALL), (("A", "OX", 2),))
    got = words(example, "FX2 OX2", (2,), (2,), (1, 2))
    assert counted(got, I, 0, WRITE_DOWN) == (4, (4 + 4) * 8)
    assert counted(got, I, 1, DOWN) == (2, (3 + 3) * 8)


def test_two_inputs_and_no_weights() -> None:
    # an addition over four positions, the second input broadcast: one element that stays in its register
    example = Example({"OX": 4}, (memory("rf", "I"), ALL), work=Work.OPERATION, roles=(Role.O, Role.I))
    path = example.arch.paths[Role.I]
    full = NestOperand(Role.I, (Dim.OX,), (), 8, 8, path)
    single = NestOperand(Role.I, (Dim.G,), (), 8, 8, path)
    nest = replace(example.nest, operands=(example.nest.operands[0], full, single))
    got = simulate_words(nest, example.arch, mapping("OX4", (1,), (0, 1), (0, 1)))
    assert counted(got, 1, 0, WRITE_DOWN) == (4, 4 * 8)
    assert counted(got, 2, 0, WRITE_DOWN) == (1, 8)
    assert counted(got, 2, 0, DOWN) == (4, 4 * 8)


def test_an_operand_of_no_bits_moves_nothing() -> None:
    example = Example({"K": 2, "C": 2}, (WI, ALL), bits={Role.W: 0})
    got = words(example, "K2 C2", (2,), (0, 2), (0, 2))
    assert not any(bits for (operand, _, _), bits in got.bits.items() if operand == W)
    assert not any(n for (operand, _, _), n in got.bursts.items() if operand == W)
    assert counted(got, I, 0, WRITE_DOWN) == (2, 2 * 8)


def test_energy_is_words_and_operations() -> None:
    # 12 products of 0.5 pJ; reads 2 pJ and writes 3 pJ per 1024 bits; counts as in the first test
    example = Example({"K": 2, "C": 3, "OX": 2}, (ALL,))
    got = words(example, "C3 K2 OX2", (3,), (3,), (3,))
    reads, writes = 2 * 12 * 8 + 8 * 16, 8 * 16 + 4 * 8
    assert got.energy_pj(example.arch) == pytest.approx(12 * 0.5 + 2 * reads / 1024 + 3 * writes / 1024)
    for work, pj in ((Work.OPERATION, 0.25), (Work.NOTHING, 0.0)):
        other = replace(example, work=work)
        assert words(other, "C3 K2 OX2", (3,), (3,), (3,)).energy_pj(example.arch) == pytest.approx(
            12 * pj + 2 * reads / 1024 + 3 * writes / 1024
        )


def test_too_large_says_how_large_and_what_helps() -> None:
    example = Example({"K": 64, "OX": 100}, (ALL,), (("A", "K", 4),))
    order = mapping("K16 OX100", (2,), (2,), (2,))
    with pytest.raises(UsageError) as caught:
        simulate(example.nest, example.arch, order, limit=6399)
    text = caught.value.render()
    assert caught.value.code == "CLI050"
    assert "1,600 steps x 4 lanes = 6,400" in text and "6,399" in text and "smaller output tile" in text
    assert simulate_words(example.nest, example.arch, order, limit=6400).operations == 6400


@pytest.mark.parametrize(
    ("order", "cuts"),
    [
        ("K2", ((1,), (1,), (1,))),  # C is missing
        ("K2 C2", ((2,), (2,), (2,))),  # too few steps
        ("K2 C3", ((2,), (2,))),  # an operand without cuts
        ("K2 C3", ((2,), (2,), (1, 2))),  # a memory too many
        ("K2 C3", ((2,), (2,), (1,))),  # the outermost does not hold all
    ],
)
def test_a_mapping_of_another_nest_is_refused(order: str, cuts: tuple[tuple[int, ...], ...]) -> None:
    example = Example({"K": 2, "C": 3}, (ALL,))
    with pytest.raises(UsageError) as caught:
        simulate(example.nest, example.arch, mapping(order, *cuts))
    assert caught.value.code == "CLI051"


def test_the_worked_example_of_the_documentation() -> None:
    page = (Path(__file__).parent.parent / "docs" / "simulator.md").read_text()
    names: dict[str, Any] = {"Move": Move}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    result, doubled = names["result"], names["doubled"]
    rows = re.findall(r"^\| `(\d), (\d), Move\.(\w+)` \| ([\d,]+) \|", page, re.MULTILINE)
    assert len(rows) == 8
    for operand, level, move, expected in rows:
        assert result.words[int(operand), int(level), Move[move]] == int(expected.replace(",", ""))
    assert (result.operations, result.steps) == (73_728, 72)
    assert times_of(result) == (19, 183, 223)
    assert doubled.total_cycles == 131
    assert result.energy_pj(names["arch"]) == pytest.approx(14_363.6)


def times_of(result: Simulation) -> tuple[int, int, int]:
    return result.loading_cycles, result.running_cycles, result.total_cycles
