"""From a complete draft to the frozen :class:`Arch`, with every check that needs the whole accelerator."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import MappingProxyType
from typing import TypeVar

from dfc.errors import Span
from dfc.hwdsl.arch import Arch, ArrayDim, Memory, OperationalArray
from dfc.hwdsl.diagnostics import closest, problem
from dfc.hwdsl.draft import Draft, Given, MemoryDraft
from dfc.hwdsl.paths import elaborate_paths
from dfc.hwdsl.ports import DEFAULT_PORTS, allocate
from dfc.hwdsl.unrolls import elaborate_unrolls
from dfc.ir import Role

_T = TypeVar("_T")
_MOST_UNITS = 2**31
_DEFAULT_CLOCK_HZ = 1e9


def elaborate(draft: Draft, source: str) -> Arch:
    """The accelerator that a draft describes, its base already underneath.

    Raises:
        HardwareError: HW017 for what is missing, and the codes of paths, unrollings and memories.
    """
    array = _array(draft)
    memories = {name: _memory(memory, array, draft) for name, memory in draft.memories.items()}
    if not memories:
        raise problem(
            "HW017",
            f"accelerator '{draft.name.text}' has no memory",
            draft.name.span,
            "add: memory NAME { ... }",
        )
    order, paths = elaborate_paths(draft, memories)
    return Arch(
        name=draft.name.text,
        array=array,
        memories=tuple(memories[name] for name in order),
        paths=MappingProxyType(paths),
        unrolls=MappingProxyType(elaborate_unrolls(draft, array)),
        clock_hz=draft.clock_hz.value if draft.clock_hz else _DEFAULT_CLOCK_HZ,
        source=source,
        notes=draft.notes,
    )


def _array(draft: Draft) -> OperationalArray:
    name = f"accelerator '{draft.name.text}'"
    if not draft.dims:
        raise problem("HW017", f"{name} has no array", draft.name.span, "add: array { dims D1: 32, D2: 2  mac ... }")
    hint = "add to its array: mac 8 b x 8 b -> 16 b, 0.04 pJ"
    precision = _required(draft.precision, f"{name} has no multiply-accumulate", draft.name.span, hint)
    mac_pj = _required(draft.mac_pj, f"{name} has no energy per multiply-accumulate", draft.name.span, hint)
    dims = tuple(ArrayDim(dim, given.value) for dim, given in draft.dims.items())
    array = OperationalArray(
        dims=dims,
        mac_pj=mac_pj,
        op_pj=draft.op_pj.value if draft.op_pj else mac_pj,
        input_bits=precision.input,
        weight_bits=precision.weight,
        partial_bits=precision.partial,
        output_bits=precision.output,
    )
    if array.units > _MOST_UNITS:
        span = draft.dims[dims[-1].name].span
        raise problem("HW015", f"the array has {array.units} units, more than {_MOST_UNITS}", span)
    return array


def _memory(draft: MemoryDraft, array: OperationalArray, whole: Draft) -> Memory:
    name, span = draft.name.text, draft.name.span
    others = [other for other in whole.memories if other != name]
    best = closest(name, others)
    meant = f", or did you mean to change '{best}'?" if best else ""

    def required(given: Given[_T] | None, what: str, example: str) -> _T:
        return _required(given, f"memory '{name}' has no {what}", span, f"add e.g. {example}{meant}")

    roles = required(draft.roles, "operands", "holds I, O")
    size_bits = required(draft.size_bits, "size", "size 64 KiB")
    read_width = required(draft.read_bits_per_cycle, "read width", "width 512 b/cycle")
    write_width = required(draft.write_bits_per_cycle, "write width", "width 512 b/cycle")
    read_pj = required(draft.read_pj, "read energy", "energy 26.5 pJ")
    write_pj = required(draft.write_pj, "write energy", "energy 26.5 pJ")
    ports = draft.ports.value if draft.ports else DEFAULT_PORTS
    across = _across(draft, array)
    _check_capacity(draft, roles, array)
    return Memory(
        name=name,
        roles=roles,
        size_bits=size_bits,
        read_bits_per_cycle=read_width,
        write_bits_per_cycle=write_width,
        read_pj=read_pj,
        write_pj=write_pj,
        min_read_bits=_minimum(draft.min_read_bits, read_width, name, "read"),
        min_write_bits=_minimum(draft.min_write_bits, write_width, name, "write"),
        across=across,
        instances=prod(dim.size for dim in array.dims if dim.name not in across),
        ports=ports,
        port_of=MappingProxyType(allocate(ports, roles, draft.services, name)),
        fetch_new=_fetch_new(draft, roles),
        span=span,
        size_span=draft.size_bits.span if draft.size_bits else None,
    )


def _across(draft: MemoryDraft, array: OperationalArray) -> tuple[str, ...]:
    """The dimensions that one instance serves, in the array's order; all of them unless the page says."""
    dims = tuple(dim.name for dim in array.dims)
    if draft.across is None:
        return dims
    for word in draft.across.value:
        if word.text not in dims:
            message = f"memory '{draft.name.text}' serves array dimension '{word.text}', which the array lacks"
            raise problem("HW030", message, word.span, f"the array has {', '.join(dims)}")
    served = {word.text for word in draft.across.value}
    return tuple(dim for dim in dims if dim in served)


def _minimum(given: Given[int] | None, width: int, name: str, verb: str) -> int:
    if given is None:
        return width
    if given.value > width:
        message = f"smallest {verb} of memory '{name}' is {given.value} b, wider than its {verb} width of {width} b"
        raise problem("HW050", message, given.span, "lower 'min' or widen the memory")
    return given.value


def _fetch_new(draft: MemoryDraft, roles: tuple[Role, ...]) -> bool:
    """Whether only what is new of an input is fetched; the page need not say."""
    if draft.fetch_new is None or not draft.fetch_new.value:
        return False
    if set(roles) == {Role.O}:
        message = f"memory '{draft.name.text}' holds only O, and outputs do not slide: there is nothing to 'fetch new'"
        raise problem("HW055", message, draft.fetch_new.span, "leave it out; it is for memories that hold I or W")
    return True


def _check_capacity(draft: MemoryDraft, roles: tuple[Role, ...], array: OperationalArray) -> None:
    bits: Mapping[Role, int] = {
        Role.I: array.input_bits,
        Role.W: array.weight_bits,
        Role.O: min(array.partial_bits, array.output_bits),
    }
    need = sum(bits[role] for role in roles)
    if draft.size_bits is not None and draft.size_bits.value < need:
        held = " and ".join(f"one element of {role.value} ({bits[role]} b)" for role in roles)
        message = f"memory '{draft.name.text}' of {draft.size_bits.value} b cannot hold {held}"
        raise problem("HW053", message, draft.size_bits.span, f"make it at least {need} b")


def _required(given: Given[_T] | None, message: str, span: Span, hint: str) -> _T:
    if given is None:
        raise problem("HW017", message, span, hint)
    return given.value
