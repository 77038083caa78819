"""From a model to its streaming form: the time axis, the plan, the step, and the step as an ONNX model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dfc.errors import UsageError
from dfc.frontend.stream_model import StreamWriter, import_step
from dfc.frontend.stream_nodes import Along
from dfc.frontend.timed import TimedModel, import_timed
from dfc.ir import Graph, verify
from dfc.passes import PassManager, default_pipeline
from dfc.passes.causal_plan import CausalOptions, plan_causal
from dfc.passes.causal_step import CausalStep, Cut, Join, Run, Stack, Weave, build_step
from dfc.passes.resident_states import resident_states

#: codes of this module, with the sentence that docs/errors.md prints for each
CODES: Mapping[str, str] = {"CLI102": "several windows per step of a model that reads more than the frames for each"}


@dataclass(frozen=True, slots=True)
class Streaming:
    """A model and the step of its streaming form."""

    timed: TimedModel
    step: CausalStep

    def model(self) -> bytes:
        """The step as an ONNX model, the content of its file."""
        return write_step(self.timed, self.step)

    def graph(self) -> Graph:
        """The step as every other part of dfc takes a network, before any pass."""
        return import_step(self.model(), self.timed.network.name)

    def resident(self) -> Graph:
        """The step after the standard passes, with states that stay where they are made as pasts of its tensors."""
        graph = PassManager(default_pipeline(), verify=True).run(self.graph())
        count = len(self.step.states)
        states = list(zip(graph.inputs[-count:], graph.outputs[-count:], strict=True)) if count else []
        graph = resident_states(graph, states)
        verify(graph)
        return graph


def causal(
    model: str | Path,
    options: CausalOptions,
    *,
    time_axis: str | None = None,
    bind: Mapping[str, int] | None = None,
    input_shape: Mapping[str | None, tuple[int, ...]] | None = None,
) -> Streaming:
    """The streaming form of an ONNX model.

    Raises:
        ModelError: the model cannot be read.
        UsageError: CLI100 the time axis, CLI102 several windows per step where that has no meaning.
    """
    return streaming(import_timed(model, time_axis=time_axis, bind=bind, input_shape=input_shape), options)


def streaming(timed: TimedModel, options: CausalOptions) -> Streaming:
    """The streaming form of a model whose time axis is known."""
    _check_windows(timed, options)
    return Streaming(timed, build_step(plan_causal(timed.network, options)))


def _check_windows(timed: TimedModel, options: CausalOptions) -> None:
    network = timed.network
    if options.windows > 1 and len(network.inputs) > 1:
        others = ", ".join(f"'{name}'" for name in network.inputs if name != network.frames)
        message = f"the model also reads {others}, once for every window"
        raise UsageError("CLI102", message, place="--frames-per-step", hint="leave --frames-per-step out")


def write_step(timed: TimedModel, step: CausalStep) -> bytes:
    """The step as the content of an ONNX file: new frames and states in, outputs and the next states out."""
    writer, network, windows = StreamWriter(timed), timed.network, step.plan.options.windows
    for name, tensor in step.tensors.items():
        writer.enter(name, tensor.tensor, tensor.length, windows if name in network.outputs else 1)
    for op in step.ops:
        match op:
            case Cut():
                writer.cut(op.out, op.source, op.start, op.count, op.step)
            case Join():
                writer.join(op.out, op.parts)
            case Weave():
                writer.weave(op.out, op.parts)
            case Stack():
                writer.stack(op.out, op.parts)
            case Run():
                writer.run(op.node.name, op.outs, op.feeds, _along(op))
    inputs = [*network.inputs, *(state.read for state in step.states)]
    outputs = [*network.outputs, *(state.write for state in step.states)]
    return writer.finish(network.name, inputs, outputs, metadata(step), _doc(step))


def _along(run: Run) -> Along | None:
    if run.window is None:
        return None
    return Along(run.node.slides, run.window.stride, run.window.dilation, -run.window.lo, run.pad_end)


def form_name(options: CausalOptions) -> str:
    """What the forms of all layers are called together."""
    if options.segments:
        return "mixed"
    return "polyphase" if options.polyphase else "dense"


def metadata(step: CausalStep) -> dict[str, str]:
    """What the model's metadata says, by key."""
    plan = step.plan
    options = plan.options
    return {
        "dfc.causal.frames": plan.network.frames,
        "dfc.causal.window_frames": str(plan.network.window),
        "dfc.causal.hop_frames": str(options.hop),
        "dfc.causal.frames_per_step": str(options.frames),
        "dfc.causal.windows_per_step": str(options.windows),
        "dfc.causal.padding": "stream" if options.stream else "exact",
        "dfc.causal.form": form_name(options),
        "dfc.causal.warm_up_steps": str(plan.warm_up_steps),
        "dfc.causal.latency_frames": str(plan.latency_frames),
        "dfc.causal.states": json.dumps([[state.read, state.write] for state in step.states]),
    }


def _doc(step: CausalStep) -> str:
    plan = step.plan
    return (
        f"The streaming form of {plan.network.name}. Every step takes {plan.options.frames} new frames as "
        f"'{plan.network.frames}' and the states of the step before; at the first step all states are zero. "
        f"Outputs are valid after {plan.warm_up_steps} steps."
    )
