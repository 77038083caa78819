"""What ``dfc compile --emit`` writes beside the schedule: forms of it that other tools read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dfc.backend_cost.schedule import Schedule
from dfc.errors import UsageError
from dfc.mlir.emit import check_operators, emit_mlir
from dfc.pipeline import Bindings, InputShapes, import_graph, model_operations
from dfc.trace import render_dot, render_trace

#: codes of this module, with the sentence that docs/errors.md prints for each
CODES: Mapping[str, str] = {
    "CLI090": "--emit names a form that there is not",
}

#: what can be emitted, and the file that it goes to
FILES: Mapping[str, str] = {"mlir": "schedule.mlir", "trace": "trace.json", "dot": "stacks.dot"}


def parse_emit(texts: Sequence[str]) -> tuple[str, ...]:
    """``["mlir,dot"]`` as names of forms, each once.

    Raises:
        UsageError: CLI090.
    """
    names = dict.fromkeys(name.strip() for text in texts for name in text.split(","))
    for name in names:
        if name not in FILES:
            known = ", ".join(FILES)
            raise UsageError("CLI090", f"nothing is called {name!r} that is emitted", place="--emit", hint=known)
    return tuple(names)


class Emitter:
    """Writes forms of a schedule of one model; what cannot be written is found out before the search.

    Raises:
        MlirError: MLIR001 or MLIR002, where MLIR is asked for and cannot say what the model computes.
    """

    def __init__(
        self, names: Sequence[str], model: str | Path, *, bind: Bindings | None, input_shape: InputShapes | None
    ) -> None:
        self.names = names
        if names:
            self.graph = import_graph(model, bind=bind, input_shape=input_shape)
        if "mlir" in names:
            self.operations = model_operations(model)
            check_operators(self.graph, self.operations)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files."""
        return tuple(FILES[name] for name in self.names)

    def texts(self, schedule: Schedule) -> dict[str, str]:
        """The content of each file by its name."""
        return {FILES[name]: self._text(name, schedule) for name in self.names}

    def _text(self, name: str, schedule: Schedule) -> str:
        if name == "trace":
            return render_trace(schedule)
        if name == "dot":
            return render_dot(schedule, self.graph)
        return emit_mlir(schedule, self.graph, self.operations)
