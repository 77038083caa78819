"""The command line: ``dfc compile``, ``report``, ``check``, ``verify``, ``explain``, ``simulate``, ``import``, ...

Heavy modules are imported inside of the commands, so that ``dfc --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from dfc._version import __version__
from dfc.cli_causal import causal_command
from dfc.cli_figure import app as figure_commands
from dfc.cli_opt import opt_command
from dfc.cli_options import (
    Bind,
    Cache,
    CostModel,
    Hw,
    InputShape,
    Model,
    NoCache,
    Reproduce,
    ScheduleFile,
    Stacks,
    TileClass,
)
from dfc.cli_output import diagnose, paint_of, say, terminal_width, unprintable
from dfc.cli_step import (
    DeadlineOption,
    Form,
    Frames,
    FramesPerStep,
    Hop,
    Padding,
    StepWish,
    TimeAxis,
    compile_over_time,
)
from dfc.cli_verify import check_command, schema_command, verify_command
from dfc.collector import rare_collections
from dfc.errors import DfcError, MlirError, UsageError

if TYPE_CHECKING:
    from dfc.backend_cost.schedule import Schedule
    from dfc.emit import Emitter

INTERNAL = 70
INTERRUPTED = 130

_EPILOG = """\b
Exit codes:
  0    done
  1    something is wrong with the model, the hardware page or an option's value
  2    the command line itself is wrong
  70   a defect of dfc: please report it
  130  interrupted; dfc compile still writes the best schedule found until then
"""


class _Commands(TyperGroup):
    """All commands: Typer itself says nothing when Ctrl-C ends one."""

    def invoke(self, ctx: Any) -> Any:  # Typer names no public type for its context
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            diagnose("interrupted")
            raise typer.Exit(INTERRUPTED) from None


# no markup mode: rich's help would cost more than the rest of the start
app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

_OrNest = Annotated[
    Path,
    typer.Argument(
        metavar="SCHEDULE|NEST",
        help="A schedule.json, the folder that holds one, or a loop nest by itself (see docs/command-line.md).",
        show_default=False,
    ),
]
_Layer = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Which layer of the schedule; dfc report lists them. Example: --layer conv3"),
]
_Layers = Annotated[
    bool, typer.Option("--layers/--no-layers", help="Tables with a line per layer, or per stack alone.")
]


def _version(wanted: bool) -> None:
    if wanted:
        say(f"dfc {__version__}\n")
        raise typer.Exit


@app.callback(epilog=_EPILOG)
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Schedule neural networks depth-first (layer-fused) on described accelerators.

    Start with:  dfc compile model.onnx --hw meta_proto_df
    """


