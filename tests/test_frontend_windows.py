"""Convolutions, transposed convolutions and pools of random windows against ONNX Runtime: shapes, reads,
MACs.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx_helpers import assert_reads, assert_shapes, rand, single

FEW = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)
FRACTIONS = st.tuples(*(st.tuples(st.floats(0, 0.99), st.floats(0, 0.5)) for _ in range(3)))
AUTO_PADS = ["NOTSET", "NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]


def _axes(draw: Any, rank: int, low: int, high: int) -> list[int]:
    return [draw(st.integers(low, high)) for _ in range(rank)]


@st.composite
def convolutions(draw: Any) -> onnx.ModelProto:
    rank = draw(st.integers(1, 3))
    kernel, strides = _axes(draw, rank, 1, 4), _axes(draw, rank, 1, 3)
    auto = draw(st.sampled_from(AUTO_PADS))
    dilations = _axes(draw, rank, 1, 3) if auto in ("NOTSET", "VALID") else [1] * rank
    pads = _axes(draw, 2 * rank, 0, 3)
    extents = _axes(draw, rank, 5, 12 if rank < 3 else 7)
    groups, per_group, multiplier = draw(st.sampled_from([(1, 3, 2), (2, 2, 2), (4, 1, 1), (3, 1, 2), (1, 1, 3)]))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    padded = [e + (pads[i] + pads[i + rank] if auto == "NOTSET" else 0) for i, e in enumerate(extents)]
    assume(all(r <= p for r, p in zip(reach, padded, strict=True)))
    attributes = {"auto_pad": auto} if auto != "NOTSET" else {"pads": pads}
    return single(
        "Conv",
        [draw(st.integers(1, 2)), groups * per_group, *extents],
        weights={"w": rand(groups * multiplier, per_group, *kernel), "b": rand(groups * multiplier)},
        strides=strides,
        dilations=dilations,
        group=groups,
        **attributes,
    )


@FEW
@given(convolutions())
def test_convolution_shapes(model: onnx.ModelProto) -> None:
    assert_shapes(model)


@FEW
@given(convolutions(), FRACTIONS)
def test_convolution_reads(model: onnx.ModelProto, fractions: Any) -> None:
    assert_reads(model, fractions)


@FEW
@given(convolutions())
def test_convolution_macs(model: onnx.ModelProto) -> None:
    """Counted one output position, channel and tap at a time."""
    graph = assert_shapes(model)
    layer = graph.layers[0]
    weights = {t.name: t for t in model.graph.initializer}["w"].dims
    count = 0
    for _ in np.ndindex(*graph.tensors["y"].shape):
        for _ in np.ndindex(*weights[1:]):
            count += 1
    assert layer.macs == count == layer.operations
    assert layer.weight_elements == prod(weights) + weights[0]


@st.composite
def windows(draw: Any, rank: int) -> dict[str, Any]:
    kernel = _axes(draw, rank, 1, 4)
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": _axes(draw, rank, 1, 3)}
    auto = draw(st.sampled_from(AUTO_PADS))
    if auto == "NOTSET":
        attributes["pads"] = [draw(st.integers(0, max(0, kernel[i % rank] - 1))) for i in range(2 * rank)]
        attributes["ceil_mode"] = draw(st.integers(0, 1))
    else:
        attributes["auto_pad"] = auto
        # ONNX Runtime refuses to run windows that skip positions here
        attributes["strides"] = [min(s, k) for s, k in zip(attributes["strides"], kernel, strict=True)]
    return attributes


@st.composite
def pools(draw: Any) -> onnx.ModelProto:
    rank = draw(st.integers(1, 3))
    op = draw(st.sampled_from(["MaxPool", "AveragePool", "LpPool"]))
    attributes = draw(windows(rank))
    if op == "MaxPool" and "auto_pad" not in attributes:
        attributes["dilations"] = _axes(draw, rank, 1, 2)
    if op == "LpPool":
        attributes.pop("ceil_mode", None)
    if op == "AveragePool":
        attributes["count_include_pad"] = draw(st.integers(0, 1))
    return single(
        op,
        [1, 2, *_axes(draw, rank, 8, 13 if rank < 3 else 9)],
        opset=19 if op != "LpPool" else 17,
        **attributes,
    )


@FEW
@given(pools())
def test_pool_shapes(model: onnx.ModelProto) -> None:
    assert_shapes(model)


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 3), (3, 4)])
def test_a_pool_whose_only_window_hangs_over(kernel: int, stride: int) -> None:
    """With ceil_mode a window may be larger than the map: the border of a streaming form is such a map."""
    model = single("MaxPool", [1, 2, 1, 8], kernel_shape=[kernel, 2], strides=[stride, 2], ceil_mode=1)
    assert_shapes(model)
    assert_reads(model, [(0.0, 0.0), (0.0, 0.0), (0.9, 0.5)])


@FEW
@given(pools(), FRACTIONS)
def test_pool_reads(model: onnx.ModelProto, fractions: Any) -> None:
    assert_reads(model, fractions)


@st.composite
def transposed(draw: Any) -> onnx.ModelProto:
    rank = draw(st.integers(1, 2))
    kernel, strides, dilations = _axes(draw, rank, 1, 4), _axes(draw, rank, 1, 3), _axes(draw, rank, 1, 2)
    extents = _axes(draw, rank, 3, 7)
    groups, per_group = draw(st.sampled_from([(1, 3), (2, 2), (4, 1)]))
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": groups}
    full = [s * (e - 1) + d * (k - 1) + 1 for s, e, d, k in zip(strides, extents, dilations, kernel, strict=True)]
    way = draw(st.sampled_from(["pads", "output_padding", "output_shape", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if way in ("pads", "output_padding"):
        pads = _axes(draw, 2 * rank, 0, 2)
        assume(all(f - pads[i] - pads[i + rank] >= 1 for i, f in enumerate(full)))
        attributes["pads"] = pads
    if way == "output_padding":
        attributes["output_padding"] = [draw(st.integers(0, s - 1)) for s in strides]
    elif way == "output_shape":
        attributes["output_shape"] = [max(1, f - draw(st.integers(0, 3))) for f in full]
        attributes["auto_pad"] = draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER"]))
    elif way != "pads":
        attributes["auto_pad"] = way
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
        assume(way == "VALID" or all(r >= s for r, s in zip(reach, strides, strict=True)))
    shape = [1, groups * per_group, *extents]
    return single("ConvTranspose", shape, weights={"w": rand(groups * per_group, 2, *kernel)}, **attributes)


@FEW
@given(transposed())
def test_transposed_shapes(model: onnx.ModelProto) -> None:
    assert_shapes(model)


@FEW
@given(transposed(), FRACTIONS)
def test_transposed_reads(model: onnx.ModelProto, fractions: Any) -> None:
    assert_reads(model, fractions)


@FEW
@given(transposed())
def test_transposed_macs(model: onnx.ModelProto) -> None:
    """Every input element meets every tap of its group's filters once; the nest does no fewer operations."""
    graph = assert_shapes(model)
    layer = graph.layers[0]
    weights = {t.name: t for t in model.graph.initializer}["w"].dims
    count = sum(prod(weights[1:]) for _ in np.ndindex(*graph.tensors["x"].shape))
    assert layer.macs == count


