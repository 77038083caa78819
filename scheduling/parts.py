"""What a tile reads and leaves, part by part: fresh positions, those kept along the walk, and those kept across it.

Tiles follow each other along one axis (``along``), and row after row along the other (``across``). An element of a map
that later tiles need waits in exactly one place: in the line buffer across the walk (a band of the whole map) if tiles
of a later row need it, else in the line buffer along the walk (a band of the tile) if the next tiles do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dfc.ir import Axis, Graph
from dfc.passes.axis_tiles import AxisStep, ReadStep, TensorStep
from dfc.passes.tiles import DepthFirstPlan, TileClass


@dataclass(frozen=True, slots=True)
class MapParts:
    """Positions of a map that a tile computes (or fetches): all, and of these those that go into either line buffer."""

    fresh: int
    across: int
    along: int

    @property
    def plain(self) -> int:
        """Those that no other tile needs."""
        return self.fresh - self.across - self.along


@dataclass(frozen=True, slots=True)
class ReadParts:
    """Positions of a window that a tile reads: computed by this tile, and out of either line buffer.

    ``shared`` of those out of the buffer across the walk were left there by a tile of the same row.
    """

    fresh: int
    across: int
    along: int
    shared: int = 0

    @property
    def window(self) -> int:
        """All of it."""
        return self.fresh + self.across + self.along


class TileParts:
    """The parts of one tile class of a plan."""

    def __init__(self, graph: Graph, plan: DepthFirstPlan, tile: TileClass):
        self.graph = graph
        along, across = _by_axis(plan, tile)
        self._along, self._across = dict(along.tensors), dict(across.tensors)
        self._maps: dict[str, MapParts] = {}
        self._reads = dict(zip(plan.stack.layers, zip(along.reads, across.reads, strict=True), strict=True))
        self._joined: dict[tuple[int, str], ReadParts] = {}
        for (at, name, a), (_, _, b) in zip(along.joined, across.joined, strict=True):
            self._joined[plan.stack.layers[at], name] = _read(a, b)

    def map(self, tensor: str) -> MapParts:
        """What the tile computes of a map."""
        found = self._maps.get(tensor)
        if found is None:
            a, b = self._along[tensor], self._across[tensor]
            found = MapParts(a.fresh * b.fresh, a.fresh * b.stored, a.stored * (b.fresh - b.stored))
            self._maps[tensor] = found
        return found

    def own(self, tensor: str) -> int:
        """Of a stack's output, the positions that this tile completes."""
        return self._along[tensor].own * self._across[tensor].own

    def windows(self, layer: int) -> dict[str, ReadParts]:
        """Per map what a layer reads of it.

        Where it reads a map at several places, these are all positions that are in any of its windows along both axes.
        """
        found: dict[str, ReadParts] = {}
        for source, a, b in zip(self.graph.layers[layer].sources, *self._reads[layer], strict=True):
            found[source.tensor] = self._joined.get((layer, source.tensor)) or _read(a, b)
        return found


def _by_axis(plan: DepthFirstPlan, tile: TileClass) -> tuple[AxisStep, AxisStep]:
    return (tile.x, tile.y) if plan.order.axes[0] is Axis.X else (tile.y, tile.x)


def _read(a: ReadStep, b: ReadStep) -> ReadParts:
    """``a`` along the walk, ``b`` across it."""
    shared = a.cached * b.kept
    return ReadParts(
        fresh=(a.window - a.cached) * (b.window - b.cached),
        across=a.window * b.cached + shared,
        along=a.cached * (b.window - b.cached - b.kept),
        shared=shared,
    )


@dataclass(frozen=True, slots=True)
class LineBuffer:
    """How a line buffer is laid out: ``lines`` positions deep along its own direction, ``length`` along the other.

    In a ``skewed`` one, a row of tiles overwrites what the row before left as soon as the tile that needs it is done:
    positions follow each other line group by line group, and the whole is a ring of ``lines`` x ``length`` positions,
    a little longer than the map. Otherwise the ``n``-th line of the map that is kept at all lies at line ``n`` modulo
    ``lines``.
    """

    lines: int
    length: int
    skewed: bool = False

    @property
    def positions(self) -> int:
        """Room in positions."""
        return self.lines * self.length


def line_buffers(graph: Graph, plan: DepthFirstPlan) -> dict[str, tuple[LineBuffer | None, LineBuffer | None]]:
    """Per map of the stack its line buffers (along, across) the walk; None where nothing waits."""
    steps = [_by_axis(plan, tile) for tile in plan.classes]
    found: dict[str, tuple[LineBuffer | None, LineBuffer | None]] = {}
    for index, (name, _) in enumerate(steps[0][0].tensors):
        along = list(dict.fromkeys(a.tensors[index][1] for a, _ in steps))
        across = list(dict.fromkeys(b.tensors[index][1] for _, b in steps))
        whole = graph.tensors[name].spatial[plan.order.axes[0]]
        found[name] = _along(along, across), _across(along, across, whole)
    return found


def _along(along: Sequence[TensorStep], across: Sequence[TensorStep]) -> LineBuffer | None:
    lines = max(s.left + s.stored for s in along)  # what the neighbour left is read while the tile leaves its own
    length = max(s.fresh - s.stored for s in across)
    return LineBuffer(lines, length) if lines and length else None


def _across(along: Sequence[TensorStep], across: Sequence[TensorStep], whole: int) -> LineBuffer | None:
    stored = {s.stored for s in across} - {0}
    if not stored and not any(s.left for s in across):
        return None
    if len(stored) == 1 and all(s.waiting == s.stored and s.left in {0, *stored} for s in across):
        return LineBuffer(stored.pop(), whole + max(s.left + s.fresh for s in along), skewed=True)
    return LineBuffer(max(s.left + s.stored for s in across), whole)
