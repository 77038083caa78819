"""The example networks for tests: ``build("fsrcnn")``, built once per process."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name: str, path: Path) -> ModuleType:
    """A module or package outside ``sys.path``, so that examples/ shadows nothing that is installed."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


NETWORKS: Mapping[str, Any] = load("networks", EXAMPLES / "networks" / "__init__.py").NETWORKS


@functools.cache
def build(name: str, **size: int) -> onnx.ModelProto:
    """The model; shared between tests, so not to be changed. ``size`` goes to the builder."""
    return NETWORKS[name].build(**size)
