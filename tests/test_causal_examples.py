"""The streaming forms of the example networks: exact, with the multiply-accumulates that they should have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from causal_proof import noise, prove_exact, same, session, steps, timed
from example_models import build
from onnx import TensorProto, helper, numpy_helper

from dfc.causal import streaming
from dfc.causal_text import barriers
from dfc.ir import TimeNetwork
from dfc.passes import PassManager
from dfc.passes.causal_plan import CausalOptions, CausalPlan, Segment, plan_causal

#: example, its size, time axis and options
EXAMPLES = [
    ("tcn_kws", {}, "T", CausalOptions()),
    ("tcn_kws", {}, "T", CausalOptions(hop=3, windows=2, polyphase=True)),
    ("cnn3d", {}, "T", CausalOptions()),
    ("cnn3d", {}, "T", CausalOptions(hop=2, windows=4)),
    ("cnn3d", {}, "H", CausalOptions(hop=8, polyphase=True)),
    ("seldnet_s", {"frames": 8}, "H", CausalOptions()),
    ("seldnet_m", {"frames": 4}, "H", CausalOptions(windows=4)),
    ("seldnet_l", {"frames": 2}, "H", CausalOptions(hop=2)),
    ("stft_cnn_025", {}, "H", CausalOptions(windows=4)),
    ("stft_cnn_025", {}, "H", CausalOptions(hop=4, polyphase=True)),
    ("stft_cnn_025", {}, "W", CausalOptions(hop=16)),
    ("stft_cnn_050", {}, "H", CausalOptions(hop=6, windows=4, polyphase=True)),
    ("stft_cnn_075", {}, "H", CausalOptions(hop=32)),
    ("stft_cnn_100", {}, "H", CausalOptions(hop=8, windows=2)),
    ("stft_cnn_025_16x16", {"outputs": 4}, "H", CausalOptions(hop=2, windows=8, polyphase=True)),
    ("stft_cnn_100_8x8", {"outputs": 2}, "H", CausalOptions(hop=16)),
    ("rectangular", {}, "W", CausalOptions(hop=5)),
    ("residual_block", {"size": 14}, "H", CausalOptions(hop=2)),
    ("separable_block", {}, "W", CausalOptions(hop=3)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "size", "axis", "options"), EXAMPLES)
def test_exact(name: str, size: dict[str, int], axis: str, options: CausalOptions) -> None:
    form = prove_exact(build(name, **size), axis, options, valid=2)
    assert form.step.macs < form.step.window_macs


@pytest.mark.parametrize(("name", "size", "axis", "options"), [EXAMPLES[i] for i in (1, 3, 5, 9)])
def test_the_streaming_model_is_a_network_like_any_other(
    name: str, size: dict[str, int], axis: str, options: CausalOptions
) -> None:
    """It imports without anything opaque, with the multiply-accumulates of the plan, and with states at its ends."""
    form = streaming(timed(build(name, **size), axis), options)
    graph = PassManager(verify=True).run(form.graph())
    assert graph.macs == form.step.macs
    assert not any("not modelled" in note for note in graph.notes)
    states = form.step.states
    assert graph.inputs[1:] == tuple(state.read for state in states)
    assert graph.outputs[-len(states) :] == tuple(state.write for state in states)
    for state in states:
        assert graph.tensors[state.read].shape == graph.tensors[state.write].shape
        assert graph.tensors[state.read].elements * graph.tensors[state.read].bits == state.bits


# -- numbers of the reference -------------------------------------------------------------------------------------

#: rows of the input and of every layer's output for 16 frames, and their MACs: "structural" of the recorded runs of
#: ACCO (commit 229f6d7), case without cuts, stftCNN_025 with one output
ACCO_ROWS = (91, 89, 87, 86, 82, 78, 76, 68, 60, 56, 40, 24, 16)
ACCO_MACS = 114_194_592
#: the same with 16 x 16 outputs
ACCO_ROWS_16 = (331, 329, 327, 326, 322, 318, 316, 308, 300, 296, 280, 264, 256)
ACCO_MACS_16 = 4_087_868_832
#: what its ranges up to and from after layer 5 have together: it forgets 12 of the 76 rows between them
ACCO_CUT_MACS = 43_693_344 + 62_963_712


def layers(plan: CausalPlan) -> list[str]:
    """The tensors behind convolutions and pools."""
    return [node.writes[0] for node in plan.network.nodes if node.slides]


def macs_from_nothing(plan: CausalPlan) -> int:
    """Multiply-accumulates of a step that finds no state."""
    tensors = plan.network.tensors
    each = ((node.macs // tensors[node.writes[0]].length, plan.tensors[node.writes[0]]) for node in plan.network.nodes)
    return sum(per_position * held.from_nothing for per_position, held in each)


@pytest.mark.parametrize(
    ("name", "rows", "macs"),
    [("stft_cnn_025", ACCO_ROWS, ACCO_MACS), ("stft_cnn_025_16x16", ACCO_ROWS_16, ACCO_MACS_16)],
)
def test_rows_of_the_reference(name: str, rows: tuple[int, ...], macs: int) -> None:
    plan = plan_causal(timed(build(name), "H").network, CausalOptions(windows=16))
    found = [plan.tensors[tensor].from_nothing for tensor in (plan.network.frames, *layers(plan))]
    assert tuple(found) == rows
    assert macs_from_nothing(plan) == macs


def test_macs_per_frame_of_the_reference() -> None:
    """Its steady row on stftCNN_025: 1.918 million per frame, 19.9 times fewer than the window's (acco-model.md)."""
    step = streaming(timed(build("stft_cnn_025"), "H"), CausalOptions()).step
    assert step.macs == 1_918_368
    assert step.window_macs == 38_187_072


