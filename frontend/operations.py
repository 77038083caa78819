"""The operators of a model as data: what each layer computes, for those who write or run code.

A :class:`dfc.ir.Graph` says how much is computed and what reads what; the arithmetic (slopes, bounds, which pixel a
resize takes) stays in the model. This is that part, without the onnx package's types.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import onnx
from onnx import helper, numpy_helper

from dfc.frontend.external import tensor_array
from dfc.frontend.fold import evaluate
from dfc.frontend.importer import whole_model
from dfc.frontend.load import read_model
from dfc.frontend.values import Array

#: an attribute as plain data; a tensor among them is an array, a graph is left out
Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | Array


@dataclass(frozen=True, slots=True)
class Operation:
    """A node of the model: ``inputs`` that are left out are empty names."""

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]

    def int_(self, name: str, default: int) -> int:
        """An attribute that is a whole number."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, int) else default

    def float_(self, name: str, default: float) -> float:
        """An attribute that is a number."""
        value = self.attributes.get(name, default)
        return float(value) if isinstance(value, int | float) else default

    def ints(self, name: str) -> tuple[int, ...]:
        """An attribute that is a list of whole numbers; empty where it is not set."""
        value = self.attributes.get(name)
        return tuple(int(v) for v in value) if isinstance(value, tuple) else ()


class Operations:
    """The nodes of a model by the tensors that they write, and its constants."""

    def __init__(self, model: onnx.ModelProto, base_dir: Path | None, place: str) -> None:
        whole, self._opsets = whole_model(model, base_dir, place)
        graph = whole.graph
        self._place = place
        self._base_dir = base_dir
        self._nodes = {output: node for node in graph.node for output in node.output if output}
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._known: dict[str, Array | None] = {}
        self.opset = self._opsets[""]

    def producer(self, tensor: str) -> Operation | None:
        """The operation that writes a tensor; None for inputs and constants of the model."""
        node = self._nodes.get(tensor)
        if node is None:
            return None
        attributes = {a.name: value for a in node.attribute for value in _plain(a)}
        return Operation(node.name, node.op_type, node.domain, tuple(node.input), tuple(node.output), attributes)

    def constant(self, tensor: str) -> Array | None:
        """The numbers of a tensor that does not depend on the network's inputs; None of any other."""
        if tensor not in self._known:
            self._known[tensor] = self._find(tensor)
        return self._known[tensor]

    def _find(self, tensor: str) -> Array | None:
        stored = self._stored.get(tensor)
        if stored is not None:
            return tensor_array(stored, self._base_dir, f"{self._place}: initializer '{tensor}'")
        node = self._nodes.get(tensor)
        if node is None:
            return None
        feeds: dict[str, Array] = {}
        for name in filter(None, node.input):
            data = self.constant(name)
            if data is None:
                return None
            feeds[name] = data
        try:
            return evaluate(node, feeds, self._opsets)[list(node.output).index(tensor)]
        except Exception:  # whatever the reference implementation of an operator raises: it does not know
            return None


def read_operations(path: str | Path) -> Operations:
    """The operations of an ONNX file. Raises ModelError where it is not a usable model."""
    path = Path(path)
    return operations_of(read_model(path), path.parent, str(path))


def operations_of(model: onnx.ModelProto, base_dir: Path | None, place: str) -> Operations:
    """Like :func:`read_operations` for a model in memory."""
    return Operations(model, base_dir, place)


def _plain(attribute: onnx.AttributeProto) -> Iterator[Attribute]:
    """The attribute's value, if it is plain data."""
    if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
        return
    value = cast(object, helper.get_attribute_value(attribute))
    if isinstance(value, bytes):
        yield value.decode("utf-8", "replace")
    elif isinstance(value, int | float):
        yield value
    elif isinstance(value, onnx.TensorProto):
        yield numpy_helper.to_array(value)
    elif isinstance(value, Sequence):
        items = list(cast("Sequence[object]", value))
        if all(isinstance(one, int) for one in items):
            yield tuple(cast("list[int]", items))
        elif all(isinstance(one, int | float) for one in items):
            yield tuple(float(one) for one in cast("list[float]", items))
