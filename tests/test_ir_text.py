"""The textual form: round trips, one example to read, and diagnostics for what a person may write."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path

import pytest
from graph_builder import Builder
from graph_strategies import random_cnn
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import dfc.ir.text
from dfc.errors import DfcError, IrError
from dfc.ir import (
    Axis,
    AxisMap,
    Dim,
    Graph,
    Kind,
    Layer,
    Operand,
    Origin,
    Role,
    Source,
    Tensor,
    parse_graph,
    print_graph,
    problems,
)
from dfc.passes import PassManager

GOLDEN = Path(__file__).parent / "data" / "readable.ir"
SETTINGS = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# -- round trips ----------------------------------------------------------------------------------------------

NAMES = st.one_of(st.sampled_from(["a", "x_1", "o", "from", "output", "K", "barrier", "conv", "I"]), st.text())
COUNTS = st.integers(0, 10**15)


@st.composite
def axis_maps(draw: st.DrawFn) -> AxisMap:
    lo = draw(st.integers(-99, 99))
    return AxisMap(draw(st.integers(0, 3)), draw(st.integers(1, 3)), lo, lo + draw(st.integers(0, 3)))


@st.composite
def wild_graphs(draw: st.DrawFn) -> Graph:
    """Any names, numbers and references: graphs that a text must hold, not ones that make sense."""
    tensors = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    known = st.sampled_from(tensors)
    triples = st.tuples(*[st.integers(0, 9)] * 3)
    sources = st.builds(Source, known, st.tuples(*[st.one_of(st.just(AxisMap()), axis_maps())] * 3))
    operands = st.builds(
        Operand,
        st.sampled_from(Role),
        st.lists(st.sampled_from(Dim), max_size=4).map(tuple),
        st.lists(sources, max_size=3).map(tuple),
        st.booleans(),
    )
    layers = st.builds(
        Layer,
        name=NAMES,
        kind=st.sampled_from(Kind),
        op=NAMES,
        inputs=st.lists(operands, max_size=3).map(tuple),
        outputs=st.lists(known, max_size=2).map(tuple),
        sizes=st.tuples(*[st.integers(0, 2000)] * 10),
        strides=triples,
        dilations=triples,
        phases=triples,
        macs=COUNTS,
        weight_elements=COUNTS,
        fused=st.lists(NAMES, max_size=2).map(tuple),
        barrier=st.booleans(),
        origin=st.lists(st.builds(Origin, NAMES, NAMES), max_size=2).map(tuple),
    )
    shapes = st.lists(st.integers(0, 2000), max_size=6).map(tuple)
    names = st.lists(known, max_size=2).map(tuple)
    return Graph(
        name=draw(NAMES),
        tensors={name: Tensor(name, draw(shapes), draw(st.integers(1, 64))) for name in tensors},
        layers=tuple(draw(st.lists(layers, max_size=3))),
        inputs=draw(names),
        outputs=draw(names),
        notes=tuple(draw(st.lists(st.text(), max_size=2))),
        time=draw(st.sampled_from([None, *Axis])),
        past=draw(st.dictionaries(known, st.integers(0, 99), max_size=2)),
    )


@SETTINGS
@given(wild_graphs())
def test_every_graph_survives_its_text(graph: Graph) -> None:
    text = print_graph(graph)
    assert parse_graph(text) == graph
    assert print_graph(parse_graph(text)) == text


@SETTINGS
@given(random_cnn())
def test_networks_survive_before_and_after_passes(graph: Graph) -> None:
    for each in (graph, PassManager(verify=True).run(graph)):
        assert parse_graph(print_graph(each)) == each


@SETTINGS
@given(st.text())
@example('line\nbreak "quote" \\ \x7f \u2028 \x85 caf\u00e9 % # ;')
def test_any_name_survives_on_one_line(name: str) -> None:
    graph = Graph(name, {name: Tensor(name, (1,))}, (), (name,), (name,), (name,))
    text = print_graph(graph)
    assert len(text.splitlines()) == 5
    assert parse_graph(text) == graph


def test_equal_graphs_have_equal_texts() -> None:
    one, two = Tensor("one", (1,)), Tensor("two", (2,))
    forwards = Graph("g", {"one": one, "two": two}, (), (), ())
    backwards = Graph("g", {"two": two, "one": one}, (), (), ())
    assert print_graph(forwards) == print_graph(backwards)


# -- reading --------------------------------------------------------------------------------------------------


def readable_example() -> Graph:
    """A little of everything, with names as exporters write them."""
    b = Builder("a readable example")
    image = b.input(3, 32, 48)
    stem = b.eltwise(b.batch_norm(b.conv(image, 8, (7, 5), (2, 1), (3, 2), bias=False)), "relu")
    left = b.eltwise(b.depthwise(stem, (3, 3), (1, 1)), "clip")
    joined = b.concat(b.add(left, stem), b.conv(stem, 4, (1, 1), pad=(0, 0)))
    up = b.conv_transpose(b.pool(joined, "maxpool"), 6)
    b.upsample(b.conv(b.pad(up, (0, 1), (2, 1)), 2, (3, 3), pad=(0, 0)))
    b.eltwise(b.dense(b.flatten(b.global_pool(joined)), 10), "softmax")
    graph = PassManager(verify=True).run(b.graph())
    return Graph(graph.name, graph.tensors, graph.layers, graph.inputs, graph.outputs, ("batch was bound to 1",))


def test_golden_file() -> None:
    """Run with DFC_UPDATE_GOLDEN=1 to write the file anew after a deliberate change of the format."""
    text = print_graph(readable_example())
    if os.environ.get("DFC_UPDATE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")
    assert parse_graph(text, str(GOLDEN)) == readable_example()


def test_the_example_in_the_documentation_parses() -> None:
    documentation = dfc.ir.text.__doc__ or ""
    block = documentation[documentation.index("    dfc-ir") : documentation.index("A layer's")]
    text = textwrap.dedent(block).rstrip() + "\n"
    graph = parse_graph(text)
    assert problems(graph) == []
    assert print_graph(graph) == text
    assert graph.macs == 118013952  # ResNet's first layer: 64*3*7*7*112*112


def test_layout_and_comments_do_not_matter() -> None:
    text = print_graph(readable_example())
    airy = re.sub(r"\n", "  # a remark\n\n\t", text)
    assert parse_graph(airy) == parse_graph(text)


def test_malformed_graphs_can_be_printed() -> None:
    layer = Layer("l", Kind.MOVE, "copy", (Operand(Role.I, (), (Source("gone"),)),), ("lost",), (1,) * 10)
    assert "%lost ? = move.copy l (I<> %gone)" in print_graph(Graph("g", {}, (layer,), ("lost",), ()))


# -- diagnostics ----------------------------------------------------------------------------------------------

HEAD = "dfc-ir 1\ngraph g\n"
LAYER = "input %x [1 3 8 8] 8b\n%y [1 3 8 8] 8b = eltwise.relu r (I %x)\n    G=3 OY=8 OX=8 from Relu r\noutput %y\n"


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "says"),
    [
        ("", "IR001", 1, 1, "expected 'dfc-ir', found the end"),
        ("ir 1\n", "IR001", 1, 1, "expected 'dfc-ir', found 'ir'"),
        ("dfc-ir 7\ngraph g\n", "IR003", 1, 8, "format 7"),
        ("dfc-ir 1\nnet g\n", "IR001", 2, 1, "expected 'graph'"),
        (HEAD + "note hello\n", "IR001", 3, 6, "quoted text of a note"),
        (HEAD + 'note "a\\qb"\n', "IR002", 3, 6, "bad escape"),
        (HEAD + 'note "open\n', "IR001", 3, 6, "quoted text"),
        (HEAD + "input x [1] 8b\n", "IR001", 3, 7, "expected '%'"),
        (HEAD + "input %x\n", "IR001", 3, 9, "shape after the tensor's name"),
        (HEAD + "input %x [1 -3] 8b\n", "IR001", 3, 13, "expected an extent"),
        (HEAD + "input %x [1 3] 8\n", "IR001", 3, 16, "bits of an element"),
        (HEAD + "input %x [1] 8b\ntensor %x [2] 8b\n", "IR004", 4, 8, "was [1] 8b before"),
        (HEAD + "output %x\n", "IR005", 3, 8, "'x' has no shape"),
        (HEAD + "layer\n", "IR001", 3, 1, "expected a layer"),
        (HEAD + LAYER.replace("eltwise", "elementwise"), "IR006", 4, 19, "unknown kind 'elementwise'"),
        (HEAD + LAYER.replace("(I %x)", "(X %x)"), "IR001", 4, 35, "expected an operand"),
        (HEAD + LAYER.replace("(I %x)", "(I<B Z> %x)"), "IR006", 4, 39, "unknown loop 'Z'"),
        (HEAD + LAYER.replace("(I %x)", "(I %x y=q)"), "IR001", 4, 42, "expected an axis map"),
        (HEAD + LAYER.replace("(I %x)", "(I %x y=o..2o)"), "IR007", 4, 42, "one factor of 'o'"),
        (HEAD + LAYER.replace("(I %x)", "(I %x y=o+2..o)"), "IR007", 4, 42, "not behind the last"),
        (HEAD + LAYER.replace("(I %x)", "(I %x y=(o)/0)"), "IR007", 4, 42, "axis map"),
        (HEAD + LAYER.replace("(I %x)", "(I %x y=o y=o)"), "IR008", 4, 44, "'y' stands there twice"),
        (HEAD + LAYER.replace("G=3", "G=3 G=4"), "IR008", 5, 9, "'G' stands there twice"),
        (HEAD + LAYER.replace("G=3", "G=99999999999999999999"), "IR001", 5, 7, "loop's size"),
        (HEAD + LAYER.replace("G=3", "G=3 stride=1,2"), "IR001", 5, 20, "the number for x"),
    ],
)
def test_mistakes_are_shown_where_they_are(text: str, code: str, line: int, column: int, says: str) -> None:
    with pytest.raises(IrError) as caught:
        parse_graph(text, "net.ir")
    error = caught.value
    assert (error.code, error.exit_code) == (code, 1)
    assert error.span is not None
    assert (error.span.file, error.span.line) == ("net.ir", line)
    assert says in error.message
    assert "^" in error.render() or not error.span.text
    assert error.span.column == column


BASE = print_graph(readable_example())


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(BASE)), st.integers(0, 12), st.text(max_size=6))
def test_damaged_texts_never_crash(at: int, cut: int, inserted: str) -> None:
    try:
        parse_graph(BASE[:at] + inserted + BASE[at + cut :])
    except DfcError as error:
        assert isinstance(error, IrError) and error.render()
