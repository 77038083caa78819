"""Addresses for what a tile keeps in memories: what lives at the same time gets addresses that do not overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter

from dfc.scheduling.placement import Buffer


def stacked(buffers: Iterable[Buffer], start_bits: Mapping[int, int]) -> list[Buffer]:
    """Buffers that live all the time, in each memory one after the other from its first free bit on."""
    start = dict(start_bits)
    found: list[Buffer] = []
    for buffer in buffers:
        at = start.get(buffer.memory, 0)
        found.append(buffer.at(at))
        start[buffer.memory] = at + buffer.bits
    return found


def hung(buffers: Iterable[Buffer], size_bits: Mapping[int, int]) -> list[Buffer]:
    """The same from the last bit of each memory downwards."""
    end = dict(size_bits)
    found: list[Buffer] = []
    for buffer in buffers:
        end[buffer.memory] -= buffer.bits
        found.append(buffer.at(end[buffer.memory]))
    return found


def ends(buffers: Iterable[Buffer], start_bits: Mapping[int, int]) -> dict[int, int]:
    """Per memory the first address after all of these."""
    found = dict(start_bits)
    for buffer in buffers:
        found[buffer.memory] = max(found.get(buffer.memory, 0), (buffer.address_bits or 0) + buffer.bits)
    return found


#: in which order buffers get their place; each order is best for some
_ORDERS: tuple[Callable[[Buffer], tuple[int, int]], ...] = (
    lambda b: (-b.bits, b.first),
    lambda b: (b.first - b.last, -b.bits),
    lambda b: (b.first, -b.bits),
    lambda b: ((b.first - b.last - 1) * b.bits, b.first),
)


def laid_out(buffers: Sequence[Buffer], start_bits: int, size_bits: int) -> list[Buffer]:
    """Buffers of one memory with addresses from ``start_bits`` on, in the order given.

    Each gets the lowest address that is free while it lives. What fits by its sum may not fit side by side: orders are
    tried until all ends within ``size_bits``, and the one that needs least room is taken.
    """
    best: list[int] = []
    least = -1
    for key in _ORDERS:
        order = sorted(range(len(buffers)), key=lambda i: (key(buffers[i]), i))
        found = _addresses([buffers[i] for i in order], start_bits)
        end = max((at + buffers[i].bits for i, at in zip(order, found, strict=True)), default=start_bits)
        if least < 0 or end < least:
            least = end
            best = [at for _, at in sorted(zip(order, found, strict=True))]
        if end <= size_bits:
            break
    return [buffer.at(at) for buffer, at in zip(buffers, best, strict=True)]


def _addresses(buffers: Sequence[Buffer], start_bits: int) -> list[int]:
    found: list[int] = []
    alive: dict[int, list[int]] = {}  # by step
    for n, buffer in enumerate(buffers):
        steps = range(buffer.first, buffer.last + 1)
        together = {k for step in steps for k in alive.get(step, ())}
        taken = [(found[k], buffers[k].bits) for k in together]
        for step in steps:
            alive.setdefault(step, []).append(n)
        at = start_bits
        for address, bits in sorted(taken, key=itemgetter(0)):
            if at + buffer.bits <= address:
                break
            at = max(at, address + bits)
        found.append(at)
    return found
