"""Parts of tiles against sets of positions: every position that a tile reads lies where the parts say it does."""

from __future__ import annotations

from itertools import product

from graph_strategies import mixtures, random_cnn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfc.ir import Axis, Graph
from dfc.passes.axis_tiles import AxisWalk, maps_of
from dfc.passes.stacks import cut_after
from dfc.passes.tiles import DepthFirstPlan, Order, Overlap, TileClass, Tiler, kept_maps
from dfc.scheduling.parts import LineBuffer, TileParts, line_buffers

#: one mode for all maps, or (None) one for each
MODES = st.none() | st.sampled_from(Overlap)
SLOW = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))


def plans(
    graph: Graph, tile: tuple[int, int], overlap: Overlap | None, order: Order, data: st.DataObject
) -> list[DepthFirstPlan]:
    """A plan for each stack of the network; without a mode, each map has its own."""
    tilers = [Tiler(graph, s, remainder_first=False) for s in cut_after(graph, [])]
    return [tiler.plan(tile, overlap or data.draw(mixtures(tiler.maps)), order) for tiler in tilers]


def areas(tile: TileClass, name: str) -> tuple[int, int]:
    return dict(tile.x.tensors)[name].fresh, dict(tile.y.tensors)[name].fresh


@SLOW
@given(random_cnn(head=False), st.integers(1, 7), st.integers(1, 7), MODES, st.sampled_from(Order), st.data())
def test_parts_are_all_of_it(
    graph: Graph, x: int, y: int, overlap: Overlap | None, order: Order, data: st.DataObject
) -> None:
    for plan in plans(graph, (x, y), overlap, order, data):
        buffers = line_buffers(graph, plan)
        for tile in plan.classes:
            parts = TileParts(graph, plan, tile)
            for name in dict(tile.x.tensors):
                width, height = areas(tile, name)
                made = parts.map(name)
                assert made.fresh == width * height
                assert min(made.plain, made.across, made.along) >= 0
                along, across = buffers[name]
                assert along is not None or made.along == 0
                assert across is not None or made.across == 0
            for layer in plan.stack.layers:
                for name, read in parts.windows(layer).items():
                    assert min(read.fresh, read.across, read.along) >= 0
                    assert read.fresh <= parts.map(name).fresh
                    along, across = buffers[name]
                    assert read.along <= (along.positions if along else 0)
                    assert read.across <= (across.positions if across else 0)


@SLOW
@given(random_cnn(head=False), st.integers(1, 7), st.integers(1, 7), MODES, st.data())
def test_outputs_are_handed_out_once_by_tiles_that_have_them(
    graph: Graph, x: int, y: int, overlap: Overlap | None, data: st.DataObject
) -> None:
    for plan in plans(graph, (x, y), overlap, Order.ROWS, data):
        for name in plan.stack.outputs:
            handed = 0
            for tile in plan.classes:
                parts = TileParts(graph, plan, tile)
                assert parts.own(name) <= parts.map(name).fresh
                handed += tile.count * parts.own(name)
            spatial = graph.tensors[name].spatial
            assert handed == spatial[Axis.X] * spatial[Axis.Y]


class Steps:
    """The tiles along one axis, one after the other, for one map: which positions they compute, read and leave."""

    def __init__(self, graph: Graph, plan: DepthFirstPlan, axis: Axis, name: str):
        size = dict(zip((Axis.X, Axis.Y), plan.tile, strict=True))[axis]
        kept = kept_maps(plan.overlap, maps_of(graph, plan.stack), axis)
        walk = AxisWalk(graph, plan.stack, axis, size, kept, False)
        done = dict.fromkeys(walk.names, 0)
        self.fresh: list[range] = []
        self.needed: list[range] = []
        for tile in range(walk.tiles):
            needed, fresh = walk.demands(tile, done)
            self.fresh.append(range(fresh[name].lo, fresh[name].hi))
            self.needed.append(range(needed[name].lo, needed[name].hi))
            for other, span in fresh.items():
                done[other] = max(done[other], span.hi)
        self.stored: list[list[int]] = []
        for tile, made in enumerate(self.fresh):
            later = [n.start for n in self.needed[tile + 1 :] if len(n)]
            self.stored.append([p for p in made if name in kept and later and p >= min(later)])

    def old(self, tile: int) -> list[int]:
        """What a tile reads that earlier ones computed."""
        first = self.fresh[tile].start if len(self.fresh[tile]) else 1 << 30  # what is made again counts as new
        return [p for p in self.needed[tile] if p < first and any(p in made for made in self.fresh[:tile])]


class Rings:
    """Both line buffers of a map: what lies in which slot."""

    def __init__(self, whole: int, a: Steps, b: Steps, along: LineBuffer | None, across: LineBuffer | None):
        self.whole, self.b, self.along, self.across = whole, b, along, across
        self.kept = [{p: n for n, p in enumerate(p for kept in steps.stored for p in kept)} for steps in (a, b)]
        self.group = {q: j for j, kept in enumerate(b.stored) for q in kept}
        self.lying: dict[tuple[str, int, int], tuple[int, int]] = {}

    def slot(self, p: int, q: int, row: int) -> tuple[str, int, int]:
        """Where a position lies that a tile of some row leaves or reads."""
        if q in self.group and self.across is not None:
            if not self.across.skewed:
                return "across", p, self.kept[1][q] % self.across.lines
            at = self.group[q] * self.whole + p
            return "across", at % self.across.length, q - self.b.stored[self.group[q]][0]
        assert self.along is not None
        assert q - self.b.fresh[row].start < self.along.length
        return "along", self.kept[0][p] % self.along.lines, q - self.b.fresh[row].start

    def leave(self, p: int, q: int, row: int) -> None:
        self.lying[self.slot(p, q, row)] = p, q

    def has(self, p: int, q: int, row: int) -> bool:
        return self.lying.get(self.slot(p, q, row)) == (p, q)


@SLOW
@given(random_cnn(head=False), st.integers(1, 7), st.integers(1, 7), MODES, st.sampled_from(Order), st.data())
def test_line_buffers_hold_what_is_read(
    graph: Graph, x: int, y: int, overlap: Overlap | None, order: Order, data: st.DataObject
) -> None:
    """Positions go into their slots tile by tile, and still lie there when later tiles read them."""
    for plan in plans(graph, (x, y), overlap, order, data):
        first, second = order.axes
        for name, (along, across) in line_buffers(graph, plan).items():
            a, b = Steps(graph, plan, first, name), Steps(graph, plan, second, name)
            rings = Rings(graph.tensors[name].spatial[first], a, b, along, across)
            for j, i in product(range(len(b.fresh)), range(len(a.fresh))):
                # the tile leaves what it computes, then reads: the layer that reads comes later
                for p, q in product(a.fresh[i], b.stored[j]):
                    rings.leave(p, q, j)
                for p, q in product(a.stored[i], b.fresh[j]):
                    if q not in b.stored[j]:
                        rings.leave(p, q, j)
                for p, q in product(a.needed[i], b.old(j)):
                    assert rings.has(p, q, j)
                for p, q in product(a.old(i), b.needed[j]):
                    assert q not in b.fresh[j] or rings.has(p, q, j)
