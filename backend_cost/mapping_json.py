"""Answers of the mapping search as JSON texts and back: exact to the last bit, and checked when read."""

from __future__ import annotations

import json
from typing import NoReturn, cast

from dfc.backend_cost.mapping_cost import MappingCost, TooSmall
from dfc.backend_cost.nest import Loop, Mapping
from dfc.ir import Dim, Role

_ROLES = {role.value: role for role in Role}


def encode(answer: MappingCost | TooSmall) -> bytes:
    """The answer as a text.

    Raises:
        ValueError: an energy or a traffic that is no finite number.
    """
    if isinstance(answer, TooSmall):
        parts: object = (answer.memory, answer.needed_bits)
    else:
        parts = (
            [(loop.dim, loop.size) for loop in answer.mapping.loops],
            answer.mapping.cuts,
            answer.energy_pj,
            answer.compute_pj,
            [(memory, role.value, pj) for (memory, role), pj in answer.memory_pj.items()],
            (answer.ideal_cycles, answer.stall_cycles, answer.loading_cycles, answer.offloading_cycles),
            answer.offloading_counts,
            list(answer.read_bits.items()),
            list(answer.write_bits.items()),
            answer.gap,
        )
    # int: of what NumPy has left
    return json.dumps(parts, allow_nan=False, check_circular=False, separators=(",", ":"), default=int).encode()


def decode(text: bytes) -> MappingCost | TooSmall:
    """The answer that :func:`encode` made the text of.

    Raises:
        ValueError: the text is no such thing.
    """
    try:
        return _decode(cast("list[object]", json.loads(text, parse_constant=_refuse)))
    except (TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"not an answer: {error}") from None


def _decode(parts: list[object]) -> MappingCost | TooSmall:
    if len(parts) == 2:
        return TooSmall(_int(parts[0]), _int(parts[1]))
    loops, cuts, energy_pj, compute_pj, memory_pj, cycles, offloading_counts, read_bits, write_bits, gap = parts
    ideal, stall, loading, offloading = map(_int, _list(cycles))
    if not isinstance(offloading_counts, bool):
        raise TypeError("a truth value is expected")
    return MappingCost(
        mapping=Mapping(
            tuple(Loop(Dim(_int(dim)), _int(size)) for dim, size in map(_list, _list(loops))),
            tuple(tuple(map(_int, _list(row))) for row in _list(cuts)),
        ),
        energy_pj=_float(energy_pj),
        compute_pj=_float(compute_pj),
        memory_pj={(_int(m), _ROLES[cast("str", role)]): _float(pj) for m, role, pj in map(_list, _list(memory_pj))},
        ideal_cycles=ideal,
        stall_cycles=stall,
        loading_cycles=loading,
        offloading_cycles=offloading,
        offloading_counts=offloading_counts,
        read_bits=_traffic(read_bits),
        write_bits=_traffic(write_bits),
        gap=None if gap is None else _float(gap),
    )


def _traffic(value: object) -> dict[int, float]:
    return {_int(memory): _float(bits) for memory, bits in map(_list, _list(value))}


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError("a list is expected")
    return cast("list[object]", value)


def _int(value: object) -> int:
    if type(value) is not int:
        raise TypeError("a whole number is expected")
    return value


def _float(value: object) -> float:
    if type(value) is not float and type(value) is not int:
        raise TypeError("a number is expected")
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")
