"""The simulator's clock against times made by hand on paper."""

from __future__ import annotations

import pytest
from nest_examples import Example, mapping, memory

from dfc.backend_cost.simulate import Simulation, simulate
from dfc.hwdsl.arch import Memory
from dfc.ir import Role

O, W, I = 0, 1, 2  # noqa: E741  operands in the order of Example
FREE_IO = memory("io", "IO", ports="2r2w")


def play(example: Example, order: str, *cuts: tuple[int, ...], double: tuple[tuple[int, int], ...] = ()) -> Simulation:
    return simulate(example.nest, example.arch, mapping(order, *cuts), double_buffer=frozenset(double))


def times(result: Simulation) -> tuple[int, int, int]:
    return result.loading_cycles, result.running_cycles, result.total_cycles


def test_nothing_to_wait_for() -> None:
    example = Example({"K": 2, "C": 3}, (memory("all", "IWO"),))
    # r port: weight and input one cycle each, and the sum where there is one; so 2 + 3 + 3 cycles per output
    assert times(play(example, "C3 K2", (2,), (2,), (2,))) == (0, 16, 16)


def test_one_port_for_both_directions_adds_up() -> None:
    example = Example({"K": 2, "C": 3}, (memory("all", "IWO", ports="1"),))
    # 3 + 4 + 4 cycles per output
    result = play(example, "C3 K2", (2,), (2,), (2,))
    assert times(result) == (0, 22, 22)
    assert result.port_busy == {(0, 0): 22}


def test_narrow_array_port_stretches_the_step() -> None:
    # finished outputs of 8 bits over a write port of 3: three cycles per step; reading needs one of them
    example = Example({"K": 4}, (memory("all", "IWO", write=3, ports="2r2w"),))
    result = play(example, "K4", (1,), (1,), (1,))
    assert times(result) == (0, 12, 12)
    assert sorted(result.port_busy.values()) == [0, 0, 8, 12]  # inputs and weights share the first read port


def weights(rf: Memory, *, outer_read: int = 4) -> Example:
    """Four weights, each used for three positions; a weight needs two cycles from the outer memory."""
    return Example({"OX": 3, "K": 4}, (rf, FREE_IO, memory("outer", "W", read=outer_read)))


@pytest.mark.parametrize(
    ("double", "expected"),
    [
        # each weight: fetched in 2 cycles, then used in 3
        ((), (2, 20, 20)),
        # fetched under the steps of the weight before: only the first is waited for
        (((W, 0),), (2, 14, 14)),
        # a double buffer of another operand changes nothing
        (((I, 0),), (2, 20, 20)),
    ],
)
def test_fetching_weights(double: tuple[tuple[int, int], ...], expected: tuple[int, int, int]) -> None:
    result = play(weights(memory("rf", "W")), "OX3 K4", (2,), (1, 2), (2,), double=double)
    assert times(result) == expected
    # 4 weights of 2 cycles on either side of the boundary; 12 steps read the register and the other memory, which
    # takes outputs through its second write port
    io = {(1, 0): 12, (1, 1): 0, (1, 2): 0, (1, 3): 12}
    assert result.port_busy == {(0, 0): 12, (0, 1): 8, (2, 0): 8, (2, 1): 0, **io}


def test_the_slower_side_of_a_boundary_counts() -> None:
    # a register that is written 3 bits at a time takes 3 cycles; both ports are held that long
    result = play(weights(memory("rf", "W", write=3)), "OX3 K4", (2,), (1, 2), (2,))
    assert times(result) == (3, 24, 24)
    assert result.port_busy[0, 1] == result.port_busy[2, 0] == 12


def test_a_double_buffer_behind_one_port_gains_nothing_while_steps_use_it() -> None:
    # every step reads the register through its only port, so weights are fetched between stays all the same
    example = weights(memory("rf", "W", ports="1"))
    for double in ((), ((W, 0),)):
        result = play(example, "OX3 K4", (2,), (1, 2), (2,), double=double)
        assert times(result) == (2, 20, 20)
        assert result.port_busy[0, 0] == 20


def test_fetching_more_slowly_than_computing() -> None:
    # 8 bits over 2 per cycle: 4 cycles per weight for 3 of work. Double buffered, the port never rests:
    # 4 weights x 4 cycles, and the last one's steps
    example = weights(memory("rf", "W"), outer_read=2)
    assert times(play(example, "OX3 K4", (2,), (1, 2), (2,), double=((W, 0),))) == (4, 19, 19)
    assert times(play(example, "OX3 K4", (2,), (1, 2), (2,))) == (4, 28, 28)


@pytest.mark.parametrize(
    ("double", "expected"),
    [
        # an output: 3 steps, then 2 cycles to leave; the next waits for the room
        ((), (0, 18, 20)),
        # it leaves under the next one's steps: only the last is waited for
        (((O, 0),), (0, 12, 14)),
    ],
)
def test_writing_outputs_back(double: tuple[tuple[int, int], ...], expected: tuple[int, int, int]) -> None:
    outer = memory("outer", "O", write=4)
    example = Example({"C": 3, "K": 4}, (memory("rf", "O", ports="2r2w"), memory("wi", "WI", ports="2r2w"), outer))
    # weights and inputs share a read port of their memory: make them free by giving them no bits
    example = Example(example.loops, example.memories, bits={Role.W: 0, Role.I: 0})
    assert times(play(example, "C3 K4", (1, 2), (2,), (2,), double=double)) == expected


