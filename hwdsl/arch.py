"""The accelerator as the compiler sees it: frozen, built once from a ``.hw`` page.

Sizes in bits, bandwidths in bits per cycle, energies in pJ per access of a memory's full bandwidth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from math import prod

from dfc.errors import Span
from dfc.ir import Dim, Kind, Role


class Move(IntEnum):
    """The four directions in which a word crosses a memory's edge, seen from that memory.

    "Below" is towards the operational array, "above" towards DRAM.
    """

    READ_DOWN = 0  # feeds the level below (rd_out_to_low)
    WRITE_UP = 1  # takes from the level below (wr_in_by_low)
    READ_UP = 2  # sends to the level above (rd_out_to_high)
    WRITE_DOWN = 3  # takes from the level above (wr_in_by_high)

    @property
    def reads(self) -> bool:
        """Whether the memory is read, not written."""
        return self in (Move.READ_DOWN, Move.READ_UP)


@dataclass(frozen=True, slots=True)
class ArrayDim:
    """One dimension of the operational array."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class OperationalArray:
    """The multiply-accumulate units.

    ``mac_pj`` is the energy of one multiply-accumulate, ``op_pj`` of one operation of a layer that only adds
    or compares (pooling, addition). The precisions are those of the operands as the chip computes and stores
    them.
    """

    dims: tuple[ArrayDim, ...]
    mac_pj: float
    op_pj: float
    input_bits: int
    weight_bits: int
    partial_bits: int
    output_bits: int

    @property
    def units(self) -> int:
        """How many operations it does per cycle."""
        return prod(d.size for d in self.dims)


@dataclass(frozen=True, slots=True)
class Port:
    """A way in or out of a memory: ``kind`` is "r", "w" or "rw"."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Memory:
    """One memory level.

    roles:        the operands it holds, in the order in which the page names them.
    across:       array dimensions that one instance serves; there is one instance per position of the other
                  dimensions.
    instances:    how many instances there are.
    port_of:      index into ``ports`` for each (role, move) that crosses its edge.
    read_bits_per_cycle, write_bits_per_cycle: of each port in that direction.
    read_pj, write_pj: per access of the full bandwidth; a narrower access costs its share, in steps of
                  ``min_read_bits`` and ``min_write_bits``.
    span, size_span: where the page declares the memory, and where it sets its size.
    """

    name: str
    roles: tuple[Role, ...]
    size_bits: int
    read_bits_per_cycle: int
    write_bits_per_cycle: int
    read_pj: float
    write_pj: float
    min_read_bits: int
    min_write_bits: int
    across: tuple[str, ...]
    instances: int
    ports: tuple[Port, ...]
    port_of: Mapping[tuple[Role, Move], int]
    fetch_new: bool = False
    span: Span | None = None
    size_span: Span | None = field(default=None, compare=False)

    def width(self, move: Move) -> int:
        """Bits per cycle of each port in a move's direction."""
        return self.read_bits_per_cycle if move.reads else self.write_bits_per_cycle

    def word_pj(self, move: Move) -> float:
        """Energy of one access of the full bandwidth in a move's direction."""
        return self.read_pj if move.reads else self.write_pj


@dataclass(frozen=True, slots=True)
class Unroll:
    """A loop on an array dimension, at most ``size`` wide (0: as wide as the dimension)."""

    array_dim: str
    loop: Dim
    size: int = 0


@dataclass(frozen=True)
class Arch:
    """An accelerator.

    memories: in the order of the page, which is the order in which a mapper fills them.
    paths:    per role, indices into ``memories`` from the array outwards; the last is the off-chip memory.
    unrolls:  per kind of layer, the spatial unrolling that the chip prefers. An array dimension that a kind
              does not name stays idle; a loop that the layer lacks (size 1) unrolls by 1.
    """

    name: str
    array: OperationalArray
    memories: tuple[Memory, ...]
    paths: Mapping[Role, tuple[int, ...]]
    unrolls: Mapping[Kind, tuple[Unroll, ...]]
    clock_hz: float = 1e9
    source: str = ""
    notes: tuple[str, ...] = field(default=())

    def level(self, role: Role, memory: int) -> int:
        """The level at which a memory stands on a role's path, counted from the array; -1 if it does not."""
        path = self.paths[role]
        return path.index(memory) if memory in path else -1

    @property
    def weight_capacity_bits(self) -> int:
        """Size of the largest on-chip weight memory: the second from the top of the weights' path."""
        path = self.paths[Role.W]
        return self.memories[path[-2]].size_bits if len(path) > 1 else 0

    @property
    def without_places(self) -> Arch:
        """The same accelerator without spans and source, for comparing what pages say rather than where."""
        memories = tuple(replace(memory, span=None) for memory in self.memories)
        return replace(self, memories=memories, source="")
