"""How figures look: colours, axes, rows of panels, matrices. Colours are for white and for the dark page alike."""

from collections.abc import Sequence
from html import escape, unescape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

# Lines and marks keep a contrast of 3 on white and on the dark page; text is never coloured with these.
COLOURS = ("#2b7fc4", "#c8650f", "#23936a", "#a45bc4", "#cf4657", "#8a7a17", "#6c7885", "#0f91a3")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "x", "pentagon")
SCORE_SCALE = ("#e6ede9", "#c9ded7", "#93c4bb", "#4f9c9b", "#22707c", "#0d4456")  # 0 .. 1
LOSS_SCALE = ("#ebe8e3", "#ecd2ba", "#e5ac83", "#cf7550", "#a33c2f", "#651a24")
INK, RULE = "#3c444b", "#8a949c"  # for figures shown alone; the page sets its own, light and dark
ROW_PIXELS, COLUMN_PIXELS, NAME_PIXELS = 24, 46, 150  # of a matrix; the least width of a column, of the names
NARROW_PIXELS = 8  # of a column without numbers
MOST_LETTERS = 32  # of a name in a figure
MOST_NUMBERED = 24  # columns up to which the cells of a matrix bear their numbers
_AXIS = {"title": {"font": {"size": 13}, "standoff": 8}, "fixedrange": True, "gridcolor": RULE, "griddash": "dot",
         "gridwidth": 0.5, "zeroline": False, "automargin": True}  # fmt: skip


def colour(index: int) -> str:
    """The colour of the recipe with this number."""
    return COLOURS[index % len(COLOURS)]


def symbol(index: int) -> str:
    """The mark of the recipe with this number; those that share a colour have different ones."""
    return SYMBOLS[(index + index // len(COLOURS)) % len(SYMBOLS)]


def label(name: str) -> str:
    """A name of the user's as figures show it: cut in its middle where it is long, its markup shown as it was written.

    Without a per cent sign, so that it may stand in a hover template.
    """
    cut = name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 10]}…{name[-9:]}"
    return escape(cut, quote=False).replace("%", "&#37;")


def labels(names: Sequence[str]) -> list[str]:
    """The `label` of each name, whole where two would read alike: names of categories that must stay apart."""
    cut = [label(name) for name in names]
    whole = [escape(name, quote=False) for name in names]
    return [short if cut.count(short) == 1 else full for short, full in zip(cut, whole, strict=True)]


def faint(hex_colour: str, opacity: float = 0.18) -> str:
    """The colour of a band around a line."""
    return "rgba({},{},{},{})".format(*(int(hex_colour[i : i + 2], 16) for i in (1, 3, 5)), opacity)


def blank(
    height: int, rows: int = 1, titles: tuple[str, ...] = (), legend: bool = True, shared_y: bool = False
) -> go.Figure:
    """A figure without data: `rows` panels below one another, each under its title."""
    spacing = 44 / (height - 90)  # room for the title of a row
    figure = make_subplots(
        rows=rows, cols=1, subplot_titles=titles or None, vertical_spacing=spacing if rows > 1 else None,
        shared_xaxes=False, shared_yaxes="all" if shared_y else False,
    )  # fmt: skip
    return plain(figure, height, legend)


def recipe_rows(names: tuple[str, ...], unit: str) -> go.Figure:
    """One panel per recipe over the steps, with one scale for all."""
    figure = blank(height=110 + 150 * len(names), rows=len(names), titles=tuple(map(label, names)), shared_y=True)
    figure.update_xaxes(type="category")
    figure.update_xaxes(title_text="step", row=len(names), col=1)
    return figure.update_yaxes(title_text=unit, rangemode="tozero", exponentformat="SI", nticks=4)


