"""How the time of the search grows with the number of layers: chains of convolutions with everything automatic.

python benchmarks/chain_length.py [--hw NAME] [--most LAYERS] [--json FILE] [--picture FILE]

Chains of 8, 16, 32, ... layers (3x3, 16 channels, maps of 64x64), each compiled cold in a process of its own. With
--picture the times are drawn over the layers (needs matplotlib, as ``dfc figure`` does).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx
from compile_networks import EXAMPLES, apart

LENGTHS = tuple(2**n for n in range(3, 10))
CHANNELS, SIZE = 16, 64


def chain(layers: int) -> onnx.ModelProto:
    """A chain of convolutions with a ReLU after each."""
    sys.path.insert(0, str(EXAMPLES))
    from networks.builder import NetBuilder  # examples/networks

    net = NetBuilder(f"chain{layers}", seed=layers)
    x = net.input((1, CHANNELS, SIZE, SIZE))
    for i in range(layers):
        x = net.relu(net.conv(x, CHANNELS, 3, f"conv{i}"), f"relu{i}")
    return net.finish(x)


def draw(runs: list[dict[str, Any]], hw: str, path: Path) -> None:
    """Seconds over layers, both logarithmic, beside what grows in proportion from the middle length on."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    layers = [run["layers"] for run in runs]
    seconds = [run["seconds"] for run in runs]
    middle = len(runs) // 2
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.loglog(layers, seconds, "o-", base=2, label="dfc compile")
    axes.loglog(layers, [seconds[middle] * n / layers[middle] for n in layers], "--", base=2, label="in proportion")
    axes.set_xticks(layers, [str(n) for n in layers])
    axes.set_yticks(seconds, [f"{s:.0f}" for s in seconds])
    axes.minorticks_off()
    axes.set_xlabel("layers of a chain")
    axes.set_ylabel("processor time (s)")
    axes.set_title(f"time of the search, {hw}")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hw", default="meta_proto_df")
    parser.add_argument("--most", type=int, default=LENGTHS[-1], metavar="LAYERS", help="no longer chains")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep runs, a line each, and read them again")
    parser.add_argument("--picture", type=Path, metavar="FILE")
    options = parser.parse_args()
    kept = options.json.read_text().splitlines() if options.json and options.json.exists() else []
    known = {run["layers"]: run for run in map(json.loads, kept)}
    runs: list[dict[str, Any]] = []
    print(f"{'layers':>6}{'CPU s':>9}{'s/layer':>9}{'MiB':>6}{'stacks':>8}{'energy uJ':>14}")
    with tempfile.TemporaryDirectory() as folder:
        for layers in LENGTHS:
            if layers > options.most:
                break
            if layers not in known:
                model = Path(folder) / f"chain{layers}.onnx"
                onnx.save(chain(layers), model)
                known[layers] = apart(model, options.hw, "energy")
                if options.json:
                    with options.json.open("a") as file:
                        file.write(json.dumps(known[layers]) + "\n")
            run = known[layers]
            runs.append(run)
            print(
                f"{layers:>6}{run['seconds']:>9.1f}{run['seconds'] / layers:>9.2f}{run['mib']:>6.0f}"
                f"{run['stacks']:>8}{run['pj'] / 1e6:>14.2f}",
                flush=True,
            )
    if options.picture:
        draw(runs, options.hw, options.picture)


if __name__ == "__main__":
    main()
