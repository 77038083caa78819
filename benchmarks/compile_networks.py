"""How long the main job takes: compiling example networks with everything automatic, cold, in this process.

python benchmarks/compile_networks.py [--small] [--hw NAME] [NETWORK ...]

Prints per network: seconds of processor time, plans priced, the share of the first network's time, energy and latency.
Ratios within one run say more than seconds: machines differ and are shared.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import onnx

import dfc

EXAMPLES = Path(__file__).parent.parent / "examples"
NETWORKS = ("fsrcnn", "mc_cnn", "dmcnn_vd", "mobilenetv1", "resnet18", "mobilenetv2")
SMALL = ("tiny_chain", "separable_block", "residual_block")


def compile_one(name: str, hw: str, folder: Path) -> tuple[float, int, dfc.Schedule]:
    """Processor seconds, plans priced, and the schedule."""
    from networks import NETWORKS as BUILDERS  # examples/networks

    path = folder / f"{name}.onnx"
    onnx.save(BUILDERS[name].build(), path)
    plans = 0

    def count(_event: object) -> None:
        nonlocal plans
        plans += 1

    start = time.process_time()
    schedule = dfc.compile(path, hw, progress=count)
    return time.process_time() - start, plans, schedule


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--small", action="store_true", help="three small networks, for continuous integration")
    parser.add_argument("--hw", default="meta_proto_df")
    options = parser.parse_args()
    sys.path.insert(0, str(EXAMPLES))
    names = options.networks or (SMALL if options.small else NETWORKS)
    first = 0.0
    print(f"{'network':<18}{'CPU s':>8}{'ratio':>8}{'plans':>8}{'energy uJ':>14}{'cycles':>14}{'x less than LBL':>17}")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            seconds, plans, schedule = compile_one(name, options.hw, Path(folder))
            first = first or seconds
            totals, base = schedule.totals, schedule.layer_by_layer
            gain = base.energy_gain if base else float("nan")
            print(
                f"{name:<18}{seconds:>8.1f}{seconds / first:>8.2f}{plans:>8}{totals.energy_pj / 1e6:>14.2f}"
                f"{totals.latency_cycles:>14,}{gain:>17.2f}"
            )
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory {peak_kib / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
