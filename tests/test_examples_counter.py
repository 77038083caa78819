"""The slow counter itself, against ONNX Runtime.

A layer of weights 1 and no bias, applied to ones and without padding, sums one for every
multiply-accumulate: the sum of its output is their number.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import slow_counter
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def one_node(op: str, data: tuple[int, ...], weight: tuple[int, ...], **attributes: object) -> onnx.ModelProto:
    constant = helper.make_tensor("w", TensorProto.FLOAT, weight, np.ones(weight, np.float32).tobytes(), raw=True)
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"], name="node", **attributes)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, data)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [constant],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def ones_run(model: onnx.ModelProto, data: tuple[int, ...]) -> float:
    return float(slow_counter.run_model(model, {"x": np.ones(data, np.float32)})["y"].sum(dtype=np.float64))


@st.composite
def windows(draw: st.DrawFn) -> tuple[int, int, int, list[int], list[int], list[int], list[int]]:
    """(groups, C per group, M per group, kernel, strides, dilations, extents) in one to three dimensions."""
    small = st.integers(1, 3)
    axes = draw(small)
    kernel = [draw(small) for _ in range(axes)]
    strides = [draw(small) for _ in range(axes)]
    dilations = [draw(small) for _ in range(axes)]
    extents = [d * (k - 1) + draw(st.integers(1, 6)) for k, d in zip(kernel, dilations, strict=True)]
    return draw(small), draw(small), draw(small), kernel, strides, dilations, extents


@settings(max_examples=60, deadline=None)
@given(case=windows(), pads=st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_convolution(case: tuple[int, int, int, list[int], list[int], list[int], list[int]], pads: list[int]) -> None:
    groups, c, m, kernel, strides, dilations, extents = case
    axes = len(kernel)
    data, weight = (2, groups * c, *extents), (groups * m, c, *kernel)
    attributes = {"group": groups, "strides": strides, "dilations": dilations, "kernel_shape": kernel}
    model = one_node("Conv", data, weight, **attributes)
    assert slow_counter.count_macs(model) == {"node": ones_run(model, data)}
    # padding counts like data: the same as ones on a map that is as much larger
    begins, ends = pads[:axes], pads[axes : 2 * axes]
    padded = one_node("Conv", data, weight, pads=begins + ends, **attributes)
    wider = (2, groups * c, *(e + b + a for e, b, a in zip(extents, begins, ends, strict=True)))
    enlarged = one_node("Conv", wider, weight, **attributes)
    assert slow_counter.count_macs(padded) == {"node": ones_run(enlarged, wider)}


@settings(max_examples=40, deadline=None)
@given(case=windows())
def test_transposed_convolution(
    case: tuple[int, int, int, list[int], list[int], list[int], list[int]],
) -> None:
    groups, c, m, kernel, strides, dilations, extents = case
    data, weight = (2, groups * c, *extents), (groups * c, m, *kernel)
    model = one_node(
        "ConvTranspose",
        data,
        weight,
        group=groups,
        strides=strides,
        dilations=dilations,
        kernel_shape=kernel,
    )
    assert slow_counter.count_macs(model) == {"node": ones_run(model, data)}


@pytest.mark.parametrize("transposed", [0, 1])
def test_matrix_products(transposed: int) -> None:
    data = (7, 3) if transposed else (3, 7)
    gemm = one_node("Gemm", data, (7, 5), transA=transposed)
    assert slow_counter.count_macs(gemm) == {"node": 3 * 7 * 5} == {"node": ones_run(gemm, data)}
    batched = one_node("MatMul", (2, 4, 3, 7), (7, 5))
    assert slow_counter.count_macs(batched) == {"node": ones_run(batched, (2, 4, 3, 7))}


def test_parameters() -> None:
    assert slow_counter.count_params(one_node("Conv", (1, 4, 8, 8), (6, 4, 3, 3))) == 6 * 4 * 9


@pytest.mark.skipif(not LIGHT.is_dir(), reason="this onnx package has no test data")
def test_published_macs_of_vgg19() -> None:
    # 19.6 G multiply-adds: section 3.3 of the ResNet paper (CVPR 2016)
    model = onnx.load(str(LIGHT / "light_vgg19.onnx"))
    assert sum(slow_counter.count_macs(model, run=False).values()) / 1e9 == pytest.approx(19.6, abs=0.05)
