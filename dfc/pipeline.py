"""The whole story in one function: a model and a page of hardware in, a depth-first schedule out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dfc._version import __version__
from dfc.backend_cost.mapping_cache import MappingCache
from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.mapping_rules import MappingRules
from dfc.backend_cost.mapping_store import MappingStore
from dfc.backend_cost.rules_conflict import check_rules, idle_rules
from dfc.backend_cost.rules_text import load_rules
from dfc.backend_cost.schedule import SCHEMA, Baseline, LayerEntry, ModelInfo, Schedule, StackEntry, TensorInfo
from dfc.backend_cost.spatial_search import Spatial
from dfc.collector import rare_collections
from dfc.errors import InfeasibleError, InternalError, MlirError, RulesError, UsageError
from dfc.files import read_text
from dfc.frontend import (
    Operations,
    Raised,
    import_onnx,
    operations_of,
    raise_linalg,
    read_operations,
)
from dfc.hwdsl import Arch, load_arch
from dfc.ir import Graph
from dfc.mlir.diagnostics import need_xdsl
from dfc.passes import PassManager, default_pipeline
from dfc.passes.stacks import Stack, cut_after, find_layers, single_layer_stacks, stands_alone
from dfc.request import Request, parse_request
from dfc.scheduling.assemble import Assembler, Tally, baseline, handed_notes, proof_note
from dfc.scheduling.baselines import Wanted, add_baselines
from dfc.scheduling.bounds import LayerBounds
from dfc.scheduling.check_estimate import misfit_notes
from dfc.scheduling.check_sums import check_sums
from dfc.scheduling.constraints import Constraints, StackChoice, StackRules, idle_constraints, resolve
from dfc.scheduling.constraints_text import load_constraints
from dfc.scheduling.engine import StackCost, StackPricer
from dfc.scheduling.levels import Infeasible
from dfc.scheduling.network import Found, NetworkStacks, search_network, turned
from dfc.scheduling.partition_types import Limit
from dfc.scheduling.placement import Held
from dfc.scheduling.search import Candidate, StackSearch, best_combination, score
from dfc.units import at_most_percent

#: a stack that is beyond its limit by more than this share keeps its weights in the first memories that will do
_SHARED = 0.02

Bindings = Mapping[str, int]
InputShapes = Mapping[str | None, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """What the search is doing: which stack of how many, which plan, and the best of this stack so far.

    mapped, recalled: mapping problems that were solved in this run, and those that the cache on disk knew.
    """

    stack: int
    stacks: int
    layers: tuple[str, ...]
    what: str
    done: int
    best_energy_pj: float | None
    best_latency_cycles: int | None
    mapped: int = 0
    recalled: int = 0


def import_graph(
    model: str | Path, *, bind: Bindings | None = None, input_shape: InputShapes | None = None, passes: bool = True
) -> Graph:
    """Read an ONNX model, or a network in MLIR (``.mlir``), and run the standard passes on it.

    Raises:
        ModelError, MlirError: the model cannot be read; see docs/errors.md.
    """
    if is_mlir(model):
        graph = _raised(Path(model), given=bool(bind or input_shape)).graph(Path(model).stem)
    else:
        graph = import_onnx(model, bind=bind, input_shape=input_shape)
    return PassManager(default_pipeline(), verify=True).run(graph) if passes else graph


def model_operations(model: str | Path) -> Operations:
    """What the layers of a model compute, for those who write code.

    Raises:
        ModelError, MlirError: the model cannot be read; see docs/errors.md.
    """
    if is_mlir(model):
        return operations_of(_raised(Path(model), given=False).model, None, str(model))
    return read_operations(model)


def is_mlir(model: str | Path) -> bool:
    """Whether a model is MLIR text, by its name."""
    return Path(model).suffix == ".mlir"


def _raised(path: Path, *, given: bool) -> Raised:
    """The ONNX model that a network in MLIR was lowered from. ``given``: sizes were, which the text has itself."""
    need_xdsl()
    from dfc.mlir.function_text import read_function

    if given:
        hint = "leave --bind and --input-shape out: the shapes are in the text"
        raise MlirError("MLIR022", "sizes are given for a network in MLIR", place=str(path), hint=hint)
    return raise_linalg(read_function(read_text(path), str(path)))


def choose_stacks(graph: Graph, request: Request, pricer: StackPricer) -> list[Stack]:
    """The stacks that the user asked for."""
    if request.stacks == "each":
        return single_layer_stacks(graph)
    if request.stacks == "one":
        return cut_after(graph, [])
    if request.stacks == "auto":
        return pricer.automatic_stacks(cut_whole_maps=request.policy.cut_whole_maps)
    return cut_after(graph, named_cuts(graph, request.stacks))


def named_cuts(graph: Graph, stacks: str) -> list[int]:
    """The layers after which the user wants cuts, by their names with commas between.

    Raises:
        UsageError: CLI004, CLI010.
    """
    names = [name.strip() for name in stacks.split(",") if name.strip()]
    if not names:
        raise UsageError("CLI004", "no layer is named", place="--stacks", hint="auto, one, each, or names to cut after")
    return find_layers(graph, names)


@dataclass(frozen=True)
class _Chosen:
    """A stack as it is to run: which maps stay on chip at its borders, and its tile and mode."""

    search: StackSearch
    candidate: Candidate
    held: Held


class _Search:
    """Searches the network's stacks and their tiles, and stops with what it has on Ctrl-C."""

    def __init__(
        self,
        pricer: StackPricer,
        stacks: Sequence[Stack],
        request: Request,
        rules: StackRules,
        progress: Callable[[ProgressEvent], None] | None,
    ):
        self.pricer = pricer
        self.request = request
        self.rules = rules
        self.progress = progress
        self.first = stacks
        self.known: dict[tuple[tuple[int, ...], tuple[str, ...]], StackSearch] = {}
        known_lanes = request.spatial is Spatial.PREFER and not request.rules.blocks
        self.bounds = LayerBounds(pricer.graph, pricer.arch, request.model, any_lanes=not known_lanes)
        self.done = 0
        self.caches = [pricer.cache]  # of this search, and of one that it began with
        self.found: Found | None = None
        self.complete = True

    def _make(self, stack: Stack, held: Held) -> StackSearch:
        key = (stack.layers, tuple(f"{t}@{one.memory}" for t, one in held.items()))
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = StackSearch(
                self.pricer,
                stack,
                orders=self.choice(stack).orders,
                pins=self.choice(stack).pins,
                remainder_first=self.request.policy.remainder_first,
                held=held,
                bounds=self.bounds if self.request.policy.fits else None,
            )
            found.progress = partial(self.report, found)
        return found

    def choice(self, stack: Stack) -> StackChoice:
        """What the user left open of a stack."""
        found = self.rules.choice(stack, self.request.choice)
        return replace(found, orders=tuple(o for o in found.orders if o in self.request.policy.orders))

    def report(self, search: StackSearch, what: str) -> None:
        """Tell the progress of a stack."""
        self.done += 1
        if self.progress is None:
            return
        fit = search.candidates()
        best = min(fit, key=lambda c: score(c, self.request.objective)) if fit else None
        names = tuple(self.pricer.graph.layers[i].name for i in search.stack.layers)
        energy, cycles = (best.energy_pj, best.latency_cycles) if best else (None, None)
        solved, recalled = (sum(c.solved for c in self.caches), sum(c.recalled for c in self.caches))
        counts = (self.done, energy, cycles, solved, recalled)
        number = [stack.layers[0] <= search.stack.layers[0] for stack in self.first].count(True) - 1
        self.progress(ProgressEvent(number, len(self.first), names, what, *counts))

    def run(self, other: _Search | None = None) -> list[_Chosen]:
        """Whole-map tiles first, so that there always is a schedule; then what is left open.

        ``other``: a search with another objective, whose stacks are tried first.
        """
        self._price_whole()
        chosen = self._sequence(other)
        if self.request.spatial is Spatial.SEARCH and self.complete:
            chosen = self._unrolled(chosen)
        if self.request.policy.fits and self.complete:
            chosen = self._shared_out(chosen)
        return chosen

    def _price_whole(self) -> None:
        for stack in self.first:  # Ctrl-C here leaves no schedule to keep
            search = self._make(stack, {})
            search.price(search.whole, self.choice(stack).overlaps[0])

    def _begin_with(self, other: _Search) -> list[tuple[int, int, int, int]]:
        """Cuts and places of the stacks that another search finds; Ctrl-C during it ends this one too."""
        other.done, other.caches = self.done, [*self.caches, *other.caches]
        try:
            other._price_whole()
            found = search_network(other._stacks(), other.request.objective)
        except KeyboardInterrupt:
            self.complete = False
            return []
        self.done, self.caches = other.done, other.caches
        self.complete = not found.interrupted
        return [(one.start, one.end, one.place_in, one.place_out) for one in found.sequence.stacks]

    def _sequence(self, other: _Search | None) -> list[_Chosen]:
        stacks = self._stacks()
        stacks.check_places()
        if other is not None:
            stacks.also = self._begin_with(other)
        if self.complete:
            self.found = search_network(stacks, self.request.objective)
            self.complete = not self.found.interrupted
        if self.found and self.found.sequence.stacks:
            runs = [stack.option.payload for stack in self.found.sequence.stacks]
            return [
                _Chosen(run.search, run.candidate, held)
                for run, held in zip(runs, turned([run.search for run in runs]), strict=True)
            ]
        searches = [self._make(stack, {}) for stack in self.first]  # interrupted before any sequence was priced
        for search in searches:
            if not self.choices(search):
                raise self._nothing_fits(search)
        for wanted in self.rules.on_chip.values():
            if wanted.value:
                if not self.complete:
                    raise KeyboardInterrupt
                message = "no stack has room beside the maps that are to stay on chip"
                raise RulesError(
                    "MAP047", message, span=wanted.span, hint="leave this line out, or make stacks smaller"
                )
        picked = best_combination([self.choices(search) for search in searches], self.request.objective)
        return [_Chosen(search, candidate, {}) for search, candidate in zip(searches, picked, strict=True)]

    def _stacks(self) -> NetworkStacks:
        return NetworkStacks(
            self.bounds,
            self.first,
            self._make,
            self._explore,
            hand_over=self.request.policy.fits,
            fixed=self.request.stacks != "auto" or not self.request.policy.fits,
            rules=self.rules,
            recall=not self.request.rules.blocks,  # rules may name layers
        )

    def _explore(self, search: StackSearch, limit: Limit | None) -> list[Candidate]:
        choice = self.choice(search.stack)
        twin = self.known.get((search.stack.layers, ())) if search.held and choice.tile is None else None
        if twin is not None and twin.looked and twin.candidates():
            search.follow(twin, self.request.objective)
        else:
            search.explore(choice.overlaps, choice.tile, self.request.objective, limit, mixed=choice.mixed)
        found = self.choices(search)
        if found and self.request.policy.fits and self.request.spatial is Spatial.PREFER:
            best = min(found, key=lambda c: score(c, self.request.objective))
            hoped = (1 - _SHARED) * best.energy_pj, (1 - _SHARED) * best.latency_cycles
            if (limit is None or limit.allows(*hoped)) and search.share_out([best], self.request.objective):
                return self.choices(search)
        return found

    def _unrolled(self, chosen: list[_Chosen]) -> list[_Chosen]:
        """The same stacks with the spatial unrolling searched."""
        try:
            for one in chosen:
                choice = self.choice(one.search.stack)
                one.search.unroll(choice.overlaps, choice.tile, self.request.objective)
        except KeyboardInterrupt:
            self.complete = False
        return self._picked(chosen)

    def _shared_out(self, chosen: list[_Chosen]) -> list[_Chosen]:
        """The same stacks with their weights where they cost least."""
        objective, cheaper = self.request.objective, False
        try:
            for one in chosen:
                wholes = (c for c in self.choices(one.search) if c.tile == one.search.whole)
                cheaper |= one.search.share_out(dict.fromkeys([one.candidate, *wholes]), objective)
                twin = self.known.get((one.search.stack.layers, ()))
                if one.held and twin:  # to compare with
                    twin.share_out(self.choices(twin)[:1], objective)
        except KeyboardInterrupt:
            self.complete = False
        return self._picked(chosen) if cheaper else chosen

    def _picked(self, chosen: list[_Chosen]) -> list[_Chosen]:
        """The same stacks with what is best of all that is priced by now."""
        picked = best_combination([self.choices(one.search) for one in chosen], self.request.objective)
        return [replace(one, candidate=candidate) for one, candidate in zip(chosen, picked, strict=True)]

    def choices(self, search: StackSearch) -> list[Candidate]:
        """What may be chosen of a stack: with a tile given by the user, that tile alone if there was time for it."""
        fit = search.candidates()
        wish = self.choice(search.stack).tile
        if wish is None:
            return fit
        tile = tuple(min(a, b) for a, b in zip(wish, search.whole, strict=True))
        wanted = [c for c in fit if c.tile == tile]
        return wanted if wanted or self.complete else fit

    def off_chip(self, chosen: Sequence[_Chosen]) -> list[Candidate] | None:
        """The same stacks where all is handed over off chip, as far as that was searched; None where it was not."""
        twins = [self.known.get((one.search.stack.layers, ())) for one in chosen]
        choices = [self.choices(twin) for twin in twins if twin]
        if len(choices) < len(chosen) or not all(choices) or self.request.spatial is Spatial.SEARCH:
            return None
        return best_combination(choices, self.request.objective)

    def _nothing_fits(self, search: StackSearch) -> InfeasibleError:
        reasons = [c for c in search.found.values() if isinstance(c, Infeasible)]
        # the whole map was tried first, a tile that was asked for last
        for reason in reversed(reasons) if self.choice(search.stack).tile else reasons:
            cause = reason.cause() if reason.cause is not None else None
            if cause is not None:
                raise cause
        least = min(reasons, key=lambda r: r.demand_bits / max(1, r.bound_bits))
        names = [self.pricer.graph.layers[i].name for i in search.stack.layers]
        memory = next((m for m in self.pricer.arch.memories if m.name == least.memory), None)
        place = f"stack of {names[0]}" + (f" to {names[-1]}" if len(names) > 1 else "")
        span = memory.span if memory else None
        block = self.rules.blocks.get(search.stack.layers)
        hint = f"{least.hint}; or loosen what {block.first.span} says of this stack" if block else least.hint
        return InfeasibleError("MAP001", f"{place}: {least}", span=span, place=place, hint=hint)

    def whole(self, chosen: Sequence[_Chosen]) -> list[Candidate | None]:
        """Per stack the one with a single tile, if it fits; not where Ctrl-C left no time for it."""
        spatial = self.request.spatial if self.complete else Spatial.PREFER
        found: list[Candidate | None] = []
        try:
            for one in chosen:
                choice = self.choice(one.search.stack)
                priced = one.search.price(one.search.whole, choice.overlaps[0], spatial, choice.orders[0])
                if isinstance(priced, Candidate) and self.request.policy.fits and self.complete:
                    one.search.share_out([priced], self.request.objective)
                    priced = one.search.shared_out[priced]
                found.append(priced if isinstance(priced, Candidate) else None)
        except KeyboardInterrupt:
            self.complete = False
        return [*found, *[None] * (len(chosen) - len(found))]


