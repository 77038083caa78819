"""The codes of the importer's diagnostics, and the two ways in which a node handler gives up."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NoReturn

from dfc.errors import ModelError

#: every code that the importer raises, with the sentence that docs/errors.md prints for it
CODES: Mapping[str, str] = MappingProxyType(
    {
        "ONNX001": "the model file does not exist, is not a file or cannot be read",
        "ONNX002": "the model file is empty",
        "ONNX003": "the file is not an ONNX model, or it is truncated",
        "ONNX004": "the graph is empty: no nodes, or nothing that depends on an input",
        "ONNX005": "the operator set is missing or outside of the supported range",
        "ONNX006": "a file of external tensor data is missing or too short",
        "ONNX007": "external tensor data lies outside of the model's folder",
        "ONNX008": "the graph has a cycle",
        "ONNX009": "a node or output reads a tensor that nothing produces",
        "ONNX010": "two nodes, inputs or initializers define the same tensor",
        "ONNX011": "the graph has no outputs",
        "ONNX012": "a dimension of an input is not known and not bound",
        "ONNX013": "a bound name occurs in no input, or its size is not a positive number",
        "ONNX014": "an input shape does not fit the model's inputs",
        "ONNX015": "a tensor's element type has no fixed size (string, sequence, map, optional)",
        "ONNX016": "a node is malformed: its inputs and attributes contradict each other",
        "ONNX017": "the shape of an operator's output cannot be inferred",
        "ONNX018": "an initializer's data contradicts its shape or type",
        "ONNX019": "a feature map has no elements",
    }
)


class Unmodelled(Exception):  # noqa: N818  a reason to take another path, not a mistake
    """A handler cannot express this use of its operator: the node becomes an opaque layer."""


def fail(code: str, message: str, *, place: str = "", hint: str = "") -> NoReturn:
    """Raise the diagnostic ``code``, which must be one of :data:`CODES`."""
    if code not in CODES:
        raise AssertionError(f"unlisted diagnostic {code}")
    raise ModelError(code, message, place=place, hint=hint)
