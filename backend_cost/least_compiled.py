"""The regions of a space and its chain of least energy in compiled code.

``_least.c`` is what ``MappingSpace.regions`` and ``least_energy`` are in NumPy: those are used where no compiler was,
and where energies do not simply add up.
"""

from __future__ import annotations

import numpy as np

from dfc.backend_cost.mapping_cost import TooSmall
from dfc.backend_cost.mapping_energy import LeastEnergy
from dfc.backend_cost.mapping_space import MappingSpace, Region, path_columns
from dfc.backend_cost.native import load

_native = load("_least")
COMPILED = _native is not None


def can_tell(space: MappingSpace) -> bool:
    """Whether compiled code knows what such a space's energies are, and has room for it."""
    if _native is None or space.couplings or not space.cuts:
        return False
    columns, memories = path_columns(space.paths)
    sizes = len(space.lattice.shape), len(space.cuts), len(space.nest.operands), len(columns), len(memories)
    most = _native.MOST_AXES, _native.MOST_CUTS, _native.MOST_OPERANDS, _native.MOST_COLUMNS, _native.MOST_SLOTS
    return all(n <= m for n, m in zip(sizes, most, strict=True))


def solve(space: MappingSpace) -> tuple[list[Region], LeastEnergy | None] | TooSmall:
    """The parts of a space in which something fits, and the chain of least energy in them; or what is too small.

    Only for a space of which :func:`can_tell` is true.
    """
    assert _native is not None
    columns, memories = path_columns(space.paths)
    operands, tables = space.nest.operands, space.tables.operands
    count, points = len(space.cuts), len(space.lattice.points)
    most = len(operands[0].memories)
    allowed = np.empty((most, count, points), dtype=bool)
    firsts, chain = np.empty(most, dtype=np.int64), np.empty(count, dtype=np.int64)
    adds = [i == 0 and space.lanes_add(m) for i, o in enumerate(operands) for m in range(len(o.memories))]
    answer: tuple[int, int, float, int, int] = _native.least_energy(
        (
            space.lattice.shape,
            space.chains.counts,
            space.by_cut.energy_pj,
            space.by_cut.bits,
            space.by_cut.partial_bits,
            columns,
            np.array([t.whole_bits for t in tables], dtype=np.int64),
            np.array([space.arch.memories[m].size_bits for m in memories], dtype=np.int64),
            np.array(adds, dtype=bool),
            allowed,
            firsts,
            chain,
        ),
        space.tables.fixed_pj,
        int(space.chains.idle[0]),
    )
    regions, where, energy, short, needed = answer
    if not regions:
        return TooSmall(memories[short], needed)
    found = [
        Region(*space.filled(first), some) for first, some in zip(firsts.tolist(), allowed[:regions], strict=False)
    ]
    return found, None if where < 0 else LeastEnergy(found[where], chain, energy, energy)
