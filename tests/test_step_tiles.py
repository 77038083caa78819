"""A step over time is one tile in the steady state: as a row of tiles deep inside a recording of many frames."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from causal_networks import Recipe, build, window
from causal_proof import timed
from example_models import build as example
from hypothesis import given, settings
from hypothesis import strategies as st

from dfc.causal import streaming
from dfc.frontend import import_model
from dfc.ir import Axis, AxisMap, Graph, Layer, Tensor
from dfc.passes import PassManager, default_pipeline
from dfc.passes.axis_tiles import axis_tiles
from dfc.passes.causal_plan import CausalOptions
from dfc.passes.stacks import make_stack
from dfc.passes.tiles import Order, Overlap, Tiler, plan_spans


def a_trous(graph: Graph, time: Axis, rows: int) -> Graph:
    """A chain without padding in its dense form, for so many output rows: strides along time become dilations."""
    spread, layers, reaches = 1, list[Layer](), list[int]()
    for layer in graph.layers:
        source = layer.sources[0]
        m = source.maps[time]
        assert (m.den, m.lo) == (1, 0), "a window without padding"
        maps = list(source.maps)
        maps[time] = AxisMap(1, 1, 0, m.hi * spread)
        reaches.append(m.hi * spread)
        first, *rest = layer.inputs
        operand = replace(first, sources=(replace(source, maps=(maps[0], maps[1], maps[2])),))
        layers.append(replace(layer, inputs=(operand, *rest)))
        spread *= m.num
    tensors = dict(graph.tensors)
    for layer, reach in zip(reversed(graph.layers), reversed(reaches), strict=True):
        tensors[layer.output] = stretched(tensors[layer.output], time, rows)
        rows += reach
    tensors[graph.inputs[0]] = stretched(tensors[graph.inputs[0]], time, rows)
    return replace(graph, tensors=tensors, layers=tuple(layers))


def stretched(tensor: Tensor, time: Axis, rows: int) -> Tensor:
    shape = list(tensor.shape)
    shape[int(time) - len(Axis)] = rows
    return replace(tensor, shape=tuple(shape))


def check(model: Any, axis: str, spatial: Axis) -> None:
    """The steady step of a chain against the steady row of its dense form."""
    step = streaming(timed(model, axis), CausalOptions()).resident()
    window_graph = PassManager(default_pipeline()).run(import_model(model, name="test", base_dir=None))
    long = a_trous(window_graph, spatial, 200)
    ours = Tiler(step, make_stack(step, range(len(step.layers)))).axis(spatial, 1, Overlap.CACHED)
    stack = make_stack(long, range(len(long.layers)))
    rows = axis_tiles(long, stack, spatial, 1, frozenset(long.tensors))
    steady = max(zip(rows.counts, rows.steps, strict=True), key=lambda each: each[0])[1]
    assert ours.tiles == 1 and ours.counts == (1,)
    assert len(step.layers) == len(long.layers)
    for (name, mine), (other, theirs) in zip(ours.steps[0].tensors, steady.tensors, strict=True):
        assert (mine.fresh, mine.left, mine.stored, mine.waiting) == (
            theirs.fresh,
            theirs.left,
            theirs.stored,
            theirs.waiting,
        ), (name, other)
        handed_out = name in step.outputs  # by earlier steps; nobody reads it again
        assert mine.left == (0 if handed_out else step.past.get(name, 0))
    for mine, theirs in zip(ours.steps[0].reads, steady.reads, strict=True):
        assert [read.span for read in mine] == [read.window for read in theirs]


def test_examples() -> None:
    check(example("stft_cnn_025"), "H", Axis.Y)
    check(example("seldnet_s", frames=8), "H", Axis.Y)


@settings(max_examples=25, deadline=None)
@given(st.data(), st.lists(st.sampled_from(["conv", "depthwise"]), min_size=1, max_size=5))
def test_random_chains(data: st.DataObject, kinds: list[str]) -> None:
    blocks = tuple((kind, {**data.draw(window(2, 0)), "begin": [0, 0], "end": [0, 0]}, 0) for kind in kinds)
    rows = data.draw(st.integers(1, 3))
    for _, w, _ in reversed(blocks):  # as many frames as are read, so that none is older than need be
        rows = (rows - 1) * w["stride"][0] + w["dilation"][0] * (w["kernel"][0] - 1) + 1
    model = build(Recipe((rows, 40), 0, blocks, "none"))[0]
    check(model, "2", Axis.Y)


def test_gaps_of_a_window_are_not_read() -> None:
    """A kernel of three rows with dilation 8 reads 3 of the 17 rows from its first to its last."""
    step = streaming(timed(example("stft_cnn_025"), "H"), CausalOptions()).resident()
    index = step.index["conv4_1.new"]
    tiler = Tiler(step, make_stack(step, range(len(step.layers))))
    (found,) = tiler.axis(Axis.Y, 1, Overlap.CACHED).steps[0].reads[index]
    assert (found.window, found.cached, found.kept, found.skipped, found.span) == (3, 2, 1, 14, 17)


def test_tiles_of_one_frame_are_steps_of_one_frame() -> None:
    """Inside of a step of several frames, tiles one frame deep do what steps of one frame do, one after the other."""
    for name, hop in (("stft_cnn_025", 1), ("tcn_kws", 1), ("seldnet_s", 5)):
        model, along = timed(example(name), "T" if name == "tcn_kws" else "H"), name == "tcn_kws"
        one, four = (streaming(model, CausalOptions(hop, windows, stream=True)).resident() for windows in (1, 4))
        axis = Axis.X if along else Axis.Y
        assert one.time is four.time is axis and one.outputs == four.outputs
        tilers = [Tiler(graph, make_stack(graph, range(len(graph.layers)))) for graph in (one, four)]
        frames = one.made(one.outputs[-1])[axis]
        single, several = (tiler.axis(axis, frames, Overlap.CACHED) for tiler in tilers)
        assert single.counts == (1,)
        assert several == replace(single, counts=(4,), tiles=4, after=frozenset({(0, 0)}))


def test_tiles_of_a_step_are_walked_along_the_other_axis_first() -> None:
    step = streaming(timed(example("stft_cnn_025"), "H"), CausalOptions(hop=4)).resident()
    layers = [i for i, layer in enumerate(step.layers) if "pool2" in layer.name or i < step.index["pool2.new"]]
    tiler = Tiler(step, make_stack(step, layers))
    plan = tiler.plan((5, 1), Overlap.RECOMPUTE)
    assert plan.tile == (5, 1) and plan.order is Order.ROWS
    assert {tile.y for tile in plan.classes} == {plan.classes[0].y}
    assert plan.computed["relu1_1.kept"] > step.made("relu1_1.kept")[Axis.X] * 4  # columns are computed again
    (row,) = plan_spans(step, plan, Axis.Y)
    assert (row.maps["relu1_1.kept"].lo, row.maps["relu1_1.kept"].hi) == (2, 6)  # rows are not
