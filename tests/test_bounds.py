"""Bounds of stacks against the prices of plans, on random networks: none costs less than its bound."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import pytest
from graph_builder import Builder
from graph_strategies import mixtures, random_cnn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfc.backend_cost.cost_model import DEFINES, EXACT, CostModel
from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import Objective
from dfc.hwdsl import Arch, load_arch
from dfc.ir import Graph, Kind
from dfc.passes import PassManager, default_pipeline
from dfc.passes.stacks import Stack, cut_after
from dfc.passes.tiles import Order, Overlap, Tiler
from dfc.scheduling.bounds import LayerBounds
from dfc.scheduling.engine import StackCost
from dfc.scheduling.levels import Infeasible, MemoryLadder
from dfc.scheduling.placement import HeldMap
from dfc.scheduling.policy import OURS, REFERENCE, Policy

CHIPS = ("meta_proto", "meta_proto_df", "tpu_like_df", "edge_tpu_like_df", "ascend_like_df", "tesla_npu_like")


def handed(graph: Graph, arch: Arch, stack: Stack) -> dict[str, HeldMap]:
    """The stack's first input and its tiled output, on chip in the largest memory that feature maps share there."""
    shared = MemoryLadder(arch).shared[:-1]
    if not shared:
        return {}
    last = stack.outputs[-1]
    alone = not any(c in stack.layers for c in graph.consumers[last])
    names = [*stack.inputs[:1], *([last] if alone else [])]
    return {name: HeldMap(shared[-1], high) for high, name in zip((False, True), names, strict=False)}


@pytest.mark.slow
@pytest.mark.parametrize("model", [EXACT, DEFINES], ids=lambda m: m.name)
@pytest.mark.parametrize("policy", [OURS, REFERENCE], ids=lambda p: p.name)
def test_no_plan_costs_less_than_its_bound(model: CostModel, policy: Policy) -> None:
    met: Counter[str] = Counter()

    @settings(max_examples=32, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(
        random_cnn(max_steps=5),
        st.sampled_from(CHIPS),
        st.integers(1, 9),
        st.integers(1, 9),
        st.sampled_from(list(Overlap)),
        st.sampled_from(list(Order)),
        st.data(),
    )
    def check(graph: Graph, chip: str, x: int, y: int, overlap: Overlap, order: Order, data: st.DataObject) -> None:
        graph = PassManager(default_pipeline(), verify=True).run(graph)
        arch = load_arch(chip)
        cache = MappingCache(arch, Objective.ENERGY, model)
        pricer = policy.pricer(graph, arch, cache)
        bounds = LayerBounds(graph, arch, cache.model, any_lanes=False)
        for stack in cut_after(graph, []):
            if graph.layers[stack.layers[0]].kind in (Kind.OPAQUE, Kind.VIEW):
                continue
            if order not in policy.orders:
                order = Order.ROWS
            tiler = Tiler(graph, stack, remainder_first=policy.remainder_first)
            own = policy.fits and data.draw(st.booleans())  # a mode for each map
            plan = tiler.plan((x, y), data.draw(mixtures(tiler.maps)) if own else overlap, order)
            cost = pricer.price(plan)
            if isinstance(cost, Infeasible):
                met["infeasible"] += 1
                continue
            assert isinstance(cost, StackCost)
            energy, cycles = bounds.plan_bound(plan, ())
            assert cost.energy_pj >= energy * (1 - 1e-9)
            assert cost.latency_cycles >= cycles * (1 - 1e-9)
            least, fewest = bounds.stack_bound(stack, ())
            assert energy >= least * (1 - 1e-9)
            assert cycles >= fewest * (1 - 1e-9)
            met["priced"] += 1
            met["near"] += cost.energy_pj < 3 * energy
            held = handed(graph, arch, stack) if policy.fits else {}
            cost = pricer.price(plan, held=held) if held else cost
            if isinstance(cost, StackCost) and held:
                energy, cycles = bounds.plan_bound(plan, held)
                assert energy <= bounds.plan_bound(plan, ())[0]
                assert cost.energy_pj >= energy * (1 - 1e-9)
                assert cost.latency_cycles >= cycles * (1 - 1e-9)
                met["held"] += 1

    check()
    assert met["priced"] > 20
    assert met["near"] > met["priced"] / 4
    assert met["held"] > 10 or not policy.fits


def test_what_a_dilated_kernel_skips_is_not_read() -> None:
    """A stride of two and a dilation of two leave out every other column: half of the input is ever fetched."""
    b = Builder()
    x = b.input(2, 16, 12)
    graph = b.graph(b.conv(x, 6, kernel=(1, 2), stride=(1, 2), pad=(0, 1), dilation=(1, 2)))
    arch = load_arch("meta_proto")
    small = replace(
        arch, memories=tuple(replace(m, size_bits=m.size_bits // 512) if m.instances == 1 else m for m in arch.memories)
    )
    bounds = LayerBounds(graph, small, EXACT, any_lanes=False)
    (stack,) = cut_after(graph, [])
    tiler = Tiler(graph, stack)
    for tile, overlap in product(((2, 6), (3, 2), tiler.extents), Overlap):
        pricer = OURS.pricer(graph, small, MappingCache(small, Objective.ENERGY, EXACT))
        cost = pricer.price(tiler.plan(tile, overlap))
        if isinstance(cost, StackCost):
            assert cost.energy_pj >= bounds.plan_bound(cost.plan, ())[0]
    touched = {2 * o + k - 1 for o in range(6) for k in (0, 2)} & set(range(12))
    column = graph.tensors[x].elements // 12
    assert bounds.stack_bound(stack, ())[0] - bounds.stack_bound(stack, (x,))[0] == pytest.approx(
        column * len(touched) * 8 / arch.memories[-1].read_bits_per_cycle * arch.memories[-1].read_pj
    )
