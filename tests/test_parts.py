"""Parts of tiles against sets of positions: every position that a tile reads lies where the parts say it does."""

from __future__ import annotations

from graph_strategies import random_cnn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfc.ir import Axis, Graph
from dfc.passes.stacks import cut_after
from dfc.passes.tiles import DepthFirstPlan, Order, Overlap, TileClass, Tiler
from dfc.scheduling.parts import TileParts, line_buffers

SLOW = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))


def plans(graph: Graph, tile: tuple[int, int], overlap: Overlap, order: Order) -> list[DepthFirstPlan]:
    return [Tiler(graph, s, remainder_first=False).plan(tile, overlap, order) for s in cut_after(graph, [])]


def areas(tile: TileClass, name: str) -> tuple[int, int]:
    return dict(tile.x.tensors)[name].fresh, dict(tile.y.tensors)[name].fresh


@SLOW
@given(
    random_cnn(head=False), st.integers(1, 7), st.integers(1, 7), st.sampled_from(list(Overlap)), st.sampled_from(Order)
)
def test_parts_are_all_of_it(graph: Graph, x: int, y: int, overlap: Overlap, order: Order) -> None:
    for plan in plans(graph, (x, y), overlap, order):
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
@given(random_cnn(head=False), st.integers(1, 7), st.integers(1, 7), st.sampled_from(list(Overlap)))
def test_outputs_are_handed_out_once_by_tiles_that_have_them(graph: Graph, x: int, y: int, overlap: Overlap) -> None:
    for plan in plans(graph, (x, y), overlap, Order.ROWS):
        for name in plan.stack.outputs:
            handed = 0
            for tile in plan.classes:
                parts = TileParts(graph, plan, tile)
                assert parts.own(name) <= parts.map(name).fresh
                handed += tile.count * parts.own(name)
            spatial = graph.tensors[name].spatial
            assert handed == spatial[Axis.X] * spatial[Axis.Y]


@SLOW
@given(random_cnn(head=False), st.integers(1, 7), st.integers(1, 7), st.sampled_from(Order))
def test_what_is_kept_is_written_once_and_has_room(graph: Graph, x: int, y: int, order: Order) -> None:
    """With everything cached: a walk over all tiles, position by position, in rings of the stated sizes."""
    for plan in plans(graph, (x, y), Overlap.CACHED, order):
        tiler = Tiler(graph, plan.stack, remainder_first=False)
        first, second = order.axes
        tiled = dict(zip((Axis.X, Axis.Y), plan.tile, strict=True))
        steps = {a: tiler._axis(a, tiled[a], True) for a in (first, second)}
        buffers = line_buffers(graph, plan)
        for name in dict(plan.classes[0].x.tensors):
            along, across = buffers[name]
            for axis, buffer in ((first, along), (second, across)):
                waiting = max(dict(s.tensors)[name].waiting for s in steps[axis].steps)
                left = max(dict(s.tensors)[name].left for s in steps[axis].steps)
                assert (buffer is None) == (waiting == 0 and left == 0) or buffer is None or buffer.positions > 0
                if buffer is not None and axis is first:
                    assert buffer.lines >= max(waiting, left)
            if across is not None:
                whole = graph.tensors[name].spatial[first]
                reach = max(dict(s.tensors)[name].left + dict(s.tensors)[name].fresh for s in steps[first].steps)
                assert across.length >= whole + (reach if across.skewed else 0)
