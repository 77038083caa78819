"""A model that was raised from MLIR, and its way into the graph: what is wrong of it has a place in the text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from dfc.errors import MlirError, ModelError, Span
from dfc.frontend.importer import import_model
from dfc.frontend.values import Shape
from dfc.ir import Graph

_HINT = "operands, attributes and types of the text do not go together here"


@dataclass(frozen=True, slots=True)
class Made:
    """What the text says of a node of the model: where, and which shape its output has."""

    span: Span
    tensor: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Raised:
    """An ONNX model, and by the names of its nodes what the text says of them."""

    model: onnx.ModelProto
    made: Mapping[str, Made]

    def graph(self, name: str) -> Graph:
        """The graph of the model.

        Raises:
            ModelError: the importer refuses it; MlirError: MLIR020 the text gives a tensor another shape.
        """
        try:
            graph = import_model(self.model, name=name, base_dir=None)
        except ModelError as error:
            spans = [one.span for node, one in self.made.items() if f"'{node}'" in error.place]
            if spans:
                error.span, error.hint = spans[0], _HINT
            raise
        for one in self.made.values():
            found = graph.tensors.get(one.tensor)
            if found is not None and found.shape != one.shape:
                message = f"a result of shape {list(one.shape)}, where {list(found.shape)} is computed"
                raise MlirError("MLIR020", message, span=one.span, hint=_HINT)
        return graph
