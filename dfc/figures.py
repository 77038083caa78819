"""The numbers of three figures: heat maps over tiles and modes, shares of energy along tile sizes, architectures.

They are those of figures 12 to 15 and of the comparison of architectures in the DeFiNES paper, for any model and
accelerator. Drawing is in ``dfc.figure_draw``; here is what is drawn, and what others may draw instead.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_store import MappingStore
from dfc.collector import rare_collections
from dfc.errors import InfeasibleError
from dfc.hwdsl import Arch, load_arch
from dfc.ir import Graph, Role
from dfc.passes.tiles import Overlap
from dfc.pipeline import choose_stacks, model_info, schedule_graph
from dfc.request import Request
from dfc.scheduling.baselines import (
    MODES,
    BestOneSize,
    Name,
    NetworkCost,
    OneSize,
    Wanted,
    axis_sizes,
    reference_space,
)
from dfc.scheduling.policy import REFERENCE

Tile = tuple[int, int]
Report = Callable[[str], None]
Value = str | int | float | None

#: what takes energy besides memories
ARRAY = "array"
#: the kind of energy that moves feature maps between layers
COPIES = "copies"
SMALL = 3  # sizes per axis


@dataclass(frozen=True, slots=True)
class Point:
    """A whole network with one tile size and mode; energies are None where it does not fit, and ``reason`` says why.

    parts: energy in pJ by memory (or the array) and by operand (I, W, O, copies between layers; "" for the array).
    """

    tile: Tile
    overlap: Overlap
    energy_pj: float | None = None
    latency_cycles: int | None = None
    parts: Mapping[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Points of one network on one chip; ``memories`` from the array outwards."""

    model: str
    hw: str
    cost_model: str
    policy: str
    memories: tuple[str, ...]
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """A network on a chip, run in one way; None where it does not fit."""

    model: str
    hw: str
    how: str
    energy_pj: float | None
    latency_cycles: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Networks x chips x ways to run."""

    cost_model: str
    policy: str
    bars: tuple[Bar, ...]


class Sweeper:
    """Prices points of one network on one chip under the rules of a request, tiles row by row."""

    def __init__(self, graph: Graph, arch: Arch, request: Request, store: MappingStore | None = None):
        self.graph = graph
        self.arch = arch
        self.request = request
        cache = MappingCache(arch, request.objective, request.model, store)
        pricer = request.policy.pricer(graph, arch, cache, request.rules)
        stacks = choose_stacks(graph, request, pricer)
        self.space = OneSize(pricer, stacks, remainder_first=request.policy.remainder_first)

    def sizes(self, xs: Sequence[int] = (), ys: Sequence[int] = (), *, small: bool = False) -> tuple[list[int], ...]:
        """Tile sizes per axis, smallest first: those given, or the map in 1, 4, 16, ... parts; at most 3 if small."""
        found: list[list[int]] = []
        for given, whole in zip((xs, ys), self.space.whole, strict=True):
            every = sorted({min(n, whole) for n in given} or set(axis_sizes(whole)))
            step = -(-len(every) // SMALL) if small else 1
            found.append(every[::-step][::-1])  # the whole map is among them
        return tuple(found)

    @rare_collections()
    def sweep(self, plans: Sequence[tuple[Tile, Overlap]], report: Report | None = None) -> Sweep:
        """Price these plans."""
        points: list[Point] = []
        for number, (tile, overlap) in enumerate(plans, 1):
            points.append(self._point(tile, overlap))
            if report:
                report(f"{number}/{len(plans)} {tile[0]}x{tile[1]} {overlap}")
        names = tuple(m.name for m in self.arch.memories)
        request = self.request
        return Sweep(self.graph.name, self.arch.name, request.model.name, request.policy.name, names, tuple(points))

    def _point(self, tile: Tile, overlap: Overlap) -> Point:
        found = self.space.price(tile, overlap)
        if not isinstance(found, NetworkCost):
            return Point(tile, overlap, reason=str(found))
        return Point(tile, overlap, found.energy_pj, found.latency_cycles, energy_parts(found, self.arch))


def energy_parts(cost: NetworkCost, arch: Arch) -> dict[tuple[str, str], float]:
    """Energy in pJ by memory and operand; the array's, and that of copies between layers, apart."""
    found: dict[tuple[str, str], float] = {}

    def spend(memory: str, operand: str, pj: float) -> None:
        found[memory, operand] = found.get((memory, operand), 0.0) + pj

    for tile in (c for stack in cost.stacks for c in stack.classes):
        for run in tile.runs:
            for (memory, _), pj in run.copy_cost.memory_pj.items():
                spend(arch.memories[memory].name, COPIES, pj * tile.tile.count)
            if run.cost is not None:
                spend(ARRAY, "", run.cost.compute_pj * tile.tile.count)
                for (memory, role), pj in run.cost.memory_pj.items():
                    spend(arch.memories[memory].name, Role(role).value, pj * tile.tile.count)
    return found


