"""Frozen data classes as JSON text and back: what fits on a line stands on one, and nothing unknown is read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

_WIDTH = 110
#: of whole numbers; what reads them counts in 64 bits
_LARGEST = 2**63 - 1


def plain(value: object) -> object:
    """Data classes, tuples and enums as JSON knows them."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in cast("dict[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in cast("list[object]", value)]
    return value


def dump(value: object, indent: int = 0) -> str:
    """JSON text; a list or an object that fits stands on one line, others are indented by one per level."""
    if isinstance(value, dict):
        entries = cast("dict[str, object]", value).items()
        parts, ends = [f"{json.dumps(k)}: {dump(v, indent + 1)}" for k, v in entries], "{}"
    elif isinstance(value, list):
        parts, ends = [dump(v, indent + 1) for v in cast("list[object]", value)], "[]"
    else:
        return json.dumps(value)
    if sum(map(len, parts)) + 2 * len(parts) + indent <= _WIDTH and not any("\n" in part for part in parts):
        return ends[0] + ", ".join(parts) + ends[1]
    between = ",\n" + " " * (indent + 1)
    return f"{ends[0]}\n{' ' * (indent + 1)}{between.join(parts)}\n{' ' * indent}{ends[1]}"


def typed(kind: Any, value: Any) -> object:
    """JSON data as an instance of a type hint.

    Fields with a default may be left out; what is an instance already stays as it is.

    Raises:
        TypeError, ValueError: where it is no such instance.
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else typed(args[0], value)
    if is_dataclass(kind):
        return value if isinstance(value, cast("type", kind)) else _object(kind, value)
    if origin is tuple:
        return _tuple(args, value)
    if origin is dict:
        if not isinstance(value, dict):
            raise TypeError(f"expected an object, found {_shown(value)}")
        return {str(k): typed(args[1], v) for k, v in cast("dict[str, Any]", value).items()}
    if kind in (int, float) and isinstance(value, int) and not -_LARGEST <= value <= _LARGEST:
        raise ValueError(f"the number {_shown(value)} is too large")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"expected {kind.__name__}, found {_shown(value)}")
    return value


def _object(kind: Any, value: Any) -> object:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object for {kind.__name__}, found {_shown(value)}")
    given = cast("dict[str, Any]", value)
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind)]
    unknown = sorted(given.keys() - set(known))
    if unknown:
        raise ValueError(f"{kind.__name__} has no field '{unknown[0]}'; it has {', '.join(known)}")
    optional = {f.name for f in fields(kind) if f.default is not MISSING or f.default_factory is not MISSING}
    missing = [name for name in known if name not in given and name not in optional]
    if missing:
        raise ValueError(f"the field '{missing[0]}' of {kind.__name__} is missing")
    return kind(**{name: typed(hints[name], given[name]) for name in known if name in given})


def _tuple(args: tuple[Any, ...], value: Any) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, found {_shown(value)}")
    items = cast("Sequence[Any]", value)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(typed(args[0], v) for v in items)
    if len(items) != len(args):
        raise ValueError(f"expected a list of {len(args)}, found one of {len(items)}")
    return tuple(typed(kind, v) for kind, v in zip(args, items, strict=True))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
