"""Graphs and plans as text of the ``dfc`` dialect, and back: ``parse_graph_mlir(print_graph_mlir(g))`` equals ``g``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    IntegerAttr,
    IntegerType,
    ModuleOp,
    StringAttr,
    TensorType,
    UnitAttr,
)
from xdsl.ir import Attribute, Block, Operation, SSAValue

from dfc.errors import DfcError
from dfc.ir import N_DIMS, Axis, Dim, Graph, Kind, Layer, Operand, Origin, Tensor, Triple, problems, verify
from dfc.ir.text import usual_dims
from dfc.mlir.dialect import (
    DFC,
    ConstantOp,
    GraphOp,
    InputOp,
    LayerOp,
    NestAttr,
    OutputOp,
    PlanOp,
    TensorOp,
    element_bits,
    integer,
    numbers,
    operand_attr,
    operand_of,
    source_count,
    tensor_type,
    triple,
)
from dfc.mlir.syntax import parse_module, print_module, problem
from dfc.passes.stacks import make_stack
from dfc.passes.tiles import DepthFirstPlan, Order, Overlap, TileClass, Tiler

ONES = (1, 1, 1)


@dataclass(frozen=True, slots=True)
class GraphFile:
    """What a file holds: a graph, and plans of it."""

    graph: Graph
    plans: tuple[DepthFirstPlan, ...] = ()


def print_graph_mlir(graph: Graph, plans: Sequence[DepthFirstPlan] = (), *, remainder_first: bool = False) -> str:
    """The text of a well-formed graph and of plans of it; ``remainder_first`` is as the plans were made.

    Raises:
        InternalError: IR101 to IR114, where the graph is malformed.
    """
    verify(graph)
    ops: list[Operation] = [_graph_op(graph)]
    ops += [_plan_op(graph, plan, remainder_first=remainder_first) for plan in plans]
    return print_module(ModuleOp(ops))


def parse_graph_mlir(text: str, file: str = "<string>") -> GraphFile:
    """Read a graph and its plans back.

    Raises:
        MlirError: MLIR010 it is no text of the dialect, MLIR011 an operation is not as it must be, MLIR012 the graph is
            malformed, MLIR013 a plan does not belong to it.
    """
    module = parse_module(text, file, [DFC])
    graphs = [op for op in module.ops if isinstance(op, GraphOp)]
    others = [op for op in module.ops if not isinstance(op, GraphOp | PlanOp)]
    if len(graphs) != 1 or others:
        where = others[0] if others else graphs[1] if len(graphs) > 1 else module
        message = f"a file holds one dfc.graph and plans of it{f', not {where.name!r}' if others else ''}"
        raise problem("MLIR011", message, where, text)
    graph = _Reader(text).graph(graphs[0])
    plans = [_plan(graph, op, text) for op in module.ops if isinstance(op, PlanOp)]
    return GraphFile(graph, tuple(plans))


# -- a graph as operations


def _graph_op(graph: Graph) -> GraphOp:
    block = Block()
    values: dict[str, SSAValue] = {}
    written = {name for layer in graph.layers for name in layer.outputs}
    constants = {s.tensor for layer in graph.layers for o in layer.inputs if o.constant for s in o.sources}
    for name in (*graph.inputs, *(n for n in graph.tensors if n not in written and n not in graph.inputs)):
        tensor = graph.tensors[name]
        cls = InputOp if name in graph.inputs else ConstantOp if name in constants else TensorOp
        op = cls(name, tensor_type(tensor.shape, tensor.bits))
        block.add_op(op)
        values[name] = _named(op.results[0], name)
    for layer in graph.layers:
        nest = _layer_op(graph, layer, values)
        block.add_op(nest)
        for name, result in zip(layer.outputs, nest.results, strict=True):
            values[name] = _named(result, name)
    block.add_op(OutputOp([values[name] for name in graph.outputs]))
    return GraphOp(graph.name, graph.notes, block, "" if graph.time is None else graph.time.name.lower(), graph.past)


def _named(value: SSAValue, name: str) -> SSAValue:
    hint = re.sub(r"\W", "_", name, flags=re.ASCII)
    value.name_hint = hint if re.match(r"[A-Za-z_]", hint) else f"_{hint}"
    return value


def _strings(texts: Sequence[str]) -> ArrayAttr[StringAttr]:
    return ArrayAttr([StringAttr(text) for text in texts])


def _layer_op(graph: Graph, layer: Layer, values: dict[str, SSAValue]) -> LayerOp:
    attributes: dict[str, Attribute] = {
        "label": StringAttr(layer.name),
        "operation": StringAttr(f"{layer.kind}.{layer.op}"),
        "reads": ArrayAttr([operand_attr(o, usual_dims(layer.kind, o.role)) for o in layer.inputs]),
        "writes": _strings(layer.outputs),
    }
    loops = tuple((dim.name, layer.sizes[dim]) for dim in Dim if layer.sizes[dim] != 1)
    if loops:
        attributes["nest"] = NestAttr(loops)
    for name, three in (("stride", layer.strides), ("dilation", layer.dilations), ("phase", layer.phases)):
        if three != ONES:
            attributes[name] = triple(three)
    for name, number in (("macs", layer.macs), ("weights", layer.weight_elements)):
        if number:
            attributes[name] = integer(number)
    if layer.fused:
        attributes["fused"] = _strings(layer.fused)
    if layer.barrier:
        attributes["barrier"] = UnitAttr()
    if layer.origin:
        attributes["origin"] = ArrayAttr([_strings((one.op_type, one.node)) for one in layer.origin])
    sources = [values[s.tensor] for operand in layer.inputs for s in operand.sources]
    written = [graph.tensors[name] for name in layer.outputs]
    return LayerOp(sources, [tensor_type(t.shape, t.bits) for t in written], attributes)


def _plan_op(graph: Graph, plan: DepthFirstPlan, *, remainder_first: bool) -> PlanOp:
    return PlanOp(
        {
            "layers": _strings([graph.layers[i].name for i in plan.stack.layers]),
            "tile": triple(plan.tile),
            "overlap": StringAttr(str(plan.overlap)),
            "order": StringAttr(str(plan.order)),
            "remainder": StringAttr("first" if remainder_first else "last"),
            "classes": ArrayAttr([_class_attr(one) for one in plan.classes]),
        }
    )


def _class_attr(tiles: TileClass) -> DictionaryAttr:
    rows = dict(tiles.y.tensors)
    makes = {name: triple([x.fresh, rows[name].fresh]) for name, x in tiles.x.tensors}
    entries: dict[str, Attribute] = {"count": integer(tiles.count), "makes": DictionaryAttr(makes)}
    if tiles.first:
        entries["first"] = UnitAttr()
    return DictionaryAttr(entries)


# -- operations as a graph


class _Reader:
    """Reads one ``dfc.graph``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tensors: dict[str, Tensor] = {}
        self.names: dict[SSAValue, str] = {}

    def graph(self, op: GraphOp) -> Graph:
        """The graph, verified."""
        inputs: list[str] = []
        layers: list[Layer] = []
        outputs: list[str] = []
        for inner in op.body.block.ops:
            if isinstance(inner, LayerOp):
                layers.append(self.layer(inner))
            elif isinstance(inner, OutputOp):
                outputs = [self.name(value, inner) for value in inner.tensors]
            elif isinstance(inner, InputOp | ConstantOp | TensorOp):
                self.declare(inner.tensor, inner.label.data, inner)
                inputs += [inner.label.data] if isinstance(inner, InputOp) else []
        notes = tuple(note.data for note in op.notes or ())
        time = None if op.time is None else Axis[op.time.data.upper()]
        past: dict[str, int] = {}
        for name, n in op.past.data.items() if op.past is not None else ():
            past[str(name)] = cast("IntegerAttr[IntegerType]", n).value.data
        graph = Graph(op.label.data, self.tensors, tuple(layers), tuple(inputs), tuple(outputs), notes, time, past)
        found = problems(graph)
        if found:
            raise problem("MLIR012", f"malformed graph: {found[0]}", op, self.text)
        return graph

    def declare(self, value: SSAValue, name: str, op: Operation) -> None:
        """A tensor's name and type. Raises MLIR012 where another has the name."""
        kind = cast("TensorType[IntegerType]", value.type)
        if name in self.tensors:
            raise problem("MLIR012", f"two tensors are called {name!r}", op, self.text)
        self.tensors[name] = Tensor(name, tuple(kind.get_shape()), element_bits(kind))
        self.names[value] = name

    def name(self, value: SSAValue, op: Operation) -> str:
        """The name of the tensor that a value is."""
        if value not in self.names:
            raise problem("MLIR012", "a value is used before it is there", op, self.text)
        return self.names[value]

    def layer(self, op: LayerOp) -> Layer:
        """One layer."""
        kind_name, _, name = op.operation.data.partition(".")
        kind = Kind(kind_name)
        rest = [self.name(value, op) for value in op.sources]
        inputs: list[Operand] = []
        for attr in op.reads:
            usual = usual_dims(kind, operand_of(attr, (), rest[: source_count(attr)]).role)
            inputs.append(operand_of(attr, usual, rest[: source_count(attr)]))
            rest = rest[source_count(attr) :]
        for value, written in zip(op.written, op.writes, strict=True):
            self.declare(value, written.data, op)
        sizes = [1] * N_DIMS
        for loop, size in op.nest.data if op.nest is not None else ():
            sizes[Dim[loop]] = size
        return Layer(
            name=op.label.data,
            kind=kind,
            op=name,
            inputs=tuple(inputs),
            outputs=tuple(written.data for written in op.writes),
            sizes=tuple(sizes),
            strides=_triple(op, "stride"),
            dilations=_triple(op, "dilation"),
            phases=_triple(op, "phase"),
            macs=op.macs.value.data if op.macs is not None else 0,
            weight_elements=op.weights.value.data if op.weights is not None else 0,
            fused=tuple(one.data for one in op.fused or ()),
            barrier=op.barrier is not None,
            origin=tuple(Origin(node.data, kind_of.data) for kind_of, node in (tuple(o) for o in op.origin or ())),
        )


def _triple(op: LayerOp, name: str) -> Triple:
    t, y, x = numbers(op.attributes.get(name)) or ONES
    return t, y, x


def _plan(graph: Graph, op: PlanOp, text: str) -> DepthFirstPlan:
    """The plan made anew, which must have the classes that the text says."""
    names = [name.data for name in op.layers]
    unknown = [name for name in names if name not in graph.index]
    if unknown or not names:
        message = f"the graph has no layer {unknown[0]!r}" if unknown else "a plan of no layers"
        raise problem("MLIR013", message, op, text)
    first = op.remainder.data == "first"
    tiler = Tiler(graph, make_stack(graph, [graph.index[name] for name in names]), remainder_first=first)
    width, height = numbers(op.tile)
    try:
        plan = tiler.plan((width, height), Overlap(op.overlap.data), Order(op.order.data))
    except DfcError as error:
        raise problem("MLIR013", error.message, op, text) from None
    if _plan_op(graph, plan, remainder_first=first).classes != op.classes:
        counts = [one.count for one in plan.classes]
        message = f"other tile classes: this tile and mode give {len(counts)}, of {counts} tiles"
        raise problem("MLIR013", message, op, text, hint="print the plan anew")
    return plan
