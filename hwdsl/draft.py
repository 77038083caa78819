"""A page with its words understood and its properties perhaps still incomplete; drafts overlay one another.

``extends`` is this overlay: what a page gives replaces what its base gave, property by property. Every value
keeps the place that set it, so that a complaint after three overlays still points at the right line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Generic, TypeVar

from dfc.errors import Span
from dfc.hwdsl.arch import Move, Port
from dfc.hwdsl.syntax import PathDecl, UnrollDecl, Word
from dfc.ir import Kind, Role

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Given(Generic[T_co]):
    """A value and the place that gave it."""

    value: T_co
    span: Span


@dataclass(frozen=True, slots=True)
class Service:
    """An explicit port rule: a role's movement goes through the named port."""

    port: Word
    role: Role
    move: Move
    span: Span


@dataclass(frozen=True, slots=True)
class MemoryDraft:
    """Properties of a memory, None where not given. Units as in :class:`dfc.hwdsl.arch.Memory`."""

    name: Word
    roles: Given[tuple[Role, ...]] | None = None
    size_bits: Given[int] | None = None
    read_bits_per_cycle: Given[int] | None = None
    write_bits_per_cycle: Given[int] | None = None
    read_pj: Given[float] | None = None
    write_pj: Given[float] | None = None
    min_read_bits: Given[int] | None = None
    min_write_bits: Given[int] | None = None
    across: Given[tuple[Word, ...]] | None = None
    ports: Given[tuple[Port, ...]] | None = None
    fetch_new: Given[bool] | None = None
    services: tuple[Service, ...] = ()

    def over(self, base: MemoryDraft) -> MemoryDraft:
        """What is given here, and the base's for the rest.

        Explicit port rules of the base are kept only while both its ports and its operands are.
        """
        changes = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        keeps_rules = self.ports is None and self.roles is None
        changes["services"] = (*(base.services if keeps_rules else ()), *self.services)
        return replace(base, **changes)


@dataclass(frozen=True, slots=True)
class Precision:
    """Operand widths in bits; ``output`` None means that of the input."""

    input: int
    weight: int
    partial: int
    output: int


@dataclass(frozen=True, slots=True)
class Draft:
    """An accelerator; ``removed`` are memories of the base that this page takes away."""

    name: Word
    clock_hz: Given[float] | None = None
    dims: Mapping[str, Given[int]] = field(default_factory=dict[str, Given[int]])
    precision: Given[Precision] | None = None
    mac_pj: Given[float] | None = None
    op_pj: Given[float] | None = None
    unrolls: Mapping[Kind, UnrollDecl] = field(default_factory=dict[Kind, UnrollDecl])
    memories: Mapping[str, MemoryDraft] = field(default_factory=dict[str, MemoryDraft])
    paths: Mapping[Role, PathDecl] = field(default_factory=dict[Role, PathDecl])
    removed: tuple[Word, ...] = ()
    notes: tuple[str, ...] = ()

    def over(self, base: Draft) -> Draft:
        """This page laid over its base. Removed memories vanish from the base's paths, too."""
        gone = {word.text for word in self.removed} - self.memories.keys()
        kept = {name: memory for name, memory in base.memories.items() if name not in gone}
        replaced = {word.text for word in self.removed}
        own = {
            name: memory.over(kept[name]) if name in kept and name not in replaced else memory
            for name, memory in self.memories.items()
        }
        return Draft(
            name=self.name,
            clock_hz=self.clock_hz or base.clock_hz,
            dims={**base.dims, **self.dims},
            precision=self.precision or base.precision,
            mac_pj=self.mac_pj or base.mac_pj,
            op_pj=self.op_pj or base.op_pj,
            unrolls={**base.unrolls, **self.unrolls},
            memories={**kept, **own},
            paths={**{role: _without(path, gone) for role, path in base.paths.items()}, **self.paths},
            notes=(*base.notes, *self.notes),
        )


def _without(path: PathDecl, gone: set[str]) -> PathDecl:
    """The path with some memories taken out and the arrows that led to them."""
    steps = [(n, a) for n, a in zip(path.nodes[1:], path.arrows, strict=True) if n.text not in gone]
    return PathDecl(path.role, (path.nodes[0], *(n for n, _ in steps)), tuple(a for _, a in steps))