INSIDE = [(0.0, 0.0), (0.3, 0.4), (0.35, 0.3)]


@pytest.mark.parametrize("op", ["Conv", "MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "window",
    [
        {"kernel_shape": [1, 7], "pads": [0, 3, 0, 3]},
        {"kernel_shape": [7, 1], "pads": [3, 0, 3, 0]},
        {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [0, 1, 1, 0]},
        {"kernel_shape": [2, 5], "strides": [1, 3], "pads": [1, 0, 0, 2]},
        {"kernel_shape": [3, 2], "dilations": [1, 4]},
    ],
)
def test_borders_of_a_window_matter(op: str, window: dict[str, Any]) -> None:
    weights = {"w": rand(3, 2, *window["kernel_shape"])} if op == "Conv" else {}
    assert_reads(single(op, [1, 2, 17, 19], weights=weights, opset=19, **window), INSIDE, tight=True)


@pytest.mark.parametrize("kernel,stride", [(3, 2), (4, 2), (2, 2), (5, 3), (9, 3), (3, 1)])
def test_borders_of_a_transposed_window_matter(kernel: int, stride: int) -> None:
    model = single(
        "ConvTranspose",
        [1, 2, 8, 9],
        weights={"w": rand(2, 3, kernel, kernel)},
        strides=[stride] * 2,
        pads=[1, 0, 0, 1],
    )
    for fractions in ([(0, 0), (0.3, 0.4), (0.35, 0.3)], [(0, 0), (0.5, 0.0), (0.4, 0.1)]):
        assert_reads(model, fractions, tight=True)


def test_each_attribute_is_on_its_own_axis() -> None:
    """A (1,7) kernel is one high and seven wide, and so on for strides, dilations and pads."""
    model = single(
        "Conv",
        [1, 4, 20, 30],
        weights={"w": rand(8, 4, 1, 7)},
        strides=[1, 2],
        dilations=[1, 3],
        pads=[0, 9, 0, 8],
    )
    graph = assert_shapes(model)
    layer = graph.layers[0]
    named = dict(zip(["B", "G", "K", "C", "OT", "OY", "OX", "FT", "FY", "FX"], layer.sizes, strict=True))
    assert named == {"B": 1, "G": 1, "K": 8, "C": 4, "OT": 1, "OY": 20, "OX": 15, "FT": 1, "FY": 1, "FX": 7}
    assert (layer.strides, layer.dilations) == ((1, 1, 2), (1, 1, 3))
    t, y, x = layer.inputs[0].sources[0].maps
    assert t.is_identity and y.is_identity
    assert (x.num, x.den, x.lo, x.hi) == (2, 1, -9, 9)


def test_one_and_three_dimensions() -> None:
    line = assert_shapes(single("Conv", [2, 4, 50], weights={"w": rand(6, 4, 5)}, strides=[2])).layers[0]
    assert line.sizes == (2, 1, 6, 4, 1, 1, 23, 1, 1, 5)
    cube = assert_shapes(single("Conv", [1, 2, 6, 8, 9], weights={"w": rand(3, 2, 2, 3, 4)})).layers[0]
    assert cube.sizes == (1, 1, 3, 2, 5, 6, 6, 2, 3, 4)


def test_depthwise_and_grouped() -> None:
    depthwise = assert_shapes(single("Conv", [1, 6, 9, 9], weights={"w": rand(12, 1, 3, 3)}, group=6)).layers[0]
    assert (depthwise.kind, depthwise.sizes[:4]) == ("depthwise", (1, 6, 2, 1))
    grouped = assert_shapes(single("Conv", [1, 6, 9, 9], weights={"w": rand(4, 3, 3, 3)}, group=2)).layers[0]
    assert (grouped.kind, grouped.sizes[:4]) == ("conv", (1, 2, 2, 3))
