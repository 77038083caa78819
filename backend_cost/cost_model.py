"""The named cost models: one interface, and a list of terms in which they differ.

``defines`` is the reference's model with its approximations and defects; ``exact`` replaces each of them. A term is
named after what it makes right; docs/cost-model.md shows for each what changes and why.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from dfc.errors import UsageError


@dataclass(frozen=True, slots=True)
class CostModel:
    """Which terms are exact.

    whole_lanes:      bursts are counted lane by lane with remainders and borders, instead of with fractional lanes,
                      truncated bandwidth boosts and rounded instance counts (C5, C6, C7).
    first_sum_free:   the first accumulation reads no partial sum back (C4).
    last_sum_final:   the last write of a sum carries the final precision, earlier ones the partial one.
    op_energy:        pooling and additions cost the chip's energy of an operation, not that of a multiply-accumulate
                      (A9).
    write_width:      a port for reads and writes writes at the write width, not at the read width (C14).
    played:           transfers wait for room and for ports as the simulator plays them, a second buffer is granted
                      where there is room for one, and the last outputs' way up counts (C1, C2, C3, C9).
    one_burst:        both ends of a transfer count one burst per tile, instead of one end counting cycles (C17).
    """

    name: str
    whole_lanes: bool = False
    first_sum_free: bool = False
    last_sum_final: bool = False
    one_burst: bool = False
    op_energy: bool = False
    played: bool = False
    write_width: bool = False

    @staticmethod
    def terms() -> tuple[str, ...]:
        """The names of the terms."""
        return tuple(f.name for f in fields(CostModel) if f.name != "name")

    def without(self, *terms: str) -> CostModel:
        """The same model with some terms as the reference has them."""
        return replace(self, name=f"{self.name}-{'-'.join(terms)}", **dict.fromkeys(terms, False))


DEFINES = CostModel("defines")
EXACT = CostModel("exact", **dict.fromkeys(CostModel.terms(), True))
MODELS = {m.name: m for m in (EXACT, DEFINES)}


def model_by_name(name: str) -> CostModel:
    """A model by name.

    Raises:
        UsageError: CLI009 for any other name.
    """
    if name not in MODELS:
        raise UsageError(
            "CLI009", f"unknown cost model {name!r}", place="--cost-model", hint=f"one of {', '.join(MODELS)}"
        )
    return MODELS[name]
