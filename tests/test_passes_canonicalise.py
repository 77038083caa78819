"""Each numbered case of canonicalise on a graph made for it, and where it must not apply."""

from __future__ import annotations

from dataclasses import replace

import pytest
from graph_builder import Builder

from dfc.ir import SAME, AxisMap, Graph, Kind, Origin, problems
from dfc.passes import Canonicalise, PassManager


def canonical(graph: Graph, **options: bool) -> Graph:
    return PassManager((Canonicalise(**options),), verify=True).run(graph)


def ops(graph: Graph) -> list[str]:
    return [layer.op for layer in graph.layers]


# -- 1, 2: identities -----------------------------------------------------------------------------------------


def test_identities_vanish_inside_a_network() -> None:
    b = Builder()
    x = b.conv(b.view(b.input(3, 8, 8), "cast"), 4)
    b.add(b.view(b.view(x), "dropout"), b.crop(b.concat(x)))
    g = canonical(b.graph())
    assert ops(g) == ["conv", "add"]
    assert [s.tensor for s in g.layers[1].sources] == [x, x]
    assert g.layers[0].sources[0].tensor == "in0"
    assert set(g.tensors) == {"in0", x, "const2", "add6.out"}


def test_an_output_that_was_a_view_is_renamed_with_a_note() -> None:
    b = Builder()
    x = b.conv(b.input(3, 8, 8), 4)
    y = b.view(b.view(x))
    g = canonical(b.graph(y))
    assert g.outputs == (x,)
    assert g.notes == (f"network output {y!r} is tensor {x!r}",)


@pytest.mark.parametrize("also", [True, False])
def test_an_output_that_views_an_input_or_an_output_stays(also: bool) -> None:
    b = Builder()
    x = b.input(3, 8, 8)
    if also:
        x = b.conv(x, 4)
        g = b.graph(x, b.view(x))
    else:
        g = b.graph(b.view(x))
    assert canonical(g) is g


def test_a_squeeze_of_ones_is_an_identity() -> None:
    b = Builder()
    x = b.global_pool(b.input(3, 8, 8))
    flat = b.layer(Kind.VIEW, "squeeze", [b.read(x)], (1, 3), b.feature_loops((1, 3)))
    b.dense(flat, 5)
    assert ops(canonical(b.graph())) == ["global_avgpool", "gemm"]


def test_what_looks_like_a_copy_but_changes_something_stays() -> None:
    b = Builder()
    x = b.input(4, 8, 8)
    b.concat(x, x)
    b.crop(x, (1, 0))
    b.layer(Kind.MOVE, "gather", [b.read(x)], (1, 4, 8, 8), b.feature_loops((1, 4, 8, 8)))  # permutes channels
    b.layer(Kind.MOVE, "slice", [b.read(x)], (1, 2, 8, 8), b.feature_loops((1, 2, 8, 8)))  # of the channels
    g = b.graph()
    assert problems(g) == []
    assert canonical(g) is g


# -- 3: reshapes ----------------------------------------------------------------------------------------------


def test_a_product_of_one_row_reads_through_a_flattening() -> None:
    b = Builder()
    x = b.conv(b.input(3, 8, 6), 4)
    b.dense(b.flatten(x), 10)
    g = canonical(b.graph())
    assert ops(g) == ["conv", "gemm"]
    source = g.layers[1].sources[0]
    assert source.tensor == x
    assert source.maps == (AxisMap.full(1), AxisMap.full(8), AxisMap.full(6))


def test_reshapes_of_reshapes_become_one() -> None:
    b = Builder()
    x = b.conv(b.input(3, 8, 6), 4)
    b.eltwise(b.reshape(b.reshape(x, (1, 8, 4, 6)), (1, 4, 6, 8)))
    g = canonical(b.graph())
    assert ops(g) == ["conv", "reshape", "relu"]
    assert g.layers[1].sources[0].tensor == x


