"""The dfc dialect: text and back, passes on text by filecheck, and what is wrong with a text."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
from causal_proof import timed
from cli_helpers import Cli
from example_models import build
from graph_strategies import random_cnn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfc.causal import streaming
from dfc.errors import MlirError
from dfc.ir import Axis, Graph
from dfc.mlir.graph_text import parse_graph_mlir, print_graph_mlir
from dfc.passes.causal_plan import CausalOptions
from dfc.passes.fuse import Fuse
from dfc.passes.stacks import cut_after
from dfc.passes.tiles import Order, Overlap, Tiler

TEXTS = sorted((Path(__file__).parent / "data" / "mlir").glob("*.mlir"))
RUN = re.compile(r"^// RUN: dfc (opt %s.*?) \| filecheck %s --check-prefix (\w+)$", re.M)
SCRIPTS = Path(sysconfig.get_path("scripts"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(random_cnn(), st.integers(1, 7), st.sampled_from(Overlap), st.sampled_from(Order), st.booleans())
def test_graphs_and_plans_come_back_equal(
    graph: Graph, size: int, overlap: Overlap, order: Order, remainder_first: bool
) -> None:
    stacks = cut_after(graph, [])
    plans = [
        Tiler(graph, stack, remainder_first=remainder_first).plan((size, size + 1), overlap, order) for stack in stacks
    ]
    text = print_graph_mlir(graph, plans, remainder_first=remainder_first)
    found = parse_graph_mlir(text)
    assert found.graph == graph
    assert list(found.plans) == plans
    assert print_graph_mlir(found.graph, found.plans, remainder_first=remainder_first) == text


def test_a_step_over_time_comes_back_equal() -> None:
    step = streaming(timed(build("tcn_kws"), "T"), CausalOptions(stream=True)).resident()
    assert step.past and step.time is Axis.X
    assert parse_graph_mlir(print_graph_mlir(step)).graph == step


@pytest.mark.parametrize(
    ("path", "command", "prefix"),
    [(path, *found) for path in TEXTS for found in RUN.findall(path.read_text())],
    ids=lambda v: v.stem if isinstance(v, Path) else "",
)
def test_passes_on_text(
    path: Path, command: str, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = Cli(tmp_path, capsys)
    result = cli(*(str(path) if word == "%s" else word for word in command.split()))
    assert result.code == 0, result.err
    shown = result.err + result.out
    check = [SCRIPTS / "filecheck", path, "--check-prefix", prefix]
    done = subprocess.run(check, input=shown, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + shown


def test_every_text_has_its_commands() -> None:
    assert TEXTS
    for path in TEXTS:
        assert len(RUN.findall(path.read_text())) == path.read_text().count("RUN:") > 0


def test_imported_text_is_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli = Cli(tmp_path, capsys)
    model = Path(__file__).parents[1] / "examples" / "models" / "fsrcnn.onnx"
    written = cli("import", model, "--emit", "mlir", "-o", tmp_path / "net.mlir")
    assert written.code == 0, written.err
    again = cli("opt", tmp_path / "net.mlir")
    assert again.out == (tmp_path / "net.mlir").read_text()


#: what is replaced in a good text by what, and the diagnostic with its line and column
MISTAKES = {
    "unknown operation": ("dfc.output", "dfc.ouput", "MLIR010", "not registered", (16, 15)),
    "no such loop": ("FX = 3", "FZ = 3", "MLIR010", "loops are B G K C OT OY OX FT FY FX", None),
    "no such role": ("#dfc.operand<I>", "#dfc.operand<Q>", "MLIR010", "roles are I, W, O", None),
    "backwards": ("o to o + 2", "o to o - 2", "MLIR010", "not behind the last", None),
    "no such kind": ('"conv.conv"', '"konv.conv"', "MLIR011", "kinds are conv", (11, 5)),
    "too many values": ("#dfc.operand<const W>", "#dfc.operand<const W () ()>", "MLIR011", "takes 3 values", (11, 5)),
    "two of one name": ('"w" :', '"x" :', "MLIR012", "two tensors are called 'x'", (5, 5)),
    "malformed": ("K = 4", "K = 5", "MLIR012", "IR110", (3, 3)),
    "cut off": ("origin = [[", "", "MLIR010", "", None),
    "numbers without end": ("1x4x6x8", "1x4x6x" + "9" * 5000, "MLIR010", "", None),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_have_a_place(mistake: str) -> None:
    good, bad, code, message, place = MISTAKES[mistake]
    text = "// a comment\n" + "".join(
        line for line in TEXTS[0].read_text().splitlines(keepends=True) if not line.startswith("//")
    )
    assert good in text
    broken = text.replace(good, bad, 1) if bad else text[: text.index(good) + 5]
    with pytest.raises(MlirError) as caught:
        parse_graph_mlir(broken, "net.mlir")
    assert caught.value.code == code
    assert message in caught.value.message
    span = caught.value.span
    assert span is not None
    assert span.file == "net.mlir"
    assert place in (None, (span.line, span.column))


def test_a_plan_of_other_tiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = parse_graph_mlir(TEXTS[0].read_text()).graph
    plan = Tiler(graph, cut_after(graph, [])[0], remainder_first=False).plan((3, 3), Overlap.CACHED)
    text = print_graph_mlir(graph, [plan])
    with pytest.raises(MlirError, match=r"MLIR013.*other tile classes"):
        parse_graph_mlir(text.replace("tile = array<i64: 3, 3>", "tile = array<i64: 4, 3>"))
    with pytest.raises(MlirError, match=r"MLIR013.*no layer 'conw'"):
        parse_graph_mlir(text.replace('dfc.plan ["pad", "conv"', 'dfc.plan ["pad", "conw"'))
    (tmp_path / "net.mlir").write_text(text)
    cli = Cli(tmp_path, capsys)
    assert cli("opt", tmp_path / "net.mlir").out == text
    changed = cli("opt", tmp_path / "net.mlir", "--passes", "fuse")
    assert "dfc.plan" not in changed.out
    assert "the plans in the file are of the graph as it was" in changed.err


@pytest.mark.parametrize(
    ("arguments", "code"), [(("opt", "none.mlir"), "CLI022"), (("import", "FSRCNN", "--emit", "dot"), "CLI091")]
)
def test_wrong_use(arguments: tuple[str, ...], code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Path(__file__).parents[1] / "examples" / "models" / "fsrcnn.onnx"
    result = Cli(tmp_path, capsys)(*(model if word == "FSRCNN" else word for word in arguments))
    assert result.code == 1
    assert f"error[{code}]" in result.err


def test_without_xdsl(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = Cli(tmp_path, capsys)("opt", TEXTS[0])
    assert result.code == 1
    assert "error[MLIR004]" in result.err
    assert "pip install 'dfc[mlir]'" in result.err


def test_the_page_shows_a_graph() -> None:
    page = (Path(__file__).parents[1] / "docs" / "mlir.md").read_text()
    (shown,) = re.findall(r"```mlir\n(dfc\.graph .*?)```", page, re.S)
    graph = parse_graph_mlir(shown).graph
    (layer,) = Fuse().run(graph).layers
    assert layer.fused == ("relu",)
