"""The intermediate representation: frozen types, region arithmetic, verifier and text form."""

from dfc.ir.dims import KERNEL_DIM, N_DIMS, OUTPUT_DIM, PLACE_DIMS, Axis, Dim, Kind, Role
from dfc.ir.graph import (
    CONV_INPUT_DIMS,
    CONV_WEIGHT_DIMS,
    OUTPUT_DIMS,
    Graph,
    Layer,
    Operand,
    Origin,
    Sizes,
    Source,
    Tensor,
    Triple,
    sizes,
)
from dfc.ir.regions import EMPTY, IDENTITY, SAME, AxisMap, Interval
from dfc.ir.temporal import PER_POSITION, TimedNode, TimedTensor, TimeNetwork, TimeWindow, free_name
from dfc.ir.text import print_graph
from dfc.ir.text_parse import parse_graph
from dfc.ir.verify import dead_layers, problems, verify

__all__ = [
    "CONV_INPUT_DIMS",
    "CONV_WEIGHT_DIMS",
    "EMPTY",
    "IDENTITY",
    "KERNEL_DIM",
    "N_DIMS",
    "OUTPUT_DIM",
    "OUTPUT_DIMS",
    "PER_POSITION",
    "PLACE_DIMS",
    "SAME",
    "Axis",
    "AxisMap",
    "Dim",
    "Graph",
    "Interval",
    "Kind",
    "Layer",
    "Operand",
    "Origin",
    "Role",
    "Sizes",
    "Source",
    "Tensor",
    "TimeNetwork",
    "TimeWindow",
    "TimedNode",
    "TimedTensor",
    "Triple",
    "dead_layers",
    "free_name",
    "parse_graph",
    "print_graph",
    "problems",
    "sizes",
    "verify",
]
