"""One node after another: fold it, model it, or keep it as an opaque layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import onnx
from onnx import helper

from dfc.frontend.diagnostics import Unmodelled, fail
from dfc.frontend.external import is_external, tensor_array
from dfc.frontend.fold import declared, evaluate, infer
from dfc.frontend.load import subgraphs
from dfc.frontend.node import REGISTRY, Node
from dfc.frontend.opaque import opaque_layer
from dfc.frontend.order import constant_elements, node_title, reads, sort_nodes
from dfc.frontend.values import BITS, Array, Shape, Value, type_name, within_limit
from dfc.ir import Layer

#: operators whose outputs do not follow from their inputs
_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
#: operators whose output can be far larger than their inputs: computed only when its size is known beforehand
_GROWING = frozenset(
    {
        "Expand",
        "Tile",
        "Range",
        "Resize",
        "Upsample",
        "Pad",
        "OneHot",
        "EyeLike",
        "MatMul",
        "Gemm",
        "ConstantOfShape",
    }
)


class Walk:
    """What is known so far: the value of every tensor that was met, and the layers in order."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        opsets: Mapping[str, int],
        place: str,
        base_dir: Path | None,
        sizes: Mapping[str, int],
    ) -> None:
        self.values: dict[str, Value] = {}
        self.layers: list[Layer] = []
        self.notes: list[str] = []
        self.perms: dict[str, tuple[int, ...]] = {}  # of transposes, by layer name
        self.nodes: list[Node] = []  # in the order of the walk, those of inlined branches among them
        self.made: dict[str, tuple[str, ...]] = {}  # names of the layers of each node, by its label
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.sparse: list[onnx.SparseTensorProto] = []
        self._opsets = opsets
        self._place = place
        self._base_dir = base_dir
        self._sizes = sizes
        self._read = _names_read(graph)
        self._declared = {info.name: info for info in (*graph.value_info, *graph.output)}
        self._reserved = Counter(node.name for node in graph.node if node.name)
        self._taken: set[str] = set()
        self._initializers(graph)

    # what is given

    def _initializers(self, graph: onnx.GraphProto) -> None:
        for tensor in graph.initializer:
            shape: Shape = tuple(int(extent) for extent in tensor.dims)
            value = Value(tensor.name, shape, tensor.data_type, constant=True)
            if min(shape, default=0) < 0:
                self._damaged(tensor.name, shape)
            if tensor.data_type in BITS and within_limit(value.elements, value.elem):
                data = tensor_array(tensor, self._base_dir, f"{self._place}: initializer '{tensor.name}'")
                value = replace(value, data=data)
            self.values[tensor.name] = value
            self.initializers[tensor.name] = tensor
        for sparse in graph.sparse_initializer:
            shape = tuple(int(extent) for extent in sparse.dims)
            self.values[sparse.values.name] = Value(sparse.values.name, shape, sparse.values.data_type, constant=True)
            self.sparse.append(sparse)

    def _damaged(self, name: str, shape: Shape) -> None:
        fail(
            "ONNX018",
            f"initializer '{name}' has the shape {list(shape)}",
            place=f"{self._place}: initializer '{name}'",
            hint="the model file is damaged; export or fetch it again",
        )

    # one node

    def visit(self, proto: onnx.NodeProto) -> None:
        """Take in one node whose inputs were all met before."""
        if proto.op_type == "If" and self._inline_branch(proto):
            return
        seen = [self.values[name] for name in reads(proto)]
        node = self._view(proto)
        self._check_types(node, seen)
        self.nodes.append(node)
        if all(v.constant for v in seen) and proto.op_type not in _RANDOM:
            self._fold(node, seen)
        else:
            self._model(node, seen)

    def _view(self, proto: onnx.NodeProto) -> Node:
        return Node(
            proto=proto,
            label=self._label(proto),
            place=f"{self._place}: {node_title(proto)}",
            opset=self._opsets[""],
            inputs=tuple(self.values[name] if name else None for name in proto.input),
            used=tuple(name in self._read for name in proto.output),
        )

    def _label(self, proto: onnx.NodeProto) -> str:
        """The node's name where no other node has it, else one made of operator and output."""
        if proto.name and self._reserved[proto.name] == 1 and proto.name not in self._taken:
            return self._take(proto.name)
        output = next((name for name in proto.output if name), "")
        return self._take(self._unique(f"{proto.op_type}_{output}"))

    def _unique(self, name: str) -> str:
        candidate, number = name, 2
        while candidate in self._taken or candidate in self._reserved:
            candidate, number = f"{name}_{number}", number + 1
        return candidate

    def _take(self, name: str) -> str:
        self._taken.add(name)
        return name

    def _check_types(self, node: Node, seen: Sequence[Value]) -> None:
        for value in seen:
            if value.elem not in BITS:
                self._sizeless(node, value.name, value.elem)

    def _sizeless(self, node: Node, tensor: str, elem: int) -> None:
        kind = type_name(elem).lower() if elem > 0 else "sequence, map or optional"
        fail(
            "ONNX015",
            f"tensor '{tensor}' is of type {kind}, which has no fixed size",
            place=node.place,
            hint="cut the pre- or post-processing off the model; tensors of numbers are expected",
        )

    # modelled

    def _model(self, node: Node, seen: Sequence[Value]) -> None:
        try:
            self._handle(node)
        except Unmodelled as reason:
            self._opaque(node, seen, str(reason))
            return
        for value in node.values.values():
            if not value.constant:
                self._check_extent(node, value)
        self.values.update(node.values)
        names: list[str] = []
        for layer in node.layers:
            name = layer.name if layer.name == node.label else self._take(self._unique(layer.name))
            names.append(name)
            self.layers.append(replace(layer, name=name))
            if layer.op == "transpose":
                self.perms[name] = node.ints("perm") or ()
        self.made[node.label] = tuple(names)

    def _handle(self, node: Node) -> None:
        """Run the operator's handler. Raises Unmodelled where there is none or it gives up."""
        domain = "" if node.proto.domain == "ai.onnx" else node.proto.domain
        handler = REGISTRY.get((domain, node.op_type))
        if handler is None:
            raise Unmodelled("the operator is not known")
        handler(node)
        for index, name in enumerate(node.proto.output):
            if node.is_used(index) and name not in node.values:
                raise Unmodelled(f"output {index} is used")

    def _check_extent(self, node: Node, value: Value) -> None:
        if value.elements < 1:
            fail(
                "ONNX019",
                f"feature map '{value.name}' has no elements: its shape is {list(value.shape)}",
                place=node.place,
                hint="the input is too small for this network; bind a larger size",
            )

    # opaque

    def _opaque(self, node: Node, seen: Sequence[Value], reason: str) -> None:
        writes: list[Value] = []
        for index, (elem, shape) in enumerate(self._inferred(node, seen)):
            name = node.proto.output[index]
            if name and (node.is_used(index) or shape is not None):
                writes.append(self._opaque_output(node, name, elem, shape))
        self.values.update({value.name: value for value in writes})
        constants = sum(map(constant_elements, subgraphs(node.proto)))
        self.layers.append(opaque_layer(node.label, node.origin, seen, writes, constants))
        self.made[node.label] = (node.label,)
        self.notes.append(
            f"{node.op_type} '{node.label}' is not modelled ({reason}): its traffic is counted, "
            "and nothing is fused across it"
        )

    def _inferred(self, node: Node, seen: Sequence[Value]) -> list[tuple[int, Shape | None]]:
        """Type and shape of each output: from the handler as far as it came, ONNX's inference, or the model
        itself.
        """
        found = infer(node.proto, seen, self._opsets)
        result: list[tuple[int, Shape | None]] = []
        for name, (elem, shape) in zip(node.proto.output, found, strict=True):
            ours = node.values.get(name)
            if ours is not None:
                elem, shape = ours.elem, ours.shape
            if shape is None and name in self._declared:
                said, shape = declared(self._declared[name], self._sizes)
                elem = elem or said
            result.append((elem or (seen[0].elem if seen else 0), shape))
        return result

    def _opaque_output(self, node: Node, name: str, elem: int, shape: Shape | None) -> Value:
        if elem not in BITS:
            self._sizeless(node, name, elem)
        if shape is None:
            fail(
                "ONNX017",
                f"the shape of '{name}' cannot be inferred",
                place=node.place,
                hint="this operator is not known or its result depends on the data; cut the model before it, "
                "or store the shape in the model (value_info)",
            )
        value = Value(name, shape, elem)
        self._check_extent(node, value)
        return value

    # constant

    def _fold(self, node: Node, seen: Sequence[Value]) -> None:
        """The node depends on no input: keep its outputs as constants, with their numbers where they are
        small.
        """
        with suppress(Unmodelled):
            self._handle(node)
        known = [node.values.get(name) for name in node.proto.output if name]
        if all(v is not None and v.data is not None for v in known):
            self.values.update(node.values)
            return
        found = self._inferred(node, seen)
        data = self._evaluated(node, found)
        for index, (name, (elem, shape)) in enumerate(zip(node.proto.output, found, strict=True)):
            if not name:
                continue
            numbers = data[index] if data is not None else None
            if numbers is not None:
                kind = elem if shape is not None else helper.np_dtype_to_tensor_dtype(numbers.dtype)
                value = Value(name, tuple(int(e) for e in numbers.shape), int(kind), True, numbers)
            elif node.is_used(index):
                value = replace(self._opaque_output(node, name, elem, shape), constant=True)
            else:
                continue
            ours = node.values.get(name)
            self.values[name] = replace(value, stored_bits=ours.stored_bits if ours is not None else None)

    def _evaluated(self, node: Node, found: Sequence[tuple[int, Shape | None]]) -> list[Array] | None:
        """The numbers of the outputs; None where they are large, not worth it or beyond the reference
        evaluator.
        """
        feeds = {v.name: v.data for v in node.inputs if v is not None and v.data is not None}
        if any(name and name not in feeds for name in node.proto.input) or any(subgraphs(node.proto)):
            return None
        if any(a.HasField("t") and is_external(a.t) for a in node.proto.attribute):
            return None  # the evaluator would look for the file itself
        if not all(within_limit(data.size, self.values[name].elem) for name, data in feeds.items()):
            return None
        for elem, shape in found:
            if shape is None and node.op_type in _GROWING:
                return None
            if shape is not None and not within_limit(Value("", shape, elem).elements, elem):
                return None
        try:
            return evaluate(node.proto, feeds, self._opsets)
        except Exception:  # whatever the reference implementation of an operator raises: it does not know
            return None

    # control flow

    def _inline_branch(self, proto: onnx.NodeProto) -> bool:
        """Take in the branch of an If whose condition is known; False where it is not."""
        condition = self.values[proto.input[0]]
        if condition.data is None or condition.data.size != 1:
            return False
        wanted = "then_branch" if bool(condition.data.reshape(-1)[0]) else "else_branch"
        branch = next(a.g for a in proto.attribute if a.name == wanted)
        self._initializers(branch)
        self._declared.update({info.name: info for info in branch.value_info})
        for node in sort_nodes(branch, self.values, self._place):
            self.visit(node)
        for inner, outer in zip(branch.output, proto.output, strict=True):
            self.visit(helper.make_node("Identity", [inner.name], [outer]))
        return True


def _names_read(graph: onnx.GraphProto) -> set[str]:
    """Every tensor that some node or output of a graph or of its bodies reads."""
    names = {o.name for o in graph.output}
    for node in graph.node:
        names.update(node.input)
        for body in subgraphs(node):
            names |= _names_read(body)
    return names
