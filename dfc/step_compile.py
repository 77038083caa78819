"""The story of ``dfc compile --time-axis``: a network over time in, the schedule of a step of its stream out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path

from dfc._version import __version__
from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.mapping_cache import MappingCache, SharedMappings
from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.schedule import (
    SCHEMA,
    Deadline,
    LayerEntry,
    Schedule,
    SegmentInfo,
    StackEntry,
    StepInfo,
    TensorInfo,
)
from dfc.causal import Streaming, form_name, streaming
from dfc.collector import rare_collections
from dfc.errors import InfeasibleError, UsageError
from dfc.frontend.timed import TimedModel
from dfc.hwdsl import Arch
from dfc.ir import Graph
from dfc.passes.causal_plan import CausalOptions, CausalPlan, Form
from dfc.pipeline import ProgressEvent, check_schedule_sums, model_info, named_cuts
from dfc.request import parse_objective
from dfc.scheduling.assemble import Assembler, Tally, proof_note
from dfc.scheduling.joint_search import FormRange
from dfc.scheduling.step_pricer import StepPricer, along_tiles
from dfc.scheduling.step_ranges import StepRanges, best_ranges, placed_together
from dfc.scheduling.step_types import StepOption
from dfc.step_joint import joint

#: codes of this module, with the sentence that docs/errors.md prints for each
CODES: Mapping[str, str] = {
    "CLI105": "--deadline is no time and no frame rate, or --frames no number of frames",
}
#: seconds of each unit of time
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
MOST_FRAMES = 10**12

Progress = Callable[[ProgressEvent], None]


@dataclass(frozen=True, slots=True)
class StepRequest:
    """What the user asks of the schedule of a step, checked.

    stacks:   "auto", "one", "each", or names of layers to cut after.
    frames:   over how many frames the first step's loads are shared out; deadline: as asked, empty for none.
    step_s:   what a step may take.
    on_chip:  whether maps may wait on chip between stacks.
    """

    objective: Objective
    stacks: str
    frames: int
    deadline: str = ""
    step_s: float = inf
    on_chip: bool = True

    def most_cycles(self, arch: Arch) -> float:
        """Cycles that a step may take on a chip."""
        return inf if self.step_s == inf else int(self.step_s * arch.clock_hz * (1 + 1e-12))


@rare_collections()
def compile_joint(
    model: str | Path,
    timed: TimedModel,
    options: CausalOptions,
    arch: Arch,
    request: StepRequest,
    progress: Progress | None = None,
    mappings: SharedMappings | None = None,
) -> Schedule:
    """The best schedule of a step with a form for each range: dense, polyphase or recomputed, chosen with the cuts.

    Raises:
        InfeasibleError, UsageError: as :func:`compile_step`.
    """
    dense, mappings = streaming(timed, options), mappings or SharedMappings()
    cuts = _cuts(along_tiles(dense.resident(), arch)[0], request.stacks)
    teller = None if progress is None else _Teller(progress)

    def tell(at: FormRange, form: Form, cache: MappingCache) -> None:
        if teller:
            teller.tell(at, form.value, cache)

    search = partial(joint, timed, options, arch, mappings=mappings, cuts=cuts, progress=tell)
    goal, fast, limit = request.objective, Objective.LATENCY, request.most_cycles(arch)
    wishes = [(goal, goal, limit), (goal, fast, limit), (fast, fast, inf)]
    for objective, mapped, most in wishes[: 1 if limit == inf else 3]:  # as in _search
        found = search(objective, mapped=mapped, most_cycles=most)
        if found.path.ways:
            break
    else:
        return compile_step(model, dense, arch, request, progress, mappings)
    form = dense if found.plain else streaming(timed, found.options)
    interrupted = found.path.interrupted
    chosen = partial(compile_step, model, form, arch, request, None, mappings, found.cuts)
    try:
        schedule = chosen()
    except KeyboardInterrupt:  # what was chosen is known: only its mappings are worked out again
        schedule, interrupted = chosen(), True
    schedule = replace(schedule, complete=schedule.complete and not interrupted)
    if found.path.complete:
        return schedule
    note = f"the search of forms ended with {found.path.priced} ranges priced of {found.path.ranges}"
    return replace(schedule, notes=(*schedule.notes, note))


def parse_step_request(objective: str, stacks: str, frames: int, deadline: str | None, step_frames: int) -> StepRequest:
    """Check what is asked of a step that takes ``step_frames`` new frames.

    Raises:
        UsageError: CLI001 the objective, CLI105 frames or deadline.
    """
    goal = parse_objective(objective)
    if not 1 <= frames <= MOST_FRAMES:
        message = f"costs cannot be shared out over {frames:,} frames"
        raise UsageError("CLI105", message, place="--frames", hint=f"from 1 to {MOST_FRAMES:,}")
    found = StepRequest(goal, stacks, frames)
    if deadline is None:
        return found
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*(fps|s|ms|us)", deadline.strip())
    number = float(match[1]) if match else 0.0
    if match is None or number <= 0:
        hint = "30fps for a frame rate, 10ms (or s, us) for a step"
        raise UsageError("CLI105", f"{deadline!r} is no deadline", place="--deadline", hint=hint)
    step_s = step_frames / number if match[2] == "fps" else number * _UNITS[match[2]]
    return replace(found, deadline=f"{match[1]}{match[2]}", step_s=step_s)


@rare_collections()
def compile_step(
    model: str | Path,
    streaming: Streaming,
    arch: Arch,
    request: StepRequest,
    progress: Progress | None = None,
    mappings: SharedMappings | None = None,
    chosen: Mapping[int, int | None] | None = None,
) -> Schedule:
    """The best schedule of a step in the steady state; ``complete`` is false where Ctrl-C ended the search early.

    chosen: layers of the step after which to cut, whatever ``request.stacks`` says, each with the memory in which the
            map waits that is handed over there, None for off chip.

    Raises:
        InfeasibleError: MAP001 where nothing fits.
        UsageError: CLI004, CLI010 where layers to cut after are named wrong.
    """
    resident = streaming.resident()
    graph, arch = along_tiles(resident, arch)
    cuts = _cuts(graph, request.stacks) if chosen is None else list(chosen)
    found, pricer = _search(graph, arch, request, cuts, chosen, progress, mappings or SharedMappings())
    if not found.options:
        why = found.why
        message = "the network" if why is None else str(why)
        hint = "a larger memory would make it fit" if why is None else why.hint
        raise InfeasibleError("MAP001", f"a step does not fit: {message}", place=arch.name, hint=hint)
    options = placed_together(pricer, found.options)
    maker = Assembler(pricer.pricer)
    total, stacks, layers = Tally(), list[StackEntry](), list[LayerEntry]()
    for number, option in enumerate(options):
        here = Tally()
        for index, tally in maker.layer_tallies(option.cost).items():
            layers.append(maker.layer_entry(index, number, tally))
            here.merge(tally)
        stacks.append(maker.stack_entry(option.cost, here, None))
        total.merge(here)
    costs = [option.cost for option in options]
    schedule = Schedule(
        schema=SCHEMA,
        generator=f"dfc {__version__}",
        model=model_info(graph, Path(model)),
        hw=maker.hardware(),
        objective=request.objective.value,
        cost_model=EXACT.name,
        complete=not found.interrupted,
        totals=maker.totals(layers, total),
        layer_by_layer=None,
        coverage=maker.coverage(),
        stacks=tuple(stacks),
        layers=tuple(layers),
        notes=(
            *_turned(resident, graph),
            *_notes(streaming, graph, found),
            *filter(None, [proof_note(costs, request.objective)]),
        ),
        off_chip=maker.off_chip(costs),
        step=_step(streaming, graph, arch, options, request),
    )
    check_schedule_sums(schedule)
    return schedule


def _search(
    graph: Graph,
    arch: Arch,
    request: StepRequest,
    cuts: Sequence[int] | None,
    levels: Mapping[int, int | None] | None,
    progress: Progress | None,
    mappings: SharedMappings,
) -> tuple[StepRanges, StepPricer]:
    """The best stacks that keep the deadline; the fastest where none does."""
    most_cycles = request.most_cycles(arch)
    pricer = StepPricer(graph, arch, mappings.of(arch, request.objective))

    def search(one: StepPricer, objective: Objective, most: float) -> StepRanges:
        teller = None if progress is None else _Teller(progress)

        def tell(first: int, end: int) -> None:
            if teller:
                teller.tell(FormRange(one.graph, range(first, end)), "in every step", one.pricer.cache)

        best = partial(best_ranges, one, objective, cuts=cuts, most_cycles=most, progress=tell, on_chip=request.on_chip)
        found = best(levels=levels)
        return found if found.options or levels is None else best()

    found = search(pricer, request.objective, most_cycles)
    if found.options or most_cycles == inf:
        return found, pricer
    fast = StepPricer(graph, arch, mappings.of(arch, Objective.LATENCY))
    for objective, most in ((request.objective, most_cycles), (Objective.LATENCY, inf)):
        found = search(fast, objective, most)
        if found.options:
            break
    return found, fast


def _cuts(graph: Graph, stacks: str) -> list[int] | None:
    """The layers after which the user wants cuts; None leaves it open."""
    if stacks == "auto":
        return None
    if stacks in ("one", "each"):
        return list(range(len(graph.layers))) if stacks == "each" else []
    return named_cuts(graph, stacks)


class _Teller:
    """Tells the progress of a search of ranges."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.done = 0

    def tell(self, at: FormRange, how: str, cache: MappingCache) -> None:
        """That a range is priced."""
        self.done += 1
        layers = at.graph.layers
        names = tuple(layers[i].name for i in at.layers)
        counts = (self.done, None, None, cache.solved, cache.recalled)
        self.progress(ProgressEvent(at.layers[0], len(layers), names, how, *counts))


