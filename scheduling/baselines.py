"""What a schedule is compared with: simpler ways to run the same network, priced with the run's cost model.

- single-layer: every layer a stack of its own with one tile, so each feature map is written to DRAM and read back.
- layer-by-layer: the schedule's own stacks with one tile each; feature maps stay on chip where they fit.
- defines: the best of DeFiNES's space: one tile size and one of three modes for the whole network, tiles row by row,
  with the reference's rules for stacks and memories, by which not everything has to have room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf

from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.schedule import NamedBaseline, Schedule
from dfc.backend_cost.spatial_search import Spatial
from dfc.passes.stacks import Stack, single_layer_stacks
from dfc.passes.tiles import Order, Overlap, Tiler
from dfc.scheduling.engine import StackCost, StackPricer
from dfc.scheduling.levels import Infeasible
from dfc.scheduling.policy import REFERENCE, Policy
from dfc.scheduling.search import halvings

#: the modes that DeFiNES knows
MODES = (Overlap.CACHED, Overlap.H_CACHED, Overlap.RECOMPUTE)
#: plans of the whole network that the search in DeFiNES's space may price
_EFFORT = 32
#: best tiles of the first mode that are priced in the other modes too
_COMPARED = 2

Tile = tuple[int, int]
Report = Callable[[str], None]


class Name(StrEnum):
    """Names of baselines in ``schedule.json``."""

    LAYERS = "single-layer"
    ONE_TILE = "layer-by-layer"
    DEFINES = "defines"


class Wanted(StrEnum):
    """Which baselines are priced: those that take next to no time, or all."""

    AUTO = "auto"
    ALL = "all"


@dataclass(frozen=True)
class NetworkCost:
    """A whole network with one tile size and mode."""

    tile: Tile
    overlap: Overlap
    stacks: tuple[StackCost, ...]

    @property
    def energy_pj(self) -> float:
        """Sum over the stacks."""
        return sum(s.energy_pj for s in self.stacks)

    @property
    def latency_cycles(self) -> int:
        """Sum over the stacks, which run one after the other."""
        return sum(s.latency_cycles for s in self.stacks)


class OneSize:
    """Prices one tile size and mode at a time for all stacks of a network; a stack's map may be smaller."""

    def __init__(self, pricer: StackPricer, stacks: Sequence[Stack], *, remainder_first: bool):
        self.pricer = pricer
        self.tilers = [Tiler(pricer.graph, s, remainder_first=remainder_first) for s in stacks]

    @property
    def whole(self) -> Tile:
        """The smallest tile that is no smaller than any stack's map."""
        extents = [t.extents for t in self.tilers]
        return max(x for x, _ in extents), max(y for _, y in extents)

    def price(
        self, tile: Tile, overlap: Overlap, objective: Objective = Objective.ENERGY, most: float = inf
    ) -> NetworkCost | Infeasible | None:
        """The cost of all stacks, or why one does not fit; None where it turns out to exceed ``most``."""
        found: list[StackCost] = []
        energy, cycles = 0.0, 0
        for tiler in self.tilers:
            cost = self.pricer.shared_out(tiler.plan(tile, overlap, Order.ROWS), Spatial.PREFER, {})
            if isinstance(cost, Infeasible):
                return cost
            found.append(cost)
            energy, cycles = energy + cost.energy_pj, cycles + cost.latency_cycles
            if objective.of(energy, cycles) > most:
                return None
        return NetworkCost(tile, overlap, tuple(found))


def reference_space(pricer: StackPricer) -> OneSize:
    """DeFiNES's rules for the network of ``pricer``, on its chip and with its cost model and answers."""
    graph, arch = pricer.graph, pricer.arch
    same = type(pricer) is REFERENCE.pricer
    reference = pricer if same else REFERENCE.pricer(graph, arch, pricer.cache, pricer.rules)
    stacks = pricer.automatic_stacks(cut_whole_maps=REFERENCE.cut_whole_maps)
    return OneSize(reference, stacks, remainder_first=REFERENCE.remainder_first)


def axis_sizes(size: int) -> list[int]:
    """Tile sizes along an axis, largest first: a map in 1, 4, 16, ... parts, about as in DeFiNES's case study."""
    return halvings(size)[::2]


