"""The SQLite file under the store of mappings: the one place that knows SQL.

One table of keys, checked texts and days of last use. Writes are short transactions on a write-ahead log, so that
processes that share the file hardly wait for one another. Whatever SQLite complains of becomes one of three exceptions.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

_HAS_SQLITE = find_spec("_sqlite3") is not None  # a Python may be built without it
if TYPE_CHECKING or _HAS_SQLITE:
    import sqlite3

#: of the table; part of the folder's name, so that versions of dfc with other tables do not meet
SCHEMA = 1
FILE = "results.sqlite"

_MARK = 0x64666301  # PRAGMA application_id: "dfc", 1
_BUSY_SECONDS = 2.0
_DAY = 86400
_LOG_BYTES = 1 << 22
_TABLE = "CREATE TABLE results (key BLOB PRIMARY KEY, used INTEGER NOT NULL, sum BLOB NOT NULL, text BLOB NOT NULL)"
#: primary result codes of SQLite (sqlite.org/rescode.html)
_BUSY = {5, 6}  # BUSY, LOCKED
_DAMAGE = {1, 11, 24, 26}  # ERROR (no such table), CORRUPT, FORMAT, NOTADB
_UNKNOWN = 21  # MISUSE


class DamagedError(Exception):
    """The file is not what this module wrote."""


class UnusableError(Exception):
    """The file cannot be read or written: no permission, no room, no such folder."""


class BusyError(Exception):
    """Another process keeps the file locked for longer than anyone should."""


class StoreFile:
    """An open file; not to be shared between threads, nor taken along into a forked process."""

    def __init__(self, folder: Path):
        """Open the file in ``folder``, and make both where they are missing.

        Raises:
            DamagedError, UnusableError, BusyError: as their names say; nothing is left open.
        """
        self.path = folder / FILE
        if not _HAS_SQLITE:
            raise UnusableError("this Python was built without SQLite")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise UnusableError(getattr(error, "strerror", None) or str(error)) from None
        with _explained():
            self._db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            with _explained():
                self._prepare()
            self._identity = self._inode()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        db = self._db
        if self._is_new():
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before anything else is written, or not at all
            with contextlib.suppress(sqlite3.OperationalError):  # another process is at it, or the disk cannot have it
                db.execute("PRAGMA journal_mode = WAL")
            with self._writing():
                if self._is_new():  # no other process was faster
                    db.execute(_TABLE)
                    db.execute(f"PRAGMA application_id = {_MARK}")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        found = db.execute("SELECT sql FROM sqlite_master").fetchall()
        if (_TABLE,) not in found or db.execute("PRAGMA application_id").fetchone() != (_MARK,):
            raise DamagedError("it has another table")

    def _is_new(self) -> bool:
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (mark,) = self._db.execute("PRAGMA application_id").fetchone()
        return not (tables or mark)

    def select(self, key: bytes) -> tuple[bytes, bool] | None:
        """The text under a key, and whether it is long since it was last used."""
        with _explained():
            row = self._db.execute("SELECT used, sum, text FROM results WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        used, total, text = row
        if not (isinstance(used, int) and isinstance(text, bytes) and total == checksum(key, text)):
            raise DamagedError("a result's checksum is wrong")
        return text, used < _now() - _DAY

    def write(self, rows: Iterable[tuple[bytes, bytes]], used: Iterable[bytes], most_bytes: int) -> None:
        """Add texts by key, renew the date of others, and drop the longest unused where the file grew too large."""
        now = _now()
        with _explained(), self._writing() as db:
            db.executemany(
                "INSERT INTO results VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
                ((key, now, checksum(key, text), text) for key, text in rows),
            )
            db.executemany("UPDATE results SET used = ? WHERE key = ?", ((now, key) for key in used))
            size = self._bytes()
            if size > most_bytes:
                self._evict(1 - 0.75 * most_bytes / size)
        if size > most_bytes:
            with _explained():
                self._db.execute("PRAGMA incremental_vacuum").fetchall()

    def _evict(self, share: float) -> None:
        drop = int(self.entries() * share) + 1
        self._db.execute(
            "DELETE FROM results WHERE rowid IN (SELECT rowid FROM results ORDER BY used, rowid LIMIT ?)", (drop,)
        )

    def _bytes(self) -> int:
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        (empty,) = self._db.execute("PRAGMA freelist_count").fetchone()
        (each,) = self._db.execute("PRAGMA page_size").fetchone()
        return int((pages - empty) * each)

    def entries(self) -> int:
        """How many results there are."""
        with _explained():
            return int(self._db.execute("SELECT count(*) FROM results").fetchone()[0])

    def bytes(self) -> int:
        """How large the file is, without what is free in it."""
        with _explained():
            return self._bytes()

    def replaced(self) -> bool:
        """Whether the file was removed or built anew since it was opened."""
        return self._inode() != self._identity

    def close(self) -> None:
        """Close it; complaints come too late to matter."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def _inode(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @contextlib.contextmanager
    def _writing(self) -> Generator[sqlite3.Connection]:
        """One transaction: all or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise


def checksum(key: bytes, text: bytes) -> bytes:
    """Of a row: a text under another's key is as wrong as a changed one."""
    return blake2b(text, digest_size=8, key=key).digest()


def discard(folder: Path, aside: Path) -> bool:
    """Remove the file with its log in one step: renamed together first, so that nobody opens one without the other.

    Processes that have it open go on with what they have, and leave nothing behind. False where nothing was there.

    Raises:
        UnusableError: it cannot be moved.
    """
    try:
        folder.lstat()  # renaming nothing on a read-only disk is an error of its own
        folder.rename(aside)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UnusableError(error.strerror or str(error)) from None
    for name in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            (aside / f"{FILE}{name}").unlink()
    with contextlib.suppress(OSError):  # somebody put something else in it
        aside.rmdir()
    return True


def _now() -> int:
    return int(time.time())


@contextlib.contextmanager
def _explained() -> Generator[None]:
    """SQLite's complaints by what can be done about them."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", _UNKNOWN) & 0xFF
        if code in _BUSY:
            raise BusyError("another process keeps it locked") from None
        raise (DamagedError if code in _DAMAGE else UnusableError)(str(error)) from None
