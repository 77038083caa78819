"""ONNX in, Graph out: the only folder that imports onnx."""

from dfc.frontend.diagnostics import CODES
from dfc.frontend.importer import import_model, import_onnx

__all__ = ["CODES", "import_model", "import_onnx"]
