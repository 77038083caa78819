"""What a mapping costs: energy, words and cycles of one nest under one mapping."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np

from dfc.backend_cost.cost_model import DEFINES, CostModel
from dfc.backend_cost.evaluate import Batch, effective_cuts, latency
from dfc.backend_cost.nest import Mapping, Nest
from dfc.backend_cost.sliding import mapping_words
from dfc.backend_cost.tables import Floats, Ints, Tables, build_tables
from dfc.backend_cost.timing import ExactLatency, exact_latency, granted_buffers
from dfc.backend_cost.timing_tables import TimeTables
from dfc.hwdsl.arch import Arch
from dfc.ir import N_DIMS, Role

T = TypeVar("T", float, Floats)


class Objective(StrEnum):
    """What a schedule is to have least of."""

    ENERGY = "energy"
    LATENCY = "latency"
    EDP = "edp"

    def of(self, energy_pj: T, cycles: T) -> T:
        """The score of an energy and a latency, or of many."""
        if self is Objective.ENERGY:
            return energy_pj
        return cycles if self is Objective.LATENCY else energy_pj * cycles


@dataclass(frozen=True)
class MappingCost:
    """A nest's mapping and what it costs; energies in pJ by (memory, role), cycles as in the reference.

    gap: by what share of the objective a better mapping may exist; 0.0: this one is optimal, None: it was only priced.
    """

    mapping: Mapping
    energy_pj: float
    compute_pj: float
    memory_pj: dict[tuple[int, Role], float]
    ideal_cycles: int
    stall_cycles: int
    loading_cycles: int
    offloading_cycles: int
    offloading_counts: bool  # whether the last outputs' way up is part of the latency
    read_bits: dict[int, float]  # per memory
    write_bits: dict[int, float]
    gap: float | None = None

    @property
    def latency_cycles(self) -> int:
        """Compute, stall and loading; in the exact model offloading too."""
        return self.ideal_cycles + self.stall_cycles + self.filling_cycles

    @property
    def filling_cycles(self) -> int:
        """Cycles before the first and after the last operation, as far as the model counts them."""
        return self.loading_cycles + (self.offloading_cycles if self.offloading_counts else 0)


@dataclass(frozen=True, slots=True)
class TooSmall:
    """No mapping fits: the memory that was too small for even one element of each lane."""

    memory: int
    needed_bits: int


@dataclass(frozen=True)
class MappingTimes:
    """Cycles per mapping, by the tables' model."""

    stall: Ints
    loading: Ints
    offloading: Ints
    total: Floats  # before rounding: what mappings are compared by

    def row(self, i: int) -> tuple[int, int, int]:
        """(stall, loading, offloading) of one mapping."""
        return int(self.stall[i]), int(self.loading[i]), int(self.offloading[i])


def mapping_times(
    tables: Tables,
    batch: Batch,
    cuts: tuple[Ints, ...],
    *,
    hopeful: bool = False,
    times: TimeTables | None = None,
) -> MappingTimes:
    """The latency of each mapping; ``cuts`` are the effective ones, ``times`` those of all points where they are known.

    ``hopeful``: what no order of the loops between the cuts is below (the reference's latency depends on it).
    """
    if not tables.model.played:
        time = latency(tables, batch, cuts, all_buffered=hopeful)
        total = time.total_cycles.astype(float)
        return MappingTimes(time.stall_cycles, time.loading_cycles, time.offloading_cycles, total)
    return whole_times(exact_latency(tables, batch, cuts, granted_buffers(tables, batch, cuts), times=times))


def whole_times(exact: ExactLatency) -> MappingTimes:
    """The exact model's latency in whole cycles, each part rounded up."""

    def whole(cycles: Floats) -> Ints:
        return np.ceil(cycles - 1e-6).astype(np.int64)

    stall = np.maximum(0, whole(exact.running_cycles) - exact.ideal_cycles)
    return MappingTimes(stall, whole(exact.loading_cycles), whole(exact.offloading_cycles), exact.total_cycles)


def tables_of(nest: Nest, arch: Arch, mapping: Mapping, model: CostModel) -> tuple[Tables, Batch]:
    """Tables over the boundaries of one mapping, and the batch of it alone.

    Raises:
        ValueError: where its loops do not cover the nest.
    """
    points = np.ones((len(mapping.loops) + 1, N_DIMS))
    for i, loop in enumerate(mapping.loops):
        points[i + 1] = points[i]
        points[i + 1, loop.dim] *= loop.size
    batch = Batch(
        np.array([[loop.dim for loop in mapping.loops]], dtype=np.int64).reshape(1, -1),
        np.arange(len(points))[None, :],
        tuple(np.array([cut], dtype=np.int64) for cut in mapping.cuts),
    )
    return build_tables(nest.with_steps(mapping.steps), arch, points, model), batch


def price_mapping(nest: Nest, arch: Arch, mapping: Mapping, model: CostModel = DEFINES) -> MappingCost:
    """The cost of one given mapping, whether it fits or not. Raises as :func:`tables_of`."""
    tables, batch = tables_of(nest, arch, mapping, model)
    times = mapping_times(tables, batch, effective_cuts(tables, batch)).row(0)
    return cost_of(tables, batch, mapping, times)


def cost_of(tables: Tables, batch: Batch, mapping: Mapping, times: tuple[int, int, int]) -> MappingCost:
    """Everything about one mapping (the batch's only row)."""
    ends = [cut[0].tolist() for cut in effective_cuts(tables, batch)]
    return cost_at(tables, mapping, times, batch.point[0].tolist(), ends)


def cost_at(
    tables: Tables, mapping: Mapping, times: tuple[int, int, int], point: list[int], ends: list[list[int]]
) -> MappingCost:
    """The same; ``point`` and ``ends`` say where it is cut (:func:`mapping_words`)."""
    stall, loading, offloading = times
    moved = mapping_words(tables, mapping, point, ends)
    energy: dict[tuple[int, Role], float] = {}
    read: dict[int, float] = {}
    write: dict[int, float] = {}
    for table in tables.operands:
        for link in table.links:
            key = (link.memory, table.operand.role)
            words, memory = moved[link.operand, link.boundary, link.move], tables.arch.memories[link.memory]
            energy[key] = energy.get(key, 0.0) + words * memory.word_pj(link.move)
            side = read if link.move.reads else write
            side[link.memory] = side.get(link.memory, 0.0) + words * memory.width(link.move)
    return MappingCost(
        mapping=mapping,
        energy_pj=tables.compute_pj + sum(energy.values()),
        compute_pj=tables.compute_pj,
        memory_pj=energy,
        ideal_cycles=tables.total_cycles,
        stall_cycles=stall,
        loading_cycles=loading,
        offloading_cycles=offloading,
        offloading_counts=tables.model.played,
        read_bits=read,
        write_bits=write,
    )
