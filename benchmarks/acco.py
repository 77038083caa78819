"""The comparison of ACCO (ICCD 2023): networks over time, per frame, in four ways.

python benchmarks/acco.py [--small] [--objective NAME] [--json FILE] [--chip NAME] [NETWORK ...]

With hop 1, so that there is a window for every frame: the window layer by layer, the window depth-first, every layer
of the dense streaming form by itself with maps off chip between them (fixed), and the joint search of cuts, forms and
depth-first schedules. Prints energy, cycles and their product per frame, what is kept from frame to frame, and seconds
of processor time. With --json, what the file already holds is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from math import exp, log
from pathlib import Path
from statistics import mean

import onnx

import dfc
from dfc.causal import streaming
from dfc.frontend.timed import TimedModel, import_timed
from dfc.hwdsl import load_arch
from dfc.passes.causal_plan import CausalOptions
from dfc.step_compile import compile_joint, compile_step, parse_step_request

ROOT = Path(__file__).parent.parent
#: networks with their time axis
NETWORKS = {
    "seldnet_s": "H",
    "seldnet_m": "H",
    "seldnet_l": "H",
    "stft_cnn_025": "H",
    "stft_cnn_050": "H",
    "stft_cnn_075": "H",
    "stft_cnn_100": "H",
    "tcn_kws": "T",
    "cnn3d": "T",
}
SMALL = ("stft_cnn_025",)
CHIPS = ("meta_proto_df", "edge_tpu_like_df", "tesla_npu_like_df")
WAYS = ("window", "window df", "fixed", "joint")
#: a tile that no map exceeds
WHOLE = "1000000x1000000"
#: of the joint search, in seconds
TARGET_S = 60.0


@dataclass(frozen=True)
class Run:
    """One network on one chip in one way, per frame."""

    network: str
    chip: str
    way: str
    objective: str
    energy_pj: float
    latency_cycles: float
    state_bits: int
    seconds: float

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What tells it from other runs."""
        return self.network, self.chip, self.way, self.objective

    @property
    def edp(self) -> float:
        """Energy times delay, in pJ times cycles."""
        return self.energy_pj * self.latency_cycles


def write(name: str, folder: Path) -> Path:
    """The model's file."""
    sys.path.insert(0, str(ROOT / "examples"))
    from networks import NETWORKS as EXAMPLES  # examples/networks

    path = folder / f"{name}.onnx"
    onnx.save(EXAMPLES[name].build(), path)
    return path


def run(model: Path, timed: TimedModel, network: str, chip: str, way: str, objective: str) -> Run:
    """Schedule a network in one way."""
    start = time.process_time()
    state = 0
    if way.startswith("window"):
        tile = "auto" if way == "window df" else WHOLE
        schedule = dfc.compile(model, chip, objective=objective, tile=tile)
        energy, cycles = schedule.totals.energy_pj, float(schedule.totals.latency_cycles)
    else:
        options, arch = CausalOptions(), load_arch(chip)
        request = parse_step_request(objective, "each" if way == "fixed" else "auto", 1, None, 1)
        if way == "fixed":
            schedule = compile_step(model, streaming(timed, options), arch, replace(request, on_chip=False))
        else:
            schedule = compile_joint(model, timed, options, arch, request)
        assert schedule.step is not None
        energy, cycles = schedule.totals.energy_pj, float(schedule.totals.latency_cycles)
        state = schedule.step.ring_bits
    return Run(network, chip, way, objective, energy, cycles, state, time.process_time() - start)


def table(runs: list[Run]) -> str:
    """A row per network, chip and way; then what the joint search gains over each of the others, on average."""
    lines = ["| network | chip | way | energy (uJ) | cycles | EDP (uJ * kcycles) | state (KiB) | s |", "|---" * 8 + "|"]
    for one in runs:
        lines.append(
            f"| {one.network} | {one.chip} | {one.way} | {one.energy_pj / 1e6:,.4g} | {one.latency_cycles:,.0f} "
            f"| {one.edp / 1e9:,.4g} | {one.state_bits / 8192:,.1f} | {one.seconds:.1f} |"
        )
    lines += ["", "| the joint search beside | energy | cycles | EDP |", "|---" * 4 + "|"]
    best = {one.key[:2]: one for one in runs if one.way == "joint"}
    for way in WAYS[:-1]:
        pairs = [(one, best[one.key[:2]]) for one in runs if one.way == way and one.key[:2] in best]
        if pairs:
            gains = [
                exp(mean(log(a / b) for a, b in each))
                for each in zip(
                    *[
                        ((a.energy_pj, b.energy_pj), (a.latency_cycles, b.latency_cycles), (a.edp, b.edp))
                        for a, b in pairs
                    ],
                    strict=True,
                )
            ]
            lines.append(f"| {way} | " + " | ".join(f"{gain:.3g}x" for gain in gains) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run all that is asked for and not known, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK")
    parser.add_argument("--small", action="store_true", help="one network on one chip")
    parser.add_argument("--objective", default="edp")
    parser.add_argument("--chip", action="append", choices=CHIPS)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    networks = asked.networks or (SMALL if asked.small else tuple(NETWORKS))
    chips = asked.chip or (CHIPS[:1] if asked.small else CHIPS)
    known: dict[tuple[str, str, str, str], Run] = {}
    if asked.json and asked.json.exists():
        known = {one.key: one for one in (Run(**row) for row in json.loads(asked.json.read_text()))}
    with tempfile.TemporaryDirectory() as folder:
        for network in networks:
            model = write(network, Path(folder))
            timed = import_timed(model, time_axis=NETWORKS[network])
            for chip in chips:
                for way in WAYS:
                    key = network, chip, way, asked.objective
                    if key not in known:
                        known[key] = run(model, timed, *key)
                        print(f"{network} on {chip}, {way}: {known[key].seconds:.1f} s", file=sys.stderr, flush=True)
                    if asked.json:
                        asked.json.write_text(json.dumps([asdict(one) for one in known.values()]))
    shown = [one for one in known.values() if one.network in networks and one.chip in chips]
    print(table([one for one in shown if one.objective == asked.objective]))
    slowest = max((one.seconds for one in shown if one.way == "joint"), default=0.0)
    print(f"\nthe slowest joint search took {slowest:.1f} s (target {TARGET_S:.0f} s)")


if __name__ == "__main__":
    main()
