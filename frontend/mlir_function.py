"""A function of MLIR as plain data: what a reader of MLIR text hands to the importer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from dfc.errors import MlirError, Span
from dfc.frontend.values import Array

#: one result of an affine map: the factor of each loop that occurs in it, and what is added
Form = tuple[Mapping[int, int], int]


@dataclass(frozen=True, slots=True)
class MlirValue:
    """A value; equal only to itself. ``elem`` is its type where it is no tensor: then the shape is empty."""

    number: int
    shape: tuple[int, ...]
    elem: str
    tensor: bool


@dataclass(frozen=True, slots=True)
class MlirOp:
    """An operation.

    numbers: attributes that are whole numbers or lists of them.
    inputs:  how many of the operands come before those that it writes to.
    data:    of a constant, its numbers; None where the text leaves them out.
    maps, loops: of a generic, an affine map for each operand (None where one is not linear), and what each loop is:
             "parallel" or "reduction".
    """

    name: str
    operands: tuple[MlirValue, ...]
    results: tuple[MlirValue, ...]
    numbers: Mapping[str, tuple[int, ...]]
    span: Span
    inputs: int = 0
    arguments: tuple[MlirValue, ...] = ()
    body: tuple[MlirOp, ...] = ()
    data: Array | None = None
    maps: tuple[tuple[Form, ...] | None, ...] = ()
    loops: tuple[str, ...] = ()

    def ints(self, name: str) -> tuple[int, ...]:
        """An attribute that lists numbers; empty where it is not set."""
        return self.numbers.get(name, ())

    def fail(self, message: str, hint: str = "") -> NoReturn:
        """The operation is not understood: MLIR020 with its place."""
        hint = hint or "lower the network to linalg on tensors of static shape; docs/mlir.md says what is read"
        raise MlirError("MLIR020", f"{self.name}: {message}", span=self.span, hint=hint)


@dataclass(frozen=True, slots=True)
class MlirFunction:
    """A function whose last operation returns its results. ``names`` are those of its arguments."""

    name: str
    arguments: tuple[MlirValue, ...]
    names: tuple[str, ...]
    ops: tuple[MlirOp, ...]
    span: Span = field(default_factory=lambda: Span("", 1, 1))
