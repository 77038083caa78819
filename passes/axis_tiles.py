"""Tiles along one axis: what each computes, reads and leaves for those after it, and which of them behave alike.

Along the time axis of a step (``Graph.time``) tiles are those of the steady state, when as many steps came before as
are looked back at. What earlier steps left waits in caches that live from step to step, as far as layers of the stack
still read it, and the next step finds the same, ``new`` positions later. So a tile of some frames of a step does what a
step of so many frames does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from dfc.ir import EMPTY, Axis, AxisMap, Graph, Interval, Layer
from dfc.passes.stacks import Stack

#: more tiles than there are
_ALWAYS = 1 << 60


@dataclass(frozen=True, slots=True)
class TensorStep:
    """What one tile does with one feature map along one axis, in positions.

    fresh:  computed by this tile (or, for a stack's input, fetched).
    stored: of those, how many later tiles still need: they go into the cache.
    waiting: how many positions the cache holds when this tile is done.
    left:   how many positions earlier tiles left in the cache for this one and later ones.
    own:    of a stack's output, how many positions this tile hands out: the tiles share them out. Where its overlap is
            kept, those that it computes; else those that it must complete.
    """

    fresh: int
    stored: int
    waiting: int
    left: int = 0
    own: int = 0

    @property
    def cached(self) -> int:
        """The most positions that the cache holds while the tile runs."""
        return max(self.waiting, self.left)


@dataclass(frozen=True, slots=True)
class ReadStep:
    """What one layer reads of one source along one axis: the window within the map, and what of it earlier tiles left.

    ``padding`` are the positions of the window that lie before the map, ``kept`` those of it that this tile computes
    and later ones still need. Along time only positions count that the layer really reads; ``skipped`` are those
    between them.
    """

    window: int
    cached: int
    padding: int = 0
    kept: int = 0
    skipped: int = 0

    @property
    def span(self) -> int:
        """Positions from the first that is read to the last."""
        return self.window + self.skipped


@dataclass(frozen=True, slots=True)
class AxisStep:
    """One tile along one axis: per tensor of the stack, and per layer and source in order.

    joined: for layers (by their place in the stack) that read a map at several places, all that they read of it.
    """

    tensors: tuple[tuple[str, TensorStep], ...]
    reads: tuple[tuple[ReadStep, ...], ...]
    joined: tuple[tuple[int, str, ReadStep], ...] = ()


@dataclass(frozen=True, slots=True)
class AxisTiles:
    """The distinct steps along an axis in order of appearance, and how many tiles take each.

    after: which may follow which, as pairs of their numbers (earlier, later). last: the number of the last tile's.
    """

    steps: tuple[AxisStep, ...]
    counts: tuple[int, ...]
    tiles: int
    after: frozenset[tuple[int, int]] = frozenset()
    last: int = 0


@dataclass(frozen=True, slots=True)
class MapSpan:
    """Positions ``[lo, hi)`` of a map that one tile makes or fetches along one axis.

    From ``kept`` on (at most ``hi``) they wait for later tiles. ``own`` are those of a stack's output that this tile
    hands out.
    """

    lo: int
    hi: int
    kept: int
    own: Interval = EMPTY


@dataclass(frozen=True, slots=True)
class ReadSpan:
    """Positions that a layer reads of one source along one axis, within the map, and how many lie outside of it."""

    window: Interval
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class TileSpans:
    """One tile along one axis, position by position; ``step`` is the number of its :class:`AxisStep`.

    Maps by name; windows per layer and source in order.
    """

    step: int
    maps: Mapping[str, MapSpan]
    reads: tuple[tuple[ReadSpan, ...], ...]


def edges(size: int, tile: int, *, remainder_first: bool = True) -> list[int]:
    """Tile borders along an axis; what does not divide evenly makes the first tile smaller (as in the reference), or
    the last.
    """
    if not remainder_first:
        return [*range(0, size, tile), size]
    first = size % tile or min(tile, size)
    return [0, *range(first, size + 1, tile)]


@dataclass(frozen=True, slots=True)
class Moment:
    """One tile along one axis: what it computes, up to where earlier tiles did, and what it needs, by map.

    The next ``ahead`` tiles do the same ``by`` so many positions further on each.
    """

    tile: int
    fresh: Mapping[str, Interval]
    done: Mapping[str, int]
    needed: Mapping[str, Interval]
    ahead: int = 0
    by: Mapping[str, int] = field(default_factory=dict[str, int])

    def later(self, tiles: int) -> Moment:
        """The tile that is so many further."""

        def moved(spans: Mapping[str, Interval]) -> dict[str, Interval]:
            return {n: at.moved(tiles * self.by[n]) if at.size else at for n, at in spans.items()}

        if not tiles:
            return replace(self, ahead=0)
        done = {n: at + tiles * self.by[n] for n, at in self.done.items()}
        return Moment(self.tile + tiles, moved(self.fresh), done, moved(self.needed))


def _follows(last: Interval, span: Interval, by: int) -> bool:
    """Whether positions are those of the last tile, so many further on; none stay none."""
    if not last.size or not span.size:
        return last.size == span.size
    return span == last.moved(by)


def _repeats(axis_map: AxisMap, span: Interval, by: int, source_by: int, size: int) -> int:
    """For how many more tiles a window moves ``source_by`` as its outputs move ``by``, inside the map or behind it."""
    first = (axis_map.num * span.lo + axis_map.lo) // axis_map.den
    last = (axis_map.num * (span.hi - 1) + axis_map.hi) // axis_map.den
    if axis_map.is_full:
        return 0 if source_by else _ALWAYS
    if first >= size:
        return _ALWAYS
    if first < 0 or last >= size or source_by * axis_map.den != by * axis_map.num:
        return 0
    return (size - 1 - last) // source_by if source_by else _ALWAYS


class AxisWalk:
    """Walks the tiles of a stack along one axis; ``kept`` maps keep their overlap."""

    def __init__(self, graph: Graph, stack: Stack, axis: Axis, tile: int, kept: Collection[str], remainder_first: bool):
        self.graph = graph
        self.stack = stack
        self.axis = axis
        self.kept = kept
        layers = [graph.layers[i] for i in stack.layers]
        self.reads = [(one, [(s.tensor, s.maps[axis]) for s in one.sources]) for one in layers]
        self.several = [(at, name) for at, one in enumerate(layers) for name in _read_at_several_places(one)]
        self.names = maps_of(graph, stack)
        self.size = {name: graph.tensors[name].spatial[axis] for name in self.names}
        self.past = {name: graph.past_along(name, axis) for name in self.names}
        self.steady = axis is graph.time
        whole = self.size[stack.outputs[-1]]
        old = self.past[stack.outputs[-1]]
        self.borders = [old + at for at in edges(whole - old, min(tile, whole - old), remainder_first=remainder_first)]
        self.tiles = len(self.borders) - 1

    def own_part(self, name: str, tile: int) -> Interval:
        """What of a stack output a tile must complete; outputs of another size are shared out in proportion."""
        old, start = self.past[name], self.borders[0]
        total, size = self.borders[-1] - start, self.size[name] - old
        lo, hi = (old - (start - self.borders[tile + i]) * size // total for i in (0, 1))
        return Interval(lo, hi)

    def demands(self, tile: int, done: Mapping[str, int]) -> tuple[dict[str, Interval], dict[str, Interval]]:
        """Per tensor what the tile needs of it, and what of that nobody has computed yet."""
        needed = dict.fromkeys(self.names, EMPTY)
        fresh: dict[str, Interval] = {}
        for name in self.stack.outputs:
            needed[name] = self.own_part(name, tile)
        for layer, sources in reversed(self.reads):
            for name in layer.outputs:
                needed[name] = self._without_gaps(needed[name], tile, done[name], self.size[name])
                fresh[name] = self._fresh(name, needed[name], done[name])
            span = fresh[layer.output]
            for name, axis_map in sources:
                needed[name] = needed[name].hull(axis_map.needs(span, self.size[name]))
        for name in self.stack.inputs:  # what a stride skips between tiles is fetched like what it skips within one
            if needed[name].size:  # and along time everything is, as its turn to be read will come
                hi = self.size[name] if self.steady and tile == self.tiles - 1 else needed[name].hi
                needed[name] = Interval(min(needed[name].lo, done[name]), hi)
            fresh[name] = self._fresh(name, needed[name], done[name])
        return needed, fresh

    def _without_gaps(self, needed: Interval, tile: int, done: int, size: int) -> Interval:
        """A tile begins no later than its neighbour ended, and the last one ends at the map's border.

        So every map is computed as a whole, also where its consumer skips positions, and without recomputation what is
        executed equals what the network counts.
        """
        lo, hi = (needed.lo, needed.hi) if needed.size else (done, done)
        return Interval(min(lo, done), size if tile == self.tiles - 1 else hi)

    def _fresh(self, name: str, needed: Interval, done: int) -> Interval:
        if name not in self.kept:
            return needed
        lo = max(needed.lo, done)
        return Interval(lo, needed.hi) if needed.hi > lo else EMPTY

    def moments(self) -> Iterator[Moment]:
        """Tile after tile; tiles that are their neighbour moved on are left to :attr:`Moment.ahead`."""
        done, tile = dict(self.past), 0
        last: Moment | None = None
        while tile < self.tiles:
            needed, fresh = self.demands(tile, done)
            moment = Moment(tile, fresh, done, needed)
            if last is not None and last.tile == tile - 1:
                moment = self.moved(last, moment)
            yield moment
            done = {n: max(at, fresh[n].hi) + moment.ahead * moment.by.get(n, 0) for n, at in done.items()}
            tile += 1 + moment.ahead
            last = moment

    def moved(self, last: Moment, moment: Moment) -> Moment:
        """How many tiles to come do what this one does, further on by as much as this one is further than the last.

        All that a tile does follows from where its outputs lie and from what is done. Both have moved on by whole
        positions of each map, no window reaches beyond a border, and axis maps keep their distances: so it goes on,
        until a window meets a border.
        """
        by = {n: at - last.done[n] for n, at in moment.done.items()}
        if not all(_follows(last.needed[n], moment.needed[n], d) for n, d in by.items()):
            return moment
        if any(max(at, moment.fresh[n].hi) - at != by[n] for n, at in moment.done.items()):
            return moment
        outputs = ((self.own_part(n, moment.tile), self.size[n] - self.past[n], by[n]) for n in self.stack.outputs)
        width, total = self.borders[moment.tile + 1] - self.borders[moment.tile], self.borders[-1] - self.borders[0]
        if any(part.size != d or d * total != width * size for part, size, d in outputs):
            return moment
        ahead = self._same_tiles(moment.tile, width)
        for name, d in by.items():
            if d:
                ahead = min(ahead, (self.size[name] - moment.needed[name].hi) // d)
        for layer, sources in self.reads:
            span = moment.fresh[layer.output]
            for name, axis_map in sources if span.size else ():
                ahead = min(ahead, _repeats(axis_map, span, by[layer.output], by[name], self.size[name]))
        return replace(moment, ahead=ahead, by=by) if ahead > 0 else moment

    def _same_tiles(self, tile: int, width: int) -> int:
        """How many tiles of a width come after a tile, without the last of all, which ends at all borders."""
        last = self.tiles - 2
        return (
            max(0, last - tile) if self.borders[tile + 1] + width * max(0, last - tile) == self.borders[last + 1] else 0
        )

    def history(self) -> Iterator[Moment]:
        """Every tile by itself."""
        for moment in self.moments():
            for n in range(moment.ahead + 1):
                yield moment.later(n)

    def spans(self) -> list[TileSpans]:
        """All tiles in order, position by position."""
        history = list(self.history())
        steps = [step for step, count in self._steps(history) for _ in range(count)]
        numbers = {step: n for n, step in enumerate(dict.fromkeys(steps))}
        return [
            TileSpans(
                numbers[step], dict(self._map_spans(one.tile, one.fresh, step)), tuple(self._read_spans(one.fresh))
            )
            for one, step in zip(history, steps, strict=True)
        ]

    def _map_spans(self, tile: int, fresh: Mapping[str, Interval], step: AxisStep) -> Iterator[tuple[str, MapSpan]]:
        for name, numbers in step.tensors:
            span, own = fresh[name], EMPTY
            if name in self.stack.outputs:
                own = span if name in self.kept else self.own_part(name, tile)
            yield name, MapSpan(span.lo, span.hi, span.hi - numbers.stored, own)

    def _read_spans(self, fresh: Mapping[str, Interval]) -> Iterator[tuple[ReadSpan, ...]]:
        for layer, sources in self.reads:
            span = fresh[layer.output]
            row: list[ReadSpan] = []
            for name, axis_map in sources:
                window = axis_map.needs(span, self.size[name])
                row.append(
                    ReadSpan(window, axis_map.padding_before(span), axis_map.padding_after(span, self.size[name]))
                )
            yield tuple(row)

    def walk(self) -> AxisTiles:
        """All tiles, gathered into distinct steps."""
        counts: dict[AxisStep, int] = {}
        runs = self._steps(list(self.moments()))
        for step, count in runs:
            counts[step] = counts.get(step, 0) + count
        number = {step: n for n, step in enumerate(counts)}
        order = [number[step] for step, _ in runs]
        after = {*pairwise(order), *((number[step], number[step]) for step, count in runs if count > 1)}
        return AxisTiles(tuple(counts), tuple(counts.values()), self.tiles, frozenset(after), order[-1])

    def _steps(self, moments: Sequence[Moment]) -> list[tuple[AxisStep, int]]:
        """What tiles do, from the first to the last, and how many of them one after the other."""
        found: list[tuple[AxisStep, int]] = []
        later: dict[str, int] = {}  # per tensor the first position that any later tile needs
        if self.steady:  # the next step needs the same of all that has moved on meanwhile
            for name in self.names:
                first = [moment.needed[name].lo for moment in moments if moment.needed[name].size]
                if first:
                    later[name] = min(first) + self.size[name] - self.past[name]
        for moment in reversed(moments):
            left = moment.ahead + 1
            later = {n: at - moment.ahead * moment.by.get(n, 0) for n, at in later.items()}  # as seen from the first
            while left:
                # a tile in which one of several readers rests may begin later than the next one does
                needs = later | {n: min(at.lo, later.get(n, at.lo)) for n, at in moment.needed.items() if at.size}
                before = {n: at + moment.by.get(n, 0) for n, at in needs.items()}  # as the tile before sees it
                same = left if before == later else 1
                found.append((self._step(moment, needs, later), same))
                left -= same
                later = before if left else needs
        return found[::-1]

    def _step(self, moment: Moment, needs: Mapping[str, int], later: Mapping[str, int]) -> AxisStep:
        """``needs`` holds per tensor the first position that this or a later tile needs, ``later`` a later one."""
        fresh, before = moment.fresh, moment.done
        tensors: list[tuple[str, TensorStep]] = []
        for name in self.names:
            stored = waiting = 0
            keep = name in self.kept
            if keep and name in later:
                end = max(before[name], fresh[name].hi)
                waiting = max(0, end - later[name])
                stored = max(0, end - max(later[name], fresh[name].lo)) if fresh[name].size else 0
            left = max(0, before[name] - needs[name]) if keep and name in needs else 0
            own = 0
            if name in self.stack.outputs:
                own = fresh[name].size if keep else self.own_part(name, moment.tile).size
            tensors.append((name, TensorStep(fresh[name].size, stored, waiting, left, own)))
        reads: list[tuple[ReadStep, ...]] = []
        for layer, sources in self.reads:
            span = fresh[layer.output]
            row: list[ReadStep] = []
            for name, axis_map in sources:
                if self.steady:
                    row.append(self._timed_read(layer, name, axis_map, moment, later))
                    continue
                window = axis_map.needs(span, self.size[name])
                keep = name in self.kept
                old = max(0, min(window.hi, before[name]) - window.lo) if keep else 0
                kept = self._overlap(window, fresh[name], later.get(name)) if keep else 0
                row.append(ReadStep(window.size, old, axis_map.padding_before(span), kept))
            reads.append(tuple(row))
        joined = ((at, name, self._joined(at, name, moment, later)) for at, name in self.several)
        return AxisStep(tuple(tensors), tuple(reads), tuple(joined))

    def _joined(self, at: int, name: str, moment: Moment, later: Mapping[str, int]) -> ReadStep:
        """All that a layer reads of a map that it reads at several places, position by position."""
        layer, sources = self.reads[at]
        span, size, fresh = moment.fresh[layer.output], self.size[name], moment.fresh[name]
        read: set[int] = set()
        for axis_map in (axis_map for tensor, axis_map in sources if tensor == name):
            window = axis_map.needs(span, size)
            stretch = range(window.lo, window.hi)
            read.update(touched(layer, axis_map, self.axis, span, size) if self.steady else stretch)
        if name not in self.kept:
            return ReadStep(len(read), 0)
        first = max(fresh.lo, later.get(name, fresh.hi))
        old, kept = sum(i < moment.done[name] for i in read), sum(first <= i < fresh.hi for i in read)
        return ReadStep(len(read), old, 0, kept, max(read) + 1 - min(read) - len(read) if read else 0)

    def _timed_read(
        self, layer: Layer, name: str, axis_map: AxisMap, moment: Moment, later: Mapping[str, int]
    ) -> ReadStep:
        """What a layer reads of a map along time, position by position."""
        span, new = moment.fresh[layer.output], moment.done[name]
        window = axis_map.needs(span, self.size[name])
        read = touched(layer, axis_map, self.axis, span, self.size[name])
        kept = sum(i >= max(new, later.get(name, i + 1)) for i in read)
        return ReadStep(
            len(read), sum(i < new for i in read), axis_map.padding_before(span), kept, window.size - len(read)
        )

    @staticmethod
    def _overlap(window: Interval, fresh: Interval, later: int | None) -> int:
        """Of a window, the positions that this tile computes and a later one needs."""
        if later is None:
            return 0
        return max(0, min(window.hi, fresh.hi) - max(window.lo, fresh.lo, later))


def _read_at_several_places(layer: Layer) -> list[str]:
    """The maps that a layer reads more than once, and not in the same place."""
    places: dict[str, set[tuple[AxisMap, ...]]] = {}
    for source in layer.sources:
        places.setdefault(source.tensor, set()).add(source.maps)
    return [name for name, found in places.items() if len(found) > 1]


def touched(layer: Layer, axis_map: AxisMap, axis: Axis, out: Interval, size: int) -> list[int]:
    """The input positions along an axis that a layer really reads for output positions, in order.

    A window with gaps leaves positions out; where the loop nest does not say which, it is all between first and last.
    """
    window = axis_map.needs(out, size)
    kernel, _, dilation = layer.window(axis)
    if axis_map.den != 1 or axis_map.hi - axis_map.lo != dilation * (kernel - 1):
        return list(range(window.lo, window.hi))
    read = {axis_map.num * o + axis_map.lo + dilation * f for o in range(out.lo, out.hi) for f in range(kernel)}
    return sorted(i for i in read if 0 <= i < size)


def maps_of(graph: Graph, stack: Stack) -> list[str]:
    """The maps of a stack: its inputs, then what its layers compute."""
    return [*stack.inputs, *dict.fromkeys(t for i in stack.layers for t in graph.layers[i].outputs)]


def axis_tiles(
    graph: Graph, stack: Stack, axis: Axis, tile: int, kept: Collection[str], *, remainder_first: bool = True
) -> AxisTiles:
    """The tiles of ``tile`` output positions along one axis, gathered into distinct steps.

    ``kept`` are the maps whose overlap is kept; that of the others is recomputed.
    """
    return AxisWalk(graph, stack, axis, tile, kept, remainder_first).walk()
