"""Options and arguments that several commands have, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Model: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="The network: an ONNX file, or MLIR (linalg) as .mlir.", show_default=False),
]
Hw: TypeAlias = Annotated[
    str,
    typer.Option(
        "--hw",
        metavar="HW",
        help="The accelerator: a .hw page, or a name of the library (see dfc hw). Example: --hw meta_proto_df",
        show_default=False,
    ),
]
Bind: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--bind",
        metavar="NAME=SIZE",
        help="Give a symbolic dimension of the model a size; once per name. Example: --bind batch=1",
    ),
]
InputShape: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--input-shape",
        metavar="[NAME:]SIZES",
        help="Give an input a shape; the name may be left out where there is one input. "
        "Example: --input-shape 1,3,224,224",
    ),
]
Stacks: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="auto|one|each|LAYERS",
        help="Which layers run depth-first together: auto searches for the best, one is the "
        "whole network, each is every layer alone; or name the layers to cut after. "
        "Example: --stacks conv3,conv7",
    ),
]
CostModel: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="exact|defines",
        help="exact counts what the hardware does, equal to dfc simulate; defines repeats the published "
        "reference with its approximations, to compare with its numbers. Example: --cost-model defines",
    ),
]
Reproduce: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="defines",
        help="Repeat the published reference: its cost model and its rules for tiles and memories, by which not "
        "everything has to fit. Example: --reproduce defines",
    ),
]
Cache: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where to keep what the search found out about mappings, for later runs; dfc cache shows the "
        "place that it has unless given. Example: --cache build/cache",
    ),
]
NoCache: TypeAlias = Annotated[bool, typer.Option("--no-cache", help="Use nothing of earlier runs, and keep nothing.")]
ScheduleFile: TypeAlias = Annotated[
    Path,
    typer.Argument(metavar="SCHEDULE", help="A schedule.json, or the folder that holds one.", show_default=False),
]
TileClass: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Which of the stack's tile classes, from 0; the one with the most tiles unless given. "
        "Example: --tile-class 0",
    ),
]
TimeAxis: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="[NAME:]AXIS",
        help="Which axis of the input is time: T, H, W, the model's own name for it, or an index; T unless given. "
        "Example: --time-axis H",
    ),
]
Hop: TypeAlias = Annotated[int, typer.Option(metavar="N", help="Frames from one window to the next.")]
CausalPadding: TypeAlias = Annotated[
    str,
    typer.Option(
        "--causal-padding",
        metavar="exact|stream",
        help="exact computes anew what padding inside the window touches; stream reads the frames beyond it "
        "instead, so that results differ.",
    ),
]
FramesPerStep: TypeAlias = Annotated[
    int | None,
    typer.Option(metavar="N", help="New frames per step, a multiple of the hop; the hop unless given."),
]
