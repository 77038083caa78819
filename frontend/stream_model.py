"""The step of a streaming form as an ONNX model of its own, whose states are inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx
from onnx import helper, numpy_helper

from dfc.errors import UsageError
from dfc.frontend.diagnostics import fail
from dfc.frontend.external import is_external, tensor_array
from dfc.frontend.importer import import_model
from dfc.frontend.load import subgraphs, tensors_of
from dfc.frontend.node import Node
from dfc.frontend.order import captured, reads
from dfc.frontend.stream_nodes import Along, set_along, set_attributes
from dfc.frontend.timed import TimedModel
from dfc.frontend.values import Array, Shape, Value
from dfc.ir import Graph, TimedTensor, free_name

#: codes of this module, with the sentence that docs/errors.md prints for each
STREAM_CODES: Mapping[str, str] = {"CLI104": "the streaming form is too large for an ONNX file"}
#: IR versions before it want every initializer among the inputs
_OLDEST_IR = 4
#: operator set of cuts and joins where the model names none
_CUTS_OPSET = 13


def import_step(content: bytes, name: str) -> Graph:
    """A step's model as a graph: its states are inputs and outputs like any others."""
    return import_model(onnx.load_from_string(content), name=name, base_dir=None)


@dataclass
class StreamWriter:
    """Collects the nodes of a step. Every tensor of it is entered with what it stands for in the model."""

    timed: TimedModel
    nodes: list[onnx.NodeProto] = field(default_factory=list[onnx.NodeProto])
    _known: dict[tuple[int, ...], str] = field(default_factory=dict[tuple[int, ...], str])
    _constants: dict[str, onnx.TensorProto] = field(default_factory=dict[str, onnx.TensorProto])
    _entered: dict[str, tuple[str, int, int]] = field(default_factory=dict[str, tuple[str, int, int]])
    _static: set[str] = field(default_factory=set[str])

    @cached_property
    def _nodes(self) -> dict[str, Node]:
        return {node.label: node for node in self.timed.nodes}

    @cached_property
    def _writers(self) -> dict[str, Node]:
        return {name: node for node in self._nodes.values() for name in node.proto.output if name}

    def enter(self, name: str, tensor: str, length: int, windows: int = 1) -> None:
        """``name`` is like ``tensor`` of the model with ``length`` positions along time, for so many windows."""
        self._entered[name] = (tensor, length, windows)

    # -- what a step is made of --------------------------------------------------------------------------------

    def cut(self, out: str, source: str, start: int, count: int, step: int) -> None:
        """``count`` positions along time."""
        axis = self._axis(source)
        if self.timed.walked.opsets[""] < 10:  # a slice has no steps there
            self._add("Gather", [source, self._indices(range(start, start + count * step, step))], out, axis=axis)
            return
        stop = start + (count - 1) * step + 1
        self._add("Slice", [source, *(self._indices([number]) for number in (start, stop, axis, step))], out)

    def join(self, out: str, parts: Sequence[str]) -> None:
        """Parts one after the other along time."""
        self._add("Concat", parts, out, axis=self._axis(out))

    def weave(self, out: str, parts: Sequence[str]) -> None:
        """Positions of the parts by turns."""
        turns = len(parts)
        starts = np.cumsum([0] + [self._entered[part][1] for part in parts])
        order = [int(starts[i % turns]) + i // turns for i in range(self._entered[out][1])]
        joined = self._free(f"{out}.turns")
        self._add("Concat", parts, joined, axis=self._axis(out))
        self._add("Gather", [joined, self._indices(order)], out, axis=self._axis(out))

    def stack(self, out: str, parts: Sequence[str]) -> None:
        """The outputs of several windows along the first axis."""
        if len(parts) == 1:
            self._add("Identity", parts, out)
            return
        rows = list(parts)
        if not self._value(out).shape:
            rows = [self._free(f"{part}.row") for part in parts]
            for part, row in zip(parts, rows, strict=True):
                self._add("Reshape", [part, self._indices([1])], row)
        self._add("Concat", rows, out, axis=0)

    def run(self, label: str, outs: Mapping[str, str], feeds: Mapping[str, str], along: Along | None) -> None:
        """A node of the model on other tensors, in its bodies too; ``along`` time as said there, or as it is."""
        node = self._nodes[label]
        proto = onnx.NodeProto()
        proto.CopyFrom(node.proto)
        proto.name = next(iter(outs.values()))
        proto.input[:] = [feeds.get(name, name) for name in proto.input]
        proto.output[:] = [outs.get(name, "") for name in proto.output]
        if along is not None:
            out = next(iter(outs.values()))
            set_along(node, proto, self._axis(next(iter(feeds.values()))), along, self.shape(out), self._indices)
        feed_bodies(proto, feeds)
        for name in reads(proto):
            if name not in self._entered and name not in self._constants:
                self._need(name)
        self.nodes.append(proto)

    # -- the model ---------------------------------------------------------------------------------------------

    def finish(
        self, name: str, inputs: Sequence[str], outputs: Sequence[str], about: Mapping[str, str], doc: str
    ) -> bytes:
        """The model as a file's content, the same for the same step; ``about`` goes into its metadata.

        Raises:
            UsageError: CLI104 it is too large for a file.
        """
        source = self.timed.walked.model
        sparse = [s for s in self.timed.walked.walk.sparse if s.values.name in self._static]
        infos = [[self._info(n) for n in names] for names in (inputs, outputs)]
        constants = list(self._constants.values())
        graph = helper.make_graph(
            self.nodes, name, infos[0], infos[1], constants, doc_string=doc, sparse_initializer=sparse
        )
        for tensor in tensors_of(graph):
            self._own(tensor)
        version, imports = max(_OLDEST_IR, source.ir_version), list(source.opset_import)
        if not any(one.domain in ("", "ai.onnx") for one in imports):  # all its operators are of other domains
            imports.append(helper.make_opsetid("", _CUTS_OPSET))
        model = helper.make_model(graph, producer_name="dfc", opset_imports=imports, ir_version=version)
        helper.set_model_props(model, dict(about))
        return _content(model, name)

    def shape(self, name: str) -> Shape:
        """The shape of a tensor of the step."""
        tensor, length, windows = self._entered[name]
        shape, axis = list(self._value(name).shape), self._timed(tensor).axis
        if axis is not None:
            shape[axis] = length
        if windows > 1:
            shape = [windows * shape[0], *shape[1:]] if shape else [windows]
        return tuple(shape)

    # -- parts -------------------------------------------------------------------------------------------------

    def _value(self, name: str) -> Value:
        return self.timed.values[self._entered[name][0]]

    def _timed(self, tensor: str) -> TimedTensor:
        return self.timed.network.tensors[tensor]

    def _axis(self, name: str) -> int:
        axis = self._timed(self._entered[name][0]).axis
        assert axis is not None
        return axis

    def _info(self, name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, self._value(name).elem, self.shape(name))

    def _add(self, op: str, inputs: Sequence[str], out: str, **attributes: int) -> None:
        proto = helper.make_node(op, list(inputs), [out], name=out)
        set_attributes(proto, **attributes)
        self.nodes.append(proto)

    def _indices(self, numbers: Iterable[int]) -> str:
        """A constant vector of integers."""
        key = tuple(numbers)
        if key not in self._known:
            name = self._known[key] = self._free(f"dfc.indices.{len(self._known)}")
            self._constants[name] = numpy_helper.from_array(np.array(key, np.int64), name)
        return self._known[key]

    def _free(self, wanted: str) -> str:
        return free_name(wanted, self._entered, self.timed.network.names)

    def _need(self, name: str) -> None:
        """A constant of the model, with the nodes that compute it."""
        walk = self.timed.walked.walk
        if name in self._static:
            return
        self._static.add(name)
        value = self.timed.values[name]
        if name in walk.initializers:
            self._constants[name] = walk.initializers[name]
        elif value.data is not None:
            self._constants[name] = self._stored(name, value, value.data)
        elif name in self._writers:
            node = self._writers[name]
            for read in reads(node.proto):
                self._need(read)
            self._static.update(node.proto.output)
            self.nodes.append(node.proto)

    def _stored(self, name: str, value: Value, data: Array) -> onnx.TensorProto:
        typed = np.ascontiguousarray(data).astype(helper.tensor_dtype_to_np_dtype(value.elem))
        return numpy_helper.from_array(typed.reshape(value.shape), name)

    def _own(self, tensor: onnx.TensorProto) -> None:
        """Bring a tensor's numbers in from another file."""
        if not is_external(tensor):
            return
        data = tensor_array(tensor, self.timed.walked.base_dir, f"initializer '{tensor.name}'")
        if data is None:
            fail(
                "ONNX006",
                f"the data of initializer '{tensor.name}' lies in another file",
                place=f"initializer '{tensor.name}'",
                hint="read the model from its file",
            )
        tensor.CopyFrom(numpy_helper.from_array(data, tensor.name))


def _content(model: onnx.ModelProto, name: str) -> bytes:
    try:
        content: bytes = model.SerializeToString(deterministic=True)
    except Exception as error:  # the protobuf package's own EncodeError, without depending on its types
        raise UsageError(
            "CLI104",
            f"the streaming form of {name} with its weights does not fit into one ONNX file: {error}",
            place="--out",
            hint="a file holds 2 GiB: store the weights in fewer bits, or cut the model before its largest layers",
        ) from error
    return content


def feed_bodies(proto: onnx.NodeProto, feeds: Mapping[str, str]) -> None:
    """What the bodies of a node read from around them, by other names."""
    for body in subgraphs(proto):
        known = {name: feeds[name] for name in captured(body) if name in feeds}
        for node in body.node:
            node.input[:] = [known.get(name, name) for name in node.input]
            feed_bodies(node, known)
        for output in body.output:
            output.name = known.get(output.name, output.name)
