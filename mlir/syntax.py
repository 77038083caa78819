"""MLIR text in and out by xDSL, with errors as diagnostics that say where."""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import lru_cache

from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, FileLineColLoc, IntAttr, ModuleOp, StringAttr
from xdsl.ir import Dialect, Operation
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import ParseError, VerifyException

from dfc.errors import MlirError, Span

#: of a line that is shown
_LONGEST = 400
#: of a violation that has no sentence of its own
_MISFIT = "operands, attributes and results do not go together"
#: errors of Python that xDSL lets out, in words
_MEANING: Mapping[type[Exception], str] = {
    IndexError: _MISFIT,
    RecursionError: "nested too deep",
    MemoryError: "a constant that needs more memory than there is",
}


@lru_cache(maxsize=1)
def _line_starts(text: str) -> list[int]:
    """Where each line of a text begins."""
    return [0, *(match.end() for match in re.finditer("\n", text))]


class _PlacedParser(Parser):
    """Gives every operation the place where it stands."""

    def parse_operation(self) -> Operation:
        """An operation with its line and column."""
        start = self.pos
        op = super().parse_operation()
        starts = _line_starts(self.lexer.input.content)
        line = bisect_right(starts, start)
        column = start - starts[line - 1] + 1
        op.location = FileLineColLoc(StringAttr(self.lexer.input.name), IntAttr(line), IntAttr(column))
        return op


def parse_module(text: str, file: str, dialects: Sequence[Dialect]) -> ModuleOp:
    """A module of these dialects, verified.

    Raises:
        MlirError: MLIR010 it is not MLIR of these dialects, MLIR011 an operation is not as it must be.
    """
    context = Context()
    for dialect in (Builtin, *dialects):
        context.load_dialect(dialect)
    parser = None
    try:
        parser = _PlacedParser(context, text, file)  # which reads the first word
        module = parser.parse_module()
    except ParseError as error:
        at = error.span.start
        raise MlirError("MLIR010", _sentence(error.msg), span=_span(text, file, at, error.span.end - at)) from None
    except Exception as error:  # numbers that no type holds and the like: xDSL lets several types out
        message = _MEANING.get(type(error)) or _sentence(str(error))
        raise MlirError("MLIR010", message, span=_span(text, file, parser.pos if parser else 0, 1)) from None
    for op in module.walk():
        try:
            op.verify(verify_nested_ops=False)
        except VerifyException as error:
            raise problem("MLIR011", _sentence(str(error)), op, text) from None
        except Exception:  # verifiers of linalg take for granted what they do not check
            raise problem("MLIR011", _MISFIT, op, text) from None
    return module


def problem(code: str, message: str, op: Operation, text: str, hint: str = "") -> MlirError:
    """A diagnostic at an operation of a text."""
    place = op.location
    if not isinstance(place, FileLineColLoc):
        return MlirError(code, message, place=op.name, hint=hint)
    line, column = place.line.data, place.column.data
    start = _line_starts(text)[line - 1]
    stop = text.find("\n", start)
    shown = text[start : stop if stop >= 0 else len(text)][:_LONGEST]
    end = shown.find(op.name, column - 1)
    length = end + len(op.name) - column + 1 if end >= 0 else 1
    return MlirError(code, message, span=Span(place.filename.data, line, column, length, shown), hint=hint)


def print_module(module: ModuleOp) -> str:
    """The text of a module."""
    stream = io.StringIO()
    Printer(stream).print_op(module)
    return stream.getvalue() + "\n"


def _span(text: str, file: str, at: int, length: int) -> Span:
    start = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    line = text[start : end if end >= 0 else len(text)][: at - start + _LONGEST]
    return Span(file, text.count("\n", 0, at) + 1, at - start + 1, max(1, length), line)


def _sentence(message: str) -> str:
    """The first line of what xDSL says."""
    lines = [line for line in message.strip().splitlines() if line.strip()]
    return lines[0].strip().rstrip(".") if lines else "not understood"
