"""What ``dfc causal`` says: what a step takes, keeps and computes, and which layers stay as they were."""

from __future__ import annotations

from collections.abc import Iterator

from dfc.causal import Streaming, form_name
from dfc.ir import TimedNode
from dfc.passes.causal_plan import CausalPlan
from dfc.passes.causal_step import CausalStep
from dfc.units import factor, size

_NAMES = 4


def render_causal(found: Streaming) -> str:
    """A few lines, each with its newline."""
    step, plan = found.step, found.step.plan
    rows = [
        ("network", _window(plan)),
        ("step", _step(plan)),
        ("state", f"{size(step.state_bits)} in {len(step.states)} tensors, {_widest(step)}"),
        ("MACs", _macs(step)),
        ("latency", _latency(plan)),
        ("warm-up", f"{plan.warm_up_steps} steps until outputs are valid"),
        *(("per window", line) for line in _per_window(plan)),
        *(("recomputed", line) for line in _recomputed(plan)),
        *(("barrier", line) for line in barriers(plan)),
        *(("note", line) for line in notes(found)),
    ]
    shown = [(label if i == 0 or rows[i - 1][0] != label else "", text) for i, (label, text) in enumerate(rows)]
    return "".join(f"{label:<12}{text}\n" for label, text in shown)


def _window(plan: CausalPlan) -> str:
    network = plan.network
    tensor = network.tensors[network.frames]
    return f"{network.name}: a window of {_frames(network.window)}, axis {tensor.axis} of '{network.frames}'"


def _step(plan: CausalPlan) -> str:
    options = plan.options
    windows = "1 window" if options.windows == 1 else f"{options.windows} windows"
    form = form_name(options)
    padding = "streaming padding" if options.stream else "exact padding"
    return f"{_frames(options.frames)} in, {windows} out; hop {options.hop}, {form} form, {padding}"


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count:,} frames"


def _widest(step: CausalStep) -> str:
    if not step.states:
        return "nothing is kept"
    largest = max(step.states, key=lambda state: state.bits)
    return f"the largest {largest.positions} positions of '{largest.tensor}'"


def _macs(step: CausalStep) -> str:
    fewer = f", {factor(step.window_macs / step.macs)} fewer" if 0 < step.macs < step.window_macs else ""
    of = "the window" if step.plan.options.windows == 1 else f"the {step.plan.options.windows} windows"
    return f"{step.macs:,} per step; {step.window_macs:,} for {of} without it{fewer}"


def _latency(plan: CausalPlan) -> str:
    if plan.latency_frames == 0:
        return "0 frames: outputs are there with the last frame of their window"
    return f"{_frames(plan.latency_frames)} of look-ahead, beyond the last of the window"


def _per_window(plan: CausalPlan) -> Iterator[str]:
    """Layers with multiply-accumulates of which something is computed for every window, and how much."""
    whole: list[TimedNode] = []
    partly: list[TimedNode] = []
    for node in plan.network.nodes:
        held = plan.tensors.get(node.writes[0])
        if not node.macs:
            continue
        if held is None or not held.streams:
            whole.append(node)
        elif held.left or held.right:
            partly.append(node)
    if partly:
        yield f"the ends of {_listed(partly)}: padding touches them"
    if whole:
        yield f"all of {_listed(whole)}"


def _recomputed(plan: CausalPlan) -> Iterator[str]:
    """Segments of which nothing is kept inside."""
    for segment in plan.options.segments:
        nodes = [node for node in plan.network.nodes if node.name in segment.nodes]
        if segment.recompute and nodes:
            yield f"{_listed(nodes)}: from the past of their inputs alone"


def _listed(nodes: list[TimedNode]) -> str:
    names = ", ".join(node.name for node in nodes[:_NAMES])
    return names if len(nodes) <= _NAMES else f"{names} and {len(nodes) - _NAMES} more"


def barriers(plan: CausalPlan) -> Iterator[str]:
    """Where the time axis ends, and why; what follows is computed for every window."""
    for node in plan.network.nodes:
        if node.barrier:
            yield f"{node.op} '{node.name}': {node.barrier}"
        elif node.reduces and _length(plan, node) > 1:
            yield f"{node.op} '{node.name}': reduces over time, as a running window of {_length(plan, node)} positions"


def _length(plan: CausalPlan, node: TimedNode) -> int:
    return plan.network.tensors[node.reads[0]].length


def notes(found: Streaming) -> Iterator[str]:
    """What differs from the model."""
    plan = found.step.plan
    for name in found.timed.walked.outputs:
        if name not in plan.network.outputs:
            yield f"output '{name}' is not computed from the inputs and is left out"
    padded = [node for node in plan.network.nodes if _padded(plan, node)]
    if plan.options.stream and padded:
        yield (
            f"the padding in time of {_listed(padded)} is left away: frames beyond the window are read in its place, "
            "and outputs differ from the model's"
        )


def _padded(plan: CausalPlan, node: TimedNode) -> bool:
    """Whether a node that streams has padding inside the window."""
    held = plan.tensors.get(node.writes[0])
    if node.window is None or held is None or not held.streams:
        return False
    length = plan.network.tensors[node.reads[0]].length
    last = node.window.stride * (plan.network.tensors[node.writes[0]].length - 1) + node.window.hi
    return node.window.lo < 0 or last >= length
