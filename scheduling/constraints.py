"""What the user fixes of single stacks: where they begin and end, their tile, mode and order, and what stays on chip.

A page (``constraints_text.py``) names layers; :class:`StackRules` says what that means for one network. What the page
says of a stack holds there, and the options of the command line for all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar

from dfc.errors import RulesError, Span
from dfc.hwdsl.diagnostics import closest
from dfc.ir import Graph, Kind
from dfc.passes.axis_tiles import maps_of
from dfc.passes.stacks import Stack, make_stack, stands_alone
from dfc.passes.tiles import DepthFirstPlan, Order, Overlap, Tiler
from dfc.scheduling.mixed import overlapping

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Given(Generic[T]):
    """Something that the page says, and where."""

    value: T
    span: Span


@dataclass(frozen=True, slots=True)
class StackBlock:
    """What a page says of one stack; None: nothing.

    first, last: names of its layers. tile: None in it leaves the tile open, whatever the command line says. overlap,
    order: the modes and the orders that are left. on_chip: whether the map that it hands over stays on chip. maps:
    modes of single maps, each by its own name or by that of the layer that makes it.
    """

    first: Given[str]
    last: Given[str]
    tile: Given[tuple[int, int] | None] | None = None
    overlap: Given[tuple[Overlap, ...]] | None = None
    order: Given[tuple[Order, ...]] | None = None
    on_chip: Given[bool] | None = None
    maps: tuple[tuple[Given[str], Overlap], ...] = ()


@dataclass(frozen=True, slots=True)
class Constraints:
    """A page: names of layers after which a stack ends, and stacks."""

    cuts: tuple[Given[str], ...] = ()
    stacks: tuple[StackBlock, ...] = ()
    file: str = ""


@dataclass(frozen=True, slots=True)
class StackChoice:
    """What may be chosen for a stack: a tile, or any; modes; orders.

    mixed: whether maps may differ in mode. pins: maps whose mode is fixed.
    """

    tile: tuple[int, int] | None
    overlaps: tuple[Overlap, ...]
    orders: tuple[Order, ...]
    mixed: bool = False
    pins: Mapping[str, Overlap] = field(default_factory=dict[str, Overlap])


@dataclass(frozen=True)
class StackRules:
    """A page for one network; a cut is the number of the layer before which it lies.

    must:    cuts at which a stack ends; never: cuts at which none does; ``where`` the page says so.
    on_chip: by cut, whether the map that is handed over there stays on chip.
    blocks:  by the layers of a stack; pins: modes of single maps, likewise.
    """

    must: frozenset[int] = frozenset()
    never: frozenset[int] = frozenset()
    on_chip: Mapping[int, Given[bool]] = field(default_factory=dict[int, Given[bool]])
    blocks: Mapping[tuple[int, ...], StackBlock] = field(default_factory=dict[tuple[int, ...], StackBlock])
    where: Mapping[int, Span] = field(default_factory=dict[int, Span])
    pins: Mapping[tuple[int, ...], Mapping[str, Overlap]] = field(
        default_factory=dict[tuple[int, ...], Mapping[str, Overlap]]
    )

    def choice(self, stack: Stack, otherwise: StackChoice) -> StackChoice:
        """What the page leaves of a stack."""
        block = self.blocks.get(stack.layers)
        if block is None:
            return otherwise
        return StackChoice(
            block.tile.value if block.tile else otherwise.tile,
            block.overlap.value if block.overlap else otherwise.overlaps,
            block.order.value if block.order else otherwise.orders,
            len(block.overlap.value) > 1 if block.overlap else otherwise.mixed,
            self.pins[stack.layers],
        )

    def arranged(self, graph: Graph, stacks: Sequence[Stack]) -> list[Stack]:
        """A sequence of stacks, cut anew where the page asks for it."""
        cuts = sorted(({s.layers[0] for s in stacks} | self.must) - self.never | {0, len(graph.layers)})
        return [make_stack(graph, range(a, b)) for a, b in pairwise(cuts)]

    def check_sequence(self, graph: Graph, stacks: Sequence[Stack], option: str) -> None:
        """Is a sequence that the user asked for with ``--stacks`` the one that the page asks for?

        Raises:
            RulesError: MAP046.
        """
        cuts = {s.layers[0] for s in stacks}
        for cut in sorted(self.must | self.never):
            if (cut in cuts) != (cut in self.must):
                before = f"after layer '{graph.layers[cut - 1].name}'"
                says = f"does not cut {before}" if cut in self.must else f"cuts {before}, in this stack"
                message = f"--stacks {option} {says}"
                hint = "leave --stacks out, or name the same cuts in it"
                raise RulesError("MAP046", message, span=self.where[cut], hint=hint)


def resolve(constraints: Constraints, graph: Graph) -> StackRules:
    """What a page means for a network.

    Raises:
        RulesError: MAP042 unknown layers, MAP044 stacks that overlap, that a cut divides, or that end before they
            begin, and maps of other stacks, MAP045 layers that cannot share a stack, MAP047 the network's outputs on
            chip.
    """
    blocks: dict[tuple[int, ...], StackBlock] = {}
    taken: dict[int, StackBlock] = {}
    where: dict[int, Span] = {}
    must: set[int] = set()
    pins: dict[tuple[int, ...], Mapping[str, Overlap]] = {}
    on_chip: dict[int, Given[bool]] = {}
    for block in constraints.stacks:
        layers = _layers(block, graph)
        _apart(block, layers, taken, graph)
        _fusible(block, layers, graph)
        blocks[layers] = block
        pins[layers] = dict(_pins(block, layers, graph))
        ends = {layers[0], layers[-1] + 1} - {0, len(graph.layers)}
        must |= ends
        where |= dict.fromkeys((*layers[1:], *ends), block.first.span)
        if block.on_chip:
            _handed_over(block.on_chip, layers[-1] + 1, graph)
            on_chip[layers[-1] + 1] = block.on_chip
    never = frozenset(i for layers in blocks for i in layers[1:])
    for after in constraints.cuts:
        cut = _index(after, graph) + 1
        if cut in never:
            block = taken[cut]
            hint = f"cut elsewhere, or end the stack of line {block.first.span.line} there"
            message = f"the stack '{block.first.value}' to '{block.last.value}' goes on after '{after.value}'"
            raise RulesError("MAP044", message, span=after.span, hint=hint)
        if cut < len(graph.layers):
            must.add(cut)
            where.setdefault(cut, after.span)
    return StackRules(frozenset(must), never, on_chip, blocks, where, pins)


def _index(named: Given[str], graph: Graph) -> int:
    found = graph.index.get(named.value)
    if found is None:
        into = [layer.name for layer in graph.layers if any(o.node == named.value for o in layer.origin)]
        best = closest(named.value, graph.index)
        hint = f"did you mean '{best}'?" if best else "dfc import prints the names of all layers"
        hint = f"it became part of layer '{into[0]}'" if into else hint
        raise RulesError("MAP042", f"the network has no layer '{named.value}'", span=named.span, hint=hint)
    return found


def _layers(block: StackBlock, graph: Graph) -> tuple[int, ...]:
    first, last = _index(block.first, graph), _index(block.last, graph)
    if last < first:
        message = f"layer '{block.last.value}' runs before '{block.first.value}'"
        hint = f"write: stack {_quoted(block.last.value)} to {_quoted(block.first.value)}"
        raise RulesError("MAP044", message, span=block.last.span, hint=hint)
    return tuple(range(first, last + 1))


def _quoted(name: str) -> str:
    return name if name.isidentifier() else f'"{name}"'


def _apart(block: StackBlock, layers: Sequence[int], taken: dict[int, StackBlock], graph: Graph) -> None:
    for index in layers:
        if index in taken:
            other = taken[index]
            message = f"layer '{graph.layers[index].name}' is in the stack of line {other.first.span.line} already"
            hint = f"that one goes from '{other.first.value}' to '{other.last.value}': name each layer in one stack"
            raise RulesError("MAP044", message, span=block.first.span, hint=hint)
        taken[index] = block


def _fusible(block: StackBlock, layers: Sequence[int], graph: Graph) -> None:
    alone = [graph.layers[i] for i in layers if stands_alone(graph.layers[i])]
    if len(layers) > 1 and alone:
        message = f"layer '{alone[0].name}' ({alone[0].op}) cannot share a stack"
        hint = "end one stack before it, and begin another after it"
        raise RulesError("MAP045", message, span=block.first.span, hint=hint)


def _pins(block: StackBlock, layers: Sequence[int], graph: Graph) -> Iterator[tuple[str, Overlap]]:
    """Modes of single maps, by the maps' names."""
    stack = make_stack(graph, layers)
    here = {name: name for name in maps_of(graph, stack)} | {
        graph.layers[i].name: graph.layers[i].output for i in layers
    }
    seen: set[str] = set()
    for named, mode in block.maps:
        if named.value not in here:
            if named.value not in graph.tensors:
                _index(named, graph)
            message = f"the stack of line {block.first.span.line} neither makes nor reads '{named.value}'"
            hint = "name a layer of this stack, or a map that it reads"
            raise RulesError("MAP044", message, span=named.span, hint=hint)
        if here[named.value] in seen:
            message = f"the overlap of '{named.value}' stands here again"
            raise RulesError("MAP044", message, span=named.span, hint="keep one of them")
        seen.add(here[named.value])
        yield here[named.value], mode


