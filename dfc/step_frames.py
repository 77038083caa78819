"""How many new frames a step takes: which numbers are tried, and the best schedule of them, per frame.

More frames per step share out what a step costs whatever it takes: weights that are read once, ramps of pipelines. They
also keep and pass on larger maps, and windows that are due early wait for the last. All layers of a network share the
number; how many frames a range of layers takes at once inside of a step is the tile of its stack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.schedule import FramesTried, Schedule, StepInfo
from dfc.errors import InfeasibleError, UsageError

#: by what share energy or time per frame must fall for ever more frames to be tried
WORTH = 0.05


@dataclass(frozen=True, slots=True)
class FramesWish:
    """Which numbers of frames per step to try; ``while_better``: no more of them once they do not pay."""

    numbers: tuple[int, ...]
    while_better: bool = False


def best_frames(wish: FramesWish, compiled: Callable[[int], Schedule]) -> Schedule:
    """The best schedule per frame; of those that keep the deadline, where any does.

    ``while_better`` ends where neither energy nor time per frame falls any more, by as much as :data:`WORTH`, where a
    step does not fit, and where windows cannot share a step.

    compiled: the schedule of a step of so many frames. After Ctrl-C no more are tried, and the best is not complete.

    Raises:
        InfeasibleError: MAP001 where none fits.
        UsageError: what ``compiled`` raises.
    """
    if len(wish.numbers) == 1 and not wish.while_better:
        return compiled(wish.numbers[0])
    tried: list[Schedule] = []
    notes: list[str] = []
    why: InfeasibleError | None = None
    complete = True
    for frames in wish.numbers:
        try:
            tried.append(compiled(frames))
            complete = tried[-1].complete
        except KeyboardInterrupt:
            if not tried:
                raise
            complete = False
        except InfeasibleError as error:
            why = why or error
            notes.append(f"a step of {frames} frames does not fit")
        except UsageError as error:
            if not (wish.while_better and tried and error.code == "CLI102"):
                raise
            notes.append(f"steps take {_step(tried[-1]).frames} frames at most: {error.message}")
            break
        if not complete or (wish.while_better and (why is not None or not _falls(tried))):
            break
    if not tried:
        assert why is not None
        raise why
    best = min(tried, key=_rank)
    step = replace(_step(best), tried=tuple(map(_entry, tried)))
    return replace(best, step=step, complete=complete, notes=(*best.notes, *notes))


def _falls(tried: list[Schedule]) -> bool:
    """Whether the last costs clearly less of anything per frame than all before."""
    if len(tried) < 2:
        return True
    *before, last = [_per_frame(one) for one in tried]
    return any(last[k] < (1 - WORTH) * min(one[k] for one in before) for k in (0, 1))


def _step(schedule: Schedule) -> StepInfo:
    assert schedule.step is not None
    return schedule.step


def _per_frame(schedule: Schedule) -> tuple[float, float]:
    """Energy and cycles."""
    frames, totals = _step(schedule).frames, schedule.totals
    return totals.energy_pj / frames, totals.latency_cycles / frames


def _rank(schedule: Schedule) -> tuple[float, float, int]:
    """Those that keep the deadline by the objective; then the others by how much they miss it."""
    step = _step(schedule)
    late = 0.0 if step.deadline is None or step.deadline.met else step.deadline.takes_s / step.deadline.step_s
    return late, Objective(schedule.objective).of(*_per_frame(schedule)), step.frames


def _entry(schedule: Schedule) -> FramesTried:
    step, totals = _step(schedule), schedule.totals
    return FramesTried(
        frames=step.frames,
        energy_pj=totals.energy_pj,
        latency_cycles=totals.latency_cycles,
        ring_bits=step.ring_bits,
        weight_bits=step.weight_bits,
        waiting_frames=step.frames - step.hop_frames,
        met=step.deadline is None or step.deadline.met,
    )
