"""Runs passes with the verifier, timing and dumps between them, and reads pipelines from text."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from types import MappingProxyType

from dfc.errors import DfcError, InternalError, UsageError
from dfc.ir import Graph, print_graph, verify
from dfc.passes.base import Pass
from dfc.passes.canonicalise import Canonicalise
from dfc.passes.fuse import Fuse

#: called after each pass: the pass, the graph before and after, seconds
OnPass = Callable[[Pass, Graph, Graph, float], None]

REGISTRY: Mapping[str, type[Pass]] = MappingProxyType({p.name: p for p in (Canonicalise, Fuse)})


def default_pipeline() -> tuple[Pass, ...]:
    """What ``dfc compile`` runs before it plans stacks and tiles."""
    return (Canonicalise(), Fuse())


def verify_by_default() -> bool:
    """Whether the environment asks for the verifier between passes: ``DFC_VERIFY`` set and not 0."""
    return os.environ.get("DFC_VERIFY", "0") not in ("", "0")


@dataclass(frozen=True, slots=True)
class PassManager:
    """A pipeline. With ``verify`` the graph is verified before the first and after every pass."""

    passes: tuple[Pass, ...] = field(default_factory=default_pipeline)
    verify: bool = field(default_factory=verify_by_default)
    on_pass: OnPass | None = None

    def run(self, graph: Graph) -> Graph:
        """The graph after all passes.

        Raises InternalError where a pass crashes (IR120) or leaves a malformed graph (IR101 to IR114); it
        names the pass and those that had run. Diagnostics about the user's model pass through.
        """
        self._verify(graph, "the graph was malformed before the first pass")
        done: list[str] = []
        for step in self.passes:
            history = f"after {', '.join(done)}" if done else "as the first pass"
            start = time.perf_counter()
            result = _run(step, graph, history)
            seconds = time.perf_counter() - start
            self._verify(result, f"pass '{step}' left a malformed graph; it ran {history}")
            if self.on_pass is not None:
                self.on_pass(step, graph, result, seconds)
            graph = result
            done.append(str(step))
        return graph

    def _verify(self, graph: Graph, blame: str) -> None:
        if not self.verify:
            return
        try:
            verify(graph)
        except InternalError as error:
            message = f"{blame}\n  {error.message}"
            raise InternalError(error.code, message, place=error.place, hint=error.hint) from error


def _run(step: Pass, graph: Graph, history: str) -> Graph:
    try:
        return step.run(graph)
    except DfcError:
        raise
    except Exception as error:
        message = f"pass '{step}' failed, {history}: {type(error).__name__}: {error}"
        raise InternalError("IR120", message, hint="this is a defect of dfc; please report it") from error


def dumper(write: Callable[[str], object]) -> OnPass:
    """An ``on_pass`` that writes the graph after each pass, under a comment with the pass and its time."""

    def dump(step: Pass, before: Graph, after: Graph, seconds: float) -> None:
        counts = f"{len(before.layers)} -> {len(after.layers)} layers"
        write(f"# after {step}: {counts}, {1e3 * seconds:.1f} ms\n{print_graph(after)}\n")

    return dump


# -- pipelines as text ---------------------------------------------------------------------------------------

_STEP = re.compile(r"\s*([A-Za-z_-]+)\s*(?:\{([^{}]*)\})?\s*(,|$)")


def parse_pipeline(text: str) -> tuple[Pass, ...]:
    """Passes from ``"canonicalise{pads=false},fuse"``; UsageError CLI040 to CLI042 if it is none."""
    steps: list[Pass] = []
    at = 0
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None or (match[3] == "," and not text[match.end() :].strip()):
            hint = "passes are separated by commas, options stand in braces: canonicalise{pads=false},fuse"
            raise UsageError("CLI040", f"not a pipeline: {text[at:]!r}", place="the pipeline", hint=hint)
        steps.append(_make_pass(match[1], match[2] or ""))
        at = match.end()
    return tuple(steps)


def _make_pass(name: str, options: str) -> Pass:
    if name not in REGISTRY:
        hint = f"passes are {', '.join(REGISTRY)}"
        raise UsageError("CLI041", f"there is no pass named {name!r}", place="the pipeline", hint=hint)
    cls = REGISTRY[name]
    known = {f.name: f.default for f in fields(cls) if f.default is not MISSING}
    given: dict[str, bool | int | str] = {}
    for option in filter(None, (part.strip() for part in options.split(","))):
        key, _, value = (part.strip() for part in option.partition("="))
        parsed = _option_value(known.get(key), value)
        if parsed is None:
            hint = f"its options are {', '.join(f'{k}={str(v).lower()}' for k, v in known.items()) or 'none'}"
            raise UsageError("CLI042", f"pass {name!r} has no option {option!r}", place="the pipeline", hint=hint)
        given[key] = parsed
    return cls(**given)


def _option_value(default: object, text: str) -> bool | int | str | None:
    """The value of an option, of its default's type; None if there is no such option or no such value."""
    if isinstance(default, bool):
        return {"true": True, "false": False, "": True}.get(text)
    if isinstance(default, int):
        return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None
    return text if isinstance(default, str) and text else None
