"""The schedule: what dfc emits. Plain frozen data that turns into JSON and back.

Energies in pJ, times in cycles, sizes and traffic in bits, extents as [x, y] positions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

from dfc.errors import UsageError

SCHEMA = "dfc.schedule/1"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A network input or output as the model declares it."""

    name: str
    shape: tuple[int, ...]
    bits: int


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which network this is: ``sha256`` is of the ONNX file."""

    name: str
    file: str
    sha256: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


@dataclass(frozen=True, slots=True)
class MemoryInfo:
    """A memory of the chip."""

    name: str
    size_bits: int
    instances: int
    holds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HardwareInfo:
    """Which chip this is, and the precisions at which it computes and stores."""

    name: str
    source: str
    clock_hz: float
    units: int
    input_bits: int
    weight_bits: int
    partial_bits: int
    output_bits: int
    memories: tuple[MemoryInfo, ...]


@dataclass(frozen=True, slots=True)
class LatencySplit:
    """Where the cycles go: computing, stalled on a port, filling memories before a layer starts, copying."""

    compute: int
    stall: int
    load: int
    copy: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Of the whole network. ``macs`` are those that the schedule executes, ``network_macs`` those of the network.

    They differ where overlap is recomputed.
    """

    energy_pj: float
    latency_cycles: int
    macs: int
    dram_read_bits: int
    dram_write_bits: int
    network_macs: int
    compute_energy_pj: float
    mac_energy_pj: float
    copy_energy_pj: float
    energy_by_memory_pj: dict[str, float]
    energy_by_operand_pj: dict[str, float]
    latency: LatencySplit
    utilisation: float
    time_s: float


@dataclass(frozen=True, slots=True)
class Baseline:
    """The same stacks with one tile each, and how many times more it costs than this schedule."""

    energy_pj: float
    latency_cycles: int
    energy_gain: float
    latency_gain: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the network the model covers; ``opaque`` names operators whose traffic alone is counted."""

    layers: int
    modelled_layers: int
    macs_share: float
    bytes_share: float
    opaque: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CopyEntry:
    """A copy of part of a feature map between memories, before a layer starts."""

    what: str
    tensor: str
    bits: int
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class TileLayer:
    """One layer in one tile class.

    extents:   [x, y] positions computed.
    memories:  per operand the memory at which it lives for this tile.
    unrolling: spatial loops as "array dimension: loop lanes".
    loops:     temporal loops, innermost first, as "loop size".
    cuts:      per operand, how many of the loops lie at or below each of its memories.
    """

    layer: str
    extents: tuple[int, int]
    memories: dict[str, str]
    unrolling: tuple[str, ...]
    loops: tuple[str, ...]
    cuts: dict[str, tuple[int, ...]]
    copies: tuple[CopyEntry, ...]
    energy_pj: float
    latency_cycles: int


@dataclass(frozen=True, slots=True)
class TileClassEntry:
    """Tiles that behave alike; energy and latency are of one of them. ``first`` is the tile that brings the weights."""

    count: int
    first: bool
    energy_pj: float
    latency_cycles: int
    layers: tuple[TileLayer, ...]


@dataclass(frozen=True, slots=True)
class StackEntry:
    """Layers that run depth-first together."""

    layers: tuple[str, ...]
    overlap: str
    tile: tuple[int, int]
    map: tuple[int, int]
    tiles: int
    energy_pj: float
    latency_cycles: int
    latency: LatencySplit
    energy_by_memory_pj: dict[str, float]
    dram_read_bits: int
    dram_write_bits: int
    weight_bits: int
    weight_memory: str
    h_cache_memory: str
    v_cache_memory: str
    layer_by_layer: Baseline | None
    tile_classes: tuple[TileClassEntry, ...]


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """One layer over all tiles; energies include the copies before it."""

    name: str
    op: str
    kind: str
    stack: int
    energy_pj: float
    latency_cycles: int
    compute_energy_pj: float
    energy_by_memory_pj: dict[str, float]
    energy_by_operand_pj: dict[str, float]
    latency: LatencySplit
    utilisation: float
    macs: int
    operations: int
    dram_read_bits: int
    dram_write_bits: int
    weight_bits: int
    fused: tuple[str, ...]
    origin: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A network's depth-first schedule on a chip, and what it costs.

    ``complete`` is false where the search was stopped before it was done.
    """

    schema: str
    generator: str
    model: ModelInfo
    hw: HardwareInfo
    objective: str
    cost_model: str
    complete: bool
    totals: Totals
    layer_by_layer: Baseline | None
    coverage: Coverage
    stacks: tuple[StackEntry, ...]
    layers: tuple[LayerEntry, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The schedule as the text of ``schedule.json``."""
        return json.dumps(_plain(self), indent=1) + "\n"

    @staticmethod
    def from_json(text: str, place: str = "schedule") -> Schedule:
        """Read a schedule back.

        Raises:
            UsageError: CLI020 not JSON or not a schedule, CLI021 of another version.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError("CLI020", f"not a schedule: {error}", place=place) from None
        if not isinstance(data, dict) or "schema" not in data:
            raise UsageError("CLI020", "not a schedule: it has no field 'schema'", place=place)
        schema = cast("dict[str, Any]", data)["schema"]
        if schema != SCHEMA:
            raise UsageError(
                "CLI021",
                f"the schedule has schema {schema!r}, this dfc reads {SCHEMA!r}",
                place=place,
                hint="compile the model again with this version",
            )
        try:
            return cast("Schedule", _typed(Schedule, data))
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError("CLI020", f"a damaged schedule: {error}", place=place) from None


def _plain(value: object) -> object:
    """Data classes, tuples and enums as JSON knows them."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in cast("dict[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in cast("list[object]", value)]
    return value


def _typed(kind: Any, value: Any) -> object:
    """JSON data as an instance of a type hint; raises TypeError, KeyError or ValueError where it is not one."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else _typed(args[0], value)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        if not isinstance(value, dict):
            raise TypeError(f"expected an object for {getattr(kind, '__name__', kind)}")
        return cast("Any", kind)(**{f.name: _typed(hints[f.name], value[f.name]) for f in fields(kind)})
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"expected a list, found {value!r}")
        each = args[0] if len(args) == 2 and args[1] is Ellipsis else None
        items = cast("Sequence[Any]", value)
        return tuple(_typed(each or args[i], v) for i, v in enumerate(items))
    if origin is dict:
        return {str(k): _typed(args[1], v) for k, v in cast("dict[Any, Any]", value).items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, found {value!r}")
    return value
