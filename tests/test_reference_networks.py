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
#: Bounds on latency are the largest differences that occur, rounded up: 0.45 % in a chain (FSRCNN), 2.1 % elsewhere
#: (MobileNetV1), since among mappings of equal energy ours is the fastest and the recorded one the first; and 21.4 %
#: less in ResNet-18 on the Ascend chip, for the unrolling of its first layer (below).
LATENCY = {"chain": 0.005, "other": 0.022, "resnet18 Ascend_like_DF": 0.22, "resnet18 Ascend_like": 0.22}
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
    bound = LATENCY.get(f"{point['workload']} {point['hw']}", LATENCY["chain" if chain else "other"])
    assert cycles == pytest.approx(point["latency_total1"], rel=bound)
    macs = sum(n.tile.count * r.cost.compute_pj for c in priced for n in c.classes for r in n.runs if r.cost and r.nest)
    assert macs == pytest.approx(point["MAC_energy"], rel=1e-9)
