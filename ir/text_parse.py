"""The textual form of a graph, read back; :mod:`dfc.ir.text` describes it.

===== ======================================================================
code  what is wrong
===== ======================================================================
IR001 something else is expected at this place
IR002 a bad escape in a string
IR003 the text has another format number
IR004 a tensor stands twice, with different shapes or bits
IR005 a tensor has no shape anywhere
IR006 an unknown kind or loop
IR007 an axis map that runs backwards
IR008 something of a layer stands twice
===== ======================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from dfc.ir.dims import N_DIMS, Axis, Dim, Kind, Role
from dfc.ir.graph import Graph, Layer, Operand, Origin, Source, Tensor, Triple
from dfc.ir.regions import SAME, AxisMap
from dfc.ir.text import FORMAT, usual_dims
from dfc.ir.text_scan import Scanner

T = TypeVar("T")

_BITS = re.compile(r"([0-9]{1,9})b\b")
_KIND = re.compile(r"[a-z]+(?=\.)")
_CLAUSES = ("stride", "dilation", "phase", "macs", "weights", "fused", "barrier", "from")
_AXES = tuple(axis.name.lower() for axis in Axis)

_DIGITS = "[0-9]{1,18}"


def _end(name: str) -> str:
    """A pattern for one end of an axis map, ``2o-3`` or ``7``, with its groups' names."""
    moving = f"(?P<{name}num>{_DIGITS})?(?P<{name}o>o)(?P<{name}off>[+-]{_DIGITS})?"
    return f"(?:{moving}|(?P<{name}fix>-?{_DIGITS}))"


_MAP = re.compile(
    rf"(?P<paren>\()?{_end('first')}(?P<range>\.\.{_end('last')})?(?(paren)\)/(?P<den>{_DIGITS}))(?![\w(])"
)


def parse_graph(text: str, file: str = "<string>") -> Graph:
    """The graph that a text describes. ``file`` is what diagnostics call the text.

    Raises :class:`~dfc.errors.IrError` (IR001 to IR008), with the place. Reading is not verifying: call
    :func:`dfc.ir.problems` on a graph that a person wrote.
    """
    return _Parser(Scanner(text, file)).graph()


