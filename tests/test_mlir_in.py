"""Networks in MLIR: what torch-mlir's passes (IREE ships them) lower an ONNX model to gives that model's graph."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_helpers import Cli
from example_models import build
from iree_helpers import SCRIPTS
from onnx import helper, numpy_helper
from onnx_helpers import feeds_for, model_of, rand, session

import dfc
from dfc.errors import DfcError, MlirError
from dfc.frontend import raise_linalg
from dfc.ir import Layer
from dfc.mlir.function_text import read_function
from dfc.pipeline import import_graph

LOWERING = ("--torch-onnx-to-torch-backend-pipeline", "--torch-backend-to-linalg-on-tensors-backend-pipeline")


def classifier() -> onnx.ModelProto:
    """Strides, groups, pools, a join, activations of several kinds, a classifier."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], strides=[2, 2], pads=[1, 0, 1, 2]),
        helper.make_node("LeakyRelu", ["a"], ["b"], alpha=0.25),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "w2"], ["d"], group=2, pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["d"], ["e"]),
        helper.make_node("Concat", ["c", "e"], ["f"], axis=1),
        helper.make_node("Clip", ["f", "low", "high"], ["g"]),
        helper.make_node("GlobalAveragePool", ["g"], ["h"]),
        helper.make_node("Flatten", ["h"], ["i"]),
        helper.make_node("Gemm", ["i", "w3", "b3"], ["y"], transB=1),
    ]
    weights = {
        "w1": rand(8, 3, 3, 3, seed=1), "b1": rand(8, seed=2), "w2": rand(6, 4, 3, 3, seed=3),
        "w3": rand(5, 14, seed=4), "b3": rand(5, seed=5),
        "low": np.array(0, np.float32), "high": np.array(6, np.float32),
    }  # fmt: skip
    return model_of(nodes, {"x": (1, 3, 20, 26)}, ["y"], weights)


MODELS = {
    "classifier": classifier,
    "separable": lambda: build("separable_block", size=12, channels=4, out_channels=8),
    "residual": lambda: build("residual_block", size=12, channels=4),
    "fsrcnn": lambda: build("fsrcnn", width=24, height=12),
    "dilated": lambda: build("tcn_kws", frames=48),
}


def lowered(folder: Path, model: onnx.ModelProto, *more: str) -> Path:
    """The model as linalg on tensors."""
    onnx.save(onnx.shape_inference.infer_shapes(model), folder / "model.onnx")
    subprocess.run(
        [SCRIPTS / "iree-import-onnx", folder / "model.onnx", "--opset-version", "17", "-o", folder / "torch.mlir"],
        check=True,
    )
    path = folder / "lowered.mlir"
    subprocess.run([SCRIPTS / "iree-opt", *LOWERING, *more, folder / "torch.mlir", "-o", path], check=True)
    return path


def nameless(layer: Layer) -> Layer:
    """A layer without what it and its tensors are called; a product with a bias is one, however it was said."""
    inputs = tuple(replace(o, sources=tuple(replace(s, tensor="") for s in o.sources)) for o in layer.inputs)
    op = "product" if layer.op in ("gemm", "matmul") else layer.op
    return replace(layer, name="", op=op, inputs=inputs, outputs=("",), origin=())


