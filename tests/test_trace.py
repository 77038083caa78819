"""The timeline as a trace, and the stacks as a dot graph."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
import pytest
from cli_helpers import Cli
from example_models import build

import dfc
from dfc import trace
from dfc.backend_cost.schedule import Schedule
from dfc.trace import render_trace


@pytest.fixture(scope="module")
def schedule(tmp_path_factory: pytest.TempPathFactory) -> Schedule:
    """A residual block in two stacks, its tiles column by column."""
    path = tmp_path_factory.mktemp("trace") / "block.onnx"
    onnx.save(build("residual_block", size=14, channels=8), path)
    return dfc.compile(path, "meta_proto_df", tile="4x2", overlap="cached", order="columns", stacks="block_conv1")


def spans(text: str) -> dict[str, list[dict[str, Any]]]:
    """Complete events by the title of their row; every event has what the format asks for."""
    data = json.loads(text)
    titles = {e["tid"]: e["args"]["name"] for e in data["traceEvents"] if e["ph"] == "M"}
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in data["traceEvents"]:
        assert {"ph", "name", "pid", "tid"} <= event.keys()
        assert event["ph"] in ("M", "X")
        if event["ph"] == "X":
            assert isinstance(event["ts"], int)
            assert isinstance(event["dur"], int)
            assert event["ts"] >= 0
            assert event["dur"] > 0
            found[titles[event["tid"]]].append(event)
    return found


def test_rows_add_up_to_the_schedule(schedule: Schedule) -> None:
    rows = spans(render_trace(schedule))
    cycles = schedule.totals.latency_cycles
    for name in ("stacks", "tiles", "layers"):
        row = rows[name]
        assert row[0]["ts"] == 0
        assert all(a["ts"] + a["dur"] == b["ts"] for a, b in pairwise(row)), name
        assert row[-1]["ts"] + row[-1]["dur"] == cycles
    assert len(rows["tiles"]) == sum(stack.tiles for stack in schedule.stacks)
    total = schedule.totals.latency
    by_name = {n: sum(e["dur"] for e in rows["array"] if e["name"] == n) for n in ("fill", "compute", "stall")}
    assert by_name == {"fill": total.load, "compute": total.compute, "stall": total.stall}
    copies = [event for name, row in rows.items() if name.startswith("copies") for event in row]
    assert sum(event["dur"] for event in copies) == total.copy


def test_many_tiles_are_shown_by_their_runs(schedule: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "MOST_TILES", 1)
    rows = spans(render_trace(schedule))
    assert sum(event["args"]["count"] for event in rows["tiles"]) == sum(stack.tiles for stack in schedule.stacks)
    assert len(rows["tiles"]) < sum(stack.tiles for stack in schedule.stacks)
    assert rows["tiles"][-1]["ts"] + rows["tiles"][-1]["dur"] == schedule.totals.latency_cycles


def test_all_forms_by_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(build("separable_block", size=12, channels=4, out_channels=8), tmp_path / "net.onnx")
    cli = Cli(tmp_path, capsys)
    arguments = ("compile", tmp_path / "net.onnx", "--hw", "meta_proto_df", "--tile", "6x6", "--overlap", "cached")
    done = cli(*arguments, "--emit", "mlir,trace", "--emit", "dot", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"schedule.json", "report.txt", "schedule.mlir", "trace.json", "stacks.dot"}
    assert spans((tmp_path / "out" / "trace.json").read_text())
    dot = (tmp_path / "out" / "stacks.dot").read_text()
    assert dot.count("subgraph cluster_") == 1
    assert '"depthwise" -> "pointwise" [label="1x4x12x12"];' in dot
    assert dot.count("{") == dot.count("}")
    assert set(re.findall(r'^    "(\w+)" \[', dot, re.M)) == {"depthwise", "pointwise"}
    wrong = cli(*arguments, "--emit", "pdf", "-o", tmp_path / "bad")
    assert wrong.code == 1
    assert "error[CLI090]" in wrong.err
    assert not (tmp_path / "bad").exists()
