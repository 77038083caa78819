"""Damage to a schedule's file: one change of its JSON, of many kinds. What changes the meaning must be caught."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

Json = dict[str, Any]
#: copies whose time and place decide nothing but cost
STREAMED = ("constants", "opaque input", "opaque weights", "opaque output")
Damage = Callable[[Json, random.Random], str | None]


def damaged(text: Json, kind: str, seed: int) -> tuple[Json, str] | None:
    """A copy with one piece of damage, and what it is; None where there is nothing to damage in this way."""
    rng = random.Random(f"{kind} {seed}")
    for _ in range(50):
        new = copy.deepcopy(text)
        what = DAMAGES[kind](new, rng)
        if what is not None and new != text:
            return new, what
    return None


def _pick(items: list[Any], rng: random.Random) -> Any:
    return rng.choice(items) if items else None


def _axes(s: Json) -> Iterator[Json]:
    for stack in s["stacks"]:
        yield from (*stack["columns"], *stack["rows"])


def _classes(s: Json) -> Iterator[Json]:
    for stack in s["stacks"]:
        yield from stack["tile_classes"]


def _runs(s: Json) -> Iterator[Json]:
    for tile in _classes(s):
        yield from tile["layers"]


def _buffers(s: Json) -> Iterator[tuple[list[Json], Json]]:
    lists = [s["off_chip"], *(x["buffers"] for x in s["stacks"]), *(c["buffers"] for c in _classes(s))]
    for one in lists:
        yield from ((one, b) for b in one)


def _placed(s: Json) -> list[tuple[list[Json], Json]]:
    """Buffers that decide where something lies.

    Not those of loops, whose contents nobody reads, and not what a tile makes of a map that lies off chip as a whole:
    it is written and read there.
    """
    whole = {(b["name"], b["memory"]) for b in s["off_chip"] if b["what"] == "map"}
    own = {id(b) for b in s["off_chip"]}
    return [
        (one, b)
        for one, b in _buffers(s)
        if b["what"] != "loops" and (id(b) in own or (b["name"], b["memory"]) not in whole)
    ]


def _other(value: int, rng: random.Random) -> int:
    return value + rng.choice([-2, -1, 1, 2])


def halo(s: Json, rng: random.Random) -> str | None:
    reads = [r for axis in _axes(s) for layer in axis["reads"].values() for r in layer if r[2] > r[1]]
    one = _pick(reads, rng)
    if one is None:
        return None
    at = rng.choice([1, 2, 3, 4])
    one[at] = max(0, _other(one[at], rng))
    return f"read {one}"


def made(s: Json, rng: random.Random) -> str | None:
    makes = [(n, m) for axis in _axes(s) for n, m in axis["makes"].items() if m[1] > m[0]]
    one = _pick(makes, rng)
    if one is None:
        return None
    at = rng.choice([0, 1, 2])
    one[1][at] = max(0, _other(one[1][at], rng))
    return f"made {one}"


def own(s: Json, rng: random.Random) -> str | None:
    makes = [(n, m) for axis in _axes(s) for n, m in axis["makes"].items() if m[4] > m[3]]
    one = _pick(makes, rng)
    if one is None:
        return None
    at = rng.choice([3, 4])
    one[1][at] = max(0, _other(one[1][at], rng))
    return f"own {one}"


def kind(s: Json, rng: random.Random) -> str | None:
    axis = _pick(list(_axes(s)), rng)
    axis["kind"] = max(0, _other(axis["kind"], rng))
    return f"kind {axis['kind']}"


def order(s: Json, rng: random.Random) -> str | None:
    stack = _pick(s["stacks"], rng)
    choice = rng.choice(["order", "columns", "rows", "layers", "stacks"])
    if choice == "order":
        stack["order"] = "columns" if stack["order"] == "rows" else "rows"
        return "order of tiles"
    items = (
        s["stacks"]
        if choice == "stacks"
        else stack["tile_classes"][0]["layers"]
        if choice == "layers"
        else stack[choice]
    )
    if len(items) < 2:
        return None
    i = rng.randrange(len(items) - 1)
    items[i], items[i + 1] = items[i + 1], items[i]
    return f"{choice} {i} and {i + 1} in the other order"


def _together(s: Json, a: Json, b: Json) -> bool:
    """Whether two buffers of one list have room at the same time."""
    if not a["first"]:
        return True
    names = next(x["layers"] for x in s["stacks"] if a["first"] in x["layers"])
    spans = [(names.index(one["first"]), names.index(one["last"])) for one in (a, b)]
    return spans[0][0] <= spans[1][1] and spans[1][0] <= spans[0][1]


def address(s: Json, rng: random.Random) -> str | None:
    lists = list(_buffers(s))
    one, b = rng.choice(_placed(s))
    others = [o for x, o in lists if x is one and o is not b and o["memory"] == b["memory"] and o["bits"]]
    others = [o for o in others if _together(s, b, o)]
    if not others or not b["bits"]:
        return None
    other = rng.choice(others)
    b["address_bits"] = other["address_bits"] + rng.choice([0, other["bits"] // 2])
    return f"{b['what']} {b['name']} moved onto {other['what']} {other['name']}"


def size(s: Json, rng: random.Random) -> str | None:
    _, b = rng.choice(_placed(s))
    if not b["bits"]:
        return None
    b["bits"] = rng.choice([b["bits"] // 2, max(0, b["bits"] - 8)])
    return f"{b['what']} {b['name']} has {b['bits']} bits"


def no_buffer(s: Json, rng: random.Random) -> str | None:
    one, b = rng.choice(_placed(s))
    one.remove(b)
    return f"without {b['what']} {b['name']} in {b['memory']}"


def elsewhere(s: Json, rng: random.Random) -> str | None:
    _, b = rng.choice(_placed(s))
    b["memory"] = rng.choice([m["name"] for m in s["hw"]["memories"] if m["name"] != b["memory"]])
    return f"{b['what']} {b['name']} in {b['memory']}"


def lifetime(s: Json, rng: random.Random) -> str | None:
    stack = _pick(s["stacks"], rng)
    found = [b for c in stack["tile_classes"] for b in c["buffers"] if b["what"] in ("map", "window")]
    b = _pick([b for b in found if b["first"] != b["last"]], rng)
    if b is None:
        return None
    b["last" if rng.random() < 0.5 else "first"] = b["first"] if rng.random() < 0.5 else b["last"]
    return f"{b['what']} {b['name']} from {b['first']} to {b['last']}"


def no_copy(s: Json, rng: random.Random) -> str | None:
    run = _pick([r for r in _runs(s) if r["copies"]], rng)
    if run is None:
        return None
    gone = run["copies"].pop(rng.randrange(len(run["copies"])))
    return f"{run['layer']} without {gone['what']} of {gone['tensor']}"


def wrong_copy(s: Json, rng: random.Random) -> str | None:
    run = _pick([r for r in _runs(s) if r["copies"]], rng)
    if run is None:
        return None
    one = rng.choice(run["copies"])
    field = rng.choice(["bits", "source", "target", "what", "tensor"])
    if field == "bits":
        one["bits"] = max(0, one["bits"] + rng.choice([-8, 8]))
    elif field in ("source", "target"):
        one[field] = rng.choice([m["name"] for m in s["hw"]["memories"] if m["name"] != one[field]])
    elif field == "what":
        one["what"] = rng.choice(["input", "output", "read H cache", "read V cache", "write H cache", "weights"])
    else:
        one["tensor"] = rng.choice([b["name"] for b in s["off_chip"]])
    return f"{run['layer']}: {one}"


def late_copy(s: Json, rng: random.Random) -> str | None:
    """A copy at another layer, before or after it."""
    tile = _pick([c for c in _classes(s) if any(r["copies"] for r in c["layers"])], rng)
    if tile is None:
        return None
    run = rng.choice([r for r in tile["layers"] if r["copies"]])
    one = rng.choice(run["copies"])
    if one["what"] in STREAMED:
        return None
    if rng.random() < 0.5 or len(tile["layers"]) < 2:
        one["after"] = not one["after"]
        return f"{run['layer']}: {one}"
    other = rng.choice([r for r in tile["layers"] if r is not run])
    run["copies"].remove(one)
    other["copies"].append(one)
    return f"{one} at {other['layer']} in place of {run['layer']}"


def late_weights(s: Json, rng: random.Random) -> str | None:
    """Weights that come with a later layer, another class or not at all."""
    stack = _pick(s["stacks"], rng)
    first = next(c for c in stack["tile_classes"] if c["first"])
    runs = [(r, c) for r in first["layers"] for c in r["copies"] if c["what"] == "weights"]
    one = _pick(runs, rng)
    if one is None:
        return None
    run, copied = one
    run["copies"].remove(copied)
    later = first["layers"][first["layers"].index(run) + 1 :]
    targets = [r for c in stack["tile_classes"] if not c["first"] for r in c["layers"]] + later
    if targets and rng.random() < 0.7:
        rng.choice(targets)["copies"].insert(0, copied)
    return f"weights of {copied['tensor']} too late"


def cache(s: Json, rng: random.Random) -> str | None:
    b = _pick([b for _, b in _buffers(s) if b["lines"]], rng)
    if b is None:
        return None
    field = rng.choice(["lines", "length"])
    before = b[field]
    b[field] = max(1, before - rng.choice([1, 2]))
    if rng.random() < 0.5:  # with as much room as it then needs
        b["bits"] = b["bits"] * b[field] // before
    return f"{b['what']} of {b['name']}: {field} {b[field]}"


def tiles(s: Json, rng: random.Random) -> str | None:
    stack = _pick(s["stacks"], rng)
    choice = rng.choice(["count", "tiles", "column", "class", "first"])
    if choice == "count":
        tile = rng.choice(stack["tile_classes"])
        tile["count"] += rng.choice([-1, 1])
    elif choice == "tiles":
        stack["tiles"] += rng.choice([-1, 1])
    elif choice == "column":
        axis = stack[rng.choice(["columns", "rows"])]
        axis.pop(rng.randrange(len(axis)))
    elif choice == "class":
        stack["tile_classes"].pop(rng.randrange(len(stack["tile_classes"])))
    else:
        tile = rng.choice(stack["tile_classes"])
        tile["first"] = not tile["first"]
    return f"tiles: {choice}"


def layer(s: Json, rng: random.Random) -> str | None:
    """A parameter of a loop nest."""
    nest = _pick(s["nests"], rng)
    if nest is None:
        return None
    field = rng.choice(["sizes", "strides", "dilations", "work", "dims"])
    if field == "sizes":
        if not nest["sizes"]:
            return None
        name = rng.choice(sorted(nest["sizes"]))
        nest["sizes"][name] = max(1, nest["sizes"][name] + rng.choice([-1, 1]))
    elif field == "work":
        nest["work"] = "operation" if nest["work"] == "mac" else "mac"
    elif field == "dims":
        operand = rng.choice(nest["operands"])
        if len(operand["dims"]) < 2:
            return None
        operand["dims"].pop()
    else:
        nest[field][rng.randrange(3)] += 1
    return f"nest: {field}"


def amounts(s: Json, rng: random.Random) -> str | None:
    """What a class says that its tiles make and read."""
    run = _pick([r for r in _runs(s) if r["reads"] and r["makes"]], rng)
    if run is None:
        return None
    if rng.random() < 0.5:
        one = rng.choice(run["reads"])
        field = rng.choice(["fresh_bits", "h_cache_bits", "v_cache_bits"])
        one[field] = max(0, one[field] + rng.choice([-8, 8]))
    else:
        one = rng.choice(run["makes"])
        one["extents"][rng.randrange(2)] += rng.choice([-1, 1])
    return f"{run['layer']}: {one}"


def places(s: Json, rng: random.Random) -> str | None:
    """Where a layer reads or leaves a map, or its weights."""
    run = _pick([r for r in _runs(s) if r["reads"] and r["makes"]], rng)
    if run is None:
        return None
    maps = [m for m in run["makes"] if m["bits"]]
    reads = [r for r in run["reads"] if r["fresh_bits"] + r["h_cache_bits"] + r["v_cache_bits"]]
    one = _pick([*reads, *maps, run["memories"]], rng)
    field = "memory" if "memory" in one else "W"
    if field not in one:
        return None
    one[field] = rng.choice([m["name"] for m in s["hw"]["memories"] if m["name"] != one[field]])
    return f"{run['layer']}: {field} {one}"


def totals(s: Json, rng: random.Random) -> str | None:
    field = rng.choice(["macs", "dram_read_bits", "dram_write_bits", "network_macs"])
    s["totals"][field] = max(0, s["totals"][field] + rng.choice([-1, 1]) * max(1, s["totals"][field] // 100))
    return f"totals: {field}"


DAMAGES: dict[str, Damage] = {
    f.__name__: f
    for f in (
        halo, made, own, kind, order, address, size, no_buffer, elsewhere, lifetime, no_copy, wrong_copy, late_copy,
        late_weights, cache, tiles, layer, amounts, places, totals,
    )
}  # fmt: skip
