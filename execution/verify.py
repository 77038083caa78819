"""A schedule's file, executed and compared with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dfc.backend_cost.schedule import Schedule, StepInfo
from dfc.errors import UsageError
from dfc.execution.fault import Fault
from dfc.execution.machine import Machine
from dfc.execution.memory import Array
from dfc.execution.network import Network, same_file
from dfc.execution.run import Run
from dfc.execution.step_network import StepNetwork
from dfc.execution.step_run import StepsRun
from dfc.execution.verification import Verification
from dfc.hwdsl import parse_arch

#: steps over time that run once outputs are valid; by then all ring buffers have come round, as the warm-up is longer
STEPS = 4
_OUTPUTS = {
    "exact": "of every step, with the model on its windows",
    "stream": "of every step, with its streaming form: padding in time is left away",
}


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
        sample: how many rows of tiles run of each stack (of a network over time, how many steps); all unless given.

    Raises:
        UsageError: CLI080 another model, CLI081 rules without addresses, CLI082 inputs that do not fit, CLI083 no ONNX
            Runtime, CLI084 what it cannot run, CLI086 what the file says of a step over time.
        ModelError: a model that cannot be read.
        HardwareError: a damaged page in the schedule.
    """
    _has_addresses(schedule, place)
    same_file(model, schedule, place)
    if schedule.step is not None:
        found = _verify_steps(schedule, schedule.step, model, place, seed, inputs, sample)
    else:
        network = Network(model, schedule)
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


def _verify_steps(
    schedule: Schedule,
    step: StepInfo,
    model: Path,
    place: str,
    seed: int,
    inputs: Mapping[str, Array] | None,
    sample: int | None,
) -> Verification:
    """The same for one step of a network over time: it runs again and again."""
    network = StepNetwork(model, step, place)
    count = network.plan.warm_up_steps + (sample or STEPS)
    feeds = network.random_feeds(count, seed) if inputs is None else _step_inputs(network, inputs)
    return execute_steps(schedule, network, feeds, place=place, sample=sample)


def execute_steps(
    schedule: Schedule,
    network: StepNetwork,
    feeds: Sequence[Mapping[str, Array]],
    *,
    place: str = "schedule",
    sample: int | None = None,
) -> Verification:
    """Execute a schedule of a step on inputs of so many steps; as :func:`verify`."""
    arch = parse_arch(schedule.hw.page, f"{place} (hw.page)")
    warm_up = network.plan.warm_up_steps
    numbers = range(len(feeds)) if sample is None else range(max(warm_up, len(feeds) - sample), len(feeds))
    network.prepare(feeds, numbers, numbers[:1] if sample is None else numbers)
    found = Verification(schedule.model.name, schedule.hw.name, len(schedule.stacks))
    found.outputs = _OUTPUTS["stream" if network.plan.options.stream else "exact"]
    found.sampled = None if sample is None else (len(numbers), len(feeds))
    run = StepsRun(schedule, network, found, sampled=sample is not None)
    try:
        run.machine = Machine(schedule, arch, network)
        run.all_steps(numbers)
    except Fault as fault:
        found.findings.append(fault.at(run.where))
    found.steps = run.begun, sum(step < warm_up for step in numbers[: run.begun])
    found.tiles = run.tiles
    return found


def execute(
    schedule: Schedule, network: Network, *, place: str = "schedule", seed: int = 0, sample: int | None = None
) -> Verification:
    """Execute a schedule of a network that has its inputs; as :func:`verify`."""
    arch = parse_arch(schedule.hw.page, f"{place} (hw.page)")
    found = Verification(schedule.model.name, schedule.hw.name, len(schedule.stacks))
    run = Run(schedule, network, found, sample, seed)
    try:
        run.machine = Machine(schedule, arch, network)
        run.all_stacks()
    except Fault as fault:
        found.findings.append(fault.at(run.where))
    found.tiles = found.counts.tiles
    return found


def _inputs(network: Network, given: Mapping[str, Array]) -> dict[str, Array]:
    """The user's inputs, checked."""
    names = network.model.input_names
    _named(names, given)
    return {n: _checked(n, given[n], network.model.shape(n), network.model.dtype(n)) for n in names}


def _step_inputs(network: StepNetwork, given: Mapping[str, Array]) -> list[dict[str, Array]]:
    """The user's inputs, step by step: as many frames as there are, one after the other; all else stays the same."""
    names, frames, axis = network.plan.network.inputs, network.frames, network.frames_axis
    _named(names, given)
    each, kind = network.given(frames)
    there = given[frames].shape[axis] if given[frames].ndim == len(each) else each[axis]
    count = there // each[axis]
    shape = tuple(there if a == axis else n for a, n in enumerate(each))
    stream = _checked(frames, given[frames], shape, kind)
    least = network.plan.warm_up_steps + 1
    if count < least:
        what = f"input '{frames}' has {there:,} frames, which is {count:,} steps"
        hint = f"outputs are valid from step {least:,} on: at least {least * each[axis]:,} frames are needed"
        raise UsageError("CLI082", what, place="--inputs", hint=hint)
    others = {n: _checked(n, given[n], *network.given(n)) for n in names if n != frames}
    size = each[axis]
    return [{**others, frames: np.take(stream, range(n * size, (n + 1) * size), axis=axis)} for n in range(count)]


def _named(names: Sequence[str], given: Mapping[str, Array]) -> None:
    """There are numbers for each input, and for nothing else."""
    missing = [name for name in names if name not in given]
    unknown = sorted(given.keys() - set(names))
    if missing or unknown:
        what = f"there are no numbers for input '{missing[0]}'" if missing else f"the model has no input '{unknown[0]}'"
        raise UsageError("CLI082", what, place="--inputs", hint=f"its inputs are {', '.join(names)}")


def _checked(name: str, data: Array, shape: tuple[int, ...], kind: np.dtype[Any]) -> Array:
    if data.shape != shape or data.dtype != kind:
        what = f"input '{name}' is {data.dtype} of shape {list(data.shape)}"
        raise UsageError("CLI082", what, place="--inputs", hint=f"{kind} of shape {list(shape)} is needed")
    return np.ascontiguousarray(data)
