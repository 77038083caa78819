"""Pictures of ``dfc.figures``: PNG or SVG, colours that colour-blind people can tell apart, units at every axis.

The only place that knows matplotlib, which is an optional part of the installation.
"""

# matplotlib's own types are incomplete
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from math import floor, isfinite, log10
from typing import TYPE_CHECKING, Any

from dfc.errors import UsageError
from dfc.figures import ARRAY, COPIES, Bar, Comparison, Point, Sweep
from dfc.passes.tiles import Overlap
from dfc.report_table import clean
from dfc.units import digits, energy_unit, factor

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure

#: Okabe and Ito's colours, told apart by all kinds of colour vision; grey comes first, for the array
COLOURS = ("#BBBBBB", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000")
_MAP = "viridis_r"  # light is little; even in brightness, so that it survives grey printing
_DPI = 110
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "dfc",
    "svg.fonttype": "none",
}
_OPERANDS = {"": "array", "W": "weights", "I": "inputs", "O": "outputs", COPIES: "copies between layers"}
_HOW = {"layer-by-layer": "layer by layer", "defines": "best of DeFiNES's space", "dfc": "dfc"}


def check_drawing() -> None:
    """Find out before the work starts that pictures can be drawn.

    Raises:
        UsageError: CLI071 where matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise UsageError(
            "CLI071",
            f"pictures are drawn by matplotlib, which cannot be loaded: {error}",
            place="dfc figure",
            hint="pip install 'dfc[figures]', or --data-only for the numbers alone",
        ) from None


def heat_maps(sweep: Sweep, kind: str) -> bytes:
    """Energy above and latency below, a map per mode; the best of each row has a frame."""
    modes = _modes(sweep)
    xs, ys = (sorted({p.tile[axis] for p in sweep.points}) for axis in (0, 1))
    width, height = 1.2 + len(modes) * (0.9 + 0.62 * len(xs)), 1.5 + 2 * (0.75 + 0.36 * len(ys))

    def draw(figure: Figure) -> None:
        panels = figure.subplots(2, len(modes), squeeze=False, sharex=True, sharey=True)
        for row, (pick, scale, unit) in enumerate(_quantities(sweep.points)):
            values = {(p.overlap, p.tile): pick(p) / scale for p in sweep.points if p.energy_pj is not None}
            least, most = (min(values.values()), max(values.values())) if values else (1.0, 1.0)
            image: Any = None
            for axes, mode in zip(panels[row], modes, strict=True):
                cells = [[values.get((mode, (x, y)), float("nan")) for x in xs] for y in ys]
                image = _heat_map(axes, cells, least, most)
                axes.set_xticks(range(len(xs)), [str(x) for x in xs])
                axes.set_yticks(range(len(ys)), [str(y) for y in ys])
                if row == 0:
                    axes.set_title(mode.value)
                else:
                    axes.set_xlabel("tile width")
            panels[row][0].set_ylabel("tile height")
            bar = figure.colorbar(image, ax=list(panels[row]), pad=0.015, fraction=0.03)
            bar.set_label(unit)
            ticks = [t for t in _ticks(least) if least <= t <= most]
            bar.set_ticks(ticks, labels=[f"{t:,g}" for t in ticks])
            bar.minorticks_off()
            bar.outline.set_visible(False)
        figure.suptitle(_title("Energy and latency over tile sizes", sweep))

    return picture((width, height), kind, draw)


def _ticks(least: float) -> list[float]:
    """1, 2, 5, 10, ... from below ``least`` on."""
    start = 10.0 ** floor(log10(least)) if least > 0 else 1.0
    return [start * 10**power * step for power in range(12) for step in (1, 2, 5)]


def _heat_map(axes: Axes, cells: Sequence[Sequence[float]], least: float, most: float) -> Any:
    from matplotlib.colors import LogNorm

    norm = LogNorm(least, max(most, least * 1.01))
    image = axes.imshow(cells, cmap=_MAP, norm=norm, aspect="auto", origin="lower")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for j, line in enumerate(cells):
        for i, value in enumerate(line):
            dark = isfinite(value) and norm(value) > 0.45
            text = digits(value, 3 if value < 1000 else 4) if isfinite(value) else "-"
            axes.text(i, j, text, ha="center", va="center", fontsize=8.5, color="white" if dark else "black")
            if value == least:
                axes.add_patch(_frame(i, j))
    return image


def _frame(i: int, j: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((i - 0.47, j - 0.46), 0.94, 0.92, fill=False, edgecolor="#D55E00", linewidth=2.5)


def shares(sweep: Sweep, kind: str) -> bytes:
    """Shares of energy along tile sizes, by memory above and by operand below, a column per mode."""
    modes = _modes(sweep)
    names = [ARRAY, *sweep.memories]
    used = [n for n in names if any(p.parts.get(k) for p in sweep.points for k in p.parts if k[0] == n)]
    operands = list(_OPERANDS)
    pick, scale, unit = _quantities(sweep.points)[0]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(2, len(modes), squeeze=False, sharey=True)
        for column, mode in enumerate(modes):
            points = [p for p in sweep.points if p.overlap is mode]
            top, bottom = panels[0][column], panels[1][column]
            _stacked(top, points, used, 0, used)
            _stacked(bottom, points, operands, 1, [_OPERANDS[o] for o in operands])
            for i, point in enumerate(points):
                text = digits(pick(point) / scale, 3) if point.energy_pj is not None else "no fit"
                top.text(i, 101, text, ha="center", va="bottom", fontsize=8.5)
            top.set_title(mode.value, pad=18)
            bottom.set_xlabel("tile")
        for row, what in enumerate(("by memory", "by operand")):
            panels[row][0].set_ylabel(f"% of energy, {what}")
            marks, labels = panels[row][0].get_legend_handles_labels()
            panels[row][-1].legend(
                marks[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False
            )
        figure.suptitle(_title(f"Where the energy goes along tile sizes; above the bars, total {unit}", sweep))

    steps = max((sum(p.overlap is mode for p in sweep.points) for mode in modes), default=1)
    return picture((2.6 + len(modes) * (0.6 + 0.55 * max(4, steps)), 7.0), kind, draw)


def _stacked(axes: Axes, points: Sequence[Point], keys: Sequence[str], part: int, labels: Sequence[str]) -> None:
    """A bar per point; ``keys`` are values of the parts' keys at index ``part``, from the bottom up."""
    below = [0.0] * len(points)
    for number, (key, label) in enumerate(zip(keys, labels, strict=True)):
        found = [
            100 * sum(pj for k, pj in p.parts.items() if k[part] == key) / p.energy_pj if p.energy_pj else 0.0
            for p in points
        ]
        colour = COLOURS[number % len(COLOURS)]
        axes.bar(range(len(points)), found, 0.78, below, label=label, color=colour, edgecolor="white", linewidth=0.5)
        below = [a + b for a, b in zip(below, found, strict=True)]
    axes.set_xticks(
        range(len(points)),
        ["x".join(map(str, p.tile)) for p in points],
        rotation=35,
        ha="right",
        rotation_mode="anchor",
    )
    axes.set_ylim(0, 100)
    axes.tick_params(axis="x", length=0)


