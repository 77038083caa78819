"""Imported networks against the slow counter: MACs and weights of every layer, and every shape.

The examples, and the "light" networks (constants without data) of the onnx package's own backend tests.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import slow_counter
from example_models import NETWORKS, build

from dfc.frontend import import_model
from dfc.ir import Graph

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
LIGHT_MODELS = sorted(path.stem for path in LIGHT.glob("light_*.onnx"))


def imported(model: onnx.ModelProto) -> Graph:
    return import_model(model, name="network", base_dir=None)


def check(model: onnx.ModelProto) -> None:
    graph = imported(model)
    expected = {name: macs for name, macs in slow_counter.count_macs(model, run=False).items() if macs}
    assert {layer.name: layer.macs for layer in graph.layers if layer.macs} == expected
    assert graph.macs == sum(expected.values())
    shapes = slow_counter.shapes_by_inference(model)
    wrong = {
        name: (tensor.shape, shapes[name])
        for name, tensor in graph.tensors.items()
        if name in shapes and tensor.shape != shapes[name]
    }
    assert not wrong
    assert any(name in shapes for name in graph.tensors)


@pytest.mark.parametrize("name", NETWORKS)
def test_example(name: str) -> None:
    check(build(name))


@pytest.mark.parametrize("name", LIGHT_MODELS)
def test_light_network(name: str) -> None:
    check(onnx.load(str(LIGHT / f"{name}.onnx")))


@pytest.mark.parametrize("name", NETWORKS)
def test_weights(name: str) -> None:
    """Layers with MACs hold exactly the constants of their nodes: weights and biases."""
    model = build(name)
    sizes = {t.name: onnx.numpy_helper.to_array(t).size for t in model.graph.initializer}
    counts = slow_counter.count_macs(model, run=False)
    expected = {node.name: sum(sizes.get(i, 0) for i in node.input) for node in model.graph.node if node.name in counts}
    layers = imported(model).layers
    assert {layer.name: layer.weight_elements for layer in layers if layer.macs} == expected


@pytest.mark.parametrize("name", [name for name in NETWORKS if name.endswith("_unpadded")])
def test_nothing_of_a_recorded_network_is_opaque_or_a_barrier(name: str) -> None:
    graph = imported(build(name))
    assert not graph.notes
    assert not [layer.name for layer in graph.layers if layer.barrier]
