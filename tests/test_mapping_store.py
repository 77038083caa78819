"""The cache of mappings on disk: exact, shared, bounded, and never in the way when something is wrong with it."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import multiprocessing
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import HW, Cli, Result, chain
from hypothesis import given
from hypothesis import strategies as st
from nest_examples import Example, memory

import dfc
from dfc.backend_cost import mapping_key, store_file
from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import MappingCost, Objective, TooSmall
from dfc.backend_cost.mapping_json import decode, encode
from dfc.backend_cost.mapping_search import search_mapping
from dfc.backend_cost.mapping_store import MappingStore, default_folder, place_of
from dfc.backend_cost.nest import Loop, Mapping
from dfc.backend_cost.rules_text import parse_rules
from dfc.ir import Dim, Role

SMALL = TooSmall(2, 4096)
EXAMPLE = Example(
    {"K": 8, "C": 4, "OX": 6, "FX": 3},
    (memory("r", "W", across="B"), memory("o", "O", across="A"), memory("l", "IO"), memory("d", "IWO", ports="1")),
    (("A", "K", 4), ("B", "C", 2)),
)

whole = st.integers(0, 2**62)
finite = st.floats(allow_nan=False, allow_infinity=False)
by_memory = st.dictionaries(st.integers(0, 9), finite, max_size=4)
costs = st.builds(
    MappingCost,
    mapping=st.builds(
        Mapping,
        st.lists(st.builds(Loop, st.sampled_from(Dim), st.integers(2, 10**6)), max_size=5).map(tuple),
        st.lists(st.lists(st.integers(0, 9), max_size=3).map(tuple), max_size=3).map(tuple),
    ),
    energy_pj=finite,
    compute_pj=finite,
    memory_pj=st.dictionaries(st.tuples(st.integers(0, 9), st.sampled_from(Role)), finite, max_size=6),
    ideal_cycles=whole,
    stall_cycles=whole,
    loading_cycles=whole,
    offloading_cycles=whole,
    offloading_counts=st.booleans(),
    read_bits=by_memory,
    write_bits=by_memory,
    gap=st.none() | st.just(0.0) | st.floats(0, 1),
)


def key_of(number: int) -> bytes:
    return number.to_bytes(mapping_key.KEY_BYTES, "big")


def database(folder: Path) -> Path:
    return place_of(folder) / store_file.FILE


def filled(folder: Path, number: int = 40) -> Path:
    with MappingStore(folder) as store:
        for i in range(number):
            store.put(key_of(i), TooSmall(i, 8 * i))
    return database(folder)


# -- what is kept comes back


@given(costs)
def test_a_cost_comes_back_as_it_was(cost: MappingCost) -> None:
    found = decode(encode(cost))
    assert isinstance(found, MappingCost)
    assert found == cost
    assert list(found.memory_pj) == list(cost.memory_pj)  # sums of floats depend on the order
    assert type(found.gap) is type(cost.gap)


@pytest.mark.parametrize("objective", Objective)
def test_a_found_mapping_outlives_the_store(tmp_path: Path, objective: Objective) -> None:
    found = search_mapping(EXAMPLE.nest, EXAMPLE.arch, objective, EXACT)
    assert isinstance(found, MappingCost)
    with MappingStore(tmp_path) as store:
        assert store.get(key_of(1)) is None
        store.put(key_of(1), found)
        store.put(key_of(2), SMALL)
        assert (store.get(key_of(1)), store.get(key_of(2))) == (found, SMALL)  # not written yet
    with MappingStore(tmp_path) as store:
        assert (store.get(key_of(1)), store.get(key_of(2)), store.get(key_of(3))) == (found, SMALL, None)
        assert store.info()[0] == 2
    assert store.notes == []


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_is_not_kept(tmp_path: Path, value: float) -> None:
    found = search_mapping(EXAMPLE.nest, EXAMPLE.arch, Objective.ENERGY, EXACT)
    assert isinstance(found, MappingCost)
    with MappingStore(tmp_path) as store:
        store.put(key_of(1), dataclasses.replace(found, energy_pj=value))
        assert store.get(key_of(1)) is None
    assert store.notes == []


def parts_of_a_cost() -> list[Any]:
    found = search_mapping(EXAMPLE.nest, EXAMPLE.arch, Objective.ENERGY, EXACT)
    parts: list[Any] = json.loads(encode(found))
    return parts


@pytest.mark.parametrize("text", ["", "{}", "[]", "3", "null", "[1]", "[1,2.5]", "[true,1]", "[NaN,1]", "[" * 10**5])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode(text.encode())


@pytest.mark.parametrize("wrong", [None, "x", {}, [[1.5]], [["a", "b", "c"]], 1e999])
@pytest.mark.parametrize("at", range(9))
def test_changed_parts_are_refused(at: int, wrong: object) -> None:
    parts = parts_of_a_cost()
    parts[at] = wrong
    with pytest.raises(ValueError):
        decode(json.dumps(parts).encode())


# -- in the search


def test_a_second_run_searches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with MappingStore(tmp_path) as store:
        first = MappingCache(EXAMPLE.arch, Objective.ENERGY, EXACT, store=store)
        found = first.best(EXAMPLE.nest)
        assert first.best(EXAMPLE.nest) is found
        assert (first.searches, first.solved, first.recalled) == (1, 1, 0)
    monkeypatch.setattr("dfc.backend_cost.mapping_cache.search_mapping", None)
    with MappingStore(tmp_path) as store:
        second = MappingCache(EXAMPLE.arch, Objective.ENERGY, EXACT, store=store)
        assert second.best(EXAMPLE.nest) == found
        assert (second.searches, second.solved, second.recalled) == (1, 0, 1)


def test_rules_mean_the_memories_of_these_names(tmp_path: Path) -> None:
    """Two chips that differ in the names of their memories alone: a rule that names one is not the same on both."""
    memories = EXAMPLE.arch.memories
    names = {"o": "l", "l": "o"}
    turned = tuple(dataclasses.replace(m, name=names.get(m.name, m.name)) for m in memories)
    page = parse_rules("layer a { hold O in o: K <= 4, OX 1 }").layer("a", (1, 1))
    chips = (EXAMPLE.arch, dataclasses.replace(EXAMPLE.arch, memories=turned))
    alone = [search_mapping(EXAMPLE.nest, chip, Objective.ENERGY, EXACT, rules=page) for chip in chips]
    assert alone[0] != alone[1]
    for recalled in (0, 1):
        for chip, expected in zip(chips, alone, strict=True):
            with MappingStore(tmp_path) as store:
                cache = MappingCache(chip, Objective.ENERGY, EXACT, store=store)
                assert cache.best(EXAMPLE.nest, page) == expected
                assert cache.recalled == recalled
    with MappingStore(tmp_path) as store:  # without rules names do not matter
        found = [MappingCache(chip, Objective.ENERGY, EXACT, store=store).best(EXAMPLE.nest) for chip in chips]
        assert found[0] == found[1]
        assert store.info()[0] == 2  # and what is new is one more
        store.flush()
        assert store.info()[0] == 3


def test_a_schedule_from_the_cache_is_the_same(tmp_path: Path) -> None:
    model = chain(tmp_path / "net.onnx")
    alone = dfc.compile(model, HW, tile="4x4")
    first = dfc.compile(model, HW, tile="4x4", cache=tmp_path / "cache")
    second = dfc.compile(model, HW, tile="4x4", cache=str(tmp_path / "cache"))
    assert alone.to_json() == first.to_json() == second.to_json()


# -- shared


def _write_and_read(folder: Path, first: int, number: int) -> list[str]:
    with MappingStore(folder) as store:
        for i in range(first, first + number):
            store.put(key_of(i), TooSmall(i, 8 * i))
            if i % 10 == 0:
                store.flush()
            for other in (abs(i - number), i, i + number):
                found = store.get(key_of(other))
                assert found is None or found == TooSmall(other, 8 * other)
        return store.notes


def test_processes_share_it(tmp_path: Path) -> None:
    jobs = [(tmp_path, first, 400) for first in (0, 300, 600)]  # some keys are written twice
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.starmap(_write_and_read, jobs) == [[], [], []]
    with MappingStore(tmp_path) as store:
        assert [store.get(key_of(i)) for i in range(1000)] == [TooSmall(i, 8 * i) for i in range(1000)]
        assert store.notes == []


def test_one_that_is_built_anew_leaves_others_alone(tmp_path: Path) -> None:
    filled(tmp_path)
    with MappingStore(tmp_path) as old, MappingStore(tmp_path) as other:
        assert old.get(key_of(3)) == TooSmall(3, 24)
        other._rebuild("a test")
        other.put(key_of(1), SMALL)
        other.flush()
        old.put(key_of(50), SMALL)  # into the file that is gone
        old.close()
        assert other.get(key_of(1)) == SMALL
        other.put(key_of(2), SMALL)
    with MappingStore(tmp_path) as store:
        assert [store.get(key_of(i)) for i in (1, 2, 3, 50)] == [SMALL, SMALL, None, None]
    assert old.notes == store.notes == []


def test_a_lock_that_is_held_is_waited_for_and_then_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path)
    monkeypatch.setattr(store_file, "_BUSY_SECONDS", 0.05)
    with sqlite3.connect(path, isolation_level=None) as holder, MappingStore(tmp_path) as store:
        holder.execute("BEGIN IMMEDIATE")
        store.put(key_of(100), SMALL)
        store.flush()
        assert store.get(key_of(100)) == SMALL and store.get(key_of(3)) == TooSmall(3, 24)
        holder.execute("ROLLBACK")
    holder.close()
    with MappingStore(tmp_path) as store:
        assert store.get(key_of(100)) == SMALL
        assert store.notes == []


# -- damaged


def _text(path: Path) -> None:
    path.write_text("this is no database\n" * 500, encoding="utf-8")


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def _zeros(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)


def _noise(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for i in range(4096, len(content), 7):
        content[i] ^= 0x5A
    path.write_bytes(content)


def _sql(*statements: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        db = sqlite3.connect(path)
        for statement in statements:
            db.execute(statement)
        db.commit()
        db.close()

    return change


def _right_sum(text: bytes) -> Callable[[Path], None]:
    """A text with its checksum that no dfc wrote."""

    def change(path: Path) -> None:
        db = sqlite3.connect(path)
        for i in range(40):
            total = store_file.checksum(key_of(i), text)
            db.execute("UPDATE results SET text = ?, sum = ? WHERE key = ?", (text, total, key_of(i)))
        db.commit()
        db.close()

    return change


DAMAGES = {
    "text": _text,
    "truncated": _truncated,
    "header alone": _header,
    "zeros": _zeros,
    "noise": _noise,
    "no table": _sql("DROP TABLE results"),
    "other table": _sql("DROP TABLE results", "CREATE TABLE results (key, value)"),
    "other application": _sql("PRAGMA application_id = 7"),
    "changed text": _sql("UPDATE results SET text = CAST('[1,2]' AS BLOB)"),
    "swapped texts": _sql("UPDATE results SET text = (SELECT text FROM results r WHERE r.key != results.key)"),
    "other types": _sql("UPDATE results SET text = 7, used = 'today'"),
    "no json": _right_sum(b"{"),
    "other json": _right_sum(b'{"mapping": 1}'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed_and_built_anew(tmp_path: Path, damage: str) -> None:
    path = filled(tmp_path)
    DAMAGES[damage](path)
    with MappingStore(tmp_path) as store:
        answers = [store.get(key_of(i)) for i in range(40)]
        assert all(a is None or a == TooSmall(i, 8 * i) for i, a in enumerate(answers))
        assert None in answers
        for i in range(40):
            store.put(key_of(i), TooSmall(i, 8 * i))
    (note,) = store.notes
    assert str(tmp_path) in note and "was damaged (" in note
    assert [p.name for p in tmp_path.iterdir()] == [place_of(tmp_path).name]  # nothing is left of the old one
    with MappingStore(tmp_path) as store:
        assert [store.get(key_of(i)) for i in range(40)] == [TooSmall(i, 8 * i) for i in range(40)]
        assert store.notes == []


def test_damage_while_it_is_open(tmp_path: Path) -> None:
    path = filled(tmp_path, 1000)
    with MappingStore(tmp_path) as store:
        store.put(key_of(2000), SMALL)
        _noise(path)
        answers = [store.get(key_of(i)) for i in range(1000)]
        assert all(a is None or a == TooSmall(i, 8 * i) for i, a in enumerate(answers))
    assert len(store.notes) == 1
    with MappingStore(tmp_path) as store:
        assert store.get(key_of(2000)) == SMALL  # what was new is not lost


def test_what_stays_damaged_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise store_file.DamagedError("nothing helps")

    monkeypatch.setattr(store_file.StoreFile, "_prepare", broken)
    with MappingStore(tmp_path) as store:
        assert not store.usable
        store.put(key_of(1), SMALL)
        assert store.get(key_of(1)) is None
    assert store.notes[-1].endswith("cannot be used: nothing helps")


# -- not usable


def test_places_that_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way", encoding="utf-8")
    (tmp_path / "taken").mkdir()
    place_of(tmp_path / "taken").write_text("in the way", encoding="utf-8")
    for folder in (file, file / "below", tmp_path / "taken", Path("/proc/dfc"), Path("a\0b")):
        with MappingStore(folder) as store:
            assert not store.usable
            assert store.get(key_of(1)) is None
            store.put(key_of(1), SMALL)
            assert store.info() == (0, 0)
        (note,) = store.notes
        assert "cannot be used: " in note
    assert file.read_text(encoding="utf-8") == "in the way"


def test_a_full_disk(tmp_path: Path) -> None:
    filled(tmp_path)
    with MappingStore(tmp_path) as store:
        assert store.usable and store._file is not None
        (pages,) = store._file._db.execute("PRAGMA page_count").fetchone()
        store._file._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite then says what it says of a full disk
        for i in range(100, 2000):
            store.put(key_of(i), TooSmall(i, i))
        assert not store.usable
    (note,) = store.notes
    assert note.endswith("cannot be used: database or disk is full")
    with MappingStore(tmp_path) as store:
        assert store.get(key_of(3)) == TooSmall(3, 24)


def test_a_file_that_is_read_only(tmp_path: Path) -> None:
    filled(tmp_path)
    with MappingStore(tmp_path) as store:
        assert store.usable and store._file is not None
        store._file._db.execute("PRAGMA query_only = ON")  # root may write anywhere
        assert store.get(key_of(3)) == TooSmall(3, 24)
        store.put(key_of(100), SMALL)
    (note,) = store.notes
    assert "attempt to write a readonly database" in note


def test_python_without_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_file, "_HAS_SQLITE", False)
    with MappingStore(tmp_path) as store:
        assert not store.usable
    assert "built without SQLite" in store.notes[0]


# -- bounded


def test_the_longest_unused_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 200_000
    answer = search_mapping(EXAMPLE.nest, EXAMPLE.arch, Objective.ENERGY, EXACT)
    assert isinstance(answer, MappingCost)
    day = [0]
    monkeypatch.setattr(store_file, "_now", lambda: 10**9 + 90_000 * day[0])
    with MappingStore(tmp_path, most) as store:
        for i in range(2000):
            day[0] = i // 100
            store.put(key_of(i), answer)
            assert store.get(key_of(min(i, 5))) == answer  # what is used stays
            if i % 50 == 49:
                store.flush()
                assert store.info()[1] <= most
        entries, size = store.info()
        kept = [i for i in range(2000) if store.get(key_of(i))]
        assert most / 2 < size <= most
        assert len(kept) == entries > 100
        assert kept == [5, *range(2001 - entries, 2000)]
    assert database(tmp_path).stat().st_size <= 1.1 * most  # the file shrinks too


# -- places


def test_default_places(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path("/home/somebody")
    monkeypatch.setattr(Path, "home", lambda: home)
    assert default_folder({"DFC_CACHE_DIR": "/fast/dfc", "XDG_CACHE_HOME": "/x"}, "linux") == Path("/fast/dfc")
    assert default_folder({"XDG_CACHE_HOME": "/x"}, "linux") == Path("/x/dfc")
    assert default_folder({"XDG_CACHE_HOME": "x"}, "linux") == home / ".cache" / "dfc"
    assert default_folder({"DFC_CACHE_DIR": ""}, "linux") == home / ".cache" / "dfc"
    assert default_folder({}, "darwin") == home / "Library" / "Caches" / "dfc"
    assert default_folder({"LOCALAPPDATA": "/local"}, "win32") == Path("/local/dfc/cache")
    assert default_folder({}, "win32") == home / "AppData" / "Local" / "dfc" / "cache"

    def homeless() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", homeless)
    assert default_folder({}, "linux") is default_folder({}, "win32") is None
    assert default_folder({"XDG_CACHE_HOME": "/x"}, "linux") == Path("/x/dfc")


# -- the command line


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DFC_CACHE_DIR", str(tmp_path / "usual"))
    return Cli(tmp_path, capsys)


def compiled(cli: Cli, *options: str) -> str:
    result = cli("compile", chain(cli.folder / "net.onnx"), "--hw", HW, "--tile", "4x4", *options)
    assert result.code == 0, result
    return result.err


def test_the_summary_says_what_came_from_the_cache(cli: Cli) -> None:
    assert "mappings solved\n" in compiled(cli)
    assert ": 0 mappings solved, " in compiled(cli)
    assert " from the cache\n" not in compiled(cli, "--no-cache")
    assert " from the cache\n" not in compiled(cli, "--cache", "other")
    assert " from the cache\n" in compiled(cli, "--cache", "other")
    assert place_of(cli.folder / "other").is_dir()


def test_without_a_cache_nothing_is_written(cli: Cli) -> None:
    compiled(cli, "--no-cache")
    assert not (cli.folder / "usual").exists()


def test_the_command_shows_and_clears(cli: Cli) -> None:
    empty = cli("cache").out
    assert "answers  0 " in empty and not (cli.folder / "usual").exists()
    compiled(cli)
    full = cli("cache").out
    assert full.startswith(f"place    {cli.folder / 'usual'}\n") and "answers  0 " not in full and "256 MiB" in full
    (place_of(cli.folder / "usual") / "mine.txt").write_text("not of dfc", encoding="utf-8")
    assert cli("cache", "--clear").out == f"cleared {cli.folder / 'usual'}\n"
    assert [p.read_text() for p in (cli.folder / "usual").glob("*/*")] == ["not of dfc"]
    nothing = f"nothing to clear in {cli.folder / 'usual'}\n"
    assert cli("cache", "--clear") == Result(0, nothing, "")
    assert cli("cache", "--clear", "--cache", "nowhere") == Result(0, "nothing to clear in nowhere\n", "")
    assert not (cli.folder / "nowhere").exists()
    assert cli("cache").out == empty.replace(" (does not exist yet)", "")


def test_notes_are_shown_unless_quiet(cli: Cli) -> None:
    path = filled(cli.folder / "usual")
    _text(path)
    assert "note: the cache of mappings in " in compiled(cli)
    assert "note: " not in compiled(cli)
    (cli.folder / "file").write_text("", encoding="utf-8")
    assert "note: the cache of mappings in file cannot be used: " in compiled(cli, "--cache", "file")
    assert compiled(cli, "--cache", "file", "-q") == ""


def test_a_run_that_fails_leaves_no_cache(cli: Cli) -> None:
    assert cli("compile", "nothing.onnx", "--hw", HW, "--cache", "kept").code == 1
    assert list(cli.folder.iterdir()) == []


def test_mistakes_with_the_cache(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    both = cli("compile", "net.onnx", "--hw", HW, "--cache", "x", "--no-cache")
    assert (both.code, both.err.splitlines()[0]) == (1, "error[CLI053]: --cache and --no-cache contradict each other")
    monkeypatch.setattr("dfc.backend_cost.mapping_store.default_folder", lambda: None)
    assert "error[CLI054]: there is no home folder" in cli("cache").err
    compiled(cli)


def assert_refused(result: Result, reason: str, place: Path, hint: str) -> None:
    assert (result.code, result.out) == (1, "")
    lines = [f"error[CLI054]: {reason}", f"  --> {place}", f"  = help: {hint}"]
    assert result.err.splitlines() == lines


def test_a_file_where_the_cache_should_be(cli: Cli) -> None:
    hint = "a cache lives in a folder: name another with --cache DIR"
    (cli.folder / "file").write_text("mine", encoding="utf-8")
    assert_refused(cli("cache", "--cache", "file"), "the place of the cache is a file", Path("file"), hint)
    (cli.folder / "taken").mkdir()
    inner = place_of(Path("taken"))
    (cli.folder / inner).write_text("mine", encoding="utf-8")
    assert_refused(cli("cache", "--cache", "taken"), "the place of the cache is a file", inner, hint)
    for place in (Path("file"), Path("file") / "below"):
        refused = cli("cache", "--clear", "--cache", place)
        assert_refused(refused, "cannot remove: Not a directory", place_of(place), "check its permissions")
    below = cli("cache", "--cache", "file/below")
    assert_refused(below, "cannot read the cache: Not a directory", Path("file/below"), "check its permissions")
    assert (cli.folder / "file").read_text(encoding="utf-8") == "mine"


def refusing(path: Path, number: int) -> Callable[..., Any]:
    """A method of paths that the operating system refuses for one of them: root may do all."""

    def method(self: Path, *_: object, **__: object) -> Any:
        if self == path:
            raise OSError(number, os.strerror(number))
        return real(self, *_, **__)

    real = Path.stat
    return method


def test_a_cache_that_may_not_be_read(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (cli.folder / "usual", place_of(cli.folder / "usual")):
        filled(cli.folder / "usual")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "stat", refusing(place, errno.EACCES))
            refused = cli("cache")
        assert_refused(refused, "cannot read the cache: Permission denied", place, "check its permissions")

    def forbidden(*_: object, **__: object) -> Any:
        raise store_file.UnusableError("unable to open database file")

    monkeypatch.setattr(store_file.StoreFile, "_prepare", forbidden)
    reason = f"the cache of mappings in {cli.folder / 'usual'} cannot be used: unable to open database file"
    assert_refused(cli("cache"), reason, cli.folder / "usual", "check its permissions")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_cache_that_may_not_be_removed(cli: Cli, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    filled(cli.folder / "usual")
    place = place_of(cli.folder / "usual")

    def rename(self: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number), str(self), None, str(target))

    monkeypatch.setattr(Path, "rename", rename)
    reason = f"cannot remove: {os.strerror(number)}"
    assert_refused(cli("cache", "--clear"), reason, place, "check its permissions")
    with MappingStore(cli.folder / "usual") as store:
        assert store.info()[0] == 40
    nothing = cli("cache", "--clear", "--cache", "nowhere")  # renaming nothing there would be refused, too
    assert nothing == Result(0, "nothing to clear in nowhere\n", "")


def test_a_damaged_cache_is_said_and_built_anew(cli: Cli) -> None:
    _text(filled(cli.folder / "usual"))
    shown = cli("cache")
    assert shown.code == 0
    assert shown.err.startswith(f"note: the cache of mappings in {cli.folder / 'usual'} was damaged (")
    assert "answers  0 of" in shown.out
    assert cli("cache").err == ""