def compile(  # the public name says what it does, and shadows the builtin in this module alone
    model: str | Path,
    hw: str | Path | Arch,
    *,
    objective: str = "energy",
    overlap: str = "auto",
    tile: str = "auto",
    stacks: str = "auto",
    cost_model: str | None = None,
    bind: Bindings | None = None,
    input_shape: InputShapes | None = None,
    rules: str | Path | MappingRules | None = None,
    spatial: str = Spatial.PREFER,
    order: str = "auto",
    reproduce: str | None = None,
    baselines: str = Wanted.AUTO,
    constraints: str | Path | Constraints | None = None,
    progress: Callable[[ProgressEvent], None] | None = None,
    cache: str | Path | MappingStore | None = None,
) -> Schedule:
    """Compile an ONNX model for an accelerator into a depth-first schedule.

    Args:
        model: path of the ONNX file.
        hw: path of a ``.hw`` page, the name of one in the library, or an ``Arch``.
        objective: "energy", "latency" or "edp".
        overlap: "auto", "recompute", "h-cached", "v-cached" or "cached".
        tile: "auto" or "WIDTHxHEIGHT" in positions of each stack's last output.
        stacks: "auto", "one", "each", or names of layers to cut after, separated by commas.
        cost_model: "exact" or "defines"; see docs/cost-model.md. "exact" unless given.
        bind: sizes for the model's symbolic dimensions.
        input_shape: shapes by input name; the key None stands for the only input.
        rules: a page that fixes parts of mappings, see docs/mapping-rules.md; none unless given.
        spatial: "prefer" lays loops over the array as the page says, "search" looks for what is better for each layer.
        order: "auto", "rows" or "columns": which tile comes next.
        reproduce: "defines" takes the reference's rules for tiles and memories, and its cost model.
        baselines: "auto" compares with simple ways to run the network, "all" also searches the best of DeFiNES's space.
        constraints: a page that fixes tiles, modes and borders of single stacks, see docs/constraints.md; what it says
            of a stack holds there, the options for all others.
        progress: called for every plan that is priced.
        cache: a folder in which answers of the mapping search are kept for later runs, or a store that is open;
            none unless given.

    Returns:
        The schedule; ``complete`` is false where Ctrl-C ended the search early.

    Raises:
        DfcError: what is wrong with the model, the page, the options, or why nothing fits.
    """
    request = parse_request(objective, overlap, tile, stacks, cost_model, spatial, order, reproduce, baselines)
    if rules is not None:
        request = replace(request, rules=rules if isinstance(rules, MappingRules) else load_rules(rules))
    if constraints is not None:
        page = constraints if isinstance(constraints, Constraints) else load_constraints(constraints)
        request = replace(request, constraints=page)
    arch = hw if isinstance(hw, Arch) else load_arch(hw)
    graph = import_graph(model, bind=bind, input_shape=input_shape)
    with _opened(cache) as store:
        return schedule_graph(graph, arch, request, model_info(graph, Path(model)), progress, store)


