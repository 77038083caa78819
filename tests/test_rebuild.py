"""A schedule holds all that is needed to price its layers again, and bad files are refused with a code."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from graph_builder import Builder
from hypothesis import given, settings
from hypothesis import strategies as st

import dfc
from dfc.backend_cost.explain import explain
from dfc.backend_cost.mapping_cost import price_mapping
from dfc.backend_cost.rebuild import read_problem, rebuild
from dfc.backend_cost.schedule import ModelInfo, NestEntry, Schedule, TileLayer
from dfc.backend_cost.simulate_compare import compare
from dfc.errors import DfcError
from dfc.explain_text import render_explanation
from dfc.hwdsl import load_arch
from dfc.pipeline import schedule_graph
from dfc.request import parse_request

ROOT = Path(__file__).parent.parent
NEST = ROOT / "examples" / "nests" / "conv3x3.json"
MODELS = ("defines", "exact")
CHIPS = ("meta_proto_df", "tpu_like")


@cache
def fsrcnn(hw: str, model: str) -> Schedule:
    path = ROOT / "examples" / "models" / "fsrcnn.onnx"
    return dfc.compile(path, hw, tile="60x72", overlap="cached", cost_model=model)


@cache
def mixed(hw: str, model: str) -> Schedule:
    """Strides, groups, additions, pooling, a dense layer, one that is not modelled and one that costs nothing."""
    b = Builder()
    x = b.conv(b.input(3, 17, 13), 8, stride=(2, 2))
    x = b.add(b.depthwise(x), x)
    x = b.opaque(b.pool(x))
    y = b.dense(b.flatten(b.upsample(x)), 10)
    request = parse_request("energy", "cached", "3x2", "auto", model)
    return schedule_graph(b.graph(y), load_arch(hw), request, ModelInfo("mixed", "mixed.onnx", "", (), ()))


def tile_layers(schedule: Schedule) -> list[tuple[int, TileLayer]]:
    return [(i, run) for stack in schedule.stacks for i, c in enumerate(stack.tile_classes) for run in c.layers]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("hw", CHIPS)
@pytest.mark.parametrize("network", [fsrcnn, mixed])
def test_every_tile_is_priced_again_to_the_same(network: Callable[[str, str], Schedule], hw: str, model: str) -> None:
    schedule = Schedule.from_json(network(hw, model).to_json())
    assert schedule == network(hw, model)
    arch = load_arch(hw)
    priced = 0
    for number, run in tile_layers(schedule):
        if run.nest is None:
            assert (run.copy_energy_pj, run.copy_cycles) == (run.energy_pj, run.latency_cycles)
            continue
        found = rebuild(schedule, run.layer, number)
        sizes = [memory.size_bits for memory in arch.memories]
        seen = [run.room_bits.get(memory.name, memory.size_bits) for memory in arch.memories]
        assert [memory.size_bits for memory in found.arch.memories] == seen
        whole = tuple(replace(m, size_bits=n) for m, n in zip(found.arch.memories, sizes, strict=True))
        assert replace(found.arch, memories=whole).without_places == arch.without_places
        assert found.model.name == model
        cost = price_mapping(found.nest, found.arch, found.mapping, found.model)
        assert cost.energy_pj + run.copy_energy_pj == pytest.approx(run.energy_pj, rel=1e-12)
        assert cost.latency_cycles + run.copy_cycles == run.latency_cycles
        priced += 1
    assert priced > 4


def test_the_class_with_most_tiles_is_meant() -> None:
    schedule = fsrcnn("meta_proto_df", "defines")
    counts = [c.count for c in schedule.stacks[0].tile_classes]
    found = rebuild(schedule, "map1")
    assert f"tile class {counts.index(max(counts))} (84 tiles), 60x72 positions" in found.what
    assert found.others.startswith("0 (1), 1 (14)")
    assert "tile class 2 (1 tile)" in rebuild(schedule, "map1", 2).what


def test_equal_nests_are_written_once() -> None:
    schedule = fsrcnn("meta_proto_df", "defines")
    data = json.loads(schedule.to_json())
    used = {run["nest"] for c in data["stacks"][0]["tile_classes"] for run in c["layers"]}
    assert used == set(range(len(data["nests"])))
    assert len(data["nests"]) == len({json.dumps(nest) for nest in data["nests"]})


def test_the_file_is_not_much_larger_for_it() -> None:
    schedule = fsrcnn("meta_proto_df", "defines")
    bare = [replace(c, layers=tuple(replace(x, nest=None) for x in c.layers)) for c in schedule.stacks[0].tile_classes]
    without = replace(schedule, stacks=(replace(schedule.stacks[0], tile_classes=tuple(bare)),))
    assert len(schedule.to_json()) < 4 * len(without.to_json())
    assert len(schedule.to_json()) < 2 * len(json.dumps(json.loads(without.to_json()), indent=1))


def test_what_is_not_modelled_has_no_nest() -> None:
    schedule = mixed("meta_proto_df", "defines")
    (name,) = [layer.name for layer in schedule.layers if layer.kind == "opaque"]
    with pytest.raises(DfcError) as caught:
        rebuild(schedule, name)
    assert caught.value.code == "CLI062"


# -- a nest by itself


def nest_text(change: Callable[[dict[str, Any]], None] = lambda data: None) -> str:
    data = json.loads(NEST.read_text(encoding="utf-8"))
    change(data)
    return json.dumps(data)


def test_a_nest_by_itself() -> None:
    found = read_problem(nest_text(), NEST.parent, None)
    assert found.nest.cycles == 72
    assert found.nest.operations == 8 * 4 * 8 * 8 * 9
    assert found.what == "3x3 convolution of 8x8 positions on meta_proto_df"


def test_its_page_may_be_text_or_lie_beside(tmp_path: Path) -> None:
    page = dfc.hwdsl.format_arch(load_arch("meta_proto_df"))
    (tmp_path / "own.hw").write_text(page, encoding="utf-8")
    expected = read_problem(nest_text(), tmp_path, None)
    for hw in (page, "own.hw"):
        found = read_problem(nest_text(set_at("hw", value=hw)), tmp_path, None)
        assert found.arch.without_places == expected.arch.without_places
        assert found.nest == expected.nest


def set_at(*path: str | int, value: object) -> Callable[[dict[str, Any]], None]:
    def change(data: Any) -> None:
        for step in path[:-1]:
            data = data[step]
        data[path[-1]] = value

    return change


def endless(data: Any) -> None:
    """As many operations as may be counted, and as many idle steps again."""
    data["nest"] |= {"sizes": {"K": 1 << 23, "C": 1 << 23}, "unrolled": []}
    data |= {"loops": [f"K {1 << 24}", f"C {1 << 23}"], "cuts": {"O": [1, 2], "W": [0, 2], "I": [2]}}


@pytest.mark.parametrize(
    ("code", "words", "change"),
    [
        ("CLI020", "no field 'stride'", set_at("nest", "stride", value=[1, 1, 1])),
        ("CLI020", "expected int", set_at("nest", "sizes", "K", value="8")),
        ("CLI020", "expected int", set_at("nest", "sizes", "K", value=True)),
        ("CLI020", "a list of 3", set_at("nest", "pads", value=[1, 1])),
        ("CLI021", "dfc.nest/1", set_at("schema", value='dfc.nest/9 "dfc.nest/1"')),
        ("HW001", "no_chip", set_at("hw", value="no_chip")),
        ("HW010", "needs a name", set_at("hw", value="accelerator {")),
        ("CLI063", "another folder", set_at("hw", value="../chip.hw")),
        ("CLI063", "another folder", set_at("hw", value="..\\chip.hw")),
        ("CLI063", "unknown loop 'Q'", set_at("nest", "sizes", "Q", value=2)),
        ("CLI063", "loop K is 0", set_at("nest", "sizes", "K", value=0)),
        ("CLI063", "loop K is 1e+12", set_at("nest", "sizes", "K", value=10**12)),
        ("CLI020", "is too large", set_at("nest", "sizes", "K", value=10**30)),
        ("CLI063", "too large to count", set_at("nest", "sizes", value=dict.fromkeys(("K", "C", "OX"), 1 << 20))),
        ("CLI063", "unknown work", set_at("nest", "work", value="play")),
        ("CLI063", "unknown role", set_at("nest", "operands", 0, "role", value="P")),
        ("CLI063", "not in order", lambda data: data["nest"]["operands"].reverse()),
        ("CLI063", "not in order", set_at("nest", "operands", value=[])),
        ("CLI063", "those of its path", set_at("nest", "operands", 0, "memories", value=["lb_io"])),
        ("CLI063", "those of its path", set_at("nest", "operands", 0, "memories", value=[])),
        ("CLI063", "unknown axis", set_at("nest", "operands", 2, "windows", value=["Z"])),
        ("CLI063", "no window along T", set_at("nest", "operands", 2, "windows", value=["T"])),
        ("CLI063", "twice", set_at("nest", "operands", 1, "dims", value=["K", "K"])),
        ("CLI063", "unknown array dimension", set_at("nest", "unrolled", 0, value=["D9", "K", 8, 8])),
        ("CLI063", "lanes of K on D1", set_at("nest", "unrolled", 0, value=["D1", "K", 99, 8])),
        ("CLI063", "all lanes on D1 is 40", set_at("nest", "unrolled", 1, value=["D1", "C", 5, 4])),
        ("CLI063", "in use on average", set_at("nest", "unrolled", 0, value=["D1", "K", 8, 9])),
        ("CLI063", "a stride", set_at("nest", "strides", value=[1, 0, 1])),
        ("CLI051", "no loop", set_at("loops", 0, value="C two")),
        ("CLI051", "over FX make 2", set_at("loops", 1, value="FX 2")),
        ("CLI051", "over FX make 7", set_at("loops", 1, value="FX 7")),
        ("CLI051", "too many steps", endless),
        ("CLI051", "cuts of O", set_at("cuts", "O", value=[5, 3])),
        ("CLI051", "cuts of O", set_at("cuts", "O", value=[-1, 5])),
        ("CLI051", "cuts of W", set_at("cuts", "W", value=[0, 4])),
        ("CLI051", "not those of its operands", set_at("cuts", "P", value=[5])),
    ],
)
def test_a_wrong_nest_is_refused(code: str, words: str, change: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(DfcError) as caught:
        read_problem(nest_text(change), NEST.parent, None, place="nest.json")
    assert (caught.value.code, caught.value.exit_code) == (code, 1)
    assert words in str(caught.value)


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Paths to everything in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, inner in items for found in leaves(inner, (*path, key)))] if path or items else []


WHOLE = json.loads(NEST.read_text(encoding="utf-8"))
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 9),
    st.sampled_from(
        [0, 1 << 20, 10**30, 0.5, 1e308, float("nan"), float("inf"), "", "K", "O", "rf_o", "D1", "T", "K 2"]
    ),
    st.just([]),
    st.just({}),
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.sampled_from([p for p in leaves(WHOLE) if p]), ANYTHING)
def test_any_other_value_is_priced_or_refused(path: tuple[str | int, ...], value: object) -> None:
    data = deepcopy(WHOLE)
    set_at(*path, value=value)(data)
    try:
        problem = read_problem(json.dumps(data), NEST.parent, None)
        render_explanation(problem, explain(problem))
        compare(problem, limit=20_000)
    except DfcError as error:
        assert error.exit_code == 1


@cache
def schedule_data() -> Any:
    return json.loads(mixed("meta_proto_df", "exact").to_json())


@cache
def schedule_paths() -> list[tuple[str | int, ...]]:
    data = schedule_data()
    nests = [p for p in leaves(data) if p and p[0] in ("nests", "hw")]
    return [p for p in leaves(data) if p and "tile_classes" in p] + nests * 2


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.data(), ANYTHING)
def test_any_other_schedule_is_priced_or_refused(data: st.DataObject, value: object) -> None:
    changed = deepcopy(schedule_data())
    set_at(*data.draw(st.sampled_from(schedule_paths())), value=value)(changed)
    try:
        problem = read_problem(json.dumps(changed), ROOT, "conv0")
        render_explanation(problem, explain(problem))
    except DfcError as error:
        assert error.exit_code == 1


@pytest.mark.parametrize("number", [10_000, -1, "0"])
def test_a_schedule_s_nest_must_exist(number: object) -> None:
    data = deepcopy(schedule_data())
    data["stacks"][0]["tile_classes"][0]["layers"][0]["nest"] = number
    with pytest.raises(DfcError, match="CLI020"):
        Schedule.from_json(json.dumps(data))


def test_defaults_of_a_nest_are_those_of_a_plain_layer() -> None:
    entry = NestEntry(sizes={}, operands=())
    assert (entry.strides, entry.pads, entry.inputs, entry.work) == ((1, 1, 1), (0, 0, 0), (0, 0, 0), "mac")