@pytest.mark.parametrize("form", ["named", "generic"])
@pytest.mark.parametrize("name", MODELS)
def test_the_graph_is_that_of_the_onnx_model(name: str, form: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    more = ["--canonicalize"] + (["--linalg-generalize-named-ops"] if form == "generic" else [])
    path = lowered(tmp_path, model, *more)
    ours, theirs = import_graph(path), import_graph(tmp_path / "model.onnx")
    assert [nameless(layer) for layer in ours.layers] == [nameless(layer) for layer in theirs.layers]
    raised = raise_linalg(read_function(path.read_text(), str(path)))
    judge = session(model)
    feeds = feeds_for(theirs, judge)
    (want,) = judge.run(None, feeds)
    (have,) = session(raised.model).run(None, dict(zip(ours.inputs, feeds.values(), strict=True)))
    assert np.abs(np.asarray(have) - np.asarray(want)).max() <= 1e-6 * np.abs(np.asarray(want)).max()


def test_costs_are_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lowered(tmp_path, MODELS["classifier"]())
    theirs = dfc.compile(tmp_path / "model.onnx", "meta_proto_df", tile="4x4", overlap="cached")
    cli = Cli(tmp_path, capsys)
    done = cli("compile", path, "--hw", "meta_proto_df", "--tile", "4x4", "--overlap", "cached", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    ours = dfc.Schedule.from_json((tmp_path / "out" / "schedule.json").read_text())
    assert ours.totals == theirs.totals
    assert [stack.tile_classes and stack.energy_pj for stack in ours.stacks] == [
        stack.tile_classes and stack.energy_pj for stack in theirs.stacks
    ]


def test_weights_may_be_left_out(tmp_path: Path) -> None:
    path = lowered(tmp_path, MODELS["residual"](), "--canonicalize")
    text = re.sub(r'dense<"0x[0-9A-F]*">', "dense_resource<__elided__>", path.read_text())
    assert text.count("__elided__") == 2
    path.write_text(text)
    ours, theirs = import_graph(path), import_graph(tmp_path / "model.onnx")
    assert [nameless(layer) for layer in ours.layers] == [nameless(layer) for layer in theirs.layers]


#: a body, and what is said of it with the line and column of the operation
BODIES = {
    "unknown operation": (
        "%0 = tensor.from_elements %c : tensor<1xf32>", "MLIR020", "is not understood", 4
    ),
    "dynamic": ("%0 = tensor.empty(%i) : tensor<?xf32>", "MLIR020", "dynamic shape", 4),
    "no operation": ("%0 = linalg.nonsense %c", "MLIR010", "not registered", 4),
    "layout": (
        "%e = tensor.empty() : tensor<1x2x2x4xf32>\n"
        "%0 = linalg.conv_2d_nhwc_hwcf {dilations = dense<1> : vector<2xi64>,"
        " strides = dense<1> : vector<2xi64>} ins(%x, %w : tensor<1x4x4x3xf32>, tensor<3x3x3x4xf32>)"
        " outs(%e : tensor<1x2x2x4xf32>) -> tensor<1x2x2x4xf32>", "MLIR020", "is not understood", 5,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_what_is_not_understood_has_a_place(name: str, tmp_path: Path) -> None:
    body, code, message, line = BODIES[name]
    text = (
        "func.func @net(%x: tensor<1x4x4x3xf32>, %w: tensor<3x3x3x4xf32>) -> tensor<1x4x4x3xf32> {\n"
        f"%c = arith.constant 1.0 : f32\n%i = arith.constant 3 : index\n{body}\n"
        "return %x : tensor<1x4x4x3xf32>\n}\n"
    )
    (tmp_path / "net.mlir").write_text(text)
    with pytest.raises(MlirError) as caught:
        import_graph(tmp_path / "net.mlir")
    assert caught.value.code == code
    assert message in caught.value.message
    span = caught.value.span
    assert span is not None
    assert span.line == line


def test_wrong_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli = Cli(tmp_path, capsys)
    (tmp_path / "two.mlir").write_text("func.func @a() { return }\nfunc.func @b() { return }\n")
    assert "error[MLIR021]" in cli("import", tmp_path / "two.mlir").err
    assert "error[MLIR022]" in cli("import", tmp_path / "two.mlir", "--bind", "n=1").err
    assert "error[CLI022]" in cli("import", tmp_path / "none.mlir").err


def function(operands: str, result: str, *body: str) -> str:
    return f"func.func @net({operands}) -> {result} {{\n" + "\n".join(body) + f"\nreturn %y : {result}\n}}\n"


def convolution(kind: str, given: str, weights: str, made: str, axes: int, operands: str = "%a, %b") -> str:
    """A convolution without padding; ``given``, ``weights`` and ``made`` are sizes."""
    given, weights, made = (f"tensor<{sizes}xf32>" for sizes in (given, weights, made))
    steps = ", ".join(f"{name} = dense<1> : vector<{axes}xi64>" for name in ("dilations", "strides"))
    types = ", ".join([given, weights][: operands.count("%")])
    return function(
        f"%a: {given}, %b: {weights}",
        made,
        "%z = arith.constant 0.0 : f32",
        f"%i = tensor.empty() : {made}",
        f"%e = linalg.fill ins(%z : f32) outs(%i : {made}) -> {made}",
        f"%y = linalg.{kind} {{{steps}}} ins({operands} : {types}) outs(%e : {made}) -> {made}",
    )


IN_TURN = "affine_map<(a, b) -> (a, b)>"
PLANE, LINE = "conv_2d_nchw_fchw", "conv_1d_ncw_fcw"
#: a text that is no network, and what is said of it with the line
TEXTS = {
    "unfinished first word": ('"abc', "MLIR010", "before closing", 1),
    "no character of MLIR": ("\0", "MLIR010", "Unexpected character", 1),
    "nesting": ("builtin.module {" * 2000, "MLIR010", "nested too deep", 1),
    "one operand": (convolution(PLANE, "1x3x8x8", "4x3x3x3", "1x4x6x6", 2, "%a"), "MLIR010", "do not go together", 6),
    "three strides": (convolution(PLANE, "1x3x8x8", "4x3x3x3", "1x4x6x6", 3), "MLIR011", "do not go together", 5),
    "one operand of one that xDSL lacks": (
        convolution(LINE, "1x3x8", "4x3x3", "1x4x6", 1, "%a"), "MLIR020", "do not go together", 5
    ),
    "a rank too few": (convolution(LINE, "3x8", "4x3x3", "1x4x6", 1), "MLIR020", "do not go together", 5),
    "a part of what the operands give": (
        convolution(PLANE, "1x3x8x8", "4x3x3x3", "1x4x5x6", 2), "MLIR020", "where [1, 4, 6, 6] is computed", 5
    ),
    "no strides": (
        convolution(PLANE, "1x3x8x8", "4x3x3x3", "1x4x6x6", 2).replace("strides = dense<1>", "strides = dense<0>"),
        "ONNX016", "must be positive", 5,
    ),
    "an empty function": ("func.func @net(%x: f32) {\n}\n", "MLIR021", "an empty function", 1),
    "branches": ("func.func @net() {\nreturn\n^bb1:\nreturn\n}\n", "MLIR021", "2 blocks", 1),
    "an empty body": (
        function(
            "%x: tensor<2x3xf32>", "tensor<2x3xf32>",
            f"%y = linalg.generic {{indexing_maps = [{IN_TURN}, {IN_TURN}],"
            ' iterator_types = ["parallel", "parallel"]} ins(%x : tensor<2x3xf32>) outs(%x : tensor<2x3xf32>) {',
            "^bb0(%p: f32, %q: f32):\n} -> tensor<2x3xf32>",
        ), "MLIR020", "do not go together", 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_no_network_has_a_place(name: str, tmp_path: Path) -> None:
    text, code, message, line = TEXTS[name]
    (tmp_path / "net.mlir").write_text(text)
    with pytest.raises(DfcError) as caught:
        import_graph(tmp_path / "net.mlir")
    assert caught.value.code == code
    assert message in caught.value.message
    assert caught.value.span is not None
    assert caught.value.span.line == line


def test_convolutions_of_these_texts_are_read(tmp_path: Path) -> None:
    for text in (
        convolution(PLANE, "1x3x8x8", "4x3x3x3", "1x4x6x6", 2),
        convolution(LINE, "1x3x8", "4x3x3", "1x4x6", 1),
    ):
        (tmp_path / "net.mlir").write_text(text)
        assert [layer.op for layer in import_graph(tmp_path / "net.mlir").layers] == ["conv"]


@pytest.mark.parametrize("elem", ["f16", "bf16", "f32", "f64"])
def test_constants_of_every_float(elem: str) -> None:
    """Numbers of two bytes are not read as those of four."""
    kind = f"tensor<1x3x{elem}>"
    text = function(
        f"%x: {kind}",
        kind,
        f"%c = arith.constant dense<[[1.0, -2.0, 3.5]]> : {kind}",
        f"%i = tensor.empty() : {kind}",
        f"%y = linalg.generic {{indexing_maps = [{', '.join([IN_TURN] * 3)}],"
        f' iterator_types = ["parallel", "parallel"]}}'
        f" ins(%x, %c : {kind}, {kind}) outs(%i : {kind}) {{",
        f"^bb0(%p: {elem}, %q: {elem}, %r: {elem}):\n%s = arith.addf %p, %q : {elem}\nlinalg.yield %s : {elem}",
        f"}} -> {kind}",
    )
    (constant,) = raise_linalg(read_function(text, "net.mlir")).model.graph.initializer
    assert numpy_helper.to_array(constant).ravel().tolist() == [1.0, -2.0, 3.5]
