"""A small network on video clips: (N, C, time, rows, columns).

The first two convolutions split space from time like R(2+1)D ("A Closer Look at Spatiotemporal Convolutions
for Action Recognition", CVPR 2018); the others are full 3-D.
"""

from __future__ import annotations

import onnx

from networks.builder import NetBuilder


def cnn3d(frames: int = 16, size: int = 56, classes: int = 10) -> onnx.ModelProto:
    """Scores of 10 actions for a clip of 16 frames."""
    net = NetBuilder("cnn3d", seed=1008)
    x = net.input((1, 3, frames, size, size))
    x = net.relu(net.conv(x, 16, (1, 7, 7), "space", stride=(1, 2, 2)), "space_relu")
    x = net.relu(net.conv(x, 16, (3, 1, 1), "time"), "time_relu")
    x = net.pool("MaxPool", x, (1, 2, 2), "pool1", stride=(1, 2, 2))
    x = net.conv(x, 32, 3, "volume1", bias=False)
    x = net.relu(net.batch_norm(x, "volume1_bn"), "volume1_relu")
    x = net.relu(net.conv(x, 64, 3, "volume2", stride=2), "volume2_relu")
    x = net.global_pool(x, "pool2")
    return net.finish(net.dense(x, classes, "classifier"))
