"""The JSON Schema (draft 2020-12) of a schedule's file, made from the types that are written and read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

from dfc.backend_cost.schedule import SCHEMA, NestEntry, Schedule, TileLayer
from dfc.backend_cost.schedule_json import dump

#: what the text of a schema says where JSON knows no more than a type
_NOTES = {("TileLayer", "nest"): "an index into the list 'nests', or null for a layer that is not modelled"}
#: sums and differences may be anything; amounts and positions are not negative
_PLAIN: dict[object, dict[str, object]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer", "minimum": 0},
    float: {"type": "number"},
}


def schedule_schema() -> dict[str, object]:
    """The schema as JSON data."""
    found: dict[str, dict[str, object]] = {}
    for kind in (Schedule, NestEntry):
        _define(kind, found)
    root = found.pop("Schedule")
    properties = cast("dict[str, object]", root["properties"])
    properties["schema"] = {"const": SCHEMA}
    properties["nests"] = {"type": "array", "items": {"$ref": "#/$defs/NestEntry"}, "uniqueItems": True}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{SCHEMA.replace('/', ':')}",
        "title": "a depth-first schedule of dfc",
        **root,
        "required": [*cast("list[str]", root["required"]), "nests"],
        "$defs": dict(sorted(found.items())),
    }


def schema_text() -> str:
    """The schema as text."""
    return dump(schedule_schema()) + "\n"


def _define(kind: type[Any], found: dict[str, dict[str, object]]) -> None:
    """The definition of a data class, and of those that it holds."""
    if kind.__name__ in found:
        return
    found[kind.__name__] = {}  # types may hold each other
    hints = get_type_hints(kind)
    properties: dict[str, object] = {}
    for one in cast("tuple[Field[object], ...]", fields(kind)):
        if kind is TileLayer and one.name == "nest":
            properties[one.name] = {"type": ["integer", "null"], "minimum": 0}
        else:
            properties[one.name] = _of(hints[one.name], found)
        note = _NOTES.get((kind.__name__, one.name))
        if note is not None:
            properties[one.name] = {**cast("dict[str, object]", properties[one.name]), "description": note}
    found[kind.__name__] = {
        "description": " ".join((kind.__doc__ or "").split()),
        "type": "object",
        "properties": properties,
        "required": list(_required(kind)),
        "additionalProperties": False,
    }


def _required(kind: type[Any]) -> Iterator[str]:
    for one in cast("tuple[Field[object], ...]", fields(kind)):
        if one.default is MISSING and one.default_factory is MISSING:
            yield one.name


def _of(hint: Any, found: dict[str, dict[str, object]]) -> dict[str, object]:
    origin, args = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    if is_dataclass(hint):
        _define(cast("type[Any]", hint), found)
        return {"$ref": f"#/$defs/{cast('type[Any]', hint).__name__}"}
    if origin is UnionType:
        return {"anyOf": [_of(args[0], found), {"type": "null"}]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(args[1], found)}
    if origin is tuple and args[-1] is Ellipsis:
        return {"type": "array", "items": _of(args[0], found)}
    if origin is tuple:
        items = [_of(a, found) for a in args]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    raise TypeError(f"a schedule holds no {hint!r}")