@app.command("compile", epilog=_EPILOG, short_help="Find the best depth-first schedule of a model.")
def compile_command(
    model: Model,
    hw: Hw,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder for schedule.json and report.txt. Default: the model's name with .dfc, here. "
            "Example: -o build/resnet18",
        ),
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            metavar="energy|latency|edp",
            help="What to have least of; edp is energy times latency. Example: --objective edp",
        ),
    ] = "energy",
    overlap: Annotated[
        str,
        typer.Option(
            metavar="MODE",
            help="What happens to positions that two tiles need: recompute them, keep those along rows "
            "(h-cached), along columns (v-cached) or both (cached); auto tries all, and one for each map. "
            "Example: --overlap cached",
        ),
    ] = "auto",
    tile: Annotated[
        str,
        typer.Option(
            metavar="WxH",
            help="Tile of each stack's last feature map, in positions; auto searches. As large as the map, it "
            "is layer by layer. Example: --tile 60x72",
        ),
    ] = "auto",
    stacks: Stacks = "auto",
    cost_model: CostModel = None,
    order: Annotated[
        str,
        typer.Option(
            metavar="auto|rows|columns",
            help="Which tile comes next: row by row, or column by column; auto tries both. Example: --order rows",
        ),
    ] = "auto",
    reproduce: Reproduce = None,
    baselines: Annotated[
        str,
        typer.Option(
            metavar="auto|all",
            help="What to compare with: auto is each layer alone and layer by layer, all is also the best schedule "
            "with one tile size for the whole network, which takes longer. Example: --baselines all",
        ),
    ] = "auto",
    spatial: Annotated[
        str,
        typer.Option(
            metavar="prefer|search",
            help="Which loops run side by side on the array: prefer takes what the accelerator's page says, search "
            "looks for what is better for each layer and takes far longer. Example: --spatial search",
        ),
    ] = "prefer",
    emit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="mlir,trace,dot",
            help="Also write the schedule in other forms: mlir is schedule.mlir, loops over tiles that compute the "
            "network; trace is trace.json, the timeline for Perfetto or Chrome; dot is stacks.dot, the graph with its "
            "stacks. Example: --emit mlir,trace",
        ),
    ] = None,
    bind: Bind = None,
    input_shape: InputShape = None,
    time_axis: TimeAxis = None,
    hop: Hop = None,
    frames_per_step: FramesPerStep = None,
    padding: Padding = None,
    form: Form = None,
    frames: Frames = None,
    deadline: DeadlineOption = None,
    mapping: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A page that fixes parts of layers' mappings; the best of the rest is found. "
            "Example: --mapping conv.map",
        ),
    ] = None,
    constraints: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A page that fixes single stacks: where they begin and end, their tile, mode and order; what is left "
            "open is searched. Example: --constraints net.stacks",
        ),
    ] = None,
    cache: Cache = None,
    no_cache: NoCache = False,
    layers: _Layers = True,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print no report and no progress; errors still show.")
    ] = False,
    progress: Annotated[
        bool, typer.Option("--progress/--no-progress", help="Show how the search goes, on standard error.")
    ] = True,
) -> None:
    """Find the depth-first schedule of least energy, time or both, and say what it costs.

    Writes DIR/schedule.json (every number, exactly) and DIR/report.txt, and prints the report.

    Example:  dfc compile resnet18.onnx --hw meta_proto_df --objective latency
    """
    from dfc.cli_progress import SearchProgress
    from dfc.cli_values import cache_folder, default_folder, parse_bindings, parse_input_shapes
    from dfc.files import check_folder

    bindings, shapes = parse_bindings(bind or ()), parse_input_shapes(input_shape or ())
    folder = out or default_folder(model)
    check_folder(folder)
    wish = StepWish(time_axis, hop, frames_per_step, padding, form, frames, deadline)
    wish.check(
        {
            "--overlap": overlap != "auto",
            "--tile": tile != "auto",
            "--order": order != "auto",
            "--reproduce": reproduce is not None,
            "--baselines": baselines != "auto",
            "--spatial": spatial != "prefer",
            "--cost-model": cost_model not in (None, "exact"),
            "--emit": bool(emit),
            "--mapping": mapping is not None,
            "--constraints": constraints is not None,
        }
    )
    try:
        kept = cache_folder(cache, off=no_cache)
        from dfc.cli_cache import cache_of_run
        from dfc.emit import Emitter, parse_emit
        from dfc.pipeline import compile as compile_model

        emitter = Emitter(parse_emit(emit or ()), model, bind=bindings, input_shape=shapes)
        with cache_of_run(kept, quiet=quiet) as store, SearchProgress(shown=progress and not quiet) as show:
            if wish.asked:
                both = {"objective": objective, "stacks": stacks}
                schedule = compile_over_time(
                    model, hw, wish, **both, bind=bindings, input_shape=shapes, progress=show, store=store
                )
            else:
                schedule = compile_model(
                    model,
                    hw,
                    objective=objective,
                    overlap=overlap,
                    tile=tile,
                    stacks=stacks,
                    bind=bindings,
                    input_shape=shapes,
                    rules=mapping,
                    cost_model=cost_model,
                    spatial=spatial,
                    order=order,
                    reproduce=reproduce,
                    baselines=baselines,
                    constraints=constraints,
                    progress=show,
                    cache=store,
                )
    except KeyboardInterrupt:
        diagnose("interrupted before a schedule was found; nothing is written")
        raise typer.Exit(INTERRUPTED) from None
    _deliver(schedule, folder, emitter, layers=layers, quiet=quiet)
    if not schedule.complete:
        raise typer.Exit(INTERRUPTED)


