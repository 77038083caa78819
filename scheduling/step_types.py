"""What the pricing of a streaming step answers: ways to run a range of its layers, each with what it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from dfc.backend_cost.mapping_cost import Objective
from dfc.hwdsl.arch import Arch
from dfc.scheduling.engine import StackCost
from dfc.scheduling.label_bounds import undominated
from dfc.scheduling.labels import Paths, W

#: into how many parts a memory is divided where the room that options take is compared
_PARTS = 64
#: counts for each stack where energies are compared, so that of equals few win
STACK_PJ = 1e-3
#: what costs at most by this share more than if all had the chip for themselves is good enough
_DEARER = 0.25
#: bits per memory, by its index in ``Arch.memories``
Bits = tuple[int, ...]


class Part(Enum):
    """Some of the ways to run a range of layers in every step.

    BROAD:   weights stay where they can; tiles as large as is good, and all places for what stays with these.
    DEEP:    the same, and all smaller tiles that leave others more room, with all places for what stays.
    FETCHED: weights that could stay come anew in every step.
    ALL:     all of them.
    """

    BROAD = "broad"
    DEEP = "deep"
    FETCHED = "fetched"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class StepOption:
    """One way to run a range of layers of a streaming step as one stack, in every step.

    energy_pj, latency_cycles: of a step in the steady state.
    first_energy_pj, first_cycles: what the first step costs more: weights that stay from step to step are loaded.
    resident_bits:  per memory, what stays from step to step: ring buffers, and weights where they are resident. Of all
                    stacks together, at the same time.
    transient_bits: per memory, the most that anything else takes while this stack runs, gaps between addresses counted.
    cost:           the priced plan: one step in the steady state.
    """

    energy_pj: float
    latency_cycles: int
    first_energy_pj: float
    first_cycles: int
    resident_bits: Bits
    transient_bits: Bits
    cost: StackCost


def fits_together(size_bits: Sequence[int], options: Sequence[StepOption]) -> bool:
    """Whether stacks can run one after the other in every step: all that is resident, and the most that is not.

    size_bits: per memory.
    """
    for m, bits in enumerate(size_bits):
        resident = sum(option.resident_bits[m] for option in options)
        if resident + max((option.transient_bits[m] for option in options), default=0) > bits:
            return False
    return True


def useful_options(options: Sequence[StepOption], arch: Arch) -> list[StepOption]:
    """The options that no other is as good as in all respects, by rising energy; of equal ones the first.

    Room is compared in parts of each memory: what takes less than one of them more is not worse for it.
    """
    grains = [max(1, memory.size_bits // _PARTS) for memory in arch.memories]

    def measures(option: StepOption) -> tuple[float, ...]:
        room = zip((*option.resident_bits, *option.transient_bits), (*grains, *grains), strict=True)
        parts = (-(-bits // grain) for bits, grain in room)
        return (option.energy_pj, option.latency_cycles, option.first_energy_pj, option.first_cycles, *parts)

    table = np.array([measures(option) for option in options])
    order = np.lexsort(table.T[::-1])
    return [options[i] for i in order[undominated(table[order])]]


def close(found: Paths[W], alone: Paths[W], objective: Objective) -> bool:
    """Whether stacks that fit together cost little more than if each had the chip for itself."""
    if not found.paths or not alone.paths:
        return False
    a, b = (objective.of(each.paths[0].energy_pj, each.paths[0].latency_cycles) for each in (found, alone))
    return a <= b * (1 + _DEARER)
