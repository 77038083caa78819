"""ONNX in, Graph out: the only folder that imports onnx."""

from dfc.frontend.diagnostics import CODES
from dfc.frontend.importer import import_model, import_onnx
from dfc.frontend.linalg import raise_linalg
from dfc.frontend.operations import Operation, Operations, operations_of, read_operations
from dfc.frontend.raised import Raised

__all__ = [
    "CODES",
    "Operation",
    "Operations",
    "Raised",
    "import_model",
    "import_onnx",
    "operations_of",
    "raise_linalg",
    "read_operations",
]
