"""The view of one ONNX node that an operator handler gets, and what it hands back through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import NoReturn, cast

import numpy as np
import onnx
from onnx import helper

from dfc.frontend.diagnostics import Unmodelled, fail
from dfc.frontend.values import LARGEST_EXTENT, LARGEST_TENSOR, Array, Shape, Value
from dfc.ir import Kind, Layer, Operand, Origin, Sizes, Triple

Handler = Callable[["Node"], None]

#: handlers by (domain, operator type); filled by :func:`operator`
REGISTRY: dict[tuple[str, str], Handler] = {}

MICROSOFT = "com.microsoft"


def operator(*names: str, domain: str = "") -> Callable[[Handler], Handler]:
    """Register the decorated handler for ONNX operators ``names`` of ``domain`` (default: ONNX itself)."""

    def register(handler: Handler) -> Handler:
        for name in names:
            REGISTRY[domain, name] = handler
        return handler

    return register


def attribute_of(proto: onnx.NodeProto, name: str) -> object | None:
    """An attribute's value as the onnx package has it; None where it is not set."""
    for attribute in proto.attribute:
        if attribute.name == name:
            return cast(object, helper.get_attribute_value(attribute))
    return None


@dataclass(slots=True)
class Node:
    """One node with the values that it reads; handlers call :meth:`out`, :meth:`constant` and :meth:`layer`.

    Nothing of it reaches the graph until the handler has returned, so that a handler may raise
    :class:`~dfc.frontend.diagnostics.Unmodelled` at any point.
    """

    proto: onnx.NodeProto
    label: str
    place: str
    opset: int
    inputs: tuple[Value | None, ...]
    used: tuple[bool, ...]
    values: dict[str, Value] = field(default_factory=dict[str, Value])
    layers: list[Layer] = field(default_factory=list[Layer])

    # what the node says

    @property
    def op_type(self) -> str:
        """The ONNX operator."""
        return self.proto.op_type

    def _attribute(self, name: str) -> object | None:
        return attribute_of(self.proto, name)

    def has(self, name: str) -> bool:
        """Whether the attribute is set."""
        return any(a.name == name for a in self.proto.attribute)

    def int_(self, name: str, default: int) -> int:
        """An integer attribute."""
        value = self._attribute(name)
        if value is None:
            return default
        return value if isinstance(value, int) else self.fail(f"attribute '{name}' is not an integer")

    def float_(self, name: str, default: float) -> float:
        """A float attribute."""
        value = self._attribute(name)
        if value is None:
            return default
        return float(value) if isinstance(value, (int, float)) else self.fail(f"attribute '{name}' is not a number")

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        value = self._attribute(name)
        if value is None:
            return default
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return self.fail(f"attribute '{name}' is not a string")

    def _list(self, name: str, kind: type | tuple[type, ...]) -> list[object] | None:
        value = self._attribute(name)
        if value is None:
            return None
        items: list[object] = list(cast("Sequence[object]", value)) if isinstance(value, Sequence) else [None]
        if isinstance(value, bytes) or not all(isinstance(v, kind) for v in items):
            self.fail(f"attribute '{name}' is not a list of numbers")
        return items

    def ints(self, name: str, length: int | None = None) -> tuple[int, ...] | None:
        """A list of integers, or None where it is not set; of ``length`` entries if that is given."""
        items = self._list(name, int)
        if items is None:
            return None
        if length is not None and len(items) != length:
            self.fail(f"attribute '{name}' has {len(items)} entries; {length} expected")
        return tuple(cast("list[int]", items))

    def floats(self, name: str) -> tuple[float, ...] | None:
        """A list of floats, or None where it is not set."""
        items = self._list(name, (int, float))
        return None if items is None else tuple(float(cast(float, v)) for v in items)

    # what it reads

    def maybe(self, index: int) -> Value | None:
        """The input at ``index``, or None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def need(self, index: int) -> Value:
        """The input at ``index``, which the operator requires."""
        value = self.maybe(index)
        if value is None:
            self.fail(f"input {index} is missing")
        return value

    def array(self, index: int) -> Array | None:
        """The constant data of an input; None where it is left out.

        Raises Unmodelled where the input is there but its data is not known at compile time.
        """
        value = self.maybe(index)
        if value is None:
            return None
        if value.data is None:
            raise Unmodelled(f"input '{value.name}' is not a constant")
        return value.data

    def const_ints(self, index: int) -> tuple[int, ...] | None:
        """The constant integers of an input, flattened; None where it is left out. Raises Unmodelled like
        array.
        """
        data = self.array(index)
        if data is None:
            return None
        if data.dtype.kind not in "iub":
            self.fail(f"input {index} holds {data.dtype} numbers; integers expected")
        return tuple(int(v) for v in np.ravel(data))

    def axis(self, axis: int, rank: int) -> int:
        """A possibly negative axis, checked against ``rank``."""
        if not -rank <= axis < rank:
            self.fail(f"axis {axis} does not exist in a tensor of rank {rank}")
        return axis % rank

    # what it hands back

    def is_used(self, index: int) -> bool:
        """Whether anything reads output ``index``."""
        return index < len(self.used) and self.used[index]

    def out(self, shape: Sequence[int], elem: int | None = None, index: int = 0) -> Value:
        """Declare output ``index``; its type is that of the first input if ``elem`` is not given."""
        extents = self.checked(shape)
        value = Value(self.proto.output[index], extents, self.need(0).elem if elem is None else elem)
        self.values[value.name] = value
        return value

    def checked(self, shape: Sequence[int]) -> Shape:
        """A shape whose extents can be true."""
        extents: Shape = tuple(int(v) for v in shape)
        if any(not 0 <= v <= LARGEST_EXTENT for v in extents) or prod(extents) > LARGEST_TENSOR:
            self.fail(f"its output would have shape {list(extents)}")
        return extents

    def inner(self, suffix: str, shape: Shape, elem: int) -> Value:
        """A tensor between two layers of this node."""
        value = Value(f"{self.proto.output[0]}.{suffix}", shape, elem)
        self.values[value.name] = value
        return value

    def constant(self, data: Array, elem: int, index: int = 0) -> None:
        """Declare that output ``index`` is known now."""
        name = self.proto.output[index]
        self.values[name] = Value(name, tuple(int(v) for v in data.shape), elem, True, data)

    def layer(
        self,
        kind: Kind,
        op: str,
        operands: Sequence[Operand],
        out: Value,
        loops: Sizes,
        *,
        strides: Triple = (1, 1, 1),
        dilations: Triple = (1, 1, 1),
        phases: Triple = (1, 1, 1),
        macs: int = 0,
        weight_elements: int = 0,
        barrier: bool = False,
        suffix: str = "",
    ) -> None:
        """Add a layer that writes ``out``."""
        self.layers.append(
            Layer(
                name=f"{self.label}.{suffix}" if suffix else self.label,
                kind=kind,
                op=op,
                inputs=tuple(operands),
                outputs=(out.name,),
                sizes=loops,
                strides=strides,
                dilations=dilations,
                phases=phases,
                macs=macs,
                weight_elements=weight_elements,
                barrier=barrier,
                origin=(self.origin,),
            )
        )

    @property
    def origin(self) -> Origin:
        """The node, as layers remember it."""
        return Origin(self.proto.name or self.label, self.op_type)

    def fail(self, message: str, hint: str = "") -> NoReturn:
        """The node contradicts itself: ONNX016 with its place."""
        fail(
            "ONNX016",
            f"{self.op_type}: {message}",
            place=self.place,
            hint=hint or "the model is not valid ONNX here; check how it was exported",
        )