def architectures(comparison: Comparison, kind: str) -> bytes:
    """Energy at the left and latency at the right, a row per network; on each bar its gain over layer by layer."""
    bars = comparison.bars
    models, chips, ways = (list(dict.fromkeys(n)) for n in zip(*((b.model, b.hw, b.how) for b in bars), strict=True))
    width = 2.0 + 2 * max(2.5, 0.22 * len(chips) * (len(ways) + 1))

    def draw(figure: Figure) -> None:
        panels = figure.subplots(len(models), 2, squeeze=False, sharex=True)
        for row, model in enumerate(models):
            mine = [b for b in bars if b.model == model]
            for axes, (pick, scale, unit) in zip(panels[row], _quantities(mine), strict=True):
                _grouped(axes, {(b.hw, b.how): pick(b) / scale for b in mine if b.energy_pj is not None}, chips, ways)
                axes.set_ylabel(unit)
                axes.set_title(clean(model), loc="left")
        marks, labels = panels[0][0].get_legend_handles_labels()
        named = [_HOW.get(str(label), str(label)) for label in labels]
        figure.legend(marks, named, loc="outside lower center", ncols=len(named), frameon=False)
        rules = f"cost model '{comparison.cost_model}', rules '{comparison.policy}'"
        figure.suptitle(f"Networks on accelerators; on the bars, the gain over layer by layer\n{rules}")

    return picture((width, 1.6 + 2.5 * len(models)), kind, draw)


