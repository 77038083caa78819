"""Maps that one stack of a step hands to a later one on chip: the one over a cut, and the memories where it can wait.

Such a map has a place of its own from step to step, in which its past is its ring buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dfc.hwdsl.arch import Arch
from dfc.ir import Graph
from dfc.passes.stacks import stands_alone

#: a map may wait on chip where it takes at most one part in so many of a memory; where room is scarce, wherever it fits
LITTLE = 4


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The one map over a cut: its name, the layer that makes it, and the last that reads it."""

    name: str
    maker: int
    last: int


def handed_over(graph: Graph, cut: int) -> HandedOver | None:
    """The one map that the first ``cut`` layers hand to the others; None where there are several, or where it cannot
    wait on chip: it also leaves the network, or a layer that stands alone makes or reads it.
    """
    last = {name: max(users, default=-1) for name, users in graph.consumers.items()}
    over = [name for layer in graph.layers[:cut] for name in layer.outputs if last[name] >= cut]
    if len(over) != 1 or over[0] in graph.outputs:
        return None
    maker, readers = graph.producer[over[0]], graph.consumers[over[0]]
    around = [graph.layers[i] for i in (maker, *readers)]
    if min(readers) < cut or any(map(stands_alone, around)):
        return None
    return HandedOver(over[0], maker, max(readers))


def waiting_rooms(graph: Graph, arch: Arch, name: str, memories: Sequence[int], part: int = LITTLE) -> list[int]:
    """Which of ``memories`` a map with its past takes at most one part in so many of, in their order."""
    bits = graph.tensors[name].elements * arch.array.output_bits
    return [m for m in memories if bits * part <= arch.memories[m].size_bits]
