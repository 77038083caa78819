"""The executor on steps over time: what they put out is the model's on every window, and damage is found.

Steps run one after the other on the memories of the chip, from states that are zero, and nothing else is handed on.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from causal_networks import build, recipes
from causal_proof import timed
from cli_helpers import Cli
from example_models import build as example
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx_helpers import model_of, rand
from test_causal import cut, segments
from verify_damage import DAMAGES, damaged
from verify_networks import saved, small_chip

from dfc.backend_cost.schedule import Schedule
from dfc.causal import causal
from dfc.errors import DfcError, InfeasibleError
from dfc.execution.step_network import StepNetwork
from dfc.execution.verification import Verification
from dfc.execution.verify import execute_steps, verify
from dfc.passes.causal_plan import CausalOptions
from dfc.scheduling.check import check_schedule
from dfc.step_compile import compile_step, parse_step_request

#: how many random steps run; several hundred were run when this was made
CASES = int(os.environ.get("DFC_VERIFY_CASES", "30")) // 5


def step_schedule(
    path: Path, axis: str, options: CausalOptions, stacks: str, hw: str = "meta_proto_df", divisor: int = 1
) -> Schedule:
    """The schedule of a step, as read from the text of its file."""
    form = causal(path, options, time_axis=axis)
    request = parse_step_request("energy", stacks, 100, None, options.frames)
    return Schedule.from_json(compile_step(path, form, small_chip(hw, divisor), request).to_json())


@st.composite
def asked(draw: st.DrawFn) -> tuple[onnx.ModelProto, str, CausalOptions]:
    """A network over time, its axis, and any form: integers, padding left away, segments recomputed or polyphase."""
    kind = draw(st.sampled_from(["exact", "integer", "stream", "segments"]))
    recipe = draw(recipes(local=kind == "stream", integer=kind == "integer"))
    hop, windows, polyphase = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.booleans())
    model = build(recipe)[0]
    options = CausalOptions(hop, windows, kind == "stream", polyphase)
    if kind == "segments":
        options = replace(options, segments=cut(timed(model, recipe.axis).network, *draw(segments)))
    return model, recipe.axis, options


@pytest.mark.slow
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    asked(),
    st.sampled_from(["one", "each"]),
    st.sampled_from(["meta_proto_df", "tpu_like_df", "edge_tpu_like_df"]),
    st.sampled_from([1, 8, 64, 512]),
)
def test_random_steps_compute_their_network(
    network: tuple[onnx.ModelProto, str, CausalOptions], stacks: str, hw: str, divisor: int
) -> None:
    model, axis, options = network
    with tempfile.TemporaryDirectory() as folder:
        path = saved(model, folder)
        try:
            schedule = step_schedule(path, axis, options, stacks, hw, divisor)
        except InfeasibleError:
            return
        assert check_schedule(schedule).violations == ()
        found = verify(schedule, path)
    assert found.findings == []
    assert {c.tensor for c in found.compared} >= {o.name for o in model.graph.output}


def test_maps_between_stacks_and_samples(tmp_path: Path) -> None:
    path = saved(example("tcn_kws"), str(tmp_path))
    schedule = step_schedule(path, "T", CausalOptions(stream=True), "block1_add.new,block3_add.new")
    found = verify(schedule, path, sample=2)
    assert found.findings == []
    assert (found.steps, found.tiles) == ((2, 0), 6)


def test_time_that_changes_places(tmp_path: Path) -> None:
    """Where time is T, the schedule has it as Y, and tensors on other axes than the model."""
    constants = {"w0": rand(4, 2, 3, 3, 2), "w1": rand(3, 4, 2, 1, 3, seed=1), "w2": rand(3, 5, seed=2)}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], name="a", strides=[2, 1, 1], pads=[1, 1, 0, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w1"], ["b"], name="b", dilations=[2, 1, 1]),
        helper.make_node("GlobalAveragePool", ["b"], ["mean"], name="mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], name="flat", axis=1),
        helper.make_node("Gemm", ["flat", "w2"], ["y"], name="y"),
    ]
    path = saved(model_of(nodes, {"x": (1, 2, 13, 4, 5)}, ["b", "y"], constants), str(tmp_path))
    schedule = step_schedule(path, "T", CausalOptions(hop=2, windows=2), "each")
    assert any("T and Y have changed places" in note for note in schedule.notes)
    assert verify(schedule, path).findings == []


# --- one schedule, used and damaged


def network() -> onnx.ModelProto:
    """Rows are frames: kernels with a stride and a dilation in time, padding across it, and a sum of two delays."""
    cuts = {"from": [1], "to": [15], "axis": [2]}
    constants = {"w0": rand(4, 2, 3, 3), "w1": rand(4, 4, 3, 3, seed=1), "w2": rand(2, 4, 2, 1, seed=2)}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], name="a", pads=[0, 1, 0, 1]),
        helper.make_node("Conv", ["a", "w1"], ["b"], name="b", pads=[1, 1, 1, 1]),
        helper.make_node("Slice", ["b", "from", "to", "axis"], ["late"], name="late"),
        helper.make_node("Slice", ["a", "from", "to", "axis"], ["same"], name="same"),
        helper.make_node("Add", ["late", "same"], ["c"], name="c"),
        helper.make_node("MaxPool", ["c"], ["d"], name="d", kernel_shape=[2, 1], strides=[2, 1]),
        helper.make_node("Conv", ["d", "w2"], ["y"], name="y"),
    ]
    constants |= {name: np.array(value, np.int64) for name, value in cuts.items()}
    return model_of(nodes, {"x": (1, 2, 18, 7)}, ["y"], constants)


Ready = tuple[Path, str, StepNetwork]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Ready:
    """A model, its schedule as text, and the network that executes it."""
    path = saved(network(), str(tmp_path_factory.mktemp("steps")))
    schedule = step_schedule(path, "H", CausalOptions(), "c.new", "tpu_like_df", 256)
    assert schedule.step is not None
    (path.parent / "schedule.json").write_text(schedule.to_json())
    return path, schedule.to_json(), StepNetwork(path, schedule.step, "schedule")


def executed(ready: Ready, data: dict[str, Any]) -> Verification:
    """A schedule that may be damaged."""
    network = ready[2]
    return execute_steps(
        Schedule.from_json(json.dumps(data)), network, network.random_feeds(network.plan.warm_up_steps + 4, 1)
    )


def test_the_whole_way(ready: Ready) -> None:
    """Rings in two memories, a map between stacks on chip, and tiles across time; the numbers are the model's."""
    schedule = Schedule.from_json(ready[1])
    kept = {(b.what, b.memory) for stack in schedule.stacks for b in stack.buffers if b.steps}
    assert {("V cache", "lb_io"), ("V cache", "gb_io"), ("map", "lb_io"), ("weights", "gb_w")} <= kept
    assert [stack.tiles for stack in schedule.stacks] == [1, 2]
    found = executed(ready, json.loads(ready[1]))
    assert found.findings == []
    assert found.steps == (21, 17)
    assert sum(c.elements for c in found.compared if c.tensor == "y") == 4 * 2 * 6 * 7  # four windows of the output
    assert all(claim.holds for claim in found.claims)


