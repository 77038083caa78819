"""The example networks: they run, have the published and the recorded sizes, and are reproducible."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import example_models
import numpy as np
import onnx
import pytest
import slow_counter
from example_models import EXAMPLES, NETWORKS, build

DATA = Path(__file__).parent / "data"
MAC_ENERGY_PJ = 0.04  # of all recorded chips

# name: (builder's arguments, shape of the output)
SMALL = {
    "fsrcnn": ({"width": 96, "height": 54}, (1, 16, 54, 96)),
    "fsrcnn_unpadded": ({"width": 96, "height": 54}, (1, 16, 54, 96)),
    "dmcnn_vd": ({"width": 48, "height": 32}, (1, 3, 32, 48)),
    "dmcnn_vd_unpadded": ({"width": 48, "height": 32}, (1, 3, 32, 48)),
    "mc_cnn": ({"width": 100, "height": 40}, (1, 64, 40, 100)),
    "mc_cnn_unpadded": ({"width": 40, "height": 100}, (1, 64, 100, 40)),
    "seldnet_s": ({"frames": 2, "bands": 1}, (1, 64, 2, 1)),
    "seldnet_m": ({"frames": 2, "bands": 1}, (1, 128, 2, 1)),
    "seldnet_l": ({"frames": 2, "bands": 1}, (1, 256, 2, 1)),
    "stft_cnn_025_16x16": ({"outputs": 2}, (1, 128, 2, 2)),
    "stft_cnn_100_8x8": ({"outputs": 1}, (1, 512, 1, 1)),
}
FULL = {
    "mobilenetv1": (1, 1000),
    "mobilenetv1_unpadded": (1, 1000, 1, 1),
    "resnet18": (1, 1000),
    "resnet18_unpadded": (1, 1000, 1, 1),
    "mobilenetv2": (1, 1000),
    "tcn_kws": (1, 12, 98),
    "cnn3d": (1, 10),
    "stft_cnn_025": (1, 128, 1, 1),
    "stft_cnn_050": (1, 256, 1, 1),
    "stft_cnn_075": (1, 384, 1, 1),
    "stft_cnn_100": (1, 512, 1, 1),
    "unet": (1, 2, 128, 128),
    "tiny_chain": (1, 8, 32, 32),
    "residual_block": (1, 64, 56, 56),
    "separable_block": (1, 64, 112, 112),
    "rectangular": (1, 32, 19, 10),
}
LARGE = {
    "fsrcnn": (1, 16, 540, 960),
    "fsrcnn_unpadded": (1, 16, 540, 960),
    "mc_cnn": (1, 64, 376, 1242),
    "mc_cnn_unpadded": (1, 64, 1242, 376),
    "dmcnn_vd": (1, 3, 512, 768),
    "dmcnn_vd_unpadded": (1, 3, 512, 768),
    "seldnet_s": (1, 64, 64, 2),
    "seldnet_m": (1, 128, 64, 2),
    "seldnet_l": (1, 256, 64, 2),
    "stft_cnn_025_16x16": (1, 128, 16, 16),
    "stft_cnn_100_8x8": (1, 512, 8, 8),
}


def check_output(model: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    (output,) = slow_counter.run_model(model).values()
    assert output.shape == shape
    assert np.isfinite(output).all()
    assert output.std() > 1e-3  # neither constant nor died out on the way
    declared = model.graph.output[0].type.tensor_type.shape.dim
    assert tuple(d.dim_value for d in declared) == shape


def test_every_network_is_run_by_a_test() -> None:
    assert set(SMALL) | set(FULL) == set(NETWORKS)
    assert set(SMALL) == set(LARGE)


@pytest.mark.parametrize("name", FULL)
def test_runs(name: str) -> None:
    check_output(build(name), FULL[name])


@pytest.mark.parametrize("name", SMALL)
def test_runs_at_a_smaller_size(name: str) -> None:
    size, shape = SMALL[name]
    check_output(build(name, **size), shape)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_runs_at_full_size(name: str) -> None:
    check_output(build(name), LARGE[name])


@pytest.mark.parametrize("name", NETWORKS)
def test_old_enough_for_the_oldest_supported_runtime(name: str) -> None:
    model = build(name)
    assert model.ir_version <= 10  # ONNX Runtime 1.18 and later
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    names = [node.name for node in model.graph.node]
    assert all(names) and len(set(names)) == len(names)


# --- numbers from elsewhere -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gmacs", "parameters"),
    [
        ("resnet18", 1.814, 11_689_512),  # torchvision's table of weights: 1.81 GFLOPS, 11,689,512
        ("mobilenetv1", 0.569, 4_231_976),  # the paper's table 8 (569 M, 4.2 M); Keras: 4,231,976 trainable
        ("mobilenetv2", 0.300, 3_504_872),  # the paper's table 4 (300 M, 3.4 M); torchvision: 3,504,872
    ],
)
def test_published_macs_and_parameters(name: str, gmacs: float, parameters: int) -> None:
    macs = sum(slow_counter.count_macs(build(name)).values())
    assert macs / 1e9 == pytest.approx(gmacs, rel=0.003 if name == "mobilenetv2" else 0.001)
    assert slow_counter.count_params(build(name)) == parameters


@pytest.mark.parametrize("name", [name for name in FULL if name != "resnet18_unpadded"])
def test_running_and_inferring_give_the_same_counts(name: str) -> None:
    model = build(name)
    assert slow_counter.count_macs(model) == slow_counter.count_macs(model, run=False)


def test_readme_table() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\dx]+) \| (\d+) \| ([\d,]+) \| ([\d,]+) \|", text, re.MULTILINE)
    assert {row[0] for row in rows} == set(NETWORKS)
    for name, shape, layers, macs, parameters in rows:
        model = build(name)
        counts = slow_counter.count_macs(model, run=False)
        extents = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
        assert shape == "x".join(map(str, extents)), name
        assert int(layers) == len(counts), name
        assert macs == f"{sum(counts.values()):,}", name
        assert parameters == f"{slow_counter.count_params(model):,}", name


# --- the recorded networks ------------------------------------------------------------------------

# example: (recorded name, MAC energy in pJ that DeFiNES 7097d60 reports where nothing is computed twice)
RECORDED = {
    "fsrcnn_unpadded": ("fsrcnn", 334503768.32),
    "mobilenetv1_unpadded": ("mobilenetv1", 75651540.48),
    "resnet18_unpadded": ("resnet18", 374125736.96),
    "mc_cnn_unpadded": ("mccnn", 2091151687.68),
    "dmcnn_vd_unpadded": ("dmcnnvd", 11152533288.96),
}


def recorded_layers(name: str) -> dict[str, dict]:
    with gzip.open(DATA / "networks.json.gz", "rt", encoding="utf-8") as file:
        return json.load(file)[name]


def window(layer: dict, axis: str) -> tuple[int, int]:
    """(kernel size, stride) along "X" or "Y"."""
    size = layer["loop_sizes_as_written"].get(f"F{axis}", 1)
    return size, layer["windows"].get(axis, {"stride": 1})["stride"]


def grown_extents(layers: dict[str, dict], axis: str) -> dict[str, int]:
    """Extent of every map along an axis: the last as written, earlier ones the most that a reader needs."""
    extents: dict[str, int] = {}
    for name in reversed(layers):  # readers stand behind what they read
        readers = [n for n, layer in layers.items() if any(name in s for s in layer["sources"].values())]
        if not readers:
            extents[name] = layers[name]["loop_sizes_as_written"][f"O{axis}"]
            continue
        needs = []
        for reader in readers:
            size, stride = window(layers[reader], axis)
            needs.append(stride * (extents[reader] - 1) + size)
        extents[name] = max(needs)
    return extents


@pytest.mark.reference
@pytest.mark.parametrize("name", RECORDED)
def test_unpadded_layers_are_the_recorded_ones(name: str) -> None:
    layers = recorded_layers(RECORDED[name][0])
    rows, columns = grown_extents(layers, "Y"), grown_extents(layers, "X")
    model = build(name)
    shapes = slow_counter.shapes_by_inference(model)
    nodes = {node.name: node for node in model.graph.node}
    assert shapes["input"] == (1, layers["-1"]["loop_sizes_as_written"]["K"], rows["-1"], columns["-1"])
    assert {n for n in nodes if re.fullmatch(r"L\d+", n)} == {f"L{i}" for i in layers if i != "-1"}
    for number, layer in layers.items():
        if layer["kind"] == "input":
            continue
        node, loops = nodes[f"L{number}"], layer["loop_sizes_as_written"]
        channels = loops.get("K", 1) * loops.get("G", 1)
        assert shapes[node.output[0]] == (1, channels, rows[number], columns[number]), number
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if layer["kind"] == "add":
            assert node.op_type == "Add"
            continue
        assert attributes["kernel_shape"] == [window(layer, "Y")[0], window(layer, "X")[0]], number
        assert attributes["strides"] == [window(layer, "Y")[1], window(layer, "X")[1]], number
        assert attributes["pads"] == [0, 0, 0, 0], number
        if layer["kind"] == "pool":
            assert node.op_type in ("MaxPool", "AveragePool")
        else:
            assert node.op_type == "Conv"
            assert attributes["group"] == loops.get("G", 1)
            assert shapes[node.input[1]][:2] == (channels, loops.get("C", 1)), number


@pytest.mark.reference
@pytest.mark.parametrize("name", RECORDED)
def test_unpadded_mac_energy_is_the_recorded_one(name: str) -> None:
    operations = slow_counter.count_operations(build(name), run=False)
    assert operations * MAC_ENERGY_PJ == pytest.approx(RECORDED[name][1], rel=1e-12)


def test_fsrcnn_input_without_padding() -> None:
    # "FSRCNN input is 974x554 for a 960x540 output", written as (rows, columns)
    assert slow_counter.shapes_by_inference(build("fsrcnn_unpadded"))["input"] == (1, 1, 554, 974)


def test_crops_are_about_the_centre() -> None:
    model = build("resnet18_unpadded")
    shapes = slow_counter.shapes_by_inference(model)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    crops = [node for node in model.graph.node if node.op_type == "Slice"]
    assert len(crops) == 8  # every shortcut
    for node in crops:
        starts, ends, axes, steps = (constants[name] for name in node.input[1:])
        assert list(axes) == [2, 3]
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            margin_after = shapes[node.input[0]][axis] - end
            assert start == margin_after
            assert (end - start - 1) % step == 0  # the last position taken is the last of the cut


# --- behaviour that a network promises ------------------------------------------------------------


def test_temporal_network_is_causal() -> None:
    model = build("tcn_kws")
    frames = np.random.default_rng(1).uniform(-1, 1, (1, 40, 98)).astype(np.float32)
    changed = frames.copy()
    changed[:, :, 60] += 1.0
    before, after = (slow_counter.run_model(model, {"input": x})["scores"] for x in (frames, changed))
    np.testing.assert_array_equal(before[:, :, :60], after[:, :, :60])
    assert np.abs(before[:, :, 60:] - after[:, :, 60:]).max() > 1e-3


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fsrcnn", "fsrcnn_unpadded"])
def test_committed_file_is_what_the_builder_makes(name: str) -> None:
    committed = (EXAMPLES / "models" / f"{name}.onnx").read_bytes()
    assert NETWORKS[name].build().SerializeToString(deterministic=True) == committed
    assert len(committed) < 200_000


def test_command_line_writes_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = example_models.load("dfc_examples_build", EXAMPLES / "build.py")
    assert command.main(["tiny_chain", "tcn_kws", "--out", str(tmp_path / "new")]) == 0
    written = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert written == ["tcn_kws.onnx", "tiny_chain.onnx"]
    onnx.checker.check_model(str(tmp_path / "new" / "tcn_kws.onnx"))
    capsys.readouterr()
    assert command.main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(NETWORKS)
    with pytest.raises(SystemExit) as stop:
        command.main(["alexnet"])
    assert stop.value.code == 2
    assert "alexnet" in capsys.readouterr().err
