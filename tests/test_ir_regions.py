"""AxisMap.then and AxisMap.reduced against counting positions one by one."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from dfc.ir import IDENTITY, AxisMap, Interval

OFFSETS = st.integers(-9, 9)


@st.composite
def axis_maps(draw: st.DrawFn) -> AxisMap:
    lo = draw(OFFSETS)
    return AxisMap(draw(st.integers(0, 4)), draw(st.integers(1, 4)), lo, lo + draw(st.integers(0, 6)))


def positions(axis_map: AxisMap, o: int) -> tuple[int, int]:
    """First and last input position that output position ``o`` reads, without any clipping."""
    return (axis_map.num * o + axis_map.lo) // axis_map.den, (axis_map.num * o + axis_map.hi) // axis_map.den


@given(axis_maps(), st.integers(-30, 30))
def test_reduced_reads_the_same(axis_map: AxisMap, o: int) -> None:
    reduced = axis_map.reduced()
    assert positions(reduced, o) == positions(axis_map, o)
    assert reduced.reduced() == reduced


@given(axis_maps(), axis_maps(), st.integers(-30, 30))
def test_then_reads_what_both_read_one_after_the_other(outer: AxisMap, inner: AxisMap, o: int) -> None:
    joined = outer.then(inner)
    if joined is None:
        assert outer.den > 1 and inner.num > 1
        return
    first, last = positions(outer, o)
    assert positions(joined, o) == (positions(inner, first)[0], positions(inner, last)[1])


@given(axis_maps(), axis_maps(), st.integers(1, 12), st.integers(1, 12), st.data())
def test_then_needs_the_same_region(
    outer: AxisMap, inner: AxisMap, extent: int, size: int, data: st.DataObject
) -> None:
    """With the extent of the tensor in between so large that nothing is clipped there."""
    joined = outer.then(inner)
    assume(joined is not None)
    assert joined is not None
    lo = data.draw(st.integers(0, extent - 1))
    out = Interval(lo, data.draw(st.integers(lo + 1, extent)))
    first, last = positions(outer, out.lo)[0], positions(outer, out.hi - 1)[1]
    assume(first >= 0)
    between = outer.needs(out, last + 1)
    assert joined.needs(out, size) == inner.needs(between, size)


def test_then_of_identity_changes_nothing() -> None:
    window = AxisMap.window(2, 3, 2, 1)
    assert window.then(IDENTITY) == window == IDENTITY.then(window)


def test_a_pad_joins_the_window_behind_it() -> None:
    pad = AxisMap(lo=-2, hi=-2)
    assert AxisMap.window(2, 5).then(pad) == AxisMap.window(2, 5, pad=2)


def test_upsampling_then_striding_cancels() -> None:
    stride, upsample = AxisMap(num=2), AxisMap(den=2)
    assert stride.then(upsample) == IDENTITY
    assert upsample.then(stride) is None  # 0 0 2 2 4 4: no single map says that


def test_everything_stays_everything() -> None:
    assert AxisMap(den=2).then(AxisMap.full(7)) == AxisMap.full(7)
    assert AxisMap.full(3).then(AxisMap(num=2, lo=1, hi=2)) == AxisMap(num=0, lo=1, hi=6)
