"""What may be laid over the array, and a quick estimate of what that costs.

A *layout* says per array dimension which loops lie on it and how many lanes each may fill; none leaves it idle. The
search over layouts is in ``spatial_search.py``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from itertools import combinations
from math import ceil, inf

from dfc.backend_cost.nest import Nest, NestOperand, Unrolled, lay_out, spatial_levels
from dfc.backend_cost.spatial import Lanes, elements, operand_lanes
from dfc.hwdsl.arch import Arch, Memory, Unroll
from dfc.ir import Dim

#: loops on one array dimension, each with the lanes that it may fill
Loops = tuple[tuple[Dim, int], ...]
#: the loops on every array dimension, in the order of the page
Layout = tuple[Loops, ...]
#: two layouts that differ in names of array dimensions alone have the same key
Key = tuple[tuple[int, tuple[tuple[Dim, int, float], ...]], ...]


def even_fill(left: int, room: int) -> int:
    """Lanes that a loop of ``left`` iterations fills evenly, at most ``room``: as few as give it the fewest steps."""
    return ceil(left / ceil(left / room))


def even_fills(left: int, room: int) -> list[int]:
    """All numbers of lanes from 2 to ``room`` that a loop of ``left`` iterations fills evenly, the greatest first."""
    return [n for n in range(min(left, room), 1, -1) if even_fill(left, n) == n]


class SpatialSpace:
    """All layouts of a nest's loops on a chip's array."""

    def __init__(self, nest: Nest, arch: Arch):
        self.nest = nest
        self.arch = arch
        self.loops = [d for d in Dim if nest.sizes[d] > 1]
        used = sorted({m for o in nest.operands for m in o.memories})
        alike: dict[tuple[int, tuple[int, ...]], int] = {}
        self._alone: dict[tuple[int, Loops], bool] = {}
        self._group: dict[str, int] = {}  # array dimensions that the memories cannot tell apart
        for d in arch.array.dims:
            serving = tuple(m for m in used if d.name in arch.memories[m].across)
            self._group[d.name] = alike.setdefault((d.size, serving), len(alike))

    @property
    def preferred(self) -> Layout:
        """The layout that the nest has."""
        found: dict[str, Loops] = {d.name: () for d in self.arch.array.dims}
        for u in self.nest.unrolled:
            found[u.array_dim] += ((u.loop, u.lanes),)
        return tuple(found.values())

    def laid_out(self, layout: Layout) -> Nest:
        """The nest on this layout; lanes that some loop has no iterations for are left out."""
        dims = zip(self.arch.array.dims, layout, strict=True)
        lanes = tuple(Unroll(d.name, loop, n) for d, loops in dims for loop, n in loops)
        return replace(self.nest, unrolled=lay_out(self.nest.sizes, self.arch, lanes))

    def key(self, unrolled: tuple[Unrolled, ...]) -> Key:
        """What tells unrollings apart."""
        found: dict[str, list[tuple[Dim, int, float]]] = {}
        for u in unrolled:
            found.setdefault(u.array_dim, []).append((u.loop, u.lanes, u.share))
        return tuple(sorted((self._group[name], tuple(sorted(loops))) for name, loops in found.items()))

    def choices(self, layout: Layout, at: int) -> list[Loops]:
        """What may lie on one array dimension beside the others' loops: nothing, a loop, or two."""
        left = list(self.nest.sizes)
        for i, loops in enumerate(layout):
            for loop, lanes in loops if i != at else ():
                left[loop] = ceil(left[loop] / lanes)
        size = self.arch.array.dims[at].size
        open_loops = [d for d in self.loops if left[d] > 1] if size > 1 else []
        found: list[Loops] = [(), *(((d, n),) for d in open_loops for n in even_fills(left[d], size))]
        for a, b in combinations(open_loops, 2):
            found += [((a, n), (b, m)) for n, m in _pairs(left[a], left[b], size)]
        return [loops for loops in found if self._fits_alone(at, loops)]

    def _fits_alone(self, at: int, loops: Loops) -> bool:
        """Whether memories have room for these lanes while all other array dimensions idle."""
        found = self._alone.get((at, loops))
        if found is None:
            idle: Layout = ((),) * len(self.arch.array.dims)
            nest = self.laid_out((*idle[:at], loops, *idle[at + 1 :]))
            found = self._alone[at, loops] = self.estimate_pj(nest) < inf
        return found

    def listed(self, most: int) -> list[Nest] | None:
        """All layouts that may fit, each once; None where they are more than ``most``."""
        layouts: list[Layout] = [((),) * len(self.arch.array.dims)]
        for at in range(len(self.arch.array.dims)):
            wider: dict[Key, Layout] = {}
            for layout in layouts:
                for loops in self.choices(layout, at):
                    grown = (*layout[:at], loops, *layout[at + 1 :])
                    nest = self.laid_out(grown)
                    if self.estimate_pj(nest) < inf:  # more lanes need no less room
                        wider.setdefault(self.key(nest.unrolled), grown)
                if len(wider) > most:
                    return None
            layouts = list(wider.values())
        return [self.laid_out(layout) for layout in layouts]

    # --- the estimate

    @cached_property
    def _elements(self) -> list[float]:
        return [elements(self.nest, o, [*self.nest.sizes]) for o in self.nest.operands]

    def estimate_pj(self, nest: Nest) -> float:
        """About the energy of the best mapping; infinite where the lanes do not fit.

        Every element crosses every boundary once, and the array is fed in every cycle; of the memories at the array
        that cannot hold all that they need, one keeps what it has until it is done with it, and the others' contents
        change in every cycle.
        """
        total = self.arch.array.mac_pj * nest.operations
        once: list[float] = []
        often: list[float] = []
        used: dict[int, float] = {}
        for operand, whole in zip(nest.operands, self._elements, strict=True):
            memories = [self.arch.memories[m] for m in operand.memories]
            lanes = operand_lanes(nest, operand, spatial_levels(nest, operand, self.arch), whole=False)
            for m, memory in enumerate(operand.memories[:-1]):
                below: list[float] = [ceil(n - 1e-9) for n in lanes.below[m + 1]]  # as allocation rounds
                used[memory] = used.get(memory, 0) + elements(nest, operand, below) * operand.bits
            total += _feeding_pj(nest, operand, lanes, memories[0])
            for a in range(1, len(memories)):
                count = whole * lanes.totals[a] / lanes.unique[a], whole * lanes.totals[a + 1] / lanes.unique[a + 1]
                least = _moving_pj(operand, memories[a - 1], memories[a], count)
                if a == 1 and whole / lanes.unique[1] * operand.partial_bits > memories[0].size_bits:
                    once.append(least)
                    often.append(max(least, _every_cycle_pj(nest, operand, lanes, memories)))
                else:
                    total += least
        if any(bits > self.arch.memories[m].size_bits for m, bits in used.items()):
            return inf
        return total + sum(often) + min((a - b for a, b in zip(once, often, strict=True)), default=0.0)


