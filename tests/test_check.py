"""The independent checker: what dfc makes passes it, what is damaged does not; its counts are the simulator's."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import count, cycle
from pathlib import Path

import numpy as np
import pytest
from check_damage import DAMAGES, damaged
from cli_helpers import HW, Cli, chain
from effort import share
from example_models import build
from graph_strategies import page_of, random_cnn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nest_strategies import Case, cases

from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.evaluate import effective_cuts
from dfc.backend_cost.mapping_cost import tables_of
from dfc.backend_cost.nest import operand_names
from dfc.backend_cost.rebuild import TileProblem, rebuild
from dfc.backend_cost.schedule import (
    ModelInfo,
    NestEntry,
    OperandEntry,
    Schedule,
    TensorInfo,
    TileClassEntry,
    TileLayer,
)
from dfc.backend_cost.simulate_walk import OperandWalk, Walk, walk
from dfc.backend_cost.timing import exact_latency
from dfc.errors import InfeasibleError
from dfc.frontend import import_model
from dfc.hwdsl import Arch, library, load_arch
from dfc.ir import Dim, Graph
from dfc.passes import PassManager, default_pipeline
from dfc.passes.axis_tiles import maps_of
from dfc.passes.stacks import cut_after
from dfc.passes.tiles import OVERLAPS
from dfc.pipeline import compile as compile_model
from dfc.pipeline import schedule_graph
from dfc.request import parse_request
from dfc.scheduling.check import check_schedule
from dfc.scheduling.check_held import held_by
from dfc.scheduling.constraints_text import parse_constraints

MODELS = Path(__file__).parents[1] / "examples" / "models"


def prepared(graph: Graph) -> Graph:
    return PassManager(default_pipeline(), verify=True).run(graph)


def scheduled(graph: Graph, hw: str | Arch, tile: str, overlap: str = "auto", **options: str) -> Schedule:
    """A schedule as it is read back from its file."""

    def infos(names: tuple[str, ...]) -> tuple[TensorInfo, ...]:
        return tuple(TensorInfo(n, graph.tensors[n].shape, graph.tensors[n].bits) for n in names)

    model = ModelInfo(graph.name, "net.onnx", "0", infos(graph.inputs), infos(graph.outputs))
    objective, stacks = options.pop("objective", "energy"), options.pop("stacks", "auto")
    page = options.pop("constraints", "")
    request = parse_request(objective, overlap, tile, stacks, **options)  # type: ignore[arg-type]
    if page:
        request = replace(request, constraints=parse_constraints(page))
    arch = hw if isinstance(hw, Arch) else load_arch(hw)
    return Schedule.from_json(schedule_graph(graph, arch, request, model).to_json())


# --- what dfc makes


@pytest.mark.slow
@settings(max_examples=share(35, 2), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    random_cnn(),
    st.sampled_from(library()),
    st.sampled_from(["cached", "h-cached", "v-cached", "recompute"]),
    st.sampled_from(["rows", "columns"]),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from(["auto", "one", "each"]),
)
def test_schedules_of_random_networks_pass(
    graph: Graph, hw: str, overlap: str, order: str, tile: tuple[int, int], stacks: str
) -> None:
    try:
        schedule = scheduled(prepared(graph), hw, f"{tile[0]}x{tile[1]}", overlap, order=order, stacks=stacks)
    except InfeasibleError:
        return
    assert check_schedule(schedule).violations == ()


EXAMPLES = (
    ("fsrcnn", "meta_proto_df", "60x72", "cached", "auto"),
    ("mc_cnn", "tpu_like_df", "160x96", "cached", "rows"),
    ("tiny_chain", "tesla_npu_like", "5x3", "v-cached", "columns"),
    ("residual_block", "ascend_like_df", "9x9", "cached", "columns"),
    ("separable_block", "edge_tpu_like", "7x7", "h-cached", "rows"),
    ("rectangular", "meta_proto_df", "11x5", "cached", "rows"),
    ("tcn_kws", "tpu_like", "8x1", "cached", "rows"),
    ("cnn3d", "tpu_like_df", "8x8", "cached", "rows"),
    ("dmcnn_vd", "edge_tpu_like_df", "96x64", "h-cached", "rows"),
    ("resnet18", "meta_proto_df", "14x14", "cached", "columns"),
    ("mobilenetv1", "tesla_npu_like_df", "14x7", "v-cached", "rows"),
    ("mobilenetv2", "meta_proto_df", "7x7", "recompute", "rows"),
    ("unet", "meta_proto_df", "32x32", "cached", "rows"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "hw", "tile", "overlap", "order"), EXAMPLES)
def test_schedules_of_example_networks_pass(name: str, hw: str, tile: str, overlap: str, order: str) -> None:
    graph = prepared(import_model(build(name), name=name, base_dir=None))
    found = check_schedule(scheduled(graph, hw, tile, overlap, order=order))
    assert found.violations == ()
    assert all(peak.bits <= peak.size_bits for peak in found.peaks)


# --- what a mapping keeps, against the simulator's walk


def entry_of(case: Case) -> tuple[TileLayer, NestEntry]:
    """A case of the simulator as a schedule's file has it."""
    nest, names = case.nest, [m.name for m in case.arch.memories]
    operands = tuple(
        OperandEntry(
            o.role.value,
            tuple(d.name for d in o.dims),
            tuple(a.name for a in o.windows),
            o.bits,
            o.partial_bits,
            tuple(names[m] for m in o.memories),
        )
        for o in nest.operands
    )
    entry = NestEntry(
        {d.name: nest.sizes[d] for d in Dim if nest.sizes[d] > 1},
        operands,
        tuple((u.array_dim, u.loop.name, u.lanes, float(u.share)) for u in nest.unrolled),
        nest.strides,
        nest.dilations,
    )
    loops = tuple(f"{loop.dim.name} {loop.size}" for loop in case.mapping.loops)
    cuts = dict(zip(operand_names(nest), case.mapping.cuts, strict=True))
    return TileLayer("layer", (1, 1), {}, (), loops, cuts, (), 0.0, 0, 0.0, 0, entry), entry


