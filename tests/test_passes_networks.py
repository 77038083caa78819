"""Imported networks through the default pipeline: layer counts known from the papers, work kept, text kept."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from example_models import NETWORKS, build
from onnx import helper
from onnx_helpers import model_of

from dfc.frontend import import_model
from dfc.ir import Graph, Kind, parse_graph, print_graph
from dfc.passes import PassManager


def imported(name: str) -> tuple[Graph, Graph]:
    before = import_model(build(name), name=name, base_dir=None)
    return before, PassManager(verify=True).run(before)


@pytest.mark.parametrize("name", NETWORKS)
def test_work_and_interface_are_kept(name: str) -> None:
    before, after = imported(name)
    assert after.macs == before.macs
    assert (after.inputs, len(after.outputs)) == (before.inputs, len(before.outputs))
    nodes = {origin.node for layer in after.layers for origin in layer.origin}
    dropped = {la.op for la in before.layers if not nodes & {o.node for o in la.origin} and la.kind is not Kind.VIEW}
    assert not dropped
    for graph in (before, after):
        assert parse_graph(print_graph(graph)) == graph


def test_resnet18_is_convolutions_and_additions() -> None:
    """He et al. 2015, table 1: 17 convolutions and 3 projections, 8 additions, two pools, one product."""
    _, graph = imported("resnet18")
    kinds = Counter(layer.kind for layer in graph.layers)
    assert kinds == {Kind.CONV: 20, Kind.ELTWISE: 8, Kind.POOL: 2, Kind.DENSE: 1}
    assert all(layer.op == "add" for layer in graph.layers if layer.kind is Kind.ELTWISE)
    assert sum("relu" in layer.fused for layer in graph.layers) == 17  # the stem, then two in each of 8 blocks


def test_mobilenetv1_is_separable_blocks() -> None:
    """Howard et al. 2017, table 1: 13 depthwise and 14 other convolutions, each with batch norm and ReLU."""
    _, graph = imported("mobilenetv1")
    kinds = Counter(layer.kind for layer in graph.layers)
    assert kinds == {Kind.CONV: 14, Kind.DEPTHWISE: 13, Kind.POOL: 1, Kind.DENSE: 1}
    convolutions = [layer for layer in graph.layers if layer.kind in (Kind.CONV, Kind.DEPTHWISE)]
    assert {layer.fused for layer in convolutions} <= {("relu",), ("clip",)}  # ReLU or ReLU6
    assert all("BatchNormalization" in [o.op_type for o in layer.origin] for layer in convolutions)


def test_a_reversal_of_channels_is_no_copy() -> None:
    """RGB to BGR by ``x[:, ::-1]``: same maps and shape as a slice of everything, told apart by its name alone."""
    nodes = [
        helper.make_node("Slice", ["x", "start", "end", "axis", "step"], ["flipped"], name="flip"),
        helper.make_node("Conv", ["flipped", "w"], ["y"], name="conv"),
    ]
    numbers = {"start": -1, "end": -100, "axis": 1, "step": -1}
    constants = {name: np.array([value], dtype=np.int64) for name, value in numbers.items()}
    weights = np.zeros((4, 3, 3, 3), dtype=np.float32)
    model = model_of(nodes, {"x": [1, 3, 8, 8]}, ["y"], {**constants, "w": weights})
    before = import_model(model, name="flip", base_dir=None)
    after = PassManager(verify=True).run(before)
    assert [layer.name for layer in after.layers] == ["flip", "conv"]
