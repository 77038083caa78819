"""Spatial unrolling: which loop runs on which dimension of the array, per kind of layer."""

from __future__ import annotations

from collections.abc import Mapping

from dfc.hwdsl.arch import OperationalArray, Unroll
from dfc.hwdsl.diagnostics import closest, listing, problem
from dfc.hwdsl.draft import Draft
from dfc.hwdsl.syntax import SlotDecl, UnrollDecl
from dfc.hwdsl.units import COUNT, whole
from dfc.ir import Dim, Kind

#: where a kind takes its unrolling from when the page does not give one: the first of these that it gives
FALLBACKS: Mapping[Kind, tuple[Kind, ...]] = {
    Kind.CONV: (Kind.DENSE,),
    Kind.DENSE: (Kind.CONV,),
    Kind.DEPTHWISE: (Kind.POOL, Kind.ELTWISE, Kind.MOVE),
    Kind.POOL: (Kind.DEPTHWISE, Kind.ELTWISE, Kind.MOVE),
    Kind.ELTWISE: (Kind.POOL, Kind.DEPTHWISE, Kind.MOVE),
    Kind.MOVE: (Kind.ELTWISE, Kind.POOL, Kind.DEPTHWISE),
}


def elaborate_unrolls(draft: Draft, array: OperationalArray) -> dict[Kind, tuple[Unroll, ...]]:
    """The unrolling of every kind that computes or moves data.

    A kind without one falls back as in :data:`FALLBACKS`; where no layer over channels (depthwise, pool,
    eltwise, move) has one, they take the convolution's with G in place of K and without C.

    Raises:
        HardwareError: HW017 where neither conv nor dense is given, HW030 to HW033 for names that do not fit.
    """
    given = {kind: tuple(_slots(decl, array)) for kind, decl in draft.unrolls.items()}
    if not given.keys() & {Kind.CONV, Kind.DENSE}:
        message = f"the array of accelerator '{draft.name.text}' has no unrolling for convolutions"
        raise problem("HW017", message, draft.name.span, "add to its array: unroll conv D1: K, D2: C")
    return {kind: _chosen(kind, given) for kind in FALLBACKS}


def _chosen(kind: Kind, given: Mapping[Kind, tuple[Unroll, ...]]) -> tuple[Unroll, ...]:
    for candidate in (kind, *FALLBACKS[kind]):
        if candidate in given:
            return given[candidate]
    dense = given[Kind.CONV] if Kind.CONV in given else given[Kind.DENSE]
    over_channels = (Unroll(u.array_dim, Dim.G if u.loop is Dim.K else u.loop, u.size) for u in dense)
    return tuple(u for u in over_channels if u.loop is not Dim.C)


def _slots(decl: UnrollDecl, array: OperationalArray) -> list[Unroll]:
    if decl.instead is not None and decl.instead.text != "none":
        message = f"'{decl.instead.text}' is not an unrolling"
        hint = f"write e.g. unroll {decl.kind.text} D1: K, or unroll {decl.kind.text} none"
        raise problem("HW013", message, decl.instead.span, hint)
    found: list[Unroll] = []
    for slot in decl.slots:
        unroll = _slot(slot, array)
        for other in found:
            if unroll.array_dim == other.array_dim:
                message = f"array dimension '{unroll.array_dim}' is given twice for {decl.kind.text} layers"
                raise problem("HW033", message, slot.array_dim.span, "one loop per array dimension")
            if unroll.loop == other.loop:
                message = f"loop {unroll.loop.name} is unrolled twice for {decl.kind.text} layers"
                raise problem("HW033", message, slot.loop.span, "one array dimension per loop")
        found.append(unroll)
    return found


def _slot(slot: SlotDecl, array: OperationalArray) -> Unroll:
    sizes = {dim.name: dim.size for dim in array.dims}
    name, loop = slot.array_dim.text, slot.loop.text
    if name not in sizes:
        message = f"unknown array dimension '{name}'"
        raise problem("HW030", message, slot.array_dim.span, f"the array has {', '.join(sizes)}")
    if loop not in Dim.__members__:
        best = closest(loop, Dim.__members__)
        hint = f"did you mean {best}? " if best else ""
        hint += f"expected {listing(Dim.__members__, 'or')}"
        raise problem("HW031", f"unknown loop '{loop}'", slot.loop.span, hint)
    width = whole(slot.width, COUNT, f"the width of {loop} on '{name}'") if slot.width else 0
    if width > sizes[name] and slot.width:
        message = f"{loop} is {width} wide on array dimension '{name}', which has {sizes[name]}"
        raise problem("HW015", message, slot.width.span, f"write at most {loop}/{sizes[name]}")
    return Unroll(name, Dim[loop], width)
