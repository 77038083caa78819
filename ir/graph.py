"""Tensors, layers and graphs: frozen, and all that passes and backends know of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from types import MappingProxyType

from dfc.ir.dims import KERNEL_DIM, N_DIMS, OUTPUT_DIM, Axis, Dim, Kind, Role
from dfc.ir.regions import SAME, AxisMap, Interval

Sizes = tuple[int, ...]  # ten loop sizes, indexed by Dim
Triple = tuple[int, int, int]  # one number per axis: (t, y, x)


def sizes(**loops: int) -> Sizes:
    """A size vector from named loops, ``sizes(K=64, OX=56)``; the rest are 1."""
    vector = [1] * N_DIMS
    for name, value in loops.items():
        vector[Dim[name]] = value
    return tuple(vector)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array of ``shape`` elements of ``bits`` each, as the model stores it.

    The shape is the model's own. ``batch``, ``channels`` and ``spatial`` view it as a feature map
    ``(N, C[, T][, Y], X)``: rank 3 has X, rank 4 has Y and X, rank 5 has T, Y and X; rank 2 is ``(N, C)``.
    """

    name: str
    shape: tuple[int, ...]
    bits: int = 32

    @property
    def elements(self) -> int:
        """How many elements it holds; a scalar holds one."""
        return prod(self.shape)

    @property
    def batch(self) -> int:
        """The first dimension, where there are at least two."""
        leading = self.shape[:-1]
        return leading[0] if leading else 1

    @property
    def channels(self) -> int:
        """The second dimension (the only one of a vector)."""
        leading = self.shape[:2]
        return leading[-1] if leading else 1

    @property
    def spatial(self) -> Triple:
        """Extents along (t, y, x); axes that the tensor lacks are 1, and axes beyond the fifth join T."""
        rest = self.shape[2:]
        t, y, x = (1, 1, 1, *rest)[-3:]
        return (t * prod(rest[:-3]), y, x)


@dataclass(frozen=True, slots=True)
class Origin:
    """The ONNX node that a layer came from."""

    node: str
    op_type: str


@dataclass(frozen=True, slots=True)
class Source:
    """One feature map that an operand reads, and where: one map per axis (t, y, x)."""

    tensor: str
    maps: tuple[AxisMap, AxisMap, AxisMap] = SAME


@dataclass(frozen=True, slots=True)
class Operand:
    """One input of the loop nest.

    ``dims`` are the loops that address it (sorted). Where an output loop and its kernel loop are both among them, the
    operand is addressed by their window. ``sources`` are several where parts of the operand come from several tensors
    (concatenation); their maps say which part of each a tile needs. A ``constant`` operand is known at compile time:
    weights and biases.
    """

    role: Role
    dims: tuple[Dim, ...]
    sources: tuple[Source, ...]
    constant: bool = False


#: the loops that address each operand of the nest in :class:`Dim`'s docstring
CONV_INPUT_DIMS = (Dim.B, Dim.G, Dim.C, Dim.OT, Dim.OY, Dim.OX, Dim.FT, Dim.FY, Dim.FX)
CONV_WEIGHT_DIMS = (Dim.G, Dim.K, Dim.C, Dim.FT, Dim.FY, Dim.FX)
OUTPUT_DIMS = (Dim.B, Dim.G, Dim.K, Dim.OT, Dim.OY, Dim.OX)


