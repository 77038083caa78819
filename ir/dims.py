"""Loop dimensions, axes and operand roles: the vocabulary of every other module."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Dim(IntEnum):
    """The ten loop dimensions of the one nest that every layer is::

        O[b,g,k,ot,oy,ox] += W[g,k,c,ft,fy,fx] * I[b,g,c, st*ot+dt*ft-pt, sy*oy+dy*fy-py, sx*ox+dx*fx-px]

    An integer, so that a dimension also indexes arrays and size vectors.
    """

    B = 0  # batch
    G = 1  # groups; the channels of depthwise, pooling and element-wise layers
    K = 2  # output channels of one group
    C = 3  # input channels of one group, or the contraction of a matrix product
    OT = 4  # output time (3-D networks)
    OY = 5  # output rows
    OX = 6  # output columns; the rows of a matrix product
    FT = 7  # kernel time
    FY = 8  # kernel rows
    FX = 9  # kernel columns


N_DIMS = len(Dim)


class Axis(IntEnum):
    """The three spatial axes of a feature map; indexes every ``(t, y, x)`` triple."""

    T = 0
    Y = 1
    X = 2


#: loops from place to place: a constant that changes along these is a map, not the weights or slopes of channels
PLACE_DIMS = frozenset({Dim.B, Dim.OT, Dim.OY, Dim.OX})
#: per axis: the output loop and the kernel loop that together address the input
OUTPUT_DIM = (Dim.OT, Dim.OY, Dim.OX)
KERNEL_DIM = (Dim.FT, Dim.FY, Dim.FX)


class Role(StrEnum):
    """Which path of memories an operand takes."""

    __hash__ = str.__hash__  # the enumeration's own runs in Python; roles are keys everywhere

    I = "I"  # noqa: E741  input feature maps
    W = "W"  # weights, or the second operand of a product of two feature maps
    O = "O"  # noqa: E741  outputs and partial sums


class Kind(StrEnum):
    """What a layer is to a chip: selects the spatial unrolling that the chip prefers, nothing else."""

    CONV = "conv"
    DEPTHWISE = "depthwise"
    POOL = "pool"
    ELTWISE = "eltwise"
    DENSE = "dense"
    MOVE = "move"  # data rearranged without arithmetic: concat, slice, resize, transpose
    VIEW = "view"  # the same bytes under another shape: costs nothing
    OPAQUE = "opaque"  # an operator that is not modelled; its traffic is
