"""Schedules as MLIR: IREE compiles and runs them, and ONNX Runtime computes the same from the model.

Networks and tiles are small: what takes time is IREE, for each shape that a tile class has.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from example_models import build
from iree_helpers import reprinted, run
from onnx import helper
from onnx_helpers import feeds_for, model_of, rand, session

import dfc
from dfc.backend_cost.schedule import Schedule
from dfc.errors import MlirError
from dfc.frontend import operations_of
from dfc.ir import Graph
from dfc.mlir.emit import check_operators, emit_mlir, emit_module
from dfc.pipeline import import_graph

#: network, its size, tile, order of tiles
CASES: dict[str, tuple[str, dict[str, int], str, str]] = {
    "fsrcnn": ("fsrcnn", {"width": 40, "height": 9}, "8x9", "rows"),
    "residual": ("residual_block", {"size": 12, "channels": 4}, "12x3", "columns"),
    "separable": ("separable_block", {"size": 12, "channels": 4, "out_channels": 8}, "4x3", "rows"),
    "dilated": ("dilated", {"frames": 64}, "8x1", "rows"),
}


def dilated(frames: int) -> onnx.ModelProto:
    """Causal convolutions of growing dilation with a residual connection, over (N, C, time)."""
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, Any] = {}
    x = "x"
    for dilation in (1, 2, 4):
        weights[f"w{dilation}"] = rand(6, 6, 3, seed=dilation)
        conv = helper.make_node(
            "Conv", [x, f"w{dilation}"], [f"c{dilation}"], dilations=[dilation], pads=[2 * dilation, 0]
        )
        nodes += [conv, helper.make_node("Relu", [f"c{dilation}"], [x := f"r{dilation}"])]
    nodes.append(helper.make_node("Add", ["x", x], ["y"]))
    return model_of(nodes, {"x": (1, 6, frames)}, ["y"], weights)


class Case:
    """A model, its graph and a schedule of it."""

    def __init__(self, folder: Path, model: onnx.ModelProto, **options: Any) -> None:
        self.model = model
        path = folder / "model.onnx"
        onnx.save(model, path)
        self.graph: Graph = import_graph(path)
        self.schedule: Schedule = dfc.compile(path, "meta_proto_df", **{"stacks": "one", **options})

    @property
    def operations(self) -> Any:
        return operations_of(self.model, None, "model")

    def text(self) -> str:
        return emit_mlir(self.schedule, self.graph, self.operations)

    def compare(self, text: str, weights: list[Any]) -> None:
        judge = session(self.model)
        feeds = feeds_for(self.graph, judge)
        found = run(text, [*(feeds[name] for name in self.graph.inputs), *weights])
        for want, have in zip(judge.run(None, feeds), found, strict=True):
            assert np.abs(have.reshape(want.shape) - want).max() <= 2e-6 * np.abs(want).max()


@cache
def _case(folder: Path, name: str, overlap: str) -> Case:
    network, size, tile, order = CASES[name]
    model = dilated(**size) if network == "dilated" else build(network, **size)
    return Case(folder, model, tile=tile, order=order, overlap=overlap)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlir")


@pytest.mark.slow
@pytest.mark.parametrize("overlap", ["recompute", "cached"])
@pytest.mark.parametrize("name", CASES)
def test_iree_computes_what_onnx_runtime_does(folder: Path, name: str, overlap: str) -> None:
    case = _case(folder, name, overlap)
    assert "scf.for" in case.text()
    case.compare(case.text(), [])


@pytest.mark.parametrize("name", CASES)
def test_every_layer_is_of_the_tile_class_that_it_says(folder: Path, name: str) -> None:
    """The shapes of the code are the extents of the schedule, class by class; no class is left out."""
    case = _case(folder, name, "cached")
    text = reprinted(case.text())
    (stack,) = case.schedule.stacks
    seen: set[int] = set()
    for layer, number, shape in re.findall(
        r'dfc\.layer = "(\w+)".*?dfc\.tile_class = (\d+) : i64.*? -> tensor<((?:\d+x)+)f32>', text
    ):
        extents = tuple(int(extent) for extent in shape[:-1].split("x"))[2:]
        run_of = next(one for one in stack.tile_classes[int(number)].layers if one.layer == layer)
        assert (*reversed(extents), 1)[:2] == run_of.extents, (layer, number)
        seen.add(int(number))
    single = {n for n, one in enumerate(stack.tile_classes) if one.first and len(stack.tile_classes) > 1}
    assert seen >= set(range(len(stack.tile_classes))) - single


def test_weights_may_be_arguments(folder: Path) -> None:
    case = _case(folder, "separable", "recompute")
    emitted = emit_module(case.schedule, case.graph, case.operations, weights_as_arguments=True)
    assert {"depthwise.weight", "pointwise.weight"} <= set(emitted.weights)
    assert 'dense<"0x' not in emitted.text.replace(" : tensor<1x1x1xf32>", "")
    case.compare(emitted.text, list(emitted.weights.values()))


def test_caches_have_the_places_of_the_schedule(folder: Path) -> None:
    case = _case(folder, "separable", "cached")
    (stack,) = case.schedule.stacks
    buffers = [b for b in stack.buffers if b.what.endswith("cache")]
    assert buffers
    for buffer in buffers:
        mark = f'dfc.cache = "{buffer.what}", dfc.tensor = "{buffer.name}", dfc.memory = "{buffer.memory}"'
        assert f"{mark}, dfc.address_bits = {buffer.address_bits}" in case.text()


def test_operators_of_every_kind(folder: Path) -> None:
    """One network, one tile class: pools with borders, groups, joins, slices, products, reshapes, activations."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], group=2, pads=[1, 1, 1, 1], strides=[2, 1]),
        helper.make_node("LeakyRelu", ["a"], ["b"], alpha=0.3),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("AveragePool", ["b"], ["d"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Concat", ["c", "d"], ["e"], axis=1),
        helper.make_node("Sigmoid", ["e"], ["f"]),
        helper.make_node("Slice", ["f", "starts", "ends", "axes"], ["g"]),
        helper.make_node("Add", ["g", "map"], ["h"]),
        helper.make_node("GlobalAveragePool", ["h"], ["i"]),
        helper.make_node("Mul", ["h", "i"], ["j"]),
        helper.make_node("Flatten", ["j"], ["k"]),
        helper.make_node("Gemm", ["k", "m", "n"], ["l"], transB=1, alpha=0.5),
        helper.make_node("Softmax", ["l"], ["y"], axis=1),
    ]
    constants = {
        "w": rand(4, 2, 3, 3, seed=1), "starts": np.array([1]), "ends": np.array([7]), "axes": np.array([1]),
        "map": rand(1, 6, 3, 5, seed=2), "m": rand(5, 90, seed=3), "n": rand(5, seed=4),
    }  # fmt: skip
    model = model_of(nodes, {"x": (1, 4, 10, 9)}, ["y"], constants)
    case = Case(folder, model, tile="99x99", overlap="recompute", stacks="auto")
    case.compare(case.text(), [])


def test_what_cannot_be_written_is_said_before_the_search() -> None:
    model = model_of([helper.make_node("Det", ["x"], ["y"], name="odd")], {"x": (1, 2, 4, 4)}, ["y"])
    graph = dfc.frontend.import_model(model, name="odd", base_dir=None)
    with pytest.raises(MlirError, match="operator Det has no form in MLIR yet") as caught:
        check_operators(graph, operations_of(model, None, "odd"))
    assert caught.value.code == "MLIR001"
    assert "layer 'odd'" in caught.value.place


def test_a_schedule_of_another_model(folder: Path) -> None:
    case, other = _case(folder, "separable", "recompute"), _case(folder, "residual", "recompute")
    with pytest.raises(MlirError, match="MLIR003"):
        emit_mlir(case.schedule, other.graph, other.operations)
