"""A step over time executed again and again, with what stays in the memories alone handed on from one to the next."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from dfc.backend_cost.schedule import Schedule, StackEntry
from dfc.execution.counting import peaks
from dfc.execution.fault import Fault, Where
from dfc.execution.layout import Span
from dfc.execution.memory import Array
from dfc.execution.run import Run, compare_region
from dfc.execution.stack_run import StackRun
from dfc.execution.step_network import StepNetwork
from dfc.execution.tile_run import Counts
from dfc.execution.tile_state import TileState
from dfc.execution.verification import Verification, difference, value_range


class StepsRun(Run):
    """Steps one after the other, from states that are zero; or some, each from what ONNX Runtime says was left."""

    def __init__(self, schedule: Schedule, network: StepNetwork, found: Verification, *, sampled: bool):
        super().__init__(schedule, network, found, sample=None, seed=0)
        self.steps = network
        self.sampled = sampled
        self.known: dict[str, Array] = {}
        self.moved: dict[str, Array] = {}
        self.step = 0
        self.begun = 0
        self.tiles = 0

    def all_steps(self, numbers: range) -> None:
        """Run these steps, and compare what those after the warm-up put out.

        Raises:
            Fault: at the first thing that does not work.
        """
        self.whole_network()
        spreads = self._spreads(numbers)
        for step in numbers:
            self.step, self.where = step, Where(step=step)
            self.begun += 1
            self._begin(fresh=self.sampled or step == numbers[0])
            self._stacks()
            self._constants_are_there()
            self._outputs(spreads)
        self.where = Where()
        self.found.peaks = peaks(self.schedule, self.machine.arch)
        self.claims()

    def _begin(self, *, fresh: bool) -> None:
        """Be at a step: with what the one before left, or, of a ``fresh`` one, what it should have left."""
        if fresh:
            self.steps.go_to(self.step)
            self.machine.step = self.step
            self.machine.forget(self.machine.images, [])
            self.load_weights()
        else:
            self.steps.be_at(self.step)
            self.machine.next_step()
            self.steps.inputs.update(self.moved)
        self.truth = self.steps.now
        if fresh:
            self.known = {name: self.steps.past(name, self.truth[name]) for name in self.steps.graph.outputs}
            for number, stack in enumerate(self.schedule.stacks):
                self.where = Where(number, step=self.step)
                run = StackRun(self.machine, self.network, number, stack)
                run.check_nests()
                run.begin_steps(self.truth)
        self.load_inputs()

    def _stacks(self) -> None:
        self.found.counts = Counts()
        try:
            for number, stack in enumerate(self.schedule.stacks):
                self._stack(number, stack)
        finally:
            self.tiles += self.found.counts.tiles

    def _stack(self, number: int, stack: StackEntry) -> None:
        self.where = Where(number, step=self.step)
        run = StackRun(self.machine, self.network, number, stack)
        try:
            run.begin()
            run.run(self.found.counts, self._layer)
        except Fault:
            self.where = run.where.at_step(self.step)
            raise
        self.found.ran.update(((number, n), count) for n, count in run.ran.items())
        for b in self.handed_out(stack):
            self.compare(run, b)

    def _constants_are_there(self) -> None:
        """Weights lie off chip all the time: also those that stay on chip, for when the stream begins anew."""
        for b in self.schedule.off_chip:
            if b.what == "weights" and b.name in self.network.layers:
                wrong = self.machine.wrong_weight(b.name, b)
                if wrong is not None:
                    what = f"weights of '{b.name}' are no longer off chip: there is {self.machine.contents(wrong[1])}"
                    raise Fault("data", what, cause="buffers overlap")

    # --- comparing

    def _layer(self, state: TileState, tensor: str, spans: tuple[Span, Span], data: Array) -> None:
        """What a layer computed, with the streaming form. Raises Fault at the first difference."""
        compare_region(state, tensor, spans, data, self.truth[tensor], self.scale(tensor))

    def true(self, tensor: str) -> Array:
        """What the streaming form makes of a map in this step."""
        return self.steps.new(tensor, self.truth[tensor])

    def scale(self, tensor: str) -> float:
        """How far numbers of a map are apart in all steps."""
        return self.steps.spreads.get(tensor, 0.0)

    def _outputs(self, spreads: dict[str, float]) -> None:
        """What the caller of the step gets: on every window what the model computes."""
        self.where = Where(step=self.step)
        for name in self.steps.graph.outputs:
            buffer = self.machine.off_chip("map", name)
            if buffer is None:
                raise Fault("file", f"output '{name}' of the network has no place off chip")
            data, _ = self.machine.whole_map(name, buffer)
            self.known[name] = self.steps.join(name, self.known[name], data)
        for state in self.steps.moved:
            self.moved[state.read] = self.steps.finish(state.write, self.known)
        for name, windows in self.steps.wanted(self.step).items():
            got = self.steps.finish(name, self.known)
            for want, part in zip(windows, np.split(got, len(windows)) if len(windows) > 1 else [got], strict=True):
                wrong, compared = difference(name, part, want.reshape(part.shape), spreads[name])
                self.found.compared.append(compared)
                if wrong is not None:
                    raise self._not_the_models(name, wrong, part, want)

    def _not_the_models(self, name: str, wrong: tuple[int, ...], got: Array, want: Array) -> Fault:
        return Fault(
            "value",
            f"{got[wrong]} is put out where the model has {want.reshape(got.shape)[wrong]} on the window",
            element=f"{wrong} of '{name}'",
            cause="the step is not that of the model",
        )

    def _spreads(self, numbers: Collection[int]) -> dict[str, float]:
        """How far the outputs' numbers are apart, in all windows that are compared."""
        found: dict[str, list[Array]] = {}
        for step in numbers:
            for name, windows in self.steps.wanted(step).items():
                found.setdefault(name, []).extend(w.ravel() for w in windows)
        return {name: value_range(np.concatenate(parts)) for name, parts in found.items()}
