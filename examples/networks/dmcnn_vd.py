"""DMCNN-VD ("Learning Deep Convolutional Networks for Demosaicing", 2018): twenty 3x3 convolutions.

As in the DeFiNES case studies only the chain of convolutions is built: the paper's sum with an interpolated
image at the end is left out, and activations are ReLUs here.
"""

from __future__ import annotations

import onnx

from networks.builder import NetBuilder
from networks.unpadded import Step, build_unpadded

CHANNELS = [64] * 19 + [3]


def dmcnn_vd(width: int = 768, height: int = 512) -> onnx.ModelProto:
    """With zero padding; batch normalisation and ReLU after all layers but the last."""
    net = NetBuilder("dmcnn_vd", seed=1004)
    x = net.input((1, 3, height, width))
    for i, channels in enumerate(CHANNELS, start=1):
        last = i == len(CHANNELS)
        x = net.conv(x, channels, 3, f"conv{i}", bias=last)
        if not last:
            x = net.relu(net.batch_norm(x, f"bn{i}"), f"relu{i}")
    return net.finish(x)


def dmcnn_vd_unpadded(width: int = 768, height: int = 512) -> onnx.ModelProto:
    """As recorded for DeFiNES; ``width`` and ``height`` are those of the last map."""
    steps = [Step("conv", channels, 3) for channels in CHANNELS]
    return build_unpadded("dmcnn_vd_unpadded", 1104, 3, steps, (height, width))
