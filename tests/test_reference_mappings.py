"""The cost model, and the reference's search as tests keep it, against recorded evaluations of the reference model."""

from __future__ import annotations

from typing import Any

import pytest
import reference
from loma import loma

from dfc.backend_cost import evaluate
from dfc.backend_cost.explain import utilisation
from dfc.backend_cost.mapping_cost import MappingCost, price_mapping
from dfc.backend_cost.nest import Loop, Mapping
from dfc.backend_cost.tables import build_tables
from dfc.ir import Dim

CASES = reference.load("mapping_cases.json.gz", "DFC_REFERENCE_CASES")["cases"]
IDS = [f"{c['case_id']}-{c['kind']}" for c in CASES]


@pytest.mark.reference
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_evaluations_agree(case: dict[str, Any]) -> None:
    arch = reference.arch_of(case["accelerator"])
    nest, names = reference.nest_of(case, arch)
    for recorded in case["evaluations"]:
        points, batch = reference.batch_of(names, recorded["temporal_mapping"])
        tables = build_tables(nest, arch, points)
        cuts = evaluate.effective_cuts(tables, batch)
        out = recorded["outputs"]
        assert evaluate.energy_pj(tables, batch, cuts)[0] == pytest.approx(out["energy_total"], rel=1e-9)
        time = evaluate.latency(tables, batch, cuts)
        assert time.ideal_cycles == out["ideal_temporal_cycle"]
        assert time.stall_cycles[0] == out["SS_comb"]
        assert time.loading_cycles[0] == out["data_loading_cycle"]
        assert time.offloading_cycles[0] == out["data_offloading_cycle"]
        assert time.running_cycles[0] == out["latency_total0"]
        assert time.total_cycles[0] == out["latency_total1"]
        for name, table, cut in zip(names, tables.operands, cuts, strict=True):
            for level, directions in enumerate(out["memory_word_access"][name]):
                links = {k.move: k for k in table.links if k.level == level}
                for direction, words in directions.items():
                    link = links.get(reference.MOVES[direction])
                    ours = 0.0
                    if link is not None:
                        at = batch.point[0, cut[0, link.boundary - 1]] if link.boundary else 0
                        ours = link.words[at]
                    assert ours == pytest.approx(words, rel=1e-9), (name, level, direction)


@pytest.mark.reference
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_utilisation_agrees(case: dict[str, Any]) -> None:
    """Of the array to the last bit, of memories to 1e-9; and with it who was granted a second buffer."""
    arch = reference.arch_of(case["accelerator"])
    nest, names = reference.nest_of(case, arch)
    for recorded in case["evaluations"]:
        points, batch = reference.batch_of(names, recorded["temporal_mapping"])
        tables = build_tables(nest, arch, points)
        cuts = evaluate.effective_cuts(tables, batch)
        loops = tuple(Loop(Dim[d], s) for level in recorded["temporal_mapping"][names[0]] for d, s in level)
        whole = Mapping(loops, tuple(tuple(int(x) for x in c[0]) for c in batch.cuts))
        found = utilisation(tables, batch, cuts, price_mapping(nest, arch, whole))
        out = recorded["outputs"]
        assert found.spatial == out["MAC_spatial_utilization"]
        assert found.array == tuple(out[f"MAC_utilization{i}"] for i in range(3))
        assert found.temporal == pytest.approx([whole / found.spatial for whole in found.array], rel=1e-9)
        granted = evaluate.double_buffers(tables, batch, cuts)
        share: dict[int, float] = {}  # of a memory, after second buffers are granted
        for i, name in enumerate(names):
            for level, memory in enumerate(nest.operands[i].memories):
                assert found.held[i, level] == pytest.approx(out["mem_utili_individual"][name][level], rel=1e-9)
                assert found.memories[memory] == pytest.approx(out["mem_utili_shared"][name][level], rel=1e-9)
                own = out["effective_mem_utili_individual"][name][level]
                share[memory] = share.get(memory, 0.0) + own
        free = {memory for memory, taken in share.items() if taken <= 0.5}
        for i, name in enumerate(names):
            for level, memory in enumerate(nest.operands[i].memories):
                if memory not in free and granted[i][level][0]:
                    share[memory] += out["effective_mem_utili_individual"][name][level]
        for i, name in enumerate(names):
            for level, memory in enumerate(nest.operands[i].memories):
                assert share[memory] == pytest.approx(out["effective_mem_utili_shared_after_db"][name][level], rel=1e-9)


@pytest.mark.reference
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_loma_finds_the_recorded_least_energy(case: dict[str, Any]) -> None:
    """The same orders and the same allocation: the same least energy, and among equals the shortest time."""
    arch = reference.arch_of(case["accelerator"])
    nest, _ = reference.nest_of(case, arch)
    found = loma(nest, arch)
    assert isinstance(found, MappingCost)
    assert found.energy_pj == pytest.approx(case["loma"]["min_energy"], rel=1e-9)
    ties = case["loma"].get("min_energy_tie_latencies_total1")
    if ties:  # the reference evaluates ties in an order of its own; none of them is faster than ours
        assert found.latency_cycles <= min(ties)
