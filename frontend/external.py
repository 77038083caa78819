"""Tensor data in files beside the model: never outside of its folder, and read only where shapes need it."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper

from dfc.frontend.diagnostics import fail
from dfc.frontend.load import tensors_of
from dfc.frontend.values import BITS, Array


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's data is in a file of its own."""
    return tensor.data_location == TensorProto.EXTERNAL


def check_external(model: onnx.ModelProto, base_dir: Path, place: str) -> None:
    """Check that all external tensors are whole and within ``base_dir``. Raises ONNX006 or ONNX007."""
    for tensor in tensors_of(model.graph):
        if is_external(tensor):
            locate(tensor, base_dir, place)


def locate(tensor: onnx.TensorProto, base_dir: Path, place: str) -> tuple[Path, int, int]:
    """(file, offset in bytes, length in bytes) of an external tensor's data, checked."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    where = f"{place}: tensor '{tensor.name}'"
    if not location:
        fail("ONNX006", "external tensor data without a file name", place=where, hint="save the model again")
    root = base_dir.resolve()
    file = _resolved(root, location)
    if file is None or Path(location).is_absolute() or ".." in Path(location).parts or "\\" in location:
        fail(
            "ONNX007",
            f"external data '{location}' lies outside of the model's folder",
            place=where,
            hint="move the data file into the folder of the model and save the model with relative locations",
        )
    if not file.is_file():
        fail(
            "ONNX006",
            f"external data file '{location}' does not exist",
            place=where,
            hint="put it beside the model, under that name",
        )
    offset, length = _stretch(tensor, entries, where)
    size = file.stat().st_size
    if offset + length > size:
        fail(
            "ONNX006",
            f"external data file '{location}' is too short: {size} bytes, {offset + length} needed",
            place=where,
            hint="the file is truncated or belongs to another model; fetch it again",
        )
    return file, offset, length


def _resolved(root: Path, location: str) -> Path | None:
    """The real file behind a location, or None where it is not within the folder."""
    try:
        file = (root / location).resolve()
    except (OSError, ValueError, RuntimeError):  # a loop of links, a null character
        return None
    return file if file.is_relative_to(root) else None


def _stretch(tensor: onnx.TensorProto, entries: dict[str, str], where: str) -> tuple[int, int]:
    elements = 1
    for extent in tensor.dims:
        elements *= extent
    try:
        offset = int(entries.get("offset") or 0)
        length = int(entries.get("length") or -(-elements * BITS.get(tensor.data_type, 8) // 8))
    except ValueError:
        offset = length = -1
    if offset < 0 or length < 0:
        fail(
            "ONNX006",
            "external tensor data with a malformed offset or length",
            place=where,
            hint="save it again",
        )
    return offset, length


def tensor_array(tensor: onnx.TensorProto, base_dir: Path | None, place: str) -> Array | None:
    """The numbers of an initializer; None where they are external and there is no folder. Raises ONNX018."""
    source = tensor
    if is_external(tensor):
        if base_dir is None:
            return None
        file, offset, length = locate(tensor, base_dir, place)
        with file.open("rb") as stream:
            stream.seek(offset)
            raw = stream.read(length)
        source = TensorProto(dims=tensor.dims, data_type=tensor.data_type, name=tensor.name, raw_data=raw)
    try:
        return numpy_helper.to_array(source)
    except Exception as error:  # the package raises whatever numpy or its own code meets
        fail(
            "ONNX018",
            f"the data of initializer '{tensor.name}' does not fit its shape {list(tensor.dims)}: {error}",
            place=place,
            hint="the model file is damaged; export or fetch it again",
        )
