"""One step of a streaming form, as a list of what is done: tensors cut and joined along time, and nodes run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import TypeAlias

from dfc.ir import TimedNode, TimeWindow, free_name
from dfc.passes.causal_plan import CausalPlan, TensorPlan, window_reads
from dfc.passes.positions import Phase, exact_phases, in_turns, progressions


@dataclass(frozen=True, slots=True)
class Cut:
    """``count`` positions of ``source`` from ``start`` on, ``step`` apart."""

    out: str
    source: str
    start: int
    count: int
    step: int = 1


@dataclass(frozen=True, slots=True)
class Join:
    """Parts one after the other along time."""

    out: str
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Weave:
    """Positions of the parts by turns: the first of each, then the second of each."""

    out: str
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stack:
    """The outputs of several windows, oldest first, along the first axis."""

    out: str
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """A node of the model, run on other tensors.

    outs:    what it writes here, by the name in the model; feeds: what it reads instead.
    window:  its stride, dilation and padding before (``-lo``) along time; None leaves the node as it is.
    pad_end: padding after.
    length:  output positions along time.
    phase:   which of how many undilated streams it computes.
    """

    node: TimedNode
    outs: Mapping[str, str]
    feeds: Mapping[str, str]
    window: TimeWindow | None
    pad_end: int
    length: int
    phase: tuple[int, int] = (0, 1)


Op: TypeAlias = Cut | Join | Weave | Stack | Run


@dataclass(frozen=True, slots=True)
class State:
    """A tensor's past: read from ``read``, to be handed in again from ``write`` at the next step."""

    tensor: str
    read: str
    write: str
    positions: int
    bits: int


@dataclass(frozen=True, slots=True)
class StepTensor:
    """A tensor of the step: like ``tensor`` of the model with ``length`` positions along time."""

    tensor: str
    length: int


@dataclass(frozen=True)
class CausalStep:
    """The step of a plan.

    frames:  the tensor that takes the new frames, under the name of the model's input.
    tensors: every tensor of the step by name.
    owners:  by the first name that an operation writes, the node that it is there for; the step's ends have none.
    """

    plan: CausalPlan
    frames: str
    ops: tuple[Op, ...]
    states: tuple[State, ...]
    tensors: Mapping[str, StepTensor]
    owners: Mapping[str, str]

    @property
    def state_bits(self) -> int:
        """Bits that are kept from one step to the next."""
        return sum(state.bits for state in self.states)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the step."""
        return sum(run_macs(self.plan, op) for op in self.ops if isinstance(op, Run))

    @property
    def window_macs(self) -> int:
        """Multiply-accumulates of the model for as many windows as a step has."""
        return sum(node.macs for node in self.plan.network.nodes) * self.plan.options.windows


def run_macs(plan: CausalPlan, run: Run) -> int:
    """Multiply-accumulates of one node of the step: as many per position as the model's."""
    length = plan.network.tensors[run.node.writes[0]].length
    return run.node.macs * run.length // length


def _written(op: Op) -> str:
    return next(iter(op.outs.values())) if isinstance(op, Run) else op.out


def build_step(plan: CausalPlan) -> CausalStep:
    """The step that carries out a plan.

    Tensors of one window keep their names in the model where a step has one window; a name is never used twice.
    """
    return _Builder(plan).build()


