"""The textual form of a graph, printed: stable, complete, one layer in two lines.

::

    dfc-ir 1
    graph tiny
    note "batch was bound to 1"
    input %image [1 3 224 224] 8b
    %y [1 64 112 112] 8b = conv.conv conv1 (I %image y=2o-3..2o+3 x=2o-3..2o+3, const W %w [64 3 7 7] 8b)
        K=64 C=3 OY=112 OX=112 FY=7 FX=7 stride=1,2,2 macs=118013952 weights=9472 fused=relu from Conv n1
    output %y

A layer's first line is its data flow: what it writes, ``kind.op``, its name, and its operands with their
roles. The second is its loop nest, and the ONNX nodes that it came from. An axis map is written as the input
positions that output position ``o`` reads, with a division rounding down, and left out where it is ``o``
itself. Loop sizes, strides, dilations and phases are left out where they are 1. ``<B G OY OX>`` after a role
names the loops that address an operand where they are not those of :func:`usual_dims`. A tensor's shape and
bits stand where it is written, or where a constant is first read. Names that are not plain identifiers are
quoted like JSON strings. ``#`` starts a comment that ends with its line.

A graph that is one step of a network over time says so on a line ``time y``, and which tensors have a past on lines
``past %name 2``.

:func:`dfc.ir.parse_graph` reads all of this back: ``parse_graph(print_graph(g)) == g``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from dfc.ir.dims import Axis, Dim, Kind, Role
from dfc.ir.graph import CONV_INPUT_DIMS, CONV_WEIGHT_DIMS, Graph, Layer, Operand, Origin, Source
from dfc.ir.regions import AxisMap

FORMAT = 1  # the number after "dfc-ir"
PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")

_MAP_DIMS = (Dim.B, Dim.G, Dim.OT, Dim.OY, Dim.OX)
_INPUT_DIMS = {
    Kind.CONV: CONV_INPUT_DIMS,
    Kind.DEPTHWISE: CONV_INPUT_DIMS,
    Kind.POOL: (*_MAP_DIMS, Dim.FT, Dim.FY, Dim.FX),
    Kind.DENSE: (Dim.B, Dim.G, Dim.C, Dim.OX),
}
_WEIGHT_DIMS = {
    Kind.CONV: CONV_WEIGHT_DIMS,
    Kind.DEPTHWISE: CONV_WEIGHT_DIMS,
    Kind.DENSE: (Dim.G, Dim.K, Dim.C),
}


def usual_dims(kind: Kind, role: Role) -> tuple[Dim, ...]:
    """The loops that address an operand where the text does not name them."""
    if role is Role.W:
        return _WEIGHT_DIMS.get(kind, (Dim.G,))
    return _INPUT_DIMS.get(kind, _MAP_DIMS)


def print_graph(graph: Graph) -> str:
    """The text of a graph; every graph has one, also a malformed one, and equal graphs have the same."""
    return "\n".join(_Printer(graph).lines()) + "\n"


def print_map(axis_map: AxisMap) -> str:
    """``2o-3..2o+3``, ``(o+1..o+2)/2``, ``0..6``: the input positions that output position ``o`` reads."""
    first, last = _position(axis_map.num, axis_map.lo), _position(axis_map.num, axis_map.hi)
    text = first if first == last else f"{first}..{last}"
    return text if axis_map.den == 1 else f"({text})/{axis_map.den}"


def _position(num: int, offset: int) -> str:
    if num == 0:
        return str(offset)
    term = "o" if num == 1 else f"{num}o"
    return f"{term}{offset:+d}" if offset else term


def print_name(name: str) -> str:
    """A name as the text form writes it: bare where it is a plain identifier, else quoted."""
    return name if PLAIN_NAME.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    literal = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in literal)


class _Printer:
    """Prints one graph; remembers which constants have been shown with their shapes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        written = {name for layer in graph.layers for name in layer.outputs}
        self.shown = written | set(graph.inputs)

    def lines(self) -> Iterator[str]:
        graph = self.graph
        yield f"dfc-ir {FORMAT}"
        yield f"graph {print_name(graph.name)}"
        yield from (f"note {_quoted(note)}" for note in graph.notes)
        if graph.time is not None:
            yield f"time {graph.time.name.lower()}"
        yield from (f"input {self.typed(name)}" for name in graph.inputs)
        yield from (f"tensor {self.typed(name)}" for name in self.loose())
        for layer in graph.layers:
            yield self.flow(layer)
            nest = " ".join(_nest(layer))
            if nest:
                yield f"    {nest}"
        yield from (f"output %{print_name(name)}" for name in graph.outputs)
        yield from (f"past %{print_name(name)} {positions}" for name, positions in sorted(graph.past.items()))

    def loose(self) -> list[str]:
        """Tensors that no other line shows with a shape."""
        constants = {s.tensor for la in self.graph.layers for o in la.inputs if o.constant for s in o.sources}
        loose = sorted(set(self.graph.tensors) - self.shown - constants)
        self.shown.update(loose)
        return loose

    def typed(self, name: str) -> str:
        tensor = self.graph.tensors.get(name)
        if tensor is None:
            return f"%{print_name(name)} ?"
        shape = " ".join(map(str, tensor.shape))
        return f"%{print_name(name)} [{shape}] {tensor.bits}b"

    def flow(self, layer: Layer) -> str:
        written = ", ".join(self.typed(name) for name in layer.outputs) or "()"
        operands = ", ".join(self.operand(layer, operand) for operand in layer.inputs)
        return f"{written} = {layer.kind}.{print_name(layer.op)} {print_name(layer.name)} ({operands})"

    def operand(self, layer: Layer, operand: Operand) -> str:
        text = f"const {operand.role}" if operand.constant else str(operand.role)
        if operand.dims != usual_dims(layer.kind, operand.role):
            text += f"<{' '.join(dim.name for dim in operand.dims)}>"
        sources = " | ".join(self.source(operand, source) for source in operand.sources)
        return f"{text} {sources}" if sources else text

    def source(self, operand: Operand, source: Source) -> str:
        name = source.tensor
        if operand.constant and name not in self.shown:
            self.shown.add(name)
            shown = self.typed(name)
        else:
            shown = f"%{print_name(name)}"
        pairs = zip(Axis, source.maps, strict=True)
        return " ".join([shown, *(f"{a.name.lower()}={print_map(m)}" for a, m in pairs if not m.is_identity)])


def _nest(layer: Layer) -> Iterator[str]:
    yield from (f"{dim.name}={layer.sizes[dim]}" for dim in Dim if layer.sizes[dim] != 1)
    triples = (("stride", layer.strides), ("dilation", layer.dilations), ("phase", layer.phases))
    yield from (f"{what}={_commas(triple)}" for what, triple in triples if triple != (1, 1, 1))
    if layer.macs:
        yield f"macs={layer.macs}"
    if layer.weight_elements:
        yield f"weights={layer.weight_elements}"
    if layer.fused:
        yield f"fused={_commas(map(print_name, layer.fused))}"
    if layer.barrier:
        yield "barrier"
    if layer.origin:
        yield f"from {', '.join(map(_origin, layer.origin))}"


def _commas(values: Iterable[object]) -> str:
    return ",".join(map(str, values))


def _origin(origin: Origin) -> str:
    return f"{print_name(origin.op_type)} {print_name(origin.node)}"
