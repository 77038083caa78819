"""The causal transform: the streaming form gives what the model gives on every window, whatever the network."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np
from causal_networks import Recipe, build, recipes
from causal_proof import count_macs, noise, prove_exact, same, session, steps, timed, windows_start
from hypothesis import given, settings
from hypothesis import strategies as st

from dfc.causal import streaming
from dfc.ir import TimeNetwork
from dfc.passes.causal_plan import CausalOptions, Segment

#: DFC_CAUSAL_EXAMPLES=300 runs as many as the transform was accepted with
EXAMPLES = int(os.environ.get("DFC_CAUSAL_EXAMPLES", "40"))


@st.composite
def requests(draw: st.DrawFn, *, stream: bool = False) -> CausalOptions:
    return CausalOptions(draw(st.integers(1, 7)), draw(st.integers(1, 3)), stream, draw(st.booleans()))


def cut(network: TimeNetwork, lengths: list[int], forms: list[tuple[bool, bool]]) -> tuple[Segment, ...]:
    """The network's nodes in ranges of so many, each with or without polyphase and recomputation."""
    nodes = [node.name for node in network.nodes]
    ends = [0, *accumulate(lengths)]
    ranges = [frozenset(nodes[a:b]) for a, b in pairwise(ends)]
    return tuple(Segment(one, *form) for one, form in zip(ranges, forms, strict=False) if one)


segments = st.tuples(
    st.lists(st.integers(1, 8), min_size=1, max_size=4),
    st.lists(st.tuples(st.booleans(), st.sampled_from([True, True, False])), min_size=4, max_size=4),
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(recipe=recipes(), options=requests(), ranges=segments)
def test_random_networks_in_segments(
    recipe: Recipe, options: CausalOptions, ranges: tuple[list[int], list[tuple[bool, bool]]]
) -> None:
    """Whatever is recomputed and in whatever form, every window is exact, and no position is computed needlessly."""
    model = build(recipe)[0]
    options = replace(options, segments=cut(timed(model, recipe.axis).network, *ranges))
    form = prove_exact(model, recipe.axis, options, valid=2)
    assert form.step.macs == count_macs(form.step.plan)


@settings(max_examples=EXAMPLES, deadline=None)
@given(recipe=recipes(), options=requests())
def test_random_networks(recipe: Recipe, options: CausalOptions) -> None:
    prove_exact(build(recipe)[0], recipe.axis, options)


@settings(max_examples=max(10, EXAMPLES // 4), deadline=None)
@given(recipe=recipes(integer=True), options=requests())
def test_random_integer_networks(recipe: Recipe, options: CausalOptions) -> None:
    prove_exact(build(recipe)[0], recipe.axis, options)


@settings(max_examples=max(10, EXAMPLES // 4), deadline=None)
@given(recipe=recipes(local=True), options=requests(stream=True))
def test_random_networks_without_their_padding(recipe: Recipe, options: CausalOptions) -> None:
    """The streaming semantics: what the model gives on a window so long that its padding is far away."""
    model, stride, reach = build(recipe)
    form = streaming(timed(model, recipe.axis), options)
    network, plan = form.timed.network, form.step.plan
    margin = stride * -(-reach // stride)
    long, _, _ = build(recipe, 2 * margin)
    place, window = 2 + recipe.time, network.window
    shape = list(network.tensors["x"].shape)
    count = plan.warm_up_steps + 2
    behind = 2 * margin + 2 * window
    shape[place] = behind + count * options.frames
    frames = noise(shape, "tensor(float)")
    fed = np.take(frames, range(margin, shape[place]), axis=place)
    found = steps(form, np.take(fed, range(count * options.frames), axis=place), place)
    reference = session(long)
    for step in range(plan.warm_up_steps, count):
        rows = [np.split(o, options.windows) if options.windows > 1 else [o] for o in found[step]]
        for row, start in enumerate(windows_start(form, step)):
            cut = np.take(frames, range(start, start + window + 2 * margin), axis=place)
            for got, want in zip(rows, reference.run(None, {"x": cut}), strict=True):
                length = got[row].shape[place]
                interior = np.take(want, range(margin // stride, margin // stride + length), axis=place)
                same(got[row], interior)
