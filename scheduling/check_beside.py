"""Copies that a schedule makes early, while layers run: is there time and room for them, and is what they copy there?

Everything is recounted from the schedule's file, apart from what made the copies early. How long layers keep ports
busy is asked of the cost model, which the simulator judges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from math import ceil

from dfc.backend_cost.busy_ports import BusyPorts, busy_ports
from dfc.backend_cost.cost_model import CostModel, model_by_name
from dfc.backend_cost.rebuild import rebuild_tile
from dfc.backend_cost.schedule import BufferEntry, CopyEntry, Schedule, StackEntry, TileLayer
from dfc.backend_cost.timing_tables import Port
from dfc.errors import UsageError
from dfc.hwdsl.arch import Move
from dfc.ir import Role
from dfc.scheduling.check_tile import Place, Violation

#: per kind of copy that may be made early, what it goes to
_TARGETS = {
    "weights": "weights",
    "input": "map",
    "feature map": "window",
    "read H cache": "window",
    "read V cache": "window",
}
#: copies that come first, before all others that are made for a layer
_FIRST = {"weights", "constants", "input"}
_ROUNDING = 1e-6

#: a hop's ports with its cycles
Hop = tuple[tuple[Port, Port], int]
#: per step, ports that copies took beside its layer, and for how many cycles
_Taken = dict[int, list[tuple[frozenset[Port], int]]]


@dataclass(frozen=True)
class _Part:
    """Cycles of a copy that pass early: at ``step`` of its tile, or of the one before."""

    run: TileLayer
    copy: CopyEntry
    own: int
    step: int
    ahead: bool
    cycles: int


class _Tile:
    """A tile class with what is said to pass early."""

    def __init__(self, place: Place, model: CostModel):
        self.place = place
        self.model = model
        self.runs = {place.step[run.layer]: run for run in place.tile.layers if run.layer in place.step}
        self._busy: dict[int, BusyPorts] = {}

    @cached_property
    def parts(self) -> list[_Part]:
        """In the order in which copies have the choice."""
        found: list[_Part] = []
        for own, run in sorted(self.runs.items()):
            for entry in sorted(run.beside, key=lambda entry: entry.copy):
                copy, step = run.copies[entry.copy], self.place.step[entry.layer]
                found.append(_Part(run, copy, own, step, entry.ahead, entry.cycles))
        return found

    @cached_property
    def longer(self) -> list[tuple[BufferEntry, int, int]]:
        """Buffers that are in use before their time, with the steps of their own tile."""
        return [(b, 0 if part.ahead else part.step, part.own - 1) for part in self.parts for b in self.target(part)]

    @cached_property
    def longer_ahead(self) -> list[tuple[BufferEntry, int, int]]:
        """The same with the steps of the tile before."""
        last = len(self.place.stack.layers) - 1
        return [(b, part.step, last) for part in self.parts if part.ahead for b in self.target(part)]

    def target(self, part: _Part) -> list[BufferEntry]:
        """The buffers of the tile to which a copy goes."""
        what = _TARGETS.get(part.copy.what, "")
        found = self.place.found(what, part.copy.tensor, part.copy.target, part.own)
        return [b for b in found if b.first or b.last]

    def idle(self, step: int, ports: frozenset[Port]) -> float:
        """Cycles in which a layer leaves all of some ports idle."""
        run = self.runs.get(step)
        if run is None or run.nest is None:
            return 0.0
        if step not in self._busy:
            problem = rebuild_tile(run, self.place.arch, self.model, run.layer, "schedule")
            self._busy[step] = busy_ports(problem.nest, problem.arch, problem.mapping, self.model)
        return run.latency_cycles - run.copy_cycles - self._busy[step].cycles(ports)

    def reads(self, tensor: str, first: int, last: int) -> bool:
        """Whether a layer of these steps reads a map."""
        runs = (run for step, run in self.runs.items() if first <= step <= last)
        return any(read.tensor == tensor for run in runs for read in run.reads)

    # --- ways

    def way(self, copy: CopyEntry) -> list[Hop]:
        """A copy's hops. Raises ValueError where it has no way."""
        arch = self.place.arch
        index = {memory.name: m for m, memory in enumerate(arch.memories)}
        paths = {role: list(path) for role, path in arch.paths.items()}
        source, target = index[copy.source], index[copy.target]
        role, to = self._roles(copy)
        found: list[tuple[Role, int, int]] = []
        at = source
        while role is not to and not (at in paths[to] and paths[to].index(at) >= paths[to].index(target)):
            above = paths[role][paths[role].index(at) + 1]
            found.append((role, at, above))
            at = above
        path = paths[to]
        while at != target:
            step = 1 if path.index(target) > path.index(at) else -1
            found.append((to, at, path[path.index(at) + step]))
            at = found[-1][2]
        return [self._hop(*one, copy.bits) for one in found]

    def _roles(self, copy: CopyEntry) -> tuple[Role, Role]:
        """On which paths a copy begins and ends."""
        if copy.what in ("weights", "constants"):
            return Role.W, Role.W
        made = any(m.tensor == copy.tensor and not m.fetched for run in self.runs.values() for m in run.makes)
        if copy.what == "output" or copy.what.startswith("write"):
            return (Role.O, Role.O) if made else (Role.I, Role.I)
        return (Role.O if made and copy.what == "feature map" else Role.I), Role.I

    def _hop(self, role: Role, sender: int, receiver: int, bits: int) -> Hop:
        arch = self.place.arch
        a, b = arch.memories[sender], arch.memories[receiver]
        up = arch.paths[role].index(receiver) > arch.paths[role].index(sender)
        send, receive = (Move.READ_UP, Move.WRITE_UP) if up else (Move.READ_DOWN, Move.WRITE_DOWN)
        cycles = max(ceil(bits / a.read_bits_per_cycle), ceil(bits / b.write_bits_per_cycle))
        return ((sender, a.port_of[role, send]), (receiver, b.port_of[role, receive])), cycles

    def ports(self, copy: CopyEntry) -> frozenset[Port]:
        """All ports on a copy's way."""
        return frozenset(port for both, _ in self.way(copy) for port in both)


