"""The report of a schedule for people: what it costs, what dominates, stack by stack and layer by layer."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from dfc.backend_cost.schedule import Coverage, Schedule, StackEntry
from dfc.report_layers import energy_table, time_table
from dfc.report_step import frames_table, ring_table, step_lines
from dfc.report_table import PLAIN, WIDTH, Column, Paint, Row, bar, clean, format_table, shorten
from dfc.units import (
    count,
    cycles,
    energy,
    energy_unit,
    factor,
    frequency,
    percent,
    seconds,
    size,
)

_LABEL = 13
_BAR = 40
_LEAST_BAR = 8
_NAMED = 8  # opaque operators that are named one by one


def render(schedule: Schedule, *, width: int = WIDTH, layers: bool = True, paint: Paint = PLAIN) -> str:
    """The report as text.

    Args:
        schedule: what to report.
        width: columns of the terminal; tables and sentences are broken to fit, down to about 40.
        layers: whether the tables have a line per layer, or per stack alone.
        paint: colours, none by default.
    """
    width = max(width, 40)
    lines = [*_head(schedule, width, paint), *_totals(schedule, width, paint)]
    lines += _every_step(schedule, width, paint)
    lines += _baselines(schedule, width, paint)
    lines += _energy(schedule, width, paint)
    lines += _time(schedule, width, paint)
    lines += _stacks(schedule, width, paint)
    lines += _section("Time, in % of the row's cycles, and DRAM traffic", width, paint)
    lines += format_table(*time_table(schedule, layers=layers), width, paint)
    lines += _section("Energy, in % of the row's energy: by memory, and again by operand", width, paint)
    lines += format_table(*energy_table(schedule, layers=layers), width, paint)
    lines += _notes(schedule.notes, width, paint)
    return "\n".join(lines) + "\n"


def _section(title: str, width: int, paint: Paint) -> list[str]:
    return ["", *(paint.bold(line) for line in textwrap.wrap(title, width))]


def _fold(label: str, text: str, width: int) -> list[str]:
    """A labelled sentence, continued under itself."""
    indent = " " * (_LABEL + 2)
    return textwrap.wrap(
        text, width, initial_indent=f"  {label:<{_LABEL}}", subsequent_indent=indent, break_on_hyphens=False
    )


def _head(schedule: Schedule, width: int, paint: Paint) -> list[str]:
    hw = schedule.hw
    title = f"{clean(schedule.model.name or schedule.model.file)} on {clean(hw.name)}"
    inputs = ", ".join(f"{clean(t.name)} {'x'.join(map(str, t.shape)) or 'scalar'}" for t in schedule.model.inputs)
    lines = [paint.bold(shorten(title, width))]
    lines += _fold("model", f"{clean(schedule.model.file)}, inputs {inputs}", width)
    precision = f"{hw.input_bits}-bit inputs, {hw.weight_bits}-bit weights, {hw.output_bits}-bit outputs"
    lines += _fold("hardware", f"{hw.units:,} operations per cycle at {frequency(hw.clock_hz)}, {precision}", width)
    lines += _fold("optimised", f"for {schedule.objective}, by cost model '{schedule.cost_model}'", width)
    if not schedule.complete:
        note = "the search was interrupted: this is the best schedule found until then"
        lines += [paint.warn(line) for line in _fold("INCOMPLETE", note, width)]
    return lines


def _totals(schedule: Schedule, width: int, paint: Paint) -> list[str]:
    totals, base = schedule.totals, schedule.layer_by_layer
    lines = _section("Totals", width, paint)
    took = f"{cycles(totals.latency_cycles)} cycles = {seconds(totals.time_s)}"
    if base is None:
        lines += _fold("energy", energy(totals.energy_pj), width) + _fold("latency", took, width)
        if schedule.step is None:
            lines += _fold("", "(layer by layer does not fit this chip, so no gain can be stated)", width)
    else:
        gain = _gain(base.energy_gain, "less", "more")
        lines += _fold("energy", f"{energy(totals.energy_pj)}, {gain} ({energy(base.energy_pj)})", width)
        gain = _gain(base.latency_gain, "faster", "slower")
        lines += _fold("latency", f"{took}, {gain} ({cycles(base.latency_cycles)})", width)
        gain = _gain(base.energy_gain * base.latency_gain, "less", "more")
        lines += _fold("EDP", f"{totals.energy_pj * 1e-12 * totals.time_s:.4g} J s, {gain}", width)
    lines += _fold("MACs", _macs(schedule), width)
    lines += _fold("utilisation", f"{percent(totals.utilisation, 1)} % of the array", width)
    traffic = f"{size(totals.dram_read_bits)} read, {size(totals.dram_write_bits)} written"
    lines += _fold("DRAM", traffic, width)
    covered = _fold("coverage", _coverage(schedule.coverage), width)
    return lines + ([paint.warn(line) for line in covered] if schedule.coverage.opaque else covered)


def _gain(times: float, better: str, worse: str) -> str:
    if round(times, 3) == 1 or times <= 0:
        return "the same as layer by layer"
    ratio = max(times, 1 / times)
    much = factor(ratio) if ratio >= 1.005 else f"{100 * (ratio - 1):.1f} %"  # 1.00x would say nothing
    return f"{much} {better if times > 1 else worse} than layer by layer"


def _every_step(schedule: Schedule, width: int, paint: Paint) -> list[str]:
    """What is known of steps of a network over time; all other numbers are of one in the steady state."""
    if schedule.step is None:
        return []
    lines = _section("Every step, in the steady state", width, paint)
    for label, text, warning in step_lines(schedule, schedule.step):
        folded = _fold(label, text, width)
        lines += [paint.warn(line) for line in folded] if warning else folded
    if schedule.step.tried:
        lines += _section(
            "Frames per step: all numbers that were tried, and what a frame costs with them", width, paint
        )
        columns, rows = frames_table(schedule, schedule.step)
        lines += format_table(columns, list(rows), width, paint)
    columns, rows = ring_table(schedule)
    if rows:
        lines += _section("Ring buffers: positions of the past that stay from step to step", width, paint)
        lines += format_table(columns, list(rows), width, paint)
    return lines


def _baselines(schedule: Schedule, width: int, paint: Paint) -> list[str]:
    """What simpler ways to run the network cost, and how many times more that is."""
    if not schedule.baselines:
        return []
    totals = schedule.totals
    columns = [Column("how", left=True), *map(Column, ("energy", "gain", "cycles", "gain", "EDP gain"))]
    rows = [Row(("this schedule", energy(totals.energy_pj), "-", cycles(totals.latency_cycles), "-", "-"))]
    for base in schedule.baselines:
        size = f", {_extents(base.tile)} {base.overlap}" if base.tile else ""
        gains = base.energy_gain, base.latency_gain, base.energy_gain * base.latency_gain
        in_energy, in_time, in_both = map(factor, gains)
        cells = energy(base.energy_pj), in_energy, cycles(base.latency_cycles), in_time, in_both
        rows.append(Row((clean(f"{base.name}{size}"), *cells)))
    title = "Against simpler schedules; a gain is how many times more they take"
    return [*_section(title, width, paint), *format_table(columns, rows, width, paint)]


def _macs(schedule: Schedule) -> str:
    totals = schedule.totals
    again = totals.macs - totals.network_macs
    if again <= 0 or not totals.network_macs:
        return count(totals.macs)
    return f"{count(totals.macs)}, of which {count(again)} recompute overlap of tiles"


def _coverage(coverage: Coverage) -> str:
    known = "the known " if coverage.opaque else ""
    text = (
        f"{coverage.modelled_layers} of {coverage.layers} layers are modelled: "
        f"{100 * coverage.macs_share:.4g} % of {known}MACs, {100 * coverage.bytes_share:.4g} % of bytes"
    )
    if not coverage.opaque:
        return text
    more = len(coverage.opaque) - _NAMED
    names = [clean(name) for name in coverage.opaque[:_NAMED]] + ([f"{more} more"] if more > 0 else [])
    return f"{text}; of these (marked ~) only the traffic is counted: {', '.join(names)}"


def _energy(schedule: Schedule, width: int, paint: Paint) -> list[str]:
    """What dominates, largest first: memories and the array; then the same by operand."""
    totals = schedule.totals
    holds = {m.name: "holds " + " ".join(m.holds) for m in schedule.hw.memories}
    named = [("array", totals.compute_energy_pj), *totals.energy_by_memory_pj.items()]
    parts = [_Part(clean(name), pj, energy(pj), clean(holds.get(name, "computes"))) for name, pj in named]
    lines = _section("Where the energy goes", width, paint)
    lines += _bars(parts, totals.energy_pj, width, paint)
    by = [f"{clean(k)} {percent(v, totals.energy_pj)} %" for k, v in totals.energy_by_operand_pj.items()]
    copies = f"; {percent(totals.copy_energy_pj, totals.energy_pj)} % of all is copies between layers"
    return [*lines, *_fold("by operand", ", ".join(by) + copies, width)]


def _time(schedule: Schedule, width: int, paint: Paint) -> list[str]:
    latency = schedule.totals.latency
    parts = [
        _Part("compute", latency.compute, cycles(latency.compute), "the array works"),
        _Part("stall", latency.stall, cycles(latency.stall), "it waits for a memory's port"),
        _Part("load", latency.load, cycles(latency.load), "memories fill before a layer starts"),
        _Part("copy", latency.copy, cycles(latency.copy), "feature maps move between layers"),
    ]
    lines = _section("Where the time goes", width, paint)
    lines += _bars(parts, schedule.totals.latency_cycles, width, paint)
    hidden = schedule.totals.hidden_cycles
    if hidden:
        share = percent(hidden, schedule.totals.latency_cycles + hidden)
        lines += _fold("beside", f"copies beside compute hide {cycles(hidden)} cycles, {share} %", width)
    return lines


@dataclass(frozen=True, slots=True)
class _Part:
    """One bar: ``number`` is the value as it is written, ``about`` says what it is."""

    name: str
    value: float
    number: str
    about: str


def _bars(parts: Sequence[_Part], whole: float, width: int, paint: Paint) -> list[str]:
    """A line per part that is not nothing, the largest first; explanations only where there is room for all."""
    shown = sorted((p for p in parts if p.value), key=lambda p: -p.value)
    if not shown or not whole:
        return []
    label = max(_LABEL - 2, *(min(len(p.name), 20) for p in shown))
    number = max(len(p.number) for p in shown)
    about = max(len(p.about) for p in shown) + 2
    room = width - (2 + label + 2 + 5 + 2 + number + 2)
    if room - about < _LEAST_BAR:
        about = 0
    length = max(1, min(_BAR, room - about))
    lines: list[str] = []
    for part in shown:
        head = f"  {shorten(part.name, label):<{label}}  {percent(part.value, whole):>5}  {part.number:>{number}}"
        drawn = paint.bar(f"{bar(part.value / whole, length):<{length}}")
        lines.append(f"{head}  {drawn}  {part.about}" if about else f"{head}  {drawn}".rstrip())
    return lines


def _stacks(schedule: Schedule, width: int, paint: Paint) -> list[str]:
    """How each stack runs and where it keeps what; then what that costs and gains."""
    stacks = list(enumerate(schedule.stacks))
    scale, unit = energy_unit(max((s.energy_pj for s in schedule.stacks), default=0.0))
    name = Column("stack", left=True)
    how = [
        name,
        Column("n"),
        Column("overlap", left=True),
        *map(Column, ("tile", "map", "tiles", "weights")),
        Column("in", left=True),
        Column("H/V cache", left=True),
    ]
    costs = [name, *map(Column, (unit, "gain", "cycles", "gain", "DRAM rd", "DRAM wr"))]
    return [
        *_section("Stacks: how they run", width, paint),
        *format_table(how, [Row(_how(i, s)) for i, s in stacks], width, paint),
        *(line for i, s in stacks for line in _mixture(i, s, width)),
        *_section("Stacks: what they cost; gains are over one tile per stack, layer by layer", width, paint),
        *format_table(costs, [Row(_costs(i, s, scale)) for i, s in stacks], width, paint),
        *_handed(schedule.stacks, width, paint),
    ]


def _handed(stacks: Sequence[StackEntry], width: int, paint: Paint) -> list[str]:
    """Maps that never leave the chip, though they pass from one stack to the next."""
    columns = [Column("map", left=True), Column("in", left=True), *map(Column, ("from", "to", "size"))]
    maps = [{b.name: b for b in stack.buffers if b.what == "map"} for stack in stacks]
    rows = [
        Row((clean(name), clean(b.memory), f"stack {number}", f"stack {number + 1}", size(b.bits, 3)))
        for number, (here, there) in enumerate(pairwise(maps))
        for name, b in here.items()
        if name in there
    ]
    if not rows:
        return []
    title = "Maps that stay on chip between stacks: neither written to DRAM nor read back"
    return [*_section(title, width, paint), *format_table(columns, rows, width, paint)]


def _how(index: int, stack: StackEntry) -> tuple[str, ...]:
    return (
        _stack_name(index, stack),
        str(len(stack.layers)),
        _overlap(stack),
        _extents(stack.tile),
        _extents(stack.map),
        cycles(stack.tiles),
        size(stack.weight_bits, 3) if stack.weight_bits else "-",
        (clean(stack.weight_memory) or "-") if stack.weight_bits else "-",
        _caches(stack),
    )


def _overlap(stack: StackEntry) -> str:
    """What happens to overlap, and whether tiles go down the columns first."""
    if stack.tiles == 1:
        return "-"
    return f"{clean(stack.overlap)}{' by columns' if stack.order == 'columns' else ''}"


def _mixture(index: int, stack: StackEntry, width: int) -> list[str]:
    """The modes of the maps of a stack that differ from what most of them have."""
    if not stack.overlap_by_map:
        return []
    modes = list(stack.overlap_by_map.values())
    usual = max(dict.fromkeys(modes), key=modes.count)
    others = [f"{clean(name)} {clean(mode)}" for name, mode in stack.overlap_by_map.items() if mode != usual]
    text = f"mixed in stack {index}: {', '.join(others)}; all other maps {clean(usual)}"
    return textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _caches(stack: StackEntry) -> str:
    """Where overlap along rows and columns is kept; along an axis that the tile spans there is none to keep.

    None is kept either where nothing overlaps, or where whole maps stay on chip.
    """
    modes = {stack.overlap, *stack.overlap_by_map.values()}
    keeps_h = stack.tile[0] < stack.map[0] and bool(modes & {"cached", "h-cached"})
    keeps_v = stack.tile[1] < stack.map[1] and bool(modes & {"cached", "v-cached"})
    h, v = (clean(name) or "-" for name in (stack.h_cache_memory * keeps_h, stack.v_cache_memory * keeps_v))
    return "-" if h == v == "-" else f"{h}/{v}"


def _costs(index: int, stack: StackEntry, scale: float) -> tuple[str, ...]:
    base = stack.layer_by_layer
    return (
        _stack_name(index, stack),
        f"{stack.energy_pj / scale:,.2f}",
        factor(base.energy_gain) if base else "-",
        cycles(stack.latency_cycles),
        factor(base.latency_gain) if base else "-",
        size(stack.dram_read_bits, 3),
        size(stack.dram_write_bits, 3),
    )


def _stack_name(index: int, stack: StackEntry) -> str:
    return f"{index} {_range(stack.layers)}"


def _range(names: Sequence[str]) -> str:
    if not names:
        return "-"
    return clean(names[0]) if len(names) == 1 else f"{clean(names[0])} .. {clean(names[-1])}"


def _extents(extents: tuple[int, int]) -> str:
    return "x".join(map(str, extents)) if prod(extents) else "-"


def _notes(notes: Sequence[str], width: int, paint: Paint) -> list[str]:
    if not notes:
        return []
    lines = _section("Notes", width, paint)
    for note in notes:
        lines += textwrap.wrap(clean(note), width, initial_indent="  - ", subsequent_indent="    ")
    return lines
