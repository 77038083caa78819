"""States as pasts: the same work, and every position depends on the same positions of the past as in the step."""

from __future__ import annotations

from functools import cache
from itertools import product

import pytest
from causal_networks import Recipe, build, recipes
from causal_proof import timed
from example_models import build as example
from hypothesis import given, settings
from hypothesis import strategies as st

from dfc.causal import Streaming, streaming
from dfc.ir import Axis, Graph, Layer, Source, parse_graph, print_graph
from dfc.passes import PassManager, default_pipeline
from dfc.passes.causal_plan import CausalOptions

Leaf = tuple[str, int]


@st.composite
def requests(draw: st.DrawFn) -> CausalOptions:
    return CausalOptions(draw(st.integers(1, 7)), draw(st.integers(1, 3)), draw(st.booleans()), draw(st.booleans()))


def reads(graph: Graph, layer: Layer, source: Source, axis: Axis, at: int) -> list[int]:
    """Positions along an axis that one output position reads of a source, kernel position by kernel position."""
    m, size = source.maps[axis], graph.tensors[source.tensor].spatial[axis]
    first, last = (m.num * at + m.lo) // m.den, (m.num * at + m.hi) // m.den
    kernel, _, dilation = layer.window(axis)
    step = dilation if m.den == 1 and last - first == dilation * (kernel - 1) else 1
    return [i for i in range(first, last + 1, step) if 0 <= i < size]


class Origins:
    """On which positions of network inputs, and of pasts, positions of a tensor depend along an axis."""

    def __init__(self, graph: Graph, axis: Axis) -> None:
        self.graph, self.axis = graph, axis
        self.of = cache(self._of)

    def _of(self, tensor: str, at: int) -> frozenset[Leaf]:
        if tensor in self.graph.inputs or at < self.graph.past_along(tensor, self.axis):
            return frozenset({(tensor, at)})
        layer = self.graph.layers[self.graph.producer[tensor]]
        found: set[Leaf] = set()
        for source in layer.sources:
            for i in reads(self.graph, layer, source, self.axis, at):
                found |= self.of(source.tensor, i)
        return frozenset(found)


def step_graph(form: Streaming) -> Graph:
    return PassManager(default_pipeline(), verify=True).run(form.graph())


def check(form: Streaming) -> Graph:
    """The states that became pasts hold, and depend on, what the step says; nothing else changes."""
    step, found = step_graph(form), form.resident()
    assert parse_graph(print_graph(found)) == found
    assert found.macs == step.macs == form.step.macs
    time = found.time
    if time is None:
        assert found == step
        return found
    states = {state.read: state for state in form.step.states}
    kept: dict[str, list[str]] = {}  # the state and the new positions by the tensor that has a past now
    for layer in step.layers:
        parts = [s.tensor for s in layer.sources]
        if layer.op == "concat" and layer.output in found.past:
            kept[layer.output] = parts
            assert found.past[layer.output] == states[parts[0]].positions
            assert found.made(layer.output) == step.tensors[parts[1]].spatial
    assert kept.keys() == found.past.keys()
    assert {*found.inputs} & {*states} == {*states} - {parts[0] for parts in kept.values()}

    def renamed(leaf: Leaf) -> Leaf:
        for name, (past, new) in kept.items():
            if leaf[0] == past:
                return name, leaf[1]
            if leaf[0] == new:
                return name, leaf[1] + found.past[name]
        return leaf

    before, after = Origins(step, time), Origins(found, time)
    known = [name for name in found.tensors if name in step.tensors and name in found.producer]
    for name in known:
        for at in range(found.past.get(name, 0), found.tensors[name].spatial[time]):
            assert after.of(name, at) == {renamed(leaf) for leaf in before.of(name, at)}, (name, at)
    return found


@settings(max_examples=40, deadline=None)
@given(recipe=recipes(), options=requests())
def test_random_networks(recipe: Recipe, options: CausalOptions) -> None:
    check(streaming(timed(build(recipe)[0], recipe.axis), options))


EXAMPLES = [
    ("stft_cnn_025", "H", CausalOptions()),
    ("stft_cnn_025", "H", CausalOptions(hop=4, polyphase=True)),
    ("tcn_kws", "T", CausalOptions(stream=True)),
    ("cnn3d", "T", CausalOptions(hop=2)),
]


@pytest.mark.parametrize(("name", "axis", "options"), EXAMPLES)
def test_no_state_of_the_examples_is_moved(name: str, axis: str, options: CausalOptions) -> None:
    form = streaming(timed(example(name), axis), options)
    graph = check(form)
    assert len(graph.past) == len(form.step.states)
    assert not any(name.endswith((".past", ".next")) for name in (*graph.inputs, *graph.outputs))
    bits = {state.positions * form.timed.network.tensors[state.tensor].position_bits for state in form.step.states}
    each = ((graph.tensors[t], past) for t, past in graph.past.items())
    assert bits == {t.elements // t.spatial[graph.time or 0] * past * t.bits for t, past in each}


def test_the_dense_form_needs_no_copies() -> None:
    """Joins, cuts and delays are gone: each layer reads the ring buffers of what it follows."""
    for name, axis in product(("stft_cnn_025", "seldnet_s"), "H"):
        graph = streaming(timed(example(name), axis), CausalOptions(stream=True)).resident()
        assert {layer.kind for layer in graph.layers} <= {"conv", "pool"}


def test_several_windows_hand_out_what_is_new_once() -> None:
    """Three windows of scores overlap by all but a position: three new ones leave the step, of all layers as many."""
    model = timed(example("tcn_kws"), "T")
    one, three = (streaming(model, CausalOptions(windows=n, stream=True)).resident() for n in (1, 3))
    assert three.outputs == one.outputs == ("scores.kept",)
    assert [layer.output for layer in three.layers] == [layer.output for layer in one.layers]
    assert three.made_elements("scores.kept") == 3 * one.made_elements("scores.kept")
    assert three.macs == 3 * one.macs
