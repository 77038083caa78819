"""``dfc explain``: the explanation of a mapping for people."""

from __future__ import annotations

import textwrap

from dfc.backend_cost.explain import Cause, Explanation, Flow, Port, PortUse, Saved
from dfc.backend_cost.nest import Work
from dfc.backend_cost.rebuild import TileProblem
from dfc.explain_nest import draw_nest
from dfc.hwdsl.arch import Move
from dfc.report_table import PLAIN, WIDTH, Column, Paint, Row, bar, clean, format_table
from dfc.units import at_most_percent, cycles, digits, energy, energy_unit, percent, size

_BAR = 20
_SHARES = 3  # energy shares that are named
MOVES = {
    Move.READ_DOWN: "read down",
    Move.WRITE_UP: "write up",
    Move.READ_UP: "read up",
    Move.WRITE_DOWN: "write down",
}
_BOUND = {
    Cause.COMPUTE: "computing",
    Cause.BANDWIDTH: "bandwidth",
    Cause.ROOM: "room for second buffers",
    Cause.LOAD: "loading",
    Cause.COPY: "copies",
}


def render_explanation(problem: TileProblem, found: Explanation, *, width: int = WIDTH, paint: Paint = PLAIN) -> str:
    """The explanation as text."""
    width = max(width, 40)
    lines = [paint.bold(clean(problem.what)), *_labelled("cost model", found.model.name, width)]
    if problem.entry is not None and problem.entry.gap is not None:
        lines += _labelled("mapping", _proof(problem.entry.gap, clean(problem.objective)), width)
    if problem.overlap:
        lines += _labelled("overlap", clean(problem.overlap), width)
    if problem.others:
        lines += _labelled("other classes", f"{problem.others}; as class (tiles)", width)
    for sentence in _on_chip(problem):
        lines += _labelled("stays on chip", sentence, width)
    lines += _section("Loop nest, and the memory that holds each operand from that loop inwards", width, paint)
    lines += draw_nest(found, width, paint)
    lines += _section("Memories, from the array outwards: what one instance holds", width, paint)
    lines += format_table(*_memory_table(found), width, paint)
    lines += _section("Words of the full width, by direction", width, paint)
    lines += format_table(*_word_table(found), width, paint)
    lines += _section(_port_title(found), width, paint)
    lines += format_table(*_port_table(found), width, paint)
    lines += _section("Utilisation of the array, in percent, and of memories", width, paint)
    lines += format_table(*_used_table(found), width, paint) + _labelled("memories", _full(found), width)
    lines += _section("What binds", width, paint) + _binding(found, width, paint)
    return "\n".join(lines) + "\n"


def _proof(gap: float, objective: str) -> str:
    if gap <= 0:
        return f"proved best for {objective}"
    return f"none can be better for {objective} by more than {at_most_percent(gap)} %"


def _on_chip(problem: TileProblem) -> list[str]:
    """Which maps the layer reads that the stack before left on chip, and which it leaves there for the next."""
    if problem.entry is None:
        return []
    memory = {b.name: f"{clean(b.memory)} ({size(b.bits)})" for b in problem.held}
    read = [name.tensor for name in problem.entry.reads if name.tensor in memory]
    made = [one.tensor for one in problem.entry.makes if one.tensor in memory]
    return [
        *(f"'{clean(name)}', which it reads, in {memory[name]}, where the stack before left it" for name in read),
        *(f"'{clean(name)}', which it makes, in {memory[name]}, where the next stack reads it" for name in made),
    ]


def _section(title: str, width: int, paint: Paint) -> list[str]:
    return ["", *(paint.bold(line) for line in textwrap.wrap(title, width))]


def _labelled(label: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=f"  {label:<15}", subsequent_indent=" " * 17, break_on_hyphens=False
    )


def _memory_table(found: Explanation) -> tuple[list[Column], list[Row]]:
    """A row per memory and operand, with the memory's sum where it holds several."""
    scale, unit = energy_unit(found.cost.energy_pj)
    columns = [
        Column("memory", left=True),
        Column("holds", left=True),
        *map(Column, ("number", "size", "bits", "% full")),
        Column("double buffer", left=True),
        *map(Column, (unit, "% energy")),
    ]
    whole = sum(found.energy_by_cause.values())
    rows: list[Row] = []
    for index in sorted({h.memory for h in found.held}):
        memory = found.arch.memories[index]
        here = [h for h in found.held if h.memory == index]
        for number, h in enumerate(here):
            top = h.level == len(found.nest.operands[h.operand].memories) - 1
            head = (clean(memory.name), cycles(memory.instances), size(memory.size_bits)) if number == 0 else ("",) * 3
            rows.append(
                Row(
                    (
                        head[0],
                        found.names[h.operand],
                        *head[1:],
                        cycles(h.bits),
                        percent(h.bits, memory.size_bits),
                        "lives here" if top else "yes" if h.double_buffered else "no",
                        f"{h.energy_pj / scale:,.2f}",
                        percent(h.energy_pj, whole),
                    )
                )
            )
    return columns, rows


