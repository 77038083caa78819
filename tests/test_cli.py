"""The command line end to end on small models: what it writes, prints and returns."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import HW, Cli, Result, chain, hw_page

import dfc
import dfc.pipeline
from dfc.backend_cost.schedule import Schedule
from dfc.cli import app
from dfc.ir import parse_graph


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    return Cli(tmp_path, capsys)


def run_process(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, **(env or {})},
        timeout=120,
        check=False,
    )


def test_compile_writes_a_schedule_that_reads_back(cli: Cli) -> None:
    model = chain(cli.folder / "net.onnx")
    result = cli("compile", model, "--hw", HW, "-o", "out")
    assert result.code == 0
    text = (cli.folder / "out" / "schedule.json").read_text(encoding="utf-8")
    schedule = Schedule.from_json(text)
    assert schedule.to_json() == text
    assert schedule.complete
    assert [layer.name for layer in schedule.layers] == ["conv1", "conv2"]
    assert schedule.totals.network_macs == 2 * 8 * 8 * 3 * 3 * 9
    assert result.out.startswith("net on meta_proto_df\n")
    assert (cli.folder / "out" / "report.txt").read_text(encoding="utf-8") == result.out
    assert "wrote out/schedule.json" in result.err.replace(os.sep, "/")
    assert sorted(p.name for p in (cli.folder / "out").iterdir()) == ["report.txt", "schedule.json"]


def test_the_folder_is_named_after_the_model_unless_given(cli: Cli) -> None:
    chain(cli.folder / "net.v2.onnx")
    assert cli("compile", "net.v2.onnx", "--hw", HW, "-q").code == 0
    assert (cli.folder / "net.v2.dfc" / "schedule.json").is_file()


def test_the_same_as_a_python_call(cli: Cli) -> None:
    model = chain(cli.folder / "net.onnx")
    options = {"objective": "latency", "overlap": "recompute", "tile": "4x3", "stacks": "one"}
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    assert cli("compile", model, "--hw", HW, "-o", "out", *flags).code == 0
    called = dfc.compile(model, HW, **options)  # type: ignore[arg-type]
    assert (cli.folder / "out" / "schedule.json").read_text(encoding="utf-8") == called.to_json()
    assert (called.stacks[0].tile, called.stacks[0].overlap) == ((4, 3), "recompute")


def test_sizes_are_bound(cli: Cli) -> None:
    model = chain(cli.folder / "net.onnx", ("batch", 3, "h", 8))
    assert cli("compile", model, "--hw", HW, "-q", "--bind", "batch=1", "--bind", "h=6").code == 0
    schedule = Schedule.from_json((cli.folder / "net.dfc" / "schedule.json").read_text(encoding="utf-8"))
    assert schedule.model.inputs[0].shape == (1, 3, 6, 8)
    for given in ("1,3,5,8", "x:1,3,5,8"):
        result = cli("import", model, "--input-shape", given)
        assert parse_graph(result.out).tensors["x"].shape == (1, 3, 5, 8)


def test_quiet_prints_nothing(cli: Cli) -> None:
    result = cli("compile", chain(cli.folder / "net.onnx"), "--hw", HW, "--quiet")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_progress_ends_with_one_line_where_there_is_no_terminal(cli: Cli) -> None:
    model = chain(cli.folder / "net.onnx")
    result = cli("compile", model, "--hw", HW)
    assert result.err.splitlines()[0].startswith("searched ")
    assert "plans of 1 stack in" in result.err
    one = cli("compile", chain(cli.folder / "one.onnx", (1, 3, 1, 1), 1), "--hw", HW, "-o", "one").err
    assert one.startswith("searched 1 plan of 1 stack in ")
    assert "searched" not in cli("compile", model, "--hw", HW, "--no-progress").err


def test_stacks_are_tabled_without_layers(cli: Cli) -> None:
    model = chain(cli.folder / "net.onnx", layers=4)
    result = cli("compile", model, "--hw", HW, "--stacks", "conv2", "--tile", "8x8", "--no-layers")
    assert result.code == 0
    assert "stack 1" in result.out
    assert "\n  conv3" not in result.out
    assert "\n  conv3" in (cli.folder / "net.dfc" / "report.txt").read_text(encoding="utf-8")


def test_report_prints_the_same_again(cli: Cli) -> None:
    printed = cli("compile", chain(cli.folder / "net.onnx"), "--hw", HW).out
    assert cli("report", "net.dfc").out == printed
    assert cli("report", "net.dfc/schedule.json").out == printed


def test_ctrl_c_keeps_the_best_so_far(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_model = dfc.pipeline.compile

    def interrupted(model: str, hw: str, **options: object) -> Schedule:
        def stop(event: dfc.pipeline.ProgressEvent) -> None:
            if event.done > 3:
                raise KeyboardInterrupt

        return compile_model(model, hw, **{**options, "progress": stop})  # type: ignore[arg-type]

    monkeypatch.setattr("dfc.pipeline.compile", interrupted)
    result = cli("compile", chain(cli.folder / "net.onnx"), "--hw", HW)
    assert result.code == 130
    assert "INCOMPLETE" in result.out
    assert [line.split(":")[0] for line in result.err.splitlines() if "interrupted" in line] == ["interrupted"]
    assert "Traceback" not in result.err
    schedule = Schedule.from_json((cli.folder / "net.dfc" / "schedule.json").read_text(encoding="utf-8"))
    assert not schedule.complete


def test_ctrl_c_before_there_is_a_schedule_leaves_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> Schedule:
        raise KeyboardInterrupt

    monkeypatch.setattr("dfc.pipeline.compile", interrupted)
    result = cli("compile", chain(cli.folder / "net.onnx"), "--hw", HW)
    assert (result.code, result.out) == (130, "")
    assert result.err.splitlines() == ["interrupted before a schedule was found; nothing is written"]
    assert not (cli.folder / "net.dfc").exists()


#: modules whose commands print
COMMANDS = ("cli", "cli_verify", "cli_causal", "cli_opt")
INTERRUPTED: dict[str, list[str]] = {
    "compile": ["net.onnx", "--hw", HW, "-o", "again", "--no-progress"],
    "import": ["net.onnx"],
    "hw": [HW],
    "report": ["out"],
    "check": ["out"],
    "verify": ["out", "--model", "net.onnx"],
    "schema": [],
    "causal": ["net.onnx", "-o", "streaming.onnx", "--time-axis", "H"],
    "opt": ["graph.mlir"],
    "explain": ["out", "--layer", "conv1"],
    "simulate": ["out", "--layer", "conv1"],
    "cache": [],
}


def test_ctrl_c_is_said_in_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every command, when all that is left to do is to print what it found."""
    cli("compile", chain(cli.folder / "net.onnx"), "--hw", HW, "--tile", "4x4", "-o", "out")

    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    cli("import", "net.onnx", "--emit", "mlir", "-o", "graph.mlir")
    for module in COMMANDS:
        monkeypatch.setattr(f"dfc.{module}.say", interrupted)
    assert set(INTERRUPTED) == {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    for command, arguments in INTERRUPTED.items():
        assert cli(command, *arguments) == Result(130, "", "interrupted\n"), command


def test_import_prints_the_textual_form(cli: Cli) -> None:
    model = chain(cli.folder / "net.onnx")
    printed = cli("import", model)
    assert printed.code == 0
    assert [layer.name for layer in parse_graph(printed.out).layers] == ["conv1", "conv2"]
    assert cli("import", model, "--no-passes").out.startswith("dfc-ir 1\n")
    assert cli("import", model, "-o", "net.dfcir").out == ""
    assert (cli.folder / "net.dfcir").read_text(encoding="utf-8") == printed.out


def test_hw_lists_the_library_and_shows_one(cli: Cli) -> None:
    listed = cli("hw")
    assert listed.code == 0
    for name in ("meta_proto ", "meta_proto_df ", "tpu_like_df "):
        assert f"\n{name}" in listed.out
    shown = cli("hw", HW).out
    assert "D1 32 x D2 2 x D3 4 x D4 4 = 1,024 operations per cycle at 1 GHz" in shown
    row = next(line for line in shown.splitlines() if line.startswith("lb_w"))
    assert re.split(" {2,}", row) == [
        *("lb_w", "W", "32 KiB", "1", "32 KiB", "512", "512", "17.2", "28.4", "0.0336", "all", "1r 1w")
    ]
    assert "conv       D1: K, D2: C, D3: OX, D4: OY" in shown


def test_hw_text_is_a_page_that_can_be_used(cli: Cli) -> None:
    page = cli.folder / "copy.hw"
    page.write_text(cli("hw", HW, "--text").out, encoding="utf-8")
    assert cli("hw", page).code == 0
    assert cli("hw", page, "--text").out == page.read_text(encoding="utf-8")


def test_hw_may_be_a_page_of_ones_own(cli: Cli) -> None:
    page = hw_page(cli.folder / "own.hw", "accelerator meta_proto_df", "accelerator own")
    assert cli("compile", chain(cli.folder / "net.onnx"), "--hw", page, "--tile", "8x8").out.startswith("net on own")


def test_version_is_the_one_place_s(cli: Cli) -> None:
    assert cli("--version").out == f"dfc {dfc.__version__}\n"
    assert run_process("-m", "dfc", "--version").stdout == f"dfc {dfc.__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["compile", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys; from dfc.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'onnx', 'numpy', 'lark', 'networkx', 'rich.table', 'google.protobuf'} & set(sys.modules);"
        "print('HEAVY', code, sorted(heavy))"
    )
    assert run_process("-c", script, *arguments).stdout.splitlines()[-1] == "HEAVY 0 []"


