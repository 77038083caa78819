"""What the pages that a user writes beside the accelerator's have in common: tokens, places, and how a file is read.

Their parsers are written by hand: every place of their small grammars expects one thing, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NoReturn, TypeVar

from dfc.errors import RulesError, Span

T = TypeVar("T")

_LARGEST_PAGE_BYTES = 1 << 20
_TOKEN = re.compile(
    r"(?P<blank>[ \t\r\n\f]+|\#[^\n]*)"
    r'|(?P<string>"[^"\n]*")'
    r"|(?P<tile>[0-9]+x[0-9]+\b)"
    r"|(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:-[A-Za-z0-9_]+)*)"
    r"|(?P<sign><=|>=|[{}:,<=>])"
    r"|(?P<other>.)"
)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a page: ``kind`` is a group of the expression above, or "end"."""

    kind: str
    text: str
    span: Span


def read_page(path: str | Path, what: str, document: str, code: str) -> tuple[str, str]:
    """The text of a page, and its path as diagnostics show it; ``document`` describes such pages.

    Raises:
        RulesError: ``code`` where it cannot be read.
    """
    shown = _plain(str(path))
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LARGEST_PAGE_BYTES + 1)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RulesError(code, f"the {what} are not UTF-8 text", place=shown) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        hint = f"give the path of a page as {document} describes it"
        raise RulesError(code, f"the {what} cannot be read: {reason}", place=shown, hint=hint) from None
    if len(data) > _LARGEST_PAGE_BYTES:
        raise RulesError(code, f"the {what} are larger than 1 MiB", place=shown)
    return text, shown


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def tokens_of(text: str, file: str) -> list[Token]:
    """All tokens of a page, and its end."""
    lines = ["".join(c if c.isprintable() else " " for c in line) for line in text.split("\n")]
    found: list[Token] = []
    line, start = 1, 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "other"
        if kind == "blank":
            if "\n" in match[0]:
                line += match[0].count("\n")
                start = match.start() + match[0].rindex("\n") + 1
            continue
        span = Span(file, line, match.start() - start + 1, len(match[0]), lines[line - 1])
        found.append(Token(kind, match[0], span))
    last = max((i for i, row in enumerate(lines, 1) if row.strip()), default=1)
    end = Span(file, last, len(lines[last - 1].rstrip()) + 1, 1, lines[last - 1])
    return [*found, Token("end", "", end)]


class PageReader:
    """A page's tokens, taken one after the other."""

    #: the code of what stands where it is not expected
    SYNTAX: ClassVar[str]

    def __init__(self, text: str, file: str):
        self.file = file
        self.tokens = tokens_of(text, file)
        self.at = 0

    @property
    def here(self) -> Token:
        """The next token."""
        return self.tokens[self.at]

    def take(self) -> Token:
        """The next token, and on to the one after it."""
        token = self.here
        self.at += token.kind != "end"
        return token

    def fail(self, sentence: str, hint: str, token: Token | None = None, code: str | None = None) -> NoReturn:
        """Raise the diagnostic for a token, the next one unless given."""
        token = token or self.here
        found = "the page ends here" if token.kind == "end" else f"unexpected '{token.text}'"
        message = sentence if code else f"{found}: {sentence}"
        raise RulesError(code or self.SYNTAX, _plain(message), span=token.span, hint=hint)

    def sign(self, text: str) -> bool:
        """Take a piece of punctuation if it stands here."""
        found = self.here.kind == "sign" and self.here.text == text
        self.at += found
        return found

    def need(self, text: str, sentence: str, hint: str) -> None:
        """Take a piece of punctuation that must stand here."""
        if not self.sign(text):
            self.fail(sentence, hint)

    def word(self, *words: str) -> bool:
        """Take one of these words if it stands here."""
        found = self.here.kind == "name" and self.here.text in words
        self.at += found
        return found

    def list(self, one: Callable[[], T]) -> tuple[T, ...]:
        """One or more, separated by commas."""
        found = [one()]
        while self.sign(","):
            found.append(one())
        return tuple(found)

    def span(self, start: Token) -> Span:
        """From a statement's first word to its last, on its first line."""
        first, at = start.span, self.at - 1
        while self.tokens[at].span.line != first.line:
            at -= 1
        last = self.tokens[at].span
        return Span(first.file, first.line, first.column, last.column + last.length - first.column, first.text)
