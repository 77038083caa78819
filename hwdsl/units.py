"""Units of the hardware language, and the one place where a written quantity becomes a number.

Values are exact fractions until the last step, so that ``0.04 pJ`` is the nearest double to 0.04 and
``1.5 KiB`` is exactly 12288 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from dfc.hwdsl.diagnostics import closest, listing, problem
from dfc.hwdsl.syntax import Quantity

_PREFIXES = {
    "": 1,
    "K": 1000,
    "k": 1000,
    "M": 1000**2,
    "G": 1000**3,
    "Ki": 1024,
    "Mi": 1024**2,
    "Gi": 1024**3,
}

SIZE_UNITS: Mapping[str, Fraction] = {
    prefix + unit: Fraction(factor * bits)
    for unit, bits in (("b", 1), ("B", 8))
    for prefix, factor in _PREFIXES.items()
}
ENERGY_UNITS: Mapping[str, Fraction] = {
    "aJ": Fraction(1, 10**6),
    "fJ": Fraction(1, 1000),
    "pJ": Fraction(1),
    "nJ": Fraction(1000),
    "uJ": Fraction(10**6),
}
CLOCK_UNITS: Mapping[str, Fraction] = {
    "Hz": Fraction(1),
    "kHz": Fraction(1000),
    "MHz": Fraction(10**6),
    "GHz": Fraction(10**9),
}


@dataclass(frozen=True, slots=True)
class Measure:
    """A kind of quantity: its units as factors of the base unit, those that messages name, and an example."""

    name: str
    units: Mapping[str, Fraction]
    named: tuple[str, ...]
    example: str
    largest: int


SIZE = Measure(
    "a size", SIZE_UNITS, ("b", "B", "Kb", "KB", "KiB", "Mb", "MB", "MiB", "Gb", "GB", "GiB"), "64 KiB", 2**60
)
WIDTH = Measure(
    "a width",
    {**SIZE_UNITS, **{f"{unit}/cycle": factor for unit, factor in SIZE_UNITS.items()}},
    ("b", "B", "b/cycle", "B/cycle"),
    "512 b/cycle",
    2**31,
)
BITS = Measure("a precision", SIZE_UNITS, ("b", "B"), "8 b", 1024)
ENERGY = Measure("an energy", ENERGY_UNITS, tuple(ENERGY_UNITS), "0.04 pJ", 10**18)
CLOCK = Measure("a frequency", CLOCK_UNITS, tuple(CLOCK_UNITS), "1 GHz", 10**13)
COUNT = Measure("a count", {}, (), "32", 2**31)

_ALL_UNITS = {**WIDTH.units, **ENERGY_UNITS, **CLOCK_UNITS}
_MOST_DIGITS = 40  # keeps the exact arithmetic small whatever is written


def whole(quantity: Quantity, measure: Measure, what: str) -> int:
    """A positive whole number of the base unit (bits, or a count); ``what`` names the property in messages.

    Raises:
        HardwareError: HW014 for a unit that does not fit, HW015 for zero, negative, broken or huge ones.
    """
    value = _value(quantity, measure, what)
    if value.denominator != 1:
        unit = " of bits" if measure.units else ""
        raise problem("HW015", f"{what} is {quantity}, which is not a whole number{unit}", quantity.span)
    if value <= 0:
        hint = f"write {measure.name} of at least 1, such as {measure.example}"
        raise problem("HW015", f"{what} must be positive, not {quantity}", quantity.span, hint)
    return int(value)


def positive(quantity: Quantity, measure: Measure, what: str) -> float:
    """A positive number of the base unit."""
    value = _value(quantity, measure, what)
    if value <= 0:
        raise problem("HW015", f"{what} must be positive, not {quantity}", quantity.span)
    return float(value)


def picojoules(quantity: Quantity, what: str) -> float:
    """An energy in pJ; zero is allowed (an ideal memory)."""
    value = _value(quantity, ENERGY, what)
    if value < 0:
        raise problem("HW015", f"{what} must not be negative, and is {quantity}", quantity.span)
    return float(value)


def measures(quantity: Quantity, measure: Measure) -> bool:
    """Whether the unit as written is one of the measure's."""
    return quantity.unit is not None and quantity.unit.text in measure.units


def known_unit(quantity: Quantity) -> bool:
    """Whether the unit as written is one of any measure."""
    return quantity.unit is not None and quantity.unit.text in _ALL_UNITS


def _value(quantity: Quantity, measure: Measure, what: str) -> Fraction:
    factor = _factor(quantity, measure, what)
    text = quantity.number.text
    rough = abs(float(text))
    if len(text) > _MOST_DIGITS or rough > 1e24 or 0 < rough < 1e-24:
        raise problem("HW015", f"{what} is out of range", quantity.number.span, f"write e.g. {measure.example}")
    value = Fraction(text) * factor
    if value > measure.largest:
        raise problem("HW015", f"{what} is too large: {quantity}", quantity.span, "check the number and its unit")
    return value


def _factor(quantity: Quantity, measure: Measure, what: str) -> Fraction:
    unit = quantity.unit
    if unit is None:
        if not measure.units:
            return Fraction(1)
        hint = f"write one of {listing(measure.named, 'or')} after the number, such as {measure.example}"
        raise problem("HW014", f"{what} needs a unit", quantity.number.span, hint)
    if unit.text in measure.units:
        return measure.units[unit.text]
    if not measure.units:
        raise problem(
            "HW014", f"{what} is a plain number and takes no unit", unit.span, f"write e.g. {measure.example}"
        )
    accepted = f"accepted: {listing(measure.named, 'or')}"
    if unit.text in _ALL_UNITS:
        raise problem("HW014", f"{what} is {measure.name}; '{unit.text}' does not measure that", unit.span, accepted)
    best = closest(unit.text, measure.named)
    if best:
        accepted = f"did you mean '{best}'? {accepted}"
    raise problem(
        "HW014",
        f"{what} needs a unit after {quantity.number.text}; '{unit.text}' is not one",
        unit.span,
        accepted,
    )
