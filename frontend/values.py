"""What the importer knows of a tensor while it walks the graph: shape, type and, for small constants, the
data.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy.typing as npt
from onnx import TensorProto

from dfc.ir import Tensor

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]

#: constants of more elements are known by shape only. Shape arithmetic is integer; the float constants that
#: decide shapes (the scales of a Resize) are tiny.
INTEGER_LIMIT = 1_000_000
FLOAT_LIMIT = 4_096

#: no axis and no tensor of a network is larger; what is, is a damaged file
LARGEST_EXTENT = 2**31 - 1
LARGEST_TENSOR = 2**48

FLOAT, INT32, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL

_BITS_BY_NAME = {
    "FLOAT": 32, "DOUBLE": 64, "FLOAT16": 16, "BFLOAT16": 16,
    "FLOAT8E4M3FN": 8, "FLOAT8E4M3FNUZ": 8, "FLOAT8E5M2": 8, "FLOAT8E5M2FNUZ": 8, "FLOAT8E8M0": 8,
    "FLOAT4E2M1": 4,
    "INT2": 2, "INT4": 4, "INT8": 8, "INT16": 16, "INT32": 32, "INT64": 64,
    "UINT2": 2, "UINT4": 4, "UINT8": 8, "UINT16": 16, "UINT32": 32, "UINT64": 64,
    "BOOL": 8, "COMPLEX64": 64, "COMPLEX128": 128,
}  # fmt: skip
#: bits of one stored element by ONNX element type; older onnx packages lack the newest types
BITS: dict[int, int] = {int(number): _BITS_BY_NAME[name] for name, number in TensorProto.DataType.items()
                        if name in _BITS_BY_NAME}  # fmt: skip
_FLOATS = frozenset(int(number) for name, number in TensorProto.DataType.items() if "FLOAT" in name or name == "DOUBLE")


def type_name(elem: int) -> str:
    """The ONNX name of an element type, for messages."""
    return TensorProto.DataType.Name(elem) if elem in TensorProto.DataType.values() else f"type {elem}"


def is_float(elem: int) -> bool:
    """Whether the elements are floating point numbers."""
    return elem in _FLOATS


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A tensor of known shape.

    constant:    it does not depend on the network's inputs.
    data:        its numbers, where it is constant and small enough to matter for shapes.
    stored_bits: bits per element in the file, where a constant is stored narrower than it is computed with
                 (weights behind a DequantizeLinear).
    """

    name: str
    shape: Shape
    elem: int
    constant: bool = False
    data: Array | None = None
    stored_bits: int | None = None

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def elements(self) -> int:
        """Number of elements; a scalar has one."""
        return prod(self.shape)

    @property
    def tensor(self) -> Tensor:
        """The tensor as the IR holds it."""
        return Tensor(self.name, self.shape, self.stored_bits or BITS.get(self.elem, 32))


def within_limit(elements: int, elem: int) -> bool:
    """Whether a constant of so many elements is worth computing."""
    return elements <= (FLOAT_LIMIT if is_float(elem) else INTEGER_LIMIT)
