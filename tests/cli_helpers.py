"""Small models on disk and a way to run the command line in this process."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dfc.cli import main

HW = "meta_proto_df"


@dataclass(frozen=True)
class Result:
    """What a run of the command line left behind."""

    code: int
    out: str
    err: str


class Cli:
    """Runs ``dfc`` in an empty working folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]):
        self.folder = folder
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Result:
        self._capsys.readouterr()
        code = main([str(a) for a in arguments])
        captured = self._capsys.readouterr()
        return Result(code, captured.out, captured.err)


def conv_nodes(layers: int = 2) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """A chain of 3x3 convolutions conv1, conv2, ... from "x" (3 channels) to "y" (3 channels)."""
    names = ["x", *(f"m{i}" for i in range(1, layers)), "y"]
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    for i in range(layers):
        weight = f"w{i + 1}"
        nodes.append(
            helper.make_node("Conv", [names[i], weight], [names[i + 1]], name=f"conv{i + 1}", pads=[1, 1, 1, 1])
        )
        weights.append(numpy_helper.from_array(np.zeros((3, 3, 3, 3), np.float32), weight))
    return nodes, weights


def make_model(
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    shape: tuple[Any, ...] = (1, 3, 8, 8),
    opset: int = 17,
) -> onnx.ModelProto:
    """A model from "x" of ``shape`` to "y"."""
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name="y")],
        initializer=weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def chain(path: Path, shape: tuple[Any, ...] = (1, 3, 8, 8), layers: int = 2) -> Path:
    """Write a chain of convolutions."""
    onnx.save(make_model(*conv_nodes(layers), shape), str(path))
    return path


def hw_page(path: Path, old: str = "", new: str = "") -> Path:
    """Write the library's page with something replaced in it."""
    text = files("dfc.hwdsl").joinpath("lib", f"{HW}.hw").read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new) if old else text, encoding="utf-8")
    return path
