"""Cycles that no mapping of a chain can go below, as sums over its cuts: what bounds the search for short mappings.

Each floor is a number plus one number per cut and point, as an energy is: the cycles that one port is busy, or all
steps with the first fetch through every memory before and the last write-back after.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dfc.backend_cost.mapping_space import MappingSpace, Region
from dfc.backend_cost.tables import Bools, Floats
from dfc.backend_cost.timing_tables import Port
from dfc.hwdsl.arch import Move

#: floors that are kept: each costs time in every step of the search
MOST = 7
#: steps in which the dual bound moves its weights
DUAL_STEPS = 12


@dataclass(frozen=True, eq=False)
class Floors:
    """A mapping's cycles are at least ``base[f]`` plus its cuts' ``rows[f, cut, point]``, for every f."""

    base: Floats
    rows: Floats


def time_floors(space: MappingSpace, allowed: Bools) -> Floors:
    """The floors that can matter where cuts lie at ``allowed`` points (cuts, points); the greatest first."""
    found = _played(space) if space.model.played else _reference(space)
    ideal = float(space.tables.total_cycles)

    def least(floor: _Floor) -> float:
        return floor[0] + float(floor[1].min(axis=1, where=allowed, initial=np.inf).sum())

    def most(floor: _Floor) -> float:
        return floor[0] + float(floor[1].max(axis=1, where=allowed, initial=0.0).sum())

    kept = sorted((f for f in found if most(f) > ideal), key=least, reverse=True)[:MOST]
    kept = kept or [(ideal, np.zeros(allowed.shape))]
    return Floors(np.array([b for b, _ in kept]), np.stack([r for _, r in kept]))


_Floor = tuple[float, Floats]


def _played(space: MappingSpace) -> list[_Floor]:
    """Floors of the exact model: what ports carry; steps, filling and draining."""
    tables = space.tables
    times = space.times
    stays = tables.stays
    place = {cut: k for k, cut in enumerate(space.cuts)}
    empty = np.zeros((len(space.cuts), len(tables.points)))
    ports: dict[Port, _Floor] = {port: (cycles, empty) for port, cycles in times.step_busy.items()}
    fill: dict[int, Floats] = {}
    drain = empty.copy()
    for boundary in times.boundaries:
        k = place[boundary.operand, boundary.boundary - 1]
        for transfer in (boundary.fetch, boundary.back, boundary.up):
            if transfer is None:
                continue
            for port in dict.fromkeys(transfer.ports):
                base, rows = ports.get(port, (0.0, empty))
                rows = rows.copy()
                rows[k] += transfer.cycles * transfer.share * stays
                ports[port] = (base, rows)
        if boundary.fetch is not None:
            rows = fill.setdefault(boundary.operand, empty.copy())
            rows[k] += boundary.fetch.cycles
        if boundary.up is not None:
            drain[k] += boundary.up.cycles
    steps = times.steps_alone
    ends = [(steps, rows + drain) for rows in fill.values()] or [(steps, drain)]
    return [*ports.values(), *ends]


def _reference(space: MappingSpace) -> list[_Floor]:
    """Floors of the reference's model: transfers of a port that follow each other; steps and loading."""
    tables = space.tables
    count = tables.total_cycles // tables.cycles
    place = {cut: k for k, cut in enumerate(space.cuts)}
    empty = np.zeros((len(space.cuts), len(tables.points)))
    ports: dict[tuple[int, int], _Floor] = {}
    loading: list[Floats] = []
    for i, table in enumerate(tables.operands):
        pair: dict[int, Floats] = {}
        for link in table.links:
            port = (link.memory, tables.arch.memories[link.memory].port_of[table.operand.role, link.move])
            base, rows = ports.get(port, (0.0, empty))
            cycles = (link.transfer_cycles * link.active).astype(float)
            if link.boundary == 0:
                ports[port] = (base + float(cycles[0]) * (tables.total_cycles - 1), rows)
                continue
            k = place[i, link.boundary - 1]
            rows = rows.copy()
            rows[k] += cycles * (count - 1)
            ports[port] = (base, rows)
            if link.move in (Move.READ_DOWN, Move.WRITE_DOWN) and not table.operand.is_output:
                pair[k] = np.maximum(pair.get(k, 0.0), cycles)
        if not table.operand.is_output and not _halves(space, i):
            rows = empty.copy()
            for k, cycles in pair.items():
                rows[k] = cycles
            loading.append(rows)
    ideal = float(tables.total_cycles)
    return [(b, r + more) for b, r in [*ports.values(), (ideal, empty)] for more in loading or [empty]]


def _halves(space: MappingSpace, operand: int) -> bool:
    """Whether a fetch of the operand may share but one of its two ports: the reference forgets some of these (C2)."""
    inputs = [o for i, o in enumerate(space.nest.operands) if not o.is_output and i != operand]
    mine = space.nest.operands[operand].memories
    return any(m in mine for o in inputs for m in o.memories)


def dual_bound(
    space: MappingSpace, regions: list[Region], floors: Floors, energy: tuple[Floats, float], cycles: float
) -> float:
    """What no mapping is below in ``energy[1]`` times its energy and ``cycles`` times its cycles, summed.

    ``energy[0]`` (cuts, points) is a floor of the cuts' energies. Cycles are at least any mean of the floors; the mean
    is moved towards those that its least chain finds highest.
    """
    energy_pj, price = energy
    lowest = np.inf
    for region in regions:
        base = floors.base * cycles + space.tables.fixed_pj * price
        rows = floors.rows * cycles
        if price:
            rows = rows + space.relaxed(energy_pj, region) * price
        allowed = np.where(region.allowed, 0.0, np.inf)
        best = max(b + space.chains.least(r + allowed)[0] for b, r in zip(base, rows, strict=True))
        weights = np.full(len(base), 1 / len(base))
        for _ in range(DUAL_STEPS):
            mean = np.where(region.allowed, weights @ rows.swapaxes(0, 1), np.inf)
            value, chain = space.chains.least(mean)
            best = max(best, float(weights @ base) + value)
            if not np.isfinite(value):
                break
            each = base + rows[:, np.arange(len(chain)), chain].sum(axis=1)
            weights = weights * np.exp(2 * each / max(each.max(), 1e-300))
            weights /= weights.sum()
        lowest = min(lowest, best)
    return lowest
