"""Copies of feature maps between memory levels: what a depth-first schedule moves outside of the loop nests (B.c).

A copy goes hop by hop through neighbouring levels. The copies of one group start together; a port that several of them
need serves one after the other. What was copied before, beside layers that ran (``beside.py``), is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil
from typing import TypeVar

from dfc.backend_cost.timing_tables import Port
from dfc.hwdsl.arch import Arch, Move
from dfc.ir import Role

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Place:
    """A memory as seen from one role's path; ``level`` counts from the array."""

    role: Role
    level: int


@dataclass(frozen=True, slots=True)
class Copy:
    """``bits`` of a tensor to be copied; ``what`` says why, for reports ("input", "read H cache", ...)."""

    what: str
    tensor: str
    bits: int
    source: Place
    target: Place


@dataclass(frozen=True, slots=True)
class Hop:
    """One step between neighbouring memories: the ports that it holds, for how long, and what it costs."""

    role: Role
    sender: int
    receiver: int
    send: Move
    receive: Move
    cycles: int
    read_bits: float
    write_bits: float
    read_pj: float
    write_pj: float


@dataclass(frozen=True, slots=True)
class Beside:
    """Cycles of a copy that pass while a layer runs, before that for which it is made; copies count as they are listed.

    ``ahead``: in the tile before.
    """

    copy: int
    layer: int
    ahead: bool
    cycles: int


@dataclass(frozen=True)
class CopyCost:
    """What a group of copies costs; energies in pJ by (memory, role), bits moved by memory."""

    energy_pj: float
    latency_cycles: int
    memory_pj: dict[tuple[int, Role], float]
    read_bits: dict[int, float]
    write_bits: dict[int, float]


def _climb(role: Role, start: int, end: int) -> list[tuple[Role, int, int]]:
    """Hops (role, from level, to level) along one role's path."""
    step = 1 if end > start else -1
    return [(role, i, i + step) for i in range(start, end, step)]


def route(arch: Arch, source: Place, target: Place) -> list[tuple[Role, int, int]]:
    """The hops of a copy as (role, from level, to level) on that role's path; none when it stays in one memory."""
    if source.role is target.role:
        return _climb(source.role, source.level, target.level)
    here = arch.paths[source.role]
    there = arch.paths[target.role]
    if here[source.level] == there[target.level]:
        return []
    for level in range(source.level, len(here)):
        meet = arch.level(target.role, here[level])
        if meet >= target.level:
            return _climb(source.role, source.level, level) + _climb(target.role, meet, target.level)
    raise ValueError(
        f"no memory joins the paths of {source.role} and {target.role}"
    )  # pages are checked for a common top


def hops(arch: Arch, copy: Copy) -> list[Hop]:
    """The hops of a copy with their cost (B.c.2): the wider port waits for the narrower."""
    found: list[Hop] = []
    for role, start, end in route(arch, copy.source, copy.target):
        sender, receiver = arch.memories[arch.paths[role][start]], arch.memories[arch.paths[role][end]]
        up = end > start
        out_step, in_step = sender.min_read_bits, receiver.min_write_bits
        words_out = ceil(copy.bits / out_step) * (out_step / sender.read_bits_per_cycle)
        words_in = ceil(copy.bits / in_step) * (in_step / receiver.write_bits_per_cycle)
        found.append(
            Hop(
                role=role,
                sender=arch.paths[role][start],
                receiver=arch.paths[role][end],
                send=Move.READ_UP if up else Move.READ_DOWN,
                receive=Move.WRITE_UP if up else Move.WRITE_DOWN,
                cycles=max(
                    ceil(copy.bits / sender.read_bits_per_cycle),
                    ceil(copy.bits / receiver.write_bits_per_cycle),
                ),
                read_bits=words_out * sender.read_bits_per_cycle,
                write_bits=words_in * receiver.write_bits_per_cycle,
                read_pj=words_out * sender.read_pj,
                write_pj=words_in * receiver.write_pj,
            )
        )
    return found


