"""A schedule's file, executed and compared with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dfc.backend_cost.schedule import BufferEntry, Schedule, StackEntry
from dfc.errors import UsageError
from dfc.execution.counting import Claim, Peak, Traffic, check_nest, macs, peaks
from dfc.execution.fault import Fault, Finding, Where
from dfc.execution.layout import Span
from dfc.execution.machine import Machine
from dfc.execution.memory import Array
from dfc.execution.network import Network
from dfc.execution.stack_run import StackRun
from dfc.execution.tile_run import Counts
from dfc.execution.tile_state import TileState
from dfc.hwdsl import parse_arch

#: floats may differ by this part of the tensor's range, as additions come in another order
FLOAT_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Compared:
    """A map that was compared: how many elements, the largest difference, and the range of the true values."""

    tensor: str
    elements: int
    worst: float
    range: float
    exact: bool


@dataclass
class Verification:
    """What was found.

    sampled: how many rows of tiles ran, and how many there are; None where all ran.
    ran:     how many tiles ran of each (stack, class).
    """

    name: str
    hw: str
    stacks: int
    inputs: str = ""
    tiles: int = 0
    compared: list[Compared] = field(default_factory=list[Compared])
    findings: list[Finding] = field(default_factory=list[Finding])
    sampled: tuple[int, int] | None = None
    claims: list[Claim] = field(default_factory=list[Claim])
    peaks: list[Peak] = field(default_factory=list[Peak])
    ran: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    counts: Counts = field(default_factory=Counts)


def verify(
    schedule: Schedule,
    model: Path,
    *,
    place: str = "schedule",
    seed: int = 0,
    inputs: Mapping[str, Array] | None = None,
    sample: int | None = None,
) -> Verification:
    """Execute a schedule.

    Args:
        schedule: as read from its file.
        model: path of the ONNX file that it was compiled from.
        place: the schedule's file, for messages.
        seed: of random inputs.
        inputs: numbers by name of input, in place of random ones.
        sample: how many rows of tiles run of each stack; all unless given.

    Raises:
        UsageError: CLI080 another model, CLI081 rules without addresses, CLI082 inputs that do not fit, CLI083 no ONNX
            Runtime, CLI084 what it cannot run.
        ModelError: a model that cannot be read.
        HardwareError: a damaged page in the schedule.
    """
    _has_addresses(schedule, place)
    network = Network(model, schedule, place)
    network.prepare(_inputs(network, inputs) if inputs is not None else network.random_inputs(seed))
    found = execute(schedule, network, place=place, seed=seed, sample=sample)
    found.inputs = "the user's" if inputs is not None else f"random, of seed {seed}"
    return found


def _has_addresses(schedule: Schedule, place: str) -> None:
    if schedule.policy != "dfc":
        raise UsageError(
            "CLI081",
            f"there is nothing to execute: by the rules of '{schedule.policy}' nothing has an address",
            place=place,
            hint="compile without --reproduce",
        )
    if schedule.step is not None:
        message = "steps of a network over time are not executed yet"
        hint = "dfc check proves its memories; dfc causal writes the step as a model that runs in ONNX Runtime"
        raise UsageError("CLI084", message, place=place, hint=hint)


def execute(
    schedule: Schedule, network: Network, *, place: str = "schedule", seed: int = 0, sample: int | None = None
) -> Verification:
    """Execute a schedule of a network that has its inputs; as :func:`verify`."""
    arch = parse_arch(schedule.hw.page, f"{place} (hw.page)")
    found = Verification(schedule.model.name, schedule.hw.name, len(schedule.stacks))
    run = _Run(schedule, network, found, sample, seed)
    try:
        run.machine = Machine(schedule, arch, network.graph, network.dtypes())
        run.all_stacks()
    except Fault as fault:
        found.findings.append(fault.at(run.where))
    found.tiles = found.counts.tiles
    return found


def _inputs(network: Network, given: Mapping[str, Array]) -> dict[str, Array]:
    """The user's inputs, checked."""
    names = network.model.input_names
    missing = [name for name in names if name not in given]
    unknown = sorted(given.keys() - set(names))
    if missing or unknown:
        what = f"there are no numbers for input '{missing[0]}'" if missing else f"the model has no input '{unknown[0]}'"
        raise UsageError("CLI082", what, place="--inputs", hint=f"its inputs are {', '.join(names)}")
    found: dict[str, Array] = {}
    for name in names:
        shape, dtype = network.model.shape(name), network.model.dtype(name)
        if given[name].shape != shape or given[name].dtype != dtype:
            what = f"input '{name}' is {given[name].dtype} of shape {list(given[name].shape)}"
            hint = f"{dtype} of shape {list(shape)} is needed"
            raise UsageError("CLI082", what, place="--inputs", hint=hint)
        found[name] = np.ascontiguousarray(given[name])
    return found


