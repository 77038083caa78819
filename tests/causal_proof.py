"""The proof of a streaming form: step by step with its states alone, against the model on every window by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from dfc.causal import Streaming, streaming
from dfc.frontend.timed import TimedModel, timed_model
from dfc.ir import TimedNode
from dfc.passes.causal_plan import CausalOptions, CausalPlan

Array = np.ndarray[Any, Any]
TOLERANCE = 1e-5  # of the output's range, for floats


def timed(model: onnx.ModelProto, axis: str) -> TimedModel:
    """A model in memory with its time axis."""
    return timed_model(model, name="test", time_axis=axis)


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # ONNX Runtime merges a Pad into a pool whose padding may then not be as large as its kernel, and gives up
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def noise(shape: Sequence[int], kind: str, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    if kind == "tensor(uint8)":
        return rng.integers(0, 256, shape).astype(np.uint8)
    return rng.standard_normal(shape).astype(np.float32)


def steps(form: Streaming, frames: Array, axis: int, others: dict[str, Array] | None = None) -> list[list[Array]]:
    """The outputs of every step, with nothing handed on but the states, which begin as zeros."""
    model = onnx.load_from_string(form.model())
    onnx.checker.check_model(model)  # pyright: ignore[reportUnknownMemberType]
    run = session(model)
    kinds = {"tensor(float)": "float32", "tensor(double)": "float64"}  # others are called as in numpy
    zeros = {i.name: np.zeros(i.shape, kinds.get(i.type, i.type[7:-1])) for i in run.get_inputs()}
    states = {state.read: zeros[state.read] for state in form.step.states}
    found: list[list[Array]] = []
    size, count = form.step.plan.options.frames, len(form.timed.network.outputs)
    for first in range(0, frames.shape[axis] - size + 1, size):
        fed = np.take(frames, range(first, first + size), axis=axis)
        results = run.run(None, {form.step.frames: fed, **states, **(others or {})})
        states = {state.read: now for state, now in zip(form.step.states, results[count:], strict=True)}
        found.append(results[:count])
    return found


def same(got: Array, want: Array) -> None:
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    if want.dtype.kind in "iub":
        assert np.array_equal(got, want)
        return
    spread = max(float(np.ptp(want)), float(np.max(np.abs(want))), 1e-6)
    assert float(np.max(np.abs(got - want))) <= TOLERANCE * spread


def windows_start(form: Streaming, step: int) -> list[int]:
    """The frame, counted from the first one fed, at which each window of a step begins."""
    plan = form.step.plan
    last = (step + 1) * plan.options.frames - 1 - plan.latency_frames
    newest = last - plan.network.window + 1
    return [newest - plan.options.hop * (plan.options.windows - 1 - w) for w in range(plan.options.windows)]


def prove_exact(model: onnx.ModelProto, axis: str, options: CausalOptions, valid: int = 3) -> Streaming:
    """Every valid step's outputs are those of the model on its windows; from the first step that may be valid on."""
    form = streaming(timed(model, axis), options)
    network, plan = form.timed.network, form.step.plan
    place = network.tensors[network.frames].axis
    assert place is not None
    reference = session(model)
    kind = next(i.type for i in reference.get_inputs() if i.name == network.frames)
    shape = list(network.tensors[network.frames].shape)
    shape[place] = (plan.warm_up_steps + valid) * options.frames
    frames = noise(shape, kind)
    assert plan.latency_frames == 0
    found = steps(form, frames, place)
    for step in range(plan.warm_up_steps, len(found)):
        starts = windows_start(form, step)
        rows = [np.split(o, options.windows) if options.windows > 1 else [o] for o in found[step]]
        for window, start in enumerate(starts):
            cut = np.take(frames, range(start, start + network.window), axis=place)
            for got, want in zip(rows, reference.run(None, {network.frames: cut}), strict=True):
                same(got[window], want)
    return form


def count_macs(plan: CausalPlan) -> int:
    """Multiply-accumulates of a step, counted position by position from the outputs back: (window, position) at the
    ends of windows and where nothing is kept, and the frame of everything else.
    """
    network, options = plan.network, plan.options
    segment = {name: one for one in options.segments for name in one.nodes}
    wanted: dict[str, set[tuple[int | None, int]]] = {name: set() for name in network.tensors}
    for name in network.outputs:
        _want_windows(wanted[name], plan, name, range(network.tensors[name].length), range(options.windows))
    total = 0
    for node in reversed(network.nodes):
        readers = {n.name: n for n in network.nodes if set(n.reads) & set(node.writes)}
        mine = segment.get(node.name)
        alone = mine is not None and mine.recompute and not set(node.writes) & set(network.outputs)
        inner = alone and all(segment.get(name) is mine for name in readers)
        held = plan.tensors.get(node.writes[0])
        mades: set[tuple[int | None, int]] = set().union(*(wanted[name] for name in node.writes))
        if held is not None and held.streams and not inner and any(window is None for window, _ in mades):
            # each step computes as many as it has frames on the grid, however many are read of those before it
            newest = max(at for window, at in mades if window is None)
            mades = {one for one in mades if one[0] is not None}
            mades |= {(None, newest - i * held.grid) for i in range(options.frames // held.grid)}
        if held is None or not held.streams or node.window is None:
            windows = {window for window, _ in mades}
            mades = {(window, at) for window in windows for at in range(network.tensors[node.writes[0]].length)}
            for name in node.reads:
                length = network.tensors[name].length
                _want_windows(wanted[name], plan, name, range(length), [w for w in windows if w is not None])
        else:
            _want_reads(wanted, plan, node, mades)
        total += node.macs * len(mades) // network.tensors[node.writes[0]].length
    return total


def _want_windows(
    wanted: set[tuple[int | None, int]], plan: CausalPlan, name: str, positions: Iterable[int], windows: Iterable[int]
) -> None:
    """Positions of windows: by the frame where they are computed once."""
    tensor, held = plan.network.tensors[name], plan.tensors.get(name)
    for window in windows:
        for at in positions:
            if held is None or not held.streams or not held.left <= at < tensor.length - held.right:
                wanted.add((window, at))
            else:
                wanted.add((None, tensor.stride * at + plan.options.hop * (window - plan.options.windows + 1)))


def _want_reads(
    wanted: dict[str, set[tuple[int | None, int]]], plan: CausalPlan, node: TimedNode, made: set[tuple[int | None, int]]
) -> None:
    """What positions of a node that streams read; the ends of windows are computed together."""
    assert node.window is not None
    reach, held, length = node.window, plan.tensors[node.writes[0]], plan.network.tensors[node.writes[0]].length
    ends = {(w, at < held.left) for w, at in made if w is not None}
    for window, start in ends:
        made |= {(window, at) for at in (range(held.left) if start else range(length - held.right, length))}
    for name in node.reads:
        source = plan.network.tensors[name]
        for frame in [at for window, at in made if window is None]:
            for tap in range(reach.kernel):
                wanted[name].add((None, frame + source.stride * (reach.lo + tap * reach.dilation)))
        for window, start in ends:
            assert window is not None
            lo, hi = (0, held.left) if start else (length - held.right, length)
            read = range(
                max(0, reach.stride * lo + reach.lo), min(source.length, reach.stride * (hi - 1) + reach.hi + 1)
            )
            _want_windows(wanted[name], plan, name, read, [window])
