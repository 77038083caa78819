"""Random small loop nests on random small accelerators with random mappings, for hypothesis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import TypeVar

import numpy as np
from brute_force import count, factors, held_bits
from hypothesis import assume
from hypothesis import strategies as st

from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.lattice import prime_factors
from dfc.backend_cost.nest import Loop, Mapping, Nest, NestOperand, Unrolled, Work
from dfc.hwdsl.arch import Arch, ArrayDim, Memory, OperationalArray
from dfc.hwdsl.ports import allocate, make_ports
from dfc.ir import CONV_INPUT_DIMS, CONV_WEIGHT_DIMS, KERNEL_DIM, OUTPUT_DIM, OUTPUT_DIMS, Axis, Dim, Role, sizes

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[T]], T]

BITS = (8, 8, 4, 3, 1, 16, 5)
WIDTHS = (8, 16, 32, 64, 3, 12, 24, 48, 100, 128)
LEAST = (8, 1, 3, 5, 16, 12, 64, 128)
PORTS = ({"r": 1, "w": 1}, {"rw": 1}, {"r": 2, "w": 2}, {"rw": 2}, {"r": 1, "rw": 1})
PATHS = tuple(frozenset(roles) for roles in ("O", "IO", "W", "IWO", "I", "WI", "O", "WO"))
INNER = (2, 1, 3, 4, 4, 5, 5, 6, 0)  # memories below the outermost
LANE_STEPS = 1500


@dataclass(frozen=True)
class Case:
    """A problem for the cost model and for the simulator."""

    nest: Nest
    arch: Arch
    mapping: Mapping
    double_buffer: frozenset[tuple[int, int]]


@dataclass(frozen=True)
class Shape:
    """What kind of layer: its loops and the dimensions of its inputs."""

    loops: tuple[Dim, ...]
    inputs: tuple[tuple[Role, tuple[Dim, ...]], ...]
    work: Work
    outputs: tuple[Dim, ...] = OUTPUT_DIMS


def _dims(names: str) -> tuple[Dim, ...]:
    return tuple(sorted(Dim[name] for name in names.split()))


CONV = (Role.W, CONV_WEIGHT_DIMS), (Role.I, CONV_INPUT_DIMS)
POOLED = _dims("B G OT OY OX FT FY FX")
MAP = _dims("B G OY OX")
SHAPES = (
    Shape(_dims("K C OY OX FY FX"), CONV, Work.MAC),
    Shape(_dims("B G K C OX FX"), CONV, Work.MAC),
    Shape(_dims("G OY OX FY FX"), CONV, Work.MAC),  # depthwise
    Shape(_dims("K C OT OX FT FX"), CONV, Work.MAC),
    Shape(_dims("K C OX"), ((Role.W, _dims("G K C")), (Role.I, _dims("B G C OX"))), Work.MAC),
    Shape(_dims("B K C OX"), ((Role.W, _dims("B G K C")), (Role.I, _dims("B G C OX"))), Work.MAC),  # two maps
    Shape(_dims("G OY OX FY FX"), ((Role.I, POOLED),), Work.OPERATION),
    Shape(MAP, ((Role.I, MAP), (Role.I, MAP)), Work.OPERATION),  # addition
    Shape(MAP, ((Role.I, MAP), (Role.I, _dims("B G"))), Work.OPERATION),  # one of them broadcast
    Shape(MAP, ((Role.W, _dims("G")), (Role.I, MAP)), Work.OPERATION),
    Shape(MAP, ((Role.I, MAP),), Work.NOTHING),
)


@st.composite
def cases(draw: st.DrawFn, most: int = LANE_STEPS) -> Case:
    """A random case of at most ``most`` lane-steps (steps x lanes)."""
    shape = draw(st.sampled_from(SHAPES[:6] + SHAPES))  # more with weights than without
    loops = _sizes(draw, shape, most // 2)
    array_dims = tuple(ArrayDim(name, draw(st.integers(2, 4))) for name in "ABC"[: draw(st.integers(0, 3))])
    unrolled = _unrolled(draw, shape, loops, array_dims, most)
    arch, used = _arch(draw, array_dims)
    operands = _operands(draw, shape, loops, used)
    strides, dilations, pads, inputs = _windows(draw, shape, loops)
    nest = Nest(loops, strides, dilations, operands, unrolled, shape.work, pads, inputs)
    mapping = draw_mapping(draw, nest)
    pairs = [(i, m) for i, operand in enumerate(operands) for m in range(len(operand.memories) - 1)]
    doubled = frozenset(pair for pair in pairs if draw(st.booleans()))
    return Case(nest, arch, mapping, doubled)


@dataclass(frozen=True)
class Problem:
    """A nest whose best mapping on an accelerator is to be found."""

    nest: Nest
    arch: Arch


@st.composite
def problems(draw: st.DrawFn, most: int) -> Problem:
    """A problem of at most ``most`` mappings with 2 to 6 prime factors, on memories that are rather small."""
    shape = draw(st.sampled_from(SHAPES[:6] + SHAPES))
    loops = _products(draw, shape)
    array_dims = tuple(ArrayDim(name, draw(st.integers(2, 4))) for name in "AB"[: draw(st.sampled_from((2, 1, 0)))])
    unrolled = _unrolled(draw, shape, loops, array_dims, 1 << 20)
    arch, used = _arch(draw, array_dims)
    operands = _operands(draw, shape, loops, used)
    strides, dilations, pads, inputs = _windows(draw, shape, loops)
    nest = Nest(loops, strides, dilations, operands, unrolled, shape.work, pads, inputs)
    assume(2 <= len(factors(nest)) <= 6 and most // 100 <= count(nest) <= most)
    return Problem(nest, _tight(draw, nest, arch))


def _products(draw: st.DrawFn, shape: Shape) -> tuple[int, ...]:
    """Sizes of 3 to 7 prime factors, some of them less one so that unrolling leaves a remainder."""
    found = dict.fromkeys(shape.loops, 1)
    for _ in range(draw(st.integers(4, 8))):
        dim = draw(st.sampled_from(shape.loops))
        found[dim] *= draw(st.sampled_from((2, 2, 3) if dim in KERNEL_DIM else (2, 2, 2, 3, 3, 5)))
    return sizes(**{d.name: n - (n > 3 and draw(st.sampled_from((0, 0, 0, 1)))) for d, n in found.items()})


def _tight(draw: st.DrawFn, nest: Nest, arch: Arch) -> Arch:
    """The accelerator with memories as large as some mapping needs them, and a little more or less."""
    needed = dict.fromkeys(range(len(arch.memories)), 0)
    for (_, memory), bits in held_bits(nest, arch, draw_mapping(draw, nest), EXACT).items():
        needed[memory] += bits
    scale = draw(st.sampled_from((1.0, 1.0, 1.0, 1.0, 1.25, 1.5, 0.9)))
    memories = [
        replace(m, fetch_new=False, size_bits=max(1, int(needed[i] * scale))) for i, m in enumerate(arch.memories)
    ]
    tops = {o.memories[-1] for o in nest.operands}
    for top in tops:  # what lives there has to fit whole
        memories[top] = replace(memories[top], size_bits=max(memories[top].size_bits, needed[top]))
    return replace(arch, memories=tuple(memories))


def _sizes(draw: st.DrawFn, shape: Shape, budget: int) -> tuple[int, ...]:
    found: dict[str, int] = {}
    for dim in draw(st.permutations(shape.loops)):
        most = 3 if dim in KERNEL_DIM else 7
        found[dim.name] = draw(st.integers(1, max(1, min(most, budget))))
        budget //= found[dim.name]
    return sizes(**found)


def _unrolled(
    draw: st.DrawFn, shape: Shape, loops: tuple[int, ...], array_dims: tuple[ArrayDim, ...], most: int
) -> tuple[Unrolled, ...]:
    """Each array dimension takes a loop, on one lane now and then, or stays idle; else as ``unroll`` lays them out."""
    left = list(loops)
    chosen: list[Unrolled] = []
    for array_dim in array_dims:
        loop = draw(st.sampled_from([None, *(d for d in shape.loops if left[d] > 1)]))
        if loop is None:
            continue
        if draw(st.sampled_from((False, False, False, False, False, False, False, True))):
            chosen.append(Unrolled(array_dim.name, loop, 1, 1.0))
            continue
        steps = ceil(left[loop] / min(array_dim.size, left[loop]))
        share = left[loop] / steps
        lane_steps = prod(left) // left[loop] * steps * prod(u.lanes for u in chosen) * ceil(share)
        if ceil(share) > 1 and lane_steps <= most:
            chosen.append(Unrolled(array_dim.name, loop, ceil(share), share))
            left[loop] = steps
    return tuple(chosen)


def _arch(draw: st.DrawFn, array_dims: tuple[ArrayDim, ...]) -> tuple[Arch, dict[Role, tuple[int, ...]]]:
    """An accelerator, and the part of each role's path that the nest may use."""
    held = [{Role(r) for r in draw(st.sampled_from(PATHS))} for _ in range(draw(st.sampled_from(INNER)))]
    homeless = {role for role in Role if not any(role in roles for roles in held)}
    held.append(homeless | draw(st.sampled_from((set(Role), set(Role), {Role.O, Role.I}, {Role.O}))))
    paths: dict[Role, tuple[int, ...]] = {}
    used: dict[Role, tuple[int, ...]] = {}
    for role in (Role.O, Role.W, Role.I):
        paths[role] = tuple(m for m, roles in enumerate(held) if role in roles)
        cut_off = draw(st.sampled_from((0, 0, 0, 0, 1)))
        used[role] = paths[role][: max(1, len(paths[role]) - cut_off)][:4]
    tops = {path[-1] for path in used.values()}
    across: list[set[str]] = []
    for m, roles in enumerate(held):
        inner = [across[i] for i in range(m) if held[i] & roles]
        every = {d.name for d in array_dims}
        mine = every if m in tops else {name for name in sorted(every) if draw(st.sampled_from((False, False, True)))}
        across.append(mine.union(*inner))
    memories = tuple(_memory(draw, m, held[m], across[m], array_dims) for m in range(len(held)))
    array = OperationalArray(array_dims, 0.5, 0.25, 8, 8, 16, 8)
    return Arch("random", array, memories, paths, {}), used


