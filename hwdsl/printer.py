"""An :class:`Arch` back as a page: parsed again, it is the same accelerator, spans and source aside."""

from __future__ import annotations

from dfc.hwdsl.arch import Arch, Memory, Move, OperationalArray, Unroll
from dfc.hwdsl.ports import DEFAULT_PORTS, KINDS, allocate
from dfc.ir import Kind, Role

_SIZES = (
    (8 * 1024**3, "GiB"),
    (8 * 1024**2, "MiB"),
    (8 * 1024, "KiB"),
    (10**9, "Gb"),
    (10**6, "Mb"),
    (8, "B"),
)
_CLOCKS = ((1e9, "GHz"), (1e6, "MHz"), (1e3, "kHz"))
_MOVES = {
    Move.READ_DOWN: "read down",
    Move.WRITE_UP: "write up",
    Move.READ_UP: "read up",
    Move.WRITE_DOWN: "write down",
}


def format_arch(arch: Arch) -> str:
    """The page of an accelerator, every default that differs from the language's written out."""
    lines = [f"accelerator {arch.name} {{", f"  clock {_clock(arch.clock_hz)}"]
    lines += [f'  note "{note}"' for note in arch.notes]
    lines += ["", *_array(arch), ""]
    lines += [_memory(memory, arch) for memory in arch.memories]
    lines += ["", *(_path(role, arch) for role in (Role.W, Role.I, Role.O)), "}"]
    return "\n".join(lines) + "\n"


def _array(arch: Arch) -> list[str]:
    array = arch.array
    output = "" if array.output_bits == array.input_bits else f" -> {array.output_bits} b"
    lines = [
        "  array {",
        "    dims " + ", ".join(f"{dim.name}: {dim.size}" for dim in array.dims),
        f"    mac {array.input_bits} b x {array.weight_bits} b -> {array.partial_bits} b{output}, "
        f"{_number(array.mac_pj)} pJ",
    ]
    if array.op_pj != array.mac_pj:
        lines.append(f"    op {_number(array.op_pj)} pJ")
    lines += [_unroll(kind, slots) for kind, slots in arch.unrolls.items()]
    return [*lines, "  }"]


def _unroll(kind: Kind, slots: tuple[Unroll, ...]) -> str:
    parts = (f"{u.array_dim}: {u.loop.name}" + (f"/{u.size}" if u.size else "") for u in slots)
    return f"    unroll {kind.value} " + (", ".join(parts) or "none")


def _memory(memory: Memory, arch: Arch) -> str:
    parts = [
        f"holds {', '.join(role.value for role in memory.roles)}",
        f"size {_size(memory.size_bits)}",
        *_pair("width", "", memory.read_bits_per_cycle, memory.write_bits_per_cycle, "b"),
        *_pair("energy", "", memory.read_pj, memory.write_pj, "pJ"),
    ]
    full = (memory.read_bits_per_cycle, memory.write_bits_per_cycle)
    if (memory.min_read_bits, memory.min_write_bits) != full:
        parts += _pair("min", "min ", memory.min_read_bits, memory.min_write_bits, "b")
    parts += _across(memory, arch.array)
    if memory.ports != DEFAULT_PORTS:
        counts = {kind: sum(port.kind == kind for port in memory.ports) for kind in KINDS}
        parts.append("ports " + " ".join(f"{count}{kind}" for kind, count in counts.items() if count))
    if memory.fetch_new:
        parts.append("fetch new")
    return f"  memory {memory.name} {{ {'  '.join([*parts, *_rules(memory)])} }}"


def _pair(both: str, prefix: str, read: float, write: float, unit: str) -> list[str]:
    """One property where reading and writing agree, two where they do not."""
    if read == write:
        return [f"{both} {_number(read)} {unit}"]
    return [f"{prefix}read {_number(read)} {unit}", f"{prefix}write {_number(write)} {unit}"]


def _across(memory: Memory, array: OperationalArray) -> list[str]:
    if memory.across == tuple(dim.name for dim in array.dims):
        return []
    return [f"across {', '.join(memory.across) or 'none'}"]


def _rules(memory: Memory) -> list[str]:
    """Rules for the movements that do not go through the port that they would take anyway."""
    usual = allocate(memory.ports, memory.roles)
    unusual = any(usual[crossing] != port for crossing, port in memory.port_of.items())
    if not unusual:
        return []
    rules: list[str] = []
    for i, port in enumerate(memory.ports):
        served = [f"{role.value} {_MOVES[move]}" for (role, move), p in memory.port_of.items() if p == i]
        if served:
            rules.append(f"port {port.name}: {', '.join(served)}")
    return rules


def _path(role: Role, arch: Arch) -> str:
    arrow = " <-> " if role is Role.O else " <- "
    nodes = ("array", *(arch.memories[i].name for i in arch.paths[role]))
    return f"  path {role.value}: {arrow.join(nodes)}"


def _size(bits: int) -> str:
    for factor, unit in _SIZES:
        if bits % factor == 0:
            return f"{bits // factor} {unit}"
    return f"{bits} b"


def _clock(hz: float) -> str:
    for factor, unit in _CLOCKS:
        scaled = hz / factor
        if scaled >= 1 and scaled.is_integer() and scaled * factor == hz:
            return f"{int(scaled)} {unit}"
    return f"{_number(hz)} Hz"


def _number(value: float) -> str:
    """The shortest text that reads back as the same number."""
    return repr(value).removesuffix(".0")