def test_other_readers_keep_the_reshape() -> None:
    b = Builder()
    flat = b.flatten(b.conv(b.input(3, 8, 6), 4))
    b.dense(flat, 10)
    b.eltwise(flat)
    g = canonical(b.graph())
    assert ops(g) == ["conv", "flatten", "gemm", "relu"]
    assert g.layers[2].sources[0].tensor == "conv0.out"
    assert g.layers[3].sources[0].tensor == flat


def test_several_rows_keep_the_flattening() -> None:
    b = Builder()
    b.dense(b.flatten(b.input(3, 8, 6, batch=2)), 10)
    assert ops(canonical(b.graph())) == ["flatten", "gemm"]


# -- 4: batch norm --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["conv", "depthwise", "conv_transpose", "dense"])
@pytest.mark.parametrize("op", ["batch_norm", "mul", "add", "sub"])
def test_scale_and_shift_join_the_weights(layer: str, op: str) -> None:
    b = Builder()
    x = b.input(4, 8, 6)
    if layer == "conv":
        y = b.conv(x, 5, bias=False)
    elif layer == "depthwise":
        y = b.depthwise(x)
    else:
        y = b.conv_transpose(x, 5) if layer == "conv_transpose" else b.dense(b.flatten(x), 5)
    z = b.eltwise(y, op, 4 if op == "batch_norm" else 1)
    g = canonical(b.graph())
    folded = g.layers[-1]
    assert g.outputs == (z,) == folded.outputs
    assert folded.fused == ()
    # weights as built above, and a bias for each output channel
    weights = {"conv": 5 * 4 * 9 + 5, "depthwise": 4 * 9 + 4, "conv_transpose": 4 * 5 * 16 + 5, "dense": 5 * 192 + 5}
    assert folded.weight_elements == weights[layer]
    assert folded.origin[-1] == Origin(z.removesuffix(".out"), op.title())


def test_chains_of_scales_join_too() -> None:
    b = Builder()
    y = b.eltwise(b.eltwise(b.batch_norm(b.conv(b.input(3, 8, 8), 4)), "mul", 1), "add", 1)
    g = canonical(b.graph())
    assert (ops(g), g.outputs) == (["conv"], (y,))
    assert [o.op_type for o in g.layers[0].origin] == ["Conv", "Batch_Norm", "Mul", "Add"]


def test_where_batch_norm_must_stay() -> None:
    b = Builder()
    x = b.input(3, 8, 8)
    before = b.conv(b.batch_norm(x), 4)  # before a convolution
    b.batch_norm(before)  # of a tensor that another layer reads
    rectified = b.eltwise(before)
    b.batch_norm(rectified)  # of no convolution
    b.eltwise(b.conv(x, 4), "div", 1)  # perhaps constant / x
    b.eltwise(b.conv(x, 4), "mul")  # perhaps x * x
    wanted = b.conv(x, 4)
    last = b.batch_norm(wanted)  # of a network output
    g = b.graph(wanted, last, *b.graph().outputs[:-1])
    assert problems(g) == []
    assert canonical(g) is g


def test_batch_norm_stays_where_weights_are_computed() -> None:
    b = Builder()
    y = b.conv(b.input(3, 8, 8), 4)
    b.batch_norm(y)
    g = b.graph()
    weights = replace(g.layers[0].inputs[1], constant=False)
    conv = replace(g.layers[0], inputs=(g.layers[0].inputs[0], weights))
    dynamic = replace(g, layers=(conv, g.layers[1]), inputs=("in0", "const1"))
    assert canonical(dynamic) is dynamic


def test_batch_norm_can_be_left_alone() -> None:
    b = Builder()
    b.batch_norm(b.conv(b.input(3, 8, 8), 4))
    g = b.graph()
    assert canonical(g, batch_norms=False) is g


# -- 5: pads --------------------------------------------------------------------------------------------------


