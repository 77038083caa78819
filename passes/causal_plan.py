"""Which positions of every tensor a streaming form computes once and keeps, and which it computes for every window.

A window of a network is run every ``hop`` frames. A position that no padding touches has a value of its frame alone.
With a hop ``h`` and ``s`` frames from one position of a tensor to the next, windows need it at the frames
``n*h + s*p``: all multiples of ``g = gcd(h, s)``, its *grid*. So a step computes ``h/g`` new positions, whatever reads
them has its dilation multiplied by ``s/g``, and its stride is the ratio of the grids. Hop 1 makes all strides
dilations (the dense or a-trous form: Holschneider et al., "A real-time algorithm for signal analysis with the help
of the wavelet transform", 1989), a hop of the total stride none.

Frames count from the start of the newest window of a step.

A segment of nodes may be recomputed: nothing is kept between its nodes. From what is kept of its inputs it computes the
positions that the new ones of its outputs need, on the window's own strides. What follows it streams as before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from math import gcd

from dfc.ir import TimedNode, TimedTensor, TimeNetwork, TimeWindow
from dfc.passes.positions import taps

_FAR = 1 << 60
#: no stream is stepped by more
MOST_FRAMES = 1_000_000
#: each window of a step has nodes of its own
MOST_WINDOWS = 1024


class Form(StrEnum):
    """How a node runs in the step.

    DENSE with dilated kernels and POLYPHASE with undilated ones by turns compute every position once; RECOMPUTED ones
    belong to a segment that keeps nothing; PER_WINDOW computes all of every window anew.
    """

    DENSE = "dense"
    POLYPHASE = "polyphase"
    RECOMPUTED = "recomputed"
    PER_WINDOW = "per window"


@dataclass(frozen=True, slots=True)
class Segment:
    """Nodes, by name, that run in a form of their own.

    polyphase: dilated kernels run undilated, on every so many positions by turns.
    recompute: nothing is kept of what passes from one of them to another.
    """

    nodes: frozenset[str]
    polyphase: bool = False
    recompute: bool = False


@dataclass(frozen=True, slots=True)
class CausalOptions:
    """What is asked of the transform.

    hop:       frames from one window to the next.
    windows:   windows per step; a step takes ``hop * windows`` new frames.
    stream:    the padding inside the window is left away: its place is taken by the frames that are really there.
    polyphase: dilated kernels run undilated, on every so many positions by turns.
    segments:  where that differs, or where nothing is kept; no node is in two of them.
    """

    hop: int = 1
    windows: int = 1
    stream: bool = False
    polyphase: bool = False
    segments: tuple[Segment, ...] = ()

    @property
    def frames(self) -> int:
        """New frames per step."""
        return self.hop * self.windows


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """How one tensor with a time axis is held.

    left, right: positions at the window's start and end that are computed for every window, since padding touches
                 them. All of them (``left`` is the length) where nothing is kept.
    grid:        frames between positions that are computed once.
    new:         such positions per step; 0 where nothing is kept.
    end:         the frame of the newest of them.
    past:        how many of those before the step's own are still read: the state.
    since:       the oldest frame at which its values decide what the step puts out, by way of all that is kept.
    inner:       frames of the positions that every step computes anew, as nothing is kept of them; None otherwise.
    reason:      why nothing is computed once; "" where something is.
    """

    left: int
    right: int
    grid: int
    new: int
    end: int = 0
    past: int = 0
    since: int = 0
    inner: tuple[int, ...] | None = None
    reason: str = ""

    @property
    def frames(self) -> Sequence[int]:
        """The frames of the positions that a step computes, or takes; rising."""
        if self.inner is not None:
            return self.inner
        return range(self.end - (self.new - 1) * self.grid, self.end + 1, self.grid)

    @property
    def streams(self) -> bool:
        """Whether any position is computed once and kept."""
        return self.new > 0

    @property
    def from_nothing(self) -> int:
        """Positions that a step needs which finds no state, all the past that others need counted."""
        return (self.end - self.since) // self.grid + 1


@dataclass(slots=True)
class NodeParts:
    """What of a node's outputs anything reads: new positions, the two ends of every window, or whole windows."""

    new: bool = False
    start: bool = False
    end: bool = False
    whole: bool = False