@dataclass(frozen=True, slots=True)
class Layer:
    """One loop nest over the ten dimensions, with what it reads and the one or more tensors that it writes.

    name:     unique in the graph; the ONNX node's name where it has one.
    op:       the operator in the field's own word ("conv", "maxpool", "add", ...); for people and for executors.
    inputs:   operands; at most one has role W.
    outputs:  one tensor, save for opaque layers, which may write several.
    sizes:    the ten loop sizes for the whole output. OT, OY and OX equal the output's extents divided (and rounded up)
              by ``phases``.
    strides, dilations: of the window, per axis (t, y, x), in the nest's own coordinates.
    phases:   output positions that one iteration of OT, OY, OX stands for: a transposed convolution of stride s is s*s
              interleaved convolutions, so it has phases s and s*s times the K; nearest upsampling and depth-to-space
              likewise.
    macs:     multiply-accumulates of the whole layer as the field counts them: 0 for pooling and element-wise layers.
    weight_elements: constants that it reads, biases included.
    fused:    element-wise work done on the output before it is written ("relu", "batch_norm", ...), in order.
    barrier:  its output positions need input positions that no axis map can express; it is never tiled, and stands in
              a stack of its own (element-wise work may still be fused into it).
    """

    name: str
    kind: Kind
    op: str
    inputs: tuple[Operand, ...]
    outputs: tuple[str, ...]
    sizes: Sizes
    strides: Triple = (1, 1, 1)
    dilations: Triple = (1, 1, 1)
    phases: Triple = (1, 1, 1)
    macs: int = 0
    weight_elements: int = 0
    fused: tuple[str, ...] = ()
    barrier: bool = False
    origin: tuple[Origin, ...] = ()

    @property
    def output(self) -> str:
        """The tensor that it writes (the first, for opaque layers)."""
        return self.outputs[0]

    @property
    def operations(self) -> int:
        """Iterations of the whole nest."""
        return prod(self.sizes)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Every feature map that it reads, in order; constants are not among them."""
        return tuple(s for o in self.inputs if not o.constant for s in o.sources)

    def tile_sizes(self, extents: Triple) -> Sizes:
        """The ten loop sizes that compute an output region of ``extents`` (t, y, x) positions.

        A barrier is computed as a whole: its loops need not run along the output's own axes (the rows of a matrix
        product lie on OX, whatever the shape of the product).
        """
        if self.barrier:
            return self.sizes
        loops = list(self.sizes)
        for axis in Axis:
            loops[OUTPUT_DIM[axis]] = -(-extents[axis] // self.phases[axis])
        return tuple(loops)

    def window(self, axis: Axis) -> tuple[int, int, int]:
        """(kernel size, stride, dilation) of the nest along an axis."""
        return self.sizes[KERNEL_DIM[axis]], self.strides[axis], self.dilations[axis]


def _frozen(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return MappingProxyType(dict(tensors))


@dataclass(frozen=True)
class Graph:
    """Layers in topological order, and the tensors between them.

    ``inputs`` and ``outputs`` name the network's own; ``notes`` say what the importer assumed or left unmodelled.

    A graph with a ``time`` axis is one step of a network that runs again and again. There a tensor may have a ``past``:
    so many of its first positions along time were made (or, of a network input, received) by earlier steps, and only
    the others are made by this one. Loop sizes count these; axis maps take positions of the whole tensor to positions
    of the whole tensor. A network output with a past hands out what is new.
    """

    name: str
    tensors: Mapping[str, Tensor]
    layers: tuple[Layer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())
    time: Axis | None = None
    past: Mapping[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", _frozen(self.tensors))
        object.__setattr__(self, "past", MappingProxyType(dict(self.past)))

    def past_along(self, tensor: str, axis: Axis) -> int:
        """How many of a tensor's first positions along an axis were made by earlier steps."""
        return self.past.get(tensor, 0) if axis is self.time else 0

    def made(self, tensor: str) -> Triple:
        """Extents along (t, y, x) of what is made (or received) of a tensor: all of it but its past."""
        t, y, x = (
            n - self.past_along(tensor, axis) for axis, n in zip(Axis, self.tensors[tensor].spatial, strict=True)
        )
        return t, y, x

    def made_along(self, tensor: str, axis: Axis) -> Interval:
        """The positions along an axis that are made of a tensor."""
        return Interval(self.past_along(tensor, axis), self.tensors[tensor].spatial[axis])

    def made_shape(self, tensor: str) -> tuple[int, ...]:
        """The shape of what is made (or received) of a tensor."""
        shape = list(self.tensors[tensor].shape)
        if self.past.get(tensor) and self.time is not None:
            shape[int(self.time) - len(Axis)] -= self.past[tensor]
        return tuple(shape)

    def made_elements(self, tensor: str) -> int:
        """Elements that are made of a tensor."""
        past = self.past.get(tensor, 0)
        whole = self.tensors[tensor]
        if not past or self.time is None:
            return whole.elements
        return whole.elements // whole.spatial[self.time] * (whole.spatial[self.time] - past)

    @cached_property
    def producer(self) -> Mapping[str, int]:
        """For each tensor that a layer writes, that layer's index."""
        return MappingProxyType({t: i for i, layer in enumerate(self.layers) for t in layer.outputs})

    @cached_property
    def consumers(self) -> Mapping[str, tuple[int, ...]]:
        """For each tensor, the indices of the layers that read it, in order and each once."""
        found: dict[str, list[int]] = {name: [] for name in self.tensors}
        for i, layer in enumerate(self.layers):
            for name in dict.fromkeys(s.tensor for s in layer.sources):
                found[name].append(i)
        return MappingProxyType({name: tuple(users) for name, users in found.items()})

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Layer index by name."""
        return MappingProxyType({layer.name: i for i, layer in enumerate(self.layers)})

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the network."""
        return sum(layer.macs for layer in self.layers)
