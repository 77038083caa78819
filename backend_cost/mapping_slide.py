"""Memories that fetch only what is new of a sliding window (``fetch new``), in the mapping search.

What such a memory fetches depends on the order of the loops beyond its cut, not on the cut alone, so that energies no
longer add up over the cuts. The search then ranks chains by a guess, prices the best of them under several orders, and
proves with a floor: every element is fetched at least once.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from dfc.backend_cost.grid import window_extents
from dfc.backend_cost.mapping_space import MappingSpace, Order
from dfc.backend_cost.tables import Floats, Ints
from dfc.ir import KERNEL_DIM, OUTPUT_DIM, Axis


def sliding_cuts(space: MappingSpace) -> list[int]:
    """Cuts whose memory fetches only what is new."""
    found: list[int] = []
    for k, (i, m) in enumerate(space.cuts):
        operand = space.nest.operands[i]
        new = space.arch.memories[operand.memories[m]].fetch_new and space.model.whole_lanes
        if new and not operand.is_output and operand.bits:
            found.append(k)
    return found


def floor_pj(space: MappingSpace, cuts: list[int]) -> Floats:
    """Energies of all cuts, (cuts, points), of which those that slide are never more than the truth."""
    energy = space.energy_pj
    if not cuts:
        return energy
    found = energy.copy()
    found[cuts] = np.minimum(energy[cuts], energy[cuts, -1][:, None])
    return found


def guess_pj(space: MappingSpace, cuts: list[int]) -> Floats:
    """Energies of all cuts, (cuts, points), if along one axis a window slides and keeps what it can."""
    found = space.energy_pj.copy()
    for k in cuts:
        operand = space.nest.operands[space.cuts[k][0]]
        share = np.ones(len(space.lattice.points))
        for axis in operand.windows:
            share = np.minimum(share, _new_share(space, axis))
        found[k] *= share
    return found


def _new_share(space: MappingSpace, axis: Axis) -> Floats:
    """What a window that slides along an axis fetches, as a share of fetching all of it each time; per point."""
    nest, points = space.nest, space.lattice.points
    o, f = OUTPUT_DIM[axis], KERNEL_DIM[axis]
    lanes = np.ones(len(nest.sizes))
    for u in nest.unrolled:
        lanes[u.loop] *= u.lanes
    outputs = np.minimum(points[:, o] * lanes[o], nest.sizes[o])
    kernels = np.minimum(points[:, f] * lanes[f], nest.sizes[f])
    extent = window_extents(outputs, kernels, nest.strides[axis], nest.dilations[axis])
    new = np.minimum(extent, nest.strides[axis] * outputs)
    left = nest.temporal[o] / points[:, o]
    share: Floats = (extent + (left - 1) * new) / (left * extent)
    return share


def sliding_orders(space: MappingSpace, chain: Ints) -> Ints:
    """Orders of the loops to try for a chain: the usual ones, and for each axis its loops first beyond every cut."""
    base = [space.orders(chain[None], order)[0] for order in Order]
    loops = space.lattice.loops
    degree = space.lattice.degree
    ends = sorted({0, *degree[chain].tolist(), int(degree[-1])})
    found = list(base)
    for axis in Axis:
        for dim in (OUTPUT_DIM[axis], KERNEL_DIM[axis]):
            if not any(loop.dim is dim for loop in loops):
                continue

            def late(a: int, dim: int = dim) -> bool:
                return loops[a].dim != dim

            found += [np.array(_within_segments(order.tolist(), ends, late), dtype=np.int64) for order in base]
    return np.unique(np.array(found, dtype=np.int64), axis=0)


def _within_segments(order: list[int], ends: list[int], late: Callable[[int], bool]) -> list[int]:
    """The order with the loops between two cuts sorted anew."""
    found: list[int] = []
    for low, high in pairwise(ends):
        found += sorted(order[low:high], key=late)
    return found
