"""The latency of the exact model: how long a mapping takes when transfers wait for room and for ports.

docs/simulator.md states when a transfer may start; this is its closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dfc.backend_cost.evaluate import Batch
from dfc.backend_cost.tables import Bools, Floats, Ints, Tables
from dfc.backend_cost.timing_compiled import COMPILED, compiled_cycles, compiled_grants
from dfc.backend_cost.timing_rows import Rows
from dfc.backend_cost.timing_tables import Port, TimeTables

#: mappings that are timed together
_CHUNK = 1 << 13


@dataclass(frozen=True)
class ExactLatency:
    """Cycles per mapping."""

    ideal_cycles: int
    running_cycles: Floats  # until the last step, without the first fill
    loading_cycles: Floats
    offloading_cycles: Floats

    @property
    def total_cycles(self) -> Floats:
        """Everything: filling, running, draining."""
        return self.running_cycles + self.loading_cycles + self.offloading_cycles


def exact_latency(
    tables: Tables,
    batch: Batch,
    cuts: tuple[Ints, ...],
    double: tuple[Bools, ...],
    free: frozenset[Port] = frozenset(),
    *,
    times: TimeTables | None = None,
    compiled: bool = COMPILED,
) -> ExactLatency:
    """Cycles of each mapping; ``cuts`` are the effective ones, ``double`` (mappings, memories) per operand.

    ``free`` ports are infinitely wide: transfers take no time there and keep no other waiting. ``times`` are those of
    the tables, where many calls share them; its free ports count then.
    """
    if not len(batch.point):
        return ExactLatency(tables.total_cycles, *(np.zeros(0) for _ in range(3)))
    times = times or TimeTables(tables, free)
    if not times.boundaries:
        running = np.full(len(batch.point), times.steps_alone)
        return ExactLatency(tables.total_cycles, running, np.zeros_like(running), np.zeros_like(running))
    found = compiled_cycles(times, batch, cuts, double) if compiled else None
    running, loading, offloading = found or _plain_cycles(times, batch, cuts, double)
    return ExactLatency(tables.total_cycles, running, loading, offloading)


def _plain_cycles(
    times: TimeTables, batch: Batch, cuts: tuple[Ints, ...], double: tuple[Bools, ...]
) -> tuple[Floats, Floats, Floats]:
    """(running, loading, offloading) of each mapping, without compiled code."""
    parts = [
        Rows(times, batch.take(rows), tuple(c[rows] for c in cuts), tuple(d[rows] for d in double)).run()
        for rows in np.split(np.arange(len(batch.point)), range(_CHUNK, len(batch.point), _CHUNK))
    ]
    running, loading, offloading = (np.concatenate(found) for found in zip(*parts, strict=True))
    return running, loading, offloading


def granted_buffers(
    tables: Tables, batch: Batch, cuts: tuple[Ints, ...], *, compiled: bool = COMPILED
) -> tuple[Bools, ...]:
    """Which operands have a second buffer, (mappings, memories) per operand: first come, first served, where it fits.

    What each holds is counted whole, sums as partial where those that enter are not complete; the reference grants a
    second buffer for a part of it (C9). What is replaced in a single access is replaced between two cycles, as in a
    register, and needs no second buffer: it counts as having one.
    """
    found = compiled_grants(tables, batch, cuts) if compiled else None
    return found or _plain_grants(tables, batch, cuts)


def _plain_grants(tables: Tables, batch: Batch, cuts: tuple[Ints, ...]) -> tuple[Bools, ...]:
    """The same without compiled code."""
    rows = np.arange(len(batch.point))
    held: list[list[Floats]] = []
    used: dict[int, Floats] = {}
    for table, cut in zip(tables.operands, cuts, strict=True):
        bits: list[Floats] = []
        for m, memory in enumerate(table.operand.memories):
            at = batch.point[rows, cut[:, m]]
            final, partial = table.alloc_bits[m]
            below = batch.point[rows, cut[:, m - 1]] if m else np.zeros_like(rows)  # boundary 0 has a single point
            whole = np.where(table.reduces[m][below], partial[at], final[at]).astype(float)
            bits.append(whole)
            used[memory] = used.get(memory, np.zeros(len(rows))) + whole
        held.append(bits)
    granted: list[Bools] = []
    for table, bits in zip(tables.operands, held, strict=True):
        row: list[Bools] = []
        for memory, whole in zip(table.operand.memories, bits, strict=True):
            found = tables.arch.memories[memory]
            at_once = whole <= min(found.read_bits_per_cycle, found.write_bits_per_cycle)
            fits = used[memory] + whole <= found.size_bits
            used[memory] = used[memory] + np.where(fits & ~at_once, whole, 0.0)
            row.append(fits | at_once)
        granted.append(np.stack(row, axis=1))
    return tuple(granted)
