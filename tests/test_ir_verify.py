"""The verifier: each planted defect is found under its code, at its layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from graph_builder import Builder

from dfc.errors import InternalError
from dfc.ir import Axis, AxisMap, Dim, Graph, Kind, Layer, Operand, Role, Source, Tensor, dead_layers, problems, verify

Damage = Callable[[Graph], Graph]


def network() -> Graph:
    b = Builder()
    x = b.conv(b.input(3, 8, 6), 4, (3, 1), (1, 1), (1, 0))
    b.add(b.eltwise(x, "prelu", 1), x)
    return b.graph()


def change(at: int, edit: Callable[[Layer], Layer]) -> Damage:
    """Edit one layer."""
    return lambda g: replace(g, layers=tuple(edit(layer) if i == at else layer for i, layer in enumerate(g.layers)))


def with_size(dim: Dim, size: int) -> Callable[[Layer], Layer]:
    return lambda layer: replace(layer, sizes=tuple(size if d is dim else layer.sizes[d] for d in Dim))


def with_operand(at: int, edit: Callable[[Operand], Operand]) -> Callable[[Layer], Layer]:
    return lambda layer: replace(layer, inputs=tuple(edit(o) if i == at else o for i, o in enumerate(layer.inputs)))


def with_maps(axis_map: AxisMap) -> Callable[[Layer], Layer]:
    return with_operand(0, lambda o: replace(o, sources=(Source(o.sources[0].tensor, (axis_map,) * 3),)))


def with_tensor(name: str, tensor: Tensor | None) -> Damage:
    def damage(graph: Graph) -> Graph:
        tensors = {n: t for n, t in graph.tensors.items() if n != name}
        return replace(graph, tensors=tensors | ({name: tensor} if tensor else {}))

    return damage


def barrier_with_past(graph: Graph) -> Graph:
    graph = change(0, lambda layer: replace(layer, barrier=True))(graph)
    return replace(graph, time=Axis.Y, past={"conv0.out": 1})


CASES: list[tuple[str, str, str, Damage]] = [
    ("IR101", "conv0", "does not exist", with_tensor("conv0.out", None)),
    ("IR101", "conv0.out", "calls itself", with_tensor("conv0.out", Tensor("x", (1, 4, 8, 6)))),
    ("IR101", "in0", "0 bits", with_tensor("in0", Tensor("in0", (1, 3, 8, 6), 0))),
    ("IR102", "conv0", "another layer", change(1, lambda layer: replace(layer, name="conv0"))),
    ("IR103", "prelu1", "already written", change(1, lambda layer: replace(layer, outputs=("conv0.out",)))),
    ("IR103", "prelu1", "a network input", change(1, lambda layer: replace(layer, outputs=("in0",)))),
    ("IR104", "prelu1", "before it is written", lambda g: replace(g, layers=(g.layers[1], g.layers[0], g.layers[2]))),
    ("IR104", "conv0", "nothing writes", lambda g: replace(g, inputs=())),
    ("IR105", "const1", "nothing writes it", lambda g: replace(g, outputs=("const1",))),
    ("IR105", "add2.out", "stands there twice", lambda g: replace(g, outputs=g.outputs * 2)),
    ("IR106", "conv0", "at most one", change(0, lambda layer: replace(layer, inputs=layer.inputs + layer.inputs[1:]))),
    ("IR106", "conv0", "role O", change(0, with_operand(0, lambda o: replace(o, role=Role.O)))),
    ("IR106", "conv0", "unsorted", change(0, with_operand(0, lambda o: replace(o, dims=o.dims[::-1])))),
    ("IR106", "conv0", "reads no tensor", change(0, with_operand(0, lambda o: replace(o, sources=())))),
    ("IR106", "conv0", "as only weights do", change(0, with_operand(0, lambda o: replace(o, dims=(Dim.K, Dim.C))))),
    ("IR107", "conv0", "positive", change(0, with_size(Dim.C, 0))),
    ("IR107", "conv0", "positive", change(0, lambda layer: replace(layer, sizes=(1,) * 9))),
    ("IR107", "conv0", "strides", change(0, lambda layer: replace(layer, strides=(1, 0, 1)))),
    ("IR107", "conv0", "-1 macs", change(0, lambda layer: replace(layer, macs=-1))),
    ("IR108", "add2", "writes nothing", change(2, lambda layer: replace(layer, outputs=()))),
    ("IR108", "add2", "2 tensors", change(2, lambda layer: replace(layer, outputs=("add2.out", "const1")))),
    ("IR108", "add2", "no origin", change(2, lambda layer: replace(layer, origin=()))),
    ("IR109", "conv0.out", "no time axis", lambda g: replace(g, past={"conv0.out": 1})),
    ("IR109", "conv0.out", "expected 1 to 7", lambda g: replace(g, time=Axis.Y, past={"conv0.out": 8})),
    ("IR109", "const1", "may be tiled", lambda g: replace(g, time=Axis.Y, past={"const1": 1})),
    ("IR109", "conv0.out", "may be tiled", barrier_with_past),
    ("IR110", "conv0", "OY is 8", lambda g: replace(g, time=Axis.Y, past={"conv0.out": 2})),
    ("IR110", "conv0", "OY is 9", change(0, with_size(Dim.OY, 9))),
    ("IR110", "conv0", "G*K is 5", change(0, with_size(Dim.K, 5))),
    ("IR110", "conv0", "B is 2", change(0, with_size(Dim.B, 2))),
    ("IR111", "conv0", "none of its", change(0, with_maps(AxisMap(lo=20, hi=22)))),
    ("IR111", "conv0", "the kernel over 3", change(0, with_maps(AxisMap()))),
    ("IR112", "conv0", "more elements", with_tensor("const1", Tensor("const1", (4, 3, 3, 2)))),
    ("IR113", "conv0", "iterations", change(0, lambda layer: replace(layer, macs=10**6))),
    ("IR114", "prelu1", "no operand", change(1, with_size(Dim.C, 2))),
]  # fmt: skip


def test_the_network_is_well_formed() -> None:
    assert problems(network()) == []
    verify(network())


@pytest.mark.parametrize(("code", "place", "says", "damage"), CASES)
def test_planted_defects_are_found(code: str, place: str, says: str, damage: Damage) -> None:
    broken = damage(network())
    found = [p for p in problems(broken) if p.startswith(f"{code} ") and place in p]
    assert any(says in p for p in found), problems(broken)
    with pytest.raises(InternalError) as caught:
        verify(broken)
    assert caught.value.exit_code == 70
    assert caught.value.code == problems(broken)[0].split()[0]
    assert caught.value.place and caught.value.hint


def test_a_layer_makes_what_is_behind_the_past() -> None:
    graph = change(0, lambda layer: replace(with_size(Dim.OY, 6)(layer), macs=0))(network())
    step = replace(graph, time=Axis.Y, past={"conv0.out": 2})
    assert problems(step) == []
    assert step.made("conv0.out") == (1, 6, 6)
    assert step.made_elements("conv0.out") == 6 * 6 * 4
    assert problems(replace(step, time=Axis.X)) != []


def test_many_problems_are_summed_up() -> None:
    g = network()
    broken = replace(g, layers=tuple(replace(layer, origin=(), outputs=()) for layer in g.layers * 3))
    with pytest.raises(InternalError, match=r"and \d+ more"):
        verify(broken)


def test_products_views_and_barriers_need_not_walk_over_their_output() -> None:
    b = Builder()
    x = b.input(2, 3, 4, batch=5)
    rows = b.dense(b.reshape(x, (5, 24)), 7)
    b.opaque(b.eltwise(rows, "softmax", barrier=True))
    assert problems(b.graph()) == []


def test_a_product_must_have_as_many_outputs_as_its_tensor() -> None:
    b = Builder()
    b.dense(b.flatten(b.input(2, 3, 4)), 7)
    broken = change(1, with_size(Dim.K, 8))(b.graph())
    assert [p.split(":")[0] for p in problems(broken)] == ["IR110 layer 'gemm1'"]


def test_opaque_layers_may_write_several_tensors() -> None:
    b = Builder()
    b.opaque(b.input(1, 4, 4))
    b.tensor("second", (1, 4))
    g = b.graph()
    several = replace(g, layers=(replace(g.layers[0], outputs=("mystery0.out", "second")),))
    assert problems(replace(several, tensors=b.tensors)) == []
    assert several.layers[0].kind is Kind.OPAQUE


def test_dead_layers_are_reported_in_order() -> None:
    b = Builder()
    x = b.conv(b.input(3, 8, 8), 4)
    b.eltwise(b.eltwise(x, "abs"), "exp")
    kept = b.eltwise(x, "relu")
    g = b.graph(kept)
    assert problems(g) == []
    assert dead_layers(g) == ("abs1", "exp2")
