"""The exact model's latency: compiled code and NumPy agree, for one mapping and for many."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from effort import share
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from nest_strategies import Case, cases

from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.evaluate import Batch, effective_cuts
from dfc.backend_cost.nest import Loop, Mapping
from dfc.backend_cost.tables import Tables, build_tables
from dfc.backend_cost.timing import ExactLatency, exact_latency, granted_buffers
from dfc.backend_cost.timing_compiled import COMPILED, compiled_cycles, compiled_grants
from dfc.backend_cost.timing_tables import TimeTables
from dfc.ir import N_DIMS, Dim

MAPPINGS = 7

if not COMPILED:
    pytest.skip("installed without a compiler", allow_module_level=True)


@st.composite
def idling(draw: st.DrawFn) -> Case:
    """A case of which, most times, some loops have idle steps at the end."""
    case = draw(cases())
    extra = [Loop(draw(st.sampled_from(list(Dim))), draw(st.integers(1, 3))) for _ in range(draw(st.integers(0, 2)))]
    loops = list(case.mapping.loops)
    for loop in extra:
        at = [i for i, have in enumerate(loops) if have.dim is loop.dim]
        if at:
            loops[at[-1]] = Loop(loop.dim, loops[at[-1]].size + loop.size)
    mapping = Mapping(tuple(loops), case.mapping.cuts)
    return replace(case, mapping=mapping, nest=case.nest.with_steps(mapping.steps))


def tables_of(case: Case, random: np.random.Generator) -> tuple[Tables, Batch]:
    """A batch of the case's mapping first, and others: its loops in any order, cut anywhere."""
    loops, paths = case.mapping.loops, case.mapping.cuts
    orders = [np.arange(len(loops)), *(random.permutation(len(loops)) for _ in range(MAPPINGS - 1))]
    points = [np.ones(N_DIMS)]
    place = np.zeros((MAPPINGS, len(loops) + 1), dtype=np.int64)
    for row, order in enumerate(orders):
        here = points[0]
        for i, loop in enumerate(order.tolist()):
            here = here.copy()
            here[loops[loop].dim] *= loops[loop].size
            place[row, i + 1] = len(points)
            points.append(here)
    cuts = tuple(np.sort(random.integers(0, len(loops) + 1, (MAPPINGS, len(path))), axis=1) for path in paths)
    for cut, path in zip(cuts, paths, strict=True):
        cut[:, -1] = len(loops)
        cut[0] = path
    dims = np.array([loop.dim for loop in loops], dtype=np.int64)
    batch = Batch(dims[np.stack(orders)] if loops else np.zeros((MAPPINGS, 0), dtype=np.int64), place, cuts)
    return build_tables(case.nest, case.arch, np.stack(points), EXACT), batch


def assert_equal(one: ExactLatency, other: ExactLatency) -> None:
    assert one.ideal_cycles == other.ideal_cycles
    for name in ("running_cycles", "loading_cycles", "offloading_cycles"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.slow
def test_cycles_and_buffers() -> None:
    """Random layers, accelerators, mappings, idle steps, free ports and second buffers."""
    seen: Counter[str] = Counter()

    @seed(5)
    @settings(
        max_examples=share(600, 3),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],
    )
    @given(idling(), st.integers(0, 1 << 30))
    def check(case: Case, number: int) -> None:
        random = np.random.default_rng(number)
        tables, batch = tables_of(case, random)
        cuts = effective_cuts(tables, batch)
        plain = granted_buffers(tables, batch, cuts, compiled=False)
        for ours, theirs in zip(granted_buffers(tables, batch, cuts), plain, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        double = plain if number % 3 == 0 else tuple(random.random(c.shape) < 0.5 for c in cuts)
        ports = [(m, p) for m, memory in enumerate(case.arch.memories) for p in range(len(memory.ports))]
        free = frozenset(p for p in ports if number % 2 and random.random() < 0.3)
        times = TimeTables(tables, free)
        found = exact_latency(tables, batch, cuts, double, free)
        assert_equal(found, exact_latency(tables, batch, cuts, double, free, compiled=False))
        assert_equal(found, exact_latency(tables, batch, cuts, double, times=times))
        for row in (np.array([0]), np.array([MAPPINGS - 1])):  # no mapping depends on its neighbours
            some = tuple(c[row] for c in cuts), tuple(d[row] for d in double)
            alone = exact_latency(tables, batch.take(row), *some, free, compiled=False).total_cycles
            np.testing.assert_allclose(found.total_cycles[row], alone, rtol=1e-9)
        seen["cases"] += 1
        seen["idle"] += bool(case.nest.idling)
        seen["free"] += bool(free)
        seen["compiled"] += bool(times.boundaries) and compiled_cycles(times, batch, cuts, double) is not None
        seen["stalls"] += bool((found.running_cycles > found.ideal_cycles).any())
        seen["sums come back"] += any(b.back is not None and b.back.share.any() for b in times.boundaries)

    check()
    assert seen["cases"] >= share(500, 3)
    assert min(seen.values()) > share(100, 3), seen


def one_case() -> tuple[Tables, Batch]:
    found: list[tuple[Tables, Batch]] = []

    @seed(1)
    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(cases())
    def draw(case: Case) -> None:
        tables, batch = tables_of(case, np.random.default_rng(0))
        if TimeTables(tables).boundaries and batch.point.shape[1] > 2:
            found.append((tables, batch))

    draw()
    return found[0]


@pytest.mark.parametrize("kind", ["cut", "negative cut", "point", "loops", "flags", "place"])
def test_what_does_not_belong_together_is_refused(kind: str) -> None:
    """Nothing is read beyond a buffer."""
    tables, batch = one_case()
    cuts = effective_cuts(tables, batch)
    double = granted_buffers(tables, batch, cuts)
    times = TimeTables(tables)
    if kind in ("cut", "negative cut"):
        cuts = tuple(np.full_like(c, 1000 if kind == "cut" else -1) for c in cuts)
    elif kind == "point":
        batch = replace(batch, point=np.full_like(batch.point, len(tables.points)))
    elif kind == "loops":
        batch = replace(batch, point=batch.point.reshape(1, -1))
    elif kind == "flags":
        double = tuple(d[:-1] for d in double)
    else:
        times = TimeTables(replace(tables, points=tables.points[:-1]))
    with pytest.raises(ValueError, match="belong together"):
        compiled_cycles(times, batch, cuts, double)
    if kind in ("cut", "negative cut", "point"):
        with pytest.raises(ValueError, match="belong together"):
            compiled_grants(tables, batch, cuts)


def test_no_mappings() -> None:
    tables, batch = one_case()
    none = batch.take(np.zeros(0, dtype=np.int64))
    cuts = effective_cuts(tables, none)
    double = granted_buffers(tables, none, cuts)
    assert [len(d) for d in double] == [0] * len(cuts)
    assert len(exact_latency(tables, none, cuts, double).total_cycles) == 0