def _opened(cache: str | Path | MappingStore | None) -> AbstractContextManager[MappingStore | None]:
    """The store of a folder, closed in the end; one that is open already stays open."""
    return MappingStore(Path(cache)) if isinstance(cache, str | Path) else nullcontext(cache)


def model_info(graph: Graph, path: Path) -> ModelInfo:
    """What a schedule says of its model; of a step, inputs and outputs are what is new."""

    def infos(names: Sequence[str]) -> tuple[TensorInfo, ...]:
        return tuple(TensorInfo(n, graph.made_shape(n), graph.tensors[n].bits) for n in names)

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ModelInfo(graph.name, path.name, digest, infos(graph.inputs), infos(graph.outputs))


@rare_collections()
def schedule_graph(
    graph: Graph,
    arch: Arch,
    request: Request,
    model: ModelInfo,
    progress: Callable[[ProgressEvent], None] | None = None,
    store: MappingStore | None = None,
) -> Schedule:
    """Search the schedule of an imported graph and assemble it."""
    check_rules(request.rules, graph.layers, arch)
    cache = MappingCache(arch, request.objective, request.model, store)
    pricer = request.policy.pricer(graph, arch, cache, request.rules)
    wanted = resolve(request.constraints, graph)
    request.policy.check(wanted)
    stacks = choose_stacks(graph, request, pricer)
    if request.stacks != "auto":
        wanted.check_sequence(graph, stacks, request.stacks)
    search = _Search(pricer, wanted.arranged(graph, stacks), request, wanted, progress)
    chosen = search.run(_least_energy(search, store))
    priced: list[StackCost] = []
    for one in chosen:
        priced.append(one.search.cost(one.candidate, one.held))
    schedule = _assemble(pricer, priced, search.whole(chosen), request, model, search)
    schedule = replace(schedule, notes=(*schedule.notes, *handed_notes(schedule, search.off_chip(chosen))))
    if not request.policy.fits:
        schedule = replace(schedule, notes=(*schedule.notes, *misfit_notes(schedule, arch)))
    report = partial(search.report, chosen[-1].search)
    return add_baselines(schedule, pricer, request.policy, request.objective, request.baselines, report)


