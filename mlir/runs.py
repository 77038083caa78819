"""Tiles along one axis: what they keep for each other, and which of them one loop can stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dfc.ir import Axis, Graph, Interval, Layer, Source
from dfc.mlir.writer import Offset
from dfc.passes.stacks import Stack


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile along one axis: positions of each map of the stack.

    fresh:   what it computes (of a stack's input, fetches).
    kept:    what earlier tiles left for this one and later ones.
    waiting: what lies in the caches when this one is done.
    own:     of a stack's outputs, what this tile hands out.
    kind:    tiles of one kind compute, read and keep the same amounts.
    """

    fresh: Mapping[str, Interval]
    kept: Mapping[str, Interval]
    waiting: Mapping[str, Interval]
    own: Mapping[str, Interval]
    kind: int


@dataclass(frozen=True, slots=True)
class Span:
    """What one tile makes and hands out along an axis, and of which kind it is."""

    fresh: Mapping[str, Interval]
    own: Mapping[str, Interval]
    kind: int


def place(graph: Graph, stack: Stack, axis: Axis, spans: Sequence[Span]) -> list[Tile]:
    """The tiles of an axis with what they keep for each other: all that a tile reads and does not make itself."""
    names = list(spans[0].fresh)
    done = dict.fromkeys(names, 0)  # how far the tiles so far came
    ends: list[dict[str, int]] = [dict(done)]
    for span in spans:
        done = {name: max(done[name], span.fresh[name].hi) for name in names}
        ends.append(done)
    tiles: list[Tile] = []
    later: dict[str, int] = {}  # per map the first position that a later tile takes from a cache
    for number in range(len(spans))[::-1]:
        span, before, after = spans[number], ends[number], ends[number + 1]
        waiting = {name: _up_to(after[name], later.get(name)) for name in names}
        for name, first in _from_caches(graph, stack, axis, span).items():
            later[name] = min(first, later.get(name, first))
        kept = {name: _up_to(before[name], later.get(name)) for name in names}
        tiles.append(Tile(span.fresh, kept, waiting, span.own, span.kind))
    return tiles[::-1]


def _up_to(end: int, first: int | None) -> Interval:
    return Interval(end if first is None else min(first, end), end)


def _from_caches(graph: Graph, stack: Stack, axis: Axis, span: Span) -> dict[str, int]:
    """Per map the first position that a tile reads and does not make, where there is one."""
    found: dict[str, int] = {}
    for index in stack.layers:
        layer = graph.layers[index]
        for source in layer.sources:
            name = source.tensor
            read = source.maps[axis].needs(span.fresh[layer.output], graph.tensors[name].spatial[axis])
            fresh = span.fresh[name]
            if read.size and (not fresh.size or read.lo < fresh.lo):
                found[name] = min(read.lo, found.get(name, read.lo))
    return found


@dataclass(frozen=True, slots=True)
class Read:
    """The window that a layer reads of a source along one axis.

    first:         the window's first position in the map, padding left out.
    size:          how many positions of the map it has.
    before, after: how many positions of padding lie on either side.
    """

    first: int
    size: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive tiles along an axis, from number ``first`` on, in one loop with ``loop`` as its variable.

    ``loop`` is empty where there is one tile.
    """

    first: int
    tiles: tuple[Tile, ...]
    loop: str = ""

    def place(self, position: Callable[[Tile], int]) -> Offset:
        """A position that the first tile has, and how far it moves from tile to tile."""
        start = position(self.tiles[0])
        step = position(self.tiles[1]) - start if len(self.tiles) > 1 else 0
        return Offset(start, step, self.loop)

    @property
    def tile(self) -> Tile:
        """Any one of them, for what they have in common."""
        return self.tiles[0]


def window(tile: Tile, layer: Layer, source: Source, axis: Axis, extent: int) -> Read:
    """What a layer reads of a source of ``extent`` positions along an axis."""
    out = tile.fresh[layer.output]
    seen = source.maps[axis]
    if not out.size:
        return Read(0, 0, 0, 0)
    first = (seen.num * out.lo + seen.lo) // seen.den
    last = (seen.num * (out.hi - 1) + seen.hi) // seen.den
    inside = seen.needs(out, extent)
    if not inside.size:
        return Read(inside.lo, 0, last + 1 - first, 0)
    return Read(inside.lo, inside.size, inside.lo - first, last + 1 - inside.hi)


def held(tile: Tile, name: str) -> Interval:
    """The positions of a map that a tile can read: those that are kept, and those that it computes or fetches."""
    kept, fresh = tile.kept[name], tile.fresh[name]
    if not fresh.size:
        return kept
    return Interval(kept.lo if kept.size else fresh.lo, fresh.hi)


def runs(graph: Graph, stack: Stack, axis: Axis, tiles: Sequence[Tile], loop: str) -> list[Run]:
    """The tiles of an axis in runs: of equal sizes everywhere, and positions that advance evenly.

    ``loop`` names the loops' variables.
    """
    found: list[list[Tile]] = []
    known: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    step: tuple[int, ...] | None = None
    for tile in tiles:
        fixed, moving = _describe(graph, stack, axis, tile)
        if known and known[-1][0] == fixed:
            gone = tuple(b - a for a, b in zip(known[-1][1], moving, strict=True))
            if step is None or step == gone:
                found[-1].append(tile)
                known.append((fixed, moving))
                step = gone
                continue
        found.append([tile])
        known.append((fixed, moving))
        step = None
    starts = [sum(map(len, found[:i])) for i in range(len(found))]
    return [
        Run(start, tuple(group), loop if len(group) > 1 else "") for start, group in zip(starts, found, strict=True)
    ]


def _describe(graph: Graph, stack: Stack, axis: Axis, tile: Tile) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(what must be equal in all tiles of a loop, what must advance evenly)."""
    fixed: list[int] = []
    moving: list[int] = []
    for name in tile.fresh:
        spans = [tile.fresh[name], tile.kept[name], tile.waiting[name]]
        spans += [tile.own[name]] if name in tile.own else []
        fixed += [span.size for span in spans]
        moving += [span.lo for span in spans if span.size]
        fixed += [span.lo - held(tile, name).lo for span in spans if span.size]
    for index in stack.layers:
        layer = graph.layers[index]
        for source in layer.sources:
            read = window(tile, layer, source, axis, graph.tensors[source.tensor].spatial[axis])
            fixed += [read.size, read.before, read.after]
            if read.size:
                seen, out = source.maps[axis], tile.fresh[layer.output]
                fixed += [read.first - held(tile, source.tensor).lo]
                # where in a window of several phases the tile begins: steady if both advance at the same pace
                fixed += [read.first * seen.den - out.lo * seen.num]
    return tuple(fixed), tuple(moving)
