"""The price of a range of layers of a streaming step, run as one stack in every step.

In the steady state every step costs the same. What a stack keeps from one to the next is in its ring buffers, which are
the line buffers that depth-first tiles keep across their walk, and in weights if they stay resident. Where both lie,
and whether weights stay, is decided by price: all ways that none beats in all respects are answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from math import inf

from dfc.backend_cost.mapping_cache import MappingCache
from dfc.hwdsl.arch import Arch
from dfc.ir import Axis, Graph, Role
from dfc.passes.stacks import make_stack
from dfc.passes.tiles import DepthFirstPlan, Modes, Overlap, Tiler
from dfc.passes.turn_axes import exchanged, rows_for_time
from dfc.scheduling.addresses import ends
from dfc.scheduling.copies import Copy, CopyCost, Place, in_sequence, price_copies
from dfc.scheduling.engine import StackCost, modelled
from dfc.scheduling.fitted import FittedPricer
from dfc.scheduling.levels import Infeasible
from dfc.scheduling.parts import line_buffers
from dfc.scheduling.placement import Buffer, Held, Lasting, Resident
from dfc.scheduling.search import halvings
from dfc.scheduling.step_lasting import ways_to_stay
from dfc.scheduling.step_types import Bits, Part, StepOption, useful_options

#: what takes less than this part of each memory leaves room enough to others
_LITTLE = 8
#: by what share a smaller tile must cost less for a still smaller one to be priced
_BETTER = 0.005
#: by what share a smaller tile costs more, in energy times cycles, where those below it are only good for room
_FAR = 0.25


def along_tiles(graph: Graph, arch: Arch) -> tuple[Graph, Arch]:
    """A step whose time is an axis along which there are tiles, and the chip for it.

    Where time is T, T and Y change places in the network and in what the chip unrolls, which changes no price.
    """
    if graph.time is not Axis.T:
        return graph, arch
    unrolls = {
        kind: tuple(replace(unroll, loop=exchanged(unroll.loop)) for unroll in slots)
        for kind, slots in arch.unrolls.items()
    }
    return rows_for_time(graph), replace(arch, unrolls=unrolls)


@dataclass(slots=True)
class _Descent:
    """Ever smaller tiles, all else equal: ``ended`` where they cost no less, and room is no reason for them."""

    energy_pj: float = inf
    cycles: float = inf
    ended: bool = False

    def far_from(self, option: StepOption) -> bool:
        """Whether a tile costs so much more than the best that none that is still smaller can be hoped to cost less."""
        return option.energy_pj * option.latency_cycles > self.energy_pj * self.cycles * (1 + _FAR)

    def note(self, options: Sequence[StepOption], *, small: bool) -> bool:
        """What tiles of a size cost; whether that is less than those before."""
        energy, cycles = min(o.energy_pj for o in options), min(o.latency_cycles for o in options)
        less = 1 - _BETTER
        better = energy < self.energy_pj * less or cycles < self.cycles * less
        self.ended = small and not better
        self.energy_pj = min(self.energy_pj, energy)
        self.cycles = min(self.cycles, cycles)
        return better


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question for options: its key, and what it is about as :meth:`StepPricer.options` has it."""

    key: object
    layers: Sequence[int]
    reserved: Mapping[int, int]
    held: Held
    part: Part

    def takes(self, resident: Resident) -> Callable[[Lasting], bool]:
        """Which ways to stay of a plan are among those asked for."""
        if self.part is Part.ALL or not resident.weight_bits:
            return lambda _: self.part is not Part.FETCHED
        return lambda lasting: (not lasting.resident) == (self.part is Part.FETCHED)


