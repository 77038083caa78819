"""What the cost model sees of a layer: a loop nest, its operands on their memories, and the spatial unrolling.

A :class:`Nest` is hashable: equal nests cost the same, so every search result is kept under it.
"""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from math import ceil, gcd, prod

from dfc.hwdsl.arch import Arch, Unroll
from dfc.ir import KERNEL_DIM, N_DIMS, OUTPUT_DIM, OUTPUT_DIMS, Axis, Dim, Kind, Layer, Role, Sizes, Triple


class Work(StrEnum):
    """What one iteration of a nest does on the array."""

    MAC = "mac"
    OPERATION = "operation"  # an addition or a comparison
    NOTHING = "nothing"  # data passes through


@dataclass(frozen=True, slots=True)
class NestOperand:
    """One operand of the nest.

    dims:      the loops that address it.
    windows:   axes along which output and kernel loop address it together (a sliding window).
    bits:      of a finished element; ``partial_bits`` of a partial sum (equal to ``bits`` for inputs).
    memories:  indices into ``Arch.memories`` from the array outwards; the last is where the tensor lives for this
               layer: it is there before the layer starts (or stays there after it), and nothing above is touched.
    """

    role: Role
    dims: tuple[Dim, ...]
    windows: tuple[Axis, ...]
    bits: int
    partial_bits: int
    memories: tuple[int, ...]

    @property
    def is_output(self) -> bool:
        """Whether it is written by the nest."""
        return self.role is Role.O

    def relevant(self, dim: Dim) -> bool:
        """Whether a loop over ``dim`` alone moves it on to other elements (and is not part of a window)."""
        return dim in self.dims and not any(dim in (OUTPUT_DIM[a], KERNEL_DIM[a]) for a in self.windows)

    def irrelevant(self, dim: Dim) -> bool:
        """Whether a loop over ``dim`` uses the same elements again."""
        return dim not in self.dims


@dataclass(frozen=True, slots=True)
class Unrolled:
    """A loop laid over an array dimension: ``lanes`` of it are in use, ``share`` of them on average."""

    array_dim: str
    loop: Dim
    lanes: int
    share: float


@dataclass(frozen=True)
class Nest:
    """A layer (or a tile of one) as a loop nest over memories.

    Operands stand in the order output, weights, inputs. ``pads`` are the padding positions before the first input
    position along (t, y, x), ``inputs`` the input extents (0: not clipped); positions outside are padding. ``steps``
    gives loops more iterations in time than they need, so that they split well: those beyond the size do nothing.
    """

    sizes: Sizes
    strides: Triple
    dilations: Triple
    operands: tuple[NestOperand, ...]
    unrolled: tuple[Unrolled, ...]
    work: Work
    pads: Triple = (0, 0, 0)
    inputs: Triple = (0, 0, 0)
    steps: Sizes | None = None

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(
            (
                self.sizes,
                self.strides,
                self.dilations,
                self.operands,
                self.unrolled,
                self.work,
                self.pads,
                self.inputs,
                self.steps,
            )
        )

    @property
    def operations(self) -> int:
        """Iterations of the whole nest."""
        return prod(self.sizes)

    @cached_property
    def temporal(self) -> Sizes:
        """Loop sizes left to run in time after the spatial unrolling (rounded up)."""
        return self.steps or self.fewest_steps

    @cached_property
    def fewest_steps(self) -> Sizes:
        """Loop sizes left to run in time without idle iterations at the end."""
        left = list(self.sizes)
        for u in self.unrolled:
            left[u.loop] = ceil(left[u.loop] / u.lanes)
        return tuple(left)

    @cached_property
    def idling(self) -> tuple[Dim, ...]:
        """Dimensions with steps in which nothing works."""
        return tuple(d for d in Dim if self.steps and self.steps[d] > self.fewest_steps[d])

    def window_shape(self, axis: Axis) -> tuple[int, int, int, int]:
        """How the loops of an axis slide: stride, dilation, padding before, input extent."""
        return self.strides[axis], self.dilations[axis], self.pads[axis], self.inputs[axis]

    def with_steps(self, steps: Sizes) -> Nest:
        """The same nest with other loop sizes in time.

        Raises:
            ValueError: for fewer than the nest needs.
        """
        if any(n < least for n, least in zip(steps, self.fewest_steps, strict=True)):
            raise ValueError("the loops do not cover the nest")
        return replace(self, steps=None if steps == self.fewest_steps else steps)

    @cached_property
    def cycles(self) -> int:
        """Cycles of the nest without any stall."""
        return prod(self.temporal)


@dataclass(frozen=True, slots=True)
class Loop:
    """A temporal loop."""

    dim: Dim
    size: int


@dataclass(frozen=True, slots=True)
class Mapping:
    """A loop order, innermost first, and per operand how many loops lie at or below each of its memories."""

    loops: tuple[Loop, ...]
    cuts: tuple[tuple[int, ...], ...]

    @property
    def steps(self) -> Sizes:
        """Iterations in time per dimension."""
        found = [1] * N_DIMS
        for loop in self.loops:
            found[loop.dim] *= loop.size
        return tuple(found)


