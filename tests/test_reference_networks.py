"""Recorded points of the reference on other networks and chips (its case study 2), with the recorded stack cuts."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import reference
from example_models import build
from loma import LomaCache

from dfc.frontend import import_model
from dfc.hwdsl import load_arch
from dfc.ir import Graph
from dfc.passes import PassManager, default_pipeline
from dfc.passes.stacks import cut_after, find_layers, single_layer_stacks
from dfc.passes.tiles import Overlap, Tiler
from dfc.scheduling.engine import StackCost, StackPricer

CHIPS = {
    "Meta_prototype_DF": "meta_proto_df",
    "TPU_like_DF": "tpu_like_df",
    "Edge_TPU_like_DF": "edge_tpu_like_df",
    "Ascend_like_DF": "ascend_like_df",
    "Tesla_NPU_like_DF": "tesla_npu_like_df",
    "Edge_TPU_like": "edge_tpu_like",
    "Ascend_like": "ascend_like",
    "Tesla_NPU_like": "tesla_npu_like",
}
NETWORKS = {
    "fsrcnn": "fsrcnn",
    "mccnn": "mc_cnn",
    "dmcnnvd": "dmcnn_vd",
    "mobilenetv1": "mobilenetv1",
    "resnet18": "resnet18",
}
#: Bounds on the difference from the record; each is the largest that occurs, rounded up. Latency is bound less tightly
#: than energy: the search is for energy alone, and where several mappings are of the least, or next to it, the recorded one
#: and ours may stall differently.
#:
#: chains agree but for the cache of the input (D8). The others differ by up to 8 % in energy. In MobileNetV1 the
#: recorded 1x1 layers are declared with a window, whose lanes the reference truncates (C5), and with small tiles its
#: vertical cache lies lower than the first tile asks for (D2). In ResNet-18 shortcuts are cropped by layers of ours,
#: and its first layer is recorded with another unrolling than the Ascend chip's preference.
CHAINS = {"fsrcnn", "mccnn", "dmcnnvd"}
POINTS = [p for p in reference.load("case_study_2.json.gz", "DFC_REFERENCE_NETWORKS")["points"] if p["hw"] in CHIPS]


@cache
def graph_of(network: str) -> Graph:
    graph = import_model(build(f"{NETWORKS[network]}_unpadded"), name=network, base_dir=None)
    return PassManager(default_pipeline(), verify=True).run(graph)


@pytest.mark.reference
@pytest.mark.parametrize("point", POINTS, ids=[f"{p['kind']}-{p['hw']}-{p['workload']}-{p['tile_x']}" for p in POINTS])
def test_point(point: dict[str, Any]) -> None:
    graph = graph_of(point["workload"])
    arch = load_arch(CHIPS[point["hw"]])
    pricer = StackPricer(graph, arch, LomaCache(arch))
    cuts = find_layers(graph, [f"L{c}" for c in point["stack_cuts"]]) if point["kind"] != "sl" else []
    stacks = single_layer_stacks(graph) if point["kind"] == "sl" else cut_after(graph, cuts)
    found = [pricer.price(Tiler(graph, s).plan((point["tile_x"], point["tile_y"]), Overlap.CACHED)) for s in stacks]
    priced = [c for c in found if isinstance(c, StackCost)]
    assert len(priced) == len(stacks)
    energy, cycles = sum(c.energy_pj for c in priced), sum(c.latency_cycles for c in priced)
    chain = point["workload"] in CHAINS
    assert energy == pytest.approx(point["energy_total"], rel=0.003 if chain else 0.08)
    assert cycles == pytest.approx(point["latency_total1"], rel=0.005 if chain else 0.22)
    macs = sum(n.tile.count * r.cost.compute_pj for c in priced for n in c.classes for r in n.runs if r.cost and r.nest)
    assert macs == pytest.approx(point["MAC_energy"], rel=1e-9)
