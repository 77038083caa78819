"""The recorded runs of ACCO, and its ranges as networks of ours: a run of layers in dense form, as an ONNX model.

Slow and obvious, and without any of the code that it helps to judge: nothing here comes from ``dfc.passes.causal_*``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import onnx
import reference
from effort import FULL
from example_models import build
from onnx import helper

from dfc.frontend import import_model
from dfc.ir import Graph
from dfc.passes import PassManager, default_pipeline

Json = dict[str, Any]
RECORDED: Json = reference.load("acco.json.gz", "DFC_REFERENCE_ACCO")
#: the example networks that are ACCO's workloads
NETWORKS = {
    "workload_stftCNN_fixed_unrolling_oxoy_025_1x": "stft_cnn_025",
    "workload_stftCNN_fixed_unrolling_oxoy_025_16x": "stft_cnn_025_16x16",
}
#: the one whose costs were recorded, and on which chip
NETWORK, CHIP = "stft_cnn_025", "meta_proto_df"
WINDOWED = ("Conv", "MaxPool")
#: bits of a megabyte as ACCO counts
MEGABYTE = 8 << 20


@dataclass(frozen=True, slots=True)
class Step:
    """One recorded layer of the model of a window; pairs are (time, frequency), ``weights`` are names of constants."""

    op: str
    weights: tuple[str, ...]
    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Placed:
    """One layer of a range: its stride, how many rows apart it reads, and how many (rows, columns) it makes."""

    step: Step
    stride: tuple[int, int]
    dilation: int
    made: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Range:
    """Layers of a model from ``first`` on; ``fed`` are the (rows, columns) of what enters.

    ``streams`` of them lie side by side, which ACCO calls a batch. ``spacing`` is how many frames lie between rows
    that enter in a window, and between those that the next layer would read.
    """

    first: int
    layers: tuple[Placed, ...]
    channels: int
    fed: tuple[int, int]
    streams: int
    spacing: tuple[int, int]


def chain(model: onnx.ModelProto) -> list[Step]:
    """The convolutions and pools of a network without padding."""
    weights = {w.name: tuple(w.dims) for w in model.graph.initializer}
    found: list[Step] = []
    for node in model.graph.node:
        if node.op_type not in WINDOWED:
            assert node.op_type == "Relu"
            continue
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        assert not any(given.get("pads", ())) and set(given.get("dilations", (1,))) == {1}
        channels = weights[node.input[1]][0] if node.op_type == "Conv" else found[-1].channels
        down, right = given["kernel_shape"]
        stride = tuple(given.get("strides", (1, 1)))
        found.append(Step(node.op_type, tuple(node.input[1:]), channels, (down, right), stride))
    return found


def grown(made: tuple[int, int], placed: Placed) -> tuple[int, int]:
    """Positions that a layer reads for those that it makes."""
    (rows, columns), (down, across), (high, wide) = made, placed.stride, placed.step.kernel
    return (rows - 1) * down + (high - 1) * placed.dilation + 1, (columns - 1) * across + wide


def backwards(steps: list[Step], strides: list[int], dilations: list[int], last: tuple[int, int]) -> list[Placed]:
    """Layers with these strides and dilations along time, sized from the last one's output."""
    found: list[Placed] = []
    size = last
    for step, stride, dilation in zip(reversed(steps), reversed(strides), reversed(dilations), strict=True):
        found.insert(0, Placed(step, (stride, step.stride[1]), dilation, size))
        size = grown(size, found[0])
    return found


def window(name: str = NETWORK) -> Range:
    """The whole network as it is, for one window."""
    model = build(name)
    steps = chain(model)
    strides = [s.stride[0] for s in steps]
    layers = backwards(steps, strides, [1] * len(steps), _extents(model.graph.output[0]))
    channels = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    return Range(0, tuple(layers), channels, _extents(model.graph.input[0]), 1, (1, 1))


def _extents(value: onnx.ValueInfoProto) -> tuple[int, int]:
    *_, rows, columns = (d.dim_value for d in value.type.tensor_type.shape.dim)
    return rows, columns


