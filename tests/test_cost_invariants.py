"""What must hold for every mapping that the cost models price, on random nests, chips and mappings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from math import prod

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from nest_strategies import Case, cases

from dfc.backend_cost import evaluate
from dfc.backend_cost.cost_model import DEFINES, EXACT, MODELS, CostModel
from dfc.backend_cost.evaluate import Batch
from dfc.backend_cost.mapping_search import Loop, Mapping, MappingCost, price_mapping
from dfc.backend_cost.nest import Nest, NestOperand, Unrolled, Work, spatial_levels
from dfc.backend_cost.tables import build_tables
from dfc.hwdsl.arch import Arch, Memory
from dfc.ir import KERNEL_DIM, N_DIMS, OUTPUT_DIM, Axis, Dim, Role, Triple

some = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
models = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def with_memories(arch: Arch, change: Callable[[Memory], Memory]) -> Arch:
    return replace(arch, memories=tuple(map(change, arch.memories)))


def close(value: float) -> object:
    return pytest.approx(value, rel=1e-9, abs=1e-9)


def price(case: Case, model: CostModel) -> MappingCost:
    return price_mapping(case.nest, case.arch, case.mapping, model)


# ---- parts and totals --------------------------------------------------------------------------------------------


@models
@some
@given(case=cases())
def test_parts_sum_to_totals(case: Case, model: CostModel) -> None:
    """Energy is that of the operations and of the memories, and a memory's is its words times what a word costs."""
    cost = price(case, model)
    assert cost.energy_pj == close(cost.compute_pj + sum(cost.memory_pj.values()))
    assert all(energy >= -1e-9 for energy in cost.memory_pj.values())
    for number, memory in enumerate(case.arch.memories):
        reads = cost.read_bits.get(number, 0.0) / memory.read_bits_per_cycle
        writes = cost.write_bits.get(number, 0.0) / memory.write_bits_per_cycle
        energy = sum(pj for (m, _), pj in cost.memory_pj.items() if m == number)
        assert energy == close(reads * memory.read_pj + writes * memory.write_pj)
    assert cost.ideal_cycles == case.nest.cycles
    assert cost.stall_cycles >= 0 and cost.loading_cycles >= 0 and cost.offloading_cycles >= 0


@models
@some
@given(case=cases())
def test_compute_energy_counts_operations(case: Case, model: CostModel) -> None:
    array = case.arch.array
    operation = array.op_pj if model.op_energy else array.mac_pj
    each = {Work.MAC: array.mac_pj, Work.OPERATION: operation, Work.NOTHING: 0.0}[case.nest.work]
    assert price(case, model).compute_pj == close(each * prod(case.nest.sizes))


@models
@some
@given(case=cases(), factor=st.sampled_from((0.0, 0.5, 2.0, 7.25)), number=st.integers(0, 8))
def test_energy_is_linear_in_unit_costs(case: Case, model: CostModel, factor: float, number: int) -> None:
    """All costs times k is the energy times k; one memory's costs times k is that memory's energy times k."""
    before = price(case, model)

    def dearer(memory: Memory) -> Memory:
        return replace(memory, read_pj=memory.read_pj * factor, write_pj=memory.write_pj * factor)

    array = case.arch.array
    scaled = replace(array, mac_pj=array.mac_pj * factor, op_pj=array.op_pj * factor)
    everything = replace(case, arch=replace(with_memories(case.arch, dearer), array=scaled))
    assert price(everything, model).energy_pj == close(before.energy_pj * factor)

    chosen = case.arch.memories[number % len(case.arch.memories)]
    one = replace(case, arch=with_memories(case.arch, lambda m: dearer(m) if m is chosen else m))
    after = price(one, model)
    for (memory, role), energy in before.memory_pj.items():
        expected = energy * factor if case.arch.memories[memory] is chosen else energy
        assert after.memory_pj[memory, role] == close(expected)
    assert after.latency_cycles == before.latency_cycles


# ---- bandwidth ---------------------------------------------------------------------------------------------------


@models
@some
@given(case=cases(), factor=st.integers(2, 5), numbers=st.sets(st.integers(0, 8), min_size=1))
def test_more_bandwidth_never_costs_cycles(case: Case, model: CostModel, factor: int, numbers: set[int]) -> None:
    """For a given mapping, with some memories' ports wider in both directions."""
    wide = {id(case.arch.memories[n % len(case.arch.memories)]) for n in numbers}

    def wider(memory: Memory) -> Memory:
        if id(memory) not in wide:
            return memory
        read, write = memory.read_bits_per_cycle * factor, memory.write_bits_per_cycle * factor
        return replace(memory, read_bits_per_cycle=read, write_bits_per_cycle=write)

    before, after = price(case, model), price(replace(case, arch=with_memories(case.arch, wider)), model)
    assert after.latency_cycles <= before.latency_cycles


