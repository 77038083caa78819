"""Progress on a terminal and elsewhere."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from dfc.cli_progress import SearchProgress, describe, mappings, summary
from dfc.pipeline import ProgressEvent

EVENT = ProgressEvent(1, 3, ("conv1", "evil\x1b[2J"), "60x72 cached", 42, 2.5e9, 1234567)


class Terminal(io.StringIO):
    """A standard error that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Not a fixture: pytest replaces standard error between the phases of a test."""
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    return stream


def test_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    with SearchProgress(shown=True) as show:
        show(EVENT)
    text = stream.getvalue()
    for part in ("stack 2/3 conv1 .. evil?[2J", "42 plans, 60x72 cached", "best 2.500 mJ, 1,234,567 cycles"):
        assert part in text
    assert "searched 42 plans of 3 stacks in" in text


def test_bar_goes_away_on_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    with pytest.raises(KeyboardInterrupt), SearchProgress(shown=True) as show:
        show(EVENT)
        raise KeyboardInterrupt
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h")  # the cursor is back
    assert "searched" not in stream.getvalue()


def test_nothing_is_shown_where_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    with SearchProgress(shown=False) as show:
        show(EVENT)
    assert stream.getvalue() == ""


def test_elsewhere_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with SearchProgress(shown=True) as show:
        show(EVENT)
        show(EVENT)
    assert capsys.readouterr().err.count("\n") == 1


def test_one_is_not_several(monkeypatch: pytest.MonkeyPatch) -> None:
    one = replace(EVENT, stacks=1, done=1, mapped=1, recalled=1)
    assert (summary(one), mappings(one)) == ("1 plan of 1 stack", ": 1 mapping solved, 1 from the cache")
    two = replace(EVENT, stacks=2, done=2000, mapped=2)
    assert (summary(two), mappings(two)) == ("2,000 plans of 2 stacks", ": 2 mappings solved")
    stream = terminal(monkeypatch)
    with SearchProgress(shown=True) as show:
        show(one)
    assert "1 plan, 60x72 cached" in stream.getvalue()


def test_names_only_where_there_is_room() -> None:
    assert describe(EVENT, 80) == "stack 2/3"
    assert describe(EVENT, 140) == "stack 2/3 conv1 .. evil?[2J"
