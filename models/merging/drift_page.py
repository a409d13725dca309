"""How far weights went and which way, drawn: one picture as PNG, SVG or PDF, or a page with it and all numbers."""

import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data_catalog.store_files import write_atomically
from models.evaluation.figure_kit import COLOURS, INK, RULE, SCORE_SCALE, text_colour
from models.merging.drift_tables import Row, as_text
from models.merging.geometry import Extent, Geometry

ENDINGS = (".html", ".png", ".svg", ".pdf")
_NAMED = len(COLOURS)  # checkpoints up to which each has its name and every cosine its number
_STYLE = {
    "font.size": 10, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": RULE, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11,
    "axes.titlelocation": "left", "svg.hashsalt": "evergreen",
}  # fmt: skip
_TOWER_COLOURS = dict(zip(("image", "text", "all"), (*COLOURS[:2], INK), strict=True))
_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>Weight differences from $origin · Evergreen</title>
<link rel="icon" href="data:,">
<style>
$style
.number { text-align: right; }
figure svg { width: 100%; height: auto; border-radius: 4px; }
</style>
</head>
<body>
<main>
<header><p class="kind">Evergreen · weight differences</p><h1>From $origin</h1></header>
<section><h2>How far and which way</h2>
<figure role="img" aria-label="Drift per layer, lengths and cosines of task vectors; all numbers are below.">$figure
<figcaption>Task vectors are what each checkpoint added to $origin. Drift of a layer: length of its part of the task
vector over the length of the layer's weights in $origin.</figcaption></figure></section>
$sections
</main>
</body>
</html>
""")


def write(path: Path, geometry: Geometry, origin: str, names: Sequence[str], tables: dict[str, list[Row]]) -> None:
    """Draw `geometry` into `path`, in the format of its ending; `names`: of the checkpoints, `tables`: for a page.

    Raises ValueError for an ending that is none of ENDINGS.
    """
    ending = check_ending(path)
    figure = draw(geometry, names)
    data = _page(figure, origin, tables).encode() if ending == ".html" else _image(figure, ending[1:])
    write_atomically(path, data)


def check_ending(path: Path) -> str:
    """The ending of a file that can be drawn into; raises ValueError for any other."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"--plot is {path}, expected a file name that ends in {', '.join(ENDINGS)}")
    return ending


def draw(geometry: Geometry, names: Sequence[str]) -> Figure:
    """Drift by layer of each tower; below it lengths and cosines, where there are several checkpoints."""
    several = len(names) > 1
    towers = [extent.tower for extent in geometry.towers if extent.tower != "shared"]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(11, 7.6 if several else 4.0), layout="constrained")
        above, below = figure.subfigures(2, 1) if several else (figure, None)
        panels = above.subplots(1, len(towers) or 1, sharey=True, squeeze=False)[0]
        for axes, tower in zip(panels, towers, strict=False):
            _draw_drift(axes, tower, [extent for extent in geometry.layers if extent.tower == tower], names)
        panels[0].set_ylabel("drift, relative to the origin")
        panels[0].set_ylim(bottom=0)  # once all towers are drawn: it ends the fitting of the axis they share
        _name_lines(above, panels, names)
        if below is not None:
            lengths, angles, pairs = below.subplots(1, 3)
            shown = [extent for extent in (*geometry.towers, geometry.whole) if extent.tower in _TOWER_COLOURS]
            _draw_lengths(lengths, shown, names)
            _draw_consecutive(angles, shown, names)
            _draw_pairs(pairs, geometry.whole, names)
    return figure


def _draw_drift(axes: Axes, tower: str, layers: Sequence[Extent], names: Sequence[str]) -> None:
    drifts = np.array([extent.drift for extent in layers], dtype=float)  # [layers, checkpoints]
    for number in range(len(names)):
        axes.plot(drifts[:, number], color=_colour(number, len(names)), marker="o", markersize=3, linewidth=1.4)
    every = max(1, round(len(layers) / 14))
    labels = [extent.layer.removeprefix("block ") for extent in layers]
    numbers = range(every, len(layers) - every, every)  # none so near to the head that they would touch
    places = sorted({*numbers, *(i for i, label in enumerate(labels) if not label.isdigit())})
    axes.set_xticks(places, [labels[i] for i in places])
    axes.set(title=f"{tower} tower", xlabel="layer")
    _rule(axes)


def _name_lines(figure: Figure, panels: Sequence[Axes], names: Sequence[str]) -> None:
    """Say which line is which checkpoint: in a legend while it is short, else by a scale from first to last."""
    if 1 < len(names) <= _NAMED:
        lines = panels[0].get_lines()
        figure.legend(lines, [_short(name) for name in names], loc="outside right upper", frameon=False)
    elif len(names) > 1:
        scale = ScalarMappable(Normalize(0, len(names) - 1), _scale())
        bar = figure.colorbar(scale, ax=list(panels), fraction=0.03, pad=0.01)
        bar.set_ticks([0, len(names) - 1], labels=[_short(names[0]), _short(names[-1])])
        bar.outline.set_visible(False)


