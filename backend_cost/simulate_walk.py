"""The simulator's walk through a loop nest: which lane touches which element in which step, and how long memories hold.

Nothing here is a formula of the cost model: indices are counted out, and sets hold what was touched.
docs/simulator.md states the policy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from dfc.backend_cost.nest import Mapping, Nest, NestOperand
from dfc.errors import UsageError
from dfc.hwdsl.arch import Arch, Memory
from dfc.ir import KERNEL_DIM, N_DIMS, OUTPUT_DIM, Axis, Dim

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: one position per unrolled loop, in the nest's order; names a lane of the array, or (with zeros) a memory instance
Lane = tuple[int, ...]
Elements = frozenset[int]
#: what each instance of a memory holds or touches; an instance that has nothing is not named
Held = dict[Lane, Elements]

NOTHING: Elements = frozenset()


@dataclass(frozen=True, slots=True)
class Stay:
    """The steps ``first <= step < end`` during which a memory holds the same part of an operand."""

    first: int
    end: int


@dataclass(frozen=True)
class Walk:
    """The whole nest, counted out.

    lanes: every lane of the array that is in use.
    turns: per step the values of the mapping's loops, innermost first.
    index: loop index per (step, lane, dimension).
    valid: whether a lane works, per (step, lane): all its indices lie within the layer.
    """

    nest: Nest
    arch: Arch
    mapping: Mapping
    lanes: tuple[Lane, ...]
    turns: tuple[tuple[int, ...], ...]
    index: Ints
    valid: Bools

    @property
    def steps(self) -> int:
        """Combinations of the temporal loops."""
        return len(self.turns)

    @cached_property
    def operands(self) -> tuple[OperandWalk, ...]:
        """The walk as each operand sees it, in the nest's order."""
        return tuple(OperandWalk(self, number) for number in range(len(self.nest.operands)))


def walk(nest: Nest, arch: Arch, mapping: Mapping, limit: int) -> Walk:
    """Count the nest out.

    Raises:
        UsageError: CLI050 where steps x lanes exceed ``limit``; CLI051 where the mapping is none of this nest.
    """
    _check(nest, mapping)
    lanes = prod(u.lanes for u in nest.unrolled)
    steps = prod(loop.size for loop in mapping.loops)
    if steps * lanes > limit:
        raise UsageError(
            "CLI050",
            f"the layer is too large to simulate: {steps:,} steps x {lanes:,} lanes = {steps * lanes:,} lane-steps, "
            f"and the limit is {limit:,}",
            hint="simulate a smaller output tile (fewer rows and columns) or fewer channels; or raise the limit",
        )
    turns = tuple(t[::-1] for t in product(*(range(loop.size) for loop in reversed(mapping.loops))))
    used = tuple(product(*(range(u.lanes) for u in nest.unrolled)))
    along, lanes_of = _lane_index(nest, used)
    index = _step_index(mapping, turns)[:, None, :] * lanes_of + along[None, :, :]
    valid: Bools = np.logical_and.reduce(index < np.array(nest.sizes), axis=2)
    return Walk(nest, arch, mapping, used, turns, index, valid)


def _check(nest: Nest, mapping: Mapping) -> None:
    covered = mapping.steps
    cuts_fit = len(mapping.cuts) == len(nest.operands) and all(
        len(cuts) == len(operand.memories) and list(cuts) == sorted(cuts) and cuts[-1] == len(mapping.loops)
        for operand, cuts in zip(nest.operands, mapping.cuts, strict=True)
    )
    wrong = [dim.name for dim in Dim if covered[dim] < nest.fewest_steps[dim]]
    if wrong or not cuts_fit:
        what = f"its loops over {', '.join(wrong)} do not cover the layer" if wrong else "its cuts are not those of it"
        hint = "per operand one cut per memory, never falling, the last above all loops"
        raise UsageError("CLI051", f"the mapping does not belong to the loop nest: {what}", hint=hint)


def _lane_index(nest: Nest, used: tuple[Lane, ...]) -> tuple[Ints, Ints]:
    """The index that each lane adds, per (lane, dimension), and how many lanes each dimension has."""
    along = np.zeros((len(used), N_DIMS), dtype=np.int64)
    lanes_of = np.ones(N_DIMS, dtype=np.int64)
    for position, unrolled in enumerate(nest.unrolled):
        along[:, unrolled.loop] += np.array([lane[position] for lane in used]) * lanes_of[unrolled.loop]
        lanes_of[unrolled.loop] *= unrolled.lanes
    return along, lanes_of