def test_sums_that_come_back_are_waited_for() -> None:
    # K inside, C outside: 4 stays of one step. Up: a partial sum of 16 bits takes 2 cycles, a finished one of 8
    # takes 1; down: 2 cycles.
    #   steps 1 and 2: run 1, leave 2 each -> 6 cycles; steps 3 and 4: return 2, run 1, leave 1 -> 8 cycles
    outer = memory("outer", "O", write=8, read=8)
    free = {Role.W: 0, Role.I: 0}
    example = Example({"C": 2, "K": 2}, (memory("rf", "O", ports="2r2w"), memory("wi", "WI"), outer), bits=free)
    result = play(example, "K2 C2", (0, 2), (2,), (2,))
    assert times(result) == (0, 13, 14)
    # double buffered: sum 1 leaves in cycles 1 and 2, sum 2 in 3 and 4. There is room for the third stay when the
    # first has left: it returns in 3 and 4 and runs in 5; the fourth returns in 5 and 6, runs in 7, leaves in 8
    doubled = play(example, "K2 C2", (0, 2), (2,), (2,), double=((O, 0),))
    assert times(doubled) == (0, 8, 9)


def test_a_chain_of_memories_is_filled_in_turn() -> None:
    # outer to middle: 4 weights of 8 bits at once, 8 bits per cycle; middle to register: one weight in 2 cycles
    middle = memory("middle", "W", read=4)
    example = Example({"OX": 3, "K": 4}, (memory("rf", "W"), FREE_IO, middle, memory("outer", "W", read=8)))
    result = play(example, "OX3 K4", (2,), (1, 2, 2), (2,))
    assert times(result) == (4 + 2, 4 + 20, 4 + 20)
    # in two halves, the middle memory single buffered: each half waits for its 2 cycles
    halves = play(example, "OX3 K2 K2", (3,), (1, 2, 3), (3,))
    assert times(halves) == (2 + 2, 2 * (2 + 10), 2 * (2 + 10))
    # double buffered: the second half arrives while the first is used
    ahead = play(example, "OX3 K2 K2", (3,), (1, 2, 3), (3,), double=((W, 1),))
    assert times(ahead) == (2 + 2, 2 + 20, 2 + 20)


def test_what_is_needed_first_goes_first() -> None:
    # The middle memory has one port. A weight needs 2 cycles of it downwards, and 1 to arrive from outside. With
    # double buffers everywhere the port is always asked for; 4 weights pass it in 4 x (1 + 2) cycles:
    #   0 first arrives; 1-2 it goes down (the second waits, though it came first: it is for a later step); 3 second
    #   arrives, ...
    # and the last weight's step follows.
    middle = memory("middle", "W", read=4, write=8, ports="1")
    example = Example({"K": 4}, (memory("rf", "W"), FREE_IO, middle, memory("outer", "W", read=8)))
    result = play(example, "K4", (1,), (0, 0, 1), (1,), double=((W, 0), (W, 1)))
    assert times(result) == (3, 13, 13)
    assert result.port_busy[2, 0] == 12


def test_operands_take_turns_by_need_then_in_their_order() -> None:
    # one outer memory with one read port feeds both registers, 1 cycle a weight and 1 cycle an input, with single
    # buffers: weight, input, step, and again
    registers = (memory("rf_w", "W"), memory("rf_i", "I"))
    example = Example({"C": 3}, (*registers, memory("out", "O"), memory("outer", "WI", read=8)))
    result = play(example, "C3", (1,), (0, 1), (0, 1))
    assert times(result) == (2, 9, 9)
    # with double buffers the port works through: 6 cycles, and the last step. The first input goes before the second
    # weight, which holds up a later step: weight, input, weight beside the first step, input, ...
    ahead = play(example, "C3", (1,), (0, 1), (0, 1), double=((W, 0), (I, 0)))
    assert times(ahead) == (2, 7, 7)


def test_a_write_back_goes_before_what_is_for_later() -> None:
    # One port of the outer memory takes finished outputs (1 cycle), which come through a middle memory, and sends
    # weights (2 cycles). Only weights have a double buffer. A step needs its weight and the room of the output before.
    #   0-1 weight 0; 2 step 0 (weight 1 in 2-3); 3 output 0 to the middle
    #   4 output 0 to the outer memory: it holds up step 1, and weight 2, which could go, holds up step 2
    #   5 step 1 (weight 2 in 5-6); 6 output 1 to the middle; 7 to the outer memory, before weight 3
    #   8 step 2 (weight 3 in 8-9); 9, 10 output 2; 11 step 3; 12, 13 output 3
    registers = (memory("rf_o", "O", ports="2r2w"), memory("middle", "O", ports="2r2w"), memory("rf_w", "W"))
    outer = memory("outer", "WO", read=4, ports="1")
    example = Example({"K": 4}, (*registers, memory("in", "I"), outer), bits={Role.I: 0})
    result = play(example, "K4", (0, 0, 1), (0, 1), (1,), double=((W, 0),))
    assert times(result) == (2, 12, 14)
    assert result.port_busy[4, 0] == 4 * 2 + 4 * 1
