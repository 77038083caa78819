"""The texts say what is so: codes, links, options, commands and the output that the README shows.

With DFC_UPDATE_GOLDEN=1 the outputs in the README are written anew instead of compared.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer
from cli_helpers import chain

import dfc
from dfc import (
    causal,
    cli_cache,
    cli_causal,
    cli_figure,
    cli_opt,
    cli_output,
    cli_step,
    cli_values,
    emit,
    files,
    frontend,
    step_compile,
)
from dfc.backend_cost.rules_text import parse_rules
from dfc.cli import app
from dfc.frontend.stream_model import STREAM_CODES
from dfc.frontend.timed import TIME_CODES
from dfc.hwdsl import parse_arch
from dfc.mlir import diagnostics
from dfc.report import render

ROOT = Path(__file__).parent.parent
ROOMS = ("dfc", "ir", "frontend", "passes", "hwdsl", "backend_cost", "scheduling", "execution", "mlir")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")])
USER_PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = re.compile(r"(?:ONNX|HW|IR|MAP|MLIR|CLI)[0-9]{3}")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
#: options of the tools that set dfc up and test it
FOREIGN = {
    "--torch-backend-to-linalg-on-tensors-backend-pipeline",
    "--canonicalize",
    "--cov",
    "--cov-branch",
    "--cov-report",
}


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def sources() -> Iterator[Path]:
    for room in ROOMS:
        yield from (p for p in (ROOT / room).glob("*.py"))


def raised_codes() -> set[str]:
    """Codes that stand in the source as a string of their own; tables in docstrings are no strings of their own."""
    found: set[str] = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                found.add(node.value)
    return found


@cache
def error_table() -> dict[str, str]:
    """Meaning by code in docs/errors.md."""
    rows: dict[str, str] = {}
    for line in (ROOT / "docs" / "errors.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.replace("\\|", "/").split("|")]
        if len(cells) > 3 and CODE.fullmatch(cells[1].strip("`")):
            code = cells[1].strip("`")
            assert code not in rows, f"{code} stands twice"
            assert len(cells) == 5, f"the row of {code} has {len(cells) - 2} cells"
            assert cells[2], code
            assert cells[3], code
            rows[code] = cells[2]
    return rows


def test_every_code_is_documented_and_no_other() -> None:
    raised, documented = raised_codes(), set(error_table())
    assert raised - documented == set(), "codes that docs/errors.md lacks"
    assert documented - raised == set(), "codes in docs/errors.md that nothing raises"


def test_meanings_are_those_of_the_code() -> None:
    for codes in (
        frontend.CODES,
        TIME_CODES,
        STREAM_CODES,
        files.CODES,
        cli_values.CODES,
        cli_cache.CODES,
        cli_output.CODES,
        cli_figure.CODES,
        cli_opt.CODES,
        cli_causal.CODES,
        causal.CODES,
        cli_step.CODES,
        step_compile.CODES,
        emit.CODES,
        diagnostics.CODES,
    ):
        for code, meaning in codes.items():
            assert error_table()[code].replace("`", "") == meaning, code


def test_the_hardware_page_lists_the_same_codes() -> None:
    listed = set(re.findall(r"^\| (HW[0-9]{3}) \|", (ROOT / "docs" / "hardware-language.md").read_text(), re.M))
    assert listed == {code for code in error_table() if code.startswith("HW")}


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as the usual renderers make them."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_resolve(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name} links to {target}"
        assert path.is_relative_to(ROOT), f"{page.name} links out of the repository: {target}"
        assert not anchor or anchor in anchors(path), f"{page.name} links to {target}: no such heading"


@cache
def options() -> frozenset[str]:
    """Every option of every command, those in groups included."""
    commands = [typer.main.get_command(app)]
    for command in commands:  # grows on the way
        commands += getattr(command, "commands", {}).values()
    spelled = {o for c in commands for p in c.params for o in (*p.opts, *p.secondary_opts)}
    return frozenset({*spelled, "--help"})


@pytest.mark.parametrize("page", USER_PAGES, ids=page_id)
def test_options_exist(page: Path) -> None:
    assert set(OPTION.findall(page.read_text())) - options() - FOREIGN == set()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_paths_in_backquotes_exist(page: Path) -> None:
    """``passes/tiles.py`` and the like."""
    for path in re.findall(
        r"`((?:dfc|ir|frontend|passes|hwdsl|backend_cost|scheduling|execution|mlir|benchmarks|tests|docs)/[\w./-]+\.\w+)`",
        page.read_text(),
    ):
        assert (ROOT / path).exists(), f"{page.name} names {path}"


def test_architecture_names_every_file() -> None:
    """Each file of a room stands in one row of the room's table, and nothing else does."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for room in ROOMS:
        table = text.partition(f"\n### `{room}/`")[2].partition("\n#")[0]
        names = [name for row in re.findall(r"^\| (`[^|]*) \|", table, re.M) for name in re.findall(r"`([^`]+)`", row)]
        there = [p.name for p in (ROOT / room).iterdir() if p.suffix in (".py", ".c", ".h") and p.name != "__init__.py"]
        assert sorted(n for n in names if not n.endswith("/")) == sorted(there)


