"""The schedule: what dfc emits. Plain frozen data that turns into JSON and back.

Energies in pJ, times in cycles, sizes and traffic in bits, extents as [x, y] positions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from dfc.backend_cost.schedule_json import dump, plain, typed
from dfc.errors import UsageError

SCHEMA = "dfc.schedule/3"
#: by a schema's name: what such a file is, and what reads it
_KINDS = {
    "dfc.schedule": ("schedule", "dfc report, dfc explain and dfc simulate read it"),
    "dfc.nest": ("loop nest", "dfc explain and dfc simulate read it"),
}


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
    """Which chip this is, and the precisions at which it computes and stores; ``page`` is all of it as text."""

    name: str
    source: str
    clock_hz: float
    units: int
    input_bits: int
    weight_bits: int
    partial_bits: int
    output_bits: int
    memories: tuple[MemoryInfo, ...]
    page: str


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

    They differ where overlap is recomputed. ``hidden_cycles``: by how much the latency is less than it would be if no
    copy were made while layers run.
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
    hidden_cycles: int = 0


@dataclass(frozen=True, slots=True)
class Baseline:
    """The same stacks with one tile each, and how many times more it costs than this schedule."""

    energy_pj: float
    latency_cycles: int
    energy_gain: float
    latency_gain: float


@dataclass(frozen=True, slots=True)
class NamedBaseline:
    """A simpler way to run the network, and how many times more it costs than this schedule.

    name:          "single-layer" (every layer alone, through DRAM), "layer-by-layer" (the same stacks with one tile
                   each) or "defines" (the best with one tile size and mode for all, by the reference's rules).
    tile, overlap: [x, y] and mode, where there is one for the whole network.
    """

    name: str
    energy_pj: float
    latency_cycles: int
    energy_gain: float
    latency_gain: float
    tile: tuple[int, int] | None = None
    overlap: str = ""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the network the model covers; ``opaque`` names operators whose traffic alone is counted.

    ``macs_share`` is of the MACs that are known: nobody knows how many an opaque operator executes.
    """

    layers: int
    modelled_layers: int
    macs_share: float
    bytes_share: float
    opaque: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CopyEntry:
    """A copy of part of a feature map between memories, before a layer starts or ``after`` it is done."""

    what: str
    tensor: str
    bits: int
    source: str
    target: str
    after: bool = False


@dataclass(frozen=True, slots=True)
class BesideEntry:
    """Cycles of a copy that pass early, while ``layer`` runs: before the layer for which it is made.

    copy:  which of that layer's copies, counted from 0.
    ahead: whether ``layer`` is one of the tile before, of whichever class that is.
    """

    copy: int
    layer: str
    cycles: int
    ahead: bool = False


@dataclass(frozen=True, slots=True)
class OperandEntry:
    """An operand of a loop nest: the loops that address it, the axes T, Y, X along which two of them slide a window.

    ``memories`` are named from the array outwards; the last is where it lives.
    """

    role: str
    dims: tuple[str, ...]
    windows: tuple[str, ...]
    bits: int
    partial_bits: int
    memories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NestEntry:
    """A loop nest in full: with the chip's page all that is needed to price it again.

    sizes:    of the loops larger than 1.
    strides, dilations, pads, inputs: per axis (t, y, x), as in ``dfc.backend_cost.nest.Nest``.
    work:     "mac", "operation" or "nothing".
    unrolled: (array dimension, loop, lanes, lanes in use on average).
    """

    sizes: dict[str, int]
    operands: tuple[OperandEntry, ...]
    unrolled: tuple[tuple[str, str, int, float], ...] = ()
    strides: tuple[int, int, int] = (1, 1, 1)
    dilations: tuple[int, int, int] = (1, 1, 1)
    pads: tuple[int, int, int] = (0, 0, 0)
    inputs: tuple[int, int, int] = (0, 0, 0)
    work: str = "mac"


@dataclass(frozen=True, slots=True)
class BufferEntry:
    """Bits of a memory that something takes: ``bits`` of them from ``address_bits`` on, in each instance.

    what:        "map" (part of a feature map that this tile computed or fetched; all of it where it stays for the
                 stack), "window" (a copy of what a layer reads), "loops" (what a layer's loop nest keeps of an operand,
                 both buffers where there are two), "H cache", "V cache" or "weights".
    name:        of the map, of the layer whose weights they are, or of the operand.
    first, last: layers from the start of the one to the end of the other; both empty for as long as the stack runs.
    copies:      2 where "loops" has two buffers, so that one is filled while the other is in use: ``bits`` are of both.
    lines, length, skewed: of a cache, positions along which it is a ring and along the other axis; see
                 ``LineBuffer`` in ``dfc.scheduling.parts``.
    steps:       of a step over time, whether it stays from step to step, whatever runs meanwhile: a ring buffer of what
                 earlier steps made, or weights that are loaded once.
    """

    what: str
    name: str
    memory: str
    address_bits: int
    bits: int
    first: str = ""
    last: str = ""
    copies: int = 1
    lines: int = 0
    length: int = 0
    skewed: bool = False
    steps: bool = False


@dataclass(frozen=True, slots=True)
class ReadEntry:
    """What a layer reads of a map in one tile: of what this tile computed or fetched, and out of each cache.

    It reads all of it in ``memory``: in place, or from a copy (a "window"). Of a map that the stack before left on chip
    as a whole, it reads ``held_bits`` and nothing else.
    """

    tensor: str
    fresh_bits: int
    h_cache_bits: int
    v_cache_bits: int
    memory: str = ""
    held_bits: int = 0


@dataclass(frozen=True, slots=True)
class MadeEntry:
    """What a layer computes of a map in one tile, or is the first to need of a map that is ``fetched``.

    Nothing is fetched where all that is needed lies in caches, or in a map that stays on chip.

    ``extents`` are [x, y] positions of those that the ``map`` has in all, ``bits`` theirs with all channels; of these
    the next two go into the caches.
    ``left`` are [x, y] positions before them that earlier tiles left in the caches, for this tile or for later ones.
    ``memory`` is where they lie.
    """

    tensor: str
    extents: tuple[int, int]
    map: tuple[int, int]
    bits: int
    h_cache_bits: int
    v_cache_bits: int
    left: tuple[int, int] = (0, 0)
    fetched: bool = False
    memory: str = ""


@dataclass(frozen=True, slots=True)
class TileLayer:
    """One layer in one tile class.

    extents:   [x, y] positions computed.
    memories:  per operand the memory at which it lives for this tile.
    unrolling: spatial loops as "array dimension: loop lanes".
    loops:     temporal loops, innermost first, as "loop size".
    cuts:      per operand, how many of the loops lie at or below each of its memories.
    nest:      the loop nest; none for what is not modelled. In the file an index into the list ``nests``, as equal
               ones are written once.
    energy_pj, latency_cycles: copies included; what they take of it follows.
    gap:       by what share of the objective a better mapping of the nest may exist; 0.0: there is none. None where
               nothing was searched.
    reads:     what it reads of each map.
    room_bits: sizes of memories as they were for the mapping, where others take part of them; what its own operands
               take where they live is in these.
    beside:    what of its copies passes while layers before it run; ``copy_cycles`` are without these hidden_cycles.
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
    copy_energy_pj: float
    copy_cycles: int
    nest: NestEntry | None
    gap: float | None = None
    reads: tuple[ReadEntry, ...] = ()
    room_bits: dict[str, int] = field(default_factory=dict[str, int])
    makes: tuple[MadeEntry, ...] = ()
    beside: tuple[BesideEntry, ...] = ()
    hidden_cycles: int = 0


@dataclass(frozen=True, slots=True)
class AxisEntry:
    """A column of tiles along X, or a row of them along Y: which positions its tiles make and read on that axis.

    kind:  of which kind this column (or row) is, as tile classes name them.
    makes: per map ``[from, to, kept, own from, own to]``: the tile makes (of a stack's input, fetches) the positions
           from ``from`` to before ``to``; those from ``kept`` on wait for later tiles. Of a stack's output it hands out
           its own.
    reads: per layer what it reads of each map, in the order of the layer's inputs: ``[map, from, to, before, after]``:
           the positions from ``from`` to before ``to``, and as many positions of padding before and after them.
    """

    kind: int
    makes: dict[str, tuple[int, int, int, int, int]]
    reads: dict[str, tuple[tuple[str, int, int, int, int], ...]]


@dataclass(frozen=True, slots=True)
class TileClassEntry:
    """Tiles that behave alike; energy and latency are of one of them. ``first`` is the tile that brings the weights.

    ``buffers`` are what one of them keeps in memories, besides what stays for the whole stack. ``kinds`` are those of
    its columns and rows: the first tile alone is in the class that is ``first``.
    """

    count: int
    first: bool
    energy_pj: float
    latency_cycles: int
    layers: tuple[TileLayer, ...]
    buffers: tuple[BufferEntry, ...] = ()
    kinds: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class StackEntry:
    """Layers that run depth-first together.

    ``overlap`` is the mode of all maps, or "mixed": then ``overlap_by_map`` has that of each map, also of those of
    which tiles share no positions. ``order`` of tiles is "rows" or "columns"; ``buffers`` stay in memories while the
    stack runs. Where a cache or the weights lie in several memories, all are named. Tiles are the ``columns`` times the
    ``rows``. A whole map among the buffers is handed over on chip: the stack that makes it and the next, which alone
    reads it, have the same buffer for it. Each tile of the one writes its own part of the map; each tile of the other
    reads whole windows of it, and keeps none of it in caches.
    """

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
    order: str = "rows"
    buffers: tuple[BufferEntry, ...] = ()
    columns: tuple[AxisEntry, ...] = ()
    rows: tuple[AxisEntry, ...] = ()
    overlap_by_map: dict[str, str] = field(default_factory=dict[str, str])


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
class Deadline:
    """How long a step may take, as it was ``asked``, and how long it takes in the steady state."""

    asked: str
    step_s: float
    takes_s: float

    @property
    def met(self) -> bool:
        """Whether it is fast enough."""
        return self.takes_s <= self.step_s


@dataclass(frozen=True, slots=True)
class FramesTried:
    """The best schedule of a step of so many frames, one of several numbers to choose from; all of a step.

    waiting_frames: how many frames the first window of a step waits for its last. met: whether it keeps the deadline,
                    if there is one.
    """

    frames: int
    energy_pj: float
    latency_cycles: int
    ring_bits: int
    weight_bits: int
    waiting_frames: int
    met: bool


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """Nodes of the model that have a form of their own in a step.

    form: "dense", "polyphase", "recomputed" or "recomputed polyphase".
    """

    form: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepInfo:
    """One step of a network over time: all else in the schedule is of a step in the steady state.

    axis:          along which time lies in this file, "y" or "x": a step is rows or columns of an endless recording;
                   "" where nothing of the past is kept.
    window_frames, hop_frames: of the model's window, and from one window to the next.
    frames, windows: new frames of a step, and windows that end in it.
    padding, form: "exact" or "stream"; "dense", "polyphase" or, with a form for each range, "mixed".
    warm_up_steps: steps before the first whose outputs are valid; each costs as much as any other.
    latency_frames: frames after a window's last that must be there before its outputs are known.
    ring_bits, weight_bits: what stays from step to step: ring buffers and maps between stacks, and resident weights.
    first_energy_pj, first_cycles: what the first step costs more, as resident weights are loaded.
    counted_frames: over so many frames from the first on, a frame takes ``amortised_energy_pj`` and
                    ``amortised_cycles``.
    tried:          numbers of frames per step of which this is the best, per frame; empty where one was asked for.
    time_axis:     which axis of the model's input is time, as "NAME:INDEX"; "" in files that do not say so.
    inputs:        of the model, as its window has them, with sizes bound.
    segments:      nodes whose form is not that of the others, where it is mixed.
    """

    axis: str
    window_frames: int
    hop_frames: int
    frames: int
    windows: int
    padding: str
    form: str
    warm_up_steps: int
    latency_frames: int
    ring_bits: int
    weight_bits: int
    first_energy_pj: float
    first_cycles: int
    counted_frames: int
    amortised_energy_pj: float
    amortised_cycles: float
    deadline: Deadline | None = None
    tried: tuple[FramesTried, ...] = ()
    time_axis: str = ""
    inputs: tuple[TensorInfo, ...] = ()
    segments: tuple[SegmentInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class Schedule:
    """A network's depth-first schedule on a chip, and what it costs.

    ``complete`` is false where the search was stopped before it was done. ``policy`` is "dfc", by which everything that
    is alive at once has room and an address, or the name of a reference that is repeated. ``off_chip`` says where
    weights and the maps between stacks lie in the outermost memory, save for those that are handed over on chip.
    ``baselines`` are what it is compared with. ``step`` is there where it is one step of a network over time, which
    runs again and again.
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
    policy: str = "dfc"
    off_chip: tuple[BufferEntry, ...] = ()
    baselines: tuple[NamedBaseline, ...] = ()
    step: StepInfo | None = None

    def to_json(self) -> str:
        """The schedule as the text of ``schedule.json``."""
        data = cast("dict[str, Any]", plain(self))
        nests: dict[str, int] = {}
        found: list[object] = []
        for layer in _tile_layers(data):
            if layer["nest"] is not None:
                number = nests.setdefault(json.dumps(layer["nest"]), len(nests))
                found += [layer["nest"]] if number == len(found) else []
                layer["nest"] = number
        return dump({**data, "nests": found}) + "\n"

    @staticmethod
    def from_json(text: str, place: str = "schedule") -> Schedule:
        """Read a schedule back.

        Raises:
            UsageError: CLI020 not JSON or not a schedule, CLI021 of another version.
        """
        data = read_object(text, "schedule", SCHEMA, place)
        try:
            nests = cast("tuple[NestEntry, ...]", typed(tuple[NestEntry, ...], data.pop("nests", [])))
            for layer in _tile_layers(data):
                if layer["nest"] is not None:
                    layer["nest"] = _numbered(nests, layer["nest"])
            return cast("Schedule", typed(Schedule, data))
        except (LookupError, AttributeError, TypeError, ValueError, RecursionError) as error:
            hint = "if another version of dfc wrote it, compile the model again with this one"
            raise UsageError("CLI020", f"a damaged schedule: {error}", place=place, hint=hint) from None


def read_object(text: str, what: str, schema: str, place: str) -> dict[str, Any]:
    """The JSON object of a file with the field ``schema``.

    Raises:
        UsageError: CLI020 not JSON or no such object, CLI021 of another version.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError("CLI020", f"not a {what}: {error}", place=place) from None
    if not isinstance(data, dict) or "schema" not in data:
        raise UsageError("CLI020", f"not a {what}: it has no field 'schema'", place=place)
    found = cast("dict[str, Any]", data)
    other = _KINDS.get(str(found["schema"]).partition("/")[0])
    if other is not None and other[0] != what:
        raise UsageError("CLI020", f"this file is a {other[0]}, not a {what}", place=place, hint=other[1])
    if found["schema"] != schema:
        raise UsageError(
            "CLI021",
            f"the {what} has schema {found['schema']!r}, this dfc reads {schema!r}",
            place=place,
            hint="compile the model again with this version" if what == "schedule" else "",
        )
    return found


def _numbered(nests: tuple[NestEntry, ...], number: object) -> NestEntry:
    if not isinstance(number, int) or not 0 <= number < len(nests):
        raise ValueError(f"there is no nest {number!r}")
    return nests[number]


def _tile_layers(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The tile layers of a schedule as JSON has it."""
    for stack in data["stacks"]:
        for tile_class in stack["tile_classes"]:
            yield from tile_class["layers"]
