"""Depth-first tiles against a slow walk that keeps, for every feature map, the set of positions computed so far."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import prod

from effort import share
from graph_strategies import mixtures, random_cnn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfc.ir import Axis, AxisMap, Graph
from dfc.passes.axis_tiles import AxisWalk, Moment, axis_tiles, edges, maps_of
from dfc.passes.stacks import Stack, cut_after, make_stack
from dfc.passes.tiles import DepthFirstPlan, Overlap, Tiler, modes_of

SLOW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def touched(source: AxisMap, out: set[int], size: int) -> set[int]:
    """Input positions read by output positions, one by one; the hull of them, as tiles are rectangles."""
    found = {
        i
        for o in out
        for i in range((source.num * o + source.lo) // source.den, (source.num * o + source.hi) // source.den + 1)
        if 0 <= i < size
    }
    return set(range(min(found), max(found) + 1)) if found else set()


def slow_axis(
    graph: Graph, stack: Stack, axis: Axis, tile: int, kept: frozenset[str]
) -> list[dict[str, tuple[int, ...]]]:
    """Per tile and tensor: (computed, reads by layer...) by brute force over positions."""
    layers = [graph.layers[i] for i in stack.layers]
    size = {t: graph.tensors[t].spatial[axis] for t in graph.tensors}
    last = stack.outputs[-1]
    have: dict[str, set[int]] = {t: set() for t in graph.tensors}
    borders = edges(size[last], min(tile, size[last]))
    rows: list[dict[str, tuple[int, ...]]] = []
    for n, (lo, hi) in enumerate(pairwise(borders)):
        need: dict[str, set[int]] = {t: set() for t in graph.tensors}
        for t in stack.outputs:
            share = [p for p in range(size[t]) if -(-lo * size[t] // size[last]) <= p < -(-hi * size[t] // size[last])]
            need[t] |= set(share)
        fresh: dict[str, set[int]] = {}
        reads: dict[str, tuple[int, ...]] = {}
        for layer in reversed(layers):
            out = layer.output
            if n == len(borders) - 2:  # maps are computed as a whole: to the border,
                need[out] |= set(range(size[out])) - have[out]
            if need[out]:  # and without gaps
                need[out] |= set(range(min(need[out]))) - have[out]
            span = set(range(min(need[out]), max(need[out]) + 1)) if need[out] else set()
            fresh[out] = span - have[out] if out in kept else span
            row: list[int] = []
            for s in layer.sources:
                window = touched(s.maps[axis], fresh[out], size[s.tensor])
                need[s.tensor] |= window
                row += [len(window), len(window & have[s.tensor]) if s.tensor in kept else 0]
            reads[f"reads {layer.name}"] = tuple(row)
        for t in stack.inputs:
            if need[t]:
                need[t] |= set(range(min(need[t]))) - have[t]
            span = set(range(min(need[t]), max(need[t]) + 1)) if need[t] else set()
            fresh[t] = span - have[t] if t in kept else span
        for t, span in fresh.items():
            have[t] |= span
        rows.append({t: (len(span),) for t, span in fresh.items()} | reads)
    for t in {*stack.outputs, *(t for layer in layers for t in layer.outputs)}:
        if have[t] or t in stack.outputs:
            assert have[t] == set(range(size[t])), "the tiles must cover every map"
    return rows


def ours_axis(graph: Graph, stack: Stack, axis: Axis, tile: int, kept: frozenset[str]) -> Counter[str]:
    plan = axis_tiles(graph, stack, axis, tile, kept)
    found: Counter[str] = Counter()
    for step, count in zip(plan.steps, plan.counts, strict=True):
        row: dict[str, tuple[int, ...]] = {t: (s.fresh,) for t, s in step.tensors}
        for i, reads in zip(stack.layers, step.reads, strict=True):
            row[f"reads {graph.layers[i].name}"] = tuple(v for r in reads for v in (r.window, r.cached))
        found[repr(sorted(row.items()))] += count
    return found


@SLOW
@given(random_cnn(head=False), st.integers(1, 7), st.sampled_from([Axis.X, Axis.Y]), st.data())
def test_steps_equal_the_slow_walk(graph: Graph, tile: int, axis: Axis, data: st.DataObject) -> None:
    """Also where each map has its own choice."""
    for stack in cut_after(graph, []):
        maps = maps_of(graph, stack)
        for kept in (frozenset(maps), frozenset[str](), frozenset(data.draw(st.sets(st.sampled_from(maps))))):
            slow = Counter(repr(sorted(row.items())) for row in slow_axis(graph, stack, axis, tile, kept))
            assert ours_axis(graph, stack, axis, tile, kept) == slow


def test_tiles_that_are_skipped_are_like_their_neighbours() -> None:
    """Position by position, and all that is kept: as if one tile after the other were looked at."""
    skipped: Counter[Axis] = Counter()

    @settings(SLOW, max_examples=share(500))
    @given(random_cnn(head=False, widest=60), st.integers(1, 7), st.sampled_from([Axis.X, Axis.Y]), st.data())
    def check(graph: Graph, tile: int, axis: Axis, data: st.DataObject) -> None:
        for stack in cut_after(graph, []):
            kept = frozenset(data.draw(st.sets(st.sampled_from(maps_of(graph, stack)))))
            first = data.draw(st.booleans())
            quick = AxisWalk(graph, stack, axis, tile, kept, first)
            slow = EveryTile(graph, stack, axis, tile, kept, first)
            assert quick.spans() == slow.spans()
            assert quick.walk() == slow.walk()
            skipped[axis] += sum(moment.ahead for moment in quick.moments())

    check()
    assert min(skipped[Axis.X], skipped[Axis.Y]) > 100


class EveryTile(AxisWalk):
    """Looks at every tile by itself."""

    def moved(self, last: Moment, moment: Moment) -> Moment:
        return moment


def work(plan: DepthFirstPlan) -> Counter[str]:
    """Positions that all tiles compute, per map."""
    found: Counter[str] = Counter()
    for c in plan.classes:
        for (t, sx), (_, sy) in zip(c.x.tensors, c.y.tensors, strict=True):
            found[t] += c.count * sx.fresh * sy.fresh
    return found


@SLOW
@given(random_cnn(head=False), st.integers(1, 6), st.integers(1, 6), st.none() | st.sampled_from(Overlap), st.data())
def test_plan_invariants(graph: Graph, x: int, y: int, mode: Overlap | None, data: st.DataObject) -> None:
    """With one mode for all maps, or one for each."""
    for stack in cut_after(graph, []):
        tiler = Tiler(graph, stack)
        overlap = mode or data.draw(mixtures(tiler.maps))
        plan = tiler.plan((x, y), overlap)
        width, height = tiler.extents
        assert plan.tiles == prod(-(-n // min(t, n)) for n, t in ((width, x), (height, y)))
        assert [c.first for c in plan.classes].count(True) == 1
        computed = work(plan)
        for t in stack.outputs:
            area = graph.tensors[t].spatial[Axis.X] * graph.tensors[t].spatial[Axis.Y]
            assert computed[t] >= area
        for t, mine in modes_of(overlap, tiler.maps).items():
            if mine is Overlap.CACHED:  # nothing is computed twice
                assert computed[t] <= graph.tensors[t].spatial[Axis.X] * graph.tensors[t].spatial[Axis.Y]
        least, most = (work(tiler.plan((x, y), o)) for o in (Overlap.CACHED, Overlap.RECOMPUTE))
        for t, n in computed.items():
            assert least[t] <= n <= most[t]


@SLOW
@given(random_cnn(head=False), st.sampled_from(list(Overlap)))
def test_a_tile_as_large_as_the_map_is_layer_by_layer(graph: Graph, overlap: Overlap) -> None:
    for stack in cut_after(graph, []):
        plan = Tiler(graph, stack).plan((10**6, 10**6), overlap)
        (only,) = plan.classes
        assert only.count == 1
        for t in stack.outputs:
            steps = dict(only.x.tensors), dict(only.y.tensors)
            assert (steps[0][t].fresh, steps[1][t].fresh) == graph.tensors[t].spatial[:0:-1]
        assert all(s.stored == s.waiting == 0 for _, s in (*only.x.tensors, *only.y.tensors))


def test_remainder_comes_first() -> None:
    assert edges(540, 72)[:3] == [0, 36, 108]
    assert edges(540, 540) == [0, 540]
    assert edges(7, 3) == [0, 1, 4, 7]
    assert edges(6, 3) == [0, 3, 6]


@SLOW
@given(random_cnn(), st.data())
def test_stacks_partition_the_network(graph: Graph, data: st.DataObject) -> None:
    cuts = data.draw(st.sets(st.integers(0, len(graph.layers) - 1)))
    stacks = cut_after(graph, cuts)
    assert [i for s in stacks for i in s.layers] == list(range(len(graph.layers)))
    known = set(graph.inputs)
    for stack in stacks:
        assert set(stack.inputs) <= known
        known |= set(stack.outputs)
        assert make_stack(graph, stack.layers) == stack
    assert set(graph.outputs) <= known