def _least_energy(search: _Search, store: MappingStore | None) -> _Search | None:
    """For other objectives, a search for energy, whose sequence of stacks is a good one to begin with.

    Bounds in energy rule out far more than those in time: without it, the effort may end far from the best product.
    None where there is nothing to choose.
    """
    request, first = search.request, search.pricer
    if request.objective is Objective.ENERGY or request.stacks != "auto" or not request.policy.fits:
        return None
    cache = MappingCache(first.arch, Objective.ENERGY, request.model, store)
    pricer = request.policy.pricer(first.graph, first.arch, cache, first.rules)
    asked = replace(request, objective=Objective.ENERGY)
    return _Search(pricer, search.first, asked, search.rules, search.progress)


def _assemble(
    pricer: StackPricer,
    priced: Sequence[StackCost],
    whole: Sequence[Candidate | None],
    request: Request,
    model: ModelInfo,
    search: _Search,
) -> Schedule:
    maker = Assembler(pricer)
    total = Tally()
    stacks: list[StackEntry] = []
    layers: list[LayerEntry] = []
    for number, (cost, one) in enumerate(zip(priced, whole, strict=True)):
        here = Tally()
        for index, tally in maker.layer_tallies(cost).items():
            layers.append(maker.layer_entry(index, number, tally))
            here.merge(tally)
        stacks.append(maker.stack_entry(cost, here, one))
        total.merge(here)
    schedule = Schedule(
        schema=SCHEMA,
        generator=f"dfc {__version__}",
        model=model,
        hw=maker.hardware(),
        objective=request.objective.value,
        cost_model=request.model.name,
        complete=search.complete,
        totals=maker.totals(layers, total),
        layer_by_layer=_layer_by_layer(whole, total),
        coverage=maker.coverage(),
        stacks=tuple(stacks),
        layers=tuple(layers),
        notes=(*_notes(pricer, request, priced), *_effort_notes(search, total)),
        policy=request.policy.name,
        off_chip=maker.off_chip(priced) if request.policy.fits else (),
    )
    check_schedule_sums(schedule)
    return schedule


