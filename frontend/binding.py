"""Shapes of the network's inputs: what the model fixes, and what the user binds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import onnx

from dfc.frontend.diagnostics import fail
from dfc.frontend.values import LARGEST_EXTENT, Shape

Extent = int | str | None  # known, named, or neither


@dataclass(frozen=True, slots=True)
class _Input:
    name: str
    extents: tuple[Extent, ...] | None  # None: not even the rank is known


def bind_inputs(
    inputs: Sequence[onnx.ValueInfoProto],
    bind: Mapping[str, int],
    input_shape: Mapping[str | None, Shape],
    place: str,
) -> tuple[dict[str, Shape], dict[str, int]]:
    """(shape of every input, size of every named dimension). Raises ONNX012, ONNX013 or ONNX014."""
    declared = [_read(info) for info in inputs]
    given = _by_name(declared, input_shape, place)
    sizes = _names(declared, bind, place)
    for one in declared:
        if one.name in given:
            _match(one, given[one.name], sizes, place)
    shapes: dict[str, Shape] = {}
    for one in declared:
        shapes[one.name] = given.get(one.name) or _resolve(one, sizes, place)
    return shapes, sizes


def _read(info: onnx.ValueInfoProto) -> _Input:
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return _Input(info.name, None)
    extents: list[Extent] = []
    for dim in tensor.shape.dim:
        if dim.HasField("dim_value") and dim.dim_value > 0:  # exporters write 0 or -1 for "not known"
            extents.append(int(dim.dim_value))
        else:
            extents.append(dim.dim_param or None)
    return _Input(info.name, tuple(extents))


def _by_name(declared: Sequence[_Input], input_shape: Mapping[str | None, Shape], place: str) -> dict[str, Shape]:
    names = [one.name for one in declared]
    listed = ", ".join(names)
    shapes: dict[str, Shape] = {}
    for key, shape in input_shape.items():
        if key is None and len(names) != 1:
            fail(
                "ONNX014",
                f"an input shape without a name, and {len(names)} inputs: {listed}",
                place=place,
                hint=f"name the input: --input-shape {names[0] if names else 'NAME'}:{_comma(shape)}",
            )
        name = names[0] if key is None else key
        if name not in names:
            fail("ONNX014", f"there is no input '{name}'", place=place, hint=f"the inputs are: {listed}")
        if any(not 1 <= extent <= LARGEST_EXTENT for extent in shape):
            fail(
                "ONNX014",
                f"input shape {_comma(shape)} has a size that is not positive, or too large",
                place=f"{place}: input '{name}'",
                hint="every size is a positive number",
            )
        shapes[name] = tuple(shape)
    return shapes


def _names(declared: Sequence[_Input], bind: Mapping[str, int], place: str) -> dict[str, int]:
    known = list(dict.fromkeys(e for one in declared for e in one.extents or () if isinstance(e, str)))
    for name, size in bind.items():
        if name not in known:
            fail(
                "ONNX013",
                f"no input has a dimension '{name}'",
                place=place,
                hint=f"the named dimensions are: {', '.join(known)}" if known else "the model names no dimensions",
            )
        if not 1 <= size <= LARGEST_EXTENT:
            fail("ONNX013", f"dimension '{name}' is bound to {size}", place=place, hint=f"try --bind {name}=1")
    return dict(bind)


def _match(one: _Input, shape: Shape, sizes: dict[str, int], place: str) -> None:
    """Check a given shape against the declared one; names that it settles are added to ``sizes``."""
    where = f"{place}: input '{one.name}'"
    if one.extents is None:
        return
    if len(shape) != len(one.extents):
        fail(
            "ONNX014",
            f"input shape {_comma(shape)} has {len(shape)} sizes, not {len(one.extents)}: {_show(one)}",
            place=where,
            hint=f"try --input-shape {one.name}:{_comma(_example(one, sizes))}",
        )
    for extent, size in zip(one.extents, shape, strict=True):
        fixed = sizes.get(extent) if isinstance(extent, str) else extent
        if fixed is not None and fixed != size:
            why = f"'{extent}' is bound to {fixed}" if isinstance(extent, str) else f"the model fixes {fixed}"
            fail(
                "ONNX014",
                f"input shape {_comma(shape)} does not fit {_show(one)}: {size} where {why}",
                place=where,
                hint=f"try --input-shape {one.name}:{_comma(_example(one, sizes))}",
            )
        if isinstance(extent, str):
            sizes[extent] = size


def _resolve(one: _Input, sizes: Mapping[str, int], place: str) -> Shape:
    """The shape from bound names alone. Raises ONNX012."""
    where = f"{place}: input '{one.name}'"
    if one.extents is None:
        fail(
            "ONNX012",
            f"the shape of input '{one.name}' is not known",
            place=where,
            hint=f"give it: --input-shape {one.name}:1,3,224,224",
        )
    shape = tuple(sizes.get(e) if isinstance(e, str) else e for e in one.extents)
    known = tuple(extent for extent in shape if extent is not None)
    if len(known) < len(shape):
        _unbound(one, one.extents, [i for i, extent in enumerate(shape) if extent is None], sizes, where)
    return known


def _unbound(
    one: _Input, extents: Sequence[Extent], axes: Sequence[int], sizes: Mapping[str, int], where: str
) -> NoReturn:
    """Name the first dimension that is not known and show what to type for all of them."""
    missing = [(i, extents[i]) for i in axes]
    example = _example(one, sizes)
    index, first = missing[0]
    if all(isinstance(e, str) for _, e in missing):
        suggested = {e: example[i] for i, e in missing}
        option = " ".join(f"--bind {_quoted(str(e))}={size}" for e, size in suggested.items())
    else:
        option = f"--input-shape {one.name}:{_comma(example)}"
    named = f"dimension '{first}' (axis {index})" if first else f"axis {index}"
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    fail(
        "ONNX012",
        f"{named} of input '{one.name}'{more} is not known: the model says {_show(one)}",
        place=where,
        hint=f"bind it, for example {option}",
    )


def _example(one: _Input, sizes: Mapping[str, int]) -> Shape:
    """A shape that could be meant: unknown batches are 1, channels 3, positions 224."""
    usual = (1, 3, *(224 for _ in range(8)))
    extents = one.extents or ()
    return tuple(
        e if isinstance(e, int) else sizes.get(e or "", usual[min(i, len(usual) - 1)]) for i, e in enumerate(extents)
    )


def _comma(shape: Sequence[int]) -> str:
    return ",".join(str(extent) for extent in shape)


def _show(one: _Input) -> str:
    return "(" + ", ".join("?" if e is None else str(e) for e in one.extents or ()) + ")"


def _quoted(name: str) -> str:
    """A name as a shell takes it."""
    return name if name.replace("_", "").replace(".", "").replace("-", "").isalnum() else f"'{name}'"
