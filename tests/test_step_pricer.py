"""The price of a step: that of a row of tiles deep inside a long recording, and everything finds its room."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from causal_proof import timed
from example_models import build as example
from graph_strategies import random_cnn
from hypothesis import HealthCheck, given, settings
from test_step_tiles import a_trous

from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import Objective
from dfc.causal import streaming
from dfc.frontend import import_model
from dfc.hwdsl import Arch, load_arch
from dfc.ir import Axis, Graph, problems
from dfc.passes import PassManager, default_pipeline
from dfc.passes.causal_plan import CausalOptions
from dfc.passes.stacks import make_stack
from dfc.passes.tiles import Overlap, Tiler
from dfc.passes.turn_axes import rows_for_time
from dfc.scheduling.class_walk import ClassWalk, Path, Step
from dfc.scheduling.engine import ClassCost
from dfc.scheduling.fitted import FittedPricer
from dfc.scheduling.levels import Infeasible
from dfc.scheduling.placement import HeldMap, Lasting, Resident
from dfc.scheduling.step_bounds import StepBounds
from dfc.scheduling.step_pricer import StepPricer, along_tiles
from dfc.scheduling.step_types import Part, StepOption, fits_together


@pytest.fixture(scope="module")
def arch() -> Arch:
    return load_arch("meta_proto_df")


@pytest.fixture(scope="module")
def cache(arch: Arch) -> MappingCache:
    return MappingCache(arch, Objective.ENERGY, EXACT)


@pytest.fixture(scope="module")
def pricer(arch: Arch, cache: MappingCache) -> StepPricer:
    return StepPricer(streaming(timed(example("stft_cnn_025"), "H"), CausalOptions()).resident(), arch, cache)


def options(
    pricer: StepPricer, layers: range, reserved: Mapping[int, int] | None = None, part: Part = Part.ALL
) -> list[StepOption]:
    found = pricer.options(layers, reserved, part=part)
    assert not isinstance(found, Infeasible), found
    return found


def long_graph(rows: int, layers: int) -> Graph:
    """The first layers of the same network in its dense form, for many frames."""
    window = PassManager(default_pipeline()).run(import_model(example("stft_cnn_025"), name="test", base_dir=None))
    kept = window.layers[:layers]
    return a_trous(Graph(window.name, window.tensors, kept, window.inputs, (kept[-1].output,)), Axis.Y, rows)


def hidden(one: ClassCost) -> int:
    """Cycles of copies beside compute: a step's inputs come when it begins, those of a row beside the row before."""
    return sum(run.hidden_cycles for run in one.runs)


@pytest.mark.parametrize("tile", [36, 10])
@pytest.mark.parametrize("memory", ["lb_io", "gb_io"])
def test_a_step_costs_what_a_row_of_a_long_recording_costs(pricer: StepPricer, memory: str, tile: int) -> None:
    layers = range(3)  # without dilation no row between those that are read is carried along
    long = long_graph(40, len(layers))
    found: list[tuple[float, int]] = []
    rings: list[int] = []
    for graph in (pricer.graph, long):
        plan = Tiler(graph, make_stack(graph, layers), remainder_first=False).plan((tile, 1), Overlap.CACHED)
        own = pricer.pricer if graph is pricer.graph else FittedPricer(long, pricer.arch, pricer.pricer.cache)
        resident = Resident(graph, pricer.arch, plan, {})
        home = [m.name for m in pricer.arch.memories].index(memory)
        across = {t: home for t, (_, buffer) in resident.line_buffers.items() if buffer}
        along = {t: home for t, (buffer, _) in resident.line_buffers.items() if buffer}
        weights = resident.weight_choices()[0]
        lasting = resident.lasting(along, across, weights)
        if graph is pricer.graph:
            lasting = Lasting(along, across, weights, lasting.taken, frozenset(weights))
        cost = own.price_lasting(plan, resident, lasting, {})
        assert not isinstance(cost, Infeasible)
        rows = [c.tile.y for c in cost.classes]
        steady = max(rows, key=lambda y: sum(c.tile.count for c in cost.classes if c.tile.y == y))
        here = [c for c in cost.classes if c.tile.y == steady]
        columns = len(Tiler(graph, plan.stack, remainder_first=False).axis(Axis.X, tile, plan.overlap).steps)
        each = {c.tile.x: c for c in here if graph is pricer.graph or not c.tile.first}
        assert len(each) == columns
        counts = {c.tile.x: 0 for c in here}
        for c in here:
            counts[c.tile.x] += c.tile.count
        share = sum(counts.values()) // (36 // tile + (36 % tile > 0))
        found.append(
            (
                sum(each[x].energy_pj * n for x, n in counts.items()) / share,
                sum(each[x].latency_cycles * n + hidden(each[x]) * n for x, n in counts.items()) // share,
            )
        )
        rings.append(sum(b.bits for b in cost.stay if b.what == "V cache"))
    assert found[0] == pytest.approx(found[1], rel=1e-9)
    assert rings[0] == rings[1]


