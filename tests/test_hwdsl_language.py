"""The hardware language itself: defaults, units, ports, inheritance; and that printing is the parser's inverse."""

from __future__ import annotations

from itertools import permutations
from math import prod
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfc.errors import HardwareError
from dfc.hwdsl import (
    Arch,
    ArrayDim,
    Memory,
    Move,
    OperationalArray,
    Port,
    Unroll,
    format_arch,
    library,
    load_arch,
    parse_arch,
)
from dfc.ir import Dim, Kind, Role

SMALL = """
accelerator small {{
  array {{ dims D1: 8, D2: 4  mac 8 b x 4 b -> 20 b, 0.1 pJ  unroll conv D1: K/6, D2: C  {array} }}
  memory buf  {{ holds I, W, O  size 1 KiB  width 64 b  energy 6 pJ  {buf} }}
  memory dram {{ holds I, W, O  size 1 GiB  width 64 b  energy 700 pJ  ports 1rw }}
  path I: array <- buf <- dram
  path W: array <- buf <- dram
  path O: array <-> buf <-> dram
}}
"""


def small(array: str = "", buf: str = "") -> Arch:
    return parse_arch(SMALL.format(array=array, buf=buf))


def test_defaults() -> None:
    arch = small()
    assert arch.clock_hz == 1e9
    assert arch.array.output_bits == 8  # that of the input
    assert arch.array.op_pj == arch.array.mac_pj == 0.1
    buf = arch.memories[0]
    assert (buf.min_read_bits, buf.min_write_bits) == (64, 64)
    assert (buf.across, buf.instances) == (("D1", "D2"), 1)
    assert buf.ports == (Port("r1", "r"), Port("w1", "w"))
    assert arch.unrolls[Kind.CONV] == (Unroll("D1", Dim.K, 6), Unroll("D2", Dim.C))
    assert arch.unrolls[Kind.DENSE] == arch.unrolls[Kind.CONV]
    for kind in (Kind.POOL, Kind.DEPTHWISE, Kind.ELTWISE, Kind.MOVE):
        assert arch.unrolls[kind] == (Unroll("D1", Dim.G, 6),)


def test_precisions_and_operation_energy() -> None:
    page = SMALL.replace("-> 20 b,", "-> 20 b -> 16 b,").format(array="op 25 fJ", buf="")
    array = parse_arch(page).array
    assert (array.input_bits, array.weight_bits, array.partial_bits, array.output_bits) == (8, 4, 20, 16)
    assert array.op_pj == 0.025


def test_kinds_fall_back_on_related_ones() -> None:
    unrolls = small(array="unroll eltwise D2: OX  unroll dense D1: C").unrolls
    assert unrolls[Kind.DENSE] == (Unroll("D1", Dim.C),)
    for kind in (Kind.POOL, Kind.DEPTHWISE, Kind.ELTWISE, Kind.MOVE):
        assert unrolls[kind] == (Unroll("D2", Dim.OX),)


@pytest.mark.parametrize(
    ("written", "bits"),
    [
        ("96 b", 96),
        ("12 B", 96),
        ("1 Kb", 1000),
        ("1 KB", 8000),
        ("1 kB", 8000),
        ("1 Kib", 1024),
        ("1 KiB", 8192),
        ("1.5 KiB", 12288),
        ("2e3 b", 2000),
        ("1 Mb", 10**6),
        ("1 MiB", 8 * 2**20),
        ("10 Gb", 10**10),
        ("1 GiB", 8 * 2**30),
        ("64KiB", 64 * 8192),
    ],
)
def test_sizes(written: str, bits: int) -> None:
    page = SMALL.replace("1 KiB", written).format(array="", buf="")
    assert parse_arch(page).memories[0].size_bits == bits


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("width 512 b/cycle energy 2 pJ", (512, 512, 2.0, 2.0)),
        ("width 64 B energy 2 nJ", (512, 512, 2000.0, 2000.0)),
        ("read 512 b/cycle 17.2 pJ write 256 b 28.4 pJ", (512, 256, 17.2, 28.4)),
        ("read 17.2 pJ 512 b write 28.4 pJ width 8 b", None),
        ("width = 8 b read = 1 pJ write = 5 fJ", (8, 8, 1.0, 0.005)),
        ("width 8 b energy 0 pJ", (8, 8, 0.0, 0.0)),
    ],
)
def test_accesses(written: str, expected: tuple[float, ...] | None) -> None:
    page = SMALL.replace("width 64 b  energy 6 pJ", written).format(array="", buf="")
    if expected is None:
        with pytest.raises(HardwareError, match="given twice"):
            parse_arch(page)
        return
    buf = parse_arch(page).memories[0]
    assert (buf.read_bits_per_cycle, buf.write_bits_per_cycle, buf.read_pj, buf.write_pj) == expected


