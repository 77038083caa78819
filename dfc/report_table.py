"""Text tables that are never cut off: columns that do not fit stand in a further block below.

Also what makes any text fit for a terminal: names without control characters, colours, a form in plain ASCII.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: the report's width in files and where nobody says how wide the terminal is
WIDTH = 100
#: (spaces between columns, least width of the names for which such a gap is worth it): the first that fits is taken
_SPACING = ((2, 28), (1, 18))
_ASCII = str.maketrans({"µ": "u", "█": "#", "▌": "#", "…": "~"})


@dataclass(frozen=True, slots=True)
class Paint:
    """Colours for a terminal, or none."""

    colour: bool = False

    def _sgr(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text.strip() else text

    def bold(self, text: str) -> str:
        """Headings and sums."""
        return self._sgr(text, "1")

    def dim(self, text: str) -> str:
        """What matters less."""
        return self._sgr(text, "2")

    def bar(self, text: str) -> str:
        """Bars."""
        return self._sgr(text, "36")

    def warn(self, text: str) -> str:
        """What the reader should know before trusting the rest."""
        return self._sgr(text, "33")


PLAIN = Paint()


@dataclass(frozen=True, slots=True)
class Column:
    """A column: numbers stand on the right, texts on the ``left``."""

    title: str
    left: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of a row; a ``strong`` one is a sum."""

    cells: tuple[str, ...]
    strong: bool = False


def clean(text: str) -> str:
    """A name from a file without what could move a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in text)


def to_ascii(text: str) -> str:
    """The same text for a terminal that has ASCII alone."""
    return text.translate(_ASCII).encode("ascii", "backslashreplace").decode()


def shorten(text: str, width: int) -> str:
    """A name in at most ``width`` characters: the middle is left out, as names differ in their ends."""
    if len(text) <= width:
        return text
    tail = (width - 1) * 3 // 4
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def bar(share: float, width: int) -> str:
    """A horizontal bar; anything above nothing shows."""
    halves = round(max(0.0, min(1.0, share)) * 2 * width)
    if share > 0:
        halves = max(1, halves)
    return "█" * (halves // 2) + "▌" * (halves % 2)


def format_table(columns: Sequence[Column], rows: Sequence[Row], width: int, paint: Paint = PLAIN) -> list[str]:
    """Lines of a table; the first column names the rows and is repeated in every block of columns that fits.

    No line is longer than ``width``, where the first column and the widest of the others fit into it at all.
    """
    widths = [max(len(c.title), *(len(r.cells[i]) for r in rows), 0) for i, c in enumerate(columns)]
    gap, widths[0] = _spread(widths, width)
    lines: list[str] = []
    for block in _blocks(widths, width, gap):
        if lines:
            lines.append("")
        heads = Row(tuple(c.title for c in columns))
        lines.append(paint.dim(_line(columns, heads, block, widths, gap)))
        for row in rows:
            line = _line(columns, row, block, widths, gap)
            lines.append(paint.bold(line) if row.strong else line)
    return lines


def _spread(widths: Sequence[int], width: int) -> tuple[int, int]:
    """(gap, width of the first column): the airiest that puts all columns side by side, if any does."""
    for gap, least in _SPACING:
        room = width - sum(widths[1:]) - gap * (len(widths) - 1)
        if room >= min(widths[0], least):
            return gap, min(widths[0], room)
    gap, least = _SPACING[0][0], _SPACING[-1][1]
    return gap, min(widths[0], max(least, width // 3))


def _blocks(widths: Sequence[int], width: int, gap: int) -> list[list[int]]:
    """Which columns stand side by side."""
    blocks: list[list[int]] = [[0]]
    used = widths[0]
    for i in range(1, len(widths)):
        if used + gap + widths[i] > width and len(blocks[-1]) > 1:
            blocks.append([0])
            used = widths[0]
        blocks[-1].append(i)
        used += gap + widths[i]
    return blocks


def _line(columns: Sequence[Column], row: Row, block: Sequence[int], widths: Sequence[int], gap: int) -> str:
    cells: list[str] = []
    for i in block:
        text = shorten(row.cells[i], widths[i])
        cells.append(text.ljust(widths[i]) if columns[i].left else text.rjust(widths[i]))
    return (" " * gap).join(cells).rstrip()
