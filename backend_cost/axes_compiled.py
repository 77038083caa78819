"""Sums over the tables of an operand's axes in compiled code: ``_axes.c``."""

from __future__ import annotations

import numpy as np

from dfc.backend_cost.grid import Floats
from dfc.backend_cost.native import load

_native = load("_axes")
COMPILED = _native is not None


def _products(tables: list[Floats]) -> tuple[tuple[Floats, ...], int]:
    """The tables as the compiled code reads them, and how many products they have together."""
    count = 1
    for table in tables:
        count *= table.shape[3]
    return tuple([np.ascontiguousarray(table) for table in tables]), count


def accesses(tables: list[Floats], common: Floats, bits: tuple[int, ...], steps: Floats) -> Floats:
    """(boundaries, sides, kinds, products) smallest accesses of all bursts (``Counted.accesses``).

    ``tables`` and ``common`` are as from ``LaneBursts.axes``, ``bits`` of an element by kind, ``steps``
    (boundaries, sides, kinds) bits of the smallest access.
    """
    assert _native is not None
    given, products = _products(tables)
    found = np.empty((*steps.shape, products))
    _native.accesses(given, common, np.array(bits, dtype=float), np.ascontiguousarray(steps), found)
    return found


def mean_cycles(tables: list[Floats], transfers: Floats) -> Floats:
    """(transfers, boundaries, products) mean cycles over working stays.

    ``tables`` are (3, boundaries, entries, products) of each axis (``stay_bursts.py``), ``transfers``
    (transfers, boundaries, 3): bits of an element, bits per cycle of the memory above and of the one below.
    """
    assert _native is not None
    given, products = _products(tables)
    found = np.empty((*transfers.shape[:2], products))
    _native.means(given, transfers.shape[1], transfers, found)
    return found
