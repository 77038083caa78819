"""The worked example of docs/depth-first.md is what dfc computes: its tables row by row, and the numbers of its text.

With DFC_UPDATE_GOLDEN=1 the cells of the tables are written anew; the names of classes and the text stay as they are.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

import pytest

import dfc
from dfc.backend_cost.schedule import Schedule
from dfc.hwdsl import load_arch
from dfc.ir import Graph
from dfc.passes.stacks import cut_after
from dfc.passes.tiles import DepthFirstPlan, Overlap, Tiler
from dfc.pipeline import import_graph
from dfc.scheduling.levels import MapSizes, class_demand

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "depth-first.md"
MODES = ("recompute", "h-cached", "cached")
HW, TILE = "meta_proto_df", (60, 72)
MIDDLE = 4  # the class of most tiles, with everything cached


@cache
def graph(padded: bool = False) -> Graph:
    return import_graph(ROOT / "examples" / "models" / ("fsrcnn.onnx" if padded else "fsrcnn_unpadded.onnx"))


@cache
def schedule(mode: str) -> Schedule:
    model = ROOT / "examples" / "models" / "fsrcnn_unpadded.onnx"
    return dfc.compile(model, HW, tile="x".join(map(str, TILE)), overlap=mode, reproduce="defines")


def plan(mode: str, padded: bool = False) -> DepthFirstPlan:
    (stack,) = cut_after(graph(padded), [])
    return Tiler(graph(padded), stack).plan(TILE, Overlap(mode))


def inputs(found: DepthFirstPlan) -> list[str]:
    """Per class, how much the input must provide."""
    (name,) = found.stack.inputs
    return [f"{dict(c.x.tensors)[name].fresh}x{dict(c.y.tensors)[name].fresh}" for c in found.classes]


def class_rows(mode: str) -> list[tuple[str, ...]]:
    (stack,) = schedule(mode).stacks
    return [
        (
            str(c.count),
            fresh,
            "x".join(map(str, c.layers[-1].extents)),
            f"{c.energy_pj / 1e6:.3f}",
            f"{c.latency_cycles:,}",
        )
        for c, fresh in zip(stack.tile_classes, inputs(plan(mode)), strict=True)
    ]


def total_rows() -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for mode in MODES:
        t = schedule(mode).totals
        macs, read = f"{t.macs:,}", f"{t.dram_read_bits / 8192:.1f} KiB"
        rows.append((f"{t.energy_pj / 1e9:.3f} mJ", f"{t.latency_cycles:,}", macs, read))
    whole, one = schedule("cached").layer_by_layer, schedule("cached").totals.network_macs
    assert whole is not None
    return [*rows, (f"{whole.energy_pj / 1e9:.3f} mJ", f"{whole.latency_cycles:,}", f"{one:,}", "")]


def example() -> tuple[str, str, str]:
    """What stands before the example, it, and what stands after it."""
    before, title, rest = PAGE.read_text(encoding="utf-8").partition("## A worked example\n")
    text, end, after = rest.partition("## Differences to the reference\n")
    assert title and end
    return before + title, text, end + after


@pytest.mark.slow
def test_the_tables() -> None:
    before, text, after = example()
    expected = [row for mode in MODES for row in class_rows(mode)] + total_rows()
    lines = text.splitlines()
    rows = [
        i for i, line in enumerate(lines) if re.match(r"\| (recompute|h-cached|cached|layer by layer.*|) *\|", line)
    ]
    rows = [i for i in rows if "output" not in lines[i]]
    assert len(rows) == len(expected), "the example has other classes: write its rows anew"
    shown = [tuple(cell.strip() for cell in lines[i].strip("|").split("|")) for i in rows]
    if os.environ.get("DFC_UPDATE_GOLDEN") == "1":
        for i, cells, new in zip(rows, shown, expected, strict=True):
            lines[i] = f"| {' | '.join((*cells[: -len(new)], *new))} |".replace("|  |", "| |")
        PAGE.write_text(before + "\n".join(lines) + "\n" + after, encoding="utf-8")
    else:
        for cells, new in zip(shown, expected, strict=True):
            assert cells[-len(new) :] == new


@pytest.mark.slow
def test_the_text() -> None:
    text = " ".join(example()[1].split())
    found, arch = plan("cached"), load_arch(HW)
    middle = found.classes[MIDDLE]
    assert middle.count == max(c.count for c in found.classes)
    demand = class_demand(graph(), found.stack, middle, MapSizes(graph(), arch))
    (stack,) = schedule("cached").stacks
    sizes = {m.name: m.size_bits for m in arch.memories}
    assert schedule("cached").totals.macs == schedule("cached").totals.network_macs
    assert f"The weights are {stack.weight_bits:,} bits and stay in `{stack.weight_memory}`" in text
    assert f"live maps take {demand.live_bits:,} bits" in text
    assert f"the H cache {demand.h_cache_bits:,} and the V cache {demand.v_cache_bits:,}" in text
    assert f"({demand.corner_bits:,} of these two are the same)" in text
    assert sizes["lb_io"] == 64 * 8192 < demand.live_bits + demand.h_cache_bits < sizes["gb_io"] == 8 * 2**20
    assert stack.h_cache_memory == stack.v_cache_memory == "gb_io"
    for run in stack.tile_classes[MIDDLE].layers[:4]:
        at = next(i for i, layer in enumerate(graph().layers) if layer.name == run.layer)
        number = found.stack.layers.index(at)
        window = f"{middle.x.reads[number][0].window}x{middle.y.reads[number][0].window}"
        (row,) = re.findall(rf"\| {run.layer}, \dx\d \| ([^|]*) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|", text)
        assert row[0] == window
        bits = {c.what: f"{c.bits:,}" for c in run.copies}
        came = bits.get("input") or bits.get("feature map")
        assert (came is None and f"read in `{run.memories['I']}`" == row[1]) or (came and row[1].startswith(came))
        caches = [f"{bits[f'read {c} cache']} bits {c}" for c in "HV" if f"read {c} cache" in bits]
        assert row[2] == (", ".join(caches) or "nothing")
        assert row[3] == f"`{run.memories['O']}`"
    (classes,) = {len(plan(mode, padded=True).classes) for mode in MODES}
    assert f"has {classes} classes in each of these modes" in text
    assert (
        f"its first tile needs {inputs(plan('cached', padded=True))[0]} of the input and not {inputs(found)[0]}" in text
    )
