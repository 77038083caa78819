"""ONNX in, Graph out: the only folder that imports onnx."""

from onnx import ModelProto

from dfc.frontend.diagnostics import CODES
from dfc.frontend.importer import import_model, import_onnx
from dfc.frontend.linalg import raise_linalg
from dfc.frontend.operations import Operation, Operations, operations_of, read_operations

__all__ = [
    "CODES",
    "ModelProto",
    "Operation",
    "Operations",
    "import_model",
    "import_onnx",
    "operations_of",
    "raise_linalg",
    "read_operations",
]
