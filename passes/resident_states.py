"""The states of a streaming step as ring buffers: from inputs and outputs of the step to pasts of its tensors.

A step as it is written in ONNX joins what it kept of a tensor with what it makes of it, reads from that, and cuts off
what the next step gets. On a chip nothing is joined or cut: the past lies where it was written, and the step writes
what is new beside it. So the tensor that the join made becomes the one that its layer (or the network's caller) writes:

1. The join of a state and new positions goes; its result gets the state's length as its past. What makes the new
   positions makes those of the result, and who read them alone reads them there.
2. The cut for the next step goes.
3. A network output that is the result, or a cut from it that ends with its newest position, hands out the new
   positions alone: earlier steps handed out the others. So do several such cuts that lie one after the other, those of
   the windows that end in the step, also where together they are all of a tensor without a past.
4. Cuts at every n-th position along time are read in place (:mod:`dfc.passes.fold_slices` does so for n = 1).

A state stays an input and an output where that is not possible: where its tensor has time on another axis than most, or
its new positions are made by a layer that cannot be tiled, or read with padding along time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dfc.ir import KERNEL_DIM, OUTPUT_DIM, Axis, AxisMap, Graph, Interval, Kind, Layer, Role, Source
from dfc.passes.rewrite import map_sources, with_layers

_STANDING = (Kind.OPAQUE, Kind.VIEW)


def resident_states(graph: Graph, states: Sequence[tuple[str, str]], time: Axis | None = None) -> Graph:
    """The step with pasts; ``states`` are the network input and output of each state.

    ``time`` is the axis of the pasts: by default the one that most states have.
    """
    joins = [join for state in states if (join := _join_of(graph, *state)) is not None]
    if time is None:
        axes = Counter(join.axis for join in joins)
        time = max(axes, key=lambda axis: (axes[axis], -axis)) if axes else None
    joins = [join for join in joins if join.axis is time and _can_stay(graph, join)]
    if time is None or not joins:
        return graph
    return _new_outputs(read_in_place(_without_joins(graph, joins, time), time), time)


@dataclass(frozen=True, slots=True)
class _Join:
    """A state with what is around it: ``new`` positions are joined to its ``past`` ones as ``kept``."""

    read: str
    write: str
    layer: Layer
    cut: Layer
    axis: Axis
    past: int
    new: str

    @property
    def kept(self) -> str:
        return self.layer.output


def _join_of(graph: Graph, read: str, write: str) -> _Join | None:
    """The join and the cut of a state, if they are as the transform writes them."""
    users = [graph.layers[i] for i in graph.consumers[read]]
    at = graph.producer.get(write)
    if len(users) != 1 or at is None or graph.consumers[write]:
        return None
    layer, cut = users[0], graph.layers[at]
    parts = layer.sources
    if layer.op != "concat" or layer.fused or len(parts) != 2 or parts[0].tensor != read or parts[1].tensor == read:
        return None
    if [s.tensor for s in cut.sources] != [layer.output] or cut.op != "slice" or cut.fused:
        return None
    old, whole = graph.tensors[read].spatial, graph.tensors[layer.output].spatial
    for axis in Axis:
        if old[axis] < whole[axis] and parts[1].maps[axis] == AxisMap(lo=-old[axis], hi=-old[axis]):
            return _Join(read, write, layer, cut, axis, old[axis], parts[1].tensor)
    return None


def _can_stay(graph: Graph, join: _Join) -> bool:
    """Whether the new positions can be made and read where the past lies."""
    at = graph.producer.get(join.new)
    if at is not None:
        maker = graph.layers[at]
        if maker.barrier or maker.kind in _STANDING or maker.phases[join.axis] != 1:
            return False
    extent = graph.tensors[join.new].spatial[join.axis]
    for i in graph.consumers[join.new]:
        reader = graph.layers[i]
        made = Interval(0, graph.tensors[reader.output].spatial[join.axis])
        for source in reader.sources:
            if source.tensor != join.new or reader is join.layer:
                continue
            m = source.maps[join.axis]
            if reader.barrier or reader.kind in _STANDING or m.padding_before(made) or m.padding_after(made, extent):
                return False
    return True


def _without_joins(graph: Graph, joins: Sequence[_Join], time: Axis) -> Graph:
    """Joins and cuts are gone; tensors have pasts instead."""
    by_new = {join.new: join for join in joins}
    gone = {id(layer) for join in joins for layer in (join.layer, join.cut)}
    layers: list[Layer] = []
    for layer in graph.layers:
        if id(layer) in gone:
            continue
        layer = map_sources(layer, lambda source: _moved(source, by_new, time))
        join = by_new.get(layer.output)
        if join is not None:
            layer = replace(_later(layer, time, join.past), outputs=(join.kept,))
        layers.append(layer)
    reads, writes = {join.read for join in joins}, {join.write for join in joins}
    renamed = {join.new: join.kept for join in joins}
    inputs = tuple(renamed.get(name, name) for name in graph.inputs if name not in reads)
    outputs = tuple(renamed.get(name, name) for name in graph.outputs if name not in writes)
    past = {**graph.past, **{join.kept: join.past for join in joins}}
    changed = replace(graph, inputs=inputs, outputs=tuple(dict.fromkeys(outputs)), time=time, past=past)
    return with_layers(changed, layers)


def _moved(source: Source, by_new: Mapping[str, _Join], time: Axis) -> Source:
    """What is read of new positions, read where they lie behind the past."""
    join = by_new.get(source.tensor)
    if join is None:
        return source
    maps = list(source.maps)
    m = maps[time]
    maps[time] = replace(m, lo=m.lo + m.den * join.past, hi=m.hi + m.den * join.past)
    return Source(join.kept, (maps[0], maps[1], maps[2]))


def _later(layer: Layer, time: Axis, past: int) -> Layer:
    """The layer whose first output position has another number: ``past`` ones come before it."""

    def shifted(source: Source) -> Source:
        maps = list(source.maps)
        m = maps[time]
        maps[time] = replace(m, lo=m.lo - m.num * past, hi=m.hi - m.num * past)
        return Source(source.tensor, (maps[0], maps[1], maps[2]))

    return map_sources(layer, shifted)


def _new_outputs(graph: Graph, time: Axis) -> Graph:
    """Network outputs that are cuts from tensors with pasts become these tensors."""
    found: dict[str, str] = {}
    for name in graph.outputs:
        at = graph.producer.get(name)
        if at is None or graph.consumers[name]:
            continue
        layer = graph.layers[at]
        if not _is_cut(graph, layer, time) and not _are_windows(graph, layer, time):
            continue
        last = graph.tensors[name].spatial[time] - 1
        kept = layer.sources[0].tensor
        newest = max(source.maps[time].num * last + source.maps[time].hi for source in layer.sources)
        whole = graph.tensors[kept].spatial[time]
        if newest == whole - 1 and (kept in graph.past or _covers(layer, time, last + 1, whole)):
            found[name] = kept
    outputs = dict.fromkeys(found.get(name, name) for name in graph.outputs)
    layers = [layer for layer in graph.layers if layer.output not in found]
    return with_layers(replace(graph, outputs=tuple(outputs)), layers)


# -- cuts at every n-th position


def read_in_place(graph: Graph, axis: Axis) -> Graph:
    """Let the readers of cuts along an axis read the whole tensor, all of a cut's readers or none."""
    while True:
        cuts = {layer.output: layer for layer in graph.layers if _is_cut(graph, layer, axis)}
        cuts = {name: cut for name, cut in cuts.items() if _all_can(graph, name, axis)}
        first = next(iter(cuts.values()), None)
        if first is None:
            return graph
        layers = [_through(layer, first, axis) for layer in graph.layers if layer is not first]
        graph = with_layers(graph, layers)


