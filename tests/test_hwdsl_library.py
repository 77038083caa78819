"""The shipped accelerators against the recorded architectures of DeFiNES (tests/data/README.md)."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dfc.errors import HardwareError
from dfc.hwdsl import Arch, Memory, Move, library, load_arch
from dfc.ir import Dim, Kind, Role

DATA = Path(__file__).parent / "data" / "hardware.json.gz"
RECORDED: dict[str, Any] = json.loads(gzip.decompress(DATA.read_bytes()))

ROLES = {"I1": Role.I, "I2": Role.W, "O": Role.O}
MOVES = {
    "rd_out_to_low": Move.READ_DOWN,
    "wr_in_by_low": Move.WRITE_UP,
    "rd_out_to_high": Move.READ_UP,
    "wr_in_by_high": Move.WRITE_DOWN,
}


def _loaded(recorded_name: str) -> Arch:
    return load_arch(recorded_name.lower().replace("prototype", "proto"))


def test_library_is_what_was_recorded() -> None:
    assert library() == sorted(name.lower().replace("prototype", "proto") for name in RECORDED)


@pytest.mark.reference
@pytest.mark.parametrize("name", RECORDED)
def test_array(name: str) -> None:
    recorded, array = RECORDED[name]["operational_array"], _loaded(name).array
    assert {dim.name: dim.size for dim in array.dims} == recorded["dimensions"]
    assert array.units == recorded["total_unit_count"]
    assert array.mac_pj == array.op_pj == recorded["unit_energy"]
    # the workloads' widths (networks.json): 8-bit operands and outputs, 16-bit partial sums
    assert (array.input_bits, array.weight_bits, array.partial_bits, array.output_bits) == (8, 8, 16, 8)


@pytest.mark.reference
@pytest.mark.parametrize("name", RECORDED)
def test_memories(name: str) -> None:
    recorded, arch = RECORDED[name]["memory_levels"], _loaded(name)
    assert len(recorded) == len(arch.memories)
    for expected, memory in zip(recorded, arch.memories, strict=True):
        assert _numbers(memory) == {key: expected[key] for key in _numbers(memory)}
        assert set(memory.roles) == {ROLES[operand] for operand in expected["operands"]}
        assert list(memory.across) == expected["served_dimensions"]


def _numbers(memory: Memory) -> dict[str, float]:
    return {
        "size_bit": memory.size_bits,
        "r_bw_bit_per_cycle": memory.read_bits_per_cycle,
        "w_bw_bit_per_cycle": memory.write_bits_per_cycle,
        "r_cost_per_word_of_r_bw": memory.read_pj,
        "w_cost_per_word_of_w_bw": memory.write_pj,
        "min_r_granularity_bit": memory.min_read_bits,
        "min_w_granularity_bit": memory.min_write_bits,
        "unroll_count": memory.instances,
        **{f"{kind}_port": sum(port.kind == kind for port in memory.ports) for kind in ("r", "w", "rw")},
    }


@pytest.mark.reference
@pytest.mark.parametrize("name", RECORDED)
def test_ports(name: str) -> None:
    """Every recorded movement goes through the recorded port; the movements beyond those have a port, too."""
    recorded, arch = RECORDED[name]["memory_levels"], _loaded(name)
    for expected, memory in zip(recorded, arch.memories, strict=True):
        assert [port.kind for port in memory.ports] == [port["attr"] for port in expected["ports"]]
        for i, port in enumerate(expected["ports"]):
            for operand, _, move in port["served_op_lv_dir"]:
                assert memory.port_of[ROLES[operand], MOVES[move]] == i, (memory.name, operand, move)
        assert set(memory.port_of) == {(role, move) for role in memory.roles for move in Move}
        for (_, move), i in memory.port_of.items():
            assert ("r" if move in (Move.READ_DOWN, Move.READ_UP) else "w") in memory.ports[i].kind


@pytest.mark.reference
@pytest.mark.parametrize("name", RECORDED)
def test_order_and_paths(name: str) -> None:
    recorded, arch = RECORDED[name], _loaded(name)
    order: list[str] = recorded["mem_instance_list_order"]
    assert [level["name"] for level in recorded["memory_levels"]] == order
    for operand, path in recorded["hierarchy_per_mem_operand"].items():
        assert [order[i] for i in arch.paths[ROLES[operand]]] == path
        for level in recorded["memory_levels"]:
            expected = level["mem_level_of_operands"].get(operand, -1)
            assert arch.level(ROLES[operand], order.index(level["name"])) == expected


@pytest.mark.parametrize("name", library())
def test_every_page_is_sound(name: str) -> None:
    arch = load_arch(name)
    assert arch.name == name
    assert arch.clock_hz == 1e9
    top = {path[-1] for path in arch.paths.values()}
    assert [arch.memories[i].name for i in top] == ["dram"]
    for path in arch.paths.values():
        assert all(inner < outer for inner, outer in pairwise(path))
    for memory in arch.memories:
        assert memory.span is not None and memory.name in memory.span.text
        assert memory.size_span is not None and memory.size_span.line == memory.span.line
    assert set(arch.unrolls) == {k for k in Kind if k not in (Kind.VIEW, Kind.OPAQUE)}


#: conv, layers over channels, dense: as in networks.json, "spatial_mapping" of each chip
UNROLLINGS: dict[str, tuple[str, str, str]] = {
    "meta_proto": ("D1:K D2:C D3:OX D4:OY", "D1:G D3:OX D4:OY", "D1:K D2:C"),
    "tpu_like": ("D1:K D2:C", "D1:G", "D1:K D2:C"),
    "edge_tpu_like": ("D1:K D2:C D3:OX D4:OY", "D1:G D3:OX D4:OY", "D1:K D2:C"),
    "ascend_like": ("D1:K D2:C D3:OX D4:OY", "D1:G D3:OX D4:OY", "D1:K D2:C"),
    "tesla_npu_like": ("D1:K D2:OX D3:OY", "D1:G D2:OX D3:OY", "D1:K"),
}


@pytest.mark.parametrize("name", library())
def test_unrollings(name: str) -> None:
    conv, channels, dense = UNROLLINGS[name.removesuffix("_df")]
    for kind, slots in load_arch(name).unrolls.items():
        expected = {Kind.CONV: conv, Kind.DENSE: dense}.get(kind, channels)
        assert " ".join(f"{u.array_dim}:{u.loop.name}" for u in slots) == expected
        assert all(u.size == 0 and isinstance(u.loop, Dim) for u in slots)


def test_weight_capacity() -> None:
    assert load_arch("meta_proto_df").weight_capacity_bits == 8 * 1024**2
    assert load_arch("tpu_like").weight_capacity_bits == 1024


@pytest.mark.parametrize("asked", ["meta_proto", "meta_proto.hw", "not/here/meta_proto.hw", Path("x/meta_proto")])
def test_fallback_to_the_library(asked: str | Path) -> None:
    assert load_arch(asked).name == "meta_proto"


def test_a_file_wins_over_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meta_proto.hw").write_text("accelerator meta_proto extends tpu_like { clock 3 GHz }")
    assert load_arch(tmp_path / "meta_proto.hw").clock_hz == 3e9
    monkeypatch.chdir(tmp_path)
    assert load_arch("meta_proto.hw").clock_hz == 3e9
    with pytest.raises(HardwareError):
        load_arch("meta_proto.txt")
