"""A causal transform as a picture: the frames of every tensor's positions, before and after."""

# matplotlib's own types are incomplete
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dfc.causal import Streaming
from dfc.figure_draw import COLOURS, picture
from dfc.figures import Value
from dfc.ir import PER_POSITION, TimedNode, TimedTensor
from dfc.passes.causal_plan import CausalPlan, TensorPlan
from dfc.report_table import clean

if TYPE_CHECKING:
    from dfc.figure_draw import Axes, Figure

#: colour and meaning of positions
_POSITIONS = (
    (COLOURS[5], "computed for every window"),
    (COLOURS[0], "kept from earlier steps"),
    (COLOURS[6], "computed in this step alone"),
)


@dataclass(frozen=True, slots=True)
class Track:
    """One tensor along time, in frames of the newest window.

    before:  its positions in a window; touched: those of them that are computed for every window.
    kept, new: what is there from earlier steps, and what a step adds.
    reads:   the frames of its input that its last position reads; once in the window and once in the step.
    """

    name: str
    before: tuple[int, ...]
    touched: tuple[int, ...]
    kept: tuple[int, ...]
    new: tuple[int, ...]
    reads: tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Tracks:
    """The input and every layer that slides or has multiply-accumulates, with what was asked."""

    network: str
    asked: str
    tracks: tuple[Track, ...]


def tracks(found: Streaming) -> Tracks:
    """The picture's numbers."""
    plan = found.step.plan
    options = plan.options
    asked = f"hop {options.hop}, {options.frames} new frame{'s' if options.frames > 1 else ''} per step"
    return Tracks(plan.network.name, asked, tuple(_tracks(plan)))


def _tracks(plan: CausalPlan) -> Iterator[Track]:
    """A layer is drawn with the longest past that is kept of it or of the element-wise work on it."""
    network = plan.network
    longest = dict(plan.tensors)
    for node in reversed(network.nodes):
        if _drawn(plan, node) or node.window != PER_POSITION or len(node.reads) != 1:
            continue
        mine, theirs = (longest[name] for name in (node.writes[0], node.reads[0]))
        if mine.past > theirs.past and (mine.grid, mine.end) == (theirs.grid, theirs.end):
            longest[node.reads[0]] = replace(theirs, past=mine.past)
    yield _track(network.tensors[network.frames], longest[network.frames], network.frames, ((), ()))
    for node in network.nodes:
        if _drawn(plan, node):
            held = longest[node.writes[0]]
            source, tensor = network.tensors[node.reads[0]], network.tensors[node.writes[0]]
            last = tensor.length - 1 - held.right if held.streams else tensor.length - 1
            window = _reads(node, source, tensor.stride * last, source.stride * (source.length - 1))
            step = _reads(node, source, held.end, plan.newest) if held.streams else ()
            yield _track(tensor, held, node.name, (window, step))


def _drawn(plan: CausalPlan, node: TimedNode) -> bool:
    return node.writes[0] in plan.tensors and node.window is not None and (node.slides or node.macs > 0)


def _reads(node: TimedNode, source: TimedTensor, frame: int, last: int) -> tuple[int, ...]:
    assert node.window is not None
    lo, apart = node.window.lo, node.window.dilation
    frames = (frame + source.stride * (lo + apart * tap) for tap in range(node.window.kernel))
    return tuple(f for f in frames if f <= last)


def _track(tensor: TimedTensor, held: TensorPlan, name: str, reads: tuple[tuple[int, ...], tuple[int, ...]]) -> Track:
    frames = range(0, tensor.stride * tensor.length, tensor.stride)
    touched = (*frames[: held.left], *frames[tensor.length - held.right :])
    if not held.streams:
        return Track(name, tuple(frames), tuple(frames), (), (), reads)
    if held.inner is not None:
        return Track(name, tuple(frames), touched, (), held.inner, reads)
    oldest = held.end - (held.past + held.new - 1) * held.grid
    grid = range(oldest, held.end + 1, held.grid)
    return Track(name, tuple(frames), touched, tuple(grid[: held.past]), tuple(grid[held.past :]), reads)


def track_rows(found: Tracks) -> list[dict[str, Value]]:
    """A row per tensor: how many positions of which kind."""
    return [
        {
            "layer": t.name,
            "positions_in_window": len(t.before),
            "computed_per_window": len(t.touched),
            "kept": len(t.kept),
            "new_per_step": len(t.new),
        }
        for t in found.tracks
    ]


def draw_tracks(found: Tracks, kind: str) -> bytes:
    """Every layer along time: above in the model's window, below in the streaming form; and what one output reads."""
    rows = found.tracks
    frames = [f for t in rows for f in (*t.before, *t.kept, *t.new)]

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, sharey=True)
        for axes, part in ((above, 0), (below, 1)):
            for place, track in enumerate(rows):
                _positions(axes, place, track, streaming=bool(part))
                newest = max((track.before, track.new)[part], default=None)
                reads = track.reads[part] if place else ()
                if part == 0 and place and track.touched and reads:
                    newest = max((f for f in track.before if f not in track.touched), default=newest)
                for frame in reads if newest is not None else ():
                    axes.plot([frame, newest], [place - 1, place], color="#888888", linewidth=0.7, zorder=1)
            axes.set_yticks(range(len(rows)), [clean(t.name) for t in rows])
            axes.set_xlim(min(frames) - 1, max(frames) + 1)
        above.set_title(f"{clean(found.network)}: what the model computes for every window")
        below.set_title(f"its streaming form, one step: {found.asked}")
        below.set_xlabel("frame, counted from the start of the newest window")
        handles = [above.scatter([], [], s=16, color=colour, label=label) for colour, label in _POSITIONS]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)

    return picture((10.0, 2.4 + 0.5 * len(rows)), kind, draw)


def _positions(axes: Axes, place: int, track: Track, *, streaming: bool) -> None:
    (again, _), (kept, _), (new, _) = _POSITIONS
    parts = ((track.kept, kept), (track.new, new), (track.touched, again)) if streaming else ((track.before, again),)
    for frames, colour in parts:
        axes.scatter(list(frames), [place] * len(frames), s=14, color=colour, zorder=2)
