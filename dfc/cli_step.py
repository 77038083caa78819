"""The options of ``dfc compile`` for networks over time: the schedule of a step of the streaming form."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from dfc.cli_causal import parse_options
from dfc.errors import UsageError

if TYPE_CHECKING:
    from dfc.backend_cost.mapping_store import MappingStore
    from dfc.backend_cost.schedule import Schedule
    from dfc.pipeline import Bindings, InputShapes, ProgressEvent
    from dfc.step_frames import FramesWish

#: codes of this module, with the sentence that docs/errors.md prints for each
CODES: Mapping[str, str] = {"CLI106": "an option that does not go with --time-axis, or that needs it"}
#: frames over which the loads of the first step are shared out unless the user says so
FRAMES = 1000
#: numbers of frames per step that can be asked for at once
MOST_NUMBERS = 32

TimeAxis = Annotated[
    str | None,
    typer.Option(
        metavar="[NAME:]AXIS",
        help="Schedule one step of the model's streaming form: which axis of the input is time, as in dfc causal. "
        "Example: --time-axis H",
    ),
]
Hop = Annotated[int | None, typer.Option(metavar="N", help="With --time-axis: frames from one window to the next; 1.")]
FramesPerStep = Annotated[
    str | None,
    typer.Option(
        metavar="N|N,N|auto[:N]",
        help="With --time-axis: new frames per step, a multiple of the hop; the hop unless given. Of several the "
        "best per frame is taken; auto doubles the hop for as long as energy or time per frame falls, or up to N. "
        "Example: --frames-per-step auto:16",
    ),
]
Padding = Annotated[
    str | None,
    typer.Option(
        "--causal-padding", metavar="exact|stream", help="With --time-axis: as in dfc causal; exact unless given."
    ),
]
Form = Annotated[
    str | None,
    typer.Option(
        metavar="dense|polyphase|auto",
        help="With --time-axis: as in dfc causal; dense unless given. auto chooses for each range of layers, "
        "recomputation among the choices.",
    ),
]
Frames = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help=f"With --time-axis: frames over which the cost of the first step is shared out; {FRAMES:,} unless given.",
    ),
]
DeadlineOption = Annotated[
    str | None,
    typer.Option(
        "--deadline",
        metavar="RATE|TIME",
        help="With --time-axis: what must be kept, as frames per second or as time per step. The best schedule that "
        "keeps it is found; if none does, the fastest. Example: --deadline 30fps",
    ),
]


@dataclass(frozen=True, slots=True)
class StepWish:
    """The options as they were given; None where one was not."""

    time_axis: str | None
    hop: int | None
    frames_per_step: str | None
    padding: str | None
    form: str | None
    frames: int | None
    deadline: str | None

    @property
    def asked(self) -> bool:
        """Whether the schedule of a step is asked for."""
        return self.time_axis is not None

    def check(self, others: Mapping[str, bool]) -> None:
        """Options go together; ``others`` are those that a step does not take, and whether they were given.

        Raises:
            UsageError: CLI106.
        """
        if self.asked:
            for option, given in others.items():
                if given:
                    message = f"{option} is not for one step of a network over time"
                    raise UsageError("CLI106", message, place=option, hint=f"leave {option} or --time-axis out")
            return
        mine = {
            "--hop": self.hop,
            "--frames-per-step": self.frames_per_step,
            "--causal-padding": self.padding,
            "--form": self.form,
            "--frames": self.frames,
            "--deadline": self.deadline,
        }
        for option, value in mine.items():
            if value is not None:
                hint = "say which axis of the input is time, for example --time-axis H"
                raise UsageError("CLI106", f"{option} is for networks over time", place=option, hint=hint)


def parse_frames(text: str | None, hop: int) -> FramesWish:
    """``"4"``, ``"1,2,8"``, ``"auto"`` or ``"auto:16"``; None is a step for every hop.

    Raises:
        UsageError: CLI101.
    """
    from dfc.passes.causal_plan import MOST_WINDOWS
    from dfc.step_frames import FramesWish

    if text is None:
        return FramesWish((hop,))
    words = text.strip()
    automatic = re.fullmatch(r"auto(?::([0-9]{1,9}))?", words)
    if automatic:
        most = hop * MOST_WINDOWS if automatic[1] is None else int(automatic[1])
        if most < hop:
            hint = f"at least as many as the hop, {hop}"
            raise UsageError(
                "CLI101", f"at most {most} frames per step leave no step", place="--frames-per-step", hint=hint
            )
        windows = min(most // hop, MOST_WINDOWS)
        return FramesWish(tuple(hop << n for n in range(windows.bit_length())), while_better=True)
    if not re.fullmatch(r"[0-9]{1,9}(?:\s*,\s*[0-9]{1,9})*", words):
        hint = "a number, several as in 1,2,4, or auto, or auto:16 for at most 16"
        raise UsageError("CLI101", f"{text!r} is no number of frames per step", place="--frames-per-step", hint=hint)
    numbers = tuple(dict.fromkeys(int(one) for one in words.split(",")))
    if len(numbers) > MOST_NUMBERS:
        message = f"{len(numbers)} numbers of frames per step are too many to try"
        raise UsageError("CLI101", message, place="--frames-per-step", hint=f"at most {MOST_NUMBERS}")
    return FramesWish(numbers)


def compile_over_time(
    model: str,
    hw: str,
    wish: StepWish,
    *,
    objective: str,
    stacks: str,
    bind: Bindings,
    input_shape: InputShapes,
    progress: Callable[[ProgressEvent], None],
    store: MappingStore | None,
) -> Schedule:
    """The schedule of a step, as the options ask for it.

    Raises:
        DfcError: what is wrong with the model, the page, the options, or why nothing fits.
    """
    from dfc.backend_cost.mapping_cache import SharedMappings
    from dfc.causal import streaming
    from dfc.frontend.timed import import_timed
    from dfc.hwdsl import load_arch
    from dfc.step_compile import compile_joint, compile_step, parse_step_request
    from dfc.step_frames import best_frames

    hop = 1 if wish.hop is None else wish.hop
    words = wish.padding or "exact", wish.form or "dense", ("auto",)
    counted = FRAMES if wish.frames is None else wish.frames
    parse_options(hop, None, *words)  # before the hop is used
    numbers = parse_frames(wish.frames_per_step, hop)
    asked = {
        frames: (
            parse_options(hop, frames, *words),
            parse_step_request(objective, stacks, counted, wish.deadline, frames),
        )
        for frames in numbers.numbers
    }
    arch = load_arch(hw)
    timed = import_timed(model, time_axis=wish.time_axis, bind=bind, input_shape=input_shape)
    mappings = SharedMappings(store)

    def compiled(frames: int) -> Schedule:
        options, request = asked[frames]
        if wish.form == "auto":
            return compile_joint(model, timed, options, arch, request, progress, mappings)
        return compile_step(model, streaming(timed, options), arch, request, progress, mappings)

    return best_frames(numbers, compiled)
