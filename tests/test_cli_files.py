"""Output files are written whole or not at all, whatever fails."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from cli_helpers import HW, Cli, chain

from dfc.backend_cost.schedule import Schedule
from dfc.errors import UsageError
from dfc.files import check_folder, write_file, write_files


def failing(number: int) -> object:
    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return fail


CAUSES = [
    (errno.ENOSPC, "CLI032"),
    (errno.EACCES, "CLI031"),
    (errno.EROFS, "CLI031"),
    (errno.EIO, "CLI033"),
]


@pytest.mark.parametrize(("number", "code"), CAUSES)
@pytest.mark.parametrize("step", ["os.fsync", "os.open", "os.replace"])
def test_failure_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, code: str
) -> None:
    monkeypatch.setattr(step, failing(number))
    with pytest.raises(UsageError) as caught:
        write_files(tmp_path / "a" / "b", {"report.txt": "r", "schedule.json": "s"})
    assert caught.value.code == code
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_failure_of_the_last_file_takes_the_first_back(tmp_path: Path) -> None:
    (tmp_path / "schedule.json").mkdir()
    with pytest.raises(UsageError) as caught:
        write_files(tmp_path, {"report.txt": "new", "schedule.json": "new"})
    assert caught.value.code == "CLI030"
    assert [p.name for p in tmp_path.iterdir()] == ["schedule.json"]


def test_failure_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "schedule.json").write_text("old", encoding="utf-8")
    monkeypatch.setattr("os.fsync", failing(errno.ENOSPC))
    with pytest.raises(UsageError):
        write_files(tmp_path, {"schedule.json": "new"})
    assert (tmp_path / "schedule.json").read_text(encoding="utf-8") == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_files(tmp_path / "out", {"schedule.json": "new"})
    assert list(tmp_path.iterdir()) == []


def test_files_follow_the_umask_and_replace_what_was_there(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    for text in ("one\n", "two µ\n"):
        write_file(tmp_path / "out.txt", text)
        assert (tmp_path / "out.txt").read_bytes() == text.encode()
    assert (tmp_path / "out.txt").stat().st_mode == plain.stat().st_mode


def test_characters_that_utf8_lacks_do_not_stop_writing(tmp_path: Path) -> None:
    write_file(tmp_path / "out.txt", "lone \udcff surrogate")
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "lone \\udcff surrogate"


@pytest.mark.parametrize("place", ["file", "file/below", "file/below/deeper"])
def test_a_file_in_the_way_is_found_before_the_work(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    for attempt in (lambda p: check_folder(p), lambda p: write_files(p, {"a": ""})):
        with pytest.raises(UsageError) as caught:
            attempt(tmp_path / place)
        assert caught.value.code == "CLI030"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_path_that_is_none(tmp_path: Path) -> None:
    for path in (tmp_path / "a\0b", tmp_path / ("x" * 5000)):
        with pytest.raises(UsageError) as caught:
            write_files(path, {"a": ""})
        assert caught.value.code == "CLI033"


def test_no_permission_is_found_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    with pytest.raises(UsageError) as caught:
        check_folder(tmp_path / "out")
    assert caught.value.code == "CLI031"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_for_real(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    for attempt in (check_folder, lambda p: write_files(p, {"a": ""})):
        with pytest.raises(UsageError) as caught:
            attempt(tmp_path / "out")
        assert caught.value.code == "CLI031"
    tmp_path.chmod(0o700)


def test_full_disk_through_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cli = Cli(tmp_path, capsys)
    model = chain(tmp_path / "net.onnx")
    monkeypatch.setattr("os.fsync", failing(errno.ENOSPC))
    for command in (["compile", model, "--hw", HW, "--tile", "8x8"], ["import", model, "-o", "net.txt"]):
        result = cli(*command)
        assert result.code == 1
        assert "error[CLI032]" in result.err and "net." in result.err
        assert result.out == ""
        assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]


def test_output_folder_is_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chain(tmp_path / "net.onnx")
    monkeypatch.setattr("dfc.pipeline.compile", failing(errno.EIO))  # never reached: found before the work
    result = Cli(tmp_path, capsys)("compile", "net.onnx", "--hw", HW, "-o", "net.onnx")
    assert (result.code, result.out) == (1, "")
    assert "error[CLI030]" in result.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("words", [["hw", HW], ["--version"], ["--help"], ["compile", "--help"]])
def test_standard_output_on_a_full_disk(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dfc", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error[CLI034]: cannot print")
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_schedule_is_written_before_its_report_is_printed(tmp_path: Path) -> None:
    """The exit code says that the report was lost; the files of the run are whole."""
    words = ["compile", str(chain(tmp_path / "net.onnx")), "--hw", HW, "--tile", "4x4", "-o", str(tmp_path / "out")]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dfc", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert "error[CLI034]: cannot print" in done.stderr
    assert Schedule.from_json((tmp_path / "out" / "schedule.json").read_text(encoding="utf-8")).complete
    assert (tmp_path / "out" / "report.txt").read_text(encoding="utf-8").startswith("net on ")
