"""Pages of mapping rules: text to :class:`MappingRules`, in the style of the hardware language."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

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
from dfc.backend_cost.page_text import PageReader, Token, read_page
from dfc.errors import RulesError
from dfc.hwdsl.arch import Unroll
from dfc.hwdsl.diagnostics import closest, listing
from dfc.ir import Dim, Role

_STATEMENTS = ("spatial", "order", "hold")
_OPERAND = re.compile(r"([IWO])([1-9]?)")
_MOST = 10**9


def load_rules(path: str | Path) -> MappingRules:
    """The rules of a file.

    Raises:
        RulesError: MAP010 where the file cannot be read, MAP011 to MAP013 for what it says.
    """
    return parse_rules(*read_page(path, "mapping rules", "docs/mapping-rules.md", "MAP010"))


def parse_rules(text: str, file: str = "<string>") -> MappingRules:
    """The rules of a page; ``file`` is what diagnostics call it."""
    return _Parser(text, file).page()


class _Parser(PageReader):
    SYNTAX = "MAP011"

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

    # --- rules

    def spatial(self, start: Token) -> SpatialRule:
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

    def order(self, start: Token) -> OrderRule:
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

    def hold(self, start: Token) -> HoldRule:
        hint = "write: hold W in lb_w: K 8, C all"
        match = _OPERAND.fullmatch(self.here.text)
        if self.here.kind != "name" or match is None:
            code = "MAP012" if self.here.kind == "name" else None
            sentence = f"unknown operand '{self.here.text}'" if code else "an operand is expected"
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