def walked_bits(view: OperandWalk, level: int) -> int:
    """The most that any instance of a memory holds in any stay, at the precision in which the simulator moves it."""
    held = [view.held(level, stay) for stay in view.stays[level]]
    most = max((len(elements) for here in held for elements in here.values()), default=0)
    inner = view.touched if level == 0 else [view.held(level - 1, stay) for stay in view.stays[level - 1]]
    visits = Counter(e for here in inner for e in set[int]().union(*here.values()))
    shares = Counter(e for elements in view.union(view.touched, level).values() for e in elements)
    partial = max(visits.values(), default=0) > 1 or max(shares.values(), default=0) > 1
    return most * (view.operand.partial_bits if partial else view.operand.bits)


@settings(max_examples=share(150, 2), deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(most=600))
def test_what_a_mapping_keeps_is_what_the_simulator_holds(case: Case) -> None:
    """Never less; and no more where all lanes work in all steps, nothing is padded, and windows have no gaps."""
    whole: Walk = walk(case.nest, case.arch, case.mapping, 10**6)
    full = bool(whole.valid.all()) and not any(case.nest.inputs) and max(case.nest.dilations) == 1
    run, entry = entry_of(case)
    parts = iter(held_by(run, entry, case.arch))
    for view in whole.operands:
        for level, _ in enumerate(view.memories):
            part, truth = next(parts), walked_bits(view, level)
            if part.whole:
                continue
            assert part.bits >= truth
            if full:
                assert part.bits == truth


# --- what is damaged


def mixed_sample() -> Schedule:
    """Each map of a network with a mode of its own."""
    graph = prepared(import_model(build("rectangular"), name="rectangular", base_dir=None))
    modes = [dict(zip(maps_of(graph, stack), cycle(OVERLAPS), strict=False)) for stack in cut_after(graph, [])]
    found = scheduled(graph, "meta_proto_df", "11x5", "cached", order="rows", constraints=page_of(graph, modes))
    assert "mixed" in [s.overlap for s in found.stacks]
    return found


@cache
def samples() -> tuple[Schedule, ...]:
    fsrcnn = compile_model(MODELS / "fsrcnn.onnx", "meta_proto_df", tile="60x72", overlap="cached", order="rows")
    block, separable = (
        prepared(import_model(build(name), name=name, base_dir=None)) for name in ("residual_block", "separable_block")
    )
    return (
        fsrcnn,
        compile_model(MODELS / "fsrcnn.onnx", "tpu_like_df", tile="37x50", overlap="h-cached", order="columns"),
        scheduled(block, "edge_tpu_like_df", "9x9", "cached", order="columns"),
        scheduled(separable, "ascend_like_df", "7x7", "v-cached"),
        scheduled(block, "meta_proto_df", "9x9", "cached", stacks="each"),
        mixed_sample(),
    )