def _deliver(schedule: Schedule, folder: Path, emitter: Emitter, *, layers: bool, quiet: bool) -> None:
    """Write the files of a compilation, then print its report. What cannot be emitted spoils nothing of the rest."""
    from dfc.files import write_files
    from dfc.report import render

    texts = {"report.txt": render(schedule), "schedule.json": schedule.to_json()}
    try:
        write_files(folder, emitter.texts(schedule) | texts)
    except MlirError:
        write_files(folder, texts)
        raise
    if not quiet:
        say(render(schedule, width=terminal_width(), layers=layers, paint=paint_of(sys.stdout)))
        more = "".join(f", {name}" for name in emitter.files)
        diagnose(f"wrote {folder / 'schedule.json'}{more} and report.txt")
    if not schedule.complete:
        diagnose("interrupted: the schedule is the best found until then, and is marked incomplete")


@app.command("import", epilog=_EPILOG, short_help="Print a model as dfc understands it.")
def import_command(
    model: Model,
    bind: Bind = None,
    input_shape: InputShape = None,
    passes: Annotated[
        bool,
        typer.Option(
            "--passes/--no-passes",
            help="The graph as the scheduler sees it, canonical and fused; or as the importer made it.",
        ),
    ] = True,
    emit: Annotated[
        str,
        typer.Option(
            metavar="text|mlir",
            help="dfc's own form, or MLIR of the dfc dialect, which dfc opt reads. Example: --emit mlir",
        ),
    ] = "text",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write to a file instead. Example: -o net.dfcir"),
    ] = None,
) -> None:
    """Print the network as text: layers, loop sizes, what reads what.

    Example:  dfc import model.onnx --input-shape 1,3,224,224
    """
    from dfc.cli_values import parse_bindings, parse_input_shapes

    bindings, shapes = parse_bindings(bind or ()), parse_input_shapes(input_shape or ())
    from dfc.cli_opt import graph_as
    from dfc.files import write_file
    from dfc.pipeline import import_graph

    text = graph_as(emit, import_graph(model, bind=bindings, input_shape=shapes, passes=passes))
    if out is None:
        say(text)
    else:
        write_file(out, text)
        diagnose(f"wrote {out}")


app.command("causal", epilog=_EPILOG, short_help="Turn a network over time into its streaming form.")(causal_command)


@app.command("hw", epilog=_EPILOG, short_help="List accelerators, or show one.")
def hw_command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A name of the library, or a .hw page.", show_default=False),
    ] = None,
    text: Annotated[
        bool,
        typer.Option("--text", help="Print its page, to start an own one from. Example: dfc hw tpu_like --text"),
    ] = False,
) -> None:
    """List the accelerators that ship with dfc, or show one: array, memories, paths, unrolling.

    Also checks a page that you write.  Example:  dfc hw my_chip.hw
    """
    from dfc.cli_hw import describe, list_library
    from dfc.hwdsl import format_arch, load_arch

    if name is None and text:
        raise UsageError("CLI008", "--text needs the name of an accelerator", place="dfc hw", hint="dfc hw NAME --text")
    if name is None:
        say(list_library(width=terminal_width(), paint=paint_of(sys.stdout)))
    elif text:
        say(format_arch(load_arch(name)))
    else:
        say(describe(load_arch(name), width=terminal_width(), paint=paint_of(sys.stdout)))


@app.command("report", epilog=_EPILOG, short_help="Print the report of a schedule again.")
def report_command(
    schedule: ScheduleFile,
    layers: _Layers = True,
) -> None:
    """Print the report of a schedule that was compiled earlier.

    Example:  dfc report resnet18.dfc
    """
    from dfc.backend_cost.schedule import Schedule
    from dfc.cli_values import schedule_file
    from dfc.files import read_text
    from dfc.report import render

    path = schedule_file(schedule)
    found = Schedule.from_json(read_text(path), str(path))
    say(render(found, width=terminal_width(), layers=layers, paint=paint_of(sys.stdout)))


