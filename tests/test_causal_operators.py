"""The causal transform of single operators: what may not be kept is a barrier with its reason, never other numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from causal_proof import prove_exact, session, timed
from onnx import TensorProto, helper, numpy_helper

from dfc.causal import streaming
from dfc.causal_text import barriers, render_causal
from dfc.errors import DfcError
from dfc.passes.causal_plan import CausalOptions

Constants = dict[str, Any]
REQUESTS = [CausalOptions(), CausalOptions(hop=2, windows=3, polyphase=True)]


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def model(
    nodes: list[onnx.NodeProto],
    constants: Constants,
    shape: tuple[int, ...],
    outs: tuple[str, ...] = ("y",),
    opset: int = 17,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "operators",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name=name) for name in outs],
        [numpy_helper.from_array(np.asarray(data), name) for name, data in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def behind_a_convolution(
    nodes: list[onnx.NodeProto], constants: Constants, outs: tuple[str, ...] = ("y",), opset: int = 17
) -> onnx.ModelProto:
    """``c`` has 4 channels, 20 frames and 6 bands, and padding in time."""
    first = helper.make_node("Conv", ["x", "w"], ["c"], name="first", pads=[1, 0, 1, 0])
    return model([first, *nodes], {"w": floats(4, 4, 3, 1), **constants}, (2, 4, 20, 6), outs, opset)


@dataclass(frozen=True)
class Case:
    """One operator behind a convolution (or on the input, of the shape given), and why it is a barrier; "" if kept."""

    op: str
    reason: str = ""
    constants: Constants = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    axis: str = "H"
    opset: int = 17
    outs: int = 1
    left_out: tuple[int, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)

    def model(self) -> onnx.ModelProto:
        names = ["x" if self.shape else "c", *self.constants]
        for place in self.left_out:
            names.insert(place, "")
        outs = ["y", "y1", "y2"][: self.outs]
        nodes = [helper.make_node(self.op, names, outs, name="it", **self.attributes)]
        if self.shape:
            return model(nodes, self.constants, self.shape, opset=self.opset)
        return behind_a_convolution(nodes, self.constants, opset=self.opset)


ONE_EACH: Constants = {name: np.abs(floats(4)) for name in ("scale", "bias", "mean", "var")}
VARIES = "from position to position"
CASES = [
    Case("InstanceNormalization", "channels' axis", {"s": floats(9), "b": floats(9)}, (1, 9, 4, 3), "1"),
    Case("BatchNormalization", "", ONE_EACH),
    Case("BatchNormalization", "normalises over time", ONE_EACH, outs=3, attributes={"training_mode": 1}),
    Case("LayerNormalization", "", {"s": floats(6)}),
    Case("LayerNormalization", VARIES, {"s": floats(20, 6)}),
    Case("LayerNormalization", VARIES, {"s": floats(6), "b": floats(1, 20, 1)}),
    Case("RMSNormalization", VARIES, {"s": floats(20, 6)}, opset=23),
    Case("MeanVarianceNormalization", "", attributes={"axes": [1, -1]}),
    Case("QuantizeLinear", "", {"s": np.abs(floats(4))}, opset=21, attributes={"axis": -3}),
    Case("QuantizeLinear", VARIES, {"s": np.abs(floats(2, 2, 20, 6))}, opset=21,
         attributes={"axis": 1, "block_size": 2}),
    Case("QuantizeLinear", VARIES, {"s": np.abs(floats(2, 4, 1, 6))}, opset=21,
         attributes={"axis": 2, "block_size": 20}),
    Case("ConvTranspose", "", {"v": floats(4, 3, 1, 2)}, attributes={"strides": [1, 2]}),
    Case("ConvTranspose", "size is fixed", {"v": floats(4, 3, 1, 2)},
         attributes={"strides": [1, 2], "output_shape": [20, 12]}),
    Case("ConvTranspose", "new positions", {"v": floats(4, 3, 1, 2)}, (1, 4, 1, 6), attributes={"strides": [2, 1]}),
    Case("Resize", "", {"scales": np.array([1, 1, 1, 2], np.float32)}, left_out=(1,)),
    Case("Resize", "cuts out a part", {"roi": np.array([0, 0, 0.2, 0, 1, 1, 0.8, 1], np.float32),
                                       "scales": np.array([1, 1, 1, 2], np.float32)},
         attributes={"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}),
    Case("Dropout", "", {"ratio": np.float32(0.5), "training": np.array(False)}),
    Case("Dropout", "at random", {"ratio": np.float32(0), "training": np.array(True)}),
    Case("AveragePool", "", opset=22, attributes={"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 2, 1],
                                                  "dilations": [2, 1], "ceil_mode": 1, "count_include_pad": 1}),
    Case("LpPool", "", opset=18, attributes={"kernel_shape": [3, 2], "strides": [2, 1], "pads": [2, 0, 1, 0]}),
    Case("MaxPool", "", attributes={"kernel_shape": [4, 2], "strides": [3, 2], "auto_pad": "SAME_LOWER"}),
    Case("Pad", "", {"pads": np.array([2, 1]), "value": np.float32(0), "axes": np.array([-2])}, opset=18,
         attributes={"mode": "reflect"}),
    Case("Slice", "", {"starts": np.array([-1, 2]), "ends": np.array([-100, 18]), "axes": np.array([1, -2]),
                       "steps": np.array([-1, 3])}),
    Case("ArgMax", "", attributes={"axis": -3, "keepdims": 0}),
    Case("CumSum", "not known to keep time apart", {"axis": np.int64(2)}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.op}-{case.reason or 'kept'}")
def test_an_operator(case: Case) -> None:
    for options in REQUESTS:
        plan = prove_exact(case.model(), case.axis, options, valid=1).step.plan
        reasons = list(barriers(plan))
        assert [case.reason in reason for reason in reasons] == ([True] if case.reason else [])
        assert plan.tensors.get("y") is None if case.reason else plan.tensors["y"].streams


def test_rows_with_scales_of_their_own() -> None:
    """The standard has one scale per row of a product, which may be time; ONNX Runtime runs one for all alone."""
    constants = {
        "xs": np.float32(0.1), "xz": np.uint8(128), "as": np.ones(20, np.float32), "az": np.full(20, 128, np.uint8),
        "b": np.ones((4, 3), np.uint8), "bs": np.float32(1), "bz": np.uint8(0), "ys": np.float32(9),
        "yz": np.uint8(100),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"], name="q"),
        helper.make_node("QLinearMatMul", ["q", *list(constants)[2:]], ["y"], name="product"),
    ]
    plan = streaming(timed(model(nodes, constants, (20, 4)), "0"), CausalOptions()).step.plan
    assert list(barriers(plan)) == [
        "QLinearMatMul 'product': its scales differ from position to position of the window"
    ]


def test_an_operator_that_reads_frames_of_its_own_rate() -> None:
    """CastLike takes the type alone of its second input, which may run along time elsewhere."""
    nodes = [
        helper.make_node("Transpose", ["c"], ["turned"], perm=[0, 2, 1, 3]),
        helper.make_node("CastLike", ["c", "turned"], ["y"]),
    ]
    prove_exact(behind_a_convolution(nodes, {}), "H", CausalOptions(hop=2))


@pytest.mark.parametrize("name", ["c.new", "c.start", "x.past", "x.kept.cut", "y.window0", "dfc.indices.0", "y.frames"])
def test_names_that_the_model_has_already(name: str) -> None:
    """Whatever a step adds has a name of its own: constants of the model are never taken for it."""
    nodes = [helper.make_node("Mul", ["c", name], ["d"]), helper.make_node("GlobalAveragePool", ["d"], ["y"])]
    prove_exact(behind_a_convolution(nodes, {name: floats(4, 1, 1)}), "H", CausalOptions(hop=2, windows=2))


@pytest.mark.parametrize("reads", ["x", "c", "m"])
def test_bodies_read_their_window(reads: str) -> None:
    """What a body reads from around it is that of its window, also where a body within it reads it."""

    def body(op: str, inner: onnx.NodeProto | None = None) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"{op}_out", TensorProto.FLOAT, None)
        return helper.make_graph([inner or helper.make_node(op, [reads], [out.name])], op, [], [out])

    twice = helper.make_node("If", ["second"], ["Outer_out"], then_branch=body("Exp"), else_branch=body("Neg"))
    nodes = [
        helper.make_node("ReduceMax", ["c"], ["m"], name="max"),
        helper.make_node("ReduceMax", ["c"], ["scalar"], name="scalar", keepdims=0),
        helper.make_node("Greater", ["scalar", "low"], ["first"], name="first_if"),
        helper.make_node("Greater", ["scalar", "high"], ["second"], name="second_if"),
        helper.make_node("If", ["first"], ["y"], name="if", then_branch=body("Outer", twice), else_branch=body("Abs")),
    ]
    built = behind_a_convolution(nodes, {"low": np.float32(3), "high": np.float32(3.5)})
    shape = {"x": [2, 4, 20, 6], "c": [2, 4, 20, 6], "m": [1, 1, 1, 1]}[reads]
    built.graph.value_info.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, shape))
    for options in (CausalOptions(), CausalOptions(hop=3, windows=2), CausalOptions(hop=30)):
        prove_exact(built, "H", options)


def test_outputs_that_are_left_out_are_named() -> None:
    built = behind_a_convolution([helper.make_node("Relu", ["c"], ["y"])], {}, outs=("y", "w", "x"))
    said = render_causal(streaming(timed(built, "H"), CausalOptions()))
    for name in ("w", "x"):
        assert f"output '{name}' is not computed from the inputs and is left out\n" in said


def test_models_of_other_operators_alone() -> None:
    """Cuts and joins need ONNX's own operator set, which such a model does not name."""
    domain = "com.microsoft"
    nodes = [helper.make_node("QuickGelu", ["x"], ["y"], domain=domain)]
    built = model(nodes, {}, (1, 2, 9))
    del built.opset_import[:]
    built.opset_import.append(helper.make_opsetid(domain, 1))
    form = streaming(timed(built, "T"), CausalOptions(hop=2))
    session(onnx.load_from_string(form.model()))


def test_too_large_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    class Large:
        def SerializeToString(self, **_: object) -> bytes:  # noqa: N802
            raise ValueError("Failed to serialize proto")

    form = streaming(timed(behind_a_convolution([helper.make_node("Relu", ["c"], ["y"])], {}), "H"), CausalOptions())
    monkeypatch.setattr("dfc.frontend.stream_model.helper.make_model", lambda *_, **__: Large())
    monkeypatch.setattr("dfc.frontend.stream_model.helper.set_model_props", lambda *_: None)
    with pytest.raises(DfcError, match="CLI104"):
        form.model()


@pytest.mark.parametrize("axis", ["x:", ":", "T:", "4", "-5", "0x1"])
def test_no_such_axis(axis: str) -> None:
    built = behind_a_convolution([helper.make_node("Relu", ["c"], ["y"])], {})
    with pytest.raises(DfcError, match="CLI100"):
        timed(built, axis)
