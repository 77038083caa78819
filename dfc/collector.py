"""The cyclic garbage collector, told to look seldom while schedules are searched.

A search keeps nearly all of its millions of small objects until it ends (plans, mappings, tables), and hardly any that
it drops are cycles: with the interpreter's own thresholds the collector walks them again and again, for a sixth of the
time, and finds next to nothing. Reference counts free what is dropped, as always; peak memory is the same.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager

#: objects made since the last look, and looks of each generation before the next older one has its turn
THRESHOLDS = (100_000, 10, 10)


@contextmanager
def rare_collections() -> Generator[None]:
    """Look for cycles seldom until the block, or the function that it decorates, ends; then as before."""
    before = gc.get_threshold()
    if before[0]:  # a caller who switched it off wants it off
        gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
