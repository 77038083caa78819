"""Operators that are not modelled: they stay as layers that read and write everything and are barriers."""

from __future__ import annotations

from collections.abc import Sequence

from dfc.frontend.shapes import FEATURE_DIMS, feature_sizes, full_maps
from dfc.frontend.values import Value
from dfc.ir import Kind, Layer, Operand, Origin, Role, Source


def opaque_layer(
    name: str,
    origin: Origin,
    reads: Sequence[Value],
    writes: Sequence[Value],
    inner_constants: int = 0,
) -> Layer:
    """Feature maps on one I operand, constants on one W operand; sizes are those of the first output.

    ``inner_constants`` counts the elements of constants in the bodies of a node (of an If or a Loop).
    """
    moving = tuple(Source(v.name, full_maps(v)) for v in reads if not v.constant)
    fixed = [v for v in reads if v.constant and v.elements > 1]
    operands: list[Operand] = []
    if moving:
        operands.append(Operand(Role.I, FEATURE_DIMS, moving))
    if fixed:
        operands.append(Operand(Role.W, FEATURE_DIMS, tuple(Source(v.name) for v in fixed), constant=True))
    return Layer(
        name=name,
        kind=Kind.OPAQUE,
        op=origin.op_type.lower(),
        inputs=tuple(operands),
        outputs=tuple(v.name for v in writes),
        sizes=feature_sizes(writes[0]),
        weight_elements=sum(v.elements for v in fixed) + inner_constants,
        barrier=True,
        origin=(origin,),
    )
