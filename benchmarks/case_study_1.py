"""Case study 1 of the DeFiNES paper (HPCA 2023): 108 depth-first plans of one network, priced as its model prices them.

python benchmarks/case_study_1.py [--small] [--json FILE]

FSRCNN without padding on meta_proto_df, one stack; six tile widths by six heights in three modes: by the reference's
rules with the model ``defines``, and by our own with the model ``exact``, where not every plan has room. Each plan gets
the best mappings. Cold: one process, no store of mappings. Time is processor time after the imports. The original takes
45 minutes for these points at its fast setting and 18 hours at the setting of the paper.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from dfc.backend_cost.cost_model import DEFINES, EXACT
from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import Objective
from dfc.collector import rare_collections
from dfc.hwdsl import load_arch
from dfc.passes.stacks import cut_after
from dfc.passes.tiles import Overlap, Tiler
from dfc.pipeline import import_graph
from dfc.scheduling.levels import Infeasible
from dfc.scheduling.policy import OURS, REFERENCE

MODEL = Path(__file__).parent.parent / "examples" / "models" / "fsrcnn_unpadded.onnx"
CHIP = "meta_proto_df"
WIDTHS = (1, 4, 16, 60, 240, 960)
HEIGHTS = (1, 4, 18, 72, 270, 540)
SMALL_WIDTHS, SMALL_HEIGHTS = (4, 60), (4, 72)
MODES = (Overlap.RECOMPUTE, Overlap.H_CACHED, Overlap.CACHED)
RULES = {"defines": (REFERENCE, DEFINES), "own": (OURS, EXACT)}
TARGET_S = 10.0


@dataclass(frozen=True)
class Point:
    """One plan: its tile, its mode, what it costs and how long the answer took; no costs where it has no room."""

    tile_x: int
    tile_y: int
    mode: str
    classes: int
    energy_pj: float | None
    latency_cycles: int | None
    ms: float


def points(rules: str, widths: Sequence[int], heights: Sequence[int]) -> Iterator[Point]:
    """Every plan in turn, priced with the mappings that earlier ones needed."""
    policy, model = RULES[rules]
    graph, arch = import_graph(MODEL), load_arch(CHIP)
    pricer = policy.pricer(graph, arch, MappingCache(arch, Objective.ENERGY, model))
    (stack,) = cut_after(graph, [])
    tiler = Tiler(graph, stack, remainder_first=policy.remainder_first)
    for mode, width, height in product(MODES, widths, heights):
        start = time.process_time()
        plan = tiler.plan((width, height), mode)
        cost = pricer.price(plan)
        ms = (time.process_time() - start) * 1e3
        fits = not isinstance(cost, Infeasible)
        energy, cycles = (cost.energy_pj, cost.latency_cycles) if fits else (None, None)
        yield Point(width, height, mode.value, len(plan.classes), energy, cycles, ms)


def report(point: Point, what: str) -> None:
    """Print one plan."""
    tile = f"{point.tile_x}x{point.tile_y}"
    costs = f"{'has no room':>34}"
    if point.energy_pj is not None:
        costs = f"{point.energy_pj / 1e9:>10.4f} mJ{point.latency_cycles:>14,} cycles"
    print(f"{what:<14}{tile:>9} {point.mode:<10}{point.classes:>3} classes{costs}{point.ms:>8.0f} ms", flush=True)


@rare_collections()
def run(rules: str, *, small: bool) -> dict[str, Any]:
    """All plans by some rules, printed."""
    print(f"\n{rules}")
    start = time.process_time()
    found: list[Point] = []
    for point in points(rules, *((SMALL_WIDTHS, SMALL_HEIGHTS) if small else (WIDTHS, HEIGHTS))):
        found.append(point)
        report(point, f"point {len(found)}")
    seconds = time.process_time() - start
    fit = [p for p in found if p.energy_pj is not None]
    report(min(fit, key=lambda p: p.energy_pj), "least energy")
    report(min(fit, key=lambda p: p.latency_cycles), "least latency")
    report(max(found, key=lambda p: p.ms), "longest search")
    print(f"{rules}: {len(found)} points in {seconds:.1f} s of processor time (target {TARGET_S:.0f} s)")
    return {"seconds": seconds, "points": [asdict(p) for p in found]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="12 of the points, for continuous integration")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every point")
    options = parser.parse_args()
    if hasattr(os, "getloadavg"):
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    found = {rules: run(rules, small=options.small) for rules in RULES}
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak {peak_mib:.0f} MiB")
    if options.json:
        options.json.write_text(json.dumps({"peak_mib": peak_mib, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
