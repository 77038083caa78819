"""How long the mapping search takes, on one core, beside its targets and the installed peer.

python benchmarks/mapping_search.py [--small] [--repeat N] [--peer [--peer-python PATH]] [--json FILE]

Times are processor time of the search alone; no answer comes from a cache of answers, neither on disk nor in memory.
*First* is the first call of a problem, after every function cache of dfc was emptied; *again* is the best of N calls
after it, which find what does not depend on the objective or the chip (lattices, grids) as earlier calls left it.
Start-up (imports, and whatever the first search of a process loads) is measured in a process of its own.

--peer maps ResNet-18 with zigzag-dse too, which takes minutes. Only ratios within one run mean something: machines
differ and are shared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from dfc.backend_cost import least_compiled, mapping_space, played
from dfc.backend_cost import mapping_search as mapping_search_module
from dfc.backend_cost.chains import COMPILED, ChainProblem
from dfc.backend_cost.cost_model import DEFINES, MODELS, CostModel
from dfc.backend_cost.lattice import lattice
from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import MappingCost, Objective, price_mapping
from dfc.backend_cost.mapping_search import search_mapping
from dfc.backend_cost.nest import Borders, Loop, Mapping, Nest, make_nest
from dfc.hwdsl import Arch, load_arch
from dfc.ir import (
    CONV_INPUT_DIMS,
    CONV_WEIGHT_DIMS,
    Axis,
    Dim,
    Graph,
    Interval,
    Kind,
    Layer,
    Operand,
    Role,
    Sizes,
    sizes,
)
from dfc.pipeline import import_graph

ROOT = Path(__file__).parent.parent
#: milliseconds at the median and at the 99th percentile that are asked for
TARGETS = {Objective.ENERGY: (2, 20), Objective.LATENCY: (10, 200), Objective.EDP: (10, 200)}
NETWORK, NETWORK_CHIP, NETWORK_TARGET_S = "resnet18", "meta_proto", 0.5
GROWTH_CHIP = "meta_proto_df"
GROWTH = range(6, 21, 2)
#: prime factors in time of the growing convolution besides its 3x3 kernel: each dimension's in the order it gets them
GROWTH_PRIMES = {Dim.K: (2, 2, 2, 2, 2), Dim.C: (2, 2, 2, 2, 2), Dim.OY: (7, 2, 2, 2, 2), Dim.OX: (7, 2, 2, 2, 2)}
#: 241 is a prime; on the first chip four lanes leave 61 steps, another prime
PRIME_LAYER = sizes(K=32, C=32, OY=241, OX=241, FY=3, FX=3)
PRIME_CHIPS = ("meta_proto", "tpu_like_df")
START_UP = """
import time
start = time.process_time()
from dfc.backend_cost.mapping_search import search_mapping
imported = time.process_time() - start
import sys
sys.path.insert(0, sys.argv[1])
import mapping_search
problem = mapping_search.growing(8)
begin = time.process_time()
search_mapping(problem.nest, problem.arch)
first = time.process_time()
search_mapping(problem.nest, problem.arch)
print(imported, first - begin, time.process_time() - first)
"""


@dataclass(frozen=True)
class Problem:
    """A nest to be mapped; ``recorded_pj`` is the least energy that the reference's search found."""

    name: str
    nest: Nest
    arch: Arch
    recorded_pj: float | None = None


@dataclass(frozen=True)
class Sample:
    """What one problem took and gave. ``again_ms`` is NaN where it was not searched a second time."""

    problem: str
    model: str
    objective: str
    first_ms: float
    again_ms: float
    gap: float
    energy_pj: float
    cycles: int
    recorded_pj: float | None


# ---- problems ----------------------------------------------------------------------------------------------------


def recorded_cases() -> Iterator[Problem]:
    """The recorded layer tiles, each on the accelerator that it was recorded on."""
    sys.path.insert(0, str(ROOT / "tests"))
    import reference

    for case in reference.load("mapping_cases.json.gz", "DFC_REFERENCE_CASES")["cases"]:
        arch = reference.arch_of(case["accelerator"])
        nest, _ = reference.nest_of(case, arch)
        yield Problem(f"{case['case_id']}-{case['kind']}", nest, arch, case["loma"]["min_energy"])


