"""Baselines are what other runs of the compiler cost, and the search in DeFiNES's space finds its recorded best."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import reference
from cli_helpers import HW, chain
from loma import LomaCache

import dfc
from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.schedule import NamedBaseline, Schedule
from dfc.hwdsl import load_arch
from dfc.passes.stacks import single_layer_stacks
from dfc.passes.tiles import Overlap
from dfc.pipeline import import_graph
from dfc.scheduling import baselines
from dfc.scheduling.baselines import MODES, BestOneSize, NetworkCost, OneSize, Wanted, add_baselines, axis_sizes
from dfc.scheduling.engine import StackPricer
from dfc.scheduling.levels import Infeasible
from dfc.scheduling.policy import REFERENCE

MODEL = Path(__file__).parent.parent / "examples" / "models" / "fsrcnn_unpadded.onnx"
POINTS = reference.load("fsrcnn_meta_108.json.gz", "DFC_REFERENCE_POINTS")["points"]


def named(schedule: Schedule) -> dict[str, NamedBaseline]:
    return {b.name: b for b in schedule.baselines}


@cache
def pricer_of(model: Path) -> StackPricer:
    arch = load_arch(HW)
    return StackPricer(import_graph(model), arch, LomaCache(arch))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return chain(tmp_path / "net.onnx", (1, 3, 40, 56), layers=3)


@pytest.mark.slow
@pytest.mark.parametrize("reproduce", [None, "defines"])
def test_each_is_what_another_run_costs(model: Path, reproduce: str | None) -> None:
    """The same cost model throughout, so that the runs differ in the schedule alone."""
    options: dict[str, Any] = {"cost_model": "defines", "objective": "edp"}
    found = dfc.compile(model, HW, tile="8x8", reproduce=reproduce, baselines="all", **options)
    assert list(named(found)) == ["single-layer", "layer-by-layer", "defines"]
    whole = dfc.compile(model, HW, stacks="each", tile="999x999", reproduce=reproduce, **options)
    best = named(found)["defines"]
    assert best.tile is not None
    size = f"{best.tile[0]}x{best.tile[1]}"
    again = dfc.compile(model, HW, tile=size, overlap=best.overlap, reproduce="defines", **options)
    lbl = found.layer_by_layer
    assert lbl is not None
    base = named(found)["single-layer"]
    if reproduce is None:  # our layers may hand maps on without DRAM, and then cost less than the baseline
        assert base.energy_pj * base.latency_cycles >= whole.totals.energy_pj * whole.totals.latency_cycles
    else:
        assert base.energy_pj == pytest.approx(whole.totals.energy_pj, rel=1e-12)
        assert base.latency_cycles == whole.totals.latency_cycles
    for name, energy, cycles in (
        ("single-layer", base.energy_pj, base.latency_cycles),
        ("layer-by-layer", lbl.energy_pj, lbl.latency_cycles),
        ("defines", again.totals.energy_pj, again.totals.latency_cycles),
    ):
        base = named(found)[name]
        assert base.energy_pj == pytest.approx(energy, rel=1e-12)
        assert base.latency_cycles == cycles
        assert base.energy_gain == pytest.approx(energy / found.totals.energy_pj)
        assert base.latency_gain == pytest.approx(cycles / found.totals.latency_cycles)
    assert Schedule.from_json(found.to_json()) == found


def test_only_the_quick_ones_unless_asked(model: Path) -> None:
    events: list[str] = []
    found = dfc.compile(model, HW, tile="8x8", progress=lambda e: events.append(e.what))
    assert list(named(found)) == ["single-layer", "layer-by-layer"]
    assert not any(what.startswith("baseline") for what in events)


@pytest.mark.slow
@pytest.mark.parametrize("objective", list(Objective))
def test_the_search_against_the_whole_grid(model: Path, objective: Objective) -> None:
    """Priced in full: nothing on the coarse grid is better than what at most 32 plans find."""
    space = baselines.reference_space(pricer_of(model))
    search = BestOneSize(space, objective)
    best = search.run()
    assert isinstance(best, NetworkCost)
    assert len(search.tried) <= 32
    xs, ys = map(axis_sizes, space.whole)
    costs = [space.price((x, y), mode) for x, y, mode in product(xs, ys, MODES)]
    least = min(objective.of(c.energy_pj, c.latency_cycles) for c in costs if isinstance(c, NetworkCost))
    assert objective.of(best.energy_pj, best.latency_cycles) <= least


@pytest.mark.slow
@pytest.mark.reference
def test_the_recorded_best_of_case_study_1_is_found() -> None:
    """Sizes are not those of the paper, so what is found may differ a little; never by more than 0.5 %."""
    best = BestOneSize(baselines.reference_space(pricer_of(MODEL)), Objective.ENERGY).run()
    assert isinstance(best, NetworkCost)
    recorded = min(POINTS, key=lambda p: p["energy_total"])
    assert best.energy_pj <= recorded["energy_total"] * 1.005
    assert best.overlap is Overlap.CACHED
    assert best.tile[0] == recorded["tile_x"] == 4


def test_a_plan_is_left_when_it_exceeds_the_best(model: Path) -> None:
    pricer = pricer_of(model)
    space = OneSize(pricer, single_layer_stacks(pricer.graph), remainder_first=True)
    for objective in Objective:
        full = space.price((8, 8), Overlap.CACHED)
        assert isinstance(full, NetworkCost)
        most = objective.of(full.energy_pj, full.latency_cycles)
        assert space.price((8, 8), Overlap.CACHED, objective, most) == full
        assert space.price((8, 8), Overlap.CACHED, objective, most * 0.999) is None


def test_what_does_not_fit_is_said(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = replace(dfc.compile(model, HW, tile="8x8"), layer_by_layer=None, notes=("first",))
    reason = Infeasible("a map", 9, "lb", 8, "")
    monkeypatch.setattr(baselines, "single_layer", lambda *_: reason)
    found = add_baselines(schedule, pricer_of(model), REFERENCE, Objective.ENERGY)
    assert found.baselines == ()
    assert found.notes == (
        "first",
        "baseline 'single-layer' is left out, as it does not fit: a map: 9 b are needed, memory 'lb' has 1 B",
        "baseline 'layer-by-layer' is left out, as it does not fit",
    )


def test_an_interruption_keeps_what_there_is(model: Path) -> None:
    def stop(_: str) -> None:
        raise KeyboardInterrupt

    schedule = dfc.compile(model, HW, tile="8x8")
    pricer = pricer_of(model)
    found = add_baselines(schedule, pricer, REFERENCE, Objective.ENERGY, Wanted.ALL, stop)
    assert list(named(found)) == ["single-layer", "layer-by-layer"]
    assert found.notes[-1] == "some baselines are missing, as they were interrupted"
    early = add_baselines(replace(schedule, complete=False), pricer, REFERENCE, Objective.ENERGY, Wanted.ALL, stop)
    assert list(named(early)) == ["layer-by-layer"]


def test_an_unknown_choice_is_refused(model: Path) -> None:
    with pytest.raises(dfc.DfcError) as caught:
        dfc.compile(model, HW, baselines="some")
    assert caught.value.code == "CLI070"
    assert caught.value.hint == "one of auto, all"
