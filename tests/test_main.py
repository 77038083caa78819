"""Ctrl-C while modules load: a module that is interrupted stands in for the moment at which it comes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONSOLE_SCRIPT = "import sys; from dfc.__main__ import main; sys.exit(main())"


def run(folder: Path, interrupted: str, *arguments: str) -> tuple[int, str, str]:
    """Run Python with a module of this name that raises KeyboardInterrupt when it is imported."""
    (folder / f"{interrupted}.py").write_text("raise KeyboardInterrupt\n", encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=folder,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("how", [("-m", "dfc"), ("-c", CONSOLE_SCRIPT)])
def test_while_the_command_line_loads(tmp_path: Path, how: tuple[str, str]) -> None:
    assert run(tmp_path, "typer", *how, "--version") == (130, "", "interrupted\n")


def test_while_the_compiler_loads(tmp_path: Path) -> None:
    found = run(tmp_path, "numpy", "-m", "dfc", "compile", "net.onnx", "--hw", "meta_proto_df")
    assert found == (130, "", "interrupted before a schedule was found; nothing is written\n")


def test_all_is_well_without() -> None:
    for how in (("-m", "dfc"), ("-c", CONSOLE_SCRIPT)):
        done = subprocess.run([sys.executable, *how, "hw"], capture_output=True, text=True, check=True, timeout=60)
        assert "meta_proto_df" in done.stdout