def _layer_by_layer(whole: Sequence[Candidate | None], total: Tally) -> Baseline | None:
    known = [c for c in whole if c is not None]
    return baseline(known, total.energy_pj, total.latency_cycles) if len(known) == len(whole) else None


def _notes(pricer: StackPricer, request: Request, priced: Sequence[StackCost]) -> tuple[str, ...]:
    notes = list(pricer.graph.notes)
    array = pricer.arch.array
    odd = {t.bits for t in pricer.graph.tensors.values()} - {array.input_bits, array.weight_bits}
    if odd:
        notes.append(
            f"the model stores {', '.join(map(str, sorted(odd)))}-bit tensors; costs are for the chip's precisions: "
            f"{array.input_bits}-bit inputs, {array.weight_bits}-bit weights, {array.output_bits}-bit outputs"
        )
    if request.rules.blocks:
        notes.append(f"parts of the mappings are fixed by {Path(request.rules.file).name}")
        runs = (run for cost in priced for tile in cost.classes for run in tile.runs)
        names = pricer.graph.layers
        mapped = ((names[run.layer].name, run.extents, run.nest) for run in runs if run.nest is not None)
        notes += idle_rules(request.rules, mapped, pricer.arch)
    if request.constraints.file:
        notes.append(f"stacks are fixed by {Path(request.constraints.file).name}")
    notes += idle_constraints(request.constraints, pricer.graph, [cost.plan for cost in priced])
    if request.spatial is Spatial.SEARCH:
        notes.append("spatial unrollings were searched for each layer's tile; none is worse than what the chip prefers")
    notes += filter(None, [proof_note(priced, request.objective)])
    if request.stacks == "one" and any(stands_alone(layer) for layer in pricer.graph.layers):
        notes.append("--stacks one: layers that cannot be fused stand in stacks of their own")
    return tuple(notes)