def test_the_readme_lists_every_document() -> None:
    table = (ROOT / "README.md").read_text().partition("\n## Documents\n")[2].partition("\n## ")[0]
    for page in sorted((ROOT / "docs").glob("*.md")):
        if page.name != "index.md":
            assert table.count(f"(docs/{page.name})") == 1, f"README.md does not list {page_id(page)} once"


def test_the_readme_has_the_two_commands() -> None:
    lines = [x[2:] for x in (ROOT / "README.md").read_text().splitlines() if x.startswith("$ ")]
    assert len(lines) == 2
    assert ".venv/bin/dfc compile examples/models/fsrcnn.onnx" in lines[0]
    assert [line for line in lines if "pytest" in line] == lines[1:]  # what .ci/run looks for


def compare_block(name: str, actual: str) -> None:
    """The text block between the README's comments ``name`` and ``end of name`` is ``actual``."""
    path = ROOT / "README.md"
    text = path.read_text()
    start, end = f"<!-- {name} -->\n```text\n", f"```\n<!-- end of {name} -->"
    before, _, rest = text.partition(start)
    shown, found, after = rest.partition(end)
    assert found, f"README.md has no block {name}"
    if os.environ.get("DFC_UPDATE_GOLDEN") == "1":
        path.write_text(f"{before}{start}{actual}{end}{after}")
    else:
        assert shown == actual, "run this test with DFC_UPDATE_GOLDEN=1 to renew README.md"


@pytest.mark.slow
def test_the_readme_shows_the_real_report() -> None:
    schedule = dfc.compile(ROOT / "examples" / "models" / "fsrcnn.onnx", "meta_proto.hw")
    compare_block("report", render(schedule))


def test_the_readme_snippet_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    exec(compile(snippet, "README.md", "exec"), {})
    compare_block("snippet", capsys.readouterr().out)


@pytest.mark.slow
def test_the_readme_accelerator_is_one() -> None:
    text = (ROOT / "README.md").read_text()
    (page,) = re.findall(r"```hw\n(.*?)```", text, re.S)
    arch = parse_arch(page)
    assert arch.name == "my_chip"
    model = ROOT / "examples" / "models" / "fsrcnn.onnx"
    mj = [dfc.compile(model, hw, tile="60x72").totals.energy_pj / 1e9 for hw in (arch, "meta_proto_df")]
    assert f"FSRCNN takes {mj[0]:.3f} mJ on it, and {mj[1]:.3f} mJ on `meta_proto_df`" in " ".join(text.split())


def test_the_readme_rules_are_kept() -> None:
    (page,) = re.findall(r"```map\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    model = ROOT / "examples" / "models" / "fsrcnn.onnx"
    found = dfc.compile(model, "meta_proto_df", tile="60x72", overlap="cached", rules=parse_rules(page, "my_rules.map"))
    assert "parts of the mappings are fixed by my_rules.map" in found.notes
    assert not any("without effect" in note for note in found.notes)
    runs = [run for s in found.stacks for c in s.tile_classes for run in c.layers if run.layer.startswith("map")]
    assert len(runs) == 4 * len(found.stacks[0].tile_classes)
    for run in runs:
        loops = [text.split()[0] for text in run.loops]
        kernel = max((i for i, name in enumerate(loops) if name in ("FX", "FY")), default=-1)
        assert all(kernel < i for i, name in enumerate(loops) if name == "C")


PLAIN = """
import sys
for part in sys.argv[2:]:
    sys.modules[f"dfc.backend_cost.{part}"] = None  # as where no compiler was
import dfc
print(dfc.compile(sys.argv[1], "meta_proto_df", objective="edp", tile="5x4").to_json(), end="")
"""


def test_it_works_without_the_compiled_parts(tmp_path: Path) -> None:
    model = chain(tmp_path / "net.onnx")
    parts = [part.stem for part in (ROOT / "backend_cost").glob("_*.c")]
    command = [sys.executable, "-c", PLAIN, str(model), *parts]
    plain = subprocess.run(command, capture_output=True, text=True, check=True)
    assert plain.stdout == dfc.compile(model, "meta_proto_df", objective="edp", tile="5x4").to_json()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_plain_text(page: Path) -> None:
    """No path of somebody's machine, nothing that only a typesetter would type."""
    text = page.read_text()
    assert not re.search(r"/(?:home|Users|root|work)/", text)
    assert not re.search("[\u2014\u2013\U0001f000-\U0001ffff]", text)
