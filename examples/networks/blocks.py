"""Small networks for tests: a chain, a residual and a separable block, and one where every axis differs."""

from __future__ import annotations

import onnx

from networks.builder import NetBuilder
from networks.resnet18 import residual_block as append_residual_block


def tiny_chain(size: int = 32, channels: int = 8) -> onnx.ModelProto:
    """Three padded 3x3 convolutions with ReLUs between them."""
    net = NetBuilder("tiny_chain", seed=1010)
    x = net.input((1, 3, size, size))
    for i in (1, 2):
        x = net.relu(net.conv(x, channels, 3, f"conv{i}"), f"relu{i}")
    return net.finish(net.conv(x, channels, 3, "conv3"))


def residual_block(size: int = 56, channels: int = 64) -> onnx.ModelProto:
    """The first block of ResNet-18."""
    net = NetBuilder("residual_block", seed=1011)
    x = net.input((1, channels, size, size))
    return net.finish(append_residual_block(net, x, channels, 1, "block"))


def separable_block(size: int = 112, channels: int = 32, out_channels: int = 64) -> onnx.ModelProto:
    """The first depthwise separable block of MobileNetV1."""
    net = NetBuilder("separable_block", seed=1012)
    x = net.input((1, channels, size, size))
    x = net.conv(x, channels, 3, "depthwise", groups=channels, bias=False)
    x = net.relu6(net.batch_norm(x, "depthwise_bn"), "depthwise_relu6")
    x = net.conv(x, out_channels, 1, "pointwise", bias=False)
    return net.finish(net.relu6(net.batch_norm(x, "pointwise_bn"), "pointwise_relu6"))


def rectangular() -> onnx.ModelProto:
    """Kernel, stride, dilation and padding differ between rows and columns: confusing them shows.

    It also holds a grouped convolution with several channels per group and a matrix product over the last
    axis.
    """
    net = NetBuilder("rectangular", seed=1013)
    x = net.input((1, 8, 40, 60))
    x = net.relu(net.conv(x, 16, (1, 7), "row"), "row_relu")
    x = net.relu(net.conv(x, 16, (7, 1), "column", stride=(2, 1)), "column_relu")
    x = net.relu(net.conv(x, 24, (3, 5), "dilated", dilation=(1, 3), pads=(0, 2, 1, 7)), "dilated_relu")
    x = net.relu(net.conv(x, 32, (2, 3), "grouped", stride=(1, 2), pads=(1, 0, 0, 1), groups=4), "grouped_relu")
    return net.finish(net.matmul(x, 28, 10, "project"))
