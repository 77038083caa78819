"""Ctrl-C while the schedule of a step is searched: the best that was found until then is kept, and says so."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest
from causal_proof import timed
from cli_helpers import Cli
from test_joint import chip, network

from dfc import step_compile
from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.schedule import Schedule
from dfc.causal import causal, streaming
from dfc.cli_progress import SearchProgress
from dfc.passes.causal_plan import CausalOptions
from dfc.pipeline import ProgressEvent
from dfc.report import render
from dfc.scheduling.check import check_schedule
from dfc.scheduling.joint_search import JointSearch
from dfc.scheduling.step_pricer import StepPricer, along_tiles
from dfc.scheduling.step_ranges import best_ranges
from dfc.step_compile import compile_joint, compile_step, parse_step_request
from dfc.step_frames import FramesWish, best_frames
from dfc.step_joint import StepForms

Search = Callable[[Path, Callable[[ProgressEvent], None], str | None], Schedule]
OPTIONS = CausalOptions()


def dense(path: Path, progress: Callable[[ProgressEvent], None], deadline: str | None) -> Schedule:
    form = causal(path, OPTIONS, time_axis="H")
    return compile_step(path, form, chip(64), parse_step_request("energy", "auto", 100, deadline, 1), progress)


def joint(path: Path, progress: Callable[[ProgressEvent], None], deadline: str | None) -> Schedule:
    timed = causal(path, OPTIONS, time_axis="H").timed
    request = parse_step_request("energy", "auto", 100, deadline, 1)
    return compile_joint(path, timed, OPTIONS, chip(64), request, progress)


def after(events: int) -> Callable[..., None]:
    """Ctrl-C with a certain event."""
    seen = 0

    def stop(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == events:
            raise KeyboardInterrupt

    return stop


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three layers: six ranges, the single layers first."""
    path = tmp_path_factory.mktemp("interrupt") / "net.onnx"
    path.write_bytes(network("strided").SerializeToString())
    return path


def count(search: Search, model: Path) -> tuple[Schedule, int]:
    events: list[ProgressEvent] = []
    return search(model, events.append, None), len(events)


@pytest.mark.parametrize("search", [dense, joint])
def test_the_best_so_far_is_kept(search: Search, model: Path) -> None:
    whole, events = count(search, model)
    assert whole.complete and events >= 6
    found = [search(model, after(n), None) for n in (3, 5, events)]
    for schedule in found:
        assert not schedule.complete
        assert check_schedule(schedule).violations == ()
        assert "INCOMPLETE" in render(schedule)
    energies = [schedule.totals.energy_pj for schedule in found]
    assert energies == sorted(energies, reverse=True)
    assert energies[-1] >= whole.totals.energy_pj * (1 - 1e-9)
    missed = search(model, after(5), "0.1us")  # nothing is as fast
    assert not missed.complete and missed.step is not None
    assert missed.step.deadline is not None and not missed.step.deadline.met


def ranges_cycles(forms: StepForms, mappings: MappingCache) -> Callable[[Objective, float], float]:
    """Cycles of the best stacks, interrupted where all six ranges are priced."""
    graph, arch = along_tiles(streaming(forms.timed, forms.asked).resident(), forms.arch)
    pricer = StepPricer(graph, arch, mappings)

    def cycles(objective: Objective, most_cycles: float) -> float:
        found = best_ranges(pricer, objective, most_cycles=most_cycles, progress=after(6))
        assert found.interrupted
        return sum(option.latency_cycles for option in found.options)

    return cycles


def forms_cycles(forms: StepForms, mappings: MappingCache) -> Callable[[Objective, float], float]:
    """The same of the best forms, where the single layers are priced: without them there is no way."""

    def cycles(objective: Objective, most_cycles: float) -> float:
        search = JointSearch(forms, forms.turned, mappings, objective, most_cycles=most_cycles, progress=after(3))
        found = search.run()
        assert found.interrupted
        return found.latency_cycles

    return cycles


def test_the_fastest_so_far_is_kept_where_nothing_is_fast_enough() -> None:
    forms = StepForms(timed(network("strided"), "H"), CausalOptions(windows=2), chip(2))
    mappings = MappingCache(forms.turned, Objective.ENERGY, EXACT)
    for search in (ranges_cycles, forms_cycles):
        cycles = search(forms, mappings)
        assert cycles(Objective.ENERGY, 1) == cycles(Objective.LATENCY, inf) < cycles(Objective.ENERGY, inf)


@pytest.mark.parametrize("search", [dense, joint])
def test_before_there_is_a_way_nothing_is_kept(search: Search, model: Path) -> None:
    for events in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            search(model, after(events), None)


def test_forms_are_kept_where_their_schedule_is_interrupted(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while what was chosen is put together: it is put together once more."""
    calls: list[None] = []
    plain = step_compile.compile_step

    def once(*args: Any) -> Schedule:
        calls.append(None)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return plain(*args)

    monkeypatch.setattr(step_compile, "compile_step", once)
    found = joint(model, lambda _: None, None)
    assert len(calls) == 2 and not found.complete
    assert check_schedule(found).violations == ()


def test_of_several_numbers_of_frames_the_best_so_far_is_kept(model: Path) -> None:
    def compiled(frames: int) -> Schedule:
        if frames == 4:
            raise KeyboardInterrupt
        options = CausalOptions(windows=frames)
        request = parse_step_request("energy", "auto", 100, None, frames)
        return compile_step(model, causal(model, options, time_axis="H"), chip(64), request)

    found = best_frames(FramesWish((1, 2, 4, 8)), compiled)
    assert not found.complete and found.step is not None
    assert [one.frames for one in found.step.tried] == [1, 2]
    with pytest.raises(KeyboardInterrupt):
        best_frames(FramesWish((4, 8)), compiled)


def test_the_command(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cli, show = Cli(tmp_path, capsys), SearchProgress.__call__
    for events, code in ((2, 130), (4, 130), (1000, 0)):
        stop = after(events)

        def told(self: SearchProgress, event: ProgressEvent, stop: Callable[[ProgressEvent], None] = stop) -> None:
            show(self, event)
            stop(event)

        monkeypatch.setattr(SearchProgress, "__call__", told)
        done = cli("compile", model, "--hw", "meta_proto_df", "--time-axis", "H", "-o", f"out{events}")
        assert done.code == code
        assert ("INCOMPLETE" in done.out) == (events == 4)
        assert (tmp_path / f"out{events}").exists() == (events > 2)
