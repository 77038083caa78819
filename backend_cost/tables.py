"""The cost of every boundary between two memories, as arrays over the points where a loop order can be cut.

A *point* says which temporal loops lie below a boundary: one product per dimension. Words moved across a boundary
depend on that point alone (section B.e of docs/cost-model.md), so a table over points prices any number of mappings:
a mapping is a chain of points, one per operand and boundary, and its energy is a sum of table entries.

Boundary ``a`` of an operand lies below its memory ``a``: boundary 0 between array and first memory, where nothing
temporal lies below.

Everything is worked out when it is asked for, and kept: a search asks for :meth:`Tables.by_cut` of all its points, and
for words and durations only where it ends up.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from math import prod

import numpy as np

from dfc.backend_cost.chips import without_sizes
from dfc.backend_cost.cost_model import DEFINES, CostModel
from dfc.backend_cost.grid import Bools, Floats, Grid, Ints, grid_of, operand_grid
from dfc.backend_cost.nest import Nest, NestOperand, Work, spatial_levels
from dfc.backend_cost.spatial import operand_lanes, unit_counts
from dfc.backend_cost.traffic import Link, Traffic
from dfc.hwdsl.arch import Arch

#: operands' tables that are kept: tiles of one layer differ in few of them
TABLES = 256

__all__ = ["Bools", "CutTable", "Floats", "Ints", "Link", "OperandTable", "Tables", "build_tables"]


@dataclass(frozen=True, eq=False)
class OperandTable:
    """An operand's tables over points; ``index`` is its place in the nest. Nests that it is alike in share one.

    whole: the same operand on its role's whole path, of which this one has the first memories; None for itself.
    """

    operand: NestOperand
    index: int
    traffic: Traffic
    whole: OperandTable | None = None

    @property
    def levels(self) -> int:
        """Memories on the operand's path."""
        return len(self.operand.memories)

    @cached_property
    def links(self) -> tuple[Link, ...]:
        """All traffic, from the array outwards."""
        if self.whole is not None and not self.traffic.fresh_starts:
            return tuple([link for link in self.whole.links if link.boundary < self.levels])
        return self.traffic.links(self.index, self.levels)

    @cached_property
    def data_bits(self) -> tuple[Floats, ...]:
        """[m]: bits that one instance of memory m holds when cut above at each point (fractional lanes)."""
        return self.traffic.data_bits(self.levels)

    @cached_property
    def alloc_bits(self) -> tuple[tuple[Ints, Ints], ...]:
        """[m]: the same with dimensions rounded up, finished and partial precision: what allocation counts."""
        if self.whole is not None:
            return self.whole.alloc_bits[: self.levels]
        held = self.traffic.elements_held(self.levels).astype(np.int64)
        return tuple((count * self.operand.bits, count * self.operand.partial_bits) for count in held)

    @cached_property
    def contents(self) -> tuple[Ints | Bools, ...]:
        """Memory by memory its ``alloc_bits``, finished and partial, and ``reduces`` of the boundary below it."""
        each = zip(self.alloc_bits, self.reduces, strict=False)
        return tuple([part for bits, reduces in each for part in (*bits, reduces)])

    @cached_property
    def whole_bits(self) -> tuple[int, int]:
        """Bits of all of the operand, of finished elements and of partial sums."""
        final, partial = self.alloc_bits[-1]
        return int(final[-1]), int(partial[-1])

    @cached_property
    def reduces(self) -> tuple[Bools, ...]:
        """[a]: whether sums are still partial above boundary a, per point."""
        return self.traffic.reduces(self.levels)

    @cached_property
    def fresh_starts(self) -> dict[int, Floats]:
        """Boundary above which an unrolled reduction makes sums start from zero -> how often, per point."""
        return {g: often for g, often in self.traffic.fresh_starts.items() if g < self.levels}

    @cached_property
    def energy_pj(self) -> tuple[Floats, ...]:
        """[a]: energy of all links at boundary a, per point; ``coupled`` words of links are not taken off."""
        return (np.array([self.fixed_pj]), *self.by_cut[0])

    @cached_property
    def by_cut(self) -> tuple[Floats, Ints, Ints]:
        """(boundaries from 1 on, points) energy of all links, and bits that the memory below holds, as allocation
        counts them: of finished elements, and while sums are partial."""
        if self.whole is not None:
            energy, final, partial = self.whole.by_cut
            return energy[: self.levels - 1], final[: self.levels - 1], partial[: self.levels - 1]
        held = self.traffic.elements_held(self.levels - 1).astype(np.int64)
        return self.traffic.energy_pj(), held * self.operand.bits, held * self.operand.partial_bits

    @property
    def fixed_pj(self) -> float:
        """Energy of the links at boundary 0."""
        return self.traffic.fixed_pj


