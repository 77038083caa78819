"""The ``dfc`` dialect: graphs and depth-first plans in MLIR syntax, with verifiers. docs/mlir.md describes it.

Tensors have builtin types; their element type says how many bits an element has and nothing else (``i8``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

from xdsl.dialects.builtin import (
    ArrayAttr,
    DenseArrayBase,
    DictionaryAttr,
    IntegerAttr,
    IntegerType,
    StringAttr,
    TensorType,
    UnitAttr,
    i64,
)
from xdsl.ir import Attribute, Block, Data, Dialect, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    attr_def,
    irdl_attr_definition,
    irdl_op_definition,
    opt_attr_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.traits import IsTerminator
from xdsl.utils.exceptions import VerifyException

from dfc.ir import SAME, Axis, AxisMap, Dim, Kind, Operand, Role, Source

_AXIS_NAMES = tuple(axis.name.lower() for axis in Axis)

Maps = tuple[AxisMap, AxisMap, AxisMap]
_LIST = AttrParser.Delimiter


def tensor_type(shape: Sequence[int], bits: int) -> TensorType[IntegerType]:
    """The type of a tensor of ``bits`` bits an element."""
    return TensorType(IntegerType(bits), list(shape))


# -- attributes


@irdl_attr_definition
class OperandAttr(Data[tuple[str, bool, tuple[str, ...] | None, tuple[Maps, ...]]]):
    """What a layer reads of the values of one of its operands: ``#dfc.operand<I [B, G, OX] (x = 2 o - 1 to 2 o + 1)>``.

    The role, with ``const`` before it; the loops that address it, where they are not the usual ones of the layer's
    kind; and for each source the positions that output position ``o`` reads, per axis where they are not ``o`` itself.
    ``over 2`` divides them by 2, rounding down.
    """

    name = "dfc.operand"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> tuple[str, bool, tuple[str, ...] | None, tuple[Maps, ...]]:
        """Read what stands between the angle brackets."""
        with parser.in_angle_brackets():
            constant = parser.parse_optional_keyword("const") is not None
            at = parser.pos
            role = parser.parse_identifier()
            if role not in set(Role):
                parser.raise_error(f"roles are {', '.join(Role)}", at)
            dims = parser.parse_optional_comma_separated_list(_LIST.SQUARE, lambda: _loop(parser))
            sources: list[Maps] = []
            reads = partial(parser.parse_optional_comma_separated_list, _LIST.PAREN, lambda: _axis_map(parser))
            while (maps := reads()) is not None:
                found = dict(zip(Axis, SAME, strict=True)) | dict(maps)
                sources.append((found[Axis.T], found[Axis.Y], found[Axis.X]))
        return role, constant, None if dims is None else tuple(dims), tuple(sources)

    def print_parameter(self, printer: Printer) -> None:
        """Write what stands between the angle brackets."""
        role, constant, dims, sources = self.data
        text = f"const {role}" if constant else role
        text += "" if dims is None else f" [{', '.join(dims)}]"
        for maps in sources:
            pairs = zip(Axis, maps, strict=True)
            text += f" ({', '.join(f'{a.name.lower()} = {_positions(m)}' for a, m in pairs if not m.is_identity)})"
        printer.print_string(f"<{text}>")


def _loop(parser: AttrParser) -> str:
    at = parser.pos
    word = parser.parse_identifier()
    names = list(Dim.__members__)
    if word not in names:
        parser.raise_error(f"loops are {' '.join(names)}", at)
    return word


def _axis_map(parser: AttrParser) -> tuple[Axis, AxisMap]:
    at = parser.pos
    axis = parser.parse_identifier()
    if axis not in _AXIS_NAMES:
        parser.raise_error("axes are t, y and x", at)
    parser.parse_punctuation("=")
    at = parser.pos
    num, lo = _end(parser)
    last, hi = _end(parser) if parser.parse_optional_keyword("to") is not None else (num, lo)
    den = parser.parse_integer(allow_negative=False) if parser.parse_optional_keyword("over") is not None else 1
    if last != num or hi < lo or den < 1:
        parser.raise_error("one factor of 'o', and a first position that is not behind the last", at)
    return Axis[axis.upper()], AxisMap(num, den, lo, hi)


def _end(parser: AttrParser) -> tuple[int, int]:
    """``2 o - 3``, ``o`` or ``7``: (factor of o, offset)."""
    factor = parser.parse_optional_integer(allow_boolean=False)
    if parser.parse_optional_keyword("o") is None:
        return (0, factor) if factor is not None else parser.raise_error("a position such as 2 o - 3 expected")
    sign = 1 if parser.parse_optional_punctuation("+") is not None else -1
    if sign < 0 and parser.parse_optional_punctuation("-") is None:
        return 1 if factor is None else factor, 0
    return 1 if factor is None else factor, sign * parser.parse_integer(allow_negative=False)


def _positions(m: AxisMap) -> str:
    first, last = _position(m.num, m.lo), _position(m.num, m.hi)
    text = first if first == last else f"{first} to {last}"
    return text if m.den == 1 else f"{text} over {m.den}"


def _position(num: int, offset: int) -> str:
    if num == 0:
        return str(offset)
    term = "o" if num == 1 else f"{num} o"
    return f"{term} {'-' if offset < 0 else '+'} {abs(offset)}" if offset else term


@irdl_attr_definition
class NestAttr(Data[tuple[tuple[str, int], ...]]):
    """Numbers by name: ``#dfc.nest<K = 64, OX = 56, FX = 3>``. For loop sizes; those that are 1 are left out."""

    name = "dfc.nest"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> tuple[tuple[str, int], ...]:
        """Read what stands between the angle brackets."""

        def entry() -> tuple[str, int]:
            word = _loop(parser)
            parser.parse_punctuation("=")
            return word, parser.parse_integer(allow_negative=False)

        return tuple(parser.parse_comma_separated_list(_LIST.ANGLE, entry))

    def print_parameter(self, printer: Printer) -> None:
        """Write what stands between the angle brackets."""
        printer.print_string(f"<{', '.join(f'{loop} = {size}' for loop, size in self.data)}>")