def _memory(
    draw: st.DrawFn, number: int, held: set[Role], across: set[str], array_dims: tuple[ArrayDim, ...]
) -> Memory:
    roles = tuple(r for r in Role if r in held)
    read, write = draw(st.sampled_from(WIDTHS)), draw(st.sampled_from(WIDTHS))
    ports = make_ports(dict(draw(st.sampled_from(PORTS))))
    return Memory(
        name=f"m{number}",
        roles=roles,
        size_bits=1 << 24,
        read_bits_per_cycle=read,
        write_bits_per_cycle=write,
        read_pj=1.0 + number,
        write_pj=1.5 + number,
        min_read_bits=min(read, draw(st.sampled_from(LEAST))),
        min_write_bits=min(write, draw(st.sampled_from(LEAST))),
        across=tuple(sorted(across)),
        instances=prod(d.size for d in array_dims if d.name not in across),
        ports=ports,
        port_of=allocate(ports, roles),
        fetch_new=draw(st.sampled_from((False, False, True))),
    )


def _operands(
    draw: st.DrawFn, shape: Shape, loops: tuple[int, ...], used: dict[Role, tuple[int, ...]]
) -> tuple[NestOperand, ...]:
    found: list[NestOperand] = []
    for role, dims in ((Role.O, shape.outputs), *shape.inputs):
        bits = draw(st.sampled_from((*BITS, *BITS, 0)))
        partial = bits + draw(st.sampled_from((8, 0, 3, 16))) if bits and role is Role.O else bits
        windows = tuple(a for a in Axis if role is Role.I and _slides(a, dims, loops))
        found.append(NestOperand(role, dims, windows, bits, partial, used[role]))
    return tuple(found)


