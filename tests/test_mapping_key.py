"""Keys of mapping problems: what decides the answer changes them, and nothing else does."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from nest_examples import Example, memory

import dfc
from dfc.backend_cost import mapping_key
from dfc.backend_cost.cost_model import DEFINES, EXACT
from dfc.backend_cost.mapping_cost import MappingCost, Objective
from dfc.backend_cost.mapping_key import ProblemKeys
from dfc.backend_cost.mapping_search import search_mapping
from dfc.backend_cost.nest import Nest, Work
from dfc.errors import Span
from dfc.hwdsl.arch import Arch, Memory, OperationalArray, Port
from dfc.ir import Dim, Role

EXAMPLE = Example(
    {"K": 8, "C": 4, "OX": 6, "FX": 3},
    (memory("r", "W", across="B"), memory("o", "O", across="A"), memory("l", "IO"), memory("d", "IWO", ports="1")),
    (("A", "K", 4), ("B", "C", 2)),
)


def key(nest: Nest = EXAMPLE.nest, arch: Arch = EXAMPLE.arch, **changes: Any) -> bytes:
    given: dict[str, Any] = {"objective": Objective.ENERGY, "model": DEFINES, **changes}
    return ProblemKeys(arch, given.pop("objective"), given.pop("model")).key(nest, **given)


def with_memory(index: int, **changes: Any) -> Arch:
    memories = list(EXAMPLE.arch.memories)
    memories[index] = dataclasses.replace(memories[index], **changes)
    return dataclasses.replace(EXAMPLE.arch, memories=tuple(memories))


NEST_CHANGES: dict[str, Any] = {
    "sizes": (1, 1, 8, 4, 1, 1, 7, 1, 1, 3),
    "strides": (1, 1, 2),
    "dilations": (1, 1, 2),
    "operands": EXAMPLE.nest.operands[:2],
    "unrolled": EXAMPLE.nest.unrolled[:1],
    "work": Work.OPERATION,
    "pads": (0, 0, 1),
    "inputs": (0, 0, 9),
    "steps": (1, 1, 2, 2, 1, 1, 8, 1, 1, 3),
}
OPERAND_CHANGES: dict[str, Any] = {
    "role": Role.W,
    "dims": (Dim.K,),
    "windows": (),
    "bits": 9,
    "partial_bits": 17,
    "memories": (3,),
}
MEMORY_CHANGES: dict[str, Any] = {
    "roles": (Role.O, Role.I),
    "size_bits": 1 << 19,
    "read_bits_per_cycle": 512,
    "write_bits_per_cycle": 512,
    "read_pj": 2.0000000000000004,
    "write_pj": 3.5,
    "min_read_bits": 16,
    "min_write_bits": 16,
    "across": ("A",),
    "instances": 4,
    "ports": (Port("p", "rw"), Port("q", "rw")),
    "port_of": dict.fromkeys(EXAMPLE.arch.memories[2].port_of, 0),
    "fetch_new": True,
}


def test_the_changes_below_are_of_every_field() -> None:
    assert set(NEST_CHANGES) == {f.name for f in dataclasses.fields(Nest)}
    assert set(OPERAND_CHANGES) == {f.name for f in dataclasses.fields(EXAMPLE.nest.operands[2])}
    assert set(MEMORY_CHANGES) | mapping_key.NO_COST == {f.name for f in dataclasses.fields(Memory)}


@pytest.mark.parametrize("name", NEST_CHANGES)
def test_the_nest_is_part_of_the_key(name: str) -> None:
    changed: dict[str, Any] = {name: NEST_CHANGES[name]}
    assert key(dataclasses.replace(EXAMPLE.nest, **changed)) != key()


@pytest.mark.parametrize("name", OPERAND_CHANGES)
def test_its_operands_are_part_of_the_key(name: str) -> None:
    operands = EXAMPLE.nest.operands
    changed: dict[str, Any] = {name: OPERAND_CHANGES[name]}
    last = dataclasses.replace(operands[2], **changed)
    assert key(dataclasses.replace(EXAMPLE.nest, operands=(*operands[:2], last))) != key()


@pytest.mark.parametrize("name", MEMORY_CHANGES)
def test_memories_that_it_uses_are_part_of_the_key(name: str) -> None:
    assert key(arch=with_memory(2, **{name: MEMORY_CHANGES[name]})) != key()


def test_the_aim_is_part_of_the_key() -> None:
    arrays = [dataclasses.replace(EXAMPLE.arch.array, **{name: 9.0}) for name in ("mac_pj", "op_pj")]
    keys = [
        key(),
        *(key(objective=objective) for objective in (Objective.LATENCY, Objective.EDP)),
        *(key(model=EXACT.without(term)) for term in EXACT.terms()),
        key(model=EXACT),
        key(options="rule"),
        *(key(arch=dataclasses.replace(EXAMPLE.arch, array=array)) for array in arrays),
    ]
    assert len(set(keys)) == len(keys)


def test_names_places_and_other_memories_are_not() -> None:
    arch = EXAMPLE.arch
    span = Span("chip.hw", 3, 1)
    ports = tuple(Port(f"new_{p.name}", p.kind) for p in arch.memories[2].ports)
    turned = dict(reversed(arch.memories[2].port_of.items()))
    for same in (
        with_memory(2, name="other", span=span, size_span=span, ports=ports),
        with_memory(2, port_of=turned),
        dataclasses.replace(arch, name="chip", source="chip.hw", clock_hz=2e9, notes=("a note",), unrolls={}, paths={}),
        dataclasses.replace(arch, memories=(*arch.memories, memory("more", "W"))),
    ):
        assert key(arch=same) == key()
    assert key(model=dataclasses.replace(DEFINES, name="renamed")) == key()
    inner = tuple(dataclasses.replace(o, memories=o.memories[:-1]) for o in EXAMPLE.nest.operands)
    small = dataclasses.replace(EXAMPLE.nest, operands=inner)  # it does not reach the outermost memory
    assert key(small, with_memory(3, read_pj=70.0)) == key(small)
    assert key(small, with_memory(2, read_pj=70.0)) != key(small)


def test_what_the_search_looks_at_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every field of the accelerator that a search reads is one that changes the key, seen from outside."""
    seen: set[str] = set()
    # which nests and chips may share tables is asked of all fields; here none do, so that the search itself is seen
    monkeypatch.setattr("dfc.backend_cost.chips._known", lambda same: same.arch)
    monkeypatch.setattr("dfc.backend_cost.tables._on_whole_paths", lambda nest, _: nest)

    def watched(of: Any, prefix: str) -> Any:
        names = {f.name for f in dataclasses.fields(of)}

        class Watched(type(of)):  # type: ignore[misc]
            def __getattribute__(self, name: str) -> Any:
                if name in names:
                    seen.add(f"{prefix}.{name}")
                return super().__getattribute__(name)

        return Watched(*(getattr(of, f.name) for f in dataclasses.fields(of)))

    for model in (DEFINES, EXACT):
        for objective in Objective:
            for fetch_new in (False, True):
                arch = with_memory(2, fetch_new=fetch_new)
                memories = tuple(watched(m, "memory") for m in arch.memories)
                array = watched(arch.array, "array")
                spy = watched(dataclasses.replace(arch, memories=memories, array=array), "arch")
                assert isinstance(search_mapping(EXAMPLE.nest, spy, objective, model), MappingCost)
    assert isinstance(array, OperationalArray)
    in_key = {f"memory.{name}" for name in MEMORY_CHANGES} | {"array.mac_pj", "array.op_pj"}
    assert seen - in_key == {"arch.memories", "arch.array"}


def test_another_version_has_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    monkeypatch.setattr(mapping_key, "model_version", lambda: "0.0.0 of yesterday")
    assert key() != before


def test_an_edit_of_the_model_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "costs.py").write_text("PJ = 1\n", encoding="utf-8")
    (tmp_path / "arch.py").write_text("", encoding="utf-8")
    (tmp_path / "dims.py").write_text("", encoding="utf-8")
    monkeypatch.setattr(mapping_key, "files", lambda package: tmp_path)
    version = mapping_key.model_version.__wrapped__
    first = version()
    assert version() == first
    assert first.startswith(f"{dfc.__version__} ")
    (tmp_path / "costs.py").write_text("PJ = 2\n", encoding="utf-8")
    assert version() != first
    (tmp_path / "notes.txt").write_text("nothing", encoding="utf-8")
    assert version() != first
