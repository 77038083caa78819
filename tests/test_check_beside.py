"""The checker on copies that are made early: what dfc makes passes, and damage to it is found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from check_damage import with_buffer, with_layer
from test_beside import PAGE, SMALL, two_convolutions
from test_check import prepared, scheduled

from dfc.backend_cost.schedule import BesideEntry, Schedule, TileLayer
from dfc.hwdsl import parse_arch
from dfc.pipeline import compile as compile_model
from dfc.scheduling.check import check_schedule

FSRCNN = Path(__file__).parents[1] / "examples" / "models" / "fsrcnn.onnx"


@cache
def samples() -> tuple[Schedule, ...]:
    """Weights, inputs of the next tile, and what is read out of caches come early in these."""
    by_hand = prepared(two_convolutions(128))
    return (
        compile_model(FSRCNN, parse_arch(SMALL), tile="60x36", stacks="one", overlap="cached", order="rows"),
        scheduled(by_hand, parse_arch(PAGE), "8x8", "cached", stacks="one"),
    )


def parts(schedule: Schedule) -> Iterator[tuple[tuple[int, int, int], TileLayer, BesideEntry]]:
    """Where it stands, the layer, and what of its copies passes early."""
    for s, stack in enumerate(schedule.stacks):
        for c, tile in enumerate(stack.tile_classes):
            for n, run in enumerate(tile.layers):
                for one in run.beside:
                    yield (s, c, n), run, one


def test_samples_pass_and_have_all_kinds() -> None:
    kinds = {(run.copies[one.copy].what, one.ahead) for found in samples() for _, run, one in parts(found)}
    assert {("weights", False), ("input", True), ("read V cache", False)} <= kinds, kinds
    for schedule in samples():
        assert check_schedule(schedule).violations == ()


# --- damage


def said(schedule: Schedule) -> str:
    return "\n".join(found.what for found in check_schedule(schedule).violations)


def changed(schedule: Schedule, where: tuple[int, int, int], run: TileLayer, old: BesideEntry, **new: int) -> Schedule:
    """With one early copy made otherwise; its cycles are counted as saved."""
    entry = replace(old, **new)  # type: ignore[arg-type]
    more = entry.cycles - old.cycles
    beside = tuple(entry if one == old else one for one in run.beside)
    less = {"copy_cycles": run.copy_cycles - more, "latency_cycles": run.latency_cycles - more}
    run = replace(run, beside=beside, hidden_cycles=run.hidden_cycles + more, **less)
    return with_layer(schedule, *where, run)


def test_more_than_a_layer_leaves_idle_is_found() -> None:
    """The second layer's weights take all 64 cycles of the first: not one more passes beside it."""
    schedule = samples()[1]
    ((where, run, one),) = parts(schedule)
    assert (one.cycles, run.copy_cycles, run.hidden_cycles) == (64, 192, 64)
    damage = changed(schedule, where, run, one, cycles=65)
    assert "takes 65 cycles beside it; of 64 that its ports are idle, others take 0" in said(damage)
    assert "copies take 192 cycles" in said(with_layer(schedule, *where, replace(run, hidden_cycles=65)))
    assert "sum to 64, the whole is 65" in said(replace(schedule, totals=replace(schedule.totals, hidden_cycles=65)))


def test_more_than_own_copies_leave_to_the_next_tile_is_found() -> None:
    """Inputs of the third class come beside a layer of the second, whose own caches are read beside it before."""
    schedule = samples()[0]
    every = [found for found in parts(schedule) if found[2].layer == "shrink"]
    own = sum(one.cycles for where, _, one in every if where[1] == 1 and not one.ahead)
    ((where, run, one),) = (found for found in every if found[2].ahead)
    found = re.findall(r"beside it; of (\d+) that .* take (\d+)", said(changed(schedule, where, run, one, cycles=9999)))
    ((idle, others),) = found
    assert (where[1], int(others)) == (2, own) and own
    left = int(idle) - own
    assert f"takes {left + 1} cycles beside it" in said(changed(schedule, where, run, one, cycles=left + 1))
    assert "beside it" not in said(changed(schedule, where, run, one, cycles=left))


def test_more_than_a_copy_takes_is_found() -> None:
    schedule = samples()[0]
    where, run, one = next(found for found in parts(schedule) if not found[1].copy_cycles)
    assert "pass early, it has" in said(changed(schedule, where, run, one, cycles=one.cycles + 1))


def test_addresses_in_use_are_found() -> None:
    schedule, tried = samples()[0], 0
    for (s, c, _), run, one in parts(schedule):
        copy, stack = run.copies[one.copy], schedule.stacks[s]
        target = {"read V cache": "window", "input": "map"}.get(copy.what)
        if one.ahead or target is None:
            continue
        buffers = stack.tile_classes[c].buffers
        goes_to = next(b for b in buffers if (b.what, b.name, b.first) == (target, copy.tensor, run.layer))
        other = next(n for n, b in enumerate(buffers) if b.first == one.layer and b.memory == goes_to.memory)
        damage = with_buffer(schedule, (s, c, other), replace(buffers[other], address_bits=goes_to.address_bits))
        assert "which is copied early" in said(damage)
        tried += 1
        if tried == 3:
            return
    raise AssertionError("no early copy goes to a place of its own")


def test_what_is_not_there_yet_is_found() -> None:
    schedule = samples()[0]
    found = {(run.copies[one.copy].what, one.ahead): (where, run, one) for where, run, one in parts(schedule)}
    where, run, one = found["weights", False]
    assert "ahead of the first tile" in said(changed(schedule, where, run, one, ahead=True))
    assert "does not run before its own" in said(changed(schedule, where, run, one, layer=run.layer))
    where, run, one = found["read V cache", False]
    assert "when what it copies is not there" in said(changed(schedule, where, run, one, ahead=True))
    where, run, one = found["input", True]
    first = schedule.stacks[0].layers[0]
    assert "while the map is read" in said(changed(schedule, where, run, one, layer=first))
    copies = tuple(replace(copy, what="constants") if n == one.copy else copy for n, copy in enumerate(run.copies))
    assert "cannot be made early" in said(with_layer(schedule, *where, replace(run, copies=copies)))
    for bad in ({"copy": 99}, {"layer": "nobody"}, {"cycles": 0}):
        assert "is none of its copies" in said(changed(schedule, where, run, one, **bad))
