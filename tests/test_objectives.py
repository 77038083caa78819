"""The three objectives beside each other: what has least of one has no less of it than what has least of another."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from example_models import build

import dfc
from dfc.pipeline import ProgressEvent


def built(name: str, folder: Path) -> Path:
    path = folder / f"{name}.onnx"
    onnx.save(build(name), path)
    return path


@pytest.mark.slow
def test_the_least_product_is_no_more_than_that_of_the_least_energy(tmp_path: Path) -> None:
    model = built("separable_block", tmp_path)
    energy, product = (dfc.compile(model, "meta_proto_df", objective=o).totals for o in ("energy", "edp"))
    assert product.energy_pj * product.latency_cycles <= energy.energy_pj * energy.latency_cycles
    assert product.energy_pj >= energy.energy_pj


@pytest.mark.slow
def test_no_schedule_is_dearer_than_every_layer_by_itself(tmp_path: Path) -> None:
    for name in ("residual_block", "rectangular"):
        found = dfc.compile(built(name, tmp_path), "ascend_like")
        for other in found.baselines:
            assert found.totals.energy_pj <= other.energy_pj * (1 + 1e-9), (name, other.name)


@pytest.mark.parametrize("after", [1, 4, 8])
def test_an_interruption_keeps_what_there_is_in_either_search(tmp_path: Path, after: int) -> None:
    """A search for another objective begins with one for energy."""
    events: list[ProgressEvent] = []

    def stop(event: ProgressEvent) -> None:
        events.append(event)
        if len(events) == after + 2:
            raise KeyboardInterrupt

    found = dfc.compile(built("tiny_chain", tmp_path), "meta_proto_df", objective="edp", progress=stop)
    assert not found.complete
    assert found.totals.energy_pj > 0


def test_progress_counts_both_searches(tmp_path: Path) -> None:
    events: list[ProgressEvent] = []
    dfc.compile(built("tiny_chain", tmp_path), "meta_proto_df", objective="edp", progress=events.append)
    for counts in ([event.done for event in events], [event.mapped for event in events]):
        assert counts == sorted(counts)
