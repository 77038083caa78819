"""What decides a mapping problem's answer, as a key that is the same in every process that runs the same dfc.

A key is a hash of a canonical text: the version of dfc and of the sources that decide costs, the objective, the model's
terms, and of the accelerator the memories that the nest's operands use. Names and places on a page are left out, save
the names of memories where rules are given; the memories' indices are not, because results refer to memories by index.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from hashlib import blake2b
from importlib.resources import files

from dfc._version import __version__
from dfc.backend_cost.cost_model import CostModel
from dfc.backend_cost.mapping_cost import Objective
from dfc.backend_cost.nest import Nest
from dfc.hwdsl.arch import Arch, Memory, Move
from dfc.ir import Role

KEY_BYTES = 20
#: what of a memory changes no cost; every other field is part of a key
NO_COST = frozenset({"name", "span", "size_span"})
#: sources outside of this package that say what a nest and a memory are
_VOCABULARY = (("dfc.hwdsl", "arch.py"), ("dfc.ir", "dims.py"))
_SUFFIXES = (".py", ".pyc", ".c", ".so", ".pyd")


@cache
def model_version() -> str:
    """dfc's version and a hash of all files that decide costs: whoever edits the model gets no answers of before."""
    folders = [(files("dfc.backend_cost"), _SUFFIXES), *((files(room), (name,)) for room, name in _VOCABULARY)]
    digest = blake2b(digest_size=16)
    for folder, suffixes in folders:
        for file in sorted((f for f in folder.iterdir() if f.name.endswith(suffixes)), key=lambda f: f.name):
            text = file.read_bytes()
            digest.update(f"{file.name} {len(text)}\n".encode())
            digest.update(text)
    return f"{__version__} {digest.hexdigest()}"


class ProblemKeys:
    """Keys of the nests that are mapped on one accelerator with one aim."""

    def __init__(self, arch: Arch, objective: Objective, model: CostModel):
        terms = " ".join(term for term in model.terms() if getattr(model, term))
        array = arch.array
        aim = (objective.value, terms, array.mac_pj, array.op_pj)
        self._start = blake2b(repr((model_version(), *aim)).encode(), digest_size=KEY_BYTES)
        self._memories = [repr(tuple(_memory_parts(memory))).encode() for memory in arch.memories]

    def key(self, nest: Nest, options: str = "") -> bytes:
        """The nest's key, of ``KEY_BYTES`` bytes; ``options`` is whatever else decides its answer, in stable words."""
        digest = self._start.copy()
        for index in sorted({m for operand in nest.operands for m in operand.memories}):
            digest.update(b"\n%d " % index + self._memories[index])
        digest.update(f"\n{nest!r}\n{options}".encode())
        return digest.digest()


def _memory_parts(memory: Memory) -> Iterator[tuple[str, object]]:
    """Field by field what of a memory may change a cost, in one order whatever the page's was."""
    for field in fields(memory):
        value: object = getattr(memory, field.name)
        if field.name == "ports":
            value = tuple(port.kind for port in memory.ports)
        elif field.name == "port_of":
            value = tuple(memory.port_of.get((role, move)) for role in Role for move in Move)
        if field.name not in NO_COST:
            yield field.name, value