def _is_cut(graph: Graph, layer: Layer, axis: Axis) -> bool:
    """Whether a layer takes every n-th position along the axis, of all of its input otherwise."""
    return _are_cuts(graph, layer, axis, "slice") and len(layer.sources) == 1


def _are_windows(graph: Graph, layer: Layer, axis: Axis) -> bool:
    """Whether a layer puts cuts of one tensor along the axis one after the other, along the batch."""
    return _are_cuts(graph, layer, axis, "concat") and len({source.tensor for source in layer.sources}) == 1


def _are_cuts(graph: Graph, layer: Layer, axis: Axis, op: str) -> bool:
    """Whether a layer does nothing else but take every n-th position of its sources along the axis."""
    if layer.kind is not Kind.MOVE or layer.op != op or layer.barrier or layer.fused or layer.output in graph.past:
        return False
    made, wholes = graph.tensors[layer.output], [graph.tensors[source.tensor] for source in layer.sources]
    if (made.batch, {made.channels}) != (sum(w.batch for w in wholes), {w.channels for w in wholes}):
        return False
    others = [a for a in Axis if a is not axis]
    return all(
        all(source.maps[a].is_identity and whole.spatial[a] == made.spatial[a] for a in others)
        and (source.maps[axis].den, source.maps[axis].lo) == (1, source.maps[axis].hi)
        and source.maps[axis].num >= 1
        for source, whole in zip(layer.sources, wholes, strict=True)
    )


