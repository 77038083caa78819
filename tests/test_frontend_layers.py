"""What the importer makes of each kind of operator: loops, operands, maps, and where it puts barriers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_helpers import assert_reads, assert_shapes, model_of, rand, single

from dfc.ir import SAME, AxisMap, Dim, Kind, Layer, Role

MAP = [1, 6, 8, 10]
B, G, K, C, OT, OY, OX = Dim.B, Dim.G, Dim.K, Dim.C, Dim.OT, Dim.OY, Dim.OX


def only(model: Any) -> Layer:
    (layer,) = assert_shapes(model).layers
    return layer


def two(op: str, left: list[int], right: list[int], **attributes: Any) -> Any:
    return model_of([helper.make_node(op, ["x", "z"], ["y"], **attributes)], {"x": left, "z": right}, ["y"])


def test_addition_of_two_maps() -> None:
    layer = only(two("Add", MAP, MAP))
    assert (layer.kind, layer.op, layer.macs, layer.barrier) == (Kind.ELTWISE, "add", 0, False)
    assert [o.role for o in layer.inputs] == [Role.I, Role.I]
    assert all(o.dims == (B, G, OT, OY, OX) and o.sources[0].maps == SAME for o in layer.inputs)
    assert layer.sizes == (1, 6, 1, 1, 1, 8, 10, 1, 1, 1)


def test_a_gate_is_not_addressed_by_positions() -> None:
    gate = only(two("Mul", MAP, [1, 6, 1, 1])).inputs[1]
    assert gate.dims == (B, G, OT)
    assert gate.sources[0].maps == (AxisMap(), AxisMap.full(1), AxisMap.full(1))


def test_a_tensor_on_both_sides_is_read_once() -> None:
    assert len(only(single("Mul", MAP, order=["x", "x"])).inputs) == 1


@pytest.mark.parametrize(
    "shape,dims,elements",
    [((), None, 0), ((6, 1, 1), (G,), 6), ((10,), (OX,), 10), ((8, 1), (OY,), 8), ((1, 1), None, 0)],
)
def test_a_constant_addend(shape: tuple[int, ...], dims: tuple[Dim, ...] | None, elements: int) -> None:
    layer = only(single("Add", MAP, weights={"c": rand(*shape)}))
    weights = [o for o in layer.inputs if o.role == Role.W]
    assert [o.dims for o in weights] == ([] if dims is None else [dims])
    assert layer.weight_elements == elements


def test_a_sum_is_a_chain_of_additions() -> None:
    nodes = [helper.make_node("Sum", ["x", "z", "u"], ["y"], name="sum")]
    graph = assert_shapes(model_of(nodes, {"x": MAP, "z": MAP, "u": MAP}, ["y"]))
    assert [layer.name for layer in graph.layers] == ["sum.partial1", "sum"]
    assert [[s.tensor for s in layer.sources] for layer in graph.layers] == [["x", "z"], ["y.partial1", "u"]]


def test_batch_norm() -> None:
    layer = only(single("BatchNormalization", MAP, weights={name: np.abs(rand(6)) for name in "sbmv"}))
    assert (layer.kind, layer.op, layer.weight_elements) == (Kind.ELTWISE, "batch_norm", 24)
    assert layer.inputs[1].dims == (G,) and not layer.barrier


@pytest.mark.parametrize(
    "op,attributes,op_name,barrier",
    [
        ("LRN", {"size": 3}, "lrn", False),
        ("Softmax", {"axis": 1}, "softmax", False),
        ("Softmax", {"axis": 3}, "softmax", True),
        ("LpNormalization", {"axis": 1}, "lp_norm", False),
        ("MeanVarianceNormalization", {}, "mean_variance_norm", True),
    ],
)
def test_what_looks_at_whole_axes_is_a_barrier(
    op: str, attributes: dict[str, Any], op_name: str, barrier: bool
) -> None:
    layer = only(single(op, MAP, **attributes))
    assert (layer.kind, layer.op, layer.barrier) == (Kind.ELTWISE, op_name, barrier)


def test_softmax_before_operator_set_13_takes_all_later_axes() -> None:
    assert only(single("Softmax", MAP, opset=11, axis=1)).barrier
    assert not only(single("Softmax", [1, 6, 1, 1], opset=11, axis=1)).barrier


def test_pools() -> None:
    layer = only(single("MaxPool", MAP, kernel_shape=[2, 3], strides=[2, 1], pads=[0, 1, 0, 1]))
    assert (layer.kind, layer.op) == (Kind.POOL, "maxpool")
    assert layer.sizes == (1, 6, 1, 1, 1, 4, 10, 1, 2, 3)
    assert [o.dims for o in layer.inputs] == [(B, G, OT, OY, OX, Dim.FT, Dim.FY, Dim.FX)]
    for model in (single("GlobalAveragePool", MAP), single("ReduceMean", MAP, opset=13, axes=[2, 3], keepdims=0)):
        whole = only(model)
        assert (whole.op, whole.sizes) == ("global_avgpool", (1, 6, 1, 1, 1, 1, 1, 1, 8, 10))
        assert whole.inputs[0].sources[0].maps == (AxisMap.full(1), AxisMap.full(8), AxisMap.full(10))
        assert not whole.barrier


def test_fully_connected_layers() -> None:
    layer = only(single("Gemm", [1, 12], weights={"w": rand(5, 12), "b": rand(5)}, transB=1))
    assert (layer.kind, layer.op, layer.macs, layer.weight_elements) == (Kind.DENSE, "gemm", 60, 65)
    assert (layer.sizes[K], layer.sizes[C], layer.sizes[OX]) == (5, 12, 1)
    assert [o.dims for o in layer.inputs] == [(B, G, C, OX), (G, K, C)] and not layer.barrier
    rows = only(single("Gemm", [4, 12], weights={"w": rand(12, 5)}))
    assert (rows.sizes[OX], rows.macs, rows.barrier) == (4, 240, True)


def test_products_of_two_feature_maps() -> None:
    layer = only(two("MatMul", [2, 4, 7, 12], [2, 4, 12, 9]))
    assert (layer.sizes[G], layer.sizes[OX], layer.sizes[C], layer.sizes[K]) == (8, 7, 12, 9)
    assert layer.macs == 8 * 7 * 12 * 9 and layer.weight_elements == 0 and layer.barrier
    assert layer.inputs[1].role == Role.W and not layer.inputs[1].constant
    shared = only(single("MatMul", [3, 7, 12], weights={"w": rand(12, 5)}))
    assert (shared.sizes[G], shared.sizes[OX], shared.macs) == (1, 21, 21 * 60)


def test_a_constant_on_the_left_takes_the_place_of_weights() -> None:
    layer = only(single("MatMul", [1, 7, 12], weights={"w": rand(5, 7)}, order=["w", "x"]))
    assert (layer.sizes[K], layer.sizes[C], layer.sizes[OX], layer.macs) == (5, 7, 12, 5 * 7 * 12)
    assert layer.inputs[1].sources[0].tensor == "w" and layer.inputs[1].constant


def test_transposed_convolution() -> None:
    """Stride 2, kernel 4: four phases of 2x2 taps; 16 times the input's elements and filters in MACs."""
    layer = only(single("ConvTranspose", [1, 3, 8, 10], weights={"w": rand(3, 5, 4, 4)}, strides=[2, 2], pads=[1] * 4))
    assert (layer.kind, layer.op, layer.phases) == (Kind.CONV, "conv_transpose", (1, 2, 2))
    assert layer.sizes == (1, 1, 20, 3, 1, 8, 10, 1, 2, 2)
    assert layer.macs == layer.operations == 8 * 10 * 3 * 5 * 16
    assert layer.inputs[0].sources[0].maps[2] == AxisMap(num=1, den=2, lo=-1, hi=1)


