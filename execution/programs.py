"""A network whose layers can be computed one by one: its canonical graph, its layers as programs, its element types."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dfc.execution.memory import Array
from dfc.execution.runtime import Session, run, session
from dfc.frontend.executable import Executable
from dfc.frontend.layer_program import LayerProgram, Recipe
from dfc.ir import Graph, Layer

#: outputs of kernels that are kept for a layer, one for each way in which its padding lies
_SESSIONS = 64


@dataclass(frozen=True, slots=True)
class Axes:
    """Which axes of the model's tensors the schedule has as Y and X; ``turned`` where its Y is the model's T."""

    turned: bool = False

    @property
    def rows(self) -> tuple[int, ...]:
        """Where the schedule's (y, x, batch, channel, t) are among the model's (batch, channel, t, y, x)."""
        return (2, 4, 0, 1, 3) if self.turned else (3, 4, 0, 1, 2)

    def places(self, rank: int) -> tuple[int | None, int | None]:
        """The axes of a tensor of so many that are the schedule's Y and X, if it has them."""
        y = rank - 3 if self.turned else rank - 2
        return y if y >= 2 else None, rank - 1 if rank >= 3 else None


class Programs(ABC):
    """A network, executable layer by layer.

    inputs:  what it is given, by the name of the graph's input, on the model's own axes.
    threads: of ONNX Runtime for a layer; 0: as many as there are cores.
    """

    inputs: dict[str, Array]
    threads: int = 0

    def __init__(self, model: Executable, graph: Graph, axes: Axes = Axes()):
        self.model = model
        self.graph = graph
        self.axes = axes
        self.layers: Mapping[str, Layer] = {layer.name: layer for layer in graph.layers}
        self._programs: dict[str, LayerProgram] = {}
        self._sessions: dict[tuple[str, bytes], Session] = {}
        self.inputs = {}

    @abstractmethod
    def truth(self, names: Iterable[str]) -> dict[str, Array]:
        """What ONNX Runtime computes for feature maps."""

    def program(self, layer: str) -> LayerProgram:
        """A layer as a program."""
        if layer not in self._programs:
            self._programs[layer] = LayerProgram(self.model, self.layers[layer])
        return self._programs[layer]

    def compute(self, program: LayerProgram, recipe: Recipe, feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs of a layer, or of the part of it that a recipe computes."""
        name = program.layer.name
        key = (name, recipe.key)
        if key not in self._sessions:
            if len(self._sessions) >= _SESSIONS * len(self.layers):
                self._sessions.clear()
            self._sessions[key] = session(program.build(recipe), f"layer '{name}'", threads=self.threads)
        found = run(self._sessions[key], program.layer.outputs, {**feeds, **recipe.constants}, f"layer '{name}'")
        return [data[recipe.crop] if recipe.crop else data for data in found]

    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """Element types of the graph's feature maps; constants are none."""
        names = [*self.graph.inputs, *(t for layer in self.graph.layers for t in layer.outputs)]
        return {name: self.model.dtype(name) for name in names}

    def made_shape(self, tensor: str) -> tuple[int, ...]:
        """The shape, on the model's own axes, of what is made or received of a feature map."""
        return self.graph.made_shape(tensor)

    def called(self, tensor: str) -> str:
        """A map's name for the user."""
        return tensor