def _step_index(mapping: Mapping, turns: tuple[tuple[int, ...], ...]) -> Ints:
    """How far the temporal loops of each dimension have come, per (step, dimension)."""
    come = np.zeros((len(turns), N_DIMS), dtype=np.int64)
    size_of = [1] * N_DIMS
    for position, loop in enumerate(mapping.loops):
        come[:, loop.dim] += np.array([turn[position] for turn in turns]) * size_of[loop.dim]
        size_of[loop.dim] *= loop.size
    return come


class OperandWalk:
    """The walk as one operand sees it: its elements, its memories' instances and their stays."""

    def __init__(self, whole: Walk, number: int):
        self.walk = whole
        self.number = number
        self.operand: NestOperand = whole.nest.operands[number]
        self.memories: tuple[Memory, ...] = tuple(whole.arch.memories[m] for m in self.operand.memories)
        self.top = len(self.memories) - 1
        #: per unrolled loop, the gap in which it fans out: below the first memory that serves its array dimension
        self.gaps = tuple(
            next((m for m, memory in enumerate(self.memories) if u.array_dim in memory.across), len(self.memories))
            for u in whole.nest.unrolled
        )
        self.stays = tuple(self._stays(level) for level in range(len(self.memories)))
        self._stay_of = tuple(
            [number for number, stay in enumerate(stays) for _ in range(stay.first, stay.end)] for stays in self.stays
        )
        self._instances: dict[tuple[Lane, int], Lane] = {}
        self._held: dict[tuple[int, Stay], Held] = {}

    def instance(self, lane: Lane, level: int) -> Lane:
        """The instance of a memory that serves a lane, or that feeds an instance further in."""
        key = (lane, level)
        if key not in self._instances:
            self._instances[key] = tuple(at if gap > level else 0 for at, gap in zip(lane, self.gaps, strict=True))
        return self._instances[key]

    def _stays(self, level: int) -> tuple[Stay, ...]:
        cut = self.walk.mapping.cuts[self.number][level]
        loops = self.walk.mapping.loops
        counting = [i for i in range(cut, len(loops)) if loops[i].dim in self.operand.dims]
        keys = [tuple(turn[i] for i in counting) for turn in self.walk.turns]
        firsts = [s for s in range(len(keys)) if s == 0 or keys[s] != keys[s - 1]]
        return tuple(Stay(first, end) for first, end in zip(firsts, [*firsts[1:], len(keys)], strict=True))

    def stay_at(self, level: int, step: int) -> int:
        """The number of the stay of a memory to which a step belongs."""
        return self._stay_of[level][step]

    @cached_property
    def element(self) -> Ints:
        """The number of the element that is touched, per (step, lane); -1 where there is none (idle, or padding)."""
        index, nest = self.walk.index, self.walk.nest
        real = self.walk.valid.copy()
        windowed = {dim for a in self.operand.windows for dim in (OUTPUT_DIM[a], KERNEL_DIM[a])}
        coordinates = [index[:, :, dim] for dim in self.operand.dims if dim not in windowed]
        for axis in self.operand.windows:
            position = _window_position(nest, axis, index)
            if nest.inputs[axis]:
                real &= (position >= 0) & (position < nest.inputs[axis])
            coordinates.append(position)
        number = np.zeros(real.shape, dtype=np.int64)
        for coordinate in coordinates:
            number = number * (coordinate.max() - coordinate.min() + 1) + coordinate - coordinate.min()
        return np.where(real, number, -1)

    @cached_property
    def touched(self) -> tuple[Held, ...]:
        """Per step, the elements that the lanes under each instance of the innermost memory touch."""
        served = [self.instance(lane, 0) for lane in self.walk.lanes]
        found: list[Held] = []
        row: list[int]
        for row in self.element.tolist():
            here: dict[Lane, set[int]] = {}
            for instance, element in zip(served, row, strict=True):
                if element >= 0:
                    here.setdefault(instance, set()).add(element)
            found.append({instance: frozenset(elements) for instance, elements in here.items()})
        return tuple(found)

    def held(self, level: int, stay: Stay) -> Held:
        """What each instance of a memory holds during a stay: all that is touched under it."""
        key = (level, stay)
        if key not in self._held:
            steps = self.touched[stay.first : stay.end]
            self._held[key] = self.union(steps, level)
        return self._held[key]

    def union(self, parts: Iterable[Held], level: int) -> Held:
        """Sets of instances further in, joined per instance of the memory at ``level``."""
        joined: dict[Lane, set[int]] = {}
        for part in parts:
            for inner, elements in part.items():
                joined.setdefault(self.instance(inner, level), set()).update(elements)
        return {instance: frozenset(elements) for instance, elements in joined.items() if elements}


def _window_position(nest: Nest, axis: Axis, index: Ints) -> Ints:
    output, kernel = index[:, :, OUTPUT_DIM[axis]], index[:, :, KERNEL_DIM[axis]]
    return nest.strides[axis] * output + nest.dilations[axis] * kernel - nest.pads[axis]
