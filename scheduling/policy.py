"""The rules by which networks are cut into tiles and placed in memories: ours, and the reference's to compare with."""

from __future__ import annotations

from dataclasses import dataclass

from dfc.backend_cost.cost_model import DEFINES, EXACT, CostModel
from dfc.errors import RulesError
from dfc.passes.tiles import Order
from dfc.scheduling.constraints import StackRules
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

    def check(self, wanted: StackRules) -> None:
        """Does the user ask for nothing of a stack that these rules lack?

        Raises:
            RulesError: MAP046.
        """
        for block in wanted.blocks.values():
            hint = f"leave this line out, or --reproduce {self.name}"
            if block.order and not set(self.orders) & set(block.order.value):
                message = "the reference walks tiles row by row"
                raise RulesError("MAP046", message, span=block.order.span, hint=hint)
            if block.maps and not self.fits:
                message = "the reference has one mode for all maps of a stack"
                raise RulesError("MAP046", message, span=block.maps[0][0].span, hint=hint)
            if block.on_chip and block.on_chip.value and not self.fits:
                message = "the reference hands all maps over off chip"
                raise RulesError("MAP046", message, span=block.on_chip.span, hint=hint)


OURS = Policy("dfc", FittedPricer, EXACT, (Order.ROWS, Order.COLUMNS), False, True, True)
#: as DeFiNES (HPCA 2023): sections B.a to B.d of the reference, without its defects
REFERENCE = Policy("defines", StackPricer, DEFINES, (Order.ROWS,), True, False, False)