class _Run:
    """All stacks, one after the other."""

    def __init__(
        self,
        schedule: Schedule,
        network: Network,
        found: Verification,
        sample: int | None,
        seed: int,
    ):
        self.schedule = schedule
        self.network = network
        self.found = found
        self.sample = sample
        self.machine: Machine
        self.where = Where()
        self.truth: dict[str, Array] = {}
        self.random = np.random.default_rng(seed)

    def all_stacks(self) -> None:
        """Run and compare everything.

        Raises:
            Fault: at the first thing that does not work.
        """
        self._whole_network()
        self.truth = self.network.truth(self._wanted())
        for b in self.schedule.off_chip:
            if b.what == "weights" and b.name in self.network.layers:
                self.machine.load_weights(b.name, b)
        for name in self.network.graph.inputs:
            buffer = self.machine.off_chip("map", name)
            if buffer is None:
                raise Fault("file", f"input '{name}' has no place off chip")
            self.machine.load_map(name, buffer, self.network.inputs[name])
        for number, stack in enumerate(self.schedule.stacks):
            self._stack(number, stack)
        self.where = Where()
        self.found.peaks = peaks(self.schedule, self.machine.arch)
        if self.sample is None:
            for name in self.network.graph.outputs:
                if self.network.called(name) not in {c.tensor for c in self.found.compared}:
                    raise Fault("file", f"output '{self.network.called(name)}' of the network is not handed out")
            self._claims()

    def _claims(self) -> None:
        """What the schedule claims, beside what was counted."""
        graph, counts = self.network.graph, self.found.counts
        traffic = Traffic(self.schedule, self.machine.arch, graph).claims(counts, self.found.ran)
        self.found.claims = [*macs(self.schedule, graph, counts), *traffic]
        for claim in self.found.claims:
            if not claim.holds:
                what = f"{claim.claimed:,} {claim.what} by the file, {claim.counted:,} were counted"
                self.found.findings.append(Finding("count", what, cause="a total of the schedule is wrong"))

    def _whole_network(self) -> None:
        """Each layer runs once, after those whose maps it reads."""
        order = [name for stack in self.schedule.stacks for name in stack.layers]
        if sorted(order) != sorted(self.network.layers):
            raise Fault(
                "file", "the stacks do not run each layer of the network once", cause="a stack or layer is missing"
            )

    def _wanted(self) -> list[str]:
        """The maps that are compared: those that stacks hand out; for a sample all that tiles keep as well."""
        names = [b.name for b in self.schedule.off_chip if b.what == "map"]
        names += [b.name for stack in self.schedule.stacks for b in stack.buffers if b.what == "map"]
        if self.sample is not None:
            names += [b.name for s in self.schedule.stacks for b in s.buffers if b.what.endswith("cache")]
        return [name for name in dict.fromkeys(names) if name in self.network.graph.tensors]

    def _stack(self, number: int, stack: StackEntry) -> None:
        self.where = Where(number)
        run = StackRun(self.machine, self.network, number, stack)
        try:
            for entry, nest in run.nests():
                run.where = Where(number, layer=entry.layer)
                check_nest(entry, nest, self.network.layers[entry.layer], self.network.graph)
            if self.sample is not None:
                self._sampled(run, self.sample)
                return
            run.begin()
            run.run(self.found.counts)
            self.found.ran.update(((number, n), count) for n, count in run.ran.items())
        except Fault:
            self.where = run.where
            raise
        self.where = Where(number)
        for b in self._handed_out(stack):
            self._compare(run, b)

    def _handed_out(self, stack: StackEntry) -> list[BufferEntry]:
        """Where the whole maps lie that a stack makes: off chip, or on chip for the next stack."""
        made = {t for name in stack.layers for t in self.network.layers[name].outputs}
        return [b for b in (*self.schedule.off_chip, *stack.buffers) if b.what == "map" and b.name in made]

    def _sampled(self, run: StackRun, wanted: int) -> None:
        """Some rows of tiles, on what ONNX Runtime says that earlier stacks and rows left."""
        made = {t for name in run.stack.layers for t in self.network.layers[name].outputs}
        chosen = sorted(self.random.choice(run.sweeps, min(wanted, run.sweeps), replace=False).tolist())
        for sweep in chosen:
            for b in (*self.schedule.off_chip, *run.stack.buffers):
                if b.what == "map" and b.name in self.truth and b.name not in made:
                    self.machine.load_map(b.name, b, self.truth[b.name])
            run.prepare_sweep(sweep, self.truth)
            run.run(self.found.counts, sweeps={sweep})
            for b in self._handed_out(run.stack):
                self._compare_part(run, b, sweep)
        ran, there = self.found.sampled or (0, 0)
        self.found.sampled = ran + len(chosen), there + run.sweeps

    def _compare_part(self, run: StackRun, buffer: BufferEntry, sweep: int) -> None:
        """What a row of tiles hands out of a map."""
        tensor = buffer.name
        data, tags = self.machine.whole_map(tensor, buffer)
        layout = run.layouts[tensor]
        lo, hi = layout.across.own[sweep]
        positions = np.arange(len(tags)).reshape(layout.whole)
        mine = (positions[:, lo:hi] if layout.turned else positions[lo:hi]).ravel()
        self.machine.expect(tensor, tags[mine], mine)
        region = (slice(None),) * (data.ndim - (1 if layout.turned else 2)) if data.ndim >= 4 else ()
        part = (*region, slice(lo, hi)) if data.ndim >= 4 or layout.turned else ()
        called, scale = self.network.called(tensor), value_range(self.truth[tensor])
        wrong, compared = difference(called, data[part], self.truth[tensor][part], scale)
        self.found.compared.append(compared)
        if wrong is not None:
            raise self._wrong(run, tensor, data, wrong, {sweep})

    # --- comparing

    def _compare(self, run: StackRun, buffer: BufferEntry) -> None:
        """A whole map with what ONNX Runtime computes."""
        tensor = buffer.name
        data, tags = self.machine.whole_map(tensor, buffer)
        self.machine.expect(tensor, tags)
        wrong, compared = difference(self.network.called(tensor), data, self.truth[tensor])
        self.found.compared.append(compared)
        if wrong is not None:
            raise self._wrong(run, tensor, data, wrong)

    def _wrong(
        self, run: StackRun, tensor: str, data: Array, wrong: tuple[int, ...], sweeps: set[int] | None = None
    ) -> Fault:
        """The first wrong element, and the first layer that computed something wrong."""
        first = _FirstWrong(self.network.truth(self._every(run.stack)))
        try:
            again = StackRun(self.machine, self.network, run.number, run.stack)
            if sweeps is None:
                again.begin()
            else:
                again.prepare_sweep(min(sweeps), self.truth)
            again.run(Counts(), first, sweeps)
        except _FoundError as found:
            run.where = found.where
            self.where = found.where
            return found.fault
        want = self.truth[tensor][wrong]
        return Fault(
            "value", f"{data[wrong]} is computed where ONNX Runtime has {want}", element=f"{wrong} of '{tensor}'"
        )

    def _every(self, stack: StackEntry) -> list[str]:
        return [t for name in stack.layers for t in self.network.layers[name].outputs]


