"""The network of a step over time: the step as its schedule runs it, and what ONNX Runtime says of every step.

What is true of a step is what its streaming form computes from the states of the step before. What is true of its
outputs is what the model computes on a window, all of it at once; where padding is left away, the streaming form.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from dfc.backend_cost.schedule import StepInfo
from dfc.execution.memory import Array
from dfc.execution.network import random_array
from dfc.execution.programs import Axes, Programs
from dfc.execution.runtime import Session, run, session
from dfc.execution.step_request import streaming_of
from dfc.frontend.executable import Executable, Segment
from dfc.frontend.resident_model import walk_resident
from dfc.ir import Axis
from dfc.passes.turn_axes import rows_for_time

#: what a step is given, by the name of the model's input
Feeds = Mapping[str, Array]


class StepNetwork(Programs):
    """One step of a model's streaming form, executable layer by layer; ONNX Runtime goes from step to step with it.

    moved:   the states that the caller hands on, as they are inputs and outputs of the step.
    now:     all feature maps in the current step, their pasts included.
    spreads: how far the numbers of each map are apart, in all steps.
    """

    threads = 1  # a step computes little, again and again

    def __init__(self, path: Path, step: StepInfo, place: str):
        """Raises UsageError CLI086 what the file says of its step, ModelError a model that cannot be read."""
        self.place = str(path)
        streaming = streaming_of(step, path, place)
        self.plan = streaming.step.plan
        self._resident = streaming.resident()
        turned = self._resident.time is Axis.T
        graph = rows_for_time(self._resident) if turned else self._resident
        self._all = streaming.step.states
        self.moved = [state for state in self._all if state.read in graph.inputs]
        walked = walk_resident(streaming.model(), graph.name, graph.past)
        super().__init__(Executable(walked, {s.read for s in self._all} - set(graph.inputs)), graph, Axes(turned))
        self._handed = self._finishes()
        self._window = Executable(streaming.timed.walked)
        self._sessions_of: dict[tuple[str, ...], Session] = {}
        self._finishing: dict[str, Session] = {}
        self._feeds: Sequence[Feeds] = ()
        self._states: dict[str, Array] = {}
        self._marked: dict[int, dict[str, Array]] = {}
        self._wanted: dict[int, dict[str, list[Array]]] = {}
        self.now: dict[str, Array] = {}
        self.spreads: dict[str, float] = {}

    def made_shape(self, tensor: str) -> tuple[int, ...]:
        """The shape, on the model's own axes, of what is made or received of a feature map."""
        return self._resident.made_shape(tensor)

    # --- what it is given

    @property
    def frames(self) -> str:
        """The model's input with the time axis."""
        return self.plan.network.frames

    @property
    def frames_axis(self) -> int:
        """Which of its axes that is."""
        axis = self.plan.network.tensors[self.frames].axis
        assert axis is not None
        return axis

    def given(self, name: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
        """(shape, type) of what a step takes of one of the model's inputs."""
        return self.model.shape(name), self.model.dtype(name)

    def random_feeds(self, steps: int, seed: int) -> list[dict[str, Array]]:
        """Seeded numbers for so many steps, one after the other."""
        rng = np.random.default_rng(seed)
        return [{n: random_array(rng, *self.given(n)) for n in self.plan.network.inputs} for _ in range(steps)]

    def prepare(self, feeds: Sequence[Feeds], compared: Collection[int], marks: Collection[int]) -> None:
        """Go through all steps once, from states that are zero.

        Learns the constants that nodes compute, how far numbers are apart, what outputs should be in those of the steps
        ``compared`` that come after the warm-up, and the states before the steps ``marks``: :meth:`go_to` begins with
        one of these.
        """
        self._feeds = feeds
        self._marked, self._wanted = {}, {}
        self._states = {s.read: np.zeros(self.model.shape(s.read), self.model.dtype(s.read)) for s in self._all}
        self._learn()
        ends: dict[str, tuple[float, float]] = {}
        for step in range(len(feeds)):
            if step in marks:
                self._marked[step] = self._states
            self.be_at(step)
            if step in compared and step >= self.plan.warm_up_steps:
                self._wanted[step] = dict(self._on_windows(step))
            for name, data in self.now.items():
                finite = data[np.isfinite(data)] if data.dtype.kind == "f" else data[:0]
                if finite.size:
                    least, most = ends.get(name, (np.inf, -np.inf))
                    ends[name] = min(least, float(finite.min())), max(most, float(finite.max()))
        self.spreads = {name: most - least or abs(most) for name, (least, most) in ends.items()}

    def _learn(self) -> None:
        segments = [self.program(layer.name).segment for layer in self.graph.layers]
        names = self.model.unknown_constants([*segments, *self._handed.values()])
        if names:
            numbers = run(
                session(self.model.whole(names), self.place, threads=self.threads), names, self._inputs(0), self.place
            )
            self.model.learn(dict(zip(names, numbers, strict=True)))

    # --- step by step

    def go_to(self, step: int) -> None:
        """Be at a step that is marked."""
        self._states = self._marked[step]
        self.be_at(step)

    def _inputs(self, step: int) -> dict[str, Array]:
        return {**self._feeds[step], **self._states}

    def be_at(self, step: int) -> None:
        """Be at a step, from the states that the last one left."""
        given = self._inputs(step)
        maps = [name for name in self.dtypes() if name not in given]
        wanted = list(dict.fromkeys([*maps, *(s.write for s in self._all), *self.plan.network.outputs]))
        found = dict(zip(wanted, self._run(self.model, wanted, given), strict=True))
        self.now = {**{name: data for name, data in given.items() if name in self.graph.inputs}, **found}
        self.inputs = {name: self.new(name, self.now[name]) for name in self.graph.inputs}
        self._states = {state.read: found[state.write] for state in self._all}

    def _run(self, model: Executable, names: Sequence[str], given: Feeds) -> list[Array]:
        """Tensors of the step, or of the model on a window."""
        key = ("step" if model is self.model else "window", *names)
        if key not in self._sessions_of:
            self._sessions_of[key] = session(model.whole(names), self.place, threads=self.threads)
        return run(self._sessions_of[key], names, given, self.place)

    def truth(self, names: Iterable[str]) -> dict[str, Array]:
        """What the streaming form has in this step of feature maps, their pasts included."""
        return {name: self.now[name] for name in names}

    # --- pasts

    def new(self, tensor: str, data: Array) -> Array:
        """Of a map with its past, what this step makes or receives."""
        return self._part(tensor, data, slice(self.graph.past.get(tensor, 0), None))

    def past(self, tensor: str, data: Array) -> Array:
        """Of a map with its past, what earlier steps made."""
        return self._part(tensor, data, slice(0, self.graph.past.get(tensor, 0)))

    def join(self, tensor: str, before: Array, new: Array) -> Array:
        """A map with its past: the newest of what was handed out ``before`` this step, and what is new."""
        axis = self._time_axis(tensor)
        if axis is None:
            return new
        first = before.shape[axis] - self.graph.past[tensor]
        return np.concatenate([self._part(tensor, before, slice(first, None)), new], axis=axis)

    def _time_axis(self, tensor: str) -> int | None:
        """Which axis of a map with a past is time, in the model."""
        time = self._resident.time
        if time is None or tensor not in self.graph.past:
            return None
        return len(self.model.shape(tensor)) + time - len(Axis)

    def _part(self, tensor: str, data: Array, part: slice) -> Array:
        axis = self._time_axis(tensor)
        return data if axis is None else data[(*[slice(None)] * axis, part)]

    # --- what the caller gets

    def _finishes(self) -> dict[str, Segment]:
        """What is left to do to maps that are handed out, for each output of the model and each state that is moved."""
        sources = set(self.graph.outputs)
        names = (*self.plan.network.outputs, *(state.write for state in self.moved))
        return {n: self.model.between(f"output '{n}'", sources, [] if n in sources else [n]) for n in names}

    def finish(self, name: str, maps: Mapping[str, Array]) -> Array:
        """An output of the model, or a state that is moved, from the maps that are handed out with their pasts."""
        segment = self._handed[name]
        if not segment.nodes:
            return maps[name]
        used = sorted({read for node in segment.nodes for read in node.input} & segment.sources)
        if name not in self._finishing:
            part = self.model.part(segment.nodes, [(read, read) for read in used], [], segment)
            self._finishing[name] = session(part, self.place, threads=self.threads)
        (found,) = run(self._finishing[name], [name], {read: maps[read] for read in used}, self.place)
        return found

    def wanted(self, step: int) -> Mapping[str, list[Array]]:
        """What the model has on each window of a step that is compared, oldest first, by output; nothing for others.

        Where padding is left away that is what the streaming form has of all of them.
        """
        return self._wanted.get(step, {})

    def _on_windows(self, step: int) -> Iterator[tuple[str, list[Array]]]:
        outputs = self.plan.network.outputs
        if self.plan.options.stream:
            yield from ((name, [self.now[name]]) for name in outputs)
            return
        each = [self.on_window(step, number) for number in range(self.plan.options.windows)]
        yield from zip(outputs, map(list, zip(*each, strict=True)), strict=True)

    def on_window(self, step: int, number: int) -> list[Array]:
        """The model on one of the windows of a step.

        A model that does not depend on its window's first frames may be valid before there are any: they are zeros.
        """
        plan, options, axis = self.plan, self.plan.options, self.frames_axis
        end = (step + 1) * options.frames - plan.latency_frames - options.hop * (options.windows - 1 - number)
        begin = end - plan.network.window
        first = max(0, begin // options.frames)
        feeds = self._feeds[first : -(-end // options.frames)]
        joined = np.concatenate([one[self.frames] for one in feeds], axis=axis)
        missing = max(0, -begin)
        before = np.zeros_like(joined, shape=(*joined.shape[:axis], missing, *joined.shape[axis + 1 :]))
        start = begin + missing - first * options.frames
        count = plan.network.window - missing
        cut = np.concatenate([before, np.take(joined, range(start, start + count), axis=axis)], axis=axis)
        return self._run(self._window, plan.network.outputs, {**self._feeds[step], self.frames: cut})
