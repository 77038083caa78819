"""``dfc verify``: what was executed and what was found, for people."""

from __future__ import annotations

import textwrap

from dfc.execution.fault import Finding
from dfc.execution.verification import FLOAT_TOLERANCE, Compared, Verification
from dfc.report_table import PLAIN, WIDTH, Column, Paint, Row, clean, format_table
from dfc.units import percent, size

#: maps that are listed by name; of more than these the others are counted
_MOST = 12


def render_verification(found: Verification, *, width: int = WIDTH, paint: Paint = PLAIN) -> str:
    """The verification as text."""
    width = max(width, 40)
    lines = [
        paint.bold(f"{clean(found.name)} on {clean(found.hw)}: {_verdict(found)}"),
        *_fold("executed", _executed(found), width),
        *_fold("inputs", clean(found.inputs), width),
        *(_fold("outputs", found.outputs, width) if found.outputs else ()),
    ]
    if found.compared:
        lines += ["", paint.bold("Compared with ONNX Runtime"), *_compared(found, width, paint)]
    if found.claims:
        lines += ["", paint.bold("Counted again"), *_claims(found, width, paint)]
    if found.peaks and found.claims:
        lines += ["", paint.bold("The most that was taken at once"), *_peaks(found, width, paint)]
    for finding in found.findings:
        lines += ["", *_finding(finding, width, paint)]
    return "\n".join(lines) + "\n"


def _verdict(found: Verification) -> str:
    if found.findings:
        return "it does not compute the network as it says"
    return "as far as it was executed, it computes the network" if found.sampled else "it computes the network"


def _executed(found: Verification) -> str:
    stacks = f"{found.stacks:,} {'stack' if found.stacks == 1 else 'stacks'}"
    tiles = f"{found.tiles:,} {'tile' if found.tiles == 1 else 'tiles'}"
    if found.steps is not None:
        ran, warm_up = found.steps
        steps = f"{ran:,} {'step' if ran == 1 else 'steps'}"
        if found.sampled is not None:
            return f"{steps} of {stacks}, {tiles}: a sample, each from what ONNX Runtime says that steps before left"
        return f"{steps} of {stacks}, {tiles}; outputs are valid after {warm_up:,}"
    if found.sampled is None:
        return f"{stacks}, {tiles}"
    ran, there = found.sampled
    return f"{stacks}, {tiles}: a sample of {ran:,} of {there:,} rows of tiles"


def _fold(label: str, text: str, width: int) -> list[str]:
    head = f"  {label:<9}  "
    return textwrap.wrap(text, width, initial_indent=head, subsequent_indent=" " * len(head))


def _compared(found: Verification, width: int, paint: Paint) -> list[str]:
    columns = [Column("feature map", left=True), *map(Column, ("elements", "largest difference", "allowed"))]
    by_name: dict[str, Compared] = {}
    for one in found.compared:
        known = by_name.get(one.tensor)
        more = (known.elements, known.worst) if known else (0, 0.0)
        elements, worst = one.elements + more[0], max(one.worst, more[1])
        by_name[one.tensor] = Compared(one.tensor, elements, worst, one.range, one.exact)
    shown = sorted(by_name.values(), key=lambda c: -(c.worst / c.range if c.range else c.worst))[:_MOST]
    rows = [Row((clean(c.tensor), f"{c.elements:,}", *_differences(c))) for c in shown]
    lines = format_table(columns, rows, width, paint)
    if len(by_name) > len(shown):
        lines.append(f"  and {len(by_name) - len(shown):,} more, none further apart")
    return lines


def _differences(one: Compared) -> tuple[str, str]:
    if one.exact:
        return f"{one.worst:g}", "0"
    return f"{one.worst:.2g}", f"{FLOAT_TOLERANCE * one.range:.2g}"


def _claims(found: Verification, width: int, paint: Paint) -> list[str]:
    columns = [Column("", left=True), *map(Column, ("by the file", "counted"))]
    shown = [c for c in found.claims if "'" not in c.what or not c.holds]
    return format_table(columns, [Row((c.what, f"{c.claimed:,}", f"{c.counted:,}")) for c in shown], width, paint)


def _peaks(found: Verification, width: int, paint: Paint) -> list[str]:
    columns = [Column("memory", left=True), *map(Column, ("size", "taken", "%"))]
    rows = [
        Row((clean(p.memory), size(p.size_bits), size(p.bits), percent(p.bits / p.size_bits if p.size_bits else 0, 1)))
        for p in found.peaks
    ]
    return format_table(columns, rows, width, paint)


def _finding(finding: Finding, width: int, paint: Paint) -> list[str]:
    where = str(finding.where)
    lines = textwrap.wrap(
        f"{clean(where)}: {clean(finding.what)}" if where else clean(finding.what),
        width,
        initial_indent="  - ",
        subsequent_indent="    ",
    )
    for label, text in (("first", finding.element), ("likely", finding.cause)):
        if text:
            head = f"    {label:<7}"
            lines += textwrap.wrap(clean(text), width, initial_indent=head, subsequent_indent=" " * len(head))
    return [paint.warn(line) for line in lines]
