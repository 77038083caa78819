"""The part of the report that is about steps of a network over time: what stays, the first step, the deadline."""

from __future__ import annotations

from collections.abc import Sequence

from dfc.backend_cost.schedule import Deadline, Schedule, StepInfo
from dfc.report_table import Column, Row, clean
from dfc.units import cycles, energy, factor, seconds, size


def step_lines(schedule: Schedule, step: StepInfo) -> list[tuple[str, str, bool]]:
    """Label, sentence, and whether it is a warning."""
    totals = schedule.totals
    first = energy(step.first_energy_pj), cycles(step.first_cycles)
    each = energy(totals.energy_pj / step.frames), cycles(round(totals.latency_cycles / step.frames))
    mean = energy(step.amortised_energy_pj), cycles(round(step.amortised_cycles))
    waits = f", of which the first waits {_many(step.frames - step.hop_frames, 'frame')} for the last"
    more = f"; {step.windows} windows{waits}" if step.windows > 1 else ""
    along = f" along {step.axis}" if step.axis else ", of which nothing is kept"
    lines = [
        ("step", f"{_many(step.frames, 'new frame')}{along}{more}; {step.form} form", False),
        (
            "window",
            f"{_many(step.window_frames, 'frame')}, hop {step.hop_frames}, padding {_PADDING[step.padding]}",
            False,
        ),
        ("steady", f"{energy(totals.energy_pj)} and {cycles(totals.latency_cycles)} cycles per step", False),
    ]
    if step.frames > 1:
        lines.append(("", f"{each[0]} and {each[1]} cycles per frame", False))
    loads = "nothing is loaded once" if not step.first_cycles else f"{first[0]} and {first[1]} cycles more, for weights"
    lines += [
        ("first step", loads, False),
        ("warm-up", _warm_up(schedule, step), False),
        ("amortised", f"{mean[0]} and {mean[1]} cycles per frame over {_many(step.counted_frames, 'frame')}", False),
        ("kept", f"{size(step.ring_bits)} of the past in ring buffers, {size(step.weight_bits)} of weights", False),
    ]
    return lines if step.deadline is None else [*lines, ("deadline", _deadline(step.deadline), not step.deadline.met)]


_PADDING = {"exact": "exact", "stream": "left away: results differ from those of single windows"}


def _many(number: int, what: str) -> str:
    return f"{number:,} {what if number == 1 else what + 's'}"


def _warm_up(schedule: Schedule, step: StepInfo) -> str:
    totals, steps = schedule.totals, step.warm_up_steps
    spent = (
        energy(step.first_energy_pj + steps * totals.energy_pj),
        cycles(step.first_cycles + steps * totals.latency_cycles),
    )
    late = f"; outputs are {_many(step.latency_frames, 'frame')} late" if step.latency_frames else ""
    if not steps:
        return f"outputs are valid from the first step on{late}"
    return f"{_many(steps, 'step')} before outputs are valid: {spent[0]} and {spent[1]} cycles{late}"


def _deadline(deadline: Deadline) -> str:
    allowed, takes = seconds(deadline.step_s), seconds(deadline.takes_s)
    text = f"{clean(deadline.asked)}: {allowed} per step, it takes {takes}"
    if deadline.met:
        times = factor(deadline.step_s / deadline.takes_s) if deadline.takes_s else "any number of times"
        return f"{text}; met, {seconds(deadline.step_s - deadline.takes_s)} to spare, {times} fast enough"
    return f"{text}; MISSED by {seconds(deadline.takes_s - deadline.step_s)}"


def ring_table(schedule: Schedule) -> tuple[list[Column], Sequence[Row]]:
    """The ring buffers: where they lie, and how many positions of the past and the present they hold."""
    columns = [Column("map", left=True), Column("in", left=True), *map(Column, ("lines", "size", "at", "stack"))]
    rows = [
        Row((clean(b.name), clean(b.memory), str(b.lines), size(b.bits, 3), f"{b.address_bits:,}", str(number)))
        for number, stack in enumerate(schedule.stacks)
        for b in stack.buffers
        if b.steps and b.lines
    ]
    return columns, rows


def frames_table(schedule: Schedule, step: StepInfo) -> tuple[list[Column], Sequence[Row]]:
    """The numbers of frames per step that were tried, with what each costs per frame; none where one was asked for."""
    titles = ["energy per frame", "cycles per frame", "EDP per frame", "kept", "waits"]
    columns = [Column("frames per step", left=True), *map(Column, titles)]
    if step.deadline is not None:
        columns.append(Column("deadline"))
    rows: list[Row] = []
    for one in step.tried:
        best = one.frames == step.frames
        each_pj, each_cycles = one.energy_pj / one.frames, one.latency_cycles / one.frames
        edp = f"{each_pj * 1e-12 * each_cycles / schedule.hw.clock_hz:.4g} J s"
        cells = [f"{one.frames:,}{' (best)' if best else ''}", energy(each_pj), cycles(round(each_cycles)), edp]
        cells += [size(one.ring_bits + one.weight_bits, 3), _many(one.waiting_frames, "frame")]
        met = ["met" if one.met else "MISSED"] * (step.deadline is not None)
        rows.append(Row((*cells, *met), strong=best))
    return columns, rows
