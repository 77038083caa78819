"""The convolutions of SELDNet, for sound event localisation.

After "Sound Event Localization and Detection of Overlapping Sources Using Convolutional Recurrent Neural Networks"
(2019), in the three sizes that ACCO ("ACCO: Automated Causal CNN Scheduling Optimizer for Real-Time Edge Accelerators",
ICCD 2023) schedules: four times a convolution and a pool over frequencies. There is no padding, and time keeps its
rate. Maps are (N, C, time, frequency).
"""

from __future__ import annotations

from functools import partial

import onnx

from networks.builder import NetBuilder

CHANNELS_IN = 16
BLOCKS = 4


def seldnet(channels: int = 64, frames: int = 64, bands: int = 2) -> onnx.ModelProto:
    """Features of ``frames`` frames and ``bands`` bands from all that they depend on."""
    net = NetBuilder(f"seldnet_{channels}", seed=1011 + channels)
    for _ in range(BLOCKS):
        bands = 4 * bands + 2
    x = net.input((1, CHANNELS_IN, frames + 2 * BLOCKS, bands))
    for i in range(1, BLOCKS + 1):
        x = net.relu(net.conv(x, channels, 3, f"conv{i}", pads=0, bias=False), f"relu{i}")
        x = net.pool("MaxPool", x, (1, 4), f"pool{i}", stride=(1, 4))
    return net.finish(x)


seldnet_s, seldnet_m, seldnet_l = (partial(seldnet, channels) for channels in (64, 128, 256))
