"""Channel shuffle, as exporters write it: reshape to groups, swap them, reshape back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dfc.frontend.shapes import feature_sizes, read
from dfc.frontend.values import Value
from dfc.ir import Kind, Layer

_SWAP = (0, 2, 1, 3, 4)


def recognise_shuffles(
    layers: Sequence[Layer],
    values: Mapping[str, Value],
    perms: Mapping[str, tuple[int, ...]],
    outputs: Sequence[str],
) -> list[Layer]:
    """Replace (N,C,Y,X) -> (N,g,C/g,Y,X) -> (N,C/g,g,Y,X) -> (N,C,Y,X) by one layer that only permutes
    channels.

    ``perms`` holds the permutation of each transpose by its layer's name. Positions stay where they are, so
    the layer is no barrier; that is what ShuffleNet's stages need to be fused.
    """
    readers: dict[str, list[Layer]] = {}
    for layer in layers:
        for source in layer.sources:
            readers.setdefault(source.tensor, []).append(layer)
    gone: dict[str, Layer | None] = {}
    for layer in layers:
        chain = _chain(layer, readers, values, perms, outputs)
        if chain is not None:
            first, second, third = chain
            x, out = values[first.sources[0].tensor], values[third.output]
            gone[first.name] = gone[second.name] = None
            gone[third.name] = replace(
                third,
                name=second.name,
                kind=Kind.MOVE,
                op="channel_shuffle",
                inputs=(read(x),),
                sizes=feature_sizes(out),
                barrier=False,
                origin=first.origin + second.origin + third.origin,
            )
    result = (gone.get(layer.name, layer) for layer in layers)
    return [layer for layer in result if layer is not None]


def _chain(
    layer: Layer,
    readers: Mapping[str, list[Layer]],
    values: Mapping[str, Value],
    perms: Mapping[str, tuple[int, ...]],
    outputs: Sequence[str],
) -> tuple[Layer, Layer, Layer] | None:
    """The three layers of a shuffle that starts at ``layer``."""
    if layer.op != "reshape":
        return None
    second = _only_reader(layer, readers, outputs)
    third = _only_reader(second, readers, outputs) if second is not None else None
    if second is None or third is None or perms.get(second.name) != _SWAP or third.op != "reshape":
        return None
    before, grouped = values[layer.sources[0].tensor].shape, values[layer.output].shape
    same = values[third.output].shape == before
    split = len(before) == 4 and (before[0], *before[2:]) == (grouped[0], *grouped[3:])
    return (layer, second, third) if same and split else None


def _only_reader(layer: Layer, readers: Mapping[str, list[Layer]], outputs: Sequence[str]) -> Layer | None:
    users = readers.get(layer.output, [])
    return users[0] if len(users) == 1 and layer.output not in outputs else None
