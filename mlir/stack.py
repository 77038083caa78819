"""One stack: loops over its tiles, and the layers of a tile inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from dfc.backend_cost.schedule import Schedule, StackEntry, TileClassEntry, TileLayer
from dfc.frontend import Operations
from dfc.ir import Axis, Graph, Interval
from dfc.mlir.caches import Caches, TileMaps
from dfc.mlir.layer import LayerCode, along_axes
from dfc.mlir.runs import Run, Span, place, runs
from dfc.mlir.writer import Offset, Value, Writer, attribute
from dfc.passes.stacks import Stack
from dfc.passes.tiles import Order


@dataclass(slots=True)
class _State:
    """What the loops of a stack carry: its outputs as far as they are done, and the caches."""

    outputs: dict[str, Value]
    caches: Caches

    def values(self, *, inner: bool) -> list[Value]:
        """Everything that a loop carries: the inner one also what waits along the walk."""
        along = list(self.caches.along.values()) if inner else []
        return [*self.outputs.values(), *self.caches.after.values(), *along]

    def renamed(self, values: Sequence[Value], *, inner: bool) -> _State:
        """The same state in other values, in the order of :meth:`values`."""
        rest = iter(values)
        outputs = {name: next(rest) for name in self.outputs}
        after = {name: next(rest) for name in self.caches.after}
        along = {name: next(rest) for name in self.caches.along} if inner else dict(self.caches.along)
        return _State(outputs, Caches(along, dict(self.caches.before), after))


class StackCode:
    """Writes one stack of a schedule."""

    def __init__(
        self,
        writer: Writer,
        graph: Graph,
        operations: Operations,
        schedule: Schedule,
        number: int,
        stack: Stack,
    ) -> None:
        self.writer = writer
        self.graph = graph
        self.operations = operations
        self.schedule = schedule
        self.number = number
        self.stack = stack
        self.entry: StackEntry = schedule.stacks[number]
        self.walk = Order(self.entry.order).axes
        self.runs: dict[Axis, list[Run]] = {}
        for axis in Axis:
            tiles = place(graph, stack, axis, self._spans(axis))
            self.runs[axis] = runs(graph, stack, axis, tiles, f"%{axis.name.lower()}{number}")
        self._class_numbers = {one.kinds: i for i, one in enumerate(self.entry.tile_classes)}
        self.names = [*stack.inputs, *dict.fromkeys(t for i in stack.layers for t in graph.layers[i].outputs)]

    def _spans(self, axis: Axis) -> list[Span]:
        """What the tiles make along an axis; along T there is one tile, which makes everything."""
        if axis is Axis.T:
            names = [*self.stack.inputs, *(t for i in self.stack.layers for t in self.graph.layers[i].outputs)]
            whole = {name: Interval(0, self.graph.tensors[name].spatial[axis]) for name in names}
            return [Span(whole, {name: whole[name] for name in self.stack.outputs}, 0)]
        entries = self.entry.columns if axis is Axis.X else self.entry.rows
        return [
            Span(
                {name: Interval(made[0], made[1]) for name, made in one.makes.items()},
                {name: Interval(*one.makes[name][3:]) for name in self.stack.outputs},
                one.kind,
            )
            for one in entries
        ]

    # loops

    def write(self, tensors: Mapping[str, Value]) -> dict[str, Value]:
        """Write the stack; returns its outputs. ``tensors`` are all maps that exist before it."""
        across = self.walk[1]
        outputs = {name: self._output(name) for name in self.stack.outputs}
        rows = {name: self._lines(name, across) for name in self.names if self._waits(name, across)}
        state = _State(outputs, Caches({}, {}, rows))
        for row in self.runs[across]:
            state = self._loop(row, state, partial(self._row, row, tensors), inner=False)
        return state.outputs

    def _row(self, row: Run, tensors: Mapping[str, Value], state: _State) -> _State:
        """The tiles of one row, from the first to the last."""
        along, _ = self.walk
        size = {name: row.tile.fresh[name].size for name in self.names}
        waiting = [name for name in self.names if size[name] and self._waits(name, along)]
        columns = {name: self._columns(name, along, size[name]) for name in waiting}
        state = _State(state.outputs, Caches(columns, dict(state.caches.after), dict(state.caches.after)))
        for run in self.runs[along]:
            runs_of = {self.walk[0]: run, self.walk[1]: row, Axis.T: self.runs[Axis.T][0]}
            state = self._loop(run, state, partial(self._tile, runs_of, tensors), inner=True)
        return state

    def _loop(self, run: Run, state: _State, body: Callable[[_State], _State], *, inner: bool) -> _State:
        """The body once, or in a loop that carries the state."""
        if not run.loop:
            return body(state)
        writer = self.writer
        carried = state.values(inner=inner)
        inside = [Value(writer.fresh("t"), v.shape, v.elem) for v in carried]
        results = [Value(writer.fresh("r"), v.shape, v.elem) for v in carried]
        pairs = ", ".join(f"{a.name} = {b.name}" for a, b in zip(inside, carried, strict=True))
        zero, end, one = (writer.index(i) for i in (0, len(run.tiles), 1))
        types = ", ".join(v.type for v in carried)
        writer.line(
            f"{', '.join(v.name for v in results)} = scf.for {run.loop} = {zero} to {end} step {one} "
            f"iter_args({pairs}) -> ({types}) {{"
        )
        with writer.block():
            left = body(state.renamed(inside, inner=inner)).values(inner=inner)
            writer.line(f"scf.yield {', '.join(v.name for v in left)} : {types}")
        writer.line(f"}} {attribute(self._loop_marks(run, inner=inner))}")
        return state.renamed(results, inner=inner)

    # one tile

    def _tile(self, runs_of: Mapping[Axis, Run], tensors: Mapping[str, Value], state: _State) -> _State:
        writer = self.writer
        caches = state.caches
        here = Caches(dict(caches.along), caches.before, dict(caches.after))
        maps = TileMaps(writer, self.graph, runs_of, self.walk, here)
        entry = self._entry(runs_of)
        for name in self.stack.inputs:
            maps.add(name, self._fetched(name, runs_of, tensors[name]))
        fresh: dict[str, Value] = {}
        for index in self.stack.layers:
            layer = self.graph.layers[index]
            if all(run.tile.fresh[layer.output].size for run in runs_of.values()):
                marks = self._layer_marks(layer.name, entry)
                code = LayerCode(writer, self.graph, self.operations, layer, runs_of, maps.maps, marks)
                fresh[layer.output] = code.result()
            maps.add(layer.output, fresh.get(layer.output))
        maps.keep(self.names)
        outputs = {
            name: self._hand_out(name, runs_of, fresh[name], into) if name in fresh else into
            for name, into in state.outputs.items()
        }
        return _State(outputs, here)

    def _fetched(self, name: str, runs_of: Mapping[Axis, Run], whole: Value) -> Value | None:
        """What the tile fetches of a map that comes from outside of the stack."""
        tensor = self.graph.tensors[name]
        if not all(run.tile.fresh[name].size for run in runs_of.values()):
            return None
        sizes = along_axes(tensor, lambda axis: runs_of[axis].tile.fresh[name].size, int)
        places = along_axes(
            tensor, lambda axis: runs_of[axis].place(lambda tile: tile.fresh[name].lo), lambda _: Offset(0)
        )
        return self.writer.slice(whole, places, sizes, tensor=name)

    def _hand_out(self, name: str, runs_of: Mapping[Axis, Run], made: Value, into: Value) -> Value:
        """A stack's output with the part that this tile completes."""
        tensor = self.graph.tensors[name]
        sizes = along_axes(tensor, lambda axis: runs_of[axis].tile.own[name].size, int)
        if 0 in sizes:
            return into

        def within(axis: Axis) -> Offset:
            tile = runs_of[axis].tile
            return Offset(tile.own[name].lo - tile.fresh[name].lo)

        part = self.writer.slice(made, along_axes(tensor, within, lambda _: Offset(0)), sizes)
        places = along_axes(
            tensor, lambda axis: runs_of[axis].place(lambda tile: tile.own[name].lo), lambda _: Offset(0)
        )
        return self.writer.insert(part, into, places, tensor=name)

    # buffers

    def _waits(self, name: str, axis: Axis) -> bool:
        return any(run.tile.waiting[name].size for run in self.runs[axis])

    def _most(self, name: str, axis: Axis) -> int:
        return max(run.tile.waiting[name].size for run in self.runs[axis])

    def _output(self, name: str) -> Value:
        tensor = self.graph.tensors[name]
        lies = next((b for b in self.schedule.off_chip if b.name == name), None)
        marks: dict[str, object] = {"dfc.tensor": name}
        if lies is not None:
            marks |= {"dfc.memory": lies.memory, "dfc.address_bits": lies.address_bits, "dfc.bits": lies.bits}
        return self.writer.empty(tensor.shape, marks)

    def _lines(self, name: str, across: Axis) -> Value:
        tensor = self.graph.tensors[name]
        most = self._most(name, across)
        shape = along_axes(tensor, lambda axis: most if axis is across else tensor.spatial[axis], int)
        return self.writer.empty(shape, self._cache_marks(name, across))

    def _columns(self, name: str, along: Axis, lines: int) -> Value:
        tensor = self.graph.tensors[name]
        sizes = {Axis.T: tensor.spatial[Axis.T], self.walk[1]: lines, along: self._most(name, along)}
        return self.writer.empty(along_axes(tensor, sizes.__getitem__, int), self._cache_marks(name, along))

    # attributes

    def _cache_marks(self, name: str, axis: Axis) -> dict[str, object]:
        what = "H cache" if axis is Axis.X else "V cache"
        marks: dict[str, object] = {"dfc.cache": what, "dfc.tensor": name}
        for buffer in self.entry.buffers:
            if (buffer.what, buffer.name) == (what, name):
                marks |= {"dfc.memory": buffer.memory, "dfc.address_bits": buffer.address_bits, "dfc.bits": buffer.bits}
        return marks

    def _loop_marks(self, run: Run, *, inner: bool) -> dict[str, object]:
        entry = self.entry
        which = self.walk[0] if inner else self.walk[1]
        return {
            "dfc.stack": self.number,
            "dfc.axis": which.name,
            "dfc.first_tile": run.first,
            "dfc.tile": list(entry.tile),
            "dfc.overlap": entry.overlap,
        }

    def _entry(self, runs_of: Mapping[Axis, Run]) -> tuple[int, TileClassEntry] | None:
        """The schedule's class of these tiles."""
        number = self._class_numbers.get((runs_of[Axis.X].tiles[-1].kind, runs_of[Axis.Y].tiles[-1].kind))
        if number is None or number >= len(self.entry.tile_classes):
            return None
        return number, self.entry.tile_classes[number]

    def _layer_marks(self, layer: str, entry: tuple[int, TileClassEntry] | None) -> dict[str, object]:
        marks: dict[str, object] = {"dfc.layer": layer}
        run = next((one for one in entry[1].layers if one.layer == layer), None) if entry is not None else None
        if entry is not None and run is not None:
            marks |= {"dfc.tile_class": entry[0], **_mapping_marks(run)}
            places = {
                b.memory: b.address_bits for b in entry[1].buffers if b.what == "map" and b.name in self._writes(layer)
            }
            marks |= {"dfc.address_bits": places} if places else {}
        return marks

    def _writes(self, layer: str) -> tuple[str, ...]:
        return self.graph.layers[self.graph.index[layer]].outputs


def _mapping_marks(run: TileLayer) -> dict[str, object]:
    """Where a layer's operands live, and its loops on the array and in time."""
    marks: dict[str, object] = {"dfc.memory": run.memories, "dfc.loops": list(run.loops)}
    marks["dfc.unrolling"] = list(run.unrolling)
    marks["dfc.cuts"] = {role: list(cuts) for role, cuts in run.cuts.items()}
    return marks
