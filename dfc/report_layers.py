"""The two tables with a line per layer: time with traffic, and energy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dfc.backend_cost.schedule import LatencySplit, LayerEntry, Schedule
from dfc.report_table import Column, Row, clean
from dfc.units import count, cycles, digits, energy_unit, percent, size_unit

_OPERATOR = 12  # columns for the operator


@dataclass(frozen=True, slots=True)
class Group:
    """A line of a table: one layer, or the sum of several."""

    title: str
    op: str
    strong: bool
    members: Sequence[LayerEntry]

    def total(self, pick: Callable[[LayerEntry], float]) -> float:
        """The sum of a quantity."""
        return sum(map(pick, self.members))

    def merged(self, pick: Callable[[LayerEntry], Mapping[str, float]]) -> dict[str, float]:
        """The sum of a quantity that comes in named parts."""
        parts: dict[str, float] = {}
        for member in self.members:
            for name, value in pick(member).items():
                parts[name] = parts.get(name, 0.0) + value
        return parts

    @property
    def cycles(self) -> int:
        """Latency of all members: they run one after the other."""
        return sum(m.latency_cycles for m in self.members)

    @property
    def latency(self) -> LatencySplit:
        """The parts of the latency."""
        splits = [m.latency for m in self.members]
        return LatencySplit(
            sum(s.compute for s in splits),
            sum(s.stall for s in splits),
            sum(s.load for s in splits),
            sum(s.copy for s in splits),
        )


def groups(schedule: Schedule, *, layers: bool = True) -> Iterator[Group]:
    """A line per stack of several layers, one per layer if wanted, and the network's sum."""
    for number, stack in enumerate(schedule.stacks):
        members = [layer for layer in schedule.layers if layer.stack == number]
        several = len(members) != 1
        if (several and len(schedule.stacks) > 1) or not layers:
            yield Group(f"stack {number}", _count_of(len(stack.layers)), several, members)
        if layers:
            for layer in members:
                indent = "  " if several and len(schedule.stacks) > 1 else ""
                yield Group(indent + clean(layer.name), _op(layer), False, [layer])
    yield Group("network", _count_of(len(schedule.layers)), True, schedule.layers)


def _count_of(layers: int) -> str:
    return f"{layers} layer" if layers == 1 else f"{layers} layers"


def _op(layer: LayerEntry) -> str:
    """The operator with what is fused into it; ``~`` marks one whose traffic alone is counted."""
    mark = "~" if layer.kind == "opaque" else ""
    return clean(mark + "+".join((layer.op, *layer.fused)))


def time_table(schedule: Schedule, *, layers: bool = True) -> tuple[list[Column], list[Row]]:
    """Columns and rows: cycles and how they are spent, utilisation, work, DRAM traffic."""
    traffic = size_unit(max(schedule.totals.dram_read_bits, schedule.totals.dram_write_bits))
    titles = ("cycles", "% all", "comp", "stall", "load", "copy", "util", "MACs")
    traffic_titles = (f"rd {traffic[1]}", f"wr {traffic[1]}")
    columns = [
        Column("layer", left=True),
        Column("operator", left=True),
        *map(Column, (*titles, *traffic_titles)),
    ]
    whole, units = schedule.totals.latency_cycles, schedule.hw.units
    return columns, [_time_row(g, whole, units, traffic[0]) for g in groups(schedule, layers=layers)]


def _time_row(group: Group, whole: int, units: int, scale: float) -> Row:
    taken, split = group.cycles, group.latency
    macs = int(group.total(lambda m: m.macs))
    traffic = (group.total(lambda m: m.dram_read_bits), group.total(lambda m: m.dram_write_bits))
    cells = (
        group.title,
        _fit(group.op),
        cycles(taken),
        percent(taken, whole),
        *(percent(part, taken) for part in (split.compute, split.stall, split.load, split.copy)),
        percent(group.total(lambda m: m.operations), taken * units),
        count(macs, 3) if macs else "-",
        *(digits(bits / scale, 3) if bits else "-" for bits in traffic),
    )
    return Row(cells, group.strong)


def _fit(op: str) -> str:
    return op if len(op) <= _OPERATOR else f"{op[: _OPERATOR - 1]}…"


def energy_table(schedule: Schedule, *, layers: bool = True) -> tuple[list[Column], list[Row]]:
    """Columns and rows: energy, then its split over the array and the memories, then over operands."""
    lines = list(groups(schedule, layers=layers))
    scale, unit = energy_unit(schedule.totals.energy_pj)
    memories = _names((m.name for m in schedule.hw.memories), schedule.totals.energy_by_memory_pj)
    operands = list(schedule.totals.energy_by_operand_pj)
    titles = [unit, "% all", "array", *map(clean, memories), *map(clean, operands)]
    columns = [Column("layer", left=True), *map(Column, titles)]
    whole = schedule.totals.energy_pj
    return columns, [_energy_row(g, whole, scale, memories, operands) for g in lines]


def _names(declared: Iterable[str], used: Mapping[str, float]) -> list[str]:
    """Memories that take energy, in the chip's order, from the array outwards."""
    return list(dict.fromkeys([n for n in declared if used.get(n)] + [n for n, pj in used.items() if pj]))


def _energy_row(group: Group, whole: float, scale: float, memories: Sequence[str], operands: Sequence[str]) -> Row:
    pj = group.total(lambda m: m.energy_pj)
    by_memory = group.merged(lambda m: m.energy_by_memory_pj)
    by_operand = group.merged(lambda m: m.energy_by_operand_pj)
    cells = (
        group.title,
        f"{pj / scale:,.2f}",
        percent(pj, whole),
        percent(group.total(lambda m: m.compute_energy_pj), pj),
        *(percent(by_memory.get(name, 0.0), pj) for name in memories),
        *(percent(by_operand.get(name, 0.0), pj) for name in operands),
    )
    return Row(cells, group.strong)
