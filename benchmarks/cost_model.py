"""Evaluations per second of the cost model, on one core, beside those of the installed peer (zigzag-dse).

python benchmarks/cost_model.py [--repeat N] [--no-peer | --peer-python PATH]

The layer is a 3x3 convolution (K = C = 64, OX = OY = 56, padded by one) on meta_proto_df. Ours evaluates a batch of
mappings: every order of its eight loops with random cuts that fit the memories, 40,320 of them. Times are processor
time; building the tables is part of them, orders and cuts are not (they are what a search brings). The peer evaluates
mappings of its own search one by one. Only ratios within one run mean something: machines differ and are shared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
import venv
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dfc.backend_cost import evaluate
from dfc.backend_cost.cost_model import MODELS, CostModel
from dfc.backend_cost.evaluate import Batch
from dfc.backend_cost.nest import Borders, Loop, Nest, make_nest
from dfc.backend_cost.tables import Tables, build_tables
from dfc.backend_cost.timing import exact_latency, granted_buffers
from dfc.hwdsl import Arch, Memory, Move, load_arch
from dfc.ir import CONV_INPUT_DIMS, CONV_WEIGHT_DIMS, N_DIMS, Dim, Kind, Layer, Operand, Role, sizes

CHIP = "meta_proto_df"
CHANNELS, MAP, KERNEL = 64, 56, 3
#: what the chip's lanes leave of the layer, in eight loops
LOOPS = (
    Loop(Dim.K, 2),
    Loop(Dim.C, 32),
    Loop(Dim.OY, 2),
    Loop(Dim.OY, 7),
    Loop(Dim.OX, 2),
    Loop(Dim.OX, 7),
    Loop(Dim.FY, 3),
    Loop(Dim.FX, 3),
)
PEER_PACKAGES = ("zigzag-dse", "six")
PEER_FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dfc" / "benchmark-zigzag"
PEER_EVALUATIONS = 100


def convolution(arch: Arch) -> Nest:
    """The layer's loop nest, every operand on its whole path."""
    inputs = Operand(Role.W, CONV_WEIGHT_DIMS, ()), Operand(Role.I, CONV_INPUT_DIMS, ())
    loops = sizes(K=CHANNELS, C=CHANNELS, OY=MAP, OX=MAP, FY=KERNEL, FX=KERNEL)
    layer = Layer("conv", Kind.CONV, "conv", inputs, ("y",), loops, macs=CHANNELS**2 * MAP**2 * KERNEL**2)
    tops = {role: len(path) for role, path in arch.paths.items()}
    return make_nest(layer, (1, MAP, MAP), arch, tops, Borders((0, 1, 1), (0, MAP, MAP)))


def all_points() -> npt.NDArray[np.float64]:
    """Products per dimension of every subset of the loops, by bit mask."""
    points = np.ones((1 << len(LOOPS), N_DIMS))
    for mask in range(len(points)):
        for i, loop in enumerate(LOOPS):
            if mask >> i & 1:
                points[mask, loop.dim] *= loop.size
    return points


def random_batch(tables: Tables, seed: int) -> Batch:
    """Every order of the loops, each cut at random where every operand fits into its share of each memory."""
    orders = np.array(list(permutations(range(len(LOOPS)))), dtype=np.int64)
    masks = np.zeros((len(orders), len(LOOPS) + 1), dtype=np.int64)
    masks[:, 1:] = np.cumsum(1 << orders, axis=1)
    random = np.random.default_rng(seed)
    cuts: list[npt.NDArray[np.int64]] = []
    for table in tables.operands:
        found = random.integers(0, len(LOOPS) + 1, size=(len(orders), len(table.operand.memories)))
        found.sort(axis=1)
        for m, number in enumerate(table.operand.memories):
            memory = tables.arch.memories[number]
            fits = table.data_bits[m][masks] <= memory.size_bits / len(memory.roles)
            found[:, m] = np.minimum(found[:, m], fits.sum(axis=1) - 1)
        found[:, -1] = len(LOOPS)
        cuts.append(np.maximum.accumulate(np.maximum(found, 0), axis=1))
    return Batch(np.array([loop.dim for loop in LOOPS], dtype=np.int64)[orders], masks, tuple(cuts))


