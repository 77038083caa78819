"""What a pass is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

from dfc.ir import Graph


@dataclass(frozen=True, slots=True)
class Pass(ABC):
    """A change of a graph that keeps its meaning; a frozen dataclass whose fields are its options.

    Every option is a bool, int or str with a default. ``run`` returns the graph it got where nothing changes.
    """

    name: ClassVar[str]

    @abstractmethod
    def run(self, graph: Graph) -> Graph:
        """The changed graph."""

    def __str__(self) -> str:
        """As a pipeline writes it: the name, and the options that differ from their defaults."""
        changed = [(f.name, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != f.default]
        options = ",".join(f"{name}={str(value).lower()}" for name, value in changed)
        return f"{self.name}{{{options}}}" if options else self.name
