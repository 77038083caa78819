"""A layer of the canonical graph as a small model per tile: what it reads for a region of its output, and the nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from dfc.frontend.executable import Executable, Segment
from dfc.frontend.parts import RULES, NoRule, Part, Region, Task, whole
from dfc.frontend.values import Array
from dfc.ir import Layer


@dataclass(frozen=True, slots=True)
class Feed:
    """An input of a recipe: its name there, the feature map that it is part of, and which part.

    channels: those that are needed; the others of the region may be anything. None: all of them are.
    """

    name: str
    tensor: str
    region: Region
    channels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Recipe:
    """How a region of a layer's outputs is computed.

    key:       recipes with equal keys have the same model.
    feeds:     regions of feature maps.
    constants: small arrays that are fed besides.
    exact:     whether the feeds are what is needed; else they are whole maps, and nobody knows what of them is needed.
    crop:      what is cut out of each result.
    """

    key: bytes
    feeds: tuple[Feed, ...]
    constants: Mapping[str, Array]
    nodes: tuple[onnx.NodeProto, ...]
    exact: bool
    crop: tuple[slice, ...]


class LayerProgram:
    """The nodes behind a layer."""

    def __init__(self, model: Executable, layer: Layer):
        """Raises UsageError CLI084 where the layer is no part of the model's own graph."""
        self.model = model
        self.layer = layer
        self.segment: Segment = model.segment(layer)
        self._known: dict[Region, Recipe] = {}

    def recipe(self, region: Region) -> Recipe:
        """How a region of the layer's (first) output is computed."""
        if region not in self._known:
            self._known[region] = self._recipe(region)
        return self._known[region]

    def whole(self) -> Recipe:
        """How all of the layer's outputs are computed."""
        return self._as_a_whole(())

    def _recipe(self, region: Region) -> Recipe:
        shape = self.model.shape(self.layer.output)
        if len(self.layer.outputs) == 1:
            try:
                return self._exact(region)
            except NoRule:
                pass
        return self._as_a_whole(tuple(slice(r.start, r.stop) for r in region) if region != whole(shape) else ())

    def _as_a_whole(self, crop: tuple[slice, ...]) -> Recipe:
        """All of the layer's output from all of its inputs."""
        names = sorted({r for n in self.segment.nodes for r in (*n.input,)} & self.segment.sources)
        names += sorted(self.segment.sources - set(names))  # read by the body of a node
        names += self.segment.absent
        feeds = tuple(Feed(name, name, whole(self.model.shape(name))) for name in names)
        return Recipe(b"whole", feeds, {}, self.segment.nodes, exact=False, crop=crop)

    def _exact(self, region: Region) -> Recipe:
        wanted: dict[str, Region] = {self.layer.output: region}
        feeds: list[Feed] = []
        nodes: list[onnx.NodeProto] = []
        constants: dict[str, Array] = {}
        for node in reversed(self.segment.nodes):
            output = self._output_of(node, wanted)
            part = self._part(node, output, wanted.pop(output))
            constants |= part.constants
            self._connect(node, part, wanted, feeds, constants)
            nodes = [*part.nodes, *nodes]
        key = b"".join(node.SerializeToString() for node in nodes)
        return Recipe(key, tuple(feeds), constants, tuple(nodes), exact=True, crop=())

    @staticmethod
    def _output_of(node: onnx.NodeProto, wanted: Mapping[str, Region]) -> str:
        names = [name for name in node.output if name in wanted]
        if len(names) != 1:
            raise NoRule
        return str(names[0])

    def _part(self, node: onnx.NodeProto, output: str, region: Region) -> Part:
        rule = RULES.get(node.op_type)
        opset = self.model.opset
        task = Task(node, output, region, self.model.shape, self.model.constant, opset)
        if rule is not None:
            try:
                return rule(task)
            except NoRule:
                pass
        inputs = {
            n: whole(self.model.shape(name)) for n, name in enumerate(node.input) if name and self.model.knows(name)
        }
        part = Part(inputs, [task.renamed()])
        if task.is_whole:
            return part
        raise NoRule

    def _connect(
        self,
        node: onnx.NodeProto,
        part: Part,
        wanted: dict[str, Region],
        feeds: list[Feed],
        constants: dict[str, Array],
    ) -> None:
        """Names for what the part reads: regions of feature maps, of constants, or what other nodes compute."""
        first = part.nodes[0]
        for number, region in part.inputs.items():
            name = first.input[number]
            numbers = self.model.constant(name)
            if name in self.segment.sources:
                feed = Feed(f"{name}\x1f{len(feeds)}", name, region, part.channels if number == 0 else None)
                feeds.append(feed)
                first.input[number] = feed.name
            elif numbers is not None:
                if region != whole(numbers.shape):
                    here = f"{name}\x1f{node.output[0]}"
                    constants[here] = np.ascontiguousarray(_cut(numbers, region))
                    first.input[number] = here
            elif wanted.get(name, region) != region or name in self.segment.absent:
                raise NoRule
            else:
                wanted[name] = region

    def build(self, recipe: Recipe) -> bytes:
        """The recipe's model."""
        inputs = [(feed.name, feed.tensor) for feed in recipe.feeds]
        extra = [(name, helper.np_dtype_to_tensor_dtype(data.dtype)) for name, data in recipe.constants.items()]
        return self.model.part(recipe.nodes, inputs, extra, self.segment)


def _cut(numbers: Array, region: Region) -> Array:
    for axis, span in enumerate(region):
        numbers = np.take(numbers, list(span), axis=axis)
    return numbers
