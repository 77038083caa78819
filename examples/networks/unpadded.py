"""Networks without padding, sized from their last layer backwards.

The DeFiNES case studies describe networks this way: convolutions are "valid", the size of the last map is
given, and every earlier map is as large as its readers need: IX = stride * (OX - 1) + FX, the largest over
all readers. The models built here have one node per recorded layer, called "L" and the recorded id; they
have no biases, activations or normalisation. Other nodes only bring the operands of an addition to one
shape:

- ``L<n>_crop``: the larger operand cropped about its centre (Slice);
- ``L<n>_channels``: zero channels appended where the shortcut has fewer (Pad), the parameter-free shortcut
  (option A) of the ResNet paper.

Where the shortcut passes a strided convolution the crop takes every second position. Those are the centres
of the windows that the block's convolutions see, so both operands of the addition stay aligned.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from networks.builder import NetBuilder

Size = tuple[int, int]  # rows, columns


@dataclass(frozen=True, slots=True)
class Step:
    """One recorded layer.

    op:       "conv", "depthwise", "maxpool", "avgpool" or "add".
    channels: of its output.
    sources:  recorded ids of what it reads; empty for the step just before. -1 is the network's input.
    stride:   of its window; for an addition, of the crop of its first source.
    """

    op: str
    channels: int
    kernel: int = 1
    stride: int = 1
    sources: tuple[int, ...] = ()


def source_ids(steps: list[Step], index: int) -> tuple[int, ...]:
    """The recorded ids that a step reads."""
    return steps[index].sources or (index - 1,)


def grow(steps: list[Step], last: Size) -> dict[int, Size]:
    """Size of every map by recorded id (-1 is the input), grown backwards from the last one."""
    sizes: dict[int, Size] = {len(steps) - 1: last}
    for index in range(len(steps) - 1, -1, -1):
        step = steps[index]
        for position, source in enumerate(source_ids(steps, index)):
            stride = step.stride if position == 0 else 1
            rows, columns = (stride * (extent - 1) + step.kernel for extent in sizes[index])
            known = sizes.get(source, (0, 0))
            sizes[source] = (max(rows, known[0]), max(columns, known[1]))
    return sizes


def build_unpadded(name: str, seed: int, in_channels: int, steps: list[Step], last: Size) -> onnx.ModelProto:
    """The model whose last map has ``last`` (rows, columns)."""
    net = NetBuilder(name, seed, gain_squared=1.0)
    sizes = grow(steps, last)
    tensors = {-1: net.input((1, in_channels, *sizes[-1]))}
    for index, step in enumerate(steps):
        sources = source_ids(steps, index)
        layer = f"L{index}"
        if step.op == "add":
            operands = [
                _fit(
                    net,
                    tensors[s],
                    sizes[s],
                    sizes[index],
                    step.stride if i == 0 else 1,
                    step.channels,
                    layer,
                )
                for i, s in enumerate(sources)
            ]
            tensors[index] = net.binary("Add", operands[0], operands[1], layer)
        else:
            tensors[index] = _window(net, tensors[sources[0]], step, layer)
    return net.finish(tensors[len(steps) - 1])


def _window(net: NetBuilder, x: str, step: Step, layer: str) -> str:
    if step.op == "maxpool":
        return net.pool("MaxPool", x, step.kernel, layer, stride=step.stride)
    if step.op == "avgpool":
        return net.pool("AveragePool", x, step.kernel, layer, stride=step.stride)
    groups = step.channels if step.op == "depthwise" else 1
    return net.conv(x, step.channels, step.kernel, layer, stride=step.stride, pads=0, groups=groups, bias=False)


def _fit(net: NetBuilder, x: str, have: Size, want: Size, stride: int, channels: int, layer: str) -> str:
    if have != want or stride != 1:
        spans = [stride * (extent - 1) + 1 for extent in want]
        margins = [(h - s) // 2 for h, s in zip(have, spans, strict=True)]
        ends = [m + s for m, s in zip(margins, spans, strict=True)]
        x = net.slice(x, margins, ends, stride, f"{layer}_crop")
    if net.channels(x) != channels:
        x = net.pad_channels(x, channels, f"{layer}_channels")
    return x