def operand_attr(operand: Operand, usual: tuple[Dim, ...]) -> OperandAttr:
    """The attribute of an operand; its loops are left out where they are the ``usual`` ones."""
    dims = None if operand.dims == usual else tuple(dim.name for dim in operand.dims)
    maps = tuple(source.maps for source in operand.sources)
    return OperandAttr((str(operand.role), operand.constant, dims, () if maps == (SAME,) else maps))


def operand_of(attr: OperandAttr, usual: tuple[Dim, ...], tensors: Sequence[str]) -> Operand:
    """The operand that reads these tensors, as many as :func:`source_count` says."""
    role, constant, dims, maps = attr.data
    found = usual if dims is None else tuple(Dim[name] for name in dims)
    sources = tuple(Source(tensor, each) for tensor, each in zip(tensors, maps or (SAME,), strict=True))
    return Operand(Role(role), found, sources if maps or tensors else (), constant)


def source_count(attr: OperandAttr) -> int:
    """How many values the operand takes of those of the operation."""
    return len(attr.data[3]) or 1


# -- operations


class _Named(IRDLOperation):
    """An operation that makes one tensor of the graph by its name."""

    label = attr_def(StringAttr)
    tensor = result_def(TensorType[IntegerType])
    assembly_format = "$label attr-dict `:` type($tensor)"

    def __init__(self, label: str, kind: TensorType[IntegerType]) -> None:
        super().__init__(attributes={"label": StringAttr(label)}, result_types=[kind])


@irdl_op_definition
class InputOp(_Named):
    """A network input."""

    name = "dfc.input"


@irdl_op_definition
class ConstantOp(_Named):
    """A tensor that is known at compile time: weights, biases."""

    name = "dfc.constant"


@irdl_op_definition
class TensorOp(_Named):
    """A tensor that no layer writes and that is neither."""

    name = "dfc.tensor"


@irdl_op_definition
class LayerOp(IRDLOperation):
    """A loop nest: what it reads, its loops, what it writes. See ``dfc.ir.Layer`` for the fields."""

    name = "dfc.layer"

    label = attr_def(StringAttr)
    operation = attr_def(StringAttr)
    sources = var_operand_def(TensorType[IntegerType])
    written = var_result_def(TensorType[IntegerType])
    reads = attr_def(ArrayAttr[OperandAttr])
    writes = attr_def(ArrayAttr[StringAttr])
    nest = opt_attr_def(NestAttr)
    stride = opt_attr_def(DenseArrayBase[IntegerType])
    dilation = opt_attr_def(DenseArrayBase[IntegerType])
    phase = opt_attr_def(DenseArrayBase[IntegerType])
    macs = opt_attr_def(IntegerAttr[IntegerType])
    weights = opt_attr_def(IntegerAttr[IntegerType])
    fused = opt_attr_def(ArrayAttr[StringAttr])
    barrier = opt_attr_def(UnitAttr)
    origin = opt_attr_def(ArrayAttr[ArrayAttr[StringAttr]])
    assembly_format = "$operation $label `(` $sources `)` attr-dict `:` functional-type($sources, $written)"

    def __init__(
        self, sources: Sequence[SSAValue], results: Sequence[Attribute], attributes: dict[str, Attribute]
    ) -> None:
        super().__init__(operands=[sources], result_types=[results], attributes=dict(attributes))

    def verify_(self) -> None:
        """Kind, operands and results agree with each other; triples have three numbers."""
        kind, dot, op = self.operation.data.partition(".")
        if kind not in set(Kind) or not dot or not op:
            raise VerifyException(f"{self.operation.data!r} is no kind.operator; kinds are {', '.join(Kind)}")
        wanted = sum(source_count(one) for one in self.reads)
        if wanted != len(self.sources):
            raise VerifyException(f"'reads' takes {wanted} values, the layer has {len(self.sources)}")
        if len(self.writes) != len(self.written):
            raise VerifyException(f"'writes' names {len(self.writes)} tensors, the layer has {len(self.written)}")
        for name in ("stride", "dilation", "phase"):
            found = numbers(self.attributes.get(name))
            if found and len(found) != 3:
                raise VerifyException(f"'{name}' has {len(found)} numbers; t, y and x expected")
        if any(len(one) != 2 for one in self.origin or ()):
            raise VerifyException("'origin' pairs an operator with the name of its node")


