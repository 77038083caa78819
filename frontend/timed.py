"""A model with its time axis followed from the input through every node."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import onnx

from dfc.errors import UsageError
from dfc.frontend.diagnostics import Unmodelled
from dfc.frontend.importer import Walked, graph_of, walk_model, walk_onnx
from dfc.frontend.load import subgraphs, subgraphs_of_all
from dfc.frontend.node import Node
from dfc.frontend.order import reads
from dfc.frontend.time_rules import Kept, Mixed, Reduced, Timed, along_time
from dfc.frontend.time_split import split_pool
from dfc.frontend.values import Shape, Value
from dfc.ir import Graph, TimedNode, TimedTensor, TimeNetwork

#: codes of this module, with the sentence that docs/errors.md prints for each
TIME_CODES: Mapping[str, str] = {
    "CLI100": "--time-axis names no axis of the model's input",
}


@dataclass(frozen=True, slots=True)
class TimedModel:
    """A model as imported, with its time axis.

    graph:   the network as every other part of dfc sees it, before any pass.
    network: how it runs along time.
    nodes, values: the nodes in order, and what is known of every tensor: what the streaming model is written from.
    """

    graph: Graph
    network: TimeNetwork
    walked: Walked
    nodes: tuple[Node, ...]
    values: Mapping[str, Value]


def import_timed(
    path: str | Path,
    *,
    time_axis: str | None = None,
    bind: Mapping[str, int] | None = None,
    input_shape: Mapping[str | None, tuple[int, ...]] | None = None,
) -> TimedModel:
    """Read an ONNX file and follow its time axis.

    time_axis: T, H or W, the model's own name of a dimension, or an index; with the input's name and a colon before
               it where the model has several. None is T where the input has one.

    Raises:
        ModelError: as :func:`dfc.frontend.import_onnx` does.
        UsageError: CLI100 there is no such axis.
    """
    return _timed(walk_onnx(path, bind=bind, input_shape=input_shape), time_axis)


def timed_model(model: onnx.ModelProto, *, name: str, time_axis: str | None) -> TimedModel:
    """Like :func:`import_timed` for a model in memory."""
    return _timed(walk_model(model, name=name), time_axis)


def _timed(walked: Walked, time_axis: str | None) -> TimedModel:
    graph = graph_of(walked)
    frames, axis = find_axis(walked.model, graph, time_axis)
    found = _Follow(graph, walked, frames, axis)
    network = found.run()
    return TimedModel(graph, network, walked, tuple(found.nodes), found.values)


# -- which axis ------------------------------------------------------------------------------------------------


def find_axis(model: onnx.ModelProto, graph: Graph, text: str | None) -> tuple[str, int]:
    """(input, axis) that ``text`` names."""
    inputs, wanted = graph.inputs, text or "T"
    frames, name = inputs[0], wanted
    head, colon, tail = wanted.rpartition(":")
    if colon:
        if head not in inputs:
            _no_axis(wanted, f"the model has no input '{head}'", f"its inputs are {', '.join(inputs)}")
        frames, name = head, tail
    shape = graph.tensors[frames].shape
    infos = {info.name: info for info in model.graph.input}
    named = [dim.dim_param for dim in infos[frames].type.tensor_type.shape.dim]
    axis = _named_axis(name, shape, named)
    if axis is None:
        known = ", ".join(f"{i} ({_letter(i, len(shape)) or named[i] or extent})" for i, extent in enumerate(shape))
        _no_axis(wanted, f"input '{frames}' of shape {list(shape)} has no time axis '{name}'", f"its axes are {known}")
    return frames, axis


def _no_axis(wanted: str, message: str, hint: str) -> NoReturn:
    raise UsageError("CLI100", message, place=f"--time-axis {wanted}", hint=hint)


def _named_axis(name: str, shape: Shape, named: Sequence[str]) -> int | None:
    rank = len(shape)
    if not name:
        return None
    if re.fullmatch(r"-?[0-9]{1,3}", name):
        return int(name) % rank if -rank <= int(name) < rank else None
    if name in named:
        return named.index(name)
    if name == "T" and rank <= 3:
        return rank - 1 if rank > 1 else None
    letters = [_letter(i, rank) for i in range(rank)]
    return letters.index(name) if name in letters else None


def _letter(axis: int, rank: int) -> str:
    """T, H or W for the spatial axes of a feature map, as they are commonly called."""
    place = axis - rank + 3
    return "THW"[place] if axis >= 2 and place >= 0 else ""


# -- following it ----------------------------------------------------------------------------------------------


class _Follow:
    """The time axis of every tensor that depends on an input, and what every node does along it."""

    def __init__(self, graph: Graph, walked: Walked, frames: str, axis: int) -> None:
        self.graph = graph
        self.walk = walked.walk
        self.frames = frames
        self.values = dict(self.walk.values)
        self._names = set(_names(walked.model.graph))
        self.nodes: list[Node] = []
        self._macs = {layer.name: layer.macs for layer in graph.layers}
        self._timed: list[TimedNode] = []
        self._tensors: dict[str, TimedTensor] = {}
        for name in graph.inputs:
            self._tensors[name] = _tensor(self.values[name], axis if name == frames else None, 1)

    def run(self) -> TimeNetwork:
        for node in self.walk.nodes:
            self._visit(node)
        graph, nodes, names = self.graph, tuple(self._timed), frozenset(self._names)
        return _live(TimeNetwork(graph.name, self.frames, graph.inputs, graph.outputs, self._tensors, nodes, names))

    def _visit(self, node: Node) -> None:
        names = tuple(name for name in reads(node.proto) if name in self._tensors)
        halves = split_pool(node, self._tensors[names[0]], self._names) if len(names) == 1 else None
        if halves is not None:
            *parts, values = halves
            self.values.update({value.name: value for value in values})
            self._names.update(value.name for value in values)
            for part in parts:
                self._visit(part)
            return
        self.nodes.append(node)
        written = [self.values[name] for name in node.proto.output if name in self.values]
        outputs = tuple(v for v in written if not v.constant)
        if names and outputs:
            layers = self.walk.made.get(node.label, ())
            macs = sum(self._macs.get(name, 0) for name in layers)
            one, found = _node(node, names, outputs, self._tensors, self.graph.inputs, layers, macs)
            self._timed.append(one)
            self._tensors.update({t.name: t for t in found})


def _node(
    node: Node,
    names: tuple[str, ...],
    outputs: tuple[Value, ...],
    tensors: Mapping[str, TimedTensor],
    inputs: tuple[str, ...],
    layers: tuple[str, ...],
    macs: int,
) -> tuple[TimedNode, list[TimedTensor]]:
    kept, reduces, reason = _kept(node, names, outputs, tensors, inputs)
    one = TimedNode(
        name=node.label,
        op=node.op_type,
        reads=names,
        writes=tuple(v.name for v in outputs),
        window=None if kept is None else kept.window,
        slides=kept is not None and kept.slides,
        margin=1 if kept is None else kept.margin,
        dilates=kept is None or kept.dilates,
        reduces=reduces,
        barrier=reason,
        layers=layers,
        macs=macs,
    )
    if kept is None:
        return one, [_tensor(v, None, 1) for v in outputs]
    stride = kept.window.stride * max(tensors[n].stride for n in names if tensors[n].axis is not None)
    return one, [_tensor(v, kept.axis, stride) for v in outputs]


def _kept(
    node: Node,
    names: tuple[str, ...],
    outputs: tuple[Value, ...],
    tensors: Mapping[str, TimedTensor],
    inputs: tuple[str, ...],
) -> tuple[Kept | None, bool, str]:
    """(what stays of time, whether it is reduced over, why it is mixed); the last two where nothing stays.

    A node that also reads what was mixed before is not to blame.
    """
    if all(tensors[name].axis is None for name in names):
        return None, False, ""
    lost = any(tensors[name].axis is None and name not in inputs for name in names)
    axes = {name: tensors[name].axis for name in names}
    strides = {name: tensors[name].stride for name in names}
    try:
        if any(True for _ in subgraphs(node.proto)):
            raise Mixed("it holds another graph")
        return along_time(Timed(node, axes, strides, outputs)), False, ""
    except Reduced:
        return None, True, ""
    except (Mixed, Unmodelled) as reason:
        return None, False, "" if lost else str(reason)


def _tensor(value: Value, axis: int | None, stride: int) -> TimedTensor:
    return TimedTensor(value.name, value.shape, value.tensor.bits, axis, stride)


def _live(network: TimeNetwork) -> TimeNetwork:
    """Without nodes that no output depends on (the shape of a tensor may have been all that was wanted of them)."""
    wanted = set(network.outputs)
    kept: list[TimedNode] = []
    for node in reversed(network.nodes):
        if wanted.intersection(node.writes):
            kept.append(node)
            wanted.update(node.reads)
    names = {*network.inputs, *(name for node in kept for name in (*node.reads, *node.writes))}
    tensors = {name: tensor for name, tensor in network.tensors.items() if name in names}
    return replace(network, tensors=tensors, nodes=tuple(kept[::-1]))


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    """Of every tensor of a graph and of the bodies in it; some more than once."""
    yield from (one.name for ones in (graph.input, graph.initializer) for one in ones)
    yield from (one.values.name for one in graph.sparse_initializer)
    for node in graph.node:
        yield from (*node.input, *node.output)
    for body in subgraphs_of_all(graph):
        yield from _names(body)
