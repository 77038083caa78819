"""The report: a recorded text, and properties that hold at every width."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_schedule import make_schedule

from dfc.backend_cost.schedule import Schedule
from dfc.report import render
from dfc.report_layers import energy_table, groups, time_table
from dfc.report_table import Paint, to_ascii

GOLDEN = Path(__file__).parent / "data" / "report_golden.txt"


def test_golden() -> None:
    """DFC_UPDATE_GOLDEN=1 writes the file anew; read the difference before you keep it."""
    text = render(make_schedule())
    if os.environ.get("DFC_UPDATE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_schedule_made_by_hand_reads_back() -> None:
    schedule = make_schedule()
    assert Schedule.from_json(schedule.to_json()) == schedule


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_no_line_is_wider_than_the_terminal_and_no_column_is_lost(width: int) -> None:
    text = render(make_schedule(), width=width)
    assert max(map(len, text.splitlines())) <= width
    for title in ("overlap", "tiles", "weights", "H/V cache", "gain", "stall", "load", "copy", "util", "MACs"):
        assert re.search(rf"(^|\s){title}(\s|$)", text), title
    for memory in ("rf_w", "rf_o", "lb_w", "lb_io", "dram"):
        assert text.count(memory) >= 2
    for number in ("305.59", "2,088,938", "12,345", "8,608"):  # energy, cycles and traffic stand there in full
        assert re.search(rf"\s{number}(\s|$)", text), number


def test_colours_add_nothing_else() -> None:
    schedule = make_schedule()
    coloured = render(schedule, paint=Paint(colour=True))
    assert re.sub(r"\x1b\[[0-9]*m", "", coloured) == render(schedule)
    assert "\x1b[33m  INCOMPLETE" in coloured


def test_ascii_keeps_the_alignment() -> None:
    text = render(make_schedule())
    plain = to_ascii(text)
    assert plain.isascii()
    assert [len(line) for line in plain.splitlines()] == [len(line) for line in text.splitlines()]


def test_what_is_said_about_gains() -> None:
    schedule = make_schedule()
    text = render(schedule)
    assert "4.50x less than layer by layer" in text
    assert "1.25x slower than layer by layer" in text
    same = replace(schedule.layer_by_layer, energy_gain=1.0, latency_gain=1.0)  # type: ignore[type-var]
    assert render(replace(schedule, layer_by_layer=same)).count("the same as layer by layer") == 3
    assert "layer by layer does not fit" in render(replace(schedule, layer_by_layer=None))
    little = replace(schedule.layer_by_layer, energy_gain=1.0042, latency_gain=0.9987)  # type: ignore[type-var]
    text = render(replace(schedule, layer_by_layer=little))
    assert "0.4 % less than layer by layer" in text
    assert "0.1 % slower than layer by layer" in text
    assert "0.3 % less than layer by layer" in text  # of the product


def test_baselines_stand_beside_the_schedule() -> None:
    schedule = make_schedule()
    rows = [line.split() for line in render(schedule).splitlines()]
    assert ["this", "schedule", "305.6", "µJ", "-", "3,032,409", "-", "-"] in rows
    assert ["single-layer", "3.056", "mJ", "10.0x", "6,064,818", "2.00x", "20.0x"] in rows
    assert ["defines,", "960x135", "h-cached", "313.2", "µJ", "1.02x", "4,548,614", "1.50x", "1.54x"] in rows
    assert "simpler schedules" not in render(replace(schedule, baselines=()))


def test_caches_are_named_only_along_axes_that_are_tiled() -> None:
    schedule = make_schedule()
    tall = render(schedule)  # 60x540 of 960x540: rows are cut, columns are not
    assert re.search(r"60x540 +960x540 +4 +2.16 KiB +lb_w +lb_io/-", tall)
    wide = replace(schedule.stacks[0], tile=(960, 60))
    text = render(replace(schedule, stacks=(wide, schedule.stacks[1])))
    assert re.search(r"960x60 +960x540 +4 +2.16 KiB +lb_w +-/dram", text)


def test_rows_of_stacks_add_up() -> None:
    schedule = make_schedule()
    found = {g.title.strip(): g for g in groups(schedule)}
    first = found["stack 0"]
    assert first.cycles == sum(layer.latency_cycles for layer in schedule.layers[:2])
    assert first.latency == replace(
        first.latency, compute=1_638_800 + 917_728, stall=375_716, load=325 + 13_398, copy=74_097
    )
    assert found["network"].cycles == schedule.totals.latency_cycles
    assert found["network"].total(lambda m: m.energy_pj) == pytest.approx(schedule.totals.energy_pj)
    assert "stack 1" not in found  # a stack of one layer is that layer
    assert [g.title for g in groups(schedule, layers=False)] == ["stack 0", "stack 1", "network"]


def test_shares_of_a_row_sum_to_a_hundred() -> None:
    schedule = make_schedule()
    columns, rows = energy_table(schedule)
    assert [c.title for c in columns][3:9] == ["array", "rf_w", "rf_o", "lb_w", "lb_io", "dram"]
    for row in rows:
        shares = [float(cell) for cell in row.cells[3:9] if cell not in ("-", "<0.1")]
        assert sum(shares) == pytest.approx(100, abs=0.4)
    columns, rows = time_table(schedule)
    for row in rows:
        shares = [float(cell) for cell in row.cells[4:8] if cell not in ("-", "<0.1")]
        assert sum(shares) == pytest.approx(100, abs=0.3)


def test_opaque_operators_are_named_and_marked() -> None:
    text = " ".join(render(make_schedule()).split())
    assert "NonMaxSuppression (mystery0), NonMaxSuppression (mystery1)" in text
    assert "2 more" in text
    assert "~NonMax" in text


def test_nothing_but_zeros() -> None:
    schedule = make_schedule()
    empty = replace(
        schedule.totals,
        energy_pj=0.0,
        latency_cycles=0,
        macs=0,
        network_macs=0,
        dram_read_bits=0,
        dram_write_bits=0,
        energy_by_memory_pj={},
        energy_by_operand_pj={},
        time_s=0.0,
    )
    assert "network" in render(replace(schedule, totals=empty, layers=(), stacks=(), notes=(), layer_by_layer=None))


NAMES = st.text(max_size=60)
NUMBERS = st.floats(min_value=0, max_value=1e30, allow_nan=False)
COUNTS = st.integers(min_value=0, max_value=10**24)


@settings(max_examples=60, deadline=None)
@given(name=NAMES, energy=NUMBERS, cycles=COUNTS, gain=NUMBERS, width=st.integers(1, 220), layers=st.booleans())
def test_any_schedule_can_be_reported(
    name: str, energy: float, cycles: int, gain: float, width: int, layers: bool
) -> None:
    schedule = make_schedule()
    one = replace(schedule.layers[0], name=name, op=name, energy_pj=energy, latency_cycles=cycles)
    base = replace(schedule.stacks[0], layers=(name, "b"), energy_pj=energy, latency_cycles=cycles, overlap=name)
    odd = replace(
        schedule,
        layers=(one, *schedule.layers[1:]),
        stacks=(base, schedule.stacks[1]),
        model=replace(schedule.model, name=name),
        totals=replace(schedule.totals, energy_pj=energy, latency_cycles=cycles, time_s=cycles / 1e9),
        layer_by_layer=replace(schedule.layer_by_layer, energy_gain=gain),  # type: ignore[type-var]
        notes=(name,),
    )
    text = render(odd, width=width, layers=layers)
    assert all(c.isprintable() for c in text.replace("\n", ""))
