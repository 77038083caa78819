"""MobileNetV2 ("Inverted Residuals and Linear Bottlenecks", CVPR 2018), width 1.0."""

from __future__ import annotations

import onnx

from networks.builder import NetBuilder

# (expansion, output channels, repeats, stride of the first) as in table 2 of the paper
STAGES = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


def mobilenetv2(size: int = 224, classes: int = 1000) -> onnx.ModelProto:
    """With unfused batch normalisation and ReLU6; the last convolution of a block is linear."""
    net = NetBuilder("mobilenetv2", seed=1006)
    x = net.input((1, 3, size, size))
    x = _conv(net, x, 32, 3, "stem", stride=2)
    block = 0
    for expansion, channels, repeats, first_stride in STAGES:
        for repeat in range(repeats):
            block += 1
            x = _inverted_residual(net, x, expansion, channels, first_stride if repeat == 0 else 1, f"block{block}")
    x = _conv(net, x, 1280, 1, "head")
    x = net.global_pool(x, "pool")
    return net.finish(net.dense(x, classes, "classifier"))


def _inverted_residual(net: NetBuilder, x: str, expansion: int, channels: int, stride: int, name: str) -> str:
    shortcut = x
    hidden = expansion * net.channels(x)
    if expansion != 1:
        x = _conv(net, x, hidden, 1, f"{name}_expand")
    x = _conv(net, x, hidden, 3, f"{name}_depthwise", stride=stride, groups=hidden)
    x = _conv(net, x, channels, 1, f"{name}_project", linear=True)
    if stride == 1 and net.channels(shortcut) == channels:
        x = net.binary("Add", shortcut, x, f"{name}_add")
    return x


def _conv(
    net: NetBuilder,
    x: str,
    channels: int,
    kernel: int,
    name: str,
    *,
    stride: int = 1,
    groups: int = 1,
    linear: bool = False,
) -> str:
    x = net.conv(x, channels, kernel, name, stride=stride, groups=groups, bias=False)
    x = net.batch_norm(x, f"{name}_bn")
    return x if linear else net.relu6(x, f"{name}_relu6")
