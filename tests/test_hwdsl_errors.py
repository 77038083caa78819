"""Every diagnostic of the hardware language, as it is drawn.

tests/data/hw_errors holds one page per mistake and, beside it, what is printed; the page's name starts with the
code. DFC_UPDATE_GOLDEN=1 rewrites the expected texts; read the difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dfc.errors import HardwareError
from dfc.hwdsl import load_arch, parse_arch

FOLDER = Path(__file__).parent / "data" / "hw_errors"
PAGES = sorted(FOLDER.glob("*.hw"))


def _diagnostic(page: Path) -> HardwareError:
    with pytest.raises(HardwareError) as caught:
        parse_arch(page.read_text(encoding="utf-8"), page.name)
    return caught.value


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_golden(page: Path) -> None:
    error = _diagnostic(page)
    golden = page.with_suffix(".txt")
    if os.environ.get("DFC_UPDATE_GOLDEN") == "1":
        golden.write_text(error.render() + "\n", encoding="utf-8")
    assert error.code == page.name[:5]
    assert error.render() + "\n" == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_places_are_true(page: Path) -> None:
    """The span lies within the line that it quotes, and that line is the file's."""
    span = _diagnostic(page).span
    if span is None:
        assert page.name.startswith("HW004")
        return
    if span.file != page.name:
        assert span.file.startswith("dfc/hwdsl/lib/")
        return
    lines = page.read_text(encoding="utf-8").split("\n")
    assert span.text == lines[span.line - 1]
    assert span.column >= 1
    assert span.column - 1 + span.length <= len(span.text) + 1


def test_no_golden_without_page() -> None:
    texts = {p.stem for p in FOLDER.glob("*.txt")}
    assert texts == {p.stem for p in PAGES}


def test_every_code_is_documented() -> None:
    manual = (FOLDER.parents[2] / "docs" / "hardware-language.md").read_text(encoding="utf-8")
    assert {page.name[:5] for page in PAGES} <= {word.strip("|` ") for word in manual.split()}


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("nowhere/meta_protodf.hw", "HW001", "did you mean 'meta_proto_df'?"),
        ("xyz", "HW001", "the library has ascend_like"),
        ("../lib/../../etc/passwd", "HW001", "no such file"),
        (".", "HW002", "folder"),
        ("a\0b", "HW00", "a?b"),
        ("x" * 5000, "HW00", ""),
        ("binary.hw", "HW003", "not UTF-8"),
        ("empty.hw", "HW004", "empty"),
        ("spaces.hw", "HW004", "empty"),
        ("large.hw", "HW002", "larger"),
    ],
)
def test_files(name: str, code: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("binary.hw").write_bytes(b"\x08\x07\x12\xff\xfe")
    Path("empty.hw").write_bytes(b"")
    Path("spaces.hw").write_text(" \n\t\n", encoding="utf-8")
    Path("large.hw").write_bytes(b"#" * (1 << 21))
    with pytest.raises(HardwareError) as caught:
        load_arch(name)
    assert caught.value.code.startswith(code)
    assert says in caught.value.render()


def test_unknown_name_in_page() -> None:
    with pytest.raises(HardwareError, match="no accelerator 'b' here") as caught:
        parse_arch("accelerator a extends meta_proto { }", name="b")
    assert caught.value.code == "HW022"


def test_a_mistake_in_a_base_points_into_the_base(tmp_path: Path) -> None:
    (tmp_path / "base.hw").write_text("accelerator base extends meta_proto {\n  memory lb_w { min 64 b }\n}\n")
    page = tmp_path / "mine.hw"
    page.write_text("accelerator mine extends base {\n  memory lb_w { width 32 b }\n}\n")
    with pytest.raises(HardwareError) as caught:
        load_arch(page)
    assert caught.value.code == "HW050"
    assert caught.value.span is not None and caught.value.span.file.endswith("base.hw")
    assert caught.value.span.line == 2


def test_cycle_across_files(tmp_path: Path) -> None:
    (tmp_path / "a.hw").write_text("accelerator a extends b { }")
    (tmp_path / "b.hw").write_text("accelerator b extends a { }")
    with pytest.raises(HardwareError) as caught:
        load_arch(tmp_path / "a.hw")
    assert caught.value.code == "HW021"


@pytest.mark.parametrize("text", ["\x1b[31m", "accelerator \x00", "accelerator a {\u2028 ü", "}" * 5000, "\ufeff{"])
def test_strange_text_is_safe_to_show(text: str) -> None:
    with pytest.raises(HardwareError) as caught:
        parse_arch(text)
    assert all(c.isprintable() or c == "\n" for c in caught.value.render())