@dataclass(slots=True)
class _Parser:
    scan: Scanner
    tensors: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    first_use: dict[str, int] = field(default_factory=dict[str, int])  # tensor name to position in the text

    def graph(self) -> Graph:
        name = self.header()
        notes: list[str] = []
        inputs: list[str] = []
        outputs: list[str] = []
        layers: list[Layer] = []
        time: Axis | None = None
        past: dict[str, int] = {}
        while not self.scan.at_end:
            match self.scan.try_word("note", "input", "tensor", "output", "time", "past"):
                case "note":
                    notes.append(self.scan.string("the quoted text of a note"))
                case "input":
                    inputs.append(self.typed_tensor())
                case "tensor":
                    self.typed_tensor()
                case "output":
                    outputs.append(self.tensor())
                case "time":
                    time = self.time_axis()
                case "past":
                    tensor = self.tensor()
                    past[tensor] = self.scan.natural("the number of positions that earlier steps made")
                case _:
                    layers.append(self.layer())
        for used, at in self.first_use.items():
            if used not in self.tensors:
                hint = "give it a shape where it is written, or on a line 'tensor %name [shape] bits'"
                self.scan.fail(f"tensor {used!r} has no shape", code="IR005", at=at, hint=hint)
        return Graph(name, self.tensors, tuple(layers), tuple(inputs), tuple(outputs), tuple(notes), time, past)

    def header(self) -> str:
        scan = self.scan
        if not scan.try_symbol("dfc-ir"):
            scan.fail("expected 'dfc-ir'", hint=f"a graph's text begins with 'dfc-ir {FORMAT}'")
        at = scan.at
        version = scan.natural("the number of the format")
        if version != FORMAT:
            hint = f"this version of dfc reads 'dfc-ir {FORMAT}'; print the graph again with it"
            scan.fail(f"format {version} of the textual form is not known", code="IR003", at=at, hint=hint)
        if scan.try_word("graph") is None:
            scan.fail("expected 'graph' and the graph's name")
        return scan.name("the graph's name")

    def time_axis(self) -> Axis:
        word = self.scan.try_word(*_AXES)
        if word is None:
            self.scan.fail("expected the axis along which steps follow each other", hint=f"one of {', '.join(_AXES)}")
        return Axis[word.upper()]

    # -- tensors

    def tensor(self) -> str:
        at = self.scan.at
        self.scan.need_symbol("%", "before a tensor's name")
        name = self.scan.name("a tensor's name")
        self.first_use.setdefault(name, at)
        return name

    def typed_tensor(self) -> str:
        at = self.scan.at
        name = self.tensor()
        self.declare(name, at)
        return name

    def declare(self, name: str, at: int) -> None:
        """The shape and bits of a tensor whose name has been read."""
        scan = self.scan
        scan.need_symbol("[", "and a shape after the tensor's name")
        shape: list[int] = []
        while not scan.try_symbol("]"):
            shape.append(scan.natural("an extent or ']'"))
        match = scan.try_pattern(_BITS)
        if match is None:
            scan.fail("expected the bits of an element", hint="a whole number with a 'b' behind it, as in 8b")
        tensor = Tensor(name, tuple(shape), int(match[1]))
        known = self.tensors.setdefault(name, tensor)
        if known != tensor:
            was = f"{list(known.shape)} {known.bits}b"
            scan.fail(f"tensor {name!r} was {was} before", code="IR004", at=at, length=len(name) + 1)

    # -- layers

    def layer(self) -> Layer:
        scan = self.scan
        outputs: list[str] = []
        if scan.try_symbol("("):
            scan.need_symbol(")", "after '('")
        elif scan.text.startswith("%", scan.at):
            outputs = self.separated(",", self.typed_tensor)
        else:
            scan.fail(
                "expected a layer, 'note', 'input', 'tensor', 'output', 'time' or 'past'",
                hint="a layer begins with '%'",
            )
        scan.need_symbol("=", "and the layer's operator")
        kind = self.kind()
        scan.need_symbol(".", "between kind and operator")
        op = scan.name("the operator")
        name = scan.name("the layer's name")
        scan.need_symbol("(", "before the layer's operands")
        inputs: list[Operand] = []
        if not scan.try_symbol(")"):
            inputs = self.separated(",", lambda: self.operand(kind))
            scan.need_symbol(")", "after the layer's operands")
        return self.clauses(Layer(name, kind, op, tuple(inputs), tuple(outputs), (1,) * N_DIMS))

    def kind(self) -> Kind:
        at = self.scan.at
        match = self.scan.try_pattern(_KIND)
        hint = f"kinds are {', '.join(Kind)}; a layer's operator is written kind.op"
        if match is None:
            self.scan.fail("expected the layer's kind", hint=hint)
        if match[0] not in set(Kind):
            self.scan.fail(f"unknown kind {match[0]!r}", code="IR006", at=at, length=len(match[0]), hint=hint)
        return Kind(match[0])

    def separated(self, symbol: str, item: Callable[[], T]) -> list[T]:
        items = [item()]
        while self.scan.try_symbol(symbol):
            items.append(item())
        return items

    def operand(self, kind: Kind) -> Operand:
        scan = self.scan
        constant = scan.try_word("const") is not None
        word = scan.try_word(*Role)
        if word is None:
            scan.fail("expected an operand", hint="I for an input, W for weights; 'const' before it if constant")
        role = Role(word)
        dims = self.dims() if scan.try_symbol("<") else usual_dims(kind, role)
        sources: list[Source] = []
        if scan.text.startswith("%", scan.at):
            sources = self.separated("|", self.source)
        return Operand(role, dims, tuple(sources), constant)

    def dims(self) -> tuple[Dim, ...]:
        found: list[Dim] = []
        while not self.scan.try_symbol(">"):
            at = self.scan.at
            word = self.scan.name("a loop or '>'")
            if word not in Dim.__members__:
                hint = f"the loops are {' '.join(Dim.__members__)}"
                self.scan.fail(f"unknown loop {word!r}", code="IR006", at=at, length=len(word), hint=hint)
            found.append(Dim[word])
        return tuple(found)

    def source(self) -> Source:
        scan = self.scan
        at = scan.at
        name = self.tensor()
        if scan.text.startswith("[", scan.at):
            self.declare(name, at)
        maps = dict(zip(_AXES, SAME, strict=True))
        seen: set[str] = set()
        at = scan.at
        while (axis := scan.try_word(*_AXES)) is not None:
            self.once(axis, seen, at)
            scan.need_symbol("=", "and the axis map")
            maps[axis] = self.axis_map()
            at = scan.at
        return Source(name, (maps["t"], maps["y"], maps["x"]))

    def once(self, what: str, seen: set[str], at: int) -> None:
        if what in seen:
            self.scan.fail(f"'{what}' stands there twice", code="IR008", at=at, length=len(what))
        seen.add(what)

    def axis_map(self) -> AxisMap:
        scan = self.scan
        at = scan.at
        match = scan.try_pattern(_MAP)
        form = "written like 2o-3..2o+3, (o+1)/2 or 0..6: the positions that output position o reads"
        if match is None:
            scan.fail("expected an axis map", hint=form)
        num, lo = _position(match, "first")
        last_num, hi = _position(match, "last") if match["range"] else (num, lo)
        den = int(match["den"] or 1)
        if num != last_num or hi < lo or den < 1:
            message = "an axis map needs one factor of 'o', and a first position that is not behind the last"
            scan.fail(message, code="IR007", at=at, length=len(match[0]), hint=form)
        return AxisMap(num, den, lo, hi)

    # -- what stands behind a layer's operands

    def clauses(self, layer: Layer) -> Layer:
        scan = self.scan
        loops = [1] * N_DIMS
        seen: set[str] = set()
        at = scan.at
        while (word := scan.try_word(*Dim.__members__, *_CLAUSES)) is not None:
            self.once(word, seen, at)
            if word in Dim.__members__:
                scan.need_symbol("=", "and the loop's size")
                loops[Dim[word]] = scan.natural("the loop's size")
            else:
                layer = self.clause(word, layer)
            at = scan.at
        return replace(layer, sizes=tuple(loops))

    def clause(self, word: str, layer: Layer) -> Layer:
        scan = self.scan
        if word == "barrier":
            return replace(layer, barrier=True)
        if word == "from":
            return replace(layer, origin=tuple(self.separated(",", self.origin)))
        scan.need_symbol("=", f"after '{word}'")
        match word:
            case "stride":
                return replace(layer, strides=self.triple())
            case "dilation":
                return replace(layer, dilations=self.triple())
            case "phase":
                return replace(layer, phases=self.triple())
            case "macs":
                return replace(layer, macs=scan.natural("a number of multiply-accumulates"))
            case "weights":
                return replace(layer, weight_elements=scan.natural("a number of elements"))
            case _:
                return replace(layer, fused=tuple(self.separated(",", lambda: scan.name("an operator"))))

    def triple(self) -> Triple:
        t = self.scan.natural("three numbers, for t, y and x")
        self.scan.need_symbol(",", "and the numbers for y and x")
        y = self.scan.natural("the number for y")
        self.scan.need_symbol(",", "and the number for x")
        return t, y, self.scan.natural("the number for x")

    def origin(self) -> Origin:
        op_type = self.scan.name("an ONNX operator")
        return Origin(self.scan.name("the ONNX node's name"), op_type)


def _position(match: re.Match[str], which: str) -> tuple[int, int]:
    """Factor and offset of one end of an axis map."""
    if match[f"{which}fix"] is not None:
        return 0, int(match[f"{which}fix"])
    return int(match[f"{which}num"] or 1), int(match[f"{which}off"] or 0)