def check_beside(schedule: Schedule, places: Sequence[Place]) -> Iterator[Violation]:
    """All that a schedule says of copies that are made early."""
    entries = [(place, run) for place in places for run in place.tile.layers if run.beside or run.hidden_cycles]
    if not entries:
        return
    model = model_by_name(schedule.cost_model)
    for place, run in entries:
        yield from _entries(place, run, model)
    if any(_broken(place, run) for place, run in entries) or not model.played:
        return
    tiles = {(place.number, place.index): _Tile(place, model) for place in places}
    try:
        for number, group in groupby(places, key=lambda place: place.number):
            here = [tiles[number, place.index] for place in group]
            follows = neighbours(here[0].place.stack)
            for tile in here:
                before = [tiles[number, a] for a, b in follows if b == tile.place.index]
                yield from _tile(tile, before)
            for tile in here:
                after = [tiles[number, b] for a, b in follows if a == tile.place.index]
                yield from _times(tile, after)
                yield from _rooms(tile, after)
    except (UsageError, ValueError, LookupError) as error:
        yield Violation(f"nobody can tell whether copies have time beside layers: {error}")


def neighbours(stack: StackEntry) -> set[tuple[int, int]]:
    """The classes of tiles that come one after the other, tile by tile: (earlier, later)."""
    columns, rows = [axis.kind for axis in stack.columns], [axis.kind for axis in stack.rows]
    walk = [(x, y) for y in rows for x in columns] if stack.order == "rows" else [(x, y) for x in columns for y in rows]
    known = {(one.kinds, one.first): n for n, one in enumerate(stack.tile_classes)}
    numbers = [known.get((kinds, n == 0)) for n, kinds in enumerate(walk)]
    return {(a, b) for a, b in pairwise(numbers) if a is not None and b is not None}


def _broken(place: Place, run: TileLayer) -> bool:
    """Whether what is said of a layer's early copies names things that there are not."""
    return any(not 0 <= b.copy < len(run.copies) or b.layer not in place.step or b.cycles <= 0 for b in run.beside)


def _entries(place: Place, run: TileLayer, model: CostModel) -> Iterator[Violation]:
    if not model.played:
        yield place.wrong("its cost model knows no copies beside layers", run.layer, "")
    elif run.layer not in place.step or _broken(place, run):
        yield place.wrong(
            "a copy beside a layer is none of its copies, or the layer is none of the stack", run.layer, ""
        )


def _tile(tile: _Tile, before: Sequence[_Tile]) -> Iterator[Violation]:
    """Each early copy by itself: its source is there, it comes before its layer, and the time that is left is right."""
    for part in tile.parts:
        why = _early(tile, part, before)
        if why:
            yield tile.place.wrong(f"the copy '{part.copy.what}' of '{part.copy.tensor}' {why}", part.run.layer, "")
    for run in tile.runs.values():
        if run.beside or run.hidden_cycles:
            yield from _left(tile, run)


def _early(tile: _Tile, part: _Part, before: Sequence[_Tile]) -> str:
    """Why a copy cannot be made as early as that; empty where it can."""
    copy, since = part.copy, part.step
    if copy.what not in _TARGETS:
        return "cannot be made early"
    if not part.ahead and since >= part.own:
        return "is made beside a layer that does not run before its own"
    if part.ahead and not before:
        return "is made ahead of the first tile"
    whole = any((b.what, b.name) == ("map", copy.tensor) for b in tile.place.stack.buffers)
    if part.ahead and copy.what != "input" and not (copy.what == "feature map" and whole):
        return "is made in the tile before, when what it copies is not there"
    if copy.what == "input":
        last = len(tile.place.stack.layers)
        busy = part.ahead and any(one.reads(copy.tensor, since, last) for one in before)
        if busy or tile.reads(copy.tensor, 0 if part.ahead else since, part.own - 1):
            return "is made while the map is read"
    elif copy.what == "feature map" and not whole:
        there = [step for step, run in tile.runs.items() for made in run.makes if made.tensor == copy.tensor]
        if not there or min(there) >= since:
            return "is made before what it copies is there"
    if copy.what != "weights" and any(tile.place.span(b)[0] != part.own for b in tile.target(part)):
        return "goes to a buffer that is in use before"
    return ""


