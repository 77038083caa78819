"""MLIR text of upstream dialects, read with xDSL into the plain data that the importer takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from xdsl.dialects import arith, func, linalg, math, ml_program, tensor
from xdsl.dialects.builtin import (
    AffineMapAttr,
    AnyFloat,
    ArrayAttr,
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    FloatAttr,
    IntAttr,
    IntegerAttr,
    IntegerType,
    TensorType,
)
from xdsl.ir import Attribute, Dialect, Operation, SSAValue
from xdsl.irdl import IRDLOperation, irdl_op_definition, var_operand_def, var_result_def
from xdsl.parser import Parser

from dfc.errors import MlirError, Span
from dfc.frontend.mlir_function import Form, MlirFunction, MlirOp, MlirValue
from dfc.frontend.values import Array
from dfc.mlir.syntax import parse_module, problem

#: operations of linalg that xDSL does not define
_NAMED = (
    "conv_1d_ncw_fcw", "conv_3d_ncdhw_fcdhw", "depthwise_conv_1d_ncw_cw", "depthwise_conv_2d_nchw_chw",
    "depthwise_conv_3d_ncdhw_cdhw", "pooling_ncw_max", "pooling_ncw_sum", "pooling_nchw_sum", "batch_matmul",
)  # fmt: skip
_DTYPES = {"f16": "<f2", "f32": "<f4", "f64": "<f8", "i1": "?", "i8": "i1", "i16": "<i2", "i32": "<i4", "i64": "<i8"}


class _NamedOp(IRDLOperation):
    """``linalg.name {attributes} ins(...) outs(...) -> type``."""

    values = var_operand_def()
    made = var_result_def()

    @classmethod
    def parse(cls, parser: Parser) -> _NamedOp:
        """Read it; how many operands are inputs becomes an attribute."""
        attributes = dict(parser.parse_optional_attr_dict())
        inputs = _group(parser, "ins")
        outputs = _group(parser, "outs")
        parser.parse_punctuation("->")
        kind = parser.parse_type()
        attributes["ins"] = IntAttr(len(inputs))
        return cls.create(operands=[*inputs, *outputs], result_types=[kind], attributes=attributes)


def _group(parser: Parser, word: str) -> list[SSAValue]:
    parser.parse_keyword(word)
    with parser.in_parens():
        names = parser.parse_comma_separated_list(Parser.Delimiter.NONE, parser.parse_unresolved_operand)
        parser.parse_punctuation(":")
        kinds = parser.parse_comma_separated_list(Parser.Delimiter.NONE, parser.parse_type)
    return list(parser.resolve_operands(names, kinds, parser.pos))


def _named(name: str) -> type[Operation]:
    return irdl_op_definition(type(name, (_NamedOp,), {"name": f"linalg.{name}"}))


def _dialects() -> list[Dialect]:
    known = {op.name for op in linalg.Linalg.operations}
    more = [_named(name) for name in _NAMED if f"linalg.{name}" not in known]
    extended = Dialect("linalg", [*linalg.Linalg.operations, *more], list(linalg.Linalg.attributes))
    return [func.Func, arith.Arith, math.Math, extended, tensor.Tensor, ml_program.MLProgram]


def read_function(text: str, file: str) -> MlirFunction:
    """The one function of a module.

    Raises:
        MlirError: MLIR010 or MLIR011 it cannot be read, MLIR021 it holds no function, or several.
    """
    module = parse_module(text, file, _dialects())
    found = [op for op in module.ops if isinstance(op, func.FuncOp) and op.body.blocks]
    if len(found) != 1:
        first = text.partition("\n")[0]
        message = f"one function is expected in a module, not {len(found)}"
        hint = "keep the network's function and drop or inline the others"
        raise MlirError("MLIR021", message, span=Span(file, 1, 1, max(1, len(first)), first), hint=hint)
    (only,) = found
    if len(only.body.blocks) != 1 or not only.body.block.ops:
        message = f"a function of {len(only.body.blocks)} blocks" if len(only.body.blocks) > 1 else "an empty function"
        raise problem("MLIR021", message, only, text, "the network's operations follow each other without branches")
    return _Reader(text).function(only)


class _Reader:
    """Turns operations of xDSL into plain ones."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.values: dict[SSAValue, MlirValue] = {}

    def function(self, op: func.FuncOp) -> MlirFunction:
        """The function."""
        block = op.body.block
        arguments = tuple(self.value(one, op) for one in block.args)
        names = tuple(one.name_hint or f"arg{i}" for i, one in enumerate(block.args))
        ops = tuple(self.op(one) for one in block.ops)
        return MlirFunction(op.sym_name.data, arguments, names, ops, self._span(op))

    def _span(self, op: Operation) -> Span:
        span = problem("MLIR020", "", op, self.text).span
        return span or Span("", 1, 1)

    def value(self, value: SSAValue, op: Operation) -> MlirValue:
        """A value, made at its first use. Raises MLIR020 where its shape is not static."""
        if value not in self.values:
            kind = value.type
            shape: tuple[int, ...] = ()
            if isinstance(kind, TensorType):
                typed = cast("TensorType[Attribute]", kind)
                shape = tuple(typed.get_shape())
                if min(shape, default=0) < 0:
                    hint = "give every dimension a size before lowering to linalg"
                    raise problem("MLIR020", f"a tensor of dynamic shape: {kind}", op, self.text, hint)
                self.values[value] = MlirValue(len(self.values), shape, str(typed.element_type), True)
            else:
                self.values[value] = MlirValue(len(self.values), (), str(kind), False)
        return self.values[value]

    def op(self, op: Operation) -> MlirOp:
        """One operation with its body."""
        operands = tuple(self.value(one, op) for one in op.operands)
        results = tuple(self.value(one, op) for one in op.results)
        attributes = {**op.attributes, **op.properties}
        ins = attributes.get("ins")
        block = op.regions[0].block if op.regions and op.regions[0].blocks and not _is_named(op) else None
        maps, loops = attributes.get("indexing_maps"), attributes.get("iterator_types")
        return MlirOp(
            op.name,
            operands,
            results,
            {name: found for name, attr in attributes.items() if (found := _numbers(attr)) is not None},
            self._span(op),
            int(cast(IntAttr, ins).data) if isinstance(ins, IntAttr) else len(getattr(op, "inputs", ())),
            tuple(self.value(one, op) for one in block.args) if block is not None else (),
            tuple(self.op(one) for one in block.ops) if block is not None else (),
            _data(attributes["value"]) if isinstance(op, arith.ConstantOp) else None,
            tuple(_forms(one) for one in _list(maps) if isinstance(one, AffineMapAttr)),
            tuple(str(one.data.value) for one in _list(loops) if isinstance(one, linalg.attrs.IteratorTypeAttr)),
        )