def cut_after(network: TimeNetwork, tensor: str) -> tuple[TimeNetwork, TimeNetwork]:
    """A chain in two: the second begins with what the first ends with."""
    place = next(i for i, node in enumerate(network.nodes) if tensor in node.writes) + 1
    first = replace(network, outputs=(tensor,), nodes=network.nodes[:place])
    second = replace(network, frames=tensor, inputs=(tensor,), nodes=network.nodes[place:])
    return tuple(
        replace(part, tensors={n: network.tensors[n] for n in
                               {*part.inputs, *(name for node in part.nodes for name in (*node.reads, *node.writes))}})
        for part in (first, second)
    )  # type: ignore[return-value]  # fmt: skip


@pytest.mark.parametrize("windows", [1, 16])
def test_a_cut_conserves_work(windows: int) -> None:
    """Rows that cross a cut match exactly, so every way to cut has the work of the whole; the reference's has less."""
    options = CausalOptions(windows=windows)
    whole = plan_causal(timed(build("stft_cnn_025"), "H").network, options)
    for tensor in layers(whole)[:-1]:
        first, second = (plan_causal(part, options) for part in cut_after(whole.network, tensor))
        before, after = first.tensors[tensor], second.tensors[tensor]
        assert (before.new, before.grid, before.end) == (after.new, after.grid, after.end)
        assert before.from_nothing == after.from_nothing == whole.tensors[tensor].from_nothing
        assert macs_from_nothing(first) + macs_from_nothing(second) == macs_from_nothing(whole)
        assert first.tensors | second.tensors == {**whole.tensors, tensor: after} or windows == 1
    assert windows == 1 or ACCO_CUT_MACS < macs_from_nothing(whole) == ACCO_MACS


# -- what is kept apart, and what is not -----------------------------------------------------------------------


