"""Which input positions an output interval needs: the halo arithmetic of depth-first tiles.

All intervals are half open, ``[lo, hi)``, in elements along one axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """Positions ``lo <= i < hi`` along one axis; empty when ``hi <= lo``."""

    lo: int
    hi: int

    @property
    def size(self) -> int:
        """How many positions it holds."""
        return max(0, self.hi - self.lo)

    def hull(self, other: Interval) -> Interval:
        """The smallest interval that holds both; an empty one counts for nothing."""
        if self.size == 0:
            return other
        if other.size == 0:
            return self
        return Interval(min(self.lo, other.lo), max(self.hi, other.hi))

    def moved(self, by: int) -> Interval:
        """The positions ``by`` further on."""
        return Interval(self.lo + by, self.hi + by)

    def clip(self, size: int) -> Interval:
        """What of it lies within ``[0, size)``."""
        lo = min(max(self.lo, 0), size)
        return Interval(lo, max(lo, min(self.hi, size)))


EMPTY = Interval(0, 0)


@dataclass(frozen=True, slots=True)
class AxisMap:
    """Output position ``o`` reads input positions ``floor((num*o + lo)/den) .. floor((num*o + hi)/den)``, inclusive.

    One form serves every operator along an axis:

    ================================== ==== === ========================= =======
    operator                           num  den lo                        hi
    ================================== ==== === ========================= =======
    convolution, pooling               s    1   -p                        d*(F-1)-p
    transposed convolution             1    s   p - d*(F-1) + s-1         p
    nearest resize by s, offset r      1    s   r                         r
    linear resize by s, offset r       1    s   r                         r + s
    slice from a with step s           s    1   a                         a
    the part at offset a of a concat   1    1   -a                        -a
    everything (global, reshaped)      0    1   0                         size-1
    ================================== ==== === ========================= =======

    Positions outside the input are padding and are clipped away by :meth:`needs`.
    """

    num: int = 1
    den: int = 1
    lo: int = 0
    hi: int = 0

    def __post_init__(self) -> None:
        if self.num < 0 or self.den < 1 or self.hi < self.lo:
            raise ValueError(f"not a monotone axis map: {self!r}")

    @staticmethod
    def window(stride: int, kernel: int, dilation: int = 1, pad: int = 0) -> AxisMap:
        """The map of a convolution or pooling window with ``pad`` positions before the first."""
        return AxisMap(num=stride, lo=-pad, hi=dilation * (kernel - 1) - pad)

    @staticmethod
    def full(size: int) -> AxisMap:
        """Every output position reads the whole axis of ``size`` positions."""
        return AxisMap(num=0, lo=0, hi=max(0, size - 1))

    @property
    def is_full(self) -> bool:
        """Whether the positions that are read do not depend on the output position."""
        return self.num == 0

    @property
    def is_identity(self) -> bool:
        """Whether output position ``o`` reads input position ``o`` alone."""
        return self == AxisMap()

    def padding_before(self, out: Interval) -> int:
        """How many positions before the input's first one the output interval reads."""
        return max(0, -((self.num * out.lo + self.lo) // self.den)) if out.size else 0

    def padding_after(self, out: Interval, size: int) -> int:
        """How many positions behind the last one of an input of ``size`` the output interval reads."""
        return max(0, (self.num * (out.hi - 1) + self.hi) // self.den + 1 - size) if out.size else 0

    def needs(self, out: Interval, size: int) -> Interval:
        """The input positions, within ``[0, size)``, that the output interval reads (their hull)."""
        if out.size == 0:
            return EMPTY
        first = (self.num * out.lo + self.lo) // self.den
        last = (self.num * (out.hi - 1) + self.hi) // self.den
        return Interval(first, last + 1).clip(size)

    def reduced(self) -> AxisMap:
        """The same map in lowest terms; a map that reads everything gets ``den`` 1."""
        common = gcd(self.num, self.den)
        return AxisMap(self.num // common, self.den // common, self.lo // common, self.hi // common)

    def then(self, inner: AxisMap) -> AxisMap | None:
        """The one map that reads ``inner``'s input directly, where ``self`` reads what ``inner`` writes.

        None where no single map is exact: ``self`` divides and ``inner`` multiplies. The result does not know
        the extent between the two: what lies outside that must lie outside ``inner``'s input too.
        """
        outer, inner = self.reduced(), inner.reduced()
        if outer.den == 1:
            lo, hi = inner.num * outer.lo + inner.lo, inner.num * outer.hi + inner.hi
            return AxisMap(inner.num * outer.num, inner.den, lo, hi).reduced()
        if inner.num == 1:
            lo, hi = outer.lo + outer.den * inner.lo, outer.hi + outer.den * inner.hi
            return AxisMap(outer.num, outer.den * inner.den, lo, hi).reduced()
        return inner if inner.is_full else None


IDENTITY = AxisMap()
#: (t, y, x) maps of an element-wise read
SAME = (IDENTITY, IDENTITY, IDENTITY)