def price_copies(arch: Arch, copies: Iterable[Copy]) -> CopyCost:
    """Energy and time of a group of copies that start together."""
    energy: dict[tuple[int, Role], float] = {}
    read: dict[int, float] = {}
    write: dict[int, float] = {}
    ways = [hops(arch, copy) for copy in copies]
    for hop in chain.from_iterable(ways):
        for memory, pj in ((hop.sender, hop.read_pj), (hop.receiver, hop.write_pj)):
            energy[memory, hop.role] = energy.get((memory, hop.role), 0.0) + pj
        read[hop.sender] = read.get(hop.sender, 0.0) + hop.read_bits
        write[hop.receiver] = write.get(hop.receiver, 0.0) + hop.write_bits
    cycles = max(map(_port_end, _spans_by_port(arch, ways, [0] * len(ways))), default=0)
    return CopyCost(sum(energy.values()), cycles, energy, read, write)


def hop_ports(arch: Arch, hop: Hop) -> tuple[Port, Port]:
    """The ports that a hop uses at once."""
    sends = arch.memories[hop.sender].port_of[hop.role, hop.send]
    receives = arch.memories[hop.receiver].port_of[hop.role, hop.receive]
    return (hop.sender, sends), (hop.receiver, receives)


def group_cycles(arch: Arch, copies: Iterable[Copy], done_cycles: Sequence[int]) -> int:
    """Time of a group of copies that start together, of each of which so many cycles have passed before."""
    ways = [hops(arch, copy) for copy in copies]
    return max(map(_port_end, _spans_by_port(arch, ways, done_cycles)), default=0)


def least_cycles(arch: Arch, copies: Iterable[Copy]) -> int:
    """What the time of a group is not below in which these are, whatever else is in it."""
    ways = [hops(arch, copy) for copy in copies]
    each = _spans_by_port(arch, ways, [0] * len(ways))
    return max((max(sum(e - s for s, e in spans), max(e for _, e in spans)) for spans in each), default=0)


def _spans_by_port(
    arch: Arch, ways: Sequence[Sequence[Hop]], done_cycles: Sequence[int]
) -> Iterable[list[tuple[int, int]]]:
    """When copies that start together would use each port, without the first cycles of their ways, if none waited."""
    busy: dict[Port, list[tuple[int, int]]] = {}
    for way, done in zip(ways, done_cycles, strict=True):
        start = -done
        for hop in way:
            end = start + hop.cycles
            if end > 0:
                for port in hop_ports(arch, hop):
                    busy.setdefault(port, []).append((max(0, start), end))
            start = end
    return busy.values()


class CopyRates:
    """Energy and time of single copies, quickly: what crosses each way costs is worked out once."""

    def __init__(self, arch: Arch):
        self.arch = arch
        self._ways: dict[tuple[Place, Place], tuple[tuple[int, float], ...]] = {}

    def energy_pj(self, copy: Copy) -> float:
        """As :func:`price_copies`, whatever it starts together with."""
        way = self._ways.get((copy.source, copy.target))
        if way is None:
            way = self._ways[copy.source, copy.target] = tuple(self._accesses(copy))
        return sum(ceil(copy.bits / bits) * pj for bits, pj in way)

    def cycles(self, copy: Copy) -> int:
        """Of the copy alone."""
        return sum(hop.cycles for hop in hops(self.arch, copy))

    def _accesses(self, copy: Copy) -> Iterator[tuple[int, float]]:
        """The smallest accesses on a way: bits and energy."""
        for role, start, end in route(self.arch, copy.source, copy.target):
            sender, receiver = (
                self.arch.memories[self.arch.paths[role][start]],
                self.arch.memories[self.arch.paths[role][end]],
            )
            yield sender.min_read_bits, sender.read_pj * sender.min_read_bits / sender.read_bits_per_cycle
            yield receiver.min_write_bits, receiver.write_pj * receiver.min_write_bits / receiver.write_bits_per_cycle


def _port_end(spans: list[tuple[int, int]]) -> int:
    """When a port is done: at the latest end, or later if its transfers had to queue."""
    queued = min(s for s, _ in spans) + sum(e - s for s, e in spans)
    return max(queued, max(e for _, e in spans))


def in_sequence(first: CopyCost, then: CopyCost) -> CopyCost:
    """Two groups of copies one after the other."""

    def merged(a: dict[K, float], b: dict[K, float]) -> dict[K, float]:
        return {k: a.get(k, 0.0) + b.get(k, 0.0) for k in {**a, **b}}

    return CopyCost(
        first.energy_pj + then.energy_pj,
        first.latency_cycles + then.latency_cycles,
        merged(first.memory_pj, then.memory_pj),
        merged(first.read_bits, then.read_bits),
        merged(first.write_bits, then.write_bits),
    )
