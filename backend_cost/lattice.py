"""The points at which loop orders can be cut: all products of some of the temporal loops' prime factors.

A point is a product per dimension. Points form a lattice with one axis per prime factor of a loop: a point lies below
another if its products divide the other's. A loop order is a path from the least point to the greatest.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod

import numpy as np

from dfc.backend_cost.grid import Grid, grid_of
from dfc.backend_cost.nest import Loop
from dfc.backend_cost.tables import Bools, Floats, Ints
from dfc.ir import N_DIMS, Dim, Sizes


@lru_cache(maxsize=4096)
def prime_factors(number: int) -> tuple[int, ...]:
    """Prime factors in ascending order; none for 1."""
    found: list[int] = []
    divisor = 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return (*found, number) if number > 1 else tuple(found)


@dataclass(frozen=True, eq=False)
class Lattice:
    """All points of a nest's temporal loops.

    loops:     per axis its dimension and prime, in the order of the dimensions, then of the primes.
    shape:     per axis the exponents it takes, (axes,); one axis of one point where no loop is left to run in time.
    points:    products per dimension, (points, N_DIMS), in C order of the axes.
    exponents: (points, axes).
    grid:      of the points, for the tables.
    """

    loops: tuple[Loop, ...]
    shape: Ints
    points: Floats
    exponents: Ints
    grid: Grid

    @cached_property
    def degree(self) -> Ints:
        """How many prime factors lie below each point, (points,)."""
        found: Ints = self.exponents.sum(axis=1)
        return found

    @cached_property
    def strides(self) -> list[int]:
        """By how many points a step along each axis goes."""
        shape: list[int] = self.shape.tolist()
        return [prod(shape[a + 1 :]) for a in range(len(shape))]

    @property
    def top(self) -> int:
        """The greatest point: everything lies below."""
        return len(self.points) - 1

    def between(self, low: int, high: int) -> list[Loop]:
        """The prime factors from one point to a greater one, the dimensions in order, each one's primes ascending."""
        steps: list[int] = (self.exponents[high] - self.exponents[low]).tolist()
        return [loop for loop, times in zip(self.loops, steps, strict=False) for _ in range(times)]

    def index(self, products: Ints) -> int:
        """The point with these products per dimension (N_DIMS,)."""
        return int(np.flatnonzero((self.points == products).all(axis=1))[0])

    def complete(self, dims: list[Dim]) -> Bools:
        """Whether all loops over ``dims`` lie below each point."""
        done: Bools = (self.points[:, dims] == self.points[-1, dims]).all(axis=1)
        return done


@lru_cache(maxsize=1024)
def lattice(temporal: Sizes) -> Lattice:
    """The lattice of loops of these sizes."""
    primes = [(Loop(d, p), n) for d in Dim for p, n in sorted(Counter(prime_factors(temporal[d])).items())]
    shape = [n + 1 for _, n in primes] or [1]
    exponents = np.indices(shape).reshape(len(shape), -1).T
    points = np.ones((prod(shape), N_DIMS))
    for axis, (loop, _) in enumerate(primes):
        points[:, loop.dim] *= float(loop.size) ** exponents[:, axis]
    return Lattice(
        tuple(loop for loop, _ in primes),
        np.array(shape, dtype=np.int64),
        points,
        np.ascontiguousarray(exponents, dtype=np.int64),
        grid_of(points, temporal),
    )
