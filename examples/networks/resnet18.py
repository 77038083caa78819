"""ResNet-18 ("Deep Residual Learning for Image Recognition", CVPR 2016)."""

from __future__ import annotations

import onnx

from networks.builder import NetBuilder
from networks.unpadded import Step, build_unpadded

# (channels, stride of the first convolution) of the eight residual blocks
BLOCKS = [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]


def resnet18(size: int = 224, classes: int = 1000) -> onnx.ModelProto:
    """With unfused batch normalisation, and 1x1 projections where a block changes the shape (option B)."""
    net = NetBuilder("resnet18", seed=1003)
    x = net.input((1, 3, size, size))
    x = net.conv(x, 64, 7, "stem", stride=2, bias=False)
    x = net.relu(net.batch_norm(x, "stem_bn"), "stem_relu")
    x = net.pool("MaxPool", x, 3, "stem_pool", stride=2, pads=1)
    for i, (channels, stride) in enumerate(BLOCKS, start=1):
        x = residual_block(net, x, channels, stride, f"block{i}")
    x = net.global_pool(x, "pool")
    return net.finish(net.dense(x, classes, "classifier"))


def residual_block(net: NetBuilder, x: str, channels: int, stride: int, name: str) -> str:
    """Two 3x3 convolutions and the shortcut around them."""
    shortcut = x
    if stride != 1 or net.channels(x) != channels:
        shortcut = net.conv(x, channels, 1, f"{name}_project", stride=stride, bias=False)
        shortcut = net.batch_norm(shortcut, f"{name}_project_bn")
    x = net.conv(x, channels, 3, f"{name}_conv1", stride=stride, bias=False)
    x = net.relu(net.batch_norm(x, f"{name}_bn1"), f"{name}_relu1")
    x = net.conv(x, channels, 3, f"{name}_conv2", bias=False)
    x = net.batch_norm(x, f"{name}_bn2")
    return net.relu(net.binary("Add", shortcut, x, f"{name}_add"), f"{name}_relu2")


def resnet18_unpadded() -> onnx.ModelProto:
    """As recorded for DeFiNES: 7x7 before pooling, 627x627 input, no projections (see unpadded.py)."""
    steps = [Step("conv", 64, 7, 2), Step("maxpool", 64, 3, 2)]
    for channels, stride in BLOCKS:
        shortcut = len(steps) - 1
        steps += [Step("conv", channels, 3, stride), Step("conv", channels, 3)]
        steps.append(Step("add", channels, stride=stride, sources=(shortcut, shortcut + 2)))
    steps += [Step("avgpool", 512, 7), Step("conv", 1000)]
    return build_unpadded("resnet18_unpadded", 1103, 3, steps, (1, 1))
