"""The network that a schedule runs: its canonical graph, its layers as programs, its inputs and its true results."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from dfc.backend_cost.schedule import Schedule
from dfc.errors import UsageError
from dfc.execution.memory import Array
from dfc.execution.runtime import Session, run, session
from dfc.frontend.executable import Executable
from dfc.frontend.importer import graph_of, walk_onnx
from dfc.frontend.layer_program import LayerProgram, Recipe
from dfc.ir import Graph, Layer
from dfc.passes import PassManager, default_pipeline

#: outputs of kernels that are kept for a layer, one for each way in which its padding lies
_SESSIONS = 64


class Network:
    """A model, made executable layer by layer."""

    def __init__(self, path: Path, schedule: Schedule, place: str):
        """Raises UsageError CLI080 where the schedule is of another model, ModelError where this one is none."""
        self.place = str(path)
        shapes: dict[str | None, tuple[int, ...]] = {t.name: t.shape for t in schedule.model.inputs}
        _same_file(path, schedule, place)
        walked = walk_onnx(path, input_shape=shapes)
        imported = graph_of(walked)
        self.graph: Graph = PassManager(default_pipeline(), verify=True).run(imported)
        self.model = Executable(walked)
        self._called = dict(zip(self.graph.outputs, imported.outputs, strict=True))
        self.layers: Mapping[str, Layer] = {layer.name: layer for layer in self.graph.layers}
        self._programs: dict[str, LayerProgram] = {}
        self._sessions: dict[tuple[str, bytes], Session] = {}
        self.inputs: dict[str, Array] = {}
        self._truth: dict[str, Array] = {}

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
            self._sessions[key] = session(program.build(recipe), f"layer '{name}'")
        found = run(self._sessions[key], program.layer.outputs, {**feeds, **recipe.constants}, f"layer '{name}'")
        return [data[recipe.crop] if recipe.crop else data for data in found]

    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """Element types of the graph's feature maps; constants are none."""
        names = [*self.graph.inputs, *(t for layer in self.graph.layers for t in layer.outputs)]
        return {name: self.model.dtype(name) for name in names}

    def called(self, tensor: str) -> str:
        """A map's name for the user: that of the model's output where it stands for one, as a view of it is gone."""
        return self._called.get(tensor, tensor)

    # --- what is true

    def prepare(self, inputs: Mapping[str, Array]) -> None:
        """Take these inputs, and learn the constants that nodes compute."""
        self.inputs = dict(inputs)
        self._truth = dict(inputs)
        programs = [self.program(layer.name) for layer in self.graph.layers]
        names = self.model.unknown_constants(p.segment for p in programs)
        if names:
            self.model.learn(dict(zip(names, self._run(names), strict=True)))

    def truth(self, names: Iterable[str]) -> dict[str, Array]:
        """What ONNX Runtime computes for feature maps; what it once computed is kept.

        For a map that stands for an output of the model that is what the output has, in the map's shape.
        """
        wanted = list(dict.fromkeys(names))
        rest = [name for name in wanted if name not in self._truth]
        if rest:
            numbers = self._run([self.called(name) for name in rest])
            shapes = (self.graph.tensors[name].shape for name in rest)
            self._truth.update((n, d.reshape(s)) for n, d, s in zip(rest, numbers, shapes, strict=True))
        return {name: self._truth[name] for name in wanted}

    def _run(self, names: list[str]) -> list[Array]:
        one = session(self.model.whole(names), self.place)
        used = {name: self.inputs[name] for name in self.model.input_names if name in self.inputs}
        return run(one, names, used, self.place)

    def random_inputs(self, seed: int) -> dict[str, Array]:
        """Seeded numbers for every input: floats in [-1, 1), integers over what their type holds (at most 256)."""
        rng = np.random.default_rng(seed)
        found: dict[str, Array] = {}
        for name in self.model.input_names:
            shape, kind = self.model.shape(name), self.model.dtype(name)
            if kind.kind == "f":
                found[name] = rng.uniform(-1, 1, shape).astype(kind)
            elif kind.kind == "b":
                found[name] = rng.integers(0, 2, shape).astype(kind)
            else:
                info = np.iinfo(cast("Any", kind))
                found[name] = rng.integers(max(info.min, -128), min(info.max, 255), shape, endpoint=True).astype(kind)
        return found


def _same_file(path: Path, schedule: Schedule, place: str) -> None:
    """The schedule is of this very model."""
    if not path.is_file():
        return  # the importer says so
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != schedule.model.sha256:
        raise UsageError(
            "CLI080",
            f"the schedule is of another model: of '{schedule.model.file}' with SHA-256 "
            f"{schedule.model.sha256[:12]}..., this one has {digest[:12]}...",
            place=place,
            hint=f"give the model that it was compiled from, or compile {path.name} again",
        )