def _word_table(found: Explanation) -> tuple[list[Column], list[Row]]:
    columns = [Column("memory", left=True), Column("", left=True), *map(Column, MOVES.values())]
    rows: list[Row] = []
    last = -1
    for h in sorted(found.held, key=lambda h: (h.memory, h.operand)):
        words = {f.move: f.words for f in found.flows if (f.operand, f.level) == (h.operand, h.level)}
        name = clean(found.arch.memories[h.memory].name) if h.memory != last else ""
        last = h.memory
        rows.append(Row((name, found.names[h.operand], *(_words(words.get(move, 0.0)) for move in MOVES))))
    return columns, rows


def _words(number: float) -> str:
    if not number:
        return "-"
    return f"{number:,.0f}" if number == int(number) else f"{number:,.2f}"


def _port_title(found: Explanation) -> str:
    title = "Ports: cycles of one transfer, and how often there is one"
    return title if found.saved is None else f"{title}; stall: what the layer saves if it alone is infinitely wide"


def _port_table(found: Explanation) -> tuple[list[Column], list[Row]]:
    """A row per transfer, and one for the port where it carries several."""
    columns = [
        Column("port", left=True),
        Column("carries", left=True),
        *map(Column, ("cycles", "every", "times", "busy", "% run", "stall")),
        *map(Column, ("slack",) if found.saved is None else ()),
    ]
    empty = ("",) * (len(columns) - 7)
    rows: list[Row] = []
    for use in found.ports:
        alone = len(use.flows) == 1
        if not alone:
            rows.append(Row((port_name(found, use), "", "-", "-", "-", *_use_cells(found, use)), strong=True))
        for flow in use.flows:
            busy = _use_cells(found, use) if alone else (cycles(flow.busy_cycles), _of_run(found, flow), *empty)
            name = port_name(found, use) if alone else ""
            carried = (cycles(flow.cycles), cycles(flow.period), cycles(flow.times))
            rows.append(Row((name, _flow_name(found, flow), *carried, *busy)))
    return columns, rows


def _run(found: Explanation) -> int:
    return found.cost.ideal_cycles + found.cost.stall_cycles


def _of_run(found: Explanation, what: Flow | PortUse) -> str:
    return percent(what.busy_cycles, _run(found))


def _use_cells(found: Explanation, use: PortUse) -> tuple[str, ...]:
    late = use.late_cycles
    stall = cycles(late) if late is not None and late > 0 else "-"
    slack = cycles(-late) if late is not None and late <= 0 else "-"
    return cycles(use.busy_cycles), _of_run(found, use), stall, *((slack,) if found.saved is None else ())


def port_name(found: Explanation, use: PortUse) -> str:
    """``lb_io r1``."""
    return _port_name(found, (use.memory, use.port))


def _port_name(found: Explanation, port: Port) -> str:
    memory = found.arch.memories[port[0]]
    return f"{clean(memory.name)} {memory.ports[port[1]].name}"


def _flow_name(found: Explanation, flow: Flow) -> str:
    return f"{found.names[flow.operand]} {MOVES[flow.move]}"


def _used_table(found: Explanation) -> tuple[list[Column], list[Row]]:
    """The array's utilisation in space, in time, and both."""
    columns = [Column("", left=True), *map(Column, ("spatial", "temporal", "both"))]
    used, drains = found.used, found.cost.offloading_counts
    ends = {"while it runs": 0, "with loading and draining" if drains else "with loading": 2 if drains else 1}
    shares = {what: (used.spatial, used.temporal[end], used.array[end]) for what, end in ends.items()}
    return columns, [Row((what, *(percent(share, 1) for share in row))) for what, row in shares.items()]


def _full(found: Explanation) -> str:
    """The share of each memory's size that is in use."""
    shares = sorted(found.used.memories.items())
    return ", ".join(f"{clean(found.arch.memories[m].name)} {percent(share, 1)} %" for m, share in shares)


def _binding(found: Explanation, width: int, paint: Paint) -> list[str]:
    """The verdict, the four parts of the time with their reasons, and where most energy goes."""
    causes = found.cycles_by_cause
    total = sum(causes.values())
    most = max(causes.values())
    text = f"{_bound(found)}: {percent(most, total)} % of {cycles(total)} cycles"
    lines = [paint.warn(line) for line in _labelled("time", text, width)]
    number = max(len(cycles(c)) for c in causes.values())
    for cause in sorted(causes, key=lambda cause: -causes[cause]):
        taken = causes[cause]
        drawn = paint.bar(f"{bar(taken / total if total else 0, _BAR):<{_BAR}}")
        lines.append(f"  {cause:<15}{percent(taken, total):>5}  {cycles(taken):>{number}}  {drawn}".rstrip())
        lines += textwrap.wrap(
            _reason(found, cause), width, initial_indent=" " * 17, subsequent_indent=" " * 17, break_on_hyphens=False
        )
    if found.saved is not None:
        lines += _labelled("wider ports", _wider(found, found.saved), width)
        lines += _labelled("more room", _more_room(found, found.saved), width)
    whole = sum(found.energy_by_cause.values())
    shares = list(found.energy_by_cause.items())[:_SHARES]
    named = ", ".join(f"{clean(what)} {percent(pj, whole)} %" for what, pj in shares)
    return lines + _labelled("energy", f"{energy(whole)}: {named}", width)


