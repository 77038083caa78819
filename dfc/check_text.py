"""``dfc check``: what was found, for people."""

from __future__ import annotations

import textwrap

from dfc.report_table import PLAIN, WIDTH, Column, Paint, Row, bar, clean, format_table
from dfc.scheduling.check import Check
from dfc.scheduling.check_tile import Peak, Violation
from dfc.units import percent, size

#: violations that are printed; the others are counted
MOST = 20
_BAR = 16


def render_check(found: Check, *, width: int = WIDTH, paint: Paint = PLAIN) -> str:
    """The check as text."""
    width = max(width, 40)
    counted = (
        f"{_many(found.stacks, 'stack')}, {_many(found.classes, 'tile class')}, "
        f"{_many(found.layers, 'tile')} of layers, {_many(found.buffers, 'buffer')}"
    )
    lines = [
        paint.bold(f"{clean(found.name)} on {clean(found.hw)}: {_verdict(found)}"),
        *_fold("checked", counted, width),
        *_fold("for", _FOR if found.asked else _NOT_ASKED.format(clean(found.policy)), width),
        "",
        paint.bold(f"The most that is alive at once{'' if found.asked else ', at least'}, in one instance of a memory"),
        *format_table(*_peaks(found), width, paint),
    ]
    if found.violations:
        title = "What does not hold" if found.asked else "Where it would not fit"
        lines += ["", paint.bold(f"{title}, the worst first"), *_violations(found, width, paint)]
    return "\n".join(lines) + "\n"


_FOR = "room, addresses, loops, reads, copies, early copies, lives of maps, maps between stacks, caches, sums"
_NOT_ASKED = "room alone, as far as it can be told: the rules of '{}' do not ask that everything fits"


def _many(number: int, what: str) -> str:
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{number:,} {what if number == 1 else plural}"


def _verdict(found: Check) -> str:
    if found.asked:
        number = len(found.violations)
        return f"{_many(number, 'thing')} {'does' if number == 1 else 'do'} not hold" if number else "everything fits"
    return "it would not fit" if found.violations else "nothing is found that would not fit"


def _fold(label: str, text: str, width: int) -> list[str]:
    head = f"  {label:<9}  "
    return textwrap.wrap(text, width, initial_indent=head, subsequent_indent=" " * len(head))


def _peaks(found: Check) -> tuple[list[Column], list[Row]]:
    columns = [
        Column("memory", left=True),
        *map(Column, ("size", "alive", "%")),
        Column("", left=True),
        Column("in layer", left=True),
    ]
    return columns, [_peak(peak) for peak in found.peaks]


def _peak(peak: Peak) -> Row:
    share = peak.bits / peak.size_bits if peak.size_bits else 0.0
    where = f"{clean(peak.layer)}, class {peak.tile_class} of stack {peak.stack}" if peak.bits and peak.layer else ""
    drawn = f"{bar(share, _BAR):<{_BAR}}"
    return Row((clean(peak.memory), size(peak.size_bits), size(peak.bits), percent(share, 1), drawn, where))


def _violations(found: Check, width: int, paint: Paint) -> list[str]:
    lines: list[str] = []
    for violation in found.violations[:MOST]:
        text = f"{_place(violation)}{clean(violation.what)}"
        lines += textwrap.wrap(text, width, initial_indent="  - ", subsequent_indent="    ")
    if len(found.violations) > MOST:
        lines.append(f"    and {len(found.violations) - MOST:,} more")
    return [paint.warn(line) for line in lines]


def _place(violation: Violation) -> str:
    """Where it is, and by how much."""
    parts = [
        f"stack {violation.stack}" if violation.stack >= 0 else "",
        f"class {violation.tile_class}" if violation.tile_class >= 0 else "",
        clean(violation.layer),
        clean(violation.memory),
        f"{violation.over_bits:,} bits over" if violation.over_bits else "",
    ]
    found = ", ".join(filter(None, parts))
    return f"{found}: " if found else ""