class BestOneSize:
    """Looks for the best tile size and mode of a network, with a bounded number of plans.

    The diagonal of the grid in the first mode, its best points in the others, then steps to the best of the
    neighbours for as long as one is better, in the end on a grid twice as fine. A plan is left as soon as its first
    stacks alone cost too much.
    """

    def __init__(self, space: OneSize, objective: Objective, report: Report | None = None):
        self.space = space
        self.objective = objective
        self.report = report
        self.best: NetworkCost | None = None
        self.tried: dict[tuple[Tile, tuple[bool, bool]], None] = {}
        self.reason: Infeasible | None = None

    def run(self) -> NetworkCost | Infeasible:
        """The best that was found, or why nothing fits."""
        xs, ys = map(axis_sizes, self.space.whole)
        diagonal = [(xs[min(i, len(xs) - 1)], ys[min(i, len(ys) - 1)]) for i in range(max(len(xs), len(ys)))]
        ranked: list[tuple[float, Tile]] = []
        for tile in diagonal:
            found = self._price(tile, MODES[0], bounded=False)
            ranked += [(self._score(found), tile)] if found else []
        for _, tile in sorted(ranked)[:_COMPARED]:
            for overlap in MODES[1:]:
                self._price(tile, overlap)
        while self.best is not None and self._step(self.best, xs, ys):
            pass
        if self.best is not None:
            finer = [halvings(size) for size in self.space.whole]
            while self._step(self.best, *finer):
                pass
        if self.best is None:
            assert self.reason is not None
            return self.reason
        return self.best

    def _step(self, start: NetworkCost, xs: Sequence[int], ys: Sequence[int]) -> bool:
        """Try what lies around the best plan; whether one is better."""
        for tile in _neighbours(start.tile, xs, ys):
            self._price(tile, start.overlap)
        if self.best is start:
            for overlap in MODES:
                self._price(start.tile, overlap)
        return self.best is not start

    def _price(self, tile: Tile, overlap: Overlap, *, bounded: bool = True) -> NetworkCost | None:
        """Price a plan that was not priced yet, and keep it if it is the best."""
        _, keep_y, keep_x = overlap.keeps
        whole = self.space.whole
        key = tile, (keep_x and tile[0] < whole[0], keep_y and tile[1] < whole[1])  # a spanned axis has no overlap
        if key in self.tried or len(self.tried) >= _EFFORT:
            return None
        self.tried[key] = None
        most = self._score(self.best) if bounded and self.best else inf
        found = self.space.price(tile, overlap, self.objective, most)
        if self.report:
            self.report(f"baseline {tile[0]}x{tile[1]} {overlap.value}")
        if isinstance(found, Infeasible):
            self.reason = self.reason or found
            return None
        if found is not None and (self.best is None or self._score(found) < self._score(self.best)):
            self.best = found
        return found

    def _score(self, cost: NetworkCost) -> float:
        return self.objective.of(cost.energy_pj, cost.latency_cycles)


def _neighbours(tile: Tile, xs: Sequence[int], ys: Sequence[int]) -> Iterator[Tile]:
    """The up to eight tiles around one of a grid."""
    i, j = xs.index(tile[0]), ys.index(tile[1])
    for a in range(max(0, i - 1), min(len(xs), i + 2)):
        for b in range(max(0, j - 1), min(len(ys), j + 2)):
            if (a, b) != (i, j):
                yield xs[a], ys[b]


def single_layer(pricer: StackPricer, policy: Policy) -> NetworkCost | Infeasible:
    """Every layer by itself, with one tile."""
    space = OneSize(pricer, single_layer_stacks(pricer.graph), remainder_first=policy.remainder_first)
    found = space.price(space.whole, Overlap.CACHED)
    assert found is not None
    return found


def add_baselines(
    schedule: Schedule,
    pricer: StackPricer,
    policy: Policy,
    objective: Objective,
    wanted: Wanted = Wanted.AUTO,
    report: Report | None = None,
) -> Schedule:
    """The schedule with its baselines, and with a note on each that cannot be had.

    After an interrupted search only that baseline is added which needs no time.

    Args:
        schedule: with ``layer_by_layer``.
        pricer: of the run.
        policy: of the run.
        objective: what the search in DeFiNES's space wants least of.
        wanted: "all" searches DeFiNES's space, which takes up to 32 plans of the whole network.
        report: told after each of these plans.
    """
    found: list[NamedBaseline] = []
    notes: list[str] = []
    ours = schedule.totals.energy_pj, schedule.totals.latency_cycles

    def add(name: Name, cost: NetworkCost | Infeasible, *, tiled: bool = False) -> None:
        if isinstance(cost, Infeasible):
            notes.append(f"baseline '{name}' is left out, as it does not fit: {cost}")
        else:
            tile, mode = (cost.tile, cost.overlap.value) if tiled else (None, "")
            found.append(_named(name, cost.energy_pj, cost.latency_cycles, ours, tile, mode))

    try:
        if schedule.complete:
            add(Name.LAYERS, single_layer(pricer, policy))
        whole = schedule.layer_by_layer
        if whole is None:
            notes.append(f"baseline '{Name.ONE_TILE}' is left out, as it does not fit")
        else:
            found.append(_named(Name.ONE_TILE, whole.energy_pj, whole.latency_cycles, ours))
        if schedule.complete and wanted is Wanted.ALL:
            search = BestOneSize(reference_space(pricer), objective, report)
            add(Name.DEFINES, search.run(), tiled=True)
    except KeyboardInterrupt:
        notes.append("some baselines are missing, as they were interrupted")
    return replace(schedule, baselines=tuple(found), notes=(*schedule.notes, *notes))


def _named(
    name: Name,
    energy_pj: float,
    latency_cycles: int,
    ours: tuple[float, int],
    tile: Tile | None = None,
    overlap: str = "",
) -> NamedBaseline:
    energy, cycles = ours
    gains = energy_pj / energy if energy else 1.0, latency_cycles / cycles if cycles else 1.0
    return NamedBaseline(name.value, energy_pj, latency_cycles, *gains, tile, overlap)