def test_smallest_accesses() -> None:
    buf = small(buf="min read 8 b min write 16 b").memories[0]
    assert (buf.min_read_bits, buf.min_write_bits) == (8, 16)
    buf = small(buf="min 4 B").memories[0]
    assert (buf.min_read_bits, buf.min_write_bits) == (32, 32)


def test_instances() -> None:
    reg = "memory reg { holds W size 1 B width 8 b energy 0 pJ across %s } path W: array <- reg <- buf <- dram"
    for across, instances in (("D1", 4), ("D2", 8), ("none", 32), ("D2, D1", 1)):
        page = SMALL.format(array="", buf="").replace("path W: array <- buf <- dram", reg % across)
        arch = parse_arch(page)
        memory = next(m for m in arch.memories if m.name == "reg")
        assert memory.instances == instances
        assert arch.memories[arch.paths[Role.W][0]] is memory
        assert [m.name for m in arch.memories] == ["reg", "buf", "dram"]  # a register comes before what feeds it


def test_fetch_new_is_kept_printed_and_overridden() -> None:
    assert not small().memories[0].fetch_new
    page = SMALL.format(array="", buf="fetch new")
    arch = parse_arch(page)
    assert [m.fetch_new for m in arch.memories] == [True, False]
    assert parse_arch(format_arch(arch)).without_places == arch.without_places
    whole = parse_arch(page + "accelerator other extends small { memory buf { fetch whole } }")
    assert not whole.memories[0].fetch_new and "fetch" not in format_arch(whole)
    inherited = parse_arch(page + "accelerator other extends small { memory buf { size 2 KiB } }")
    assert inherited.memories[0].fetch_new
    chip = parse_arch("accelerator sliding extends meta_proto_df { memory lb_io { fetch new } }")
    assert [m.name for m in chip.memories if m.fetch_new] == ["lb_io"]


def test_fetch_new_needs_an_input() -> None:
    with pytest.raises(HardwareError) as caught:
        parse_arch("accelerator sliding extends meta_proto_df { memory rf_o { fetch new } }")
    assert caught.value.code == "HW055"
    parse_arch("accelerator whole extends meta_proto_df { memory rf_o { fetch whole } }")


RD, WU, RU, WD = Move.READ_DOWN, Move.WRITE_UP, Move.READ_UP, Move.WRITE_DOWN


@pytest.mark.parametrize(
    ("ports", "output", "weight"),
    [
        ("1r 1w", {RD: "r1", RU: "r1", WD: "w1", WU: "w1"}, {RD: "r1", RU: "r1", WD: "w1", WU: "w1"}),
        ("2r 2w", {RD: "r1", RU: "r2", WD: "w1", WU: "w2"}, {RD: "r1", RU: "r1", WD: "w1", WU: "w1"}),
        ("1rw", {RD: "rw1", RU: "rw1", WD: "rw1", WU: "rw1"}, {RD: "rw1", RU: "rw1", WD: "rw1", WU: "rw1"}),
        ("2rw", {RD: "rw1", RU: "rw2", WD: "rw2", WU: "rw1"}, {RD: "rw1", RU: "rw1", WD: "rw2", WU: "rw2"}),
        ("1r 1rw", {RD: "r1", RU: "rw1", WD: "rw1", WU: "rw1"}, {RD: "r1", RU: "r1", WD: "rw1", WU: "rw1"}),
        ("1w 1rw", {RD: "rw1", RU: "rw1", WD: "w1", WU: "rw1"}, {RD: "rw1", RU: "rw1", WD: "w1", WU: "w1"}),
        (
            "2r 1w  port r2: W read down, O read down  port r1: O read up",
            {RD: "r2", RU: "r1", WD: "w1", WU: "w1"},
            {RD: "r2", RU: "r2", WD: "w1", WU: "w1"},
        ),
    ],
)
def test_ports(ports: str, output: dict[Move, str], weight: dict[Move, str]) -> None:
    buf = small(buf=f"ports {ports}").memories[0]
    for role, expected in ((Role.O, output), (Role.W, weight)):
        assert {move: buf.ports[buf.port_of[role, move]].name for move in Move} == expected


def test_extends_overrides_single_properties() -> None:
    base = load_arch("meta_proto_df")
    page = "accelerator half extends meta_proto_df { memory lb_io { size 32 KiB  write 20 pJ } clock 2 GHz }"
    half = parse_arch(page)
    assert half.clock_hz == 2e9
    assert half.array == base.array and half.paths == base.paths and half.unrolls == base.unrolls
    for before, after in zip(base.memories, half.memories, strict=True):
        if before.name == "lb_io":
            assert (after.size_bits, after.write_pj) == (32 * 8192, 20.0)
            assert (after.read_pj, after.ports, after.port_of) == (before.read_pj, before.ports, before.port_of)
        else:
            assert before == after


