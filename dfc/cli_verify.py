"""``dfc check``, ``dfc verify`` and ``dfc schema``: what proves a schedule's file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dfc.cli_options import ScheduleFile
from dfc.cli_output import paint_of, say, terminal_width
from dfc.errors import UsageError


def check_command(schedule: ScheduleFile) -> None:
    """Check a schedule by itself: all that is alive at once has room, nothing overlaps, and the sums add up.

    Example:  dfc check resnet18.dfc
    """
    from dfc.backend_cost.schedule import Schedule
    from dfc.check_text import render_check
    from dfc.cli_values import schedule_file
    from dfc.files import read_text
    from dfc.scheduling.check import check_schedule

    path = schedule_file(schedule)
    found = check_schedule(Schedule.from_json(read_text(path), str(path)), str(path))
    say(render_check(found, width=terminal_width(), paint=paint_of(sys.stdout)))
    if found.violations and found.asked:
        count = len(found.violations)
        message = f"{count} {'thing does' if count == 1 else 'things do'} not hold that the schedule says"
        hint = "compile the model again; if dfc wrote the file as it is, please report it"
        raise UsageError("CLI064", message, place=str(path), hint=hint)


def verify_command(
    schedule: ScheduleFile,
    model: Annotated[
        Path,
        typer.Option(
            metavar="MODEL",
            help="The network that the schedule was compiled from. Example: --model resnet18.onnx",
            show_default=False,
        ),
    ],
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of random inputs. Example: --seed 7")] = 0,
    inputs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Inputs by name in a .npz file of NumPy, in place of random ones. Example: --inputs image.npz",
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Execute only N rows of tiles of each stack, chosen at random, for large networks; of a step over "
            "time, N steps after the warm-up. Example: --sample 2",
        ),
    ] = None,
) -> None:
    """Execute a schedule's file tile by tile on memories of the chip's sizes, and compare with ONNX Runtime.

    One step of a network over time is executed again and again, with what stays in the memories alone handed on.

    Example:  dfc verify resnet18.dfc --model resnet18.onnx
    """
    from dfc.backend_cost.schedule import Schedule
    from dfc.cli_values import read_arrays, schedule_file
    from dfc.execution.verify import verify
    from dfc.files import read_text
    from dfc.verify_text import render_verification

    path = schedule_file(schedule)
    found = verify(
        Schedule.from_json(read_text(path), str(path)),
        model,
        place=str(path),
        seed=seed,
        inputs=None if inputs is None else read_arrays(inputs),
        sample=sample,
    )
    say(render_verification(found, width=terminal_width(), paint=paint_of(sys.stdout)))
    if found.findings:
        hint = "compile the model again; if dfc wrote the file as it is, please report it"
        raise UsageError("CLI085", "the schedule does not compute the network as it says", place=str(path), hint=hint)


def schema_command() -> None:
    """Print the JSON Schema (draft 2020-12) of schedule.json, for tools that take schedules on.

    Example:  dfc schema > schedule.schema.json
    """
    from dfc.backend_cost.schedule_schema import schema_text

    say(schema_text())