def _draw_lengths(axes: Axes, extents: Sequence[Extent], names: Sequence[str]) -> None:
    for extent in extents:
        axes.plot(extent.norms, color=_TOWER_COLOURS[extent.tower], marker="o", markersize=3, label=extent.tower)
    axes.set(title="length of the task vector")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, labelcolor=INK)
    _name_checkpoints(axes, names)
    _rule(axes)


def _draw_consecutive(axes: Axes, extents: Sequence[Extent], names: Sequence[str]) -> None:
    for extent in extents:
        values = np.array([None, *extent.consecutive], dtype=float)
        axes.plot(values, color=_TOWER_COLOURS[extent.tower], marker="o", markersize=3)
    axes.set(title="cosine with the one before")
    low = min((value for extent in extents for value in extent.consecutive if value is not None), default=0)
    axes.set_ylim(min(-0.02, 1.1 * low - 0.02), 1.02)
    axes.set_xlim(-0.3, len(names) - 0.7)
    _name_checkpoints(axes, names)
    _rule(axes)


def _draw_pairs(axes: Axes, whole: Extent, names: Sequence[str]) -> None:
    cells = np.array(whole.cosines, dtype=float)
    low = min(0.0, float(np.nanmin(cells, initial=0)))
    image = axes.imshow(cells, cmap=_scale(), vmin=-1 if low < -0.05 else 0, vmax=1)
    axes.set(title="cosine of every pair")
    _name_checkpoints(axes, names)
    axes.set_yticks(axes.get_xticks(), [label.get_text() for label in axes.get_xticklabels()])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if len(names) > _NAMED:
        axes.figure.colorbar(image, ax=axes, fraction=0.05, pad=0.03).outline.set_visible(False)
        return
    for (row, column), value in np.ndenumerate(cells):
        colour = "black" if np.isnan(value) else text_colour(float(image.norm(value)), SCORE_SCALE[1:])
        text = "–" if np.isnan(value) else f"{value:.2f}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=10 if len(names) < 7 else 7)


def _name_checkpoints(axes: Axes, names: Sequence[str]) -> None:
    if len(names) <= _NAMED:
        turn = 0 if max(len(_short(name)) for name in names) * len(names) <= 24 else 40
        axes.set_xticks(range(len(names)), [_short(name) for name in names], rotation=turn,
                        ha="right" if turn else "center", rotation_mode="anchor" if turn else None)  # fmt: skip
        return
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    places = [int(at) for at in axes.get_xticks() if 0 <= at < len(names)]
    axes.set_xticks(places, [str(at + 1) for at in places])
    axes.set_xlabel("checkpoint, as given")


def _colour(number: int, count: int) -> str | tuple:
    return COLOURS[number] if count <= _NAMED else _scale()(number / (count - 1))


def _scale() -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list("drift", SCORE_SCALE[1:])


def _short(name: str) -> str:
    """`name` as it fits a figure, where a bare dollar would begin a formula."""
    return (name if len(name) <= 18 else f"{name[:8]}…{name[-9:]}").replace("$", r"\$")


def _rule(axes: Axes) -> None:
    axes.grid(axis="y", color=RULE, linestyle=":", linewidth=0.5)
    axes.set_axisbelow(True)


def _image(figure: Figure, kind: str) -> bytes:
    """The picture as bytes, which do not tell when they were made."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        figure.savefig(buffer, format=kind, dpi=150, metadata=undated)
    return buffer.getvalue()


def _page(figure: Figure, origin: str, tables: dict[str, list[Row]]) -> str:
    drawn = _image(figure, "svg").decode()
    return _PAGE.substitute(
        origin=escape(origin),
        style=(Path(__file__).parents[1] / "evaluation" / "page.css").read_text(encoding="utf-8"),
        figure=drawn[drawn.index("<svg") :],
        sections="\n".join(_section(title, rows) for title, rows in tables.items()),
    )


def _section(title: str, rows: Sequence[Row]) -> str:
    sides = [' class="number"' if not isinstance(value, str) else "" for value in rows[0].values()]
    head = "".join(f'<th scope="col"{side}>{escape(name)}</th>' for name, side in zip(rows[0], sides, strict=True))
    body = "".join("<tr>" + "".join(_cell(value) for value in row.values()) + "</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return (
        f'<section><h2>{escape(title[0].upper() + title[1:])}</h2><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escape(title)}">{table}</div></section>'
    )


def _cell(value: str | int | float | None) -> str:
    return f"<td>{escape(value)}</td>" if isinstance(value, str) else f'<td class="number">{as_text(value)}</td>'