def _slides(axis: Axis, dims: tuple[Dim, ...], loops: tuple[int, ...]) -> bool:
    return OUTPUT_DIM[axis] in dims and KERNEL_DIM[axis] in dims and loops[KERNEL_DIM[axis]] > 1


def _windows(draw: st.DrawFn, shape: Shape, loops: tuple[int, ...]) -> tuple[tuple[int, int, int], ...]:
    """Strides, dilations, padding before, and input extents (0 where padding is not clipped)."""
    rows: list[tuple[int, int, int, int]] = []
    for axis in Axis:
        outputs, kernel = loops[OUTPUT_DIM[axis]], loops[KERNEL_DIM[axis]]
        if kernel == 1 or not any(_slides(axis, dims, loops) for _, dims in shape.inputs):
            rows.append((1, 1, 0, 0))
            continue
        stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        span = stride * (outputs - 1) + dilation * (kernel - 1) + 1
        pad = draw(st.integers(0, dilation * (kernel - 1)))
        after = draw(st.integers(0, dilation * (kernel - 1)))
        inputs = draw(st.sampled_from((0, max(1, span - pad - after), max(1, span - pad - after), span)))
        rows.append((stride, dilation, pad, inputs))
    strides, dilations, pads, extents = zip(*rows, strict=True)
    return strides, dilations, pads, extents


def draw_mapping(draw: st.DrawFn, nest: Nest) -> Mapping:
    """Any mapping of a nest: its loops in any order, with some split less far than possible."""
    factors: list[Loop] = []
    for dim in Dim:
        primes = draw(st.permutations(prime_factors(nest.temporal[dim])))
        if len(primes) > 1 and draw(st.booleans()):
            primes = [primes[0] * primes[1], *primes[2:]]
        factors += [Loop(dim, size) for size in primes]
    loops = tuple(draw(st.permutations(factors)))
    cuts: list[tuple[int, ...]] = []
    for operand in nest.operands:
        inner = [draw(st.integers(0, len(loops))) for _ in operand.memories[1:]]
        cuts.append((*sorted(inner), len(loops)))
    return Mapping(loops, tuple(cuts))


@st.composite
def idling_nests(draw: st.DrawFn) -> Case:
    """A random case, sometimes with idle steps."""
    case = draw(cases(400))
    steps = list(case.nest.temporal)
    for dim in range(len(steps)):
        if steps[dim] > 2 and draw(st.integers(0, 5)) == 0:
            steps[dim] += 1
    nest = case.nest.with_steps(tuple(steps))
    return replace(case, nest=nest, mapping=draw_mapping(draw, nest))


def cramped(arch: Arch, random: np.random.Generator) -> Arch:
    """The accelerator with some of its memories so small that operands contend for them."""
    sizes = [m.size_bits if random.random() < 0.4 else int(2 ** random.uniform(2, 11)) for m in arch.memories[:-1]]
    inner = [replace(m, size_bits=size) for m, size in zip(arch.memories, sizes, strict=False)]
    return replace(arch, memories=(*inner, arch.memories[-1]))