def dense(
    first: int,
    last: int,
    name: str = NETWORK,
    *,
    dilation: int | None = None,
    interleaved: bool = False,
    rows: int | None = None,
) -> Range:
    """Layers ``first`` to ``last`` with every row computed; as many as ACCO gives them unless ``rows`` says how many.

    ACCO's are the rows that one window has of the last map, times the frames from one of them to the next: it forgets
    what the layers behind read beyond. ``dilation`` is that of the rows that enter, by default the frames between them;
    where it is smaller, ``interleaved`` takes as many streams as make up for it.
    """
    model, whole = build(name), window(name)
    steps = chain(model)
    frames = [1]
    for step in steps:
        frames.append(frames[-1] * step.stride[0])
    entered = frames[first] if dilation is None else dilation
    dilations = [entered * frames[i] // frames[first] for i in range(first, last + 2)]
    tall, wide = whole.layers[last].made
    size = (tall * dilations[-1] if rows is None else rows, wide)
    layers = backwards(steps[first : last + 1], [1] * (last + 1 - first), dilations[:-1], size)
    channels = steps[first - 1].channels if first else whole.channels
    streams = -(-frames[first] // entered) if interleaved else 1
    return Range(
        first, tuple(layers), channels, grown(layers[0].made, layers[0]), streams, (frames[first], dilations[-1])
    )


def model_of(part: Range, name: str = NETWORK) -> onnx.ModelProto:
    """A range as an ONNX model with the network's own weights; nodes are called L and their number, as recorded."""
    model = build(name)
    nodes: list[onnx.NodeProto] = []
    at = "frames"
    for number, layer in enumerate(part.layers, start=part.first):
        step = layer.step
        attributes: dict[str, Any] = {
            "kernel_shape": step.kernel,
            "strides": layer.stride,
            "dilations": (layer.dilation, 1),
        }
        after = f"map{number}"
        nodes.append(helper.make_node(step.op, [at, *step.weights], [after], name=f"L{number}", **attributes))
        at = after
    read = {name for node in nodes for name in node.input}
    last = part.layers[-1]
    ends = [
        helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, [part.streams, channels, *size])
        for tensor, channels, size in (("frames", part.channels, part.fed), (at, last.step.channels, last.made))
    ]
    weights = [w for w in model.graph.initializer if w.name in read]
    graph = helper.make_graph(nodes, "range", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)


@cache
def graph_of(part: Range, name: str = NETWORK) -> Graph:
    """A range as the rest of dfc takes a network."""
    graph = import_model(model_of(part, name), name="range", base_dir=None)
    return PassManager(default_pipeline(), verify=True).run(graph)


# -- what was recorded of ranges ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trunk:
    """What was recorded of one range with one tile; what was not is missing from ``values``."""

    tile: tuple[int, int]
    key: str
    values: Json

    @property
    def name(self) -> str:
        """For the names of tests."""
        return f"{self.tile[0]}x{self.tile[1]}-{self.key}"

    @property
    def part(self) -> Range:
        """The range in dense form; "a,b" are layers a + 1 to b."""
        return dense(*layers_of(self.key))


def layers_of(key: str) -> tuple[int, int]:
    """First and last layer of a range by its recorded name; None is the network's own end."""
    before, last = key.split(",")
    final = len(window().layers) - 1
    return 0 if before == "None" else int(before) + 1, final if last == "None" else int(last)


def trunks() -> Iterator[Trunk]:
    """Ranges and tiles of which everything was recorded, then the others, of which "step3" holds a part.

    Of the file that ships, CI leaves the others out.
    """
    full: dict[tuple[str, str], Json] = {(t, k): v for t, found in RECORDED["trunks"].items() for k, v in found.items()}
    rest = _parts(RECORDED.get("step3", {})) if FULL or "DFC_REFERENCE_ACCO" in os.environ else {}
    for (tile, key), values in (full | {where: v for where, v in rest.items() if where not in full}).items():
        x, y = map(int, tile.split("_"))
        yield Trunk((x, y), key, values)


def _parts(step3: Json) -> dict[tuple[str, str], Json]:
    """What the tables of step 3 hold of every tile and range: all tiles' totals and peak, and the second row's."""
    parts: dict[tuple[str, str], Json] = {}
    for key, found in step3.get("substack_cache", {}).items():
        for tile, (peak, weights) in found.items():
            values = parts.setdefault((_tile(tile), key), {})
            values |= {"peak_f_bits_total": round(peak * MEGABYTE), "weight_bits": round(weights * MEGABYTE)}
    for key, found in step3.get("substack_cache_rt", {}).items():
        for tile, (peak, _) in found.items():
            parts[_tile(tile), key]["peak_f_bits_stable"] = round(peak * MEGABYTE)
    for what, into in (("energy", "energy_pJ"), ("latency", "latency_cycles")):
        for key, found in step3.get(f"substack_{what}", {}).items():
            for tile, (total, off, again) in found.items():
                parts[_tile(tile), key] |= {into: total, f"offload_{what}": off, f"reload_{what}": again}
        for key, found in step3.get(f"substack_{what}_rt", {}).items():
            for tile, (total, off, again) in found.items():
                row = parts[_tile(tile), key].setdefault("second_row", {})
                row |= {what: total, f"offload_{what}": off, f"reload_{what}": again}
    return parts


def _tile(strategy: str) -> str:
    """ "2_16" of "2_16_True_True_energy": the tile, caching of columns and rows, the objective."""
    x, y, columns, rows, *objective = strategy.split("_")
    assert (columns, rows) == ("True", "True") and objective in ([], ["energy"])
    return f"{x}_{y}"
