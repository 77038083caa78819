"""Nothing is priced at less than it must cost: whole networks against bounds that need no model.

Whatever the schedule, every weight and input is read from off chip at least once, every output is written there, and
every layer runs at least the iterations of its loops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import dfc
from dfc.errors import InfeasibleError
from dfc.hwdsl import parse_arch
from dfc.ir import Kind
from dfc.pipeline import import_graph

Shape = tuple[int, ...]


def weights(name: str, *shape: int) -> onnx.TensorProto:
    values = np.random.Generator(np.random.PCG64(7)).standard_normal(shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def model(
    nodes: Sequence[onnx.NodeProto], inputs: dict[str, Shape], outputs: Sequence[str], *constants: onnx.TensorProto
) -> onnx.ModelProto:
    ins = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()]
    outs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
    graph = helper.make_graph(list(nodes), "net", ins, outs, list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def mlp() -> onnx.ModelProto:
    """Matrix products with many rows: the rows are not an axis of the output."""
    nodes = [helper.make_node("Gemm", ["x", "w0"], ["h"], "g0"), helper.make_node("Gemm", ["h", "w1"], ["y"], "g1")]
    return model(nodes, {"x": (32, 256)}, ["y"], weights("w0", 256, 512), weights("w1", 512, 10))


def tokens() -> onnx.ModelProto:
    """A product over the last axis of three, and a normalisation with a scale along it."""
    nodes = [
        helper.make_node("LayerNormalization", ["x", "scale"], ["n"], "norm"),
        helper.make_node("MatMul", ["n", "w"], ["y"], "fc"),
    ]
    return model(nodes, {"x": (1, 49, 64)}, ["y"], weights("scale", 64), weights("w", 64, 128))


def argmax_head() -> onnx.ModelProto:
    """A reduction that drops its axis."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], "conv", kernel_shape=[1, 1]),
        helper.make_node("ReduceMax", ["h"], ["y"], "best", axes=[1], keepdims=0),
    ]
    return model(nodes, {"x": (1, 8, 16, 16)}, ["y"], weights("w", 19, 8, 1, 1))


def stacked_maps() -> onnx.ModelProto:
    """The second convolution computes nothing in the first tile of its stack."""
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "wa"], ["a"], "ca", **same),
        helper.make_node("Conv", ["x", "wb"], ["b"], "cb", **same),
        helper.make_node("Concat", ["a", "b"], ["c"], "join", axis=2),
        helper.make_node("Conv", ["c", "wc"], ["y"], "cc", **same),
    ]
    kernels = [weights(n, 8, 8, 3, 3) for n in ("wa", "wb", "wc")]
    return model(nodes, {"x": (1, 8, 32, 32)}, ["y"], *kernels)


def constant_map() -> onnx.ModelProto:
    """A constant as large as the feature map that it is added to, and slopes of every position."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["h"], "conv", kernel_shape=[1, 1]),
        helper.make_node("Add", ["h", "map"], ["a"], "add"),
        helper.make_node("PRelu", ["a", "slope"], ["y"], "prelu"),
    ]
    constants = weights("w", 8, 8, 1, 1), weights("b", 8), weights("map", 1, 8, 32, 32), weights("slope", 8, 32, 32)
    return model(nodes, {"x": (1, 8, 32, 32)}, ["y"], *constants)


def computed_kernel() -> onnx.ModelProto:
    """A convolution whose kernel another layer computes."""
    nodes = [
        helper.make_node("Relu", ["k"], ["kr"], "krelu"),
        helper.make_node("Conv", ["x", "kr"], ["y"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    ]
    return model(nodes, {"x": (1, 8, 16, 16), "k": (8, 8, 3, 3)}, ["y"])


def loop_body() -> onnx.ModelProto:
    """Weights inside of a loop's body: the loop is not modelled, its weights still have to come."""
    body_in = [
        helper.make_tensor_value_info("i", TensorProto.INT64, ()),
        helper.make_tensor_value_info("c", TensorProto.BOOL, ()),
        helper.make_tensor_value_info("s", TensorProto.FLOAT, (1, 8, 16, 16)),
    ]
    body_out = [
        helper.make_tensor_value_info("c2", TensorProto.BOOL, ()),
        helper.make_tensor_value_info("s2", TensorProto.FLOAT, (1, 8, 16, 16)),
    ]
    inner = [
        helper.make_node("Identity", ["c"], ["c2"]),
        helper.make_node("Conv", ["s", "w"], ["s2"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    ]
    body = helper.make_graph(inner, "body", body_in, body_out, [weights("w", 8, 8, 3, 3)])
    trips = numpy_helper.from_array(np.array(3, np.int64), "trips")
    more = numpy_helper.from_array(np.array(True), "more")
    node = helper.make_node("Loop", ["trips", "more", "x"], ["y"], "loop", body=body)
    found = model([node], {"x": (1, 8, 16, 16)}, ["y"], trips, more)
    found.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 8, 16, 16)))
    return found


