"""Chains of cuts as mappings of the exact model, timed in compiled code.

``_play.c`` is what ``MappingSpace.closed`` and ``orders``, ``effective_cuts``, ``granted_buffers`` and
``exact_latency`` are one after the other in NumPy: those are used where no compiler was.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from dfc.backend_cost.mapping_space import MappingSpace, path_columns
from dfc.backend_cost.native import load
from dfc.backend_cost.tables import Bools, Floats, Ints
from dfc.backend_cost.timing_compiled import flat_times

_native = load("_play")
COMPILED = _native is not None


@dataclass(frozen=True, slots=True)
class Played:
    """Mappings, one for each chain.

    closed:    whether some order leaves every cut where it is.
    orders:    (chains, loops) axes of the lattice, innermost first.
    cuts:      (chains, memories of all operands) where the cuts end up.
    energy_pj: what the chains' cuts cost.
    cycles:    (3, chains) running, loading, offloading.
    """

    closed: Bools
    orders: Ints
    cuts: Ints
    energy_pj: Floats
    cycles: Floats


@dataclass(frozen=True, slots=True)
class _Player:
    """What is the same for all chains of a space: buffers for ``_play.c``."""

    buffers: tuple[np.ndarray, ...]
    parts: tuple[np.ndarray, ...]
    loops: int
    columns: int


_PLAYERS: WeakKeyDictionary[MappingSpace, _Player | None] = WeakKeyDictionary()


def _player(space: MappingSpace) -> _Player | None:
    """The buffers of a space; None where compiled code cannot tell."""
    if space not in _PLAYERS:
        _PLAYERS[space] = _new_player(space)
    return _PLAYERS[space]


def _new_player(space: MappingSpace) -> _Player | None:
    times = space.times
    if _native is None or not times.boundaries or not (flat := flat_times(times)).small:
        return None
    columns, memories = path_columns(space.paths)
    loops = int(space.lattice.shape.sum()) - len(space.lattice.shape)
    sizes = len(space.lattice.shape), len(space.cuts), len(columns), loops
    most = _native.MOST_AXES, _native.MOST_CUTS, _native.MOST_HELD, _native.MOST_LOOPS
    if any(n > m for n, m in zip(sizes, most, strict=True)):
        return None
    chips = [space.arch.memories[m] for m in memories]
    room = [*(m.size_bits for m in chips), *(min(m.read_bits_per_cycle, m.write_bits_per_cycle) for m in chips)]
    tables = space.tables
    buffers = (
        space.lattice.shape,
        space.lattice.exponents,
        space.chains.idle,
        columns,
        np.array(room, dtype=np.float64),
        flat.layout,
        np.array([tables.fixed_pj, *flat.numbers.tolist()]),
        flat.values,
        tables.stays,
        tables.cycles,
        space.energy_pj,
    )
    return _Player(buffers, tuple([part for t in tables.operands for part in t.contents]), loops, len(columns))


def play(space: MappingSpace, chains: Ints) -> Played | None:
    """The mappings of chains (rows, cuts): closed ones as they are, others with their stays as long as can be.

    None where compiled code cannot tell.
    """
    how = _player(space)
    if how is None or _native is None:
        return None
    rows = len(chains)
    closed = np.empty(rows, dtype=bool)
    orders = np.empty((rows, how.loops), dtype=np.int64)
    cuts = np.empty((rows, how.columns), dtype=np.int64)
    energy, cycles = np.empty(rows), np.empty((3, rows))
    _native.play((*how.buffers, chains, closed, orders, cuts, energy, cycles), how.parts)
    return Played(closed, orders, cuts, energy, cycles)
