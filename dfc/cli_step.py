"""The options of ``dfc compile`` for networks over time: the schedule of a step of the streaming form."""

from __future__ import annotations

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

#: codes of this module, with the sentence that docs/errors.md prints for each
CODES: Mapping[str, str] = {"CLI106": "an option that does not go with --time-axis, or that needs it"}
#: frames over which the loads of the first step are shared out unless the user says so
FRAMES = 1000

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
    int | None,
    typer.Option(
        metavar="N", help="With --time-axis: new frames per step, a multiple of the hop; the hop unless given."
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
    frames_per_step: int | None
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
    from dfc.causal import causal
    from dfc.hwdsl import load_arch
    from dfc.step_compile import compile_joint, compile_step, parse_step_request

    hop = 1 if wish.hop is None else wish.hop
    auto = wish.form == "auto"
    options = parse_options(hop, wish.frames_per_step, wish.padding or "exact", wish.form or "dense", ("auto",))
    frames = FRAMES if wish.frames is None else wish.frames
    request = parse_step_request(objective, stacks, frames, wish.deadline, options.frames)
    arch = load_arch(hw)
    streaming = causal(model, options, time_axis=wish.time_axis, bind=bind, input_shape=input_shape)
    if auto:
        return compile_joint(model, streaming.timed, options, arch, request, progress, store)
    return compile_step(model, streaming, arch, request, progress, store)
