"""The progress of a search on standard error: a bar on a terminal, one line at the end elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from dfc.cli_output import say
from dfc.report_table import clean, shorten
from dfc.units import cycles, energy

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from dfc.pipeline import ProgressEvent


_ROOMY = 116  # columns for everything that is to say


class SearchProgress:
    """Shows :class:`ProgressEvent` s while a schedule is searched; a context manager.

    With ``shown`` false nothing is printed at all.
    """

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._last: ProgressEvent | None = None
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        if self._shown and sys.stderr.isatty():
            self._bar = _make_bar()
            self._task = self._bar.add_task("reading the model", total=None, plan="", best="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._shown and self._last is not None and kind is None:
            took = time.monotonic() - self._start
            say(f"searched {summary(self._last)} in {took:.1f} s{mappings(self._last)}\n", error=True)

    def __call__(self, event: ProgressEvent) -> None:
        """A further plan is priced."""
        self._last = event
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                description=describe(event, self._bar.console.width),
                total=event.stacks,
                completed=event.stack,
                plan=f"{plans(event)}, {event.what}",
                best=best(event),
            )


def _make_bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    def text(what: str, style: str = "none") -> TextColumn:
        return TextColumn(what, markup=False, style=style, table_column=Column(no_wrap=True))

    return Progress(
        text("{task.description}"),
        BarColumn(bar_width=8),
        text("{task.fields[plan]}"),
        text("{task.fields[best]}", "green"),
        console=Console(stderr=True),
        transient=True,
    )


def describe(event: ProgressEvent, width: int) -> str:
    """Which stack of how many, and its layers if the terminal is wide enough."""
    text = f"stack {event.stack + 1}/{event.stacks}"
    if width < _ROOMY or not event.layers:
        return text
    ends = dict.fromkeys((event.layers[0], event.layers[-1]))
    return f"{text} {' .. '.join(shorten(clean(name), 12) for name in ends)}"


def best(event: ProgressEvent) -> str:
    """The stack's best plan so far."""
    if event.best_energy_pj is None or event.best_latency_cycles is None:
        return ""
    return f"best {energy(event.best_energy_pj)}, {cycles(event.best_latency_cycles)} cycles"


def plans(event: ProgressEvent) -> str:
    """How many plans were priced."""
    return f"{event.done:,} {'plan' if event.done == 1 else 'plans'}"


def summary(event: ProgressEvent) -> str:
    """How much was done in the end."""
    return f"{plans(event)} of {event.stacks} {'stack' if event.stacks == 1 else 'stacks'}"


def mappings(event: ProgressEvent) -> str:
    """How many mapping problems there were, and how many of them the cache on disk knew."""
    if not event.mapped + event.recalled:
        return ""
    known = f", {event.recalled:,} from the cache" if event.recalled else ""
    return f": {event.mapped:,} {'mapping' if event.mapped == 1 else 'mappings'} solved{known}"
