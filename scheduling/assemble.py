"""From priced plans to the :class:`Schedule` that is emitted: names instead of indices, sums instead of parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.nest import Nest, NestOperand, Work, operand_names
from dfc.backend_cost.schedule import (
    AxisEntry,
    Baseline,
    BesideEntry,
    BufferEntry,
    CopyEntry,
    Coverage,
    HardwareInfo,
    LatencySplit,
    LayerEntry,
    MadeEntry,
    MemoryInfo,
    NestEntry,
    OperandEntry,
    ReadEntry,
    Schedule,
    StackEntry,
    TileClassEntry,
    TileLayer,
    Totals,
)
from dfc.hwdsl import Arch, format_arch
from dfc.ir import Axis, Dim, Graph, Kind, Layer, Role
from dfc.passes.tiles import DepthFirstPlan, Order, Overlap, plan_spans
from dfc.scheduling.addresses import stacked
from dfc.scheduling.copies import Copy
from dfc.scheduling.engine import ClassCost, LayerRun, StackCost, StackPricer
from dfc.scheduling.parts import TileParts
from dfc.scheduling.placement import Buffer
from dfc.scheduling.search import Candidate
from dfc.units import at_most_percent, percent


@dataclass
class Tally:
    """Sums over layers and tiles."""

    compute_pj: float = 0.0
    mac_pj: float = 0.0
    copy_pj: float = 0.0
    by_memory_pj: dict[int, float] = field(default_factory=dict[int, float])
    by_role_pj: dict[Role, float] = field(default_factory=dict[Role, float])
    read_bits: dict[int, float] = field(default_factory=dict[int, float])
    write_bits: dict[int, float] = field(default_factory=dict[int, float])
    compute: int = 0
    stall: int = 0
    load: int = 0
    copy: int = 0
    hidden: int = 0
    operations: int = 0
    positions: int = 0

    @property
    def energy_pj(self) -> float:
        """Compute and memories."""
        return self.compute_pj + sum(self.by_memory_pj.values())

    @property
    def latency_cycles(self) -> int:
        """All four parts."""
        return self.compute + self.stall + self.load + self.copy

    @property
    def latency(self) -> LatencySplit:
        """The four parts."""
        return LatencySplit(self.compute, self.stall, self.load, self.copy)

    def _add(self, into: dict[int, float], what: Mapping[int, float], times: int) -> None:
        for key, value in what.items():
            into[key] = into.get(key, 0.0) + value * times

    def _spend(self, what: Mapping[tuple[int, Role], float], times: int) -> None:
        for (memory, role), pj in what.items():
            self.by_memory_pj[memory] = self.by_memory_pj.get(memory, 0.0) + pj * times
            self.by_role_pj[role] = self.by_role_pj.get(role, 0.0) + pj * times

    def add_run(self, run: LayerRun, times: int) -> None:
        """Count a layer of a tile class ``times`` times."""
        copies = run.copy_cost
        self.copy += copies.latency_cycles * times
        self.hidden += run.hidden_cycles * times
        self.copy_pj += copies.energy_pj * times
        self._spend(copies.memory_pj, times)
        self._add(self.read_bits, copies.read_bits, times)
        self._add(self.write_bits, copies.write_bits, times)
        if run.cost is None or run.nest is None:
            return
        cost = run.cost
        self.compute_pj += cost.compute_pj * times
        self.mac_pj += cost.compute_pj * times if run.nest.work is Work.MAC else 0.0
        self._spend(cost.memory_pj, times)
        self._add(self.read_bits, cost.read_bits, times)
        self._add(self.write_bits, cost.write_bits, times)
        self.compute += cost.ideal_cycles * times
        self.stall += cost.stall_cycles * times
        self.load += cost.filling_cycles * times
        self.operations += run.nest.operations * times
        self.positions += run.extents[0] * run.extents[1] * times

    def merge(self, other: Tally) -> None:
        """Add another tally."""
        for name in (
            "compute_pj",
            "mac_pj",
            "copy_pj",
            "compute",
            "stall",
            "load",
            "copy",
            "hidden",
            "operations",
            "positions",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self._add(self.by_memory_pj, other.by_memory_pj, 1)
        self._add(self.read_bits, other.read_bits, 1)
        self._add(self.write_bits, other.write_bits, 1)
        for role, pj in other.by_role_pj.items():
            self.by_role_pj[role] = self.by_role_pj.get(role, 0.0) + pj


class Assembler:
    """Turns priced stacks into schedule entries."""

    def __init__(self, pricer: StackPricer):
        self.pricer = pricer
        self.graph: Graph = pricer.graph
        self.arch: Arch = pricer.arch
        self.dram = self.arch.paths[Role.O][-1]

    def memory_name(self, index: int) -> str:
        """A memory's name on the page."""
        return self.arch.memories[index].name

    def layer_tallies(self, stack: StackCost) -> dict[int, Tally]:
        """Per layer of a stack, the sums over its tiles."""
        tallies = {i: Tally() for i in stack.plan.stack.layers}
        for tile in stack.classes:
            for run in tile.runs:
                tallies[run.layer].add_run(run, tile.tile.count)
        return tallies

    def executed_macs(self, layer: Layer, tally: Tally) -> int:
        """Multiply-accumulates that the schedule executes for a layer, recomputed positions included."""
        extents = self.graph.made(layer.output)
        return layer.macs * tally.positions // max(1, extents[Axis.X] * extents[Axis.Y])

    def by_memory(self, tally: Tally) -> dict[str, float]:
        """Energy per memory in the order of the page."""
        names = enumerate(self.arch.memories)
        return {m.name: tally.by_memory_pj[i] for i, m in names if i in tally.by_memory_pj}

    def _by_operand(self, tally: Tally) -> dict[str, float]:
        return {role.value: tally.by_role_pj.get(role, 0.0) for role in Role}

    def _utilisation(self, tally: Tally) -> float:
        cycles = tally.latency_cycles * self.arch.array.units
        return tally.operations / cycles if cycles else 0.0

    def _dram(self, bits: Mapping[int, float]) -> int:
        return round(bits.get(self.dram, 0.0))

    def layer_entry(self, index: int, stack: int, tally: Tally) -> LayerEntry:
        """The sums of one layer."""
        layer = self.graph.layers[index]
        return LayerEntry(
            name=layer.name,
            op=layer.op,
            kind=layer.kind.value,
            stack=stack,
            energy_pj=tally.energy_pj,
            latency_cycles=tally.latency_cycles,
            compute_energy_pj=tally.compute_pj,
            energy_by_memory_pj=self.by_memory(tally),
            energy_by_operand_pj=self._by_operand(tally),
            latency=tally.latency,
            utilisation=self._utilisation(tally),
            macs=self.executed_macs(layer, tally),
            operations=tally.operations,
            dram_read_bits=self._dram(tally.read_bits),
            dram_write_bits=self._dram(tally.write_bits),
            weight_bits=self.pricer.weight_bits(layer),
            fused=layer.fused,
            origin=tuple(f"{o.op_type}:{o.node}" for o in layer.origin),
        )

    def stack_entry(self, stack: StackCost, tally: Tally, whole: Candidate | None) -> StackEntry:
        """One stack with its tile classes; ``whole`` is the same stack with one tile."""
        layers = [self.graph.layers[i] for i in stack.plan.stack.layers]
        spatial = self.graph.made(stack.plan.stack.outputs[-1])
        weights, h_cache, v_cache = self._lasting_memories(stack)
        return StackEntry(
            layers=tuple(layer.name for layer in layers),
            overlap=stack.plan.overlap.value,
            tile=stack.plan.tile,
            map=(spatial[Axis.X], spatial[Axis.Y]),
            tiles=stack.plan.tiles,
            energy_pj=stack.energy_pj,
            latency_cycles=stack.latency_cycles,
            latency=tally.latency,
            energy_by_memory_pj=self.by_memory(tally),
            dram_read_bits=self._dram(tally.read_bits),
            dram_write_bits=self._dram(tally.write_bits),
            weight_bits=sum(map(self.pricer.weight_bits, layers)),
            weight_memory=weights,
            h_cache_memory=h_cache,
            v_cache_memory=v_cache,
            layer_by_layer=baseline([whole], stack.energy_pj, stack.latency_cycles) if whole else None,
            tile_classes=tuple(self._class_entry(stack, i) for i in range(len(stack.classes))),
            order=stack.plan.order.value,
            buffers=tuple(self._buffer_entry(b, ()) for b in stack.stay),
            columns=tuple(self._axis_entries(stack.plan, Axis.X)),
            rows=tuple(self._axis_entries(stack.plan, Axis.Y)),
            overlap_by_map=self._modes(stack.plan),
        )

    @staticmethod
    def _modes(plan: DepthFirstPlan) -> dict[str, str]:
        """The modes of the maps of a plan that differ in mode."""
        return {} if isinstance(plan.overlap, Overlap) else {name: mode.value for name, mode in plan.overlap.modes}

    def _lasting_memories(self, stack: StackCost) -> tuple[str, str, str]:
        """Where weights, the H cache and the V cache lie."""
        if stack.levels.h_memory:
            levels = stack.levels
            path = self.arch.paths[Role.W]
            found = path[levels.weight_level], levels.h_memory[-1], levels.v_memory
            return self.memory_name(found[0]), self.memory_name(found[1]), self.memory_name(found[2])
        if not stack.stay and all(run.nest is None for c in stack.classes for run in c.runs):
            return "", "", ""

        def where(what: str, none: str) -> str:
            memories = dict.fromkeys(b.memory for b in stack.stay if b.what == what)
            return ", ".join(self.memory_name(m) for m in memories) or none

        return (
            where("weights", self.memory_name(self.arch.paths[Role.W][-1])),
            where("H cache", ""),
            where("V cache", ""),
        )

    def _buffer_entry(self, buffer: Buffer, steps: Sequence[str]) -> BufferEntry:
        """``steps`` are the names of the stack's layers; none for what stays."""
        line = buffer.line
        return BufferEntry(
            what=buffer.what,
            name=buffer.name,
            memory=self.memory_name(buffer.memory),
            address_bits=buffer.address_bits or 0,
            bits=buffer.bits,
            first=steps[buffer.first] if steps else "",
            last=steps[buffer.last] if steps else "",
            copies=buffer.copies,
            lines=line.lines if line else 0,
            length=line.length if line else 0,
            skewed=line is not None and line.skewed,
            steps=buffer.steps,
        )

    def off_chip(self, stacks: Sequence[StackCost]) -> tuple[BufferEntry, ...]:
        """Where weights and the maps between stacks lie in the outermost memory: one after the other, all the time.

        Maps that stay on chip have no place there.
        """
        array, graph = self.arch.array, self.graph
        crossing = (t for s in stacks for t in (*s.plan.stack.inputs, *s.plan.stack.outputs) if t not in s.held)
        names = dict.fromkeys([*graph.inputs, *crossing])
        parts = [
            ("weights", layer.name, self.pricer.weight_bits(layer)) for layer in graph.layers if layer.weight_elements
        ]
        parts += [("map", name, graph.made_elements(name) * array.output_bits) for name in names]
        found = stacked((Buffer(what, name, self.dram, bits, 0, 0) for what, name, bits in parts), {})
        return tuple(self._buffer_entry(b, ()) for b in found)

    def _axis_entries(self, plan: DepthFirstPlan, axis: Axis) -> Iterator[AxisEntry]:
        """The columns or rows of tiles."""
        layers = [self.graph.layers[i] for i in plan.stack.layers]
        for tile in plan_spans(self.graph, plan, axis):
            reads = {
                layer.name: tuple(
                    (source.tensor, span.window.lo, span.window.hi, span.before, span.after)
                    for source, span in zip(layer.sources, spans, strict=True)
                )
                for layer, spans in zip(layers, tile.reads, strict=True)
            }
            makes = {name: (m.lo, m.hi, m.kept, m.own.lo, m.own.hi) for name, m in tile.maps.items()}
            yield AxisEntry(tile.step, makes, reads)

    def _class_entry(self, stack: StackCost, number: int) -> TileClassEntry:
        found = stack.classes[number]
        steps = [self.graph.layers[i].name for i in stack.plan.stack.layers]
        parts = TileParts(self.graph, stack.plan, found.tile)
        return TileClassEntry(
            count=found.tile.count,
            first=found.tile.first,
            energy_pj=found.energy_pj,
            latency_cycles=found.latency_cycles,
            layers=tuple(self._tile_layers(found, stack, parts)),
            buffers=tuple(self._buffer_entry(b, steps) for b in stack.buffers[number]) if stack.buffers else (),
            kinds=_kinds(stack.plan, number),
        )

    def _tile_layers(self, found: ClassCost, stack: StackCost, parts: TileParts) -> Iterator[TileLayer]:
        here: set[str] = set()  # maps that this tile has made or fetched
        for run in found.runs:
            reads = self._reads(run, stack, parts)
            makes: list[MadeEntry] = []
            if run.nest is not None:
                arriving = dict.fromkeys(r.tensor for r in reads if r.tensor not in here | stack.held)
                names = [*((t, True) for t in arriving), (self.graph.layers[run.layer].output, False)]
                makes = [self._made(t, fetched, found, stack, parts, run) for t, fetched in names]
                here.update(t for t, _ in names)
            yield self._tile_layer(run, reads, tuple(makes))

    def _made(
        self, tensor: str, fetched: bool, found: ClassCost, stack: StackCost, parts: TileParts, run: LayerRun
    ) -> MadeEntry:
        made = parts.map(tensor)
        x, y = (dict(step.tensors)[tensor] for step in (found.tile.x, found.tile.y))
        h, v = (made.along, made.across) if stack.plan.order is Order.ROWS else (made.across, made.along)
        each = self.pricer.maps.column_bits(tensor)
        bits = made.fresh * each, h * each, v * each
        whole = self.graph.made(tensor)
        size, left = (whole[Axis.X], whole[Axis.Y]), (x.left, y.left)
        memory = self.memory_name(run.reads_in(self.dram) if fetched else run.tops[Role.O])
        return MadeEntry(tensor, (x.fresh, y.fresh), size, *bits, left, fetched, memory)

    def _reads(self, run: LayerRun, stack: StackCost, parts: TileParts) -> tuple[ReadEntry, ...]:
        """What a layer reads of each map."""
        if run.nest is None:
            return ()
        layer = self.graph.layers[run.layer]
        memory = self.memory_name(run.reads_in(self.dram))
        found: dict[str, ReadEntry] = {}
        for name, read in parts.windows(run.layer).items():

            def bits(positions: int, name: str = name) -> int:
                return self.pricer.maps.read_bits(layer, name, positions, 1)

            if name in stack.held:  # all of it lies there, whatever tiles keep
                found[name] = ReadEntry(name, 0, 0, 0, memory, bits(read.window))
                continue
            h, v = (read.along, read.across) if stack.plan.order is Order.ROWS else (read.across, read.along)
            found[name] = ReadEntry(name, bits(read.fresh), bits(h), bits(v), memory)
        return tuple(found.values())

    def _tile_layer(self, run: LayerRun, reads: tuple[ReadEntry, ...], makes: tuple[MadeEntry, ...]) -> TileLayer:
        cost, nest = run.cost, run.nest
        used = {o.role for o in nest.operands} if nest else set[Role]()
        mapping = cost.mapping if cost else None
        cuts = dict(zip(operand_names(nest), mapping.cuts, strict=True)) if nest and mapping else {}
        return TileLayer(
            layer=self.graph.layers[run.layer].name,
            extents=run.extents,
            memories={role.value: self.memory_name(m) for role, m in run.tops.items() if role in used},
            unrolling=tuple(f"{u.array_dim}: {u.loop.name} {u.lanes}" for u in nest.unrolled) if nest else (),
            loops=tuple(f"{loop.dim.name} {loop.size}" for loop in mapping.loops) if mapping else (),
            cuts=cuts,
            copies=tuple(self._copy_entry(c, {m.tensor for m in makes}) for c in run.copies),
            energy_pj=run.copy_cost.energy_pj + (cost.energy_pj if cost else 0.0),
            latency_cycles=run.copy_cost.latency_cycles + (cost.latency_cycles if cost else 0),
            copy_energy_pj=float(run.copy_cost.energy_pj),  # the sum of no copies is a whole 0
            copy_cycles=run.copy_cost.latency_cycles,
            nest=self._nest_entry(nest) if nest else None,
            gap=cost.gap if cost else None,
            reads=reads,
            room_bits={self.memory_name(m): bits for m, bits in run.room},
            makes=makes,
            beside=tuple(BesideEntry(b.copy, self.graph.layers[b.layer].name, b.cycles, b.ahead) for b in run.beside),
            hidden_cycles=run.hidden_cycles,
        )

    def _nest_entry(self, nest: Nest) -> NestEntry:
        return NestEntry(
            sizes={d.name: nest.sizes[d] for d in Dim if nest.sizes[d] > 1},
            operands=tuple(map(self._operand_entry, nest.operands)),
            unrolled=tuple((u.array_dim, u.loop.name, u.lanes, float(u.share)) for u in nest.unrolled),
            strides=nest.strides,
            dilations=nest.dilations,
            pads=nest.pads,
            inputs=nest.inputs,
            work=nest.work.value,
        )

    def _operand_entry(self, operand: NestOperand) -> OperandEntry:
        return OperandEntry(
            role=operand.role.value,
            dims=tuple(d.name for d in operand.dims),
            windows=tuple(a.name for a in operand.windows),
            bits=operand.bits,
            partial_bits=operand.partial_bits,
            memories=tuple(map(self.memory_name, operand.memories)),
        )

    def _copy_entry(self, copy: Copy, made: Set[str]) -> CopyEntry:
        """What leaves a map that the layer itself ``made`` goes after it."""
        source, target = (self.memory_name(self.arch.paths[p.role][p.level]) for p in (copy.source, copy.target))
        after = copy.tensor in made and (copy.what == "output" or copy.what.startswith("write"))
        return CopyEntry(copy.what, copy.tensor, copy.bits, source, target, after)

    def totals(self, layers: Sequence[LayerEntry], tally: Tally) -> Totals:
        """Of the whole network."""
        return Totals(
            energy_pj=tally.energy_pj,
            latency_cycles=tally.latency_cycles,
            macs=sum(layer.macs for layer in layers),
            dram_read_bits=self._dram(tally.read_bits),
            dram_write_bits=self._dram(tally.write_bits),
            network_macs=self.graph.macs,
            compute_energy_pj=tally.compute_pj,
            mac_energy_pj=tally.mac_pj,
            copy_energy_pj=tally.copy_pj,
            energy_by_memory_pj=self.by_memory(tally),
            energy_by_operand_pj=self._by_operand(tally),
            latency=tally.latency,
            utilisation=self._utilisation(tally),
            time_s=tally.latency_cycles / self.arch.clock_hz,
            hidden_cycles=tally.hidden,
        )

    def coverage(self) -> Coverage:
        """What share of the network the model covers, by layers, MACs and bytes moved once."""
        graph = self.graph
        opaque = [layer for layer in graph.layers if layer.kind is Kind.OPAQUE]

        def touched(layer: Layer) -> int:
            names = [*dict.fromkeys(s.tensor for s in layer.sources), *layer.outputs]
            return sum(graph.made_elements(n) for n in names) + layer.weight_elements

        every = sum(map(touched, graph.layers))
        hidden = sum(map(touched, opaque))
        macs = graph.macs
        return Coverage(
            layers=len(graph.layers),
            modelled_layers=len(graph.layers) - len(opaque),
            macs_share=1.0 if macs == 0 else (macs - sum(layer.macs for layer in opaque)) / macs,
            bytes_share=1.0 if every == 0 else (every - hidden) / every,
            opaque=tuple(f"{layer.op} ({layer.name})" for layer in opaque),
        )

    def hardware(self) -> HardwareInfo:
        """What the schedule says of its chip."""
        array = self.arch.array
        return HardwareInfo(
            name=self.arch.name,
            source=self.arch.source,
            clock_hz=self.arch.clock_hz,
            units=array.units,
            input_bits=array.input_bits,
            weight_bits=array.weight_bits,
            partial_bits=array.partial_bits,
            output_bits=array.output_bits,
            memories=tuple(
                MemoryInfo(m.name, m.size_bits, m.instances, tuple(r.value for r in m.roles))
                for m in self.arch.memories
            ),
            page=format_arch(self.arch),
        )


