"""What fuse merges and what it leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from graph_builder import Builder

from dfc.ir import Graph, Tensor, problems
from dfc.passes import Fuse, PassManager, default_pipeline
from dfc.passes.fuse import ACROSS_CHANNELS


def fused(graph: Graph) -> Graph:
    return PassManager((Fuse(),), verify=True).run(graph)


def test_chains_join_their_producer() -> None:
    b = Builder()
    last = b.eltwise(b.eltwise(b.batch_norm(b.conv(b.input(3, 8, 8), 4)), "prelu", 1), "quantize")
    g = fused(b.graph())
    (conv,) = g.layers
    assert conv.name == "conv0"
    assert conv.fused == ("batch_norm", "prelu", "quantize")
    assert conv.outputs == g.outputs == (last,)
    assert conv.weight_elements == (4 * 3 * 9 + 4) + 4 * 4 + 4  # weights and bias, statistics, slopes
    assert conv.inputs == b.layers[0].inputs
    assert [o.node for o in conv.origin] == ["conv0", "batch_norm1", "prelu2", "quantize3"]


@pytest.mark.parametrize(
    "producer", ["conv", "depthwise", "pool", "global_pool", "concat", "add", "upsample", "dense", "rows"]
)
def test_every_computing_layer_takes_an_epilogue(producer: str) -> None:
    b = Builder()
    x = b.input(4, 8, 8, batch=2 if producer == "rows" else 1)
    y = {
        "conv": lambda: b.conv(x, 4),
        "depthwise": lambda: b.depthwise(x),
        "pool": lambda: b.pool(x),
        "global_pool": lambda: b.global_pool(x),
        "concat": lambda: b.concat(x, x),
        "add": lambda: b.add(x, x),
        "upsample": lambda: b.upsample(x),
        "dense": lambda: b.dense(b.flatten(x), 3),
        "rows": lambda: b.dense(b.flatten(x), 3),
    }[producer]()
    b.eltwise(y)
    assert fused(b.graph()).layers[-1].fused == ("relu",)


def test_what_stays_apart() -> None:
    b = Builder()
    x = b.input(4, 8, 8)
    b.eltwise(x)  # of a network input
    shared = b.conv(x, 4)
    b.add(b.eltwise(shared), shared)  # of a tensor with another reader; and a residual addition
    b.eltwise(b.opaque(x))  # of an opaque layer
    b.eltwise(b.reshape(x, (1, 8, 4, 8)))  # of a view
    b.eltwise(b.eltwise(x, "softmax", barrier=True))  # of a barrier
    b.eltwise(b.conv(x, 4), "softmax", barrier=True)  # a barrier
    wanted = b.conv(x, 4)
    kept = b.eltwise(wanted)  # of a network output
    g = b.graph(wanted, kept, *b.graph().outputs[:-1])
    assert problems(g) == []
    assert fused(g) is g


@pytest.mark.parametrize("op", sorted(ACROSS_CHANNELS))
def test_work_across_channels_stays_apart(op: str) -> None:
    b = Builder()
    b.eltwise(b.conv(b.input(4, 8, 8), 4), op)
    g = b.graph()
    assert fused(g) is g


def test_a_broadcast_stays_apart_and_other_bits_do_not_matter() -> None:
    b = Builder()
    b.eltwise(b.global_pool(b.input(4, 8, 8)))
    g = b.graph()
    narrow = {**g.tensors, "relu1.out": Tensor("relu1.out", (1, 4, 1, 1), 4)}
    assert len(fused(replace(g, tensors=narrow)).layers) == 1
    wide = {**g.tensors, "relu1.out": Tensor("relu1.out", (1, 4, 2, 2))}
    loops = b.feature_loops((1, 4, 2, 2))
    grown = replace(g, tensors=wide, layers=(g.layers[0], replace(g.layers[1], sizes=loops)))
    assert fused(grown) is grown


def test_the_default_pipeline_makes_a_residual_block_three_layers() -> None:
    """A ResNet block: two convolutions with batch norm, an addition, three activations."""
    b = Builder()
    x = b.input(8, 16, 16)
    left = b.eltwise(b.batch_norm(b.conv(x, 8, bias=False)))
    b.eltwise(b.add(b.batch_norm(b.conv(left, 8, bias=False)), b.view(x)))
    before = b.graph()
    g = PassManager(default_pipeline(), verify=True).run(before)
    assert [(layer.op, layer.fused) for layer in g.layers] == [
        ("conv", ("relu",)),
        ("conv", ()),
        ("add", ("relu",)),
    ]
    assert g.macs == before.macs == 2 * 8 * 8 * 9 * 16 * 16
