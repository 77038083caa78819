"""Hypothesis strategies for graphs, and a slow, obvious way to ask which part of an input they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from graph_builder import Builder
from hypothesis import strategies as st

from dfc.ir import EMPTY, Axis, Graph, Interval
from dfc.passes.stacks import cut_after
from dfc.passes.tiles import Mixed, Modes, Overlap

Region = tuple[Interval, Interval, Interval]  # (t, y, x)
Draw = st.DrawFn


@st.composite
def random_cnn(
    draw: Draw, max_steps: int = 8, views: bool = True, head: bool = True, single_output: bool = False, widest: int = 18
) -> Graph:
    """A small network: chains, branches, residuals, concatenations, each axis with its own sizes.

    views: also layers that canonicalise removes (identities, explicit pads, batch norms).
    head:  perhaps a global pool or a flattening with a fully connected layer at the end.
    single_output: only what leads to the last tensor; otherwise every tensor that nothing reads is an output.
    widest: positions of the input along an axis, at most.
    """
    b = Builder("random")
    b.input(draw(st.integers(1, 4)), draw(st.integers(4, widest)), draw(st.integers(4, widest)))
    maps = [b.inputs[0]]  # feature maps so far
    plain, extra = (
        [_conv, _conv, _depthwise, _pool, _eltwise, _join, _up, _crop],
        [_norm, _view, _pad_conv, _through],
    )
    for _ in range(draw(st.integers(1, max_steps))):
        step = draw(st.sampled_from(plain + extra if views else plain))
        x = draw(st.sampled_from([maps[-1], maps[-1], *maps]))
        maps.append(step(draw, b, x, maps))
    if head and draw(st.booleans()):
        _head(draw, b, maps[-1])
    if not single_output:
        return b.graph()
    return without_dead_ends(b.graph(b.layers[-1].output))


def without_dead_ends(graph: Graph) -> Graph:
    """Only the layers that lead to an output."""
    wanted = set(graph.outputs)
    for layer in reversed(graph.layers):
        if wanted & set(layer.outputs):
            wanted |= {source.tensor for operand in layer.inputs for source in operand.sources}
    layers = tuple(layer for layer in graph.layers if layer.output in wanted)
    tensors = {n: t for n, t in graph.tensors.items() if n in wanted or n in graph.inputs}
    return replace(graph, layers=layers, tensors=tensors)


def page_of(graph: Graph, modes: Sequence[Mapping[str, Overlap]]) -> str:
    """A page of constraints that gives each map of each stack of a network a mode."""
    lines: list[str] = []
    for stack, mine in zip(cut_after(graph, []), modes, strict=True):
        first, last = (graph.layers[stack.layers[end]].name for end in (0, -1))
        lines += [f'stack "{first}" to "{last}" {{', *(f'overlap of "{t}": {mode}' for t, mode in mine.items()), "}"]
    return "\n".join(lines)


def mixtures(maps: list[str]) -> st.SearchStrategy[Modes]:
    """A mode for each map by itself."""
    drawn = st.lists(st.sampled_from(Overlap), min_size=len(maps), max_size=len(maps))
    return drawn.map(lambda modes: Mixed.made(dict(zip(maps, modes, strict=True))))


Step = Callable[[Draw, Builder, str, list[str]], str]


def _window(draw: Draw, b: Builder, x: str) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """(kernel, stride, pad) that leave at least one position; each axis on its own."""
    kernel, pad = [], []
    for extent in b.extents(x):
        p = draw(st.integers(0, 2))
        kernel.append(draw(st.integers(1 + p, max(1 + p, min(5, extent + 2 * p)))))
        pad.append(p)
    stride = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    return (kernel[0], kernel[1]), stride, (pad[0], pad[1])


def _conv(draw: Draw, b: Builder, x: str, maps: list[str]) -> str:
    kernel, stride, pad = _window(draw, b, x)
    return b.conv(x, draw(st.integers(1, 4)), kernel, stride, pad, bias=draw(st.booleans()))


def _depthwise(draw: Draw, b: Builder, x: str, maps: list[str]) -> str:
    return b.depthwise(x, *_window(draw, b, x))


def _pool(draw: Draw, b: Builder, x: str, maps: list[str]) -> str:
    wanted, stride, (py, px) = _window(draw, b, x)
    ky, kx = (min(kernel, extent) for kernel, extent in zip(wanted, b.extents(x), strict=True))
    pad = min(py, px, ky - 1, kx - 1)
    return b.pool(x, draw(st.sampled_from(["maxpool", "avgpool"])), (ky, kx), stride, pad)


def _eltwise(draw: Draw, b: Builder, x: str, maps: list[str]) -> str:
    op, constants = draw(st.sampled_from([("relu", 0), ("prelu", 1), ("sigmoid", 0), ("softmax", 0)]))
    return b.eltwise(x, op, constants)


def _norm(draw: Draw, b: Builder, x: str, maps: list[str]) -> str:
    op, constants = draw(st.sampled_from([("batch_norm", 4), ("mul", 1), ("add", 1)]))
    return b.eltwise(x, op, constants)


def _join(draw: Draw, b: Builder, x: str, maps: list[str]) -> str:
    """A residual addition where the shapes agree, else a concatenation or a branch that is made to fit."""
    y = draw(st.sampled_from(maps))
    if b.shape(x) == b.shape(y):
        return b.add(x, y)
    if b.extents(x) == b.extents(y):
        return b.concat(x, y)
    return b.add(x, b.conv(x, b.shape(x)[1], (3, 1), pad=(1, 0)))


def _up(draw: Draw, b: Builder, x: str, maps: list[str]) -> str:
    if max(b.extents(x)) > 24:
        return b.pool(x)
    return b.upsample(x) if draw(st.booleans()) else b.conv_transpose(x, draw(st.integers(1, 3)))


def _crop(draw: Draw, b: Builder, x: str, maps: list[str]) -> str:
    before = tuple(draw(st.integers(0, (extent - 1) // 2)) for extent in b.extents(x))
    return b.crop(x, (before[0], before[1]), (0, 0), (1, draw(st.integers(1, 2))))


def _view(draw: Draw, b: Builder, x: str, maps: list[str]) -> str:
    choice = draw(st.integers(0, 2))
    if choice == 0:
        return b.view(x)
    return b.concat(x) if choice == 1 else b.crop(x)


def _pad_conv(draw: Draw, b: Builder, x: str, maps: list[str]) -> str:
    """An explicit pad, and most often a convolution or a pool behind it."""
    sides = [draw(st.integers(0, 2)) for _ in range(4)]
    padded = b.pad(x, (sides[0], sides[1]), (sides[2], sides[3]))
    return draw(st.sampled_from([_conv, _conv, _depthwise, _pool]))(draw, b, padded, maps)


def _through(draw: Draw, b: Builder, x: str, maps: list[str]) -> str:
    """A reshape to another shape and back."""
    n, c, y, width = b.shape(x)
    return b.reshape(b.reshape(x, (n, c, width, y)), (n, c, y, width))


def _head(draw: Draw, b: Builder, x: str) -> str:
    if draw(st.booleans()):
        x = b.global_pool(x)
    return b.eltwise(b.dense(b.flatten(x), draw(st.integers(1, 5))), "softmax")


def full_region(graph: Graph, tensor: str) -> Region:
    """All of a tensor."""
    t, y, x = graph.tensors[tensor].spatial
    return Interval(0, t), Interval(0, y), Interval(0, x)


def needed_regions(graph: Graph, wanted: Mapping[str, Region]) -> dict[str, Region]:
    """For every tensor the hull of the positions that the wanted regions of some tensors depend on."""
    needed = dict.fromkeys(graph.tensors, (EMPTY, EMPTY, EMPTY))
    needed.update(wanted)
    for layer in reversed(graph.layers):
        for source in layer.sources:
            extents = graph.tensors[source.tensor].spatial
            for_output = needed[layer.output]
            if any(interval.size == 0 for interval in for_output):
                continue
            more = [source.maps[axis].needs(for_output[axis], extents[axis]) for axis in Axis]
            if all(interval.size > 0 for interval in more):  # else only padding is read
                t, y, x = (needed[source.tensor][axis].hull(more[axis]) for axis in Axis)
                needed[source.tensor] = (t, y, x)
    return needed
