"""The depth-first engine against recorded points of the reference: tiles, levels, copies and totals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import reference
from loma import LomaCache

from dfc.hwdsl import load_arch
from dfc.ir import Role
from dfc.passes.stacks import cut_after
from dfc.passes.tiles import Overlap, Tiler
from dfc.pipeline import import_graph
from dfc.scheduling.copies import Copy, Place, price_copies
from dfc.scheduling.engine import StackCost, StackPricer

POINTS = reference.load("fsrcnn_meta_108.json.gz", "DFC_REFERENCE_POINTS")["points"]
MODES = {(False, False): Overlap.RECOMPUTE, (True, False): Overlap.H_CACHED, (True, True): Overlap.CACHED}
MODEL = Path(__file__).parent.parent / "examples" / "models" / "fsrcnn_unpadded.onnx"

#: largest relative difference in total energy; what is left is listed in docs/depth-first.md
TOLERANCE = 1e-3


def overlap_of(point: dict[str, Any]) -> Overlap:
    return MODES[point["df_horizontal_caching"], point["df_vertical_caching"]]


def name_of(point: dict[str, Any]) -> str:
    return f"{point['tile_x']}x{point['tile_y']}-{overlap_of(point).value}"


@pytest.fixture(scope="module")
def pricing() -> tuple[StackPricer, Tiler]:
    arch = load_arch("meta_proto_df")
    graph = import_graph(MODEL)
    pricer = StackPricer(graph, arch, LomaCache(arch))
    (stack,) = cut_after(graph, [])
    return pricer, Tiler(graph, stack)


@pytest.mark.reference
@pytest.mark.parametrize("point", POINTS, ids=map(name_of, POINTS))
def test_point(point: dict[str, Any], pricing: tuple[StackPricer, Tiler]) -> None:
    pricer, tiler = pricing
    cost = pricer.price(tiler.plan((point["tile_x"], point["tile_y"]), overlap_of(point)))
    assert isinstance(cost, StackCost)
    layers = [layer for layer in point["layers"] if layer["type"] == "layer"]
    mac_pj = layer_pj = 0.0
    for number, recorded in enumerate(layers):
        ours = [(c.tile.count, c.runs[number]) for c in cost.classes]
        theirs = sorted((v["count"], v["dims"]["OX"], v["dims"]["OY"]) for v in recorded["variants"])
        assert sorted((n, *run.extents) for n, run in ours) == theirs
        energy = sum(n * run.cost.energy_pj for n, run in ours if run.cost)
        assert energy == pytest.approx(recorded["energy_total"], rel=1e-9)  # same tiles, levels and mappings
        layer_pj += energy
        mac_pj += sum(n * run.cost.compute_pj for n, run in ours if run.cost)
    assert mac_pj == pytest.approx(point["MAC_energy"], rel=1e-12)
    assert cost.energy_pj == pytest.approx(point["energy_total"], rel=TOLERANCE)
    assert cost.energy_pj - layer_pj == pytest.approx(point["data_copy_energy"], rel=0.07)
    assert cost.latency_cycles == pytest.approx(point["latency_total1"], rel=0.015)
    if overlap_of(point) is Overlap.RECOMPUTE:  # no caches, and so none of the reference's defects with them
        assert cost.energy_pj == pytest.approx(point["energy_total"], rel=1e-9)


def recorded_actions() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for point in POINTS:
        for layer in point["layers"]:
            if layer["type"] == "data_copy":
                for variant in layer["variants"]:
                    yield from ((variant, a) for a in variant["actions"])


@pytest.mark.reference
def test_copies_cost_what_was_recorded() -> None:
    arch = load_arch("meta_proto_df")
    roles = {"I1": Role.I, "O": Role.O}
    groups: dict[int, tuple[dict[str, Any], list[Copy]]] = {}
    for variant, action in recorded_actions():
        source, target = (Place(roles[action[k][0]], action[k][1]) for k in ("from", "to"))
        copy = Copy("recorded", "", int(action["bits"]), source, target)
        alone = price_copies(arch, [copy])
        assert alone.energy_pj == pytest.approx(action["energy"], rel=1e-12)
        assert alone.latency_cycles == sum(action["latency_breakdown"])
        groups.setdefault(id(variant), (variant, []))[1].append(copy)
    assert len(groups) > 1000
    for variant, copies in groups.values():
        group = price_copies(arch, copies)
        assert group.energy_pj == pytest.approx(variant["energy"], rel=1e-12)
        assert group.latency_cycles == variant["latency"]


@pytest.mark.parametrize("overlap", list(Overlap))
def test_best_point_of_the_paper(overlap: Overlap, pricing: tuple[StackPricer, Tiler]) -> None:
    """4x72 fully cached is the best of case study 1 (DeFiNES, HPCA 2023, section V-A)."""
    pricer, tiler = pricing
    best = pricer.price(tiler.plan((4, 72), Overlap.CACHED))
    other = pricer.price(tiler.plan((60, 72), overlap))
    assert isinstance(best, StackCost)
    assert isinstance(other, StackCost)
    assert best.energy_pj == pytest.approx(1.8137e9, rel=1e-3)
    assert best.energy_pj < other.energy_pj
