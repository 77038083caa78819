"""A model as something to execute in parts: the nodes behind each layer of the canonical graph, and their constants.

A layer's nodes are those between the feature maps that it reads and the one that it writes, so all that passes folded
into it is among them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from dfc.errors import UsageError
from dfc.frontend.external import is_external, tensor_array
from dfc.frontend.importer import Walked
from dfc.frontend.order import reads, sort_nodes
from dfc.frontend.values import Array, Shape, Value
from dfc.ir import Layer

#: operators of any number of inputs, which the importer takes apart into layers of two
_VARIADIC = frozenset({"Sum", "Max", "Min", "Mean"})


@dataclass(frozen=True, slots=True)
class Segment:
    """The nodes of a layer in order, the feature maps that they read, and what they read besides (constants).

    absent: inputs of the model that they read by name, and whose contents nothing that is wanted depends on.
    """

    nodes: tuple[onnx.NodeProto, ...]
    sources: frozenset[str]
    constants: tuple[str, ...]
    outputs: tuple[str, ...]
    absent: tuple[str, ...] = ()


class Executable:
    """A model whose parts can be executed. Tensors are named as in the model."""

    def __init__(self, walked: Walked, absent: Collection[str] = ()):
        """Raises ModelError where data of the model cannot be read.

        ``absent`` are inputs that parts of it are never given.
        """
        self.place = walked.place
        self.absent = frozenset(absent)
        self._values: Mapping[str, Value] = walked.walk.values
        self._opsets = walked.opsets
        self._model = onnx.ModelProto()
        self._model.CopyFrom(walked.model)
        load_external(self._model, walked.base_dir, self.place)
        self._fix_inputs()
        self.partials = self._take_apart()
        self._writer = {name: node for node in self._model.graph.node for name in node.output if name}
        self._position = {id(node): n for n, node in enumerate(self._model.graph.node)}
        self._constants = {t.name: numpy_helper.to_array(t) for t in self._model.graph.initializer}

    def _fix_inputs(self) -> None:
        """Inputs have the shapes that were asked for; shapes that the model declares may be of another size."""
        for info in self._model.graph.input:
            if info.name in self._values:
                value = self._values[info.name]
                info.CopyFrom(helper.make_tensor_value_info(info.name, value.elem, list(value.shape)))
        del self._model.graph.value_info[:]
        for info in self._model.graph.output:
            info.CopyFrom(onnx.ValueInfoProto(name=info.name))

    def _take_apart(self) -> frozenset[str]:
        """Operators of many inputs as chains of two, as the importer has them; names of what lies between."""
        found: set[str] = set()
        nodes: list[onnx.NodeProto] = []
        for node in sort_nodes(self._model.graph, (), self.place):
            if node.op_type in _VARIADIC and len(node.input) > 2 and f"{node.output[0]}.partial1" in self._values:
                chain = list(self._chain(node))
                found |= {name for one in chain[:-1] for name in one.output}
                nodes += chain
            else:
                nodes.append(node)
        kept = [_copied(node) for node in nodes]
        del self._model.graph.node[:]
        self._model.graph.node.extend(kept)
        return frozenset(found)

    def _chain(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        names = sorted(node.input, key=lambda name: self._values[name].constant)
        out, op = node.output[0], "Sum" if node.op_type == "Mean" else node.op_type
        so_far = names[0]
        for step, name in enumerate(names[1:-1], 1):
            yield helper.make_node(op, [so_far, name], [f"{out}.partial{step}"])
            so_far = f"{out}.partial{step}"
        if node.op_type != "Mean":
            yield helper.make_node(op, [so_far, names[-1]], [out])
            return
        kind = helper.tensor_dtype_to_np_dtype(self._values[out].elem)
        count = numpy_helper.from_array(np.asarray(len(names), kind), f"{out}.count")
        self._model.graph.initializer.append(count)
        yield helper.make_node("Sum", [so_far, names[-1]], [f"{out}.sum"])
        yield helper.make_node("Div", [f"{out}.sum", f"{out}.count"], [out])

    # --- what is known

    @property
    def opset(self) -> int:
        """The version of ONNX's operator set."""
        return self._opsets[""]

    @property
    def input_names(self) -> tuple[str, ...]:
        """The network's inputs."""
        constants = {t.name for t in self._model.graph.initializer}
        return tuple(i.name for i in self._model.graph.input if i.name not in constants)

    def shape(self, name: str) -> Shape:
        """A tensor's shape; that of a constant is its own."""
        return self._constants[name].shape if name in self._constants else self._values[name].shape

    def dtype(self, name: str) -> np.dtype[np.generic]:
        """A tensor's element type."""
        return np.dtype(helper.tensor_dtype_to_np_dtype(self._values[name].elem))

    def knows(self, name: str) -> bool:
        """Whether the importer met the tensor."""
        return name in self._values or name in self._constants

    def constant(self, name: str) -> Array | None:
        """The numbers of a constant, once they are known."""
        return self._constants.get(name)

    def learn(self, numbers: Mapping[str, Array]) -> None:
        """Take in constants that ONNX Runtime computed."""
        self._constants.update(numbers)

    # --- parts

    def segment(self, layer: Layer) -> Segment:
        """The nodes behind a layer.

        Raises:
            UsageError: CLI084 where the layer stands for something else than nodes of the model's own graph.
        """
        return self.between(f"layer '{layer.name}'", {s.tensor for s in layer.sources}, layer.outputs)

    def between(self, what: str, sources: Collection[str], outputs: Sequence[str]) -> Segment:
        """The nodes from some tensors to others; ``what`` they are, for messages.

        Raises:
            UsageError: CLI084 where these tensors are not enough.
        """
        nodes: dict[int, onnx.NodeProto] = {}
        constants: dict[str, None] = {}
        absent: dict[str, None] = {}
        todo = list(outputs)
        while todo:
            name = todo.pop()
            node = self._writer.get(name)
            if name in self.absent:
                absent[name] = None
                continue
            if node is None:
                raise UsageError(
                    "CLI084",
                    f"{what} cannot be executed by itself: no node of the model's graph writes '{name}'",
                    place=self.place,
                    hint="control flow in a model is not executed in parts; export the model without it",
                )
            if self._position[id(node)] in nodes:
                continue
            nodes[self._position[id(node)]] = node
            for read in reads(node):
                if read in self._constants or (read in self._values and self._values[read].constant):
                    constants[read] = None
                elif read not in sources:
                    todo.append(read)
        ordered = tuple(nodes[n] for n in sorted(nodes))
        return Segment(ordered, frozenset(sources), tuple(constants), tuple(outputs), tuple(absent))

    def unknown_constants(self, segments: Iterable[Segment]) -> list[str]:
        """Constants that nodes compute, and that are still to be learnt."""
        return list(dict.fromkeys(c for s in segments for c in s.constants if c not in self._constants))

    def whole(self, outputs: Sequence[str]) -> bytes:
        """The model with these outputs."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        return bytes(model.SerializeToString())

    def part(
        self,
        nodes: Sequence[onnx.NodeProto],
        inputs: Sequence[tuple[str, str]],
        extra: Sequence[tuple[str, int]],
        segment: Segment,
    ) -> bytes:
        """A model of some nodes; inputs as (name in the part, name in the model) or (name, element type)."""
        kinds = [(name, self._values[of].elem) for name, of in inputs] + list(extra)
        infos = [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds]
        given = {name for name, _ in kinds}
        named = {read for node in nodes for read in reads(node)}
        constants = [
            numpy_helper.from_array(np.ascontiguousarray(self._constants[c]).reshape(self._constants[c].shape), c)
            for c in segment.constants
            if c in named and c not in given
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in segment.outputs]
        graph = helper.make_graph(list(nodes), "part", infos, outputs, initializer=constants)
        model = helper.make_model(graph, opset_imports=list(self._model.opset_import))
        model.ir_version = self._model.ir_version
        return bytes(model.SerializeToString())


def _copied(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def load_external(model: onnx.ModelProto, folder: Path | None, place: str) -> None:
    """Bring tensor data of other files into the model; the importer has checked where these lie."""
    for tensor in model.graph.initializer:
        if is_external(tensor):
            data = tensor_array(tensor, folder, f"{place}: initializer '{tensor.name}'")
            if data is not None:
                tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(data), tensor.name))