def window_extent(outputs: float, kernel: float, stride: int, dilation: int) -> int:
    """Distinct input positions that ``outputs`` x ``kernel`` iterations touch along one axis (B.a of the reference).

    Equal to the span ``stride*(outputs-1) + dilation*(kernel-1) + 1`` where windows overlap without gaps, and to the
    number of positions that are actually read where they do not. Truncates fractions, as the reference does.
    """
    common = gcd(stride, dilation)
    return int(outputs * kernel - max(0.0, kernel - stride / common) * (outputs - dilation / common))


def unroll(
    layer_sizes: Sizes,
    arch: Arch,
    layer: Layer,
    idle: frozenset[str] = frozenset(),
    lanes: tuple[Unroll, ...] | None = None,
) -> tuple[Unrolled, ...]:
    """The chip's preferred spatial unrolling of a layer's loops (B.g): as many lanes as the loop fills evenly.

    Array dimensions in ``idle`` are left out. ``lanes`` stands in place of what the chip prefers; several of them may
    share an array dimension, and a loop that is smaller fills fewer.
    """
    wanted = arch.unrolls.get(layer.kind, ()) if lanes is None else lanes
    return lay_out(layer_sizes, arch, tuple(want for want in wanted if want.array_dim not in idle))


def lay_out(sizes: Sizes, arch: Arch, wanted: tuple[Unroll, ...]) -> tuple[Unrolled, ...]:
    """Loops of these sizes on the array as they are wanted, one after the other, as far as there is room."""
    limit = {d.name: d.size for d in arch.array.dims}
    left = list(sizes)
    chosen: list[Unrolled] = []
    for want in wanted:
        room = min(limit[want.array_dim], want.size or limit[want.array_dim], left[want.loop])
        if room <= 1:
            continue
        steps = ceil(left[want.loop] / room)
        share = left[want.loop] / steps
        chosen.append(Unrolled(want.array_dim, want.loop, ceil(share), share))
        left[want.loop] = steps
        limit[want.array_dim] //= room
    return tuple(chosen)


@dataclass(frozen=True, slots=True)
class Borders:
    """Where a tile's input window meets the borders of the map, per axis (t, y, x): see :class:`Nest`."""

    pads: Triple = (0, 0, 0)
    inputs: Triple = (0, 0, 0)


def make_nest(
    layer: Layer,
    extents: Triple,
    arch: Arch,
    tops: abc.Mapping[Role, int],
    borders: Borders,
    idle: frozenset[str] = frozenset(),
    lanes: tuple[Unroll, ...] | None = None,
) -> Nest:
    """The nest that computes an output region of ``extents`` (t, y, x) positions of a layer.

    ``tops`` gives per role the number of memory levels that the operand may use, counted from the array; ``idle`` names
    array dimensions on which nothing is unrolled; ``lanes`` is the spatial unrolling in place of the chip's.
    """
    loops = layer.tile_sizes(extents)
    array = arch.array

    def operand(role: Role, dims: tuple[Dim, ...], bits: int, partial: int) -> NestOperand:
        windows = tuple(a for a in Axis if role is Role.I and _slides(dims, loops, a))
        return NestOperand(role, dims, windows, bits, partial, arch.paths[role][: tops[role]])

    found = [operand(Role.O, OUTPUT_DIMS, array.output_bits, array.partial_bits)]
    for given in layer.inputs:
        bits = array.weight_bits if given.role is Role.W else array.input_bits
        found.append(operand(given.role, given.dims, bits, bits))
    order = {Role.O: 0, Role.W: 1, Role.I: 2}
    found.sort(key=lambda o: order[o.role])
    work = Work.MAC if layer.macs else Work.NOTHING if layer.kind is Kind.MOVE else Work.OPERATION
    return Nest(
        loops,
        layer.strides,
        layer.dilations,
        tuple(found),
        unroll(loops, arch, layer, idle, lanes),
        work,
        borders.pads,
        borders.inputs,
    )


def _slides(dims: tuple[Dim, ...], loops: Sizes, axis: Axis) -> bool:
    """Whether an output and a kernel loop address an operand together along an axis."""
    return OUTPUT_DIM[axis] in dims and KERNEL_DIM[axis] in dims and loops[KERNEL_DIM[axis]] > 1


def operand_names(nest: Nest) -> tuple[str, ...]:
    """A name for each operand: its role, with a number from the second of a role on (O, I, I2)."""
    names: list[str] = []
    for i, operand in enumerate(nest.operands):
        before = sum(o.role is operand.role for o in nest.operands[:i])
        names.append(f"{operand.role.value}{before + 1 if before else ''}")
    return tuple(names)


def spatial_levels(nest: Nest, operand: NestOperand, arch: Arch) -> list[list[Unrolled]]:
    """Per gap between memories, the unrolled loops that fan out there: index 0 lies below the innermost memory.

    A loop belongs below the first memory that serves its array dimension; what none serves lies on top. Length is the
    number of memories plus one.
    """
    gaps: list[list[Unrolled]] = [[] for _ in range(len(operand.memories) + 1)]
    for u in nest.unrolled:
        serving = (i for i, m in enumerate(operand.memories) if u.array_dim in arch.memories[m].across)
        gaps[next(serving, len(operand.memories))].append(u)
    return gaps
