"""The codes of what cannot be said in MLIR, or is not understood of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from types import MappingProxyType
from typing import NoReturn

from dfc.errors import MlirError

CODES: Mapping[str, str] = MappingProxyType(
    {
        "MLIR001": "an operator, or this use of it, has no form in the MLIR that dfc writes",
        "MLIR002": "an element type that the MLIR writer does not know",
        "MLIR003": "a schedule and a graph do not fit each other",
        "MLIR004": "the package that reads and writes MLIR is not installed",
        "MLIR010": "a text is not MLIR, or has an operation that is not known",
        "MLIR011": "an operation is not as it must be",
        "MLIR012": "a text describes a malformed graph",
        "MLIR013": "a plan does not belong to the graph before it",
        "MLIR020": "an operation of a network in MLIR is not understood",
        "MLIR021": "a module in MLIR does not hold one function",
        "MLIR022": "an option is given that a network in MLIR does not have",
    }
)


def need_xdsl() -> None:
    """Raises MlirError (MLIR004) where the extra ``mlir`` is not installed."""
    if importlib.util.find_spec("xdsl") is None:
        hint = "pip install 'dfc[mlir]'"
        raise MlirError("MLIR004", "the package xdsl, which reads and writes MLIR, is not installed", hint=hint)


def fail(code: str, message: str, *, place: str = "", hint: str = "") -> NoReturn:
    """Raise the diagnostic ``code``."""
    raise MlirError(code, message, place=place, hint=hint)
