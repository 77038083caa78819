"""Pages of mapping rules: text to :class:`MappingRules`, in the style of the hardware language.

The parser is written by hand: every place of the small grammar expects one thing, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from dfc.backend_cost.mapping_rules import (
    Block,
    Extent,
    HoldRule,
    LayerRules,
    LoopPart,
    MappingRules,
    OrderRule,
    Pattern,
    SpatialRule,
)
from dfc.errors import RulesError, Span
from dfc.hwdsl.arch import Unroll
from dfc.hwdsl.diagnostics import closest, listing
from dfc.ir import Dim, Role

T = TypeVar("T")

_LARGEST_PAGE_BYTES = 1 << 20
_TOKEN = re.compile(
    r"(?P<blank>[ \t\r\n\f]+|\#[^\n]*)"
    r'|(?P<string>"[^"\n]*")'
    r"|(?P<tile>[0-9]+x[0-9]+\b)"
    r"|(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign><=|>=|[{}:,<=>])"
    r"|(?P<other>.)"
)
_STATEMENTS = ("spatial", "order", "hold")
_OPERAND = re.compile(r"([IWO])([1-9]?)")
_MOST = 10**9


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # a group of _TOKEN, or "end"
    text: str
    span: Span


def load_rules(path: str | Path) -> MappingRules:
    """The rules of a file.

    Raises:
        RulesError: MAP010 where the file cannot be read, MAP011 to MAP013 for what it says.
    """
    shown = "".join(c if c.isprintable() else "?" for c in str(path))
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LARGEST_PAGE_BYTES + 1)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RulesError("MAP010", "the mapping rules are not UTF-8 text", place=shown) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        hint = "give the path of a page as docs/mapping-rules.md describes it"
        raise RulesError("MAP010", f"the mapping rules cannot be read: {reason}", place=shown, hint=hint) from None
    if len(data) > _LARGEST_PAGE_BYTES:
        raise RulesError("MAP010", "the mapping rules are larger than 1 MiB", place=shown)
    return parse_rules(text, shown)


def parse_rules(text: str, file: str = "<string>") -> MappingRules:
    """The rules of a page; ``file`` is what diagnostics call it."""
    return _Parser(text, file).page()


def _tokens(text: str, file: str) -> list[_Token]:
    lines = ["".join(c if c.isprintable() else " " for c in line) for line in text.split("\n")]
    found: list[_Token] = []
    line, start = 1, 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "other"
        if kind == "blank":
            if "\n" in match[0]:
                line += match[0].count("\n")
                start = match.start() + match[0].rindex("\n") + 1
            continue
        span = Span(file, line, match.start() - start + 1, len(match[0]), lines[line - 1])
        found.append(_Token(kind, match[0], span))
    last = max((i for i, row in enumerate(lines, 1) if row.strip()), default=1)
    end = Span(file, last, len(lines[last - 1].rstrip()) + 1, 1, lines[last - 1])
    return [*found, _Token("end", "", end)]


class _Parser:
    def __init__(self, text: str, file: str):
        self.file = file
        self.tokens = _tokens(text, file)
        self.at = 0

    @property
    def here(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        token = self.here
        self.at += token.kind != "end"
        return token

    def fail(self, sentence: str, hint: str, token: _Token | None = None, code: str = "MAP011") -> NoReturn:
        token = token or self.here
        found = "the page ends here" if token.kind == "end" else f"unexpected '{token.text}'"
        message = f"{found}: {sentence}" if code == "MAP011" else sentence
        raise RulesError(code, "".join(c if c.isprintable() else "?" for c in message), span=token.span, hint=hint)

    def sign(self, text: str) -> bool:
        """Take a piece of punctuation if it stands here."""
        found = self.here.kind == "sign" and self.here.text == text
        self.at += found
        return found

    def need(self, text: str, sentence: str, hint: str) -> None:
        if not self.sign(text):
            self.fail(sentence, hint)

    def word(self, *words: str) -> bool:
        """Take one of these words if it stands here."""
        found = self.here.kind == "name" and self.here.text in words
        self.at += found
        return found

    def list(self, one: Callable[[], T]) -> tuple[T, ...]:
        found = [one()]
        while self.sign(","):
            found.append(one())
        return tuple(found)

    # --- the page

    def page(self) -> MappingRules:
        blocks: list[Block] = []
        while self.here.kind != "end":
            if not self.word("layer"):
                self.fail("a page is a list of layers with rules", 'write: layer "NAME" { ... }')
            blocks.append(self.block())
        if not blocks:
            raise RulesError("MAP011", "the page has no rules", place=self.file, hint='write: layer "NAME" { ... }')
        return MappingRules(tuple(blocks), self.file)

    def block(self) -> Block:
        patterns = self.list(self.pattern)
        tile: tuple[int, int] | None = None
        if self.word("tile"):
            if self.here.kind != "tile":
                self.fail("'tile' needs WIDTHxHEIGHT in positions", "for example: tile 60x72")
            width, height = (text.lstrip("0")[:18] or "0" for text in self.take().text.split("x"))
            tile = int(width), int(height)
        self.need("{", "the layer's block is missing", 'write: layer "NAME" { ... }')
        spatial: list[SpatialRule] = []
        orders: list[OrderRule] = []
        holds: list[HoldRule] = []
        while not self.sign("}"):
            start = self.here
            if self.word("spatial"):
                spatial.append(self.spatial(start))
            elif self.word("order"):
                orders.append(self.order(start))
            elif self.word("hold"):
                holds.append(self.hold(start))
            else:
                self.no_statement()
        return Block(patterns, tile, LayerRules(tuple(spatial), tuple(orders), tuple(holds)))

    def no_statement(self) -> NoReturn:
        if self.here.kind == "end" or self.here.text == "layer":
            self.fail("the layer's block is not closed", "close it with }")
        best = closest(self.here.text, _STATEMENTS)
        hint = f"did you mean '{best}'?" if best else f"rules begin with {listing(_STATEMENTS, 'or')}"
        self.fail("this is not a rule", hint)

    def pattern(self) -> Pattern:
        if self.here.kind not in ("string", "name"):
            self.fail("a layer's name is expected", 'write: layer "NAME" { ... }; "conv*" is all that begin so')
        token = self.take()
        return Pattern(token.text.strip('"'), token.span)

    def span(self, start: _Token) -> Span:
        """From a rule's first word to its last, on its first line."""
        first, at = start.span, self.at - 1
        while self.tokens[at].span.line != first.line:
            at -= 1
        last = self.tokens[at].span
        return Span(first.file, first.line, first.column, last.column + last.length - first.column, first.text)

    # --- rules

    def spatial(self, start: _Token) -> SpatialRule:
        if self.word("none"):
            return SpatialRule((), self.span(start))
        lanes = self.list(self.slot)
        return SpatialRule(tuple(u for slot in lanes for u in slot), self.span(start))

    def slot(self) -> tuple[Unroll, ...]:
        hint = "write: spatial D1: K 32, D2: C 2, or D1: K 8 x OX 4, or spatial none"
        if self.here.kind != "name":
            self.fail("an array dimension is expected", hint)
        name = self.take().text
        self.need(":", "a colon and a loop are expected", hint)
        lanes = [self.lane(name)]
        while self.word("x"):
            lanes.append(self.lane(name))
        return tuple(lanes)

    def lane(self, name: str) -> Unroll:
        return Unroll(name, self.loop(), self.number() if self.here.kind in ("number", "tile") else 0)

    def order(self, start: _Token) -> OrderRule:
        hint = "write: order C < FX < FY; what stands first is the innermost"
        groups = [self.list(self.part)]
        self.need("<", "an order needs loops on both sides of <", hint)
        while True:
            groups.append(self.list(self.part))
            if not self.sign("<"):
                break
        seen: set[Dim] = set()
        for part in (p for group in groups for p in group):
            if part.dim in seen:
                sentence = f"{part.dim.name} stands here again, after all of it"
                self.fail(sentence, f"give the parts inside a size: order {part.dim.name} 2 < ...", start, "MAP012")
            if part.size is None:
                seen.add(part.dim)
        return OrderRule(tuple(groups), self.span(start))

    def part(self) -> LoopPart:
        return LoopPart(self.loop(), self.number() if self.here.kind in ("number", "tile") else None)

    def hold(self, start: _Token) -> HoldRule:
        hint = "write: hold W in lb_w: K 8, C all"
        match = _OPERAND.fullmatch(self.here.text)
        if self.here.kind != "name" or match is None:
            code = "MAP012" if self.here.kind == "name" else "MAP011"
            sentence = f"unknown operand '{self.here.text}'" if code == "MAP012" else "an operand is expected"
            self.fail(sentence, f"I, W or O, or of several inputs I1, I2, ...; {hint}", code=code)
        self.take()
        if not self.word("in"):
            self.fail("'in' and a memory are expected", hint)
        if self.here.kind != "name":
            self.fail("a memory is expected", hint)
        memory = self.take().text
        self.need(":", "a colon is expected, and what the memory holds", hint)
        extents = () if self.word("everything") else self.list(self.extent)
        return HoldRule(Role(match[1]), int(match[2] or 0), memory, extents, self.span(start))

    def extent(self) -> Extent:
        dim = self.loop()
        sign = next((s for s in ("<=", ">=", "=") if self.sign(s)), "=")
        if self.word("all"):
            return Extent(dim, sign, None)
        if self.here.kind not in ("number", "tile"):
            self.fail(
                f"how far {dim.name} goes is expected", f"for example {dim.name} 8, {dim.name} <= 8 or {dim.name} all"
            )
        return Extent(dim, sign, self.number())

    def loop(self) -> Dim:
        token = self.here
        if token.kind != "name":
            self.fail("a loop is expected", f"loops are {listing(Dim.__members__)}")
        if token.text not in Dim.__members__:
            best = closest(token.text, Dim.__members__)
            hint = f"did you mean {best}? " if best else ""
            self.fail(f"unknown loop '{token.text}'", f"{hint}loops are {listing(Dim.__members__)}", code="MAP012")
        return Dim[self.take().text]

    def number(self) -> int:
        token = self.take()
        match = re.fullmatch(r"\+?0*([1-9][0-9]{0,9})", token.text)
        if match is None or int(match[1]) > _MOST:
            self.fail(f"'{token.text}' is not a whole number from 1 to {_MOST}", "", token, "MAP013")
        return int(match[1])
