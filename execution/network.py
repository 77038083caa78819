"""The network that a schedule runs, with its inputs and its true results."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from dfc.backend_cost.schedule import Schedule
from dfc.errors import UsageError
from dfc.execution.memory import Array
from dfc.execution.programs import Programs
from dfc.execution.runtime import run, session
from dfc.frontend.executable import Executable
from dfc.frontend.importer import graph_of, walk_onnx
from dfc.passes import PassManager, default_pipeline


class Network(Programs):
    """A model, made executable layer by layer."""

    def __init__(self, path: Path, schedule: Schedule):
        """Raises ModelError where the file is no model."""
        self.place = str(path)
        shapes: dict[str | None, tuple[int, ...]] = {t.name: t.shape for t in schedule.model.inputs}
        walked = walk_onnx(path, input_shape=shapes)
        imported = graph_of(walked)
        graph = PassManager(default_pipeline(), verify=True).run(imported)
        super().__init__(Executable(walked), graph)
        self._called = dict(zip(graph.outputs, imported.outputs, strict=True))
        self._truth: dict[str, Array] = {}

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
        """Seeded numbers for every input: as :func:`random_array` draws them."""
        rng = np.random.default_rng(seed)
        return {n: random_array(rng, self.model.shape(n), self.model.dtype(n)) for n in self.model.input_names}


def random_array(rng: np.random.Generator, shape: Sequence[int], kind: np.dtype[Any]) -> Array:
    """Floats in [-1, 1), integers over what their type holds (at most 256)."""
    if kind.kind == "f":
        return rng.uniform(-1, 1, shape).astype(kind)
    if kind.kind == "b":
        return rng.integers(0, 2, shape).astype(kind)
    info = np.iinfo(cast("Any", kind))
    return rng.integers(max(info.min, -128), min(info.max, 255), shape, endpoint=True).astype(kind)


def same_file(path: Path, schedule: Schedule, place: str) -> None:
    """The schedule is of this very model.

    Raises:
        UsageError: CLI080 where it is of another.
    """
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
