"""FSRCNN ("Accelerating the Super-Resolution Convolutional Neural Network", ECCV 2016), magnifying 4 times.

Its parameters are d = 56, s = 12 and m = 4.

The paper's last layer is a 9x9 transposed convolution of stride 4. Here, as in the DeFiNES case studies, it
is its sub-pixel form: a 3x3 convolution with 16 channels, one per position of a 4x4 output block. The
network ends there, without the rearrangement (DepthToSpace) of those channels into pixels.
"""

from __future__ import annotations

import onnx

from networks.builder import NetBuilder
from networks.unpadded import Step, build_unpadded

# (output channels, kernel) of every convolution
LAYERS = [(56, 5), (12, 1), (12, 3), (12, 3), (12, 3), (12, 3), (56, 1), (16, 3)]
NAMES = ["feature", "shrink", "map1", "map2", "map3", "map4", "expand", "upscale"]


def fsrcnn(width: int = 960, height: int = 540) -> onnx.ModelProto:
    """With zero padding: every map has the size of the input. PReLU after all layers but the last."""
    net = NetBuilder("fsrcnn", seed=1001)
    x = net.input((1, 1, height, width))
    for name, (channels, kernel) in zip(NAMES, LAYERS, strict=True):
        x = net.conv(x, channels, kernel, name)
        if name != NAMES[-1]:
            x = net.prelu(x, f"{name}_prelu")
    return net.finish(x)


def fsrcnn_unpadded(width: int = 960, height: int = 540) -> onnx.ModelProto:
    """As recorded for DeFiNES; ``width`` and ``height`` are those of the last map."""
    steps = [Step("conv", channels, kernel) for channels, kernel in LAYERS]
    return build_unpadded("fsrcnn_unpadded", 1101, 1, steps, (height, width))
