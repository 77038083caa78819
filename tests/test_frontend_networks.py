"""Whole networks: the onnx package's own test networks, and the patterns that exporters write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import slow_counter
from example_models import NETWORKS, build
from onnx import TensorProto, helper, numpy_helper
from onnx_helpers import assert_reads, assert_shapes, feeds_for, model_of, rand, session, single

from dfc.frontend import import_model, import_onnx
from dfc.ir import Graph, Kind, problems

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"

#: GMACs and millions of parameters as published: torchvision's tables of model weights (VGG-19, DenseNet-121,
#: SqueezeNet 1.1), the ResNet-50 of its table with 53,120 running statistics on top of 25,557,032 parameters, and
#: the Caffe model zoo's AlexNet and GoogLeNet
PUBLISHED = {
    "vgg19": (19.63, 143.667240),
    "resnet50": (4.09, 25.610152),
    "squeezenet": (0.349, 1.235496),
    "bvlc_alexnet": (0.655, 60.965224),
    "inception_v1": (1.43, 6.998552),
    "densenet121": (2.83, None),
    "inception_v2": (2.02, None),
    "shufflenet": (None, None),
    "zfnet512": (None, None),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_light_networks(name: str) -> None:
    path = LIGHT / f"light_{name}.onnx"
    graph = import_onnx(path)
    gmacs, mega = PUBLISHED[name]
    assert gmacs is None or graph.macs / 1e9 == pytest.approx(gmacs, rel=0.005)
    assert mega is None or sum(layer.weight_elements for layer in graph.layers) == round(mega * 1e6)
    counted = slow_counter.count_macs(onnx.load(path), run=False)
    assert graph.macs == sum(counted.values())
    assert problems(graph) == [] and graph.notes == ()
    assert all(layer.kind is not Kind.OPAQUE for layer in graph.layers)
    assert len(graph.inputs) == len(graph.outputs) == 1


def test_light_shufflenet_keeps_its_stages_free_of_barriers() -> None:
    graph = import_onnx(LIGHT / "light_shufflenet.onnx")
    shuffles = [layer for layer in graph.layers if layer.op == "channel_shuffle"]
    assert len(shuffles) == 16  # one for each unit of the paper's three stages, 4 + 8 + 4
    assert not any(layer.barrier for layer in graph.layers)


def test_light_shapes_equal_onnx_runtime() -> None:
    assert_shapes(onnx.load(LIGHT / "light_squeezenet.onnx"))


def shuffle(groups: int = 2, last: tuple[int, ...] = (1, 8, 5, 6)) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Reshape", ["x", "a"], ["r"], name="split"),
        helper.make_node("Transpose", ["r"], ["t"], name="swap", perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["t", "b"], ["y"], name="join"),
    ]
    shapes = {"a": np.array([1, groups, 8 // groups, 5, 6]), "b": np.array(last)}
    return model_of(nodes, {"x": [1, 8, 5, 6]}, ["y"], shapes)


def test_a_channel_shuffle_is_one_move() -> None:
    graph = assert_shapes(shuffle())
    (layer,) = graph.layers
    assert (layer.op, layer.kind, layer.barrier) == ("channel_shuffle", Kind.MOVE, False)
    assert [origin.node for origin in layer.origin] == ["split", "swap", "join"]
    assert_reads(shuffle(), [(0.0, 0.0), (0.4, 0.3), (0.5, 0.2)])


def test_what_only_resembles_a_shuffle_is_not_one() -> None:
    assert [layer.op for layer in assert_shapes(shuffle(last=(1, 8, 6, 5))).layers] == [
        "reshape",
        "transpose",
        "reshape",
    ]


def exported_reshape() -> onnx.ModelProto:
    """Flatten and upsample as exporters write them: with shapes that are computed in the graph."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Shape", ["c"], ["s"]),
        helper.make_node("Slice", ["s", "two", "four"], ["hw"]),
        helper.make_node("Cast", ["hw"], ["hwf"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["hwf", "factor"], ["big"]),
        helper.make_node("Floor", ["big"], ["floor"]),
        helper.make_node("Cast", ["floor"], ["sizes"], to=TensorProto.INT64),
        helper.make_node("Slice", ["s", "zero", "two"], ["nc"]),
        helper.make_node("Concat", ["nc", "sizes"], ["all"], axis=0),
        helper.make_node("Resize", ["c", "", "", "all"], ["up"], name="up", mode="nearest"),
        helper.make_node("Gather", ["s", "index"], ["n"], axis=0),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["flat"], axis=0),
        helper.make_node("Reshape", ["up", "flat"], ["y"], name="flatten"),
    ]
    constants = {
        "w": rand(4, 3, 3, 3), "two": np.array([2]), "four": np.array([4]), "zero": np.array([0]),
        "factor": np.float32(2), "index": np.array(0), "axes": np.array([0]), "rest": np.array([-1]),
    }  # fmt: skip
    return model_of(nodes, {"x": ["N", 3, "H", "W"]}, ["y"], constants)