@dataclass(frozen=True)
class CutTable:
    """What cutting a loop order at a point costs; a row per operand and boundary from 1 on, in that order.

    rows:         (operand, boundary) of each row; the memory below is the operand's ``boundary - 1``-th.
    energy_pj:    (rows, points), C-contiguous: all traffic across the boundary, as ``OperandTable.energy_pj``.
    bits:         (rows, points) that the memory below holds of finished elements, as allocation counts them.
    partial_bits: (rows, points) the same while an output's sums are partial.
    """

    rows: tuple[tuple[int, int], ...]
    energy_pj: Floats
    bits: Ints
    partial_bits: Ints


@dataclass(frozen=True)
class Tables:
    """All that mappings of a nest can be priced with, over a given list of points."""

    nest: Nest
    arch: Arch
    points: Floats  # (points, dims): temporal products below
    operands: tuple[OperandTable, ...]
    compute_pj: float
    model: CostModel
    grid: Grid

    @cached_property
    def cycles(self) -> Floats:
        """(points,) the period of a boundary at that point."""
        found: Floats = self.points.prod(axis=1)
        return found

    @cached_property
    def stays(self) -> Floats:
        """(points,) periods of a boundary at that point in which anything works."""
        found: Floats = np.ceil(np.array(self.nest.fewest_steps) / self.points).prod(axis=1)
        return found

    @property
    def total_cycles(self) -> int:
        """Cycles without stalls."""
        return self.nest.cycles

    @property
    def working_cycles(self) -> int:
        """Of these, those in which anything works."""
        return prod(self.nest.fewest_steps)

    @cached_property
    def fixed_pj(self) -> float:
        """Energy that no mapping changes."""
        return self.compute_pj + sum(o.fixed_pj for o in self.operands)

    def by_cut(self) -> CutTable:
        """Energy and contents of every (operand, boundary) at every point, stacked for a search.

        Energy of sums that start from zero at another boundary (``Link.coupled``) is not taken off.
        """
        return _by_cut(self.operands, len(self.points))


@lru_cache(maxsize=TABLES)
def _by_cut(operands: tuple[OperandTable, ...], points: int) -> CutTable:
    rows = [(i, a) for i, o in enumerate(operands) for a in range(1, o.levels)]
    parts = [table.by_cut for table in operands if table.levels > 1]
    if not parts:
        nothing = np.empty((0, points))
        return CutTable((), nothing, nothing.astype(np.int64), nothing.astype(np.int64))
    energy, final, partial = zip(*parts, strict=True)
    return CutTable(tuple(rows), np.concatenate(energy), np.concatenate(final), np.concatenate(partial))


@dataclass(frozen=True)
class _Wanted:
    """An operand of a nest on a chip. Equal where its table is: ``nest`` and ``arch`` themselves are not compared.

    where: which chip and grid; what: all that the operand depends on of the nest.
    """

    operand: NestOperand
    index: int
    units: tuple[int, ...]
    model: CostModel
    where: tuple[int, int]
    what: tuple[object, ...]
    nest: Nest = field(compare=False)
    arch: Arch = field(compare=False)
    grid: Grid = field(compare=False)

    @staticmethod
    def of(nest: Nest, arch: Arch, model: CostModel, grid: Grid, index: int, units: tuple[int, ...]) -> _Wanted:
        operand = nest.operands[index]
        slides = (nest.strides, nest.dilations, nest.pads, nest.inputs) if operand.windows else ()
        what = (nest.sizes, nest.steps, nest.unrolled, slides)
        return _Wanted(operand, index, units, model, (id(arch), id(grid)), what, nest, arch, grid)


