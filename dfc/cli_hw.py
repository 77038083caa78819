"""``dfc hw``: the library of accelerators, and what one of them looks like."""

from __future__ import annotations

from collections.abc import Sequence

from dfc.hwdsl import Arch, Memory, Port, Unroll, library, load_arch
from dfc.ir import Role
from dfc.report_table import PLAIN, WIDTH, Column, Paint, Row, clean, format_table
from dfc.units import count, cycles, digits, frequency, size


def list_library(*, width: int = WIDTH, paint: Paint = PLAIN) -> str:
    """A table of the accelerators that ship with dfc."""
    columns = [
        Column("name", left=True),
        Column("array", left=True),
        *map(Column, ("per cycle", "clock", "on chip", "weights", "memories")),
    ]
    rows = [Row(_library_cells(load_arch(name))) for name in library()]
    lines = format_table(columns, rows, width, paint)
    lines += ["", "Look at one:      dfc hw NAME", "Print its page:   dfc hw NAME --text"]
    return "\n".join([*lines, "Compile for it:   dfc compile MODEL --hw NAME", ""])


def _library_cells(arch: Arch) -> tuple[str, ...]:
    outer = {path[-1] for path in arch.paths.values()}
    inner = [m for i, m in enumerate(arch.memories) if i not in outer]
    return (
        clean(arch.name),
        _array(arch),
        cycles(arch.array.units),
        frequency(arch.clock_hz),
        size(sum(m.size_bits * m.instances for m in inner)),
        size(arch.weight_capacity_bits) if arch.weight_capacity_bits else "-",
        str(len(arch.memories)),
    )


def describe(arch: Arch, *, width: int = WIDTH, paint: Paint = PLAIN) -> str:
    """One accelerator: its array, its memories, the paths of its operands, how it unrolls loops."""
    array = arch.array
    peak = f"{count(array.units * arch.clock_hz)}MAC/s"
    lines = [
        paint.bold(f"{clean(arch.name)}") + (f"  ({clean(arch.source)})" if arch.source else ""),
        f"  array      {_array(arch)} = {array.units:,} operations per cycle at {frequency(arch.clock_hz)}: {peak}",
        f"  precision  {array.input_bits} b inputs x {array.weight_bits} b weights -> {array.partial_bits} b sums,"
        f" {array.output_bits} b outputs",
        f"  energy     {array.mac_pj:g} pJ per multiply-accumulate, {array.op_pj:g} pJ per other operation",
        "",
        paint.bold("Memories, from the array outwards: b/cycle per port, pJ per access of the full width"),
        *format_table(*_memories(arch), width, paint),
        "",
        paint.bold("Paths"),
    ]
    for role in Role:
        lines.append(f"  {role}  array .. {' .. '.join(clean(arch.memories[i].name) for i in arch.paths[role])}")
    lines += ["", paint.bold("Unrolled in space, per kind of layer (array dimension: loop)")]
    lines += [f"  {kind.value:<10} {_unrolls(unrolls)}" for kind, unrolls in arch.unrolls.items()]
    if arch.notes:
        lines += ["", paint.bold("Notes"), *(f"  - {clean(note)}" for note in arch.notes)]
    return "\n".join(lines) + "\n"


def _array(arch: Arch) -> str:
    return " x ".join(f"{clean(d.name)} {d.size}" for d in arch.array.dims)


def _memories(arch: Arch) -> tuple[list[Column], list[Row]]:
    columns = [
        Column("memory", left=True),
        Column("holds", left=True),
        *map(Column, ("size", "number", "all", "read", "write", "rd pJ", "wr pJ", "pJ/b")),
        Column("serves", left=True),
        Column("ports", left=True),
    ]
    return columns, [Row(_memory_cells(memory, arch)) for memory in arch.memories]


def _memory_cells(memory: Memory, arch: Arch) -> tuple[str, ...]:
    per_bit = memory.read_pj / memory.read_bits_per_cycle if memory.read_bits_per_cycle else 0.0
    whole = set(memory.across) >= {d.name for d in arch.array.dims}
    return (
        clean(memory.name),
        " ".join(role.value for role in memory.roles),
        size(memory.size_bits),
        cycles(memory.instances),
        size(memory.size_bits * memory.instances),
        cycles(memory.read_bits_per_cycle),
        cycles(memory.write_bits_per_cycle),
        f"{memory.read_pj:g}",
        f"{memory.write_pj:g}",
        digits(per_bit, 3),
        "all" if whole else " ".join(map(clean, memory.across)) or "one",
        _ports(memory.ports),
    )


def _ports(ports: Sequence[Port]) -> str:
    """``2r 2w``: how many ports of each kind."""
    kinds = [port.kind for port in ports]
    return " ".join(f"{kinds.count(kind)}{kind}" for kind in dict.fromkeys(kinds))


def _unrolls(unrolls: Sequence[Unroll]) -> str:
    shown = [f"{clean(u.array_dim)}: {u.loop.name}{f' {u.size}' if u.size else ''}" for u in unrolls]
    return ", ".join(shown) or "nothing: one operation per cycle"
