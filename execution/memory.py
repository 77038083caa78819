"""Memories as arrays: per slot a value, and a tag that tells which element of which tensor it is.

An element of the chip's precision takes as many slots as it has units; a unit is the largest number of bits that
divides all addresses and precisions. The value is that of the model's own type, the addresses are
the chip's: so that what overlaps, is read too early or was overwritten shows in the tags, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dfc.backend_cost.schedule import BufferEntry
from dfc.execution.fault import Fault

Array: TypeAlias = npt.NDArray[Any]
Rows: TypeAlias = npt.NDArray[np.int64]

#: the tag of what was never written; tags below it name what overwrote a slot
EMPTY = -1


@dataclass(frozen=True, slots=True)
class Place:
    """Rows of ``columns`` elements each, one after the other from an address of a memory on."""

    memory: Image
    buffer: BufferEntry
    columns: int
    element_bits: int

    @property
    def row_bits(self) -> int:
        """Of one row."""
        return self.columns * self.element_bits

    def arrays(self) -> tuple[Array, Array]:
        """(values, tags) of all rows that fit, as [row, slot]."""
        return self.memory.rows(self.buffer, self.row_bits)


class Overwriters:
    """Names of what overwrites slots, as tags below EMPTY."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._tags: dict[str, int] = {}

    @property
    def count(self) -> int:
        """How many names there are."""
        return len(self._names)

    def tag(self, name: str) -> int:
        """The tag of a name."""
        if name not in self._tags:
            self._names.append(name)
            self._tags[name] = EMPTY - len(self._names)
        return self._tags[name]

    def name(self, tag: int) -> str:
        """The name of a tag below EMPTY."""
        return self._names[EMPTY - tag - 1]


class Image:
    """One memory."""

    def __init__(self, name: str, size_bits: int, unit_bits: int, used: Iterable[tuple[int, int]], wide: bool):
        """``used`` are stretches [from, to) in bits that something takes; what is far apart is kept close together.

        ``wide``: values of 64 bits, and as many tags as these can tell apart.
        """
        self.name = name
        self.size_bits = size_bits
        self.unit_bits = unit_bits
        self._starts, self._offsets, slots = _packed(used, unit_bits)
        self.values: Array = np.empty(slots, np.uint64 if wide else np.uint32)
        self.tags: Array = np.full(slots, EMPTY, np.int64 if wide else np.int32)

    def slot(self, address_bits: int) -> int:
        """The slot of an address that something takes."""
        at = int(np.searchsorted(self._starts, address_bits, side="right")) - 1
        return int(self._offsets[at]) + (address_bits - int(self._starts[at])) // self.unit_bits

    def stretch(self, buffer: BufferEntry) -> slice:
        """The slots of a buffer."""
        start = self.slot(buffer.address_bits)
        return slice(start, start + -(-buffer.bits // self.unit_bits))

    def rows(self, buffer: BufferEntry, row_bits: int) -> tuple[Array, Array]:
        """(values, tags) of a buffer as [row, slot]."""
        here = self.stretch(buffer)
        width = row_bits // self.unit_bits
        count = (here.stop - here.start) // width if width else 0
        end = here.start + count * width
        return self.values[here.start : end].reshape(count, width), self.tags[here.start : end].reshape(count, width)

    def overwrite(self, buffer: BufferEntry, tag: int) -> None:
        """Nothing that lay in a buffer's slots is there any more."""
        self.tags[self.stretch(buffer)] = tag

    def forget(self, keep: Iterable[BufferEntry]) -> None:
        """Everything is gone but what lies in some buffers."""
        kept = [(self.stretch(b), self.tags[self.stretch(b)].copy()) for b in keep]
        self.tags[:] = EMPTY
        for here, tags in kept:
            self.tags[here] = tags


def _packed(used: Iterable[tuple[int, int]], unit: int) -> tuple[Rows, Rows, int]:
    """(first bits of stretches, their first slots, slots in all)."""
    merged: list[list[int]] = []
    for start, end in sorted(used):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    offsets: list[int] = []
    slots = 0
    for start, end in merged:
        offsets.append(slots)
        slots += -(-(end - start) // unit)
    starts = [start for start, _ in merged] or [0]
    return np.asarray(starts, np.int64), np.asarray(offsets or [0], np.int64), slots


def unit_of(buffers: Iterable[BufferEntry], precisions: Iterable[int]) -> int:
    """The largest number of bits that divides addresses, sizes and precisions."""
    unit = 0
    for bits in precisions:
        unit = gcd(unit, bits)
    for buffer in buffers:
        unit = gcd(unit, buffer.address_bits, buffer.bits)
    return max(1, unit)


def write(place: Place, rows: Rows, values: Array, tags: Array) -> None:
    """Write rows: values and tags as [row, column].

    Raises:
        Fault: where the buffer ends before the last of them.
    """
    stored, marks = place.arrays()
    _within(place, rows, len(stored))
    each = place.element_bits // place.memory.unit_bits
    stored[rows] = values if each == 1 else np.repeat(values, each, axis=1)
    marks[rows] = tags if each == 1 else np.repeat(tags, each, axis=1)


def read(place: Place, rows: Rows, columns: Rows | None = None) -> tuple[Array, Array]:
    """(values, tags) of rows as [row, column], of some columns or all.

    The tag of an element of which a part is gone is the tag of that part.

    Raises:
        Fault: where the buffer ends before the last of them.
    """
    stored, marks = place.arrays()
    _within(place, rows, len(stored))
    each = place.element_bits // place.memory.unit_bits
    values, tags = stored[rows], marks[rows]
    if each > 1:
        parts = tags.reshape(len(rows), place.columns, each)
        first = parts[:, :, 0]
        other = parts != first[:, :, None]
        tags = np.where(
            other.any(axis=2), np.take_along_axis(parts, other.argmax(axis=2)[:, :, None], 2)[:, :, 0], first
        )
        values = values.reshape(len(rows), place.columns, each)[:, :, 0]
    return (values, tags) if columns is None else (values[:, columns], tags[:, columns])


def mark(place: Place, rows: Rows, tag: int) -> None:
    """Something else is written to rows now.

    Raises:
        Fault: where the buffer ends before the last of them.
    """
    _, marks = place.arrays()
    _within(place, rows, len(marks))
    marks[rows] = tag


def _within(place: Place, rows: Rows, count: int) -> None:
    if len(rows) and (int(rows.max()) >= count or int(rows.min()) < 0):
        b = place.buffer
        raise Fault(
            "data",
            f"position {int(rows.max()) + 1:,} of {b.what} '{b.name}' in {b.memory} is used, it has room for {count:,}",
            cause="the buffer is too small, or the schedule asks for positions that nobody made",
        )
