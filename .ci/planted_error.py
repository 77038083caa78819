"""Shows that both type checkers and the linter look into every room: a planted error in each must be found.

Runs in a copy of the checkout, so that nothing is left behind. The copy has every file and the settings of the tools,
but modules without content: where a tool looks is asked, and looking takes it seconds then and not a minute.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOMS = ("ir", "frontend", "passes", "hwdsl", "backend_cost", "scheduling", "execution", "mlir", "dfc")
PLANTED = '"""Planted."""\n\nimport ir\n\nplanted: int = "not a number"\n'
SKIP = shutil.ignore_patterns(".git", ".venv*", "dist", "build", "*.egg-info", ".*_cache", ".hypothesis", "__pycache__")


def found(command: list[str], folder: Path) -> str:
    """What a tool prints; it must fail."""
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if run.returncode == 0:
        sys.exit(f"{command[0]} found none of the planted errors")
    return run.stdout + run.stderr


def main() -> None:
    """Plant an error in every room and look for each in what the tools say."""
    tools = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "dfc"
        shutil.copytree(Path(__file__).parent.parent, copy, symlinks=True, ignore=SKIP)
        for room in ROOMS:
            for module in (copy / room).glob("*.py"):
                module.write_text('"""Empty."""\n')
            (copy / room / "planted.py").write_text(PLANTED)
        for command in (
            [str(tools / "mypy"), "--cache-dir", f"{scratch}/cache"],
            [str(tools / "pyright"), "--pythonpath", sys.executable],
            [str(tools / "ruff"), "check", "--no-cache", "--output-format", "concise", "."],
        ):
            said = found(command, copy)
            missing = [room for room in ROOMS if f"{room}/planted.py" not in said]
            if missing:
                sys.exit(f"{command[0]} did not see the planted error in: {', '.join(missing)}")
            print(f"{Path(command[0]).name}: sees all {len(ROOMS)} rooms")


if __name__ == "__main__":
    main()