Json = dict[str, Any]


def buffer(s: Json, stack: int, what: str, name: str) -> Json:
    return next(b for b in s["stacks"][stack]["buffers"] if (b["what"], b["name"]) == (what, name))


def shorter(s: Json) -> None:
    """One line less, and as much less room."""
    b = buffer(s, 0, "V cache", "a.kept")
    b["bits"] -= b["bits"] // b["lines"]
    b["lines"] -= 1


def onto(s: Json) -> None:
    """The first stack's ring where the other stack has its tiles."""
    other = next(b for b in s["stacks"][1]["tile_classes"][0]["buffers"] if b["memory"] == "lb_io")
    buffer(s, 0, "V cache", "x.kept")["address_bits"] = other["address_bits"]


def forgotten(s: Json) -> None:
    buffer(s, 0, "V cache", "x.kept")["steps"] = False


def fewer(s: Json) -> None:
    """A tile of the second stack does not run."""
    s["stacks"][1]["columns"].pop()


def earlier(s: Json) -> None:
    """The step makes a position that earlier steps made."""
    s["stacks"][0]["rows"][0]["makes"]["a.kept"][0] -= 1


def later(s: Json) -> None:
    """What waits for the next step begins one position later."""
    s["stacks"][0]["rows"][0]["makes"]["a.kept"][2] += 1


def unloaded(s: Json) -> None:
    """Weights that the first step loaded are not there in later ones."""
    buffer(s, 0, "weights", "a.new")["steps"] = False


def past(s: Json) -> None:
    """A layer reads another row of the past."""
    reads = s["stacks"][0]["rows"][0]["reads"]["b.new"][0]
    reads[1], reads[2] = reads[1] + 1, reads[2] + 1


def moved(s: Json) -> None:
    """Only the stack that makes the map knows that it lies elsewhere."""
    buffer(s, 0, "map", "c.kept")["address_bits"] += 8


STEP_DAMAGE: dict[str, tuple[Callable[[Json], None], str]] = {
    "too short a ring": (shorter, "finds element"),
    "a ring under another stack's tiles": (onto, "overwrote it"),
    "a ring that does not stay": (forgotten, "never written"),
    "a tile that is missing": (fewer, "tiles do not hand out each of"),
    "another past": (earlier, "it has to make those from"),
    "too little that waits": (later, "of which 0 go into the H cache"),
    "weights that nobody brings": (unloaded, "never written"),
    "another row of the past": (past, "it needs"),
    "a map between stacks in two places": (moved, "finds"),
}