def _covers(layer: Layer, axis: Axis, length: int, whole: int) -> bool:
    """Whether cuts of so many positions hold every position of a tensor once, and lie in its order."""
    maps = [source.maps[axis] for source in layer.sources]
    return [m.num * at + m.lo for m in maps for at in range(length)] == list(range(whole))


def _all_can(graph: Graph, tensor: str, axis: Axis) -> bool:
    readers = [graph.layers[i] for i in graph.consumers[tensor]]
    return bool(readers) and tensor not in graph.outputs and all(_can(graph, r, tensor, axis) for r in readers)


def _can(graph: Graph, reader: Layer, tensor: str, axis: Axis) -> bool:
    """Whether a reader stays within the cut, and its loop nest can take longer strides."""
    if reader.barrier or reader.kind in _STANDING or reader.phases[axis] != 1:
        return False
    made, extent = graph.made_along(reader.output, axis), graph.tensors[tensor].spatial[axis]
    step = graph.layers[graph.producer[tensor]].sources[0].maps[axis].num
    sources = [s for s in reader.sources if s.tensor == tensor]
    if step > 1 and _slides(reader, axis) and len(reader.sources) > 1:
        return False
    return all(
        s.maps[axis].den == 1
        and not s.maps[axis].is_full
        and not s.maps[axis].padding_before(made)
        and not s.maps[axis].padding_after(made, extent)
        for s in sources
    )


def _slides(layer: Layer, axis: Axis) -> bool:
    """Whether the layer's input is addressed by a window along the axis."""
    dims = {OUTPUT_DIM[axis], KERNEL_DIM[axis]}
    return any(o.role is Role.I and dims <= set(o.dims) for o in layer.inputs)


def _through(layer: Layer, cut: Layer, axis: Axis) -> Layer:
    if not any(source.tensor == cut.output for source in layer.sources):
        return layer
    step = cut.sources[0].maps[axis]

    def direct(source: Source) -> Source:
        if source.tensor != cut.output:
            return source
        maps = list(source.maps)
        found = maps[axis].then(step)
        assert found is not None  # the reader's map does not divide
        maps[axis] = found
        return Source(cut.sources[0].tensor, (maps[0], maps[1], maps[2]))

    layer = map_sources(layer, direct)
    if _slides(layer, axis):
        layer = replace(
            layer, strides=_times(layer.strides, axis, step.num), dilations=_times(layer.dilations, axis, step.num)
        )
    return replace(layer, origin=layer.origin + cut.origin)


def _times(triple: Iterable[int], axis: Axis, factor: int) -> tuple[int, int, int]:
    t, y, x = (n * factor if a is axis else n for a, n in zip(Axis, triple, strict=True))
    return t, y, x
