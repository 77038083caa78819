"""What every pass promises, on random networks."""

from __future__ import annotations

from dataclasses import replace

from graph_strategies import Region, needed_regions, random_cnn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfc.ir import Graph, Interval, dead_layers, problems
from dfc.passes import Canonicalise, Fuse, PassManager, default_pipeline

SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
#: in the order in which they are meant to run; a fusion may become possible where canonicalise drops a view
PASSES = st.sampled_from([(Canonicalise(),), (Fuse(),), default_pipeline()])


def renamed(before: Graph, after: Graph) -> dict[str, str]:
    """Output names before to names after, as the notes say."""
    names = dict(zip(before.outputs, after.outputs, strict=True))
    for old, new in names.items():
        if old != new:
            assert f"network output {old!r} is tensor {new!r}" in after.notes
    return names


@SETTINGS
@given(random_cnn())
def test_random_networks_are_well_formed(graph: Graph) -> None:
    assert problems(graph) == []
    assert dead_layers(graph) == ()


@SETTINGS
@given(random_cnn(single_output=True))
def test_networks_with_one_output_are_well_formed(graph: Graph) -> None:
    assert problems(graph) == []
    assert len(graph.outputs) == 1 and dead_layers(graph) == ()


@SETTINGS
@given(random_cnn(), PASSES)
def test_passes_keep_interface_and_work(graph: Graph, passes: tuple[Canonicalise | Fuse, ...]) -> None:
    after = PassManager(passes, verify=True).run(graph)
    assert after.inputs == graph.inputs
    for old, new in renamed(graph, after).items():
        assert replace(after.tensors[new], name=old) == graph.tensors[old]
    assert after.macs == graph.macs
    assert len(after.layers) <= len(graph.layers)
    assert {o for la in after.layers for o in la.origin} <= {o for la in graph.layers for o in la.origin}


@SETTINGS
@given(random_cnn(), PASSES)
def test_running_twice_equals_running_once(graph: Graph, passes: tuple[Canonicalise | Fuse, ...]) -> None:
    once = PassManager(passes, verify=True).run(graph)
    assert PassManager(passes, verify=True).run(once) is once


@SETTINGS
@given(random_cnn(), PASSES, st.data())
def test_an_output_region_needs_the_same_input_region(
    graph: Graph, passes: tuple[Canonicalise | Fuse, ...], data: st.DataObject
) -> None:
    after = PassManager(passes, verify=True).run(graph)
    wanted = {name: data.draw(regions(graph, name)) for name in graph.outputs}
    names = renamed(graph, after)
    before_needs = needed_regions(graph, wanted)
    after_needs = needed_regions(after, {names[name]: region for name, region in wanted.items()})
    for name in graph.inputs:
        assert after_needs[name] == before_needs[name]


@st.composite
def regions(draw: st.DrawFn, graph: Graph, tensor: str) -> Region:
    intervals: list[Interval] = []
    for extent in graph.tensors[tensor].spatial:
        lo = draw(st.integers(0, extent - 1))
        intervals.append(Interval(lo, draw(st.integers(lo + 1, extent))))
    return intervals[0], intervals[1], intervals[2]
