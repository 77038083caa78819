"""Stacks: which layers run depth-first together, and where the network is cut between them.

Legal cuts come from the graph and from capacities that the caller gives; nothing here knows a price.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import accumulate

from dfc.errors import UsageError
from dfc.ir import Axis, Graph, Interval, Kind, Layer, Role


@dataclass(frozen=True, slots=True)
class Stack:
    """Consecutive layers (indices into the graph, in topological order) that one tile walks through.

    inputs:  tensors that it reads and does not write, in order of first use.
    outputs: tensors that it writes and that a later stack or the network's user reads; the last one is tiled.
    """

    layers: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def make_stack(graph: Graph, layers: Sequence[int]) -> Stack:
    """The stack of these layers with what crosses its border."""
    inside = set(layers)
    written = [t for i in layers for t in graph.layers[i].outputs]
    read = dict.fromkeys(s.tensor for i in layers for s in graph.layers[i].sources)
    kept = set(graph.outputs)
    outputs = [t for t in written if t in kept or any(c not in inside for c in graph.consumers[t])]
    if not outputs:  # a dead end still computes
        outputs = [graph.layers[layers[-1]].output]
    return Stack(tuple(layers), tuple(t for t in read if t not in set(written)), tuple(outputs))


def stands_alone(layer: Layer) -> bool:
    """Whether a layer cannot share a stack: what it reads cannot be told from what it writes."""
    computed_weights = any(o.role is Role.W and not o.constant for o in layer.inputs)
    return layer.barrier or computed_weights or layer.kind in (Kind.OPAQUE, Kind.VIEW)


def can_be_one(layers: Sequence[Layer]) -> bool:
    """Whether consecutive layers can be one stack."""
    return len(layers) == 1 or not any(map(stands_alone, layers))


def crossing_elements(graph: Graph) -> list[int]:
    """Per number of layers, elements of all maps that the first so many make and others read: what a cut hands over."""
    more = [0] * (len(graph.layers) + 1)
    for i, layer in enumerate(graph.layers):
        for tensor in layer.outputs:
            more[i + 1] += graph.made_elements(tensor)
            more[max(graph.consumers[tensor], default=i) + 1] -= graph.made_elements(tensor)
    return list(accumulate(more))


def needs_whole_map(graph: Graph, layer: Layer) -> bool:
    """Whether every output position needs all of an input's rows or columns (global pooling, flattened products).

    In a depth-first stack it would make every tile of what comes before as large as the map.
    """
    made = graph.tensors[layer.output].spatial
    for source in layer.sources:
        size = graph.tensors[source.tensor].spatial
        for a in (Axis.Y, Axis.X):  # T is never tiled
            whole = source.maps[a].needs(Interval(0, made[a]), size[a]).size == size[a] > 1
            if whole and (source.maps[a].is_full or made[a] == 1):
                return True
    return False


def indivisible_units(graph: Graph) -> list[list[int]]:
    """Layers grouped so that one tensor alone crosses from one group to the next (B.d of the reference).

    A chain gives one layer each; a residual block is one unit. Layers that stand alone always are.
    """
    last_use = {t: max(users, default=-1) for t, users in graph.consumers.items()}
    units: list[list[int]] = []
    current: list[int] = []
    open_tensors: set[str] = set()  # the network's inputs lie off chip, whoever reads them
    for i, layer in enumerate(graph.layers):
        current.append(i)
        open_tensors = {t for t in open_tensors if last_use[t] > i}
        open_tensors |= {t for t in layer.outputs if last_use[t] > i}
        following = graph.layers[i + 1 : i + 2]
        if len(open_tensors) <= 1 or any(map(stands_alone, (layer, *following))):
            units.append(current)
            current = []
    return [*units, current] if current else units


def automatic_stacks(
    graph: Graph, weight_bits: Sequence[int], capacity_bits: int, *, cut_whole_maps: bool = True
) -> list[Stack]:
    """Stacks as long as their weights fit the largest on-chip weight memory (greedy, B.d of the reference).

    weight_bits: per layer. Besides, layers that stand alone do, and unless ``cut_whole_maps`` is false, which is the
    reference's rule, a layer that needs whole maps opens a new stack.
    """
    groups: list[list[int]] = []
    open_bits = capacity_bits + 1  # forces a first group
    for unit in indivisible_units(graph):
        need = sum(weight_bits[i] for i in unit)
        alone = any(stands_alone(graph.layers[i]) for i in unit)
        fresh = alone or (cut_whole_maps and any(needs_whole_map(graph, graph.layers[i]) for i in unit))
        if need > capacity_bits:
            groups += [[i] for i in unit]
            open_bits = capacity_bits + 1
        elif fresh or open_bits + need > capacity_bits:
            groups.append(list(unit))
            open_bits = capacity_bits + 1 if alone else need
        else:
            groups[-1] += unit
            open_bits += need
    return [make_stack(graph, g) for g in groups]


def cut_after(graph: Graph, cuts: Iterable[int]) -> list[Stack]:
    """Stacks that end after each of these layers, and around layers that stand alone."""
    ends = {*cuts, len(graph.layers) - 1}
    for i, layer in enumerate(graph.layers):
        if stands_alone(layer):
            ends |= {i - 1, i}
    stacks: list[Stack] = []
    start = 0
    for end in sorted(e for e in ends if e >= 0):
        stacks.append(make_stack(graph, range(start, end + 1)))
        start = end + 1
    return stacks


def single_layer_stacks(graph: Graph) -> list[Stack]:
    """Every layer its own stack."""
    return [make_stack(graph, [i]) for i in range(len(graph.layers))]


def find_layers(graph: Graph, names: Iterable[str]) -> list[int]:
    """Indices of layers by name; names that the user typed wrong are an error that lists near ones."""
    found: list[int] = []
    for name in names:
        if name not in graph.index:
            near = get_close_matches(name, list(graph.index), n=3, cutoff=0.4) or list(graph.index)[:3]
            raise UsageError(
                "CLI010",
                f"the network has no layer named {name!r}",
                place="--stacks",
                hint=f"cuts are written as names of layers to cut after, such as {', '.join(near)}",
            )
        found.append(graph.index[name])
    return found
