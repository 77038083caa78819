"""Pages of constraints on stacks: text to :class:`Constraints`, in the style of mapping rules."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import NoReturn, TypeVar

from dfc.backend_cost.page_text import PageReader, Token, read_page
from dfc.errors import RulesError
from dfc.hwdsl.diagnostics import closest, listing
from dfc.passes.tiles import OVERLAPS, Order, Overlap
from dfc.scheduling.constraints import Constraints, Given, StackBlock

W = TypeVar("W", bound=str)

_STATEMENTS = ("tile", "overlap", "order", "output")
_TILE = re.compile(r"0*([1-9][0-9]{0,8})x0*([1-9][0-9]{0,8})")
_PAGE = "write: stack FIRST to LAST { ... }, or: cut after LAYER"
_OUTPUT = "write: output on chip, or output off chip"


def load_constraints(path: str | Path) -> Constraints:
    """The constraints of a file.

    Raises:
        RulesError: MAP040 where the file cannot be read, MAP041, MAP043 and MAP044 for what it says.
    """
    return parse_constraints(*read_page(path, "constraints", "docs/constraints.md", "MAP040"))


def parse_constraints(text: str, file: str = "<string>") -> Constraints:
    """The constraints of a page; ``file`` is what diagnostics call it."""
    return _Parser(text, file).page()


class _Parser(PageReader):
    SYNTAX = "MAP041"

    def page(self) -> Constraints:
        cuts: list[Given[str]] = []
        blocks: list[StackBlock] = []
        while self.here.kind != "end":
            if self.word("cut"):
                if not self.word("after"):
                    self.fail("'after' and a layer are expected", "write: cut after LAYER")
                cuts += self.list(self.layer)
            elif self.word("stack"):
                blocks.append(self.block())
            else:
                self.fail("a page is a list of cuts and stacks", _PAGE)
        if not cuts and not blocks:
            raise RulesError("MAP041", "the page has no constraints", place=self.file, hint=_PAGE)
        return Constraints(tuple(cuts), tuple(blocks), self.file)

    def layer(self) -> Given[str]:
        if self.here.kind not in ("string", "name"):
            self.fail("a layer's name is expected", "names that are no plain words stand in quotes")
        token = self.take()
        return Given(token.text.strip('"'), token.span)

    def block(self) -> StackBlock:
        first = self.layer()
        found = StackBlock(first, self.layer() if self.word("to") else first)
        self.need("{", "the stack's block is missing", "write: stack FIRST to LAST { ... }, or stack LAYER { ... }")
        while not self.sign("}"):
            found = self.statement(found)
        return found

    def statement(self, block: StackBlock) -> StackBlock:
        """The block with one statement more."""
        start = self.here
        if not self.word(*_STATEMENTS):
            self.no_statement()
        if start.text == "overlap" and self.word("of"):
            return replace(block, maps=(*block.maps, *self.maps()))
        known = {"tile": block.tile, "overlap": block.overlap, "order": block.order, "output": block.on_chip}
        before = known[start.text]
        if before:
            sentence = f"'{start.text}' stands here again, after line {before.span.line}"
            self.fail(sentence, "keep one of them", start, "MAP044")
        if start.text == "tile":
            tile = self.tile()
            return replace(block, tile=Given(tile, self.span(start)))
        if start.text == "overlap":
            modes = self.choice("mode", OVERLAPS)
            return replace(block, overlap=Given(modes, self.span(start)))
        if start.text == "order":
            orders = self.choice("order", tuple(Order))
            return replace(block, order=Given(orders, self.span(start)))
        on_chip = self.on_chip()
        return replace(block, on_chip=Given(on_chip, self.span(start)))

    def maps(self) -> list[tuple[Given[str], Overlap]]:
        """Maps and the mode that they have."""
        names = self.list(self.layer)
        self.need(":", "a colon and a mode are expected", "write: overlap of LAYER, LAYER: recompute")
        mode, *others = self.choice("mode", OVERLAPS)
        if others:
            self.fail("what is left open need not be named", "leave this line out", self.tokens[self.at - 1])
        return [(name, mode) for name in names]

    def no_statement(self) -> NoReturn:
        if self.here.kind == "end" or self.here.text in ("stack", "cut"):
            self.fail("the stack's block is not closed", "close it with }")
        best = closest(self.here.text, _STATEMENTS)
        hint = f"did you mean '{best}'?" if best else f"known here: {listing(_STATEMENTS)}"
        self.fail("this says nothing of a stack", hint)

    def tile(self) -> tuple[int, int] | None:
        if self.word("auto"):
            return None
        token = self.take()
        match = _TILE.fullmatch(token.text)
        if match is None:
            sentence = "a tile is written as WIDTHxHEIGHT with both at least 1"
            self.fail(f"{sentence}{self.not_this(token)}", "for example: tile 60x72, or tile auto", token, "MAP043")
        return int(match[1]), int(match[2])

    @staticmethod
    def not_this(token: Token) -> str:
        return f", not '{token.text}'" if token.kind != "end" else ""

    def choice(self, what: str, words: tuple[W, ...]) -> tuple[W, ...]:
        """The word that stands here, or all of them for ``auto``."""
        token = self.here
        if self.word("auto"):
            return words
        if not self.word(*words):
            best = closest(token.text, words)
            hint = f"did you mean '{best}'?" if best else f"one of auto, {listing(words, 'or')}"
            self.fail(f"this is no {what}", hint)
        return tuple(word for word in words if word == token.text)

    def on_chip(self) -> bool:
        on = self.word("on")
        if not on and not self.word("off"):
            self.fail("'on chip' or 'off chip' is expected", _OUTPUT)
        if not self.word("chip"):
            self.fail("'chip' is expected", _OUTPUT)
        return on
