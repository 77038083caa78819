"""Text to syntax: the only file that knows Lark."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Protocol, cast

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput

from dfc.errors import HardwareError, Span
from dfc.hwdsl.diagnostics import problem
from dfc.hwdsl.mistakes import EXAMPLES, explain
from dfc.hwdsl.syntax import (
    AcceleratorDecl,
    ArrayDecl,
    Crossing,
    DimDecl,
    MacDecl,
    MemoryDecl,
    OpDecl,
    PathDecl,
    PortRule,
    Quantity,
    Setting,
    SlotDecl,
    UnrollDecl,
    Word,
    join,
)

Node = Tree[Token]


class _Parser(Protocol):
    """The part of Lark that is used here, with the types that it lacks."""

    def parse(self, text: str) -> Node: ...


class _Mistake(Protocol):
    """The part of Lark's errors that is used here."""

    line: int
    column: int
    pos_in_stream: int | None


def parse(text: str, file: str) -> tuple[AcceleratorDecl, ...]:
    """The accelerators of a page, in order.

    Raises:
        HardwareError: HW010 for a syntax error, with the place and what was expected there.
    """
    lines = tuple(_printable(line) for line in text.split("\n"))
    try:
        tree = _lark().parse(text)
    except UnexpectedInput as error:
        token = cast("Token | None", getattr(error, "token", None))
        raise _syntax_error(cast(_Mistake, error), token, text, file, lines) from None
    return _Builder(file, lines).page(tree)


@cache
def _lark() -> _Parser:
    grammar = files("dfc.hwdsl").joinpath("grammar.lark").read_text(encoding="utf-8")
    return cast(_Parser, Lark(grammar, parser="lalr", maybe_placeholders=False))


def _printable(line: str) -> str:
    """A source line that is safe to show: no control characters, columns kept."""
    return "".join(c if c.isprintable() else " " for c in line.rstrip("\r"))


def _syntax_error(error: _Mistake, token: Token | None, text: str, file: str, lines: tuple[str, ...]) -> HardwareError:
    if token is not None and token.type == "$END":
        line = max((i for i, row in enumerate(lines, 1) if row.strip()), default=1)
        span = Span(file, line, len(lines[line - 1].rstrip()) + 1, 1, lines[line - 1])
        found = "the page ends here"
    else:
        word = str(token) if token is not None else text[error.pos_in_stream or 0]
        span = Span(file, error.line, error.column, max(1, len(word)), lines[error.line - 1])
        found = f"unexpected '{word}'" if word.isprintable() else "unexpected character"
    accepts = getattr(error, "accepts", None) or getattr(error, "allowed", None) or set[str]()
    expected = cast("set[str]", accepts)
    state, terminal = _where(error, token)
    typical = _typical_mistakes()
    label = typical.get((state, terminal)) or typical.get((state, ""))
    sentence, hint = explain(label if token is not None else "character", expected)
    return problem("HW010", f"{found}: {sentence}", span, hint)


def _where(error: _Mistake, token: Token | None) -> tuple[int, str]:
    """The parser's state and the terminal that it met there.

    Lark's own ``match_examples`` also compares the depth of the parser's stack, which depends on how much stands
    before the mistake.
    """
    state = getattr(error, "state", None)
    return cast(int, getattr(state, "position", -1)), token.type if token is not None else "?"


@cache
def _typical_mistakes() -> dict[tuple[int, str], str]:
    """The label of the typical mistake for a state and terminal, or for the state alone (terminal "")."""
    found: dict[tuple[int, str], str] = {}
    for label, pages in EXAMPLES.items():
        for page in pages:
            try:
                _lark().parse(page)
            except UnexpectedInput as error:
                token = cast("Token | None", getattr(error, "token", None))
                state, terminal = _where(cast(_Mistake, error), token)
                found.setdefault((state, terminal), label)
                found.setdefault((state, ""), label)
    return found


