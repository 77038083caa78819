"""All stacks of a schedule, one after the other, with what each hands out compared; the first wrong layer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dfc.backend_cost.schedule import BufferEntry, Schedule, StackEntry
from dfc.execution.counting import Traffic, macs, peaks
from dfc.execution.fault import Fault, Finding, Where
from dfc.execution.layout import Span
from dfc.execution.machine import Machine
from dfc.execution.memory import Array
from dfc.execution.programs import Programs
from dfc.execution.stack_run import StackRun
from dfc.execution.tile_run import Counts
from dfc.execution.tile_state import TileState
from dfc.execution.verification import Verification, difference, value_range


class Run:
    """All stacks, one after the other."""

    def __init__(
        self,
        schedule: Schedule,
        network: Programs,
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
        self.whole_network()
        self.truth = self.network.truth(self._wanted())
        self.load_weights()
        self.load_inputs()
        for number, stack in enumerate(self.schedule.stacks):
            self._stack(number, stack)
        self.where = Where()
        self.found.peaks = peaks(self.schedule, self.machine.arch)
        if self.sample is None:
            self.claims()

    def load_weights(self) -> None:
        """Put all constants off chip."""
        for b in self.schedule.off_chip:
            if b.what == "weights" and b.name in self.network.layers:
                self.machine.load_weights(b.name, b)

    def load_inputs(self) -> None:
        """Put the network's inputs off chip."""
        for name in self.network.graph.inputs:
            buffer = self.machine.off_chip("map", name)
            if buffer is None:
                raise Fault("file", f"input '{name}' has no place off chip")
            self.machine.load_map(name, buffer, self.network.inputs[name])

    def claims(self) -> None:
        """What the schedule claims, beside what was counted; each output was handed out."""
        for name in self.network.graph.outputs:
            if self.network.called(name) not in {c.tensor for c in self.found.compared}:
                raise Fault("file", f"output '{self.network.called(name)}' of the network is not handed out")
        graph, counts = self.network.graph, self.found.counts
        traffic = Traffic(self.schedule, self.machine.arch, graph).claims(counts, self.found.ran)
        self.found.claims = [*macs(self.schedule, graph, counts), *traffic]
        for claim in self.found.claims:
            if not claim.holds:
                what = f"{claim.claimed:,} {claim.what} by the file, {claim.counted:,} were counted"
                self.found.findings.append(Finding("count", what, cause="a total of the schedule is wrong"))

    def whole_network(self) -> None:
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
            run.check_nests()
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
        for b in self.handed_out(stack):
            self.compare(run, b)

    def handed_out(self, stack: StackEntry) -> list[BufferEntry]:
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
            for b in self.handed_out(run.stack):
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

    def compare(self, run: StackRun, buffer: BufferEntry) -> None:
        """A whole map with what ONNX Runtime computes."""
        tensor = buffer.name
        data, tags = self.machine.whole_map(tensor, buffer)
        self.machine.expect(tensor, tags)
        wrong, compared = difference(self.network.called(tensor), data, self.true(tensor), self.scale(tensor))
        self.found.compared.append(compared)
        if wrong is not None:
            raise self._wrong(run, tensor, data, wrong)

    def true(self, tensor: str) -> Array:
        """What ONNX Runtime computes of a map that is handed out."""
        return self.truth[tensor]

    def scale(self, tensor: str) -> float:
        """How far its numbers are apart."""
        return value_range(self.truth[tensor])

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
        want = self.true(tensor)[wrong]
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
        try:
            compare_region(state, tensor, spans, data, self.truth[tensor], value_range(self.truth[tensor]))
        except Fault as fault:
            raise _FoundError(fault, state.where) from None


def compare_region(
    state: TileState, tensor: str, spans: tuple[Span, Span], data: Array, truth: Array, scale: float
) -> None:
    """A region (y, x) of a map that a layer computed, with the whole map as it should be.

    Raises:
        Fault: at the first difference.
    """
    region = state.region(tensor, spans)
    want = truth[tuple(slice(r.start, r.stop) for r in region)]
    wrong, _ = difference(tensor, data, want, scale)
    if wrong is not None:
        at = [r.start + i for r, i in zip(region, wrong, strict=True)]
        raise Fault(
            "value",
            f"it computes {data[wrong]} where ONNX Runtime has {want[wrong]}",
            element=f"element {at} of '{tensor}'",
            cause="the layer's padding, window or parameters are not the model's",
        )
