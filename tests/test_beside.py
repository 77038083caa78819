"""Copies beside compute: by hand, and against what ports carry."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, pairwise

import pytest
from effort import share
from graph_builder import Builder
from graph_strategies import random_cnn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfc.backend_cost.busy_ports import Busy, BusyPorts, busy_ports
from dfc.backend_cost.cost_model import DEFINES, EXACT, CostModel
from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import Objective
from dfc.hwdsl import parse_arch
from dfc.ir import Axis, Graph, Role
from dfc.passes.stacks import cut_after, make_stack
from dfc.passes.tiles import OVERLAPS, Order, Overlap, Tiler, plan_spans
from dfc.scheduling.beside import beside_compute
from dfc.scheduling.copies import Beside, Place, hops, price_copies
from dfc.scheduling.engine import ClassCost, LayerRun, StackCost
from dfc.scheduling.fitted import FittedPricer
from dfc.scheduling.levels import Infeasible
from dfc.scheduling.placement import Buffer

#: one lane; weights and maps beside it, and 8 bits per cycle from off chip
PAGE = """
accelerator small {
  clock 1 GHz
  array {
    dims D1: 1
    mac  8 b x 8 b -> 16 b, 0.1 pJ
    unroll conv D1: K
  }
  memory lb_w  { holds W        size 4 KiB  width 16 b  energy 1 pJ }
  memory lb_io { holds I, O     size 4 KiB  width 16 b  energy 1 pJ }
  memory dram  { holds I, W, O  size 1 MiB  width 8 b   energy 100 pJ  ports 1rw }
  path W: array <- lb_w <- dram
  path I: array <- lb_io <- dram
  path O: array <-> lb_io <-> dram
}
"""
#: two memories between the array and DRAM that are too small for tiles with all that they keep
SMALL = """
accelerator small_buffers extends meta_proto_df {
  memory lb_io { size 16 KiB }
  memory gb_io { size 128 KiB }
}
"""
DRAM = (2, 0)  # its port


def two_convolutions(channels: int) -> Graph:
    """Two 1x1 convolutions on 8 x 8 positions, the second to so many channels."""
    b = Builder()
    y = b.conv(b.input(1, 8, 8), 1, (1, 1), pad=(0, 0))
    return b.graph(b.conv(y, channels, (1, 1), pad=(0, 0)))


def two_layers(channels: int, tile: tuple[int, int], model: CostModel = EXACT) -> tuple[Graph, FittedPricer, StackCost]:
    """These as one stack, priced."""
    graph, arch = two_convolutions(channels), parse_arch(PAGE)
    pricer = FittedPricer(graph, arch, MappingCache(arch, Objective.ENERGY, model))
    plan = Tiler(graph, make_stack(graph, [0, 1]), remainder_first=False).plan(tile, Overlap.CACHED)
    cost = pricer.price(plan)
    assert isinstance(cost, StackCost)
    return graph, pricer, cost


def late(cost: StackCost) -> StackCost:
    """The same with every copy right before its layer."""

    def later(run: LayerRun) -> LayerRun:
        cycles = run.copy_cost.latency_cycles + run.hidden_cycles
        return replace(run, copy_cost=replace(run.copy_cost, latency_cycles=cycles), beside=(), hidden_cycles=0)

    classes = tuple(
        replace(
            one,
            runs=tuple(map(later, one.runs)),
            latency_cycles=one.latency_cycles + sum(run.hidden_cycles for run in one.runs),
        )
        for one in cost.classes
    )
    return replace(cost, classes=classes)


# --- by hand


def test_weights_come_while_a_layer_runs() -> None:
    """The first layer takes 64 cycles, one per position, and leaves the port of the DRAM alone.

    The second has 128 weights and as many biases, so 256 cycles of 8 bits: 64 pass beside the first layer, and 192 are
    left.
    """
    _, _, found = two_layers(128, (8, 8))
    first, second = found.classes[0].runs
    assert first.cost is not None and first.cost.latency_cycles == 64
    # what it needs itself comes before it: a weight and a bias, and 64 positions
    assert (first.copy_cost.latency_cycles, first.beside) == (2 + 64, ())
    assert (second.copy_cost.latency_cycles, second.hidden_cycles) == (192, 64)
    assert second.beside == (Beside(copy=0, layer=0, ahead=False, cycles=64),)
    assert second.cost is not None
    assert found.latency_cycles == 2 + 64 + 64 + 192 + second.cost.latency_cycles


@pytest.mark.parametrize(("busy", "blocked", "hidden"), [(0, False, 16), (20, False, 12), (40, False, 0), (0, True, 0)])
def test_inputs_come_while_the_tile_before_ends(busy: int, blocked: bool, hidden: int) -> None:
    """Tiles of 8 x 2 positions, whose 16 inputs of 8 bits take 16 cycles; the layers run for 16 and 32.

    The first layer reads the inputs of the tile before, so they come beside its second, which keeps the port of the
    DRAM busy for some cycles; not where something lives then at the first of their addresses.
    """
    graph, pricer, priced = two_layers(1, (8, 2))
    copies = tuple(pricer.copy("input", "in0", 128, Place(Role.I, 1), Place(Role.I, 0)))
    classes: list[ClassCost] = []
    for one in late(priced).classes:
        first, second = one.runs
        assert first.cost is not None and second.cost is not None
        assert (first.cost.latency_cycles, second.cost.latency_cycles) == (16, 32)
        first = replace(first, copies=copies, stages=(1, 0), copy_cost=price_copies(pricer.arch, copies))
        second = replace(second, copies=(), stages=(0, 0), copy_cost=price_copies(pricer.arch, ()))
        classes.append(replace(one, runs=(first, second), latency_cycles=16 + 16 + 32))
    inputs = Buffer("map", "in0", 1, 128, 0, 0, address_bits=1024)
    others = (replace(inputs, name="other", bits=1, first=1, last=1),) if blocked else ()
    plan = replace(priced, classes=tuple(classes), buffers=((inputs, *others),) * 2)
    found = beside_compute(
        graph, pricer.arch, plan, lambda run: BusyPorts((Busy((DRAM,), float(busy if run.layer else 0)),))
    )
    brings, goes_on = (one.runs[0] for one in found.classes)
    assert brings.beside == ()  # no tile comes before the first
    assert goes_on.hidden_cycles == hidden
    assert goes_on.copy_cost.latency_cycles == 16 - hidden
    assert goes_on.beside == ((Beside(copy=0, layer=1, ahead=True, cycles=hidden),) if hidden else ())
    assert found.latency_cycles == plan.latency_cycles - 3 * hidden


def test_what_copies_take_is_gone() -> None:
    """Two copies through one port share what a layer leaves of it; others through other ports do not."""
    _, pricer, found = two_layers(30, (8, 8))
    first, second = found.classes[0].runs
    assert first.cost is not None and second.hidden_cycles == 60 <= first.cost.latency_cycles
    copies = tuple(replace(copy, bits=8 * 40) for copy in (second.copies[0], second.copies[0]))
    runs = first, replace(second, copies=copies, stages=(2, 0), copy_cost=price_copies(pricer.arch, copies))
    one = late(replace(found, classes=(replace(found.classes[0], runs=runs),)))
    busy = BusyPorts((Busy((DRAM,), 14.0), Busy(((1, 0),), 30.0)))
    again = beside_compute(pricer.graph, pricer.arch, one, lambda _: busy)
    parts = again.classes[0].runs[1].beside
    assert [part.cycles for part in parts] == [40, 64 - 14 - 40]


# --- which tile comes before which


@settings(max_examples=share(60, 3), deadline=None, suppress_health_check=list(HealthCheck))
@given(random_cnn(), st.tuples(st.integers(1, 9), st.integers(1, 9)), st.sampled_from(OVERLAPS), st.sampled_from(Order))
def test_tiles_that_come_before_are_known(graph: Graph, tile: tuple[int, int], mode: Overlap, order: Order) -> None:
    """Tile by tile, as the checker walks them: none comes before another that is not known to."""
    stack = cut_after(graph, [])[0]
    plan = Tiler(graph, stack, remainder_first=False).plan(tile, mode, order)
    columns, rows = ([one.step for one in plan_spans(graph, plan, axis)] for axis in (Axis.X, Axis.Y))
    walk = [(x, y) for y in rows for x in columns] if order is Order.ROWS else [(x, y) for x in columns for y in rows]
    xs, ys = (list(dict.fromkeys(getattr(one, axis) for one in plan.classes)) for axis in "xy")
    known = {((xs.index(one.x), ys.index(one.y)), one.first): n for n, one in enumerate(plan.classes)}
    numbers = [known[kinds, n == 0] for n, kinds in enumerate(walk)]
    assert {(a, b) for a, b in pairwise(numbers)} <= {(a, b) for b, all_of in enumerate(plan.before) for a in all_of}


# --- schedules


@settings(max_examples=share(40, 4), deadline=None, suppress_health_check=list(HealthCheck))
@given(random_cnn(), st.tuples(st.integers(1, 9), st.integers(1, 9)), st.sampled_from(OVERLAPS), st.sampled_from(Order))
def test_no_port_carries_more_than_there_is_time(
    graph: Graph, tile: tuple[int, int], mode: Overlap, order: Order
) -> None:
    """All that goes through any port, mappings and copies together, takes no longer than the stack; nor does compute.

    And the stack takes as long as its layers and what is left of their copies, which is by as much less as is said.
    """
    arch = parse_arch(SMALL)
    pricer = FittedPricer(graph, arch, MappingCache(arch, Objective.LATENCY))
    for stack in cut_after(graph, []):
        found = pricer.price(Tiler(graph, stack, remainder_first=False).plan(tile, mode, order))
        if isinstance(found, Infeasible):
            continue
        load: dict[tuple[int, int], float] = {}
        mapped = runs = 0
        for one in found.classes:
            for run in one.runs:
                runs += one.tile.count
                mapped += one.tile.count * (run.cost.latency_cycles if run.cost else 0)
                for port, cycles in carried(pricer, run).items():
                    load[port] = load.get(port, 0.0) + one.tile.count * cycles
        assert max(load.values(), default=0) <= found.latency_cycles + runs  # of each layer the cycles are whole
        copied = sum(one.tile.count * run.copy_cost.latency_cycles for one in found.classes for run in one.runs)
        assert found.latency_cycles == mapped + copied
        assert all(run.hidden_cycles >= 0 for one in found.classes for run in one.runs)
        for run in (run for one in late(found).classes for run in one.runs):
            groups = [run.copies[a:b] for a, b in pairwise(accumulate(run.stages, initial=0))]
            assert run.copy_cost.latency_cycles == sum(price_copies(arch, group).latency_cycles for group in groups)


def carried(pricer: FittedPricer, run: LayerRun) -> dict[tuple[int, int], float]:
    """Cycles of each port that a layer's mapping takes, and its copies."""
    memories = pricer.arch.memories
    ports = [(m, port) for m, memory in enumerate(memories) for port in range(len(memory.ports))]
    found = dict.fromkeys(ports, 0.0)
    if run.nest is not None and run.cost is not None:
        busy = busy_ports(run.nest, pricer.arch, run.cost.mapping)
        found = {port: busy.cycles([port]) for port in ports}
    for hop in (hop for copy in run.copies for hop in hops(pricer.arch, copy)):
        for m, move in ((hop.sender, hop.send), (hop.receiver, hop.receive)):
            found[m, memories[m].port_of[hop.role, move]] += hop.cycles
    return found


def test_the_reference_knows_none() -> None:
    """Under its cost model nothing overlaps in time."""
    _, _, found = two_layers(128, (8, 8), DEFINES)
    assert [(run.beside, run.hidden_cycles) for run in found.classes[0].runs] == [((), 0)] * 2
    assert found.classes[0].runs[1].copy_cost.latency_cycles == 256
