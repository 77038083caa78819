from typing import Any

import numpy.typing as npt

Buffer = npt.NDArray[Any]

MOST_OPERANDS: int
MOST_BOUNDARIES: int
MOST_FLOWS: int
MOST_PORTS: int
MOST_PAIRS: int
MOST_HELD: int

def run(
    layout: Buffer,
    numbers: Buffer,
    values: Buffer,
    stays: Buffer,
    periods: Buffer,
    point: Buffer,
    cuts: Buffer,
    double: Buffer,
    result: Buffer,
) -> None: ...
def granted(
    slots: Buffer,
    sizes: Buffer,
    accesses: Buffer,
    parts: tuple[Buffer, ...],
    point: Buffer,
    cuts: Buffer,
    result: Buffer,
) -> None: ...
