"""Numbers for people: four digits and a unit that fits. Exact numbers are in ``schedule.json``."""

from __future__ import annotations

from math import ceil, isfinite

Scale = tuple[float, str]

_ENERGY: tuple[Scale, ...] = ((1e12, "J"), (1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1.0, "pJ"))
_TIME: tuple[Scale, ...] = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_COUNT: tuple[Scale, ...] = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_FREQUENCY: tuple[Scale, ...] = ((1e9, "GHz"), (1e6, "MHz"), (1e3, "kHz"), (1.0, "Hz"))
_BYTES: tuple[Scale, ...] = ((8 * 1024.0**3, "GiB"), (8 * 1024.0**2, "MiB"), (8 * 1024.0, "KiB"), (8.0, "B"))

#: a value that would be rounded up to the next unit is written in that unit
_NEARLY = 0.99995


def energy(pj: float) -> str:
    """``2134830384.15`` as ``2.135 mJ``."""
    return _scaled(pj, _ENERGY)


def seconds(value: float) -> str:
    """``0.01998`` as ``19.98 ms``."""
    return _scaled(value, _TIME)


def count(value: float, significant: int = 4) -> str:
    """``8290252800`` as ``8.290 G``; what is below a thousand stays exact."""
    return f"{value:g}" if abs(value) < 1000 else _scaled(value, _COUNT, significant)


def frequency(hz: float) -> str:
    """``1e9`` as ``1 GHz``."""
    for scale, unit in _FREQUENCY:
        if hz >= scale:
            return f"{hz / scale:g} {unit}"
    return f"{hz:g} Hz"


def size(bits: float, significant: int = 4) -> str:
    """``66355200`` bits as ``7.910 MiB``; whole numbers of a unit without decimals, odd bits as bits."""
    if bits == 0:
        return "0"
    if bits < 8 * 1024 and bits % 8:
        return f"{bits:g} b"
    for scale, unit in _BYTES:
        if bits >= scale and bits % scale == 0 and bits / scale < 1000:
            return f"{bits / scale:g} {unit}"
    return _scaled(bits, _BYTES, significant)


def sizes(one: float, other: float) -> tuple[str, str]:
    """Two sizes with as many digits as it takes to tell them apart: 16,000 and 16,001 bits are both ``1.953 KiB``."""
    texts = ((size(one, significant), size(other, significant)) for significant in range(4, 16))
    return next((pair for pair in texts if pair[0] != pair[1] or one == other), (f"{one:,.0f} b", f"{other:,.0f} b"))


def cycles(value: int) -> str:
    """``19980608`` as ``19,980,608``."""
    return f"{value:,}"


def factor(value: float) -> str:
    """``9.3752`` as ``9.38x``."""
    return f"{digits(value, 3)}x"


def percent(part: float, whole: float) -> str:
    """A share in percent with one decimal: ``-`` for nothing, ``<0.1`` for next to nothing."""
    if not part or not whole:
        return "-"
    share = 100 * part / whole
    return "<0.1" if 0 < share < 0.05 else f"{share:.1f}"


def at_most_percent(share: float) -> str:
    """A share in percent that is no less than the share: rounded up to one decimal."""
    return f"{ceil(1000 * share) / 10:.1f}"


def energy_unit(pj: float) -> Scale:
    """The unit in which a column of energies up to ``pj`` is written."""
    return next((s for s in _ENERGY if abs(pj) >= 100 * s[0]), _ENERGY[-1])


def size_unit(bits: float) -> Scale:
    """The unit in which a column of sizes up to ``bits`` is written."""
    return next((s for s in _BYTES if abs(bits) >= 10 * s[0]), _BYTES[-1])


def digits(value: float, significant: int = 4) -> str:
    """A number with this many significant digits, and all digits before the decimal point."""
    if not isfinite(value) or abs(value) < 1e-3:
        return f"{value:.{significant}g}"
    exponent = int(f"{value:.{significant - 1}e}".partition("e")[2])  # of the rounded value: 9.9996 is 10.00
    return f"{value:,.{max(0, significant - 1 - exponent)}f}"


def _scaled(value: float, scales: tuple[Scale, ...], significant: int = 4) -> str:
    scale, unit = next((s for s in scales if abs(value) >= _NEARLY * s[0]), scales[-1])
    return f"{digits(value / scale, significant)} {unit}".rstrip()
