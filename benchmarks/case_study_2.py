"""Case study 2 of the DeFiNES paper (HPCA 2023): five networks on ten architectures, baselines and depth-first.

python benchmarks/case_study_2.py [--small] [--objective NAME] [--json FILE] [NETWORK ...]

Three ways to run each network on each chip: every layer alone with its maps in DRAM (single layer), the network in
stacks with one tile each (layer by layer), and depth-first with everything automatic. Each is compiled with no store of
mappings; times are processor time. With --json, what a file already holds is not run again, so that a run that was
ended goes on where it stopped; delete the file to start anew.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from math import exp, log
from pathlib import Path
from statistics import mean

import onnx

import dfc

ROOT = Path(__file__).parent.parent
NETWORKS = ("fsrcnn", "mc_cnn", "dmcnn_vd", "mobilenetv1", "resnet18")
FAMILIES = ("meta_proto", "tpu_like", "edge_tpu_like", "ascend_like", "tesla_npu_like")
CHIPS = tuple(family + df for family in FAMILIES for df in ("", "_df"))
SMALL_NETWORKS, SMALL_CHIPS = ("tiny_chain", "residual_block"), ("meta_proto", "meta_proto_df")
#: a tile that no map exceeds
WHOLE = "1000000x1000000"
WAYS = {
    "single": {"stacks": "each", "tile": WHOLE},
    "layers": {"stacks": "auto", "tile": WHOLE},
    "depth-first": {"stacks": "auto", "tile": "auto"},
}
TARGET_S = 600.0


@dataclass(frozen=True)
class Run:
    """One network on one chip in one way."""

    network: str
    chip: str
    way: str
    objective: str
    energy_pj: float
    latency_cycles: int
    seconds: float

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What tells it from other runs."""
        return self.network, self.chip, self.way, self.objective


def known_runs(path: Path | None) -> dict[tuple[str, str, str, str], Run]:
    """What a file of an earlier run holds: one object a line; a last line that was cut short is dropped."""
    found: dict[tuple[str, str, str, str], Run] = {}
    for line in path.read_text().splitlines() if path and path.exists() else ():
        try:
            run = Run(**json.loads(line))
        except (ValueError, TypeError):
            continue
        found[run.key] = run
    return found


def compile_one(model: Path, chip: str, way: str, objective: str) -> Run:
    """Compile, and time it."""
    start = time.process_time()
    schedule = dfc.compile(model, chip, objective=objective, **WAYS[way])
    seconds = time.process_time() - start
    totals = schedule.totals
    return Run(model.stem, chip, way, objective, totals.energy_pj, totals.latency_cycles, seconds)


def report(runs: list[Run]) -> None:
    """Print one network on one chip: energies and cycles, gains over the baselines, and seconds of each way."""
    single, layers, ours = runs
    gains = (single.energy_pj / ours.energy_pj, layers.energy_pj / ours.energy_pj)
    faster = layers.latency_cycles / ours.latency_cycles
    seconds = "/".join(f"{run.seconds:.1f}" for run in runs)
    energies = "".join(f"{run.energy_pj / 1e9:>10.3f}" for run in runs)
    print(
        f"{ours.network:<16}{ours.chip:<18}{energies}{gains[0]:>8.2f}{gains[1]:>8.2f}{faster:>8.2f}{seconds:>18}",
        flush=True,
    )


def summary(rows: list[list[Run]]) -> None:
    """Print the mean gain per chip (geometric)."""
    print(f"\n{'chip':<18}{'x less energy than single':>28}{'than layers':>14}")
    for chip in dict.fromkeys(runs[-1].chip for runs in rows):
        here = [runs for runs in rows if runs[-1].chip == chip]
        gains = [exp(mean(log(runs[i].energy_pj / runs[-1].energy_pj) for runs in here)) for i in (0, 1)]
        print(f"{chip:<18}{gains[0]:>28.2f}{gains[1]:>14.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="example networks in place of the five")
    parser.add_argument("--small", action="store_true", help="two small networks on two chips, for integration")
    parser.add_argument("--objective", choices=("energy", "latency", "edp"), default="energy")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run, a line each, and read it again")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "examples"))
    from networks import NETWORKS as BUILDERS  # examples/networks

    names = options.networks or (SMALL_NETWORKS if options.small else NETWORKS)
    known = known_runs(options.json)
    rows: list[list[Run]] = []
    if hasattr(os, "getloadavg"):
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {len(known)} runs known")
    heads = f"{'single':>10}{'layers':>10}{'ours':>10}{'x less':>8}{'x less':>8}{'x fast':>8}"
    print(f"{'mJ':<34}{heads}{'CPU s of each':>18}")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            model = Path(folder) / f"{name}.onnx"
            onnx.save(BUILDERS[name].build(), model)
            for chip in SMALL_CHIPS if options.small else CHIPS:
                runs: list[Run] = []
                for way in WAYS:
                    run = known.get((name, chip, way, options.objective))
                    if run is None:
                        run = compile_one(model, chip, way, options.objective)
                        if options.json:
                            with options.json.open("a") as file:
                                file.write(json.dumps(asdict(run)) + "\n")
                    runs.append(run)
                report(runs)
                rows.append(runs)
    summary(rows)
    total = sum(run.seconds for runs in rows for run in runs)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\n{len(rows)} pairs in {total:.1f} s of processor time (target {TARGET_S:.0f} s), peak {peak_mib:.0f} MiB")


if __name__ == "__main__":
    main()
