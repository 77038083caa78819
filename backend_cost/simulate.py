"""A slow and obvious simulator: the judge of the exact cost model.

It walks the loop nest of a small layer step by step, keeps sets of what each memory instance holds, counts every
word in each direction, and plays the transfers on the ports of the memories. It shares no formula with the cost
model. docs/simulator.md states what moves when::

    simulation = simulate(nest, arch, mapping)
    simulation.words[0, 1, Move.WRITE_UP]  # words of the first operand that its second memory takes from below
    simulation.total_cycles
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from dfc.backend_cost.nest import Mapping, Nest
from dfc.backend_cost.simulate_time import play
from dfc.backend_cost.simulate_walk import walk
from dfc.backend_cost.simulate_words import Traffic, count, transfers
from dfc.hwdsl.arch import Arch

#: steps x lanes that are simulated without being asked twice: some ten seconds
LIMIT = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation(Traffic):
    """What a mapping moves, and when.

    loading_cycles: the cycle in which the first step starts.
    running_cycles: the cycle in which the last step has ended.
    total_cycles:   the cycle in which the last output has reached its uppermost memory.
    port_busy:      busy cycles by (memory, port), of all ports of the memories that the nest uses.
    """

    loading_cycles: int
    running_cycles: int
    total_cycles: int
    port_busy: dict[tuple[int, int], int]


def simulate(
    nest: Nest,
    arch: Arch,
    mapping: Mapping,
    *,
    double_buffer: frozenset[tuple[int, int]] = frozenset(),
    limit: int = LIMIT,
) -> Simulation:
    """Words and cycles of one mapping.

    ``double_buffer`` holds the pairs (index in ``nest.operands``, level on its path) that are double buffered.

    Raises:
        UsageError: CLI050 where steps x lanes exceed ``limit``; CLI051 where the mapping is none of this nest.
    """
    walked = walk(nest, arch, mapping, limit)
    moved = transfers(walked)
    traffic = count(walked, moved)
    clock = play(walked, moved, double_buffer)
    return Simulation(
        **{f.name: getattr(traffic, f.name) for f in fields(traffic)},
        loading_cycles=clock.loading_cycles,
        running_cycles=clock.running_cycles,
        total_cycles=clock.total_cycles,
        port_busy=clock.port_busy,
    )


def simulate_words(nest: Nest, arch: Arch, mapping: Mapping, *, limit: int = LIMIT) -> Traffic:
    """The words of one mapping without the time: some times faster than :func:`simulate`. Raises as it does."""
    walked = walk(nest, arch, mapping, limit)
    return count(walked, transfers(walked))
