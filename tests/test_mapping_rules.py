"""Rules that fix parts of mappings: the page, what it allows against all orders listed, and contradictions."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import combinations_with_replacement, product
from math import prod
from pathlib import Path

import numpy as np
import pytest
from brute_force import factors, fits, orders, price_one
from cli_helpers import HW, Cli, chain
from hypothesis import given, settings
from hypothesis import strategies as st
from nest_examples import Example, memory

import dfc
from dfc.backend_cost import page_text
from dfc.backend_cost.cost_model import DEFINES, EXACT, CostModel
from dfc.backend_cost.lattice import lattice
from dfc.backend_cost.mapping_cost import MappingCost, Objective
from dfc.backend_cost.mapping_rules import LayerRules, extents_at
from dfc.backend_cost.mapping_search import search_mapping
from dfc.backend_cost.mapping_space import MappingSpace, mapping_space
from dfc.backend_cost.nest import Loop, Mapping, Nest, unroll
from dfc.backend_cost.rules_conflict import check_rules, explain_contradiction
from dfc.backend_cost.rules_text import load_rules, parse_rules
from dfc.errors import RulesError
from dfc.hwdsl import Unroll, load_arch, parse_arch
from dfc.ir import Dim, Role, sizes
from dfc.pipeline import import_graph

ROOT = Path(__file__).parents[1]
MEMORIES = (memory("rf_o", "O", across=""), memory("lb", "IWO"), memory("dram", "IWO"))


def rules(*lines: str) -> LayerRules:
    """The rules of one layer, one a line from line 2 on."""
    found = parse_rules("layer a {\n" + "\n".join(lines) + "\n}", "test.map").layer("a", (1, 1))
    assert found is not None
    return found


def space_of(example: Example, model: CostModel = DEFINES) -> MappingSpace:
    return mapping_space(example.nest, example.arch, model)


# --- the page


@pytest.mark.parametrize(
    ("text", "code", "place", "says"),
    [
        ("", "MAP011", "", "the page has no rules"),
        ("# nothing\n", "MAP011", "", "the page has no rules"),
        ("order C < K", "MAP011", "1:1", "a page is a list of layers"),
        ("layer { }", "MAP011", "1:7", "a layer's name is expected"),
        ('layer "a" order C < K', "MAP011", "1:11", "the layer's block is missing"),
        ('layer "a" {\n  order C < K\n', "MAP011", "2:14", "the layer's block is not closed"),
        ('layer "a" { layer "b" { } }', "MAP011", "1:13", "the layer's block is not closed"),
        ('layer "a" { ordr C < K }', "MAP011", "1:13", "did you mean 'order'?"),
        ('layer "a" tile 60 { }', "MAP011", "1:16", "for example: tile 60x72"),
        ('layer "a" { order C }', "MAP011", "1:21", "both sides of <"),
        ('layer "a" { order C < k }', "MAP012", "1:23", "did you mean K?"),
        ('layer "a" { order C < K < C }', "MAP012", "1:13", "C stands here again"),
        ('layer "a" { order C 0 < K }', "MAP013", "1:21", "'0' is not a whole number"),
        ('layer "a" { order C 1.5 < K }', "MAP013", "1:21", "'1.5' is not a whole number"),
        ('layer "a" { spatial D1 = K 4 }', "MAP011", "1:24", "a colon and a loop"),
        ('layer "a" { spatial D1: 4 K }', "MAP011", "1:25", "a loop is expected"),
        ('layer "a" { hold X in lb: K 4 }', "MAP012", "1:18", "unknown operand 'X'"),
        ('layer "a" { hold W lb: K 4 }', "MAP011", "1:20", "'in' and a memory"),
        ('layer "a" { hold W in lb K 4 }', "MAP011", "1:26", "a colon is expected"),
        ('layer "a" { hold W in lb: K }', "MAP011", "1:29", "how far K goes"),
        ('layer "a" { hold W in lb: K 4, }', "MAP011", "1:32", "a loop is expected"),
        ('layer "a" { hold W in lb: K 99999999999 }', "MAP013", "1:29", "from 1 to"),
        ("layer \x1b { }", "MAP011", "1:7", "unexpected '?'"),
    ],
)
def test_mistakes_on_the_page(text: str, code: str, place: str, says: str) -> None:
    with pytest.raises(RulesError) as caught:
        parse_rules(text, "test.map")
    assert caught.value.code == code
    assert says in caught.value.render()
    if place:
        assert str(caught.value.span) == f"test.map:{place}"
    assert all(c.isprintable() or c == "\n" for c in caught.value.render())


def test_a_mistake_as_it_is_drawn() -> None:
    with pytest.raises(RulesError) as caught:
        parse_rules('layer "conv1" {\n  hold W in lb_w: k 8  # weights\n}\n', "conv.map")
    assert caught.value.render().splitlines() == [
        "error[MAP012]: unknown loop 'k'",
        "  --> conv.map:2:19",
        "   |",
        " 2 |   hold W in lb_w: k 8  # weights",
        "   |                   ^",
        "  = help: did you mean K? loops are B, G, K, C, OT, OY, OX, FT, FY and FX",
    ]


WORDS = ["\n", "#", ";", "layer", '"a"', "tile", "6x7", "{", "}", "spatial", "none", "D1", ":", ",", "x", "order", "<"]
WORDS += ["<=", ">=", "=", "hold", "in", "everything", "all", "K", "8"]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_any_text_gives_rules_or_a_diagnostic(text: str) -> None:
    try:
        parse_rules(text)
    except RulesError as error:
        assert error.code in {"MAP011", "MAP012", "MAP013"}
        span = error.span
        if span is not None:
            assert 1 <= span.column <= len(span.text) + 1
            assert span.text == text.split("\n")[span.line - 1]


def test_blocks_add_up() -> None:
    page = parse_rules(
        'layer "conv*", fc { order C < K }\n'
        "layer conv1 tile 6x7 { hold W in lb: K 8, C >= 2, FX <= 3, FY all order K 2 < C < K }\n"
        "layer conv2 { spatial none }\n"
    )
    one = page.layer("conv1", (6, 7))
    assert one is not None
    assert [len(r.groups) for r in one.orders] == [2, 3]
    assert [str(e) for e in one.holds[0].extents] == ["K 8", "C >= 2", "FX <= 3", "FY all"]
    assert one.lanes is None
    other = page.layer("conv1", (7, 6))
    assert other is not None
    assert not other.holds
    assert other == page.layer("fc", (1, 1))
    assert hash(other) == hash(page.layer("fc", (1, 1)))
    assert repr(other) == repr(page.layer("fc", (1, 1)))
    two = page.layer("conv2", (1, 1))
    assert two is not None
    assert two.lanes == ()
    assert page.layer("pool", (6, 7)) is None


def test_leading_zeros_change_no_number() -> None:
    zeros = "0" * 5000  # more digits than Python turns into a number
    plain = "layer a tile {0}6x{0}7 {{ spatial D1: K {0}4 order K {0}2 < C hold W in lb: K {0}8 }}"
    page = parse_rules(plain.format(zeros))
    assert page.layer("a", (6, 7)) == parse_rules(plain.format("")).layer("a", (6, 7)) is not None
    assert page.layer("a", (7, 6)) is None
    for none in ("0", zeros, f"{zeros}9{zeros}"):
        with pytest.raises(RulesError) as caught:
            parse_rules(f"layer a {{ order K {none} < C }}")
        assert caught.value.code == "MAP013"
    far = parse_rules(f"layer a tile {'9' * 6000}x{zeros} {{ spatial none }}")  # no tile is of this size
    assert all(far.layer("a", (10**n, 0)) is None for n in range(18))


@pytest.mark.parametrize(
    ("pattern", "names", "others"),
    [
        ("a[1]", ["a[1]"], ["a1", "a[1", "a[1]b"]),
        ("a[!1]", ["a[!1]"], ["a2"]),
        ("a[1-3]*", ["a[1-3]", "a[1-3]/conv"], ["a2", "a2/conv"]),
        ("conv?", ["conv?"], ["conv1", "conv"]),
        ("*]", ["]", "a[1]"], ["a[1", "]a"]),
        ("a*[*", ["a[", "ab[c"], ["a", "a]"]),
        ("A", ["A"], ["a"]),
    ],
)
def test_only_the_star_is_special(pattern: str, names: list[str], others: list[str]) -> None:
    page = parse_rules(f'layer "{pattern}" {{ spatial none }}')
    assert all(page.layer(name, (1, 1)) for name in names)
    assert not any(page.layer(name, (1, 1)) for name in others)


class Counted(list[object]):
    """A list that counts how many of its elements are taken."""

    taken = 0

    def __getitem__(self, at: object) -> object:  # type: ignore[override]
        found = super().__getitem__(at)  # type: ignore[call-overload]
        self.taken += len(found) if isinstance(at, slice) else 1
        return found


@pytest.mark.parametrize("gap", ["\n", " "], ids=["a line each", "on one line"])
def test_long_pages_take_no_more_than_their_length(gap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: as many looks at a word of the page for each of 10,000 rules as for each of 100."""

    def looks(number: int) -> float:
        seen: list[Counted] = []
        monkeypatch.setattr(page_text, "tokens_of", lambda *page: seen.append(Counted(tokens(*page))) or seen[0])
        found = parse_rules(f"layer a {{{gap}" + f"order C < K{gap}hold W in lb: K 2{gap}" * (number // 2) + "}")
        assert len(found.blocks[0].rules.orders) == number // 2
        return seen[0].taken / number

    tokens = page_text.tokens_of
    assert looks(10_000) < 1.05 * looks(100)


def test_files(tmp_path: Path) -> None:
    for name, data in (("latin.map", b"\xff\xfe"), ("large.map", b"#" * (2 << 20))):
        (tmp_path / name).write_bytes(data)
    for name in ("latin.map", "large.map", "missing.map", ".", "a\0b"):
        with pytest.raises(RulesError) as caught:
            load_rules(tmp_path / name)
        assert caught.value.code == "MAP010"
    (tmp_path / "good.map").write_bytes('\ufefflayer "a" { order C < K }\r\n'.encode())
    assert load_rules(tmp_path / "good.map").layer("a", (1, 1)) is not None


# --- what is allowed, against all orders and cuts


def obeys(rule: str, order: tuple[Loop, ...]) -> bool:
    """Whether an order of the loops, innermost first, keeps to one ``order`` rule; read anew from its text."""
    left = {d: [i for i, loop in enumerate(order) if loop.dim is d] for d in Dim}
    places: list[list[int]] = []
    for group in rule.removeprefix("order").split("<"):
        mine: list[int] = []
        for part in group.split(","):
            name, _, size = part.strip().partition(" ")
            queue = left[Dim[name]]
            wanted = int(size) if size else None
            got = 1
            while queue and (wanted is None or got < wanted):
                mine.append(queue.pop(0))
                got *= order[mine[-1]].size
            if wanted is not None and got != wanted:
                return False
        places.append(mine)
    return all(max(a, default=-1) < min(b, default=99) for i, a in enumerate(places) for b in places[i + 1 :])


def iterations(nest: Nest, dim: Dim, steps: int) -> int:
    """Values of a loop's index that so many of its innermost steps reach on all lanes, counted one by one."""
    lanes = prod(u.lanes for u in nest.unrolled if u.loop is dim)
    return len({i for i in range(steps * lanes) if i < nest.sizes[dim]})


def keeps(rule: str, nest: Nest, names: list[str], mapping: Mapping) -> bool:
    """Whether a mapping keeps to one ``hold`` rule; read anew from its text."""
    match = re.fullmatch(r"hold (\w) in (\w+): (.*)", rule)
    assert match is not None
    good = True
    for operand, cuts in zip(nest.operands, mapping.cuts, strict=True):
        here = [m for m in range(len(operand.memories) - 1) if names[operand.memories[m]] == match[2]]
        if operand.role is not Role(match[1]) or not here:
            continue
        below = mapping.loops[: cuts[here[0]]]
        everything = ", ".join(f"{d.name} all" for d in operand.dims)
        for text in (everything if match[3] == "everything" else match[3]).split(", "):
            name, sign, size = re.fullmatch(r"(\w+) ?([<>]=)? (\w+)", text).groups()  # type: ignore[union-attr]
            dim = Dim[name]
            reach = iterations(nest, dim, prod(x.size for x in below if x.dim is dim))
            wanted = nest.sizes[dim] if size == "all" else int(size)
            if dim not in operand.dims:
                good &= sign == "<=" or reach >= wanted
            else:
                good &= reach <= wanted if sign == "<=" else reach >= wanted if sign == ">=" else reach == wanted
    return good


ORDER_RULES = [
    "order C < K",
    "order FX, C < K",
    "order K < FX < C",
    "order K 2 < C",
    "order K 2 < C < K",
    "order C 3 < K 2 < C 2",
    "order C 2, K 2 < FX",
    "order K 4 < OX < C",
    "order C 3 < OX",
    "order OX < C",
    "order K < OX",
    "order C < FX",
]
SIZES = st.fixed_dictionaries(
    {"K": st.sampled_from([1, 2, 4]), "C": st.sampled_from([1, 2, 6]), "FX": st.sampled_from([1, 3]), "OX": st.just(2)}
)


@settings(deadline=None, max_examples=40)
@given(loops=SIZES, chosen=st.lists(st.sampled_from(ORDER_RULES), min_size=1, max_size=3))
def test_orders_against_all_listed(loops: dict[str, int], chosen: list[str]) -> None:
    nest = Example(loops, MEMORIES).nest
    grid = lattice(nest.temporal)
    mine = rules(*chosen)
    space = space_of(Example(loops, MEMORIES))
    good = [order for order in orders(factors(nest)) if all(obeys(rule, order) for rule in chosen)]
    passed = np.zeros(len(grid.points), dtype=bool)
    for order in good:
        products = np.ones(len(Dim))
        for at in range(len(order) + 1):
            if at:
                products[order[at - 1].dim] *= order[at - 1].size
            passed[grid.index(products)] = True
    assert mine.orderable(grid) == bool(good)
    allowed = mine.allowed(space)
    assert (allowed == passed).all()
    # any order becomes one that keeps to the rules, and passes the allowed points that it passed before
    axis = {loop: a for a, loop in enumerate(grid.loops)}
    if good and axis:
        listed = orders(factors(nest))
        rows = np.array([[axis[loop] for loop in order] for order in listed], dtype=np.int64)
        found = mine.ordered(grid, rows)
        for before, after in zip(rows.tolist(), found.tolist(), strict=True):
            made = tuple(grid.loops[a] for a in after)
            assert made in good
            assert before == after or tuple(grid.loops[a] for a in before) not in good
            for at in range(len(before)):
                counts = np.bincount(before[:at], minlength=len(grid.loops))
                point = int(np.flatnonzero((grid.exponents == counts).all(axis=1))[0])
                if passed[point]:
                    assert sorted(after[:at]) == sorted(before[:at])


HOLD_RULES = [
    "hold W in lb: K 2",
    "hold W in lb: K all, C 2",
    "hold W in lb: everything",
    "hold W in lb: OX >= 2",
    "hold O in rf_o: C all",
    "hold O in rf_o: OX 2",
    "hold O in rf_o: K <= 2, OX 1",
    "hold O in lb: K >= 3",
    "hold I in lb: OX <= 1, FX all",
    "hold I in lb: C 3",
    "hold I in dram: C 1",
]


FEW = [{"K": 4, "OX": 2}, {"K": 2, "C": 6}, {"K": 2, "C": 2, "FX": 3}, {"K": 2, "OX": 2, "C": 3}, {"C": 6, "OX": 2}]


@pytest.mark.slow
@pytest.mark.parametrize("model", [DEFINES, EXACT], ids=lambda m: m.name)
@settings(deadline=None, max_examples=6)
@given(
    loops=st.sampled_from(FEW),
    lanes=st.sampled_from([(), (("A", "K", 2),), (("A", "OX", 2),)]),
    chosen=st.lists(st.sampled_from([*ORDER_RULES, *HOLD_RULES]), min_size=1, max_size=2),
)
def test_the_least_energy_that_keeps_to_rules(
    model: CostModel, loops: dict[str, int], lanes: tuple[tuple[str, str, int], ...], chosen: list[str]
) -> None:
    lanes = tuple(lane for lane in lanes if loops.get(lane[1], 1) > 1)
    example = Example(loops, MEMORIES, lanes)
    nest, arch = example.nest, example.arch
    names = [m.name for m in arch.memories]
    best = np.inf
    for order in orders(factors(nest)):
        if not all(obeys(rule, order) for rule in chosen if rule.startswith("order")):
            continue
        n = len(order)
        ways = [
            [(*w, n) for w in combinations_with_replacement(range(n + 1), len(o.memories) - 1)] for o in nest.operands
        ]
        for cuts in product(*ways):
            mapping = Mapping(order, cuts)
            if all(keeps(rule, nest, names, mapping) for rule in chosen if rule.startswith("hold")) and fits(
                nest, arch, mapping, model
            ):
                best = min(best, price_one(nest, arch, mapping, model).energy_pj)
    found = search_mapping(nest, arch, Objective.ENERGY, model, rules=rules(*chosen))
    error = explain_contradiction(rules(*chosen), mapping_space(nest, arch, model))
    if isinstance(found, MappingCost):
        assert found.energy_pj == pytest.approx(best, rel=1e-9)
        assert error is None
        assert all(obeys(rule, found.mapping.loops) for rule in chosen if rule.startswith("order"))
    else:
        assert best == np.inf
        assert error is not None


def page_of(nest: Nest, names: list[str], found: Mapping) -> list[str]:
    """Rules that fix all of a mapping."""
    lines = (
        ["order " + " < ".join(f"{loop.dim.name} {loop.size}" for loop in found.loops)] if len(found.loops) > 1 else []
    )
    for operand, cuts in zip(nest.operands, found.cuts, strict=True):
        for memory_, cut in zip(operand.memories[:-1], cuts, strict=False):
            products = np.ones((1, len(Dim)))
            for loop in found.loops[:cut]:
                products[0, loop.dim] *= loop.size
            reach = extents_at(nest, products)[0]
            parts = [f"{d.name} {'' if d in operand.dims else '>= '}{reach[d]:.0f}" for d in Dim]
            lines.append(f"hold {operand.role.value} in {names[memory_]}: {', '.join(parts)}")
    return lines


@pytest.mark.parametrize("objective", list(Objective))
@pytest.mark.parametrize("model", [DEFINES, EXACT], ids=lambda m: m.name)
def test_a_mapping_fixed_in_full_costs_the_same(objective: Objective, model: CostModel) -> None:
    example = Example({"K": 8, "C": 6, "OX": 10, "FX": 3}, MEMORIES, (("A", "K", 4), ("B", "OX", 4)))
    nest, arch = example.nest, example.arch
    free = search_mapping(nest, arch, objective, model)
    assert isinstance(free, MappingCost)
    fixed = search_mapping(
        nest, arch, objective, model, rules=rules(*page_of(nest, [m.name for m in arch.memories], free.mapping))
    )
    assert isinstance(fixed, MappingCost)
    assert fixed.mapping.loops == free.mapping.loops
    assert fixed.energy_pj == pytest.approx(free.energy_pj, rel=1e-9)
    assert fixed.latency_cycles == free.latency_cycles


# --- spatial


def test_lanes_replace_what_the_chip_prefers(tmp_path: Path) -> None:
    arch = load_arch(HW)
    layer = import_graph(chain(tmp_path / "m.onnx", (1, 3, 8, 8), 1)).layers[0]
    whole = sizes(K=16, C=6, OY=10, OX=3, FY=3, FX=3)
    text = "spatial D1: K 8 x OX 4, D2: C"
    lanes = rules(text).lanes
    assert lanes == (Unroll("D1", Dim.K, 8), Unroll("D1", Dim.OX, 4), Unroll("D2", Dim.C, 0))
    found = unroll(whole, arch, layer, lanes=lanes)
    assert [(u.array_dim, u.loop.name, u.lanes) for u in found] == [("D1", "K", 8), ("D1", "OX", 3), ("D2", "C", 2)]
    assert unroll(whole, arch, layer, lanes=()) == ()
    assert unroll(whole, arch, layer) == unroll(whole, arch, layer, lanes=arch.unrolls[layer.kind])


def test_a_bad_unrolling_costs_more(tmp_path: Path) -> None:
    model = chain(tmp_path / "m.onnx", (1, 3, 8, 8))
    best = dfc.compile(model, HW, tile="8x8", overlap="cached").totals
    page = parse_rules('layer "*" { spatial none }\n')
    worse = dfc.compile(model, HW, tile="8x8", overlap="cached", rules=page)
    assert worse.totals.energy_pj >= best.energy_pj
    assert worse.totals.latency_cycles > best.latency_cycles
    nests = [run.nest for stack in worse.stacks for c in stack.tile_classes for run in c.layers]
    assert all(nest is not None and not nest.unrolled for nest in nests)


# --- contradictions


@pytest.mark.parametrize(
    ("lines", "code", "line", "says"),
    [
        (["hold W in lb: K 64"], "MAP020", 2, "loop K has only size 8"),
        (["order C < K", "hold W in lb: K 2"], "MAP020", 3, "K runs on 4 lanes side by side"),
        (["hold W in lb: C 4"], "MAP020", 2, "C 4 is no product of factors of the loop (size 6)"),
        (["hold W in lb: C 4"], "MAP020", 2, "C can be 1, 2, 3 or 6"),
        (["order C 4 < K"], "MAP020", 2, "come to 4, which does not divide its 6 steps"),
        (["order C < K", "order K < C"], "MAP021", 3, "line 2: order C < K"),
        (["hold O in rf_o: OX 4", "hold O in lb: OX 2"], "MAP021", 3, "line 2: hold O in rf_o: OX 4"),
        (["order C < OX", "order OX < K", "order FX < K", "order K < C"], "MAP021", 5, "line 2: order C < OX; line 3:"),
    ],
)
def test_contradictions(lines: list[str], code: str, line: int, says: str) -> None:
    example = Example({"K": 8, "C": 6, "OX": 4, "FX": 3}, MEMORIES, (("A", "K", 4),))
    error = explain_contradiction(rules(*lines), space_of(example), "layer 'a'")
    assert error is not None
    assert (error.code, error.span and error.span.line) == (code, line)
    assert says in error.render()
    assert "line 4" not in error.render()
    assert error.message.startswith("layer 'a': ")


def test_too_little_memory_is_said_with_its_bits() -> None:
    memories = (*MEMORIES[:2], replace(MEMORIES[2], size_bits=1 << 30))
    example = Example({"K": 64, "C": 64, "OX": 64}, memories, bits={Role.W: 128, Role.I: 2048})
    space = space_of(example)  # the others have 2^20 bits; I has 64 x 64 x 2048, W has 64 x 64 x 128
    error = explain_contradiction(rules("hold I in lb: everything"), space)
    assert error is not None
    assert "this is 1 MiB of I, and memory 'lb' has 128 KiB" in error.message
    both = rules("order K 2 < OX", "hold W in lb: everything", "hold I in lb: OX 8, C 32")
    error = explain_contradiction(both, space)
    assert error is not None
    assert (error.code, error.span and error.span.line) == ("MAP021", 4)
    assert "contradicts 1 other: memory 'lb' then needs" in error.message
    assert "line 3: hold W in lb: everything" in error.hint


def test_rules_that_can_be_kept_are_no_contradiction() -> None:
    example = Example({"K": 8, "C": 6, "OX": 4}, MEMORIES)
    assert explain_contradiction(rules("order C < K", "hold W in lb: everything"), space_of(example)) is None
    assert explain_contradiction(LayerRules(), space_of(example)) is None


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("layer conv3 { }", "MAP014", "did you mean 'conv"),
        ("layer conv1 { hold W in lbw: K 2 }", "MAP015", "did you mean 'lb_w'?"),
        ("layer conv1 { hold I in lb_w: C 2 }", "MAP015", "inputs pass through lb_io, gb_io and dram"),
        ("layer conv1 { hold I in dram: C 2 }", "MAP015", "holds all inputs"),
        ("layer conv1 { hold I2 in lb_io: C 2 }", "MAP015", "no input 2: the layer has 1"),
        ("layer conv1 { hold W in lb_w: OX 2 }", "MAP015", "write OX >= 2"),
        ("layer conv1 { hold W in lb_w: K 5 }", "MAP020", "loop K has only size 3"),
        ("layer conv1 { spatial D9: K }", "MAP016", "unknown array dimension 'D9'"),
        ("layer conv1 { spatial D2: K 3 }", "MAP016", "array dimension 'D2' has only 2 lanes, not 3"),
        ("layer conv1 { spatial D3: FX 2 x FY 3 }", "MAP016", "has only 4 lanes, not 6"),
        ("layer conv1 { spatial D1: K 4 }", "MAP016", "loop K has only size 3"),
        ("layer conv1 { spatial D1: K 3 } layer 'conv*' { }", "MAP011", "a layer's name"),
        ('layer conv1 { spatial D1: K 3 } layer "conv*" { spatial D1: C 3 }', "MAP021", "the first is at t.map:1:15"),
    ],
)
def test_checked_before_the_search(body: str, code: str, says: str, tmp_path: Path) -> None:
    graph = import_graph(chain(tmp_path / "m.onnx"))
    with pytest.raises(RulesError) as caught:
        check_rules(parse_rules(body, "t.map"), graph.layers, load_arch(HW))
    assert caught.value.code == code
    assert says in caught.value.render()