def heat_map_plans(xs: Sequence[int], ys: Sequence[int]) -> list[tuple[Tile, Overlap]]:
    """Every tile size in each of the paper's three modes."""
    return [((x, y), mode) for mode in reversed(MODES) for y, x in product(ys, xs)]


def diagonal_plans(xs: Sequence[int], ys: Sequence[int]) -> list[tuple[Tile, Overlap]]:
    """Tiles that grow along both axes, in each mode."""
    steps = max(len(xs), len(ys))
    tiles = [(xs[min(i, len(xs) - 1)], ys[min(i, len(ys) - 1)]) for i in range(steps)]
    return [(tile, mode) for mode in reversed(MODES) for tile in tiles]


def compare_architectures(
    models: Mapping[Path, Graph],
    chips: Sequence[str],
    request: Request,
    report: Report | None = None,
    store: MappingStore | None = None,
) -> Comparison:
    """Every network on every chip: layer by layer, the best of DeFiNES's space, and dfc's own unless it reproduces."""
    bars: list[Bar] = []
    archs = [load_arch(hw) for hw in chips]
    for (path, graph), arch in product(models.items(), archs):
        if report:
            report(f"{graph.name} on {arch.name}")
        ways: dict[str, tuple[float, int]] = {}
        with suppress(InfeasibleError):
            if request.policy is REFERENCE:
                ways = _reference_ways(graph, arch, request, store)
            else:
                found = schedule_graph(graph, arch, request, model_info(graph, path), store=store)
                ways = {b.name: (b.energy_pj, b.latency_cycles) for b in found.baselines}
                ways["dfc"] = found.totals.energy_pj, found.totals.latency_cycles
        theirs = request.policy is REFERENCE or request.baselines is Wanted.ALL
        own = () if request.policy is REFERENCE else ("dfc",)
        wanted = (Name.ONE_TILE, *([Name.DEFINES] if theirs else []), *own)
        bars += [Bar(graph.name, arch.name, str(how), *ways.get(how, (None, None))) for how in wanted]
    return Comparison(request.model.name, request.policy.name, tuple(bars))


def _reference_ways(
    graph: Graph, arch: Arch, request: Request, store: MappingStore | None
) -> dict[str, tuple[float, int]]:
    """Layer by layer, and the best with one tile size and mode, by the reference's rules."""
    cache = MappingCache(arch, request.objective, request.model, store)
    space = reference_space(request.policy.pricer(graph, arch, cache, request.rules))
    one_tile, best = space.price(space.whole, MODES[0]), BestOneSize(space, request.objective).run()
    found = {Name.ONE_TILE: one_tile, Name.DEFINES: best}
    return {how: (c.energy_pj, c.latency_cycles) for how, c in found.items() if isinstance(c, NetworkCost)}


def sweep_rows(sweep: Sweep) -> list[dict[str, Value]]:
    """A row per point: what the heat maps show."""
    return [
        {
            "mode": p.overlap.value,
            "tile_x": p.tile[0],
            "tile_y": p.tile[1],
            "energy_pj": p.energy_pj,
            "latency_cycles": p.latency_cycles,
            "does_not_fit": p.reason,
        }
        for p in sweep.points
    ]


def share_rows(sweep: Sweep) -> list[dict[str, Value]]:
    """A row per point, memory and operand."""
    return [
        {
            "mode": p.overlap.value,
            "tile_x": p.tile[0],
            "tile_y": p.tile[1],
            "memory": memory,
            "operand": operand,
            "energy_pj": pj,
            "share": pj / p.energy_pj if p.energy_pj else 0.0,
        }
        for p in sweep.points
        for (memory, operand), pj in p.parts.items()
    ]


def comparison_rows(comparison: Comparison) -> list[dict[str, Value]]:
    """A row per bar."""
    return [
        {
            "model": b.model,
            "hw": b.hw,
            "how": b.how,
            "energy_pj": b.energy_pj,
            "latency_cycles": b.latency_cycles,
        }
        for b in comparison.bars
    ]


def as_csv(rows: Sequence[Mapping[str, Value]]) -> str:
    """Rows as CSV with a header; what does not fit is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_json(figure: str, about: Mapping[str, str], rows: Sequence[Mapping[str, Value]]) -> str:
    """Rows as JSON, a line each, below what they are about."""
    head = "".join(f" {json.dumps(k)}: {json.dumps(v)},\n" for k, v in {"figure": figure, **about}.items())
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    return f'{{\n{head} "rows": [\n{lines}\n ]\n}}\n'