@pytest.mark.parametrize("name", STEP_DAMAGE)
def test_what_steps_can_have_wrong_is_found(ready: Ready, name: str) -> None:
    damage, says = STEP_DAMAGE[name]
    data = json.loads(ready[1])
    damage(data)
    (finding,) = executed(ready, data).findings
    assert says in finding.what, finding
    assert finding.cause


#: damage that changes nothing, of 380 pieces that were tried
MEANINGLESS = (
    r"made \('[adx]\.kept', \[0, \d, \d, 0, 0\]",  # what waits along the walk of a map that waits across it as a whole
    r"made \('c\.kept', \[2, ",  # which part a tile fetches of a map that lies there as a whole
    r"own ",  # what is handed out of a map that is written in its place
    r"y\.new: .*'write V cache'.*'after': True",  # a copy for the next step, before or after the layer
)


@pytest.mark.slow
def test_damage_is_caught(ready: Ready) -> None:
    """The damage of ordinary schedules, to the schedule of a step: all of it that means something."""
    caught, survivors = 0, []
    for kind in DAMAGES:
        for seed in range(int(os.environ.get("DFC_VERIFY_DAMAGE", "5")) // 2):
            found = damaged(json.loads(ready[1]), kind, seed)
            if found is None:
                continue
            try:
                fine = not executed(ready, found[0]).findings
            except DfcError:
                fine = False
            caught += not fine
            survivors += [found[1]] if fine else []
    assert caught >= 30
    assert [one for one in survivors if not any(re.match(known, one) for known in MEANINGLESS)] == []


def test_outputs_are_those_of_the_model_itself(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the streaming form has: where the model has something else on its window, that is found."""
    network = ready[2]
    right = network.on_window
    monkeypatch.setattr(network, "on_window", lambda step, number: [1 + data for data in right(step, number)])
    (finding,) = executed(ready, json.loads(ready[1])).findings
    assert "on the window" in finding.what
    assert finding.where.step == network.plan.warm_up_steps


# --- the command


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(tmp_path, capsys)


def test_what_the_command_says(ready: Ready, cli: Cli) -> None:
    done = cli("verify", ready[0].parent, "--model", ready[0])
    assert done.code == 0
    assert "21 steps of 2 stacks, 63 tiles; outputs are valid after 17" in done.out
    assert "of every step, with the model on its windows" in done.out
    some = cli("verify", ready[0].parent, "--model", ready[0], "--sample", 3)
    assert some.code == 0
    assert "3 steps of 2 stacks, 9 tiles: a sample" in some.out
    data = json.loads(ready[1])
    shorter(data)
    (cli.folder / "damaged.json").write_text(json.dumps(data))
    wrong = cli("verify", cli.folder / "damaged.json", "--model", ready[0])
    assert wrong.code == 1 and "CLI085" in wrong.err
    assert "step 0, stack 0" in wrong.out


def test_inputs_of_the_user(ready: Ready, cli: Cli) -> None:
    for frames, says in ((18, "18 steps of 2 stacks"), (17, "at least 18 frames are needed")):
        np.savez(cli.folder / "in.npz", x=rand(1, 2, frames, 7))
        done = cli("verify", ready[0].parent, "--model", ready[0], "--inputs", cli.folder / "in.npz")
        assert says in " ".join((done.out + done.err).split())
    np.savez(cli.folder / "in.npz", x=rand(1, 2, 30, 6))
    assert "CLI082" in cli("verify", ready[0].parent, "--model", ready[0], "--inputs", cli.folder / "in.npz").err


WRONG: dict[str, Callable[[Json], object]] = {
    "no axis": lambda s: s["step"].update(time_axis=""),
    "another axis": lambda s: s["step"].update(time_axis="x:9"),
    "an axis of nothing": lambda s: s["step"].update(time_axis="none:2"),
    "no frames": lambda s: s["step"].update(hop_frames=0, frames=0),
    "frames that are no windows": lambda s: s["step"].update(frames=3),
    "a word": lambda s: s["step"].update(padding="some"),
    "a form": lambda s: s["step"].update(form="mixed"),
    "a node of no model": lambda s: s["step"].update(form="mixed", segments=[{"form": "dense", "nodes": ["none"]}]),
    "a node of two": lambda s: s["step"].update(form="mixed", segments=[{"form": "dense", "nodes": ["a", "a"]}]),
    "a segment's form": lambda s: s["step"].update(form="mixed", segments=[{"form": "sparse", "nodes": ["a"]}]),
    "a longer warm-up": lambda s: s["step"].update(warm_up_steps=18),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_a_file_cannot_say_of_its_step(ready: Ready, cli: Cli, what: str) -> None:
    data = json.loads(ready[1])
    WRONG[what](data)
    (cli.folder / "wrong.json").write_text(json.dumps(data))
    result = cli("verify", cli.folder / "wrong.json", "--model", ready[0])
    assert result.code == 1
    assert "error[CLI086]" in result.err and "wrong.json" in result.err
