"""The streaming form that a schedule of a step was made from, by what its file says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from dfc.backend_cost.schedule import SegmentInfo, StepInfo
from dfc.causal import Streaming, form_name, streaming
from dfc.errors import UsageError
from dfc.frontend.timed import TimedModel, import_timed
from dfc.passes.causal_plan import MOST_FRAMES, MOST_WINDOWS, CausalOptions, Segment

#: codes of this module, with the sentence that docs/errors.md prints for each
CODES: Mapping[str, str] = {
    "CLI086": "what a schedule says of its step is missing, impossible, or not what the model has",
}
_PADDINGS = ("exact", "stream")
_FORMS = ("dense", "polyphase", "mixed")
_SEGMENTS = ("dense", "polyphase", "recomputed", "recomputed polyphase")


def streaming_of(step: StepInfo, model: Path, place: str) -> Streaming:
    """The streaming form; ``place`` is the schedule's file, for messages.

    Raises:
        UsageError: CLI086.
        ModelError: a model that cannot be read.
    """
    if not step.time_axis or not step.inputs:
        _wrong("the schedule does not say which axis of the model is time", place)
    timed = _timed(step, model, place)
    options = _options(step, timed, place)
    found = streaming(timed, options)
    plan = found.step.plan
    for name, said, meant in (
        ("window_frames", step.window_frames, timed.network.window),
        ("warm_up_steps", step.warm_up_steps, plan.warm_up_steps),
        ("latency_frames", step.latency_frames, plan.latency_frames),
    ):
        if said != meant:
            _wrong(f"'step' has {name} {said:,}, the model's streaming form {meant:,}", place)
    return found


def _timed(step: StepInfo, model: Path, place: str) -> TimedModel:
    try:
        return import_timed(model, time_axis=step.time_axis, input_shape={t.name: t.shape for t in step.inputs})
    except UsageError as error:
        _wrong(error.message, place, error.hint)


def _options(step: StepInfo, timed: TimedModel, place: str) -> CausalOptions:
    """What was asked of the transform."""
    hop, windows = step.hop_frames, step.windows
    if not (1 <= hop <= MOST_FRAMES and 1 <= windows <= MOST_WINDOWS and step.frames == hop * windows):
        _wrong(f"'step' has {step.frames:,} frames in {windows:,} windows with hop {hop:,}", place)
    for name, word, known in (("padding", step.padding, _PADDINGS), ("form", step.form, _FORMS)):
        if word not in known:
            _wrong(f"'step' has {name} {word!r}; it is one of {', '.join(known)}", place)
    segments = tuple(_segments(step.segments, timed, place))
    found = CausalOptions(hop, windows, step.padding == "stream", step.form == "polyphase", segments)
    if form_name(found) != step.form:
        _wrong(f"'step' has form {step.form!r} and {len(segments)} segments", place)
    return found


def _segments(segments: tuple[SegmentInfo, ...], timed: TimedModel, place: str) -> Iterator[Segment]:
    left = {node.name for node in timed.network.nodes}
    for segment in segments:
        for name in segment.nodes:
            if name not in left:
                _wrong(f"node '{name}' of a segment is none of the model's, or is in two of them", place)
            left.remove(name)
        if segment.form not in _SEGMENTS:
            _wrong(f"a segment has form {segment.form!r}; it is one of {', '.join(_SEGMENTS)}", place)
        yield Segment(frozenset(segment.nodes), "polyphase" in segment.form, "recomputed" in segment.form)


def _wrong(message: str, place: str, hint: str | None = None) -> NoReturn:
    raise UsageError("CLI086", message, place=place, hint=hint or "compile the model again")