# ---- X and Y -----------------------------------------------------------------------------------------------------

TURNED = {Dim.OX: Dim.OY, Dim.OY: Dim.OX, Dim.FX: Dim.FY, Dim.FY: Dim.FX}


def turn(dim: Dim) -> Dim:
    return TURNED.get(dim, dim)


def turned(case: Case) -> Case:
    """The same problem with X and Y exchanged everywhere."""

    def swap(values: Triple) -> Triple:
        return values[0], values[2], values[1]

    def operand(o: NestOperand) -> NestOperand:
        windows = tuple(sorted({Axis.X: Axis.Y, Axis.Y: Axis.X}.get(a, a) for a in o.windows))
        return replace(o, dims=tuple(sorted(map(turn, o.dims))), windows=windows)

    old = case.nest
    nest = Nest(
        tuple(old.sizes[turn(d)] for d in Dim),
        swap(old.strides),
        swap(old.dilations),
        tuple(map(operand, old.operands)),
        tuple(replace(u, loop=turn(u.loop)) for u in old.unrolled),
        old.work,
        swap(old.pads),
        swap(old.inputs),
    )
    mapping = Mapping(tuple(Loop(turn(loop.dim), loop.size) for loop in case.mapping.loops), case.mapping.cuts)
    return replace(case, nest=nest, mapping=mapping)


@models
@some
@given(case=cases())
def test_swapping_x_and_y_changes_nothing(case: Case, model: CostModel) -> None:
    before, after = price(case, model), price(turned(case), model)
    assert after.energy_pj == close(before.energy_pj)
    assert after.memory_pj == {key: close(energy) for key, energy in before.memory_pj.items()}
    assert after.read_bits == {key: close(bits) for key, bits in before.read_bits.items()}
    assert after.write_bits == {key: close(bits) for key, bits in before.write_bits.items()}
    assert after.latency_cycles == before.latency_cycles
    assert after.offloading_cycles == before.offloading_cycles


# ---- batches -----------------------------------------------------------------------------------------------------


@models
@some
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
def test_a_batch_of_one_equals_the_batch(case: Case, model: CostModel, seed: int) -> None:
    """Row by row, and as :func:`price_mapping` prices the mapping alone."""
    loops = case.mapping.loops
    assume(len(loops) <= 8)
    random = np.random.default_rng(seed)
    orders = np.array([random.permutation(len(loops)) for _ in range(5)], dtype=np.int64).reshape(5, len(loops))
    masks = np.zeros((5, len(loops) + 1), dtype=np.int64)
    masks[:, 1:] = np.cumsum(1 << orders, axis=1)
    points = np.ones((1 << len(loops), N_DIMS))
    for mask in range(len(points)):
        for i, loop in enumerate(loops):
            points[mask, loop.dim] *= loop.size if mask >> i & 1 else 1
    cuts: list[np.ndarray] = []
    for operand in case.nest.operands:
        found = np.sort(random.integers(0, len(loops) + 1, size=(5, len(operand.memories))), axis=1)
        found[:, -1] = len(loops)
        cuts.append(found)
    dims = np.array([loop.dim for loop in loops], dtype=np.int64)[orders]
    tables = build_tables(case.nest, case.arch, points, model)
    batch = Batch(dims, masks, tuple(cuts))
    moved = evaluate.effective_cuts(tables, batch)
    energy, time = evaluate.energy_pj(tables, batch, moved), evaluate.latency(tables, batch, moved)
    for row in range(5):
        one = batch.take(np.array([row]))
        alone = evaluate.effective_cuts(tables, one)
        assert all((a[0] == m[row]).all() for a, m in zip(alone, moved, strict=True))
        assert evaluate.energy_pj(tables, one, alone)[0] == energy[row]
        assert evaluate.latency(tables, one, alone).total_cycles[0] == time.total_cycles[row]
        mapping = Mapping(tuple(loops[i] for i in orders[row]), tuple(tuple(c[row].tolist()) for c in cuts))
        priced = price_mapping(case.nest, case.arch, mapping, model)
        assert priced.energy_pj == close(energy[row])
        assert priced.latency_cycles == time.total_cycles[row]
        assert priced.offloading_cycles == time.offloading_cycles[row]
