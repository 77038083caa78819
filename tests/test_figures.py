"""Figures: their numbers are those of recorded points and of compilations; files are written whole or not at all."""

from __future__ import annotations

import csv
import json
import re
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import reference
from cli_helpers import HW, Cli, chain

import dfc
from dfc.figures import (
    COPIES,
    Bar,
    Comparison,
    Point,
    Sweep,
    Sweeper,
    as_csv,
    as_json,
    compare_architectures,
    comparison_rows,
    diagonal_plans,
    heat_map_plans,
    share_rows,
    sweep_rows,
)
from dfc.hwdsl import load_arch
from dfc.passes.tiles import Overlap
from dfc.pipeline import import_graph
from dfc.request import parse_request

MODEL = Path(__file__).parent.parent / "examples" / "models" / "fsrcnn_unpadded.onnx"
POINTS = reference.load("fsrcnn_meta_108.json.gz", "DFC_REFERENCE_POINTS")["points"]
MODES = {(False, False): Overlap.RECOMPUTE, (True, False): Overlap.H_CACHED, (True, True): Overlap.CACHED}
PAGE = Path(__file__).parent.parent / "docs" / "figures.md"
SIZES = ([4, 60, 960], [4, 72, 540])


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    chain(tmp_path / "net.onnx", (1, 3, 12, 16))
    return Cli(tmp_path, capsys)


@cache
def sweep() -> Sweep:
    """Of the published case study, by the reference's rules."""
    request = parse_request("energy", "auto", "auto", "auto", reproduce="defines")
    return Sweeper(import_graph(MODEL), load_arch(HW), request).sweep(heat_map_plans(*SIZES))


def by_plan(points: tuple[Point, ...]) -> dict[tuple[tuple[int, int], Overlap], Point]:
    return {(p.tile, p.overlap): p for p in points}


@pytest.mark.reference
def test_the_heat_map_beside_the_recorded_values() -> None:
    """Our mapping search is the better one: not above the record (but for the input's cache, D8), nor far below."""
    found, ratios = by_plan(sweep().points), list[float]()
    assert len(found) == 27
    for point in POINTS:
        mode = MODES[point["df_horizontal_caching"], point["df_vertical_caching"]]
        ours = found.get(((point["tile_x"], point["tile_y"]), mode))
        if ours is not None and ours.energy_pj is not None:
            ratios.append(ours.energy_pj / point["energy_total"])
            array = sum(pj for (memory, _), pj in ours.parts.items() if memory == "array")
            copies = sum(pj for (_, operand), pj in ours.parts.items() if operand == COPIES)
            assert array == pytest.approx(point["MAC_energy"], rel=1e-9)
            assert copies == pytest.approx(point["data_copy_energy"], rel=0.07)
    assert len(ratios) >= 10
    assert 0.9 < min(ratios) < 1
    assert max(ratios) < 1.001


@pytest.mark.reference
def test_the_published_conclusions_hold() -> None:
    """DeFiNES, HPCA 2023: 4x72 fully cached is best, about ten times less than layer by layer."""
    found = by_plan(sweep().points)
    best = min(sweep().points, key=lambda p: p.energy_pj or 0)
    assert (best.tile, best.overlap) == ((4, 72), Overlap.CACHED)
    whole = [found[(960, 540), mode].energy_pj or 0 for mode in MODES.values()]
    assert whole[0] == whole[1] == whole[2]
    assert whole[0] / (best.energy_pj or 1) == pytest.approx(10.5, abs=0.1)


@pytest.mark.reference
def test_the_page_has_these_numbers() -> None:
    """The table and the examples of docs/figures.md, by both rules."""
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    own = Sweeper(import_graph(MODEL), load_arch(HW), parse_request("energy", "auto", "auto", "auto"))
    plans = [((4, 72), "cached"), ((960, 540), "cached"), ((60, 270), "recompute")]
    ours = own.sweep([(tile, Overlap(mode)) for tile, mode in [*plans, ((60, 270), "cached"), ((4, 72), "recompute")]])
    theirs = by_plan(sweep().points)
    records = {(p["tile_x"], p["tile_y"], p["df_vertical_caching"]): p for p in POINTS}
    energies, cycles = list[list[float]](), list[list[float]]()
    for tile in ((4, 72), (960, 540)):
        record, defines = records[*tile, True], theirs[tile, Overlap.CACHED]
        mine = by_plan(ours.points)[tile, Overlap.CACHED]
        energies.append([record["energy_total"] / 1e9, (defines.energy_pj or 0) / 1e9, (mine.energy_pj or 0) / 1e9])
        latencies = record["latency_total1"], defines.latency_cycles or 0, mine.latency_cycles or 0
        cycles.append([n / 1e6 for n in latencies])
    gains = [[lbl / best for best, lbl in zip(*pair, strict=True)] for pair in (energies, cycles)]
    for title, row in (
        ("its energy", [f"{x:.3f} mJ" for x in energies[0]]),
        ("its latency, million cycles", [f"{x:.2f}" for x in cycles[0]]),
        ("layer by layer (960x540), energy", [f"{x:.2f} mJ" for x in energies[1]]),
        ("gain in energy over it", [f"{x:.1f}x" for x in gains[0]]),
        ("gain in latency over it", [f"{x:.2f}x" for x in gains[1]]),
    ):
        assert f"| {title} | {' | '.join(row)} |" in text
    for point in ours.points[2:]:
        assert f"{(point.energy_pj or 0) / 1e9:.2f} mJ" in text, point
    for mode in Overlap.RECOMPUTE, Overlap.H_CACHED, Overlap.CACHED:
        row = [f"{(theirs[t, mode].energy_pj or 0) / 1e9:.2f}" for t in ((60, 72), (960, 540))]
        assert re.search(rf"\| {mode} \| defines \| [^|]* \| [^|]* \| [^|]* \| {row[0]} \| [^|]* \| {row[1]} \|", text)