def _handed_over(given: Given[bool], cut: int, graph: Graph) -> None:
    if given.value and cut == len(graph.layers):
        message = "the last stack hands nothing over: the network's outputs leave the chip"
        raise RulesError("MAP047", message, span=given.span, hint="leave this line out")


def idle_constraints(constraints: Constraints, graph: Graph, plans: Sequence[DepthFirstPlan]) -> list[str]:
    """Notes on what a page says without effect, in a schedule of these plans."""
    chosen = {plan.stack.layers: plan for plan in plans}
    end = len(graph.layers) - 1
    found = [
        _idle(c.span, "this cut", "the network ends there") for c in constraints.cuts if graph.index[c.value] == end
    ]
    for block in constraints.stacks:
        plan = chosen[_layers(block, graph)]
        for given, what, why in _without_effect(block, plan, graph):
            if given:
                found.append(_idle(given.span, what, why))
        if block.on_chip and plan.stack.layers[-1] == end:
            found.append(_idle(block.on_chip.span, "the output's place", "the network ends there"))
    return found


def _without_effect(
    block: StackBlock, plan: DepthFirstPlan, graph: Graph
) -> Iterator[tuple[Given[Any] | None, str, str]]:
    """Statements that change nothing: what it says, what that is about, and why."""
    if graph.layers[plan.stack.layers[0]].kind in (Kind.OPAQUE, Kind.VIEW):
        why = "the layer is not modelled"
        yield from ((block.tile, "the tile", why), (block.overlap, "the overlap", why), (block.order, "the order", why))
        return
    tiler = Tiler(graph, plan.stack)
    shared = {name for name, _ in overlapping(graph, plan)}
    for (named, mode), pinned in zip(block.maps, _pins(block, plan.stack.layers, graph), strict=True):
        if pinned[0] not in shared:
            yield Given(mode, named.span), f"the overlap of '{named.value}'", "no two tiles share positions of it"
    if plan.tiles == 1:
        yield block.overlap, "the overlap", "there is one tile"
        yield block.order, "the order", "there is one tile"
        return
    if len({tiler.plan(plan.tile, mode).classes for mode in Overlap}) == 1:
        yield block.overlap, "the overlap", "its tiles do not overlap"
    if any(a == b for a, b in zip(plan.tile, tiler.extents, strict=True)):
        yield block.order, "the order", "there is one row or column of tiles"


def _idle(span: Span, what: str, why: str) -> str:
    return f"{Path(span.file).name}, line {span.line}: {what} has no effect, as {why}"
