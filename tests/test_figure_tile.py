"""Pictures of a schedule: the regions of a tile and the buffers in memories are those of the file."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest
from cli_helpers import HW, Cli, chain

import dfc
from dfc.backend_cost.schedule import Schedule
from dfc.errors import UsageError
from dfc.figure_memory import memory_maps, memory_rows, tile_memories
from dfc.figure_tile import region_rows, regions, tile_regions

ROOT = Path(__file__).parent.parent
FSRCNN = ROOT / "examples" / "models" / "fsrcnn.onnx"


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    chain(tmp_path / "net.onnx", (1, 3, 12, 16))
    return Cli(tmp_path, capsys)


@cache
def example() -> Schedule:
    return dfc.compile(FSRCNN, HW, stacks="one", tile="60x72", overlap="cached", order="rows")


def test_regions_follow_from_the_windows_of_the_layers() -> None:
    """A 5x5 layer reads four more columns and rows than it computes, a 3x3 layer two, a 1x1 layer none."""
    found = tile_regions(example(), "here", None, None)
    assert found.tiles == 84
    kernels = {"input": 5, "feature_prelu": 1, "map4_prelu": 1, "upscale": 1}
    for row in region_rows(found):
        kept = kernels.get(str(row["map"]), 3) - 1
        assert (row["width"], row["height"]) == (60, 72)
        assert (row["kept_columns"], row["kept_rows"]) == (kept, kept)
        assert (row["map_width"], row["map_height"]) == (960, 540)
        assert row["fetched"] == (row["map"] == "input")
    page = " ".join((ROOT / "docs" / "depth-first.md").read_text(encoding="utf-8").split())
    assert "The 84 tiles of the middle class compute 60x72 positions of every map" in page


def test_buffers_are_those_of_the_file_and_never_meet() -> None:
    found = tile_memories(example(), "here", None, None, ())
    rows = memory_rows(found)
    (stack,) = example().stacks
    names = {m.memory.name for m in found.memories}
    assert names == {"lb_w", "lb_io", "gb_io"}
    listed = [b for b in (*stack.buffers, *stack.tile_classes[found.tile_class].buffers) if b.memory in names]
    assert sorted((r["memory"], r["what"], r["name"], r["address_bits"], r["bits"]) for r in rows) == sorted(
        (b.memory, b.what, b.name, b.address_bits, b.bits) for b in listed
    )
    step = {name: at for at, name in enumerate(stack.layers)}
    for n, a in enumerate(rows):
        assert int(a["address_bits"] or 0) + int(a["bits"] or 0) <= int(a["size_bits"] or 0)
        for b in rows[:n]:
            apart = [
                a["memory"] != b["memory"],
                step[str(a["last_layer"])] < step[str(b["first_layer"])],
                step[str(b["last_layer"])] < step[str(a["first_layer"])],
                int(a["address_bits"] or 0) + int(a["bits"] or 0) <= int(b["address_bits"] or 0),
                int(b["address_bits"] or 0) + int(b["bits"] or 0) <= int(a["address_bits"] or 0),
            ]
            assert any(apart), (a, b)


def test_files(cli: Cli) -> None:
    assert cli("compile", "net.onnx", "--hw", HW, "--stacks", "one", "--tile", "4x3", "-o", "out", "-q").code == 0
    before = sorted(p.name for p in Path("out").iterdir())
    for kind in ("tile", "memory"):
        result = cli("figure", kind, "out", "-o", "drawn", "--format", "svg", "-q")
        assert (result.code, result.out, result.err) == (0, "", "")
        assert "</svg>" in Path(f"drawn/{kind}.svg").read_text()
        data = json.loads(Path(f"drawn/{kind}.json").read_text())
        assert (data["figure"], data["stack"]) == (kind, "0")
        assert len(data["rows"]) == len(Path(f"drawn/{kind}.csv").read_text().splitlines()) - 1
        assert cli("figure", kind, "out/schedule.json", "-o", "drawn", "--data-only", "-q").code == 0
    assert sorted(p.name for p in Path("out").iterdir()) == before
    for options in (("--stack", "9"), ("--tile-class", "-1"), ("--memory", "attic")):
        result = cli("figure", "memory", "out", "-o", "none", *options)
        assert result.code == 1
        assert result.err.startswith("error[CLI074]")
        assert re.search(r"help: .*(from 0 to|one of)", result.err)
    assert not Path("none").exists()


def test_schedules_without_addresses(cli: Cli) -> None:
    found = dfc.compile("net.onnx", HW, stacks="one", tile="4x3", reproduce="defines")
    with pytest.raises(UsageError, match="no addresses"):
        tile_memories(found, "here", None, None, ())
    assert regions(tile_regions(found, "here", None, 0), "png").startswith(b"\x89PNG")


def test_equal_schedules_give_equal_pictures() -> None:
    for kind in ("png", "svg"):
        drawn = [
            (
                memory_maps(tile_memories(example(), "", 0, 4, ["gb_io"]), kind),
                regions(tile_regions(example(), "", 0, 4), kind),
            )
            for _ in range(2)
        ]
        assert drawn[0] == drawn[1]