def test_pictures_in_the_documents_are_small() -> None:
    pictures = list((PAGE.parent / "pictures").iterdir())
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGE.parent.glob("*.md"))
    shown = set(re.findall(r"\]\(pictures/([^)]*)\)", pages))
    assert {p.name for p in pictures} == shown
    assert all(p.stat().st_size < 100_000 for p in pictures)


def test_parts_add_up() -> None:
    for point in sweep().points:
        assert sum(point.parts.values()) == pytest.approx(point.energy_pj, rel=1e-9)
    rows = share_rows(sweep())
    assert sum(float(r["share"] or 0) for r in rows) == pytest.approx(len(sweep().points))


def test_plans() -> None:
    plans = heat_map_plans([1, 4], [2, 6, 9])
    assert len(plans) == len(set(plans)) == 18
    assert [mode.value for _, mode in plans[::6]] == ["recompute", "h-cached", "cached"]
    assert diagonal_plans([1, 4], [2, 6, 9])[:3] == [
        ((1, 2), "recompute"),
        ((4, 6), "recompute"),
        ((4, 9), "recompute"),
    ]


def test_sizes() -> None:
    sweeper = Sweeper(import_graph(MODEL), load_arch(HW), parse_request("energy", "auto", "auto", "auto"))
    assert sweeper.sizes() == ([1, 4, 15, 60, 240, 960], [1, 3, 9, 34, 135, 540])
    assert sweeper.sizes(small=True) == ([4, 60, 960], [3, 34, 540])
    assert sweeper.sizes([5000, 7, 7], [2]) == ([7, 960], [2])


