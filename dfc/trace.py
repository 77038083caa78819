"""A schedule's timeline as a trace for Perfetto or Chrome (the Trace Event Format), and its stacks as a dot graph.

One cycle is one tick of the trace's clock (shown as a microsecond). Rows of the trace: stacks, tiles, layers, what the
array does meanwhile (fills memories, computes, waits for ports), and a row for each pair of memories between which maps
are copied. How long copying takes is known for all copies of a layer together: they share its time by their bits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby

from dfc.backend_cost.cost_model import model_by_name
from dfc.backend_cost.mapping_cost import price_mapping
from dfc.backend_cost.rebuild import rebuild_tile
from dfc.backend_cost.schedule import CopyEntry, Schedule, StackEntry, TileLayer
from dfc.hwdsl import parse_arch
from dfc.ir import Graph

#: stacks of more tiles than this are shown by runs of equal tiles, one of each with a count
MOST_TILES = 256
_STACKS, _TILES, _LAYERS, _ARRAY = 1, 2, 3, 4
_FIRST_COPY = 10


def render_trace(schedule: Schedule) -> str:
    """The trace as JSON text."""
    return json.dumps(_Trace(schedule).document(), separators=(",", ":")) + "\n"


class _Trace:
    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.arch = parse_arch(schedule.hw.page, "schedule (hw.page)")
        self.model = model_by_name(schedule.cost_model)
        self.events: list[dict[str, object]] = []
        self.now = 0
        self.copies: dict[tuple[str, str], int] = {}
        self.splits: dict[tuple[int, int, int], tuple[int, int, int]] = {}

    def document(self) -> dict[str, object]:
        """The whole trace."""
        for number, stack in enumerate(self.schedule.stacks):
            start = self.now
            for tile_class, count in _walk(stack):
                self.tile(number, stack, tile_class, count)
            args = {"tile": list(stack.tile), "overlap": stack.overlap, "energy_pj": stack.energy_pj}
            self.event(_STACKS, f"stack {number}", start, self.now - start, {**args, "layers": list(stack.layers)})
        rows = {_STACKS: "stacks", _TILES: "tiles", _LAYERS: "layers", _ARRAY: "array"}
        rows |= {row: f"copies {a} to {b}" for (a, b), row in self.copies.items()}
        named: list[dict[str, object]] = [
            {"ph": "M", "name": "thread_name", "pid": 1, "tid": row, "args": {"name": title}}
            for row, title in rows.items()
        ]
        about = {
            "model": self.schedule.model.name,
            "hw": self.schedule.hw.name,
            "clock_hz": self.schedule.hw.clock_hz,
            "latency_cycles": self.schedule.totals.latency_cycles,
            "unit": "1 us of the trace is 1 cycle",
        }
        return {"traceEvents": [*named, *self.events], "displayTimeUnit": "ns", "otherData": about}

    def event(self, row: int, name: str, start: int, cycles: int, args: dict[str, object] | None = None) -> None:
        """Something that takes some cycles; nothing is shown of what takes none."""
        if cycles:
            found: dict[str, object] = {"ph": "X", "name": name, "pid": 1, "tid": row, "ts": start, "dur": cycles}
            self.events.append({**found, "args": args} if args else found)

    def tile(self, number: int, stack: StackEntry, tile_class: int, count: int) -> None:
        """One tile, or ``count`` equal ones of which the first is shown layer by layer."""
        found = stack.tile_classes[tile_class]
        start = self.now
        for index, layer in enumerate(found.layers):
            self.layer(number, tile_class, index, layer)
        cycles = count * found.latency_cycles
        name = f"class {tile_class}" if count == 1 else f"{count} tiles of class {tile_class}"
        args: dict[str, object] = {"count": count, "cycles_each": found.latency_cycles, "energy_pj": found.energy_pj}
        self.event(_TILES, name, start, cycles, args)
        self.now = start + cycles

    def layer(self, number: int, tile_class: int, index: int, layer: TileLayer) -> None:
        """One layer of a tile: copies before it, filling, computing, waiting, copies after it."""
        start = self.now
        args: dict[str, object] = {"extents": list(layer.extents), "energy_pj": layer.energy_pj}
        self.event(_LAYERS, layer.layer, start, layer.latency_cycles, {**args, "memories": layer.memories})
        bits = sum(copy.bits for copy in layer.copies)
        before = [copy for copy in layer.copies if not copy.after]
        at = self.copied(before, layer.copy_cycles, bits, start)
        key = number, tile_class, index
        if key not in self.splits:
            self.splits[key] = self.split(layer)
        for name, cycles in zip(("fill", "compute", "stall"), self.splits[key], strict=True):
            self.event(_ARRAY, name, at, cycles)
            at += cycles
        self.copied([copy for copy in layer.copies if copy.after], layer.copy_cycles, bits, at)
        self.now = start + layer.latency_cycles

    def split(self, layer: TileLayer) -> tuple[int, int, int]:
        """(filling, computing, waiting) of a layer's nest, priced again; a layer that is not modelled only computes."""
        rest = layer.latency_cycles - layer.copy_cycles
        if layer.nest is None:
            return 0, rest, 0
        problem = rebuild_tile(layer, self.arch, self.model, layer.layer, "schedule")
        cost = price_mapping(problem.nest, problem.arch, problem.mapping, problem.model)
        return cost.filling_cycles, cost.ideal_cycles, rest - cost.filling_cycles - cost.ideal_cycles

    def copied(self, copies: list[CopyEntry], cycles: int, bits: int, start: int) -> int:
        """Copies one after the other, with their share of the cycles; returns when the last is done."""
        done = 0
        for copy in copies:
            first = cycles * done // max(1, bits)
            done += copy.bits
            last = cycles * done // max(1, bits)
            row = self.copies.setdefault((copy.source, copy.target), _FIRST_COPY + len(self.copies))
            args: dict[str, object] = {"what": copy.what, "bits": copy.bits}
            self.event(row, copy.tensor, start + first, last - first, args)
        return start + cycles * done // max(1, bits)


