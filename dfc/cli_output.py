"""Standard output and error: text that a pipe may refuse, a terminal may not draw, and a name may not command."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from typing import TextIO

from dfc.errors import UsageError
from dfc.report_table import WIDTH, Paint, to_ascii

#: codes of this module, with the sentence that docs/errors.md prints for each
CODES: Mapping[str, str] = {"CLI034": "standard output cannot be written"}

#: what a terminal's line says for the time being
_STATUS: list[str] = []
_WIDEST = 160  # tables get no better when wider


def say(text: str, *, error: bool = False) -> None:
    """Print text that ends with its own newline; a reader that has gone away is no mistake of anybody.

    Raises:
        UsageError: CLI034 where standard output is a file on a full disk, or the like.
    """
    stream = sys.stderr if error else sys.stdout
    try:
        "µ█▌…".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        text = to_ascii(text)
    try:
        stream.write(text.encode("utf-8", "backslashreplace").decode())
        stream.flush()
    except BrokenPipeError:
        _discard(stream)
    except OSError as failure:
        if not error:
            raise unprintable(failure) from None
        _discard(stream)


def unprintable(failure: OSError) -> UsageError:
    """CLI034 for what standard output answered; what is still to come to it goes nowhere."""
    _discard(sys.stdout)
    reason, hint = failure.strerror or str(failure), "check where it is redirected to"
    return UsageError("CLI034", f"cannot print: {reason}", place="standard output", hint=hint)


def diagnose(text: str) -> None:
    """Print a diagnostic on standard error; names in it cannot send control sequences to the terminal."""
    if sys.stderr.isatty() and _STATUS:
        _STATUS.clear()
        say("\r\x1b[K", error=True)
    say(_plain(text) + "\n", error=True)


def status(text: str) -> None:
    """Say on a terminal's line what is being done, in place of what was said before; the next diagnostic clears it."""
    if sys.stderr.isatty():
        _STATUS[:] = [text]
        say(f"\r\x1b[K{_plain(text)}", error=True)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def paint_of(stream: TextIO) -> Paint:
    """Colours where ``stream`` is a terminal, unless the environment says otherwise (no-color.org)."""
    if os.environ.get("NO_COLOR"):
        return Paint()
    if os.environ.get("FORCE_COLOR"):
        return Paint(colour=True)
    return Paint(colour=stream.isatty() and os.environ.get("TERM") != "dumb")


def terminal_width() -> int:
    """Columns of the terminal that reads standard output; the report's own width where nobody says."""
    columns = 0
    with contextlib.suppress(ValueError, OSError):
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    said = os.environ.get("COLUMNS", "")
    if columns <= 0 and said.isdecimal():
        columns = int(said)
    return min(columns, _WIDEST) if columns > 0 else WIDTH


def _discard(stream: TextIO) -> None:
    """Send what is still to come to nowhere, so that the interpreter does not complain when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
