"""Depth-first tiles: which part of every feature map each tile computes, reads, and leaves for its neighbours.

Rows and columns do not mix: what a tile does along X depends on its column alone, along Y on its row alone. So one axis
is analysed at a time, tile after tile, and tiles that behave alike along both axes form a class with a count.

Along an axis on which the overlap of a map is kept, only positions are computed that no earlier tile computed, and
those that later tiles still need wait in a cache. Along an axis on which it is recomputed, everything is computed that
its consumers ask for. They ask for what they compute themselves, so for the sake of a map that is kept nothing before
it is computed again. Each map of a stack may have its own choice along each axis.

Regions are exact: padding, strides, dilation, branches of different lag and map borders all follow from the axis maps.
Every map is computed as a whole, to its borders (section "Tiles" of docs/depth-first.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TypeVar

from dfc.ir import Axis, Graph
from dfc.passes.axis_tiles import AxisStep, AxisTiles, AxisWalk, TileSpans, axis_tiles, maps_of
from dfc.passes.stacks import Stack

T = TypeVar("T")


class Overlap(StrEnum):
    """What happens to the positions that neighbouring tiles both need: horizontally (X) and vertically (Y)."""

    RECOMPUTE = "recompute"
    H_CACHED = "h-cached"
    V_CACHED = "v-cached"
    CACHED = "cached"

    @property
    def keeps(self) -> tuple[bool, bool, bool]:
        """Per axis (t, y, x) whether overlap is kept; T is never tiled."""
        return (
            False,
            self in (Overlap.V_CACHED, Overlap.CACHED),
            self in (Overlap.H_CACHED, Overlap.CACHED),
        )

    @staticmethod
    def keeping(x: bool, y: bool) -> Overlap:
        """The mode that keeps columns (x), and rows (y)."""
        return next(mode for mode in Overlap if mode.keeps == (False, y, x))


#: all modes, the most hopeful first
OVERLAPS = (Overlap.CACHED, Overlap.H_CACHED, Overlap.V_CACHED, Overlap.RECOMPUTE)


@dataclass(frozen=True, slots=True)
class Mixed:
    """A mode for each map of a stack by itself: its inputs and what its layers compute, in that order."""

    modes: tuple[tuple[str, Overlap], ...]

    @staticmethod
    def made(modes: Mapping[str, Overlap]) -> Modes:
        """These modes, or the one that all maps have."""
        different = set(modes.values())
        return Mixed(tuple(modes.items())) if len(different) > 1 else different.pop()

    @property
    def value(self) -> str:
        """What all mixtures are called."""
        return "mixed"

    @property
    def keeps(self) -> tuple[bool, bool, bool]:
        """Per axis (t, y, x) whether overlap of any map is kept."""
        keeps = [mode.keeps for _, mode in self.modes]
        return False, any(k[Axis.Y] for k in keeps), any(k[Axis.X] for k in keeps)


Modes = Overlap | Mixed


def modes_of(overlap: Modes, maps: Iterable[str]) -> dict[str, Overlap]:
    """The mode of each map."""
    return dict.fromkeys(maps, overlap) if isinstance(overlap, Overlap) else dict(overlap.modes)


def kept_maps(overlap: Modes, maps: Iterable[str], axis: Axis) -> frozenset[str]:
    """The maps whose overlap is kept along an axis."""
    return frozenset(name for name, mode in modes_of(overlap, maps).items() if mode.keeps[axis])


class Order(StrEnum):
    """Which tile comes next: the one to the right, row by row, or the one below, column by column."""

    ROWS = "rows"
    COLUMNS = "columns"

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """The axis along which the next tile lies, and the other."""
        return (Axis.X, Axis.Y) if self is Order.ROWS else (Axis.Y, Axis.X)


@dataclass(frozen=True, slots=True)
class TileClass:
    """Tiles that compute, read and keep the same amounts.

    ``first`` marks the class of the stack's first tile alone: it is the one that brings the weights.
    """

    x: AxisStep
    y: AxisStep
    count: int
    first: bool


@dataclass(frozen=True)
class DepthFirstPlan:
    """A stack cut into tiles of (x, y) positions of its last output, with what happens to overlap.

    axes: the tiles along X and along Y.
    """

    stack: Stack
    tile: tuple[int, int]
    overlap: Modes
    classes: tuple[TileClass, ...]
    axes: tuple[AxisTiles, AxisTiles]
    order: Order = Order.ROWS
    remainder_first: bool = True

    @property
    def tiles(self) -> int:
        """How many tiles there are."""
        return sum(c.count for c in self.classes)

    @cached_property
    def computed(self) -> Mapping[str, int]:
        """Positions of each map that all tiles together compute or fetch."""
        found: dict[str, int] = {}
        for tile in self.classes:
            for (name, x), (_, y) in zip(tile.x.tensors, tile.y.tensors, strict=True):
                found[name] = found.get(name, 0) + tile.count * x.fresh * y.fresh
        return found

    @cached_property
    def before(self) -> tuple[tuple[int, ...], ...]:
        """Per class the numbers of all classes of which a tile may come right before one of it; none for the first."""
        along, across = self._by_walk(*self.axes)
        kinds: list[tuple[int, int]] = []
        for tile in self.classes:
            a, b = self._by_walk(tile.x, tile.y)
            kinds.append((along.steps.index(a), across.steps.index(b)))
        found: list[tuple[int, ...]] = []
        for tile, (here, row) in zip(self.classes, kinds, strict=True):
            earlier = {(k, row) for k, later in along.after if later == here}
            if here == 0:  # it may be the first of its row: the last of the row before comes before it
                earlier |= {(along.last, k) for k, later in across.after if later == row}
            found.append(() if tile.first else tuple(n for n, kind in enumerate(kinds) if kind in earlier))
        return tuple(found)

    def _by_walk(self, x: T, y: T) -> tuple[T, T]:
        """What is along the walk, then what is across it."""
        return (x, y) if self.order is Order.ROWS else (y, x)

    @property
    def line_names(self) -> tuple[str, str]:
        """What the caches are called that keep overlap along the walk and across it: H holds columns, V holds rows."""
        return ("H cache", "V cache") if self.order is Order.ROWS else ("V cache", "H cache")


def plan_spans(graph: Graph, plan: DepthFirstPlan, axis: Axis) -> list[TileSpans]:
    """The tiles of a plan along an axis, position by position."""
    size = plan.tile[0] if axis is Axis.X else plan.tile[1]
    maps = maps_of(graph, plan.stack)
    kept = frozenset(maps) if axis is graph.time else kept_maps(plan.overlap, maps, axis)
    return AxisWalk(graph, plan.stack, axis, size, kept, plan.remainder_first).spans()


class Tiler:
    """Makes the plans of one stack; an axis is analysed once per tile size and mode.

    ``remainder_first``: what does not divide evenly makes the first row and column smaller, as in the reference; else
    the last.
    """

    def __init__(self, graph: Graph, stack: Stack, *, remainder_first: bool = True):
        self.graph = graph
        self.stack = stack
        self.remainder_first = remainder_first
        self.maps = maps_of(graph, stack)
        self._known: dict[tuple[Axis, int, frozenset[str]], AxisTiles] = {}

    @property
    def extents(self) -> tuple[int, int]:
        """(x, y) positions of the map that is tiled; along time those that a step makes."""
        made = self.graph.made(self.stack.outputs[-1])
        return made[Axis.X], made[Axis.Y]

    def axis(self, axis: Axis, tile: int, overlap: Modes) -> AxisTiles:
        """The tiles along one axis."""
        kept = frozenset(self.maps) if axis is self.graph.time else kept_maps(overlap, self.maps, axis)
        key = (axis, tile, kept)
        if key not in self._known:
            first = self.remainder_first
            self._known[key] = axis_tiles(self.graph, self.stack, axis, tile, kept, remainder_first=first)
        return self._known[key]

    def plan(self, tile: tuple[int, int], overlap: Modes, order: Order = Order.ROWS) -> DepthFirstPlan:
        """The plan for tiles of (x, y) positions; larger tiles than the map are the map.

        Tiles of a step over time follow each other along the other axis, then along time.
        """
        tile = (min(tile[0], self.extents[0]), min(tile[1], self.extents[1]))
        if self.graph.time is Axis.X:
            order = Order.COLUMNS
        elif self.graph.time is Axis.Y:
            order = Order.ROWS
        x = self.axis(Axis.X, tile[0], overlap)
        y = self.axis(Axis.Y, tile[1], overlap)
        classes: list[TileClass] = []
        for j, (step_y, rows) in enumerate(zip(y.steps, y.counts, strict=True)):
            for i, (step_x, columns) in enumerate(zip(x.steps, x.counts, strict=True)):
                count = rows * columns
                if i == j == 0:
                    classes.append(TileClass(step_x, step_y, 1, first=True))
                    count -= 1
                if count:
                    classes.append(TileClass(step_x, step_y, count, first=False))
        return DepthFirstPlan(self.stack, tile, overlap, tuple(classes), (x, y), order, self.remainder_first)