def test_options_have_room(pricer: StepPricer) -> None:
    sizes = [memory.size_bits for memory in pricer.arch.memories]
    for option in options(pricer, range(3, 5)):
        assert fits_together(pricer.sizes, [option])
        stay = [b for b in option.cost.stay if b.steps]
        for m, size in enumerate(sizes[:-1]):
            own = [b for b in stay if b.memory == m]
            assert option.resident_bits[m] == sum(b.bits for b in own)
            ends = [(b.address_bits or 0) + b.bits for buffers in option.cost.buffers for b in buffers if b.memory == m]
            assert max(ends, default=0) <= option.resident_bits[m] + option.transient_bits[m] <= size
            assert {b.name for b in own if b.what == "V cache"} <= set(pricer.graph.past)


def test_weights_are_loaded_once_or_in_every_step(pricer: StepPricer) -> None:
    """What the first step costs more is what every step costs more where nothing is resident."""
    found = options(pricer, range(12))
    always = [o for o in found if o.first_energy_pj > 0]
    never = [o for o in found if o.first_energy_pj == 0]
    assert always and never
    for one in always:
        other = next(o for o in never if abs(o.energy_pj - one.energy_pj - one.first_energy_pj) < 1e-3)
        assert one.first_cycles > 0
        assert one.energy_pj + one.first_energy_pj == pytest.approx(other.energy_pj)
        assert one.energy_pj + one.first_energy_pj / 1000 < other.energy_pj
        weights = sum(layer.weight_elements for layer in pricer.graph.layers) * 8
        assert sum(one.resident_bits) - sum(other.resident_bits) == weights


def test_weights_may_lie_in_two_memories(pricer: StepPricer) -> None:
    """They do not fit the lowest memory, and are cheaper to read from there: part of them lies there."""
    best = min(options(pricer, range(12)), key=lambda o: o.energy_pj)
    names = {pricer.arch.memories[b.memory].name for b in best.cost.stay if b.what == "weights"}
    assert names == {"lb_w", "gb_w"}


def test_the_steady_row_of_the_reference_is_beaten(pricer: StepPricer) -> None:
    """ACCO's recorded steady row, all layers in one stack: 0.944 uJ (acco-model.md, section 4)."""
    best = min(o.energy_pj for o in options(pricer, range(12)))
    assert best < 0.95 * 0.944e6


def test_reserved_room_stays_free(pricer: StepPricer) -> None:
    sizes = [memory.size_bits for memory in pricer.arch.memories]
    names = [memory.name for memory in pricer.arch.memories]
    shared = names.index("lb_io")
    reserved = {shared: sizes[shared] - 40_000}
    for option in options(pricer, range(2), reserved):
        assert option.resident_bits[shared] + option.transient_bits[shared] <= 40_000
    every = {m: size for m, size in enumerate(sizes) if names[m] != "dram"}
    assert isinstance(pricer.options(range(2), every), Infeasible)


@pytest.mark.parametrize("layers", [range(2), range(3, 5), range(6, 11)])
def test_in_parts_nothing_is_lost(arch: Arch, pricer: StepPricer, layers: range) -> None:
    """The broad ways have the least energy and the fewest cycles, the others leave more room; fetched weights cost what
    their bound says at least.
    """
    every = options(pricer, layers)
    fresh = StepPricer(pricer.graph, arch, pricer.pricer.cache)  # which has not worked out any of it
    broad, deep, fetched = (options(fresh, layers, part=part) for part in (Part.BROAD, Part.DEEP, Part.FETCHED))
    assert min(o.energy_pj for o in broad) == min(o.energy_pj for o in every)
    assert min(o.latency_cycles for o in broad) == min(o.latency_cycles for o in every)

    def room(option: StepOption) -> tuple[float, ...]:
        return option.energy_pj, option.latency_cycles, *option.resident_bits, *option.transient_bits

    for one in every:
        assert any(all(a <= b for a, b in zip(room(o), room(one), strict=True)) for o in (*deep, *fetched))
    if len(layers) > 2:  # in short ranges no smaller tile leaves more room
        assert len(broad) < len(deep)
    energy, cycles = StepBounds(pricer.graph, arch, EXACT, any_lanes=False).range_bound(layers, fetched=True)
    for one in fetched:
        assert one.first_energy_pj == 0 and one.energy_pj >= energy and one.latency_cycles >= cycles
    assert all(one.first_energy_pj > 0 for one in deep)