def _kinds(plan: DepthFirstPlan, number: int) -> tuple[int, int]:
    """Of which kind the columns and the rows of a class are; kinds count in the order in which they come."""
    columns = list(dict.fromkeys(tile.x for tile in plan.classes))
    rows = list(dict.fromkeys(tile.y for tile in plan.classes))
    return columns.index(plan.classes[number].x), rows.index(plan.classes[number].y)


def proof_note(priced: Sequence[StackCost], objective: Objective) -> str:
    """How many of the different mappings are proved best, and what is proved of the others; empty without mappings."""
    runs = [run for cost in priced for tile in cost.classes for run in tile.runs]
    gaps = [gap for *_, gap in {(run.nest, run.cost.mapping, run.cost.gap) for run in runs if run.nest and run.cost}]
    proved = sum(gap == 0 for gap in gaps)
    if proved == len(gaps):
        return f"every layer's mapping is proved best for {objective}" if gaps else ""
    counted = f"{proved:,} of {len(gaps):,} mappings are proved best for {objective}"
    known = [gap for gap in gaps if gap is not None]
    if len(known) < len(gaps):
        return f"{counted}; of the others it is not known by how much they can be better"
    return f"{counted}; of the others none can be better by more than {at_most_percent(max(known))} %"


def handed_notes(schedule: Schedule, off_chip: Sequence[Candidate] | None) -> list[str]:
    """What it saves that maps stay on chip between stacks, where it is known what the same stacks cost without."""
    held = {b.name for stack in schedule.stacks for b in stack.buffers if b.what == "map"}
    if not held or off_chip is None:
        return []
    totals = schedule.totals
    more = sum(c.energy_pj for c in off_chip) - totals.energy_pj
    later = sum(c.latency_cycles for c in off_chip) - totals.latency_cycles
    which = "a map stays" if len(held) == 1 else f"{len(held)} maps stay"
    return [
        f"{which} on chip between stacks; handing over off chip, the same stacks take "
        f"{_more(more, totals.energy_pj)} energy and {_more(later, totals.latency_cycles)} cycles"
    ]


def _more(difference: float, whole: float) -> str:
    return f"{percent(abs(difference), whole)} % {'more' if difference >= 0 else 'less'}"


def baseline(whole: Sequence[Candidate], energy_pj: float, latency_cycles: int) -> Baseline:
    """Stacks with one tile each against a schedule's energy and latency."""
    energy, cycles = sum(c.energy_pj for c in whole), sum(c.latency_cycles for c in whole)
    return Baseline(
        energy,
        cycles,
        energy / energy_pj if energy_pj else 1.0,
        cycles / latency_cycles if latency_cycles else 1.0,
    )
