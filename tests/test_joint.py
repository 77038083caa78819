"""The joint search of cuts and forms on real steps: as good as all ways tried, and what it chose is what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations, product
from pathlib import Path

import numpy as np
import onnx
import pytest
from causal_proof import count_macs, prove_exact, timed
from onnx import TensorProto, helper, numpy_helper

from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import Objective
from dfc.causal import streaming
from dfc.frontend.timed import import_timed
from dfc.hwdsl import Arch, load_arch
from dfc.ir import Graph
from dfc.passes.causal_plan import CausalOptions, Form
from dfc.scheduling.check import check_schedule
from dfc.scheduling.joint_search import JointSearch
from dfc.scheduling.labels import Edge, best_paths
from dfc.scheduling.levels import Infeasible
from dfc.scheduling.placement import HeldMap
from dfc.scheduling.step_bounds import StepBounds
from dfc.scheduling.step_pricer import StepPricer, along_tiles
from dfc.scheduling.step_ranges import best_ranges
from dfc.scheduling.step_types import Bits, StepOption, fits_together
from dfc.step_compile import compile_joint, compile_step, parse_step_request
from dfc.step_joint import StepForms, joint, layers_before

#: kernel and stride along time, and output channels; 0 of a pool
NETWORKS = {
    "strided": ((3, 2, 8), (2, 2, 0), (2, 1, 4)),
    "chain": ((5, 1, 8), (3, 1, 8), (3, 2, 8)),
    "wide": ((1, 1, 64), (3, 1, 64), (1, 1, 4)),
    "six": ((3, 1, 8), (2, 2, 0), (3, 1, 8), (1, 1, 32), (3, 1, 8), (2, 1, 4)),
}
#: network, windows per step, KiB of the larger memory for maps, objective, where to cut, forms of the best way
CASES: list[tuple[str, int, int, Objective, list[int] | None, list[Form]]] = [
    ("strided", 2, 64, Objective.ENERGY, None, [Form.DENSE]),
    ("chain", 1, 1, Objective.EDP, None, [Form.DENSE]),
    # the map of 64 channels waits in the larger memory, as small ones fill the lowest
    ("wide", 1, 2, Objective.ENERGY, None, [Form.DENSE] * 3),
    # two rows of 64 channels have no room in one stack: to make them again from 4 is cheaper than to fetch them
    ("wide", 1, 2, Objective.ENERGY, [], [Form.RECOMPUTED]),
]


@cache
def network(name: str) -> onnx.ModelProto:
    """Layers over (H, W) of 4 channels, without padding."""
    rng, nodes, constants, x = np.random.default_rng(3), [], [], "input"
    channels = 4
    for i, (kernel, stride, wanted) in enumerate(NETWORKS[name]):
        out, strides = f"t{i}", [stride, 1]
        if wanted:
            weight = rng.standard_normal((wanted, channels, kernel, 3)).astype(np.float32)
            constants.append(numpy_helper.from_array(weight, f"w{i}"))
            nodes.append(helper.make_node("Conv", [x, f"w{i}"], [out], name=f"n{i}", strides=strides))
        else:
            pool = {"kernel_shape": [kernel, 1], "strides": strides}
            nodes.append(helper.make_node("MaxPool", [x], [out], name=f"n{i}", **pool))
        x, channels = out, wanted or channels
    infos = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 4, 24, 12])]
    graph = helper.make_graph(nodes, name, infos, [onnx.ValueInfoProto(name=x)], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def chip(kib: int) -> Arch:
    """meta_proto_df with so much on-chip memory for maps, and a little for weights."""
    arch = load_arch("meta_proto_df")
    sizes = {"gb_io": kib << 13, "lb_io": kib << 12, "gb_w": 4 << 13, "lb_w": 1 << 13}
    memories = tuple(replace(m, size_bits=sizes.get(m.name, m.size_bits)) for m in arch.memories)
    return replace(arch, memories=memories)


#: a place for a cut, and the memory in which the map over it waits, None for off chip
Node = tuple[int, int | None]
Priced = dict[tuple[Node, Node, Form], list[StepOption]]
#: memories for maps on chip, by their index on the page
LEVELS = ("lb_io", "gb_io")


def waiting(graph: Graph, arch: Arch, place: int) -> list[int | None]:
    """Where the map over a cut of a chain may wait: off chip, or wherever it fits."""
    if place in (0, len(graph.layers)):
        return [None]
    bits = graph.tensors[graph.layers[place - 1].output].elements * arch.array.output_bits
    return [None, *(m for m, one in enumerate(arch.memories) if one.name in LEVELS and bits <= one.size_bits)]


def priced(forms: StepForms, cache_: MappingCache, *, most: int = 99) -> Priced:
    """All ranges of a chain in all forms, with maps wherever they may wait, in the first ``most`` of these places,
    whatever they have in common; no bound is above any of them.
    """
    found: Priced = {}
    for first, end in combinations(range(forms.places), 2):
        for form in forms.forms:
            at = forms.of(first, end, form)
            if at is None:
                continue
            pricer = StepPricer(at.graph, forms.turned, cache_)
            bounds = StepBounds(at.graph, forms.turned, EXACT, any_lanes=False)
            low, high = at.layers.start, at.layers.stop
            sides = [waiting(at.graph, forms.turned, place)[:most] for place in (low, high)]
            for before, after in product(*sides):
                over = ((before, low), (after, high))
                held = {at.graph.layers[place - 1].output: HeldMap(m) for m, place in over if m is not None}
                options = pricer.options(at.layers, None, held)
                if not isinstance(options, Infeasible):
                    found[(first, before), (end, after), form] = options
                    energy, cycles = bounds.range_bound(at.layers, held)
                    assert all(o.energy_pj >= energy and o.latency_cycles >= cycles for o in options)
    return found


@pytest.mark.parametrize(("name", "windows", "kib", "objective", "cuts", "chosen"), CASES)
def test_as_good_as_all_ways_tried(
    name: str, windows: int, kib: int, objective: Objective, cuts: list[int] | None, chosen: list[Form]
) -> None:
    """All cuts, forms, places for maps and ways to run ranges, one by one."""
    forms = StepForms(timed(network(name), "H"), CausalOptions(windows=windows), chip(kib), fixed=cuts)
    mappings = MappingCache(forms.turned, objective, EXACT)
    found = priced(forms, mappings)
    search = JointSearch(forms, forms.turned, mappings, objective)
    best = search.run()
    assert best.complete
    nodes = sorted({end for pair in found for end in pair[:2]}, key=lambda node: (node[0], node[1] or -1))
    edges = [Edge(nodes.index(first), nodes.index(end), options) for (first, end, _), options in found.items()]
    least = least_of_all(edges, len(nodes), [m.size_bits for m in forms.turned.memories], objective)
    assert objective.of(best.energy_pj, best.latency_cycles) == pytest.approx(least, rel=1e-9)
    assert [way.form for way in best.ways] == chosen
    assert fits_together([m.size_bits for m in forms.turned.memories], [way.option for way in best.ways if way.option])
    search.enter(anywhere=True)
    for one in search.ranges:
        options = found.get(((one.first, one.before), (one.end, one.after), one.form), [])
        assert all(one.bound[0] <= o.energy_pj and one.bound[1] <= o.latency_cycles for o in options)
    known = {((one.first, one.before), (one.end, one.after), one.form) for one in search.ranges}
    assert known >= found.keys()


def some(options: Sequence[StepOption], scarce: Sequence[int]) -> list[StepOption]:
    """Of the ways to run a range: least energy, fewest cycles, and least room in each scarce memory."""
    keys: list[Callable[[StepOption], float]] = [lambda o: o.energy_pj, lambda o: o.latency_cycles]
    keys += [lambda o, m=m: o.resident_bits[m] + o.transient_bits[m] for m in scarce]  # type: ignore[misc]
    return list({id(best): best for best in (min(options, key=key) for key in keys)}.values())


def least_of_all(edges: Sequence[Edge[StepOption]], nodes: int, sizes: Sequence[int], objective: Objective) -> float:
    """The best of all paths with all ways of their edges, tried one by one: rows of sums, none left out."""
    rows = {0: np.zeros((1, 2 + 2 * len(sizes)))}  # energy, cycles, what stays of all, the most of the rest
    for node in range(1, nodes):
        longer: list[np.ndarray] = []
        for edge in edges:
            if edge.head == node and edge.tail in rows:
                for way in edge.ways:
                    found = rows[edge.tail].copy()
                    found[:, 0] += way.energy_pj
                    found[:, 1] += way.latency_cycles
                    found[:, 2 : 2 + len(sizes)] += way.resident_bits
                    found[:, 2 + len(sizes) :] = np.maximum(found[:, 2 + len(sizes) :], way.transient_bits)
                    longer.append(found)
        rows[node] = np.concatenate(longer)
    ends = rows[nodes - 1]
    fit = (ends[:, 2 : 2 + len(sizes)] + ends[:, 2 + len(sizes) :] <= np.array(sizes)).all(axis=1)
    return min(objective.of(energy, cycles) for energy, cycles in ends[fit, :2].tolist())


@pytest.mark.slow
def test_six_layers_against_all_ways() -> None:
    """All cuts and forms of a step of six layers, with a few of the ways of each range, in memories that are scarce."""
    forms = StepForms(timed(network("six"), "H"), CausalOptions(), chip(2))
    arch = forms.turned
    found = priced(forms, MappingCache(arch, Objective.EDP, EXACT), most=1)
    assert forms.places == 7
    scarce = [m for m, memory in enumerate(arch.memories) if memory.name in ("gb_io", "lb_io", "gb_w", "lb_w")]
    edges = [Edge(first[0], end[0], some(options, scarce)) for (first, end, _), options in found.items()]
    sizes = [memory.size_bits for memory in arch.memories]
    for objective in Objective:
        best = best_paths(forms.places, edges, sizes, objective)
        (path,) = best.paths
        assert best.complete
        least = least_of_all(edges, forms.places, sizes, objective)
        assert objective.of(path.energy_pj, path.latency_cycles) == pytest.approx(least, rel=1e-9)
    alone = [min((o for o in edge.ways), key=lambda o: o.energy_pj) for edge in edges if edge.head == edge.tail + 1]
    assert not fits_together(sizes, alone)  # else room would not matter


@pytest.mark.parametrize(
    ("name", "windows", "mixture"),
    [
        ("strided", 2, [(0, 1, Form.DENSE), (1, 3, Form.RECOMPUTED)]),
        ("strided", 3, [(0, 2, Form.RECOMPUTED), (2, 3, Form.POLYPHASE)]),
        ("chain", 1, [(0, 2, Form.RECOMPUTED), (2, 3, Form.DENSE)]),
    ],
)
def test_a_range_does_not_depend_on_the_forms_of_others(
    name: str, windows: int, mixture: list[tuple[int, int, Form]]
) -> None:
    """A mixture is exact on every window, and its ranges are those of steps in which nothing else differs."""
    model, arch = network(name), load_arch("meta_proto_df")
    forms = StepForms(timed(model, "H"), CausalOptions(windows=windows), arch)
    options = CausalOptions(windows=windows, segments=tuple(forms.segment(*one) for one in mixture))
    form = prove_exact(model, "H", options, valid=2)
    assert form.step.macs == count_macs(form.step.plan)
    mixed, _ = along_tiles(form.resident(), arch)
    before, mappings, macs = layers_before(form, mixed), MappingCache(arch, Objective.ENERGY, EXACT), 0

    def ways(graph: Graph, layers: range) -> list[tuple[float, int, Bits, Bits]]:
        found = StepPricer(graph, arch, mappings).options(layers)
        assert not isinstance(found, Infeasible)
        return [(o.energy_pj, o.latency_cycles, o.resident_bits, o.transient_bits) for o in found]

    for first, end, one in mixture:
        at = forms.of(first, end, one) or forms.of(first, end, Form.DENSE)
        assert at is not None
        layers = range(before[forms.cuts[first]], before[forms.cuts[end]])
        assert ways(at.graph, at.layers) == ways(mixed, layers)
        macs += sum(at.graph.layers[i].macs for i in at.layers)
    assert macs == form.step.macs


@pytest.mark.parametrize(
    ("cuts", "chosen", "levels"),
    [(None, [Form.DENSE] * 3, [None, "gb_io"]), ([0], [Form.DENSE] * 2, ["gb_io"]), ([], [Form.RECOMPUTED], [])],
)
def test_the_choice_is_what_is_compiled(cuts: list[int] | None, chosen: list[Form], levels: list[str | None]) -> None:
    """The stacks of the chosen step cost what the search says, with maps where it says; user's cuts are kept."""
    model, arch = timed(network("wide"), "H"), chip(2)
    found = joint(model, CausalOptions(), arch, Objective.ENERGY, cuts=cuts)
    assert [way.form for way in found.path.ways] == chosen
    assert [None if m is None else arch.memories[m].name for m in found.cuts.values()] == levels
    form = streaming(model, found.options)
    graph, arch = along_tiles(form.resident(), arch)
    pricer = StepPricer(graph, arch, MappingCache(arch, Objective.ENERGY, EXACT))
    best = best_ranges(pricer, Objective.ENERGY, cuts=list(found.cuts), levels=found.cuts)
    assert sum(o.energy_pj for o in best.options) == pytest.approx(found.path.energy_pj, rel=1e-9)
    assert cuts is None or list(found.cuts) == cuts


def test_a_compilation_chooses_forms(tmp_path: Path) -> None:
    onnx.save(network("chain"), tmp_path / "chain.onnx")
    model = import_timed(tmp_path / "chain.onnx", time_axis="H")
    request = parse_step_request("energy", "auto", 100, None, 1)
    schedule = compile_joint(tmp_path / "chain.onnx", model, CausalOptions(), load_arch("meta_proto_df"), request)
    assert check_schedule(schedule).violations == ()
    dense = compile_step(
        tmp_path / "chain.onnx", streaming(model, CausalOptions()), load_arch("meta_proto_df"), request
    )
    assert schedule.totals.energy_pj <= dense.totals.energy_pj


def test_a_form_is_chosen_where_it_pays(tmp_path: Path) -> None:
    onnx.save(network("wide"), tmp_path / "wide.onnx")
    model = import_timed(tmp_path / "wide.onnx", time_axis="H")
    request = parse_step_request("energy", "one", 100, None, 1)
    schedule = compile_joint(tmp_path / "wide.onnx", model, CausalOptions(), chip(2), request)
    assert check_schedule(schedule).violations == ()
    assert schedule.step is not None and schedule.step.form == "mixed"
    assert any("recomputed in every step" in note for note in schedule.notes)
