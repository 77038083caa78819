"""Random ONNX networks and requests for the executor's tests: what tiles, caches and copies must get right."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from example_models import NETWORKS  # noqa: F401  loads the package of builders
from hypothesis import strategies as st
from networks.builder import NetBuilder

from dfc.backend_cost.schedule import ModelInfo, Schedule, TensorInfo
from dfc.hwdsl import Arch, library, load_arch
from dfc.ir import Graph
from dfc.pipeline import import_graph, schedule_graph
from dfc.request import parse_request
from dfc.scheduling.constraints import Constraints

Draw = st.DrawFn


@dataclass(frozen=True)
class Case:
    """A network in a file, and its schedule as read from the text of one."""

    model: Path
    schedule: Schedule


class Net:
    """A network being drawn: tensors with their channels and extents."""

    def __init__(self, draw: Draw, axes: int):
        self.draw = draw
        self.axes = axes
        self.net = NetBuilder("random", seed=draw(st.integers(0, 999)))
        channels = draw(st.integers(1, 4))
        least, most = (5, 18) if axes < 3 else (3, 7)
        extents = tuple(draw(st.integers(least, most)) for _ in range(axes))
        self.maps = {self.net.input((1, channels, *extents)): (channels, extents)}
        self.count = 0

    def name(self, what: str) -> str:
        self.count += 1
        return f"{what}{self.count}"

    def made(self, tensor: str, channels: int, extents: tuple[int, ...]) -> str:
        self.maps[tensor] = (channels, extents)
        return tensor

    def each(self, least: int, most: int) -> list[int]:
        return [self.draw(st.integers(least, most)) for _ in range(self.axes)]


def _kernel(n: Net, extents: tuple[int, ...], most: int = 4) -> tuple[list[int], list[int], list[int], list[int]]:
    """(kernel, stride, dilation, pads) that leave at least one position."""
    kernel, dilation = n.each(1, most), n.each(1, 2)
    begin, end = n.each(0, 2), n.each(0, 2)
    for a, extent in enumerate(extents):
        kernel[a] = max(1, min(kernel[a], (extent + begin[a] + end[a] - 1) // dilation[a] + 1))
        reach = dilation[a] * (kernel[a] - 1) + 1
        begin[a], end[a] = min(begin[a], reach - 1), min(end[a], reach - 1)
        if extent + begin[a] + end[a] < reach:
            kernel[a], begin[a], end[a] = 1, 0, 0
    return kernel, n.each(1, 2), dilation, begin + end


def _out(
    extents: tuple[int, ...], kernel: list[int], stride: list[int], dilation: list[int], pads: list[int]
) -> tuple[int, ...]:
    half = len(extents)
    return tuple(
        (e + pads[a] + pads[half + a] - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1
        for a, e in enumerate(extents)
    )


def conv(n: Net, x: str) -> str:
    channels, extents = n.maps[x]
    kernel, stride, dilation, pads = _kernel(n, extents)
    groups = n.draw(st.sampled_from([g for g in (1, 1, 2, channels) if channels % g == 0]))
    out = groups * n.draw(st.integers(1, 3))
    name = n.net.conv(x, out, kernel, n.name("conv"), stride=stride, pads=pads, dilation=dilation, groups=groups,
                      bias=n.draw(st.booleans()))  # fmt: skip
    return n.made(name, out, _out(extents, kernel, stride, dilation, pads))


def conv_transpose(n: Net, x: str) -> str:
    extents = n.maps[x][1]
    if max(extents) > 14:
        return pool(n, x)
    kernel, stride = n.each(1, 4), n.each(1, 3)
    pads = [n.draw(st.integers(0, min(1, k - 1))) for k in kernel]
    spatial = tuple(s * (e - 1) + k - 2 * p for e, k, s, p in zip(extents, kernel, stride, pads, strict=True))
    if min(spatial) < 1:
        return conv(n, x)
    out = n.draw(st.integers(1, 3))
    name = n.net.conv_transpose(x, out, kernel, n.name("up"), stride=stride, pads=[*pads, *pads])
    return n.made(name, out, spatial)


def pool(n: Net, x: str) -> str:
    channels, extents = n.maps[x]
    kernel, stride, _, pads = _kernel(n, extents, 3)
    ones = [1] * n.axes
    pads = [min(p, k - 1) for p, k in zip(pads, kernel * 2, strict=True)]
    kernel = [min(k, e) for k, e in zip(kernel, extents, strict=True)]
    pads = [min(p, k - 1) for p, k in zip(pads, kernel * 2, strict=True)]
    op = n.draw(st.sampled_from(["MaxPool", "AveragePool"]))
    name = n.net.pool(op, x, kernel, n.name("pool"), stride=stride, pads=pads)
    return n.made(name, channels, _out(extents, kernel, stride, ones, pads))


def pointwise(n: Net, x: str) -> str:
    channels, extents = n.maps[x]
    kind = n.draw(st.sampled_from(["Relu", "Sigmoid", "prelu", "norm", "Softmax"]))
    if kind == "prelu":
        return n.made(n.net.prelu(x, n.name("prelu")), channels, extents)
    if kind == "norm":
        return n.made(n.net.batch_norm(x, n.name("norm")), channels, extents)
    more = {"axis": 1} if kind == "Softmax" else {}
    return n.made(n.net.unary(kind, x, n.name("f"), **more), channels, extents)


def join(n: Net, x: str) -> str:
    """A sum where shapes agree, else a concatenation, else a branch that is made to fit."""
    channels, extents = n.maps[x]
    y = n.draw(st.sampled_from(list(n.maps)))
    if n.maps[y] == n.maps[x]:
        return n.made(n.net.binary(n.draw(st.sampled_from(["Add", "Mul"])), x, y, n.name("sum")), channels, extents)
    if n.maps[y][1] == extents:
        return n.made(n.net.concat([x, y], n.name("cat")), channels + n.maps[y][0], extents)
    branch = n.net.conv(x, channels, 3, n.name("branch"))
    return n.made(n.net.binary("Add", x, branch, n.name("sum")), channels, extents)


def upsample(n: Net, x: str) -> str:
    channels, extents = n.maps[x]
    if max(extents) > 10:
        return pool(n, x)
    return n.made(n.net.upsample(x, 2, n.name("nearest")), channels, tuple(2 * e for e in extents))


def crop(n: Net, x: str) -> str:
    channels, extents = n.maps[x]
    starts = [n.draw(st.integers(0, (e - 1) // 2)) for e in extents]
    ends = [n.draw(st.integers(s + 1, e)) for s, e in zip(starts, extents, strict=True)]
    step = n.draw(st.integers(1, 2))
    name = n.net.slice(x, starts, ends, step, n.name("crop"))
    return n.made(name, channels, tuple(-(-(e - s) // step) for s, e in zip(starts, ends, strict=True)))


def split(n: Net, x: str) -> str:
    channels, extents = n.maps[x]
    if channels % 2:
        return conv(n, x)
    first, second = n.net.split(x, [n.name("part"), n.name("part")])
    n.made(first, channels // 2, extents)
    return n.made(second, channels // 2, extents)


def head(n: Net, x: str) -> str:
    pooled = n.net.global_pool(x, n.name("mean"))
    return n.net.dense(pooled, n.draw(st.integers(1, 5)), n.name("dense"))


STEPS: tuple[Callable[[Net, str], str], ...] = (
    conv, conv, conv, conv_transpose, pool, pointwise, pointwise, join, join, upsample, crop, split,
)  # fmt: skip


@st.composite
def networks(draw: Draw, max_steps: int = 7) -> onnx.ModelProto:
    """A network of one, two or three spatial axes; what nothing reads is an output."""
    n = Net(draw, draw(st.sampled_from([2, 2, 2, 2, 1, 3])))
    last = next(iter(n.maps))
    for _ in range(draw(st.integers(1, max_steps))):
        step = draw(st.sampled_from(STEPS))
        last = step(n, draw(st.sampled_from([last, last, *n.maps])))
    if draw(st.integers(0, 4)) == 0:
        last = head(n, last)
    read = {name for node in n.net._nodes for name in node.input}
    outputs = [name for name in n.maps if name not in read and not name.startswith("input")]
    return n.net.finish(*dict.fromkeys([*outputs, last]))


def small_chip(name: str, divisor: int) -> Arch:
    """A chip of the library whose memories, save for registers and the outermost, are smaller."""
    arch = load_arch(name)
    top = max(m.size_bits for m in arch.memories)
    memories = tuple(
        replace(m, size_bits=max(1024, m.size_bits // divisor // 64 * 64))
        if m.instances == 1 and m.size_bits < top
        else m
        for m in arch.memories
    )
    return replace(arch, memories=memories)


@dataclass(frozen=True)
class Asked:
    """How a network is compiled."""

    hw: str
    divisor: int
    tile: tuple[int, int]
    overlap: str
    order: str
    stacks: str


requests = st.builds(
    Asked,
    st.sampled_from(library()),
    st.sampled_from([1, 1, 8, 64, 512]),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from(["cached", "cached", "h-cached", "v-cached", "recompute"]),
    st.sampled_from(["rows", "columns"]),
    st.sampled_from(["auto", "one", "one", "each"]),
)


def compiled(
    model: Path, arch: Arch, asked: Asked, graph: Graph | None = None, constraints: Constraints | None = None
) -> Schedule:
    """The schedule of a model file, as read from its text."""
    graph = graph or import_graph(model)

    def infos(names: tuple[str, ...]) -> tuple[TensorInfo, ...]:
        return tuple(TensorInfo(n, graph.tensors[n].shape, graph.tensors[n].bits) for n in names)

    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    info = ModelInfo(graph.name, model.name, digest, infos(graph.inputs), infos(graph.outputs))
    tile = f"{asked.tile[0]}x{asked.tile[1]}"
    request = parse_request("energy", asked.overlap, tile, asked.stacks, order=asked.order)
    request = replace(request, constraints=constraints or Constraints())
    return Schedule.from_json(schedule_graph(graph, arch, request, info).to_json())


def saved(model: onnx.ModelProto, folder: str | None = None) -> Path:
    """The model in a file."""
    path = Path(folder or tempfile.mkdtemp(prefix="dfc_verify_")) / "net.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path