@dataclass(frozen=True)
class Times:
    """Seconds for a whole batch; ``tables`` are built once for it."""

    mappings: int
    tables: float
    energy: float
    latency: float

    def per_second(self, seconds: float) -> float:
        """Mappings a second."""
        return self.mappings / seconds


def measure(nest: Nest, arch: Arch, model: CostModel, repeat: int) -> Times:
    """Our times: the tables as a first call finds them, evaluation at its best of ``repeat``."""
    points = all_points()
    assert (points[-1] == nest.temporal).all(), "other lanes leave other loops"
    start = time.process_time()
    tables = build_tables(nest, arch, points, model)
    built = time.process_time() - start
    batch = random_batch(tables, seed=1)
    energy, latency = [], []
    for _ in range(repeat):
        start = time.process_time()
        cuts = evaluate.effective_cuts(tables, batch)
        evaluate.energy_pj(tables, batch, cuts)
        priced = time.process_time()
        if model.played:
            exact_latency(tables, batch, cuts, granted_buffers(tables, batch, cuts))
        else:
            evaluate.latency(tables, batch, cuts)
        energy.append(priced - start)
        latency.append(time.process_time() - priced)
    return Times(len(batch.point), built, min(energy), min(latency))


def report(name: str, times: Times) -> float:
    """Print a model's row; seconds per mapping of energy and latency with the tables."""
    everything = times.tables + times.energy + times.latency
    print(
        f"{name:<9}{times.tables * 1e3:>11.1f}{times.energy * 1e3:>11.1f}{times.latency * 1e3:>11.1f}"
        f"{times.per_second(times.tables + times.energy):>17,.0f}{times.per_second(everything):>18,.0f}"
        f"{times.per_second(times.energy + times.latency):>18,.0f}"
    )
    return everything / times.mappings


# ---- the peer ----------------------------------------------------------------------------------------------------


def peer_accelerator(arch: Arch) -> dict[str, Any]:
    """The accelerator in the peer's format."""
    array = arch.array
    return {
        "name": arch.name,
        "operational_array": {
            "unit_energy": array.mac_pj,
            "unit_area": 1.0,
            "dimensions": [d.name for d in array.dims],
            "sizes": [d.size for d in array.dims],
        },
        "memories": {memory.name: _peer_memory(memory) for memory in arch.memories},
    }


def _peer_memory(memory: Memory) -> dict[str, Any]:
    operands = {Role.I: "I1", Role.W: "I2", Role.O: "O"}
    moves = {Move.WRITE_DOWN: "fh", Move.READ_DOWN: "tl", Move.WRITE_UP: "fl", Move.READ_UP: "th"}
    kinds = {"r": "read", "w": "write", "rw": "read_write"}
    ports: list[dict[str, Any]] = []
    for i, port in enumerate(memory.ports):
        writes = port.kind == "w"
        served = [
            f"{operands[role]}, {moves[move]}"
            for (role, move), number in memory.port_of.items()
            if number == i and (role is Role.O or move in (Move.WRITE_DOWN, Move.READ_DOWN))
        ]
        ports.append(
            {
                "name": f"{port.kind}_port_{i + 1}",
                "type": kinds[port.kind],
                "bandwidth_min": memory.min_write_bits if writes else memory.min_read_bits,
                "bandwidth_max": memory.write_bits_per_cycle if writes else memory.read_bits_per_cycle,
                "allocation": served,
            }
        )
    return {
        "size": memory.size_bits,
        "r_cost": memory.read_pj,
        "w_cost": memory.write_pj,
        "area": 0.0,
        "latency": 1,
        "operands": [operands[role] for role in memory.roles],
        "ports": ports,
        "served_dimensions": list(memory.across),
    }