def _step(
    streaming: Streaming, graph: Graph, arch: Arch, options: Sequence[StepOption], request: StepRequest
) -> StepInfo:
    plan = streaming.step.plan
    asked = plan.options
    energy, cycles = sum(o.energy_pj for o in options), sum(o.latency_cycles for o in options)
    first = sum(o.first_energy_pj for o in options), sum(o.first_cycles for o in options)
    steps = -(-request.frames // asked.frames)
    every = [b for o in options for b in o.cost.stay if b.steps]
    # a map that one stack hands to the next is the same in both
    lasting = list({(b.memory, b.address_bits, b.what, b.name): b for b in every}.values())
    weights = sum(b.bits for b in lasting if b.what == "weights")
    takes = cycles / arch.clock_hz
    shapes = streaming.timed.graph.tensors
    assert graph.time is not None or all(b.what == "weights" for b in lasting)
    return StepInfo(
        axis="" if graph.time is None else graph.time.name.lower(),
        window_frames=plan.network.window,
        hop_frames=asked.hop,
        frames=asked.frames,
        windows=asked.windows,
        padding="stream" if asked.stream else "exact",
        form=form_name(asked),
        warm_up_steps=plan.warm_up_steps,
        latency_frames=plan.latency_frames,
        ring_bits=sum(b.bits for b in lasting) - weights,
        weight_bits=weights,
        first_energy_pj=first[0],
        first_cycles=first[1],
        counted_frames=request.frames,
        amortised_energy_pj=(first[0] + steps * energy) / request.frames,
        amortised_cycles=(first[1] + steps * cycles) / request.frames,
        deadline=Deadline(request.deadline, request.step_s, takes) if request.deadline else None,
        time_axis=f"{plan.network.frames}:{plan.network.tensors[plan.network.frames].axis}",
        inputs=tuple(TensorInfo(n, shapes[n].shape, shapes[n].bits) for n in plan.network.inputs),
        segments=tuple(_segments(plan)),
    )


def _segments(plan: CausalPlan) -> Iterator[SegmentInfo]:
    """The ranges that have a form of their own, their nodes in the order in which they run."""
    nodes = [node.name for node in plan.network.nodes]
    for segment in plan.options.segments:
        forms = ["recomputed"] * segment.recompute + ["polyphase"] * segment.polyphase
        yield SegmentInfo(" ".join(forms) or "dense", tuple(name for name in nodes if name in segment.nodes))
    rest = tuple(name for name in nodes if name not in plan.segment)
    if plan.options.polyphase and plan.options.segments and rest:
        yield SegmentInfo("polyphase", rest)


def _turned(resident: Graph, graph: Graph) -> list[str]:
    if resident.time is graph.time:
        return []
    return ["T and Y have changed places: time, the model's T, is y here, and what the model has along Y is t"]


def _notes(streaming: Streaming, graph: Graph, found: StepRanges) -> list[str]:
    notes = list(graph.notes)
    if streaming.step.plan.options.stream:
        notes.append("padding in time is left away: results are not those of the model on single windows")
    for segment in streaming.step.plan.options.segments:
        layers = [n.name for n in streaming.timed.network.nodes if n.name in segment.nodes and n.slides]
        if segment.recompute and layers:
            notes.append(f"nothing is kept between {layers[0]} and {layers[-1]}: they are recomputed in every step")
    moved = [state.read for state in streaming.step.states if state.read in graph.inputs]
    if moved:
        notes.append(f"{len(moved)} states are moved off chip and back in every step: {', '.join(moved[:4])}")
    if any(name in graph.past for name in graph.outputs):
        notes.append("of outputs with a time axis a step hands out what is new")
    if found.tried < found.legal:
        notes.append(f"cuts were tried in {found.tried} of {found.legal} places: where least is handed over")
    return notes
