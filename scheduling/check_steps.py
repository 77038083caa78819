"""A step over time: what stays from step to step is found again as it was left, and the figures of a step add up.

All stacks run in every step. So what stays has a place of its own beside all that any stack keeps (``check.py`` proves
that, given :func:`others`), a cache that a step finds filled stays, and weights come in every step or stay.
"""

from __future__ import annotations

from collections.abc import Iterator

from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.schedule import BufferEntry, Schedule, StackEntry, StepInfo
from dfc.scheduling.check_tile import Violation

#: what may stay from step to step
_STAY = ("H cache", "V cache", "weights", "map")
#: sums of energies in another order differ by rounding
_SAME = 1e-9


def others(schedule: Schedule, number: int) -> tuple[BufferEntry, ...]:
    """What other stacks keep from step to step while this one runs; a map between two of them is the same in both."""
    own = {b for b in schedule.stacks[number].buffers if b.what == "map"}
    there = (b for n, stack in enumerate(schedule.stacks) if n != number for b in stack.buffers if b.steps)
    return tuple(dict.fromkeys(b for b in there if b not in own))


def check_steps(schedule: Schedule, outside: str) -> Iterator[Violation]:
    """All of it; of a schedule that is no step, that nothing stays."""
    for number, stack in enumerate(schedule.stacks):
        for index, tile in enumerate(stack.tile_classes):
            for b in tile.buffers:
                if b.steps:
                    what = f"{b.what} '{b.name}' is of a tile, and is said to stay from step to step"
                    yield Violation(what, b.bits, number, index, memory=b.memory)
        for b in stack.buffers:
            if b.steps and (schedule.step is None or b.what not in _STAY):
                yield Violation(f"{b.what} '{b.name}' cannot stay from step to step", b.bits, number, memory=b.memory)
            if b.what == "weights":
                yield from _brought(stack, number, b, outside)
        if schedule.step is not None:
            yield from _rings(stack, number, schedule.step)
    if schedule.step is not None:
        yield from _figures(schedule, schedule.step)


def _brought(stack: StackEntry, number: int, b: BufferEntry, outside: str) -> Iterator[Violation]:
    """Weights that stay for the stack come with its first tile, unless they have stayed since an earlier step."""
    copied = 0
    for tile in stack.tile_classes:
        copies = [c for run in tile.layers for c in run.copies if (c.what, c.tensor) == ("weights", b.name)]
        bits = sum(c.bits for c in copies if (c.source, c.target) == (outside, b.memory))
        copied += bits * tile.first
        if copies and (b.steps or not tile.first):
            yield Violation(f"weights of '{b.name}' stay, and are brought again", bits, number, memory=b.memory)
    if not b.steps and copied < b.bits:
        what = f"of {b.bits:,} bits of weights of '{b.name}' the first tile brings {copied:,}"
        yield Violation(what, b.bits - copied, number, memory=b.memory)


def _rings(stack: StackEntry, number: int, step: StepInfo) -> Iterator[Violation]:
    """Tiles along time are walked last; what they find there of a map was left in a cache that stays."""
    axis = "xy".index(step.axis) if step.axis in ("x", "y") else None
    if axis is None:
        return
    if stack.order != ("columns", "rows")[axis]:
        yield Violation("tiles follow each other along time first", 0, number)
    cache = ("H cache", "V cache")[axis]
    found = {
        made.tensor for tile in stack.tile_classes for run in tile.layers for made in run.makes if made.left[axis] > 0
    }
    for b in stack.buffers:
        if b.what == cache and not b.steps:
            yield Violation(f"{cache} of '{b.name}' does not stay from step to step", b.bits, number, memory=b.memory)
        if b.what == "map" and not b.steps:
            yield Violation(f"'{b.name}' does not stay from step to step", b.bits, number, memory=b.memory)
    kept = {b.name for b in stack.buffers if b.what in (cache, "map") and b.steps}
    for name in sorted(found - kept):
        yield Violation(f"the past of '{name}' is read, and nothing keeps it", 0, number)


def _figures(schedule: Schedule, step: StepInfo) -> Iterator[Violation]:
    """What stays sums up, and what frames cost on average, and time, are those of the totals."""
    stay = list(dict.fromkeys(b for stack in schedule.stacks for b in stack.buffers if b.steps))
    weights = sum(b.bits for b in stay if b.what == "weights")
    for what, found, said in (
        ("ring buffers", sum(b.bits for b in stay) - weights, step.ring_bits),
        ("resident weights", weights, step.weight_bits),
    ):
        if found != said:
            yield Violation(f"{what} are {found:,} bits, the file says {said:,}", abs(found - said))
    steps = -(-step.counted_frames // max(1, step.frames))
    totals = schedule.totals
    spent = step.first_energy_pj + steps * totals.energy_pj, step.first_cycles + steps * totals.latency_cycles
    amortised = step.amortised_energy_pj, step.amortised_cycles
    for what, all_of_them, one in zip(("energy is", "cycles are"), spent, amortised, strict=True):
        mean = all_of_them / max(1, step.counted_frames)
        if abs(mean - one) > _SAME * max(1.0, abs(mean)):
            yield Violation(f"over {step.counted_frames:,} frames a frame's {what} {mean:,.12g}, not {one:,.12g}")
    yield from _tried(schedule, step)
    if step.deadline is not None and step.deadline.takes_s != totals.time_s:
        yield Violation("the time that the deadline allows for is compared with another time than the step's")


def _tried(schedule: Schedule, step: StepInfo) -> Iterator[Violation]:
    """Of the numbers of frames per step that were tried this is one, and none is better, per frame."""
    if not step.tried:
        return
    totals, objective = schedule.totals, Objective(schedule.objective)
    mine = totals.energy_pj, totals.latency_cycles, step.ring_bits, step.weight_bits, step.frames - step.hop_frames
    met = step.deadline is None or step.deadline.met
    found = [one for one in step.tried if one.frames == step.frames]
    said = [(t.energy_pj, t.latency_cycles, t.ring_bits, t.weight_bits, t.waiting_frames) for t in found]
    if said != [mine] or found[0].met != met:
        yield Violation(f"of steps of {step.frames} frames, the table of all that were tried says something else")
    score = objective.of(totals.energy_pj / step.frames, totals.latency_cycles / step.frames)
    for one in step.tried:
        better = objective.of(one.energy_pj / one.frames, one.latency_cycles / one.frames) < score * (1 - _SAME)
        if (one.met and not met) or (better and one.met and met):
            yield Violation(f"a step of {one.frames} frames is better than one of {step.frames}, which was taken")
