"""What is wrong with a schedule that is being executed: where, what was found, and why most likely."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a schedule: stack, column and row of the tile, layer, and over time the step.

    -1 or empty where it is not about one.
    """

    stack: int = -1
    column: int = -1
    row: int = -1
    layer: str = ""
    step: int = -1

    def __str__(self) -> str:
        parts = [f"step {self.step:,}"] if self.step >= 0 else []
        parts += [f"stack {self.stack}"] if self.stack >= 0 else []
        parts += [f"tile (column {self.column}, row {self.row})"] if self.column >= 0 else []
        parts += [f"layer '{self.layer}'"] if self.layer else []
        return ", ".join(parts)

    def at_step(self, step: int) -> Where:
        """The same place in a step over time."""
        return replace(self, step=step)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the schedule says and that does not work.

    kind:    "value" (a number differs), "data" (what is read is not there), "file" (the file contradicts itself or the
             model), "count" (a claimed amount is not what was counted).
    element: which one, as in "element (channel 3, row 0, column 7) of 'conv2'"; empty where it is not about one.
    cause:   what most likely is wrong; empty where nobody can tell.
    """

    kind: str
    what: str
    where: Where = Where()
    element: str = ""
    cause: str = ""


class Fault(Exception):  # noqa: N818  a result that ends the run, not a mistake of the user's
    """Ends the execution at the first thing that does not work."""

    def __init__(self, kind: str, what: str, *, element: str = "", cause: str = ""):
        super().__init__(what)
        self.finding = Finding(kind, what, Where(), element, cause)

    def at(self, where: Where) -> Finding:
        """What was found, with its place."""
        return replace(self.finding, where=where)
