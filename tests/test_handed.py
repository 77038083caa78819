"""Maps that stay on chip between stacks: a network worked out by hand, its file, and what users are told."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from cli_helpers import Cli
from graph_builder import Builder

from dfc.backend_cost.schedule import ModelInfo, Schedule, TensorInfo
from dfc.hwdsl import load_arch
from dfc.ir import Graph
from dfc.pipeline import schedule_graph
from dfc.report import render
from dfc.request import parse_request
from dfc.scheduling.check import check_schedule
from dfc.scheduling.constraints_text import parse_constraints

CHIP = "meta_proto_df"
SIDE = 16
#: bits of the input, of the map between the two layers, and of the output: channels x positions x 8
IN, BETWEEN, OUT = (channels * SIDE * SIDE * 8 for channels in (8, 16, 8))
#: bits of the weights: 8 x 16 of a 1x1 kernel, 16 x 8 of a 3x3 kernel, and a bias for each output channel
WEIGHTS = ((8 * 16 + 16) * 8, (16 * 8 * 9 + 8) * 8)


def two_layers() -> Graph:
    b = Builder("two")
    x = b.input(8, SIDE, SIDE)
    return b.graph(b.conv(b.conv(x, 16, (1, 1), pad=(0, 0)), 8))


@cache
def scheduled(stacks: str = "each", tile: str = "4x4", **options: str) -> Schedule:
    graph = two_layers()

    def infos(names: tuple[str, ...]) -> tuple[TensorInfo, ...]:
        return tuple(TensorInfo(n, graph.tensors[n].shape, graph.tensors[n].bits) for n in names)

    model = ModelInfo(graph.name, "two.onnx", "0", infos(graph.inputs), infos(graph.outputs))
    request = parse_request("energy", "recompute", tile, stacks, **options)  # type: ignore[arg-type]
    return Schedule.from_json(schedule_graph(graph, load_arch(CHIP), request, model).to_json())


def test_dram_sees_inputs_weights_and_outputs_alone() -> None:
    """Each exactly once, though the 3x3 windows of the 16 tiles of the second stack overlap."""
    schedule = scheduled()
    first, second = schedule.stacks
    assert (first.tiles, second.tiles) == (16, 16)
    assert (first.dram_read_bits, first.dram_write_bits) == (IN + WEIGHTS[0], 0)
    assert (second.dram_read_bits, second.dram_write_bits) == (WEIGHTS[1], OUT)
    assert schedule.totals.dram_read_bits == IN + sum(WEIGHTS)
    assert schedule.totals.dram_write_bits == OUT
    assert [layer.dram_read_bits for layer in schedule.layers] == [IN + WEIGHTS[0], WEIGHTS[1]]


def test_the_file_says_where_the_map_lies_and_how_it_is_read() -> None:
    """One buffer in both stacks; tiles write 4x4 positions of it and read 5x5, 6x5, 5x6 or 6x6."""
    schedule = scheduled()
    held = [[b for b in stack.buffers if b.what == "map"] for stack in schedule.stacks]
    (made,), (read,) = held
    assert made == read
    assert (made.bits, made.first, made.last, made.lines) == (BETWEEN, "", "", 0)
    assert made.name not in {b.name for b in schedule.off_chip}
    for tile in schedule.stacks[0].tile_classes:
        (run,) = tile.layers
        own = next(m for m in run.makes if m.tensor == made.name)
        assert (own.extents, own.bits, run.memories["O"]) == ((4, 4), 16 * 16 * 8, made.memory)
        assert not own.fetched
    windows = 0
    for tile in schedule.stacks[1].tile_classes:
        (run,) = tile.layers
        assert [m.tensor for m in run.makes] == [schedule.model.outputs[0].name]  # nothing is fetched
        (entry,) = run.reads
        assert (entry.fresh_bits, entry.h_cache_bits, entry.v_cache_bits) == (0, 0, 0)
        copied = sum(c.bits for c in run.copies if c.tensor == made.name)
        assert copied == entry.held_bits * (run.memories["I"] != made.memory)
        windows += tile.count * entry.held_bits
    # along each axis: 5 + 6 + 6 + 5 positions are read of 16
    assert windows == 22 * 22 * 16 * 8
    assert check_schedule(schedule).violations == ()


def test_stacks_of_the_users_choice_profit_and_the_reference_does_not() -> None:
    name = two_layers().layers[0].name
    assert scheduled(name).stacks == scheduled().stacks
    reference = scheduled(reproduce="defines")
    assert not any(stack.buffers for stack in reference.stacks)
    assert reference.totals.dram_write_bits == BETWEEN + OUT


def test_what_does_not_fit_beside_the_rest_goes_off_chip() -> None:
    """On a chip whose memories for maps hold less than the map."""
    arch = load_arch(CHIP)
    memories = tuple(replace(m, size_bits=BETWEEN // 2) if m.name in ("lb_io", "gb_io") else m for m in arch.memories)
    graph = two_layers()
    model = ModelInfo(graph.name, "two.onnx", "0", (), ())
    request = parse_request("energy", "recompute", "4x4", "each")
    schedule = schedule_graph(graph, replace(arch, memories=memories), request, model)
    assert not any(b.what == "map" for stack in schedule.stacks for b in stack.buffers)
    assert schedule.totals.dram_write_bits == BETWEEN + OUT
    assert check_schedule(schedule).violations == ()


@pytest.mark.parametrize(("where", "on_chip"), [("on", True), ("off", False)])
def test_a_page_of_constraints_decides(where: str, on_chip: bool) -> None:
    graph = two_layers()
    text = f"stack {graph.layers[0].name} {{ output {where} chip }}"
    request = replace(parse_request("energy", "cached", "auto", "auto"), constraints=parse_constraints(text))
    schedule = schedule_graph(graph, load_arch(CHIP), request, ModelInfo(graph.name, "two.onnx", "0", (), ()))
    assert [any(b.what == "map" for b in stack.buffers) for stack in schedule.stacks] == [on_chip] * 2


@pytest.mark.parametrize("width", [40, 100])
def test_report_names_the_maps(width: int) -> None:
    schedule = scheduled()
    name = schedule.stacks[0].buffers[0].name
    text = render(schedule, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "Maps that stay on chip between stacks" in " ".join(text.split())
    assert re.search(rf"{name} +\w+ +stack 0 +stack 1 +4 KiB", text) or width == 40
    assert re.search(r"a map stays on chip .* take [\d.]+ % more energy", " ".join(text.split()))
    assert "Maps that stay on chip" not in render(scheduled(reproduce="defines"))


def test_explain_names_the_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schedule = scheduled()
    cli = Cli(tmp_path, capsys)
    (tmp_path / "schedule.json").write_text(schedule.to_json(), encoding="utf-8")
    name = schedule.stacks[0].buffers[0].name
    for layer, says in zip(schedule.layers, ("which it makes", "which it reads"), strict=True):
        assert f"'{name}', {says}, in " in " ".join(cli("explain", tmp_path, "--layer", layer.name).out.split())


def test_a_schedule_without_the_new_field_is_read() -> None:
    """A schedule in which nothing stays on chip, as it was written before."""
    schedule = scheduled(reproduce="defines")
    data = json.loads(schedule.to_json())
    for stack in data["stacks"]:
        for tile in stack["tile_classes"]:
            for run in tile["layers"]:
                for read in run["reads"]:
                    assert read.pop("held_bits") == 0
    assert Schedule.from_json(json.dumps(data)) == schedule
