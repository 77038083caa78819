"""``dfc figure``: heat maps, shares, architectures, tiles and memories, as a picture with its numbers beside it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfc.cli_output import diagnose, status
from dfc.cli_verify import ScheduleFile
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

_Model = Annotated[str, typer.Argument(metavar="MODEL", help="The network: an ONNX file.", show_default=False)]
_Hw = Annotated[
    str,
    typer.Option(
        "--hw", metavar="HW", help="The accelerator: a .hw page, or a name of the library.", show_default=False
    ),
]
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
_Stacks = Annotated[str, typer.Option(metavar="auto|one|each|LAYERS", help="As in dfc compile.")]
_Cost = Annotated[str | None, typer.Option(metavar="exact|defines", help="As in dfc compile.")]
_Reproduce = Annotated[
    str | None, typer.Option(metavar="defines", help="The published reference's rules, as in dfc compile.")
]
_Objective = Annotated[
    str, typer.Option(metavar="energy|latency|edp", help="What each layer's mapping has least of, as in dfc compile.")
]
_Bind = Annotated[list[str] | None, typer.Option("--bind", metavar="NAME=SIZE", help="As in dfc compile.")]
_InputShape = Annotated[
    list[str] | None, typer.Option("--input-shape", metavar="[NAME:]SIZES", help="As in dfc compile.")
]
_Stack = Annotated[
    int | None, typer.Option("--stack", metavar="N", help="From 0 on; that of most layers unless given.")
]
_TileClass = Annotated[
    int | None, typer.Option("--tile-class", metavar="N", help="From 0 on; that of most tiles unless given.")
]
_Format = Annotated[str, typer.Option("--format", metavar="png|svg", help="The kind of picture.")]
_DataOnly = Annotated[bool, typer.Option("--data-only", help="Write the numbers alone; needs no matplotlib.")]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


@app.command("heatmaps", short_help="Energy and latency over tile sizes, in three modes.")
def heat_maps_command(
    model: _Model,
    hw: _Hw,
    out: _Out = Path("figures"),
    tiles_x: _X = None,
    tiles_y: _Y = None,
    small: _Small = False,
    stacks: _Stacks = "auto",
    objective: _Objective = "energy",
    cost_model: _Cost = None,
    reproduce: _Reproduce = None,
    bind: _Bind = None,
    input_shape: _InputShape = None,
    kind: _Format = "png",
    data_only: _DataOnly = False,
    quiet: _Quiet = False,
) -> None:
    """Draw energy and latency of a network for every tile size and mode, as figure 12 of the DeFiNES paper.

    Example:  dfc figure heatmaps model.onnx --hw meta_proto_df
    """
    sizes = _sizes(tiles_x, "--tiles-x"), _sizes(tiles_y, "--tiles-y")
    _prepare(out, kind, data_only=data_only)
    request = _request(objective, stacks, cost_model, reproduce)
    from dfc.figures import heat_map_plans, sweep_rows

    sweeper = _sweeper(model, hw, request, bind, input_shape)
    found = sweeper.sweep(heat_map_plans(*sweeper.sizes(*sizes, small=small)), _reporter(quiet=quiet))
    _write_sweep(out, "heatmaps", found, sweep_rows(found), "" if data_only else kind, quiet=quiet)


@app.command("shares", short_help="Shares of energy by memory and operand, along tile sizes.")
def shares_command(
    model: _Model,
    hw: _Hw,
    out: _Out = Path("figures"),
    tiles_x: _X = None,
    tiles_y: _Y = None,
    small: _Small = False,
    stacks: _Stacks = "auto",
    objective: _Objective = "energy",
    cost_model: _Cost = None,
    reproduce: _Reproduce = None,
    bind: _Bind = None,
    input_shape: _InputShape = None,
    kind: _Format = "png",
    data_only: _DataOnly = False,
    quiet: _Quiet = False,
) -> None:
    """Draw what share each memory and operand has in energy along the tile diagonal, as figures 13 to 15 there.

    Example:  dfc figure shares model.onnx --hw meta_proto_df
    """
    sizes = _sizes(tiles_x, "--tiles-x"), _sizes(tiles_y, "--tiles-y")
    _prepare(out, kind, data_only=data_only)
    request = _request(objective, stacks, cost_model, reproduce)
    from dfc.figures import diagonal_plans, share_rows

    sweeper = _sweeper(model, hw, request, bind, input_shape)
    found = sweeper.sweep(diagonal_plans(*sweeper.sizes(*sizes, small=small)), _reporter(quiet=quiet))
    _write_sweep(out, "shares", found, share_rows(found), "" if data_only else kind, quiet=quiet)


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
    cost_model: _Cost = None,
    reproduce: _Reproduce = None,
    baselines: Annotated[
        str, typer.Option(metavar="auto|all", help="all also draws the best schedule with one tile size.")
    ] = "auto",
    kind: _Format = "png",
    data_only: _DataOnly = False,
    quiet: _Quiet = False,
) -> None:
    """Compare accelerators: every network on each, layer by layer and depth-first.

    With --reproduce defines, depth-first is the best with one tile size for the whole network, as in the paper.

    Example:  dfc figure architectures fsrcnn.onnx mc_cnn.onnx --hw tpu_like --hw tpu_like_df
    """
    _prepare(out, kind, data_only=data_only)
    request = _request(objective, "auto", cost_model, reproduce, baselines)
    from dfc.figures import as_csv, as_json, compare_architectures, comparison_rows
    from dfc.hwdsl import library
    from dfc.pipeline import import_graph

    graphs = {Path(m): import_graph(m) for m in models}
    chips = (hw or library())[: 2 if small else None]
    found = compare_architectures(graphs, chips, request, _reporter(quiet=quiet))
    rows = comparison_rows(found)
    about = {"cost_model": found.cost_model, "rules": found.policy}
    files: dict[str, str | bytes] = {
        "architectures.csv": as_csv(rows),
        "architectures.json": as_json("architectures", about, rows),
    }
    if not data_only:
        from dfc.figure_draw import architectures

        files[f"architectures.{kind}"] = architectures(found, kind)
    _write(out, files, quiet=quiet)


@app.command("memory", short_help="What lies where in memories while a tile of a schedule runs.")
def memory_command(
    schedule: ScheduleFile,
    out: _Out = Path("figures"),
    stack: _Stack = None,
    tile_class: _TileClass = None,
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
    _prepare(out, kind, data_only=data_only)
    from dfc.figure_memory import memory_maps, memory_rows, tile_memories

    read, place = _read(schedule)
    found = tile_memories(read, place, stack, tile_class, memory or ())
    drawn = None if data_only else memory_maps(found, kind)
    _write_tile(out, "memory", found, memory_rows(found), drawn, kind, quiet=quiet)


@app.command("tile", short_help="What a tile of a schedule computes of each map, and what earlier tiles left of it.")
def tile_command(
    schedule: ScheduleFile,
    out: _Out = Path("figures"),
    stack: _Stack = None,
    tile_class: _TileClass = None,
    kind: _Format = "png",
    data_only: _DataOnly = False,
    quiet: _Quiet = False,
) -> None:
    """Draw the regions of a stack's maps, to scale, that one tile of a class computes or finds in caches.

    Example:  dfc figure tile fsrcnn.dfc
    """
    _prepare(out, kind, data_only=data_only)
    from dfc.figure_tile import region_rows, regions, tile_regions

    found = tile_regions(*_read(schedule), stack, tile_class)
    drawn = None if data_only else regions(found, kind)
    _write_tile(out, "tile", found, region_rows(found), drawn, kind, quiet=quiet)


@app.command("causal", short_help="A network over time before and after the causal transform.")
def causal_figure_command(
    model: _Model,
    out: _Out = Path("figures"),
    time_axis: Annotated[str | None, typer.Option(metavar="[NAME:]AXIS", help="As in dfc causal.")] = None,
    hop: Annotated[int, typer.Option(metavar="N", help="As in dfc causal.")] = 1,
    padding: Annotated[
        str, typer.Option("--causal-padding", metavar="exact|stream", help="As in dfc causal.")
    ] = "exact",
    frames_per_step: Annotated[int | None, typer.Option(metavar="N", help="As in dfc causal.")] = None,
    bind: _Bind = None,
    input_shape: _InputShape = None,
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
    _prepare(out, kind, data_only=data_only)
    from dfc.causal import causal
    from dfc.figure_causal import draw_tracks, track_rows, tracks
    from dfc.figures import as_csv, as_json

    bindings, shapes = parse_bindings(bind or ()), parse_input_shapes(input_shape or ())
    found = tracks(causal(model, options, time_axis=time_axis, bind=bindings, input_shape=shapes))
    rows = track_rows(found)
    about = {"model": found.network, "asked": found.asked}
    files: dict[str, str | bytes] = {"causal.csv": as_csv(rows), "causal.json": as_json("causal", about, rows)}
    if not data_only:
        files[f"causal.{kind}"] = draw_tracks(found, kind)
    _write(out, files, quiet=quiet)


def _read(schedule: Path) -> tuple[Schedule, str]:
    """The schedule that a path names, and what it is called in messages."""
    from dfc.backend_cost.schedule import Schedule
    from dfc.cli_values import schedule_file
    from dfc.files import read_text

    path = schedule_file(schedule)
    return Schedule.from_json(read_text(path), str(path)), str(path)


def _write_tile(
    out: Path,
    name: str,
    found: TileMemories | TileRegions,
    rows: Sequence[Mapping[str, Value]],
    drawn: bytes | None,
    kind: str,
    *,
    quiet: bool,
) -> None:
    from dfc.figures import as_csv, as_json

    about = {"model": found.model, "stack": str(found.stack), "tile_class": str(found.tile_class)}
    files: dict[str, str | bytes] = {f"{name}.csv": as_csv(rows), f"{name}.json": as_json(name, about, rows)}
    if drawn is not None:
        files[f"{name}.{kind}"] = drawn
    _write(out, files, quiet=quiet)


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


def _prepare(out: Path, kind: str, *, data_only: bool) -> None:
    """Find out what will not work before the long part begins.

    Raises:
        UsageError: CLI073, CLI071, or CLI030 and CLI031 of the folder.
    """
    from dfc.files import check_folder

    if kind not in ("png", "svg"):
        raise UsageError("CLI073", f"no kind of picture is called {kind!r}", place="--format", hint="png or svg")
    check_folder(out)
    if not data_only:
        from dfc.figure_draw import check_drawing

        check_drawing()


def _request(
    objective: str, stacks: str, cost_model: str | None, reproduce: str | None, baselines: str = "auto"
) -> Request:
    from dfc.request import parse_request

    return parse_request(objective, "auto", "auto", stacks, cost_model, reproduce=reproduce, baselines=baselines)


def _sweeper(
    model: str, hw: str, request: Request, bind: Sequence[str] | None, input_shape: Sequence[str] | None
) -> Sweeper:
    from dfc.cli_values import parse_bindings, parse_input_shapes
    from dfc.figures import Sweeper
    from dfc.hwdsl import load_arch
    from dfc.pipeline import import_graph

    arch = load_arch(hw)
    bindings, shapes = parse_bindings(bind or ()), parse_input_shapes(input_shape or ())
    return Sweeper(import_graph(model, bind=bindings, input_shape=shapes), arch, request)


def _write_sweep(
    out: Path, name: str, found: Sweep, rows: Sequence[Mapping[str, Value]], kind: str, *, quiet: bool
) -> None:
    """``kind`` is empty where no picture is wanted."""
    from dfc.figures import as_csv, as_json

    about = {"model": found.model, "hw": found.hw, "cost_model": found.cost_model, "rules": found.policy}
    files: dict[str, str | bytes] = {f"{name}.csv": as_csv(rows), f"{name}.json": as_json(name, about, rows)}
    if kind:
        from dfc.figure_draw import heat_maps, shares

        files[f"{name}.{kind}"] = {"heatmaps": heat_maps, "shares": shares}[name](found, kind)
    _write(out, files, quiet=quiet)


def _write(out: Path, files: Mapping[str, str | bytes], *, quiet: bool) -> None:
    from dfc.files import write_files

    write_files(out, files)
    if not quiet:
        diagnose(f"wrote {' and '.join(str(out / name) for name in files)}")


def _reporter(*, quiet: bool) -> Callable[[str], None] | None:
    """What is being priced, on one line of a terminal."""
    return None if quiet or not sys.stderr.isatty() else status