def network_layers(model: CostModel) -> list[Problem]:
    """The convolutions and products of the network, whole, with every tensor in the outermost memory."""
    sys.path.insert(0, str(ROOT / "examples"))
    import onnx
    from networks import NETWORKS

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{NETWORK}.onnx"
        onnx.save(NETWORKS[NETWORK].build(), path)
        graph = import_graph(path)
    arch = load_arch(NETWORK_CHIP)
    tops = {role: len(memories) for role, memories in arch.paths.items()}
    found: list[Problem] = []
    for layer in graph.layers:
        if layer.macs:
            borders = whole_borders(graph, layer) if model.whole_lanes else Borders()
            nest = make_nest(layer, graph.tensors[layer.output].spatial, arch, tops, borders)
            found.append(Problem(layer.name, nest, arch))
    return found


def whole_borders(graph: Graph, layer: Layer) -> Borders:
    """Where a whole layer's window meets the borders of its map."""
    source = layer.sources[0]
    made, read = graph.tensors[layer.output].spatial, graph.tensors[source.tensor].spatial
    t, y, x = (source.maps[a].padding_before(Interval(0, made[a])) for a in Axis)
    return Borders((t, y, x), read)


def convolution(name: str, chip: str, loops: Sizes) -> Problem:
    """A padded 3x3 convolution with every tensor in the outermost memory."""
    arch = load_arch(chip)
    inputs = Operand(Role.W, CONV_WEIGHT_DIMS, ()), Operand(Role.I, CONV_INPUT_DIMS, ())
    layer = Layer("conv", Kind.CONV, "conv", inputs, ("y",), loops, macs=int(np.prod(loops)))
    extents = 1, loops[Dim.OY], loops[Dim.OX]
    tops = {role: len(path) for role, path in arch.paths.items()}
    return Problem(name, make_nest(layer, extents, arch, tops, Borders((0, 1, 1), extents)), arch)