def test_shape_arithmetic_is_folded() -> None:
    graph = assert_shapes(exported_reshape(), bind={"N": 1, "H": 6, "W": 7})
    assert [layer.name for layer in graph.layers] == ["conv", "up", "flatten"]
    assert graph.tensors["up"].shape == (1, 4, 12, 14)
    assert graph.layers[1].phases == (1, 2, 2)
    assert set(graph.tensors) == {"x", "w", "c", "up", "y"}


def constant_nodes() -> list[onnx.NodeProto]:
    """Every way to write a constant, all of them part of one shape."""
    tensor = numpy_helper.from_array(np.array([2], dtype=np.int64))
    return [
        helper.make_node("Constant", [], ["three"], value_ints=[3]),
        helper.make_node("Constant", [], ["five"], value_int=5),
        helper.make_node("Constant", [], ["half"], value_float=0.5),
        helper.make_node("Constant", [], ["zeros"], value_floats=[0.0, 0.0]),
        helper.make_node("Constant", [], ["two"], value=tensor),
        helper.make_node("Range", ["five", "six", "one"], ["fives"]),
        helper.make_node("ConstantOfShape", ["none"], ["filled"], value=tensor),
        helper.make_node("Unsqueeze", ["filled", "axis"], ["twos"]),
        helper.make_node("Size", ["zeros"], ["count"]),
        helper.make_node("Unsqueeze", ["count", "axis"], ["counts"]),
        helper.make_node("Concat", ["two", "three", "fives", "twos", "counts"], ["shape"], axis=0),
        helper.make_node("Mul", ["x", "half"], ["h"]),
        helper.make_node("Reshape", ["h", "shape"], ["y"]),
    ]


def test_every_way_to_write_a_constant() -> None:
    constants = {"six": np.array(6), "one": np.array(1), "none": np.array([], dtype=np.int64), "axis": np.array([0])}
    graph = assert_shapes(model_of(constant_nodes(), {"x": [1, 120]}, ["y"], constants))
    assert graph.tensors["y"].shape == (2, 3, 5, 2, 2)
    assert [layer.op for layer in graph.layers] == ["mul", "reshape"]


def test_names_and_shapes_bind_alike() -> None:
    bound = import_model(exported_reshape(), name="m", base_dir=None, bind={"N": 1, "H": 6, "W": 7})
    for options in ({"input_shape": {None: (1, 3, 6, 7)}}, {"input_shape": {"x": (1, 3, 6, 7)}}):
        assert import_model(exported_reshape(), name="m", base_dir=None, **options) == bound
    mixed = import_model(exported_reshape(), name="m", base_dir=None, bind={"N": 1}, input_shape={"x": (1, 3, 6, 7)})
    assert mixed == bound


def test_a_shape_of_one_input_binds_the_names_of_others() -> None:
    nodes = [helper.make_node("Add", ["x", "z"], ["y"])]
    model = model_of(nodes, {"x": ["N", 3], "z": ["N", 3]}, ["y"])
    graph = import_model(model, name="m", base_dir=None, input_shape={"x": (5, 3)})
    assert graph.tensors["z"].shape == (5, 3)