def test_concatenation_and_splits() -> None:
    layer = only(two("Concat", MAP, [1, 6, 3, 10], axis=2))
    assert [s.maps[1] for s in layer.inputs[0].sources] == [AxisMap(), AxisMap(lo=-8, hi=-8)]
    channels = only(two("Concat", MAP, [1, 2, 8, 10], axis=1))
    assert len(channels.inputs) == 1 and all(s.maps == SAME for s in channels.sources)
    parts = assert_shapes(
        model_of([helper.make_node("Split", ["x"], ["a", "b"], name="s", axis=2)], {"x": MAP}, ["a", "b"], opset=11)
    ).layers
    assert [p.name for p in parts] == ["s.0", "s.1"]
    assert [p.inputs[0].sources[0].maps[1] for p in parts] == [AxisMap(), AxisMap(lo=4, hi=4)]


@pytest.mark.parametrize("mode,value,op,barrier", [
    ("constant", None, "pad", False), ("constant", 0.0, "pad", False), ("constant", 1.0, "pad_value", False),
    ("reflect", None, "pad_reflect", True), ("edge", None, "pad_edge", True),
])  # fmt: skip
def test_padding(mode: str, value: float | None, op: str, barrier: bool) -> None:
    weights = {"p": np.array([0, 0, 2, 1, 0, 0, 3, 4])}
    if value is not None:
        weights["v"] = np.float32(value)
    layer = only(single("Pad", MAP, weights=weights, mode=mode))
    assert (layer.kind, layer.op, layer.barrier) == (Kind.MOVE, op, barrier)
    if not barrier:
        assert layer.inputs[0].sources[0].maps == (AxisMap(), AxisMap(lo=-2, hi=-2), AxisMap(lo=-1, hi=-1))


