"""How many frames a step takes: what may be asked, which numbers are tried, and that the best per frame is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from cli_helpers import Cli
from example_models import build as example

from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.schedule import Deadline, FramesTried, Schedule, StepInfo
from dfc.causal import causal
from dfc.cli_step import parse_frames
from dfc.errors import InfeasibleError, UsageError
from dfc.hwdsl import load_arch
from dfc.passes.causal_plan import CausalOptions
from dfc.report import render
from dfc.scheduling.check import check_schedule
from dfc.step_compile import compile_step, parse_step_request
from dfc.step_frames import FramesWish, best_frames

DOUBLED = parse_frames("auto:16", 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tcn_kws.onnx"
    onnx.save(example("tcn_kws"), path)
    return path


def alone(model: Path, frames: int, objective: str = "energy", deadline: str | None = None) -> Schedule:
    """The schedule of a step of so many frames, with mappings of its own."""
    form = causal(model, CausalOptions(windows=frames, stream=True), time_axis="T")
    request = parse_step_request(objective, "one", 100, deadline, frames)
    return compile_step(model, form, load_arch("meta_proto_df"), request)


@pytest.fixture(scope="module")
def single(model: Path) -> dict[int, Schedule]:
    return {frames: alone(model, frames) for frames in (1, 2, 4)}


def step_of(schedule: Schedule) -> StepInfo:
    assert schedule.step is not None
    return schedule.step


def per_frame(schedule: Schedule) -> tuple[float, float]:
    frames = step_of(schedule).frames
    return schedule.totals.energy_pj / frames, schedule.totals.latency_cycles / frames


@pytest.mark.parametrize(
    ("text", "hop", "numbers", "while_better"),
    [
        (None, 3, (3,), False),
        ("4", 2, (4,), False),
        ("1, 8,2,8", 1, (1, 8, 2), False),
        ("auto:9", 1, (1, 2, 4, 8), True),
        ("auto:13", 3, (3, 6, 12), True),
        ("auto:5", 5, (5,), True),
        ("auto", 1, (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024), True),
    ],
)
def test_what_may_be_asked(text: str | None, hop: int, numbers: tuple[int, ...], while_better: bool) -> None:
    assert parse_frames(text, hop) == FramesWish(numbers, while_better)


@pytest.mark.parametrize(
    "text", ["", "auto:", "auto:0", "auto:-2", "auto16", "many", "1,,2", "-1", "1.5", ",".join(map(str, range(1, 40)))]
)
def test_what_may_not(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_frames(text, 1)
    assert (caught.value.code, caught.value.place) == ("CLI101", "--frames-per-step") and caught.value.hint


def priced(base: Schedule, costs: Sequence[tuple[float, int]], step_s: float = 0.0) -> Callable[[int], Schedule]:
    """Steps of 1, 2, 4, ... frames that cost so much energy and time per frame."""

    def compiled(frames: int) -> Schedule:
        each_pj, each_cycles = costs[frames.bit_length() - 1]
        totals = replace(base.totals, energy_pj=each_pj * frames, latency_cycles=each_cycles * frames)
        takes = totals.latency_cycles / base.hw.clock_hz
        deadline = Deadline("a rate", step_s * frames, takes) if step_s else None
        return replace(base, totals=totals, step=replace(step_of(base), frames=frames, deadline=deadline))

    return compiled


@pytest.mark.parametrize(
    ("costs", "tried", "best"),
    [
        ([(8, 10), (4, 20), (2, 40), (1.99, 80)], 4, 8),  # energy falls until it falls by too little
        ([(8, 10), (9, 5), (10, 5), (1, 1)], 3, 1),  # time does, once
        ([(8, 10), (8, 10), (1, 1)], 2, 1),
        ([(8, 10), (4, 10), (2, 10), (1, 10), (0.5, 10)], 5, 16),  # to the user's limit
    ],
)
def test_more_frames_for_as_long_as_something_falls(
    single: dict[int, Schedule], costs: list[tuple[float, int]], tried: int, best: int
) -> None:
    found = best_frames(DOUBLED, priced(single[1], costs))
    assert [one.frames for one in step_of(found).tried] == [1 << n for n in range(tried)]
    assert step_of(found).frames == best


def test_a_deadline_comes_first(single: dict[int, Schedule]) -> None:
    cycle = 1 / single[1].hw.clock_hz
    compiled = priced(single[1], [(1, 40), (2, 20), (3, 10)], step_s=20 * cycle)
    found = best_frames(FramesWish((1, 2, 4)), compiled)
    assert step_of(found).frames == 2 and [one.met for one in step_of(found).tried] == [False, True, True]
    missed = best_frames(FramesWish((1, 2, 4)), priced(single[1], [(1, 40), (2, 20), (3, 10)], step_s=5 * cycle))
    assert step_of(missed).frames == 4  # by which it is missed least


def test_steps_that_cannot_be(single: dict[int, Schedule]) -> None:
    def until(most: int, error: Exception) -> Callable[[int], Schedule]:
        return lambda frames: single[frames] if frames <= most else fail(error)

    def fail(error: Exception) -> Schedule:
        raise error

    small = InfeasibleError("MAP001", "too small")
    found = best_frames(DOUBLED, until(2, small))
    assert step_of(found).frames == 2 and found.notes[-1] == "a step of 4 frames does not fit"
    with pytest.raises(InfeasibleError):
        best_frames(DOUBLED, until(0, small))
    other = UsageError("CLI102", "the model also reads 'x', once for every window")
    assert best_frames(DOUBLED, until(1, other)).notes[-1].startswith("steps take 1 frames at most: the model")
    with pytest.raises(UsageError):
        best_frames(FramesWish((1, 2)), until(1, other))


@pytest.mark.parametrize("objective", Objective)
def test_the_best_of_single_runs(single: dict[int, Schedule], objective: Objective) -> None:
    runs = {k: replace(one, objective=objective.value) for k, one in single.items()}
    found = best_frames(FramesWish(tuple(runs)), runs.__getitem__)
    assert objective.of(*per_frame(found)) == min(objective.of(*per_frame(one)) for one in runs.values())


def test_the_command(
    single: dict[int, Schedule], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With mappings shared, and in one run, every number costs what it does by itself; the table is in the report."""
    cli, out = Cli(tmp_path, capsys), tmp_path / "out"
    asked = ("compile", str(model), "--hw", "meta_proto_df", "-o", str(out), "--no-progress", "--stacks", "one")
    asked = (*asked, "--time-axis", "T", "--causal-padding", "stream", "--frames", "100")
    assert cli(*asked, "--frames-per-step", "auto:4").code == 0
    found = Schedule.from_json((out / "schedule.json").read_text())
    assert [(t.frames, t.energy_pj, t.latency_cycles) for t in step_of(found).tried] == [
        (k, one.totals.energy_pj, one.totals.latency_cycles) for k, one in single.items()
    ]
    assert [t.waiting_frames for t in step_of(found).tried] == [0, 1, 3]
    best = min(single.values(), key=per_frame)
    assert replace(found, step=replace(step_of(found), tried=())) == best
    assert cli("check", str(out)).code == 0
    wrong = cli(*asked, "--frames-per-step", "nine")
    assert wrong.code == 1 and "CLI101" in wrong.err and "--frames-per-step" in wrong.err
    assert "a multiple of the hop, 2" in cli(*asked, "--hop", "2", "--frames-per-step", "2,3").err