def _grouped(axes: Axes, values: dict[tuple[str, str], float], chips: Sequence[str], ways: Sequence[str]) -> None:
    thick = 0.82 / len(ways)
    for number, how in enumerate(ways):
        found = [values.get((chip, how), 0.0) for chip in chips]
        places = [i + (number - (len(ways) - 1) / 2) * thick for i in range(len(chips))]
        axes.bar(places, found, thick, label=how, color=(COLOURS[0], COLOURS[1], COLOURS[5])[number % 3])
        for place, chip, value in zip(places, chips, found, strict=True):
            base = values.get((chip, ways[0]))
            text = "none" if (chip, how) not in values else factor(base / value) if number and base and value else ""
            axes.annotate(
                text, (place, value), (0, 2), textcoords="offset points", ha="center", fontsize=7, rotation=90
            )
    axes.set_xticks(range(len(chips)), [clean(c) for c in chips], rotation=35, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="x", length=0)
    axes.margins(y=0.16)


def box(axes: Axes, corner: tuple[float, float], extents: tuple[float, float], colour: str) -> None:
    """A filled rectangle with a thin edge; ``corner`` is the least x and y of it."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle(corner, *extents, facecolor=colour, edgecolor="black", linewidth=0.5))


def colour_key(figure: Figure, colours: Mapping[str, str], columns: int) -> None:
    """What the colours of boxes mean, below the picture."""
    from matplotlib.patches import Patch

    marks = [Patch(facecolor=c, edgecolor="black", linewidth=0.5) for c in colours.values()]
    figure.legend(marks, list(colours), loc="outside lower center", ncols=columns, frameon=False)


def _modes(sweep: Sweep) -> list[Overlap]:
    return list(dict.fromkeys(p.overlap for p in sweep.points))


def _quantities(points: Sequence[Point] | Sequence[Bar]) -> list[tuple[Callable[[Any], float], float, str]]:
    """Energy and latency: how to get each, and the unit in which all are written."""
    most = max((p.energy_pj for p in points if p.energy_pj is not None), default=1.0)
    scale, unit = energy_unit(most)
    if most < 1e12 and energy_unit(most * 20)[0] > scale:  # 47 mJ rather than 47,000 µJ
        scale, unit = energy_unit(most * 20)
    return [
        (lambda p: float(p.energy_pj), scale, f"energy ({unit})"),
        (lambda p: float(p.latency_cycles), 1e6, "latency (million cycles)"),
    ]


def _title(what: str, sweep: Sweep) -> str:
    where = f"{clean(sweep.model)} on {clean(sweep.hw)}"
    return f"{what}\n{where}, cost model '{sweep.cost_model}', rules '{sweep.policy}'"


def picture(inches: tuple[float, float], kind: str, draw: Callable[[Figure], None]) -> bytes:
    """The picture as a file's content; without a date, so that equal numbers give equal files."""
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context(_STYLE):
        figure = Canvas(figsize=inches, layout="constrained")
        draw(figure)
        content = io.BytesIO()
        nothing = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(content, format=kind, dpi=_DPI, metadata=nothing)
    return _smaller(content) if kind == "png" else content.getvalue()


def _smaller(content: io.BytesIO) -> bytes:
    """A PNG with 256 colours: a third of the size, and no difference to see."""
    from PIL import Image

    found = io.BytesIO()
    Image.open(content).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(found, "png", optimize=True)
    return found.getvalue()
