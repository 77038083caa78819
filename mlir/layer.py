"""One layer on one tile: its operators are taken from the model, from its output back to what it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn, TypeVar

from dfc.frontend import Operation, Operations
from dfc.ir import Axis, Graph, Layer, Source, Tensor
from dfc.mlir.diagnostics import fail
from dfc.mlir.runs import Read, Run, held, window
from dfc.mlir.writer import Array, Offset, Shape, Value, Writer

T = TypeVar("T")

#: writes the outputs of one operation on a tile
Handler = Callable[["LayerCode", Operation], Value]
HANDLERS: dict[str, Handler] = {}

#: operators that change no element and no place
SAME = frozenset({"Identity", "Dropout"})
#: operators that a windowed layer may have taken over: its axis maps say what they did
_TAKEN_OVER = frozenset({"Pad", "Slice", "Split", *SAME})


def operator(*names: str) -> Callable[[Handler], Handler]:
    """Register the writer of some ONNX operators."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


def spatial_axes(tensor: Tensor) -> dict[int, Axis]:
    """Which spatial axis each axis of a tensor is; none where its shape is no feature map's."""
    rank = len(tensor.shape)
    return {place: Axis(place - rank + 3) for place in range(2, rank)} if 3 <= rank <= 5 else {}


def along_axes(tensor: Tensor, spatial: Callable[[Axis], T], other: Callable[[int], T]) -> tuple[T, ...]:
    """Something for each axis of a tensor: by the spatial axis that it is, or by its extent."""
    known = spatial_axes(tensor)
    return tuple(
        spatial(known[place]) if place in known else other(extent) for place, extent in enumerate(tensor.shape)
    )


class LayerCode:
    """Writes one layer for the tiles of three runs, one run per axis (t, y, x).

    maps:  per tensor what the tile can read of it; see :func:`dfc.mlir.runs.held` for where that lies.
    marks: what the first operation of the layer carries as attributes.
    """

    def __init__(
        self,
        writer: Writer,
        graph: Graph,
        operations: Operations,
        layer: Layer,
        runs: Mapping[Axis, Run],
        maps: Mapping[str, Value],
        marks: Mapping[str, object],
    ) -> None:
        self.writer = writer
        self.graph = graph
        self.operations = operations
        self.layer = layer
        self.runs = runs
        self.maps = maps
        self._marks = dict(marks)
        self._values: dict[str, Value] = {}
        self._sources = {source.tensor: source for source in reversed(layer.sources)}

    def result(self) -> Value:
        """What the tile computes of the layer's output."""
        found = self.value(self.layer.output)
        if found.shape != self.out_shape:
            found = self.writer.reshape(found, self.out_shape)
        return found

    @property
    def out(self) -> Tensor:
        """The layer's output."""
        return self.graph.tensors[self.layer.output]

    @property
    def out_shape(self) -> Shape:
        """The shape of what the tile computes."""
        fresh = {axis: run.tile.fresh[self.layer.output].size for axis, run in self.runs.items()}
        return along_axes(self.out, fresh.__getitem__, int)

    def out_offset(self, axis: Axis) -> Offset:
        """Where along an axis lies what the tile computes."""
        return self.runs[axis].place(lambda tile: tile.fresh[self.layer.output].lo)

    def marks(self) -> Mapping[str, object]:
        """Attributes for the next operation: all of them for the layer's first one, its name for others."""
        marks, self._marks = self._marks, {"dfc.layer": self.layer.name}
        return marks

    def fail(self, message: str, hint: str = "") -> NoReturn:
        """The layer cannot be written: MLIR001 with its name."""
        fail("MLIR001", message, place=f"layer '{self.layer.name}'", hint=hint or "leave --emit mlir out")

    # values

    def value(self, name: str) -> Value:
        """A tensor of the model, on this tile."""
        if name not in self._values:
            self._values[name] = self._find(name)
        return self._values[name]

    def _find(self, name: str) -> Value:
        if name in self._sources:
            padded = self.window(name)
            if padded[1] is not None:
                self.fail(f"'{name}' is read with padding by an operator that has none")
            return padded[0]
        known = self.operations.constant(name)
        if known is not None:
            return self.writer.constant(known, name)
        operation = self.operations.producer(name)
        if operation is None:
            self.fail(f"the model has no tensor '{name}'", hint="this operator was taken apart when it was imported")
        if operation.op_type in SAME:
            return self.value(operation.inputs[0])
        handler = HANDLERS.get(operation.op_type) if not operation.domain else None
        if handler is None:
            self.fail(f"operator {operation.op_type} has no form in MLIR yet")
        return handler(self, operation)

    def constant(self, operation: Operation, index: int) -> Array | None:
        """The numbers of an input of an operation; None where it is left out. Fails where they are computed."""
        if index >= len(operation.inputs) or not operation.inputs[index]:
            return None
        found = self.operations.constant(operation.inputs[index])
        if found is None:
            self.fail(f"input {index} of {operation.op_type} is computed")
        return found

    def needed(self, operation: Operation, index: int) -> Array:
        """The numbers of an input that must be there."""
        found = self.constant(operation, index)
        return found if found is not None else self.fail(f"input {index} of {operation.op_type} is missing")

    # windows

    def source(self, name: str) -> Source:
        """The source behind a tensor that the layer's window reads, through pads and slices that it has taken over."""
        while name not in self._sources:
            operation = self.operations.producer(name)
            if operation is None or operation.op_type not in _TAKEN_OVER:
                self.fail(f"'{name}' is not what the layer reads")
            name = operation.inputs[0]
        return self._sources[name]

    def read(self, source: Source, axis: Axis) -> Read:
        """The window of a source along an axis."""
        extent = self.graph.tensors[source.tensor].spatial[axis]
        return window(self.runs[axis].tile, self.layer, source, axis, extent)

    def window(self, name: str) -> tuple[Value, tuple[Shape, Shape] | None]:
        """What the layer reads of a source, without padding, and (elements before, after) it where there is some."""
        source = self.source(name)
        tensor = self.graph.tensors[source.tensor]
        reads = {axis: self.read(source, axis) for axis in Axis}
        sizes = along_axes(tensor, lambda axis: reads[axis].size, int)
        starts = {axis: reads[axis].first - held(self.runs[axis].tile, source.tensor).lo for axis in Axis}
        offsets = along_axes(tensor, lambda axis: Offset(starts[axis]), lambda _: Offset(0))
        found = self.writer.slice(self.maps[source.tensor], offsets, sizes)
        low = along_axes(tensor, lambda axis: reads[axis].before, lambda _: 0)
        high = along_axes(tensor, lambda axis: reads[axis].after, lambda _: 0)
        return found, (low, high) if any((*low, *high)) else None

    def padded(self, name: str, number: float) -> Value:
        """What the layer's window reads, with a number at places outside of the map."""
        found, around = self.window(name)
        return found if around is None else self.writer.pad(found, *around, number)
