"""A convolutional network on spectrograms, as ACCO (ICCD 2023) schedules it.

Four times two convolutions and a pool that halves time and frequency, without padding: one output looks at 76 frames
and 76 frequencies, and moves on by 16 frames. Maps are (N, C, time, frequency).
"""

from __future__ import annotations

from functools import partial

import onnx

from networks.builder import NetBuilder

#: channels of the blocks at full width
BLOCKS = (64, 128, 256, 512)


def stft_cnn(quarters: int = 4, outputs: int = 1) -> onnx.ModelProto:
    """``quarters`` of the full width, for ``outputs`` x ``outputs`` results."""
    net = NetBuilder(f"stft_cnn_{25 * quarters:03}_{outputs}x{outputs}", seed=1020 + quarters)
    size = outputs
    for _ in BLOCKS:
        size = 2 * size + 4
    x = net.input((1, 1, size, size))
    for block, full in enumerate(BLOCKS, start=1):
        for half in (1, 2):
            name = f"conv{block}_{half}"
            x = net.relu(net.conv(x, full * quarters // 4, 3, name, pads=0, bias=False), f"relu{block}_{half}")
        x = net.pool("MaxPool", x, 2, f"pool{block}", stride=2)
    return net.finish(x)


stft_cnn_025, stft_cnn_050, stft_cnn_075, stft_cnn_100 = (partial(stft_cnn, quarters) for quarters in (1, 2, 3, 4))
stft_cnn_025_16x16 = partial(stft_cnn, 1, outputs=16)
stft_cnn_100_8x8 = partial(stft_cnn, 4, outputs=8)
