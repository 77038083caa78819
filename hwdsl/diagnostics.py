"""Small helpers that every check of the hardware language uses to word its complaint."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from dfc.errors import HardwareError, Span


def problem(code: str, message: str, span: Span | None = None, hint: str = "", place: str = "") -> HardwareError:
    """A :class:`HardwareError` with its place; to be raised by the caller."""
    return HardwareError(code, message, span=span, hint=hint, place=place)


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that ``word`` most likely meant, or an empty string; case is ignored."""
    by_folded = {name.casefold(): name for name in known}
    found = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else ""


def suggest(word: str, known: Iterable[str]) -> str:
    """A hint for an unknown word: the closest known one, or all that are known."""
    names = list(known)
    best = closest(word, names)
    return f"did you mean '{best}'?" if best else f"known here: {listing(names)}" if names else ""


def listing(names: Iterable[str], word: str = "and") -> str:
    """``a, b and c``."""
    parts = list(names)
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {word} {parts[-1]}"