def _pairs(first: int, second: int, size: int) -> list[tuple[int, int]]:
    """Lanes of two loops with so many iterations each; pairs left out that another has no fewer lanes of both than."""
    found: list[tuple[int, int]] = []
    for n in range(min(first, size // 2), 1, -1):
        m = even_fill(second, min(second, size // n))
        if even_fill(first, n) == n and m > 1 and all(m > other for _, other in found):
            found.append((n, m))
    return found


def _bit_pj(memory: Memory, *, read: bool) -> float:
    if read:
        return memory.read_pj / memory.read_bits_per_cycle
    return memory.write_pj / memory.write_bits_per_cycle


def _access_pj(memory: Memory, bits: float, *, read: bool) -> float:
    """Energy of moving so many bits at a time, in whole least accesses."""
    least = memory.min_read_bits if read else memory.min_write_bits
    return ceil(bits / least - 1e-9) * least * _bit_pj(memory, read=read)


def _feeding_pj(nest: Nest, operand: NestOperand, lanes: Lanes, memory: Memory) -> float:
    """What crosses the boundary at the array: sums go both ways."""
    bits = lanes.relevant[0] * operand.partial_bits
    each = sum(_access_pj(memory, bits, read=read) for read in (True, False)[: 1 + operand.is_output])
    return nest.cycles * lanes.totals[1] * each


def _moving_pj(operand: NestOperand, below: Memory, above: Memory, count: tuple[float, float]) -> float:
    """So many elements between two memories: in all instances of the one below and of the one above."""
    up = operand.is_output
    return (count[0] * _bit_pj(below, read=up) + count[1] * _bit_pj(above, read=not up)) * operand.bits


def _every_cycle_pj(nest: Nest, operand: NestOperand, lanes: Lanes, memories: list[Memory]) -> float:
    """The same at the first boundary if everything changes in every cycle; sums come back."""
    share = lanes.relevant[0] * operand.partial_bits / operand.bits if operand.bits else 0.0
    count = nest.cycles * lanes.totals[1] * share, nest.cycles * lanes.totals[2] * lanes.relevant[1] * share
    found = _moving_pj(operand, memories[0], memories[1], count)
    if operand.is_output:
        both = count[0] * _bit_pj(memories[0], read=False) + count[1] * _bit_pj(memories[1], read=True)
        found += both * operand.bits
    return found