def test_extends_removes_and_adds() -> None:
    arch = parse_arch("""
        accelerator big extends meta_proto_df {
          array { dims D1: 64  op 0.01 pJ  unroll pool D1: G }
          remove memory lb_w
          memory llc { holds I, W, O  size 8 MiB  width 2048 b  energy 900 pJ }
          path W: array <- rf_w <- gb_w <- llc <- dram
          path I: array <- lb_io <- gb_io <- llc <- dram
          path O: array <-> rf_o <-> lb_io <-> gb_io <-> llc <-> dram
        }""")
    assert arch.array.units == 2048
    assert arch.array.op_pj == 0.01
    assert [m.name for m in arch.memories] == ["rf_w", "rf_o", "gb_w", "lb_io", "gb_io", "llc", "dram"]
    assert arch.memories[0].instances == 128
    assert arch.unrolls[Kind.POOL] == (Unroll("D1", Dim.G),)
    assert arch.unrolls[Kind.ELTWISE] == load_arch("meta_proto_df").unrolls[Kind.ELTWISE]


def test_removed_memories_leave_inherited_paths() -> None:
    arch = parse_arch("accelerator flat extends meta_proto_df { remove memory lb_w remove memory gb_io }")
    names = {role: [arch.memories[i].name for i in path] for role, path in arch.paths.items()}
    assert names == {
        Role.W: ["rf_w", "gb_w", "dram"],
        Role.I: ["lb_io", "dram"],
        Role.O: ["rf_o", "lb_io", "dram"],
    }


def test_new_ports_or_operands_drop_inherited_rules() -> None:
    base = SMALL.format(array="", buf="ports 2r 1w port r2: I read down")
    arch = parse_arch(base + "accelerator other extends small { memory buf { ports 1rw } }")
    assert {arch.memories[0].ports[i].name for i in arch.memories[0].port_of.values()} == {"rw1"}
    kept = parse_arch(base + "accelerator other extends small { memory buf { size 2 KiB } }")
    assert kept.memories[0].port_of[Role.I, RD] == 1


def test_several_accelerators() -> None:
    page = "accelerator c extends b { } accelerator a extends meta_proto { } accelerator b extends a { clock 2 GHz }"
    assert parse_arch(page).name == "b"
    assert parse_arch(page, name="c").clock_hz == 2e9
    assert parse_arch(page, name="a").clock_hz == 1e9


def test_extends_looks_in_the_folder_first(tmp_path: Path) -> None:
    (tmp_path / "meta_proto.hw").write_text("accelerator meta_proto extends meta_proto { clock 3 GHz }")
    (tmp_path / "mine.hw").write_text("accelerator mine extends meta_proto { }")
    assert load_arch(tmp_path / "mine.hw").clock_hz == 3e9
    assert load_arch(str(tmp_path / "mine.hw")).source == str(tmp_path / "mine.hw")


def test_notes_comments_and_line_ends() -> None:
    page = SMALL.format(array="", buf="").replace("array {", 'note "one # two" # three\n  array {')
    arch = parse_arch(page.replace("\n", "\r\n"))
    assert arch.notes == ("one # two",)
    assert arch.without_places == parse_arch(page).without_places


@pytest.mark.parametrize("name", library())
def test_library_prints_and_parses(name: str) -> None:
    arch = load_arch(name)
    again = parse_arch(format_arch(arch))
    assert again.without_places == arch.without_places
    assert format_arch(again) == format_arch(arch)


# ---- random accelerators -----------------------------------------------------------------------------------------

names = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True).map(lambda s: f"m_{s}")
energies = st.one_of(st.sampled_from([0.0, 0.04, 700.0]), st.floats(1e-6, 1e6))
port_counts = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)).filter(
    lambda c: c[2] > 0 or (c[0] > 0 and c[1] > 0)
)


@st.composite
def arrays(draw: st.DrawFn) -> OperationalArray:
    sizes = draw(st.lists(st.integers(1, 64), min_size=1, max_size=4))
    dims = tuple(ArrayDim(f"D{i}", size) for i, size in enumerate(sizes, 1))
    bits = draw(st.tuples(*[st.integers(1, 32)] * 4))
    return OperationalArray(dims, draw(energies), draw(energies), *bits)


