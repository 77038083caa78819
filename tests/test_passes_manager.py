"""Pipelines: order, callbacks, blame, and their text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from graph_builder import Builder

from dfc.errors import InternalError, ModelError, UsageError
from dfc.ir import Graph, parse_graph
from dfc.passes import REGISTRY, Canonicalise, Fuse, Pass, PassManager, default_pipeline, dumper, parse_pipeline


def network() -> Graph:
    b = Builder()
    b.eltwise(b.batch_norm(b.conv(b.input(3, 8, 8), 4)))
    return b.graph()


@dataclass(frozen=True, slots=True)
class Crash(Pass):
    """Fails as a programmer's mistake does."""

    name: ClassVar[str] = "crash"

    def run(self, graph: Graph) -> Graph:
        raise KeyError("oops")


@dataclass(frozen=True, slots=True)
class Spoil(Pass):
    """Leaves layers without origin."""

    name: ClassVar[str] = "spoil"

    def run(self, graph: Graph) -> Graph:
        return replace(graph, layers=tuple(replace(layer, origin=()) for layer in graph.layers))


@dataclass(frozen=True, slots=True)
class Refuse(Pass):
    """Finds fault with the user's model."""

    name: ClassVar[str] = "refuse"

    def run(self, graph: Graph) -> Graph:
        raise ModelError("ONNX999", "no")


def test_passes_run_in_order_and_report() -> None:
    seen: list[tuple[str, int, int]] = []

    def watch(step: Pass, before: Graph, after: Graph, seconds: float) -> None:
        assert seconds >= 0
        seen.append((str(step), len(before.layers), len(after.layers)))

    result = PassManager(default_pipeline(), verify=True, on_pass=watch).run(network())
    assert seen == [("canonicalise", 3, 2), ("fuse", 2, 1)]
    assert len(result.layers) == 1


def test_a_crash_names_the_passes_that_ran() -> None:
    with pytest.raises(InternalError, match=r"pass 'crash' failed, after canonicalise, fuse: KeyError") as caught:
        PassManager((Canonicalise(), Fuse(), Crash())).run(network())
    assert (caught.value.code, caught.value.exit_code) == ("IR120", 70)


def test_the_verifier_blames_the_pass_that_spoiled_the_graph() -> None:
    with pytest.raises(InternalError, match=r"pass 'spoil' left a malformed graph; it ran after fuse") as caught:
        PassManager((Fuse(), Spoil(), Canonicalise()), verify=True).run(network())
    assert caught.value.code == "IR108"
    with pytest.raises(InternalError, match="before the first pass"):
        PassManager((Fuse(),), verify=True).run(Spoil().run(network()))
    assert PassManager((Spoil(),), verify=False).run(network())


def test_diagnostics_about_the_model_pass_through() -> None:
    with pytest.raises(ModelError):
        PassManager((Refuse(),)).run(network())


@pytest.mark.parametrize(("value", "verified"), [("1", True), ("0", False), ("", False), (None, False)])
def test_the_environment_turns_the_verifier_on(
    monkeypatch: pytest.MonkeyPatch, value: str | None, verified: bool
) -> None:
    monkeypatch.delenv("DFC_VERIFY", raising=False)
    if value is not None:
        monkeypatch.setenv("DFC_VERIFY", value)
    assert PassManager().verify is verified


def test_dumps_can_be_read_back() -> None:
    dumps: list[str] = []
    result = PassManager(verify=True, on_pass=dumper(dumps.append)).run(network())
    assert [d.splitlines()[0].split(",")[0] for d in dumps] == [
        "# after canonicalise: 3 -> 2 layers",
        "# after fuse: 2 -> 1 layers",
    ]
    assert parse_graph(dumps[-1]) == result


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("", ()),
        ("fuse", (Fuse(),)),
        ("canonicalise,fuse", (Canonicalise(), Fuse())),
        (" canonicalise{ pads = false , batch_norms=true } , fuse{} ", (Canonicalise(pads=False), Fuse())),
        ("canonicalise{pads}", (Canonicalise(),)),
    ],
)
def test_pipelines_from_text(text: str, passes: tuple[Pass, ...]) -> None:
    assert parse_pipeline(text) == passes
    assert parse_pipeline(",".join(map(str, passes))) == passes


def test_passes_print_what_differs_from_the_default() -> None:
    assert str(Canonicalise()) == "canonicalise"
    assert str(Canonicalise(pads=False)) == "canonicalise{pads=false}"
    assert {cls.name: cls for cls in (Canonicalise, Fuse)} == REGISTRY


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("fuse,", "CLI040", "not a pipeline: 'fuse,'"),
        ("fuse fuse", "CLI040", "not a pipeline"),
        ("fuse{pads", "CLI040", "not a pipeline"),
        ("fusion", "CLI041", "passes are canonicalise, fuse"),
        ("fuse{pads=true}", "CLI042", "its options are none"),
        ("canonicalise{pads=maybe}", "CLI042", "batch_norms=true, pads=true, slices=true"),
        ("canonicalise{name=fuse}", "CLI042", "no option 'name=fuse'"),
    ],
)
def test_bad_pipelines_are_usage_errors(text: str, code: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_pipeline(text)
    assert caught.value.code == code
    assert says in caught.value.render()
