"""Weights shared out over memories by cost: against all ways to do it, and never at a loss."""

from __future__ import annotations

from itertools import product
from math import inf
from pathlib import Path
from random import Random

import pytest
from graph_builder import Builder
from hypothesis import given, settings
from hypothesis import strategies as st

from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.schedule import ModelInfo, Schedule, TensorInfo
from dfc.backend_cost.spatial_search import Spatial
from dfc.hwdsl import load_arch
from dfc.hwdsl.arch import Arch
from dfc.ir import Graph, Role
from dfc.passes.stacks import cut_after
from dfc.passes.tiles import DepthFirstPlan, Order, Overlap, Tiler
from dfc.pipeline import schedule_graph
from dfc.request import parse_request
from dfc.scheduling.check import check_schedule
from dfc.scheduling.engine import StackCost
from dfc.scheduling.fitted import FittedPricer
from dfc.scheduling.placement import Resident
from dfc.scheduling.weight_places import Choice, shared_out


def chip(folder: Path, low_bytes: int, high_bytes: int) -> Arch:
    """meta_proto_df with two small memories for weights."""
    page = folder / "small.hw"
    page.write_text(
        f"accelerator small extends meta_proto_df {{\n  memory lb_w {{ size {low_bytes} B }}\n"
        f"  memory gb_w {{ size {high_bytes} B }}\n}}\n"
    )
    return load_arch(str(page))


def convolutions(rng: Random, layers: int) -> Graph:
    b = Builder("weights")
    x = b.input(rng.choice([4, 8, 16]), 32, 32)
    for _ in range(layers):
        k = rng.choice([1, 3])
        x = b.conv(x, rng.choice([4, 8, 16, 24, 32, 48]), (k, k), pad=(k // 2, k // 2))
    return b.graph()


def score(cost: object, objective: Objective) -> float:
    return objective.of(cost.energy_pj, cost.latency_cycles) if isinstance(cost, StackCost) else inf


def least_of_all(graph: Graph, arch: Arch, plan: DepthFirstPlan, objective: Objective) -> float:
    """The least of all ways to keep weights in the two memories or nowhere, priced one by one."""
    bits = Resident(graph, arch, plan, {}).weight_bits
    memories = [m for m in arch.paths[Role.W][:-1] if arch.memories[m].instances == 1]
    pricer = FittedPricer(graph, arch, MappingCache(arch, objective, EXACT))
    least = inf
    for each in product([None, *memories], repeat=len(bits)):
        weights = {i: m for i, m in zip(bits, each, strict=True) if m is not None}
        taken = {m: sum(bits[i] for i, at in weights.items() if at == m) for m in memories}
        if all(n <= arch.memories[m].size_bits for m, n in taken.items()):
            least = min(least, score(pricer.price_with(weights, plan, Spatial.PREFER, {}), objective))
    return least


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "layers", "cases"), [(Objective.ENERGY, 3, 3), (Objective.ENERGY, 4, 1), (Objective.LATENCY, 3, 1)]
)
def test_shared_out_is_the_best_of_all_ways(tmp_path: Path, objective: Objective, layers: int, cases: int) -> None:
    """With up to three layers all are tried on the largest class of tiles, with four it is a search."""
    rng = Random(3)
    better = 0
    for _ in range(cases):
        graph = convolutions(rng, layers)
        total = sum(layer.weight_elements for layer in graph.layers)
        low = max(64, int(total * rng.choice([0.15, 0.3, 0.5])) // 64 * 64)
        arch = chip(tmp_path, low, max(low, int(total * rng.choice([0.6, 0.9, 1.5])) // 64 * 64))
        tile = rng.choice([8, 16]), rng.choice([4, 8, 16])
        plan = Tiler(graph, cut_after(graph, [])[0], remainder_first=False).plan(tile, Overlap.CACHED, Order.ROWS)
        pricer = FittedPricer(graph, arch, MappingCache(arch, objective, EXACT))
        first, found = (score(c, objective) for c in (pricer.price(plan), pricer.shared_out(plan, Spatial.PREFER, {})))
        least = least_of_all(graph, arch, plan, objective)
        assert found <= first
        assert least * (1 - 1e-9) <= found <= least * (1.001 if layers <= 3 else 1.005)
        better += found < first
    assert better


CHOICES = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 30), st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=3
)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(CHOICES, st.integers(0, 20), st.integers(0, 20))
def test_the_knapsack_is_exact(layers: list[tuple[int, int, int, int]], low: int, high: int) -> None:
    choices = [[Choice(0, n, a), Choice(1, n, b), Choice(None, 0, c)] for n, a, b, c in layers]
    room = {0: low, 1: high}

    def cost(picked: tuple[Choice, ...]) -> float:
        taken = {m: sum(c.bits for c in picked if c.memory == m) for m in room}
        return sum(c.cost for c in picked) if all(taken[m] <= room[m] for m in room) else inf

    found, where = shared_out(choices, room)
    assert found == min(map(cost, product(*choices)))
    picked = tuple(next(c for c in each if c.memory == m) for each, m in zip(choices, where, strict=True))
    assert cost(picked) == found


def test_a_schedule_with_weights_in_two_memories_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some stay low, others high; it passes the checker, and costs less than with all in the one that has room."""
    graph = convolutions(Random(5), 4)
    total = sum(layer.weight_elements for layer in graph.layers)
    arch = chip(tmp_path, total * 2 // 3, total * 2)

    def scheduled() -> Schedule:
        infos = [
            tuple(TensorInfo(t, graph.tensors[t].shape, 8) for t in names) for names in (graph.inputs, graph.outputs)
        ]
        request = parse_request("energy", "cached", "8x8", "one")
        return schedule_graph(graph, arch, request, ModelInfo(graph.name, "w.onnx", "0", *infos))

    shared = scheduled()
    monkeypatch.setattr(FittedPricer, "shared_out", FittedPricer.price)
    plain = scheduled()
    weights = [b for b in shared.stacks[0].buffers if b.what == "weights"]
    assert {b.memory for b in weights} == {"lb_w", "gb_w"}
    assert shared.stacks[0].weight_memory in ("lb_w, gb_w", "gb_w, lb_w")
    assert not check_schedule(shared).violations
    assert {b.memory for b in plain.stacks[0].buffers if b.what == "weights"} == {"gb_w"}
    assert shared.totals.energy_pj < plain.totals.energy_pj
