"""ONNX Runtime: the one place that knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from dfc.errors import UsageError
from dfc.execution.memory import Array


class Session(Protocol):
    """The part of a session that is used; the package has no types of its own."""

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Array]) -> list[Any]:
        """Outputs by name for inputs by name."""
        ...


def session(model: bytes, place: str, *, threads: int = 0) -> Session:
    """A session that computes each node as it stands; 0 threads: as many as there are cores.

    Raises:
        UsageError: CLI083 where the package is missing, CLI084 where it cannot run the model.
    """
    try:
        import onnxruntime  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        hint = "pip install 'dfc[verify]'"
        raise UsageError("CLI083", "onnxruntime is not installed", place="dfc verify", hint=hint) from None
    ort = cast("Any", onnxruntime)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    try:
        return cast("Session", ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]))
    except Exception as error:  # the package's own exceptions, without depending on their types
        raise _failed(error, place) from None


def run(one: Session, outputs: Sequence[str], feeds: Mapping[str, Array], place: str) -> list[Array]:
    """Outputs in order.

    Raises:
        UsageError: CLI084 where the package fails.
    """
    try:
        return [cast("Array", data) for data in one.run(list(outputs), feeds)]
    except Exception as error:  # as above
        raise _failed(error, place) from None


def _failed(error: Exception, place: str) -> UsageError:
    reason = " ".join(str(error).split())[:300]
    return UsageError("CLI084", f"ONNX Runtime cannot execute it: {reason}", place=place)