class _Builder:
    """Turns Lark's trees into syntax; knows the file and its lines to make spans."""

    def __init__(self, file: str, lines: tuple[str, ...]) -> None:
        self.file = file
        self.lines = lines

    def page(self, tree: Node) -> tuple[AcceleratorDecl, ...]:
        return tuple(self.accelerator(node) for node in _trees(tree, "accelerator"))

    def word(self, token: Token) -> Word:
        line, column = token.line or 1, token.column or 1
        return Word(str(token), Span(self.file, line, column, len(token), self.lines[line - 1]))

    def words(self, tree: Node, terminal: str = "NAME") -> tuple[Word, ...]:
        tokens = (child for child in tree.children if isinstance(child, Token))
        return tuple(self.word(token) for token in tokens if token.type == terminal)

    def accelerator(self, tree: Node) -> AcceleratorDecl:
        base = [self.words(node)[0] for node in _trees(tree, "extends")]
        notes = (self.words(node, "STRING")[0] for node in _trees(tree, "note"))
        return AcceleratorDecl(
            name=self.words(tree)[0],
            base=base[0] if base else None,
            arrays=tuple(self.array(node) for node in _trees(tree, "array")),
            memories=tuple(self.memory(node) for node in _trees(tree, "memory")),
            paths=tuple(self.path(node) for node in _trees(tree, "path")),
            removed=tuple(self.words(node)[0] for node in _trees(tree, "remove")),
            notes=tuple(note.text[1:-1] for note in notes),
            settings=self.settings(tree),
        )

    def array(self, tree: Node) -> ArrayDecl:
        return ArrayDecl(
            keyword=self.words(tree, "ARRAY")[0],
            dims=tuple(self.dim(node) for dims in _trees(tree, "dims") for node in _trees(dims, "dim")),
            macs=tuple(self.mac(node) for node in _trees(tree, "mac")),
            ops=tuple(self.op(node) for node in _trees(tree, "op")),
            unrolls=tuple(self.unroll(node) for node in _trees(tree, "unroll")),
            settings=self.settings(tree),
        )

    def dim(self, tree: Node) -> DimDecl:
        return DimDecl(self.words(tree)[0], self.quantities(tree)[0])

    def mac(self, tree: Node) -> MacDecl:
        first, second, *results, energy = self.quantities(tree)
        return MacDecl(self.words(tree, "MAC")[0], first, second, tuple(results), energy)

    def op(self, tree: Node) -> OpDecl:
        return OpDecl(self.words(tree, "OP")[0], self.quantities(tree)[0])

    def unroll(self, tree: Node) -> UnrollDecl:
        kind, *instead = self.words(tree)
        slots = tuple(self.slot(node) for node in _trees(tree, "slot"))
        return UnrollDecl(kind, slots, instead[0] if instead else None)

    def slot(self, tree: Node) -> SlotDecl:
        dim, loop = self.words(tree)
        widths = self.quantities(tree)
        return SlotDecl(dim, loop, widths[0] if widths else None)

    def memory(self, tree: Node) -> MemoryDecl:
        rules = tuple(self.port(node) for node in _trees(tree, "port"))
        return MemoryDecl(self.words(tree)[0], self.settings(tree), rules)

    def port(self, tree: Node) -> PortRule:
        crossings = (Crossing(*self.words(node)) for node in _trees(tree, "crossing"))
        return PortRule(self.words(tree)[0], tuple(crossings))

    def path(self, tree: Node) -> PathDecl:
        role, *nodes = self.words(tree)
        return PathDecl(role, tuple(nodes), self.words(tree, "ARROW"))

    def settings(self, tree: Node) -> tuple[Setting, ...]:
        return tuple(self.setting(node) for node in _trees(tree, "setting"))

    def setting(self, tree: Node) -> Setting:
        words = tuple(word for node in _trees(tree, "words") for word in self.words(node))
        return Setting(self.words(tree)[0], words, self.quantities(tree))

    def quantities(self, tree: Node) -> tuple[Quantity, ...]:
        return tuple(self.quantity(node) for node in _trees(tree, "quantity"))

    def quantity(self, tree: Node) -> Quantity:
        number = self.words(tree, "NUMBER")[0]
        units = [self.unit(node) for node in _trees(tree, "unit")]
        return Quantity(number, units[0] if units else None)

    def unit(self, tree: Node) -> Word:
        parts = self.words(tree)
        return Word("/".join(part.text for part in parts), join(parts[0].span, parts[-1].span))


def _trees(tree: Node, rule: str) -> Iterator[Node]:
    return (child for child in tree.children if isinstance(child, Tree) and child.data == rule)