def test_files_of_the_heat_maps(cli: Cli) -> None:
    result = cli(
        "figure",
        "heatmaps",
        "net.onnx",
        "--hw",
        HW,
        "--tiles-x",
        "4,16",
        "--tiles-y",
        "3,12",
        "--stacks",
        "one",
        "-o",
        "out",
    )
    assert (result.code, result.out) == (0, "")
    names = sorted(p.name for p in Path("out").iterdir())
    assert names == ["heatmaps.csv", "heatmaps.json", "heatmaps.png"]
    assert Path("out/heatmaps.png").read_bytes().startswith(b"\x89PNG")
    with Path("out/heatmaps.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    data = json.loads(Path("out/heatmaps.json").read_text())
    assert (data["figure"], data["hw"], data["cost_model"], data["rules"]) == ("heatmaps", HW, "exact", "dfc")
    assert [r["energy_pj"] for r in data["rows"]] == [float(r["energy_pj"]) for r in rows]
    compiled = dfc.compile("net.onnx", HW, stacks="one", tile="4x3", overlap="cached", order="rows").totals
    (one,) = [r for r in data["rows"] if (r["mode"], r["tile_x"], r["tile_y"]) == ("cached", 4, 3)]
    assert (one["energy_pj"], one["latency_cycles"]) == (pytest.approx(compiled.energy_pj), compiled.latency_cycles)


def test_files_of_the_other_figures(cli: Cli) -> None:
    common = ("--format", "svg", "-o", "out", "--quiet", "--small")
    assert cli("figure", "shares", "net.onnx", "--hw", HW, *common).code == 0
    assert cli("figure", "architectures", "net.onnx", "--reproduce", "defines", "--hw", HW, *common).code == 0
    for name, count in (("shares", 9), ("architectures", 2)):
        assert "</svg>" in Path(f"out/{name}.svg").read_text()
        rows = json.loads(Path(f"out/{name}.json").read_text())["rows"]
        assert len(
            {tuple(v for k, v in r.items() if k in ("mode", "tile_x", "tile_y", "hw", "how")) for r in rows}
        ) == (count)


def test_answers_are_kept_on_disk(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second time nothing is searched, and the numbers are the same."""

    def searched(*_: object, **__: object) -> None:
        raise AssertionError

    for name, more in (("heatmaps", ()), ("architectures", ("--reproduce", "defines")), ("architectures", ())):
        arguments = ("figure", name, "net.onnx", "--hw", HW, "--small", "--data-only", "-q", *more, "--cache", "kept")
        assert cli(*arguments, "-o", "first").code == 0
        with monkeypatch.context() as patch:
            patch.setattr("dfc.backend_cost.mapping_cache.search_mapping", searched)
            assert cli(*arguments, "-o", "again").code == 0
            assert cli(*arguments[:-2], "--no-cache", "-o", "none").code == 70
        assert Path(f"first/{name}.json").read_bytes() == Path(f"again/{name}.json").read_bytes()
    assert not Path("none").exists()
    assert cli("figure", "shares", "net.onnx", "--hw", HW, "--cache", "kept", "--no-cache").err.startswith(
        "error[CLI053]"
    )


def test_bars_are_what_compilations_cost(cli: Cli) -> None:
    request = replace(
        parse_request("energy", "auto", "4x4", "auto", "defines", baselines="all"), overlaps=(Overlap.CACHED,)
    )
    path = Path("net.onnx")
    chips = [HW, "tpu_like"]
    found = compare_architectures({path: import_graph(path)}, chips, request)
    for chip in chips:
        compiled = dfc.compile(path, chip, tile="4x4", overlap="cached", cost_model="defines", baselines="all")
        expected = {b.name: b.energy_pj for b in compiled.baselines if b.name != "single-layer"}
        bars = {b.how: b.energy_pj for b in found.bars if b.hw == chip}
        assert bars == {**expected, "dfc": compiled.totals.energy_pj}


def test_equal_numbers_give_equal_pictures() -> None:
    from dfc.figure_draw import heat_maps

    some = replace(sweep(), points=sweep().points[:2])
    for kind in ("png", "svg"):
        assert heat_maps(some, kind) == heat_maps(some, kind)
    assert len(heat_maps(sweep(), "png")) < 100_000


def test_what_does_not_fit_is_drawn_and_left_empty() -> None:
    from dfc.figure_draw import architectures, heat_maps, shares

    missing = Point((4, 4), Overlap.CACHED, reason="it is too large")
    some = replace(sweep(), points=(*sweep().points[-3:], missing))
    none = replace(sweep(), points=(missing,))
    for found in (some, none):
        assert heat_maps(found, "png")
        assert shares(found, "png")
    assert as_csv(sweep_rows(none)).splitlines()[1] == "cached,4,4,,,it is too large"
    assert json.loads(as_json("heatmaps", {}, sweep_rows(none)))["rows"][0]["energy_pj"] is None
    bars = (Bar("a", "chip", "layer-by-layer", None, None), Bar("a", "chip", "dfc", 5.0, 7))
    assert architectures(Comparison("exact", "dfc", bars), "png")
    assert architectures(Comparison("exact", "dfc", bars[:1]), "png")
    assert as_csv(comparison_rows(Comparison("exact", "dfc", bars))).splitlines()[1] == "a,chip,layer-by-layer,,"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--tiles-x", "4,,16"), "CLI072"),
        (("--tiles-y", "0"), "CLI072"),
        (("--tiles-y", ",".join(["1"] * 41)), "CLI072"),
        (("--format", "gif"), "CLI073"),
        (("--reproduce", "nothing"), "CLI057"),
        (("--objective", "cost"), "CLI001"),
        (("--stacks", "nowhere"), "CLI010"),
        (("--hw", "no_chip"), "HW001"),
        (("-o", "net.onnx"), "CLI030"),
    ],
)
def test_bad_input_leaves_nothing(cli: Cli, options: tuple[str, ...], code: str) -> None:
    result = cli("figure", "heatmaps", "net.onnx", "--hw", HW, *options)
    assert result.code == 1
    assert result.err.startswith(f"error[{code}]")
    assert [p.name for p in Path().iterdir()] == ["net.onnx"]


def test_without_matplotlib(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    arguments = ("figure", "heatmaps", "net.onnx", "--hw", HW, "--tiles-x", "16", "--tiles-y", "12")
    result = cli(*arguments)
    assert result.code == 1
    assert result.err.startswith("error[CLI071]")
    assert "pip install 'dfc[figures]'" in result.err
    assert not Path("figures").exists()
    assert cli(*arguments, "--data-only").code == 0
    assert sorted(p.name for p in Path("figures").iterdir()) == ["heatmaps.csv", "heatmaps.json"]


def test_a_picture_that_cannot_be_drawn_leaves_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr("dfc.figure_draw.heat_maps", fail)
    assert cli("figure", "heatmaps", "net.onnx", "--hw", HW, "--tiles-x", "16", "--tiles-y", "12").code == 130
    assert not Path("figures").exists()
