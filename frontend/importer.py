"""From an ONNX model to a Graph: one walk over the nodes that folds what is constant and models the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import inliner

from dfc.frontend import conv, eltwise, known, matmul, move, norm, pool, quant, resize, view
from dfc.frontend.binding import bind_inputs
from dfc.frontend.diagnostics import fail
from dfc.frontend.external import check_external
from dfc.frontend.load import check_names, read_model, read_opsets
from dfc.frontend.order import live_nodes, node_title, sort_nodes
from dfc.frontend.shuffle import recognise_shuffles
from dfc.frontend.values import BITS, Value, type_name
from dfc.frontend.walk import Walk
from dfc.ir import Graph, Layer, Tensor

#: the modules whose operators are registered by importing them
FAMILIES = (conv, eltwise, known, matmul, move, norm, pool, quant, resize, view)


def import_onnx(
    path: str | Path,
    *,
    bind: Mapping[str, int] | None = None,
    input_shape: Mapping[str | None, tuple[int, ...]] | None = None,
) -> Graph:
    """Read an ONNX file.

    bind:        sizes of dimensions that the model names but does not fix ("batch" -> 1).
    input_shape: shapes by input name; the name None means the only input.

    Returns the graph with every shape known. Raises ModelError (codes ONNX..., see diagnostics.CODES) where
    the file is not a usable model or a dimension stays unknown.
    """
    return graph_of(walk_onnx(path, bind=bind, input_shape=input_shape))


def import_model(
    model: onnx.ModelProto,
    *,
    name: str,
    base_dir: Path | None,
    bind: Mapping[str, int] | None = None,
    input_shape: Mapping[str | None, tuple[int, ...]] | None = None,
) -> Graph:
    """Like :func:`import_onnx` for a model in memory.

    ``base_dir`` is the folder of its external data; with None external data is neither checked nor read.
    """
    return graph_of(walk_model(model, name=name, base_dir=base_dir, bind=bind, input_shape=input_shape))


@dataclass(frozen=True, slots=True)
class Walked:
    """A model after the walk over its nodes: what graphs are made from, and what executes or rewrites its nodes.

    place:    names the model in messages.
    base_dir: the folder of its external data; None where that is not read.
    model:    with its local functions taken apart.
    """

    name: str
    place: str
    base_dir: Path | None
    model: onnx.ModelProto
    walk: Walk
    inputs: list[str]
    outputs: list[str]
    notes: list[str]
    opsets: Mapping[str, int]


def walk_onnx(
    path: str | Path,
    *,
    bind: Mapping[str, int] | None = None,
    input_shape: Mapping[str | None, tuple[int, ...]] | None = None,
) -> Walked:
    """The walk over the nodes of a file. Raises ModelError as :func:`import_onnx` does."""
    path = Path(path)
    return _walk(read_model(path), path.stem, str(path), path.parent, bind, input_shape)


def walk_model(
    model: onnx.ModelProto,
    *,
    name: str,
    base_dir: Path | None = None,
    bind: Mapping[str, int] | None = None,
    input_shape: Mapping[str | None, tuple[int, ...]] | None = None,
) -> Walked:
    """Like :func:`walk_onnx` for a model in memory."""
    return _walk(model, name, name, base_dir, bind, input_shape)


def graph_of(walked: Walked) -> Graph:
    """The network that a walk found. Raises ONNX004 where no output depends on an input."""
    return _finish(walked.name, walked.place, walked.walk, walked.inputs, walked.outputs, list(walked.notes))


def _walk(
    model: onnx.ModelProto,
    name: str,
    place: str,
    base_dir: Path | None,
    bind: Mapping[str, int] | None,
    input_shape: Mapping[str | None, tuple[int, ...]] | None,
) -> Walked:
    whole, opsets = whole_model(model, base_dir, place)
    if not whole.graph.node:
        fail(
            "ONNX004",
            "the graph has no nodes",
            place=place,
            hint="there is nothing to schedule; check the export",
        )
    if not whole.graph.output:
        fail("ONNX011", "the graph has no outputs", place=place, hint="mark the results as graph outputs")
    graph = whole.graph
    nodes = sort_nodes(graph, (), place)
    outputs = [o.name for o in graph.output]
    live = live_nodes(nodes, outputs)
    inputs = _network_inputs(graph, place)
    shapes, sizes = bind_inputs(inputs, bind or {}, input_shape or {}, place)
    walk = Walk(graph, opsets, place, base_dir, sizes)
    for info in inputs:
        walk.values[info.name] = Value(info.name, shapes[info.name], info.type.tensor_type.elem_type)
    for node in live:
        walk.visit(node)
    notes = [*_dead_note(nodes, live), *walk.notes]
    return Walked(name, place, base_dir, whole, walk, [i.name for i in inputs], outputs, notes, opsets)


def whole_model(model: onnx.ModelProto, base_dir: Path | None, place: str) -> tuple[onnx.ModelProto, dict[str, int]]:
    """(the model with its local functions taken apart, its operator sets by domain), both known to be sound.

    Raises:
        ModelError: names that are no text, an operator set that is not supported, external data that is not there.
    """
    check_names(model.graph, place)
    opsets = read_opsets(model, place)
    if base_dir is not None:
        check_external(model, base_dir, place)
    return _inlined(model, place), opsets


def _inlined(model: onnx.ModelProto, place: str) -> onnx.ModelProto:
    """The model with its local functions taken apart. Raises ONNX016 where they call each other in a circle."""
    if not model.functions:
        return model
    try:
        return inliner.inline_local_functions(model)
    except Exception as error:  # whatever the package raises: its inliner is compiled code
        fail(
            "ONNX016",
            f"the model's functions cannot be expanded: {error}",
            place=place,
            hint="export without functions",
        )


def _network_inputs(graph: onnx.GraphProto, place: str) -> list[onnx.ValueInfoProto]:
    """Inputs that are not initializers (older files list those among the inputs). Raises ONNX015."""
    constants = {t.name for t in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
    inputs = [info for info in graph.input if info.name not in constants]
    for info in inputs:
        kind = info.type.WhichOneof("value") or "unknown type"
        elem = info.type.tensor_type.elem_type
        if kind != "tensor_type" or elem not in BITS:
            what = type_name(elem) if kind == "tensor_type" else kind.replace("_type", "")
            fail(
                "ONNX015",
                f"input '{info.name}' is of type {what.lower()}, which has no fixed size",
                place=f"{place}: input '{info.name}'",
                hint="cut the pre-processing off the model; tensors of numbers are expected",
            )
    return inputs


def _dead_note(nodes: Sequence[onnx.NodeProto], live: Sequence[onnx.NodeProto]) -> list[str]:
    kept = {id(node) for node in live}
    dead = [node_title(node) for node in nodes if id(node) not in kept]
    if not dead:
        return []
    more = f" and {len(dead) - 5} more" if len(dead) > 5 else ""
    return [f"dropped, because no output depends on it: {', '.join(dead[:5])}{more}"]


def _finish(
    name: str, place: str, walk: Walk, inputs: Sequence[str], outputs: Sequence[str], notes: list[str]
) -> Graph:
    """Keep the outputs that are computed, and the layers and tensors that they need."""
    layers = recognise_shuffles(walk.layers, walk.values, walk.perms, outputs)
    written = {tensor for layer in layers for tensor in layer.outputs}
    computed = tuple(dict.fromkeys(o for o in outputs if o in written))
    notes += [f"output '{o}' is not computed from the inputs and is left out" for o in outputs if o not in written]
    if not computed:
        fail(
            "ONNX004",
            "no output depends on an input",
            place=place,
            hint="there is nothing to schedule; check that the model was not folded to constants",
        )
    layers = _needed(layers, computed)
    return Graph(name, _tensors(walk.values, layers, inputs), tuple(layers), tuple(inputs), computed, tuple(notes))


def _needed(layers: Sequence[Layer], outputs: Sequence[str]) -> list[Layer]:
    """Layers that an output depends on: those that only led to the shape of a tensor are gone."""
    wanted = set(outputs)
    kept: list[Layer] = []
    for layer in reversed(layers):
        if wanted.intersection(layer.outputs):
            kept.append(layer)
            wanted.update(source.tensor for source in layer.sources)
    return kept[::-1]


def _tensors(values: Mapping[str, Value], layers: Sequence[Layer], inputs: Sequence[str]) -> dict[str, Tensor]:
    names = list(inputs)
    for layer in layers:
        names += [source.tensor for operand in layer.inputs for source in operand.sources]
        names += layer.outputs
    return {name: values[name].tensor for name in dict.fromkeys(names)}