@dataclass(frozen=True)
class CausalPlan:
    """The decisions for a whole network.

    parts:          what is computed of every node, by its name.
    oldest, newest: the frames that the outputs of a step depend on.
    """

    network: TimeNetwork
    options: CausalOptions
    tensors: Mapping[str, TensorPlan]
    parts: Mapping[str, NodeParts]
    oldest: int
    newest: int

    @property
    def latency_frames(self) -> int:
        """Frames after the window's last one that must be there before its outputs are known."""
        return self.newest - self.network.tensors[self.network.frames].stride * (self.network.window - 1)

    @property
    def warm_up_steps(self) -> int:
        """Steps before the first whose outputs depend on real frames alone."""
        frames = self.tensors[self.network.frames]
        return -(-frames.from_nothing // frames.new) - 1

    @cached_property
    def segment(self) -> Mapping[str, Segment]:
        """The segment of each node that is in one."""
        return segments_of(self.options)

    def polyphase(self, node: TimedNode) -> bool:
        """Whether dilated kernels are to run undilated."""
        segment = self.segment.get(node.name)
        return self.options.polyphase if segment is None else segment.polyphase

    def recomputes(self, node: TimedNode) -> bool:
        """Whether it is in a segment that keeps nothing."""
        segment = self.segment.get(node.name)
        return segment is not None and segment.recompute

    def form(self, node: TimedNode) -> Form:
        """How a node runs, whatever was asked: :attr:`TensorPlan.reason` says why where that is per window."""
        held = self.tensors.get(node.writes[0])
        if held is None or not held.streams or node.window is None:
            return Form.PER_WINDOW
        if self.recomputes(node):
            return Form.RECOMPUTED
        source = self.network.tensors[node.reads[0]]
        dilated = node.window.kernel > 1 and source.stride > self.tensors[source.name].grid
        return Form.POLYPHASE if dilated and (self.polyphase(node) or not node.dilates) else Form.DENSE


def segments_of(options: CausalOptions) -> dict[str, Segment]:
    """The segment of each node that is in one."""
    return {name: segment for segment in options.segments for name in segment.nodes}


def plan_causal(network: TimeNetwork, options: CausalOptions) -> CausalPlan:
    """Decide for every tensor what is kept, then how much of the past is read."""
    held: dict[str, TensorPlan] = {}
    for name in network.inputs:
        if network.tensors[name].axis is not None:
            grid = gcd(options.hop, network.tensors[name].stride)
            held[name] = TensorPlan(0, 0, grid, options.frames // grid)
    for node in network.nodes:
        shares = _shares(network, node, held, options)
        held.update({name: shares for name in node.writes if network.tensors[name].axis is not None})
    for name in _inner(network, options):
        if name in held and held[name].streams:
            held[name] = replace(held[name], inner=())
    return _Demand(network, options, held).run()


def _inner(network: TimeNetwork, options: CausalOptions) -> list[str]:
    """Tensors that pass between nodes of one segment that recomputes, and nowhere else."""
    segment = segments_of(options)
    readers: dict[str, set[Segment | None]] = {name: {None} for name in network.outputs}
    for node in network.nodes:
        for name in node.reads:
            readers.setdefault(name, set()).add(segment.get(node.name))
    found: list[str] = []
    for node in network.nodes:
        mine = segment.get(node.name)
        if mine is not None and mine.recompute and all(readers.get(name, {mine}) == {mine} for name in node.writes):
            found += node.writes
    return found


def _shares(
    network: TimeNetwork, node: TimedNode, held: Mapping[str, TensorPlan], options: CausalOptions
) -> TensorPlan:
    """What of a node's outputs is kept; ``end`` and ``past`` are still to come."""
    out = network.tensors[node.writes[0]]
    grid = gcd(options.hop, out.stride)
    left = right = 0
    reason = _refusal(network, node, held)
    if not reason and not options.stream:
        assert node.window is not None
        inputs = [held[name] for name in node.reads]
        ends = max(p.left for p in inputs), max(p.right for p in inputs)
        left, right = _touched(node, node.window, network.tensors[node.reads[0]].length, out.length, *ends)
        if left + right >= out.length:
            reason = "padding touches every position"
        elif options.hop // grid > out.length - left - right:
            reason = "a hop has more new positions than the window"
    if reason:
        return TensorPlan(out.length, 0, out.stride, 0, reason=reason)
    return TensorPlan(left, right, grid, options.frames // grid)


def _refusal(network: TimeNetwork, node: TimedNode, held: Mapping[str, TensorPlan]) -> str:
    """Why nothing of a node's outputs can be computed once, whatever its padding; "" if it can."""
    if node.window is None:
        return "it reads whole windows"
    if any(network.tensors[name].axis is None for name in node.reads):
        return "it reads what belongs to a window as a whole"
    if not all(held[name].streams for name in node.reads):
        return "it reads what is computed for every window"
    return ""


def _touched(node: TimedNode, window: TimeWindow, before: int, after: int, left: int, right: int) -> tuple[int, int]:
    """Output positions at both ends that read padding, or input positions that padding touched.

    Each end reads as many positions of the input as the operator needs to pad it, so that it can be run on them alone.
    """
    first = last = 0
    if left > window.lo:
        first = max(_ceil(left - window.lo, window.stride), _ceil(node.margin - 1 - window.hi, window.stride) + 1)
    start = _ceil(before - right - window.hi, window.stride)
    if start < after:
        last = after - max(0, min(start, (before - node.margin - window.lo) // window.stride))
    return min(after, first), min(after, last)


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def stream_reads(node: TimedNode, plan: TensorPlan, source: TimedTensor) -> tuple[int, int]:
    """The first and the last frame of an input that the new positions of a node's output read."""
    assert node.window is not None
    return plan.frames[0] + source.stride * node.window.lo, plan.frames[-1] + source.stride * node.window.hi


def window_reads(window: TimeWindow, positions: tuple[int, int], length: int) -> tuple[int, int]:
    """The input positions, within ``[0, length)``, that output positions ``[lo, hi)`` of a window read."""
    lo, hi = positions
    return max(0, window.stride * lo + window.lo), min(length, window.stride * (hi - 1) + window.hi + 1)


@dataclass(slots=True)
class _Wanted:
    """What is read of a tensor: stretches of windows, and from and to which frame of what is kept.

    ``since`` is the oldest frame at which its values decide what the step puts out, by way of what others keep.
    ``frames`` are all that are read of a tensor of which nothing is kept.
    """

    positions: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    oldest: int = _FAR
    newest: int = -_FAR
    since: int = _FAR
    frames: set[int] = field(default_factory=set[int])


class _Demand:
    """From the outputs back to the frames: how far every reader looks back, and how far ahead."""

    def __init__(self, network: TimeNetwork, options: CausalOptions, held: Mapping[str, TensorPlan]) -> None:
        self.network = network
        self.options = options
        self.held = dict(held)
        self.wanted = {name: _Wanted() for name in network.tensors}
        self.parts = {node.name: NodeParts() for node in network.nodes}

    def run(self) -> CausalPlan:
        for name in self.network.outputs:
            self._want(name, (0, self.network.tensors[name].length))
        for node in reversed(self.network.nodes):
            self._visit(node)
        frames = self.network.frames
        self._windows(frames)
        wanted = self.wanted[frames]
        last = self.network.tensors[frames].stride * (self.network.window - 1)
        self._settle(frames, max(wanted.newest, last), frozenset())  # the frames that are fed are the newest there are
        held = self.held[frames]
        return CausalPlan(self.network, self.options, self.held, self.parts, held.since, held.end)

    def _want(self, name: str, positions: tuple[int, int]) -> None:
        self.wanted[name].positions.append(positions)

    def _visit(self, node: TimedNode) -> None:
        timed = [name for name in node.writes if name in self.held]
        if node.window is None or not timed or not self.held[timed[0]].streams:
            self._read_whole(node)
            return
        for name in timed:
            self._windows(name)
        plan, length = self.held[timed[0]], self.network.tensors[timed[0]].length
        stretches = [stretch for name in timed for stretch in self.wanted[name].positions]
        parts = self.parts[node.name]
        if any(lo < plan.left for lo, _ in stretches):
            parts.start = True
            self._read_part(node, (0, plan.left))
        if any(hi > length - plan.right for _, hi in stretches):
            parts.end = True
            self._read_part(node, (length - plan.right, length))
        newest = max(self.wanted[name].newest for name in timed)
        if newest > -_FAR:
            parts.new = True
            frames = frozenset[int]().union(*(self.wanted[name].frames for name in timed))
            for name in timed:
                self._settle(name, newest, frames)
            self._read_stream(node, self.held[timed[0]], min(self.held[name].since for name in timed))

    def _windows(self, name: str) -> None:
        """What windows read of that which is kept: the oldest window of the step first."""
        plan, tensor, wanted = self.held[name], self.network.tensors[name], self.wanted[name]
        for lo, hi in wanted.positions:
            first, last = max(lo, plan.left), min(hi, tensor.length - plan.right) - 1
            if first <= last:
                behind = self.options.hop * (self.options.windows - 1)
                wanted.oldest = min(wanted.oldest, tensor.stride * first - behind)
                wanted.newest = max(wanted.newest, tensor.stride * last)
                if plan.inner is not None:
                    for window in range(0, behind + 1, self.options.hop):
                        wanted.frames.update(tensor.stride * p - window for p in range(first, last + 1))

    def _settle(self, name: str, newest: int, inner: frozenset[int]) -> None:
        plan, wanted = self.held[name], self.wanted[name]
        if plan.inner is not None:
            since = min(wanted.since, min(inner))
            self.held[name] = replace(plan, new=len(inner), end=newest, since=since, inner=tuple(sorted(inner)))
            return
        oldest = min(wanted.oldest, newest)
        past = max(0, (newest - oldest) // plan.grid + 1 - plan.new)
        self.held[name] = replace(plan, end=newest, past=past, since=min(wanted.since, oldest))

    def _read_whole(self, node: TimedNode) -> None:
        if any(self.wanted[name].positions for name in node.writes):
            self.parts[node.name].whole = True
            for name in node.reads:
                self._want(name, (0, self.network.tensors[name].length))

    def _read_part(self, node: TimedNode, positions: tuple[int, int]) -> None:
        assert node.window is not None
        for name in node.reads:
            self._want(name, window_reads(node.window, positions, self.network.tensors[name].length))

    def _read_stream(self, node: TimedNode, plan: TensorPlan, since: int) -> None:
        assert node.window is not None
        for name in node.reads:
            source, wanted = self.network.tensors[name], self.wanted[name]
            first, last = stream_reads(node, plan, source)
            wanted.oldest, wanted.newest = min(wanted.oldest, first), max(wanted.newest, last)
            if self.held[name].inner is not None:
                wanted.frames.update(frame + tap for frame in plan.frames for tap in taps(node.window, source.stride))
            wanted.since = min(wanted.since, since + source.stride * node.window.lo)
