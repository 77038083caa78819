"""``dfc figure``: heat maps, shares, architectures, tiles and memories, as a picture with its numbers beside it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfc.cli_options import (
    Bind,
    Cache,
    CausalPadding,
    CostModel,
    FramesPerStep,
    Hop,
    Hw,
    InputShape,
    Model,
    NoCache,
    Reproduce,
    ScheduleFile,
    Stacks,
    TileClass,
    TimeAxis,
)
from dfc.cli_output import diagnose, status
from dfc.errors import UsageError

if TYPE_CHECKING:
    from dfc.backend_cost.schedule import Schedule
    from dfc.figure_memory import TileMemories
    from dfc.figure_tile import TileRegions
    from dfc.figures import Sweep, Sweeper, Value
    from dfc.request import Request

#: codes of this module, with the sentence that docs/errors.md prints for each
CODES: Mapping[str, str] = {
    "CLI072": "sizes of tiles are not written as numbers with commas",
    "CLI073": "--format is no kind of picture",
}
MOST_SIZES = 40
_SIZES = re.compile(r"0*[1-9][0-9]{0,8}( *, *0*[1-9][0-9]{0,8})*")

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Draw energy and latency over tiles or accelerators, and a schedule's tiles. Needs matplotlib.",
)

_Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the picture, a .csv and a .json file.")
]
_X = Annotated[
    str | None,
    typer.Option(
        metavar="SIZES", help="Widths of tiles; a map in 1, 4, 16, ... parts unless given. Example: --tiles-x 1,4,16,60"
    ),
]
_Y = Annotated[str | None, typer.Option(metavar="SIZES", help="Heights of tiles. Example: --tiles-y 1,4,18,72")]
_Small = Annotated[bool, typer.Option("--small", help="At most three sizes along each axis, for a quick look.")]
_Objective = Annotated[
    str, typer.Option(metavar="energy|latency|edp", help="What each layer's mapping has least of, as in dfc compile.")
]
_Stack = Annotated[
    int | None, typer.Option("--stack", metavar="N", help="Which stack, from 0; that of most layers unless given.")
]
_Format = Annotated[str, typer.Option("--format", metavar="png|svg", help="The kind of picture.")]
_DataOnly = Annotated[bool, typer.Option("--data-only", help="Write the numbers alone; needs no matplotlib.")]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


@dataclass(frozen=True, slots=True)
class _Output:
    """Where a figure goes, and in which form."""

    folder: Path
    kind: str
    data_only: bool
    quiet: bool

    def check(self) -> None:
        """Find out what will not work before the long part begins.

        Raises:
            UsageError: CLI073, CLI071, or CLI030 and CLI031 of the folder.
        """
        from dfc.files import check_folder

        if self.kind not in ("png", "svg"):
            message = f"no kind of picture is called {self.kind!r}"
            raise UsageError("CLI073", message, place="--format", hint="png or svg")
        check_folder(self.folder)
        if not self.data_only:
            from dfc.figure_draw import check_drawing

            check_drawing()

    @property
    def report(self) -> Callable[[str], None] | None:
        """Shows what is being priced on one line of a terminal."""
        return None if self.quiet or not sys.stderr.isatty() else status

    def write(
        self, name: str, about: Mapping[str, str], rows: Sequence[Mapping[str, Value]], draw: Callable[[str], bytes]
    ) -> None:
        """Write the numbers, and the picture, which ``draw`` makes of the wanted kind."""
        from dfc.figures import as_csv, as_json
        from dfc.files import write_files

        files: dict[str, str | bytes] = {f"{name}.csv": as_csv(rows), f"{name}.json": as_json(name, about, rows)}
        if not self.data_only:
            files[f"{name}.{self.kind}"] = draw(self.kind)
        write_files(self.folder, files)
        if not self.quiet:
            diagnose(f"wrote {' and '.join(str(self.folder / file) for file in files)}")


@app.command("heatmaps", short_help="Energy and latency over tile sizes, in three modes.")
def heat_maps_command(
    model: Model,
    hw: Hw,
    out: _Out = Path("figures"),
    tiles_x: _X = None,
    tiles_y: _Y = None,
    small: _Small = False,
    stacks: Stacks = "auto",
    objective: _Objective = "energy",
    cost_model: CostModel = None,
    reproduce: Reproduce = None,
    bind: Bind = None,
    input_shape: InputShape = None,
    cache: Cache = None,
    no_cache: NoCache = False,
    kind: _Format = "png",
    data_only: _DataOnly = False,
    quiet: _Quiet = False,
) -> None:
    """Draw energy and latency of a network for every tile size and mode, as figure 12 of the DeFiNES paper.

    Example:  dfc figure heatmaps model.onnx --hw meta_proto_df
    """
    output = _Output(out, kind, data_only, quiet)
    sizes = _sizes(tiles_x, "--tiles-x"), _sizes(tiles_y, "--tiles-y")
    output.check()
    request = _request(objective, stacks, cost_model, reproduce)
    from dfc.figure_draw import heat_maps
    from dfc.figures import heat_map_plans, sweep_rows

    with _sweeper(model, hw, request, bind, input_shape, (cache, no_cache), quiet=quiet) as sweeper:
        found = sweeper.sweep(heat_map_plans(*sweeper.sizes(*sizes, small=small)), output.report)
    output.write("heatmaps", _about_sweep(found), sweep_rows(found), partial(heat_maps, found))


@app.command("shares", short_help="Shares of energy by memory and operand, along tile sizes.")
def shares_command(
    model: Model,
    hw: Hw,
    out: _Out = Path("figures"),
    tiles_x: _X = None,
    tiles_y: _Y = None,
    small: _Small = False,
    stacks: Stacks = "auto",
    objective: _Objective = "energy",
    cost_model: CostModel = None,
    reproduce: Reproduce = None,
    bind: Bind = None,
    input_shape: InputShape = None,
    cache: Cache = None,
    no_cache: NoCache = False,
    kind: _Format = "png",
    data_only: _DataOnly = False,
    quiet: _Quiet = False,
) -> None:
    """Draw what share each memory and operand has in energy along the tile diagonal, as figures 13 to 15 there.

    Example:  dfc figure shares model.onnx --hw meta_proto_df
    """
    output = _Output(out, kind, data_only, quiet)
    sizes = _sizes(tiles_x, "--tiles-x"), _sizes(tiles_y, "--tiles-y")
    output.check()
    request = _request(objective, stacks, cost_model, reproduce)
    from dfc.figure_draw import shares
    from dfc.figures import diagonal_plans, share_rows

    with _sweeper(model, hw, request, bind, input_shape, (cache, no_cache), quiet=quiet) as sweeper:
        found = sweeper.sweep(diagonal_plans(*sweeper.sizes(*sizes, small=small)), output.report)
    output.write("shares", _about_sweep(found), share_rows(found), partial(shares, found))


@app.command("architectures", short_help="Networks on accelerators, layer by layer and depth-first.")
def architectures_command(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="The networks: ONNX files.")],
    hw: Annotated[
        list[str] | None,
        typer.Option("--hw", metavar="HW", help="An accelerator, once for each; all of the library unless given."),
    ] = None,
    out: _Out = Path("figures"),
    small: Annotated[bool, typer.Option("--small", help="The first two accelerators alone, for a quick look.")] = False,
    objective: _Objective = "energy",
    cost_model: CostModel = None,
    reproduce: Reproduce = None,
    baselines: Annotated[
        str, typer.Option(metavar="auto|all", help="all also draws the best schedule with one tile size.")
    ] = "auto",
    cache: Cache = None,
    no_cache: NoCache = False,
    kind: _Format = "png",
    data_only: _DataOnly = False,
    quiet: _Quiet = False,
) -> None:
    """Compare accelerators: every network on each, layer by layer and depth-first.

    With --reproduce defines, depth-first is the best with one tile size for the whole network, as in the paper.

    Example:  dfc figure architectures fsrcnn.onnx mc_cnn.onnx --hw tpu_like --hw tpu_like_df
    """
    output = _Output(out, kind, data_only, quiet)
    output.check()
    request = _request(objective, "auto", cost_model, reproduce, baselines)
    from dfc.cli_cache import cache_of_run
    from dfc.cli_values import cache_folder
    from dfc.figure_draw import architectures
    from dfc.figures import compare_architectures, comparison_rows
    from dfc.hwdsl import library
    from dfc.pipeline import import_graph

    kept = cache_folder(cache, off=no_cache)
    graphs = {Path(m): import_graph(m) for m in models}
    chips = (hw or library())[: 2 if small else None]
    with cache_of_run(kept, quiet=quiet) as store:
        found = compare_architectures(graphs, chips, request, output.report, store)
    about = {"cost_model": found.cost_model, "rules": found.policy}
    output.write("architectures", about, comparison_rows(found), partial(architectures, found))


@app.command("memory", short_help="What lies where in memories while a tile of a schedule runs.")
def memory_command(
    schedule: ScheduleFile,
    out: _Out = Path("figures"),
    stack: _Stack = None,
    tile_class: TileClass = None,
    memory: Annotated[
        list[str] | None,
        typer.Option("--memory", metavar="NAME", help="A memory, once for each; those with maps or weights otherwise."),
    ] = None,
    kind: _Format = "png",
    data_only: _DataOnly = False,
    quiet: _Quiet = False,
) -> None:
    """Draw the buffers of every memory over addresses and over the layers of a stack, for one class of tiles.

    Example:  dfc figure memory fsrcnn.dfc
    """
    output = _Output(out, kind, data_only, quiet)
    output.check()
    from dfc.figure_memory import memory_maps, memory_rows, tile_memories

    read, place = _read(schedule)
    found = tile_memories(read, place, stack, tile_class, memory or ())
    output.write("memory", _about_tile(found), memory_rows(found), partial(memory_maps, found))


@app.command("tile", short_help="What a tile of a schedule computes of each map, and what earlier tiles left of it.")
def tile_command(
    schedule: ScheduleFile,
    out: _Out = Path("figures"),
    stack: _Stack = None,
    tile_class: TileClass = None,
    kind: _Format = "png",
    data_only: _DataOnly = False,
    quiet: _Quiet = False,
) -> None:
    """Draw the regions of a stack's maps, to scale, that one tile of a class computes or finds in caches.

    Example:  dfc figure tile fsrcnn.dfc
    """
    output = _Output(out, kind, data_only, quiet)
    output.check()
    from dfc.figure_tile import region_rows, regions, tile_regions

    found = tile_regions(*_read(schedule), stack, tile_class)
    output.write("tile", _about_tile(found), region_rows(found), partial(regions, found))


@app.command("causal", short_help="A network over time before and after the causal transform.")
def causal_figure_command(
    model: Model,
    out: _Out = Path("figures"),
    time_axis: TimeAxis = None,
    hop: Hop = 1,
    padding: CausalPadding = "exact",
    frames_per_step: FramesPerStep = None,
    bind: Bind = None,
    input_shape: InputShape = None,
    kind: _Format = "png",
    data_only: _DataOnly = False,
    quiet: _Quiet = False,
) -> None:
    """Draw which positions of every layer a window has, and which the streaming form keeps and computes.

    Example:  dfc figure causal model.onnx --time-axis H
    """
    from dfc.cli_causal import parse_options
    from dfc.cli_values import parse_bindings, parse_input_shapes

    options = parse_options(hop, frames_per_step, padding, "dense")
    bindings, shapes = parse_bindings(bind or ()), parse_input_shapes(input_shape or ())
    output = _Output(out, kind, data_only, quiet)
    output.check()
    from dfc.causal import causal
    from dfc.figure_causal import draw_tracks, track_rows, tracks

    found = tracks(causal(model, options, time_axis=time_axis, bind=bindings, input_shape=shapes))
    about = {"model": found.network, "asked": found.asked}
    output.write("causal", about, track_rows(found), partial(draw_tracks, found))


def _read(schedule: Path) -> tuple[Schedule, str]:
    """The schedule that a path names, and what it is called in messages."""
    from dfc.backend_cost.schedule import Schedule
    from dfc.cli_values import schedule_file
    from dfc.files import read_text

    path = schedule_file(schedule)
    return Schedule.from_json(read_text(path), str(path)), str(path)


def _about_tile(found: TileMemories | TileRegions) -> dict[str, str]:
    return {"model": found.model, "stack": str(found.stack), "tile_class": str(found.tile_class)}


def _about_sweep(found: Sweep) -> dict[str, str]:
    return {"model": found.model, "hw": found.hw, "cost_model": found.cost_model, "rules": found.policy}


def _sizes(text: str | None, option: str) -> tuple[int, ...]:
    """``"1,4,16"`` as numbers.

    Raises:
        UsageError: CLI072.
    """
    if text is None:
        return ()
    found = tuple(map(int, text.split(","))) if _SIZES.fullmatch(text.strip()) else ()
    if not found or len(found) > MOST_SIZES:
        hint = f"for example {option} 1,4,16,60,240,960; at most {MOST_SIZES} of them"
        raise UsageError("CLI072", f"sizes are written as numbers with commas, not {text!r}", place=option, hint=hint)
    return found


def _request(
    objective: str, stacks: str, cost_model: str | None, reproduce: str | None, baselines: str = "auto"
) -> Request:
    from dfc.request import parse_request

    return parse_request(objective, "auto", "auto", stacks, cost_model, reproduce=reproduce, baselines=baselines)


@contextmanager
def _sweeper(
    model: str,
    hw: str,
    request: Request,
    bind: Sequence[str] | None,
    input_shape: Sequence[str] | None,
    cache: tuple[Path | None, bool],
    *,
    quiet: bool,
) -> Generator[Sweeper]:
    """What prices tiles; ``cache`` is where answers are kept, and whether none are."""
    from dfc.cli_cache import cache_of_run
    from dfc.cli_values import cache_folder, parse_bindings, parse_input_shapes
    from dfc.figures import Sweeper
    from dfc.hwdsl import load_arch
    from dfc.pipeline import import_graph

    kept = cache_folder(cache[0], off=cache[1])
    arch = load_arch(hw)
    bindings, shapes = parse_bindings(bind or ()), parse_input_shapes(input_shape or ())
    graph = import_graph(model, bind=bindings, input_shape=shapes)
    with cache_of_run(kept, quiet=quiet) as store:
        yield Sweeper(graph, arch, request, store)