def growing(factors: int) -> Problem:
    """A 3x3 convolution that has so many prime factors left to run in time."""
    steps = dict.fromkeys(GROWTH_PRIMES, 1)
    for i in range(factors - 2):
        dim = tuple(GROWTH_PRIMES)[i % len(GROWTH_PRIMES)]
        steps[dim] *= GROWTH_PRIMES[dim][i // len(GROWTH_PRIMES)]
    arch = load_arch(GROWTH_CHIP)
    width = {d.name: d.size for d in arch.array.dims}
    lanes = {want.loop: width[want.array_dim] for want in arch.unrolls[Kind.CONV]}
    loops = sizes(FX=3, FY=3, **{dim.name: steps[dim] * lanes.get(dim, 1) for dim in steps})
    return convolution("growing", GROWTH_CHIP, loops)


# ---- measuring ---------------------------------------------------------------------------------------------------


def empty_caches() -> None:
    """Forget what functions of dfc remember of earlier calls."""
    for name, module in list(sys.modules.items()):
        if name == "dfc" or name.startswith("dfc."):
            for value in list(vars(module).values()):
                clear: Callable[[], None] | None = getattr(value, "cache_clear", None)
                if clear is not None:
                    clear()


def search(problem: Problem, objective: Objective, model: CostModel) -> tuple[float, MappingCost]:
    """Milliseconds of one search, and what it found."""
    start = time.process_time()
    found = search_mapping(problem.nest, problem.arch, objective, model)
    seconds = time.process_time() - start
    assert isinstance(found, MappingCost), problem.name
    return seconds * 1e3, found


def sample(problem: Problem, objective: Objective, model: CostModel, repeat: int) -> Sample:
    """The first call with empty caches, and the best of ``repeat`` after it."""
    empty_caches()
    first, found = search(problem, objective, model)
    again = min((search(problem, objective, model)[0] for _ in range(repeat)), default=float("nan"))
    assert found.gap is not None
    return Sample(
        problem.name,
        model.name,
        objective.value,
        first,
        again,
        found.gap,
        found.energy_pj,
        found.latency_cycles,
        problem.recorded_pj,
    )


def measure_cases(problems: list[Problem], repeat: int) -> list[Sample]:
    """All cases for every model and objective: a table of milliseconds, then one of gaps, then the gain."""
    print(f"{len(problems)} recorded cases, milliseconds; targets are for 'first'")
    print(
        f"{'model':<9}{'objective':<10}{'':<7}{'median':>9}{'90 %':>9}{'99 %':>9}{'worst':>9}"
        f"{'target median, 99 %':>21}{'proved':>9}{'mean gap':>10}{'largest':>9}"
    )
    everything: list[Sample] = []
    for model in MODELS.values():
        for objective in Objective:
            samples = [sample(p, objective, model, repeat) for p in problems]
            everything += samples
            report_times(samples, objective)
    gains = [
        1 - s.energy_pj / s.recorded_pj
        for s in everything
        if s.recorded_pj and s.model == DEFINES.name and s.objective == Objective.ENERGY
    ]
    print(
        f"energy below the recorded least ({DEFINES.name}): mean {np.mean(gains):.2%}, median {np.median(gains):.2%}, "
        f"largest {max(gains):.2%}, least {min(gains):.2%}"
    )
    return everything


def report_times(samples: list[Sample], objective: Objective) -> None:
    """Print the rows of one model and objective."""
    wanted = TARGETS[objective]
    rows = {"first": [s.first_ms for s in samples], "again": [s.again_ms for s in samples]}
    gaps = np.array([s.gap for s in samples])
    for name, times in rows.items():
        if np.isnan(times).any():
            continue
        median, p90, p99, worst = np.percentile(times, (50, 90, 99, 100)).tolist()
        met = ", ".join(f"{t} {'yes' if v <= t else 'no'}" for v, t in zip((median, p99), wanted, strict=True))
        start = f"{samples[0].model:<9}{samples[0].objective:<10}" if name == "first" else " " * 19
        line = f"{start}{name:<7}{median:>9.1f}{p90:>9.1f}{p99:>9.1f}{worst:>9.1f}"
        if name == "first":
            line += f"{met:>21}{(gaps == 0).mean():>9.0%}{gaps.mean():>10.2%}{gaps.max():>9.2%}"
        print(line, flush=True)


def measure_network(repeat: int) -> dict[str, Any]:
    """All layers of the network, one by one and with equal ones solved once; seconds of processor time."""
    print(f"\n{NETWORK} at 224x224 on {NETWORK_CHIP}, least energy layer by layer; target {NETWORK_TARGET_S} s")
    found: dict[str, Any] = {}
    for model in MODELS.values():
        problems = network_layers(model)
        each, known = [], []
        for _ in range(repeat + 1):
            empty_caches()
            results = [search(p, Objective.ENERGY, model) for p in problems]
            each.append(sum(ms for ms, _ in results) / 1e3)
            empty_caches()
            cache = MappingCache(problems[0].arch, Objective.ENERGY, model)
            start = time.process_time()
            for p in problems:
                cache.best(p.nest)
            known.append(time.process_time() - start)
        energy = sum(cost.energy_pj for _, cost in results)
        cycles = sum(cost.latency_cycles for _, cost in results)
        proved = sum(cost.gap == 0 for _, cost in results)
        print(
            f"{model.name:<9}{len(problems)} layers {each[0]:.3f} s (best of {len(each)}: {min(each):.3f} s), "
            f"{cache.searches} different ones {known[0]:.3f} s; {energy:.6g} pJ, {cycles:,} cycles, {proved} proved"
        )
        found[model.name] = {"seconds": each, "different_seconds": known, "energy_pj": energy, "cycles": cycles}
        found[model.name]["layers"] = {
            p.name: {"ms": ms, "energy_pj": c.energy_pj, "gap": c.gap}
            for p, (ms, c) in zip(problems, results, strict=True)
        }
    return found


def measure_growth(factors: Iterable[int], objectives: Iterable[Objective], model: CostModel) -> list[dict[str, Any]]:
    """How time grows with the number of prime factors."""
    print(f"\na 3x3 convolution that grows, on {GROWTH_CHIP}, model {model.name}: milliseconds of the first call (gap)")
    print(f"{'factors':>8}{'points':>8}" + "".join(f"{o.value:>20}" for o in objectives))
    rows: list[dict[str, Any]] = []
    for number in factors:
        problem = growing(number)
        points = len(lattice(problem.nest.temporal).points)
        samples = {o: sample(problem, o, model, 0) for o in objectives}
        cells = (f"{f'{s.first_ms:.1f} ({s.gap:.2%})':>20}" for s in samples.values())
        print(f"{number:>8}{points:>8}" + "".join(cells), flush=True)
        rows.append({"factors": number, "points": points} | {o.value: asdict(s) for o, s in samples.items()})
    return rows


def measure_primes(model: CostModel) -> list[dict[str, Any]]:
    """What idle steps save where a loop cannot be split."""
    rows: list[dict[str, Any]] = []
    for chip in PRIME_CHIPS:
        problem = convolution("primes", chip, PRIME_LAYER)
        padded = search(problem, Objective.ENERGY, model)[1]
        with patch.object(mapping_search_module, "padded_steps", return_value=[]):
            whole = search(problem, Objective.ENERGY, model)[1]
        saved = 1 - padded.energy_pj / whole.energy_pj
        print(f"{chip:<14}{whole.energy_pj:.6g} pJ, with idle steps {padded.energy_pj:.6g} pJ: {saved:.1%} less")
        rows.append({"chip": chip, "whole_pj": whole.energy_pj, "padded_pj": padded.energy_pj})
    return rows


@contextmanager
def without_compiled_parts() -> Iterator[None]:
    """The search in NumPy, but for the branch and bound, which would take minutes."""
    plain = partial(ChainProblem, compiled=False)
    absent = (patch.object(part, "_native", None) for part in (least_compiled, played))
    with ExitStack() as stack:
        for change in (patch.object(mapping_space, "ChainProblem", plain), *absent):
            stack.enter_context(change)
        empty_caches()  # chains that are kept are compiled ones
        yield
    empty_caches()


def measure_plain(problems: list[Problem], objectives: Iterable[Objective], model: CostModel) -> dict[str, Any]:
    """The compiled parts against the same in NumPy and plain Python, on the same problems."""
    if not COMPILED:
        print("\ncompiled code skipped: dfc was installed without a compiler")
        return {}
    print(f"\nthe search without its compiled parts, {len(problems)} of the cases, model {model.name}")
    found: dict[str, Any] = {}
    for objective in objectives:
        # each side twice, of which the second counts: neither pays for what is remembered
        compiled = [[search(p, objective, model) for p in problems] for _ in range(2)][1]
        with without_compiled_parts():
            plain = [[search(p, objective, model) for p in problems] for _ in range(2)][1]
        pairs = list(zip(compiled, plain, strict=True))
        others = sum(a.mapping != b.mapping for (_, a), (_, b) in pairs)
        ratios = [b / a for (a, _), (b, _) in pairs]
        slow, fast = (float(np.median([ms for ms, _ in times])) for times in (plain, compiled))
        print(
            f"{objective.value:<10}median {fast:.1f} ms compiled, {slow:.1f} ms plain; "
            f"ratio {np.median(ratios):.1f} in the median, {max(ratios):.1f} at most; {others} other answers",
            flush=True,
        )
        found[objective.value] = {"compiled_ms": fast, "plain_ms": slow, "ratios": ratios}
    return found


def measure_start_up(runs: int) -> dict[str, float]:
    """Milliseconds in processes of their own: imports, the first search, and one more like it."""
    rows: list[list[float]] = []
    for _ in range(runs):
        command = [sys.executable, "-c", START_UP, str(Path(__file__).parent)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows.append([float(word) * 1e3 for word in said.split()])
    imports, first, second = np.median(rows, axis=0).tolist()
    print(f"\nstart-up: imports {imports:.0f} ms, a process's first search {first:.1f} ms, again {second:.1f} ms")
    return {"imports_ms": imports, "first_ms": first, "second_ms": second}


# ---- the peer ----------------------------------------------------------------------------------------------------


def measure_peer(ours: dict[str, Any], python: Path | None) -> dict[str, Any] | None:
    """The same network mapped by the peer on its own page of the same chip; None where it does not run."""
    from cost_model import installed_peer

    python = python or installed_peer()
    if python is None:
        return None
    script = Path(__file__).with_name("zigzag_network.py")
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run([str(python), str(script)], cwd=folder, capture_output=True, text=True, check=False)
    if run.returncode:
        said = run.stderr.strip().splitlines()
        print(f"peer skipped: it does not run here ({said[-1] if said else run.returncode})")
        return None
    peer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    energy = sum(layer["energy_pj"] for layer in peer["layers"])
    cycles = sum(layer["cycles"] for layer in peer["layers"])
    print(
        f"peer (zigzag-dse, its meta_prototype): {len(peer['layers'])} layers {peer['seconds']:.1f} s, "
        f"{peer['evaluations']:,} mappings at {peer['median'] * 1e3:.1f} ms; {energy:.6g} pJ, {cycles:,.0f} cycles"
    )
    print("its model is not ours: what it pays for one mapping is no more than a hint of what ours says of it")
    for name, mine in ours.items():
        share = 1 - mine["energy_pj"] / energy
        print(
            f"{name:<9}{peer['seconds'] / mine['seconds'][0]:,.0f} times faster; energy {share:+.2%} below the peer's"
        )
        alike = list(priced_alike(peer["layers"], MODELS[name]))
        theirs, best = (sum(energies) for energies in zip(*alike, strict=True))
        print(
            f"{'':<9}{len(alike)} layers with the same lanes: the peer's mappings {theirs:.6g} pJ under this model, "
            f"ours {best:.6g} pJ ({1 - best / theirs:.2%} less); on {sum(b < t * (1 - 1e-9) for t, b in alike)} less"
        )
    return peer


def priced_alike(layers: list[dict[str, Any]], model: CostModel) -> Iterator[tuple[float, float]]:
    """Energies of the peer's mapping and ours under our model, of the layers that both lay on the same lanes."""
    for problem in network_layers(model):
        nest = problem.nest
        wanted = {dim.name: size for dim, size in zip(Dim, nest.sizes, strict=True)}
        for layer in layers:
            lanes = {u.loop.name: float(u.lanes) for u in nest.unrolled}
            if layer["lanes"] != lanes or any(wanted[dim] != size for dim, size in layer["sizes"].items()):
                continue
            levels = [layer["temporal"][operand.role.value] for operand in nest.operands]
            loops = tuple(Loop(Dim[dim], int(size)) for level in levels[0] for dim, size in level)
            cuts = tuple(tuple(np.cumsum([len(level) for level in found]).tolist()) for found in levels)
            theirs = price_mapping(nest, problem.arch, Mapping(loops, cuts), model)
            yield theirs.energy_pj, search(problem, Objective.ENERGY, model)[1].energy_pj
            break


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a few cases once, for continuous integration")
    parser.add_argument("--repeat", type=int, default=3, help="calls after the first, of which the fastest counts")
    parser.add_argument("--peer", action=argparse.BooleanOptionalAction, default=False, help="map with zigzag-dse too")
    parser.add_argument("--peer-python", type=Path, help="the Python of an environment that has zigzag-dse and six")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    options = parser.parse_args()
    small, repeat = options.small, 0 if options.small else max(0, options.repeat)
    if hasattr(os, "getloadavg"):
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; chains {'compiled' if COMPILED else 'plain'}")
    cases = list(recorded_cases())
    cases = cases[::9] if small else cases
    model = MODELS["exact"]
    found: dict[str, Any] = {"cases": [asdict(s) for s in measure_cases(cases, repeat)]}
    found["start_up"] = measure_start_up(1 if small else 5)
    found["network"] = measure_network(repeat)
    if options.peer:
        found["peer"] = measure_peer(found["network"], options.peer_python)
    else:
        print("peer skipped: --peer maps the network with zigzag-dse too (minutes)")
    found["growth"] = measure_growth(GROWTH[:3] if small else GROWTH, list(Objective), model)
    print(f"\na 3x3 convolution of 241 x 241 outputs, 32 to 32 channels, model {model.name}")
    found["primes"] = measure_primes(model)
    plain = [Objective.ENERGY] if small else list(Objective)
    found["plain"] = measure_plain(cases[::3] if small else cases[::6], plain, model)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
