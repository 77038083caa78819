"""Reading a model file: is it one, is it whole, can this onnx package tell what its operators mean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import defs

from dfc.frontend.diagnostics import fail

OLDEST_OPSET = 7


def read_model(path: Path) -> onnx.ModelProto:
    """Parse ``path`` without touching external tensor data. Raises ONNX001, ONNX002 or ONNX003."""
    place = str(path)
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        fail("ONNX001", f"the model {what}", place=place, hint="give the path of an .onnx file")
    try:
        data = path.read_bytes()
    except OSError as error:
        fail(
            "ONNX001",
            f"the model cannot be read: {error.strerror}",
            place=place,
            hint="check its permissions",
        )
    if not data:
        fail(
            "ONNX002",
            "the model file is empty",
            place=place,
            hint="export the model again, or fetch the file again",
        )
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:  # the protobuf package's own DecodeError, without depending on its types
        fail(
            "ONNX003",
            "this is not an ONNX model, or the file is truncated",
            place=place,
            hint="a complete binary .onnx file is expected (a Git LFS pointer or an .onnx.txt is not one)",
        )
    if model.ir_version == 0 or not model.HasField("graph"):
        fail(
            "ONNX003",
            "the file holds no ONNX graph",
            place=place,
            hint="a complete binary .onnx file is expected; fetch or export it again",
        )
    return model


def check_names(graph: onnx.GraphProto, place: str) -> None:
    """Every name is text: the protobuf package hands out bytes where a file is damaged. Raises ONNX003."""
    names: list[object] = [one.name for ones in (graph.input, graph.output, graph.initializer) for one in ones]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        names += [attribute.name for attribute in node.attribute]
    if not all(isinstance(name, str) for name in names):
        fail(
            "ONNX003",
            "the file is damaged: a name in it is not text",
            place=place,
            hint="fetch or export the model again",
        )
    for subgraph in subgraphs_of_all(graph):
        check_names(subgraph, place)


def read_opsets(model: onnx.ModelProto, place: str) -> dict[str, int]:
    """Operator set versions by domain ("" is ONNX's own). Raises ONNX005 where ONNX's is missing or not
    supported.
    """
    opsets = {"" if i.domain == "ai.onnx" else i.domain: i.version for i in model.opset_import}
    newest = defs.onnx_opset_version()
    if "" not in opsets:
        if opsets and all(node.domain in opsets for node in model.graph.node):
            return {"": newest, **opsets}
        fail(
            "ONNX005",
            "the model names no operator set",
            place=place,
            hint="the file may be truncated; export or fetch it again",
        )
    if opsets[""] < OLDEST_OPSET:
        fail(
            "ONNX005",
            f"operator set {opsets['']} is older than {OLDEST_OPSET}, the oldest that is supported",
            place=place,
            hint=f"convert it: onnx.version_converter.convert_version(model, {max(OLDEST_OPSET, 13)})",
        )
    if opsets[""] > newest:
        fail(
            "ONNX005",
            f"operator set {opsets['']} is newer than {newest}, the newest of onnx {onnx.__version__}",
            place=place,
            hint="upgrade the onnx package, or export the model with an older operator set",
        )
    return opsets


def tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor in a graph: initializers, attributes, and those of subgraphs."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
    for subgraph in subgraphs_of_all(graph):
        yield from tensors_of(subgraph)


def subgraphs_of_all(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The bodies of every node of a graph, one level deep."""
    for node in graph.node:
        yield from subgraphs(node)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The bodies of a control flow node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