@irdl_op_definition
class OutputOp(IRDLOperation):
    """The network's outputs; ends a graph."""

    name = "dfc.output"

    tensors = var_operand_def(TensorType[IntegerType])
    traits = traits_def(IsTerminator())
    assembly_format = "($tensors^ `:` type($tensors))? attr-dict"

    def __init__(self, tensors: Sequence[SSAValue]) -> None:
        super().__init__(operands=[tensors])


@irdl_op_definition
class GraphOp(IRDLOperation):
    """A network. ``notes`` say what the importer assumed; ``time`` and ``past`` that it is a step, as in ``Graph``."""

    name = "dfc.graph"

    label = attr_def(StringAttr)
    notes = opt_attr_def(ArrayAttr[StringAttr])
    time = opt_attr_def(StringAttr)
    past = opt_attr_def(DictionaryAttr)
    body = region_def("single_block")
    assembly_format = "$label attr-dict-with-keyword $body"

    def __init__(
        self, label: str, notes: Sequence[str], body: Block, time: str = "", past: Mapping[str, int] | None = None
    ) -> None:
        attributes: dict[str, Attribute] = {"label": StringAttr(label)}
        if notes:
            attributes["notes"] = ArrayAttr([StringAttr(note) for note in notes])
        if time:
            attributes["time"] = StringAttr(time)
        if past:
            attributes["past"] = DictionaryAttr({name: IntegerAttr(n, 64) for name, n in past.items()})
        super().__init__(attributes=attributes, regions=[Region(body)])

    def verify_(self) -> None:
        """One ``dfc.output``, at the end; nothing else but tensors and layers."""
        ops = list(self.body.block.ops)
        if not ops or not isinstance(ops[-1], OutputOp):
            raise VerifyException("a graph ends with dfc.output")
        for op in ops[:-1]:
            if not isinstance(op, InputOp | ConstantOp | TensorOp | LayerOp):
                raise VerifyException(f"'{op.name}' in a graph")
        if self.time is not None and self.time.data not in _AXIS_NAMES:
            raise VerifyException(f"time is one of {', '.join(_AXIS_NAMES)}, not {self.time.data!r}")
        if self.past and not all(isinstance(value, IntegerAttr) for value in self.past.data.values()):
            raise VerifyException("past says of each tensor how many positions")


@irdl_op_definition
class PlanOp(IRDLOperation):
    """A depth-first plan of some layers of the graph before it.

    ``classes`` are its tile classes: how many tiles there are of each, and of every map the positions along x and y
    that one of them makes.
    """

    name = "dfc.plan"

    layers = attr_def(ArrayAttr[StringAttr])
    tile = attr_def(DenseArrayBase[IntegerType])
    overlap = attr_def(StringAttr)
    order = attr_def(StringAttr)
    remainder = attr_def(StringAttr)
    classes = attr_def(ArrayAttr[DictionaryAttr])
    assembly_format = "$layers attr-dict"

    def __init__(self, attributes: dict[str, Attribute]) -> None:
        super().__init__(attributes=dict(attributes))

    def verify_(self) -> None:
        """The tile has two positive extents, modes have known names."""
        tile = numbers(self.tile)
        if len(tile) != 2 or min(tile) < 1:
            raise VerifyException(f"tile {list(tile)} is not a width and a height")
        for name, value, known in (
            ("overlap", self.overlap.data, ("recompute", "h-cached", "v-cached", "cached")),
            ("order", self.order.data, ("rows", "columns")),
            ("remainder", self.remainder.data, ("first", "last")),
        ):
            if value not in known:
                raise VerifyException(f"'{name}' is {value!r}; one of {', '.join(known)}")


def numbers(attr: Attribute | None) -> tuple[int, ...]:
    """The numbers of an array; none where there is no array."""
    if not isinstance(attr, DenseArrayBase):
        return ()
    return tuple(int(value) for value in cast("DenseArrayBase[IntegerType]", attr).get_values())


def element_bits(kind: Attribute) -> int:
    """Bits of an element of a tensor type."""
    element = cast("TensorType[IntegerType]", kind).element_type
    return element.width.data


def integer(value: int) -> IntegerAttr[IntegerType]:
    """A number of 64 bits."""
    return IntegerAttr(value, i64)


def triple(values: Sequence[int]) -> DenseArrayBase[IntegerType]:
    """Numbers for t, y and x, or x and y."""
    return DenseArrayBase.from_list(i64, list(values))


DFC = Dialect(
    "dfc",
    [GraphOp, InputOp, ConstantOp, TensorOp, LayerOp, OutputOp, PlanOp],
    [OperandAttr, NestAttr],
)
