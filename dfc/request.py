"""What the user asks of a compilation: the options, checked, without a model or a chip."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from dfc.backend_cost.cost_model import EXACT, CostModel, model_by_name
from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.mapping_rules import MappingRules
from dfc.backend_cost.spatial_search import Spatial
from dfc.errors import UsageError
from dfc.passes.tiles import OVERLAPS, Order, Overlap
from dfc.scheduling.baselines import Wanted
from dfc.scheduling.constraints import Constraints, StackChoice
from dfc.scheduling.policy import OURS, REFERENCE, Policy


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for, checked."""

    objective: Objective
    overlaps: tuple[Overlap, ...]
    tile: tuple[int, int] | None
    stacks: str
    model: CostModel = EXACT
    rules: MappingRules = field(default_factory=MappingRules)
    spatial: Spatial = Spatial.PREFER
    policy: Policy = OURS
    orders: tuple[Order, ...] = OURS.orders
    baselines: Wanted = Wanted.AUTO
    constraints: Constraints = field(default_factory=Constraints)

    @property
    def choice(self) -> StackChoice:
        """What may be chosen for stacks of which the constraints say nothing."""
        return StackChoice(self.tile, self.overlaps, self.orders, mixed=len(self.overlaps) > 1 and self.policy.fits)


def parse_objective(objective: str) -> Objective:
    """What is to be least.

    Raises:
        UsageError: CLI001.
    """
    if objective not in list(Objective):
        hint = "one of energy, latency, edp"
        raise UsageError("CLI001", f"unknown objective {objective!r}", place="--objective", hint=hint)
    return Objective(objective)


def parse_request(
    objective: str,
    overlap: str,
    tile: str,
    stacks: str,
    model: str | None = None,
    spatial: str = Spatial.PREFER,
    order: str = "auto",
    reproduce: str | None = None,
    baselines: str = Wanted.AUTO,
) -> Request:
    """Check the options of a compilation.

    Raises:
        UsageError: CLI001 objective, CLI002 overlap, CLI003 tile, CLI009 cost model, CLI055 spatial unrolling,
            CLI056 order of tiles, CLI057 what is to be reproduced, or another option that contradicts it, CLI070
            baselines.
    """
    policy = _policy(model, order, reproduce)
    goal = parse_objective(objective)
    if overlap != "auto" and overlap not in list(Overlap):
        known = ", ".join(["auto", *Overlap])
        raise UsageError("CLI002", f"unknown overlap mode {overlap!r}", place="--overlap", hint=f"one of {known}")
    size = None
    if tile != "auto":
        match = re.fullmatch(r"0*([1-9][0-9]{0,8})x0*([1-9][0-9]{0,8})", tile)
        if match is None:
            raise UsageError(
                "CLI003",
                f"a tile is written as WIDTHxHEIGHT with both at least 1, not {tile!r}",
                place="--tile",
                hint="for example --tile 60x72, or --tile auto",
            )
        size = (int(match[1]), int(match[2]))
    if spatial not in list(Spatial):
        known = ", ".join(Spatial)
        raise UsageError("CLI055", f"no way to unroll is called {spatial!r}", place="--spatial", hint=f"one of {known}")
    if baselines not in list(Wanted):
        known = ", ".join(Wanted)
        raise UsageError(
            "CLI070", f"no baselines are called {baselines!r}", place="--baselines", hint=f"one of {known}"
        )
    return Request(
        goal,
        OVERLAPS if overlap == "auto" else (Overlap(overlap),),
        size,
        stacks,
        policy.model if model is None else model_by_name(model),
        spatial=Spatial(spatial),
        policy=policy,
        orders=policy.orders if order == "auto" else (Order(order),),
        baselines=Wanted(baselines),
    )


def _policy(model: str | None, order: str, reproduce: str | None) -> Policy:
    """The rules that were asked for."""
    if order != "auto" and order not in list(Order):
        known = ", ".join(["auto", *Order])
        raise UsageError("CLI056", f"no order of tiles is called {order!r}", place="--order", hint=f"one of {known}")
    if reproduce is None:
        return OURS
    if reproduce != REFERENCE.name:
        hint = f"the one reference is {REFERENCE.name}"
        raise UsageError("CLI057", f"no reference is called {reproduce!r}", place="--reproduce", hint=hint)
    if model not in (None, REFERENCE.model.name):
        hint = "leave --cost-model out"
        message = f"the reference has the cost model '{REFERENCE.model.name}', not '{model}'"
        raise UsageError("CLI057", message, place="--cost-model", hint=hint)
    if order != "auto" and Order(order) not in REFERENCE.orders:
        message = "the reference walks tiles row by row"
        raise UsageError("CLI057", message, place="--order", hint="leave --order out")
    return REFERENCE
