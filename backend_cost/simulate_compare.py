"""A mapping simulated step by step, beside what the exact model says of it."""

from __future__ import annotations

from dataclasses import dataclass

from dfc.backend_cost.cost_model import EXACT
from dfc.backend_cost.evaluate import effective_cuts
from dfc.backend_cost.explain import double_buffered, model_flows
from dfc.backend_cost.mapping_cost import cost_of, mapping_times, tables_of
from dfc.backend_cost.nest import operand_names
from dfc.backend_cost.rebuild import TileProblem
from dfc.backend_cost.simulate import LIMIT, Simulation, simulate
from dfc.hwdsl.arch import Move


@dataclass(frozen=True, slots=True)
class WordCount:
    """Words in one direction at one memory: counted by the simulator, and the model's."""

    operand: str
    memory: str
    move: Move
    simulated: float
    modelled: float


@dataclass(frozen=True, slots=True)
class CycleCount:
    """A time in cycles from the start; ``what`` says until when."""

    what: str
    simulated: int
    modelled: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Simulator and exact model on one mapping; energies in pJ."""

    problem: TileProblem
    simulation: Simulation
    words: tuple[WordCount, ...]
    cycles: tuple[CycleCount, ...]
    simulated_pj: float
    modelled_pj: float
    double_buffered: tuple[tuple[str, str], ...]  # (operand, memory)


def compare(problem: TileProblem, limit: int = LIMIT) -> Comparison:
    """Simulate a mapping with the double buffers that the model grants.

    Raises:
        UsageError: CLI050 where it has more than ``limit`` steps x lanes.
    """
    nest, arch = problem.nest, problem.arch
    tables, batch = tables_of(nest, arch, problem.mapping, EXACT)
    cuts = effective_cuts(tables, batch)
    double = double_buffered(tables, batch, cuts)
    found = simulate(nest, arch, problem.mapping, double_buffer=double, limit=limit)
    cost = cost_of(tables, batch, problem.mapping, mapping_times(tables, batch, cuts).row(0))
    modelled = {(f.operand, f.level, f.move): f.words for f in model_flows(tables, batch, problem.mapping, cuts)}
    names = operand_names(nest)

    def memory(operand: int, level: int) -> str:
        return arch.memories[nest.operands[operand].memories[level]].name

    words = [
        WordCount(names[i], memory(i, level), move, found.words[i, level, move], modelled.get((i, level, move), 0.0))
        for i, level, move in found.words
        if found.words[i, level, move] or modelled.get((i, level, move))
    ]
    loaded = cost.loading_cycles
    ran = loaded + cost.ideal_cycles + cost.stall_cycles
    cycles = (
        CycleCount("the first step starts", found.loading_cycles, loaded),
        CycleCount("the last step has ended", found.running_cycles, ran),
        CycleCount("the last output is out", found.total_cycles, ran + cost.offloading_cycles),
    )
    buffered = tuple((names[i], memory(i, level)) for i, level in sorted(double))
    return Comparison(problem, found, tuple(words), cycles, found.energy_pj(arch), cost.energy_pj, buffered)
