"""The search for spatial unrollings: never worse than the preference, and against all layouts of small problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import ceil, inf, prod
from pathlib import Path

import onnx
import pytest
from effort import share
from example_models import build
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis import strategies as st
from nest_strategies import Problem, problems

import dfc
from dfc.backend_cost.cost_model import EXACT, MODELS, CostModel
from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import MappingCost, Objective, price_mapping
from dfc.backend_cost.nest import Nest, Unrolled
from dfc.backend_cost.schedule import Schedule
from dfc.backend_cost.spatial_search import Effort, SpatialSearch, Unrolling
from dfc.backend_cost.spatial_space import SpatialSpace, even_fill
from dfc.errors import UsageError
from dfc.hwdsl.arch import Arch
from dfc.ir import Dim
from dfc.pipeline import ProgressEvent

ROOT = Path(__file__).parent.parent
#: without listing small problems to the end
DESCEND = Effort(few=0)
SEEDS = share(4, 4)
PROBLEMS = 10
QUIET = settings(
    max_examples=PROBLEMS,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def score(cost: MappingCost, objective: Objective) -> float:
    energy, cycles = cost.energy_pj, float(cost.latency_cycles)
    return {Objective.ENERGY: energy, Objective.LATENCY: cycles, Objective.EDP: energy * cycles}[objective]


def preferred(problem: Problem, cache: MappingCache) -> Unrolling:
    cost = cache.best(problem.nest)
    assume(isinstance(cost, MappingCost))
    assert isinstance(cost, MappingCost)
    return Unrolling(problem.nest, cost)


def on_array_dim(size: int, left: dict[Dim, int]) -> list[list[tuple[Dim, int]]]:
    """Nothing, a loop, or two on one array dimension, in any number of evenly filled lanes."""
    found: list[list[tuple[Dim, int]]] = [[]]
    for first, n in left.items():
        for lanes in range(2, min(n, size) + 1):
            if ceil(n / ceil(n / lanes)) == lanes:
                found.append([(first, lanes)])
                for second, m in left.items():
                    found += [
                        [(first, lanes), (second, more)]
                        for more in range(2, min(m, size // lanes) + 1)
                        if second > first and ceil(m / ceil(m / more)) == more
                    ]
    return found


def every_unrolling(nest: Nest, arch: Arch) -> list[tuple[Unrolled, ...]]:
    """All unrollings with at most two loops on each array dimension: also those that leave lanes idle for no reason."""
    found: list[tuple[tuple[int, ...], tuple[Unrolled, ...]]] = [(nest.sizes, ())]
    for array_dim in arch.array.dims:
        grown: list[tuple[tuple[int, ...], tuple[Unrolled, ...]]] = []
        for sizes, unrolled in found:
            for loops in on_array_dim(array_dim.size, {d: sizes[d] for d in Dim if sizes[d] > 1}):
                left = list(sizes)
                more: list[Unrolled] = []
                for loop, lanes in loops:
                    steps = ceil(left[loop] / lanes)
                    more.append(Unrolled(array_dim.name, loop, ceil(left[loop] / steps), left[loop] / steps))
                    left[loop] = steps
                grown.append((tuple(left), (*unrolled, *more)))
        found = grown
    return [unrolled for _, unrolled in found]


@pytest.mark.parametrize(("left", "room", "lanes"), [(48, 32, 24), (5, 4, 3), (7, 7, 7), (12, 5, 4), (3, 8, 3)])
def test_lanes_that_fill_evenly(left: int, room: int, lanes: int) -> None:
    assert even_fill(left, min(left, room)) == lanes


@QUIET
@given(problem=problems(3000))
def test_layouts_are_legal(problem: Problem) -> None:
    """As many lanes as an array dimension has, and no more iterations than the loops have."""
    nest, arch = problem.nest, problem.arch
    space = SpatialSpace(nest, arch)
    listed = space.listed(1000)
    assert listed is not None
    sizes = {d.name: d.size for d in arch.array.dims}
    for one in listed:
        lanes: Counter[str] = Counter()
        for name in {u.array_dim for u in one.unrolled}:
            mine = [u for u in one.unrolled if u.array_dim == name]
            assert len(mine) <= 2
            lanes[name] = prod(u.lanes for u in mine)
            assert lanes[name] <= sizes[name]
        for dim in Dim:
            shares = prod(u.share for u in one.unrolled if u.loop is dim)
            assert shares * one.temporal[dim] == pytest.approx(nest.sizes[dim])
        assert replace(one, unrolled=nest.unrolled) == nest
    keys = [space.key(one.unrolled) for one in listed]
    assert len(set(keys)) == len(keys)


@pytest.mark.slow
def test_often_the_best_of_all(record_testsuite_property: Callable[[str, object], None]) -> None:
    """Each unrolling mapped as well as can be: how often the descent finds the best (docs/mapping-search.md)."""
    equal: Counter[tuple[str, bool]] = Counter()
    asked: Counter[str] = Counter()
    worst: dict[str, float] = {}
    better: Counter[str] = Counter()

    @QUIET
    @given(problem=problems(3000), model=st.sampled_from(tuple(MODELS.values())))
    def compare(problem: Problem, model: CostModel) -> None:
        unrollings = every_unrolling(problem.nest, problem.arch)
        assume(2 <= len(unrollings) <= 150)
        for objective in Objective:
            cache = MappingCache(problem.arch, objective, model)
            start = preferred(problem, cache)
            costs = [cache.best(replace(problem.nest, unrolled=u)) for u in unrollings]
            best = min((score(c, objective) for c in costs if isinstance(c, MappingCost)), default=inf)
            best = min(best, score(start.cost, objective))
            asked[objective] += 1
            better[objective] += best < score(start.cost, objective) * (1 - 1e-9)
            for listing, effort in ((True, Effort()), (False, DESCEND)):
                found = SpatialSearch(cache, effort).best(start)
                mine = score(found.cost, objective)
                assert best * (1 - 1e-9) <= mine <= score(start.cost, objective) * (1 + 1e-9)
                priced = price_mapping(found.nest, problem.arch, found.cost.mapping, model)
                assert score(priced, objective) == pytest.approx(mine)
                equal[objective, listing] += mine <= best * (1 + 1e-9)
                if not listing:
                    worst[objective] = max(worst.get(objective, 1.0), mine / best if best else 1.0)

    for number in range(SEEDS):
        seed(number)(compare)()
    for objective in Objective:
        counts = equal[objective, True], equal[objective, False], asked[objective]
        text = f"listed {counts[0]}, descended {counts[1]} of {counts[2]}; preference improved {better[objective]}"
        print(f"{objective}: {text}, worst {worst[objective]:.3f}")
        record_testsuite_property(f"spatial_{objective}", text)
        assert better[objective] > asked[objective] / 3  # otherwise this shows nothing
    for listing in (True, False):
        for objective in Objective:
            assert equal[objective, listing] >= 0.85 * asked[objective]


@QUIET
@given(problem=problems(20_000), objective=st.sampled_from(tuple(Objective)))
def test_never_worse_and_always_the_same(problem: Problem, objective: Objective) -> None:
    for effort in (Effort(), DESCEND, Effort(looks=3, patience=1, mapped=1, few=0)):
        found: list[Unrolling] = []
        for _ in range(2):
            cache = MappingCache(problem.arch, objective, EXACT)
            start = preferred(problem, cache)
            found.append(SpatialSearch(cache, effort).best(start))
            assert score(found[-1].cost, objective) <= score(start.cost, objective) * (1 + 1e-9)
        assert found[0] == found[1]


def compiled(folder: Path, **options: str) -> Schedule:
    path = folder / "net.onnx"
    onnx.save(build("residual_block", size=12, channels=12), path)
    return dfc.compile(path, "meta_proto", **options)


@pytest.mark.parametrize(
    ("objective", "tile"), [("energy", "auto"), ("edp", "auto"), ("latency", "7x5"), ("edp", "7x5")][: share(4, 4)]
)
def test_never_worse_for_a_network(tmp_path: Path, objective: str, tile: str) -> None:
    """With tiles searched, too, and for the product of energy and time, which is no sum over layers."""
    prefer = compiled(tmp_path, objective=objective, tile=tile).totals
    search = compiled(tmp_path, objective=objective, tile=tile, spatial="search").totals
    pairs = {
        Objective.ENERGY: (search.energy_pj, prefer.energy_pj),
        Objective.LATENCY: (search.latency_cycles, prefer.latency_cycles),
        Objective.EDP: (search.energy_pj * search.latency_cycles, prefer.energy_pj * prefer.latency_cycles),
    }
    mine, other = pairs[Objective(objective)]
    assert mine < other  # which leaves lanes idle at the tiles' borders


def test_a_given_tile_is_compared_with_the_whole_map(tmp_path: Path) -> None:
    """Both with unrollings that were searched: what the whole map costs is what compiling it says."""
    tiled = compiled(tmp_path, tile="7x5", overlap="cached", spatial="search")
    whole = compiled(tmp_path, tile="12x12", overlap="cached", spatial="search", stacks="one")
    other = compiled(tmp_path, tile="7x5", overlap="cached", stacks="one").layer_by_layer
    assert len(tiled.stacks) == len(whole.stacks) == 1
    assert tiled.stacks[0].tile == (7, 5)
    against = tiled.layer_by_layer
    assert against is not None and other is not None
    assert against.energy_pj == pytest.approx(whole.totals.energy_pj, rel=1e-12)
    assert against.latency_cycles == whole.totals.latency_cycles
    assert against.energy_pj < other.energy_pj


@pytest.mark.parametrize("tile", ["7x5", "auto"])
@pytest.mark.parametrize("after", [1, 2])
def test_ctrl_c_while_unrollings_are_searched(tmp_path: Path, tile: str, after: int) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(build("residual_block", size=12, channels=12), path)
    seen: list[str] = []

    def stop(event: ProgressEvent) -> None:
        seen.extend([event.what] if event.what.endswith(", spatial") else [])
        if len(seen) == after:
            raise KeyboardInterrupt

    found = dfc.compile(path, "meta_proto", tile=tile, overlap="cached", spatial="search", progress=stop)
    assert len(seen) == after
    assert not found.complete
    assert found.layer_by_layer is not None
    prefer = compiled(tmp_path, tile=tile, overlap="cached")
    assert found.totals.energy_pj <= prefer.totals.energy_pj
    if tile != "auto":
        assert found.stacks[0].tile == (7, 5)


def test_the_users_lanes_stay(tmp_path: Path) -> None:
    page = tmp_path / "lanes.map"
    page.write_text('layer "*conv1*" { spatial D1: K 6, D3: OX 4 }\n', encoding="utf-8")
    schedule = compiled(tmp_path, tile="7x5", spatial="search", rules=str(page))
    runs = [run for s in schedule.stacks for c in s.tile_classes for run in c.layers]
    fixed = [run.unrolling for run in runs if "conv1" in run.layer]
    assert fixed
    assert all(len(lanes) == 2 and "K" in lanes[0] and "OX" in lanes[1] for lanes in fixed)
    assert any("OY" in lanes for run in runs if "conv2" in run.layer for lanes in run.unrolling)


def test_an_unknown_way(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        compiled(tmp_path, spatial="best")
    assert caught.value.code == "CLI055"
