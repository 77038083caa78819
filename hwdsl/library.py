"""Pages in files and in the library that ships with dfc, and how ``extends`` finds its base."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from dfc.hwdsl.arch import Arch
from dfc.hwdsl.diagnostics import closest, listing, problem
from dfc.hwdsl.draft import Draft
from dfc.hwdsl.elaborate import elaborate
from dfc.hwdsl.parser import parse
from dfc.hwdsl.properties import draft as draft_of
from dfc.hwdsl.syntax import AcceleratorDecl

SUFFIX = ".hw"
_LARGEST_PAGE_BYTES = 1 << 20
_LONGEST_CHAIN = 100


def library() -> list[str]:
    """Names of the accelerators that ship with dfc, sorted."""
    entries = files("dfc.hwdsl").joinpath("lib").iterdir()
    return sorted(entry.name.removesuffix(SUFFIX) for entry in entries if entry.name.endswith(SUFFIX))


def load_arch(path_or_name: str | Path, *, name: str | None = None) -> Arch:
    """The accelerator of a file, or of the library where there is no such file.

    A path that exists wins; otherwise the path's last part, with or without ``.hw``, is looked up in the
    library. Of several accelerators in a file, the last one is meant unless ``name`` chooses.

    Raises:
        HardwareError: HW001 to HW004 where the page cannot be read, and every other HW code for what it says.
    """
    return _choose(_read(path_or_name), name)


def parse_arch(text: str, file: str = "<string>", *, name: str | None = None) -> Arch:
    """The accelerator that a page's text describes; ``file`` is what diagnostics call it."""
    return _choose(_Page(text, file), name)


@dataclass(frozen=True)
class _Page:
    text: str
    file: str
    folder: Path | None = None

    @cached_property
    def accelerators(self) -> dict[str, AcceleratorDecl]:
        found: dict[str, AcceleratorDecl] = {}
        for decl in parse(self.text, self.file):
            if decl.name.text in found:
                hint = f"the first is at {found[decl.name.text].name.span}"
                raise problem("HW016", f"accelerator '{decl.name.text}' is given twice", decl.name.span, hint)
            found[decl.name.text] = decl
        if not found:
            raise problem(
                "HW004",
                "the page describes no accelerator",
                place=self.file,
                hint="write: accelerator NAME { ... }",
            )
        return found


def _choose(page: _Page, name: str | None) -> Arch:
    """The accelerator asked for; all of the page are elaborated, so that a mistake in any is found."""
    made = {decl.name.text: elaborate(_resolve(decl, page, ()), page.file) for decl in page.accelerators.values()}
    if name is None:
        return list(made.values())[-1]
    if name not in made:
        raise problem("HW022", f"no accelerator '{name}' here", place=page.file, hint=f"it has {listing(made)}")
    return made[name]


def _resolve(decl: AcceleratorDecl, page: _Page, chain: tuple[AcceleratorDecl, ...]) -> Draft:
    own = draft_of(decl)
    chain = (*chain, decl)
    if decl.base is None:
        _check_removed(own, set())
        return own
    base_decl, base_page = _find_base(decl, page)
    if any(base_decl is link for link in chain) or len(chain) > _LONGEST_CHAIN:
        hint = "a base must not depend on what extends it"
        names = " -> ".join(link.name.text for link in (*chain, base_decl))
        raise problem("HW021", f"accelerator '{decl.name.text}' extends itself: {names}", decl.base.span, hint)
    base = _resolve(base_decl, base_page, chain)
    _check_removed(own, set(base.memories))
    return own.over(base)


def _find_base(decl: AcceleratorDecl, page: _Page) -> tuple[AcceleratorDecl, _Page]:
    """The base: another accelerator of the page, or of ``NAME.hw`` in its folder or in the library."""
    assert decl.base is not None
    name = decl.base.text
    here = page.accelerators.get(name)
    if here is not None and here is not decl:
        return here, page
    beside = page.folder / f"{name}{SUFFIX}" if page.folder else None
    if beside is not None and beside.is_file() and str(beside) != page.file:
        other = _read(beside)
    elif name in library() and page.file != _library_file(name):
        other = _library_page(name)
    elif here is not None:
        return here, page
    else:
        other = None
    if other is not None and name in other.accelerators:
        return other.accelerators[name], other
    known = [*page.accelerators, *library()]
    best = closest(name, [other for other in known if other != decl.name.text])
    hint = f"did you mean '{best}'? " if best else ""
    hint += f"looked in this page, its folder and the library: {listing(library())}"
    raise problem("HW020", f"no accelerator '{name}' to extend", decl.base.span, hint)


def _check_removed(own: Draft, known: set[str]) -> None:
    for word in own.removed:
        if word.text not in known:
            hint = f"the base has {listing(sorted(known))}" if known else "only a page that extends another can remove"
            raise problem("HW023", f"there is no memory '{word.text}' to remove", word.span, hint)


def _read(path_or_name: str | Path) -> _Page:
    path = Path(path_or_name)
    shown = "".join(c if c.isprintable() else "?" for c in str(path_or_name))
    try:
        if path.is_dir():
            raise problem("HW002", "this is a folder, not a page of the hardware language", place=shown)
        if path.exists():
            with path.open("rb") as file:
                return _page(file.read(_LARGEST_PAGE_BYTES + 1), shown, path.parent)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise problem("HW002", f"the page cannot be read: {reason}", place=shown) from None
    name = path.name.removesuffix(SUFFIX)
    if name in library():
        return _library_page(name)
    best = closest(name, library())
    hint = f"did you mean '{best}'? " if best else ""
    raise problem(
        "HW001",
        "no such file or accelerator",
        place=shown,
        hint=f"{hint}the library has {listing(library())}",
    )


def _library_file(name: str) -> str:
    return f"dfc/hwdsl/lib/{name}{SUFFIX}"


def _library_page(name: str) -> _Page:
    data = files("dfc.hwdsl").joinpath("lib", f"{name}{SUFFIX}").read_bytes()
    return _page(data, _library_file(name), None)


def _page(data: bytes, file: str, folder: Path | None) -> _Page:
    if len(data) > _LARGEST_PAGE_BYTES:
        raise problem("HW002", "the page is larger than 1 MiB, which no page of hardware is", place=file)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"the page is not UTF-8 text (byte {error.start})"
        raise problem("HW003", message, place=file, hint="is this a page of the hardware language?") from None
    if not text.strip():
        raise problem("HW004", "the page is empty", place=file, hint="write: accelerator NAME { ... }")
    return _Page(text, file, folder)
