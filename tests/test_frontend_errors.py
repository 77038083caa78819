"""One example of every mistake in a model that the importer knows: code, place and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_helpers import model_of, rand, single

from dfc.errors import DfcError, ModelError
from dfc.frontend import CODES, import_model, import_onnx

TESTED: set[str] = set()


def check(error: DfcError, code: str, *parts: str) -> None:
    """The diagnostic has the code, a place, a hint, and says all of ``parts``."""
    TESTED.add(code)
    text = error.render()
    assert error.code == code, text
    assert text.startswith(f"error[{code}]: ")
    assert "\n  --> " in text and "\n  = help: " in text
    assert error.exit_code == 1
    for part in parts:
        assert part in text, f"{part!r} is not in\n{text}"


def refused(model: onnx.ModelProto, code: str, *parts: str, **options: Any) -> None:
    with pytest.raises(ModelError) as caught:
        import_model(model, name="net", base_dir=None, **options)
    check(caught.value, code, "net", *parts)


def refused_file(path: Path, code: str, *parts: str) -> None:
    with pytest.raises(ModelError) as caught:
        import_onnx(path)
    check(caught.value, code, str(path), *parts)


def relu(**changes: Any) -> onnx.ModelProto:
    return single("Relu", [1, 2, 3, 4], **changes)


# files


def test_a_missing_file(tmp_path: Path) -> None:
    refused_file(tmp_path / "none.onnx", "ONNX001", "does not exist")
    refused_file(tmp_path, "ONNX001", "is not a file")


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.onnx"
    path.touch()
    refused_file(path, "ONNX002", "empty")


@pytest.mark.parametrize("data", [b"version https://git-lfs.github.com/spec/v1\n", b"\x00\x01\x02", b"PK\x03\x04" * 9])
def test_not_a_model(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "odd.onnx"
    path.write_bytes(data)
    refused_file(path, "ONNX003")


def test_a_file_cut_at_any_byte_is_refused_without_a_traceback(tmp_path: Path) -> None:
    data = single("Conv", [1, 3, 8, 8], weights={"w": rand(2, 3, 3, 3)}).SerializeToString()
    path = tmp_path / "cut.onnx"
    codes = set()
    for length in range(1, len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError) as caught:
            import_onnx(path)
        codes.add(caught.value.code)
    assert codes <= {"ONNX003", "ONNX005"}, codes


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_bytes_never_give_a_traceback(data: Any) -> None:
    model = single("Conv", [1, 3, 8, 8], weights={"w": rand(2, 3, 1, 1)}, pads=[1, 1, 1, 1])
    raw = bytearray(model.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        damaged = onnx.ModelProto.FromString(bytes(raw))
    except Exception:
        return
    try:
        import_model(damaged, name="net", base_dir=None)
    except ModelError as error:
        assert error.code in CODES and error.hint


# graphs


def test_an_empty_graph() -> None:
    model = relu()
    del model.graph.node[:]
    refused(model, "ONNX004", "no nodes")


def test_a_graph_without_outputs() -> None:
    model = relu()
    del model.graph.output[:]
    refused(model, "ONNX011", "no outputs")


def test_a_graph_that_computes_nothing() -> None:
    model = model_of([helper.make_node("Shape", ["x"], ["y"])], {"x": [1, 2]}, ["y"])
    refused(model, "ONNX004", "no output depends on an input")


def test_operator_sets() -> None:
    refused(relu(opset=6), "ONNX005", "6", "convert_version")
    refused(relu(opset=999), "ONNX005", "999", "upgrade")
    model = relu()
    del model.opset_import[:]
    refused(model, "ONNX005", "truncated")


def test_a_cycle() -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="second"),
        helper.make_node("Relu", ["b"], ["y"], name="behind"),
    ]
    with pytest.raises(ModelError) as caught:
        import_model(model_of(nodes, {"x": [1, 2]}, ["y"]), name="net", base_dir=None)
    check(caught.value, "ONNX008", "'first'", "'second'")
    assert "behind" not in caught.value.render()


def test_a_node_that_reads_itself() -> None:
    refused(model_of([helper.make_node("Add", ["x", "y"], ["y"], name="loop")], {"x": [1]}, ["y"]), "ONNX008", "'loop'")


def test_undefined_tensors() -> None:
    model = model_of([helper.make_node("Add", ["x", "ghost"], ["y"], name="add")], {"x": [1]}, ["y"])
    refused(model, "ONNX009", "'ghost'", "node 'add' (Add)")
    refused(model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": [1]}, ["z"]), "ONNX009", "output 'z'")


def test_tensors_that_are_defined_twice() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="one"), helper.make_node("Exp", ["x"], ["y"], name="two")]
    refused(model_of(nodes, {"x": [1]}, ["y"]), "ONNX010", "'y'", "node 'two' (Exp)")
    model = relu()
    model.graph.input.append(model.graph.input[0])
    refused(model, "ONNX010", "'x'")


# inputs


def dynamic(*shape: int | str | None) -> onnx.ModelProto:
    return model_of([helper.make_node("Relu", ["data"], ["y"])], {"data": list(shape)}, ["y"])


@pytest.mark.parametrize(
    "shape,options,parts",
    [
        (("batch", 3, 8, 8), {}, ["'batch'", "input 'data'", "--bind batch=1"]),
        (("N", 3, "H", "W"), {}, ["--bind N=1 --bind H=224 --bind W=224"]),
        (("N", 3, "H", "W"), {"bind": {"N": 4}}, ["'H'", "--bind H=224 --bind W=224"]),
        ((None, 3, 8, 8), {}, ["axis 0", "(?, 3, 8, 8)", "--input-shape data:1,3,8,8"]),
        (("N", 3, None, 8), {"bind": {"N": 4}}, ["axis 2", "--input-shape data:4,3,224,8"]),
        ((0, 3, 8, 8), {}, ["axis 0", "--input-shape data:1,3,8,8"]),
        (("floor(a/2)", 3), {}, ["--bind 'floor(a/2)'=1"]),
    ],
)
def test_unbound_dimensions(shape: Sequence[Any], options: dict[str, Any], parts: list[str]) -> None:
    refused(dynamic(*shape), "ONNX012", *parts, **options)


def test_an_input_without_a_shape() -> None:
    model = dynamic(1)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    refused(model, "ONNX012", "'data'", "--input-shape data:")


def test_bound_names_that_do_not_occur() -> None:
    refused(dynamic("N", 3, "H", 8), "ONNX013", "'batch'", "N, H", bind={"batch": 1})
    refused(dynamic(1, 3), "ONNX013", "names no dimensions", bind={"batch": 1})
    refused(dynamic("N", 3), "ONNX013", "--bind N=1", bind={"N": 0})


def test_input_shapes_that_do_not_fit() -> None:
    refused(dynamic("N", 3), "ONNX014", "'image'", "data", input_shape={"image": (1, 3)})
    refused(dynamic("N", 3), "ONNX014", "(N, 3)", "--input-shape data:1,3", input_shape={None: (1, 3, 4)})
    refused(dynamic("N", 3), "ONNX014", "fixes 3", "--input-shape data:1,3", input_shape={"data": (1, 4)})
    refused(dynamic("N", 3), "ONNX014", "'N' is bound to 2", bind={"N": 2}, input_shape={"data": (1, 3)})
    refused(dynamic("N", 3), "ONNX014", "not positive", input_shape={"data": (0, 3)})
    nodes = [helper.make_node("Add", ["left", "right"], ["y"])]
    model = model_of(nodes, {"left": ["N"], "right": ["N"]}, ["y"])
    refused(model, "ONNX014", "left, right", "--input-shape left:1", input_shape={None: (1,)})


def test_inputs_without_a_fixed_size() -> None:
    model = model_of([helper.make_node("Identity", ["x"], ["y"])], {"x": [3]}, ["y"], elem=TensorProto.STRING)
    refused(model, "ONNX015", "input 'x'", "string")
    model.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, [3]))
    refused(model, "ONNX015", "input 'x'", "sequence")


def test_sequences_within_the_graph() -> None:
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["s"], name="pack"),
        helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0),
    ]
    refused(model_of(nodes, {"x": [1, 2]}, ["y"]), "ONNX015", "'s'", "node 'pack'")


# nodes


@pytest.mark.parametrize(
    "model,part",
    [
        (single("Conv", [1, 3, 8, 8], weights={"w": rand(4, 2, 3, 3)}), "3 input channels"),
        (single("Conv", [1, 3, 8, 8], weights={"w": rand(4, 3, 3)}), "weights of shape [4, 3, 3]"),
        (single("Conv", [1, 3, 8, 8], weights={"w": rand(4, 3, 3, 3)}, kernel_shape=[5, 5]), "kernel_shape [5, 5]"),
        (single("Conv", [1, 3, 8, 8], weights={"w": rand(4, 3, 3, 3)}, strides=[2]), "'strides' has 1 entries"),
        (single("Conv", [1, 3, 8, 8], weights={"w": rand(4, 3, 3, 3)}, strides=[0, 1]), "positive"),
        (single("Conv", [1, 3, 8, 8], weights={"w": rand(4, 3, 3, 3)}, pads=1), "'pads' is not a list"),
        (single("Conv", [1, 3, 2, 2], weights={"w": rand(4, 3, 3, 3)}), "does not fit into 2 positions"),
        (single("Conv", [3, 8], weights={"w": rand(4, 3)}), "[3, 8]"),
        (single("Conv", [1, 3, 8, 8]), "input 1 is missing"),
        (single("MaxPool", [1, 3, 8, 8]), "kernel_shape"),
        (single("MaxPool", [1, 3, 8, 8], kernel_shape=[2, 2], auto_pad="SAME"), "auto_pad 'SAME'"),
        (single("ConvTranspose", [1, 3, 2, 2], weights={"w": rand(3, 4, 3, 3)}, pads=[3, 3, 3, 3]), "extents [-2, -2]"),
        (single("Gemm", [1, 12], weights={"w": rand(5, 12)}), "do not fit each other"),
        (single("MatMul", [1, 12], weights={"w": rand(5, 12)}), "do not fit each other"),
        (single("Add", [1, 12], weights={"w": rand(5)}), "cannot be broadcast"),
        (single("Concat", [1, 3, 8], weights={"w": rand(1, 3, 7)}, axis=1), "do not fit along axis 1"),
        (single("Softmax", [1, 3], axis=5), "axis 5 does not exist"),
        (single("Reshape", [1, 12], weights={"s": np.array([5, -1])}), "number of elements differs"),
        (single("Reshape", [1, 12], weights={"s": np.array([-1, -1])}), "ambiguous"),
        (single("Split", [1, 12], opset=11, axis=1, split=[5, 6], outputs=("a", "b")), "[5, 6]"),
        (single("Slice", [1, 12], weights={"s": np.array([0, 1]), "e": np.array([1])}), "differ in number"),
        (single("Pad", [1, 12], weights={"p": np.array([0, 1])}), "2 pads"),
        (single("Transpose", [1, 12], perm=[0, 0]), "perm [0, 0]"),
        (single("Squeeze", [1, 12], weights={"a": np.array([1])}), "of extent one"),
        (single("BatchNormalization", [1, 6, 4, 4], weights={name: rand(5) for name in "sbmv"}), "6 channels"),
        (single("DepthToSpace", [1, 6, 4, 4], blocksize=2), "blocks of 2"),
        (single("Resize", [1, 6, 4, 4], weights={"s": np.float32([2, 2])}, order=["x", "", "s"]), "4 axes"),
    ],
)
def test_nodes_that_contradict_themselves(model: onnx.ModelProto, part: str) -> None:
    refused(model, "ONNX016", part, "node 'op'")


def test_shapes_that_nobody_knows() -> None:
    refused(single("NonZero", [1, 3]), "ONNX017", "'y'", "node 'op' (NonZero)")
    nodes = [helper.make_node("Frobnicate", ["x"], ["y"], domain="acme", name="frob")]
    refused(model_of(nodes, {"x": [1, 3]}, ["y"], domains=["acme"]), "ONNX017", "node 'frob'", "value_info")


def test_initializers_that_are_damaged() -> None:
    model = single("Reshape", [1, 12], weights={"s": np.array([3, 4])})
    model.graph.initializer[0].raw_data = b"\x01\x02\x03"
    refused(model, "ONNX018", "initializer 's'")
    model.graph.initializer[0].dims[0] = -2
    refused(model, "ONNX018", "[-2]")


def test_maps_without_elements() -> None:
    model = single("Slice", [1, 12], weights={"s": np.array([3]), "e": np.array([3]), "a": np.array([1])})
    refused(model, "ONNX019", "[1, 0]", "node 'op'")


# external data


def external(folder: Path, location: str) -> Path:
    """A model whose weights claim to lie at ``location``."""
    model = single("Conv", [1, 3, 8, 8], weights={"w": rand(2, 3, 3, 3)})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_that_is_missing(tmp_path: Path) -> None:
    refused_file(external(tmp_path, "weights.bin"), "ONNX006", "'weights.bin'", "tensor 'w'")
    refused_file(external(tmp_path, ""), "ONNX006", "tensor 'w'")
    (tmp_path / "weights.bin").write_bytes(b"\x00" * 100)
    refused_file(external(tmp_path, "weights.bin"), "ONNX006", "too short", "216 needed")


def test_external_data_outside_of_the_folder(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"\x00" * 1000)
    (inside / "link.bin").symlink_to(secret)
    (inside / "dir").symlink_to(tmp_path)
    for location in (
        "../secret.bin",
        str(secret),
        "link.bin",
        "dir/secret.bin",
        "a/../../secret.bin",
        "..\\secret.bin",
    ):
        refused_file(external(inside, location), "ONNX007", "tensor 'w'")


def test_external_data_in_attributes_and_branches_is_checked_too(tmp_path: Path) -> None:
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret.bin")
    inner = helper.make_node("Constant", [], ["k"], value=tensor)
    body = helper.make_graph([inner], "body", [], [helper.make_tensor_value_info("k", TensorProto.FLOAT, [4])])
    node = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    model = model_of([node], {"c": []}, ["y"], elem=TensorProto.BOOL)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    refused_file(path, "ONNX007", "tensor 'c'")


def test_no_data_is_read_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shape in a file of its own, given as an attribute: not read, so that the reshape stays without a shape."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shape.bin").write_bytes(np.array([2, 6]).tobytes())
    tensor = TensorProto(name="c", data_type=TensorProto.INT64, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="shape.bin")
    nodes = [helper.make_node("Constant", [], ["k"], value=tensor), helper.make_node("Reshape", ["x", "k"], ["y"])]
    refused(model_of(nodes, {"x": [1, 12]}, ["y"]), "ONNX017", "'y'")


def test_every_code_has_a_test() -> None:
    """Runs last; only meaningful when the whole file ran."""
    if len(TESTED) > 15:
        assert set(CODES) == TESTED