DAMAGE: list[Callable[[tuple[FramesTried, ...]], tuple[FramesTried, ...]]] = [
    lambda tried: tried[:-1],
    lambda tried: (*tried[:-1], replace(tried[-1], ring_bits=0)),
    lambda tried: (*tried[:-1], replace(tried[-1], waiting_frames=0)),
    lambda tried: (replace(tried[0], energy_pj=1.0), *tried[1:]),
]


def test_the_table_is_checked_and_shown(single: dict[int, Schedule]) -> None:
    found = best_frames(FramesWish((1, 2, 4)), single.__getitem__)
    assert check_schedule(found).violations == ()
    for damage in DAMAGE:
        broken = replace(found, step=replace(step_of(found), tried=damage(step_of(found).tried)))
        assert check_schedule(broken).violations
    text = render(found)
    shown = text[text.index("Frames per step") : text.index("Ring buffers")]
    assert shown == TABLE
    assert "4 windows, of which the first waits 3 frames for the last" in text


#: energies and cycles are those of the single runs
TABLE = """\
Frames per step: all numbers that were tried, and what a frame costs with them
frames per step  energy per frame  cycles per frame  EDP per frame      kept     waits
1                        63.33 nJ               988  6.257e-14 J s  45.9 KiB  0 frames
2                        35.39 nJ               498  1.764e-14 J s  46.2 KiB   1 frame
4 (best)                 21.62 nJ               260   5.61e-15 J s  46.7 KiB  3 frames

"""
