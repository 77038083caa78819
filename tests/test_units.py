"""How numbers are written, and how tables break."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfc import units
from dfc.report_table import Column, Row, bar, clean, format_table, shorten


@pytest.mark.parametrize(
    ("pj", "text"),
    [
        (0, "0 pJ"),
        (0.04, "0.04000 pJ"),
        (1, "1.000 pJ"),
        (999.96, "1.000 nJ"),
        (2134830384.15, "2.135 mJ"),
        (824370500, "824.4 µJ"),
        (5e15, "5,000 J"),
    ],
)
def test_energy(pj: float, text: str) -> None:
    assert units.energy(pj) == text


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        (0, "0"),
        (1, "1 b"),
        (17, "17 b"),
        (8, "1 B"),
        (8000, "1,000 B"),
        (8 * 1024, "1 KiB"),
        (8 * 1024 * 1024, "1 MiB"),
        (66355200, "7.910 MiB"),
        (10_000_000_000, "1.164 GiB"),
    ],
)
def test_size(bits: int, text: str) -> None:
    assert units.size(bits) == text


@given(st.integers(1, 1 << 50), st.integers(1, 1 << 50) | st.sampled_from((-1, 0, 1, 8)))
def test_different_sizes_look_different(one: int, other: int) -> None:
    other = one + other if abs(other) <= 8 else other
    texts = units.sizes(one, other)
    assert (texts[0] == texts[1]) == (one == other)
    assert units.sizes(16000, 16001) == ("1.9531 KiB", "1.9532 KiB")
    assert units.sizes(12288, 24) == ("1.500 KiB", "3 B")


def test_other_quantities() -> None:
    assert units.count(8290252800) == "8.290 G"
    assert units.count(8290252800, 3) == "8.29 G"
    assert units.count(999) == "999"
    assert units.seconds(0.019980608) == "19.98 ms"
    assert units.cycles(19980608) == "19,980,608"
    assert units.factor(9.3752) == "9.38x"
    assert units.frequency(2e8) == "200 MHz"
    assert units.frequency(0.5) == "0.5 Hz"
    assert units.energy_unit(2134830384) == (1e6, "µJ")
    assert units.energy_unit(3) == (1.0, "pJ")


def test_bounds_are_rounded_up() -> None:
    shares = (0.0312, 0.03, 1e-9, 0.0, 1.0)
    assert [units.at_most_percent(share) for share in shares] == ["3.2", "3.0", "0.1", "0.0", "100.0"]


def test_shares() -> None:
    assert units.percent(1, 3) == "33.3"
    assert units.percent(1, 10**6) == "<0.1"
    assert units.percent(0, 3) == units.percent(3, 0) == "-"


@given(st.floats(min_value=1e-3, max_value=1e14))
def test_written_energy_is_the_energy(pj: float) -> None:
    number, unit = units.energy(pj).split()
    scale = {"pJ": 1.0, "nJ": 1e3, "µJ": 1e6, "mJ": 1e9, "J": 1e12}[unit]
    assert float(number.replace(",", "")) * scale == pytest.approx(pj, rel=6e-4)


@given(st.text(), st.integers(min_value=1, max_value=40))
def test_shortened_names_fit_and_keep_both_ends(text: str, width: int) -> None:
    short = shorten(text, width)
    assert len(short) <= width
    assert short == text or "…" in short
    if len(text) > width >= 4:
        assert (short[0], short[-1]) == (text[0], text[-1])


def test_bars_show_what_is_small() -> None:
    assert bar(0.0, 10) == ""
    assert bar(1e-9, 10) == "▌"
    assert bar(1.0, 10) == bar(7.0, 10) == "█" * 10


def test_clean_removes_control_characters() -> None:
    assert clean("a\x1b[2Jb\nc\u202e") == "a?[2Jb?c?"


CELLS = st.text(alphabet="abcdefgh.", max_size=12)


@given(st.lists(st.lists(CELLS, min_size=5, max_size=5), min_size=1, max_size=5), st.integers(34, 120))
def test_tables_never_lose_a_cell(cells: list[list[str]], width: int) -> None:
    columns = [Column(f"t{i}", left=i == 0) for i in range(5)]
    lines = format_table(columns, [Row(tuple(row)) for row in cells], width)
    assert max(map(len, lines)) <= width
    shown = " ".join(lines)
    for row in cells:
        assert all(cell in shown for cell in row[1:])
    assert all(f"t{i}" in shown for i in range(5))
