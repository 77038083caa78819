"""What memories hold while one mapping runs, counted for that mapping alone: plain numbers in place of tables.

The same as the tables' ``alloc_bits`` and ``reduces`` and the grants of ``timing.py``, which count for many mappings at
once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from dfc.backend_cost.nest import Loop, Mapping, Nest, NestOperand, Unrolled
from dfc.backend_cost.spatial import elements
from dfc.hwdsl.arch import Arch
from dfc.ir import N_DIMS


@dataclass(frozen=True, slots=True)
class Content:
    """What one instance of a memory holds of an operand.

    most:    elements in the stay in which it holds most: all of its lanes work there.
    partial: whether sums that enter it are not complete.
    second:  whether it has a second buffer, or needs none because all is replaced in a single access.
    """

    most: int
    partial: bool
    second: bool


def contents(nest: Nest, arch: Arch, mapping: Mapping) -> list[list[Content]]:
    """Per operand and memory, what the mapping keeps there."""
    nest = nest.with_steps(mapping.steps)
    products = _products(mapping)
    sizes, idling = nest.sizes, nest.steps is not None
    extents = [1.0] * N_DIMS  # of the dimensions that address the operand at hand
    found: list[list[tuple[int, int, bool]]] = []  # elements on average lanes, in whole lanes, whether partial
    for operand, cuts in zip(nest.operands, mapping.cuts, strict=True):
        ends = moved_cuts(operand, mapping.loops, cuts)
        lanes = _Fans(nest, operand, arch)
        again = [(d, n) for d, n in enumerate(nest.fewest_steps) if n > 1 and d not in operand.dims]
        rows: list[tuple[int, int, bool]] = []
        below = products[0]
        for level, end in enumerate(ends):
            partial = lanes.reduces(level) or any(n > below[d] for d, n in again)
            below = products[end]
            share, whole = lanes.inside(level)
            for d in operand.dims:
                extents[d] = ceil((min(share[d] * below[d], sizes[d]) if idling else share[d] * below[d]) - 1e-9)
            average = int(elements(nest, operand, extents))
            for d in operand.dims:
                extents[d] = float(min(whole[d] * below[d], sizes[d]))
            rows.append((average, int(elements(nest, operand, extents)), partial))
        found.append(rows)
    return _granted(nest, arch, found)


def moved_cuts(operand: NestOperand, loops: tuple[Loop, ...], cuts: tuple[int, ...]) -> list[int]:
    """Where cuts end up: over loops that leave the operand where it is."""
    beyond = [i for i, loop in enumerate(loops) if loop.dim in operand.dims]
    return [next((i for i in beyond if i >= cut), len(loops)) for cut in cuts]


def _products(mapping: Mapping) -> list[list[int]]:
    """Per number of loops, the innermost first, their products by dimension."""
    running = [1] * N_DIMS
    found = [running]
    for loop in mapping.loops:
        running = running.copy()
        running[loop.dim] *= loop.size
        found.append(running)
    return found


class _Fans:
    """The lanes of an operand by the level below which they fan out."""

    def __init__(self, nest: Nest, operand: NestOperand, arch: Arch):
        self.operand = operand
        self.at: list[tuple[Unrolled, int]] = []
        for u in nest.unrolled:
            serving = (i for i, m in enumerate(operand.memories) if u.array_dim in arch.memories[m].across)
            self.at.append((u, next(serving, len(operand.memories))))

    def inside(self, level: int) -> tuple[list[float], list[int]]:
        """Lanes below a memory's upper boundary by dimension: the share in use on average, and all of them."""
        share, whole = [1.0] * N_DIMS, [1] * N_DIMS
        for u, gap in self.at:
            if gap <= level:
                share[u.loop] *= u.share
                whole[u.loop] *= u.lanes
        return share, whole

    def reduces(self, level: int) -> bool:
        """Whether lanes above a memory's lower boundary add up sums."""
        return any(gap > level and u.lanes > 1 and self.operand.irrelevant(u.loop) for u, gap in self.at)


def _granted(nest: Nest, arch: Arch, held: list[list[tuple[int, int, bool]]]) -> list[list[Content]]:
    """Second buffers, first come, first served."""
    used: dict[int, int] = {}
    bits: list[list[int]] = []
    for operand, rows in zip(nest.operands, held, strict=True):
        bits.append([count * (operand.partial_bits if partial else operand.bits) for count, _, partial in rows])
        for memory, whole in zip(operand.memories, bits[-1], strict=True):
            used[memory] = used.get(memory, 0) + whole
    found: list[list[Content]] = []
    for operand, rows, wholes in zip(nest.operands, held, bits, strict=True):
        line: list[Content] = []
        for memory, (_, most, partial), whole in zip(operand.memories, rows, wholes, strict=True):
            chip = arch.memories[memory]
            at_once = whole <= min(chip.read_bits_per_cycle, chip.write_bits_per_cycle)
            fits = used[memory] + whole <= chip.size_bits
            if fits and not at_once:
                used[memory] += whole
            line.append(Content(most, partial, fits or at_once))
        found.append(line)
    return found
