"""What a mapping keeps of an operand in each memory, counted from what a schedule's file says of it and nothing else.

The rules are those of docs/simulator.md. Padding counts as if it lay there, as the cost model counts it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import gcd, prod

from dfc.backend_cost.schedule import NestEntry, OperandEntry, TileLayer
from dfc.hwdsl import Arch
from dfc.ir import KERNEL_DIM, OUTPUT_DIM, Axis, Dim


class NoNestError(ValueError):
    """What the file says of a nest and its mapping does not go together."""


@dataclass(frozen=True, slots=True)
class Held:
    """What one instance of a memory keeps of an operand: ``whole`` where the operand lives there as a whole.

    Then ``bits`` are those by which partial sums are wider than what is finished.
    """

    operand: str
    memory: str
    bits: int
    whole: bool


def names_of(nest: NestEntry) -> list[str]:
    """A name for each operand: its role, with a number from the second of a role on."""
    found: list[str] = []
    for operand in nest.operands:
        before = sum(name.rstrip("0123456789") == operand.role for name in found)
        found.append(f"{operand.role}{before + 1}" if before else operand.role)
    return found


def held_by(run: TileLayer, nest: NestEntry, arch: Arch) -> list[Held]:
    """What every memory keeps of every operand.

    Raises:
        NoNestError: where loops, cuts, names and memories contradict each other.
    """
    try:
        loops = [_loop(text) for text in run.loops]
        found: list[Held] = []
        for name, operand in zip(names_of(nest), nest.operands, strict=True):
            found += _held(name, nest, operand, loops, run.cuts[name], arch)
        return found
    except (KeyError, ValueError, IndexError) as error:
        raise NoNestError(str(error)) from None


def _loop(text: str) -> tuple[Dim, int]:
    name, _, size = text.partition(" ")
    if int(size) < 1:
        raise ValueError(f"a loop of {size}")
    return Dim[name], int(size)


def _held(
    name: str,
    nest: NestEntry,
    operand: OperandEntry,
    loops: list[tuple[Dim, int]],
    cuts: tuple[int, ...],
    arch: Arch,
) -> list[Held]:
    if len(cuts) != len(operand.memories) or list(cuts) != sorted(cuts) or cuts[0] < 0 or cuts[-1] != len(loops):
        raise ValueError(f"the cuts of {name} are not those of its memories")
    gaps = _gaps(nest, operand, arch)
    found: list[Held] = []
    for level, memory in enumerate(operand.memories):
        count = _elements(nest, operand, loops[: cuts[level]], gaps, level)
        partial = _comes_back(operand, loops[cuts[level - 1] :]) if level else _summed(operand, loops)
        partial = partial or _shared(operand, nest, gaps, level)
        bits = operand.partial_bits if partial else operand.bits
        whole = level == len(operand.memories) - 1
        found.append(Held(name, memory, count * (bits - operand.bits if whole else bits), whole))
    return found


def _gaps(nest: NestEntry, operand: OperandEntry, arch: Arch) -> list[int]:
    """Per unrolled loop the first memory of the operand that serves its array dimension; as many if none does."""
    across = {m.name: m.across for m in arch.memories}
    found: list[int] = []
    for array_dim, *_ in nest.unrolled:
        serving = (i for i, name in enumerate(operand.memories) if array_dim in across[name])
        found.append(next(serving, len(operand.memories)))
    return found


def _addresses(operand: OperandEntry, dim: Dim) -> bool:
    return dim.name in operand.dims


def _summed(operand: OperandEntry, loops: list[tuple[Dim, int]]) -> bool:
    """Whether a later step touches what an earlier one touched."""
    return any(size > 1 and not _addresses(operand, dim) for dim, size in loops)


def _comes_back(operand: OperandEntry, beyond: list[tuple[Dim, int]]) -> bool:
    """Whether what leaves a memory, with these loops beyond its cut, is touched again in a later stay there.

    A loop that does not address the operand ends no stay by itself, but it repeats those that loops inside of it end.
    """
    ended = False
    for dim, size in beyond:
        if size > 1 and _addresses(operand, dim):
            ended = True
        elif size > 1 and ended:
            return True
    return False


def _shared(operand: OperandEntry, nest: NestEntry, gaps: list[int], level: int) -> bool:
    """Whether several instances of the memory have shares of one sum."""
    return any(
        gap > level and lanes > 1 and not _addresses(operand, Dim[loop])
        for gap, (_, loop, lanes, _) in zip(gaps, nest.unrolled, strict=True)
    )


def _elements(
    nest: NestEntry, operand: OperandEntry, inside: list[tuple[Dim, int]], gaps: list[int], level: int
) -> int:
    """Elements that one instance touches in its first stay, the largest: no index is beyond the end but the last."""
    indices = {dim: _indices_of(nest, dim, inside, gaps, level) for dim in map(Dim.__getitem__, operand.dims)}
    slid: set[Dim] = set()
    count = 1
    for name in operand.windows:
        axis = Axis[name]
        output, kernel = OUTPUT_DIM[axis], KERNEL_DIM[axis]
        slid |= {output, kernel}
        count *= _positions(indices[output], indices[kernel], nest.strides[axis], nest.dilations[axis])
    return count * prod(len(indices[Dim[name]]) for name in operand.dims if Dim[name] not in slid)


def _indices_of(
    nest: NestEntry, dim: Dim, inside: list[tuple[Dim, int]], gaps: list[int], level: int
) -> tuple[int, ...] | range:
    steps = prod(size for d, size in inside if d is dim)
    lanes = tuple(
        (lanes, gap <= level)
        for gap, (_, loop, lanes, _) in zip(gaps, nest.unrolled, strict=True)
        if loop == dim.name and lanes > 1
    )
    size = nest.sizes.get(dim.name, 1)
    if size < 1:
        raise ValueError(f"loop {dim.name} is {size}")
    if all(here for _, here in lanes):
        return range(min(size, steps * prod(n for n, _ in lanes)))
    return _indices(size, min(steps, size), lanes)


@lru_cache(maxsize=4096)
def _indices(size: int, steps: int, lanes: tuple[tuple[int, bool], ...]) -> tuple[int, ...]:
    """Index = step * all lanes + lane; the instance with the first of the lanes that are not its own."""
    mine, width = [0], 1
    for number, here in lanes:
        mine = [old + width * n for n in (range(number) if here else (0,)) for old in mine]
        width *= number
    return tuple(step * width + lane for step in range(steps) for lane in mine if step * width + lane < size)


@lru_cache(maxsize=4096)
def _positions(outputs: tuple[int, ...] | range, kernel: tuple[int, ...] | range, stride: int, dilation: int) -> int:
    """Input positions that a window meets.

    Where outputs are fewer than what a dilated kernel skips, the model counts as if there were enough of them.
    """
    common = gcd(stride, dilation)
    step, spread = stride // common, dilation // common
    if len(kernel) > step and len(outputs) < spread:
        return step * len(outputs) + spread * len(kernel) - step * spread
    return len({stride * o + dilation * k for o in outputs for k in kernel})