def recurrent() -> onnx.ModelProto:
    """A strided convolution over 8 frames, then a GRU whose state the model takes and hands out."""
    rng = np.random.default_rng(3)
    constants = {
        "w": rng.standard_normal((4, 3, 3)),
        "gw": rng.standard_normal((1, 15, 4)),
        "gr": rng.standard_normal((1, 15, 5)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", strides=[2]),
        helper.make_node("Transpose", ["c"], ["t"], name="turn", perm=[2, 0, 1]),
        helper.make_node("GRU", ["t", "gw", "gr", "", "", "h"], ["y", "hn"], name="gru", hidden_size=5),
    ]
    graph = helper.make_graph(
        nodes,
        "recurrent",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 9]),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 1, 5]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "hn")],
        [numpy_helper.from_array(data.astype(np.float32), name) for name, data in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_an_exposed_recurrent_state_stays_the_callers() -> None:
    """The windows' front end streams; the recurrence, fed with any state, does in a step what it did in a window."""
    model = recurrent()
    form = streaming(timed(model, "T"), CausalOptions(hop=2))
    assert list(barriers(form.step.plan)) == ["GRU 'gru': it runs through the window from its first frame on"]
    frames, h = noise((1, 3, 9 + 2 * 6), "tensor(float)"), noise((1, 1, 5), "tensor(float)", 1)
    found = steps(form, frames[:, :, 1:], 2, {"h": h})
    reference = session(model)
    for step in range(form.step.plan.warm_up_steps, len(found)):
        start = 1 + 2 * (step + 1) - 9
        want = reference.run(None, {"x": frames[:, :, start : start + 9], "h": h})
        for got, one in zip(found[step], want, strict=True):
            same(got, one)


def test_without_padding_a_causal_network_starts_from_silence() -> None:
    """Zeros as states are the padding before the first frame: the keyword spotter gives what it gives on all frames."""
    form = streaming(timed(build("tcn_kws"), "T"), CausalOptions(windows=2, stream=True))
    assert form.step.plan.latency_frames == 0
    frames = noise((1, 40, 98), "tensor(float)")
    (want,) = session(build("tcn_kws")).run(None, {"input": frames})
    for number, (scores,) in enumerate(steps(form, frames, 2)):
        same(scores[:, :, -1], np.concatenate([want[:, :, 2 * number], want[:, :, 2 * number + 1]]))


def test_look_ahead_is_latency() -> None:
    """Three two-sided kernels of 3 rows look ahead by one row each; exact windows end with their last row."""
    network = timed(build("tiny_chain"), "H").network
    assert plan_causal(network, CausalOptions(stream=True)).latency_frames == 3
    assert plan_causal(network, CausalOptions()).latency_frames == 0


def test_layers_may_be_recomputed() -> None:
    """Nothing is lost where a range of layers is computed for every window: it costs work and saves their states."""
    kept = prove_exact(build("stft_cnn_025"), "H", CausalOptions(hop=4), valid=1).step
    chosen = Segment(frozenset({"conv4_1", "relu4_1", "conv4_2", "relu4_2", "pool4"}), recompute=True)
    again = prove_exact(build("stft_cnn_025"), "H", CausalOptions(hop=4, segments=(chosen,)), valid=1).step
    assert again.macs > kept.macs
    assert {state.tensor for state in again.states} < {state.tensor for state in kept.states}


def test_a_deep_network() -> None:
    """Hundreds of layers one after the other."""
    nodes = [helper.make_node("Conv", [f"t{i}", "w"], [f"t{i + 1}"], name=f"n{i}", pads=[1, 0]) for i in range(600)]
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, 700]) for n in ("t0", "t600")]
    weight = numpy_helper.from_array(np.array([[[0.4, 0.6]]], np.float32), "w")
    graph = helper.make_graph(nodes, "deep", infos[:1], infos[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for stream in (False, True):
        form = streaming(timed(model, "T"), CausalOptions(hop=4, stream=stream))
        assert form.step.macs < form.step.window_macs
        assert form.step.plan.oldest == (-600 if stream else 0)


def test_states_are_the_rows_that_the_reference_caches() -> None:
    """(FY - 1) times the dilation of every layer's reader: 3 x 3 kernels and pools of 2, dilations 1, 2, 4 and 8."""
    step = streaming(timed(build("stft_cnn_025"), "H"), CausalOptions()).step
    assert [state.positions for state in step.states] == [2, 2, 1, 4, 4, 2, 8, 8, 4, 16, 16, 8]
