"""Answers of the mapping search that outlive the run: a cache on disk that processes share.

Nothing that goes wrong with it is an error. A damaged file is removed and built anew, and where nothing can be read or
written the search goes on without; either way there is a note to show. What is read was checked twice: each text has a
checksum, and is JSON of a known form.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from dfc.backend_cost.mapping_cost import MappingCost, TooSmall
from dfc.backend_cost.mapping_json import decode, encode
from dfc.backend_cost.store_file import SCHEMA, BusyError, DamagedError, StoreFile, UnusableError, discard

T = TypeVar("T")

MOST_BYTES = 256 << 20
#: answers that are written in one go
_BATCH = 128
#: how often a run builds a damaged file anew before it goes on without
_REPAIRS = 2


class MappingStore:
    """The answers of earlier runs by key, and those of this one: a context manager.

    Args:
        folder: where caches of dfc live; the store makes a folder of its own in it when it is first asked.
        most_bytes: size of the file above which the longest unused answers go.

    ``notes`` says what the user should know, in a sentence each. One store belongs to one thread of one process; others
    open their own on the same folder.
    """

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES):
        self.folder = folder
        self.most_bytes = most_bytes
        self.notes: list[str] = []
        self._place = place_of(folder)
        self._new: dict[bytes, bytes] = {}
        self._used: set[bytes] = set()
        self._repairs = 0
        self._file: StoreFile | None = None
        self._opened = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def usable(self) -> bool:
        """Whether there is a file behind it."""
        return self._ready() is not None

    def get(self, key: bytes) -> MappingCost | TooSmall | None:
        """The answer under a key, or None."""
        return self._attempt(lambda file: self._read(file, key))

    def put(self, key: bytes, answer: MappingCost | TooSmall) -> None:
        """Keep an answer; it is on disk after the next batch, or when the store is closed."""
        if self._ready() is None:
            return
        try:
            self._new[key] = encode(answer)
        except ValueError:  # not finite: whoever asks again may search again
            return
        if len(self._new) % _BATCH == 0:
            self.flush()

    def flush(self) -> None:
        """Write what is new."""
        if not (self._new or self._used):
            return
        repairs = self._repairs
        done = self._attempt(self._write)
        if not done and self._repairs > repairs:
            done = self._attempt(self._write)
        if done:
            self._new.clear()
            self._used.clear()

    def close(self) -> None:
        """Write what is new, and close the file; the store is of no use afterwards."""
        self.flush()
        self._let_go()
        self._opened = True

    def info(self) -> tuple[int, int]:
        """How many answers there are on disk, and the bytes that they take."""
        return self._attempt(lambda file: (file.entries(), file.bytes())) or (0, 0)

    def _read(self, file: StoreFile, key: bytes) -> MappingCost | TooSmall | None:
        text = self._new.get(key)
        if text is None:
            found = file.select(key)
            if found is None:
                return None
            text, stale = found
            if stale:
                self._used.add(key)
        try:
            return decode(text)
        except ValueError as error:
            raise DamagedError(str(error)) from None

    def _write(self, file: StoreFile) -> bool:
        file.write(self._new.items(), self._used, self.most_bytes)
        return True

    def _attempt(self, action: Callable[[StoreFile], T]) -> T | None:
        """What the action gives; None where there is no file, or none any more."""
        file = self._ready()
        if file is None:
            return None
        try:
            return action(file)
        except DamagedError as error:
            self._rebuild(str(error))
        except UnusableError as error:
            self._give_up(str(error))
        except BusyError:  # the next one may have more luck
            pass
        return None

    def _ready(self) -> StoreFile | None:
        if not self._opened:
            self._open()
        return self._file

    def _open(self) -> None:
        self._opened = True
        try:
            self._file = StoreFile(self._place)
        except DamagedError as error:
            self._rebuild(str(error))
        except (UnusableError, BusyError) as error:
            self._give_up(str(error))

    def _rebuild(self, reason: str) -> None:
        """Start with a new file, unless another process was faster."""
        already = self._file is not None and self._file.replaced()
        self._let_go()
        self._repairs += 1
        if self._repairs > _REPAIRS:
            self._give_up(reason)
            return
        if not already:
            self._note(f"the cache of mappings in {self.folder} was damaged ({reason}) and is built anew")
        if already or self._discard():
            self._open()

    def _discard(self) -> bool:
        """Whether the file is gone."""
        try:
            clear_store(self.folder)
        except UnusableError as error:
            self._give_up(str(error))
            return False
        return True

    def _give_up(self, reason: str) -> None:
        self._let_go()
        self._note(f"the cache of mappings in {self.folder} cannot be used: {reason}")

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def place_of(folder: Path) -> Path:
    """The folder of its own that a store has in a folder of caches."""
    return folder / f"mappings-{SCHEMA}"


def clear_store(folder: Path) -> bool:
    """Remove what is kept there, if anything is; processes that use it go on with what they have.

    Raises:
        UnusableError: it cannot be removed.
    """
    place = place_of(folder)
    return discard(place, place.with_name(f"{place.name}.{secrets.token_hex(6)}.old"))


def default_folder(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path | None:
    """Where caches of dfc live unless the user says: ``DFC_CACHE_DIR`` or the platform's place; None: no home."""
    if environment.get("DFC_CACHE_DIR"):
        return Path(environment["DFC_CACHE_DIR"])
    try:
        home = Path.home()
    except RuntimeError:
        home = None
    if platform == "win32":
        local = environment.get("LOCALAPPDATA")
        return Path(local) / "dfc" / "cache" if local else home and home / "AppData" / "Local" / "dfc" / "cache"
    said = Path(environment.get("XDG_CACHE_HOME") or "")
    if said.is_absolute():  # the specification says to ignore any other
        return said / "dfc"
    return home and home / ("Library/Caches" if platform == "darwin" else ".cache") / "dfc"