def peer_layer(arch: Arch) -> list[dict[str, Any]]:
    """The layer in the peer's format."""
    return [
        {
            "id": 0,
            "name": "conv",
            "operator_type": "Conv",
            "equation": "O[b][g][k][oy][ox]+=W[g][k][c][fy][fx]*I[b][g][c][iy][ix]",
            "dimension_relations": ["ix=1*ox+1*fx", "iy=1*oy+1*fy"],
            "loop_dims": ["B", "G", "K", "C", "OY", "OX", "FY", "FX"],
            "loop_sizes": [1, 1, CHANNELS, CHANNELS, MAP, MAP, KERNEL, KERNEL],
            "pr_loop_dims": ["IX", "IY"],
            "pr_loop_sizes": [MAP, MAP],
            "padding": [[1, 1], [1, 1]],
            "operand_source": {"I": 0, "W": 0},
            "operand_precision": {
                "O": arch.array.partial_bits,
                "O_final": arch.array.output_bits,
                "W": arch.array.weight_bits,
                "I": arch.array.input_bits,
            },
        }
    ]


def peer_mapping(nest: Nest) -> list[dict[str, Any]]:
    """Our spatial unrolling in the peer's format."""
    return [
        {
            "name": "default",
            "spatial_mapping": {u.array_dim: [f"{u.loop.name}, {u.lanes}"] for u in nest.unrolled},
            "memory_operand_links": {"O": "O", "W": "I2", "I": "I1"},
        }
    ]


def installed_peer() -> Path | None:
    """The Python of an environment that has the peer, made where there is none; None where that fails."""
    python = PEER_FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    has_peer = [str(python), "-c", "import zigzag"]
    if python.exists() and subprocess.run(has_peer, capture_output=True, check=False).returncode == 0:
        return python
    print(f"installing {' and '.join(PEER_PACKAGES)} into {PEER_FOLDER}")
    try:
        venv.create(PEER_FOLDER, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEER_PACKAGES]
        subprocess.run(pip, check=True, capture_output=True, text=True)
        subprocess.run(has_peer, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        print(f"peer skipped: it cannot be installed here ({said[-1] if said else error})")
        return None
    return python


def measure_peer(python: Path, nest: Nest, arch: Arch) -> float | None:
    """Median seconds of processor time that the peer takes for one mapping; None where it does not run."""
    with tempfile.TemporaryDirectory() as folder:
        files = {"accelerator": peer_accelerator(arch), "mapping": peer_mapping(nest)}
        problem: dict[str, Any] = {"workload": peer_layer(arch), "factors": 6, "evaluations": PEER_EVALUATIONS}
        for name, content in files.items():
            path = Path(folder) / f"{name}.yaml"
            path.write_text(json.dumps(content))  # every JSON text is YAML
            problem[name] = str(path)
        path = Path(folder) / "problem.json"
        path.write_text(json.dumps(problem))
        script = Path(__file__).with_name("zigzag_evaluation.py")
        run = subprocess.run(
            [str(python), str(script), str(path)], cwd=folder, capture_output=True, text=True, check=False
        )
    if run.returncode:
        said = run.stderr.strip().splitlines()
        print(f"peer skipped: it does not run here ({said[-1] if said else run.returncode})")
        return None
    found = json.loads(run.stdout.splitlines()[-1])
    print(f"peer (zigzag-dse): {found['median'] * 1e3:.2f} ms per mapping, median of {found['count']}")
    return float(found["median"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="evaluations of the batch, of which the fastest counts")
    parser.add_argument("--no-peer", action="store_true", help="measure dfc alone")
    parser.add_argument("--peer-python", type=Path, help="the Python of an environment that has zigzag-dse and six")
    options = parser.parse_args()
    arch = load_arch(CHIP)
    nest = convolution(arch)
    print(f"{KERNEL}x{KERNEL} convolution, K = C = {CHANNELS}, OX = OY = {MAP}, on {CHIP}; processor time of one core")
    print(
        f"{'model':<9}{'tables ms':>11}{'energy ms':>11}{'latency ms':>11}"
        f"{'energy/s':>17}{'energy+latency/s':>18}{'without tables/s':>18}"
    )
    ours = {name: report(name, measure(nest, arch, model, options.repeat)) for name, model in MODELS.items()}
    if options.no_peer:
        return
    python = options.peer_python or installed_peer()
    theirs = measure_peer(python, nest, arch) if python else None
    if theirs is not None:
        for name, seconds in ours.items():
            print(f"ratio to {name}: {theirs / seconds:,.0f}")


if __name__ == "__main__":
    main()
