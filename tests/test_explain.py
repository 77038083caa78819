"""What dfc explain and dfc simulate say: a recorded text, sums that hold for any mapping, and runs end to end."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from brute_force import held_bits
from cli_helpers import HW, Cli, chain
from hypothesis import HealthCheck, given, settings
from nest_examples import Example, mapping, memory
from nest_strategies import Case, cases

from dfc.backend_cost.cost_model import DEFINES, EXACT, CostModel
from dfc.backend_cost.evaluate import effective_cuts
from dfc.backend_cost.explain import Cause, Port, Saved, Timing, explain, port_timing
from dfc.backend_cost.mapping_cost import tables_of
from dfc.backend_cost.rebuild import TileProblem, read_problem
from dfc.backend_cost.schedule import CopyEntry, Schedule
from dfc.backend_cost.simulate import simulate
from dfc.backend_cost.simulate_compare import compare
from dfc.errors import UsageError
from dfc.explain_nest import draw_nest
from dfc.explain_text import render_explanation
from dfc.hwdsl import Arch, Move, load_arch
from dfc.hwdsl.arch import Port as PortOf
from dfc.ir import Role
from dfc.simulate_text import render_comparison

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "data" / "explain_golden.txt"
NEST = ROOT / "examples" / "nests" / "conv3x3.json"

some = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def example(model: CostModel = DEFINES) -> TileProblem:
    """By the model that does not change."""
    return replace(read_problem(NEST.read_text(encoding="utf-8"), NEST.parent, None), model=model)


def of_case(case: Case, model: CostModel) -> TileProblem:
    return TileProblem(case.nest, case.arch, case.mapping, model, "a case")


def test_golden() -> None:
    """DFC_UPDATE_GOLDEN=1 writes the file anew; read the difference before you keep it."""
    problem = example()
    text = render_explanation(problem, explain(problem))
    if os.environ.get("DFC_UPDATE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("model", [DEFINES, EXACT])
def test_parts_sum_to_the_totals(model: CostModel) -> None:
    @some
    @given(cases())
    def check(case: Case) -> None:
        found = explain(of_case(case, model))
        memories = sum(f.energy_pj for f in found.flows)
        assert memories + found.cost.compute_pj == pytest.approx(found.cost.energy_pj)
        assert sum(found.energy_by_cause.values()) == pytest.approx(found.cost.energy_pj)
        for (index, role), pj in found.cost.memory_pj.items():
            mine = [f for f in found.flows if f.memory == index and found.nest.operands[f.operand].role is role]
            assert sum(f.energy_pj for f in mine) == pytest.approx(pj)
        assert sum(found.cycles_by_cause.values()) == found.cost.latency_cycles
        lates = [p.late_cycles for p in found.ports if p.late_cycles is not None]
        if lates and model is DEFINES:
            assert max(0, *lates, 0) == found.cost.stall_cycles

    check()


@pytest.mark.parametrize("model", [DEFINES, EXACT])
def test_memories_hold_what_allocation_counts(model: CostModel) -> None:
    """Counted element by element; sums are partial below lanes that still have to add them, save in the reference."""
    seen: Counter[str] = Counter()

    @settings(some, max_examples=200, derandomize=True)
    @given(cases())
    def check(case: Case) -> None:
        found = {(h.operand, h.memory): h.bits for h in explain(of_case(case, model)).held}
        assert found == held_bits(case.nest, case.arch, case.mapping, model)
        other = held_bits(case.nest, case.arch, case.mapping, DEFINES if model is EXACT else EXACT)
        seen["models differ"] += found != other
        seen["partial sums"] += case.nest.operands[0].partial_bits > case.nest.operands[0].bits

    check()
    assert min(seen.values()) >= 10, seen


@some
@given(cases())
def test_words_are_the_simulator_s(case: Case) -> None:
    found = explain(of_case(case, EXACT))
    counted = simulate(case.nest, case.arch, case.mapping, double_buffer=case.double_buffer).words
    for flow in found.flows:
        assert flow.words == pytest.approx(counted[flow.operand, flow.level, flow.move])


@some
@given(cases())
def test_the_drawing_has_every_loop_and_memory_once(case: Case) -> None:
    found = explain(of_case(case, EXACT))
    lines = draw_nest(found, 1000)
    assert sum("for " in line for line in lines) == len(case.mapping.loops)
    assert sum("parallel " in line for line in lines) == len(case.nest.unrolled)
    for operand, title in zip(case.nest.operands, re.finditer(r"(?<=  )\S+", lines[0]), strict=True):
        names = [case.arch.memories[m].name for m in operand.memories]
        column = [line[title.start() :].split(" ")[0] for line in lines[1:]]
        assert [cell for cell in column if cell in names] == names[::-1]


@some
@given(cases())
def test_no_line_is_wider_than_the_terminal(case: Case) -> None:
    for model in (DEFINES, EXACT):
        problem = of_case(case, model)
        assert max(map(len, render_explanation(problem, explain(problem), width=60).splitlines())) <= 60


def indices(text: str) -> list[int]:
    """The values of ``for OX in 0..8 by 4``."""
    match = re.search(r"(?:for|parallel) \w+ in 0\.\.(\d+)(?: by (\d+))?", text)
    assert match is not None
    return list(range(0, int(match[1]) + 1, int(match[2] or 1)))


@some
@given(cases())
def test_the_loops_of_a_dimension_reach_every_index_once(case: Case) -> None:
    lines = draw_nest(explain(of_case(case, EXACT)), 1000)
    for name in {loop.dim.name for loop in case.mapping.loops}:
        reached = [0]
        for line in lines:
            if f"for {name} in" in line or f"parallel {name} in" in line:
                reached = [before + more for before in reached for more in indices(line)]
        assert sorted(reached) == list(range(len(reached)))


def test_memories_without_a_loop_have_a_line_of_their_own() -> None:
    """W passes its middle memory by, and lives in one that no loop is left for."""
    levels = (memory("reg", "W"), memory("mid", "W"), memory("all", "OWI"))
    ex = Example({"K": 4, "C": 3}, levels, lanes=(("A", "K", 4),))
    problem = TileProblem(ex.nest, ex.arch, mapping("C3", (1,), (1, 1, 1), (1,)), EXACT, "")
    assert [line.rstrip() for line in draw_nest(explain(problem), 80)] == [
        "loop                       O    W    I",
        "-                               all",
        "-                               mid",
        "for C in 0..2              all  reg  all",
        "  parallel K in 0..3 on A  own  own  same",
    ]


def test_lanes_that_are_idle_at_times_are_told() -> None:
    ex = Example({"K": 5}, (memory("all", "OWI"),), lanes=(("A", "K", 3),))
    problem = TileProblem(ex.nest, ex.arch, mapping("K2", (1,), (1,), (1,)), EXACT, "")
    assert "parallel K in 0..2 on A, 2.5 of 3 on average" in "\n".join(draw_nest(explain(problem), 200))


def test_what_binds_follows_the_timing_that_is_put_in() -> None:
    """Another latency model says which ports are late; the drawing of it needs no more."""
    problem = example()
    lb_io = [m.name for m in problem.arch.memories].index("lb_io")
    late = Timing(frozenset({(0, 0)}), {(lb_io, 1): 123})
    found = explain(problem, lambda *_: late)
    assert found.busiest is not None
    assert (found.busiest.memory, found.busiest.late_cycles) == (lb_io, 123)
    assert [h.operand for h in found.held if h.double_buffered] == [0]
    silent = explain(problem, lambda *_: Timing(frozenset(), {}))
    assert all(p.late_cycles is None for p in silent.ports)
    assert silent.busiest is not None
    assert silent.busiest.busy_cycles == max(p.busy_cycles for p in silent.ports)


def free(arch: Arch, port: Port) -> Arch | None:
    """A chip where each direction of an operand has a port of its own instead of this one, very wide.

    None where the memory has another port of the same direction: a memory's ports are as wide as each other.
    """
    old = arch.memories[port[0]]
    wide = {move in (Move.READ_DOWN, Move.READ_UP) for (_, move), at in old.port_of.items() if at == port[1]}
    ports, port_of = list(old.ports), dict(old.port_of)
    for (role, move), at in old.port_of.items():
        if at == port[1]:
            port_of[role, move] = len(ports)
            ports.append(PortOf("free", "rw"))
        elif (move in (Move.READ_DOWN, Move.READ_UP)) in wide:
            return None
    read = 1 << 40 if True in wide else old.read_bits_per_cycle
    write = 1 << 40 if False in wide else old.write_bits_per_cycle
    new = replace(
        old, ports=tuple(ports), port_of=port_of, read_bits_per_cycle=read, write_bits_per_cycle=write, min_read_bits=1
    )
    return replace(arch, memories=(*arch.memories[: port[0]], new, *arch.memories[port[0] + 1 :]))


def single_buffer(read: int) -> TileProblem:
    """Four tiles of 4 inputs of 8 bits, each used in 12 steps, in a memory that has just room for one."""
    buf = replace(memory("buf", "I", write=4), size_bits=32)
    levels = (buf, memory("src", "I", read=read), memory("weights", "W"), memory("out", "O"))
    ex = Example({"C": 4, "K": 3, "OX": 4}, levels)
    return TileProblem(ex.nest, ex.arch, mapping("C4 K3 OX4", (3,), (3,), (1, 3)), EXACT, "a case")


def simulated(problem: TileProblem, arch: Arch | None = None, *double: tuple[int, int]) -> int:
    return simulate(problem.nest, arch or problem.arch, problem.mapping, double_buffer=frozenset(double)).total_cycles


BUF_W, SRC_R = (0, 1), (1, 0)
INPUT = 2  # operands stand in the order O, W, I


def test_stalls_of_a_port_by_hand() -> None:
    """A tile takes 8 cycles through buf's write port (32 bits, 4 per cycle), and nothing hides them: 4 x (8 + 12).

    With that port free it takes the one cycle of src's (1,024 bits per cycle): 4 x (1 + 12). With both free, none.
    With a second buffer only the first tile is waited for: 8 + 48. The model keeps a reserve of at most 4 % where
    transfers are hidden, so that it promises a little less.
    """
    problem = single_buffer(read=1024)
    found = explain(problem)
    assert found.cost.latency_cycles == 80 == simulated(problem)
    saved = found.saved
    assert saved is not None
    assert {port: cycles for port, cycles in saved.ports.items() if cycles} == {BUF_W: 28}
    assert simulated(problem, free(problem.arch, BUF_W)) == 52
    assert simulated(problem, free(problem.arch, SRC_R)) == 80
    assert (saved.ends, saved.bandwidth) == ({(SRC_R, BUF_W): 32}, 32)
    assert simulated(problem, None, (INPUT, 0)) == 56
    promised = 24 - round(0.04 * 80)
    assert (saved.buffers, saved.room) == ({(INPUT, 0): promised}, promised)
    assert (found.busiest and (found.busiest.memory, found.busiest.port, found.busiest.late_cycles)) == (*BUF_W, 28)
    text = render_explanation(problem, found, width=200)
    assert "infinitely wide, src r1 and buf w1 together would save 32, buf w1 would save 28; all of them 32" in text
    assert f"with a second buffer, I in buf would save {promised}; all of them {promised}" in text


def test_two_narrow_ends_stall_together() -> None:
    """As above with both ends 4 bits wide: neither helps alone, and a second buffer helps more than either."""
    problem = single_buffer(read=4)
    found = explain(problem)
    assert found.cost.latency_cycles == 80 == simulated(problem)
    saved = found.saved
    assert saved is not None
    assert not any(saved.ports.values())
    assert saved.ends == {(SRC_R, BUF_W): 32}
    assert simulated(problem, free(problem.arch, BUF_W)) == simulated(problem, free(problem.arch, SRC_R)) == 80
    both = free(problem.arch, BUF_W)
    assert both is not None
    assert simulated(problem, free(both, SRC_R)) == 80 - 32 + 4  # an access of the simulator takes a whole cycle


def test_verdicts() -> None:
    """The largest part of the time; of stalls, what saves most."""
    found = explain(single_buffer(read=4))
    assert found.binds is Cause.COMPUTE  # 48 of 80 cycles
    slow = replace(found, cost=replace(found.cost, stall_cycles=100))
    assert slow.binds is Cause.BANDWIDTH
    assert "time           bandwidth of src r1 and buf w1: " in render_explanation(example(), slow)
    assert slow.saved is not None
    roomy = replace(slow, saved=replace(slow.saved, room=33))
    assert roomy.binds is Cause.ROOM
    assert "time           room for second buffers: " in render_explanation(example(), roomy)
    single = replace(slow, saved=Saved({BUF_W: 5}, {}, 5, {}, 0))
    assert "time           bandwidth of buf w1: " in render_explanation(
        example(), replace(single, ports=tuple(replace(p, late_cycles=5) for p in found.ports if p.memory == 0)[1:])
    )
    assert replace(found, saved=None, cost=replace(found.cost, stall_cycles=100)).binds is Cause.BANDWIDTH
    assert replace(found, cost=replace(found.cost, loading_cycles=100)).binds is Cause.LOAD
    assert replace(found, copy_cycles=100).binds is Cause.COPY


def test_savings_are_the_simulator_s() -> None:
    """For most ports to a hundredth of the run: as close as the closed form is."""
    off: list[float] = []

    @settings(some, max_examples=80, derandomize=True)
    @given(cases())
    def check(case: Case) -> None:
        tables, batch = tables_of(case.nest, case.arch, case.mapping, EXACT)
        timed = port_timing(tables, batch, effective_cuts(tables, batch))
        assert timed.saved is not None
        assert timed.saved.bandwidth >= max([0, *timed.saved.ports.values(), *timed.saved.ends.values()])
        problem, double = of_case(case, EXACT), timed.double_buffered
        whole = simulated(problem, None, *double)
        for port, saved in timed.saved.ports.items():
            without = free(case.arch, port)
            if without is not None:
                off.append(abs(whole - simulated(problem, without, *double) - saved) / whole)

    check()
    assert len(off) > 100
    assert sum(o < 0.01 for o in off) / len(off) > 0.8
    assert sum(o < 0.1 for o in off) / len(off) > 0.9


@pytest.mark.parametrize("model", [DEFINES, EXACT])
def test_utilisation_by_hand(model: CostModel) -> None:
    """2 of 4 x 4 x 4 lanes at work; 5 channels on 2 lanes take 3 steps, so that 5 of 6 lane-steps count."""
    levels = (replace(memory("buf", "W"), size_bits=80), memory("all", "OWI"))
    ex = Example({"K": 5, "C": 16}, levels, lanes=(("A", "K", 2),))
    problem = TileProblem(ex.nest, ex.arch, mapping("C16 K3", (2,), (1, 2), (2,)), model, "a case")
    found = explain(problem)
    used, cost = found.used, found.cost
    assert cost.ideal_cycles == 48
    assert used.spatial == 2 / 48  # 80 operations on 64 units: two cycles
    times = (48 + cost.stall_cycles, 48 + cost.stall_cycles + cost.loading_cycles)
    assert used.temporal[:2] == (48 / times[0], 48 / times[1])
    assert used.array[:2] == (2 / times[0], 2 / times[1])
    assert used.array[2] == 2 / (times[1] + cost.offloading_cycles)
    lanes = 2 if model is EXACT else 5 / 3
    assert used.held[1, 0] == pytest.approx(round(lanes * 16) * 8 / 80)  # weights: 16 channels of each lane
    assert used.memories[1] == pytest.approx(sum(used.held[o, m] for o, m in ((0, 0), (1, 1), (2, 0))))
    text = render_explanation(problem, found)
    assert "while it runs" in text and f"buf {100 * used.memories[0]:.1f} %" in text


def test_copies_are_named_and_may_bind() -> None:
    base = explain(example())
    found = replace(
        base, copies=(CopyEntry("input", "x", 800, "dram", "lb_io"),), copy_cycles=10_000, copy_energy_pj=1e9
    )
    text = render_explanation(example(), found)
    assert "time           copies: 99.3 % of" in text
    assert "input 'x' 100 B dram -> lb_io" in text
    assert "energy         1.000 mJ: copies 100.0 %" in text


# -- simulator and model


def test_comparison_counts_the_differences() -> None:
    found = compare(example())
    assert all(w.simulated == pytest.approx(w.modelled) for w in found.words)
    assert "all words agree; energy" in render_comparison(found)
    off = replace(found.words[0], modelled=found.words[0].simulated * 1.5)
    text = render_comparison(replace(found, words=(off, *found.words[1:])))
    assert f"1 of {len(found.words)} counts of words differ" in text
    assert "+50.00 %" in text


def test_above_the_limit_nothing_is_simulated() -> None:
    with pytest.raises(UsageError, match="CLI050"):
        compare(example(), limit=1000)


# -- end to end


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    return Cli(tmp_path, capsys)


@pytest.fixture
def compiled(cli: Cli) -> Cli:
    assert cli("compile", chain(cli.folder / "net.onnx"), "--hw", HW, "--tile", "4x4", "-q").code == 0
    return cli


@pytest.mark.parametrize("model", ["defines", "exact"])
def test_the_cost_model_is_passed_on(cli: Cli, model: str) -> None:
    done = cli("compile", chain(cli.folder / "net.onnx"), "--hw", HW, "--tile", "8x8", "--cost-model", model)
    assert f"by cost model '{model}'" in done.out
    schedule = Schedule.from_json((cli.folder / "net.dfc" / "schedule.json").read_text(encoding="utf-8"))
    assert schedule.cost_model == model
    assert f"cost model     {model}" in cli("explain", "net.dfc", "--layer", "conv1").out


def test_explain_takes_a_folder_or_a_file(compiled: Cli) -> None:
    whole = compiled("explain", "net.dfc", "--layer", "conv2")
    assert (whole.code, whole.err) == (0, "")
    assert compiled("explain", "net.dfc/schedule.json", "--layer", "conv2").out == whole.out
    for title in ("Loop nest", "Memories", "Words", "Ports", "What binds"):
        assert f"\n{title}" in whole.out
    first = compiled("explain", "net.dfc", "--layer", "conv2", "--tile-class", "0").out
    assert first.startswith(f"conv2 on {HW}: tile class 0 (1 tile), ")


def test_simulate_agrees_with_the_model_on_every_tile(compiled: Cli) -> None:
    schedule = Schedule.from_json((compiled.folder / "net.dfc" / "schedule.json").read_text(encoding="utf-8"))
    for number in range(len(schedule.stacks[0].tile_classes)):
        done = compiled("simulate", "net.dfc", "--layer", "conv1", "--tile-class", number)
        assert done.code == 0
        assert "all words agree" in done.out


def test_a_nest_by_itself_is_explained_and_simulated(cli: Cli) -> None:
    assert "3x3 convolution of 8x8 positions" in cli("explain", NEST).out
    assert "all words agree" in cli("simulate", NEST, "--limit", "72x256").out


def test_colours_and_widths(compiled: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    for command in ("explain", "simulate"):
        assert max(map(len, compiled(command, "net.dfc", "--layer", "conv1").out.splitlines())) <= 60
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[1m" in compiled("explain", "net.dfc", "--layer", "conv1").out


@pytest.mark.parametrize(
    ("code", "place", "remedy", "arguments"),
    [
        ("CLI060", "schedule.json", "conv1", ["net.dfc", "--layer", "conf1"]),
        ("CLI060", "--layer", "conv1, conv2", ["net.dfc"]),
        ("CLI061", "--tile-class", "0 (1 tile)", ["net.dfc", "--layer", "conv1", "--tile-class", "99"]),
        ("CLI061", "--tile-class", "0 (1 tile)", ["net.dfc", "--layer", "conv1", "--tile-class=-1"]),
        ("CLI022", "nowhere", "check the path", ["nowhere", "--layer", "conv1"]),
        ("CLI020", "net.onnx.txt", "", ["net.onnx.txt", "--layer", "conv1"]),
        ("CLI020", "half.json", "", ["half.json", "--layer", "conv1"]),
    ],
)
@pytest.mark.parametrize("command", ["explain", "simulate"])
def test_bad_input_is_refused(
    compiled: Cli, command: str, code: str, place: str, remedy: str, arguments: list[str]
) -> None:
    (compiled.folder / "net.onnx.txt").write_text("no schedule", encoding="utf-8")
    text = (compiled.folder / "net.dfc" / "schedule.json").read_text(encoding="utf-8")
    (compiled.folder / "half.json").write_text(text[: len(text) // 2], encoding="utf-8")
    result = compiled(command, *arguments)
    assert (result.code, result.out) == (1, "")
    assert f"error[{code}]: " in result.err
    assert place in next(line for line in result.err.splitlines() if line.startswith("  --> "))
    assert remedy in result.err
    assert "Traceback" not in result.err


def test_a_layer_that_is_too_large_is_refused(compiled: Cli) -> None:
    result = compiled("simulate", "net.dfc", "--layer", "conv1", "--limit", "10x10")
    assert (result.code, result.out) == (1, "")
    assert "error[CLI050]: " in result.err and "limit is 100" in result.err


@pytest.mark.parametrize("limit", ["many", "10x", "x10", "-5", "1x2x3", ""])
def test_a_limit_is_a_number_or_a_product(compiled: Cli, limit: str) -> None:
    result = compiled("simulate", "net.dfc", "--layer", "conv1", f"--limit={limit}")
    assert result.code == 1
    assert "error[CLI052]: " in result.err


def test_names_cannot_command_the_terminal(compiled: Cli) -> None:
    path = compiled.folder / "net.dfc" / "schedule.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"conv1"', '"c\\u001b[2J"'), encoding="utf-8")
    done = compiled("explain", "net.dfc", "--layer", "c\x1b[2J")
    assert done.code == 0
    assert "\x1b" not in done.out + compiled("explain", "net.dfc", "--layer", "d\x1b[2J").err


def test_the_example_has_every_role_on_a_chip_of_the_library() -> None:
    assert {o.role for o in example().nest.operands} == set(Role)
    assert example().arch.without_places == load_arch(HW).without_places