def test_help_states_exit_codes_and_an_example_for_every_option(cli: Cli) -> None:
    top = cli("--help").out
    for code in ("0 ", "1 ", "2 ", "70 ", "130 "):
        assert f"\n    {code}" in top
    text = " ".join(cli("compile", "--help").out.split())
    for option in ("--hw", "--out", "--objective", "--overlap", "--tile", "--stacks", "--cost-model", "--bind"):
        described = text[text.index(f"{option} ") :]
        assert "Example: " in described[: described.index("Example: ") + 9]


@pytest.mark.parametrize("arguments", [[], ["compile"], ["compile", "net.onnx"], ["nonsense"], ["hw", "--nonsense"]])
def test_wrong_usage_is_2(cli: Cli, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert result.code == 2
    assert "Traceback" not in result.err


def test_a_defect_is_one_line_and_70(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Schedule:
        raise ZeroDivisionError("first\nsecond")

    monkeypatch.setattr("dfc.pipeline.compile", broken)
    monkeypatch.delenv("DFC_TRACEBACK", raising=False)
    result = cli("compile", "net.onnx", "--hw", HW)
    assert result.code == 70
    assert result.err.splitlines() == [
        "internal error: ZeroDivisionError: first second; please report it (DFC_TRACEBACK=1 shows where it happened)"
    ]
    monkeypatch.setenv("DFC_TRACEBACK", "1")
    assert "Traceback" in cli("compile", "net.onnx", "--hw", HW).err


def test_a_reader_that_goes_away_is_no_error() -> None:
    script = "import sys; from dfc.cli import main; sys.exit(main(['hw', 'meta_proto_df']))"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


def test_a_terminal_without_unicode_gets_ascii() -> None:
    out = run_process("-m", "dfc", "report", "/nonexistent/µ", env={"PYTHONIOENCODING": "ascii"})
    assert out.returncode == 1
    assert "/nonexistent/u" in out.stderr


def test_colours_are_for_terminals(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in cli("hw", HW).out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[1m" in cli("hw", HW).out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in cli("hw", HW).out


def test_tables_follow_the_width(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("compile", chain(cli.folder / "net.onnx"), "--hw", HW, "-q")
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, cli("report", "net.dfc").out.splitlines())) <= 60
