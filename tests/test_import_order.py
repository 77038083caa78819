"""Data flows one way: which room may import which, read from the imports themselves."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: what each room may import of dfc, besides itself
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "_version": set(),
    "units": set(),
    "files": {"errors"},
    "causal": {"errors", "ir", "frontend", "passes"},
    "ir": {"errors"},
    "frontend": {"errors", "ir"},
    "hwdsl": {"errors", "ir"},
    "passes": {"errors", "ir"},
    "backend_cost": {"errors", "_version", "units", "ir", "hwdsl", "passes"},
    "scheduling": {"errors", "_version", "units", "ir", "hwdsl", "passes", "backend_cost"},
    "execution": {"errors", "causal", "ir", "frontend", "hwdsl", "passes", "backend_cost"},
    "mlir": {"errors", "ir", "frontend", "passes", "backend_cost", "scheduling"},
}
ROOMS = ("ir", "frontend", "hwdsl", "passes", "backend_cost", "scheduling", "execution", "mlir")


def modules() -> list[tuple[str, Path]]:
    found = [(room, path) for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return found + [(p.stem, p) for p in sorted((ROOT / "dfc").glob("*.py")) if p.stem in ALLOWED]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{a.name}" if node.module == "dfc" else str(node.module) for a in node.names}
    return names


@pytest.mark.parametrize(("room", "path"), modules(), ids=lambda v: str(v).removeprefix(f"{ROOT}/"))
def test_imports(room: str, path: Path) -> None:
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "dfc" and len(parts) > 1:
            assert parts[1] in ALLOWED[room] | {room}, f"{path} imports {name}"
        assert parts[0] not in ROOMS, f"{path} imports {name}: a second copy of dfc.{name}"


#: rule 5 of ARCHITECTURE.md: foreign things, and the one place that knows each
FOREIGN = {
    "onnx": "frontend",
    "lark": "hwdsl/parser.py",
    "sqlite3": "backend_cost/store_file.py",
    "matplotlib": "dfc/figure_draw.py",
    "onnxruntime": "execution/runtime.py",
    "xdsl": "mlir",
}


@pytest.mark.parametrize("thing", FOREIGN)
def test_one_place_knows_each_foreign_thing(thing: str) -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for folder in ("dfc", *ROOMS)
        for path in (ROOT / folder).glob("*.py")
        if {name.split(".")[0].removeprefix("_") for name in imported(path)} & {thing}
    }
    assert users
    assert all(user == FOREIGN[thing] or user.startswith(f"{FOREIGN[thing]}/") for user in users), users


def test_nothing_is_unpickled() -> None:
    for folder in ("dfc", *ROOMS):
        for path in (ROOT / folder).glob("*.py"):
            assert not {n.split(".")[0] for n in imported(path)} & {"pickle", "marshal", "shelve", "dill"}, path


def test_no_eval() -> None:
    for _, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "__import__"}, path