@pytest.mark.parametrize("share", [0.5, 0.75])
def test_parts_of_memories_may_be_set_aside(pricer: StepPricer, share: float) -> None:
    """Registers beside the array hold one element each: of them nothing is left over for others."""
    aside = pricer.set_aside(share)
    assert [pricer.arch.memories[m].name for m in aside] == ["lb_w", "gb_w", "lb_io", "gb_io", "dram"]
    assert pricer.set_aside(0.0) == {}
    for option in options(pricer, range(2), aside):
        for m, bits in aside.items():
            assert option.resident_bits[m] + option.transient_bits[m] <= pricer.sizes[m] - bits


def test_a_map_between_stacks_may_be_its_own_ring_buffer(pricer: StepPricer) -> None:
    graph, memory = pricer.graph, [m.name for m in pricer.arch.memories].index("gb_io")
    held = {"pool1.kept": HeldMap(memory)}
    before, after = pricer.options(range(2, 3), held=held), pricer.options(range(3, 4), held=held)
    assert not isinstance(before, Infeasible) and not isinstance(after, Infeasible)
    whole = graph.tensors["pool1.kept"].elements * 8
    reading = min(after, key=lambda o: o.energy_pj)
    assert reading.resident_bits[memory] >= whole
    making = min(before, key=lambda o: o.energy_pj)
    assert making.resident_bits[memory] < whole
    off_chip = sum(min(o.energy_pj for o in options(pricer, r)) for r in (range(2, 3), range(3, 4)))
    assert making.energy_pj + reading.energy_pj < off_chip
    assert not any(c.what in ("input", "output") and c.tensor == "pool1.kept" for o in (making, reading)
                   for tile in o.cost.classes for run in tile.runs for c in run.copies)  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(random_cnn())
def test_axes_change_places(graph: Graph) -> None:
    turned = rows_for_time(graph)
    assert problems(turned) == []
    for name, tensor in graph.tensors.items():
        t, y, x = tensor.spatial
        if name in graph.producer:
            assert turned.tensors[name].spatial == (y, t, x)
    back = rows_for_time(turned)
    assert back.layers == graph.layers
    assert {n: t.spatial for n, t in back.tensors.items()} == {n: t.spatial for n, t in graph.tensors.items()}


def test_a_network_over_space_and_time_is_turned_at_no_cost(arch: Arch) -> None:
    step = streaming(timed(example("cnn3d"), "T"), CausalOptions(hop=2)).resident()
    graph, chip = along_tiles(step, arch)
    assert (step.time, graph.time) == (Axis.T, Axis.Y)
    first = Graph(step.name, step.tensors, step.layers[:1], step.inputs, (step.layers[0].output,))
    prices: list[tuple[float, int]] = []
    for each, on in ((first, arch), (rows_for_time(first), chip)):
        whole = Tiler(each, make_stack(each, [0]))
        found = FittedPricer(each, on, MappingCache(on, Objective.ENERGY, EXACT)).price(
            whole.plan(whole.extents, Overlap.CACHED)
        )
        assert not isinstance(found, Infeasible)
        prices.append((found.energy_pj, found.latency_cycles))
    assert prices[0] == prices[1]
    pricer = StepPricer(graph, chip, MappingCache(chip, Objective.ENERGY, EXACT))
    assert options(pricer, range(1))


@pytest.mark.parametrize("objective", [Objective.ENERGY, Objective.EDP])
def test_what_is_known_of_mappings_leads_through_a_long_stack(
    arch: Arch, objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    """56 layers with up to eight maps alive at once: the first search is short, and the next one goes straight."""
    graph, chip = along_tiles(streaming(timed(example("tcn_kws"), "T"), CausalOptions()).resident(), arch)
    pricer = StepPricer(graph, chip, MappingCache(chip, objective, EXACT)).pricer
    (tile, *_) = StepPricer(graph, chip, pricer.cache).plans(range(len(graph.layers)))
    resident = Resident(graph, chip, tile, {})
    lasting = resident.uniform(resident.weight_choices()[0])[0]
    steps: list[int] = []

    def counted(walk: ClassWalk, index: int, path: Path, i_memory: int, o_memory: int) -> Step | Infeasible:
        steps.append(index)
        return step(walk, index, path, i_memory, o_memory)

    step = ClassWalk.step
    monkeypatch.setattr(ClassWalk, "step", counted)
    found: list[float] = []
    for most in (40, 4):  # by floors of the nests alone, 62
        steps.clear()
        cost = pricer.price_lasting(tile, resident, lasting, {})
        assert not isinstance(cost, Infeasible)
        found.append(cost.energy_pj * cost.latency_cycles)
        assert len(graph.layers) <= len(steps) <= most * len(graph.layers)
    assert found[0] == found[1]
