"""A schedule as upstream MLIR: ``scf`` loops over tiles, ``tensor`` slices, ``linalg`` operations.

One function has the network's inputs and outputs. Stacks follow each other; each is a loop over rows of tiles around a
loop over the tiles of a row (or columns, as the schedule says). Where the first, the middle and the last tiles of an
axis differ, each group has loops and bodies of its own, with static shapes. What later tiles need of earlier ones is
carried from iteration to iteration: see :mod:`dfc.mlir.caches`. What the schedule says about memories and loop nests
stands in discardable attributes whose names begin with ``dfc.``; docs/mlir.md lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dfc.backend_cost.schedule import Schedule, StackEntry
from dfc.frontend import Operations
from dfc.ir import Graph
from dfc.mlir import pointwise, rearrange, windowed
from dfc.mlir.diagnostics import fail
from dfc.mlir.layer import HANDLERS, SAME
from dfc.mlir.stack import StackCode
from dfc.mlir.writer import Array, Value, Writer, attribute, quoted
from dfc.passes.stacks import Stack, make_stack

#: importing them registers their operators in HANDLERS
FAMILIES = (pointwise, rearrange, windowed)
_ELEMENTS = {16: "f16", 32: "f32", 64: "f64"}


@dataclass(frozen=True, slots=True)
class Emitted:
    """A module's text, and the numbers of the weights that it takes as arguments behind the network's inputs."""

    text: str
    weights: Mapping[str, Array]


def emit_mlir(schedule: Schedule, graph: Graph, operations: Operations) -> str:
    """The module's text, with the weights in it.

    graph:      the canonical graph that was scheduled, as ``dfc.pipeline.import_graph`` returns it.
    operations: those of the same model.

    Raises:
        MlirError: MLIR001 an operator that cannot be written, MLIR002 its type cannot, MLIR003 the graph is another's.
    """
    return emit_module(schedule, graph, operations).text


def check_operators(graph: Graph, operations: Operations) -> None:
    """Find out whether what the layers compute can be written at all, as far as operators and types decide it.

    Raises:
        MlirError: MLIR001 or MLIR002.
    """
    _element(graph)
    for layer in graph.layers:
        read = {source.tensor for source in layer.sources}
        open_tensors = list(layer.outputs)
        while open_tensors:
            name = open_tensors.pop()
            operation = operations.producer(name)
            if name in read or operation is None or operations.constant(name) is not None:
                continue
            if operation.domain or operation.op_type not in {*HANDLERS, *SAME}:
                message = f"operator {operation.op_type} has no form in MLIR yet"
                fail("MLIR001", message, place=f"layer '{layer.name}'", hint="leave --emit mlir out")
            open_tensors += filter(None, operation.inputs)


def emit_module(
    schedule: Schedule, graph: Graph, operations: Operations, *, weights_as_arguments: bool = False
) -> Emitted:
    """Like :func:`emit_mlir`; the weights may also be arguments of the function."""
    writer = Writer(_element(graph), weights_as_arguments)
    tensors = {name: Value(f"%in{i}", graph.tensors[name].shape, writer.elem) for i, name in enumerate(graph.inputs)}
    for number, entry in enumerate(schedule.stacks):
        code = StackCode(writer, graph, operations, schedule, number, _stack(graph, entry, schedule))
        tensors |= code.write(tensors)
    results = [tensors[name] for name in graph.outputs]
    writer.line(f"return {', '.join(v.name for v in results)} : {', '.join(v.type for v in results)}")
    return Emitted(_module(schedule, graph, writer, results), {k: data for k, (_, data) in writer.arguments.items()})


def _element(graph: Graph) -> str:
    """The element type of all maps."""
    names = {*graph.inputs, *(name for layer in graph.layers for name in layer.outputs)}
    bits = {graph.tensors[name].bits for name in names}
    if len(bits) != 1 or not bits <= set(_ELEMENTS):
        found = ", ".join(map(str, sorted(bits)))
        hint = "networks of 32-bit floats can be written; leave --emit mlir out for others"
        fail("MLIR002", f"the network's maps have elements of {found} bits", place=graph.name, hint=hint)
    return _ELEMENTS[bits.pop()]


def _stack(graph: Graph, entry: StackEntry, schedule: Schedule) -> Stack:
    unknown = [name for name in entry.layers if name not in graph.index]
    if not entry.columns or not entry.rows:
        message = "the schedule does not say where its tiles lie"
        fail("MLIR003", message, place=schedule.model.file, hint="compile the model again")
    if unknown:
        message = f"the network has no layer '{unknown[0]}'"
        fail("MLIR003", message, place=schedule.model.file, hint="use the model that the schedule was made for")
    return make_stack(graph, [graph.index[name] for name in entry.layers])


def _module(schedule: Schedule, graph: Graph, writer: Writer, results: list[Value]) -> str:
    named = zip(graph.inputs, range(len(graph.inputs)), strict=True)
    inputs = [
        f"%in{i}: {Value('', graph.tensors[name].shape, writer.elem).type} {{dfc.name = {quoted(name)}}}"
        for name, i in named
    ]
    inputs += [f"{v.name}: {v.type} {{dfc.name = {quoted(label)}}}" for label, (v, _) in writer.arguments.items()]
    outputs = [
        f"{value.type} {{dfc.name = {quoted(name)}}}" for name, value in zip(graph.outputs, results, strict=True)
    ]
    about = {
        "dfc.schema": schedule.schema,
        "dfc.model": schedule.model.name,
        "dfc.model_sha256": schedule.model.sha256,
        "dfc.hw": schedule.hw.name,
        "dfc.objective": schedule.objective,
        "dfc.energy_pj": float(schedule.totals.energy_pj),
        "dfc.latency_cycles": schedule.totals.latency_cycles,
    }
    head = f"  func.func @network({', '.join(inputs)}) -> ({', '.join(outputs)}) {{"
    lines = [f"module attributes {attribute(about)} {{", head, *writer.top, *writer.lines, "  }", "}"]
    return "\n".join(lines) + "\n"
