"""The line buffers of a stack as tensors that loops carry.

A buffer along the walk holds, of one map, the columns that the next tile needs, as many rows as a tile computes. A
buffer across the walk holds the rows that the next row of tiles needs, of the whole map's width: while a row of tiles
runs it reads what the row before left (``before``) and writes what the next one needs (``after``). (With tiles in
columns rows and columns change places.) On a chip both are one ring, as the schedule's buffers say; as tensors they are
two versions of one value, which bufferization may join.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dfc.ir import Axis, Graph, Tensor
from dfc.mlir.layer import along_axes
from dfc.mlir.runs import Run, held
from dfc.mlir.writer import Offset, Shape, Value, Writer


@dataclass(slots=True)
class Caches:
    """The state between tiles: per map the buffer along the walk, and both versions of that across it."""

    along: dict[str, Value]
    before: dict[str, Value]
    after: dict[str, Value]


class TileMaps:
    """What one tile can read of every map: what it computes or fetches, joined to what the caches hold."""

    def __init__(
        self, writer: Writer, graph: Graph, runs: Mapping[Axis, Run], walk: tuple[Axis, Axis], caches: Caches
    ) -> None:
        self.writer = writer
        self.graph = graph
        self.runs = runs
        self.walk = walk
        self.caches = caches
        self.maps: dict[str, Value] = {}

    def size(self, name: str, axis: Axis) -> tuple[int, int]:
        """(positions that are kept, positions that are fresh) along an axis."""
        tile = self.runs[axis].tile
        return tile.kept[name].size, tile.fresh[name].size

    def add(self, name: str, fresh: Value | None) -> None:
        """The tile has its part of a map; None where it computes nothing of it."""
        tensor = self.graph.tensors[name]
        along, across = self.walk
        (left_a, new_a), (left_b, new_b) = self.size(name, along), self.size(name, across)
        if not left_a + new_a or not left_b + new_b:
            return
        if not left_a and not left_b:
            if fresh is not None:
                self.maps[name] = fresh
            return
        shape = self.shape(tensor, {along: left_a + new_a, across: left_b + new_b})
        found = self.writer.empty(shape)
        if left_b:
            found = self._insert(tensor, self._rows(name, left_a + new_a, left_b), found, {})
        if left_a and new_b:
            part = self._first(tensor, self.caches.along[name], {along: left_a, across: new_b})
            found = self._insert(tensor, part, found, {across: left_b})
        if fresh is not None:
            found = self._insert(tensor, fresh, found, {along: left_a, across: left_b})
        self.maps[name] = found

    def _rows(self, name: str, length: int, lines: int) -> Value:
        """What the row of tiles before left, at the columns that this tile can read."""
        along, across = self.walk
        tensor = self.graph.tensors[name]
        start = self.runs[along].place(lambda tile: held(tile, name).lo)
        places = along_axes(tensor, lambda axis: start if axis is along else Offset(0), lambda _: Offset(0))
        return self.writer.slice(self.caches.before[name], places, self.shape(tensor, {along: length, across: lines}))

    def keep(self, names: Sequence[str]) -> None:
        """Leave in the caches what later tiles need."""
        along, across = self.walk
        for name in names:
            tensor = self.graph.tensors[name]
            if name in self.caches.along and name in self.maps:
                self._keep_along(name, tensor, along, across)
            if name in self.caches.after and name in self.maps:
                self._keep_across(name, tensor, along, across)

    def _keep_along(self, name: str, tensor: Tensor, along: Axis, across: Axis) -> None:
        waiting = self.runs[along].tile.waiting[name]
        left_b, new_b = self.size(name, across)
        if not waiting.size or not new_b:
            return
        start = waiting.lo - held(self.runs[along].tile, name).lo
        places = self.places(tensor, {along: start, across: left_b})
        part = self.writer.slice(self.maps[name], places, self.shape(tensor, {along: waiting.size, across: new_b}))
        self.caches.along[name] = self._insert(tensor, part, self.caches.along[name], {})

    def _keep_across(self, name: str, tensor: Tensor, along: Axis, across: Axis) -> None:
        waiting = self.runs[across].tile.waiting[name]
        left_a, new_a = self.size(name, along)
        if not waiting.size or not new_a:
            return
        start = waiting.lo - held(self.runs[across].tile, name).lo
        part = self.writer.slice(
            self.maps[name],
            self.places(tensor, {along: left_a, across: start}),
            self.shape(tensor, {along: new_a, across: waiting.size}),
        )
        at = self.runs[along].place(lambda tile: tile.fresh[name].lo)
        places = along_axes(tensor, lambda axis: at if axis is along else Offset(0), lambda _: Offset(0))
        self.caches.after[name] = self.writer.insert(part, self.caches.after[name], places)

    # geometry

    def shape(self, tensor: Tensor, sizes: Mapping[Axis, int]) -> Shape:
        """The tensor's shape with other extents along some axes."""
        return along_axes(tensor, lambda axis: sizes.get(axis, tensor.spatial[axis]), int)

    def places(self, tensor: Tensor, starts: Mapping[Axis, int]) -> tuple[Offset, ...]:
        """Offsets that are 0 save along some axes."""
        return along_axes(tensor, lambda axis: Offset(starts.get(axis, 0)), lambda _: Offset(0))

    def _insert(self, tensor: Tensor, part: Value, into: Value, starts: Mapping[Axis, int]) -> Value:
        return self.writer.insert(part, into, self.places(tensor, starts))

    def _first(self, tensor: Tensor, value: Value, sizes: Mapping[Axis, int]) -> Value:
        return self.writer.slice(value, self.places(tensor, {}), self.shape(tensor, sizes))