def matrix(
    groups: dict[str, Sequence[str]], columns: list[str], cells: dict[str, list[list[float]]], scale: tuple[str, ...]
) -> go.Figure:
    """Groups of named rows over common columns, values 0..1 as colours and, where there is room, as numbers."""
    groups, columns = {name: labels(rows) for name, rows in groups.items() if rows}, labels(columns)
    heights = [len(names) for names in groups.values()]
    plot = ROW_PIXELS * sum(heights) + 56
    figure = make_subplots(
        rows=len(groups), cols=1, row_heights=heights, subplot_titles=list(groups), vertical_spacing=56 / plot
    )
    for row, (group, names) in enumerate(groups.items(), start=1):
        gap = 1 if len(columns) <= MOST_NUMBERED else 0
        figure.add_heatmap(
            z=_rounded(cells[group]), x=columns, y=names, zmin=0, zmax=1, colorscale=list(scale),
            showscale=False, xgap=gap, ygap=1, hovertemplate="%{y}<br>%{x}: %{z:.3f}<extra></extra>", row=row, col=1,
        )  # fmt: skip
        if len(columns) <= MOST_NUMBERED:
            figure.add_trace(_numbers(names, columns, cells[group], scale), row=row, col=1)
        figure.update_yaxes(range=[len(names) - 0.5, -0.5], row=row, col=1)  # text would ask for room around it
    figure.update_xaxes(type="category", range=[-0.5, len(columns) - 0.5], ticks="", tickangle=0)
    figure.update_yaxes(type="category", ticks="", dtick=1)
    plain(figure, plot + 60, legend=False).update_xaxes(showgrid=False).update_yaxes(showgrid=False)
    width = max(COLUMN_PIXELS, 8 * max(len(unescape(column)) for column in columns) + 12)
    width = width if len(columns) <= MOST_NUMBERED else NARROW_PIXELS
    return figure.update_layout(
        margin={"l": 10, "r": 10, "t": 30, "b": 30}, meta={"width": NAME_PIXELS + width * len(columns)}
    )


def plain(figure: go.Figure, height: int, legend: bool) -> go.Figure:
    """No template, no background, axes that leave scrolling on a phone to the page."""
    figure.update_layout(
        template="none", height=height, dragmode=False, showlegend=legend,
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 56, "r": 12, "t": 52 if legend else 30, "b": 60},
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0, "xanchor": "left"},
    )  # fmt: skip
    figure.update_annotations(font={"size": 13}, x=0, xanchor="left")  # the titles of rows
    return figure.update_xaxes(_AXIS).update_yaxes(_AXIS)


def padded(values: Sequence[float], share: float) -> list[float]:
    """The range of `values`, wider by this share of it on both sides."""
    spread = max(max(values) - min(values), 0.02)
    return [min(values) - share * spread, max(values) + share * spread]


def text_colour(value: float, scale: tuple[str, ...]) -> str:
    """Black or white, whichever stands out more on the colour of `value` in `scale` (contrast 4.5 or better)."""
    place = min(max(value, 0), 1) * (len(scale) - 1)
    low = min(int(place), len(scale) - 2)
    ends = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in scale[low : low + 2]]
    mixed = [a + (b - a) * (place - low) for a, b in zip(*ends, strict=True)]
    return "#000000" if luminance(mixed) > 0.179 else "#ffffff"  # where black and white stand out alike


def luminance(rgb: list[float]) -> float:
    """Relative luminance of an sRGB colour as WCAG defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _rounded(cells: list[list[float]]) -> list[list[float]]:
    return [[None if value is None else round(value, 4) for value in line] for line in cells]


def _numbers(rows: list[str], columns: list[str], cells: list[list[float]], scale: tuple[str, ...]) -> go.Scatter:
    """The cells' numbers, each black or white, whichever stands out more against its cell."""
    places = [(column, row, value) for row, line in zip(rows, cells, strict=True)
              for column, value in zip(columns, line, strict=True) if value is not None]  # fmt: skip
    return go.Scatter(
        x=[column for column, _, _ in places],
        y=[row for _, row, _ in places],
        text=[f"{value:.2f}" for _, _, value in places],
        mode="text",
        textfont={"size": 11, "color": [text_colour(value, scale) for _, _, value in places]},
        hoverinfo="skip",
        showlegend=False,
    )