def test_names_of_layers_are_unique() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="same"),
        helper.make_node("Relu", ["a"], ["b"], name="same"),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Relu", ["c"], ["y"], name="Relu_c"),
    ]
    graph = import_model(model_of(nodes, {"x": [1, 2, 3, 4]}, ["y"]), name="m", base_dir=None)
    assert [layer.name for layer in graph.layers] == ["Relu_a", "Relu_b", "Relu_c_2", "Relu_c"]
    assert [layer.origin[0].node for layer in graph.layers] == ["same", "same", "Relu_c_2", "Relu_c"]


def test_nodes_in_any_order() -> None:
    nodes = [
        helper.make_node("Relu", ["b"], ["y"], name="last"),
        helper.make_node("Add", ["x", "a"], ["b"], name="second"),
        helper.make_node("Relu", ["x"], ["a"], name="first"),
    ]
    graph = import_model(model_of(nodes, {"x": [1, 2, 3, 4]}, ["y"]), name="m", base_dir=None)
    assert [layer.name for layer in graph.layers] == ["first", "second", "last"]


def test_dead_nodes_are_dropped_with_a_note() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Exp", ["x"], ["z"], name="unused")]
    graph = assert_shapes(model_of(nodes, {"x": [1, 2, 3, 4]}, ["y"]))
    assert len(graph.layers) == 1
    assert any("unused" in note for note in graph.notes)


def test_outputs_that_are_constant_are_left_out_with_a_note() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Shape", ["x"], ["s"])]
    graph = import_model(model_of(nodes, {"x": [1, 2, 3, 4]}, ["y", "s"]), name="m", base_dir=None)
    assert graph.outputs == ("y",)
    assert any("'s'" in note for note in graph.notes)


def test_initializers_among_the_inputs_are_constants() -> None:
    model = single("Conv", [1, 2, 8, 8], weights={"w": rand(3, 2, 3, 3)})
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 2, 3, 3]))
    model.ir_version = 3
    graph = import_model(model, name="m", base_dir=None)
    assert graph.inputs == ("x",) and graph.layers[0].inputs[1].constant


def test_a_future_ir_version_does_not_matter() -> None:
    model = single("Relu", [1, 2, 8, 8])
    model.ir_version = 99
    assert len(import_model(model, name="m", base_dir=None).layers) == 1


def opaque_graph(model: onnx.ModelProto, **options: Any) -> Graph:
    graph = import_model(model, name="m", base_dir=None, **options)
    assert problems(graph) == []
    (layer,) = [layer for layer in graph.layers if layer.kind is Kind.OPAQUE]
    assert layer.barrier
    assert any(layer.name in note and "not modelled" in note for note in graph.notes)
    return graph


def test_recurrent_operators_stay_as_opaque_layers() -> None:
    weights = {"w": rand(1, 16, 5), "r": rand(1, 16, 4)}
    model = single("LSTM", [7, 2, 5], weights=weights, outputs=("y", "h"), hidden_size=4)
    graph = opaque_graph(model)
    (layer,) = graph.layers
    assert layer.outputs == ("y", "h")
    assert layer.weight_elements == 16 * 5 + 16 * 4
    results = session(model).run(None, feeds_for(graph, session(model)))
    assert [graph.tensors[name].shape for name in ("y", "h")] == [r.shape for r in results]


def test_indices_of_maxima_are_opaque() -> None:
    graph = opaque_graph(single("MaxPool", [1, 2, 8, 8], outputs=("y", "i"), kernel_shape=[2, 2], strides=[2, 2]))
    assert (graph.tensors["i"].shape, graph.tensors["i"].bits) == ((1, 2, 4, 4), 64)


def test_an_unknown_operator_needs_a_declared_shape() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Frobnicate", ["a", "w"], ["y"], domain="acme")]
    model = model_of(nodes, {"x": ["N", 3]}, ["y"], {"w": rand(3, 3)}, domains=["acme"])
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 9]))
    graph = opaque_graph(model, bind={"N": 2})
    assert graph.tensors["y"].shape == (2, 9)
    assert graph.layers[1].op == "frobnicate"
    assert graph.layers[1].weight_elements == 9


