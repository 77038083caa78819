"""Output files that are written whole or not at all.

Every file goes to a temporary name in its own folder, is flushed to disk and then renamed: a reader sees the old
content or the new one, never half of either. When anything goes wrong, what was begun is removed again, folders that
were made for it included.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Generator, Mapping
from pathlib import Path

from dfc.errors import UsageError

#: codes of this module, with the sentence that docs/errors.md prints for each
CODES: Mapping[str, str] = {
    "CLI022": "a file cannot be read",
    "CLI030": "the output folder is a file, or the output file a folder",
    "CLI031": "there is no permission to write the output",
    "CLI032": "the disk is full",
    "CLI033": "the output cannot be written for another reason",
}

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NOT_A_FOLDER = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR}


def check_folder(folder: Path) -> None:
    """Find out before the work starts that ``folder`` can be made or written; nothing is created.

    Raises:
        UsageError: CLI030 a file is in the way, CLI031 no permission.
    """
    with _explained(folder):
        nearest = folder.absolute()
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        if not nearest.is_dir():
            hint = "choose another place with -o, or remove the file"
            raise UsageError("CLI030", "the output folder is a file", place=str(nearest), hint=hint)
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def write_files(folder: Path, texts: Mapping[str, str | bytes]) -> None:
    """Write every text or picture under its name into ``folder``, which is made if need be: all of them, or none.

    The last one named is renamed last, so that its presence says that the others are there.

    Raises:
        UsageError: CLI030 to CLI033; the folder is then as it was.
    """
    with _explained(folder), _undo() as undo:
        _make_folder(folder, undo)
        parts = {folder / name: _write_beside(folder / name, text, undo) for name, text in texts.items()}
        for path, part in parts.items():
            if not path.exists():
                undo.callback(path.unlink, missing_ok=True)
            part.replace(path)
    _flush_folder(folder)


def write_file(path: Path, content: str | bytes) -> None:
    """Write one file, whole or not at all; its folder must exist.

    Raises:
        UsageError: CLI030 to CLI033; what was there before is then still there.
    """
    with _explained(path), _undo() as undo:
        _write_beside(path, content, undo).replace(path)
    _flush_folder(path.parent)


def read_text(path: Path) -> str:
    """A text file's content.

    Raises:
        UsageError: CLI022 where it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError("CLI022", "this is not a text file", place=str(path)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise UsageError(
            "CLI022",
            f"the file cannot be read: {reason}",
            place=str(path),
            hint="check the path and its permissions",
        ) from None


@contextlib.contextmanager
def _undo() -> Generator[contextlib.ExitStack]:
    """Callbacks that run only where the body fails, Ctrl-C included."""
    with contextlib.ExitStack() as stack:
        yield stack
        stack.pop_all()


def _make_folder(folder: Path, undo: contextlib.ExitStack) -> None:
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        undo.callback(_remove_folder, path)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def _remove_folder(path: Path) -> None:
    with contextlib.suppress(OSError):  # somebody else put something in it
        path.rmdir()


def _write_beside(path: Path, content: str | bytes, undo: contextlib.ExitStack) -> Path:
    """A temporary file with the content in ``path``'s folder, safely on disk."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    # not tempfile: its files are readable by their owner alone, and these should follow the umask
    number = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    undo.callback(part.unlink, missing_ok=True)
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with os.fdopen(number, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return part


def _flush_folder(folder: Path) -> None:
    """Make the renaming itself durable, where the system can."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextlib.contextmanager
def _explained(path: Path) -> Generator[None]:
    """An operating system's error as a diagnostic."""
    try:
        yield
    except ValueError:  # a zero byte in the path
        raise UsageError("CLI033", "this is not a path", place=repr(str(path))) from None
    except OSError as error:
        raise _diagnostic(error, path) from None


def _diagnostic(error: OSError, path: Path) -> UsageError:
    place, reason = str(path), error.strerror or str(error)
    if error.errno in _FULL:
        return UsageError("CLI032", f"cannot write: {reason}", place=place, hint="free some space, or choose -o")
    if error.errno in _FORBIDDEN:
        return UsageError("CLI031", f"cannot write: {reason}", place=place, hint="choose another place with -o")
    if error.errno in _NOT_A_FOLDER:
        return UsageError(
            "CLI030",
            f"cannot write: {reason}",
            place=place,
            hint="something else has this name; choose another with -o",
        )
    return UsageError("CLI033", f"cannot write: {reason}", place=place, hint="choose another place with -o")
