"""What an execution found: maps that were compared, claims that were counted again, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dfc.execution.counting import Claim, Peak
from dfc.execution.fault import Finding
from dfc.execution.memory import Array
from dfc.execution.tile_run import Counts

#: floats may differ by this part of the tensor's range, as additions come in another order
FLOAT_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Compared:
    """A map that was compared: how many elements, the largest difference, and the range of the true values."""

    tensor: str
    elements: int
    worst: float
    range: float
    exact: bool


@dataclass
class Verification:
    """What was found.

    sampled: how many rows of tiles (of a network over time, steps) ran, and how many there are; None where all ran.
    steps:   of a network over time, how many steps ran, and how many of these came before outputs were valid.
    outputs: of a network over time, with what they were compared.
    ran:     how many tiles ran of each (stack, class).
    """

    name: str
    hw: str
    stacks: int
    inputs: str = ""
    tiles: int = 0
    compared: list[Compared] = field(default_factory=list[Compared])
    findings: list[Finding] = field(default_factory=list[Finding])
    sampled: tuple[int, int] | None = None
    steps: tuple[int, int] | None = None
    outputs: str = ""
    claims: list[Claim] = field(default_factory=list[Claim])
    peaks: list[Peak] = field(default_factory=list[Peak])
    ran: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    counts: Counts = field(default_factory=Counts)


def value_range(data: Array) -> float:
    """The range of finite values, at least a tiny one."""
    if data.dtype.kind != "f" or not data.size:
        return 0.0
    finite = data[np.isfinite(data)]
    return float(finite.max() - finite.min()) or float(np.abs(finite).max(initial=0.0)) if finite.size else 0.0


def difference(
    tensor: str, data: Array, want: Array, scale: float | None = None
) -> tuple[tuple[int, ...] | None, Compared]:
    """(the first element that differs by more than it may, what was compared)."""
    if data.dtype.kind != "f":
        wrong = data != want
        worst = float(np.abs(data.astype(np.float64) - want.astype(np.float64)).max(initial=0.0))
        found = Compared(tensor, data.size, worst, 0.0, exact=True)
    else:
        scale = value_range(want) if scale is None else scale
        with np.errstate(invalid="ignore"):
            apart = np.abs(data.astype(np.float64) - want.astype(np.float64))
        same = (data == want) | (np.isnan(data) & np.isnan(want))
        wrong = ~same & ~(apart <= FLOAT_TOLERANCE * scale)
        worst = float(np.where(same, 0.0, apart).max(initial=0.0))
        found = Compared(tensor, data.size, worst, scale, exact=False)
    if not wrong.any():
        return None, found
    at = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return tuple(int(i) for i in at), found
