"""The schedule of a step: found, placed, checked, written and read; and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, pairwise, product
from pathlib import Path

import onnx
import pytest
from causal_proof import timed
from cli_helpers import Cli
from example_models import build as example

from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.schedule import BufferEntry, Schedule, StackEntry, StepInfo
from dfc.causal import causal, streaming
from dfc.errors import InfeasibleError, UsageError
from dfc.hwdsl import load_arch
from dfc.ir import Graph
from dfc.passes.causal_plan import CausalOptions
from dfc.passes.tiles import DepthFirstPlan
from dfc.report import render
from dfc.scheduling.check import check_schedule
from dfc.scheduling.levels import Infeasible
from dfc.scheduling.placement import HeldMap
from dfc.scheduling.step_pricer import StepPricer
from dfc.scheduling.step_ranges import best_ranges, placed_together
from dfc.scheduling.step_types import StepOption, fits_together
from dfc.step_compile import compile_step, parse_step_request

CUTS = "block1_add.new,block3_add.new"


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    return Cli(tmp_path, capsys)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tcn_kws.onnx"
    onnx.save(example("tcn_kws"), path)
    return path


def schedule_of(model: Path, stacks: str, deadline: str | None = None, frames: int = 100) -> Schedule:
    options = CausalOptions(stream=True)
    form = causal(model, options, time_axis="T")
    request = parse_step_request("energy", stacks, frames, deadline, options.frames)
    return compile_step(model, form, load_arch("meta_proto_df"), request)


@pytest.fixture(scope="module")
def schedule(model: Path) -> Schedule:
    """In three stacks, which keep ring buffers and weights beside one another."""
    return schedule_of(model, CUTS, "50fps")


def step_of(schedule: Schedule) -> StepInfo:
    assert schedule.step is not None
    return schedule.step


def test_everything_has_its_place(schedule: Schedule) -> None:
    assert check_schedule(schedule).violations == ()
    assert Schedule.from_json(schedule.to_json()) == schedule
    kept = [b for stack in schedule.stacks for b in stack.buffers if b.steps]
    assert len(schedule.stacks) == 3
    assert sum(b.bits for b in kept if b.what == "weights") == step_of(schedule).weight_bits
    assert step_of(schedule).weight_bits == sum(layer.weight_bits for layer in schedule.layers)
    assert schedule.totals.macs == 43_584  # docs/causal.md
    handed = [[b for b in stack.buffers if b.what == "map"] for stack in schedule.stacks]
    assert [[b.name for b in maps] for maps in handed] == [
        ["block1_relu.kept"],
        ["block1_relu.kept", "block3_relu.kept"],
        ["block3_relu.kept"],
    ]
    assert all(b.steps for maps in handed for b in maps)
    assert not {"block1_relu.kept", "block3_relu.kept"} & {b.name for b in schedule.off_chip}


def test_figures_of_a_step(schedule: Schedule) -> None:
    step, totals = step_of(schedule), schedule.totals
    assert step.amortised_energy_pj == pytest.approx((step.first_energy_pj + 100 * totals.energy_pj) / 100)
    assert step.amortised_cycles == pytest.approx((step.first_cycles + 100 * totals.latency_cycles) / 100)
    assert (step.window_frames, step.hop_frames, step.frames, step.padding) == (98, 1, 1, "stream")
    assert step.deadline is not None and step.deadline.met
    assert (step.deadline.asked, step.deadline.step_s) == ("50fps", 0.02)
    text = render(schedule)
    assert "50fps: 20.00 ms per step" in text and "MISSED" not in text
    assert "Ring buffers" in text and "stem_relu.kept" in text


Damage = Callable[[Schedule], Schedule]


def in_stack(number: int, change: Callable[[StackEntry], StackEntry]) -> Damage:
    return lambda s: replace(s, stacks=tuple(change(k) if n == number else k for n, k in enumerate(s.stacks)))


def each_buffer(what: str, change: Callable[[BufferEntry], BufferEntry]) -> Callable[[StackEntry], StackEntry]:
    return lambda k: replace(k, buffers=tuple(change(b) if b.what == what else b for b in k.buffers))


def in_step(change: Callable[[StepInfo], StepInfo]) -> Damage:
    return lambda s: replace(s, step=change(step_of(s)))


DAMAGE: dict[str, tuple[Damage, str]] = {
    "rings of two stacks in one place": (
        in_stack(1, each_buffer("H cache", lambda b: replace(b, address_bits=0))),
        "overlap",
    ),
    "a ring that does not stay": (
        in_stack(0, each_buffer("H cache", lambda b: replace(b, steps=False))),
        "does not stay from step to step",
    ),
    "no ring": (
        in_stack(0, lambda k: replace(k, buffers=tuple(b for b in k.buffers if b.what != "H cache"))),
        "nothing keeps it",
    ),
    "weights that nobody brings": (
        in_stack(2, each_buffer("weights", lambda b: replace(b, steps=False))),
        "the first tile brings 0",
    ),
    "a map between stacks that does not stay": (
        in_stack(1, each_buffer("map", lambda b: replace(b, steps=False))),
        "'block1_relu.kept' does not stay",
    ),
    "a map between stacks under a ring": (
        lambda s: in_stack(0, each_buffer("map", lambda b: replace(b, address_bits=8)))(
            in_stack(1, each_buffer("map", lambda b: replace(b, address_bits=8)))(s)
        ),
        "overlap",
    ),
    "too short a ring": (
        in_stack(0, each_buffer("H cache", lambda b: replace(b, lines=b.lines - 1))),
        "lines",
    ),
    "state bits": (in_step(lambda s: replace(s, ring_bits=s.ring_bits - 8)), "ring buffers are"),
    "weight bits": (in_step(lambda s: replace(s, weight_bits=0)), "resident weights are"),
    "amortised energy": (in_step(lambda s: replace(s, amortised_energy_pj=1.0)), "a frame's energy is"),
    "amortised cycles": (in_step(lambda s: replace(s, counted_frames=99)), "a frame's cycles are"),
    "deadline": (
        in_step(lambda s: replace(s, deadline=replace(s.deadline, takes_s=0.0) if s.deadline else None)),
        "another time",
    ),
    "no step at all": (lambda s: replace(s, step=None), "cannot stay from step to step"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_caught(schedule: Schedule, name: str) -> None:
    damage, says = DAMAGE[name]
    found = check_schedule(damage(schedule)).violations
    assert any(says in violation.what for violation in found), [v.what for v in found]


def test_a_missed_deadline_is_said(model: Path) -> None:
    found = schedule_of(model, "one", "10us")
    assert step_of(found).deadline is not None
    missed = schedule_of(model, "one", "0.1us")
    deadline = step_of(missed).deadline
    assert deadline is not None and not deadline.met
    assert "MISSED by" in render(missed)
    assert missed.totals.latency_cycles <= found.totals.latency_cycles  # the fastest there is


@pytest.mark.parametrize(
    ("frames", "deadline"), [(0, None), (10**13, None), (1, "30"), (1, "0fps"), (1, "fast"), (1, "1e3ms"), (1, "-1ms")]
)
def test_what_is_no_deadline(frames: int, deadline: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        parse_step_request("energy", "auto", frames, deadline, 1)
    assert caught.value.code == "CLI105" and caught.value.hint


def test_a_frame_rate_is_of_frames_and_a_time_of_steps() -> None:
    assert parse_step_request("energy", "auto", 1, "25fps", 4).step_s == pytest.approx(0.16)
    assert parse_step_request("energy", "auto", 1, "2.5 ms", 4).step_s == pytest.approx(0.0025)


def test_the_command(model: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "out"
    common = ("compile", str(model), "--hw", "meta_proto_df", "-o", str(out), "--no-progress")
    asked = (*common, "--time-axis", "T", "--causal-padding", "stream", "--stacks", "one", "--frames", "10")
    done = cli(*asked, "--deadline", "1ms")
    assert done.code == 0
    assert "1ms: 1.000 ms per step" in done.out and "over 10 frames" in done.out
    assert cli("check", str(out)).code == 0
    for arguments, place in (
        ((*asked, "--tile", "1x1"), "--tile"),
        ((*asked, "--emit", "mlir"), "--emit"),
        ((*common, "--hop", "2"), "--hop"),
        ((*common, "--deadline", "1ms"), "--deadline"),
    ):
        wrong = cli(*arguments)
        assert wrong.code == 1 and "CLI106" in wrong.err and place in wrong.err


def test_nothing_fits(model: Path) -> None:
    arch = load_arch("meta_proto_df")
    small = replace(arch, memories=tuple(replace(m, size_bits=min(m.size_bits, 64)) for m in arch.memories))
    form = causal(model, CausalOptions(stream=True), time_axis="T")
    with pytest.raises(InfeasibleError) as caught:
        compile_step(model, form, small, parse_step_request("energy", "one", 1, None, 1))
    assert caught.value.code == "MAP001"


def sequences(pricer: StepPricer, layers: int) -> Iterator[Sequence[StepOption]]:
    """All ways to cut a chain, with all ways to run each range; maps between two wait off chip or, if small, on it."""
    for count in range(layers):
        for cuts in combinations(range(1, layers), count):
            for waiting in product(*[places(pricer, cut) for cut in cuts]):
                over = [None, *waiting, None]
                ways: list[list[StepOption]] = []
                for (a, b), pair in zip(pairwise((0, *cuts, layers)), pairwise(over), strict=True):
                    found = pricer.options(range(a, b), None, dict(one for one in pair if one is not None))
                    ways.append([] if isinstance(found, Infeasible) else found)
                yield from product(*ways)


def places(pricer: StepPricer, cut: int) -> list[tuple[str, HeldMap] | None]:
    name = pricer.graph.layers[cut - 1].output
    bits = pricer.graph.tensors[name].elements * 8
    names = ("lb_io", "gb_io")
    fit = [m for m, one in enumerate(pricer.arch.memories) if one.name in names and bits <= one.size_bits // 4]
    return [None, *((name, HeldMap(m)) for m in fit[:1])]


def test_the_best_of_all_sequences() -> None:
    """Four layers: every cut and every way to run a range, on the chip as it is and on one with little room."""
    step = streaming(timed(example("stft_cnn_025"), "H"), CausalOptions()).resident()
    layers = step.layers[3:7]
    graph = Graph(
        step.name, step.tensors, layers, ("pool1.kept",), (layers[-1].output,), (), step.time, step.past
    )  # the ring buffer of its input is its own
    arch = load_arch("meta_proto_df")
    small = {"lb_io": 90_000, "gb_io": 150_000, "lb_w": 100_000}
    tight = replace(arch, memories=tuple(replace(m, size_bits=small.get(m.name, m.size_bits)) for m in arch.memories))
    for chip in (arch, tight):
        pricer = StepPricer(graph, chip, MappingCache(chip, Objective.ENERGY, EXACT))
        fitting = [
            _sums(s) for s in sequences(pricer, len(layers)) if fits_together([m.size_bits for m in chip.memories], s)
        ]
        for objective in Objective:
            least = min(objective.of(*sums) for sums in fitting)
            found = best_ranges(pricer, objective)
            assert found.complete and fits_together(
                [m.size_bits for m in chip.memories], placed_together(pricer, found.options)
            )
            ours = objective.of(*_sums(found.options))
            assert ours <= least * (1 + 1e-9)  # less where more room is reserved
            assert chip is tight or ours == pytest.approx(least)


def _sums(options: Sequence[StepOption]) -> tuple[float, int]:
    return sum(o.energy_pj for o in options), sum(o.latency_cycles for o in options)


def test_tiles_along_time(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of four frames in tiles of one: they do the same work, and all that they keep is in its place."""
    form = causal(model, CausalOptions(windows=4, stream=True), time_axis="T")
    request, arch = parse_step_request("energy", CUTS, 100, None, 4), load_arch("meta_proto_df")
    found = compile_step(model, form, arch, request)
    plans = StepPricer.plans

    def some(pricer: StepPricer, layers: Sequence[int]) -> Iterator[DepthFirstPlan]:
        return (plan for plan in plans(pricer, layers) if plan.tile[0] == 1)

    monkeypatch.setattr(StepPricer, "plans", some)
    tiled = compile_step(model, form, arch, request)
    assert {stack.tile[0] for stack in tiled.stacks} == {1}
    assert check_schedule(tiled).violations == ()
    assert tiled.totals.macs == found.totals.macs and found.totals.energy_pj <= tiled.totals.energy_pj


def test_maps_go_off_chip_where_they_have_no_room_together(tmp_path: Path) -> None:
    """Each layer by itself has room for the maps around it in 16 KiB, all of them together have not."""
    onnx.save(example("stft_cnn_025"), tmp_path / "stft.onnx")
    form = causal(tmp_path / "stft.onnx", CausalOptions(), time_axis="H")
    request = parse_step_request("energy", "each", 100, None, 1)
    schedule = compile_step(tmp_path / "stft.onnx", form, load_arch("edge_tpu_like_df"), request)
    assert check_schedule(schedule).violations == ()
    assert len(schedule.stacks) == 12