MODELS: tuple[Callable[[], onnx.ModelProto], ...] = (
    mlp, tokens, argmax_head, stacked_maps, constant_map, computed_kernel, loop_body,
)  # fmt: skip


def compiled(build: Callable[[], onnx.ModelProto], folder: Path, hw: str, **options: str) -> dfc.Schedule:
    path = folder / "model.onnx"
    onnx.save(build(), path)
    return dfc.compile(path, hw, **options)


@pytest.mark.slow
@pytest.mark.parametrize("hw", ["meta_proto_df", "tpu_like", "ascend_like_df"])
@pytest.mark.parametrize("build", MODELS, ids=lambda b: b.__name__)
def test_bounds(build: Callable[[], onnx.ModelProto], hw: str, tmp_path: Path) -> None:
    schedule = compiled(build, tmp_path, hw)
    weight_bits = sum(layer.weight_bits for layer in schedule.layers)
    read = sum(prod(t.shape) * 8 for t in schedule.model.inputs)
    written = sum(prod(t.shape) * 8 for t in schedule.model.outputs)
    assert schedule.totals.dram_read_bits >= weight_bits + read
    assert schedule.totals.dram_write_bits >= written
    graph = import_graph(tmp_path / "model.onnx")
    done = {layer.name: layer.operations for layer in schedule.layers}
    for layer in graph.layers:
        if layer.kind not in (Kind.OPAQUE, Kind.VIEW):
            assert done[layer.name] >= prod(layer.sizes)
    assert schedule.totals.macs == graph.macs
    if build is loop_body:
        assert weight_bits >= 8 * 8 * 9 * 8


@pytest.mark.parametrize("overlap", ["recompute", "h-cached", "v-cached", "cached"])
def test_small_tiles_bring_every_weight(overlap: str, tmp_path: Path) -> None:
    schedule = compiled(stacked_maps, tmp_path, "meta_proto_df", overlap=overlap, tile="4x4", stacks="one")
    for layer in schedule.layers:
        assert layer.dram_read_bits >= layer.weight_bits


def test_an_inner_output_leaves_once(tmp_path: Path) -> None:
    """Recomputing overlap computes halos again, but sends every position off chip once."""

    def two_outputs() -> onnx.ModelProto:
        same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        nodes = [
            helper.make_node("Conv", ["x", "wa"], ["a"], "ca", **same),
            helper.make_node("Conv", ["a", "wb"], ["y"], "cb", **same),
        ]
        return model(nodes, {"x": (1, 8, 16, 16)}, ["a", "y"], weights("wa", 8, 8, 3, 3), weights("wb", 8, 8, 3, 3))

    for overlap in ("recompute", "cached"):
        schedule = compiled(two_outputs, tmp_path, "meta_proto_df", overlap=overlap, tile="4x4")
        assert schedule.totals.dram_write_bits == 2 * 8 * 16 * 16 * 8


def test_a_late_input_does_not_cut_the_network(tmp_path: Path) -> None:
    """What lies off chip anyway does not hold layers together."""

    def late() -> onnx.ModelProto:
        same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        nodes = [helper.make_node("Conv", ["x", "w"], ["h0"], "c0", **same)]
        nodes += [helper.make_node("Conv", [f"h{i}", "w"], [f"h{i + 1}"], f"c{i + 1}", **same) for i in range(3)]
        nodes.append(helper.make_node("Mul", ["h3", "late"], ["y"], "scale"))
        return model(nodes, {"x": (1, 8, 16, 16), "late": (1, 8, 16, 16)}, ["y"], weights("w", 8, 8, 3, 3))

    assert len(compiled(late, tmp_path, "meta_proto_df", reproduce="defines").stacks) == 1


def test_no_memory_to_meet_in() -> None:
    """A page whose only shared memory has several instances is refused with a reason."""
    page = """
    accelerator split {
      array { dims A: 4
        mac 8 b x 8 b -> 16 b, 0.04 pJ
        unroll conv A: K
      }
      memory dram { holds I, W, O size 1 Gb width 64 b energy 700 pJ across none ports 1rw }
      path W: array <- dram
      path I: array <- dram
      path O: array <-> dram
    }
    """
    arch = parse_arch(page)
    path = Path(__file__).parent.parent / "examples" / "models" / "fsrcnn.onnx"
    with pytest.raises(InfeasibleError) as found:
        dfc.compile(path, arch, tile="60x72")
    assert found.value.code == "MAP002"
