"""A small builder: networks written as a sequence of calls, serialised to the same bytes every time.

Weights come from the raw 64-bit words of PCG64, whose stream NumPy promises never to change (the streams of
``Generator.normal`` and its kin carry no such promise), and become floats by operations that IEEE 754 fixes.
Building a network on another machine therefore gives the same file, byte for byte.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

OPSET = 17
IR_VERSION = 8  # the oldest that goes with opset 17: every ONNX Runtime since 1.12 reads it

Extent = int | Sequence[int]  # one number for every spatial axis, or one per axis


class NetBuilder:
    """Appends nodes to one graph; a method returns the name of the tensor it makes, also its node's name.

    gain_squared is the variance of a layer's weights times its fan-in: 2 keeps the scale of activations
    through ReLUs ("Delving Deep into Rectifiers", ICCV 2015), 1 keeps it in a network without activations.
    """

    def __init__(self, name: str, seed: int, *, gain_squared: float = 2.0) -> None:
        self.name = name
        self._bits = np.random.PCG64(seed)
        self._gain_squared = gain_squared
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._channels: dict[str, int] = {}
        self._axes: dict[str, int] = {}

    # --- inputs, constants, nodes -----------------------------------------------------------------

    def input(self, shape: Sequence[int], name: str = "input") -> str:
        """A float32 feature map of shape (N, C, *spatial)."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))
        return self._made(name, shape[1], len(shape) - 2)

    def uniform(self, shape: Sequence[int], low: float, high: float) -> NDArray[np.float32]:
        """The generator's next numbers in [low, high)."""
        words = np.asarray(self._bits.random_raw(math.prod(shape)))
        unit = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return (low + (high - low) * unit).astype(np.float32).reshape(tuple(shape))

    def weights(self, shape: Sequence[int], fan_in: float) -> NDArray[np.float32]:
        """Uniform weights of variance gain_squared / fan_in."""
        bound = math.sqrt(3.0 * self._gain_squared / fan_in)
        return self.uniform(shape, -bound, bound)

    def constant(self, name: str, value: NDArray[np.float32] | NDArray[np.int64]) -> str:
        """An initializer."""
        kind = TensorProto.INT64 if value.dtype == np.int64 else TensorProto.FLOAT
        little = value.astype(value.dtype.newbyteorder("<"))
        self._constants[name] = helper.make_tensor(name, kind, list(value.shape), little.tobytes(), raw=True)
        return name

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        name: str,
        channels: int,
        axes: int | None = None,
        **attributes: Any,
    ) -> str:
        """Any operator with one output; ``axes``, how many are spatial, is the first input's unless given."""
        self._nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return self._made(name, channels, self._axes[inputs[0]] if axes is None else axes)

    # --- layers with weights ----------------------------------------------------------------------

    def conv(
        self,
        x: str,
        channels: int,
        kernel: Extent,
        name: str,
        *,
        stride: Extent = 1,
        pads: str | Extent = "same",
        dilation: Extent = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> str:
        """A convolution.

        ``pads`` is "same" (odd kernels: dilation * (k - 1) zeros, half on each side), one number, or all
        begins then all ends.
        """
        axes = self._axes[x]
        k, d = _each(kernel, axes), _each(dilation, axes)
        shape = (channels, self._channels[x] // groups, *k)
        inputs = [x, self.constant(f"{name}.weight", self.weights(shape, math.prod(shape[1:])))]
        if bias:
            inputs.append(self.constant(f"{name}.bias", self.uniform((channels,), -0.1, 0.1)))
        return self.node(
            "Conv",
            inputs,
            name,
            channels,
            kernel_shape=k,
            strides=_each(stride, axes),
            dilations=d,
            group=groups,
            pads=_pads(pads, k, d),
        )

    def conv_transpose(
        self, x: str, channels: int, kernel: Extent, name: str, *, stride: Extent, pads: Extent = 0
    ) -> str:
        """A transposed convolution with a bias."""
        axes = self._axes[x]
        k, s = _each(kernel, axes), _each(stride, axes)
        fan_in = self._channels[x] * math.prod(k) / math.prod(s)
        weight = self.weights((self._channels[x], channels, *k), fan_in)
        inputs = [
            x,
            self.constant(f"{name}.weight", weight),
            self.constant(f"{name}.bias", self.uniform((channels,), -0.1, 0.1)),
        ]
        padding = _pads(pads, k, [1] * axes)
        return self.node("ConvTranspose", inputs, name, channels, kernel_shape=k, strides=s, pads=padding)

    def dense(self, x: str, features: int, name: str) -> str:
        """A fully connected layer (Gemm) on (N, C)."""
        shape = (features, self._channels[x])
        weight = self.constant(f"{name}.weight", self.weights(shape, shape[1]))
        bias = self.constant(f"{name}.bias", self.uniform((features,), -0.1, 0.1))
        return self.node("Gemm", [x, weight, bias], name, features, transB=1)

    def matmul(self, x: str, rows: int, columns: int, name: str) -> str:
        """The last axis, of ``rows`` elements, times a constant matrix of shape (rows, columns)."""
        weight = self.constant(f"{name}.weight", self.weights((rows, columns), rows))
        return self.node("MatMul", [x, weight], name, self._channels[x])

    def batch_norm(self, x: str, name: str) -> str:
        """Batch normalisation at inference, with statistics that make folding it change every weight."""
        channels = self._channels[x]
        ranges = {"scale": (0.5, 1.5), "bias": (-0.1, 0.1), "mean": (-0.1, 0.1), "var": (0.5, 1.5)}
        inputs = [x]
        for part, (low, high) in ranges.items():
            inputs.append(self.constant(f"{name}.{part}", self.uniform((channels,), low, high)))
        return self.node("BatchNormalization", inputs, name, channels, epsilon=1e-5)

    def prelu(self, x: str, name: str) -> str:
        """PReLU with one slope per channel."""
        shape = (self._channels[x], *[1] * self._axes[x])
        slope = self.constant(f"{name}.slope", self.uniform(shape, 0.0, 0.5))
        return self.node("PRelu", [x, slope], name, self._channels[x])

    # --- layers without ---------------------------------------------------------------------------

    def unary(self, op: str, x: str, name: str, **attributes: Any) -> str:
        """An operator that keeps the shape: Relu, Sigmoid, ..."""
        return self.node(op, [x], name, self._channels[x], **attributes)

    def relu(self, x: str, name: str) -> str:
        """max(x, 0)."""
        return self.unary("Relu", x, name)

    def relu6(self, x: str, name: str) -> str:
        """x clipped to [0, 6]."""
        for bound, value in (("relu6.min", 0.0), ("relu6.max", 6.0)):
            if bound not in self._constants:
                self.constant(bound, np.array(value, np.float32))
        return self.node("Clip", [x, "relu6.min", "relu6.max"], name, self._channels[x])

    def binary(self, op: str, a: str, b: str, name: str) -> str:
        """Add, Mul, ... of two maps of one shape."""
        return self.node(op, [a, b], name, self._channels[a])

    def pool(self, op: str, x: str, kernel: Extent, name: str, *, stride: Extent, pads: Extent = 0) -> str:
        """MaxPool or AveragePool."""
        axes = self._axes[x]
        k = _each(kernel, axes)
        padding = _pads(pads, k, [1] * axes)
        return self.node(op, [x], name, self._channels[x], kernel_shape=k, strides=_each(stride, axes), pads=padding)

    def global_pool(self, x: str, name: str) -> str:
        """The mean of every channel, flattened to (N, C)."""
        mean = self.unary("GlobalAveragePool", x, name)
        return self.node("Flatten", [mean], f"{name}_flat", self._channels[x], axes=0, axis=1)

    def concat(self, parts: Sequence[str], name: str) -> str:
        """Channels of all parts, one after the other."""
        return self.node("Concat", parts, name, sum(self._channels[p] for p in parts), axis=1)

    def split(self, x: str, names: Sequence[str]) -> list[str]:
        """Channels cut into equal parts, one for each of ``names``; the node is called ``<first>_split``."""
        part = self._channels[x] // len(names)
        sizes = self.constant(f"{names[0]}_split.sizes", np.array([part] * len(names), np.int64))
        self._nodes.append(helper.make_node("Split", [x, sizes], list(names), name=f"{names[0]}_split", axis=1))
        return [self._made(name, part, self._axes[x]) for name in names]

    def upsample(self, x: str, factor: int, name: str) -> str:
        """Nearest-neighbour upsampling: every pixel repeated ``factor`` times along each spatial axis."""
        scales = self.constant(f"{name}.scales", np.array([1, 1] + [factor] * self._axes[x], np.float32))
        return self.node(
            "Resize",
            [x, "", scales],
            name,
            self._channels[x],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def slice(self, x: str, starts: Sequence[int], ends: Sequence[int], step: int, name: str) -> str:
        """Every ``step``-th position of [start, end) along each spatial axis."""
        axes = range(2, 2 + self._axes[x])
        parts = {"starts": starts, "ends": ends, "axes": axes, "steps": [step] * len(axes)}
        constants = [self.constant(f"{name}.{p}", np.array(list(v), np.int64)) for p, v in parts.items()]
        return self.node("Slice", [x, *constants], name, self._channels[x])

    def pad_channels(self, x: str, channels: int, name: str) -> str:
        """Zero channels appended until there are ``channels``."""
        widths = [0] * (2 * (2 + self._axes[x]))
        widths[2 + self._axes[x] + 1] = channels - self._channels[x]
        return self.node("Pad", [x, self.constant(f"{name}.pads", np.array(widths, np.int64))], name, channels)

    # --- the model --------------------------------------------------------------------------------

    def channels(self, x: str) -> int:
        """How many channels a tensor has."""
        return self._channels[x]

    def finish(self, *outputs: str) -> onnx.ModelProto:
        """The checked model. It declares the shapes of inputs and outputs only, as exporters commonly do."""
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self._nodes, self.name, self._inputs, infos, list(self._constants.values()))
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="dfc examples",
        )
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        for info, known in zip(model.graph.output, inferred.graph.output, strict=True):
            info.CopyFrom(known)
        onnx.checker.check_model(model, full_check=True)  # pyright: ignore[reportUnknownMemberType]
        return model

    def _made(self, name: str, channels: int, axes: int) -> str:
        if name in self._channels:
            raise ValueError(f"two tensors are named {name!r}")
        self._channels[name] = channels
        self._axes[name] = axes
        return name


def _each(extent: Extent, axes: int) -> list[int]:
    return [extent] * axes if isinstance(extent, int) else list(extent)


def _pads(pads: str | Extent, kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    if pads == "same":
        half = [d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True)]
        return half + half
    if isinstance(pads, str):
        raise ValueError(f"pads must be 'same' or numbers, not {pads!r}")
    return _each(pads, 2 * len(kernel))