def _effort_notes(search: _Search, total: Tally) -> list[str]:
    """How the stacks were found, where they were searched."""
    if search.found is None or search.request.stacks != "auto" or not search.request.policy.fits:
        return []
    cuts, effort = search.found, search.found.sequence
    if not cuts.tried:
        return []
    tiles = search.known.values()
    skipped, priced = sum(s.pruned for s in tiles), sum(s.priced for s in tiles)
    looked = sum(len(s.looked) for s in tiles) - skipped
    found = [
        f"{effort.considered:,} stacks were considered, {effort.pruned:,} ruled out by bounds, "
        f"{effort.priced:,} priced; of their tiles {skipped:,} were ruled out, {looked:,} looked at "
        f"and {priced:,} priced",
    ]
    if cuts.tried < cuts.legal:
        found.append(f"cuts were tried in {cuts.tried} of {cuts.legal} places: where least is handed over")
    if effort.spent:
        spent = search.request.objective.of(total.energy_pj, total.latency_cycles)
        left = f"{at_most_percent(1 - effort.bound / spent if spent else 0.0)} %"
        found.append(
            f"the search of stacks ended with the effort that it may take: others may be better by at most {left}"
        )
    return found


def check_schedule_sums(schedule: Schedule) -> None:
    """The parts of a schedule add up; anything else is a defect of dfc."""
    for wrong in check_sums(schedule):
        raise InternalError("IR190", wrong.what)
