"""Small ONNX models, their true results by ONNX Runtime, and the slow reference arithmetic of the importer's
tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper, shape_inference

from dfc.frontend import import_model
from dfc.ir import Axis, Graph, Interval, problems

Array = np.ndarray[Any, Any]
Box = tuple[Interval, Interval, Interval]


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]],
    outputs: Sequence[str],
    constants: Mapping[str, Array] | None = None,
    *,
    opset: int = 17,
    elem: int = TensorProto.FLOAT,
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """A model of float inputs; output types are left to inference."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, elem, shape) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        initializer=[numpy_helper.from_array(np.asarray(data), name) for name, data in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def single(
    op: str,
    shape: Sequence[int],
    *,
    weights: Mapping[str, Array] | None = None,
    order: Sequence[str] | None = None,
    opset: int = 17,
    outputs: Sequence[str] = ("y",),
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node over the input "x"; ``order`` names its inputs ("x" and then the weights by
    default).
    """
    constants = dict(weights or {})
    node = helper.make_node(op, list(order or ["x", *constants]), list(outputs), name="op", **attributes)
    used = [name for name in outputs if name]
    return model_of([node], {"x": list(shape)}, used, constants, opset=opset)


def rand(*shape: int, seed: int = 0) -> Array:
    """Reproducible float32 noise."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def session(model: onnx.ModelProto, names: Sequence[str] | None = None) -> ort.InferenceSession:
    """A session without rewrites whose outputs are the given tensors (or the model's own)."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if names is not None:
        del copy.graph.output[:]
        copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    typed = shape_inference.infer_shapes(copy)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(typed.SerializeToString(), options, providers=["CPUExecutionProvider"])


def feeds_for(graph: Graph, sess: ort.InferenceSession, seed: int = 0) -> dict[str, Array]:
    """Random values for every input, of the graph's shapes."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for one in sess.get_inputs():
        shape = graph.tensors[one.name].shape
        if "float" in one.type:
            feeds[one.name] = rng.standard_normal(shape).astype(np.float16 if "16" in one.type else np.float32)
        else:
            kind = {"tensor(int64)": np.int64, "tensor(int8)": np.int8, "tensor(uint8)": np.uint8,
                    "tensor(int32)": np.int32, "tensor(bool)": np.bool_}[one.type]  # fmt: skip
            feeds[one.name] = rng.integers(0, 2, shape).astype(kind)
    return feeds


def assert_shapes(model: onnx.ModelProto, **options: Any) -> Graph:
    """Every tensor that a layer writes has the shape that ONNX Runtime gives it, and the model runs there."""
    graph = import_model(model, name="test", base_dir=None, **options)
    made = {name for node in model.graph.node for name in node.output}
    names = [t for layer in graph.layers for t in layer.outputs if t in made]
    sess = session(model, names)
    results = sess.run(None, feeds_for(graph, sess))
    for name, result in zip(names, results, strict=True):
        assert graph.tensors[name].shape == np.asarray(result).shape, name
        assert graph.tensors[name].bits == np.asarray(result).dtype.itemsize * 8, name
    check_nests(graph)
    assert problems(graph) == []
    return graph


def check_nests(graph: Graph) -> None:
    """The loops of every layer cover its output: positions times phases, and every element."""
    for layer in graph.layers:
        b, g, k, _, ot, oy, ox = layer.sizes[:7]
        out = graph.tensors[layer.output]
        if layer.kind in ("dense", "opaque"):
            continue
        assert b * g * k * ot * oy * ox >= out.elements, layer
        for axis, steps in zip(Axis, (ot, oy, ox), strict=True):
            if not layer.barrier:
                assert steps == -(-out.spatial[axis] // layer.phases[axis]), layer
        assert all(s.tensor in graph.tensors for o in layer.inputs for s in o.sources)
        assert sum(o.role == "W" for o in layer.inputs) <= 1


def needed(graph: Graph, output: str, box: Box) -> dict[str, Box]:
    """What of each tensor an output region needs, walking the layers backwards one by one."""
    wanted: dict[str, Box] = {output: box}
    for layer in reversed(graph.layers):
        regions = [(name, wanted[name]) for name in layer.outputs if name in wanted]
        for _, region in regions:
            for source in layer.sources:
                extents = graph.tensors[source.tensor].spatial
                if layer.barrier:
                    more = tuple(Interval(0, size) for size in extents)
                else:
                    more = tuple(source.maps[a].needs(region[a], extents[a]) for a in Axis)
                if all(interval.size for interval in more):
                    old = wanted.get(source.tensor)
                    joined = more if old is None else tuple(p.hull(q) for p, q in zip(old, more, strict=True))
                    wanted[source.tensor] = (joined[0], joined[1], joined[2])
    return wanted


def region(data: Array, box: Box) -> Array:
    """The part of a feature map within a box of (t, y, x)."""
    spatial = data.shape[2:]
    index = [slice(None), slice(None)] + [slice(i.lo, i.hi) for i in box[3 - len(spatial) :]]
    return data[tuple(index[: data.ndim])]


def disturbed(data: Array, box: Box, seed: int = 7) -> Array:
    """``data`` with every position outside of the box replaced by noise."""
    noise = np.random.default_rng(seed).standard_normal(data.shape) * 10
    other = noise.astype(data.dtype)
    region(other, box)[...] = region(data, box)
    return other


def pick(low: float, high: float, extent: int) -> Interval:
    """A non-empty interval of [0, extent) from two fractions."""
    lo = min(int(low * extent), extent - 1)
    return Interval(lo, max(lo + 1, min(extent, lo + 1 + int(high * (extent - lo)))))


def assert_reads(model: onnx.ModelProto, fractions: Sequence[tuple[float, float]], *, tight: bool = False) -> None:
    """What the maps claim is enough: noise everywhere else changes nothing of an output region.

    ``tight`` demands moreover that each border position of the claimed region matters: noise there changes
    something.
    """
    graph = import_model(model, name="test", base_dir=None)
    sess = session(model)
    feeds = feeds_for(graph, sess)
    output = graph.outputs[0]
    extents = graph.tensors[output].spatial
    t, y, x = (pick(*f, extent) for f, extent in zip(fractions, extents, strict=True))
    claims = needed(graph, output, (t, y, x))
    truth = region(sess.run([output], feeds)[0], (t, y, x))
    nothing = (Interval(0, 0), Interval(0, 0), Interval(0, 0))
    other = {name: disturbed(data, claims.get(name, nothing)) for name, data in feeds.items()}
    np.testing.assert_allclose(region(sess.run([output], other)[0], (t, y, x)), truth, rtol=1e-5, atol=1e-5)
    if not tight or "x" not in claims:
        return
    for axis in Axis:
        if graph.tensors["x"].spatial[axis] == 1:
            continue
        interval = claims["x"][axis]
        for border in (interval.lo, interval.hi - 1):
            position = list(claims["x"])
            position[axis] = Interval(border, border + 1)
            changed = feeds["x"].copy()
            region(changed, (position[0], position[1], position[2]))[...] += 100
            result = region(sess.run([output], {**feeds, "x": changed})[0], (t, y, x))
            assert not np.allclose(result, truth), f"axis {axis.name}, position {border} of {claims['x']}"