app.command("check", epilog=_EPILOG, short_help="Prove that all that a schedule keeps in memories fits.")(check_command)
app.command("verify", epilog=_EPILOG, short_help="Execute a schedule, and compare with ONNX Runtime.")(verify_command)
app.command("schema", epilog=_EPILOG, short_help="Print the JSON Schema of schedules.")(schema_command)


@app.command("explain", epilog=_EPILOG, short_help="Show how a layer runs, and what limits it.")
def explain_command(schedule: _OrNest, layer: _Layer = None, tile_class: TileClass = None) -> None:
    """Draw a layer's loop nest and say what each memory holds and moves, how busy ports are, and what binds.

    Example:  dfc explain resnet18.dfc --layer conv1
    """
    from dfc.cli_values import read_problem_file

    problem = read_problem_file(schedule, layer, tile_class)
    from dfc.backend_cost.explain import explain
    from dfc.explain_text import render_explanation

    say(render_explanation(problem, explain(problem), width=terminal_width(), paint=paint_of(sys.stdout)))


@app.command("simulate", epilog=_EPILOG, short_help="Play a small layer step by step, beside the cost model.")
def simulate_command(
    schedule: _OrNest,
    layer: _Layer = None,
    tile_class: TileClass = None,
    limit: Annotated[
        str | None,
        typer.Option(
            metavar="STEPSxLANES",
            help="The most that is simulated, as a product or as one number; 200000 unless given, about ten "
            "seconds. Example: --limit 5000x256",
        ),
    ] = None,
) -> None:
    """Simulate a layer's tile: every word counted and every transfer played, beside what the exact model says.

    Example:  dfc simulate resnet18.dfc --layer conv1 --tile-class 0
    """
    from dfc.cli_values import parse_limit, read_problem_file

    most = parse_limit(limit)
    problem = read_problem_file(schedule, layer, tile_class)
    from dfc.backend_cost.simulate import LIMIT
    from dfc.backend_cost.simulate_compare import compare
    from dfc.simulate_text import render_comparison

    found = compare(problem, LIMIT if most is None else most)
    say(render_comparison(found, width=terminal_width(), paint=paint_of(sys.stdout)))


@app.command("cache", epilog=_EPILOG, short_help="Show or clear what is kept of earlier runs.")
def cache_command(
    cache: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Another place than the usual one. Example: --cache build/cache"),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove what is kept there.")] = False,
) -> None:
    """Show where the answers of the mapping search are kept, how many there are, and how much room they take.

    Example:  dfc cache --clear
    """
    from dfc.cli_cache import clear_cache, describe_cache
    from dfc.cli_values import cache_folder

    folder = cache_folder(cache, off=False)
    say(clear_cache(folder) if clear else describe_cache(folder))


app.command("opt", epilog=_EPILOG, short_help="Run passes on a graph in MLIR syntax.")(opt_command)
app.add_typer(figure_commands, name="figure", short_help="Draw energy and latency over tiles or accelerators.")


@rare_collections()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, and never lets an exception out."""
    try:
        typer.main.get_command(app).main(
            args=None if arguments is None else list(arguments), prog_name="dfc", standalone_mode=True
        )
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except DfcError as error:
        diagnose(error.render())
        return error.exit_code
    except KeyboardInterrupt:
        diagnose("interrupted")
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None:  # Typer prints help by itself; files have names
            diagnose(unprintable(error).render())
            return UsageError.exit_code
        return _defect(error)
    return 0


def _defect(error: Exception) -> int:
    """An exception that nobody foresaw is a defect of dfc, not of what the user gave."""
    if os.environ.get("DFC_TRACEBACK"):
        import traceback

        diagnose("".join(traceback.format_exception(error)))
    what = " ".join(f"{type(error).__name__}: {error}".split())
    diagnose(f"internal error: {what}; please report it (DFC_TRACEBACK=1 shows where it happened)")
    return INTERNAL
