"""The nodes of a graph in an order in which every tensor is produced before it is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from math import prod

import onnx

from dfc.frontend.diagnostics import fail
from dfc.frontend.load import subgraphs


def reads(node: onnx.NodeProto) -> list[str]:
    """Every tensor that a node reads: its inputs, and what its bodies take from around them."""
    names = [name for name in node.input if name]
    for body in subgraphs(node):
        names += captured(body)
    return list(dict.fromkeys(names))


def constant_elements(body: onnx.GraphProto) -> int:
    """Elements of the constants that a body holds, bodies within it included."""
    found: int = sum(prod(t.dims) for t in body.initializer)
    for node in body.node:
        found += sum(prod(a.t.dims) for a in node.attribute if node.op_type == "Constant" and a.HasField("t"))
        found += sum(map(constant_elements, subgraphs(node)))
    return found


def captured(body: onnx.GraphProto) -> list[str]:
    """Tensors that a body reads and does not define."""
    own = {i.name for i in body.input} | {t.name for t in body.initializer}
    own |= {s.values.name for s in body.sparse_initializer}
    own |= {name for node in body.node for name in node.output}
    wanted = [name for node in body.node for name in reads(node)] + [o.name for o in body.output]
    return [name for name in dict.fromkeys(wanted) if name not in own]


def node_title(node: onnx.NodeProto) -> str:
    """How messages call a node."""
    if node.name:
        return f"node '{node.name}' ({node.op_type})"
    output = next((name for name in node.output if name), "")
    return f"node ({node.op_type}) that writes '{output}'"


def producers(graph: onnx.GraphProto, place: str) -> dict[str, int]:
    """The node that writes each tensor. Raises ONNX010 where a name is defined twice."""
    defined = {i.name for i in graph.input}
    for name in (*(t.name for t in graph.initializer), *(s.values.name for s in graph.sparse_initializer)):
        defined.add(name)
    for names in ([i.name for i in graph.input], [t.name for t in graph.initializer]):
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if twice:
            _duplicate(twice[0], place)
    found: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in node.output:
            if name and (name in found or name in defined):
                _duplicate(name, f"{place}: {node_title(node)}")
            if name:
                found[name] = index
    return found


def _duplicate(name: str, place: str) -> None:
    fail(
        "ONNX010",
        f"tensor '{name}' is defined twice",
        place=place,
        hint="every tensor of a graph has one producer; rename one of them or export the model again",
    )


def sort_nodes(graph: onnx.GraphProto, around: Iterable[str], place: str) -> list[onnx.NodeProto]:
    """Nodes in topological order, otherwise in the file's order.

    ``around`` names tensors that exist outside of the graph. Raises ONNX008, ONNX009 or ONNX010.
    """
    made_by = producers(graph, place)
    given = {i.name for i in graph.input} | {t.name for t in graph.initializer} | set(around)
    given |= {s.values.name for s in graph.sparse_initializer}
    waits: list[set[int]] = []
    for node in graph.node:
        for name in reads(node):
            if name not in made_by and name not in given:
                _undefined(name, f"{place}: {node_title(node)}")
        waits.append({made_by[name] for name in reads(node) if name in made_by})
    for output in graph.output:
        if output.name not in made_by and output.name not in given:
            _undefined(output.name, f"{place}: output '{output.name}'")
    order = _kahn(waits)
    if len(order) < len(waits):
        _cycle(graph, waits, set(order), place)
    return [graph.node[i] for i in order]


def _undefined(name: str, place: str) -> None:
    fail(
        "ONNX009",
        f"tensor '{name}' is read but nothing produces it",
        place=place,
        hint="add it as an input or initializer, or export the model again",
    )


def _kahn(waits: Sequence[set[int]]) -> list[int]:
    """Indices in topological order; those on and behind a cycle are missing."""
    if all(w < i for i, before in enumerate(waits) for w in before):
        return list(range(len(waits)))
    left = [len(before) for before in waits]
    followers: list[list[int]] = [[] for _ in waits]
    for i, before in enumerate(waits):
        for w in before:
            followers[w].append(i)
    ready = deque(i for i, count in enumerate(left) if count == 0)
    order: list[int] = []
    while ready:
        order.append(ready.popleft())
        for follower in followers[order[-1]]:
            left[follower] -= 1
            if left[follower] == 0:
                ready.append(follower)
    return order


def _cycle(graph: onnx.GraphProto, waits: Sequence[set[int]], done: set[int], place: str) -> None:
    """Name one cycle: from any node left over, walk back along what it waits for until a node repeats."""
    here = next(i for i in range(len(waits)) if i not in done)
    path: list[int] = []
    while here not in path:
        path.append(here)
        here = min(w for w in waits[here] if w not in done)
    names = [node_title(graph.node[i]) for i in reversed(path[path.index(here) :])]
    fail(
        "ONNX008",
        f"the graph has a cycle through {', '.join(names[:6])}",
        place=f"{place}: {names[0]}",
        hint="a network is a graph without cycles; unroll recurrences before exporting",
    )


def live_nodes(nodes: Sequence[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """Those of the sorted nodes that an output depends on."""
    wanted = set(outputs)
    kept: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if any(name in wanted for name in node.output if name):
            kept.append(node)
            wanted.update(reads(node))
    return kept[::-1]
