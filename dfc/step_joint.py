"""The joint search: which ranges of a network over time stream, in which form, and which are recomputed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from math import inf

from dfc.backend_cost.mapping_cache import SharedMappings
from dfc.backend_cost.mapping_cost import Objective
from dfc.causal import Streaming, streaming
from dfc.frontend.timed import TimedModel
from dfc.hwdsl import Arch
from dfc.ir import Graph, Layer
from dfc.passes.causal_plan import CausalOptions, CausalPlan, Form, Segment, plan_causal
from dfc.passes.causal_step import Run
from dfc.passes.stacks import crossing_elements, cut_after
from dfc.scheduling.joint_search import FormRange, JointPath, JointSearch, Progress
from dfc.scheduling.step_pricer import along_tiles

#: places where a network is cut at most, besides its ends: those where least is handed over
MOST_CUTS = 12


@dataclass(frozen=True)
class Joint:
    """The forms that were chosen.

    options: what was asked, with a segment for each range.
    cuts:    layers of ``streaming(timed, options).resident()`` after which there is a cut, each with the memory in
             which the map waits that is handed over there, None for off chip.
    """

    options: CausalOptions
    cuts: Mapping[int, int | None]
    path: JointPath

    @property
    def plain(self) -> bool:
        """Whether all ranges are dense."""
        return all(way.form is Form.DENSE for way in self.path.ways)


class StepForms:
    """The ranges of a network in their forms: each a step of its own, in which nothing else differs."""

    def __init__(
        self,
        timed: TimedModel,
        options: CausalOptions,
        arch: Arch,
        most_cuts: int = MOST_CUTS,
        fixed: Sequence[int] | None = None,
    ) -> None:
        """``fixed``: layers of the dense step after which the network is cut, and nowhere else but around layers that
        stand alone; None leaves it open.
        """
        self.timed = timed
        self.asked = replace(options, polyphase=False, segments=())
        self.arch = self.turned = arch
        self.nodes = [node.name for node in timed.network.nodes]
        self._plans: dict[tuple[Segment, ...], CausalPlan] = {}
        self._steps: dict[tuple[Segment, ...], tuple[Graph, Mapping[int, int]]] = {}
        self.fixed = fixed
        self.cuts = self._chosen(most_cuts)

    @property
    def places(self) -> int:
        """Places for cuts, start and end among them."""
        return len(self.cuts)

    @property
    def forms(self) -> Sequence[Form]:
        """Which forms a range may have."""
        return (Form.DENSE, Form.POLYPHASE, Form.RECOMPUTED)

    def segment(self, first: int, end: int, form: Form) -> Segment:
        """The nodes between two places for cuts in a form."""
        names = frozenset(self.nodes[self.cuts[first] : self.cuts[end]])
        return Segment(names, polyphase=form is Form.POLYPHASE, recompute=form is Form.RECOMPUTED)

    def of(self, first: int, end: int, form: Form) -> FormRange | None:
        """A range in a form; None where its layers are not one after the other, or no different in a plainer form."""
        if self.fixed is not None and end > first + 1:
            return None
        graph, made = self._step(self._segments(first, end, form))
        low, high = (made.get(self.cuts[place]) for place in (first, end))
        if low is None or high is None or low == high:
            return None
        found = FormRange(graph, range(low, high))
        return None if form is not Form.DENSE and self._as_dense(found, first, end) else found

    def work(self, first: int, end: int, form: Form) -> Sequence[float] | None:
        """How many times as many positions each layer of the dense form makes, by the plan alone; None where that form
        is no different.
        """
        plan = self._plan(self._segments(first, end, form))
        nodes = self.timed.network.nodes[self.cuts[first] : self.cuts[end]]
        held = [(node, plan.tensors[node.writes[0]]) for node in nodes if node.writes[0] in plan.tensors]
        if not any(h.inner is not None or (h.new > 1 and plan.form(n) is Form.POLYPHASE) for n, h in held):
            return None
        made = self._step(())[1]
        return [self._times(plan, name) for name in self._news[made[self.cuts[first]] : made[self.cuts[end]]]]

    def _times(self, plan: CausalPlan, name: str) -> float:
        """How many times as many new positions of a tensor a step makes as in the dense form."""
        dense = self._plan(()).tensors
        if name not in dense or not (dense[name].streams and plan.tensors[name].streams):
            return 1.0
        return max(1.0, plan.tensors[name].new / dense[name].new)

    def _plan(self, segments: tuple[Segment, ...]) -> CausalPlan:
        if segments not in self._plans:
            self._plans[segments] = plan_causal(self.timed.network, replace(self.asked, segments=segments))
        return self._plans[segments]

    @cached_property
    def _news(self) -> list[str]:
        """Per layer of the dense step the tensor of which it makes all new positions; "" for others."""
        step = streaming(self.timed, self.asked).step
        made = {
            out: name
            for op in step.ops
            if isinstance(op, Run) and op.window is not None and op.phase[1] == 1
            for name, out in op.outs.items()
            if out == f"{name}.new" and op.length == step.plan.tensors[name].new
        }
        origins = ([o.node for o in layer.origin] for layer in self._step(())[0].layers)
        return [next((made[name] for name in names if name in made), "") for names in origins]

    def _segments(self, first: int, end: int, form: Form) -> tuple[Segment, ...]:
        """What a step differs in that holds the range: all is polyphase, as how others run makes no difference."""
        if form is Form.DENSE:
            return ()
        return (self.segment(0, self.places - 1, form) if form is Form.POLYPHASE else self.segment(first, end, form),)

    def _as_dense(self, found: FormRange, first: int, end: int) -> bool:
        """Whether a range's layers are those of the dense form, one by one."""
        graph, made = self._step(())
        dense = range(made[self.cuts[first]], made[self.cuts[end]])
        if len(dense) != len(found.layers):
            return False
        return all(
            _alike(graph, graph.layers[a], found.graph, found.graph.layers[b])
            for a, b in zip(dense, found.layers, strict=True)
        )

    def _step(self, segments: tuple[Segment, ...]) -> tuple[Graph, Mapping[int, int]]:
        """A step, and per number of nodes how many layers they have, where those come first."""
        if segments not in self._steps:
            form = streaming(self.timed, replace(self.asked, segments=segments))
            graph, self.turned = along_tiles(form.resident(), self.arch)
            self._steps[segments] = graph, layers_before(form, graph)
        return self._steps[segments]

    def _chosen(self, most: int) -> list[int]:
        """Numbers of nodes after which the network may be cut."""
        graph, made = self._step(())
        last: dict[int, int] = {layers: cut for cut, layers in sorted(made.items(), reverse=True)}
        inner = [layers for layers in last if 0 < layers < len(graph.layers)]
        forced = {stack.layers[-1] + 1 for stack in cut_after(graph, self.fixed or ())}.intersection(inner)
        free = [] if self.fixed is not None else [layers for layers in inner if layers not in forced]
        crossing = crossing_elements(graph)
        kept = [*forced, *sorted(free, key=lambda layers: (crossing[layers], layers))[:most]]
        return sorted({0, len(self.nodes), *(last[layers] for layers in kept)})


