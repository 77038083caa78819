"""What may stay from step to step, and where: ring buffers and weights, in one memory or shared out over two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

from dfc.ir import Role
from dfc.scheduling.placement import Lasting, Resident

K = TypeVar("K", int, str)

#: parts of a lower memory that are filled where not all has room in it
_WEIGHT_PARTS = (0.25, 0.5, 0.75)
_RING_PARTS = (0.5, 0.875)


def ways_to_stay(resident: Resident) -> Iterator[Lasting]:
    """Where ring buffers and weights may lie, off chip last, and whether weights stay from step to step."""
    for weights in _weights(resident):
        for lasting in (*_split_rings(resident, weights), *resident.uniform(weights)):
            if weights:
                yield replace(lasting, resident=frozenset(weights))
            yield lasting


def _weights(resident: Resident) -> list[Mapping[int, int]]:
    """Memories of weights by layer: all in one, or as many as fit part of a lower one and the rest in the next."""
    found: list[Mapping[int, int]] = list(resident.weight_choices())
    if len(found) > 1 and len(found[0]) == len(resident.weight_bits):
        found.pop()  # where all have room, none is fetched for each tile
    arch = resident.arch
    single = [m for m in arch.paths[Role.W][:-1] if arch.memories[m].instances == 1]
    total = sum(resident.weight_bits.values())
    for low, high in pairwise(single):
        room = _left(resident, low)
        if total <= room or total > _left(resident, high):
            continue
        for part in _WEIGHT_PARTS:
            below = _filled(resident.weight_bits, int(room * part))
            if below:
                found.insert(0, {i: low if i in below else high for i in resident.weight_bits})
    return list({tuple(choice.items()): choice for choice in found}.values())


def _split_rings(resident: Resident, weights: Mapping[int, int]) -> Iterator[Lasting]:
    """Ring buffers of which the lowest memory has room for a part alone, the rest in the next one."""
    on_chip = resident.ladder[:-1]
    bits = {t: resident.line_bits(t, ring) for t, (_, ring) in resident.line_buffers.items() if ring}
    if len(on_chip) < 2 or sum(bits.values()) <= _left(resident, on_chip[0]):
        return
    along = {t: on_chip[0] for t, (buffer, _) in resident.line_buffers.items() if buffer}
    seen: set[frozenset[str]] = set()
    for part in _RING_PARTS:
        below = frozenset(_filled(bits, int(_left(resident, on_chip[0]) * part)))
        if below and below not in seen:
            seen.add(below)
            across = {t: on_chip[0] if t in below else on_chip[1] for t in bits}
            yield resident.lasting(along, across, weights)


def _left(resident: Resident, memory: int) -> int:
    """Bits of a memory that others leave."""
    return resident.arch.memories[memory].size_bits - resident.reserved.get(memory, 0)


def _filled(bits: Mapping[K, int], room: int) -> set[K]:
    """As much as has room, the largest first."""
    found: set[K] = set()
    for key, size in sorted(bits.items(), key=lambda item: -item[1]):
        if size <= room:
            room -= size
            found.add(key)
    return found
