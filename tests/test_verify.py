"""The executor: what dfc makes computes the network, what is damaged does not; ONNX Runtime is the truth."""

from __future__ import annotations

import json
import os
import re
import runpy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jsonschema
import numpy as np
import onnx
import pytest
from cli_helpers import Cli
from example_models import NETWORKS
from hypothesis import HealthCheck, given, settings
from onnx import TensorProto, helper
from onnx_helpers import model_of, rand
from test_cli_docs import replay
from verify_damage import DAMAGES, damaged
from verify_networks import Asked, compiled, networks, requests, saved, small_chip

from dfc.backend_cost.schedule import SCHEMA, Schedule
from dfc.backend_cost.schedule_schema import schedule_schema
from dfc.errors import DfcError, InfeasibleError
from dfc.execution.network import Network
from dfc.execution.verify import Verification, execute, verify
from dfc.hwdsl import load_arch
from dfc.scheduling.check import check_schedule

#: how many random schedules run; 500 were run when the executor was made
CASES = int(os.environ.get("DFC_VERIFY_CASES", "30"))
MODES = ("cached", "h-cached", "v-cached", "recompute")


def verified(model: onnx.ModelProto, folder: Path, asked: Asked, **options: int) -> Verification:
    path = saved(model, str(folder))
    return verify(compiled(path, small_chip(asked.hw, asked.divisor), asked), path, **options)


@pytest.mark.slow
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks(), requests)
def test_random_schedules_compute_their_network(model: onnx.ModelProto, asked: Asked) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = verified(model, Path(folder), asked)
        except InfeasibleError:
            return
    assert found.findings == []
    assert {c.tensor for c in found.compared} >= {o.name for o in model.graph.output}


#: sizes at which each example network is small, and a tile that does not divide its map
SMALL: dict[str, tuple[dict[str, int], tuple[int, int]]] = {
    "tiny_chain": ({"size": 11}, (4, 3)),
    "residual_block": ({"size": 9, "channels": 4}, (4, 5)),
    "separable_block": ({"size": 11, "channels": 4, "out_channels": 6}, (3, 5)),
    "fsrcnn": ({"width": 14, "height": 11}, (5, 4)),
    "dmcnn_vd": ({"width": 10, "height": 9}, (4, 5)),
    "mc_cnn": ({"width": 13, "height": 10}, (5, 3)),
    "rectangular": ({}, (7, 5)),
    "tcn_kws": ({"frames": 20, "features": 6, "classes": 4}, (7, 1)),
    "cnn3d": ({"frames": 4, "size": 16, "classes": 4}, (3, 3)),
    "unet": ({"size": 16}, (7, 6)),
    "mobilenetv1": ({"size": 32, "classes": 4}, (3, 5)),
    "mobilenetv2": ({"size": 32, "classes": 4}, (3, 5)),
    "resnet18": ({"size": 32, "classes": 4}, (3, 3)),
}


def ways(name: str) -> list[tuple[str, str]]:
    """(mode, order) in which a network runs: all with DFC_VERIFY_ALL, else one, another for each network."""
    every = [(mode, order) for mode in MODES for order in ("rows", "columns")]
    return every if os.environ.get("DFC_VERIFY_ALL") else [every[list(SMALL).index(name) % len(every)]]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SMALL))
def test_example_networks(name: str, tmp_path: Path) -> None:
    size, tile = SMALL[name]
    model = NETWORKS[name].build(**size)
    for mode, order in ways(name):
        asked = Asked("meta_proto_df", 1, tile, mode, order, "one")
        assert verified(model, tmp_path, asked).findings == [], (mode, order)


# --- what the random networks lack


