"""Builds graphs as the importer lays them out: one method per operator, each returns its output tensor."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from dfc.ir import (
    CONV_INPUT_DIMS,
    CONV_WEIGHT_DIMS,
    IDENTITY,
    SAME,
    AxisMap,
    Dim,
    Graph,
    Kind,
    Layer,
    Operand,
    Origin,
    Role,
    Sizes,
    Source,
    Tensor,
    sizes,
)

Pair = tuple[int, int]  # (y, x)
Maps = tuple[AxisMap, AxisMap, AxisMap]

FEATURE_DIMS = (Dim.B, Dim.G, Dim.OT, Dim.OY, Dim.OX)
POOL_DIMS = (*FEATURE_DIMS, Dim.FT, Dim.FY, Dim.FX)


class Builder:
    """A graph in the making. Layers are named after operator and number, tensors after their layer."""

    def __init__(self, name: str = "built", bits: int = 8) -> None:
        self.name = name
        self.bits = bits
        self.tensors: dict[str, Tensor] = {}
        self.layers: list[Layer] = []
        self.inputs: list[str] = []

    def tensor(self, name: str, shape: tuple[int, ...]) -> str:
        self.tensors[name] = Tensor(name, shape, self.bits)
        return name

    def input(self, channels: int, height: int, width: int, batch: int = 1) -> str:
        name = self.tensor(f"in{len(self.inputs)}", (batch, channels, height, width))
        self.inputs.append(name)
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def extents(self, name: str) -> Pair:
        _, y, x = self.tensors[name].spatial
        return y, x

    def layer(
        self, kind: Kind, op: str, inputs: list[Operand], shape: tuple[int, ...], loops: Sizes, **rest: object
    ) -> str:
        """Add a layer; the graph's ``Layer`` fields that are left out go into ``rest``."""
        name = f"{op}{len(self.layers)}"
        out = self.tensor(f"{name}.out", shape)
        made = Layer(name, kind, op, tuple(inputs), (out,), loops, origin=(Origin(name, op.title()),))
        self.layers.append(replace(made, **rest))  # type: ignore[arg-type]
        return out

    def feature_loops(self, shape: tuple[int, ...], **more: int) -> Sizes:
        t = Tensor("", shape)
        return sizes(**{"B": t.batch, "G": t.channels, "OY": t.spatial[1], "OX": t.spatial[2], **more})

    def constant(self, shape: tuple[int, ...], dims: tuple[Dim, ...]) -> Operand:
        name = self.tensor(f"const{len(self.tensors)}", shape)
        return Operand(Role.W, dims, (Source(name),), constant=True)

    def read(self, name: str, maps: Maps = SAME, dims: tuple[Dim, ...] = FEATURE_DIMS) -> Operand:
        return Operand(Role.I, dims, (Source(name, maps),))

    # -- windows

    def conv(
        self,
        x: str,
        channels: int,
        kernel: Pair = (3, 3),
        stride: Pair = (1, 1),
        pad: Pair = (1, 1),
        dilation: Pair = (1, 1),
        groups: int = 1,
        bias: bool = True,
    ) -> str:
        """A convolution; ``pad`` stands on both sides of each axis."""
        batch, c, *_ = self.shape(x)
        each = zip(self.extents(x), kernel, stride, pad, dilation, strict=True)
        oy, ox = ((e + 2 * p - d * (k - 1) - 1) // s + 1 for e, k, s, p, d in each)
        maps = (IDENTITY, *(AxisMap.window(*w) for w in zip(stride, kernel, dilation, pad, strict=True)))
        w = self.constant((channels, c // groups, *kernel), CONV_WEIGHT_DIMS)
        weights = channels * (c // groups) * prod(kernel)
        return self.layer(
            Kind.DEPTHWISE if groups > 1 and groups == c else Kind.CONV,
            "conv",
            [self.read(x, maps, CONV_INPUT_DIMS), w],
            (batch, channels, oy, ox),
            sizes(
                B=batch, G=groups, K=channels // groups, C=c // groups, OY=oy, OX=ox,
                FY=kernel[0], FX=kernel[1],
            ),
            strides=(1, *stride),
            dilations=(1, *dilation),
            macs=batch * weights * oy * ox,
            weight_elements=weights + channels * bias,
        )  # fmt: skip

    def depthwise(self, x: str, kernel: Pair = (3, 3), stride: Pair = (1, 1), pad: Pair = (1, 1)) -> str:
        c = self.shape(x)[1]
        return self.conv(x, c, kernel, stride, pad, groups=c)

    def conv_transpose(self, x: str, channels: int, kernel: int = 4, stride: int = 2, pad: int = 1) -> str:
        """A transposed convolution, the same along both axes."""
        batch, c, *_ = self.shape(x)
        oy, ox = ((e - 1) * stride - 2 * pad + kernel for e in self.extents(x))
        axis = AxisMap(1, stride, min(pad - (kernel - 1) + stride - 1, pad), pad)
        taps = -(-kernel // stride)
        w = self.constant((c, channels, kernel, kernel), CONV_WEIGHT_DIMS)
        return self.layer(
            Kind.CONV,
            "conv_transpose",
            [self.read(x, (IDENTITY, axis, axis), CONV_INPUT_DIMS), w],
            (batch, channels, oy, ox),
            sizes(
                B=batch, K=channels * stride**2, C=c, OY=-(-oy // stride), OX=-(-ox // stride),
                FY=taps, FX=taps,
            ),
            phases=(1, stride, stride),
            macs=prod(self.shape(x)) * channels * kernel**2,
            weight_elements=c * channels * kernel**2,
        )  # fmt: skip

    def pool(self, x: str, op: str = "maxpool", kernel: Pair = (2, 2), stride: Pair = (2, 2), pad: int = 0) -> str:
        batch, c, *_ = self.shape(x)
        oy, ox = ((e + 2 * pad - k) // s + 1 for e, k, s in zip(self.extents(x), kernel, stride, strict=True))
        maps = (IDENTITY, *(AxisMap.window(s, k, 1, pad) for k, s in zip(kernel, stride, strict=True)))
        loops = self.feature_loops((batch, c, oy, ox), FY=kernel[0], FX=kernel[1])
        return self.layer(
            Kind.POOL, op, [self.read(x, maps, POOL_DIMS)], (batch, c, oy, ox), loops, strides=(1, *stride)
        )

    def global_pool(self, x: str) -> str:
        batch, c, *_ = self.shape(x)
        y, width = self.extents(x)
        loops = self.feature_loops((batch, c, 1, 1), FY=y, FX=width)
        return self.layer(
            Kind.POOL, "global_avgpool", [self.read(x, self.whole(x), POOL_DIMS)], (batch, c, 1, 1), loops
        )

    def whole(self, x: str) -> Maps:
        t, y, width = self.tensors[x].spatial
        return AxisMap.full(t), AxisMap.full(y), AxisMap.full(width)

    # -- element-wise

    def eltwise(self, x: str, op: str = "relu", constants: int = 0, barrier: bool = False) -> str:
        """One feature map and ``constants`` numbers per channel."""
        shape = self.shape(x)
        inputs = [self.read(x, self.whole(x) if barrier else SAME)]
        if constants:
            names = [self.tensor(f"const{len(self.tensors)}", (shape[1],)) for _ in range(constants)]
            inputs.append(Operand(Role.W, (Dim.G,), tuple(map(Source, names)), constant=True))
        loops = self.feature_loops(shape)
        weights = constants * shape[1]
        return self.layer(Kind.ELTWISE, op, inputs, shape, loops, weight_elements=weights, barrier=barrier)

    def batch_norm(self, x: str) -> str:
        return self.eltwise(x, "batch_norm", constants=4)

    def add(self, x: str, y: str, op: str = "add") -> str:
        return self.layer(
            Kind.ELTWISE, op, [self.read(x), self.read(y)], self.shape(x), self.feature_loops(self.shape(x))
        )

    # -- moves and views

    def concat(self, *xs: str) -> str:
        """Along the channels."""
        batch, _, *rest = self.shape(xs[0])
        shape = (batch, sum(self.shape(x)[1] for x in xs), *rest)
        operand = Operand(Role.I, FEATURE_DIMS, tuple(Source(x) for x in xs))
        return self.layer(Kind.MOVE, "concat", [operand], shape, self.feature_loops(shape))

    def stack_rows(self, *xs: str) -> str:
        """A concatenation along y."""
        batch, c, _, width = self.shape(xs[0])
        sources: list[Source] = []
        offset = 0
        for x in xs:
            sources.append(Source(x, (IDENTITY, AxisMap(lo=-offset, hi=-offset), IDENTITY)))
            offset += self.extents(x)[0]
        shape = (batch, c, offset, width)
        operand = Operand(Role.I, FEATURE_DIMS, tuple(sources))
        return self.layer(Kind.MOVE, "concat", [operand], shape, self.feature_loops(shape))

    def pad(self, x: str, before: Pair = (1, 1), after: Pair = (1, 1), op: str = "pad") -> str:
        batch, c, *_ = self.shape(x)
        y, width = (e + b + a for e, b, a in zip(self.extents(x), before, after, strict=True))
        maps = (IDENTITY, *(AxisMap(lo=-b, hi=-b) for b in before))
        shape = (batch, c, y, width)
        return self.layer(Kind.MOVE, op, [self.read(x, maps)], shape, self.feature_loops(shape))

    def crop(self, x: str, before: Pair = (0, 0), after: Pair = (0, 0), step: Pair = (1, 1)) -> str:
        """A slice with steps."""
        batch, c, *_ = self.shape(x)
        each = zip(self.extents(x), before, after, step, strict=True)
        y, width = (-(-(e - b - a) // s) for e, b, a, s in each)
        maps = (IDENTITY, *(AxisMap(num=s, lo=b, hi=b) for b, s in zip(before, step, strict=True)))
        shape = (batch, c, y, width)
        return self.layer(Kind.MOVE, "slice", [self.read(x, maps)], shape, self.feature_loops(shape))

    def upsample(self, x: str, factor: int = 2) -> str:
        """Nearest resize."""
        batch, c, y, width = self.shape(x)
        axis = AxisMap(den=factor)
        loops = sizes(B=batch, G=c, K=factor**2, OY=y, OX=width)
        shape = (batch, c, y * factor, width * factor)
        operand = self.read(x, (IDENTITY, axis, axis))
        return self.layer(Kind.MOVE, "resize", [operand], shape, loops, phases=(1, factor, factor))

    def view(self, x: str, op: str = "identity") -> str:
        shape = self.shape(x)
        return self.layer(Kind.VIEW, op, [self.read(x)], shape, self.feature_loops(shape))

    def reshape(self, x: str, shape: tuple[int, ...], op: str = "reshape") -> str:
        loops = self.feature_loops(shape)
        return self.layer(Kind.VIEW, op, [self.read(x, self.whole(x))], shape, loops, barrier=True)

    def flatten(self, x: str) -> str:
        shape = self.shape(x)
        return self.reshape(x, (shape[0], prod(shape[1:])), "flatten")

    def dense(self, x: str, columns: int) -> str:
        """A fully connected layer with a bias; rows on OX, so more than one row makes it a barrier."""
        rows, inner = self.shape(x)
        w = self.constant((columns, inner), (Dim.G, Dim.K, Dim.C))
        return self.layer(
            Kind.DENSE,
            "gemm",
            [self.read(x, self.whole(x), (Dim.B, Dim.G, Dim.C, Dim.OX)), w],
            (rows, columns),
            sizes(OX=rows, C=inner, K=columns),
            macs=rows * inner * columns,
            weight_elements=columns * inner + columns,
            barrier=rows > 1,
        )

    def opaque(self, x: str, op: str = "mystery") -> str:
        shape = self.shape(x)
        return self.layer(Kind.OPAQUE, op, [self.read(x, self.whole(x))], shape, sizes(), barrier=True)

    def graph(self, *outputs: str) -> Graph:
        """The graph; its outputs are what nothing reads, if they are not given."""
        read = {source.tensor for layer in self.layers for source in layer.sources}
        leaves = [t for layer in self.layers for t in layer.outputs if t not in read]
        return Graph(self.name, self.tensors, tuple(self.layers), tuple(self.inputs), outputs or tuple(leaves))
