"""How long the main job takes: compiling networks with everything automatic, cold, each in a process of its own.

python benchmarks/compile_networks.py [--small] [--hw NAME] [--objective NAME] [NETWORK ...]

Prints per network: seconds of processor time beside the target, where there is one, peak memory, energy and latency.
Imports and the building of the model are not timed. Machines differ and are shared: ratios within one run say more than
seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import onnx

import dfc

EXAMPLES = Path(__file__).parent.parent / "examples"
#: seconds
TARGETS = {
    "fsrcnn": 5.0,
    "mc_cnn": 5.0,
    "dmcnn_vd": 20.0,
    "mobilenetv1": 20.0,
    "resnet18": 20.0,
    "mobilenetv2": 60.0,
    "resnet50": 60.0,
}
TARGET_MIB = 1024
SMALL = ("tiny_chain", "separable_block", "residual_block")


def build(name: str) -> onnx.ModelProto:
    """One of the example networks, or ResNet-50, which is not among them."""
    sys.path.insert(0, str(EXAMPLES))
    from networks import NETWORKS  # examples/networks

    return resnet50() if name == "resnet50" else NETWORKS[name].build()


def resnet50() -> onnx.ModelProto:
    """Of bottleneck blocks, after ResNet-18's stem ("Deep Residual Learning for Image Recognition", CVPR 2016)."""
    from networks.builder import NetBuilder  # examples/networks

    net = NetBuilder("resnet50", seed=1050)
    x = net.relu(net.conv(net.input((1, 3, 224, 224)), 64, 7, "stem", stride=2), "stem_relu")
    x = net.pool("MaxPool", x, 3, "stem_pool", stride=2, pads=1)
    for stage, (blocks, channels) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for block in range(blocks):
            name = f"stage{stage}_block{block}"
            stride = 2 if stage and not block else 1
            shortcut = x if block else net.conv(x, 4 * channels, 1, f"{name}_project", stride=stride)
            x = net.relu(net.conv(x, channels, 1, f"{name}_conv1"), f"{name}_relu1")
            x = net.relu(net.conv(x, channels, 3, f"{name}_conv2", stride=stride), f"{name}_relu2")
            x = net.conv(x, 4 * channels, 1, f"{name}_conv3")
            x = net.relu(net.binary("Add", shortcut, x, f"{name}_add"), f"{name}_relu3")
    return net.finish(net.dense(net.global_pool(x, "pool"), 1000, "classifier"))


def compile_one(model: Path, hw: str, objective: str) -> dict[str, Any]:
    """Compile in this process: what it takes and what comes out."""
    start = time.process_time()
    schedule = dfc.compile(model, hw, objective=objective)
    seconds = time.process_time() - start
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    totals, base = schedule.totals, schedule.layer_by_layer
    gain = base.energy_gain if base else float("nan")
    found = {"seconds": seconds, "mib": mib, "pj": totals.energy_pj, "cycles": totals.latency_cycles, "gain": gain}
    return {**found, "layers": len(schedule.layers), "stacks": len(schedule.stacks)}


def apart(model: Path, hw: str, objective: str) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--model", str(model), "--hw", hw, "--objective", objective]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--small", action="store_true", help="three small networks, for continuous integration")
    parser.add_argument("--hw", default="meta_proto_df")
    parser.add_argument("--objective", choices=("energy", "latency", "edp"), default="energy")
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)  # one file, in this process, as JSON
    options = parser.parse_args()
    if options.model:
        print(json.dumps(compile_one(options.model, options.hw, options.objective)))
        return
    names = options.networks or (SMALL if options.small else TARGETS)
    if hasattr(os, "getloadavg"):
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; at most {TARGET_MIB} MiB are asked for")
    print(
        f"{'network':<18}{'CPU s':>8}{'target':>8}{'MiB':>6}{'layers':>8}{'stacks':>8}"
        f"{'energy uJ':>14}{'cycles':>14}{'x less than LBL':>17}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            model = Path(folder) / f"{name}.onnx"
            onnx.save(build(name), model)
            run = apart(model, options.hw, options.objective)
            target = f"{TARGETS[name]:.0f}" if name in TARGETS else "-"
            print(
                f"{name:<18}{run['seconds']:>8.1f}{target:>8}{run['mib']:>6.0f}{run['layers']:>8}{run['stacks']:>8}"
                f"{run['pj'] / 1e6:>14.2f}{run['cycles']:>14,}{run['gain']:>17.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
