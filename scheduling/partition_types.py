"""What the search for the best sequence of stacks asks, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Generic, Protocol, TypeVar

from dfc.backend_cost.mapping_cost import Objective

T_co = TypeVar("T_co", covariant=True)

#: relative: sums in another order differ by less; what is worse by less is never pruned
SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Option(Generic[T_co]):
    """One way to run a stack, and what it costs."""

    energy_pj: float
    latency_cycles: float
    payload: T_co


@dataclass(frozen=True, slots=True)
class Limit:
    """What an option must not exceed to be part of a whole as good as the best known one.

    rest_energy_pj, rest_latency_cycles: what no schedule of the other stacks is below.
    """

    objective: Objective
    best: float
    rest_energy_pj: float = 0.0
    rest_latency_cycles: float = 0.0

    def allows(self, energy_pj: float, latency_cycles: float) -> bool:
        """Whether an option of at least this energy and latency may be of use."""
        whole = self.objective.of(energy_pj + self.rest_energy_pj, latency_cycles + self.rest_latency_cycles)
        return not whole > self.best * (1 + SLACK)

    def no_stricter(self, other: Limit) -> bool:
        """Whether it allows whatever ``other`` does."""
        if self.objective is Objective.EDP:
            rests = self.rest_energy_pj <= other.rest_energy_pj, self.rest_latency_cycles <= other.rest_latency_cycles
            return self.best >= other.best and all(rests)
        mine, theirs = (one.objective.of(one.rest_energy_pj, one.rest_latency_cycles) for one in (self, other))
        return (self.best - mine) * (1 + SLACK) >= other.best - theirs

    @property
    def most(self) -> float:
        """The greatest score that a useful option has alone; for the product by Cauchy and Schwarz."""
        best = self.best * (1 + SLACK)
        if self.objective is Objective.EDP:
            return max(0.0, sqrt(best) * (1 + SLACK) - sqrt(self.rest_energy_pj * self.rest_latency_cycles)) ** 2
        return best - self.objective.of(self.rest_energy_pj, self.rest_latency_cycles)


class Provider(Protocol[T_co]):
    """What is known of the stacks; cuts count from 0 (start) to n (end), place 0 is off chip."""

    def places(self, cut: int) -> Sequence[int]:
        """Where the tensors over this cut can wait; not asked of start and end, which are in place 0."""
        ...

    def ends(self, cut: int) -> Iterable[int]:
        """Cuts where a stack that begins at ``cut`` may end; what is left out cannot be a stack."""
        ...

    def bound(self, start: int, end: int, place_in: int, place_out: int) -> tuple[float, float]:
        """Energy (pJ) and latency (cycles) that no option is below, cheaply; infinite: cannot be a stack."""
        ...

    def options(self, start: int, end: int, place_in: int, place_out: int, limit: Limit) -> Sequence[Option[T_co]]:
        """The Pareto-optimal options or more, save those that ``limit`` does not allow. Slow; asked once per stack."""
        ...


@dataclass(frozen=True, slots=True)
class ChosenStack(Generic[T_co]):
    """A stack of the sequence: its cuts, the places of what enters and leaves it, and how it runs."""

    start: int
    end: int
    place_in: int
    place_out: int
    option: Option[T_co]


@dataclass(frozen=True, slots=True)
class Partition(Generic[T_co]):
    """The best sequence found (empty: none), and how it was found.

    complete: it is proved that none is better, or that there is none; else the search was interrupted, or has ``spent``
    the prices that it may ask for.
    bound: no sequence has a lower score, whether complete or not.
    considered: stacks with a finite bound; of them ``priced`` were priced, and ``pruned`` proved to be of no use
    without. Those that an interruption left open are in neither.
    """

    stacks: tuple[ChosenStack[T_co], ...]
    complete: bool
    bound: float
    considered: int
    priced: int
    pruned: int
    spent: bool = False

    @property
    def energy_pj(self) -> float:
        """Sum over the stacks."""
        return sum(s.option.energy_pj for s in self.stacks)

    @property
    def latency_cycles(self) -> float:
        """Sum over the stacks."""
        return sum(s.option.latency_cycles for s in self.stacks)
