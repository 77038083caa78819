"""Small accelerators and loop nests, put together by hand for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

from dfc.backend_cost.nest import Loop, Mapping, Nest, NestOperand, Unrolled, Work
from dfc.hwdsl.arch import Arch, ArrayDim, Memory, OperationalArray
from dfc.hwdsl.ports import allocate, make_ports
from dfc.ir import CONV_INPUT_DIMS, CONV_WEIGHT_DIMS, KERNEL_DIM, OUTPUT_DIMS, Axis, Dim, Role, sizes

DIMS = {Role.O: OUTPUT_DIMS, Role.W: CONV_WEIGHT_DIMS, Role.I: CONV_INPUT_DIMS}


def memory(
    name: str,
    holds: str,
    *,
    read: int = 1024,
    write: int = 1024,
    least: int = 8,
    across: str = "ABC",
    ports: str = "rw",
) -> Memory:
    """A memory of ``read`` and ``write`` bits per cycle; ``ports`` "rw" is 1r 1w, "1" is one port for both."""
    roles = tuple(Role(role) for role in holds)
    made = make_ports({"rw": 1} if ports == "1" else {"r": 1, "w": 1} if ports == "rw" else {"r": 2, "w": 2})
    table = allocate(made, roles)
    return Memory(
        name, roles, 1 << 20, read, write, 2.0, 3.0, min(least, read), min(least, write), tuple(across), 1, made, table
    )


@dataclass(frozen=True)
class Example:
    """A convolution of the named loops; memories in order from the array outwards, every role on all that hold it.

    ``lanes`` lists (array dimension, loop, lanes). Finished values have 8 bits, partial sums 16.
    """

    loops: dict[str, int]
    memories: tuple[Memory, ...]
    lanes: tuple[tuple[str, str, int], ...] = ()
    stride: int = 1
    pad: int = 0
    extent: int = 0
    work: Work = Work.MAC
    roles: tuple[Role, ...] = (Role.O, Role.W, Role.I)
    bits: dict[Role, int] = field(default_factory=dict[Role, int])

    @property
    def arch(self) -> Arch:
        """The accelerator: three array dimensions A, B and C of 4."""
        array = OperationalArray(tuple(ArrayDim(d, 4) for d in "ABC"), 0.5, 0.25, 8, 8, 16, 8)
        paths = {role: tuple(i for i, m in enumerate(self.memories) if role in m.roles) for role in Role}
        return Arch("example", array, self.memories, paths, {})

    @property
    def nest(self) -> Nest:
        """The layer on it."""
        whole = sizes(**self.loops)
        paths = self.arch.paths
        operands: list[NestOperand] = []
        for role in self.roles:
            windows = tuple(a for a in Axis if role is Role.I and whole[KERNEL_DIM[a]] > 1)
            bits = self.bits.get(role, 8)
            operands.append(NestOperand(role, DIMS[role], windows, bits, 16 if role is Role.O else bits, paths[role]))
        unrolled: list[Unrolled] = []
        for array_dim, loop, lanes in self.lanes:
            taken = prod(u.lanes for u in unrolled if u.loop is Dim[loop])
            left = -(-whole[Dim[loop]] // taken)
            unrolled.append(Unrolled(array_dim, Dim[loop], lanes, left / -(-left // lanes)))
        per_axis = (1, 1, self.stride), (1, 1, 1)
        pads, inputs = (0, 0, self.pad), (0, 0, self.extent)
        return Nest(whole, *per_axis, tuple(operands), tuple(unrolled), self.work, pads, inputs)


def mapping(order: str, *cuts: tuple[int, ...]) -> Mapping:
    """A mapping from text, innermost loop first: ``mapping("C3 K2", (2,), (2,), (2,))``."""
    loops: list[Loop] = []
    for word in order.split():
        name = word.rstrip("0123456789")
        loops.append(Loop(Dim[name], int(word[len(name) :])))
    return Mapping(tuple(loops), cuts)
