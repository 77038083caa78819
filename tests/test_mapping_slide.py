"""The mapping search where a memory fetches only what is new of a sliding window: all mappings priced one by one."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations_with_replacement, product

import pytest
from brute_force import factors, fits, orders
from nest_examples import memory

from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.mapping_cost import MappingCost, Objective, price_mapping
from dfc.backend_cost.mapping_search import search_mapping
from dfc.backend_cost.nest import Mapping, Nest, NestOperand, Work
from dfc.hwdsl import Arch, ArrayDim, OperationalArray
from dfc.ir import Axis, Dim, Role, sizes


def sliding(size_bits: int, k: int) -> tuple[Nest, Arch]:
    """A one-dimensional convolution over 8 outputs with a kernel of 3; the input's buffer keeps what it had."""
    buffer = replace(memory("buf", "I"), size_bits=size_bits, fetch_new=True)
    sums = replace(memory("sums", "O"), size_bits=64)
    arch = Arch(
        "small",
        OperationalArray((ArrayDim("A", 1),), 0.5, 0.1, 8, 8, 16, 8),
        (buffer, sums, memory("top", "IWO")),
        {Role.O: (1, 2), Role.W: (2,), Role.I: (0, 2)},
        {},
    )
    operands = (
        NestOperand(Role.O, (Dim.K, Dim.OX), (), 8, 16, (1, 2)),
        NestOperand(Role.W, (Dim.K, Dim.FX), (), 8, 8, (2,)),
        NestOperand(Role.I, (Dim.OX, Dim.FX), (Axis.X,), 8, 8, (0, 2)),
    )
    return Nest(sizes(K=k, OX=8, FX=3), (1, 1, 1), (1, 1, 1), operands, (), Work.MAC), arch


@pytest.mark.slow
@pytest.mark.parametrize(("size_bits", "k"), [(24, 1), (24, 2), (40, 2), (8, 2), (80, 2)])
def test_energy_against_all_mappings(size_bits: int, k: int) -> None:
    """The gap is honest: no mapping is below it, and what is found costs what it says."""
    nest, arch = sliding(size_bits, k)
    found = search_mapping(nest, arch, Objective.ENERGY, EXACT)
    assert isinstance(found, MappingCost)
    assert found.gap is not None
    priced = price_mapping(nest, arch, found.mapping, EXACT)
    assert priced.energy_pj == pytest.approx(found.energy_pj, rel=1e-12)
    loops = len(factors(nest))
    best = found.energy_pj
    cuts = [(*c, loops) for c in combinations_with_replacement(range(loops + 1), 1)]
    for order, out, inp in product(orders(factors(nest)), cuts, cuts):
        mapping = Mapping(order, (out, (loops,), inp))
        if fits(nest, arch, mapping, EXACT):
            best = min(best, price_mapping(nest, arch, mapping, EXACT).energy_pj)
    assert best >= found.energy_pj * (1 - found.gap) * (1 - 1e-9)
    assert found.energy_pj <= best * 1.02


def test_keeping_saves() -> None:
    """A buffer that keeps what it had never costs more than one that fetches all anew."""
    nest, arch = sliding(24, 2)
    keeps = search_mapping(nest, arch, Objective.ENERGY, EXACT)
    whole = replace(arch, memories=tuple(replace(m, fetch_new=False) for m in arch.memories))
    anew = search_mapping(nest, whole, Objective.ENERGY, EXACT)
    assert isinstance(keeps, MappingCost)
    assert isinstance(anew, MappingCost)
    assert keeps.energy_pj < anew.energy_pj


def test_idle_steps_where_a_prime_is_split() -> None:
    """241 outputs run as 243 steps: three tiles of 81 instead of 241 of one; the mapping says so, and is cheaper."""
    nest, arch = sliding(0, 2)
    nest = replace(nest, sizes=sizes(K=2, OX=241, FX=3))
    arch = replace(
        arch,
        memories=tuple(replace(m, size_bits=81 * 16 + 40, fetch_new=False) for m in arch.memories[:2])
        + arch.memories[2:],
    )
    found = search_mapping(nest, arch, Objective.ENERGY, EXACT)
    assert isinstance(found, MappingCost)
    assert found.gap == 0.0
    assert found.mapping.steps[Dim.OX] == 243
    assert price_mapping(nest, arch, found.mapping, EXACT).energy_pj == pytest.approx(found.energy_pj, rel=1e-12)
    assert found.ideal_cycles == 2 * 243 * 3