def _walk(stack: StackEntry) -> Iterator[tuple[int, int]]:
    """(tile class, how many tiles of it follow each other) in the order in which the tiles run."""
    numbers = {one.kinds: number for number, one in enumerate(stack.tile_classes)}
    columns, rows = [one.kind for one in stack.columns], [one.kind for one in stack.rows]
    if stack.order == "rows":
        kinds = [(column, row) for row in rows for column in columns]
    else:
        kinds = [(column, row) for column in columns for row in rows]
    first = next((number for number, one in enumerate(stack.tile_classes) if one.first), 0)
    order = [first, *(numbers[kind] for kind in kinds[1:])]
    if stack.tiles <= MOST_TILES:
        yield from ((number, 1) for number in order)
    else:
        yield from ((number, len(list(run))) for number, run in groupby(order))


def render_dot(schedule: Schedule, graph: Graph) -> str:
    """The network as a graph for Graphviz: layers as nodes, maps as edges, stacks as clusters."""
    lines = ["digraph schedule {", "  rankdir=TB;", "  node [shape=box];"]
    for number, stack in enumerate(schedule.stacks):
        title = f"stack {number}: tile {stack.tile[0]}x{stack.tile[1]}, {stack.overlap}, {stack.tiles:,} tiles"
        lines += [f"  subgraph cluster_{number} {{", f"    label={json.dumps(title)};"]
        for name in stack.layers:
            layer = graph.layers[graph.index[name]]
            what = "+".join((layer.op, *layer.fused))
            lines.append(f"    {json.dumps(name)} [label={json.dumps(name)[:-1]}\\n{json.dumps(what)[1:]}];")
        lines.append("  }")
    for tensor in graph.inputs:
        lines.append(f"  {json.dumps('input ' + tensor)} [shape=ellipse, label={json.dumps(tensor)}];")
    for layer in graph.layers:
        for source in dict.fromkeys(source.tensor for source in layer.sources):
            maker = graph.producer.get(source)
            origin = f"input {source}" if maker is None else graph.layers[maker].name
            shape = "x".join(map(str, graph.tensors[source].shape))
            lines.append(f'  {json.dumps(origin)} -> {json.dumps(layer.name)} [label="{shape}"];')
    for tensor in graph.outputs:
        lines.append(f"  {json.dumps('output ' + tensor)} [shape=ellipse, label={json.dumps(tensor)}];")
        lines.append(f"  {json.dumps(graph.layers[graph.producer[tensor]].name)} -> {json.dumps('output ' + tensor)};")
    return "\n".join([*lines, "}"]) + "\n"
