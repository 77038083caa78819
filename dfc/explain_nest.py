"""A loop nest as engineers draw it: loops from the outermost in, and beside them which memory holds each operand."""

from __future__ import annotations

from dfc.backend_cost.explain import Explanation
from dfc.backend_cost.nest import NestOperand
from dfc.ir import KERNEL_DIM, OUTPUT_DIM, Dim
from dfc.report_table import PLAIN, Column, Paint, Row, clean, format_table


def draw_nest(found: Explanation, width: int, paint: Paint = PLAIN) -> list[str]:
    """Lines of the drawing.

    In an operand's column stands the memory that holds it from the loop of that line inwards; ``|`` goes on. A
    memory that no loop is left for has a line of its own. Below stand the loops that run in space.
    """
    rows: list[Row] = []
    loops = found.mapping.loops
    for i in range(len(loops), -1, -1):
        indent = "  " * (len(loops) - i)
        for cells in _idle_rows(found, i):
            rows.append(Row((f"{indent}-", *cells)))
        if i:
            rows.append(Row((indent + _loop_text(found, i - 1), *_cells(found, i - 1))))
    rows += _parallel_rows(found, "  " * len(loops))
    return format_table([Column("loop", left=True), *(Column(n, left=True) for n in found.names)], rows, width, paint)


def _spans(found: Explanation, operand: int) -> list[tuple[int, int, str]]:
    """Per memory of an operand: its loops as [from, to), and its name."""
    cuts = found.cuts[operand]
    memories = found.nest.operands[operand].memories
    starts = (0, *cuts[:-1])
    return [(a, b, clean(found.arch.memories[m].name)) for a, b, m in zip(starts, cuts, memories, strict=True)]


def _idle_rows(found: Explanation, at: int) -> list[tuple[str, ...]]:
    """Lines for memories without a loop of their own whose cut lies below loop ``at``, from the outermost."""
    columns = [[name for a, b, name in _spans(found, o)[::-1] if a == b == at] for o in range(len(found.names))]
    height = max(map(len, columns))
    above = ["|" if at < len(found.mapping.loops) else "" for _ in columns]
    padded = [[*column, *[""] * (height - len(column))] for column in columns]
    return [tuple(column[k] or above[o] for o, column in enumerate(padded)) for k in range(height)]


def _cells(found: Explanation, loop: int) -> list[str]:
    """The memory of each operand at a loop."""
    cells: list[str] = []
    for operand in range(len(found.names)):
        name = next(name for a, b, name in _spans(found, operand) if a <= loop < b)
        first = any(b == loop + 1 and a < b for a, b, _ in _spans(found, operand))
        cells.append(name if first else "|")
    return cells


def _loop_text(found: Explanation, loop: int) -> str:
    """``for OX in 0..56 by 4``: the values that the loop adds to its index."""
    this = found.mapping.loops[loop]
    step = 1
    for u in found.nest.unrolled:
        step *= u.lanes if u.loop is this.dim else 1
    for inner in found.mapping.loops[:loop]:
        step *= inner.size if inner.dim is this.dim else 1
    return f"for {this.dim.name} in {_range(this.size, step)}"


def _range(size: int, step: int) -> str:
    return f"0..{(size - 1) * step}" + (f" by {step}" if step > 1 else "")


def _parallel_rows(found: Explanation, indent: str) -> list[Row]:
    rows: list[Row] = []
    step = dict.fromkeys(Dim, 1)
    for u in found.nest.unrolled:
        text = f"{indent}parallel {u.loop.name} in {_range(u.lanes, step[u.loop])} on {clean(u.array_dim)}"
        if u.share < u.lanes:
            text += f", {u.share:.3g} of {u.lanes} on average"
        rows.append(Row((text, *(_in_space(operand, u.loop) for operand in found.nest.operands))))
        step[u.loop] *= u.lanes
    return rows


def _in_space(operand: NestOperand, dim: Dim) -> str:
    """What the lanes of a loop have of an operand: elements of their own, the same ones, or a window's."""
    if operand.irrelevant(dim):
        return "added" if operand.is_output else "same"
    slides = any(dim in (OUTPUT_DIM[a], KERNEL_DIM[a]) for a in operand.windows)
    return "window" if slides else "own"
