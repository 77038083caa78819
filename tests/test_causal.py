"""The causal transform: the streaming form gives what the model gives on every window, whatever the network."""

from __future__ import annotations

import os

import numpy as np
from causal_networks import Recipe, build, recipes
from causal_proof import noise, prove_exact, same, session, steps, timed, windows_start
from hypothesis import given, settings
from hypothesis import strategies as st

from dfc.causal import streaming
from dfc.passes.causal_plan import CausalOptions

#: DFC_CAUSAL_EXAMPLES=300 runs as many as the transform was accepted with
EXAMPLES = int(os.environ.get("DFC_CAUSAL_EXAMPLES", "40"))


@st.composite
def requests(draw: st.DrawFn, *, stream: bool = False) -> CausalOptions:
    return CausalOptions(draw(st.integers(1, 7)), draw(st.integers(1, 3)), stream, draw(st.booleans()))


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
