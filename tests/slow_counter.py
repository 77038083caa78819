"""MACs and parameters of an ONNX model, counted from first principles and sharing nothing with dfc.

Shapes are those that ONNX Runtime produces when it runs the model (``run=True``), or those of onnx's own
strict shape inference, for models whose maps are large. Counting follows the field's convention: every tap
of a window counts, also where it falls on padding; biases, normalisations, activations, pooling and
element-wise work count zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
from onnx import helper

Shape = tuple[int, ...]

#: which inputs of an operator hold trained parameters; running means and variances are none
PARAMETERS = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (0, 1),
    "BatchNormalization": (1, 2),
    "PRelu": (1,),
    "Add": (0, 1),  # a bias that an exporter left beside its matrix product
}


def count_macs(model: onnx.ModelProto, *, run: bool = True) -> dict[str, int]:
    """MACs of every Conv, ConvTranspose, Gemm and MatMul, by node name (lacking one, by first output)."""
    shapes = shapes_by_running(model) if run else shapes_by_inference(model)
    counts: dict[str, int] = {}
    for node in model.graph.node:
        ins = [shapes.get(name, ()) for name in node.input]
        out = shapes.get(node.output[0], ())
        if node.op_type == "Conv":  # each output element sums C / group * kernel products: a filter's elements
            macs = math.prod(out) * math.prod(ins[1][1:])
        elif node.op_type == "ConvTranspose":  # each input element is spread over M / group * kernel outputs
            macs = math.prod(ins[0]) * math.prod(ins[1][1:])
        elif node.op_type == "MatMul":
            macs = math.prod(out) * ins[0][-1]
        elif node.op_type == "Gemm":
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            macs = math.prod(out) * ins[0][0 if transposed else 1]
        else:
            continue
        counts[node.name or node.output[0]] = macs
    return counts


def count_operations(model: onnx.ModelProto, *, run: bool = True) -> int:
    """MACs, plus what DeFiNES prices like one: each tap of a pooling window and each element of a sum."""
    shapes = shapes_by_running(model) if run else shapes_by_inference(model)
    total = sum(count_macs(model, run=run).values())
    for node in model.graph.node:
        out = math.prod(shapes.get(node.output[0], ()))
        if node.op_type in ("MaxPool", "AveragePool"):
            (kernel,) = (helper.get_attribute_value(a) for a in node.attribute if a.name == "kernel_shape")
            total += out * math.prod(kernel)
        elif node.op_type == "Add":
            total += out
    return total


def count_params(model: onnx.ModelProto) -> int:
    """Trained parameters: elements of the constants that layers read as such; a shared one counts once."""
    sizes = {t.name: math.prod(t.dims) for t in model.graph.initializer}
    used = {node.input[i] for node in model.graph.node for i in PARAMETERS.get(node.op_type, ()) if i < len(node.input)}
    return sum(size for name, size in sizes.items() if name in used)


def run_model(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """The outputs by name, from ONNX Runtime as the model is written; missing inputs are random (seeded)."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    feeds = dict(inputs or {})
    for wanted in session.get_inputs():
        if wanted.name not in feeds:
            shape = [extent if isinstance(extent, int) else 1 for extent in wanted.shape]
            feeds[wanted.name] = random.uniform(-1, 1, shape).astype(np.float32)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def shapes_by_running(model: onnx.ModelProto) -> dict[str, Shape]:
    """The shape of every tensor: constants, inputs, and what ONNX Runtime returns for every node."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    known = {output.name for output in probe.graph.output}
    for node in probe.graph.node:
        for name in node.output:
            if name and name not in known:
                probe.graph.output.append(onnx.ValueInfoProto(name=name))
    shapes = _declared(model)
    shapes.update({name: value.shape for name, value in run_model(probe).items()})
    return shapes


def shapes_by_inference(model: onnx.ModelProto) -> dict[str, Shape]:
    """The same without running: what onnx infers, strictly and with data propagation."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = _declared(model)
    for info in (*inferred.value_info, *inferred.output):
        shapes[info.name] = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
    return shapes


def _declared(model: onnx.ModelProto) -> dict[str, Shape]:
    shapes = {i.name: tuple(d.dim_value or 1 for d in i.type.tensor_type.shape.dim) for i in model.graph.input}
    shapes.update({t.name: tuple(t.dims) for t in model.graph.initializer})
    return shapes
