"""What docs/command-line.md shows is what the commands print."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
from cli_helpers import Cli

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "command-line.md"
BLOCK = re.compile(r"^```console\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def replay(cli: Cli, block: str) -> str:
    """The block's commands with what they print now: standard output, or the diagnostic where they fail."""
    parts: list[str] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            words = shlex.split(line[2:])
            assert words[0] == "dfc"
            result = cli(*words[1:])
            assert result.code == (1 if result.err.startswith("error[") else 0), result
            parts.append(f"{line}\n{result.out or result.err}")
    return "\n".join(parts)


@pytest.mark.slow
def test_page_shows_what_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DFC_UPDATE_GOLDEN=1 writes the page anew; read the difference before you keep it."""
    for name in ("FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "examples").symlink_to(ROOT / "examples", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    cli = Cli(tmp_path, capsys)
    text = PAGE.read_text(encoding="utf-8")
    now = BLOCK.sub(lambda match: f"```console\n{replay(cli, match[1])}```\n", text)
    if os.environ.get("DFC_UPDATE_GOLDEN"):
        PAGE.write_text(now, encoding="utf-8")
        text = now
    assert now == text


def test_the_loop_nest_shown_is_the_example() -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert shown == (ROOT / "examples" / "nests" / "conv3x3.json").read_text(encoding="utf-8")
