"""A dilated causal network for keyword spotting.

Its residual blocks are those of the TCN ("An Empirical Evaluation of Generic Convolutional and Recurrent
Networks for Sequence Modeling", 2018).

All tensors are (N, C, time). Convolutions are padded on the left only, so that no output depends on a later
frame, and every frame gets its own scores: a streaming device computes the network frame by frame.
"""

from __future__ import annotations

import onnx

from networks.builder import NetBuilder

# (channels, dilation) of the residual blocks
BLOCKS = [(32, 1), (32, 2), (48, 4), (48, 8)]


def tcn_kws(frames: int = 98, features: int = 40, classes: int = 12) -> onnx.ModelProto:
    """40 filter-bank features of one second of sound (98 frames of 10 ms) to scores of 12 words per frame."""
    net = NetBuilder("tcn_kws", seed=1007)
    x = net.input((1, features, frames))
    x = net.relu(_causal(net, x, 32, 1, "stem"), "stem_relu")
    for i, (channels, dilation) in enumerate(BLOCKS, start=1):
        x = _block(net, x, channels, dilation, f"block{i}")
    return net.finish(net.conv(x, classes, 1, "scores"))


def _block(net: NetBuilder, x: str, channels: int, dilation: int, name: str) -> str:
    shortcut = x
    if net.channels(x) != channels:
        shortcut = net.conv(x, channels, 1, f"{name}_project")
    for half in (1, 2):
        x = net.relu(_causal(net, x, channels, dilation, f"{name}_conv{half}"), f"{name}_relu{half}")
    return net.relu(net.binary("Add", shortcut, x, f"{name}_add"), f"{name}_relu")


def _causal(net: NetBuilder, x: str, channels: int, dilation: int, name: str) -> str:
    return net.conv(x, channels, 3, name, dilation=dilation, pads=(2 * dilation, 0))