def branches() -> tuple[onnx.GraphProto, onnx.GraphProto]:
    def branch(op: str, *, weights: bool) -> onnx.GraphProto:
        names = ["x", "w"] if weights else ["x"]
        return helper.make_graph(
            [helper.make_node(op, names, [f"{op}_out"])],
            op,
            [],
            [helper.make_tensor_value_info(f"{op}_out", TensorProto.FLOAT, [1, 3, 4, 4])],
            initializer=[numpy_helper.from_array(rand(3, 1, 1), "w")] if weights else [],
        )

    return branch("Mul", weights=True), branch("Relu", weights=False)


@pytest.mark.parametrize("condition,op", [(True, "mul"), (False, "relu")])
def test_a_branch_that_is_known_is_taken(condition: bool, op: str) -> None:
    then, other = branches()
    node = helper.make_node("If", ["c"], ["b"], name="if", then_branch=then, else_branch=other)
    last = helper.make_node("Sigmoid", ["b"], ["y"])
    model = model_of([node, last], {"x": [1, 3, 4, 4]}, ["y"], {"c": np.array(condition)})
    graph = assert_shapes(model)
    assert [layer.op for layer in graph.layers] == [op, "identity", "sigmoid"]


def test_a_branch_that_is_not_known_is_opaque() -> None:
    then, other = branches()
    node = helper.make_node("If", ["c"], ["y"], name="if", then_branch=then, else_branch=other)
    model = model_of([node], {"x": [1, 3, 4, 4]}, ["y"])
    model.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    graph = opaque_graph(model)
    assert {s.tensor for s in graph.layers[0].sources} == {"c", "x"}


def test_local_functions_are_inlined() -> None:
    body = [helper.make_node("Conv", ["a", "b"], ["t"]), helper.make_node("Relu", ["t"], ["o"])]
    function = helper.make_function("acme", "Block", ["a", "b"], ["o"], body, [helper.make_opsetid("", 17)])
    nodes = [helper.make_node("Block", ["x", "w"], ["y"], domain="acme")]
    model = model_of(nodes, {"x": [1, 2, 8, 8]}, ["y"], {"w": rand(3, 2, 3, 3)}, domains=["acme"])
    model.functions.append(function)
    assert [layer.op for layer in assert_shapes(model).layers] == ["conv", "relu"]


def test_quantised_networks() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        helper.make_node("QLinearConv", ["q", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("DequantizeLinear", ["c", "ys", "yz"], ["f"]),
        helper.make_node("DequantizeLinear", ["w2", "ws", "wz"], ["w2f"]),
        helper.make_node("Conv", ["f", "w2f"], ["y"]),
    ]
    constants = {
        "xs": np.float32(0.1), "xz": np.uint8(3), "ws": np.float32(0.2), "wz": np.int8(0), "ys": np.float32(0.3),
        "yz": np.uint8(5), "w": np.ones((4, 3, 3, 3), np.int8), "b": np.ones(4, np.int32),
        "w2": np.ones((5, 4, 1, 1), np.int8),
    }  # fmt: skip
    graph = assert_shapes(model_of(nodes, {"x": [1, 3, 8, 8]}, ["y"], constants))
    assert [layer.op for layer in graph.layers] == ["quantize", "conv", "dequantize", "conv"]
    assert [graph.tensors[t].bits for t in ("x", "q", "c", "f", "w2f")] == [32, 8, 8, 32, 8]
    assert [layer.macs for layer in graph.layers] == [0, 4 * 64 * 27, 0, 5 * 64 * 4]


def test_external_data_is_read_only_where_shapes_need_it(tmp_path: Path) -> None:
    model = single("Conv", [1, 3, 8, 8], weights={"w": rand(40, 3, 9, 9), "b": rand(40)}, pads=[4] * 4)
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert import_onnx(path).macs == 40 * 64 * 3 * 81
    reshape = single("Reshape", [1, 3, 8, 8], weights={"s": np.array([1, -1], dtype=np.int64)})
    onnx.save(reshape, path, save_as_external_data=True, location="shape.bin", size_threshold=0)
    assert import_onnx(path).tensors["y"].shape == (1, 192)


def test_large_constants_stay_unread() -> None:
    """A weight of a hundred million numbers that is made in the graph takes neither time nor memory."""
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["w"]),
        helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "wt"], ["y"]),
    ]
    model = model_of(nodes, {"x": [1, 10000]}, ["y"], {"s": np.array([10000, 10000])})
    (layer,) = import_model(model, name="m", base_dir=None).layers
    assert (layer.macs, layer.weight_elements) == (10**8, 10**8)


