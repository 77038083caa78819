"""Addresses for what a tile keeps in memories: what lives at the same time gets addresses that do not overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dfc.scheduling.placement import Buffer

#: addresses are multiples of this many bits
ALIGNMENT_BITS = 8


def aligned(bits: int) -> int:
    """Rounded up to the next address."""
    return -(-bits // ALIGNMENT_BITS) * ALIGNMENT_BITS


def stacked(buffers: Iterable[Buffer], start_bits: int = 0) -> list[Buffer]:
    """Buffers of one memory that live all the time, one after the other."""
    found: list[Buffer] = []
    for buffer in buffers:
        found.append(buffer.at(start_bits))
        start_bits = aligned(start_bits + buffer.bits)
    return found


def end_bits(buffers: Iterable[Buffer]) -> int:
    """The first address after all of these."""
    return max((aligned((b.address_bits or 0) + b.bits) for b in buffers), default=0)


def laid_out(buffers: Sequence[Buffer], start_bits: int, size_bits: int) -> list[Buffer] | None:
    """Buffers of one memory with addresses from ``start_bits`` on, none beyond ``size_bits``; None where that fails.

    Several orders are tried, the one that needs least room is taken; each buffer gets the lowest address that is free
    while it lives. Buffers that fit by their sum alone may not fit side by side: then the caller leaves more room.
    """
    best: list[Buffer] | None = None
    orders = (
        lambda b: (-b.bits, b.first),
        lambda b: (b.first - b.last, -b.bits),
        lambda b: (b.first, -b.bits),
        lambda b: ((b.first - b.last - 1) * b.bits, b.first),
    )
    for key in orders:
        found = _placed(sorted(buffers, key=key), start_bits)
        if best is None or end_bits(found) < end_bits(best):
            best = found
    assert best is not None
    if end_bits(best) > aligned(size_bits):
        return None
    number = {(b.what, b.tensor, b.first, b.last): i for i, b in enumerate(buffers)}
    return sorted(best, key=lambda b: number[b.what, b.tensor, b.first, b.last])


def _placed(buffers: Iterable[Buffer], start_bits: int) -> list[Buffer]:
    found: list[Buffer] = []
    for buffer in buffers:
        others = sorted(
            (b.address_bits or 0, b.bits) for b in found if b.first <= buffer.last and buffer.first <= b.last
        )
        at = start_bits
        for address, bits in others:
            if at + buffer.bits <= address:
                break
            at = max(at, aligned(address + bits))
        found.append(buffer.at(at))
    return found
