"""How long a mapping keeps the ports of memories busy under the exact model: what it leaves to others is idle time.

The exact model plays transfers on ports (docs/simulator.md): each holds both of its ports for as long as the slower
side takes, and steps hold those of the memories beside the array. Here their durations are summed over the whole run.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dfc.backend_cost.cost_model import EXACT, CostModel
from dfc.backend_cost.evaluate import Batch, effective_cuts
from dfc.backend_cost.mapping_cost import tables_of
from dfc.backend_cost.nest import Mapping, Nest
from dfc.backend_cost.tables import Ints
from dfc.backend_cost.timing_tables import Port, TimeTables, shared_times
from dfc.hwdsl.arch import Arch


@dataclass(frozen=True, slots=True)
class Busy:
    """Cycles of a whole run in which all of some ports, (memory, port), are busy with the same."""

    ports: tuple[Port, ...]
    cycles: float


@dataclass(frozen=True, slots=True)
class BusyPorts:
    """All that one run of a mapping does on ports."""

    parts: tuple[Busy, ...]

    def cycles(self, ports: Collection[Port]) -> float:
        """Cycles in which any of the ports is busy, at most: what goes on on two of them at once counts once."""
        return sum(part.cycles for part in self.parts if not set(ports).isdisjoint(part.ports))


def busy_ports(nest: Nest, arch: Arch, mapping: Mapping, model: CostModel = EXACT) -> BusyPorts:
    """What a mapping does on ports; ``model`` is one that plays transfers.

    Where a memory fetches only what is new of a window, all of it is counted: then ports are less busy than this says.

    Raises:
        ValueError: where the mapping's loops do not cover the nest.
    """
    assert model.played, "only the exact model knows when a port is busy"
    tables, batch = tables_of(nest, arch, mapping, model)
    times = shared_times(tables)
    steps = (Busy((port,), cycles) for port, cycles in times.step_busy.items() if cycles)
    return BusyPorts((*_transfers(times, batch, effective_cuts(tables, batch)), *steps))


def _transfers(times: TimeTables, batch: Batch, cuts: tuple[Ints, ...]) -> list[Busy]:
    """Those across all boundaries, filling and draining included."""
    found: list[Busy] = []
    for boundary in times.boundaries:
        at = batch.point[0, cuts[boundary.operand][0, boundary.boundary - 1]]
        for _, transfer in boundary.transfers:
            cycles = float(transfer.cycles[at] * transfer.share[at] * times.tables.stays[at])
            if cycles:
                found.append(Busy(tuple(dict.fromkeys(transfer.ports)), cycles))
    return found
