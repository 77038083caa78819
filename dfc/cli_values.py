"""What the user types into options that carry structure: sizes by name, shapes by input, a layer's tile."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from dfc.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from dfc.backend_cost.rebuild import TileProblem

    Array = npt.NDArray[np.generic]

#: codes of this module, with the sentence that docs/errors.md prints for each
CODES: Mapping[str, str] = {
    "CLI005": "--bind is not written as NAME=SIZE",
    "CLI006": "--input-shape is not written as [NAME:]SIZE,SIZE,...",
    "CLI007": "a name is given twice in --bind or --input-shape",
    "CLI008": "dfc hw --text without the name of an accelerator",
    "CLI052": "--limit is not written as a number or as STEPSxLANES",
    "CLI053": "--cache and --no-cache contradict each other",
}

_SIZE = re.compile(r"[+-]?[0-9]{1,18}")
_LIMIT = re.compile(r"([0-9]{1,12})(?:x([0-9]{1,12}))?")


def parse_bindings(texts: Sequence[str]) -> dict[str, int]:
    """``["batch=1", "h=224"]`` as sizes by name.

    Raises:
        UsageError: CLI005 or CLI007.
    """
    sizes: dict[str, int] = {}
    for text in texts:
        name, equals, size = text.rpartition("=")
        if not equals or not name.strip() or not _SIZE.fullmatch(size.strip()):
            raise UsageError(
                "CLI005",
                f"a binding is written as NAME=SIZE, not {text!r}",
                place="--bind",
                hint="for example --bind batch=1; give --bind once for each name",
            )
        _once(name.strip(), sizes, "--bind")
        sizes[name.strip()] = int(size)
    return sizes


def parse_input_shapes(texts: Sequence[str]) -> dict[str | None, tuple[int, ...]]:
    """``["1,3,224,224"]`` or ``["data:1,3,224,224", ...]`` as shapes by input; None stands for the only one.

    Raises:
        UsageError: CLI006 or CLI007.
    """
    shapes: dict[str | None, tuple[int, ...]] = {}
    for text in texts:
        name, colon, extents = text.rpartition(":")  # the last colon: names like "input:0" have their own
        parts = [part.strip() for part in extents.split(",")]
        if (colon and not name) or not all(_SIZE.fullmatch(part) for part in parts):
            raise UsageError(
                "CLI006",
                f"an input shape is written as [NAME:]SIZE,SIZE,... and not {text!r}",
                place="--input-shape",
                hint="for example --input-shape 1,3,224,224, or --input-shape data:1,3,224,224",
            )
        key = name or None
        _once(key, shapes, "--input-shape")
        shapes[key] = tuple(int(part) for part in parts)
    return shapes


def _once(key: str | None, known: Mapping[str, object] | Mapping[str | None, object], option: str) -> None:
    if key in known:
        what = "the only input" if key is None else f"'{key}'"
        raise UsageError("CLI007", f"{what} is given twice", place=option, hint="give each name once")


def default_folder(model: str) -> Path:
    """Where a model's schedule goes unless the user says: ``resnet18.dfc`` for ``nets/resnet18.onnx``."""
    return Path(f"{Path(model).stem or 'model'}.dfc")


def schedule_file(path: Path) -> Path:
    """The schedule that a path names: itself, or the one in the folder."""
    return path / "schedule.json" if path.is_dir() else path


def cache_folder(given: Path | None, *, off: bool) -> Path | None:
    """Where answers of the mapping search are kept; None where they are not, or nobody knows a place.

    Raises:
        UsageError: CLI053.
    """
    if off and given is not None:
        hint = "give one of them; --no-cache neither reads nor keeps anything"
        raise UsageError("CLI053", "--cache and --no-cache contradict each other", place="--no-cache", hint=hint)
    if off:
        return None
    from dfc.backend_cost.mapping_store import default_folder

    return given or default_folder()


def read_problem_file(path: Path, layer: str | None, tile_class: int | None) -> TileProblem:
    """The tile of a layer of a schedule, or the loop nest that a file has by itself.

    Raises:
        UsageError: CLI022 where the file cannot be read, CLI020, CLI021, CLI051 and CLI060 to CLI063 for what it says.
    """
    from dfc.backend_cost.rebuild import read_problem
    from dfc.files import read_text

    file = schedule_file(path)
    return read_problem(read_text(file), file.parent, layer, tile_class, str(file))


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of a .npz file by name; nothing in it is unpickled.

    Raises:
        UsageError: CLI082 where it is none.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as found:
            if not isinstance(found, np.lib.npyio.NpzFile):
                raise ValueError("one array, and not several by name")
            return {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, KeyError, MemoryError, RuntimeError, BadZipFile, zlib.error) as error:
        hint = "numpy.savez('inputs.npz', name_of_input=array, ...) writes one"
        reason = getattr(error, "strerror", None) or error
        raise UsageError("CLI082", f"no .npz file of inputs: {reason}", place=str(path), hint=hint) from None


def parse_limit(text: str | None) -> int | None:
    """``"5000x256"`` or ``"1280000"`` as their product.

    Raises:
        UsageError: CLI052.
    """
    if text is None:
        return None
    match = _LIMIT.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            "CLI052",
            f"a limit is written as a number or as STEPSxLANES, not {text!r}",
            place="--limit",
            hint="for example --limit 5000x256",
        )
    return int(match[1]) * int(match[2] or 1)