@dataclass(slots=True)
class _Builder:
    plan: CausalPlan
    ops: list[Op] = field(default_factory=list[Op])
    tensors: dict[str, StepTensor] = field(default_factory=dict[str, StepTensor])
    states: list[State] = field(default_factory=list[State])
    new: dict[str, str] = field(default_factory=dict[str, str])
    places: dict[str, dict[int, int]] = field(default_factory=dict[str, dict[int, int]])
    buffers: dict[str, str] = field(default_factory=dict[str, str])
    views: dict[tuple[str, int, int, int], str] = field(default_factory=dict[tuple[str, int, int, int], str])
    ends: dict[tuple[str, int, int, int], str] = field(default_factory=dict[tuple[str, int, int, int], str])
    cuts: dict[tuple[str, int, int, int], str] = field(default_factory=dict[tuple[str, int, int, int], str])
    pasts: dict[str, str] = field(default_factory=dict[str, str])

    def build(self) -> CausalStep:
        network = self.plan.network
        frames = self._tensor(network.frames, network.frames, self.plan.options.frames)
        self.new[frames] = frames
        for name in network.inputs:
            if name != frames:
                self._tensor(name, name, network.tensors[name].length)
        owners: dict[str, str] = {}
        for node in network.nodes:
            before = len(self.ops)
            self._node(node)
            owners.update((_written(op), node.name) for op in self.ops[before:])
        for name in network.outputs:
            self._output(name)
        for name, past in self.pasts.items():
            self._keep(name, past, self.plan.tensors[name])
        return CausalStep(self.plan, frames, tuple(self.ops), tuple(self.states), self.tensors, owners)

    def _node(self, node: TimedNode) -> None:
        """All that is computed of a node; what it reads has been computed before."""
        parts, name = self.plan.parts[node.name], node.writes[0]
        if parts.new:
            self._computed(name)
        for window in range(self.plan.options.windows):
            if parts.start:
                self._border(name, window, 0, self.plan.tensors[name].left)
            if parts.end:
                self._border(name, window, self._length(name) - self.plan.tensors[name].right, self._length(name))
            if parts.whole:
                self._whole(name, window)

    # -- names -------------------------------------------------------------------------------------------------

    def _tensor(self, wanted: str, tensor: str, length: int) -> str:
        """Enter a tensor of the step under ``wanted`` or, where that is taken, another name."""
        own = wanted == tensor and wanted not in self.tensors
        name = wanted if own else free_name(wanted, self.tensors, self.plan.network.names)
        self.tensors[name] = StepTensor(tensor, length)
        return name

    def _window_name(self, name: str, window: int) -> str:
        """Of a tensor for a whole window."""
        if name == self.plan.network.frames:
            name = f"{name}.window"
        return name if self.plan.options.windows == 1 else f"{name}.window{window}"

    def _length(self, name: str) -> int:
        return self.plan.network.tensors[name].length

    # -- windows -----------------------------------------------------------------------------------------------

    def _output(self, name: str) -> None:
        windows = range(self.plan.options.windows)
        parts = tuple(self._view(name, w, 0, self._length(name)) for w in windows)
        if parts != (name,):
            self.ops.append(Stack(self._tensor(name, name, self._length(name)), parts))

    def _view(self, name: str, window: int, lo: int, hi: int) -> str:
        """Positions ``[lo, hi)`` of a tensor in one of the step's windows."""
        key = (name, window, lo, hi)
        if key not in self.views:
            self.views[key] = self._make_view(*key)
        return self.views[key]

    def _make_view(self, name: str, window: int, lo: int, hi: int) -> str:
        network, plan = self.plan.network, self.plan.tensors.get(name)
        length = self._length(name)
        if name in network.inputs and plan is None:
            return name
        if plan is None or not plan.streams:
            whole = self._whole(name, window)
            return whole if (lo, hi) == (0, length) else self._cut(whole, name, lo, hi - lo)
        parts: list[str] = []
        left, right = plan.left, length - plan.right
        if lo < left:
            parts.append(self._cut(self._border(name, window, 0, left), name, lo, min(hi, left) - lo))
        if lo < right and hi > left:
            parts.append(self._kept(name, window, max(lo, left), min(hi, right)))
        if hi > right:
            start = max(lo, right)
            parts.append(self._cut(self._border(name, window, right, length), name, start - right, hi - start))
        wanted = self._window_name(name, window) if (lo, hi) == (0, length) else f"{name}.part"
        return self._join(wanted, name, parts)

    def _whole(self, name: str, window: int) -> str:
        """A tensor that is computed for every window."""
        node = self.plan.network.producer[name]
        key = (name, window, 0, self._length(name))
        if key not in self.views:
            feeds = {read: self._view(read, window, 0, self._length(read)) for read in node.reads}
            outs = {w: self._tensor(self._window_name(w, window), w, self._length(w)) for w in node.writes}
            self.ops.append(Run(node, outs, feeds, None, 0, self._length(node.writes[0])))
            for written, out in outs.items():
                self.views[written, window, 0, self._length(written)] = out
        return self.views[key]

    def _border(self, name: str, window: int, lo: int, hi: int) -> str:
        """The positions at one end of a window that padding touches."""
        key = (name, window, lo, hi)
        if key not in self.ends:
            node = self.plan.network.producer[name]
            assert node.window is not None
            reach = node.window
            feeds = {r: self._view(r, window, *window_reads(reach, (lo, hi), self._length(r))) for r in node.reads}
            length = self._length(node.reads[0])
            pads = max(0, -(reach.stride * lo + reach.lo)), max(0, reach.stride * (hi - 1) + reach.hi - length + 1)
            side = "start" if lo == 0 else "end"
            outs = {w: self._tensor(f"{w}.{side}", w, hi - lo) for w in node.writes}
            run = TimeWindow(reach.kernel, reach.stride, reach.dilation, -pads[0])
            self.ops.append(Run(node, outs, feeds, run, pads[1], hi - lo))
            for written, out in outs.items():
                self.ends[written, window, lo, hi] = out
        return self.ends[key]

    def _kept(self, name: str, window: int, lo: int, hi: int) -> str:
        """Positions of a window that were computed once: every so many of what is kept."""
        stride, options = self.plan.network.tensors[name].stride, self.plan.options
        frame = stride * lo + options.hop * (window - options.windows + 1)
        return self.read(name, range(frame, frame + stride * (hi - lo), stride))

    # -- what is kept ------------------------------------------------------------------------------------------

    def read(self, name: str, frames: range) -> str:
        """Positions at some frames."""
        plan = self.plan.tensors[name]
        if plan.inner is not None:
            return self._scattered(name, frames)
        oldest = plan.end - (plan.past + plan.new - 1) * plan.grid
        step = frames.step // plan.grid if len(frames) > 1 else 1
        return self._cut(self._buffer(name), name, (frames[0] - oldest) // plan.grid, len(frames), step)

    def _scattered(self, name: str, frames: range) -> str:
        """The same of a tensor that is computed anew at some frames alone."""
        source = self._computed(name)
        at = self.places[name]
        parts = [
            self._cut(source, name, one[0], len(one), one.step) for one in progressions([at[frame] for frame in frames])
        ]
        return self._join(f"{name}.part", name, parts)

    def _buffer(self, name: str) -> str:
        """The past and the new positions of a tensor."""
        if name not in self.buffers:
            plan, new = self.plan.tensors[name], self._computed(name)
            if not plan.past:
                self.buffers[name] = new
            else:
                self.pasts[name] = self._tensor(f"{name}.past", name, plan.past)
                self.buffers[name] = self._join(f"{name}.kept", name, [self.pasts[name], new])
        return self.buffers[name]

    def _keep(self, name: str, past: str, plan: TensorPlan) -> None:
        """The newest of the past and the new positions, for the next step."""
        after = self._tensor(f"{name}.next", name, plan.past)
        self.ops.append(Cut(after, self.buffers[name], plan.new, plan.past))
        bits = plan.past * self.plan.network.tensors[name].position_bits
        self.states.append(State(name, past, after, plan.past, bits))

    def _computed(self, name: str) -> str:
        """The step's new positions of a tensor."""
        if name not in self.new:
            node, plan = self.plan.network.producer[name], self.plan.tensors[name]
            assert node.window is not None
            outs = {w: f"{w}.new" for w in node.writes}
            self.new.update(_Phases(self, node, plan, node.window).run(outs))
            places = {frame: at for at, frame in enumerate(plan.frames)}
            self.places.update((out, places) for out in outs)
        return self.new[name]

    # -- cutting and joining -----------------------------------------------------------------------------------

    def _cut(self, source: str, tensor: str, start: int, count: int, step: int = 1) -> str:
        step = step if count > 1 else 1
        if (start, count, step) == (0, self.tensors[source].length, 1):
            return source
        key = (source, start, count, step)
        if key not in self.cuts:
            self.cuts[key] = self._tensor(f"{source}.cut", tensor, count)
            self.ops.append(Cut(self.cuts[key], source, start, count, step))
        return self.cuts[key]

    def _join(self, wanted: str, tensor: str, parts: Sequence[str]) -> str:
        if len(parts) == 1:
            return parts[0]
        out = self._tensor(wanted, tensor, sum(self.tensors[part].length for part in parts))
        self.ops.append(Join(out, tuple(parts)))
        return out

    # what _Phases needs of it

    def holds(self, name: str, frames: range) -> bool:
        """Whether a tensor is there at all these frames."""
        return self.plan.tensors[name].inner is None or self.places[name].keys() >= set(frames)

    def join(self, wanted: str, tensor: str, parts: Sequence[str], *, turns: bool) -> str:
        """Parts one after the other, or by turns."""
        if not turns or len(parts) == 1:
            return self._join(wanted, tensor, parts)
        made = self._tensor(wanted, tensor, sum(self.tensors[part].length for part in parts))
        self.ops.append(Weave(made, tuple(parts)))
        return made

    def enter(self, wanted: str, tensor: str, length: int) -> str:
        """A new tensor of the step."""
        return self._tensor(wanted, tensor, length)

    def add(self, op: Op) -> None:
        """Append to the step."""
        self.ops.append(op)


@dataclass(frozen=True, slots=True)
class _Phases:
    """New positions of one node's outputs: in one run, or in several that take turns."""

    builder: _Builder
    node: TimedNode
    plan: TensorPlan
    window: TimeWindow

    def run(self, outs: Mapping[str, str]) -> dict[str, str]:
        """The names of the new positions, by the tensors of the model."""
        stretches = list(progressions(self.plan.frames))
        made = [self._stretch(outs, one, f".{i}" if i else "") for i, one in enumerate(stretches)]
        return {name: self.builder.join(outs[name], name, [m[name] for m in made], turns=False) for name in outs}

    def _stretch(self, outs: Mapping[str, str], frames: range, suffix: str) -> dict[str, str]:
        """Positions that are equally far apart."""
        phases = self._phases(frames)
        turns = len(phases)
        made = [self._phase(outs, one, suffix, (turn, turns)) for turn, one in enumerate(phases)]
        return {
            name: self.builder.join(f"{wanted}{suffix}", name, [m[name] for m in made], turns=True)
            for name, wanted in outs.items()
        }

    def _phases(self, frames: range) -> list[Phase]:
        causal = self.builder.plan
        source = causal.network.tensors[self.node.reads[0]]
        stride, grid = source.stride, causal.tensors[source.name].grid
        split = causal.polyphase(self.node) or not self.node.dilates
        if causal.recomputes(self.node):
            return exact_phases(frames, self.window, stride, split=split, holds=self._held)
        if self.window.kernel == 1:
            return [Phase(frames, self.plan.grid)]
        if split and stride > grid:
            return in_turns(frames, stride // gcd(self.plan.grid, stride), stride)
        return [Phase(frames, grid)]

    def _held(self, frames: range) -> bool:
        """Whether the node's inputs are there; ``frames`` are those of the first."""
        return all(self.builder.holds(name, frames) for name in self.node.reads)

    def _phase(self, outs: Mapping[str, str], phase: Phase, suffix: str, turn: tuple[int, int]) -> dict[str, str]:
        """Every so many new positions."""
        tensors = self.builder.plan.network.tensors
        stride, count = tensors[self.node.reads[0]].stride, len(phase.frames)
        feeds = {
            name: self.builder.read(name, phase.reads(self.window, tensors[name].stride)) for name in self.node.reads
        }
        suffix += f".phase{turn[0]}" if turn[1] > 1 else ""
        made = {name: self.builder.enter(f"{wanted}{suffix}", name, count) for name, wanted in outs.items()}
        run = phase.along(self.window, stride)
        self.builder.add(Run(self.node, made, feeds, run, 0, count, turn))
        return made


def step_outputs(step: CausalStep) -> Iterable[str]:
    """What the step puts out: the model's outputs, then the states."""
    yield from step.plan.network.outputs
    yield from (state.write for state in step.states)