def quantised() -> onnx.ModelProto:
    """Integers all the way: a quantised convolution, a pool and a second convolution."""
    weights = {"w1": np.arange(-13, 14, dtype=np.int8).reshape(3, 1, 3, 3), "w2": np.ones((2, 3, 2, 2), np.int8)}
    scalars = {"one": np.float32(0.5), "zx": np.uint8(3), "zw": np.int8(0), "zy": np.uint8(7)}
    nodes = [
        helper.make_node("QLinearConv", ["x", "one", "zx", "w1", "one", "zw", "one", "zy"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("QLinearConv", ["b", "one", "zy", "w2", "one", "zw", "one", "zy"], ["y"], pads=[1, 0, 0, 1]),
    ]
    constants = {**weights, **{name: np.asarray(value) for name, value in scalars.items()}}
    return model_of(nodes, {"x": (1, 1, 12, 10)}, ["y"], constants, elem=TensorProto.UINT8)


def assorted() -> onnx.ModelProto:
    """A sum of three, a shuffle of channels, blocks to positions, a resize without a rule, and an unknown operator."""
    shape = {"to": np.array([1, 2, 4, 8, 9]), "back": np.array([1, 8, 8, 9])}
    constants = {
        **{name: value.astype(np.int64) for name, value in shape.items()},
        "w": rand(8, 4, 3, 3),
        "scales": np.array([1, 1, 1.5, 1.5], np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Sum", ["a", "r", "a2"], ["s"]),
        helper.make_node("Sigmoid", ["r"], ["a2"]),
        helper.make_node("Reshape", ["s", "to"], ["g"]),
        helper.make_node("Transpose", ["g"], ["t"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["t", "back"], ["c"]),
        helper.make_node("DepthToSpace", ["c"], ["d"], blocksize=2),
        helper.make_node("Resize", ["d", "", "scales"], ["e"], mode="linear"),
        helper.make_node("CumSum", ["e", "axis"], ["y"]),
    ]
    constants["axis"] = np.asarray(3, np.int64)
    return model_of(nodes, {"x": (1, 4, 8, 9)}, ["y"], constants)


@pytest.mark.parametrize("model", [quantised, assorted], ids=lambda f: f.__name__)
def test_other_operators(model: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    for stacks in ("auto", "each"):
        found = verified(model(), tmp_path, Asked("tpu_like_df", 1, (5, 3), "cached", "rows", stacks))
        assert found.findings == []
        assert all(c.exact for c in found.compared) == (model is quantised)


def test_a_reader_that_rests_loses_nothing(tmp_path: Path) -> None:
    """Of two readers of a map the one with the larger halo rests in every second row of tiles."""
    constants = {"w": rand(4, 4, 3, 3), "v": rand(3, 4, 4, 4, seed=1)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["m"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["m"], ["narrow"]),
        helper.make_node("Conv", ["m", "v"], ["wide"], dilations=[2, 1], pads=[2, 1, 2, 1]),
        helper.make_node("Softmax", ["m"], ["y"], axis=1),
    ]
    model = model_of(nodes, {"x": (1, 4, 4, 8)}, ["narrow", "wide", "y"], constants)
    found = verified(model, tmp_path, Asked("meta_proto_df", 1, (8, 1), "cached", "rows", "one"))
    assert found.findings == []


def test_tiles_that_read_nothing_of_a_map(tmp_path: Path) -> None:
    """Rows of tiles behind a map that is joined to another one, and rows that are made of padding alone."""
    constants = {"w": rand(4, 4, 3, 3), "v": rand(3, 4, 1, 3, seed=1)}
    constants |= {name: np.array([value], np.int64) for name, value in {"from": 2, "to": 3, "axis": 2}.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["m"], pads=[1, 1, 1, 1]),
        helper.make_node("Slice", ["x", "from", "to", "axis"], ["head"]),
        helper.make_node("Relu", ["head"], ["start"]),
        helper.make_node("Identity", ["start"], ["first"]),
        helper.make_node("Concat", ["first", "m"], ["joined"], axis=2),
        helper.make_node("Conv", ["joined", "v"], ["y"], pads=[3, 1, 0, 1]),
    ]
    model = model_of(nodes, {"x": (1, 4, 12, 8)}, ["joined", "y"], constants)
    for mode in ("cached", "recompute"):
        found = verified(model, tmp_path, Asked("meta_proto_df", 1, (8, 2), mode, "rows", "one"))
        assert found.findings == []


def test_a_layer_that_reads_a_map_at_two_places(tmp_path: Path) -> None:
    """All that it reads is in its windows, its copies and the room that it takes; the checker finds no fault either."""
    numbers = {"from": (0, 0), "to": (10, 9), "from2": (2, 4), "to2": (12, 13), "axes": (2, 3)}
    constants = {name: np.array(value, np.int64) for name, value in numbers.items()} | {"w": rand(4, 4, 3, 3)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["m"], pads=[1, 1, 1, 1]),
        helper.make_node("Slice", ["m", "from", "to", "axes"], ["first"]),
        helper.make_node("Slice", ["m", "from2", "to2", "axes"], ["second"]),
        helper.make_node("Add", ["first", "second"], ["y"]),
    ]
    model = model_of(nodes, {"x": (1, 4, 12, 13)}, ["y"], constants)
    for mode, stacks in (("cached", "one"), ("h-cached", "one"), ("recompute", "each")):
        path = saved(model, str(tmp_path))
        schedule = compiled(
            path, small_chip("meta_proto_df", 1), Asked("meta_proto_df", 1, (4, 3), mode, "rows", stacks)
        )
        assert verify(schedule, path).findings == []
        assert check_schedule(schedule).violations == ()


# --- samples, inputs, and what is wrong with them


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and its schedule, in files."""
    path = saved(NETWORKS["tiny_chain"].build(size=12, channels=4), str(tmp_path_factory.mktemp("verify")))
    schedule = compiled(path, load_arch("meta_proto_df"), Asked("meta_proto_df", 1, (5, 4), "cached", "rows", "one"))
    (path.parent / "schedule.json").write_text(schedule.to_json(), encoding="utf-8")
    return path, path.parent / "schedule.json"


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(tmp_path, capsys)


def test_a_sample_says_so(chain: tuple[Path, Path], cli: Cli) -> None:
    result = cli("verify", chain[1], "--model", chain[0], "--sample", 1, "--seed", 3)
    assert result.code == 0
    assert "a sample of 1 of 3 rows of tiles" in result.out
    assert "as far as it was executed, it computes the network" in result.out


def test_inputs_of_the_user(chain: tuple[Path, Path], cli: Cli) -> None:
    np.savez(cli.folder / "in.npz", input=rand(1, 3, 12, 12))
    assert "the user's" in cli("verify", chain[1], "--model", chain[0], "--inputs", cli.folder / "in.npz").out
    np.savez(cli.folder / "shape.npz", input=rand(1, 3, 12, 11))
    np.savez(cli.folder / "name.npz", other=rand(1))
    np.save(cli.folder / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    (cli.folder / "text.npz").write_text("no")
    np.savez_compressed(cli.folder / "whole.npz", input=rand(1, 3, 12, 12))
    whole = (cli.folder / "whole.npz").read_bytes()
    (cli.folder / "packed.npz").write_bytes(whole[:90] + b"\xff" * 20 + whole[110:])
    entry = whole.index(b"PK\x01\x02")  # of the archive's list; the number behind 8 bytes has a bit for a password
    locked = whole[:6] + b"\x01" + whole[7 : entry + 8] + b"\x01" + whole[entry + 9 :]
    (cli.folder / "locked.npz").write_bytes(locked)
    for name in ("shape.npz", "name.npz", "pickle.npy", "text.npz", "nowhere.npz", "packed.npz", "locked.npz"):
        result = cli("verify", chain[1], "--model", chain[0], "--inputs", cli.folder / name)
        assert result.code == 1
        assert result.err.startswith("error[CLI082]"), name


def edited(chain: tuple[Path, Path], folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    data = json.loads(chain[1].read_text())
    change(data)
    path = folder / "edited.json"
    path.write_text(json.dumps(data))
    return path


WRONG: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "another model": ("CLI080", lambda s: s["model"].update(sha256="0" * 64)),
    "newer": ("CLI021", lambda s: s.update(schema="dfc.schedule/99")),
    "reference's rules": ("CLI081", lambda s: s.update(policy="defines")),
    "unknown field": ("CLI020", lambda s: s.update(more=1)),
    "edited by hand": ("CLI085", lambda s: s["stacks"][0]["rows"][1]["reads"]["conv2"][0].__setitem__(1, 0)),
    "a damaged page": ("HW010", lambda s: s["hw"].update(page="accelerator x {")),
    "a number beyond 64 bits": ("CLI020", lambda s: s["off_chip"][0].update(bits=10**400)),
    "a cost beyond 64 bits": ("CLI020", lambda s: s["layers"][0].update(energy_pj=10**400)),
    "a layer in the list alone": ("CLI085", lambda s: s["layers"][0].update(name="other")),
    "other precisions": ("CLI085", lambda s: s["hw"].update(output_bits=0)),
    "a buffer of nothing": ("CLI085", lambda s: s["stacks"][0]["tile_classes"][0]["buffers"][-1].update(name="other")),
    "tiles that do not make a map": ("CLI085", lambda s: [row["makes"].popitem() for row in s["stacks"][0]["rows"]]),
}


@pytest.mark.parametrize("what", list(WRONG))
def test_wrong_schedules_have_diagnostics(chain: tuple[Path, Path], cli: Cli, what: str) -> None:
    code, change = WRONG[what]
    result = cli("verify", edited(chain, cli.folder, change), "--model", chain[0])
    assert result.code == 1
    assert f"error[{code}]" in result.err


def test_truncated_schedules_and_missing_models(chain: tuple[Path, Path], cli: Cli) -> None:
    (cli.folder / "cut.json").write_text(chain[1].read_text()[:-100])
    assert "error[CLI020]" in cli("verify", cli.folder / "cut.json", "--model", chain[0]).err
    assert "error[ONNX001]" in cli("verify", chain[1], "--model", cli.folder / "no.onnx").err


def test_weights_that_are_missing(cli: Cli) -> None:
    model = NETWORKS["tiny_chain"].build(size=12, channels=4)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    path = cli.folder / "net.onnx"
    onnx.save(copy, str(path), save_as_external_data=True, location="net.data", size_threshold=0)
    asked = Asked("meta_proto_df", 1, (5, 4), "cached", "rows", "one")
    (cli.folder / "schedule.json").write_text(compiled(path, load_arch("meta_proto_df"), asked).to_json())
    assert cli("verify", cli.folder / "schedule.json", "--model", path).code == 0
    (cli.folder / "net.data").unlink()
    assert "error[ONNX006]" in cli("verify", cli.folder / "schedule.json", "--model", path).err


def test_the_first_wrong_layer_is_named(chain: tuple[Path, Path]) -> None:
    """A layer with other weights: everything is in its place, and the numbers are wrong."""
    schedule = Schedule.from_json(chain[1].read_text())
    network = Network(chain[0], schedule)
    network.prepare(network.random_inputs(0))
    network.truth(network.graph.tensors)
    weights = network.model.constant("conv2.weight")
    assert weights is not None
    network.model.learn({"conv2.weight": weights + np.float32(0.1)})
    (finding,) = execute(schedule, network).findings
    assert (finding.kind, finding.where.layer, finding.where.column, finding.where.row) == ("value", "conv2", 0, 0)


# --- damage


@pytest.mark.slow
def test_damage_is_caught(chain: tuple[Path, Path]) -> None:
    """Of what changes the meaning at least 99 %; docs/verify.md has the numbers of a large run and the survivors."""
    text = json.loads(chain[1].read_text())
    schedule = Schedule.from_json(chain[1].read_text())
    network = Network(chain[0], schedule)
    network.prepare(network.random_inputs(0))
    caught, survivors = 0, []
    for kind in DAMAGES:
        for seed in range(int(os.environ.get("DFC_VERIFY_DAMAGE", "5"))):
            found = damaged(text, kind, seed)
            if found is None:
                continue
            new, what = found
            try:
                fine = not execute(Schedule.from_json(json.dumps(new)), network).findings
            except DfcError:
                fine = False
            caught += not fine
            survivors += [what] if fine else []
    assert caught >= 60
    assert len(survivors) <= 0.01 * (caught + len(survivors)), survivors


# --- the file's format


def test_files_are_valid_and_read_back_to_the_same_bytes(chain: tuple[Path, Path], cli: Cli) -> None:
    schema = json.loads(cli("schema").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    text = chain[1].read_text()
    jsonschema.Draft202012Validator(schema).validate(json.loads(text))
    assert Schedule.from_json(text).to_json() == text
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(json.loads(text) | {"schema": "dfc.schedule/2"})


def test_every_field_is_explained() -> None:
    page = (Path(__file__).parents[1] / "docs" / "schedule-format.md").read_text()
    explained = set(re.findall(r"`([a-z0-9_]+)`", page))
    schema = schedule_schema()
    kinds = [schema, *cast("dict[str, dict[str, Any]]", schema["$defs"]).values()]
    fields = {name for kind in kinds for name in cast("dict[str, Any]", kind["properties"])}
    assert fields - explained == set()
    assert SCHEMA in page


# --- the page


BLOCK = re.compile(r"^```console\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def test_page_shows_what_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DFC_UPDATE_GOLDEN=1 writes the page anew; read the difference before you keep it."""
    page = Path(__file__).parents[1] / "docs" / "verify.md"
    for name in ("FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny_chain.onnx").write_bytes(NETWORKS["tiny_chain"].build().SerializeToString(deterministic=True))
    text = page.read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    first, second = BLOCK.finditer(text)
    cli = Cli(tmp_path, capsys)
    shown = replay(cli, first[1])
    (tmp_path / "damage.py").write_text(script)
    runpy.run_path(str(tmp_path / "damage.py"))
    now = text.replace(first[1], shown).replace(second[1], replay(cli, second[1]))
    if os.environ.get("DFC_UPDATE_GOLDEN"):
        page.write_text(now, encoding="utf-8")
        text = now
    assert now == text