@pytest.mark.slow
def test_damage_is_caught() -> None:
    """All of 300 pieces of damage that matter (``check_damage.py`` says when)."""
    caught, survived = Counter[str](), list[str]()
    seeds = count()
    while caught.total() + len(survived) < 300:
        seed = next(seeds)
        kind = list(DAMAGES)[seed % len(DAMAGES)]
        found = damaged(samples()[seed // len(DAMAGES) % len(samples())], kind, seed)
        if found is None:
            continue
        if check_schedule(found[0]).violations:
            caught[kind] += 1
        else:
            survived.append(f"{kind}: {found[1]}")
    assert survived == []
    assert set(caught) == set(DAMAGES)


# --- what takes a cost model


def test_cycles_count_on_the_second_buffers_that_there_are() -> None:
    """The checker cannot tell: each layer's latency is that of the model with the second buffers of the file."""
    for schedule in samples():
        for stack in schedule.stacks:
            for number, tile in enumerate(stack.tile_classes):
                for run in tile.layers:
                    problem = rebuild(schedule, run.layer, number)
                    tables, batch = tables_of(problem.nest, problem.arch, problem.mapping, EXACT)
                    double = tuple(np.array([flags]) for flags in second_buffers(problem, tile, run.layer))
                    found = exact_latency(tables, batch, effective_cuts(tables, batch), double)
                    # computing, stalling and filling are rounded up on their own
                    assert 0 <= run.latency_cycles - run.copy_cycles - found.total_cycles[0] < 3


def second_buffers(problem: TileProblem, tile: TileClassEntry, layer: str) -> list[list[bool]]:
    """Per operand and memory; what is replaced in a single access counts as having one (docs/simulator.md)."""
    found: list[list[bool]] = []
    for name, operand in zip(operand_names(problem.nest), problem.nest.operands, strict=True):
        flags: list[bool] = []
        for number in operand.memories[:-1]:
            memory = problem.arch.memories[number]
            (buffer,) = (
                b for b in tile.buffers if (b.what, b.name, b.memory, b.first) == ("loops", name, memory.name, layer)
            )
            at_once = buffer.bits <= min(memory.read_bits_per_cycle, memory.write_bits_per_cycle)
            flags.append(buffer.copies == 2 or at_once)
        found.append([*flags, True])
    return found


# --- the command


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    return Cli(tmp_path, capsys)


def test_the_command_says_that_everything_fits(cli: Cli) -> None:
    cli("compile", chain(cli.folder / "net.onnx"), "--hw", HW, "--tile", "4x4", "-o", "out", "-q")
    found = cli("check", "out")
    assert (found.code, found.err) == (0, "")
    assert found.out.startswith(f"net on {HW}: everything fits\n")
    for memory in load_arch(HW).memories:
        assert re.search(rf"^{memory.name} ", found.out, re.M)


def test_the_command_lists_what_does_not_hold(cli: Cli) -> None:
    cli("compile", chain(cli.folder / "net.onnx"), "--hw", HW, "--tile", "4x4", "-o", "out", "-q")
    path = cli.folder / "out" / "schedule.json"
    schedule = Schedule.from_json(path.read_text(encoding="utf-8"))
    done: set[str] = set()
    for kind in DAMAGES:
        broken = damaged(schedule, kind, seed=1)
        if broken is None:
            continue
        done.add(kind)
        path.write_text(broken[0].to_json(), encoding="utf-8")
        found = cli("check", path)
        assert found.code == 1
        assert "What does not hold, the worst first\n  - " in found.out
        assert found.err.startswith("error[CLI064]: ")
    assert set(DAMAGES) - done == {"shortened", "shifted", "uncopied"}  # a layer per stack, which reads in place


def test_of_the_reference_it_says_where_it_would_not_fit(cli: Cli) -> None:
    model = MODELS / "fsrcnn.onnx"
    for tile, verdict in (("60x72", "it would not fit"), ("960x540", "nothing is found that would not fit")):
        overlap = ("--overlap", "recompute", "--reproduce", "defines")
        cli("compile", model, "--hw", HW, "--tile", tile, *overlap, "-o", "out", "-q")
        found = cli("check", "out")
        assert (found.code, found.err) == (0, "")
        assert found.out.startswith(f"fsrcnn on {HW}: {verdict}\n")
        assert "the rules of 'defines' do not ask" in " ".join(found.out.split())
        notes = [n for n in Schedule.from_json(Path("out/schedule.json").read_text()).notes if "would not" in n]
        assert len(notes) == found.out.count("\n  - ")
        assert all("of 64 KiB in lb_io at layer map1" in note for note in notes)
