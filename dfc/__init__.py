"""dfc: depth-first compiler for neural networks on described accelerators.

``dfc.compile(model, hw)`` returns a :class:`dfc.Schedule`. Heavy modules load on first use, so that the command line
answers ``--help`` at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dfc._version import __version__
from dfc.errors import DfcError

if TYPE_CHECKING:
    from dfc.backend_cost.schedule import Schedule
    from dfc.pipeline import compile, import_graph

_LATE = {
    "Schedule": "dfc.backend_cost.schedule",
    "compile": "dfc.pipeline",
    "import_graph": "dfc.pipeline",
}

__all__ = ["DfcError", "Schedule", "__version__", "compile", "import_graph"]


def __getattr__(name: str) -> Any:
    if name in _LATE:
        from importlib import import_module

        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module 'dfc' has no attribute {name!r}")
