"""Every diagnostic of dfc, and how it is drawn.

A diagnostic has a stable code (``HW012``), a place (a span of a text file, or the ONNX node it came from), one
sentence that says what is wrong and a hint that says what to do. Codes are grouped by room:

====== =======================================
prefix raised by
====== =======================================
ONNX   ``dfc.frontend``: the model
HW     ``dfc.hwdsl``: the accelerator's page
IR     ``dfc.ir``: text form and verifier
MAP    ``dfc.backend_cost``: nothing fits,
       or mapping rules or
       constraints are wrong
MLIR   ``dfc.mlir``: MLIR in and out
CLI    the command line and files
====== =======================================

docs/errors.md lists them all.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one line of a text file; line and column count from 1."""

    file: str
    line: int
    column: int
    length: int = 1
    text: str = ""  # the source line, without its end

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class DfcError(Exception):
    """A mistake in what the user gave: reported without a traceback, exit code 1."""

    exit_code = 1

    def __init__(self, code: str, message: str, *, span: Span | None = None, place: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.span = span
        self.place = place
        self.hint = hint

    def render(self) -> str:
        """The diagnostic as a compiler draws it: headline, place, source line with a caret, hint."""
        lines = [f"error[{self.code}]: {self.message}"]
        if self.span is not None:
            lines.append(f"  --> {self.span}")
            if self.span.text:
                gutter = " " * len(str(self.span.line))
                text = self.span.text.replace("\t", " ")
                caret = " " * (self.span.column - 1) + "^" * max(1, self.span.length)
                lines += [f" {gutter} |", f" {self.span.line} | {text}", f" {gutter} | {caret}"]
        elif self.place:
            lines.append(f"  --> {self.place}")
        if self.hint:
            lines.append(f"  = help: {self.hint}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.render()


class ModelError(DfcError):
    """The ONNX model cannot be read or is not a network (codes ONNX...)."""


class HardwareError(DfcError):
    """The accelerator's page is wrong (codes HW...)."""


class IrError(DfcError):
    """A textual IR file is wrong (codes IR...)."""


class InfeasibleError(DfcError):
    """Nothing fits: the search ran out of legal schedules (codes MAP...)."""


class RulesError(DfcError):
    """A page of mapping rules or of constraints is wrong, or cannot be kept to (codes MAP01., MAP02., MAP04.)."""


class UsageError(DfcError):
    """An option, a path or a file is wrong (codes CLI...)."""


class MlirError(DfcError):
    """MLIR text is wrong or not understood, or there is no way to write something in it (codes MLIR...)."""


class InternalError(DfcError):
    """A check of dfc on itself failed: the verifier, a schedule that does not add up. Exit code 70."""

    exit_code = 70
