"""Example networks: functions that return checked ``onnx.ModelProto`` objects with seeded weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import onnx

from networks.blocks import rectangular, residual_block, separable_block, tiny_chain
from networks.dmcnn_vd import dmcnn_vd, dmcnn_vd_unpadded
from networks.fsrcnn import fsrcnn, fsrcnn_unpadded
from networks.mc_cnn import mc_cnn, mc_cnn_unpadded
from networks.mobilenet_v1 import mobilenetv1, mobilenetv1_unpadded
from networks.mobilenet_v2 import mobilenetv2
from networks.resnet18 import resnet18, resnet18_unpadded
from networks.seldnet import seldnet_l, seldnet_m, seldnet_s
from networks.stft import (
    stft_cnn_025,
    stft_cnn_025_16x16,
    stft_cnn_050,
    stft_cnn_075,
    stft_cnn_100,
    stft_cnn_100_8x8,
)
from networks.temporal import tcn_kws
from networks.unet import unet
from networks.volumetric import cnn3d

Builder = Callable[..., onnx.ModelProto]


@dataclass(frozen=True, slots=True)
class Network:
    """A builder, callable without arguments for the size that the README lists, and one line about it."""

    build: Builder
    about: str


NETWORKS: Mapping[str, Network] = MappingProxyType(
    {
        "fsrcnn": Network(fsrcnn, "super-resolution, 960x540"),
        "fsrcnn_unpadded": Network(fsrcnn_unpadded, "as recorded for DeFiNES"),
        "mobilenetv1": Network(mobilenetv1, "classification, 224x224"),
        "mobilenetv1_unpadded": Network(mobilenetv1_unpadded, "as recorded for DeFiNES"),
        "resnet18": Network(resnet18, "classification, 224x224"),
        "resnet18_unpadded": Network(resnet18_unpadded, "as recorded for DeFiNES"),
        "dmcnn_vd": Network(dmcnn_vd, "demosaicing, 768x512"),
        "dmcnn_vd_unpadded": Network(dmcnn_vd_unpadded, "as recorded for DeFiNES"),
        "mc_cnn": Network(mc_cnn, "stereo matching, 1242x376"),
        "mc_cnn_unpadded": Network(mc_cnn_unpadded, "as recorded for DeFiNES"),
        "mobilenetv2": Network(mobilenetv2, "classification, 224x224"),
        "tcn_kws": Network(tcn_kws, "keyword spotting, 1-D dilated causal convolutions"),
        "cnn3d": Network(cnn3d, "video classification, 3-D convolutions"),
        "seldnet_s": Network(seldnet_s, "sound event localisation, 64 channels"),
        "seldnet_m": Network(seldnet_m, "sound event localisation, 128 channels"),
        "seldnet_l": Network(seldnet_l, "sound event localisation, 256 channels"),
        "stft_cnn_025": Network(stft_cnn_025, "spectrograms, a quarter of the width, one output"),
        "stft_cnn_050": Network(stft_cnn_050, "spectrograms, half the width"),
        "stft_cnn_075": Network(stft_cnn_075, "spectrograms, three quarters of the width"),
        "stft_cnn_100": Network(stft_cnn_100, "spectrograms, full width"),
        "stft_cnn_025_16x16": Network(stft_cnn_025_16x16, "spectrograms, a quarter of the width, 16x16 outputs"),
        "stft_cnn_100_8x8": Network(stft_cnn_100_8x8, "spectrograms, full width, 8x8 outputs"),
        "unet": Network(unet, "segmentation, transposed convolution, resize, split and concatenation"),
        "tiny_chain": Network(tiny_chain, "three convolutions"),
        "residual_block": Network(residual_block, "one block of ResNet-18"),
        "separable_block": Network(separable_block, "one block of MobileNetV1"),
        "rectangular": Network(rectangular, "everything differs between rows and columns"),
    }
)
