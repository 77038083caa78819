"""What must hold for every simulated mapping, on random cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from math import ceil, prod

import pytest
from effort import share
from hypothesis import HealthCheck, given, settings
from nest_strategies import Case, cases

from dfc.backend_cost.simulate import Simulation, simulate, simulate_words
from dfc.hwdsl.arch import Memory, Move, Port
from dfc.ir import Role

pytestmark = pytest.mark.slow

some = settings(
    max_examples=share(100, 2), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def run(case: Case) -> Simulation:
    return simulate(case.nest, case.arch, case.mapping, double_buffer=case.double_buffer)


def with_memories(case: Case, change: Callable[[Memory], Memory]) -> Case:
    return replace(case, arch=replace(case.arch, memories=tuple(map(change, case.arch.memories))))


def port_per_move(memory: Memory) -> Memory:
    """Every movement on a port of its own."""
    moves = tuple(product(memory.roles, Move))
    ports = tuple(Port(f"p{i}", "rw") for i in range(len(moves)))
    return replace(memory, ports=ports, port_of={move: i for i, move in enumerate(moves)})


def all_pairs(case: Case) -> frozenset[tuple[int, int]]:
    return frozenset((i, m) for i, operand in enumerate(case.nest.operands) for m in range(len(operand.memories) - 1))


@some
@given(cases())
def test_the_same_twice_and_without_time(case: Case) -> None:
    first, second = run(case), run(case)
    assert first == second
    traffic = simulate_words(case.nest, case.arch, case.mapping)
    assert (traffic.words, traffic.bursts, traffic.bits) == (first.words, first.bursts, first.bits)
    assert traffic.energy_pj(case.arch) == first.energy_pj(case.arch)


@some
@given(cases())
def test_every_operation_is_done_once(case: Case) -> None:
    result = run(case)
    assert result.operations == case.nest.operations
    assert result.steps == case.nest.cycles


@some
@given(cases())
def test_times_are_in_order(case: Case) -> None:
    result = run(case)
    assert 0 <= result.loading_cycles <= result.running_cycles - result.steps
    assert result.running_cycles <= result.total_cycles
    assert all(0 <= busy <= result.total_cycles for busy in result.port_busy.values())


@some
@given(cases())
def test_no_port_carries_more_than_it_is_wide(case: Case) -> None:
    """What one instance moves through a port fits into the port's busy cycles, for memories of one instance."""
    result = run(case)
    carried: dict[tuple[int, int], float] = {}
    for (i, level, move), bits in result.bits.items():
        operand = case.nest.operands[i]
        number = operand.memories[level]
        memory = case.arch.memories[number]
        if memory.instances == 1:
            key = number, memory.port_of[operand.role, move]
            reads = move in (Move.READ_DOWN, Move.READ_UP)
            carried[key] = carried.get(key, 0) + bits / (
                memory.read_bits_per_cycle if reads else memory.write_bits_per_cycle
            )
    for key, cycles in carried.items():
        assert result.port_busy[key] >= ceil(cycles - 1e-9)


@some
@given(cases())
def test_words_cover_bits(case: Case) -> None:
    result = run(case)
    for (i, level, move), words in result.words.items():
        memory = case.arch.memories[case.nest.operands[i].memories[level]]
        reads = move in (Move.READ_DOWN, Move.READ_UP)
        width = memory.read_bits_per_cycle if reads else memory.write_bits_per_cycle
        least = memory.min_read_bits if reads else memory.min_write_bits
        bits, bursts = result.bits[i, level, move], result.bursts[i, level, move]
        assert bits - 1e-6 <= words * width <= bits + bursts * (least - 1) + 1e-6


@some
@given(cases())
def test_a_wider_port_moves_the_same(case: Case) -> None:
    def wider(memory: Memory) -> Memory:
        return replace(
            memory,
            read_bits_per_cycle=2 * memory.read_bits_per_cycle,
            write_bits_per_cycle=2 * memory.write_bits_per_cycle,
        )

    before, after = run(case), run(with_memories(case, wider))
    assert after.bits == before.bits
    assert all(2 * after.words[key] == before.words[key] for key in before.words)


@settings(some, max_examples=40)
@given(cases())
def test_without_contention_neither_width_nor_double_buffers_cost_time(case: Case) -> None:
    """With a port per movement every transfer waits for its own conditions only.

    On shared ports both may cost a little: a step that runs earlier can keep a write-back from its port.
    """
    roles = [operand.role for operand in case.nest.operands]
    if len(set(roles)) < len(roles):
        return  # two inputs share the role's ports
    apart = with_memories(case, port_per_move)
    single, some_double, all_double = (
        simulate(case.nest, apart.arch, case.mapping, double_buffer=pairs).total_cycles
        for pairs in (frozenset[tuple[int, int]](), case.double_buffer, all_pairs(case))
    )
    assert all_double <= some_double <= single
    wide = with_memories(apart, lambda m: replace(m, read_bits_per_cycle=m.read_bits_per_cycle * 2))
    assert run(wide).total_cycles <= run(apart).total_cycles


@some
@given(cases())
def test_fetching_only_what_is_new_never_moves_more(case: Case) -> None:
    new, whole = (
        simulate_words(case.nest, with_memories(case, lambda m: replace(m, fetch_new=on)).arch, case.mapping)  # noqa: B023
        for on in (True, False)
    )
    for key in whole.bits:
        assert new.bits[key] <= whole.bits[key]
        assert new.words[key] <= whole.words[key] + 1e-9
        if key[0] == 0 or (key[2] is Move.READ_DOWN and key[1] == 0):
            assert new.bits[key] == whole.bits[key]  # outputs do not slide, and the array reads as before


@some
@given(cases())
def test_sums_are_kept(case: Case) -> None:
    """What goes up to the outermost memory, less what comes back, is each output once; nothing goes beyond."""
    output = case.nest.operands[0]
    flat = replace(output, bits=7, partial_bits=7)
    nest = replace(case.nest, operands=(flat, *case.nest.operands[1:]))
    traffic = simulate_words(nest, case.arch, case.mapping)
    top = len(output.memories) - 1
    outputs = prod(case.nest.sizes[dim] for dim in output.dims)
    up, back = traffic.bits[0, top, Move.WRITE_UP], traffic.bits[0, top, Move.READ_DOWN]
    assert up - back == 7 * outputs
    for level in range(top):
        # a memory takes from below at least each output once, and sends at least as much as the one above takes
        assert traffic.bits[0, level, Move.WRITE_UP] >= 7 * outputs
        assert traffic.bits[0, level, Move.READ_UP] >= traffic.bits[0, level + 1, Move.WRITE_UP]
        # a returning sum goes to one instance only
        assert traffic.bits[0, level, Move.WRITE_DOWN] == traffic.bits[0, level + 1, Move.READ_DOWN]
    assert traffic.bits[0, top, Move.READ_UP] == traffic.bits[0, top, Move.WRITE_DOWN] == 0


@some
@given(cases())
def test_inputs_arrive_everywhere(case: Case) -> None:
    """Multicast: what is sent is at most what is received, and every memory receives all that the array reads."""
    traffic = simulate_words(case.nest, case.arch, case.mapping)
    for i, operand in enumerate(case.nest.operands):
        if operand.role is Role.O:
            continue
        for level in range(len(operand.memories) - 1):
            assert traffic.bits[i, level + 1, Move.READ_DOWN] <= traffic.bits[i, level, Move.WRITE_DOWN]
        moved_up = (
            traffic.bits[i, m, up] for m in range(len(operand.memories)) for up in (Move.WRITE_UP, Move.READ_UP)
        )
        assert not any(moved_up)
