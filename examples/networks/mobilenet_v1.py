"""MobileNetV1 ("MobileNets: Efficient CNNs for Mobile Vision Applications", 2017), width 1.0."""

from __future__ import annotations

import onnx

from networks.builder import NetBuilder
from networks.unpadded import Step, build_unpadded

STEM_CHANNELS = 32
# (output channels, stride of the depthwise half) of the 13 separable blocks
BLOCKS = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
]


def mobilenetv1(size: int = 224, classes: int = 1000) -> onnx.ModelProto:
    """With batch normalisation and ReLU6 after every convolution, unfused.

    Strided layers pad only the bottom and the right, as the original's "SAME" padding does where sizes are
    even.
    """
    net = NetBuilder("mobilenetv1", seed=1002)
    x = net.input((1, 3, size, size))
    x = _conv(net, x, STEM_CHANNELS, 3, "stem", stride=2)
    for i, (channels, stride) in enumerate(BLOCKS, start=1):
        x = _conv(net, x, net.channels(x), 3, f"block{i}_depthwise", stride=stride, groups=net.channels(x))
        x = _conv(net, x, channels, 1, f"block{i}_pointwise")
    x = net.global_pool(x, "pool")
    return net.finish(net.dense(x, classes, "classifier"))


def _conv(net: NetBuilder, x: str, channels: int, kernel: int, name: str, *, stride: int = 1, groups: int = 1) -> str:
    pads = "same" if stride == 1 else (0, 0, 1, 1)
    x = net.conv(x, channels, kernel, name, stride=stride, pads=pads, groups=groups, bias=False)
    return net.relu6(net.batch_norm(x, f"{name}_bn"), f"{name}_relu6")


def mobilenetv1_unpadded() -> onnx.ModelProto:
    """As recorded for DeFiNES: 7x7 before pooling, 507x507 input, a 1x1 convolution as classifier."""
    steps = [Step("conv", STEM_CHANNELS, 3, 2)]
    for channels, stride in BLOCKS:
        steps += [Step("depthwise", steps[-1].channels, 3, stride), Step("conv", channels)]
    steps += [Step("avgpool", 1024, 7), Step("conv", 1000)]
    return build_unpadded("mobilenetv1_unpadded", 1102, 3, steps, (1, 1))
