"""``dfc causal``: a network over time as its streaming form, and what that keeps and computes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfc.cli_options import Bind, CausalPadding, FramesPerStep, Hop, InputShape, TimeAxis
from dfc.cli_output import diagnose, say
from dfc.errors import UsageError

if TYPE_CHECKING:
    from dfc.passes.causal_plan import CausalOptions

#: codes of this module, with the sentence that docs/errors.md prints for each
CODES: Mapping[str, str] = {
    "CLI101": "--hop or --frames-per-step is not a number of frames that goes with the other",
    "CLI103": "--causal-padding or --form is none of its words",
}


def causal_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The network: an ONNX file.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write the streaming form as an ONNX model."),
    ] = None,
    time_axis: TimeAxis = None,
    hop: Hop = 1,
    padding: CausalPadding = "exact",
    form: Annotated[
        str,
        typer.Option(
            metavar="dense|polyphase", help="Strides in time as dilations, or as undilated streams that take turns."
        ),
    ] = "dense",
    frames_per_step: FramesPerStep = None,
    bind: Bind = None,
    input_shape: InputShape = None,
) -> None:
    """Turn a network that looks at a window of frames into one that takes new frames and keeps what it needs.

    Prints what it keeps and computes; with -o the streaming form is written, which runs by itself in ONNX Runtime.

    Example:  dfc causal model.onnx -o streaming.onnx --time-axis H
    """
    from dfc.cli_values import parse_bindings, parse_input_shapes
    from dfc.files import check_folder, write_file

    options = parse_options(hop, frames_per_step, padding, form)
    bindings, shapes = parse_bindings(bind or ()), parse_input_shapes(input_shape or ())
    if out is not None:
        check_folder(out.parent)
    from dfc.causal import causal
    from dfc.causal_text import render_causal

    found = causal(model, options, time_axis=time_axis, bind=bindings, input_shape=shapes)
    say(render_causal(found))
    if out is not None:
        write_file(out, found.model())
        diagnose(f"wrote {out}")


def parse_options(
    hop: int, frames_per_step: int | None, padding: str, form: str, more: tuple[str, ...] = ()
) -> CausalOptions:
    """The options of the transform, checked; ``more`` words that the caller knows for the form.

    Raises:
        UsageError: CLI101 the frames, CLI103 the words.
    """
    from dfc.passes.causal_plan import MOST_FRAMES, MOST_WINDOWS, CausalOptions

    if not 1 <= hop <= MOST_FRAMES:
        hint = f"from 1 to {MOST_FRAMES:,}"
        raise UsageError("CLI101", f"a hop of {hop} frames is not possible", place="--hop", hint=hint)
    frames = hop if frames_per_step is None else frames_per_step
    if frames < 1 or frames % hop or frames // hop > MOST_WINDOWS:
        hint = f"a multiple of the hop, {hop}; at most {MOST_WINDOWS} times as much"
        message = f"a step of {frames} frames is not possible"
        raise UsageError("CLI101", message, place="--frames-per-step", hint=hint)
    for option, word, known in (
        ("--causal-padding", padding, ("exact", "stream")),
        ("--form", form, ("dense", "polyphase", *more)),
    ):
        if word not in known:
            raise UsageError("CLI103", f"{option} knows no {word!r}", place=option, hint=f"one of {', '.join(known)}")
    return CausalOptions(hop, frames // hop, padding == "stream", form == "polyphase")
