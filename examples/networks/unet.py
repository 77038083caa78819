"""A small network of the shape of U-Net ("U-Net: Convolutional Networks for Biomedical Image Segmentation").

One way up is a transposed convolution and the other a resize; skips are concatenated; the head is gated by
a split.
"""

from __future__ import annotations

import onnx

from networks.builder import NetBuilder


def unet(size: int = 128, classes: int = 2) -> onnx.ModelProto:
    """A mask of the size of the (grey) input; ``size`` is a multiple of 4."""
    net = NetBuilder("unet", seed=1009)
    image = net.input((1, 1, size, size))
    skip1 = _double(net, image, 16, "down1")
    skip2 = _double(net, net.pool("MaxPool", skip1, 2, "pool1", stride=2), 32, "down2")
    x = _double(net, net.pool("MaxPool", skip2, 2, "pool2", stride=2), 64, "bottom")

    x = net.conv_transpose(x, 32, 4, "up2_deconv", stride=2, pads=1)
    x = _double(net, net.concat([skip2, x], "up2_concat"), 32, "up2")
    x = net.conv(net.upsample(x, 2, "up1_resize"), 16, 3, "up1_reduce")
    x = _double(net, net.concat([skip1, x], "up1_concat"), 16, "up1")

    features, gate = net.split(x, ["features", "gate"])
    gate = net.unary("Sigmoid", gate, "gate_sigmoid")
    x = net.binary("Mul", features, gate, "gated")
    return net.finish(net.conv(x, classes, 1, "mask"))


def _double(net: NetBuilder, x: str, channels: int, name: str) -> str:
    for half in (1, 2):
        x = net.relu(net.conv(x, channels, 3, f"{name}_conv{half}"), f"{name}_relu{half}")
    return x
