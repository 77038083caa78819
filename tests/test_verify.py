"""The executor: what dfc makes computes the network; ONNX Runtime is the truth."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import onnx
import pytest
from example_models import NETWORKS
from hypothesis import HealthCheck, given, settings
from verify_networks import Asked, compiled, networks, requests, saved, small_chip

from dfc.errors import InfeasibleError
from dfc.execution.verify import Verification, verify

#: how many random schedules run; 500 were run when the executor was made
CASES = int(os.environ.get("DFC_VERIFY_CASES", "30"))
MODES = ("cached", "h-cached", "v-cached", "recompute")


def verified(model: onnx.ModelProto, folder: Path, asked: Asked, **options: int) -> Verification:
    path = saved(model, str(folder))
    return verify(compiled(path, small_chip(asked.hw, asked.divisor), asked), path, **options)


@pytest.mark.slow
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks(), requests)
def test_random_schedules_compute_their_network(model: onnx.ModelProto, asked: Asked) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = verified(model, Path(folder), asked)
        except InfeasibleError:
            return
    assert found.findings == []
    assert {c.tensor for c in found.compared} >= {o.name for o in model.graph.output}


#: sizes at which each example network is small, and a tile that does not divide its map
SMALL: dict[str, tuple[dict[str, int], tuple[int, int]]] = {
    "tiny_chain": ({"size": 11}, (4, 3)),
    "residual_block": ({"size": 9, "channels": 4}, (4, 5)),
    "separable_block": ({"size": 11, "channels": 4, "out_channels": 6}, (3, 5)),
    "fsrcnn": ({"width": 14, "height": 11}, (5, 4)),
    "dmcnn_vd": ({"width": 10, "height": 9}, (4, 5)),
    "mc_cnn": ({"width": 13, "height": 10}, (5, 3)),
    "rectangular": ({}, (7, 5)),
    "tcn_kws": ({"frames": 20, "features": 6, "classes": 4}, (7, 1)),
    "cnn3d": ({"frames": 4, "size": 16, "classes": 4}, (3, 3)),
    "unet": ({"size": 16}, (7, 6)),
    "mobilenetv1": ({"size": 32, "classes": 4}, (3, 5)),
    "mobilenetv2": ({"size": 32, "classes": 4}, (3, 5)),
    "resnet18": ({"size": 32, "classes": 4}, (3, 3)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SMALL))
def test_example_networks(name: str, tmp_path: Path) -> None:
    size, tile = SMALL[name]
    model = NETWORKS[name].build(**size)
    for mode in MODES:
        for order in ("rows", "columns"):
            found = verified(model, tmp_path, Asked("meta_proto_df", 1, tile, mode, order, "auto"))
            assert found.findings == [], (mode, order)
