"""Meaning of the words of one page: from syntax to a draft.

Judged here: names of properties, values and their units, and whatever is given twice. What needs the whole
accelerator (paths, missing properties, ports) waits for :mod:`dfc.hwdsl.elaborate`, after ``extends`` is
resolved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, TypeVar

from dfc.errors import HardwareError
from dfc.hwdsl.arch import Move
from dfc.hwdsl.diagnostics import closest, listing, problem, suggest
from dfc.hwdsl.draft import Draft, Given, MemoryDraft, Precision, Service
from dfc.hwdsl.ports import parse_ports
from dfc.hwdsl.syntax import (
    AcceleratorDecl,
    ArrayDecl,
    Crossing,
    MacDecl,
    MemoryDecl,
    Quantity,
    Setting,
    UnrollDecl,
    Word,
)
from dfc.hwdsl.units import BITS, CLOCK, COUNT, SIZE, WIDTH, known_unit, measures, picojoules, positive, whole
from dfc.ir import Kind, Role

Changes = dict[str, Any]  # field of a MemoryDraft: Given[...]; each handler keeps to its fields' types
Choice = TypeVar("Choice", bound=StrEnum)

#: kinds of layer that an array unrolls; views cost nothing, and what an opaque layer does is unknown
UNROLLED_KINDS = (Kind.CONV, Kind.DEPTHWISE, Kind.POOL, Kind.ELTWISE, Kind.DENSE, Kind.MOVE)

_MOVES = {
    ("read", "down"): Move.READ_DOWN,
    ("write", "up"): Move.WRITE_UP,
    ("read", "up"): Move.READ_UP,
    ("write", "down"): Move.WRITE_DOWN,
}


def draft(page: AcceleratorDecl) -> Draft:
    """The accelerator as this page alone gives it."""
    made = _settings(page, Draft(page.name, removed=page.removed, notes=page.notes))
    for array in page.arrays:
        made = _array(array, made)
    memories: dict[str, MemoryDraft] = {}
    for memory in page.memories:
        if memory.name.text in memories:
            raise _twice(f"memory '{memory.name.text}'", memory.name, memories[memory.name.text].name)
        memories[memory.name.text] = _memory(memory)
    paths = {_role(path.role, "a path is drawn for"): path for path in reversed(page.paths)}
    for path in page.paths:
        first = paths[Role(path.role.text)]
        if first is not path:
            raise _twice(f"the path of {path.role.text}", path.role, first.role)
    return replace(made, memories=memories, paths={role: paths[role] for role in Role if role in paths})


def _settings(page: AcceleratorDecl, made: Draft) -> Draft:
    for setting in page.settings:
        if setting.name.text != "clock":
            raise _unknown(setting.name, ("clock", "array", "memory", "path", "remove", "note"), "an accelerator")
        value = Given(positive(_one(setting, "1 GHz"), CLOCK, "the clock"), setting.name.span)
        if made.clock_hz is not None:
            raise _twice("the clock", setting.name, Word("", made.clock_hz.span))
        made = replace(made, clock_hz=value)
    return made


def _array(array: ArrayDecl, made: Draft) -> Draft:
    dims = dict(made.dims)
    for dim in array.dims:
        name = dim.name.text
        if name in dims:
            raise _twice(f"array dimension '{name}'", dim.name, Word(name, dims[name].span))
        dims[name] = Given(whole(dim.size, COUNT, f"array dimension '{name}'"), dim.name.span)
    for mac in array.macs:
        if made.precision is not None:
            raise _twice("the multiply-accumulate", mac.keyword, Word("mac", made.precision.span))
        energy = Given(picojoules(mac.energy, "the energy of a multiply-accumulate"), mac.energy.span)
        made = replace(made, precision=Given(_precision(mac), mac.keyword.span), mac_pj=energy)
    for op in array.ops:
        if made.op_pj is not None:
            raise _twice("the energy of an operation", op.keyword, Word("op", made.op_pj.span))
        made = replace(made, op_pj=Given(picojoules(op.energy, "the energy of an operation"), op.keyword.span))
    for setting in array.settings:
        raise _unknown(setting.name, ("dims", "mac", "op", "unroll"), "an array")
    return replace(made, dims=dims, unrolls=_unrolls(array.unrolls, made.unrolls))


def _precision(mac: MacDecl) -> Precision:
    sums, *outputs = mac.results
    if len(outputs) > 1:
        message = f"a multiply-accumulate has {len(mac.results)} results; expected a partial sum and an output"
        hint = "write: mac 8 b x 8 b -> 16 b -> 8 b, 0.04 pJ"
        raise problem("HW013", message, outputs[1].span, hint)
    given = whole(mac.input, BITS, "the input's precision")
    partial = whole(sums, BITS, "the partial sum's precision")
    output = whole(outputs[0], BITS, "the output's precision") if outputs else given
    return Precision(given, whole(mac.weight, BITS, "the weight's precision"), partial, output)


def _unrolls(decls: Iterable[UnrollDecl], before: Mapping[Kind, UnrollDecl]) -> Mapping[Kind, UnrollDecl]:
    found = dict(before)
    for decl in decls:
        kind = _choice(decl.kind, UNROLLED_KINDS, "HW032", "kind of layer")
        if kind in found:
            raise _twice(f"the unrolling of {kind} layers", decl.kind, found[kind].kind)
        found[kind] = decl
    return found


def _memory(memory: MemoryDecl) -> MemoryDraft:
    made = MemoryDraft(memory.name)
    for setting in memory.settings:
        handler = _PROPERTIES.get(setting.name.text)
        if handler is None:
            raise _unknown(setting.name, (*_PROPERTIES, "port"), "a memory")
        for field, value in handler(setting, memory.name.text).items():
            before: Given[object] | None = getattr(made, field)
            if before is not None:
                raise _twice(f"{_FIELDS[field]} of memory '{memory.name.text}'", setting.name, Word("", before.span))
            made = replace(made, **{field: value})
    services = [_service(rule.port, c, memory.name.text) for rule in memory.rules for c in rule.crossings]
    for i, service in enumerate(services):
        for other in services[:i]:
            if (service.role, service.move) == (other.role, other.move):
                raise _twice("the port of this movement", Word("", service.span), Word("", other.span))
    return replace(made, services=tuple(services))


def _holds(setting: Setting, memory: str) -> Changes:
    words = _names(setting, "I, O")
    roles = tuple(_role(word, f"memory '{memory}' holds") for word in words)
    return {"roles": Given(_unique(roles, words, f"what memory '{memory}' holds"), setting.name.span)}


def _size(setting: Setting, memory: str) -> Changes:
    quantity = _one(setting, "64 KiB")
    return {"size_bits": Given(whole(quantity, SIZE, f"size of memory '{memory}'"), quantity.span)}


def _width(setting: Setting, memory: str) -> Changes:
    quantity = _one(setting, "512 b/cycle")
    value = Given(whole(quantity, WIDTH, f"width of memory '{memory}'"), quantity.span)
    return {"read_bits_per_cycle": value, "write_bits_per_cycle": value}


def _energy(setting: Setting, memory: str) -> Changes:
    quantity = _one(setting, "26.5 pJ")
    value = Given(picojoules(quantity, f"energy of memory '{memory}'"), quantity.span)
    return {"read_pj": value, "write_pj": value}


def _access(setting: Setting, memory: str) -> Changes:
    """``read 512 b/cycle 17.2 pJ``: the width, the energy, or both in either order."""
    verb = setting.name.text
    changes: Changes = {}
    if setting.words or not 1 <= len(setting.quantities) <= 2:
        raise _wants(setting, "a width, an energy or both", f"{verb} 512 b/cycle 17.2 pJ")
    for quantity in setting.quantities:
        what = f"{verb} energy of memory '{memory}'"
        if measures(quantity, WIDTH):
            field = f"{verb}_bits_per_cycle"
            value: float = whole(quantity, WIDTH, f"{verb} width of memory '{memory}'")
        else:
            field, value = f"{verb}_pj", picojoules(quantity, what)
        if field in changes:
            raise _wants(setting, "one width and one energy", f"{verb} 512 b/cycle 17.2 pJ")
        changes[field] = Given(value, quantity.span)
    return changes


def _minimum(setting: Setting, memory: str) -> Changes:
    """``min 64 b``, ``min read 64 b``, ``min write 64 b``."""
    verbs = [word.text for word in setting.words]
    if verbs not in ([], ["read"], ["write"]) or len(setting.quantities) != 1:
        raise _wants(setting, "a width, perhaps after 'read' or 'write'", "min 64 b or min read 64 b")
    quantity = setting.quantities[0]
    value = Given(whole(quantity, WIDTH, f"smallest access of memory '{memory}'"), quantity.span)
    return {f"min_{verb}_bits": value for verb in verbs or ("read", "write")}


def _across(setting: Setting, memory: str) -> Changes:
    words = _names(setting, "D3, D4 (or none: one instance beside every multiplier)")
    if [word.text for word in words] == ["none"]:
        words = ()
    _unique(tuple(w.text for w in words), words, f"the array dimensions that memory '{memory}' serves")
    return {"across": Given(words, setting.name.span)}


def _ports(setting: Setting, memory: str) -> Changes:
    if setting.words or not setting.quantities:
        raise _wants(setting, "numbers of ports", "ports 1r 1w")
    return {"ports": Given(parse_ports(setting.quantities, memory), setting.name.span)}


def _fetch(setting: Setting, memory: str) -> Changes:
    """``fetch new`` or ``fetch whole``."""
    words = _names(setting, "new")
    if len(words) != 1 or words[0].text not in ("new", "whole"):
        wrong = words[0] if len(words) == 1 else words[1]
        message = f"'fetch' of memory '{memory}' takes 'new' or 'whole'"
        hint = "write fetch new (only what the last tile lacked of a sliding window) or fetch whole"
        raise problem("HW013", message, wrong.span, hint)
    return {"fetch_new": Given(words[0].text == "new", words[0].span)}


_PROPERTIES: Mapping[str, Callable[[Setting, str], Changes]] = {
    "holds": _holds,
    "size": _size,
    "width": _width,
    "read": _access,
    "write": _access,
    "energy": _energy,
    "min": _minimum,
    "across": _across,
    "ports": _ports,
    "fetch": _fetch,
}

_FIELDS = {
    "roles": "the operands",
    "size_bits": "the size",
    "read_bits_per_cycle": "the read width",
    "write_bits_per_cycle": "the write width",
    "read_pj": "the read energy",
    "write_pj": "the write energy",
    "min_read_bits": "the smallest read",
    "min_write_bits": "the smallest write",
    "across": "the array dimensions",
    "ports": "the ports",
    "fetch_new": "what to fetch",
}


def _service(port: Word, crossing: Crossing, memory: str) -> Service:
    role = _role(crossing.role, f"port '{port.text}' of memory '{memory}' serves")
    for word, known in ((crossing.verb, ("read", "write")), (crossing.way, ("up", "down"))):
        if word.text not in known:
            hint = "write e.g. O read up; down is towards the array, up towards the off-chip memory"
            raise problem("HW013", f"'{word.text}' is not a movement; expected {' or '.join(known)}", word.span, hint)
    return Service(port, role, _MOVES[crossing.verb.text, crossing.way.text], crossing.role.span)


def _role(word: Word, who: str) -> Role:
    if word.text in Role.__members__:
        return Role(word.text)
    hint = "I: input feature maps, W: weights, O: outputs and partial sums"
    best = closest(word.text, Role.__members__)
    hint = f"did you mean '{best}'? {hint}" if best else hint
    raise problem("HW012", f"{who} operand '{word.text}'; expected I, W or O", word.span, hint)


def _choice(word: Word, known: tuple[Choice, ...], code: str, what: str) -> Choice:
    for member in known:
        if member.value == word.text:
            return member
    names = [member.value for member in known]
    best = closest(word.text, names)
    hint = f"did you mean '{best}'? " if best else ""
    raise problem(code, f"unknown {what} '{word.text}'", word.span, f"{hint}expected {listing(names, 'or')}")


def _one(setting: Setting, example: str) -> Quantity:
    first, *more = setting.quantities or (None,)
    if first is None or setting.words or (more and known_unit(first)):
        raise _wants(setting, "one quantity", f"{setting.name.text} {example}")
    return first  # where more follow, its unit is a property's name ("size 64 width 512 b"), judged as a unit


def _names(setting: Setting, example: str) -> tuple[Word, ...]:
    if setting.quantities:
        hint = f"write e.g. {setting.name.text} {example}; no comma after the last"
        message = f"'{setting.name.text}' takes names, not {setting.quantities[0]}"
        raise problem("HW013", message, setting.quantities[0].span, hint)
    return setting.words


def _wants(setting: Setting, what: str, example: str) -> HardwareError:
    wrong = setting.words[0].span if setting.words else setting.quantities[0].span
    if not setting.words and len(setting.quantities) > 1:
        wrong = setting.quantities[1].span
    return problem("HW013", f"'{setting.name.text}' takes {what}", wrong, f"write e.g. {example}")


def _unknown(word: Word, known: Iterable[str], where: str) -> HardwareError:
    return problem("HW011", f"{where} has no property '{word.text}'", word.span, suggest(word.text, known))


def _twice(what: str, second: Word, first: Word) -> HardwareError:
    return problem("HW016", f"{what} is given twice", second.span, f"the first is at {first.span}; keep one")


def _unique(values: tuple[Choice | str, ...], words: tuple[Word, ...], what: str) -> tuple[Choice | str, ...]:
    for i, value in enumerate(values):
        if value in values[:i]:
            raise _twice(f"'{value}' in {what}", words[i], words[values.index(value)])
    return values
