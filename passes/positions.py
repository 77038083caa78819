"""Frames at which a tensor is computed, and how one node's are run: every so many of them at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import gcd

from dfc.ir import TimeWindow


@dataclass(frozen=True, slots=True)
class Phase:
    """One run of a node along time.

    frames: of its output positions; unit: frames from one input position that it is given to the next.
    """

    frames: range
    unit: int

    def along(self, window: TimeWindow, stride: int) -> TimeWindow:
        """Stride and dilation in input positions that are ``unit`` apart, where the model's are ``stride`` apart."""
        step = self.frames.step // self.unit if len(self.frames) > 1 else 1
        dilation = window.dilation * stride // self.unit if window.kernel > 1 else window.dilation
        return TimeWindow(window.kernel, step, dilation)

    def reads(self, window: TimeWindow, stride: int) -> range:
        """The frames of an input that it is given."""
        first = self.frames[0] + stride * window.lo
        last = self.frames[-1] + stride * window.hi
        return range(first, last + 1, self.unit)


def progressions(numbers: Sequence[int]) -> Iterator[range]:
    """Rising numbers as stretches of equal distance, none longer than need be."""
    start = 0
    while start < len(numbers):
        end = start + 1
        step = numbers[end] - numbers[start] if end < len(numbers) else 1
        while end < len(numbers) and numbers[end] - numbers[end - 1] == step:
            end += 1
        yield range(numbers[start], numbers[end - 1] + 1, step)
        start = end


def taps(window: TimeWindow, stride: int) -> range:
    """How many frames after an output position's own the input positions lie that it reads."""
    return range(stride * window.lo, stride * window.hi + 1, stride * window.dilation)


def in_turns(frames: range, turns: int, unit: int) -> list[Phase]:
    """Positions by turns: in the end all are computed."""
    return [Phase(frames[turn::turns], unit) for turn in range(min(turns, len(frames)))]


def exact_phases(
    frames: range, window: TimeWindow, stride: int, *, split: bool, holds: Callable[[range], bool]
) -> list[Phase]:
    """In as few runs as there can be where inputs are held at no frames but those that something reads.

    split: the kernel runs with the model's own dilation.
    """
    apart = frames.step if len(frames) > 1 else 0
    if window.kernel == 1:
        return [Phase(frames, apart or stride)]
    wide = stride * window.dilation
    ways = [] if split else [(1, gcd(wide, apart))]
    ways += [(unit // gcd(unit, apart), unit) for unit in (stride, wide)]
    for turns, unit in ways:
        found = in_turns(frames, turns, unit)
        if all(holds(phase.reads(window, stride)) for phase in found):
            return found
    return in_turns(frames, len(frames), wide)