def layers_before(form: Streaming, graph: Graph) -> dict[int, int]:
    """By number of nodes how many layers they have, where those come before the layers of all other nodes."""
    number = {node.name: i for i, node in enumerate(form.timed.network.nodes)}
    runs = {next(iter(op.outs.values())) for op in form.step.ops if isinstance(op, Run)}
    spans = [_span(form, layer, number, runs) for layer in graph.layers]
    found = {0: 0, len(number): len(spans)}
    after = [*accumulate((low for low, _ in reversed(spans)), min)][::-1]
    for layers, most in enumerate(accumulate((high for _, high in spans), max), 1):
        if layers < len(spans):
            found.update(dict.fromkeys(range(most + 1, after[layers] + 1), layers))
    return found


def _span(form: Streaming, layer: Layer, number: Mapping[str, int], runs: Collection[str]) -> tuple[int, int]:
    """The first and the last node whose work a layer does; what belongs to none comes at the end."""
    names = [origin.node for origin in layer.origin]
    made = [name for name in names if name in runs] or [name.removesuffix(".turns") for name in names]
    found = [number[form.step.owners[name]] for name in made if name in form.step.owners]
    return (min(found), max(found)) if found else (len(number) - 1, len(number) - 1)


def _alike(mine: Graph, a: Layer, theirs: Graph, b: Layer) -> bool:
    """Whether two layers do the same on maps of the same shapes and pasts."""
    plain = [replace(layer, name="", inputs=(), outputs=(), origin=()) for layer in (a, b)]
    maps = [
        [(g.tensors[s.tensor].shape, g.past.get(s.tensor, 0), s.maps) for s in layer.sources]
        + [(g.tensors[t].shape, g.past.get(t, 0)) for t in layer.outputs]
        for g, layer in ((mine, a), (theirs, b))
    ]
    return plain[0] == plain[1] and maps[0] == maps[1]


def joint(
    timed: TimedModel,
    options: CausalOptions,
    arch: Arch,
    objective: Objective,
    *,
    mapped: Objective | None = None,
    mappings: SharedMappings | None = None,
    most_cycles: float = inf,
    most_cuts: int = MOST_CUTS,
    cuts: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Joint:
    """The best cuts and forms by an objective; no path where nothing fits.

    mapped: what mappings are best for, where that is something else.
    most_cycles: what a step must not exceed. most_cuts: places for cuts. cuts: layers of the dense step after which
                 to cut, and nowhere else.
    """
    forms = StepForms(timed, options, arch, most_cuts, cuts)
    cache = (mappings or SharedMappings()).of(forms.turned, mapped or objective)
    search = JointSearch(forms, forms.turned, cache, objective, most_cycles=most_cycles, progress=progress)
    path = search.run()
    chosen = replace(forms.asked, segments=tuple(forms.segment(w.first, w.end, w.form) for w in path.ways))
    form = streaming(timed, chosen)
    before = layers_before(form, along_tiles(form.resident(), arch)[0])
    return Joint(chosen, {before[forms.cuts[way.end]] - 1: way.after for way in path.ways[:-1]}, path)
