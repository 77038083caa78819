"""The compiled parts of the mapping search; where there is no compiler, the install goes on without it."""

from setuptools import Extension, setup

_PARTS = "_axes", "_branch", "_buffers", "_chains", "_least", "_measures", "_play", "_timing"
#: parts include others, and these; what a part depends on is also what a source distribution carries
_FILES = [*(f"backend_cost/{name}.c" for name in _PARTS), "backend_cost/_heap.h", "backend_cost/_views.h"]


def extension(name: str) -> Extension:
    """A compiled part, for every Python from 3.11 on."""
    return Extension(
        f"dfc.backend_cost.{name}",
        [f"backend_cost/{name}.c"],
        define_macros=[("Py_LIMITED_API", "0x030B0000")],
        py_limited_api=True,
        optional=True,
        depends=_FILES,
    )


setup(
    ext_modules=[extension(name) for name in _PARTS],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
