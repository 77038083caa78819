"""Constraints on stacks: the page, what it leaves to choose against all that there is to choose, and diagnostics."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import HW, Cli, chain
from graph_builder import Builder
from hypothesis import given, settings
from hypothesis import strategies as st

import dfc
from dfc.backend_cost.cost_model import EXACT
from dfc.errors import RulesError
from dfc.hwdsl import load_arch
from dfc.ir import Graph
from dfc.passes.stacks import cut_after
from dfc.passes.tiles import Order, Overlap
from dfc.pipeline import import_graph
from dfc.scheduling.bounds import LayerBounds
from dfc.scheduling.constraints import resolve
from dfc.scheduling.constraints_text import load_constraints, parse_constraints
from dfc.scheduling.network import NetworkStacks

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """conv1 to conv4 on maps of 12x10."""
    return chain(tmp_path_factory.mktemp("models") / "net.onnx", (1, 3, 10, 12), layers=4)


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    return Cli(tmp_path, capsys)


# --- the page


@pytest.mark.parametrize(
    ("text", "code", "place", "says"),
    [
        ("", "MAP041", "", "the page has no constraints"),
        ("tile 60x72", "MAP041", "1:1", "write: stack FIRST to LAST"),
        ("cut conv1", "MAP041", "1:5", "write: cut after LAYER"),
        ("cut after conv1,", "MAP041", "1:17", "a layer's name is expected"),
        ("stack { }", "MAP041", "1:7", "a layer's name is expected"),
        ("stack a to b", "MAP041", "1:13", "the stack's block is missing"),
        ("stack a {\n  tile 6x7\n", "MAP041", "2:11", "close it with }"),
        ("stack a { stack b { } }", "MAP041", "1:11", "the stack's block is not closed"),
        ("stack a { tiles 6x7 }", "MAP041", "1:11", "did you mean 'tile'?"),
        ("stack a { hold W }", "MAP041", "1:11", "known here: tile, overlap"),
        ("stack a {\n  tile 60 }", "MAP043", "2:8", "not '60'"),
        ("stack a { tile 0x5 }", "MAP043", "1:16", "for example: tile 60x72"),
        ("stack a { tile 5x9999999999 }", "MAP043", "1:16", "both at least 1"),
        ("stack a { tile }", "MAP043", "1:16", "tile auto"),
        ("stack a { overlap cache }", "MAP041", "1:19", "did you mean 'cached'?"),
        ("stack a { order diagonal }", "MAP041", "1:17", "one of auto, rows or columns"),
        ("stack a { output chip }", "MAP041", "1:18", "output on chip, or output off chip"),
        ("stack a { output on }", "MAP041", "1:21", "'chip' is expected"),
        ("stack a { order rows\n order rows }", "MAP044", "2:2", "stands here again, after line 1"),
        ("stack a { overlap of b recompute }", "MAP041", "1:24", "write: overlap of LAYER"),
        ("stack a { overlap of b: auto }", "MAP041", "1:25", "leave this line out"),
        ("stack a { overlap of b: keep }", "MAP041", "1:25", "one of auto, cached, h-cached"),
        ("stack \x1b { }", "MAP041", "1:7", "unexpected '?'"),
    ],
)
def test_mistakes_on_the_page(text: str, code: str, place: str, says: str) -> None:
    with pytest.raises(RulesError) as caught:
        parse_constraints(text, "net.stacks")
    assert caught.value.code == code
    assert says in caught.value.render()
    assert caught.value.hint
    if place:
        assert str(caught.value.span) == f"net.stacks:{place}"


WORDS = ["\n", "#", "stack", "cut", "after", "a", '"b/c"', "to", "{", "}", "tile", "6x7", "auto", "overlap", "h-cached"]
WORDS += ["order", "rows", "output", "on", "off", "chip", ",", "7", "="]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_any_text_gives_constraints_or_a_diagnostic(text: str) -> None:
    try:
        parse_constraints(text)
    except RulesError as error:
        assert error.code in {"MAP041", "MAP043", "MAP044"}
        if error.span is not None:
            assert error.span.text == text.split("\n")[error.span.line - 1]


def test_files(tmp_path: Path) -> None:
    (tmp_path / "latin.stacks").write_bytes(b"\xff\xfe")
    for name in ("latin.stacks", "missing.stacks", "."):
        with pytest.raises(RulesError) as caught:
            load_constraints(tmp_path / name)
        assert caught.value.code == "MAP040"


def test_the_example_is_that_of_the_document() -> None:
    example = ROOT / "examples" / "constraints" / "fsrcnn.stacks"
    (shown,) = re.findall(r"```stacks\n(.*?)```", (ROOT / "docs" / "constraints.md").read_text(), re.S)
    assert example.read_text() == shown
    graph = import_graph(ROOT / "examples" / "models" / "fsrcnn.onnx")
    rules = resolve(load_constraints(example), graph)
    assert [len(s.layers) for s in rules.arranged(graph, cut_after(graph, []))] == [6, 2]
    first, second = rules.blocks.values()
    assert first.tile and first.tile.value == (60, 72)
    assert first.overlap and first.overlap.value == (Overlap.CACHED,)
    assert second.order and second.order.value == (Order.COLUMNS,)


# --- what it means for a network


def network() -> Graph:
    """conv0, conv1, an opaque layer, conv3, conv4."""
    b = Builder()
    x = b.conv(b.conv(b.input(3, 12, 12), 4), 4)
    x = b.opaque(x)
    return b.graph(b.conv(b.conv(x, 4), 4))


@pytest.mark.parametrize(
    ("text", "code", "place", "says"),
    [
        ("cut after conv9", "MAP042", "1:11", "did you mean 'conv"),
        ('stack "" { }', "MAP042", "1:7", "dfc import prints"),
        ("stack NAME3 to NAME1 { }", "MAP044", "1:16", "write: stack NAME1 to NAME3"),
        ("stack NAME0 to NAME1 { }\nstack NAME1 { }", "MAP044", "2:7", "in the stack of line 1 already"),
        ("stack NAME0 to NAME1 { }\ncut after NAME0", "MAP044", "2:11", "or end the stack of line 1 there"),
        ("stack NAME1 to NAME3 { }", "MAP045", "1:7", "end one stack before it"),
        ("stack NAME0 to NAME1 { overlap of nobody: cached }", "MAP042", "1:37", "no layer 'nobody'"),
        ("stack NAME0 to NAME1 { overlap of NAME3: cached }", "MAP044", "1:37", "neither makes nor reads"),
        ("stack NAME0 { overlap of NAME0, NAME0: cached }", "MAP044", "1:35", "stands here again"),
        ("stack NAME3 to NAME4 { output on chip }", "MAP047", "1:24", "leave this line out"),
    ],
)
def test_mistakes_about_the_network(text: str, code: str, place: str, says: str) -> None:
    graph = network()
    text = re.sub(r"NAME(\d)", lambda m: graph.layers[int(m[1])].name, text)
    with pytest.raises(RulesError) as caught:
        resolve(parse_constraints(text, "net.stacks"), graph)
    error = caught.value
    assert error.code == code
    assert error.span is not None
    assert error.span.line == int(place.split(":")[0])
    assert re.sub(r"NAME(\d)", lambda m: graph.layers[int(m[1])].name, says) in error.render()


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_a_sequence_is_cut_where_the_page_says(data: st.DataObject) -> None:
    b = Builder()
    x = b.input(3, 12, 12)
    for _ in range(8):
        x = b.conv(x, 4)
    graph = b.graph(x)
    names = [layer.name for layer in graph.layers]
    first = data.draw(st.integers(0, 7))
    last = data.draw(st.integers(first, 7))
    after = data.draw(st.sets(st.sampled_from([i for i in range(8) if not first <= i < last])))
    text = f"stack {names[first]} to {names[last]} {{ }}" + "".join(f" cut after {names[i]}" for i in after)
    rules = resolve(parse_constraints(text), graph)
    stacks = rules.arranged(graph, cut_after(graph, data.draw(st.sets(st.integers(0, 7)))))
    assert [i for s in stacks for i in s.layers] == list(range(8))
    assert tuple(range(first, last + 1)) in [s.layers for s in stacks]
    assert after <= {s.layers[-1] for s in stacks}


def unused(*_: object) -> Any:
    raise AssertionError("nothing is priced here")


def test_places_are_those_that_the_page_leaves() -> None:
    """Of a map that may stay on chip, where stacks meet after layers 0, 1 and 2."""
    b = Builder()
    x = b.input(3, 12, 12)
    for _ in range(4):
        x = b.conv(x, 4)
    graph, arch = b.graph(x), load_arch(HW)
    a, c, d, e = (layer.name for layer in graph.layers)
    page = f"stack {a} {{ output on chip }} stack {c} {{ output off chip }} stack {d} to {e} {{ }}"
    rules = resolve(parse_constraints(page), graph)
    first = rules.arranged(graph, cut_after(graph, []))
    bounds = LayerBounds(graph, arch, EXACT, any_lanes=False)
    stacks = NetworkStacks(bounds, first, unused, unused, hand_over=True, fixed=False, rules=rules)
    assert [stacks.cuts[n] for n in range(4)] == [0, 1, 2, 4]
    on, off = list(stacks.places(1)), list(stacks.places(2))
    assert on and 0 not in on
    assert off == [0]
    stacks.check_places()
    none = NetworkStacks(bounds, first, unused, unused, hand_over=False, fixed=False, rules=rules)
    with pytest.raises(RulesError) as caught:
        none.check_places()
    assert caught.value.code == "MAP047"


# --- what it leaves to choose


def energy(model: Path, **options: str) -> float:
    return dfc.compile(model, HW, **options).totals.energy_pj  # type: ignore[arg-type]


def test_the_best_of_what_is_left_is_found(model: Path, tmp_path: Path) -> None:
    """Against all sequences, each priced by itself: a cut after conv1, conv2 and conv3 or not."""
    page = tmp_path / "net.stacks"
    names = ("conv1", "conv2", "conv3")
    stacks = [cuts for n in range(4) for cuts in combinations(names, n)]
    fixed = {"tile": "6x10", "overlap": "cached", "order": "rows", "cache": str(tmp_path / "cache")}
    cost = {cuts: energy(model, stacks=",".join(cuts) or "one", **fixed) for cuts in stacks}
    for text, allowed in (
        ("cut after conv2", lambda cuts: "conv2" in cuts),
        ("stack conv2 to conv3 { }", lambda cuts: cuts == ("conv1", "conv3")),
        ("stack conv4 { }", lambda cuts: "conv3" in cuts),
        ("stack conv1 to conv4 { }", lambda cuts: not cuts),
    ):
        page.write_text(text)
        found = dfc.compile(model, HW, constraints=page, **fixed)  # type: ignore[arg-type]
        best = min(pj for cuts, pj in cost.items() if allowed(cuts))
        assert found.totals.energy_pj == pytest.approx(best, rel=1e-12)
        assert "stacks are fixed by net.stacks" in found.notes


PAGE = """
stack conv1 to conv2 { tile 3x10 overlap v-cached }
stack conv3 { tile auto order columns overlap h-cached output off chip }
"""


def test_the_page_comes_before_the_options_and_they_before_nothing(model: Path, cli: Cli) -> None:
    (cli.folder / "net.stacks").write_text(PAGE)
    options = ("--tile", "4x4", "--overlap", "cached", "--order", "rows", "--no-layers", "-q")
    for stacks in ((), ("--stacks", "conv2,conv3")):
        assert (
            cli("compile", model, "--hw", HW, "-o", "out", "--constraints", "net.stacks", *options, *stacks).code == 0
        )
        found = json.loads((cli.folder / "out" / "schedule.json").read_text())
        first, second, third = found["stacks"]
        assert (first["tile"], first["overlap"], first["order"]) == ([3, 10], "v-cached", "rows")
        assert (second["overlap"], second["order"]) == ("h-cached", "columns")
        assert (third["tile"], third["overlap"], third["order"]) == ([4, 4], "cached", "rows")
        assert cli("check", "out").code == 0


def test_single_maps_have_the_mode_that_the_page_says(model: Path, cli: Cli) -> None:
    """Also in the report, in dfc explain, and to the eyes of the checker."""
    (cli.folder / "net.stacks").write_text(
        "stack conv1 to conv4 { tile 4x4 overlap cached overlap of conv2: recompute overlap of x: h-cached }"
    )
    result = cli("compile", model, "--hw", HW, "-o", "out", "--constraints", "net.stacks", "--no-progress")
    (stack,) = json.loads((cli.folder / "out" / "schedule.json").read_text())["stacks"]
    assert stack["overlap"] == "mixed"
    assert stack["overlap_by_map"] == {
        "x": "h-cached",
        "m1": "cached",
        "m2": "recompute",
        "m3": "cached",
        "y": "cached",
    }
    assert "  mixed in stack 0: x h-cached, m2 recompute; all other maps cached\n" in result.out
    assert "  overlap        m1 cached, m2 recompute\n" in cli("explain", "out", "--layer", "conv2").out
    assert cli("check", "out").code == 0
    caches = {(b["what"], b["name"]) for b in stack["buffers"] if "cache" in b["what"]}
    assert caches == {("H cache", "x"), *((f"{c} cache", m) for c in "HV" for m in ("m1", "m3"))}


def test_what_has_no_effect_is_noted(model: Path, tmp_path: Path) -> None:
    page = tmp_path / "net.stacks"
    page.write_text(
        "cut after conv4\n"
        "stack conv1 to conv2 {\n overlap cached\n order rows\n tile 99x99 }\n"
        "stack conv3 {\n order rows\n tile 12x4\n overlap cached overlap of conv3: recompute }\n"
        "stack conv4 { output off chip }"
    )
    notes = [n for n in dfc.compile(model, HW, constraints=page).notes if "no effect" in n]
    assert notes == [
        "net.stacks, line 1: this cut has no effect, as the network ends there",
        "net.stacks, line 3: the overlap has no effect, as there is one tile",
        "net.stacks, line 4: the order has no effect, as there is one tile",
        "net.stacks, line 9: the overlap of 'conv3' has no effect, as no two tiles share positions of it",
        "net.stacks, line 7: the order has no effect, as there is one row or column of tiles",
        "net.stacks, line 10: the output's place has no effect, as the network ends there",
    ]


@pytest.mark.parametrize(
    ("text", "options", "code", "says"),
    [
        ("stack conv1 to conv3 { }", ("--stacks", "conv2"), "MAP046", "--stacks conv2 cuts after layer 'conv2'"),
        ("cut after conv1", ("--stacks", "one"), "MAP046", "--stacks one does not cut after layer 'conv1'"),
        ("stack conv2 { order columns }", ("--reproduce", "defines"), "MAP046", "row by row"),
        ("stack conv2 { overlap of conv2: cached }", ("--reproduce", "defines"), "MAP046", "one mode for all maps"),
        ("stack conv2 { output on chip }", ("--reproduce", "defines"), "MAP046", "off chip"),
        ("cut after conv1\nstack conv3 { tile 6 }", (), "MAP043", "not '6'"),
    ],
)
def test_refused_on_the_command_line(
    model: Path, cli: Cli, text: str, options: tuple[str, ...], code: str, says: str
) -> None:
    (cli.folder / "net.stacks").write_text(text)
    result = cli("compile", model, "--hw", HW, "-o", "out", "--constraints", "net.stacks", *options)
    assert result.code == 1
    assert f"error[{code}]: " in result.err
    assert says in result.err
    assert "--> net.stacks:" in result.err
    assert "= help: " in result.err
    assert not (cli.folder / "out").exists()
