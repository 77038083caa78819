"""What is proved of a schedule's mappings reaches the user: in the schedule, in the report's notes, in dfc explain."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any, cast

import pytest
from cli_helpers import HW, Cli, chain

import dfc
from dfc.backend_cost.mapping_cost import MappingCost, Objective
from dfc.backend_cost.mapping_search import search_mapping
from dfc.backend_cost.rebuild import rebuild
from dfc.backend_cost.schedule import Schedule, TileLayer
from dfc.scheduling.assemble import proof_note
from dfc.scheduling.engine import StackCost


@pytest.fixture(scope="module")
def schedules(tmp_path_factory: pytest.TempPathFactory) -> dict[Objective, Schedule]:
    model = chain(tmp_path_factory.mktemp("proof") / "net.onnx", (1, 3, 30, 22))
    return {o: dfc.compile(model, HW, objective=o.value, tile="16x11", overlap="cached") for o in Objective}


def layers(schedule: Schedule) -> list[TileLayer]:
    return [run for stack in schedule.stacks for c in stack.tile_classes for run in c.layers]


@pytest.mark.parametrize("objective", Objective)
def test_the_schedule_has_what_the_search_proved(schedules: dict[Objective, Schedule], objective: Objective) -> None:
    schedule = schedules[objective]
    for number, tiles in enumerate(schedule.stacks[0].tile_classes):
        for run in tiles.layers:
            problem = rebuild(schedule, run.layer, number)
            free = replace(problem.nest, steps=None)
            found = search_mapping(free, problem.arch, objective, problem.model)
            assert isinstance(found, MappingCost)
            assert run.gap == found.gap is not None


@pytest.mark.parametrize("objective", Objective)
def test_the_notes_count_it(schedules: dict[Objective, Schedule], objective: Objective) -> None:
    schedule = schedules[objective]
    gaps = {json.dumps([str(r.nest), r.loops, r.cuts]): cast("float", r.gap) for r in layers(schedule)}
    proved = [gap for gap in gaps.values() if gap == 0]
    if len(proved) == len(gaps):
        assert f"every layer's mapping is proved best for {objective}" in schedule.notes
    else:
        worst = ceil(1000 * max(gaps.values())) / 10
        counted = f"{len(proved)} of {len(gaps)} mappings are proved best for {objective}; of the others none"
        assert f"{counted} can be better by more than {worst:.1f} %" in schedule.notes


@dataclass(frozen=True)
class Cost:
    mapping: int
    gap: float | None


@dataclass(frozen=True)
class Run:
    nest: str
    cost: Cost | None


@dataclass(frozen=True)
class Tiles:
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Stack:
    classes: tuple[Tiles, ...]


@pytest.mark.parametrize(
    ("gaps", "says"),
    [
        ([], ""),
        ([0.0, 0.0], "every layer's mapping is proved best for edp"),
        (
            [0.0, 0.031, 0.02],
            "1 of 3 mappings are proved best for edp; of the others none can be better by more than 3.1 %",
        ),
        ([1e-9], "0 of 1 mappings are proved best for edp; of the others none can be better by more than 0.1 %"),
        (
            [0.0, None],
            "1 of 2 mappings are proved best for edp; of the others it is not known by how much they can be better",
        ),
    ],
)
def test_the_words(gaps: list[float | None], says: str) -> None:
    runs = tuple(Run(f"nest {i}", Cost(i, gap)) for i, gap in enumerate(gaps))
    twice = Stack((Tiles(runs), Tiles((*runs, Run("copied", None)))))  # equal tiles count once
    assert proof_note(cast("list[StackCost]", [twice, twice]), Objective.EDP) == says


def test_explain_says_it(
    schedules: dict[Objective, Schedule], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = Cli(tmp_path, capsys)
    for gap, says in ((0.0, "proved best for latency"), (0.0301, "none can be better for latency by more than 3.1 %")):
        data: dict[str, Any] = json.loads(schedules[Objective.LATENCY].to_json())
        for tiles in data["stacks"][0]["tile_classes"]:
            for run in tiles["layers"]:
                run["gap"] = gap
        (tmp_path / "schedule.json").write_text(json.dumps(data), encoding="utf-8")
        assert re.search(f"^  mapping +{re.escape(says)}$", cli("explain", tmp_path, "--layer", "conv1").out, re.M)


def test_a_schedule_without_it_is_read(
    schedules: dict[Objective, Schedule], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data: dict[str, Any] = json.loads(schedules[Objective.ENERGY].to_json())
    for tiles in data["stacks"][0]["tile_classes"]:
        for run in tiles["layers"]:
            del run["gap"]
    text = json.dumps(data)
    assert all(run.gap is None for run in layers(Schedule.from_json(text)))
    (tmp_path / "schedule.json").write_text(text, encoding="utf-8")
    found = Cli(tmp_path, capsys)("explain", tmp_path, "--layer", "conv1")
    assert found.code == 0
    assert not re.search(r"^  mapping ", found.out, re.M)