# --- the command line


def test_compile_says_which_rule_cannot_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli = Cli(tmp_path, capsys)
    model = chain(tmp_path / "m.onnx", (1, 3, 8, 8))
    page = tmp_path / "m.map"
    page.write_text("layer conv1 {\n  spatial D1: K 3\n  hold O in rf_o: OX 3\n}\n")
    result = cli(
        "compile", model, "--hw", HW, "--tile", "8x8", "-o", tmp_path / "out", "--mapping", page, "-q", "--no-cache"
    )
    assert result.code == 1
    assert "MAP020" in result.err
    assert "in tiles of 8x8: OX 3 is no product of factors of the loop (size 8)" in result.err
    assert not (tmp_path / "out").exists()
    page.write_text("layer conv1 {\n  spatial D1: K 3\n  hold O in rf_o: OX 4, OY 2\n}\n")
    result = cli(
        "compile", model, "--hw", HW, "--tile", "8x8", "-o", tmp_path / "out", "--mapping", page, "-q", "--no-cache"
    )
    assert "MAP020" in result.err
    assert "memory 'rf_o'" in result.err
    result = cli("compile", model, "--hw", HW, "--mapping", tmp_path / "no.map", "--no-cache")
    assert "MAP010" in result.err


def test_the_example_compiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rules of examples/mappings, which docs/mapping-rules.md shows, are kept."""
    page = ROOT / "examples" / "mappings" / "fsrcnn.map"
    (shown,) = re.findall(r"```map\n(.*?)```", (ROOT / "docs" / "mapping-rules.md").read_text(), re.DOTALL)
    assert shown == page.read_text()
    cli = Cli(tmp_path, capsys)
    model = ROOT / "examples" / "models" / "fsrcnn.onnx"
    options = ("--tile", "60x72", "--overlap", "cached", "-q", "--no-cache")
    result = cli("compile", model, "--hw", HW, *options, "--mapping", page, "-o", tmp_path / "out")
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "out" / "schedule.json").read_text())
    assert "parts of the mappings are fixed by fsrcnn.map" in found["notes"]
    tiles = [run for c in found["stacks"][0]["tile_classes"] for run in c["layers"]]
    for run in tiles:
        loops = [text.split()[0] for text in run["loops"]]
        if run["layer"].startswith("map"):
            kernel = max(i for i, name in enumerate(loops) if name in ("FX", "FY"))
            assert all(kernel < i for i, name in enumerate(loops) if name == "C")
        if run["layer"] == "upscale":
            assert run["unrolling"][0] == "D1: K 16"
            assert run["unrolling"][1].startswith("D1: OX")
        if run["layer"] == "feature" and run["extents"] == [60, 72]:
            reach = {"OX": 4, "K": 28}  # lanes
            for text in run["loops"][: run["cuts"]["O"][1]]:
                name, size = text.split()
                reach[name] = reach.get(name, 1) * int(size)
            assert (reach["OX"], reach["K"]) == (12, 56)
    assert not any("without effect" in note for note in found["notes"])


def test_rules_without_effect_are_named(tmp_path: Path) -> None:
    page = parse_rules("layer conv1 {\n  hold I in lb_io: OX 3\n}\nlayer conv2 tile 7x7 { order C < K }\n", "a/t.map")
    found = dfc.compile(chain(tmp_path / "m.onnx"), HW, tile="8x8", overlap="cached", rules=page)
    first = found.notes.index("parts of the mappings are fixed by t.map")
    assert found.notes[first : first + 3] == (
        "parts of the mappings are fixed by t.map",
        "t.map:2: 'hold I in lb_io: OX 3' is without effect: inputs live there or below in every tile",
        "t.map:4: its rules are without effect: no tile of conv2 has this size; it is 8x8",
    )


def test_rules_of_order_leave_lanes_idle_as_without_them(tmp_path: Path) -> None:
    """A memory with room for less than an element of each lane: fewer lanes, whatever the order of loops."""
    page = parse_arch("accelerator tiny extends meta_proto { memory lb_w { size 64 b } }", "tiny.hw")
    model = chain(tmp_path / "m.onnx")
    free = dfc.compile(model, page, tile="4x4")
    ruled = dfc.compile(model, page, tile="4x4", rules=parse_rules('layer "*" { order FX, FY < C }', "t.map"))
    assert ruled.totals.energy_pj >= free.totals.energy_pj * (1 - 1e-9)
    assert all(x.nest is None or x.nest.unrolled != () for s in ruled.stacks for c in s.tile_classes for x in c.layers)
