"""The causal transform of single operators, and of the names around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from causal_proof import prove_exact, timed
from onnx import TensorProto, helper, numpy_helper

from dfc.errors import DfcError
from dfc.passes.causal_plan import CausalOptions

Constants = dict[str, Any]


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


@pytest.mark.parametrize("axis", ["x:", ":", "T:", "4", "-5", "0x1"])
def test_no_such_axis(axis: str) -> None:
    built = behind_a_convolution([helper.make_node("Relu", ["c"], ["y"])], {})
    with pytest.raises(DfcError, match="CLI100"):
        timed(built, axis)