def test_integer_upsampling_and_depth_to_space_are_phases() -> None:
    weights = {"s": np.array([1, 1, 2, 3], np.float32)}
    up = only(single("Resize", MAP, weights=weights, order=["x", "", "s"], mode="nearest"))
    assert (up.phases, up.sizes) == ((1, 2, 3), (1, 6, 6, 1, 1, 8, 10, 1, 1, 1))
    assert up.inputs[0].dims == (B, G, OT, OY, OX)
    assert up.inputs[0].sources[0].maps[1:] == (AxisMap(num=1, den=2), AxisMap(num=1, den=3))
    deep = only(single("DepthToSpace", [1, 12, 4, 5], blocksize=2))
    assert (deep.phases, deep.sizes) == ((1, 2, 2), (1, 3, 4, 1, 1, 4, 5, 1, 1, 1))
    assert deep.inputs[0].dims == (B, G, K, OT, OY, OX)


def test_linear_upsampling_reads_two_neighbours() -> None:
    weights = {"s": np.array([1, 1, 2, 2], np.float32)}
    layer = only(
        single("Resize", MAP, weights=weights, order=["x", "", "s"], mode="linear",
               coordinate_transformation_mode="asymmetric")
    )  # fmt: skip
    assert (layer.op, layer.phases) == ("resize_linear", (1, 1, 1))
    assert layer.inputs[0].sources[0].maps[2] == AxisMap(num=1, den=2, lo=0, hi=2)


INSIDE = [(0.0, 0.0), (0.3, 0.4), (0.35, 0.3)]
TIGHT = {
    "nearest": single("Resize", MAP, weights={"s": np.array([1, 1, 2, 3], np.float32)}, order=["x", "", "s"]),
    "depth_to_space": single("DepthToSpace", [1, 12, 9, 7], blocksize=2),
    "space_to_depth": single("SpaceToDepth", [1, 3, 12, 18], blocksize=3),
    "pad": single("Pad", MAP, weights={"p": np.array([0, 0, 2, 1, 0, 0, 3, 4])}),
    "slice": single("Slice", MAP, weights={"s": np.array([1, 2]), "e": np.array([7, 10]), "a": np.array([2, 3])}),
    "concat": single("Concat", MAP, weights={"c": rand(1, 6, 2, 10)}, order=["c", "x"], axis=2),
    "relu": single("Relu", MAP),
    "linear": single(
        "Resize", MAP, weights={"s": np.array([1, 1, 0.5, 1], np.float32)}, order=["x", "", "s"], mode="linear"
    ),
}


@pytest.mark.parametrize("name", TIGHT)
def test_borders_of_what_is_claimed_matter(name: str) -> None:
    assert_reads(TIGHT[name], INSIDE, tight=True)


@pytest.mark.parametrize(
    "model,kind,barrier",
    [
        (single("Flatten", [1, 6, 1, 1]), Kind.VIEW, False),
        (single("Flatten", MAP), Kind.VIEW, True),
        (single("Identity", MAP), Kind.VIEW, False),
        (single("Transpose", [1, 6, 1, 1], perm=[0, 2, 3, 1]), Kind.VIEW, True),
        (single("Transpose", MAP, perm=[0, 2, 3, 1]), Kind.MOVE, True),
        (single("Cast", MAP, to=TensorProto.FLOAT), Kind.VIEW, False),
        (single("Cast", MAP, to=TensorProto.FLOAT16), Kind.ELTWISE, False),
    ],
)
def test_views_and_moves(model: Any, kind: Kind, barrier: bool) -> None:
    layer = only(model)
    assert (layer.kind, layer.barrier, layer.macs) == (kind, barrier, 0)


def test_operands_that_a_layer_computes_itself() -> None:
    """Weights and biases that come from other layers are feature maps on their way."""
    model = model_of(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"])],
        {"x": [1, 2, 8, 8], "w": [3, 2, 3, 3], "b": [3]},
        ["y"],
    )
    layer = only(model)
    assert [(o.role, o.constant) for o in layer.inputs] == [(Role.I, False), (Role.W, False), (Role.I, False)]
    assert layer.weight_elements == 0
    assert {s.tensor for s in layer.sources} == {"x", "w", "b"}
