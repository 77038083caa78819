"""A mode for each map by itself: the descent against all choices, and what users see of it."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from importlib.resources import files
from itertools import product
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from graph_builder import Builder
from graph_strategies import mixtures, page_of, random_cnn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from verify_networks import Asked, compiled, networks, requests, saved, small_chip

from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.schedule import ModelInfo, Schedule, TensorInfo
from dfc.errors import InfeasibleError
from dfc.execution.verify import verify
from dfc.hwdsl import Arch, library, load_arch, parse_arch
from dfc.ir import Graph
from dfc.passes import PassManager, default_pipeline
from dfc.passes.axis_tiles import maps_of
from dfc.passes.stacks import cut_after
from dfc.passes.tiles import OVERLAPS, Mixed, Order, Overlap, TileClass, modes_of
from dfc.pipeline import import_graph, schedule_graph
from dfc.request import parse_request
from dfc.scheduling.bounds import LayerBounds
from dfc.scheduling.check import check_schedule
from dfc.scheduling.constraints_text import parse_constraints
from dfc.scheduling.engine import StackCost
from dfc.scheduling.fitted import FittedPricer
from dfc.scheduling.search import Candidate, StackSearch

ROOT = Path(__file__).parents[1]
TILE = (16, 4)
ROWS = (Overlap.CACHED, Overlap.RECOMPUTE)


def tiny_buffers() -> Arch:
    """The library's meta_proto_df with buffers for maps in which few line buffers find room."""
    page = files("dfc.hwdsl").joinpath("lib", "meta_proto_df.hw").read_text(encoding="utf-8")
    for old, new in (
        ("lb_io { holds I, O     size 64 KiB", "lb_io { holds I, O     size 1 KiB"),
        ("gb_io { holds I, O     size 1 MiB", "gb_io { holds I, O     size 3 KiB"),
    ):
        assert old in page
        page = page.replace(old, new)
    return parse_arch(page)


def random_chain(seed: int) -> Graph:
    """Four convolutions on 16x24, with channels and kernels that differ much."""
    rng = random.Random(seed)
    b = Builder()
    x = b.input(rng.choice([2, 8]), 24, 16)
    for _ in range(4):
        kernel = rng.choice([1, 3, 5])
        x = b.conv(x, rng.choice([2, 4, 16, 32]), (kernel, kernel), pad=(kernel // 2, kernel // 2))
    return b.graph(x)


def test_the_descent_against_all_choices() -> None:
    """Tiles of whole rows: of each map rows are kept or not. Never worse than one mode for all, and mostly the best.

    Of the first 24 chains, 14 are better than with one mode, by up to 36 %, and 21 the best that there is.
    """
    arch, better, best = tiny_buffers(), 0, 0
    for seed in range(6):
        search = searched(random_chain(seed), arch)
        found = search.candidates()[0].energy_pj
        uniform = min(c.energy_pj for c in search.candidates() if isinstance(c.overlap, Overlap))
        maps = search.tiler.maps
        every: dict[tuple[TileClass, ...], float] = {}
        for modes in product(ROWS, repeat=len(maps) - 1):  # nobody reads the last map
            plan = search.tiler.plan(TILE, Mixed.made(dict(zip(maps, (*modes, Overlap.CACHED), strict=True))))
            if plan.classes not in every:
                cost = search.pricer.price(plan)
                every[plan.classes] = cost.energy_pj if isinstance(cost, StackCost) else inf
        least = min(every.values())
        assert least * (1 - 1e-9) <= found <= uniform
        better += found < uniform
        best += found <= least * (1 + 1e-9)
    assert better >= 5
    assert best >= 5


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks(5), requests, st.data())
def test_random_schedules_compute_their_network(model: onnx.ModelProto, asked: Asked, data: st.DataObject) -> None:
    """Each map with a mode of its own: run beside ONNX Runtime."""
    asked = replace(asked, stacks="auto")
    with TemporaryDirectory() as folder:
        path = saved(model, folder)
        graph = import_graph(path)
        every = [maps_of(graph, stack) for stack in cut_after(graph, [])]
        modes = [modes_of(data.draw(mixtures(maps)), maps) for maps in every]
        page = parse_constraints(page_of(graph, modes))
        try:
            schedule = compiled(path, small_chip(asked.hw, asked.divisor), asked, graph, page)
        except InfeasibleError:
            return
        found = verify(schedule, path)
    assert found.findings == []
    assert {c.tensor for c in found.compared} >= {o.name for o in model.graph.output}
    for stack, mine in zip(schedule.stacks, modes, strict=True):
        assert set(stack.overlap_by_map.items()) <= set(mine.items())


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(random_cnn(), st.sampled_from(library()), st.tuples(st.integers(1, 9), st.integers(1, 9)), st.data())
def test_random_schedules_pass_the_checker(graph: Graph, hw: str, tile: tuple[int, int], data: st.DataObject) -> None:
    graph = PassManager(default_pipeline(), verify=True).run(graph)
    every = [maps_of(graph, stack) for stack in cut_after(graph, [])]
    page = page_of(graph, [modes_of(data.draw(mixtures(maps)), maps) for maps in every])
    order = data.draw(st.sampled_from(["rows", "columns"]))
    request = parse_request("energy", "cached", f"{tile[0]}x{tile[1]}", "auto", order=order)
    request = replace(request, constraints=parse_constraints(page))
    infos = [tuple(TensorInfo(n, graph.tensors[n].shape, 8) for n in names) for names in (graph.inputs, graph.outputs)]
    try:
        schedule = schedule_graph(graph, load_arch(hw), request, ModelInfo(graph.name, "net.onnx", "0", *infos))
    except InfeasibleError:
        return
    assert check_schedule(Schedule.from_json(schedule.to_json())).violations == ()


def test_the_example_of_the_document() -> None:
    """The table of docs/depth-first.md: FSRCNN on a chip with small buffers."""
    text = (ROOT / "docs" / "depth-first.md").read_text()
    (page,) = re.findall(r"```hw\n(accelerator small_buffers.*?)```", text, re.S)
    rows = re.findall(r"^\| `([a-z-]+)` \| ([0-9.]+) mJ \| ([0-9,]+) \| by ([a-z]+) \|$", text, re.M)
    graph = import_graph(ROOT / "examples" / "models" / "fsrcnn.onnx")
    search = searched(graph, parse_arch(page), (60, 12), tuple(Order))
    best: dict[str, Candidate] = {}
    for one in search.candidates():
        best.setdefault(one.overlap.value, one)
    assert len(rows) == 5
    for mode, mj, cycles, order in rows:
        found = best[mode]
        assert (f"{found.energy_pj / 1e9:.3f}", f"{found.latency_cycles:,}") == (mj, cycles)
        assert found.order.value == order
    assert search.candidates()[0] is best["mixed"]


def searched(
    graph: Graph, arch: Arch, tile: tuple[int, int] = TILE, orders: tuple[Order, ...] = (Order.ROWS,)
) -> StackSearch:
    """The search of a network as one stack, in tiles of one size."""
    pricer = FittedPricer(graph, arch, MappingCache(arch, Objective.ENERGY, EXACT))
    (stack,) = cut_after(graph, [])
    bounds = LayerBounds(graph, arch, EXACT, any_lanes=False)
    search = StackSearch(pricer, stack, orders=orders, remainder_first=False, bounds=bounds)
    search.explore(OVERLAPS, tile, Objective.ENERGY, mixed=True)
    return search
