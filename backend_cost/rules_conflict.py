"""Why mapping rules cannot be kept: checks before the search, and the rules to blame where nothing is left of a space.

A rule that fails by itself is explained by its numbers. Otherwise rules are dropped one by one for as long as nothing
fits without them either: what remains is a smallest set of rules that contradict each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path

import numpy as np

from dfc.backend_cost.lattice import prime_factors
from dfc.backend_cost.mapping_cost import TooSmall
from dfc.backend_cost.mapping_energy import least_energy
from dfc.backend_cost.mapping_rules import (
    Extent,
    HoldRule,
    LayerRules,
    MappingRules,
    OrderRule,
    Rule,
    SpatialRule,
    extents_at,
    held_cuts,
    held_levels,
    keeps_to,
)
from dfc.backend_cost.mapping_space import MappingSpace
from dfc.backend_cost.nest import Nest
from dfc.errors import RulesError, Span
from dfc.hwdsl.arch import Arch
from dfc.hwdsl.diagnostics import closest, listing, suggest
from dfc.ir import OUTPUT_DIMS, Dim, Kind, Layer, Role
from dfc.units import sizes

_OPERANDS = {Role.I: "input", Role.W: "weight", Role.O: "output"}
#: a need of memory beyond this only says that nothing is allowed at all
_NOTHING = 1 << 58


def check_rules(rules: MappingRules, layers: Sequence[Layer], arch: Arch) -> None:
    """Find out before the search what no tile can keep.

    Raises:
        RulesError: MAP014 a pattern that matches no layer, MAP015 memories and operands, MAP016 the spatial unrolling,
            MAP020 a loop that is too small for a rule, MAP021 an array dimension that two rules lay loops over.
    """
    modelled = [layer for layer in layers if layer.kind not in (Kind.OPAQUE, Kind.VIEW)]
    for block in rules.blocks:
        for pattern in block.patterns:
            if not any(pattern.matches(layer.name) for layer in modelled):
                names = [layer.name for layer in modelled]
                best = closest(pattern.text, names)
                hint = f"did you mean '{best}'?" if best else "dfc import prints the names; * stands for any letters"
                hint = "dfc does not model this layer" if pattern.text in {x.name for x in layers} else hint
                raise RulesError("MAP014", f"no layer '{pattern.text}'", span=pattern.span, hint=hint)
        mine = [layer for layer in modelled if any(p.matches(layer.name) for p in block.patterns)]
        for hold in block.rules.holds:
            _check_hold(hold, mine, arch)
    for layer in modelled:
        for tile in dict.fromkeys(b.tile for b in rules.blocks):
            found = rules.layer(layer.name, tile or (0, 0))
            if found is not None and found.spatial:
                _check_lanes(found.spatial, layer, arch)


def _check_hold(hold: HoldRule, layers: list[Layer], arch: Arch) -> None:
    names = [m.name for m in arch.memories]
    if hold.memory not in names:
        hint = suggest(hold.memory, names)
        raise RulesError("MAP015", f"unknown memory '{hold.memory}'", span=hold.span, hint=hint)
    path = [arch.memories[m].name for m in arch.paths[hold.role]]
    what = _OPERANDS[hold.role]
    if hold.memory not in path:
        hint = f"{what}s pass through {listing(path)}"
        raise RulesError("MAP015", f"memory '{hold.memory}' does not hold {hold.role.value}", span=hold.span, hint=hint)
    if hold.memory == path[-1]:
        hint = f"rules are for the memories below: {listing(path[:-1])}" if path[:-1] else ""
        message = f"memory '{hold.memory}' holds all {what}s: nothing is to be chosen there"
        raise RulesError("MAP015", message, span=hold.span, hint=hint)
    have = max(_operands(layer, hold.role) for layer in layers)
    if have < max(1, hold.number):
        message = f"no {what} {hold.number}: the layer has {have}" if have else f"the layer has no {what}s"
        raise RulesError("MAP015", message, span=hold.span)
    for layer in layers:
        if _operands(layer, hold.role) >= max(1, hold.number):
            for extent in hold.extents:
                _check_extent(hold, extent, layer)


def _check_extent(hold: HoldRule, extent: Extent, layer: Layer) -> None:
    what, name = _OPERANDS[hold.role], extent.dim.name
    if extent.size is not None and extent.sign != ">=" and not any(extent.dim in dims for dims in _dims(layer, hold)):
        message = (
            f"layer '{layer.name}': {what}s do not depend on {name}, and stay for at least as long as it runs next"
        )
        raise RulesError("MAP015", message, span=hold.span, hint=f"write {name} >= {extent.size}")
    reason = _beyond(extent, layer.sizes[extent.dim])
    if reason:
        raise RulesError("MAP020", f"layer '{layer.name}': {reason[0]}", span=hold.span, hint=reason[1])


def _dims(layer: Layer, hold: HoldRule) -> list[tuple[Dim, ...]]:
    """Per operand that is meant, the loops that address it."""
    found: list[tuple[Dim, ...]] = [o.dims for o in layer.inputs if o.role is hold.role]
    if hold.role is Role.O:
        found = [OUTPUT_DIMS]
    return found[hold.number - 1 : hold.number] if hold.number else found


def _operands(layer: Layer, role: Role) -> int:
    return 1 if role is Role.O else sum(o.role is role for o in layer.inputs)


def _check_lanes(rules: tuple[SpatialRule, ...], layer: Layer, arch: Arch) -> None:
    sizes = {d.name: d.size for d in arch.array.dims}
    seen: dict[str, SpatialRule] = {}
    for rule in rules:
        mine: dict[str, int] = {}
        for u in rule.lanes:
            if u.array_dim not in sizes:
                hint = suggest(u.array_dim, sizes)
                raise RulesError("MAP016", f"unknown array dimension '{u.array_dim}'", span=rule.span, hint=hint)
            mine[u.array_dim] = mine.get(u.array_dim, 1) * max(1, u.size)
        for name, lanes in mine.items():
            if lanes > sizes[name]:
                message = f"array dimension '{name}' has only {sizes[name]} lanes, not {lanes}"
                raise RulesError("MAP016", message, span=rule.span, hint=f"at most {sizes[name]} on {name}")
            if name in seen:
                message = f"layer '{layer.name}': array dimension '{name}' is given twice"
                raise RulesError("MAP021", message, span=rule.span, hint=f"the first is at {seen[name].span}")
        seen |= dict.fromkeys(mine, rule)
    for dim in {u.loop for rule in rules for u in rule.lanes}:
        wide = [(u, rule) for rule in rules for u in rule.lanes if u.loop is dim]
        if prod(max(1, u.size) for u, _ in wide) > layer.sizes[dim]:
            message = f"layer '{layer.name}': loop {dim.name} has only size {layer.sizes[dim]}"
            raise RulesError("MAP016", message, span=wide[-1][1].span, hint="fewer lanes, or another loop")


def idle_rules(rules: MappingRules, runs: Iterable[tuple[str, tuple[int, int], Nest]], arch: Arch) -> list[str]:
    """What a schedule does not show of the rules, a sentence each.

    ``runs`` are its layer tiles: the layer's name, the (width, height) of what it computes, and its nest.
    """
    seen = list(runs)
    notes: list[str] = []
    for block in rules.blocks:
        mine = [(size, nest) for name, size, nest in seen if any(p.matches(name) for p in block.patterns)]
        meant = [nest for size, nest in mine if block.tile in (None, size)]
        place = block.patterns[0].span
        if not meant:
            names = ", ".join(p.text for p in block.patterns)
            known = listing(dict.fromkeys(f"{x}x{y}" for (x, y), _ in mine), "or")
            tiles = f"; it is {known}" if mine else ""
            notes.append(f"{_place(place)}: its rules are without effect: no tile of {names} has this size{tiles}")
        for hold in block.rules.holds if meant else ():
            if not any(held_levels(hold, nest, arch) for nest in meant):
                why = f"{_OPERANDS[hold.role]}s live there or below in every tile"
                notes.append(f"{_place(hold.span)}: '{_source(hold)}' is without effect: {why}")
    return notes


def explain_contradiction(rules: LayerRules, space: MappingSpace, where: str = "") -> RulesError | None:
    """The rules that leave nothing of a space, with the reason; None where they leave something, or are not to blame.

    ``where`` says which layer and tile this is.
    """
    start = f"{where}: " if where else ""
    temporal = rules.temporal or LayerRules()
    without = space.regions()
    if isinstance(without, TooSmall):
        return _lanes_to_blame(rules, space, without, start)
    if _feasible(temporal, space):
        return None
    lines: list[Rule] = [*temporal.orders, *temporal.holds]
    for line in lines:
        reason = _alone(line, space)
        if reason:
            return RulesError("MAP020", f"{start}{reason[0]}", span=line.span, hint=reason[1])
    for line in list(lines):
        fewer = [other for other in lines if other is not line]
        if not _feasible(_rules(fewer), space):
            lines = fewer
    return _together(lines, space, start)


def _lanes_to_blame(rules: LayerRules, space: MappingSpace, short: TooSmall, start: str) -> RulesError | None:
    """Fixed lanes of which each needs an element that the memory has no room for."""
    if not rules.spatial:
        return None
    memory = space.arch.memories[short.memory]
    needed, room = sizes(short.needed_bits, memory.size_bits)
    message = f"{start}memory '{memory.name}' needs {needed} for these lanes and has {room}"
    hint = f"lay fewer loops over {listing(memory.across)}" if memory.across else "lay fewer loops over the array"
    return RulesError("MAP020", message, span=rules.spatial[-1].span, hint=hint)


def _feasible(rules: LayerRules, space: MappingSpace) -> bool:
    if not rules.orderable(space.lattice):
        return False
    regions = space.regions(rules.allowed(space))
    return not isinstance(regions, TooSmall) and least_energy(space, regions) is not None


def _rules(lines: Sequence[Rule]) -> LayerRules:
    orders = tuple(x for x in lines if isinstance(x, OrderRule))
    return LayerRules((), orders, tuple(x for x in lines if isinstance(x, HoldRule)))


def _alone(line: Rule, space: MappingSpace) -> tuple[str, str] | None:
    """(reason, remedy) where a rule cannot be kept whatever the others say."""
    if isinstance(line, OrderRule):
        return _impossible_parts(line, space)
    if isinstance(line, HoldRule) and held_cuts(line, space):
        reach = extents_at(space.nest, space.lattice.points)
        for extent in line.extents:
            reason = _impossible_extent(extent, reach[:, extent.dim].tolist(), space.nest)
            if reason:
                return reason
        return _no_room(line, space)
    return None


def _beyond(extent: Extent, size: int) -> tuple[str, str] | None:
    if extent.size is None or extent.sign == "<=" or extent.size <= size:
        return None
    return f"loop {extent.dim.name} has only size {size}", f"write {extent.dim.name} all, or at most {size}"


def _impossible_extent(extent: Extent, reach: list[float], nest: Nest) -> tuple[str, str] | None:
    name, size = extent.dim.name, nest.sizes[extent.dim]
    beyond = _beyond(extent, size)
    if beyond or extent.size is None:
        return beyond
    possible = sorted({int(x) for x in reach})
    known = f"{name} can be {listing(map(str, possible), 'or')}"
    if extent.size < possible[0] and extent.sign != ">=":
        return f"{name} runs on {possible[0]} lanes side by side, so a memory holds no less of it", known
    if not any(keeps_to(extent, np.array(possible, dtype=float), nest)):
        lanes = f", {possible[0]} on lanes" if possible[0] > 1 else ""
        return f"{name} {extent.size} is no product of factors of the loop (size {size}{lanes})", known
    return None


def _impossible_parts(line: OrderRule, space: MappingSpace) -> tuple[str, str] | None:
    nest = space.nest
    taken: dict[int, int] = {}
    for part in (p for group in line.groups for p in group if p.size is not None):
        steps = int(space.lattice.points[-1, part.dim])
        taken[part.dim] = taken.get(part.dim, 1) * (part.size or 1)
        if steps % taken[part.dim]:
            name = part.dim.name
            lanes = f" ({nest.sizes[part.dim]} on lanes)" if any(u.loop is part.dim for u in nest.unrolled) else ""
            message = f"the parts of {name} come to {taken[part.dim]}, which does not divide its {steps} steps{lanes}"
            return message, f"{name} has the factors {listing(map(str, prime_factors(steps))) or 'none'}"
    return None


def _no_room(line: HoldRule, space: MappingSpace) -> tuple[str, str] | None:
    """Where the least that the rule asks for is more than its memory has."""
    allowed = LayerRules(holds=(line,)).allowed(space)
    for k in held_cuts(line, space):
        operand, level = space.cuts[k]
        memory = space.nest.operands[operand].memories[level]
        mine = space.arch.memories[memory]
        final = space.tables.operands[operand].alloc_bits[level][0]
        if not allowed[k].any():
            continue
        least = int(final[allowed[k]].min())
        if least > mine.size_bits:
            needed, room = sizes(least, mine.size_bits)
            message = f"this is {needed} of {line.role.value}, and memory '{mine.name}' has {room}"
            return message, "hold less, or enlarge the memory"
    return None


def _together(lines: Sequence[Rule], space: MappingSpace, start: str) -> RulesError:
    rules = _rules(lines)
    regions = space.regions(rules.allowed(space))
    room = ""
    if isinstance(regions, TooSmall) and regions.needed_bits < _NOTHING and rules.orderable(space.lattice):
        memory = space.arch.memories[regions.memory]
        needed, has = sizes(regions.needed_bits, memory.size_bits)
        room = f": memory '{memory.name}' then needs {needed} and has {has}"
    *others, last = lines
    if not others:
        message = f"{start}no mapping keeps this rule" + (room or ", beside what else the memories have to hold")
        return RulesError("MAP020", message, span=last.span, hint="loosen it: <= and >= leave a choice")
    texts = "; ".join(f"line {x.span.line}: {_source(x)}" for x in others)
    message = f"{start}this rule contradicts {len(others)} other{'s' if len(others) > 1 else ''}{room}"
    return RulesError("MAP021", message, span=last.span, hint=f"loosen it, or {texts}")


def _place(span: Span) -> str:
    return f"{Path(span.file).name}:{span.line}"


def _source(line: Rule) -> str:
    at = line.span.column - 1
    return line.span.text[at : at + line.span.length]
