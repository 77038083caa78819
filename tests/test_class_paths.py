"""The search of ways through the memories against all ways, and what it rests on, on random networks."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
from graph_builder import Builder
from graph_strategies import random_cnn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from verify_networks import small_chip

from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.nest import Borders
from dfc.backend_cost.rules_text import parse_rules
from dfc.backend_cost.spatial_search import Spatial
from dfc.hwdsl import load_arch
from dfc.ir import Graph, Kind
from dfc.passes import PassManager, default_pipeline
from dfc.passes.stacks import cut_after, make_stack
from dfc.passes.tiles import DepthFirstPlan, Order, Overlap, Tiler
from dfc.scheduling.bounds import LayerBounds
from dfc.scheduling.class_paths import PathFloors, cheapest
from dfc.scheduling.class_view import ClassView
from dfc.scheduling.class_walk import ClassWalk
from dfc.scheduling.engine import StackCost
from dfc.scheduling.fitted import FittedPricer
from dfc.scheduling.levels import Infeasible
from dfc.scheduling.placement import Resident
from dfc.scheduling.run_bounds import RunBounds
from dfc.scheduling.structure import structure

FEW = settings(
    max_examples=14,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)


def passed(graph: Graph) -> Graph:
    return PassManager(default_pipeline(), verify=True).run(graph)


def least_of_all(walk: ClassWalk) -> float:
    """The least score of all combinations of memories, one after the other; infinite where none fits."""
    layers = walk.stack.layers
    best = float("inf")
    for chosen in product(*(walk.view.choices[i] or [None] for i in layers)):
        path = walk.start
        for index, memories in zip(layers, chosen, strict=True):
            if memories is None:
                path = walk.idle(index, path)
                continue
            step = walk.step(index, path, *memories)
            longer = step if isinstance(step, Infeasible) else walk.taken(step)
            if isinstance(longer, Infeasible):
                break
            path = longer
        else:
            best = min(best, walk.flushed(path).score)
    return best


def check_plan(pricer: FittedPricer, plan: DepthFirstPlan, met: Counter[str]) -> None:
    resident = Resident(pricer.graph, pricer.arch, plan, {})
    tile = max(plan.classes, key=lambda c: c.count)
    view = ClassView(pricer.maps, pricer.arch, EXACT, plan, tile, {})
    for lasting in resident.uniform(resident.weight_choices()[0])[:2]:
        floors = PathFloors(ClassWalk(pricer, view, lasting, Spatial.PREFER, {}), {})
        found = cheapest(floors)
        expected = least_of_all(floors.walk)
        assert not isinstance(found, Infeasible) or expected == float("inf")
        if found is None or isinstance(found, Infeasible):
            continue
        met["ways"] += 1
        assert found.score == pytest.approx(expected, rel=1e-9)
        assert floors.rest[0] <= found.score * (1 + 1e-9)
        assert cheapest(floors, found.score * (1 - 1e-6)) is None
    cost = pricer.price(plan)
    if not isinstance(cost, StackCost):
        return
    estimate, outlook = pricer.estimate(plan), pricer.outlook(plan)
    assert not isinstance(estimate, Infeasible)
    assert outlook[0] <= estimate[0] * (1 + 1e-9)
    assert outlook[1] <= estimate[1] * (1 + 1e-9)
    met["near"] += outlook[0] > 0.8 * estimate[0]
    energy, cycles = cost.energy_pj * (1 + 1e-9), cost.latency_cycles * (1 + 1e-9)
    same = pricer.price_unless(plan, Spatial.PREFER, {}, lambda e, c: e > energy or c > cycles)
    assert isinstance(same, StackCost)
    assert (same.energy_pj, same.latency_cycles) == (cost.energy_pj, cost.latency_cycles)
    assert pricer.price_unless(plan, Spatial.PREFER, {}, lambda e, _: e > energy / 10) is None


@pytest.mark.parametrize("objective", list(Objective))
def test_the_cheapest_of_all_ways_is_found(objective: Objective) -> None:
    met: Counter[str] = Counter()

    @FEW
    @given(
        random_cnn(max_steps=4, head=False),
        st.sampled_from(["meta_proto_df", "tpu_like_df", "edge_tpu_like", "ascend_like_df"]),
        st.integers(2, 9),
        st.integers(2, 9),
        st.sampled_from(list(Overlap)),
    )
    def check(graph: Graph, chip: str, x: int, y: int, overlap: Overlap) -> None:
        graph, arch = passed(graph), load_arch(chip)
        pricer = FittedPricer(graph, arch, MappingCache(arch, objective, EXACT))
        for stack in cut_after(graph, []):
            if graph.layers[stack.layers[0]].kind in (Kind.OPAQUE, Kind.VIEW) or len(stack.layers) > 4:
                continue
            plan = Tiler(graph, stack, remainder_first=False).plan((x, y), overlap, Order.ROWS)
            check_plan(pricer, plan, met)

    check()
    assert met["ways"] > 5
    assert met["near"]


def test_smaller_tiles_may_use_the_memories_of_the_largest_class() -> None:
    """The window of the first column has room in one buffer on chip, that of the second in two.

    Both read off chip, as the largest class does: that is less than what the second costs at least in its own memories.
    """
    b = Builder()
    graph = passed(b.graph(b.conv(b.input(12, 3, 6), 2, kernel=(3, 2), pad=(0, 0))))
    arch = small_chip("meta_proto_df", 4096)
    (stack,) = cut_after(graph, [])
    met: Counter[str] = Counter()
    pricer = FittedPricer(graph, arch, MappingCache(arch, Objective.ENERGY, EXACT))
    check_plan(pricer, Tiler(graph, stack, remainder_first=False).plan((4, 1), Overlap.CACHED, Order.ROWS), met)
    assert met["ways"]


def test_what_is_learnt_under_rules_holds_for_layers_with_these_rules() -> None:
    """Three equal layers, of which rules fix one's loops."""
    b = Builder()
    x = b.input(4, 8, 8)
    for _ in range(3):
        x = b.conv(x, 4)
    graph, arch = passed(b.graph(x)), load_arch("meta_proto_df")
    names = [layer.name for layer in graph.layers]
    rules = parse_rules(f"layer {names[0]} {{ order OX < FX < C }}")
    pricer = FittedPricer(graph, arch, MappingCache(arch, Objective.ENERGY, EXACT), rules)
    first, second, third = (pricer.floor(layer, (8, 8), Borders()) for layer in graph.layers)
    assert second is third
    assert first is not second


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(random_cnn(), st.sampled_from(["meta_proto_df", "tpu_like"]))
def test_bounds_of_runs_are_those_of_stacks(graph: Graph, chip: str) -> None:
    graph = passed(graph)
    bounds = LayerBounds(graph, load_arch(chip), EXACT, any_lanes=False)
    for start in range(len(graph.layers)):
        runs = RunBounds(bounds, start)
        for end in range(len(graph.layers), start, -1):
            stack = make_stack(graph, range(start, end))
            expected = bounds.stack_bound(stack, ())
            assert runs.until(end, held_in=False, held_out=False) == pytest.approx(expected, rel=1e-12)
            held = [t for t in (graph.layers[start - 1].output,) if start and t in stack.inputs]
            if held:
                expected = bounds.stack_bound(stack, held)
                assert runs.until(end, held_in=True, held_out=False) == pytest.approx(expected, rel=1e-12)
            last = graph.layers[end - 1].output
            if last in stack.outputs:
                expected = bounds.stack_bound(stack, [*held, last])
                found = runs.until(end, held_in=bool(held), held_out=True)
                assert found == pytest.approx(expected, rel=1e-12)


def test_structure_is_what_is_left_without_names() -> None:
    b = Builder()
    x = b.input(4, 12, 12)
    for channels in (4, 4, 4, 8):
        x = b.conv(x, channels)
    y = b.add(x, b.conv(x, 8))
    graph = b.graph(y)
    pairs = [structure(graph, make_stack(graph, range(i, i + 2)), {}) for i in range(len(graph.layers) - 1)]
    assert pairs[0] == pairs[1]
    assert len(set(pairs)) == len(pairs) - 1  # more channels; an output that is read later; two inputs
