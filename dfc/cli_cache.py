"""The cache on disk as the command line sees it: ``dfc cache``, and its part in ``dfc compile``."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Generator, Mapping
from pathlib import Path

from dfc.backend_cost.mapping_store import MOST_BYTES, MappingStore, clear_store, place_of
from dfc.backend_cost.store_file import UnusableError
from dfc.cli_output import diagnose
from dfc.errors import UsageError
from dfc.report_table import clean
from dfc.units import size

#: codes of this module, with the sentence that docs/errors.md prints for each
CODES: Mapping[str, str] = {"CLI054": "the cache has no place, or cannot be read or removed"}


@contextlib.contextmanager
def cache_of_run(folder: Path | None, *, quiet: bool) -> Generator[MappingStore | None]:
    """The store for a compilation, whose notes are shown at its end; None where there is no folder."""
    if folder is None:
        yield None
        return
    store = MappingStore(folder)
    try:
        with store:
            yield store
    finally:
        for note in () if quiet else store.notes:
            diagnose(f"note: {note}")


def describe_cache(folder: Path | None) -> str:
    """Where it is, how many answers it has, and how large it is.

    Raises:
        UsageError: CLI054.
    """
    place = _known(folder)
    entries = taken = 0
    there = _is_folder(place)
    if there and _is_folder(place_of(place)):  # looking makes nothing
        with MappingStore(place) as store:
            if not store.usable:
                raise UsageError("CLI054", clean(store.notes[-1]), place=str(place), hint="check its permissions")
            entries, taken = store.info()
            for note in store.notes:
                diagnose(f"note: {note}")
    return (
        f"place    {clean(str(place))}{'' if there else ' (does not exist yet)'}\n"
        f"answers  {entries:,} of the mapping search\n"
        f"size     {size(8 * taken)} of at most {size(8 * MOST_BYTES)}\n"
    )


def clear_cache(folder: Path | None) -> str:
    """Remove it.

    Raises:
        UsageError: CLI054.
    """
    place = _known(folder)
    try:
        found = clear_store(place)
    except UnusableError as error:
        hint = "check its permissions"
        raise UsageError("CLI054", f"cannot remove: {error}", place=str(place_of(place)), hint=hint) from None
    return f"{'cleared' if found else 'nothing to clear in'} {clean(str(place))}\n"


def _is_folder(path: Path) -> bool:
    """Whether there is one; false where there is nothing.

    Raises:
        UsageError: CLI054 for a file, or where that cannot be found out.
    """
    try:
        found = path.stat().st_mode
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        reason, hint = getattr(error, "strerror", None) or "not a path", "check its permissions"
        raise UsageError("CLI054", f"cannot read the cache: {reason}", place=str(path), hint=hint) from None
    if not stat.S_ISDIR(found):
        hint = "a cache lives in a folder: name another with --cache DIR"
        raise UsageError("CLI054", "the place of the cache is a file", place=str(path), hint=hint)
    return True


def _known(folder: Path | None) -> Path:
    if folder is None:
        hint = "name one with --cache DIR or DFC_CACHE_DIR"
        raise UsageError("CLI054", "there is no home folder to keep a cache in", place="dfc cache", hint=hint)
    return folder
