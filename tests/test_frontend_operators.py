"""Every modelled operator against ONNX Runtime: shapes of its outputs, and that its maps claim all that it reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_helpers import assert_reads, assert_shapes, model_of, rand, single

from dfc.frontend import import_model
from dfc.ir import Kind

MAP = [1, 6, 8, 10]
I64 = np.int64


def ints(*values: int) -> Any:
    return np.array(values, dtype=I64)


def node(op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, **attributes)


def both(op: str, left: list[int], right: list[int], **attributes: Any) -> onnx.ModelProto:
    return model_of([node(op, ["x", "z"], ["y"], **attributes)], {"x": left, "z": right}, ["y"])


def zoo() -> Iterator[tuple[str, onnx.ModelProto]]:
    yield from eltwise_models()
    yield from norm_models()
    yield from move_models()
    yield from view_models()
    yield from reduce_models()
    yield from resize_models()
    yield from matmul_models()


UNARY = """Relu LeakyRelu Sigmoid HardSigmoid HardSwish Tanh Erf Exp Abs Neg Softplus Elu Selu Celu Floor Ceil Round
Sign Reciprocal Softsign Sin Mish"""


def eltwise_models() -> Iterator[tuple[str, onnx.ModelProto]]:
    for op in UNARY.split():
        yield op, single(op, MAP, opset=18)
    yield "Gelu", single("Gelu", MAP, opset=20)
    yield "Clip6", single("Clip", MAP, opset=7, min=0.0, max=6.0)
    yield "Clip", single("Clip", MAP, weights={"lo": np.float32(0), "hi": np.float32(6)})
    yield "Clip-max", single("Clip", MAP, weights={"hi": np.float32(6)}, order=["x", "", "hi"])
    yield "PRelu", single("PRelu", MAP, weights={"s": rand(6, 1, 1)})
    for op in ("Add", "Sub", "Mul", "Div"):
        yield op, both(op, MAP, MAP)
        yield f"{op}-scalar", single(op, MAP, weights={"c": np.float32(3)})
        yield f"{op}-channel", single(op, MAP, weights={"c": rand(6, 1, 1)})
        yield f"{op}-row", single(op, MAP, weights={"c": rand(10)})
        yield f"{op}-whole", single(op, MAP, weights={"c": rand(1, 6, 8, 10)})
        yield f"{op}-gate", both(op, MAP, [1, 6, 1, 1])
        yield f"{op}-line", both(op, MAP, [1, 1, 1, 10])
        yield f"{op}-matrix", both(op, MAP, [8, 10])
        yield f"{op}-rank3", both(op, [6, 8, 1], MAP)
        yield f"{op}-self", single(op, MAP, order=["x", "x"])
    three = [node("Sum", ["x", "c", "z", "x"], ["y"])]
    yield "Sum", model_of(three, {"x": MAP, "z": MAP}, ["y"], {"c": rand(6, 1, 1)})
    yield "Max", model_of([node("Max", ["x", "z"], ["y"])], {"x": MAP, "z": MAP}, ["y"])
    yield "Mean-1", single("Mean", MAP)
    yield (
        "Where",
        model_of(
            [node("Greater", ["x", "z"], ["g"]), node("Where", ["g", "x", "z"], ["y"])], {"x": MAP, "z": MAP}, ["y"]
        ),
    )
    yield "Cast", single("Cast", MAP, to=TensorProto.FLOAT16)
    yield "Cast-int", single("Cast", MAP, to=TensorProto.INT8)
    yield "rank6", single("Add", [1, 2, 3, 2, 4, 5], weights={"c": rand(3, 1, 1, 5)})
    yield "vector", both("Add", [7], [7])


def norm_models() -> Iterator[tuple[str, onnx.ModelProto]]:
    stats = {name: np.abs(rand(6, seed=i)) for i, name in enumerate("sbmv")}
    yield "BatchNormalization", single("BatchNormalization", MAP, weights=stats)
    yield "LRN", single("LRN", MAP, size=3)
    yield "InstanceNormalization", single("InstanceNormalization", MAP, weights={"s": rand(6), "b": rand(6)})
    yield (
        "GroupNormalization",
        single("GroupNormalization", MAP, weights={"s": rand(6), "b": rand(6)}, opset=21, num_groups=2),
    )
    yield "LayerNormalization", single("LayerNormalization", [1, 7, 12], weights={"s": rand(12), "b": rand(12)})
    yield "LayerNormalization-2", single("LayerNormalization", MAP, weights={"s": rand(8, 10)}, axis=2)
    yield "MeanVariance", single("MeanVarianceNormalization", MAP)
    yield "LpNormalization", single("LpNormalization", MAP, axis=1)
    for opset in (11, 13):
        for axis in (1, 2, 3):
            yield f"Softmax-{opset}-{axis}", single("Softmax", MAP, opset=opset, axis=axis)
    yield "Softmax-classes", single("Softmax", [1, 10, 1, 1], opset=11)


def move_models() -> Iterator[tuple[str, onnx.ModelProto]]:
    for axis, other in ((1, [1, 2, 8, 10]), (2, [1, 6, 3, 10]), (3, [1, 6, 8, 4]), (-1, [1, 6, 8, 1])):
        yield f"Concat{axis}", both("Concat", MAP, other, axis=axis)
    yield "Concat-constant", single("Concat", MAP, weights={"c": rand(1, 6, 8, 2)}, axis=3)
    yield "Concat-twice", single("Concat", MAP, order=["x", "x"], axis=2)
    yield "Split", single("Split", MAP, weights={"s": ints(3, 5)}, outputs=("a", "y"), axis=2)
    yield "Split-11", single("Split", MAP, opset=11, outputs=("y", "b"), axis=1, split=[2, 4])
    yield "Split-even", single("Split", MAP, opset=11, outputs=("y", "b"), axis=3)
    yield "Split-uneven", single("Split", MAP, opset=18, outputs=("a", "b", "y"), axis=3, num_outputs=3)
    for name, rule in {
        "plain": ([1, 2], [7, 9], [2, 3], [1, 1]),
        "steps": ([1, 0], [7, 10], [2, 3], [2, 3]),
        "negative": ([-5, -9], [-1, 1000], [-2, -1], [1, 2]),
        "channels": ([1], [5], [1], [2]),
        "backwards": ([7], [-1000], [2], [-1]),
        "backwards-part": ([6], [1], [3], [-2]),
    }.items():
        weights = {key: ints(*values) for key, values in zip(("s", "e", "a", "t"), rule, strict=True)}
        yield f"Slice-{name}", single("Slice", MAP, weights=weights)
    yield "Slice-9", single("Slice", MAP, opset=9, starts=[1, 2], ends=[5, 100], axes=[1, 3])
    pads = ints(0, 0, 2, 1, 0, 0, 3, 4)
    yield "Pad", single("Pad", MAP, weights={"p": pads})
    yield "Pad-value", single("Pad", MAP, weights={"p": pads, "v": np.float32(1)})
    yield "Pad-crop", single("Pad", MAP, weights={"p": ints(0, 0, -2, 1, 0, 0, 3, -4)})
    yield "Pad-reflect", single("Pad", MAP, weights={"p": pads}, mode="reflect")
    yield "Pad-edge", single("Pad", MAP, weights={"p": pads}, mode="edge")
    yield "Pad-10", single("Pad", MAP, opset=10, pads=[0, 1, 2, 1, 0, 0, 3, 4])
    yield "Pad-axes", single("Pad", MAP, opset=18, weights={"p": ints(1, 2), "a": ints(3)}, order=["x", "p", "", "a"])
    yield "Transpose", single("Transpose", MAP, perm=[0, 2, 3, 1])
    yield "Transpose-ones", single("Transpose", [1, 6, 1, 1], perm=[0, 2, 3, 1])
    yield "Transpose-default", single("Transpose", [4, 5])
    yield "Expand", single("Expand", [1, 6, 1, 10], weights={"s": ints(1, 6, 8, 10)})
    yield "Expand-rank", single("Expand", [6, 1, 10], weights={"s": ints(1, 6, 8, 1)})
    yield "Tile", single("Tile", MAP, weights={"r": ints(1, 2, 1, 3)})
    yield "Gather", single("Gather", MAP, weights={"i": ints(3, 1, 7)}, axis=2)
    yield "Gather-channels", single("Gather", MAP, weights={"i": ints(3, 1)}, axis=1)
    yield "Gather-scalar", single("Gather", MAP, weights={"i": np.array(2, dtype=I64)}, axis=2)
    for mode in ("DCR", "CRD"):
        yield f"DepthToSpace-{mode}", single("DepthToSpace", [1, 12, 4, 5], blocksize=2, mode=mode)
    yield "SpaceToDepth", single("SpaceToDepth", [1, 3, 8, 10], blocksize=2)


def view_models() -> Iterator[tuple[str, onnx.ModelProto]]:
    yield "Identity", single("Identity", MAP)
    yield "Dropout", single("Dropout", MAP)
    yield "Reshape", single("Reshape", MAP, weights={"s": ints(0, -1, 4, 10)})
    yield "Reshape-same", single("Reshape", MAP, weights={"s": ints(1, 6, 8, -1)})
    yield "Flatten", single("Flatten", MAP)
    yield "Flatten-head", single("Flatten", [1, 6, 1, 1])
    yield "Flatten-negative", single("Flatten", MAP, axis=-1)
    yield "Squeeze", single("Squeeze", [1, 6, 1, 1], weights={"a": ints(2, 3)})
    yield "Squeeze-all", single("Squeeze", [1, 6, 1, 4])
    yield "Squeeze-11", single("Squeeze", [1, 6, 1, 4], opset=11, axes=[-2])
    yield "Unsqueeze", single("Unsqueeze", [1, 6], weights={"a": ints(-1, 2)})
    yield "Unsqueeze-11", single("Unsqueeze", [6, 8, 10], opset=11, axes=[0])


def reduce_models() -> Iterator[tuple[str, onnx.ModelProto]]:
    for op in ("ReduceMean", "ReduceMax", "ReduceL2", "ReduceMin"):
        for axes in ([2, 3], [1], [3], [1, 2, 3], [0]):
            for keep in (0, 1):
                yield f"{op}-{axes}-{keep}", single(op, MAP, opset=13, axes=axes, keepdims=keep)
    yield "ReduceSum-13", single("ReduceSum", MAP, weights={"a": ints(2, 3)}, keepdims=1)
    yield "ReduceMean-18", single("ReduceMean", MAP, opset=18, weights={"a": ints(-1, -2)}, keepdims=0)
    yield "ReduceMean-all", single("ReduceMean", MAP, opset=18)
    yield "ReduceMean-noop", single("ReduceMean", MAP, opset=18, noop_with_empty_axes=1)
    yield "ArgMax", single("ArgMax", MAP, axis=1)
    yield "ArgMax-flat", single("ArgMax", MAP, axis=1, keepdims=0)
    for op in ("GlobalAveragePool", "GlobalMaxPool"):
        yield op, single(op, MAP)
        yield f"{op}-3d", single(op, [1, 2, 3, 4, 5])


COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric")


def resize_models() -> Iterator[tuple[str, onnx.ModelProto]]:
    def by_scales(scales: list[float], **attributes: Any) -> onnx.ModelProto:
        weights = {"s": np.array([1, 1, *scales], dtype=np.float32)}
        return single("Resize", MAP, opset=19, weights=weights, order=["x", "", "s"], **attributes)

    def by_sizes(sizes: list[int], **attributes: Any) -> onnx.ModelProto:
        weights = {"s": ints(1, 6, *sizes)}
        return single("Resize", MAP, opset=19, weights=weights, order=["x", "", "", "s"], **attributes)

    def by_two_sizes(sizes: list[int], **attributes: Any) -> onnx.ModelProto:
        order = ["x", "", "", "s"]
        return single("Resize", MAP, opset=19, weights={"s": ints(*sizes)}, order=order, axes=[2, 3], **attributes)

    for mode in ("nearest", "linear", "cubic"):
        for where in COORDINATES:
            attributes = {"mode": mode, "coordinate_transformation_mode": where}
            yield f"{mode}-{where}-up", by_scales([2.0, 3.0], **attributes)
            yield f"{mode}-{where}-down", by_scales([0.5, 0.3], **attributes)
            yield f"{mode}-{where}-odd", by_scales([1.7, 2.3], **attributes)
            yield f"{mode}-{where}-third", by_scales([1 / 3, 3.0], **attributes)
            yield f"{mode}-{where}-sizes", by_sizes([13, 7], **attributes)
            yield f"{mode}-{where}-one", by_sizes([1, 30], **attributes)
    for rounding in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"):
        for where in ("half_pixel", "asymmetric", "align_corners"):
            attributes = {"mode": "nearest", "coordinate_transformation_mode": where, "nearest_mode": rounding}
            yield f"nearest-{where}-{rounding}", by_scales([4.0, 2.0], **attributes)
            yield f"nearest-{where}-{rounding}-odd", by_scales([1.25, 0.7], **attributes)
    yield "antialias", by_scales([0.4, 0.25], mode="linear", antialias=1)
    yield "antialias-cubic", by_scales([0.4, 1.5], mode="cubic", antialias=1)
    for policy in ("not_larger", "not_smaller"):
        yield policy, by_two_sizes([12, 30], keep_aspect_ratio_policy=policy)
    yield (
        "axes",
        single(
            "Resize", MAP, opset=19, weights={"s": ints(16, 25)}, order=["x", "", "", "s"], axes=[2, 3], mode="linear"
        ),
    )
    scales = {"s": np.array([1, 1, 2, 3], dtype=np.float32)}
    yield "Resize-10", single("Resize", MAP, opset=10, weights=scales, mode="nearest")
    yield "Upsample-9", single("Upsample", MAP, opset=9, weights=scales, mode="linear")
    yield "Upsample-7", single("Upsample", MAP, opset=7, scales=[1.0, 1.0, 2.0, 2.0], mode="nearest")
    yield (
        "Resize-1d",
        single(
            "Resize", [1, 2, 9], opset=13, weights={"s": np.array([1, 1, 2], dtype=np.float32)}, order=["x", "", "s"]
        ),
    )


def matmul_models() -> Iterator[tuple[str, onnx.ModelProto]]:
    yield "Gemm", single("Gemm", [1, 12], weights={"w": rand(5, 12), "b": rand(5)}, transB=1)
    yield "Gemm-rows", single("Gemm", [4, 12], weights={"w": rand(12, 5)})
    yield "Gemm-transA", single("Gemm", [12, 4], weights={"w": rand(12, 5)}, transA=1)
    yield "Gemm-both", both("Gemm", [4, 12], [12, 3])
    yield "MatMul", single("MatMul", [1, 12], weights={"w": rand(12, 5)})
    yield "MatMul-tokens", single("MatMul", [1, 7, 12], weights={"w": rand(12, 5)})
    yield "MatMul-batch", single("MatMul", [3, 7, 12], weights={"w": rand(3, 12, 5)})
    yield "MatMul-two", both("MatMul", [1, 4, 7, 12], [1, 4, 12, 7])
    yield "MatMul-broadcast", both("MatMul", [1, 4, 7, 12], [4, 12, 7])
    yield "MatMul-left", single("MatMul", [1, 7, 12], weights={"w": rand(5, 7)}, order=["w", "x"])
    yield "MatMul-vector", single("MatMul", [12], weights={"w": rand(12, 5)})
    yield "MatMul-dot", both("MatMul", [3, 12], [12])


ZOO = dict(zoo())
BOXES = (
    [(0.0, 0.0), (0.0, 0.0), (0.0, 0.0)],
    [(0.3, 0.3), (0.3, 0.3), (0.4, 0.2)],
    [(0.9, 0.5), (0.99, 0.5), (0.99, 0.5)],
)


@pytest.mark.parametrize("name", ZOO)
def test_shapes(name: str) -> None:
    assert_shapes(ZOO[name])


@pytest.mark.parametrize("name", ZOO)
def test_reads(name: str) -> None:
    for fractions in BOXES:
        assert_reads(ZOO[name], fractions)


@pytest.mark.parametrize("name", ZOO)
def test_nothing_of_the_zoo_is_opaque(name: str) -> None:
    graph = import_model(ZOO[name], name=name, base_dir=None)
    assert graph.notes == () and all(layer.kind is not Kind.OPAQUE for layer in graph.layers)
