"""The best mapping of a nest, proved: for energy, time, their product, or energy within a limit of time.

Everything goes through :func:`search_mapping`. docs/mapping-search.md explains why it finds the best.
"""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter

from dfc.backend_cost.cost_model import EXACT, CostModel
from dfc.backend_cost.lattice import prime_factors
from dfc.backend_cost.least_compiled import can_tell, solve
from dfc.backend_cost.mapping_best import FEW_LOOPS, Answer, MappingSearch
from dfc.backend_cost.mapping_cost import MappingCost, Objective, TooSmall
from dfc.backend_cost.mapping_energy import TIE, LeastEnergy, least_energy
from dfc.backend_cost.mapping_rules import LayerRules
from dfc.backend_cost.mapping_slide import sliding_cuts
from dfc.backend_cost.mapping_space import mapping_space
from dfc.backend_cost.nest import Nest
from dfc.errors import InfeasibleError
from dfc.hwdsl.arch import Arch
from dfc.ir import Sizes

#: a loop with a prime factor above SMOOTH may have up to one idle step in PADDING, to be a product of smaller ones
SMOOTH = 7
PADDING = 8


def search_mapping(
    nest: Nest,
    arch: Arch,
    objective: Objective = Objective.ENERGY,
    model: CostModel = EXACT,
    *,
    max_cycles: int | None = None,
    rules: LayerRules | None = None,
) -> MappingCost | TooSmall:
    """The best temporal mapping of a nest, or which memory is too small for any.

    Loops with a large prime factor are also tried with a few idle steps (:func:`padded_steps`); the mapping's loops
    say so.
    ``max_cycles`` keeps mappings that take longer out, ``rules`` those that break a user's rules; where the rules leave
    nothing, the answer is :class:`TooSmall` of the output's uppermost memory and 0 bits.

    Raises:
        InfeasibleError: MAP030 where none takes at most ``max_cycles``.
    """
    problems: list[tuple[MappingSearch, LeastEnergy]] = []
    failed: TooSmall | None = None
    few = sum(len(prime_factors(n)) for n in nest.temporal) <= FEW_LOOPS  # with idle steps, they may be more
    for steps in [None, *padded_steps(nest, model)]:
        padded = nest if steps is None else nest.with_steps(steps)
        found = _problem(padded, arch, (objective, max_cycles), model, rules, few=few)
        if isinstance(found, TooSmall):
            failed = failed or found
        else:
            problems.append(found)
    if not problems:
        assert failed is not None
        return failed
    answers: list[Answer] = []
    if objective is Objective.ENERGY and max_cycles is None:
        for search, least in sorted(problems, key=lambda p: p[1].bound_pj):
            if answers and least.bound_pj > min(a.score for a in answers) * (1 + TIE):
                break  # nor can those after it be better
            if any(least.bound_pj >= a.score * (1 - TIE) and search.ideal > a.cycles * (1 + TIE) for a in answers):
                continue  # of equal energy at best, and slower even without a stall
            answers.append(search.energy(least))
    else:
        for search, least in sorted(problems, key=lambda p: p[0].outlook(p[1])):
            known = min(((a.score, a.energy_pj, a.cycles) for a in answers), default=search.known)
            if search.outlook(least) > known[0] * (1 + TIE):
                break
            search.known = search.known if search.slides else known
            answer = search.search(least)
            answers += [] if answer is None else [answer]
    if not answers:
        raise InfeasibleError(
            "MAP030",
            f"no mapping of the layer's tile takes at most {max_cycles:,} cycles",
            place=arch.name,
            hint=f"the array alone needs {nest.cycles:,} cycles; allow more, or widen the memories' ports",
        )
    bound = min(a.bound for a in answers)
    for key in (attrgetter("score"), attrgetter("energy_pj"), attrgetter("cycles")):
        least_key = min(map(key, answers)) * (1 + TIE)
        answers = [a for a in answers if key(a) <= least_key]
    best = answers[0]
    return replace(best.cost(), gap=0.0 if best.score <= bound * (1 + TIE) else 1 - bound / best.score)


def _problem(
    nest: Nest, arch: Arch, goal: tuple[Objective, int | None], model: CostModel, rules: LayerRules | None, *, few: bool
) -> tuple[MappingSearch, LeastEnergy] | TooSmall:
    """The search for one nest and its mapping of least energy, or what leaves none."""
    space = mapping_space(nest, arch, model)
    nothing = TooSmall(nest.operands[0].memories[-1], 0)
    if rules is None and not sliding_cuts(space) and can_tell(space):
        solved = solve(space)
        if isinstance(solved, TooSmall):
            return solved
        some, chain = solved
        return nothing if chain is None else (MappingSearch(space, some, *goal, rules, few=few), chain)
    if rules is not None and not rules.orderable(space.lattice):
        return nothing
    regions = space.regions(None if rules is None else rules.allowed(space))
    if isinstance(regions, TooSmall):
        return regions
    search = MappingSearch(space, regions, *goal, rules, few=few)
    least = least_energy(space, regions)
    if least is not None and search.slides:  # what its memories fetch may be less than what the tables say
        lowest = least_energy(space, regions, search.floor_pj)
        least = replace(least, bound_pj=0.0 if lowest is None else lowest.bound_pj)
    return nothing if least is None else (search, least)


def padded_steps(nest: Nest, model: CostModel) -> list[Sizes]:
    """Loop sizes with a few idle steps that split better, where a loop has a large prime factor; each alone and all.

    Only a model that prices idle steps has them: the reference's does not.
    """
    if not model.whole_lanes or nest.steps is not None:
        return []
    smooth = {
        d: next((n for n in range(t + 1, t + t // PADDING + 1) if max(prime_factors(n)) <= SMOOTH), t)
        for d, t in enumerate(nest.temporal)
        if t > SMOOTH and max(prime_factors(t)) > SMOOTH
    }
    changes = [{d: n} for d, n in smooth.items() if n > nest.temporal[d]]
    if len(changes) > 1:
        changes.append({d: n for change in changes for d, n in change.items()})
    return [tuple(change.get(d, t) for d, t in enumerate(nest.temporal)) for change in changes]
