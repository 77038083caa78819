"""MLIR compiled and run by IREE: the independent judge of what dfc writes."""

from __future__ import annotations

import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from iree import runtime

SCRIPTS = Path(sysconfig.get_path("scripts"))
#: the plainest code for any x86 or ARM machine
TARGET = (
    "--iree-hal-target-device=local",
    "--iree-hal-local-target-device-backends=llvm-cpu",
    "--iree-llvmcpu-target-cpu=generic",
)

Array = np.ndarray[Any, Any]


def _tool(name: str, *arguments: str, text: str) -> bytes:
    done = subprocess.run([SCRIPTS / name, *arguments, "-"], input=text.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def reprinted(text: str) -> str:
    """The module as iree-opt prints it, which parses and verifies it first."""
    return _tool("iree-opt", text=text).decode()


def run(text: str, inputs: Sequence[Array], function: str = "network") -> list[Array]:
    """The module's function, compiled for the processor and called."""
    code = _tool("iree-compile", *TARGET, text=text)
    context = runtime.SystemContext(config=runtime.Config("local-sync"))
    context.add_vm_module(runtime.VmModule.copy_buffer(context.instance, code))
    found = context.modules.module[function](*inputs)
    return [one.to_host() for one in (found if isinstance(found, tuple | list) else [found])]
