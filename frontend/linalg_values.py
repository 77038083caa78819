"""What a value of a linalg program stands for, until an operator of ONNX takes it up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from dfc.frontend.values import Array, Shape


@dataclass(frozen=True, slots=True)
class Named:
    """A tensor of the model being made."""

    name: str
    shape: Shape


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """Numbers, or the shape alone where the text leaves them out."""

    data: Array | None
    shape: Shape


@dataclass(frozen=True, slots=True)
class Filled:
    """Equal elements; of no particular content where ``value`` is None."""

    value: float | None
    shape: Shape


@dataclass(frozen=True, slots=True)
class Padded:
    """A tensor with one number around it."""

    source: Held
    low: Shape
    high: Shape
    value: float
    shape: Shape


@dataclass(frozen=True, slots=True)
class Spread:
    """A tensor of fewer axes, repeated: its axes are ``axes`` of the whole."""

    source: Held
    axes: Shape
    shape: Shape


@dataclass(frozen=True, slots=True)
class View:
    """The elements of a tensor in their order, under another shape."""

    source: Held
    shape: Shape


@dataclass(frozen=True, slots=True)
class WindowSum:
    """Sums over windows: an average once it is divided."""

    source: Held
    kernel: Shape
    strides: Shape
    dilations: Shape
    shape: Shape


@dataclass(frozen=True, slots=True)
class Apply:
    """Element-wise work: ``op`` of arguments that are broadcast to ``shape`` from the right."""

    op: str
    inputs: tuple[Held, ...]
    shape: Shape


Held: TypeAlias = Named | Constant | Filled | Padded | Spread | View | WindowSum | Apply


def scalar(held: Held) -> float | None:
    """The number that a value is everywhere, where it is known to be one."""
    if isinstance(held, Filled):
        return held.value
    if isinstance(held, Spread):
        return scalar(held.source)
    if isinstance(held, Constant) and held.data is not None and held.data.size:
        first = float(held.data.flat[0])
        return first if held.data.size == 1 or bool((held.data == held.data.flat[0]).all()) else None
    return None
