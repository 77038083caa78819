"""Where networks are cut: legality on random graphs, and the recorded cuts of the reference."""

from __future__ import annotations

import json
from itertools import pairwise

import onnx
import pytest
from example_models import build
from graph_strategies import random_cnn
from hypothesis import HealthCheck, given, settings
from reference import DATA

from dfc.errors import UsageError
from dfc.frontend import import_model
from dfc.hwdsl import load_arch
from dfc.ir import Graph, Kind
from dfc.passes import PassManager, default_pipeline
from dfc.passes.stacks import automatic_stacks, find_layers, indivisible_units, needs_whole_map, single_layer_stacks

CHIPS = {"Meta_prototype_DF": "meta_proto_df", "TPU_like_DF": "tpu_like_df", "Ascend_like": "ascend_like"}
NETWORKS = {
    "fsrcnn": "fsrcnn_unpadded",
    "mccnn": "mc_cnn_unpadded",
    "mobilenetv1": "mobilenetv1_unpadded",
    "resnet18": "resnet18_unpadded",
}


def graph_of(model: onnx.ModelProto) -> Graph:
    graph = import_model(model, name="example", base_dir=None)
    return PassManager(default_pipeline(), verify=True).run(graph)


@pytest.mark.reference
@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("network", NETWORKS)
def test_automatic_cuts_equal_the_recorded_ones(chip: str, network: str) -> None:
    recorded = json.loads((DATA / "stack_cuts.json").read_text())[f"{chip}/{network}"]
    graph = graph_of(build(NETWORKS[network]))
    arch = load_arch(CHIPS[chip])
    bits = [layer.weight_elements * arch.array.weight_bits for layer in graph.layers]
    stacks = automatic_stacks(graph, bits, arch.weight_capacity_bits, cut_whole_maps=False)
    cuts = [graph.layers[s.layers[-1]].name for s in stacks[:-1]]
    # crops of the shortcuts are layers of ours alone: inside an oversized unit they too become stacks
    moves = {layer.name for layer in graph.layers if layer.kind is Kind.MOVE}
    assert [c.removeprefix("L") for c in cuts if c not in moves] == recorded
    with_whole = {graph.layers[s.layers[0]].name for s in automatic_stacks(graph, bits, arch.weight_capacity_bits)}
    assert {layer.name for layer in graph.layers[1:] if needs_whole_map(graph, layer)} <= with_whole


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(random_cnn())
def test_one_tensor_crosses_between_units(graph: Graph) -> None:
    units = indivisible_units(graph)
    assert [i for unit in units for i in unit] == list(range(len(graph.layers)))
    for unit, following in pairwise(units):
        end = unit[-1]
        crossing = (
            {
                t
                for t, users in graph.consumers.items()
                if any(u > end for u in users) and graph.producer.get(t, -1) <= end
            }
            - set(graph.inputs)
            - {s.tensor for layer in graph.layers for o in layer.inputs if o.constant for s in o.sources}
        )
        alone = [i for i in (end, following[0]) if graph.layers[i].barrier or graph.layers[i].kind is Kind.VIEW]
        assert len(crossing) <= 1 or alone


def test_each_layer_its_own_stack() -> None:
    graph = graph_of(build("residual_block"))
    assert [s.layers for s in single_layer_stacks(graph)] == [(i,) for i in range(len(graph.layers))]


def test_unknown_layer_names_near_ones() -> None:
    graph = graph_of(build("fsrcnn"))
    with pytest.raises(UsageError) as error:
        find_layers(graph, ["upscal"])
    assert "upscale" in error.value.render()
    assert error.value.code == "CLI010"
