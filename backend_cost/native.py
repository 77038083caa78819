"""The compiled parts of this package, where there was a compiler."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def load(name: str) -> ModuleType | None:
    """A compiled part of this package; None where it was installed without a compiler."""
    try:
        return import_module(f"dfc.backend_cost.{name}")
    except ImportError:
        return None
