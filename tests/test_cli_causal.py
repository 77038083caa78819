"""``dfc causal``: what it prints and writes, models of old and new operator sets, and mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from causal_proof import prove_exact, timed
from cli_helpers import Cli
from example_models import build
from onnx import TensorProto, helper, numpy_helper

from dfc.errors import UsageError
from dfc.passes.causal_plan import CausalOptions

ROOT = Path(__file__).parent.parent


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    return Cli(tmp_path, capsys)


def small(opset: int = 17, pooled: bool = True, names: tuple[str | int, ...] = (1, 2, "time", 6)) -> onnx.ModelProto:
    """Two strided convolutions over 21 frames of 6 bands, cut to some frames, and a mean of all."""
    rng = np.random.default_rng(2)
    weights = {"w1": (3, 2, 3, 2), "w2": (4, 3, 2, 2)}
    constants = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in weights.items()]
    cut = {"starts": [1], "ends": [100], "axes": [2]}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="first", strides=[2, 1], auto_pad="SAME_UPPER"),
        helper.make_node("Conv", ["a", "w2"], ["b"], name="second", pads=[1, 0, 0, 0]),
    ]
    if opset < 10:
        nodes.append(helper.make_node("Slice", ["b"], ["c"], name="cut", **cut))
    else:
        constants += [numpy_helper.from_array(np.array(v, np.int64), n) for n, v in cut.items()]
        nodes.append(helper.make_node("Slice", ["b", *cut], ["c"], name="cut"))
    nodes.append(helper.make_node("GlobalAveragePool" if pooled else "Relu", ["c"], ["y"], name="last"))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, names)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("opset", [9, 11, 17, 18, 21])
@pytest.mark.parametrize("pooled", [False, True])
def test_operator_sets(opset: int, pooled: bool) -> None:
    """Slices by attributes, reductions by inputs; the streaming form stays in the model's operator set."""
    prove_exact(small(opset, pooled, (1, 2, 21, 6)), "H", CausalOptions(hop=3, windows=2))


def test_report_and_model(cli: Cli) -> None:
    onnx.save(small(), "net.onnx")
    result = cli("causal", "net.onnx", "--time-axis", "time", "--bind", "time=21", "--hop", "2", "-o", "stream.onnx")
    assert (result.code, result.err) == (0, "wrote stream.onnx\n")
    assert "net: a window of 21 frames, axis 2 of 'x'" in result.out
    assert "2 frames in, 1 window out; hop 2, dense form, exact padding" in result.out
    assert "barrier     GlobalAveragePool 'last': reduces over time, as a running window of 10 positions" in result.out
    assert "note" not in result.out
    model = onnx.load("stream.onnx")
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about["dfc.causal.hop_frames"] == about["dfc.causal.frames_per_step"] == "2"
    run = ort.InferenceSession("stream.onnx", providers=["CPUExecutionProvider"])
    assert next(i.name for i in run.get_inputs()) == "x"
    assert run.get_inputs()[0].shape == [1, 2, 2, 6]
    stream = cli("causal", "net.onnx", "--time-axis", "2", "--bind", "time=21", "--causal-padding", "stream").out
    assert "1 frame of look-ahead, beyond the last of the window" in stream
    assert "note        the padding in time of first, second is left away" in stream


def test_weights_in_other_files(cli: Cli) -> None:
    onnx.save(build("tcn_kws"), "whole.onnx")
    onnx.save(
        onnx.load("whole.onnx"), "apart.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    for name in ("whole", "apart"):
        assert cli("causal", f"{name}.onnx", "-o", f"{name}.stream.onnx").code == 0
    whole, apart = (onnx.load(f"{name}.stream.onnx", load_external_data=False) for name in ("whole", "apart"))
    assert [t.raw_data for t in whole.graph.initializer] == [t.raw_data for t in apart.graph.initializer]


def test_picture_and_numbers(cli: Cli) -> None:
    onnx.save(build("cnn3d"), "clip.onnx")
    assert cli("figure", "causal", "clip.onnx", "--hop", "2", "-o", "figures", "-q").code == 0
    rows = json.loads(Path("figures/causal.json").read_text())["rows"]
    found = {r["layer"]: (r["positions_in_window"], r["computed_per_window"], r["new_per_step"]) for r in rows}
    # kernels of 3 with a frame of padding at each end touch one more position at each end and layer
    assert found["input"] == (16, 0, 2)
    assert [found[name] for name in ("time", "volume1", "volume2")] == [(16, 2, 2), (16, 4, 2), (8, 3, 1)]
    assert Path("figures/causal.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_s_program_runs(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(build("stft_cnn_025"), "net.onnx")
    assert cli("causal", "net.onnx", "-o", "streaming.onnx", "--time-axis", "H").code == 0
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "causal.md").read_text(), re.S)
    exec(compile(program, "causal.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) >= 200 - 75


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--time-axis", "T"], "CLI100", "its axes are 0 (1), 1 (2), 2 (H), 3 (W)"),
        (["--time-axis", "4"], "CLI100", "no time axis '4'"),
        (["--time-axis", "sound:H"], "CLI100", "no input 'sound'"),
        (["--time-axis", "H", "--hop", "0"], "CLI101", "a hop of 0 frames"),
        (["--time-axis", "H", "--hop", "2", "--frames-per-step", "3"], "CLI101", "a multiple of the hop, 2"),
        (["--time-axis", "H", "--causal-padding", "zero"], "CLI103", "one of exact, stream"),
        (["--time-axis", "H", "--form", "sparse"], "CLI103", "one of dense, polyphase"),
    ],
)
def test_mistakes(cli: Cli, options: list[str], code: str, says: str) -> None:
    onnx.save(small(names=(1, 2, 21, 6)), "net.onnx")
    result = cli("causal", "net.onnx", "-o", "stream.onnx", *options)
    assert result.code == 1
    assert result.err.startswith(f"error[{code}]")
    assert says in result.err
    assert not Path("stream.onnx").exists()


def test_other_inputs_are_read_once_for_every_window() -> None:
    nodes = [helper.make_node("Mul", ["x", "gain"], ["y"], name="gain")]
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 2, 9]), ("gain", [1]))]
    graph = helper.make_graph(nodes, "g", infos, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    from dfc.causal import streaming

    assert streaming(timed(model, "x:T"), CausalOptions()).step.plan.tensors["y"].left == 9
    with pytest.raises(UsageError, match="CLI102"):
        streaming(timed(model, "T"), CausalOptions(windows=2))
