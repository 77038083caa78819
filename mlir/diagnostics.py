"""The codes of what cannot be said in MLIR, or is not understood of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NoReturn

from dfc.errors import MlirError

CODES: Mapping[str, str] = MappingProxyType(
    {
        "MLIR001": "an operator, or this use of it, has no form in the MLIR that dfc writes",
        "MLIR002": "an element type that the MLIR writer does not know",
        "MLIR003": "a schedule and a graph do not fit each other",
        "MLIR010": "a text is not MLIR, or has an operation that is not known",
        "MLIR011": "an operation is not as it must be",
        "MLIR012": "a text describes a malformed graph",
        "MLIR013": "a plan does not belong to the graph before it",
    }
)


def fail(code: str, message: str, *, place: str = "", hint: str = "") -> NoReturn:
    """Raise the diagnostic ``code``."""
    raise MlirError(code, message, place=place, hint=hint)
