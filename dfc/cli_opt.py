"""``dfc opt``: passes on graphs that are text, as ``mlir-opt`` runs them; and MLIR in ``dfc import``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfc.cli_output import diagnose, say
from dfc.errors import UsageError

if TYPE_CHECKING:
    from dfc.ir import Graph
    from dfc.passes.base import Pass

#: codes of this module, with the sentence that docs/errors.md prints for each
CODES: Mapping[str, str] = {
    "CLI091": "dfc import has no such form",
}


def graph_as(form: str, graph: Graph) -> str:
    """The text of a graph: ``text`` or ``mlir``.

    Raises:
        UsageError: CLI091.
        MlirError: MLIR004.
    """
    if form == "text":
        from dfc.ir import print_graph

        return print_graph(graph)
    if form != "mlir":
        raise UsageError("CLI091", f"dfc import has no form called {form!r}", place="--emit", hint="text or mlir")
    from dfc.mlir.diagnostics import need_xdsl

    need_xdsl()
    from dfc.mlir.graph_text import print_graph_mlir

    return print_graph_mlir(graph)


def opt_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A graph in MLIR syntax.", show_default=False)],
    passes: Annotated[
        str,
        typer.Option(
            metavar="PASS,...",
            help="Passes in order, with their options in braces. Example: --passes canonicalise{pads=false},fuse",
        ),
    ] = "",
    print_ir_after_all: Annotated[
        bool, typer.Option("--print-ir-after-all", help="Print the graph after each pass, on standard error.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write to a file instead. Example: -o net.mlir"),
    ] = None,
) -> None:
    """Read a graph of the dfc dialect, verify it, run passes on it and print it.

    Example:  dfc opt net.mlir --passes canonicalise,fuse
    """
    from dfc.mlir.diagnostics import need_xdsl

    need_xdsl()
    from dfc.files import read_text, write_file
    from dfc.mlir.graph_text import parse_graph_mlir, print_graph_mlir
    from dfc.passes.manager import PassManager, parse_pipeline

    pipeline = parse_pipeline(passes)
    given = parse_graph_mlir(read_text(file), str(file))
    manager = PassManager(pipeline, verify=True, on_pass=_after if print_ir_after_all else None)
    graph = manager.run(given.graph)
    plans = given.plans if graph == given.graph else ()
    if len(plans) < len(given.plans):
        diagnose("the plans in the file are of the graph as it was, and are left out")
    text = print_graph_mlir(graph, plans)
    if out is None:
        say(text)
    else:
        write_file(out, text)
        diagnose(f"wrote {out}")


def _after(step: Pass, _before: Graph, after: Graph, _seconds: float) -> None:
    from dfc.mlir.graph_text import print_graph_mlir

    diagnose(f"// -----// IR dump after {step} //----- //\n{print_graph_mlir(after)}")