def _list(attr: Attribute | None) -> Sequence[Attribute]:
    """The entries of a list; none where there is no list."""
    return cast("ArrayAttr[Attribute]", attr).data if isinstance(attr, ArrayAttr) else ()


def _is_named(op: Operation) -> bool:
    return isinstance(op, linalg.abstract_ops.NamedOperation)


def _data(attr: Attribute) -> Array | None:
    """A constant's numbers; None where the text leaves them out."""
    if isinstance(attr, DenseIntOrFPElementsAttr):
        return _dense(cast(Attribute, attr))
    if isinstance(attr, FloatAttr):
        found = cast("FloatAttr[AnyFloat]", attr)
        return np.array(found.value.data, np.dtype(_DTYPES.get(str(found.type), "<f4")))
    if isinstance(attr, IntegerAttr):
        return np.array(cast("IntegerAttr[IntegerType]", attr).value.data)
    return None


def _dense(attr: Attribute) -> Array:
    found = cast("DenseIntOrFPElementsAttr[AnyFloat | IntegerType]", attr)
    kind = cast("TensorType[Attribute]", found.type)
    shape = tuple(kind.get_shape())
    known = _DTYPES.get(str(kind.element_type))
    if known is None:
        values = np.array(found.get_values())
        data = values.astype("<f4") if values.dtype.kind == "f" else values
    else:
        data = np.frombuffer(found.data.data, known)
    return np.broadcast_to(data[0], shape) if data.size == 1 else data.reshape(shape)


def _numbers(attr: Attribute) -> tuple[int, ...] | None:
    """A whole number or a list of them."""
    match attr:
        case IntegerAttr():
            return (cast("IntegerAttr[IntegerType]", attr).value.data,)
        case DenseArrayBase():
            return tuple(int(v) for v in cast("DenseArrayBase[IntegerType]", attr).get_values())
        case DenseIntOrFPElementsAttr():
            data = _dense(cast(Attribute, attr))
            return tuple(int(v) for v in data.reshape(-1)) if data.dtype.kind == "i" else None
        case ArrayAttr():
            inner = [_numbers(one) for one in _list(attr)]
            return tuple(v for one in inner if one is not None for v in one) if None not in inner else None
        case _:
            return None


def _forms(attr: AffineMapAttr) -> tuple[Form, ...] | None:
    """The results of a map of loops; None where one is not linear."""
    one = attr.data
    count = one.num_dims

    def at(point: Sequence[int]) -> tuple[int, ...]:
        return tuple(one.eval(list(point), []))

    start = at([0] * count)
    found: list[dict[int, int]] = [{} for _ in start]
    for loop in range(count):
        for result, (a, b, c) in enumerate(
            zip(start, at(_unit(count, loop, 1)), at(_unit(count, loop, 7)), strict=True)
        ):
            if c - a != 7 * (b - a):
                return None
            if b != a:
                found[result][loop] = b - a
    return tuple(zip(found, start, strict=True))


def _unit(count: int, place: int, value: int) -> list[int]:
    return [value if i == place else 0 for i in range(count)]