def _operand_table(wanted: _Wanted) -> OperandTable:
    nest, operand = wanted.nest, wanted.operand
    gaps = spatial_levels(nest, operand, wanted.arch)
    lanes = operand_lanes(nest, operand, gaps, whole=False)
    seen = operand_grid(wanted.grid, nest, operand)
    traffic = Traffic(seen, wanted.arch, (gaps, lanes, list(wanted.units)), wanted.model)
    return OperandTable(operand, wanted.index, traffic)


_kept_table = lru_cache(maxsize=TABLES)(_operand_table)


@dataclass(frozen=True)
class _Shared:
    """A nest whose tables are shared: equal where they are. ``nest`` uses whole paths, ``chip`` stands for all that
    differ from it in sizes of memories alone."""

    nest: Nest
    model: CostModel
    where: tuple[int, int]  # which chip and grid
    chip: Arch = field(compare=False)
    grid: Grid = field(compare=False)


@lru_cache(maxsize=TABLES)
def _shared_tables(shared: _Shared) -> tuple[OperandTable, ...]:
    nest, chip, model, grid = shared.nest, shared.chip, shared.model, shared.grid
    return tuple(_kept_table(_Wanted.of(nest, chip, model, grid, i, ())) for i in range(len(nest.operands)))


def _on_whole_paths(nest: Nest, arch: Arch) -> Nest:
    """The nest with every operand's path as long as its role's."""
    found: list[NestOperand] = []
    for operand in nest.operands:
        path = arch.paths.get(operand.role, ())
        longer = len(path) > len(operand.memories) and path[: len(operand.memories)] == operand.memories
        found.append(replace(operand, memories=path) if longer else operand)
    return replace(nest, operands=tuple(found))


def _first_levels(table: OperandTable, operand: NestOperand) -> OperandTable:
    return table if operand == table.operand else OperandTable(operand, table.index, table.traffic, table)


@dataclass(frozen=True)
class _TablesOf:
    """Whose tables these are; the chip is the very same, not an equal one."""

    nest: Nest
    model: CostModel
    chip_id: int
    chip: Arch = field(compare=False)


@lru_cache(maxsize=TABLES)
def _tables_of(wanted: _TablesOf, grid: Grid) -> tuple[OperandTable, ...]:
    nest, chip = wanted.nest, wanted.chip
    whole = _on_whole_paths(nest, chip)
    found = _shared_tables(_Shared(whole, wanted.model, (id(chip), id(grid)), chip, grid))
    return tuple(_first_levels(t, o) for t, o in zip(found, nest.operands, strict=True))


def build_tables(
    nest: Nest, arch: Arch, points: Floats, model: CostModel = DEFINES, grid: Grid | None = None
) -> Tables:
    """Price every boundary of every operand of a nest at each of the points (points, dims).

    ``grid`` is that of the points where it is known, as for a ``Lattice``.

    Raises:
        ValueError: for steps that do nothing under a model without ``whole_lanes``: the reference knows none.
    """
    if nest.idling and not model.whole_lanes:
        raise ValueError("only a model with whole_lanes prices steps that do nothing")
    found = grid or grid_of(points, nest.temporal)
    if grid is found and model.whole_lanes and model.played:  # a grid that is given is that of many nests
        chip = without_sizes(arch)
        tables = _tables_of(_TablesOf(nest, model, id(chip), chip), grid)
    else:
        tables = _own_tables(nest, arch, model, found, kept=grid is found)
    operation_pj = arch.array.op_pj if model.op_energy else arch.array.mac_pj
    each = {Work.MAC: arch.array.mac_pj, Work.OPERATION: operation_pj, Work.NOTHING: 0.0}[nest.work]
    return Tables(nest, arch, points, tables, each * nest.operations, model, found)


def _own_tables(nest: Nest, arch: Arch, model: CostModel, grid: Grid, *, kept: bool) -> tuple[OperandTable, ...]:
    """Tables of the operands as they are: the reference's lanes depend on the memories beyond."""
    units: list[list[int]] = [[] for _ in nest.operands]
    if not model.whole_lanes:
        gaps = [spatial_levels(nest, o, arch) for o in nest.operands]
        units = unit_counts([operand_lanes(nest, o, g, whole=False) for o, g in zip(nest.operands, gaps, strict=True)])
    wanted = [_Wanted.of(nest, arch, model, grid, i, tuple(units[i])) for i in range(len(nest.operands))]
    return tuple(_kept_table(each) if kept else _operand_table(each) for each in wanted)
