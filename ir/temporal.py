"""How a network runs along time: which axis of each tensor is time, and what each node reads along it.

Positions count from the start of the window, the input that the model is made for. Position ``p`` of a tensor of
stride ``s`` belongs to frame ``s*p`` of the window. Where no padding is involved, its value depends on that frame of
the stream alone, wherever the window begins: this is what a streaming form keeps instead of computing it again.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """Output position ``p`` reads input positions ``stride*p + lo + dilation*f`` for ``f`` in ``[0, kernel)``.

    ``lo`` is minus the padding before the first position, or where a slice begins. What lies outside the input is
    padding.
    """

    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    lo: int = 0

    @property
    def hi(self) -> int:
        """The last position that output position 0 reads."""
        return self.lo + self.dilation * (self.kernel - 1)


#: element-wise along time
PER_POSITION = TimeWindow()


@dataclass(frozen=True, slots=True)
class TimedTensor:
    """A tensor that depends on the input.

    axis:   which of its axes is time; None where it has none left and belongs to a window as a whole.
    stride: input frames from one position to the next.
    """

    name: str
    shape: tuple[int, ...]
    bits: int
    axis: int | None = None
    stride: int = 1

    @property
    def length(self) -> int:
        """Positions along time; 1 without a time axis."""
        return 1 if self.axis is None else self.shape[self.axis]

    @property
    def position_bits(self) -> int:
        """Bits of one position along time (of the whole tensor where it has no time axis)."""
        bits = self.bits
        for axis, extent in enumerate(self.shape):
            bits *= 1 if axis == self.axis else extent
        return bits


@dataclass(frozen=True, slots=True)
class TimedNode:
    """An operator of the model that depends on the input.

    reads:      tensors that depend on the input, each once; constants are not among them.
    window:     what it reads along time, the same for every tensor with a time axis; None where it needs whole windows.
    slides:     its kernel runs along the time axis, so that its stride, dilation and padding can be set there.
    margin:     input positions that it needs at an end of the window to make up what lies beyond: one, or those that
                it mirrors.
    dilates:    its kernel can be dilated (average pools cannot, in most operator sets).
    reduces:    it needs the whole window because it reduces over time, and over nothing that time was mixed with.
    barrier:    why it mixes time with something else; "" where it does not.
    layers:     names of the layers that the importer made of it.
    macs:       multiply-accumulates for the whole window.
    """

    name: str
    op: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    window: TimeWindow | None
    slides: bool = False
    margin: int = 1
    dilates: bool = True
    reduces: bool = False
    barrier: str = ""
    layers: tuple[str, ...] = ()
    macs: int = 0


@dataclass(frozen=True)
class TimeNetwork:
    """The part of a model that depends on its inputs, in topological order.

    ``frames`` is the input with the time axis; ``inputs`` are all of them. ``names`` are those of all tensors of the
    model, constants and those inside of bodies too: what is added to it must have others.
    """

    name: str
    frames: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: Mapping[str, TimedTensor]
    nodes: tuple[TimedNode, ...]
    names: frozenset[str]

    @property
    def window(self) -> int:
        """Frames of one window."""
        return self.tensors[self.frames].length

    @cached_property
    def producer(self) -> Mapping[str, TimedNode]:
        """The node that writes each tensor."""
        return MappingProxyType({name: node for node in self.nodes for name in node.writes})


def free_name(wanted: str, *taken: Container[str]) -> str:
    """``wanted``, with a number behind it where something has that name."""
    name, number = wanted, 2
    while any(name in names for names in taken):
        name, number = f"{wanted}.{number}", number + 1
    return name
