"""Random networks over time in one, two and three dimensions, built by hand for any length of the time axis.

A recipe is a list of blocks that hypothesis drew; ``build`` makes the model. Shapes are followed by the formulas of the
ONNX standard, so that every recipe gives a model that runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

Draw = st.DrawFn
Block = tuple[Any, ...]
CHANNELS = 4
FLOAT_BLOCKS = ("conv", "depthwise", "maxpool", "avgpool", "relu", "norm", "residual", "crop", "concat", "slice", "pad",
                "gate", "swap", "split")  # fmt: skip
LOCAL_BLOCKS = tuple(b for b in FLOAT_BLOCKS if b not in ("gate", "slice"))
TAILS = ("none", "pooled", "flat", "mean", "softmax", "rows", "two")


@dataclass(frozen=True)
class Recipe:
    """What to build: spatial extents, the time axis among them, blocks and the end."""

    extents: tuple[int, ...]
    time: int
    blocks: tuple[Block, ...]
    tail: str
    integer: bool = False

    @property
    def axis(self) -> str:
        return str(2 + self.time)


@st.composite
def window(draw: Draw, axes: int, time: int, largest: int = 3) -> dict[str, Any]:
    """Kernel, stride, dilation and padding per axis; time has more of everything."""
    kernel = [draw(st.integers(1, largest if a == time else 2)) for a in range(axes)]
    stride = [draw(st.integers(1, 3 if a == time else 2)) for a in range(axes)]
    dilation = [draw(st.integers(1, 3 if a == time else 1)) for a in range(axes)]
    style = draw(st.sampled_from(["valid", "causal", "same", "any"]))
    begin, end = [0] * axes, [0] * axes
    for a in range(axes):
        reach = dilation[a] * (kernel[a] - 1)
        if style == "causal":
            begin[a] = reach
        elif style == "same":
            begin[a], end[a] = reach // 2, reach - reach // 2
        elif style == "any":
            begin[a], end[a] = draw(st.integers(0, kernel[a] - 1)), draw(st.integers(0, kernel[a] - 1))
    return {"kernel": kernel, "stride": stride, "dilation": dilation, "begin": begin, "end": end}


@st.composite
def recipes(draw: Draw, *, local: bool = False, integer: bool = False) -> Recipe:
    """A recipe; ``local`` ones do the same at every position, whatever the length."""
    axes = draw(st.integers(1, 3))
    time = draw(st.integers(0, axes - 1))
    extents = tuple(draw(st.integers(14, 34)) if a == time else draw(st.integers(3, 6)) for a in range(axes))
    known = ("qconv", "maxpool", "pad") if integer else LOCAL_BLOCKS if local else FLOAT_BLOCKS
    blocks: list[Block] = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(known))
        w = draw(window(axes, time, 4 if kind in ("conv", "qconv") else 3))
        blocks.append((kind, w, draw(st.integers(0, 3))))
    tail = "none" if local or integer else draw(st.sampled_from(TAILS))
    return Recipe(extents, time, tuple(blocks), tail, integer)


@dataclass
class Maker:
    recipe: Recipe
    shape: list[int]
    x: str = "x"
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    stride: int = 1
    reach: int = 0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(5))

    def const(self, data: np.ndarray[Any, Any]) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(data), name))
        return name

    def floats(self, *shape: int) -> str:
        return self.const((self.rng.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32))

    def ints(self, *numbers: int) -> str:
        return self.const(np.array(numbers, np.int64))

    def add(self, op: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> str:
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"n{len(self.nodes)}", **attributes))
        return names[0]

    def fits(self, w: dict[str, Any], kernel: list[int] | None = None, *, ceil: bool = False) -> list[int] | None:
        """Output extents of a window; None where it does not fit."""
        out: list[int] = []
        for a, extent in enumerate(self.shape[2:]):
            k = (kernel or w["kernel"])[a]
            reach = w["dilation"][a] * (k - 1) + 1
            room = extent + w["begin"][a] + w["end"][a] - reach
            if room < 0:
                return None
            count = room // w["stride"][a] + 1
            if ceil and room % w["stride"][a] and count * w["stride"][a] < extent + w["begin"][a]:
                count += 1
            out.append(count)
        return out

    def hangs_over(self, w: dict[str, Any]) -> list[int]:
        """Extents with every last, partial window; ONNX's inference once counted those that hold padding alone."""
        each = zip(self.shape[2:], w["kernel"], w["stride"], w["dilation"], w["begin"], w["end"], strict=True)
        return [-(-(extent + b + e - d * (k - 1) - 1) // s) + 1 for extent, k, s, d, b, e in each]

    def moved(self, spatial: list[int], w: dict[str, Any]) -> None:
        """Note the new extents, and how far along time the window reached."""
        t = self.recipe.time
        self.reach += self.stride * (w["dilation"][t] * w["kernel"][t] + w["begin"][t] + w["end"][t])
        self.stride *= w["stride"][t]
        self.shape[2:] = spatial

    def pads(self, w: dict[str, Any]) -> list[int]:
        return [*w["begin"], *w["end"]]

    # -- blocks

    def block(self, block: Block) -> bool:
        """Append a block; False where its window does not fit and nothing was done."""
        kind, w, number = block
        before = self.x
        getattr(self, kind)(w, number)
        return self.x != before

    def conv(self, w: dict[str, Any], number: int, groups: int = 1) -> None:
        spatial = self.fits(w)
        if spatial is None:
            return
        weight = self.floats(CHANNELS, CHANNELS // groups, *w["kernel"])
        attributes = {"strides": w["stride"], "dilations": w["dilation"], "pads": self.pads(w), "group": groups}
        self.x = self.add("Conv", [self.x, weight, self.floats(CHANNELS)], **attributes)
        self.moved(spatial, w)

    def depthwise(self, w: dict[str, Any], number: int) -> None:
        self.conv(w, number, groups=CHANNELS if number % 2 else 2)

    def qconv(self, w: dict[str, Any], number: int) -> None:
        spatial = self.fits(w)
        if spatial is None:
            return
        weight = self.const(self.rng.integers(-128, 128, (CHANNELS, CHANNELS, *w["kernel"])).astype(np.int8))
        half, zero = self.const(np.float32(0.5)), self.const(np.uint8(100 + number))
        scale, out = self.const(np.float32(0.02)), self.const(np.float32(0.9))
        inputs = [self.x, half, zero, weight, scale, self.const(np.int8(0)), out, self.const(np.uint8(128))]
        attributes = {"strides": w["stride"], "dilations": w["dilation"], "pads": self.pads(w)}
        self.x = self.add("QLinearConv", inputs, **attributes)
        self.moved(spatial, w)

    def maxpool(self, w: dict[str, Any], number: int) -> None:
        w = {**w, "dilation": [1] * len(w["kernel"])} if number == 0 else w
        self.pool("MaxPool", w, ceil_mode=number % 2, dilations=w["dilation"])

    def avgpool(self, w: dict[str, Any], number: int) -> None:
        w = {**w, "dilation": [1] * len(w["kernel"])}
        self.pool("AveragePool", w, ceil_mode=0, count_include_pad=number % 2)

    def pool(self, op: str, w: dict[str, Any], **attributes: Any) -> None:
        w = {**w, "begin": [min(p, k - 1) for p, k in zip(w["begin"], w["kernel"], strict=True)]}
        w["end"] = [min(p, k - 1) for p, k in zip(w["end"], w["kernel"], strict=True)]
        spatial, more = self.fits(w), self.fits(w, ceil=True)
        if spatial is None or more is None:
            return
        if attributes["ceil_mode"] and self.hangs_over(w) == more:
            spatial = more
        else:
            attributes["ceil_mode"] = 0
        self.x = self.add(op, [self.x], kernel_shape=w["kernel"], strides=w["stride"], pads=self.pads(w), **attributes)
        self.moved(spatial, w)

    def relu(self, w: dict[str, Any], number: int) -> None:
        self.x = self.add(("Relu", "Sigmoid", "Neg", "Tanh")[number], [self.x])

    def norm(self, w: dict[str, Any], number: int) -> None:
        scale = [self.const(self.rng.uniform(0.5, 1.5, CHANNELS).astype(np.float32)) for _ in range(4)]
        self.x = self.add("BatchNormalization", [self.x, *scale])

    def residual(self, w: dict[str, Any], number: int) -> None:
        """Two branches of one shape with different kernels, added."""
        shortcut = self.x
        kernel = [2 * (k // 2) + 1 for k in w["kernel"]]
        half = [d * (k // 2) for k, d in zip(kernel, w["dilation"], strict=True)]
        same = {**w, "kernel": kernel, "stride": [1] * len(kernel), "begin": half, "end": half}
        if number % 2:
            t = self.recipe.time
            same["begin"] = [2 * h if a == t else h for a, h in enumerate(half)]
            same["end"] = [0 if a == t else h for a, h in enumerate(half)]
        self.conv(same, number)
        self.x = self.add("Add" if number < 2 else "Mul", [self.x, shortcut])

    def crop(self, w: dict[str, Any], number: int) -> None:
        """An unpadded branch, and a shortcut cropped to its size: another delay."""
        shortcut, before = self.x, list(self.shape)
        zeros = [0] * len(w["kernel"])
        valid = {**w, "stride": [1] * len(w["kernel"]), "begin": zeros, "end": zeros}
        self.conv(valid, number)
        if self.x == shortcut:
            return
        first = [(a - b) * min(number, 2) // 2 for a, b in zip(before[2:], self.shape[2:], strict=True)]
        last = [f + b for f, b in zip(first, self.shape[2:], strict=True)]
        cut = [shortcut, self.ints(*first), self.ints(*last), self.ints(*range(2, len(self.shape)))]
        self.x = self.add("Add", [self.x, self.add("Slice", cut)])

    def concat(self, w: dict[str, Any], number: int) -> None:
        """Two branches of one shape, joined and mixed again."""
        start, shape = self.x, list(self.shape)
        self.residual(w, number)
        one, self.x, self.shape = self.x, start, shape
        joined = self.add("Concat", [one, self.x], axis=1)
        ones = [1] * len(w["kernel"])
        self.x = self.add("Conv", [joined, self.floats(CHANNELS, 2 * CHANNELS, *ones)])

    def slice(self, w: dict[str, Any], number: int) -> None:
        axis = 2 + self.recipe.time
        step, extent = 1 + number % 3, self.shape[axis]
        if extent < 6:
            return
        cut = [self.x, self.ints(number), self.ints(extent - 1), self.ints(axis), self.ints(step)]
        self.x = self.add("Slice", cut)
        self.shape[axis] = len(range(number, extent - 1, step))
        self.stride *= step

    def pad(self, w: dict[str, Any], number: int) -> None:
        widths = [0, 0, *w["begin"], 0, 0, *w["end"]]
        value = self.const(np.uint8(7)) if self.recipe.integer else self.const(np.float32(number))
        mirrors = all(max(b, e) < x for b, e, x in zip(w["begin"], w["end"], self.shape[2:], strict=True))
        mode = ("constant", "constant", "edge", "reflect")[number if mirrors else 0]
        self.x = self.add("Pad", [self.x, self.ints(*widths), value], mode=mode)
        for a in range(len(w["kernel"])):
            self.shape[2 + a] += w["begin"][a] + w["end"][a]
        self.reach += self.stride * (w["begin"][self.recipe.time] + w["end"][self.recipe.time])

    def gate(self, w: dict[str, Any], number: int) -> None:
        """Squeeze and excitation: every position is scaled by what the whole window says."""
        mean = self.add("GlobalAveragePool" if number % 2 else "GlobalMaxPool", [self.x])
        self.x = self.add("Mul", [self.x, self.add("Sigmoid", [mean])])

    def swap(self, w: dict[str, Any], number: int) -> None:
        """Channels last and back, with a product of matrices in between."""
        rank = len(self.shape)
        there = [0, *range(2, rank), 1]
        y = self.add("Transpose", [self.x], perm=there)
        y = self.add("MatMul", [y, self.floats(CHANNELS, CHANNELS)])
        self.x = self.add("Transpose", [y], perm=[0, rank - 1, *range(1, rank - 1)])

    def split(self, w: dict[str, Any], number: int) -> None:
        first = self.add("Split", [self.x, self.ints(1, CHANNELS - 1)], outputs=2, axis=1)
        self.x = self.add("Concat", [first.replace("_0", "_1"), first], axis=1)

    # -- tails

    def tail(self) -> list[str]:
        rank, axis = len(self.shape), 2 + self.recipe.time
        match self.recipe.tail:
            case "pooled":
                y = self.add("Flatten", [self.add("GlobalAveragePool", [self.x])], axis=1)
                return [self.add("Gemm", [y, self.floats(3, CHANNELS)], transB=1)]
            case "flat":
                y = self.add("Flatten", [self.x], axis=1)
                return [self.add("MatMul", [y, self.floats(int(np.prod(self.shape[1:])), 3)])]
            case "mean":
                return [self.add("ReduceMean", [self.x], axes=[axis], keepdims=0)]
            case "softmax":
                return [self.add("Softmax", [self.x], axis=axis)]
            case "rows":
                order = [0, axis, *(a for a in range(1, rank) if a != axis)]
                y = self.add("Transpose", [self.x], perm=order)
                inner = int(np.prod(self.shape)) // self.shape[0] // self.shape[axis]
                y = self.add("Reshape", [y, self.ints(self.shape[0], self.shape[axis], inner)])
                return [self.add("MatMul", [y, self.floats(inner, 3)])]
            case "two":
                return [self.add("Relu", [self.x]), self.add("ReduceMax", [self.x], axes=[axis])]
            case _:
                return [self.add("Identity", [self.x])]


def build(recipe: Recipe, extra: int = 0) -> tuple[onnx.ModelProto, int, int]:
    """(model, its stride along time, a bound on how far padding reaches), for ``extra`` more frames."""
    short = Maker(recipe, [1, CHANNELS, *recipe.extents])
    fitting = [block for block in recipe.blocks if short.block(block)]
    extents = [e + extra if a == recipe.time else e for a, e in enumerate(recipe.extents)]
    maker = Maker(recipe, [1, CHANNELS, *extents])
    for block in fitting:
        maker.block(block)
    outputs = maker.tail()
    elem = TensorProto.UINT8 if recipe.integer else TensorProto.FLOAT
    graph = helper.make_graph(
        maker.nodes,
        "random",
        [helper.make_tensor_value_info("x", elem, [1, CHANNELS, *extents])],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        initializer=maker.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model, maker.stride, maker.reach
