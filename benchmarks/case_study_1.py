"""Case study 1 of the DeFiNES paper (HPCA 2023): 108 depth-first plans of one network, priced as its model prices them.

python benchmarks/case_study_1.py [--small] [--json FILE]

FSRCNN without padding on meta_proto_df, one stack; six tile widths by six heights in three modes. Each plan gets the
best mappings under the model ``defines``. Cold: one process, no store of mappings. Time is processor time after the
imports. The original takes 45 minutes for these points at its fast setting and 18 hours at the setting of the paper.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from dfc.backend_cost.cost_model import DEFINES
from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import Objective
from dfc.hwdsl import load_arch
from dfc.passes.stacks import cut_after
from dfc.passes.tiles import Overlap, Tiler
from dfc.pipeline import import_graph
from dfc.scheduling.engine import StackPricer
from dfc.scheduling.levels import Infeasible

MODEL = Path(__file__).parent.parent / "examples" / "models" / "fsrcnn_unpadded.onnx"
CHIP = "meta_proto_df"
WIDTHS = (1, 4, 16, 60, 240, 960)
HEIGHTS = (1, 4, 18, 72, 270, 540)
SMALL_WIDTHS, SMALL_HEIGHTS = (4, 60), (4, 72)
MODES = (Overlap.RECOMPUTE, Overlap.H_CACHED, Overlap.CACHED)
TARGET_S = 10.0


@dataclass(frozen=True)
class Point:
    """One plan: its tile, its mode, what it costs and how long the answer took."""

    tile_x: int
    tile_y: int
    mode: str
    classes: int
    energy_pj: float
    latency_cycles: int
    ms: float


def points(widths: Iterable[int], heights: Iterable[int]) -> Iterator[Point]:
    """Every plan in turn, priced with the mappings that earlier ones needed."""
    graph, arch = import_graph(MODEL), load_arch(CHIP)
    pricer = StackPricer(graph, arch, MappingCache(arch, Objective.ENERGY, DEFINES))
    (stack,) = cut_after(graph, [])
    tiler = Tiler(graph, stack)
    heights = tuple(heights)
    for mode in MODES:
        for width in widths:
            for height in heights:
                start = time.process_time()
                cost = pricer.price(tiler.plan((width, height), mode))
                seconds = time.process_time() - start
                assert not isinstance(cost, Infeasible), cost
                number = len(cost.classes)
                yield Point(width, height, mode.value, number, cost.energy_pj, cost.latency_cycles, seconds * 1e3)


def report(point: Point, what: str) -> None:
    """Print one plan."""
    tile = f"{point.tile_x}x{point.tile_y}"
    print(
        f"{what:<14}{tile:>9} {point.mode:<10}{point.classes:>3} classes{point.energy_pj / 1e9:>10.4f} mJ"
        f"{point.latency_cycles:>14,} cycles{point.ms:>8.0f} ms",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="12 of the points, for continuous integration")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every point")
    options = parser.parse_args()
    if hasattr(os, "getloadavg"):
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    start = time.process_time()
    found: list[Point] = []
    for point in points(*((SMALL_WIDTHS, SMALL_HEIGHTS) if options.small else (WIDTHS, HEIGHTS))):
        found.append(point)
        report(point, f"point {len(found)}")
    seconds = time.process_time() - start
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print()
    report(min(found, key=lambda p: p.energy_pj), "least energy")
    report(min(found, key=lambda p: p.latency_cycles), "least latency")
    report(max(found, key=lambda p: p.ms), "longest search")
    print(
        f"{len(found)} points in {seconds:.1f} s of processor time (target {TARGET_S:.0f} s), peak {peak_mib:.0f} MiB"
    )
    if options.json:
        everything = {"seconds": seconds, "peak_mib": peak_mib, "points": [asdict(p) for p in found]}
        options.json.write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()