@pytest.mark.parametrize("name", NETWORKS)
def test_example_networks(name: str) -> None:
    model = build(name)
    graph = import_model(model, name=name, base_dir=None)
    assert graph.macs == sum(slow_counter.count_macs(model, run=False).values())
    assert problems(graph) == [] and graph.notes == ()


#: operators of ONNX Runtime's own domain: inputs of the node, feature maps, attributes, and what becomes of it
CONTRIBUTED = {
    "QLinearAdd": (["x", "s", "z", "x2", "s", "z", "s", "z"], {"x": [1, 3, 4, 4], "x2": [1, 3, 1, 1]}, {}, "add"),
    "QLinearMul": (["x", "s", "z", "x2", "s", "z", "s", "z"], {"x": [1, 3, 4, 4], "x2": [1, 3, 4, 4]}, {}, "mul"),
    "QLinearGlobalAveragePool": (["x", "s", "z", "s", "z"], {"x": [1, 3, 4, 4]}, {}, "global_avgpool"),
    "QLinearAveragePool": (["x", "s", "z", "s", "z"], {"x": [1, 3, 4, 4]}, {"kernel_shape": [2, 2]}, "avgpool"),
    "QLinearConcat": (
        ["s", "z", "x", "s", "z", "x2", "s", "z"], {"x": [1, 3, 4, 4], "x2": [1, 2, 4, 4]}, {"axis": 1}, "concat",
    ),
    "QLinearLeakyRelu": (["x", "s", "z", "s", "z"], {"x": [1, 3, 4, 4]}, {"alpha": 0.1}, "leaky_relu"),
    "QLinearSigmoid": (["x", "s", "z", "s", "z"], {"x": [1, 3, 4, 4]}, {}, "sigmoid"),
    "FusedConv": (["x", "w"], {"x": [1, 3, 4, 4]}, {"activation": "Relu", "pads": [1, 1, 1, 1]}, "conv"),
    "FusedMatMul": (["x", "x2"], {"x": [2, 3, 4], "x2": [2, 7, 4]}, {"transB": 1}, "matmul"),
    "BiasGelu": (["x", "b"], {"x": [1, 3, 4]}, {}, "gelu"),
}  # fmt: skip


@pytest.mark.parametrize("op", CONTRIBUTED)
def test_operators_of_onnx_runtime(op: str) -> None:
    names, inputs, attributes, ours = CONTRIBUTED[op]
    elem = TensorProto.UINT8 if op.startswith("QLinear") else TensorProto.FLOAT
    constants = {"s": np.float32(0.1), "z": np.uint8(3), "w": rand(5, 3, 3, 3), "b": rand(4)}
    node = helper.make_node(op, names, ["y"], domain="com.microsoft", **attributes)
    used = {key: value for key, value in constants.items() if key in names}
    model = model_of([node], inputs, ["y"], used, domains=["com.microsoft"], elem=elem)
    graph = import_model(model, name=op, base_dir=None)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", elem, None))
    sess = session(model)
    (result,) = sess.run(None, feeds_for(graph, sess))
    assert [layer.op for layer in graph.layers] == [ours] and graph.notes == ()
    assert graph.tensors["y"].shape == result.shape
    assert graph.tensors["y"].bits == 8 * result.itemsize
    assert problems(graph) == []
