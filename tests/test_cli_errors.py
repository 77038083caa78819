"""Bad input through the command line: a diagnostic with code, place and remedy, exit code 1, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_helpers import HW, Cli, Result, chain, conv_nodes, hw_page, make_model
from onnx import external_data_helper, helper, numpy_helper


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    return Cli(tmp_path, capsys)


def assert_refused(cli: Cli, code: str, place: str, *arguments: object, remedy: str = "") -> Result:
    """The command fails as it should, and the folder is as it was."""
    before = sorted(cli.folder.rglob("*"))
    result = cli(*arguments)
    assert result.code == 1, result
    assert result.out == ""
    assert f"error[{code}]: " in result.err
    assert place in next(line for line in result.err.splitlines() if line.startswith("  --> "))
    assert "  = help: " in result.err and remedy in result.err
    assert "Traceback" not in result.err
    assert sorted(cli.folder.rglob("*")) == before
    return result


def refuse_model(cli: Cli, code: str, place: str, model: Path, remedy: str = "", *options: object) -> Result:
    return assert_refused(cli, code, place, "compile", model, "--hw", HW, "-o", "out", *options, remedy=remedy)


def refuse_page(cli: Cli, code: str, place: str, old: str, new: str, remedy: str = "") -> Result:
    page = hw_page(cli.folder / "chip.hw", old, new)
    model = chain(cli.folder / "net.onnx")
    result = assert_refused(cli, code, place, "compile", model, "--hw", page, "-o", "out", remedy=remedy)
    assert_refused(cli, code, place, "hw", page, remedy=remedy)
    return result


# -- models


def test_model_is_missing(cli: Cli) -> None:
    refuse_model(cli, "ONNX001", "nothing.onnx", Path("nothing.onnx"))


def test_model_is_a_folder(cli: Cli) -> None:
    (cli.folder / "dir.onnx").mkdir()
    refuse_model(cli, "ONNX001", "dir.onnx", Path("dir.onnx"))


def test_model_is_not_onnx(cli: Cli) -> None:
    model = cli.folder / "text.onnx"
    model.write_text("this is not a protobuf message\n", encoding="utf-8")
    refuse_model(cli, "ONNX003", "text.onnx", model)


def test_model_is_truncated(cli: Cli) -> None:
    model = chain(cli.folder / "net.onnx")
    data = model.read_bytes()
    model.write_bytes(data[: len(data) * 2 // 3])
    refuse_model(cli, "ONNX003", "net.onnx", model)


def external(cli: Cli, location: str) -> Path:
    """A model whose first weight lies in another file."""
    nodes, weights = conv_nodes()
    model = make_model(nodes, weights)
    tensor = model.graph.initializer[0]
    external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    path = cli.folder / "models" / "net.onnx"
    path.parent.mkdir()
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_is_missing(cli: Cli) -> None:
    refuse_model(cli, "ONNX006", "net.onnx", external(cli, "w1.bin"))


def test_external_data_is_outside_of_the_models_folder(cli: Cli) -> None:
    (cli.folder / "w1.bin").write_bytes(bytes(3 * 3 * 9 * 4))
    refuse_model(cli, "ONNX007", "net.onnx", external(cli, "../w1.bin"))


def test_opset_is_not_supported(cli: Cli) -> None:
    for opset in (3, 9999):
        model = cli.folder / "net.onnx"
        model.write_bytes(make_model(*conv_nodes(), opset=opset).SerializeToString())
        refuse_model(cli, "ONNX005", "net.onnx", model)


def test_graph_is_cyclic(cli: Cli) -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], name="one"),
        helper.make_node("Relu", ["a"], ["b"], name="two"),
        helper.make_node("Relu", ["b"], ["y"], name="three"),
    ]
    model = cli.folder / "net.onnx"
    model.write_bytes(make_model(nodes, []).SerializeToString())
    refuse_model(cli, "ONNX008", "net.onnx", model)


def test_graph_is_empty(cli: Cli) -> None:
    model = cli.folder / "net.onnx"
    model.write_bytes(make_model([], []).SerializeToString())
    refuse_model(cli, "ONNX004", "net.onnx", model)


def test_graph_computes_nothing_from_its_inputs(cli: Cli) -> None:
    constant = numpy_helper.from_array(np.zeros((1, 3), np.float32), "value")
    model = cli.folder / "net.onnx"
    node = helper.make_node("Constant", [], ["y"], value=constant)
    onnx.save(make_model([node], []), str(model))
    refuse_model(cli, "ONNX004", "net.onnx", model)


def test_size_is_unbound(cli: Cli) -> None:
    model = chain(cli.folder / "net.onnx", ("batch", 3, 8, 8))
    refuse_model(cli, "ONNX012", "input 'x'", model, "--bind batch=1")
    refuse_model(cli, "ONNX013", "net.onnx", model, "batch", "--bind", "bach=1")


def test_input_shape_does_not_fit(cli: Cli) -> None:
    model = chain(cli.folder / "net.onnx")
    refuse_model(cli, "ONNX014", "net.onnx", model, "--input-shape", "--input-shape", "1,3,8")


# -- hardware


def test_page_is_missing(cli: Cli) -> None:
    model = chain(cli.folder / "net.onnx")
    for command in (("hw", "meta_prot"), ("compile", model, "--hw", "meta_prot")):
        assert_refused(cli, "HW001", "meta_prot", *command, remedy="did you mean 'meta_proto'?")


def test_page_has_a_syntax_error(cli: Cli) -> None:
    refuse_page(cli, "HW010", "chip.hw:25:16", "memory lb_w  {", "memory lb_w  (")


def test_page_has_an_unknown_name(cli: Cli) -> None:
    refuse_page(cli, "HW040", "chip.hw:31:20", "array <- rf_w", "array <- rf_x", "did you mean 'rf_w'?")


def test_page_has_a_wrong_unit(cli: Cli) -> None:
    refuse_page(cli, "HW014", "chip.hw:27:41", "size 64 KiB", "size 64 pJ", "KiB")


@pytest.mark.parametrize("size", ["0 KiB", "-64 KiB"])
def test_page_has_a_size_that_is_not_positive(cli: Cli, size: str) -> None:
    refuse_page(cli, "HW015", "chip.hw:27:38", "size 64 KiB", f"size {size}")


def test_page_has_an_operand_that_no_memory_holds(cli: Cli) -> None:
    page = hw_page(cli.folder / "chip.hw")
    lines = page.read_text(encoding="utf-8").replace("holds I, W, O", "holds I, O").splitlines()
    kept = [line for line in lines if "holds W" not in line and "path W" not in line]
    page.write_text("\n".join(kept), encoding="utf-8")
    model = chain(cli.folder / "net.onnx")
    result = assert_refused(cli, "HW054", "chip.hw", "compile", model, "--hw", page, remedy="path W")
    assert "holds operand W" in result.err


def test_smallest_tile_fits_nowhere(cli: Cli) -> None:
    page = hw_page(cli.folder / "chip.hw", "size 10 Gb", "size 24 b ")
    model = chain(cli.folder / "net.onnx")
    result = assert_refused(cli, "MAP001", "chip.hw", "compile", model, "--hw", page, "-o", "out")
    assert "what is alive while layer 'conv2' runs: 192 B are needed, memory 'dram' has 3 B" in result.err


# -- options


@pytest.mark.parametrize(
    ("code", "option", "value"),
    [
        ("CLI001", "--objective", "power"),
        ("CLI002", "--overlap", "sometimes"),
        ("CLI003", "--tile", "0x5"),
        ("CLI003", "--tile", "abc"),
        ("CLI003", "--tile", "-3x5"),
        ("CLI004", "--stacks", ","),
        ("CLI005", "--bind", "batch"),
        ("CLI005", "--bind", "=1"),
        ("CLI005", "--bind", "batch=one"),
        ("CLI005", "--bind", "batch=" + "9" * 6000),
        ("CLI006", "--input-shape", "1,3,x,8"),
        ("CLI006", "--input-shape", ":1,3,8,8"),
        ("CLI006", "--input-shape", ""),
        ("CLI009", "--cost-model", "perfect"),
        ("CLI009", "--cost-model", ""),
        ("CLI010", "--stacks", "conv1,conf2"),
    ],
)
def test_option_has_no_meaning(cli: Cli, code: str, option: str, value: str) -> None:
    refuse_model(cli, code, option, chain(cli.folder / "net.onnx"), "", f"{option}={value}")


@pytest.mark.parametrize("given", [["--bind", "n=1", "--bind", "n=2"], ["--input-shape", "1", "--input-shape", "2"]])
def test_option_is_given_twice(cli: Cli, given: list[str]) -> None:
    refuse_model(cli, "CLI007", given[0], chain(cli.folder / "net.onnx"), "once", *given)


def test_text_needs_a_name(cli: Cli) -> None:
    assert_refused(cli, "CLI008", "dfc hw", "hw", "--text")


# -- schedules that are read back


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("CLI020", "not json"),
        ("CLI020", "[]"),
        ("CLI020", "[" * 100_000),
        ("CLI020", '{"schema": "dfc.schedule/3"}'),
        ("CLI021", '{"schema": "dfc.schedule/99"}'),
    ],
)
def test_schedule_is_damaged(cli: Cli, code: str, text: str) -> None:
    (cli.folder / "schedule.json").write_text(text, encoding="utf-8")
    result = cli("report", "schedule.json")
    assert result.code == 1
    assert f"error[{code}]" in result.err and "schedule.json" in result.err
    assert "Traceback" not in result.err


def test_a_loop_nest_is_no_schedule(cli: Cli) -> None:
    nest = Path(__file__).parents[1] / "examples" / "nests" / "conv3x3.json"
    result = cli("report", nest)
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines() == [
        "error[CLI020]: this file is a loop nest, not a schedule",
        f"  --> {nest}",
        "  = help: dfc explain and dfc simulate read it",
    ]
    later = cli.folder / "later.json"
    later.write_text(nest.read_text(encoding="utf-8").replace("dfc.nest/1", "dfc.nest/9"), encoding="utf-8")
    for command in ("explain", "simulate"):
        result = cli(command, later)
        assert result.err.startswith(
            "error[CLI021]: the loop nest has schema 'dfc.nest/9', this dfc reads 'dfc.nest/1'"
        )
        assert "compile" not in result.err


def test_schedule_cannot_be_read(cli: Cli) -> None:
    (cli.folder / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.json", "binary", "."):
        assert "error[CLI022]" in cli("report", name).err


def test_names_cannot_command_the_terminal(cli: Cli) -> None:
    model = chain(cli.folder / "net.onnx")
    loaded = onnx.load(str(model))
    loaded.graph.name = "evil\x1b[2J"
    loaded.graph.node[0].name = "conv\x1b]0;title\x07"
    onnx.save(loaded, str(model))
    done = cli("compile", model, "--hw", HW, "--tile", "8x8")
    assert done.code == 0
    refused = cli("compile", model, "--hw", HW, "--stacks", "conv")
    assert refused.code == 1
    for text in (done.out, done.err, refused.err):
        assert "\x1b" not in text and "\x07" not in text