def _bound(found: Explanation) -> str:
    """What binds, with the port where it is bandwidth."""
    use = found.busiest
    if found.binds is not Cause.BANDWIDTH or use is None:
        return _BOUND[found.binds]
    single = port_name(found, use)
    ends = found.saved.ends if found.saved else {}
    both = max(ends, key=lambda pair: ends[pair], default=None)
    if both is None or ends[both] <= (use.late_cycles or 0):
        return f"bandwidth of {single}"
    return f"bandwidth of {_both_names(found, both)}"


def _both_names(found: Explanation, ends: tuple[Port, Port]) -> str:
    return " and ".join(_port_name(found, port) for port in ends)


def _wider(found: Explanation, saved: Saved) -> str:
    """Which ports would save most if they were infinitely wide: each by itself, or both ends of a transfer."""
    each = {_port_name(found, port): value for port, value in saved.ports.items()}
    each |= {f"{_both_names(found, ends)} together": value for ends, value in saved.ends.items()}
    return _savings("infinitely wide", each, "all of them", saved.bandwidth)


def _more_room(found: Explanation, saved: Saved) -> str:
    """Which second buffers would save most."""
    each: dict[str, int] = {}
    for (operand, level), value in saved.buffers.items():
        memory = found.arch.memories[found.nest.operands[operand].memories[level]]
        each[f"{found.names[operand]} in {clean(memory.name)}"] = value
    return _savings("with a second buffer", each, "all of them", saved.room)


def _savings(change: str, each: dict[str, int], everywhere: str, whole: int) -> str:
    """The largest few savings of a change, and that of making it everywhere."""
    most = sorted((one for one in each.items() if one[1]), key=lambda one: -one[1])[:_SHARES]
    if not most and not whole:
        return "would save no cycle"
    parts = [f"{what} would save {cycles(value)}" for what, value in most] or ["none would save a cycle"]
    return f"{change}, {', '.join(parts)}; {everywhere} {cycles(whole)}"


def _reason(found: Explanation, cause: str) -> str:
    if cause == "compute":
        return _compute_reason(found)
    if cause == "stall":
        return _stall_reason(found)
    if cause == "load":
        return _load_reason(found)
    if not found.copies:
        return "no copies before this layer"
    parts = [f"{c.what} '{c.tensor}' {size(c.bits)} {c.source} -> {c.target}" for c in found.copies]
    parts += [f"{cycles(found.hidden_cycles)} cycles pass beside other layers"] if found.hidden_cycles else []
    return clean("; ".join(parts))


def _compute_reason(found: Explanation) -> str:
    nest, array = found.nest, found.arch.array
    kinds = {Work.MAC: "multiply-accumulates", Work.OPERATION: "operations", Work.NOTHING: "elements pass through"}
    used = percent(nest.operations, found.cost.ideal_cycles * array.units)
    lanes = dict.fromkeys((d.name for d in array.dims), 1.0)
    for u in nest.unrolled:
        lanes[u.array_dim] *= u.share
    filled = ", ".join(
        f"{clean(d.name)} {digits(lanes[d.name], 3).rstrip('0').rstrip('.')}/{d.size}" for d in array.dims
    )
    return f"{cycles(nest.operations)} {kinds[nest.work]}, {used} % of the array's lanes in use ({filled})"


def _stall_reason(found: Explanation) -> str:
    use = found.busiest
    if use is None:
        return "no port carries anything"
    what = ", ".join(_flow_name(found, f) for f in use.flows)
    if found.saved is not None and not found.cost.stall_cycles:
        return "the run waits for nothing"
    busy = f"busy {cycles(use.busy_cycles)} of {cycles(_run(found))} cycles with {what}"
    if not found.cost.stall_cycles:
        return f"no port stalls; the nearest to it is {port_name(found, use)}: {busy}"
    if found.saved is not None:
        return f"waits most for {port_name(found, use)}: {busy}" if use.late_cycles else "no port alone makes it wait"
    late = f" and {cycles(use.late_cycles)} cycles late" if use.late_cycles and use.late_cycles > 0 else ""
    return f"waits for {port_name(found, use)}: {busy}{late}"


def _load_reason(found: Explanation) -> str:
    names = [clean(m.name) for m in found.arch.memories]
    fills = [f"{found.names[f.operand]} {names[f.source]} -> {names[f.target]} {cycles(f.cycles)}" for f in found.fills]
    first = f"first tiles come in, in cycles: {', '.join(fills)}; different ports work at once"
    first = first if fills else "nothing has to be brought in first"
    drain = found.cost.offloading_cycles if found.cost.offloading_counts else 0
    return f"{first}; the last outputs leave in {cycles(drain)}" if drain else first
