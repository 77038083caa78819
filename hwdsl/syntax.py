"""What the parser hands on: the page as written, every word and number with its place.

Nothing here is judged yet; :mod:`dfc.hwdsl.properties` gives the words their meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

from dfc.errors import Span


@dataclass(frozen=True, slots=True)
class Word:
    """A name or keyword."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as written with its unit, ``64 KiB``; ``unit`` is None where none is written."""

    number: Word
    unit: Word | None = None

    @property
    def span(self) -> Span:
        """From the number to the end of the unit, where both stand on one line."""
        return self.number.span if self.unit is None else join(self.number.span, self.unit.span)

    def __str__(self) -> str:
        return self.number.text if self.unit is None else f"{self.number.text} {self.unit.text}"


@dataclass(frozen=True, slots=True)
class Setting:
    """``name words quantities``: ``holds I, O``, ``size 64 KiB``, ``min read 64 b``."""

    name: Word
    words: tuple[Word, ...]
    quantities: tuple[Quantity, ...]


@dataclass(frozen=True, slots=True)
class Crossing:
    """A role and a direction: ``O read up``."""

    role: Word
    verb: Word
    way: Word


@dataclass(frozen=True, slots=True)
class PortRule:
    """``port r2: O read up, I read down``."""

    port: Word
    crossings: tuple[Crossing, ...]


@dataclass(frozen=True, slots=True)
class MemoryDecl:
    """``memory NAME { ... }``."""

    name: Word
    settings: tuple[Setting, ...]
    rules: tuple[PortRule, ...]


@dataclass(frozen=True, slots=True)
class DimDecl:
    """``D1: 32`` in ``dims``."""

    name: Word
    size: Quantity


@dataclass(frozen=True, slots=True)
class MacDecl:
    """``mac 8 b x 8 b -> 16 b -> 8 b, 0.04 pJ``; ``results`` are what stands after the arrows."""

    keyword: Word
    input: Quantity
    weight: Quantity
    results: tuple[Quantity, ...]
    energy: Quantity


@dataclass(frozen=True, slots=True)
class OpDecl:
    """``op 0.04 pJ``: the energy of an addition or comparison."""

    keyword: Word
    energy: Quantity


@dataclass(frozen=True, slots=True)
class SlotDecl:
    """``D1: K/16`` in ``unroll``."""

    array_dim: Word
    loop: Word
    width: Quantity | None


@dataclass(frozen=True, slots=True)
class UnrollDecl:
    """``unroll KIND slots``, or ``unroll KIND none`` with that word in ``instead``."""

    kind: Word
    slots: tuple[SlotDecl, ...]
    instead: Word | None = None


@dataclass(frozen=True, slots=True)
class ArrayDecl:
    """``array { ... }``."""

    keyword: Word
    dims: tuple[DimDecl, ...]
    macs: tuple[MacDecl, ...]
    ops: tuple[OpDecl, ...]
    unrolls: tuple[UnrollDecl, ...]
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class PathDecl:
    """``path ROLE: array <- inner <- outer``; ``nodes[0]`` should be the array."""

    role: Word
    nodes: tuple[Word, ...]
    arrows: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class AcceleratorDecl:
    """``accelerator NAME [extends BASE] { ... }``."""

    name: Word
    base: Word | None
    arrays: tuple[ArrayDecl, ...]
    memories: tuple[MemoryDecl, ...]
    paths: tuple[PathDecl, ...]
    removed: tuple[Word, ...]
    notes: tuple[str, ...]
    settings: tuple[Setting, ...]


def join(first: Span, last: Span) -> Span:
    """The stretch from the start of ``first`` to the end of ``last``; ``first`` alone if the lines differ."""
    if first.line != last.line:
        return first
    length = last.column + last.length - first.column
    return Span(first.file, first.line, first.column, length, first.text)
