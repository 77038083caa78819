"""The hardware language: a page of text that describes an accelerator, read into a frozen :class:`Arch`.

docs/hardware-language.md teaches it; ``lib/`` holds the accelerators that ship with dfc.
"""

from dfc.hwdsl.arch import Arch, ArrayDim, Memory, Move, OperationalArray, Port, Unroll
from dfc.hwdsl.library import library, load_arch, parse_arch
from dfc.hwdsl.printer import format_arch

__all__ = [
    "Arch",
    "ArrayDim",
    "Memory",
    "Move",
    "OperationalArray",
    "Port",
    "Unroll",
    "format_arch",
    "library",
    "load_arch",
    "parse_arch",
]
