"""MLIR text, written line by line: values with their types, offsets that depend on a loop, constants at the top."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]

_DTYPES: Mapping[str, np.dtype[Any]] = {"f16": np.dtype("<f2"), "f32": np.dtype("<f4"), "f64": np.dtype("<f8")}


@dataclass(frozen=True, slots=True)
class Value:
    """An SSA value that is a tensor of static ``shape``."""

    name: str
    shape: Shape
    elem: str = "f32"

    @property
    def type(self) -> str:
        """Its type."""
        return tensor_type(self.shape, self.elem)

    @property
    def typed(self) -> str:
        """As lists of operands write it."""
        return f"{self.name} : {self.type}"


@dataclass(frozen=True, slots=True)
class Offset:
    """``base + step * loop``, where ``loop`` is a loop's variable; nothing is added where it is empty."""

    base: int
    step: int = 0
    loop: str = ""

    def plus(self, more: int) -> Offset:
        """Shifted by a number of positions."""
        return replace(self, base=self.base + more)


def tensor_type(shape: Sequence[int], elem: str) -> str:
    """``tensor<1x8x4xf32>``."""
    return f"tensor<{''.join(f'{extent}x' for extent in shape)}{elem}>"


def attribute(value: object) -> str:
    """Plain data as an MLIR attribute: strings, whole numbers, floats, booleans, lists and dictionaries of them."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case int():
            return str(value)
        case float():
            return f"{value:.9e}"
        case Mapping():
            entries = cast("Mapping[str, object]", value)
            return f"{{{', '.join(f'{name(k)} = {attribute(v)}' for k, v in entries.items())}}}"
        case Sequence():
            return f"[{', '.join(map(attribute, cast('Sequence[object]', value)))}]"
        case _:
            raise TypeError(f"no attribute: {value!r}")


def quoted(text: str) -> str:
    """A string literal of MLIR: what is not printable ASCII stands as hexadecimal bytes."""
    plain = (chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:02X}" for b in text.encode())
    return f'"{"".join(plain)}"'


def name(text: str) -> str:
    """A key of a dictionary: bare where it may be."""
    bare = text.replace(".", "_").replace("$", "_")
    return text if bare.isidentifier() and bare.isascii() else quoted(text)


def dictionary(entries: Mapping[str, object]) -> str:
    """``{a = 1, b = "x"}`` with a blank behind it; nothing for no entries."""
    return f"{attribute(entries)} " if entries else ""


@dataclass(slots=True)
class Writer:
    """Collects the lines of one function. Constants are written once, at its top, or become arguments."""

    elem: str = "f32"
    constants_as_arguments: bool = False
    lines: list[str] = field(default_factory=list[str])
    top: list[str] = field(default_factory=list[str])
    arguments: dict[str, tuple[Value, Array]] = field(default_factory=dict[str, tuple[Value, Array]])
    _depth: int = 2
    _count: int = 0
    _known: dict[object, Value] = field(default_factory=dict[object, Value])
    _offsets: list[dict[Offset, str]] = field(default_factory=lambda: [{}])

    def line(self, text: str) -> None:
        """A line as it is."""
        self.lines.append("  " * self._depth + text)

    def fresh(self, prefix: str = "") -> str:
        """A name that nothing has."""
        self._count += 1
        return f"%{prefix}{self._count}" if prefix else f"%{self._count - 1}"

    def op(self, text: str, shape: Shape) -> Value:
        """An operation with one tensor as its result."""
        result = Value(self.fresh("v"), shape, self.elem)
        self.line(f"{result.name} = {text}")
        return result

    @contextmanager
    def block(self) -> Generator[None]:
        """Lines within a region: what is computed there is not known behind it."""
        self._depth += 1
        self._offsets.append({})
        yield
        self._offsets.pop()
        self._depth -= 1

    def offset(self, offset: Offset) -> str:
        """A position as an operand: a number, or the value that a loop's variable gives."""
        if not offset.loop or not offset.step:
            return str(offset.base)
        for known in self._offsets:
            if offset in known:
                return known[offset]
        found = self._offsets[-1][offset] = self.fresh("o")
        term = f"d0 * {offset.step}" if offset.step != 1 else "d0"
        plus = f" + {offset.base}" if offset.base > 0 else f" - {-offset.base}" if offset.base else ""
        self.line(f"{found} = affine.apply affine_map<(d0) -> ({term}{plus})>({offset.loop})")
        return found

    # tensors

    def constant(self, data: Array, label: str = "") -> Value:
        """A tensor that is known; ``label`` is what it is called among the arguments."""
        data = np.ascontiguousarray(data, dtype=_DTYPES[self.elem]).reshape(data.shape)
        key = (label, data.shape, data.tobytes())
        if key not in self._known:
            self._known[key] = self._make_constant(data, label)
        return self._known[key]

    def _make_constant(self, data: Array, label: str) -> Value:
        shape = tuple(int(extent) for extent in data.shape)
        if self.constants_as_arguments and data.size > 1:
            value = Value(f"%w{len(self.arguments)}", shape, self.elem)
            unique = label or "constant"
            while unique in self.arguments:
                unique += "_"
            self.arguments[unique] = (value, data)
            return value
        value = Value(self.fresh("c"), shape, self.elem)
        self.top.append(f'    {value.name} = arith.constant dense<"0x{data.tobytes().hex().upper()}"> : {value.type}')
        return value

    def scalar(self, number: float) -> str:
        """A float constant, exactly."""
        exact = np.asarray(number, _DTYPES[self.elem])
        key = ("scalar", exact.tobytes())
        if key not in self._known:
            value = self._known[key] = Value(self.fresh("s"), (), self.elem)
            bits = exact.view(f"<u{exact.itemsize}").item()
            text = f"0x{bits:0{2 * exact.itemsize}X}"
            self.top.append(f"    {value.name} = arith.constant {text} : {self.elem}")
        return self._known[key].name

    def index(self, number: int) -> str:
        """An index constant."""
        key = ("index", number)
        if key not in self._known:
            value = self._known[key] = Value(f"%i{number}", ())
            self.top.append(f"    {value.name} = arith.constant {number} : index")
        return self._known[key].name

    def empty(self, shape: Shape, marks: Mapping[str, object] | None = None) -> Value:
        """A tensor of no particular content."""
        return self.op(f"tensor.empty() {dictionary(marks or {})}: {tensor_type(shape, self.elem)}", shape)

    def filled(self, number: float, shape: Shape) -> Value:
        """A tensor of equal elements."""
        target = self.empty(shape)
        scalar = self.scalar(number)
        return self.op(f"linalg.fill ins({scalar} : {self.elem}) outs({target.typed}) -> {target.type}", shape)

    def slice(
        self, value: Value, offsets: Sequence[Offset], sizes: Shape, steps: Shape | None = None, **marks: object
    ) -> Value:
        """A part of a tensor; the tensor itself where that is all of it."""
        if sizes == value.shape and (steps is None or set(steps) <= {1}):
            return value
        where = self._where(offsets, sizes, steps)
        text = f"tensor.extract_slice {value.name}{where} {self._marks(marks)}: {value.type} to "
        return self.op(text + tensor_type(sizes, self.elem), sizes)

    def insert(
        self, part: Value, into: Value, offsets: Sequence[Offset], steps: Shape | None = None, **marks: object
    ) -> Value:
        """The tensor with a part of it replaced; the part itself where that is all of it."""
        if part.shape == into.shape:
            return part
        where = self._where(offsets, part.shape, steps)
        text = f"tensor.insert_slice {part.name} into {into.name}{where} {self._marks(marks)}: {part.type} into "
        return self.op(text + into.type, into.shape)

    def _where(self, offsets: Sequence[Offset], sizes: Shape, steps: Shape | None) -> str:
        places = ", ".join(map(self.offset, offsets))
        return f"[{places}] [{', '.join(map(str, sizes))}] [{', '.join(map(str, steps or (1,) * len(sizes)))}]"

    @staticmethod
    def _marks(marks: Mapping[str, object]) -> str:
        return dictionary({f"dfc.{key}": entry for key, entry in marks.items()})

    def pad(self, value: Value, low: Shape, high: Shape, number: float) -> Value:
        """The tensor with ``low`` and ``high`` elements of one number around it."""
        if not any((*low, *high)):
            return value
        shape = tuple(b + extent + a for b, extent, a in zip(low, value.shape, high, strict=True))
        if 0 in value.shape:
            return self.filled(number, shape)
        scalar = self.scalar(number)
        result = Value(self.fresh("v"), shape, self.elem)
        self.line(f"{result.name} = tensor.pad {value.name} low{json.dumps(low)} high{json.dumps(high)} {{")
        names = ", ".join(f"%d{axis}: index" for axis in range(len(shape)))
        self.line(f"^bb0({names}):")
        self.line(f"  tensor.yield {scalar} : {self.elem}")
        self.line(f"}} : {value.type} to {result.type}")
        return result

    def reshape(self, value: Value, shape: Shape) -> Value:
        """The same elements in the same order under another shape."""
        if shape == value.shape:
            return value
        if len(value.shape) > 1:
            axes = list(range(len(value.shape)))
            flat = (int(np.prod(value.shape)),)
            text = f"tensor.collapse_shape {value.name} [{axes}] : {value.type} into {tensor_type(flat, self.elem)}"
            value = self.op(text, flat)
        if len(shape) == 1:
            return value
        axes = list(range(len(shape)))
        kind = tensor_type(shape, self.elem)
        if not shape:
            return self.op(f"tensor.collapse_shape {value.name} [] : {value.type} into {kind}", shape)
        return self.op(
            f"tensor.expand_shape {value.name} [{axes}] output_shape {list(shape)} : {value.type} into {kind}", shape
        )
