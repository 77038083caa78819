"""MC-CNN fast ("Stereo Matching by Training a CNN to Compare Image Patches", JMLR 2016).

This is the feature extractor that stereo matching runs on each image.
The normalisation of the feature vectors and their products, which follow it, are not part of the case study.
"""

from __future__ import annotations

import onnx

from networks.builder import NetBuilder
from networks.unpadded import Step, build_unpadded

LAYERS = 4
CHANNELS = 64


def mc_cnn(width: int = 1242, height: int = 376) -> onnx.ModelProto:
    """With zero padding, on a KITTI image; ReLU after all layers but the last."""
    net = NetBuilder("mc_cnn", seed=1005)
    x = net.input((1, 1, height, width))
    for i in range(1, LAYERS + 1):
        x = net.conv(x, CHANNELS, 3, f"conv{i}")
        if i != LAYERS:
            x = net.relu(x, f"relu{i}")
    return net.finish(x)


def mc_cnn_unpadded(width: int = 376, height: int = 1242) -> onnx.ModelProto:
    """As recorded for DeFiNES, which swaps the axes: the last map is 376 wide and 1242 high."""
    steps = [Step("conv", CHANNELS, 3)] * LAYERS
    return build_unpadded("mc_cnn_unpadded", 1105, 1, steps, (height, width))
