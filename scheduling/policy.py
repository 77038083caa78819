"""The rules by which networks are cut into tiles and placed in memories: ours, and the reference's to compare with."""

from __future__ import annotations

from dataclasses import dataclass

from dfc.backend_cost.cost_model import DEFINES, EXACT, CostModel
from dfc.passes.tiles import Order
from dfc.scheduling.engine import StackPricer
from dfc.scheduling.fitted import FittedPricer


@dataclass(frozen=True)
class Policy:
    """A set of rules.

    pricer:          places a plan's tensors, and prices it.
    model:           the cost model unless another is asked for.
    orders:          in which orders tiles may be walked.
    remainder_first: whether what does not divide evenly makes the first row and column of tiles smaller, or the last.
    cut_whole_maps:  whether a layer that needs whole maps opens a new stack.
    fits:            whether everything that is alive at once has room.
    """

    name: str
    pricer: type[StackPricer]
    model: CostModel
    orders: tuple[Order, ...]
    remainder_first: bool
    cut_whole_maps: bool
    fits: bool


OURS = Policy("dfc", FittedPricer, EXACT, (Order.ROWS, Order.COLUMNS), False, True, True)
#: as DeFiNES (HPCA 2023): sections B.a to B.d of the reference, without its defects
REFERENCE = Policy("defines", StackPricer, DEFINES, (Order.ROWS,), True, False, False)
