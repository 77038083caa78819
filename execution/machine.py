"""The chip's memories with their contents, and how feature maps lie in them: position after position, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dfc.backend_cost.schedule import BufferEntry, Schedule
from dfc.execution.fault import Fault
from dfc.execution.layout import WholeMap
from dfc.execution.memory import EMPTY, Array, Image, Overwriters, Place, Rows, read, unit_of, write
from dfc.execution.programs import Programs
from dfc.hwdsl import Arch
from dfc.ir import Axis, Role, Tensor


@dataclass(frozen=True)
class MapInfo:
    """A feature map: its first tag, elements per position, type, and positions (y, x) that earlier steps made.

    An element's tag is ``base`` plus its position's number (row by row) times ``columns`` plus its number there: batch,
    channel and time, the last of these fastest.

    shape: on the model's own axes, of what is made or received of it.
    """

    tensor: Tensor
    base: int
    columns: int
    past: tuple[int, int]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    tag_type: type[np.signedinteger[Any]]

    @property
    def extents(self) -> tuple[int, int]:
        """(y, x), the past included."""
        return self.tensor.spatial[Axis.Y], self.tensor.spatial[Axis.X]

    @property
    def positions(self) -> Rows:
        """Numbers of the positions that are made or received, row by row."""
        return self.numbers(*(np.arange(lo, hi) for lo, hi in zip(self.past, self.extents, strict=True)))

    def numbers(self, ys: Rows, xs: Rows) -> Rows:
        """Numbers of the positions of a region, row by row."""
        return np.asarray((ys[:, None] * self.extents[1] + xs).ravel())

    def tags(self, ys: Rows, xs: Rows, columns: Rows | None = None) -> Array:
        """Tags of positions as [position, column]."""
        return self.tags_at(self.numbers(ys, xs), columns)

    def tags_at(self, positions: Rows, columns: Rows | None = None) -> Array:
        """Tags of positions by their numbers."""
        first = (self.base + positions * self.columns).astype(self.tag_type)
        inside = np.arange(self.columns) if columns is None else columns
        return first[:, None] + inside.astype(self.tag_type)

    def element(self, tag: int) -> str:
        """An element in words."""
        position, column = divmod(tag - self.base, self.columns)
        y, x = divmod(position, self.extents[1])
        channel, t = divmod(column, self.tensor.spatial[Axis.T])
        batch, channel = divmod(channel, self.tensor.channels)
        more = f"batch {batch}, " * (self.tensor.batch > 1) + f"time {t}, " * (self.tensor.spatial[Axis.T] > 1)
        return f"element ({more}channel {channel}, row {y}, column {x}) of '{self.tensor.name}'"


class Machine:
    """Memories that hold a schedule's buffers, poisoned.

    step: of a network over time, how many steps came before the one that runs.
    """

    def __init__(self, schedule: Schedule, arch: Arch, network: Programs):
        """Raises Fault where a buffer lies in no memory or beyond the end of one, or is of nothing that there is."""
        self.schedule = schedule
        self.arch = arch
        self.network = network
        self.graph = network.graph
        self.step = 0
        self.lasting = [b for stack in schedule.stacks for b in stack.buffers if b.steps]
        self.outside = arch.memories[arch.paths[Role.O][-1]].name
        self._check_precisions()
        self.map_bits, self.weight_bits = arch.array.output_bits, arch.array.weight_bits
        self.overwriters = Overwriters()
        self.maps: dict[str, MapInfo] = {}
        self._weights: dict[str, int] = {}
        self._outlived: dict[int, str] = {}
        self._noise: dict[tuple[str, int], Array] = {}
        self._names: list[tuple[int, str, bool]] = []
        self._number(network.dtypes())
        self.images = self._images()

    def _check_precisions(self) -> None:
        """The file's precisions are those of its page."""
        hw, array = self.schedule.hw, self.arch.array
        for name in ("input_bits", "weight_bits", "partial_bits", "output_bits"):
            said, meant = getattr(hw, name), getattr(array, name)
            if said != meant:
                raise Fault("file", f"'hw' has {name} {said}, the chip's page {meant}", cause="one of them was changed")

    def _number(self, dtypes: dict[str, np.dtype[Any]]) -> None:
        self._elements = sum(t.elements for t in self.graph.tensors.values())
        self._elements += sum(layer.weight_elements for layer in self.graph.layers)
        self.wide = self._elements >= 2**31 or any(kind.itemsize > 4 for kind in dtypes.values())
        tag_type = np.int64 if self.wide else np.int32
        at = 0
        for name, tensor in self.graph.tensors.items():
            if name in dtypes:
                columns = tensor.batch * tensor.channels * tensor.spatial[Axis.T]
                past = self.graph.past_along(name, Axis.Y), self.graph.past_along(name, Axis.X)
                shape = self.network.made_shape(name)
                self.maps[name] = MapInfo(tensor, at, columns, past, shape, dtypes[name], tag_type)
                self._names.append((at, name, True))
                at += tensor.elements
        for layer in self.graph.layers:
            self._weights[layer.name] = at
            self._names.append((at, layer.name, False))
            at += layer.weight_elements

    def _buffers(self) -> Iterator[BufferEntry]:
        yield from self.schedule.off_chip
        for stack in self.schedule.stacks:
            yield from stack.buffers
            for tile in stack.tile_classes:
                yield from tile.buffers

    def _images(self) -> dict[str, Image]:
        sizes = {m.name: m.size_bits for m in self.arch.memories}
        taken: dict[str, list[BufferEntry]] = {name: [] for name in sizes}
        for b in self.schedule.off_chip:
            if b.memory != self.outside:
                raise Fault("file", f"{b.what} '{b.name}' should lie off chip, and is said to lie in {b.memory}")
        for b in self._buffers():
            if b.memory not in sizes:
                raise Fault("file", f"{b.what} '{b.name}' lies in '{b.memory}', a memory that the chip lacks")
            if b.address_bits < 0 or b.bits < 0 or b.address_bits + b.bits > sizes[b.memory]:
                end = b.address_bits + b.bits
                what = f"{b.what} '{b.name}' reaches from bit {b.address_bits:,} to {end:,} of {b.memory}"
                raise Fault("file", f"{what}, which has {sizes[b.memory]:,}", cause="a wrong address or size")
            self._named(b)
            self._bounded(b)
            taken[b.memory].append(b)
        precisions = self.map_bits, self.weight_bits
        return {
            name: Image(
                name,
                sizes[name],
                unit_of(buffers, precisions),
                [(b.address_bits, b.address_bits + b.bits) for b in buffers],
                self.wide,
            )
            for name, buffers in taken.items()
        }

    def _named(self, b: BufferEntry) -> None:
        """A buffer is of a map or of a layer's weights that there are; those of loops are named otherwise."""
        if b.what != "loops" and b.name not in (self._weights if b.what == "weights" else self.maps):
            raise Fault("file", f"{b.what} '{b.name}' lies in {b.memory}, and the model has nothing of that name")

    def _bounded(self, b: BufferEntry) -> None:
        """Off chip nothing takes more than what it is named for: sizes there are not bounded by a memory."""
        if b.memory != self.outside:
            return
        if b.what == "weights":
            most = self.graph.layers[self.graph.index[b.name]].weight_elements * self.weight_bits
        elif b.what == "loops":
            most = max(t.elements for t in self.graph.tensors.values()) * self.arch.array.partial_bits * 2
        else:
            most = 2 * max(1, b.lines) * self.maps[b.name].tensor.elements * self.map_bits
        if b.bits > most:
            what = f"{b.what} '{b.name}' takes {b.bits:,} bits off chip"
            raise Fault("file", f"{what}, more than it can need", cause="a wrong size")

    # --- places

    def map_place(self, tensor: str, buffer: BufferEntry, columns: int | None = None) -> Place:
        """Rows of positions of a map; ``columns`` where not all channels lie there."""
        info = self.maps[tensor]
        return Place(self.images[buffer.memory], buffer, info.columns if columns is None else columns, self.map_bits)

    def weight_place(self, buffer: BufferEntry) -> Place:
        """Rows of one weight."""
        return Place(self.images[buffer.memory], buffer, 1, self.weight_bits)

    def off_chip(self, what: str, name: str) -> BufferEntry | None:
        """Where weights or a whole map lie in the outermost memory."""
        return next((b for b in self.schedule.off_chip if (b.what, b.name) == (what, name)), None)

    # --- weights

    def weight_tags(self, layer: str) -> Array:
        """Tags of a layer's constants, as [weight, 1]."""
        count = self.graph.layers[self.graph.index[layer]].weight_elements
        return self._weights[layer] + np.arange(count)[:, None]

    def wrong_weight(self, layer: str, buffer: BufferEntry) -> tuple[int, int] | None:
        """(number, what lies there as a tag) of the first of a layer's constants that a buffer does not have."""
        wanted = self.weight_tags(layer)
        _, tags = read(self.weight_place(buffer), np.arange(len(wanted)))
        wrong = np.flatnonzero(tags != wanted)
        return (int(wrong[0]), int(tags[wrong[0], 0])) if len(wrong) else None

    def load_weights(self, layer: str, buffer: BufferEntry) -> None:
        """Put a layer's constants off chip, before anything runs."""
        tags = self.weight_tags(layer)
        write(self.weight_place(buffer), np.arange(len(tags)), np.zeros(tags.shape, np.uint32), tags)

    # --- feature maps

    def rows_of(self, tensor: str, data: Array) -> Array:
        """A region's numbers as [position, column], raw."""
        info = self.maps[tensor]
        view = Tensor(tensor, data.shape)
        order = self.network.axes.rows
        turned = np.ascontiguousarray(data).reshape(view.batch, view.channels, *view.spatial).transpose(order)
        rows = turned.shape[0] * turned.shape[1]
        return _raw(np.ascontiguousarray(turned.reshape(rows, -1)), info.dtype, self.wide)

    def array_of(self, tensor: str, rows: Array, shape: Sequence[int]) -> Array:
        """The reverse of :meth:`rows_of`."""
        info = self.maps[tensor]
        view = Tensor(tensor, tuple(shape))
        order = self.network.axes.rows
        extents = [(view.batch, view.channels, *view.spatial)[axis] for axis in order]
        numbers = _cooked(rows, info.dtype).reshape(extents)
        return np.ascontiguousarray(numbers.transpose(np.argsort(order))).reshape(tuple(shape))

    def grid(self, tensor: str) -> WholeMap:
        """How a whole map lies."""
        info = self.maps[tensor]
        return WholeMap(info.extents, info.past, self.step)

    def _rows(self, tensor: str, buffer: BufferEntry) -> Rows:
        """Where what is made of a map lies in a buffer that has it as a whole."""
        info = self.maps[tensor]
        ys, xs = (np.arange(lo, hi) for lo, hi in zip(info.past, info.extents, strict=True))
        return self.grid(tensor).rows(ys[:, None], xs, ring=buffer.memory != self.outside).ravel()

    def load_map(self, tensor: str, buffer: BufferEntry, data: Array) -> None:
        """Put a whole map into a buffer; of a map with a past, what is made of it."""
        info = self.maps[tensor]
        rows, tags = self.rows_of(tensor, data), info.tags_at(info.positions)
        write(self.map_place(tensor, buffer), self._rows(tensor, buffer), rows, tags)

    def whole_map(self, tensor: str, buffer: BufferEntry) -> tuple[Array, Array]:
        """(numbers, tags as [position, column]) of a whole map in a buffer; of one with a past, what is made of it."""
        info = self.maps[tensor]
        values, tags = read(self.map_place(tensor, buffer), self._rows(tensor, buffer))
        return self.array_of(tensor, values, info.shape), tags

    def expect(self, tensor: str, tags: Array, positions: Rows | None = None) -> None:
        """Tags of a whole map (of what is made of it), or of some positions, are those of its elements.

        Raises:
            Fault: at the first that is not.
        """
        info = self.maps[tensor]
        wanted = info.tags_at(info.positions if positions is None else positions)
        wrong = tags != wanted
        if wrong.any():
            at = np.unravel_index(int(wrong.argmax()), wrong.shape)
            found = int(tags[at])
            raise Fault(
                "data",
                f"'{tensor}' off chip should be whole, and has {self.contents(found)}",
                element=info.element(int(wanted[at])),
                cause="tiles are missing, or hand out less than the map" if found == EMPTY else "buffers overlap",
            )

    # --- steps over time

    def next_step(self) -> None:
        """What was made until now has become so much older: the numbers of its positions are those of the next step."""
        self.step += 1
        marks = np.arange(EMPTY - self.overwriters.count, 0)  # they stay, and negative numbers index from the end
        older = np.concatenate([self._older, marks])
        for image in self.images.values():
            image.tags[:] = older[image.tags]

    @cached_property
    def _older(self) -> Array:
        """The tag of each element at the next step."""
        found = np.arange(self._elements)
        for name, info in self.maps.items():
            gone = self.overwriters.tag(f"a later step than that of '{name}'")
            self._outlived[gone] = name
            found[info.base : info.base + info.tensor.elements] = gone
            past = [np.arange(extent) for extent in info.extents]
            for axis, behind in enumerate(info.past):
                if behind:
                    new = info.extents[axis] - behind
                    past[axis] = np.arange(new, info.extents[axis])
                    before = list(past)
                    before[axis] = past[axis] - new
                    tags = info.tags(past[0], past[1])
                    found[tags] = info.tags(before[0], before[1])
        return found

    def is_old(self, tag: int) -> bool:
        """Whether a tag stands for what an earlier step made and no later one may read."""
        return tag in self._outlived

    def noise(self, tensor: str, seed: int) -> Array:
        """Numbers that no one should depend on, as a raw row of a map."""
        if (tensor, seed) not in self._noise:
            info = self.maps[tensor]
            data = np.random.default_rng(seed).integers(1, 100, (1, info.columns)).astype(info.dtype)
            self._noise[tensor, seed] = _raw(data, info.dtype, self.wide)
        return self._noise[tensor, seed]

    # --- words

    def contents(self, tag: int) -> str:
        """What a slot holds, in words."""
        if tag == EMPTY:
            return "nothing: it was never written"
        if tag in self._outlived:
            return f"an element of '{self._outlived[tag]}' that is too old for this step"
        if tag < EMPTY:
            return f"no longer there: {self.overwriters.name(tag)} overwrote it"
        at = max((n for n, (base, _, _) in enumerate(self._names) if base <= tag), default=0)
        base, name, is_map = self._names[at]
        return self.maps[name].element(tag) if is_map else f"weight {tag - base:,} of layer '{name}'"

    def forget(self, memories: Iterable[str], keep: Iterable[BufferEntry]) -> None:
        """Memories are poisoned, save for some buffers."""
        kept = list(keep)
        for name in memories:
            self.images[name].forget([b for b in kept if b.memory == name])


def _raw(data: Array, dtype: np.dtype[Any], wide: bool) -> Array:
    """Numbers as unsigned integers of the same bits."""
    plain = data.astype(dtype, copy=False).view(f"u{dtype.itemsize}")
    return plain.astype(np.uint64 if wide else np.uint32, copy=False)


def _cooked(rows: Array, dtype: np.dtype[Any]) -> Array:
    return np.ascontiguousarray(rows.astype(f"u{dtype.itemsize}", copy=False)).view(dtype)
