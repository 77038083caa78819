"""The verifier: is a graph what every later stage takes for granted?

Checks come in two stages. The first is about names and form (IR101 to IR109); only a graph that passes it can
be asked whether its layers make sense (IR110 to IR114).

===== ===================================================================================================
code  what is wrong
===== ===================================================================================================
IR101 a tensor that is used is not among ``tensors``, stands there under another name, or has a bad shape
IR102 two layers have one name
IR103 a tensor is written twice, or a network input is written
IR104 a layer reads a tensor that no earlier layer writes
IR105 a network output is never written, or stands twice
IR106 an operand has an impossible role, or its loops are unsorted or do not address it
IR107 loop sizes, strides, dilations or phases are not positive, or counts are negative
IR108 a layer writes nothing, writes several tensors without being opaque, or came from nowhere
IR109 a tensor has a past that is not a part of it, or that no layer by itself makes
IR110 loop sizes and the shape of the output tensor disagree
IR111 an axis map reads nothing of its input, or less than the layer's window
IR112 a constant holds more elements than its loops address
IR113 more multiply-accumulates than iterations
IR114 a loop that reduces (C, FT, FY, FX) addresses no operand
===== ===================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

from dfc.errors import InternalError
from dfc.ir.dims import KERNEL_DIM, N_DIMS, OUTPUT_DIM, Axis, Dim, Kind, Role
from dfc.ir.graph import Graph, Layer, Operand, Source, Tensor

_SHOWN = 8  # problems in one diagnostic


@dataclass(frozen=True, slots=True)
class _Problem:
    code: str
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.code} {self.place}: {self.message}"


_Found = Iterator[_Problem]


def verify(graph: Graph) -> None:
    """Raise :class:`InternalError` (IR101 to IR114, exit code 70) unless the graph is well formed."""
    found = _problems(graph)
    if not found:
        return
    first = found[0]
    rest = [f"also {problem}" for problem in found[1:_SHOWN]]
    if len(found) > _SHOWN:
        rest.append(f"and {len(found) - _SHOWN} more")
    raise InternalError(
        first.code,
        "\n  ".join([f"malformed graph {graph.name!r}: {first.message}", *rest]),
        place=first.place,
        hint="this is a defect of dfc, not of your model; please report it with the output of 'dfc import'",
    )


def problems(graph: Graph) -> list[str]:
    """Every problem that :func:`verify` would raise, one sentence each: code, place, what is wrong."""
    return [str(problem) for problem in _problems(graph)]


def dead_layers(graph: Graph) -> tuple[str, ...]:
    """Names of the layers whose outputs neither a live layer nor the network uses; such layers are legal."""
    wanted = set(graph.outputs)
    dead: list[str] = []
    for layer in reversed(graph.layers):
        if wanted.isdisjoint(layer.outputs):
            dead.append(layer.name)
        else:
            wanted.update(source.tensor for source in layer.sources)
    return tuple(reversed(dead))


def _problems(graph: Graph) -> list[_Problem]:
    found = [problem for check in _FORM_OF_GRAPH for problem in check(graph)]
    found += [problem for layer in graph.layers for check in _FORM_OF_LAYER for problem in check(layer)]
    if not found:
        found = [p for layer in graph.layers for check in _SENSE_OF_LAYER for p in check(graph, layer)]
    return found


def _at(layer: Layer) -> str:
    return f"layer {layer.name!r}"


# -- form: names ---------------------------------------------------------------------------------------------


def _references(graph: Graph) -> Iterator[tuple[str, str]]:
    yield from ((name, "network input") for name in graph.inputs)
    yield from ((name, "network output") for name in graph.outputs)
    for layer in graph.layers:
        yield from ((name, _at(layer)) for name in layer.outputs)
        yield from ((s.tensor, _at(layer)) for operand in layer.inputs for s in operand.sources)


def _check_tensors(graph: Graph) -> _Found:
    for name, place in dict.fromkeys(_references(graph)):
        if name not in graph.tensors:
            yield _Problem("IR101", place, f"tensor {name!r} does not exist")
    for name, tensor in graph.tensors.items():
        if tensor.name != name:
            yield _Problem("IR101", f"tensor {name!r}", f"it calls itself {tensor.name!r}")
        if tensor.bits < 1 or any(extent < 0 for extent in tensor.shape):
            yield _Problem("IR101", f"tensor {name!r}", f"shape {list(tensor.shape)} of {tensor.bits} bits")


def _check_layer_names(graph: Graph) -> _Found:
    seen: set[str] = set()
    for layer in graph.layers:
        if layer.name in seen:
            yield _Problem("IR102", _at(layer), "another layer has this name")
        seen.add(layer.name)


def _check_order(graph: Graph) -> _Found:
    written = set(graph.inputs)
    anywhere = {name for layer in graph.layers for name in layer.outputs}
    for layer in graph.layers:
        for source in layer.sources:
            if source.tensor not in written:
                late = "before it is written" if source.tensor in anywhere else "which nothing writes"
                yield _Problem("IR104", _at(layer), f"reads {source.tensor!r} {late}")
        for name in layer.outputs:
            if name in written:
                what = "a network input" if name in graph.inputs else "already written"
                yield _Problem("IR103", _at(layer), f"writes {name!r}, which is {what}")
            written.add(name)
    for name in graph.outputs:
        if name not in written:
            yield _Problem("IR105", f"network output {name!r}", "nothing writes it")
    for names, what in ((graph.inputs, "input"), (graph.outputs, "output")):
        for name in dict.fromkeys(n for n in names if names.count(n) > 1):
            yield _Problem("IR105", f"network {what} {name!r}", "stands there twice")


def _check_past(graph: Graph) -> _Found:
    made = {*graph.inputs, *(name for layer in graph.layers if not layer.barrier for name in layer.outputs)}
    for name, past in graph.past.items():
        place = f"past of tensor {name!r}"
        if graph.time is None:
            yield _Problem("IR109", place, "the graph has no time axis")
        elif name not in made:
            yield _Problem("IR109", place, "it is neither a network input nor written by a layer that may be tiled")
        elif name in graph.tensors and not 0 < past < graph.tensors[name].spatial[graph.time]:
            size = graph.tensors[name].spatial[graph.time]
            yield _Problem("IR109", place, f"{past} of {size} positions; expected 1 to {size - 1}")


# -- form: one layer -----------------------------------------------------------------------------------------


def _check_vectors(layer: Layer) -> _Found:
    if len(layer.sizes) != N_DIMS or min(layer.sizes) < 1:
        yield _Problem("IR107", _at(layer), f"loop sizes {layer.sizes}; expected {N_DIMS} positive numbers")
    for what in ("strides", "dilations", "phases"):
        vector: tuple[int, ...] = getattr(layer, what)
        if len(vector) != len(Axis) or min(vector) < 1:
            yield _Problem("IR107", _at(layer), f"{what} {vector}; expected {len(Axis)} positive numbers")
    if layer.macs < 0 or layer.weight_elements < 0:
        yield _Problem("IR107", _at(layer), f"{layer.macs} macs, {layer.weight_elements} weight elements")


def _check_operands(layer: Layer) -> _Found:
    roles = [operand.role for operand in layer.inputs]
    if roles.count(Role.W) > 1:
        yield _Problem("IR106", _at(layer), "two operands have role W; at most one may")
    if Role.O in roles:
        yield _Problem("IR106", _at(layer), "an input has role O")
    for number, operand in enumerate(layer.inputs):
        for complaint in _operand_complaints(layer, operand):
            yield _Problem("IR106", _at(layer), f"operand {number} ({operand.role}) {complaint}")


def _operand_complaints(layer: Layer, operand: Operand) -> Iterator[str]:
    if list(operand.dims) != sorted(set(operand.dims)):
        yield f"has loops {_dim_names(operand.dims)}, unsorted or repeated"
    if not operand.constant and not operand.sources:
        yield "reads no tensor"
    if any(len(source.maps) != len(Axis) for source in operand.sources):
        yield f"has a source without {len(Axis)} axis maps"
    if operand.role is Role.I and layer.kind in _NESTS and {Dim.C, Dim.K} <= set(operand.dims):
        yield f"depends on input and output channels of a {layer.kind} layer, as only weights do"


#: kinds whose input is addressed exactly as in Dim's docstring
_NESTS = (Kind.CONV, Kind.DEPTHWISE, Kind.POOL, Kind.DENSE)


def _dim_names(dims: tuple[Dim, ...]) -> str:
    return " ".join(Dim(dim).name for dim in dims) or "none"


def _check_outputs(layer: Layer) -> _Found:
    if not layer.outputs:
        yield _Problem("IR108", _at(layer), "writes nothing")
    if len(layer.outputs) > 1 and layer.kind is not Kind.OPAQUE:
        yield _Problem("IR108", _at(layer), f"a {layer.kind} layer writes {len(layer.outputs)} tensors")
    if not layer.origin:
        yield _Problem("IR108", _at(layer), "has no origin in the model")


# -- sense ---------------------------------------------------------------------------------------------------


def _check_extents(graph: Graph, layer: Layer) -> _Found:
    """IR110. A matrix product may have its rows on OX, so only the number of its outputs is compared."""
    if not _is_nest(layer):
        return
    tensor = graph.tensors[layer.output]
    loops = layer.sizes
    outputs = prod(loops[dim] for dim in (Dim.B, Dim.G, Dim.K, *OUTPUT_DIM))
    if layer.kind is Kind.DENSE:
        made = graph.made_elements(layer.output)
        if outputs != made:
            yield _Problem("IR110", _at(layer), f"{outputs} outputs for the {made} of {_shown(tensor)}")
        return
    if loops[Dim.B] != tensor.batch:
        yield _Problem("IR110", _at(layer), f"B is {loops[Dim.B]} for {_shown(tensor)}")
    channels, phases = loops[Dim.G] * loops[Dim.K], prod(layer.phases)
    if channels != tensor.channels * phases:
        shared = f" over {phases} phases" if phases > 1 else ""
        yield _Problem("IR110", _at(layer), f"G*K is {channels}{shared} for {_shown(tensor)}")
    for axis in Axis:
        dim, extent, phase = OUTPUT_DIM[axis], graph.made(layer.output)[axis], layer.phases[axis]
        if loops[dim] != -(-extent // phase):
            yield _Problem("IR110", _at(layer), f"{dim.name} is {loops[dim]}, phase {phase}, for {_shown(tensor)}")


def _is_nest(layer: Layer) -> bool:
    """Whether its sizes say how its output is computed; views, opaque layers and barriers need not."""
    return layer.kind not in (Kind.VIEW, Kind.OPAQUE) and not layer.barrier


def _shown(tensor: Tensor) -> str:
    return f"{tensor.name!r} {list(tensor.shape)}"


def _check_maps(graph: Graph, layer: Layer) -> _Found:
    for operand in layer.inputs:
        for source in () if operand.constant else operand.sources:
            for axis in Axis:
                complaint = _map_complaint(graph, layer, operand, source, axis)
                if complaint:
                    where = f"along {axis.name.lower()}, {source.tensor!r}"
                    yield _Problem("IR111", _at(layer), f"{where}: {complaint}")


def _map_complaint(graph: Graph, layer: Layer, operand: Operand, source: Source, axis: Axis) -> str:
    axis_map = source.maps[axis]
    size = graph.tensors[source.tensor].spatial[axis]
    made = graph.made_along(layer.output, axis)
    needed = axis_map.needs(made, size)
    if needed.size == 0 and min(size, made.size) > 0 and layer.op != "pad":
        return f"the {made.size} outputs read none of its {size} positions"
    kernel, _, dilation = layer.window(axis)
    windowed = operand.role is Role.I and {OUTPUT_DIM[axis], KERNEL_DIM[axis]} <= set(operand.dims)
    plain = layer.phases[axis] == 1 and axis_map.den == 1 and not axis_map.is_full
    if layer.kind in (Kind.CONV, Kind.DEPTHWISE) and windowed and plain:
        reach = axis_map.hi - axis_map.lo
        if reach < dilation * (kernel - 1):
            return f"the map reaches over {reach + 1} positions, the kernel over {dilation * (kernel - 1) + 1}"
    return ""


def _check_constants(graph: Graph, layer: Layer) -> _Found:
    if not _is_nest(layer):
        return
    for operand in layer.inputs:
        addressed = prod(layer.sizes[dim] for dim in operand.dims)
        for source in operand.sources if operand.constant else ():
            tensor = graph.tensors[source.tensor]
            if tensor.elements > addressed:
                loops = f"{_dim_names(operand.dims)} address {addressed}"
                yield _Problem("IR112", _at(layer), f"constant {_shown(tensor)} has more elements than {loops}")


def _check_macs(graph: Graph, layer: Layer) -> _Found:
    del graph  # every check of this stage has one signature
    # A transposed convolution's macs include the products that its pads crop away; its nest leaves them out.
    if layer.macs > layer.operations and prod(layer.phases) == 1 and layer.op != "conv_transpose":
        yield _Problem("IR113", _at(layer), f"{layer.macs} macs in {layer.operations} iterations")


def _check_reductions(graph: Graph, layer: Layer) -> _Found:
    del graph
    addressed = {dim for operand in layer.inputs for dim in operand.dims}
    for dim in (Dim.C, *KERNEL_DIM):
        if _is_nest(layer) and layer.sizes[dim] > 1 and dim not in addressed:
            yield _Problem("IR114", _at(layer), f"{dim.name} is {layer.sizes[dim]}, but no operand depends on it")


_FORM_OF_GRAPH: tuple[Callable[[Graph], _Found], ...] = (
    _check_tensors,
    _check_layer_names,
    _check_order,
    _check_past,
)
_FORM_OF_LAYER: tuple[Callable[[Layer], _Found], ...] = (_check_vectors, _check_operands, _check_outputs)
_SENSE_OF_LAYER: tuple[Callable[[Graph, Layer], _Found], ...] = (
    _check_extents,
    _check_maps,
    _check_constants,
    _check_macs,
    _check_reductions,
)
