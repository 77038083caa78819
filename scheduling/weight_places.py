"""In which memories the weights of a stack stay, chosen by what it costs.

The weights of a layer are cheaper to read the lower they lie; but what stays in a low memory leaves less of it to the
loops of the layers whose weights lie higher, and what has no room anywhere is fetched by every tile. So a share of each
memory is set aside for loops, and the rest goes to the layers whose weights save most there: a knapsack of several
memories, for a few such shares. From the best of what comes out the weights of single layers are moved for as long as
that is better, and the best few are placed and mapped in the room that is really left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from math import inf

from dfc.ir import Role
from dfc.scheduling.class_walk import ClassWalk, Path
from dfc.scheduling.copies import Copy, Place, price_copies
from dfc.scheduling.placement import Lasting, Resident

#: per layer, the memory in which its weights stay; layers that are not named fetch theirs with every tile
Weights = dict[int, int]
#: the same, layer by layer; None where weights stay nowhere
Picked = tuple[int | None, ...]

#: shares of each memory that may be left to loops, as far as costs are told apart; some are set aside to begin with
_LEFT = (7 / 8, 3 / 4, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 64, 0.0)
_ASIDE = (1 / 4, 3 / 4, 1 / 16)
#: what saves less than this share of what the layers cost is not worth a try
_WORTH = 2e-4
#: how many ways to share out weights are tried; all of them where there are few
_TRIES = 3
_ALL = 27
#: ways to share out the weights of the layers so far that are carried on; of fewer, none is left out
_CARRIED = 24


@dataclass(frozen=True, slots=True)
class Choice:
    """A memory in which the weights of a layer may stay (None: nowhere), and what the layer costs then."""

    memory: int | None
    bits: int
    cost: float


def shared_out(choices: Sequence[Sequence[Choice]], room: Mapping[int, int]) -> tuple[float, Picked]:
    """One choice for each layer so that the sum of costs is least and what stays has room, in bits by memory.

    Layer by layer, keeping what no other beats in cost and in all memories. That is exact until more than
    ``_CARRIED`` are left; then the cheapest go on. Some memory has room for all, or each layer has a choice that needs
    none.
    """
    most = {m: sum(max((c.bits for c in each if c.memory == m), default=0) for each in choices) for m in room}
    scarce = [m for m in room if most[m] > room[m]]
    carried: list[tuple[float, tuple[int, ...], Picked]] = [(0.0, (0,) * len(scarce), ())]
    for each in choices:
        longer: list[tuple[float, tuple[int, ...], Picked]] = []
        for cost, taken, picked in carried:
            for choice in each:
                more = tuple(n + choice.bits * (m == choice.memory) for m, n in zip(scarce, taken, strict=True))
                if all(n <= room[m] for m, n in zip(scarce, more, strict=True)):
                    longer.append((cost + choice.cost, more, (*picked, choice.memory)))
        longer.sort(key=lambda one: one[:2])
        carried = []
        for one in longer:
            if not any(all(a <= b for a, b in zip(other[1], one[1], strict=True)) for other in carried):
                carried.append(one)
            if len(carried) == _CARRIED:
                break
    return carried[0][0], carried[0][2]


class WeightPlaces:
    """The choices for the weights of a stack's layers, as its largest class of tiles sees them.

    lasting, path: what stays and how that class runs with the weights as they are.
    shares:        per layer of the stack, how many times it runs as it does in that class.
    walk_of:       the class's walk with what stays. weigh: the score of energy and cycles.
    """

    def __init__(
        self,
        resident: Resident,
        lasting: Lasting,
        path: Path,
        shares: Sequence[float],
        walk_of: Callable[[Lasting], ClassWalk],
        weigh: Callable[[float, float], float],
    ):
        self.resident = resident
        self.arch = resident.arch
        self.lasting = lasting
        self.path = path
        self.walk_of = walk_of
        self.shares = dict(zip(resident.plan.stack.layers, shares, strict=True))
        self.now = dict(lasting.weights)
        #: memories that may hold weights, from the array outwards
        self.memories = [m for m in self.arch.paths[Role.W][:-1] if self.arch.memories[m].instances == 1]
        here = (None, *self.memories)
        self.layers = [i for i in path.choices if i in resident.weight_bits and self.now.get(i) in here]
        self._walks: dict[int | None, ClassWalk] = {}
        self._costs: dict[object, float] = {}
        self.weigh = weigh

    def free(self, memory: int) -> int:
        """Bits of a memory that weights may take beside line buffers and maps that stay."""
        own = sum(self.resident.weight_bits[i] for i in self.layers if self.now.get(i) == memory)
        others = self.lasting.taken.get(memory, 0) - own
        return min(self.resident.for_weights(memory), self.arch.memories[memory].size_bits - others)

    @cached_property
    def fetched(self) -> bool:
        """Whether some may be fetched by every tile: not where the uppermost memory has room, and is for weights."""
        top = self.memories[-1]
        shared = top in {*self.arch.paths[Role.I], *self.arch.paths[Role.O]}
        return shared or sum(self.resident.weight_bits.values()) > self.free(top)

    @property
    def lowest(self) -> bool:
        """Whether all weights stay in the lowest memory, and that is for weights alone: no other takes less energy.

        Also where no memory on chip can hold them.
        """
        if not self.memories:
            return True
        first = self.memories[0]
        alone = first not in {*self.arch.paths[Role.I], *self.arch.paths[Role.O]}
        return alone and all(self.now.get(i) == first for i in self.layers)

    def proposals(self) -> list[Weights]:
        """Other ways to share out the weights that are likely to cost less, the best first."""
        if not self.layers or not self.memories:
            return []
        known = max(sum(map(self._cost_now, self.layers)), self._about(tuple(map(self.now.get, self.layers))))
        free = ([choice.cost for choice in self._choices(i, {})] for i in self.layers)
        if sum(map(min, free)) > known * (1 - _WORTH):
            return []
        if len(self._places) ** len(self.layers) <= _ALL:
            hopeful = [each for each in product(self._places, repeat=len(self.layers)) if self._about(each) < inf]
            return self._as_weights(sorted(hopeful, key=self._about))
        found: dict[Picked, float] = {}
        for picked in sorted(self._by_shares(), key=self._about)[:_TRIES]:
            self._descend(picked, found)
        hopeful = [picked for picked, cost in found.items() if cost < known * (1 - _WORTH)]
        return self._as_weights(sorted(hopeful, key=found.__getitem__))[:_TRIES]

    def _as_weights(self, hopeful: Sequence[Picked]) -> list[Weights]:
        """All that are not as now; with the weights of layers that were not asked about."""
        rest = {i: m for i, m in self.now.items() if i not in self.layers}
        stays = ([(i, m) for i, m in zip(self.layers, picked, strict=True) if m is not None] for picked in hopeful)
        every = [dict(sorted({**rest, **dict(one)}.items())) for one in stays]
        return [weights for weights in every if weights != self.now]

    @property
    def _places(self) -> list[int | None]:
        """Where weights may stay; None: nowhere."""
        return [*self.memories, None] if self.fetched else [*self.memories]

    def _by_shares(self) -> set[Picked]:
        """Weights shared out for shares that are set aside: one memory after the other gets the best for it."""
        wanted = self.memories if self.fetched else self.memories[:-1]  # loops take room below their weights alone
        aside = {m: _ASIDE[0] if m in wanted else 0.0 for m in self.memories}
        known: dict[tuple[float, ...], float] = {}
        found: set[Picked] = set()

        def cost_with(share: float, memory: int) -> float:
            here = {**aside, memory: share}
            key = tuple(here.values())
            if key not in known:
                room = {m: int(self.free(m) * (1 - here[m])) for m in here}
                known[key], picked = shared_out([self._choices(i, here) for i in self.layers], room)
                found.add(picked)
            return known[key]

        for m in wanted:
            aside[m] = min(_ASIDE, key=partial(cost_with, memory=m))
        return found

    def _descend(self, picked: Picked, found: dict[Picked, float]) -> None:
        """Move the weights of single layers for as long as that is better; all that was better on the way is found."""
        best = found[picked] = self._about(picked)
        while True:
            at = range(len(picked))
            moves = [(*picked[:k], m, *picked[k + 1 :]) for k in at for m in self._places if m != picked[k]]
            least = min(moves, key=self._about)
            if self._about(least) >= best:
                return
            picked, best = least, self._about(least)
            found[picked] = best

    def _about(self, picked: Picked) -> float:
        """What the layers cost about with their weights there; of what is left of memories they get a little less."""
        left = {m: self.free(m) for m in self.memories}
        for index, m in zip(self.layers, picked, strict=True):
            if m is not None:
                left[m] -= self.resident.weight_bits[index]
        if min(left.values()) < 0:
            return inf
        aside = {m: next(share for share in _LEFT if bits >= int(self.free(m) * share)) for m, bits in left.items()}
        return sum(self._cost(i, m, aside) for i, m in zip(self.layers, picked, strict=True))

    def total(self, lasting: Lasting, path: Path, *, early: bool = False) -> float:
        """About what the stack costs with these weights, their arrival included, if all tiles were like the class.

        ``early``: as if all weights came while layers run, which takes no time.
        """
        cost = price_copies(self.arch, [copy for i, m in lasting.weights.items() for copy in self._arriving(i, m)])
        total = self.weigh(cost.energy_pj, 0.0 if early else cost.latency_cycles)
        for placed in path.placed:
            run = placed.run
            energy, cycles = run.copy_cost.energy_pj, float(run.copy_cost.latency_cycles)
            if run.cost:
                energy, cycles = energy + run.cost.energy_pj, cycles + run.cost.latency_cycles
            total += self.shares[run.layer] * self.weigh(energy, cycles)
        return total

    def _cost_now(self, index: int) -> float:
        run = next(placed.run for placed in self.path.placed if placed.run.layer == index)
        assert run.cost is not None
        cost = self.shares[index] * self.weigh(run.cost.energy_pj, run.cost.latency_cycles)
        return cost + self._standing(index, self.now.get(index))

    def _standing(self, index: int, memory: int | None) -> float:
        """What it costs to bring a layer's weights to where they stay, or for every tile what its loops do not read."""
        if memory is not None:
            return self._score(self._arriving(index, memory))
        return self.shares[index] * self._score(self._walk(None).weights(index))

    def _arriving(self, index: int, memory: int) -> list[Copy]:
        top = Place(Role.W, len(self.arch.paths[Role.W]) - 1)
        there = Place(Role.W, self.arch.level(Role.W, memory))
        return [Copy("weights", "", self.resident.weight_bits[index], top, there)]

    def _score(self, copies: Sequence[Copy]) -> float:
        cost = price_copies(self.arch, copies)
        return self.weigh(cost.energy_pj, cost.latency_cycles)

    def _walk(self, memory: int | None) -> ClassWalk:
        """The class with all weights in a memory."""
        if memory not in self._walks:
            weights = dict.fromkeys(self.resident.weight_bits, memory) if memory is not None else {}
            self._walks[memory] = self.walk_of(Lasting(self.lasting.along, self.lasting.across, weights))
        return self._walks[memory]

    def _choices(self, index: int, aside: Mapping[int, float]) -> list[Choice]:
        """Where the weights of a layer may stay, if these shares of memories are set aside for loops."""
        bits = self.resident.weight_bits[index]
        fit = [m for m in self.memories if bits <= self.free(m)]
        here = [Choice(m, bits, self._cost(index, m, aside)) for m in fit]
        return [*here, Choice(None, 0, self._cost(index, None, aside))] if self.fetched else here

    def _cost(self, index: int, memory: int | None, aside: Mapping[int, float]) -> float:
        """What a layer costs with its maps where they are and its weights here; infinite where it has no room.

        Memories of which no share is set aside are empty.
        """
        path = self.arch.paths[Role.W]
        below = path[: len(path) if memory is None else path.index(memory)]
        room = {m: int(self.free(m) * share) for m, share in aside.items() if m in below}
        key = index, memory, tuple(room.items())
        if key not in self._costs:
            cost = self._walk(memory).mapping_cost(index, *self.path.choices[index], room)
            each = inf if cost is None else self.weigh(cost.energy_pj, cost.latency_cycles)
            self._costs[key] = self.shares[index] * each + self._standing(index, memory)
        return self._costs[key]
