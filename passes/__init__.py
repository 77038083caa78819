"""Graph in, graph out: canonicalise and fuse; and the stacks, tiles and plans of depth-first schedules."""

from dfc.passes.base import Pass
from dfc.passes.canonicalise import Canonicalise
from dfc.passes.fuse import Fuse
from dfc.passes.manager import REGISTRY, PassManager, default_pipeline, dumper, parse_pipeline

__all__ = [
    "REGISTRY",
    "Canonicalise",
    "Fuse",
    "Pass",
    "PassManager",
    "default_pipeline",
    "dumper",
    "parse_pipeline",
]