class _FoundError(Exception):
    """Ends the second run at the first wrong layer."""

    def __init__(self, fault: Fault, where: Where):
        super().__init__(str(fault))
        self.fault = fault
        self.where = where


class _FirstWrong:
    """Compares each region as soon as it is computed."""

    def __init__(self, truth: Mapping[str, Array]):
        self.truth = truth

    def __call__(self, state: TileState, tensor: str, spans: tuple[Span, Span], data: Array) -> None:
        """Raise at the first difference."""
        region = state.region(tensor, spans)
        want = self.truth[tensor][tuple(slice(r.start, r.stop) for r in region)]
        scale = value_range(self.truth[tensor])
        wrong, _ = difference(tensor, data, want, scale)
        if wrong is not None:
            at = tuple(r.start + i for r, i in zip(region, wrong, strict=True))
            fault = Fault(
                "value",
                f"it computes {data[wrong]} where ONNX Runtime has {want[wrong]}",
                element=f"element {list(at)} of '{tensor}'",
                cause="the layer's padding, window or parameters are not the model's",
            )
            raise _FoundError(fault, state.where)


def value_range(data: Array) -> float:
    """The range of finite values, at least a tiny one."""
    if data.dtype.kind != "f" or not data.size:
        return 0.0
    finite = data[np.isfinite(data)]
    return float(finite.max() - finite.min()) or float(np.abs(finite).max(initial=0.0)) if finite.size else 0.0


def difference(
    tensor: str, data: Array, want: Array, scale: float | None = None
) -> tuple[tuple[int, ...] | None, Compared]:
    """(the first element that differs by more than it may, what was compared)."""
    if data.dtype.kind != "f":
        wrong = data != want
        worst = float(np.abs(data.astype(np.float64) - want.astype(np.float64)).max(initial=0.0))
        found = Compared(tensor, data.size, worst, 0.0, exact=True)
    else:
        scale = value_range(want) if scale is None else scale
        with np.errstate(invalid="ignore"):
            apart = np.abs(data.astype(np.float64) - want.astype(np.float64))
        same = (data == want) | (np.isnan(data) & np.isnan(want))
        wrong = ~same & ~(apart <= FLOAT_TOLERANCE * scale)
        worst = float(np.where(same, 0.0, apart).max(initial=0.0))
        found = Compared(tensor, data.size, worst, scale, exact=False)
    if not wrong.any():
        return None, found
    at = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return tuple(int(i) for i in at), found
