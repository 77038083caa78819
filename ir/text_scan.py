"""Reads tokens of the textual form from a position in a text, and draws a caret where one is missing.

There is no separate lexer: ``2o-3..2o+3`` and a name like ``o`` need different rules at different places, so
the parser says which token it expects next.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn, cast

from dfc.errors import IrError, Span
from dfc.ir.text import PLAIN_NAME

_BLANK = re.compile(r"(?:\s+|#[^\n]*)*")
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_NATURAL = re.compile(r"[0-9]{1,18}(?![0-9])")
_TOKEN = re.compile(r'"[^"\n]*"?|[\w.]+|.', re.ASCII)


class Scanner:
    """A position in a text. A ``try_`` method that does not match returns None or False and stays there."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.at = 0
        self.skip()

    def skip(self) -> None:
        """Move over white space and comments."""
        blank = _BLANK.match(self.text, self.at)
        self.at = blank.end() if blank else self.at

    def try_pattern(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Take what matches here."""
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
            self.skip()
        return match

    def try_symbol(self, symbol: str) -> bool:
        """Take a piece of punctuation."""
        found = self.text.startswith(symbol, self.at)
        if found:
            self.at += len(symbol)
            self.skip()
        return found

    def need_symbol(self, symbol: str, where: str) -> None:
        """Take a piece of punctuation, or fail."""
        if not self.try_symbol(symbol):
            self.fail(f"expected '{symbol}' {where}")

    def word(self) -> str:
        """The plain name that stands here, without taking it; empty if there is none."""
        match = PLAIN_NAME.match(self.text, self.at)
        return match[0] if match else ""

    def try_word(self, *words: str) -> str | None:
        """Take one of these plain names."""
        found = self.word()
        if found not in words:
            return None
        self.at += len(found)
        self.skip()
        return found

    @property
    def at_end(self) -> bool:
        """Whether the text is used up."""
        return self.at >= len(self.text)

    def name(self, what: str) -> str:
        """Take a name, bare or quoted."""
        if self.text.startswith('"', self.at):
            return self.string(what)
        match = self.try_pattern(PLAIN_NAME)
        if match is None:
            self.fail(f"expected {what}", hint="quote a name that is not a plain identifier")
        return match[0]

    def string(self, what: str) -> str:
        """Take a quoted string."""
        start = self.at
        match = self.try_pattern(_STRING)
        if match is None:
            self.fail(f"expected {what}", hint='strings are quoted as in JSON, "like \\"this\\"", on one line')
        try:
            return cast(str, json.loads(match[0], strict=False))
        except json.JSONDecodeError as error:
            self.fail(f"bad escape in a string: {error.msg}", code="IR002", at=start, length=len(match[0]))

    def natural(self, what: str) -> int:
        """Take a whole number that is not negative."""
        match = self.try_pattern(_NATURAL)
        if match is None:
            self.fail(f"expected {what}", hint="a whole number of at most 18 digits")
        return int(match[0])

    def fail(
        self, message: str, *, code: str = "IR001", hint: str = "", at: int | None = None, length: int = 0
    ) -> NoReturn:
        """Raise :class:`IrError` with a caret under the token at ``at`` (default: here)."""
        at = self.at if at is None else at
        token = _TOKEN.match(self.text, at)
        found = token[0] if token else ""
        if not found:
            at = len(self.text.rstrip())
        if code == "IR001":
            message += f", found {found!r}" if found else ", found the end of the text"
        raise IrError(code, message, span=self.span(at, length or len(found)), hint=hint)

    def span(self, at: int, length: int) -> Span:
        """Where a position is, in lines and columns."""
        start = self.text.rfind("\n", 0, at) + 1
        end = self.text.find("\n", at)
        line = self.text[start : end if end >= 0 else len(self.text)]
        return Span(self.file, self.text.count("\n", 0, at) + 1, at - start + 1, max(1, length), line)