def test_a_pad_joins_the_convolution_behind_it() -> None:
    b = Builder()
    padded = b.pad(b.pad(b.input(3, 8, 6), (1, 0), (1, 0)), (0, 2), (0, 1))
    b.conv(padded, 4, (3, 5), (1, 2), pad=(0, 1))
    g = canonical(b.graph())
    assert ops(g) == ["conv"]
    source = g.layers[0].sources[0]
    assert source.tensor == "in0"
    assert source.maps == (SAME[0], AxisMap.window(1, 3, pad=1), AxisMap.window(2, 5, pad=3))
    assert [o.op_type for o in g.layers[0].origin] == ["Conv", "Pad", "Pad"]


def test_where_pads_must_stay() -> None:
    b = Builder()
    x = b.input(3, 8, 6)
    b.pool(b.pad(x))  # zeros are not minus infinity
    b.conv(b.pad(x, op="pad_value"), 4)
    b.conv(b.pad(x, (-1, 0), (0, 0)), 4)  # a crop: the convolution would see what was cut away
    b.conv(b.pad(x, (1, 0), (-1, 0)), 4)
    shared = b.pad(x)
    b.add(b.conv(shared, 4), b.conv(shared, 4))
    g = b.graph()
    assert problems(g) == []
    assert canonical(g) is g
    folding = Builder()
    folding.conv(folding.pad(folding.input(3, 8, 6)), 4)
    assert len(canonical(folding.graph(), pads=False).layers) == 2


# -- 6: slices ------------------------------------------------------------------------------------------------


def test_slices_are_read_in_place() -> None:
    b = Builder()
    x = b.conv(b.input(3, 12, 10), 4)
    part = b.crop(b.crop(x, (2, 1), (0, 1)), (1, 0), (1, 2))  # rows 3..10, columns 1..6
    b.add(part, b.conv(part, 4, (1, 1), pad=(0, 0)))
    b.conv(part, 2, (3, 2), (2, 1), pad=(0, 0))
    g = canonical(b.graph())
    assert ops(g) == ["conv", "conv", "add", "conv"]
    shift = (SAME[0], AxisMap(lo=3, hi=3), AxisMap(lo=1, hi=1))
    assert g.layers[1].sources[0].maps == shift
    assert [s.maps for s in g.layers[2].sources] == [shift, SAME]
    assert g.layers[3].sources[0].maps == (SAME[0], AxisMap(num=2, lo=3, hi=5), AxisMap(lo=1, hi=2))
    assert all(layer.sources[0].tensor == x for layer in g.layers[1:])
    assert [o.op_type for o in g.layers[2].origin] == ["Add", "Slice", "Slice"]


def test_where_slices_must_stay() -> None:
    b = Builder()
    x = b.input(4, 12, 10)
    b.conv(b.crop(x, (1, 1)), 2, pad=(1, 1))  # its padding would become what was cut away
    b.stack_rows(b.crop(x, (2, 0)), x)  # so would the rows beside its part
    shared = b.crop(x, (0, 2))
    b.eltwise(shared)  # a reader that could, beside one that cannot
    b.conv(shared, 2)
    b.eltwise(b.crop(x, step=(2, 1)))  # steps
    b.layer(Kind.MOVE, "slice", [b.read(x)], (1, 2, 12, 10), b.feature_loops((1, 2, 12, 10)))  # of the channels
    b.opaque(b.crop(x, (1, 0)))  # a reader without maps
    kept = b.crop(x, (3, 0))  # a network output
    b.eltwise(kept)
    g = b.graph()
    g = replace(g, outputs=(*g.outputs, kept))
    assert problems(g) == []
    assert canonical(g) is g
    assert canonical(g, slices=False) is g


# -- 7: dead layers -------------------------------------------------------------------------------------------


def test_dead_layers_go_with_a_note() -> None:
    b = Builder()
    x = b.conv(b.input(3, 8, 8), 4)
    y = b.eltwise(x)
    b.reshape(b.eltwise(b.eltwise(x, "abs"), "exp"), (1, 4, 64))
    g = canonical(b.graph(y))
    assert ops(g) == ["conv", "relu"]
    assert g.notes == (
        "removed layer 'abs2' (abs): nothing uses what it writes",
        "removed layer 'exp3' (exp): nothing uses what it writes",
    )
    assert "abs2.out" not in g.tensors
