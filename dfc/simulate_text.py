"""``dfc simulate``: simulator and exact model side by side, for people."""

from __future__ import annotations

import textwrap

from dfc.backend_cost.simulate_compare import Comparison
from dfc.explain_text import MOVES
from dfc.report_table import PLAIN, WIDTH, Column, Paint, Row, clean, format_table
from dfc.units import cycles, energy


def render_comparison(found: Comparison, *, width: int = WIDTH, paint: Paint = PLAIN) -> str:
    """The comparison as text."""
    width = max(width, 40)
    work = found.simulation
    buffers = ", ".join(f"{o} in {clean(m)}" for o, m in found.double_buffered) or "none"
    lines = [
        paint.bold(clean(found.problem.what)),
        f"  simulated      {cycles(work.steps)} steps, {cycles(work.operations)} operations",
        *textwrap.wrap(f"  double buffers {buffers}", width, subsequent_indent=" " * 17),
        "",
        paint.bold("Words of the full width"),
        *format_table(*_words(found), width, paint),
        "",
        paint.bold("Cycles until"),
        *format_table(*_cycles(found), width, paint),
        "",
        *textwrap.wrap(_summary(found), width),
    ]
    return "\n".join(lines) + "\n"


def _words(found: Comparison) -> tuple[list[Column], list[Row]]:
    columns = [
        Column("memory", left=True),
        Column("", left=True),
        Column("direction", left=True),
        *map(Column, ("simulator", "exact model", "difference")),
    ]
    ordered = sorted(found.words, key=lambda w: _memory_order(found, w.memory))
    rows = [Row((clean(w.memory), w.operand, MOVES[w.move], *_numbers(w.simulated, w.modelled))) for w in ordered]
    return columns, rows


def _memory_order(found: Comparison, name: str) -> int:
    return [m.name for m in found.problem.arch.memories].index(name)


def _cycles(found: Comparison) -> tuple[list[Column], list[Row]]:
    columns = [Column("", left=True), *map(Column, ("simulator", "exact model", "difference"))]
    return columns, [Row((c.what, *_numbers(c.simulated, c.modelled))) for c in found.cycles]


def _numbers(simulated: float, modelled: float) -> tuple[str, str, str]:
    return _number(simulated), _number(modelled), _difference(simulated, modelled)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def _difference(simulated: float, modelled: float) -> str:
    """Of the model over the simulator, in percent; ``-`` for none beyond rounding."""
    if abs(modelled - simulated) <= 1e-9 * max(1.0, abs(simulated)):
        return "-"
    if not simulated:
        return f"+{_number(modelled)}"
    return f"{100 * (modelled - simulated) / simulated:+.2f} %"


def _summary(found: Comparison) -> str:
    wrong = sum(_difference(w.simulated, w.modelled) != "-" for w in found.words)
    words = "all words agree" if not wrong else f"{wrong} of {len(found.words)} counts of words differ"
    off = _difference(found.simulated_pj, found.modelled_pj)
    same = "the same" if off == "-" else f"{energy(found.modelled_pj)} ({off})"
    return f"{words}; energy {energy(found.simulated_pj)} simulated, the model says {same}"
