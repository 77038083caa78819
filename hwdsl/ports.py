"""Ports of a memory: their names, and which of them serves which movement."""

from __future__ import annotations

from collections.abc import Iterable

from dfc.hwdsl.arch import Move, Port
from dfc.hwdsl.diagnostics import listing, problem
from dfc.hwdsl.draft import Service
from dfc.hwdsl.syntax import Quantity
from dfc.hwdsl.units import COUNT, whole
from dfc.ir import Role

KINDS = ("r", "w", "rw")
_MOST_PORTS = 64

#: a movement without a rule follows another of the same direction (input operands as they are usually moved)
_PAIRS = ((Move.READ_DOWN, Move.READ_UP), (Move.WRITE_DOWN, Move.WRITE_UP))


def make_ports(counts: dict[str, int]) -> tuple[Port, ...]:
    """Ports named by kind and number, ``r1 r2 w1 rw1``: read ports first, then write ports, then both."""
    return tuple(Port(f"{kind}{i + 1}", kind) for kind in KINDS for i in range(counts.get(kind, 0)))


DEFAULT_PORTS = make_ports({"r": 1, "w": 1})


def parse_ports(quantities: Iterable[Quantity], memory: str) -> tuple[Port, ...]:
    """``1r 1w`` and the like. Raises HW051 for unknown kinds, or where nothing can be read or written."""
    counts: dict[str, int] = {}
    written = tuple(quantities)
    for quantity in written:
        kind = quantity.unit.text if quantity.unit else ""
        if kind not in KINDS or kind in counts:
            what = "given twice" if kind in counts else "not a kind of port"
            raise problem(
                "HW051",
                f"'{quantity}' of memory '{memory}' is {what}",
                quantity.span,
                "write e.g. 1r 1w, or 1rw",
            )
        counts[kind] = whole(Quantity(quantity.number), COUNT, "the number of ports")
        if counts[kind] > _MOST_PORTS:
            raise problem(
                "HW051",
                f"{counts[kind]} ports are too many",
                quantity.span,
                f"at most {_MOST_PORTS} of a kind",
            )
    for kind, verb in (("r", "read"), ("w", "written")):
        if not counts.keys() & {kind, "rw"}:
            hint = f"add a port: 1{kind}, or 1rw for one that does both"
            raise problem("HW051", f"memory '{memory}' has no port through which it is {verb}", written[0].span, hint)
    return make_ports(counts)


def allocate(
    ports: tuple[Port, ...], roles: tuple[Role, ...], services: Iterable[Service] = (), memory: str = ""
) -> dict[tuple[Role, Move], int]:
    """The port, as an index into ``ports``, of every movement of every role held.

    Unless a rule says otherwise: outputs use the first read port downwards and the second upwards, the first
    write port from above and the second from below, and where there is one port, that one. Ports that do both
    stand after the others; for writing they are counted from the last, so that with two of them one faces the
    array and one faces away. Inputs and weights are read through the first and written through the first, in
    either direction.

    Raises:
        HardwareError: HW052 for a rule about an unknown port, a role not held, or a direction the port lacks.
    """
    both = [i for i, port in enumerate(ports) if port.kind == "rw"]
    readers = [i for i, port in enumerate(ports) if port.kind == "r"] + both
    writers = [i for i, port in enumerate(ports) if port.kind == "w"] + both[::-1]
    explicit = _explicit(ports, roles, services, memory)
    table: dict[tuple[Role, Move], int] = {}
    for role in roles:
        for (down, up), able in zip(_PAIRS, (readers, writers), strict=True):
            second = able[min(1, len(able) - 1)]
            table[role, down] = explicit.get((role, down), able[0])
            table[role, up] = explicit.get((role, up), second if role is Role.O else table[role, down])
    return {(role, move): table[role, move] for role in roles for move in Move}


def _explicit(
    ports: tuple[Port, ...], roles: tuple[Role, ...], services: Iterable[Service], memory: str
) -> dict[tuple[Role, Move], int]:
    index = {port.name: i for i, port in enumerate(ports)}
    found: dict[tuple[Role, Move], int] = {}
    for service in services:
        name = service.port.text
        if name not in index:
            hint = f"its ports are {listing(index)}"
            raise problem("HW052", f"memory '{memory}' has no port '{name}'", service.port.span, hint)
        if service.role not in roles:
            hint = f"it holds {listing(role.value for role in roles)}"
            raise problem("HW052", f"memory '{memory}' does not hold {service.role.value}", service.span, hint)
        verb = "r" if service.move.reads else "w"
        if verb not in ports[index[name]].kind:
            does = "written" if verb == "r" else "read"
            message = f"port '{name}' of memory '{memory}' can only be {does}"
            raise problem("HW052", message, service.span, "choose another port, or change its kind in 'ports'")
        found[service.role, service.move] = index[name]
    return found
