"""The simulator's clock: plays steps and transfers on the memories' ports, cycle by cycle.

docs/simulator.md states the policy. Between two events nothing changes, so the clock jumps from event to event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from dfc.backend_cost.simulate_walk import OperandWalk, Stay, Walk
from dfc.backend_cost.simulate_words import Transfer, width
from dfc.errors import InternalError

PortKey = tuple[int, int]  # (memory, port)


@dataclass(frozen=True, slots=True)
class Clock:
    """When things happened, in cycles, and how long each port (memory, port) was busy."""

    loading_cycles: int
    running_cycles: int
    total_cycles: int
    port_busy: dict[PortKey, int]


@dataclass(slots=True)
class _Task:
    """A transfer between two memories: it needs both ports in every cycle of its ``left`` cycles.

    holds_up: the first step that cannot run before it is done; one beyond the last if it holds up none.
    may_move: whether all that it waits for has happened; nothing of that is ever undone.
    """

    transfer: Transfer
    ports: tuple[PortKey, ...]
    left: int
    holds_up: int = 0
    may_move: bool = False

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """Who goes first on a port: what holds up the earliest step, the lower boundary, the earlier operand, stay."""
        return self.holds_up, self.transfer.boundary, self.transfer.operand, self.transfer.number


Line = tuple[int, int, bool]  # (operand, level of the inner memory, up): transfers of one line go in order


@dataclass(slots=True)
class _Step:
    """The step that is running: cycles left, and cycles that it still needs of each port."""

    left: int
    needs: dict[PortKey, int]


def play(walk: Walk, moved: Iterable[Transfer], double_buffer: frozenset[tuple[int, int]]) -> Clock:
    """Play all transfers of a walk in time."""
    player = _Player(walk, double_buffer)
    for transfer in moved:
        player.add(transfer)
    return player.play()


@dataclass(slots=True)
class _Player:
    walk: Walk
    double_buffer: frozenset[tuple[int, int]]
    waiting: dict[Line, deque[_Task]] = field(default_factory=dict[Line, deque[_Task]])
    done: dict[Line, int] = field(default_factory=dict[Line, int])  # how many transfers of a line are done
    needs: list[dict[PortKey, int]] = field(default_factory=list[dict[PortKey, int]])  # per step
    steps_done: int = 0
    now: int = 0
    running: _Step | None = None
    loading: int = 0
    ran: int = 0
    busy: dict[PortKey, int] = field(default_factory=dict[PortKey, int])

    def __post_init__(self) -> None:
        self.needs = [{} for _ in range(self.walk.steps)]
        for view in self.walk.operands:
            for memory in view.operand.memories:
                for port in range(len(self.walk.arch.memories[memory].ports)):
                    self.busy[memory, port] = 0

    def add(self, transfer: Transfer) -> None:
        """Queue a transfer; those of a line come in order."""
        view = self.walk.operands[transfer.operand]
        ports: list[PortKey] = []
        cycles = 0
        for level, move, bursts in transfer.edges():
            memory = view.memories[level]
            ports.append((view.operand.memories[level], memory.port_of[view.operand.role, move]))
            cycles = max([cycles, *(-(-bits // width(memory, move)) for bits in bursts)])
        if transfer.boundary == 0:
            needs = self.needs[transfer.number]
            needs[ports[0]] = needs.get(ports[0], 0) + cycles
            return
        line = (transfer.operand, transfer.boundary - 1, transfer.up)
        self.waiting.setdefault(line, deque()).append(_Task(transfer, tuple(ports), cycles))
        self.done.setdefault(line, 0)

    def play(self) -> Clock:
        """Run until every step and transfer is done."""
        self._find_urgent()
        arrived = 0
        while True:
            ready = self._settle()
            served = self._serve(ready)
            pauses = [task.left for task in served]
            if self.running:
                pauses += [self.running.left, *self.running.needs.values()]
            if not pauses:
                break
            self._advance(min(pauses), served)
            if any(self._reaches_top(task) for task in served):
                arrived = self.now
        if self.steps_done < self.walk.steps or any(self.waiting.values()):
            raise InternalError("CLI059", "the simulation came to a standstill before its end")
        return Clock(self.loading, self.ran, max(arrived, self.ran), self.busy)

    def _find_urgent(self) -> None:
        """Which step each transfer holds up: down, the first of its stay; up, the first that needs the room or sums."""
        for view in self.walk.operands:
            for level in reversed(range(view.top)):
                for task in self.waiting.get((view.number, level, False), ()):
                    task.holds_up = view.stays[level][task.transfer.number].first
                self._find_urgent_up(view, level)

    def _find_urgent_up(self, view: OperandWalk, level: int) -> None:
        returning = self.waiting.get((view.number, level, False), ())
        awaited = {task.transfer.after: task.holds_up for task in reversed(returning)}
        outer = {task.transfer.number: task.holds_up for task in self.waiting.get((view.number, level + 1, True), ())}
        stays = view.stays[level]
        earliest = self.walk.steps
        # those of a line go in order, so each holds up all that the later ones do
        for task in reversed(self.waiting.get((view.number, level, True), ())):
            number = task.transfer.number
            taking = number + self._room(view, level)
            room = stays[taking].first if taking < len(stays) else self.walk.steps
            beyond = outer.get(view.stay_at(level + 1, stays[number].end - 1), self.walk.steps)
            earliest = min(earliest, room, awaited.get(number, self.walk.steps), beyond)
            task.holds_up = earliest

    def _settle(self) -> list[_Task]:
        """Do all that takes no time; afterwards the transfers that may use ports, in order of priority."""
        while True:
            heads = [(line, queue[0]) for line, queue in self.waiting.items() if queue]
            for line, task in heads:
                task.may_move = task.may_move or self._may_move(line, task.transfer)
            ready = [(line, task) for line, task in heads if task.may_move]
            finished = [line for line, task in ready if task.left == 0]
            for line in finished:
                self.waiting[line].popleft()
                self.done[line] += 1
            if self.running and self.running.left == 0:
                self.running = None
                self.steps_done += 1
                self.ran = self.now
            elif not finished:
                break
        if self.running is None and self.steps_done < self.walk.steps and self._may_step(self.steps_done):
            self._start()
        return sorted((task for _, task in ready), key=lambda task: task.rank)

    def _start(self) -> None:
        if self.steps_done == 0:
            self.loading = self.now
        needs = {port: cycles for port, cycles in self.needs[self.steps_done].items() if cycles}
        self.running = _Step(max([1, *needs.values()]), needs)

    def _serve(self, ready: list[_Task]) -> list[_Task]:
        """Give the ports away for the next cycles: to the running step first, then in order of priority."""
        taken = set(self.running.needs) if self.running else set[PortKey]()
        served: list[_Task] = []
        for task in ready:
            if taken.isdisjoint(task.ports):
                taken.update(task.ports)
                served.append(task)
        return served

    def _advance(self, cycles: int, served: list[_Task]) -> None:
        self.now += cycles
        for task in served:
            task.left -= cycles
            for port in task.ports:
                self.busy[port] += cycles
        if self.running:
            self.running.left -= cycles
            for port in self.running.needs:
                self.busy[port] += cycles
            left = {port: need - cycles for port, need in self.running.needs.items()}
            self.running.needs = {port: need for port, need in left.items() if need}

    def _reaches_top(self, task: _Task) -> bool:
        top = self.walk.operands[task.transfer.operand].top
        return task.transfer.up and task.transfer.boundary == top and task.left == 0

    def _may_step(self, step: int) -> bool:
        """Whether all that the step needs is there: inputs, returning sums, and with them room for the output."""
        return all(
            self.done[view.number, level, False] > view.stay_at(level, step)
            for view in self.walk.operands
            for level in range(view.top)
        )

    def _may_move(self, line: Line, transfer: Transfer) -> bool:
        operand, level, up = line
        view = self.walk.operands[operand]
        stay = view.stays[level][transfer.number]
        if up:
            return self.steps_done >= stay.end and self._written_below(view, level, stay)
        source_there = level + 1 == view.top or self.done[operand, level + 1, False] > view.stay_at(
            level + 1, stay.first
        )
        if not (source_there and self._has_room(view, level, transfer.number)):
            return False
        return transfer.after < 0 or self.done[operand, level, True] > transfer.after

    def _written_below(self, view: OperandWalk, level: int, stay: Stay) -> bool:
        if level == 0:
            return True
        return self.done[view.number, level - 1, True] > view.stay_at(level - 1, stay.end - 1)

    def _has_room(self, view: OperandWalk, level: int, number: int) -> bool:
        """Whether the stay before (with a double buffer the one before that) has ended and, if sums, left."""
        leaving = number - self._room(view, level)
        if leaving < 0:
            return True
        if view.operand.is_output:
            return self.done[view.number, level, True] > leaving
        return self.steps_done >= view.stays[level][leaving].end

    def _room(self, view: OperandWalk, level: int) -> int:
        """How many stays a memory has room for."""
        return 2 if (view.number, level) in self.double_buffer else 1
