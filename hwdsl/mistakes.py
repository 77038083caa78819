"""Syntax errors in sentences: typical mistakes by example, and names for what the parser expected."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dfc.hwdsl.diagnostics import listing

_A = "accelerator a { "
_R = _A + "array { "
_M = _A + "memory m { "

#: label -> pages that go wrong in the same parser state and for the same reason
EXAMPLES: Mapping[str, list[str]] = {
    "outside": [
        "accelerator a { } }",
        "accelerator a { clock 1 GHz } }",
        "accelerator a { } accelerator b { } }",
        "accelerator a { } x",
        "memory m { size 1 b }",
        "clock 1 GHz",
        "array { }",
        "}",
        "path W: array <- m",
        "accelerator a { } }",
        "accelerator a { clock 1 GHz } }",
        "accelerator a { } accelerator b { } }",
        "accelerator a { } x",
    ],
    "colon": [_M + "size : 64 KiB", _A + "clock : 1 GHz", _R + "op : 1 pJ", _R + "clock : 1 GHz"],
    "accelerator name": ["accelerator { }", 'accelerator "a" { }', "accelerator 3 { }"],
    "accelerator block": [
        "accelerator a clock 1 GHz",
        "accelerator a array",
        "accelerator a: {",
        "accelerator a",
    ],
    "extends name": ["accelerator a extends {", "accelerator a extends"],
    "unclosed accelerator": [
        _A,
        _A + "clock 1 GHz",
        _A + "memory m { }",
        _A + "array { }",
        _A + "path W: array <- m",
        _A + "path W: array <- m <- n",
        _A + "path W: array <- m <- n accelerator",
        _A + "memory m { } accelerator",
        _A + "memory m { } path W: array <- m accelerator",
    ],
    "unclosed array": [
        _R,
        _R + "dims D1: 2",
        _R + "memory",
        _R + "path",
        _R + "op 1 pJ memory",
        _R + "op 1 pJ path",
        _R + "dims D1: 2 memory",
        _R + "dims D1: 2 path",
        _R + "dims D1: 2 op 1 pJ memory",
        _R + "dims D1: 2 op 1 pJ path",
        _R + "unroll conv D1: K memory",
        _R + "unroll conv D1: K path",
        _R + "unroll conv D1: K, D2: C memory",
        _R + "unroll conv D1: K, D2: C path",
    ],
    "unclosed memory": [
        _M,
        _M + "memory",
        _M + "path",
        _M + "size 1 b",
        _M + "size 1 b memory",
        _M + "size 1 b path",
        _M + "size 1 b width 1 b memory",
        _M + "size 1 b width 1 b path",
        _M + "holds I memory",
        _M + "holds I path",
        _M + "ports 1r 1w memory",
        _M + "ports 1r 1w path",
        _M + "port r1: I read up memory",
        _M + "port r1: I read up path",
    ],
    "separator": [
        _M + "size 1 b, width 1 b",
        _M + "size 1 b width 1 b, holds I",
        _M + "ports 1r, 1w",
        _M + "ports 1r 1w, size 1 b",
        _A + "clock 1 GHz, memory",
        _A + "memory m { }, memory",
    ],
    "memory name": [_A + "memory { }", _A + 'memory "m" { }', _A + "memory 3 { }"],
    "memory block": [_A + "memory m size 1 b", _A + "memory m: {", _A + "memory m = {"],
    "dims": [
        _R + "dims 32, 4",
        _R + "dims { }",
        _R + "dims D1 32",
        _R + "dims D1 = 32",
        _R + "dims D1: x",
        _R + "dims D1: 2, }",
    ],
    "mac": [
        _R + "mac 8 b, 8 b -> 16 b, 1 pJ",
        _R + "mac 8 b 8 b -> 16 b, 1 pJ",
        _R + "mac 8 b x 8 b, 1 pJ",
        _R + "mac 8 b x 8 b 1 pJ",
        _R + "mac 8 b x 8 b -> 16 b }",
        _R + "mac 8 b x 8 b -> 16 b 1 pJ",
        _R + "mac 8 b x 8 b -> , 1 pJ",
        _R + "mac 8 b }",
        _R + "mac 1 pJ }",
        _R + "mac = 8 b",
        _R + "mac }",
    ],
    "unroll": [
        _R + "unroll D1: K",
        _R + "unroll conv: D1: K",
        _R + "unroll conv D1 = K",
        _R + "unroll conv D1 K",
        _R + "unroll conv D1: K, }",
        _R + "unroll conv }",
        _R + "unroll }",
        _R + "unroll conv D1: 3",
    ],
    "path": [
        _A + "path W array <- m",
        _A + "path W = array <- m",
        _A + "path W: array }",
        _A + "path W: array, m",
        _A + "path W: array m",
        _A + "path W: array <- }",
        _A + "path W: array <- m <- }",
        _A + "path : array",
        _A + "path W: <- m",
    ],
    "port": [
        _M + "port r1 O read up",
        _M + "port r1: O read }",
        _M + "port r1: O up, }",
        _M + "port r1: O, I",
        _M + "port : O read up",
        _M + "port r1: }",
        _M + "port 1r: O read up",
    ],
    "remove": [_A + "remove m", _A + "remove memory }"],
    "note": [_A + "note x", _A + "note }"],
    "value": [
        _M + "size }",
        _M + "size , 1",
        _M + "size = }",
        _A + "clock }",
        _R + "op }",
    ],
    "stray number": [_M + "64 KiB }", _A + "3", _R + "3"],
    "list": [_M + "holds I, }", _M + "holds I, 3", _M + "across D1, }"],
    "unit": [_M + "width 512 b/ }", _M + "width 512 b/3"],
}

_SENTENCES: Mapping[str, tuple[str, str]] = {
    "separator": ("properties follow each other without commas", "leave the comma out"),
    "colon": ("a property takes no colon", "write its name and then its value, such as size 64 KiB"),
    "character": ("this has no meaning here", "names are letters, digits and _; a comment starts with #"),
    "outside": ("a page is a list of accelerators", "write: accelerator NAME { ... } around it"),
    "accelerator name": ("an accelerator needs a name", "write: accelerator NAME { ... }"),
    "accelerator block": ("the accelerator's block is missing", "write: accelerator NAME { ... }"),
    "extends name": (
        "'extends' needs the name of an accelerator",
        "write: accelerator NAME extends BASE { ... }",
    ),
    "unclosed accelerator": (
        "the accelerator's block is not closed or holds something foreign",
        "close it with }",
    ),
    "unclosed array": ("the array's block is not closed or holds something foreign", "close it with }"),
    "unclosed memory": ("the memory's block is not closed or holds something foreign", "close it with }"),
    "memory name": ("a memory needs a name", "write: memory NAME { ... }"),
    "memory block": ("the memory's block is missing", "write: memory NAME { holds I  size 64 KiB ... }"),
    "dims": ("this is not a list of array dimensions", "write: dims D1: 32, D2: 2"),
    "mac": (
        "this is not a multiply-accumulate",
        "write: mac INPUT x WEIGHT -> PARTIAL SUM, ENERGY, such as mac 8 b x 8 b -> 16 b, 0.04 pJ",
    ),
    "unroll": (
        "this is not an unrolling",
        "write: unroll KIND DIM: LOOP, ..., such as unroll conv D1: K, D2: C/8",
    ),
    "path": ("this is not a path of memories", "write: path W: array <- inner <- outer (and <-> for O)"),
    "port": ("this does not say what the port serves", "write: port r1: O read up, I read down"),
    "remove": ("'remove' takes a memory", "write: remove memory NAME"),
    "note": ("a note is text in double quotes", 'write: note "text"'),
    "value": ("a value is missing", "write the property's name and then its value, such as size 64 KiB"),
    "stray number": (
        "a number stands where a property should begin",
        "write its name first, such as size 64 KiB",
    ),
    "list": ("a name is missing after the comma", "write names with commas between them, such as holds I, O"),
    "unit": ("the unit is not complete", "write e.g. 512 b/cycle"),
}

_TERMINALS: Mapping[str, str] = {
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": 'text in ""',
    "ARROW": "an arrow",
    "LBRACE": "'{'",
    "RBRACE": "'}'",
    "COLON": "':'",
    "COMMA": "','",
    "EQUAL": "'='",
    "SLASH": "'/'",
    "_BY": "'x'",
    "$END": "the end",
}


def explain(label: str | None, expected: Collection[str]) -> tuple[str, str]:
    """A sentence and a hint for a syntax error: by the typical mistake's label, or by what was expected."""
    if label is not None and label in _SENTENCES:
        return _SENTENCES[label]
    names = sorted(_TERMINALS.get(name) or f"'{name.strip('_').lower()}'" for name in expected)
    return ("this does not fit here", f"expected {listing(names, 'or')}" if names else "")