class StepPricer:
    """Prices ranges of layers of one step on one chip.

    ``graph`` is a step whose tensors have pasts (``dfc.causal.Streaming.resident()``), and ``arch`` the chip, both as
    :func:`along_tiles` makes them; mappings that several pricers of the same chip share are in ``cache``.
    """

    def __init__(self, graph: Graph, arch: Arch, cache: MappingCache):
        assert graph.time is not Axis.T, "along_tiles comes first"
        self.graph = graph
        self.arch = arch
        self.pricer = FittedPricer(graph, arch, cache)
        self._known: dict[object, list[StepOption] | Infeasible] = {}
        self._one_by_one: dict[object, StepOption | Infeasible] = {}

    @property
    def sizes(self) -> list[int]:
        """Bits of every memory that stacks may take."""
        return [memory.size_bits - self.pricer.taken.get(m, 0) for m, memory in enumerate(self.arch.memories)]

    def set_aside(self, share: float) -> dict[int, int]:
        """Bits of each memory, as :meth:`options` reserves them, that are part of it.

        Nothing of memories with several instances: they are beside the array, and hold too little for any loops
        without a part of it.
        """
        memories = enumerate(zip(self.sizes, self.arch.memories, strict=True))
        return {m: int(size * share) for m, (size, one) in memories if share and one.instances == 1}

    @property
    def on_chip(self) -> Sequence[int]:
        """Memories that maps pass through on chip, the lowest first."""
        return self.pricer.ladder.shared[:-1]

    def options(
        self,
        layers: Sequence[int],
        reserved_bits: Mapping[int, int] | None = None,
        held: Held | None = None,
        part: Part = Part.ALL,
    ) -> list[StepOption] | Infeasible:
        """The ways to run these consecutive layers (indices into the graph) as one stack, or why there is none.

        None is dominated by another in energy, latency, and the bits that it takes of each memory. Of a ``part`` of
        them there may be none at all.

        reserved_bits: bits of memories, by index, that others keep from step to step: neither what stays nor anything
                       else of the stack takes them. What fits with more reserved fits with less, but may be found only
                       when asked for.
        held:          maps that cross the stack's border on chip, and in which memory. One lies there for the whole
                       step, and with a past for ever, as its own ring buffer: its maker writes the new positions into
                       it. It counts as resident where it is read; where it is made, it has its room, but is not
                       counted.
        """
        reserved, kept = dict(reserved_bits or {}), dict(held or {})
        key = tuple(layers), tuple(sorted(reserved.items())), tuple(sorted(kept.items()))
        if (key, part) not in self._known:
            found: list[StepOption] = []
            why: Infeasible | None = None
            for option in self._priced(_Asked(key, layers, reserved, kept, part)):
                if isinstance(option, Infeasible):
                    why = why or option
                else:
                    found.append(option)
            assert found or why is not None or part is not Part.ALL
            self._known[key, part] = useful_options(found, self.arch) if found else why or []
        return self._known[key, part]

    def _priced(self, asked: _Asked) -> Iterator[StepOption | Infeasible]:
        if not modelled(self.graph.layers[asked.layers[0]]):
            if asked.part is not Part.FETCHED:
                cost = self.pricer.price(next(self.plans(asked.layers)))
                yield cost if isinstance(cost, Infeasible) else self._option(cost)
            return
        shallower = _Descent()  # tiles of ever fewer frames
        first: dict[Modes, _Descent] = {}
        for _, plans in groupby(self.plans(asked.layers), self._frames):
            priced = list(self._in_tiles(plans, asked, first))
            yield from priced
            found = [option for option in priced if isinstance(option, StepOption)]
            if found and self._deep_enough(shallower, found):
                return

    def _in_tiles(
        self, plans: Iterable[DepthFirstPlan], asked: _Asked, first: dict[Modes, _Descent]
    ) -> Iterator[StepOption | Infeasible]:
        """A stack in ever smaller tiles of equally many frames.

        first: per overlap, what the first ways to stay cost that had room, in tiles of any frames.
        """
        descents: dict[object, _Descent] = {}
        for plan in plans:
            best = first.setdefault(plan.overlap, _Descent())
            if best.ended:
                continue
            resident = Resident(self.graph, self.arch, plan, asked.held, asked.reserved)
            on_chip: set[object] = set()  # weights with which ring buffers have room on chip
            ways = list(ways_to_stay(resident))
            if not ways:
                yield self.pricer.nowhere(resident)
            for lasting in filter(asked.takes(resident), ways):
                weights = tuple(lasting.weights.items())
                if resident.off_chip(lasting) and weights in on_chip:
                    continue
                key = plan.overlap, tuple(lasting.across.items()), weights, lasting.resident
                descent = descents.setdefault(key, _Descent())
                if descent.ended:
                    on_chip.add(weights)
                    continue
                option = self._in_one_way(plan, resident, lasting, asked)
                yield option
                if isinstance(option, Infeasible):
                    continue
                descent.note([option], small=self._small(option))
                leads = asked.part is Part.BROAD and not on_chip
                on_chip.add(weights)
                if leads and not best.note([option], small=best.far_from(option)):
                    break  # tiles of this size leave room to others at best

    def _in_one_way(
        self, plan: DepthFirstPlan, resident: Resident, lasting: Lasting, asked: _Asked
    ) -> StepOption | Infeasible:
        """A plan where it is given what stays; what is asked for in parts is worked out once."""
        stay = *(tuple(each.items()) for each in (lasting.along, lasting.across, lasting.weights)), lasting.resident
        key = asked.key, plan.tile, plan.overlap, plan.order, stay
        found = self._one_by_one.get(key)
        if found is None:
            cost = self.pricer.price_lasting(plan, resident, lasting, asked.reserved)
            found = cost if isinstance(cost, Infeasible) else self._option(cost)
            if asked.part is Part.BROAD:
                self._one_by_one[key] = found
        return found

    def _deep_enough(self, shallower: _Descent, found: Sequence[StepOption]) -> bool:
        """Whether tiles of still fewer frames are of no use: the best of these take little room, or others that do cost
        no less than those before.
        """
        shallower.note(found, small=any(map(self._small, found)))
        best = min(found, key=lambda o: o.energy_pj), min(found, key=lambda o: o.latency_cycles)
        return shallower.ended or all(map(self._small, best))

    def _frames(self, plan: DepthFirstPlan) -> int:
        """Positions along time of a tile."""
        return plan.tile[0 if self.graph.time is Axis.X else 1]

    def _small(self, option: StepOption) -> bool:
        """Whether what is not resident takes little of each memory that maps pass through."""
        sizes = self.arch.memories
        return all(option.transient_bits[m] * _LITTLE <= sizes[m].size_bits for m in self.pricer.ladder.shared)

    def plans(self, layers: Sequence[int]) -> Iterator[DepthFirstPlan]:
        """A step as a whole, then in smaller and smaller tiles along the axis that is not time; then with fewer and
        fewer frames in each.

        Overlap of these is kept; where that takes more than the ring buffers, also computed again.
        """
        tiler = Tiler(self.graph, make_stack(self.graph, layers), remainder_first=False)
        axis = 1 if self.graph.time is Axis.X else 0  # along which there are tiles, in (x, y)
        other = Overlap.H_CACHED if self.graph.time is Axis.X else Overlap.V_CACHED
        for frames, size in product(halvings(tiler.extents[1 - axis]), halvings(tiler.extents[axis])):
            tile = (size, frames) if axis == 0 else (frames, size)
            plan = tiler.plan(tile, Overlap.CACHED)
            yield plan
            if any(along for along, _ in line_buffers(self.graph, plan).values()):
                yield tiler.plan(tile, other)  # else ring buffers have all that neighbours share

    def _option(self, cost: StackCost) -> StepOption:
        first = self.first_loads(cost)
        lasting = [b for b in cost.stay if b.steps]
        elsewhere = [b for b in lasting if b.what == "map" and b.name in cost.plan.stack.outputs]
        every = [self._bits([*cost.stay, *buffers]) for buffers in cost.buffers] or [self._bits(cost.stay)]
        most = [max(of_memory) for of_memory in zip(*every, strict=True)]
        transient = tuple(a - b for a, b in zip(most, self._bits(lasting), strict=True))
        resident = tuple(n - sum(b.bits for b in elsewhere if b.memory == m) for m, n in enumerate(self._bits(lasting)))
        return StepOption(
            cost.energy_pj, cost.latency_cycles, first.energy_pj, first.latency_cycles, resident, transient, cost
        )

    def _bits(self, buffers: Sequence[Buffer]) -> Bits:
        """Up to which bit of each memory buffers reach, from where the first may lie."""
        start = self.pricer.taken
        reached = ends(buffers, start)
        return tuple(reached.get(m, 0) - start.get(m, 0) for m in range(len(self.arch.memories)))

    def first_loads(self, cost: StackCost) -> CopyCost:
        """What it costs to load the weights that stay, one layer after the other."""
        top = Place(Role.W, len(self.arch.paths[Role.W]) - 1)
        found = price_copies(self.arch, [])
        for buffer in cost.stay:
            if buffer.what == "weights" and buffer.steps:
                target = Place(Role.W, self.arch.level(Role.W, buffer.memory))
                found = in_sequence(
                    found, price_copies(self.arch, [Copy("weights", buffer.name, buffer.bits, top, target)])
                )
        return found