def _left(tile: _Tile, run: TileLayer) -> Iterator[Violation]:
    """The time that is left to a layer's copies."""
    early: dict[int, int] = {}
    for entry in run.beside:
        early[entry.copy] = early.get(entry.copy, 0) + entry.cycles
    every, left = _time(tile, run, {}), _time(tile, run, early)
    for number, cycles in early.items():
        whole = sum(cycles for _, cycles in tile.way(run.copies[number]))
        if cycles > whole:
            yield tile.place.wrong(f"{cycles:,} cycles of a copy pass early, it has {whole:,}", run.layer, "")
    if (run.copy_cycles, run.hidden_cycles) != (left, every - left):
        told = f"copies take {run.copy_cycles:,} cycles and {run.hidden_cycles:,} pass early"
        yield tile.place.wrong(f"{told}, not {left:,} and {every - left:,}", run.layer, "")


def _time(tile: _Tile, run: TileLayer, early: Mapping[int, int]) -> int:
    """Time of a layer's copies, group after group; of some so many cycles have passed before."""
    total = 0
    for after, first in ((False, True), (False, False), (True, False)):
        ports: dict[Port, list[tuple[int, int]]] = {}
        for number, copy in enumerate(run.copies):
            if copy.after is not after or (not after and (copy.what in _FIRST) is not first):
                continue
            at = -early.get(number, 0)
            for both, cycles in tile.way(copy):
                if at + cycles > 0:
                    for port in both:
                        ports.setdefault(port, []).append((max(0, at), at + cycles))
                at += cycles
        ends = [max(min(s for s, _ in at) + sum(e - s for s, e in at), *(e for _, e in at)) for at in ports.values()]
        total += max(ends, default=0)
    return total


def _times(tile: _Tile, after: Sequence[_Tile]) -> Iterator[Violation]:
    """No layer of a tile leaves less time than copies take beside it: its own, then those of the tile that follows."""
    own: _Taken = {}
    yield from _fill(tile, own, tile, ahead=False)
    for following in after:
        yield from _fill(tile, {step: [*taken] for step, taken in own.items()}, following, ahead=True)


def _fill(tile: _Tile, taken: _Taken, copied: _Tile, *, ahead: bool) -> Iterator[Violation]:
    """Make copies for a tile beside the layers of one, after those that have taken time of these."""
    for part in copied.parts:
        if part.ahead is not ahead:
            continue
        ports = copied.ports(part.copy)
        others = sum(cycles for those, cycles in taken.get(part.step, []) if those & ports)
        idle = tile.idle(part.step, ports)
        taken.setdefault(part.step, []).append((ports, part.cycles))
        if others + part.cycles - idle > _ROUNDING:
            what = f"the copy '{part.copy.what}' of '{part.copy.tensor}'"
            layer = tile.place.stack.layers[part.step]
            spare = f"of {idle:,.0f} that its ports are idle, others take {others:,}"
            yield tile.place.wrong(f"{what} takes {part.cycles:,} cycles beside it; {spare}", layer, "")


def _rooms(tile: _Tile, after: Sequence[_Tile]) -> Iterator[Violation]:
    """What is copied early goes to addresses at which nothing else lives meanwhile."""
    told: set[tuple[BufferEntry, BufferEntry]] = set()
    for following in [None, *after]:
        ahead = following.longer_ahead if following else []
        for step, layer in enumerate(tile.place.stack.layers):
            mine = {b for b, first, last in tile.longer if first <= step <= last}
            theirs = {b for b, first, last in ahead if first <= step <= last}
            alive = [b for b in (*tile.place.alive(step), *tile.place.others) if b.bits]
            pairs = [(b, other) for b in mine for other in (*alive, *(mine - {b}), *theirs)]
            pairs += [(b, other) for b in theirs for other in (*alive, *(theirs - {b}))]
            for one, other in pairs:
                over = min(one.address_bits + one.bits, other.address_bits + other.bits)
                over -= max(one.address_bits, other.address_bits)
                if one.memory == other.memory and over > 0 and (one, other) not in told:
                    told.add((one, other))
                    what = f"{one.what} '{one.name}', which is copied early, and {other.what} '{other.name}' overlap"
                    yield tile.place.wrong(what, layer, one.memory, over)
