"""The latency of the exact model and the second buffers in compiled code: flat arrays for C.

``_timing.c`` is what ``timing_rows.py`` does in NumPy, ``_buffers.c`` the grants of ``timing.py``: those are used where
no compiler was.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from weakref import WeakKeyDictionary

import numpy as np

from dfc.backend_cost.evaluate import Batch
from dfc.backend_cost.native import load
from dfc.backend_cost.tables import Bools, Floats, Ints, Tables
from dfc.backend_cost.timing_rows import APART, AT_ENDS, CONTESTED, HIDDEN, RESERVE
from dfc.backend_cost.timing_tables import Flow, Port, TimeTables, meeting_pairs, meeting_ports

_timing, _buffers = load("_timing"), load("_buffers")
COMPILED = _timing is not None and _buffers is not None

#: what ``_timing.c`` reads of the fitted shares, behind three other numbers; the steps' cycles follow
FITTED = (APART, AT_ENDS, HIDDEN, CONTESTED, RESERVE)
STEPS_AT = 3 + len(FITTED)


@dataclass(frozen=True)
class FlatTimes:
    """What does not depend on the mapping, as ``_timing.c`` reads it; ``small`` enough for its fixed sizes."""

    layout: Ints
    numbers: Floats
    values: Floats  # (points, flows + boundaries): mean cycles per stay of each flow, how many stays get sums back
    small: bool


_FLAT: WeakKeyDictionary[TimeTables, FlatTimes] = WeakKeyDictionary()


def _steps(times: TimeTables, ports: tuple[Port, ...]) -> list[float]:
    found: list[float] = []
    for returning in (False, True):
        cycles, busy = times.step_cycles(returning)
        found += [cycles, *(busy.get(p, 0.0) for p in ports)]
    return found


def flat_times(times: TimeTables) -> FlatTimes:
    """The flat arrays of some times, made once."""
    known = _FLAT.get(times)
    if known is not None:
        return known
    flows, ports = times.flows, times.ports
    places = [(b.operand, b.boundary) for b in times.boundaries]
    layout = _layout(flows, tuple(places), tuple([len(t.operand.memories) for t in times.tables.operands]))
    moved = [t for b in times.boundaries for _, t in b.transfers]
    nothing = np.zeros(len(moved[0].cycles))
    shares = [nothing if b.back is None else b.back.share for b in times.boundaries]
    values = np.stack([*(t.cycles * t.share for t in moved), *shares], axis=1)
    numbers = [times.step_share, float(times.tables.working_cycles), float(times.tables.total_cycles), *FITTED]
    flat = FlatTimes(
        layout,
        np.array(numbers + _steps(times, ports)),
        np.ascontiguousarray(values),
        _small(layout[:5].tolist()),
    )
    _FLAT[times] = flat
    return flat


@lru_cache(maxsize=256)
def _layout(flows: tuple[Flow, ...], boundaries: tuple[tuple[int, int], ...], memories: tuple[int, ...]) -> Ints:
    """What depends on ports alone; ``boundaries`` are (operand, boundary), ``memories`` how many each operand has."""
    ports, pairs = meeting_ports(flows), meeting_pairs(flows)
    number = {p: i for i, p in enumerate(ports)}
    first = [0, *accumulate(memories)]
    found = [len(boundaries), len(memories), len(flows), len(ports), len(pairs), first[-1]]
    for operand, boundary in boundaries:
        found += [operand, boundary, first[operand] + boundary - 1]
    for f in flows:
        found += [f.boundary, f.kind, *(number[p] for p in f.ports), f.contested]
    for pair in pairs:
        found += [number[p] for p in pair]
    return np.array(found, dtype=np.int64)


def _small(counts: list[int]) -> bool:
    if _timing is None:
        return False
    most = _timing.MOST_BOUNDARIES, _timing.MOST_OPERANDS, _timing.MOST_FLOWS, _timing.MOST_PORTS, _timing.MOST_PAIRS
    return all(n <= m for n, m in zip(counts, most, strict=True))


def compiled_cycles(
    times: TimeTables, batch: Batch, cuts: tuple[Ints, ...], double: tuple[Bools, ...]
) -> tuple[Floats, Floats, Floats] | None:
    """(running, loading, offloading) of each mapping, as ``Rows.run``; None where compiled code cannot tell."""
    if _timing is None or not (flat := flat_times(times)).small:
        return None
    found = np.empty((3, len(batch.point)))
    if len(batch.point):
        _timing.run(
            flat.layout,
            flat.numbers,
            flat.values,
            times.tables.stays,
            times.tables.cycles,
            np.ascontiguousarray(batch.point, dtype=np.int64),
            np.concatenate(cuts, axis=1, dtype=np.int64),
            np.concatenate(double, axis=1, dtype=bool),
            found,
        )
    return found[0], found[1], found[2]


def compiled_grants(tables: Tables, batch: Batch, cuts: tuple[Ints, ...]) -> tuple[Bools, ...] | None:
    """As ``granted_buffers``; None where compiled code cannot tell."""
    memories = [m for t in tables.operands for m in t.operand.memories]
    if _buffers is None or len(memories) > _buffers.MOST_HELD:
        return None
    slots = {memory: i for i, memory in enumerate(dict.fromkeys(memories))}
    places = [(slots[m], not level) for t in tables.operands for level, m in enumerate(t.operand.memories)]
    chips = [tables.arch.memories[m] for m in slots]
    parts = [part for table in tables.operands for part in table.contents]
    found = np.empty((len(batch.point), len(memories)), dtype=bool)
    if len(batch.point):
        _buffers.granted(
            np.array(places, dtype=np.int64),
            np.array([m.size_bits for m in chips], dtype=np.float64),
            np.array([min(m.read_bits_per_cycle, m.write_bits_per_cycle) for m in chips], dtype=np.float64),
            tuple(parts),
            np.ascontiguousarray(batch.point, dtype=np.int64),
            np.concatenate(cuts, axis=1, dtype=np.int64),
            found,
        )
    ends = np.cumsum([len(t.operand.memories) for t in tables.operands])[:-1].tolist()
    return tuple(np.split(found, ends, axis=1))