@st.composite
def memories(
    draw: st.DrawFn, name: str, roles: tuple[Role, ...], across: tuple[str, ...], array: OperationalArray
) -> Memory:
    widths = draw(st.tuples(st.integers(1, 4096), st.integers(1, 4096)))
    least = tuple(draw(st.integers(1, width)) for width in widths)
    counts = zip(("r", "w", "rw"), draw(port_counts), strict=True)
    ports = tuple(Port(f"{kind}{i + 1}", kind) for kind, count in counts for i in range(count))
    readers = [i for i, p in enumerate(ports) if "r" in p.kind]
    writers = [i for i, p in enumerate(ports) if "w" in p.kind]
    port_of = {
        (role, move): draw(st.sampled_from(readers if move in (RD, RU) else writers)) for role in roles for move in Move
    }
    return Memory(
        name=name,
        roles=roles,
        size_bits=draw(st.one_of(st.integers(128, 10**12), st.sampled_from([8192, 2**23, 10**10]))),
        read_bits_per_cycle=widths[0],
        write_bits_per_cycle=widths[1],
        read_pj=draw(energies),
        write_pj=draw(energies),
        min_read_bits=least[0],
        min_write_bits=least[1],
        across=across,
        instances=prod(d.size for d in array.dims if d.name not in across),
        ports=ports,
        port_of=port_of,
        fetch_new=set(roles) != {Role.O} and draw(st.booleans()),
    )


@st.composite
def unrollings(draw: st.DrawFn, array: OperationalArray) -> tuple[Unroll, ...]:
    dims = draw(st.lists(st.sampled_from(array.dims), unique=True))
    loops = draw(st.lists(st.sampled_from(list(Dim)), min_size=len(dims), max_size=len(dims), unique=True))
    pairs = zip(dims, loops, strict=True)
    return tuple(Unroll(dim.name, loop, draw(st.integers(0, dim.size))) for dim, loop in pairs)


@st.composite
def arches(draw: st.DrawFn) -> Arch:
    """Random accelerators: each memory holds random roles, serves ever more of the array, and the last holds all."""
    array = draw(arrays())
    labels = draw(st.lists(names, min_size=1, max_size=6, unique=True))
    all_dims = tuple(d.name for d in array.dims)
    served = sorted(draw(st.lists(st.integers(0, len(all_dims)), min_size=len(labels), max_size=len(labels))))
    role_sets = [tuple(p) for n in (1, 2, 3) for p in permutations(Role, n)]
    made: list[Memory] = []
    for i, label in enumerate(labels):
        last = i == len(labels) - 1
        roles = draw(st.sampled_from([p for p in role_sets if len(p) == 3 or not last]))
        made.append(draw(memories(label, roles, all_dims[: served[i]], array)))
    kinds = (Kind.CONV, Kind.DENSE, Kind.DEPTHWISE, Kind.POOL, Kind.ELTWISE, Kind.MOVE)
    return Arch(
        name=draw(names),
        array=array,
        memories=tuple(made),
        paths={role: tuple(i for i, m in enumerate(made) if role in m.roles) for role in Role},
        unrolls={kind: draw(unrollings(array)) for kind in kinds},
        clock_hz=draw(st.one_of(st.sampled_from([1e9, 2.5e8, 1.0]), st.floats(1.0, 1e12))),
        notes=tuple(draw(st.lists(st.from_regex(r"[ -!#-~]*", fullmatch=True), max_size=2))),
    )


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(arches())
def test_printing_is_the_inverse_of_parsing(arch: Arch) -> None:
    page = format_arch(arch)
    assert parse_arch(page).without_places == arch.without_places, page


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_pages_never_crash(data: st.DataObject) -> None:
    """Cut, doubled or scrambled pages parse or give a HardwareError, nothing else."""
    text = (Path(__file__).parents[1] / "hwdsl" / "lib" / "meta_proto_df.hw").read_text(encoding="utf-8")
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 40)))
    junk = data.draw(st.one_of(st.text(max_size=4), st.sampled_from(["{", "}", " x ", ",", "64 KiB", "1e99 ", "-1"])))
    try:
        parse_arch(text[:start] + junk + text[stop:])
    except HardwareError as error:
        assert error.render().startswith("error[HW0")


def test_the_manual_s_pages_are_right() -> None:
    manual = (Path(__file__).parents[1] / "docs" / "hardware-language.md").read_text(encoding="utf-8")
    blocks = [block for block in manual.split("```")[1::2] if "accelerator " in block]
    assert len(blocks) == 2
    wide = parse_arch(blocks[0])
    assert (wide.name, wide.clock_hz, wide.memories[1].size_bits) == ("small_wide", 5e8, 128 * 8192)
    assert parse_arch(blocks[1]).name == "my_chip"
