"""How data flows: the memories on each operand's path, and their order."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from dfc.hwdsl.arch import Memory
from dfc.hwdsl.diagnostics import problem, suggest
from dfc.hwdsl.draft import Draft
from dfc.hwdsl.syntax import PathDecl, Word
from dfc.ir import Role

_ARROWS = {Role.I: "<-", Role.W: "<-", Role.O: "<->"}


def elaborate_paths(draft: Draft, memories: Mapping[str, Memory]) -> tuple[list[str], dict[Role, tuple[int, ...]]]:
    """The order of the memories, and per role the indices of its memories from the array outwards.

    The order is that of the page; a memory that stands before one that lies nearer to the array on some path
    moves behind it, since mappers fill memories from the array outwards.

    Raises:
        HardwareError: HW040 to HW049 and HW054, see docs/hardware-language.md.
    """
    paths = {role: _path(role, draft, memories) for role in Role}
    for name, memory in memories.items():
        _check_on_paths(name, memory, draft, paths)
    for role in Role:
        _check_widening(draft.paths[role], memories)
    _check_shared_top(draft, paths)
    order = _order(list(memories), paths, draft)
    index = {name: i for i, name in enumerate(order)}
    return order, {role: tuple(index[name] for name in path) for role, path in paths.items()}


def _path(role: Role, draft: Draft, memories: Mapping[str, Memory]) -> tuple[str, ...]:
    decl = draft.paths.get(role)
    if decl is None:
        held = any(role in memory.roles for memory in memories.values())
        message = f"accelerator '{draft.name.text}' has no path for {role.value}"
        if not held:
            message = f"no memory of accelerator '{draft.name.text}' holds operand {role.value}"
        hint = f"add: path {role.value}: array {_ARROWS[role]} INNER {_ARROWS[role]} OUTER"
        raise problem("HW017" if held else "HW054", message, draft.name.span, hint)
    _check_form(role, decl)
    for i, node in enumerate(decl.nodes[1:]):
        _check_node(role, node, memories)
        if node.text in (earlier.text for earlier in decl.nodes[1 : i + 1]):
            raise problem("HW046", f"memory '{node.text}' stands twice on the path of {role.value}", node.span)
    return tuple(node.text for node in decl.nodes[1:])


def _check_form(role: Role, decl: PathDecl) -> None:
    start = decl.nodes[0]
    if start.text != "array":
        hint = f"write: path {role.value}: array {_ARROWS[role]} {start.text} ..."
        raise problem("HW044", f"the path of {role.value} starts at '{start.text}', not at the array", start.span, hint)
    if len(decl.nodes) == 1:
        raise problem("HW054", f"no memory is left on the path of {role.value}", decl.role.span, "name at least one")
    for arrow in decl.arrows:
        if arrow.text != _ARROWS[role]:
            why = "partial sums go both ways" if role is Role.O else f"{role.value} flows towards the array"
            message = f"the path of {role.value} is drawn with '{_ARROWS[role]}', not '{arrow.text}'"
            raise problem("HW045", message, arrow.span, why)


def _check_node(role: Role, node: Word, memories: Mapping[str, Memory]) -> None:
    memory = memories.get(node.text)
    if memory is None:
        message = f"the path of {role.value} names memory '{node.text}', which does not exist"
        raise problem("HW040", message, node.span, suggest(node.text, memories))
    if role not in memory.roles:
        message = f"memory '{node.text}' is on the path of {role.value} but does not hold it"
        raise problem("HW042", message, node.span, f"write: holds {', '.join(r.value for r in (*memory.roles, role))}")


def _check_on_paths(name: str, memory: Memory, draft: Draft, paths: Mapping[Role, tuple[str, ...]]) -> None:
    missing = [role for role in memory.roles if name not in paths[role]]
    if not missing:
        return
    given = draft.memories[name].roles
    where = "any path" if len(missing) == len(memory.roles) else f"the path of {missing[0].value}"
    message = f"memory '{name}' holds {' and '.join(role.value for role in missing)} but is not on {where}"
    hint = f"add it to path {missing[0].value}, or take the operand out of its 'holds'"
    raise problem("HW043", message, given.span if given and where != "any path" else memory.span, hint)


def _check_widening(decl: PathDecl, memories: Mapping[str, Memory]) -> None:
    for inner, outer in pairwise(decl.nodes[1:]):
        lost = [dim for dim in memories[inner.text].across if dim not in memories[outer.text].across]
        if lost:
            dims = ", ".join(lost)
            message = f"an instance of '{inner.text}' serves {dims}, one of '{outer.text}' above it does not"
            raise problem("HW049", message, outer.span, f"add {dims} to 'across' of memory '{outer.text}'")


def _check_shared_top(draft: Draft, paths: Mapping[Role, tuple[str, ...]]) -> None:
    top_in, top_out = paths[Role.I][-1], paths[Role.O][-1]
    if top_in != top_out:
        message = f"the path of I ends in '{top_in}' and that of O in '{top_out}'"
        hint = "let both end in one memory: what one layer writes, the next one reads"
        raise problem("HW048", message, draft.paths[Role.O].nodes[-1].span, hint)


def _order(names: list[str], paths: Mapping[Role, tuple[str, ...]], draft: Draft) -> list[str]:
    below: dict[str, set[str]] = {name: set() for name in names}
    for path in paths.values():
        for inner, outer in pairwise(path):
            below[outer].add(inner)
    placed: list[str] = []
    while len(placed) < len(names):
        ready = [name for name in names if name not in placed and below[name] <= set(placed)]
        if not ready:
            left = next(name for name in names if name not in placed)
            message = f"the paths contradict each other about what lies nearer to the array than '{left}'"
            raise problem("HW047", message, draft.memories[left].name.span, "draw the same order on every path")
        placed.append(ready[0])
    return placed
