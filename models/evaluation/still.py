"""Our figures as still pictures: a plotly value of the few kinds of traces that we use, drawn by matplotlib.

Each figure is defined once, in `figures*.py`; this draws what is defined there, for papers and trackers.
"""

import io
import re
from collections.abc import Sequence
from html import unescape

import matplotlib
import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from models.evaluation.figure_kit import INK, RULE

PIXELS_PER_INCH = 100
WIDTH = 900  # pixels of a figure that does not ask for more
_STYLE = {
    "font.size": 10, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": RULE, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10.5,
    "axes.titlelocation": "left", "svg.hashsalt": "evergreen", "svg.fonttype": "none", "lines.solid_capstyle": "round",
}  # fmt: skip
_MARKS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "cross": "P", "triangle-down": "v",
          "x": "X", "pentagon": "p", "star": "*", "line-ew": "_", "diamond-open": "D",
          "diamond-tall": "d"}  # fmt: skip


def image(drawn: go.Figure, kind: str) -> bytes:
    """`drawn` as a `png`, `svg` or `pdf` that does not tell when it was made."""
    with matplotlib.rc_context(_STYLE):
        figure = _figure(drawn)
        buffer = io.BytesIO()
        undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        figure.savefig(buffer, format=kind, dpi=150, metadata=undated, facecolor="white")
    return buffer.getvalue()


def _figure(drawn: go.Figure) -> Figure:
    layout = drawn.layout
    width = max(WIDTH, (layout.meta or {}).get("width", 0))
    figure = Figure(figsize=(width / PIXELS_PER_INCH, layout.height / PIXELS_PER_INCH), layout="constrained")
    panels = sorted({trace.yaxis or "y" for trace in drawn.data}, key=lambda name: int(name[1:] or 1))
    spans = [(layout[f"yaxis{name[1:]}"].domain or (0, 1)) for name in panels]
    ratios = [high - low for low, high in spans]
    rows = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": ratios})[:, 0]
    titles = [note.text for note in layout.annotations if note.yref == "paper"]
    for place, (name, axes) in enumerate(zip(panels, rows, strict=True)):
        traces = [trace for trace in drawn.data if (trace.yaxis or "y") == name]
        _Panel(axes, drawn, name[1:], traces).draw()
        if titles:
            axes.set_title(_safe(titles[place]))
    _legend(figure, rows, bool(layout.showlegend))
    return figure


class _Panel:
    """One pair of axes of a figure, and the places of the categories along them."""

    def __init__(self, axes: Axes, drawn: go.Figure, number: str, traces: Sequence):
        self.axes, self.drawn, self.number, self.traces = axes, drawn, number, traces
        self.x, self.y = drawn.layout[f"xaxis{number}"], drawn.layout[f"yaxis{number}"]
        self.places = {"x": self._categories(self.x, "x"), "y": self._categories(self.y, "y")}

    def draw(self) -> None:
        """Everything in it."""
        bottoms: dict = {}
        for trace in self.traces:
            if trace.type == "heatmap":
                self._heat_map(trace)
            elif trace.type == "bar":
                self._bars(trace, bottoms)
            else:
                self._scatter(trace)
        self._shapes()
        self._axis("x", self.x)
        self._axis("y", self.y)

    def _categories(self, axis, letter: str) -> dict | None:
        if axis.type != "category":
            return None
        named = axis.categoryarray or [value for trace in self.traces for value in trace[letter]]
        return {name: place for place, name in enumerate(dict.fromkeys(named))}

    def _at(self, letter: str, values: Sequence) -> list[float]:
        places = self.places[letter]
        return [np.nan if value is None else places[value] if places is not None else value for value in values]

    def _heat_map(self, trace) -> None:
        colours = LinearSegmentedColormap.from_list("scale", [colour for _, colour in trace.colorscale])
        cells = np.array([[np.nan if value is None else value for value in row] for row in trace.z], dtype=float)
        self.axes.imshow(cells, cmap=colours, vmin=trace.zmin, vmax=trace.zmax, aspect="auto")
        self.axes.spines[:].set_visible(False)
        self.axes.tick_params(length=0)

    def _bars(self, trace, bottoms: dict) -> None:
        x, y = self._at("x", trace.x), self._at("y", trace.y)
        label = _safe(trace.name)
        if trace.orientation == "h":
            self.axes.barh(y, x, left=trace.base, color=trace.marker.color, height=0.6, label=label)
            return
        below = [bottoms.get(place, 0) for place in x]
        heights = np.nan_to_num(np.array(y, dtype=float))
        self.axes.bar(x, heights, bottom=below, color=trace.marker.color, label=label, width=0.8)
        if self.drawn.layout.barmode == "stack":
            bottoms.update({place: low + high for place, low, high in zip(x, below, heights, strict=True)})

    def _scatter(self, trace) -> None:
        x, y = self._at("x", trace.x), self._at("y", trace.y)
        colour = trace.line.color or trace.marker.color or trace.marker.line.color
        label = _safe(trace.name) if trace.showlegend is not False else None
        if trace.fill == "toself":
            self.axes.fill(x, y, color=colour, alpha=0.18, linewidth=0)
            return
        if "lines" in trace.mode:
            self.axes.plot(x, y, color=colour, linewidth=0.75 * (trace.line.width or 2), label=label)
        if "markers" in trace.mode:
            self._marks(trace, x, y, colour, None if "lines" in trace.mode else label)
        if "text" in trace.mode:
            self._texts(trace, x, y)
        self._error_bars(trace, x, y, colour)

    def _marks(self, trace, x: list[float], y: list[float], colour: str, label: str | None) -> None:
        size = trace.marker.size if trace.marker.size is not None else 6
        area = 0.5 * np.square(np.broadcast_to(np.asarray(size, float), len(x)))
        mark = _MARKS[trace.marker.symbol or "circle"]
        face = "none" if (trace.marker.symbol or "").endswith("-open") else colour
        paint = {"color": colour} if mark == "_" else {"facecolors": face, "edgecolors": colour}
        wide = trace.marker.line.width or 1
        self.axes.scatter(x, y, s=area, marker=mark, linewidths=0.75 * wide, label=label, zorder=3, **paint)

    def _texts(self, trace, x: list[float], y: list[float]) -> None:
        colours = trace.textfont.color
        side, rise = ("center", "center") if trace.mode == "text" else ("left", "bottom")
        for at, text in enumerate(trace.text):
            colour = colours[at] if isinstance(colours, list | tuple) else colours or INK
            shift = (0, 0) if trace.mode == "text" else (4, 4)
            self.axes.annotate(_safe(text), (x[at], y[at]), xytext=shift, textcoords="offset points", ha=side, va=rise,
                               fontsize=8, color=colour)  # fmt: skip

    def _error_bars(self, trace, x: list[float], y: list[float], colour: str) -> None:
        bars = {
            f"{letter}err": [list(bar.arrayminus), list(bar.array)]
            for letter, bar in (("x", trace.error_x), ("y", trace.error_y))
            if bar.array is not None
        }
        if bars:
            self.axes.errorbar(x, y, fmt="none", ecolor=colour, elinewidth=1.2, capsize=3, **bars)

    def _shapes(self) -> None:
        """Lines across, and words at points; those at the edge of the paper are titles."""
        for shape in self.drawn.layout.shapes:
            line = {"color": RULE, "linewidth": 1.1, "linestyle": "--"}
            if (shape.xref or "x") == f"x{self.number}":
                self.axes.axvline(shape.x0, **line)
            elif (shape.yref or "y") == f"y{self.number}":
                self.axes.axhline(shape.y0, **line)
        for note in self.drawn.layout.annotations:
            if note.yref == "paper" or (note.yref or "y") != f"y{self.number}":
                continue
            across = self.axes.get_yaxis_transform() if "domain" in (note.xref or "") else self.axes.transData
            shift = (0.75 * (note.xshift or 0), 0.75 * (note.yshift or (4 if note.yanchor == "bottom" else 0)))
            self.axes.annotate(_safe(note.text), (note.x, note.y), xycoords=across, xytext=shift,
                               textcoords="offset points", ha=note.xanchor or "center", va="center")  # fmt: skip

    def _axis(self, letter: str, axis) -> None:
        own = getattr(self.axes, f"{letter}axis")
        places = self.places[letter]
        if places is not None:
            every = 1 if letter == "y" else 1 + len(places) // 25
            names = [_safe(name) for name in places][::every]
            own.set_ticks(range(0, len(places), every), names)
        elif axis.tickvals is not None:
            own.set_ticks(list(axis.tickvals), [_safe(str(text)) for text in axis.ticktext or axis.tickvals])
        else:
            own.set_major_locator(MaxNLocator(axis.nticks or 8, steps=[1, 2, 5, 10], integer=axis.tickformat == "d"))
            if axis.exponentformat == "SI":
                own.set_major_formatter(EngFormatter(sep=""))
        limits = getattr(self.axes, f"set_{letter}lim")
        if axis.range is not None:
            limits(*axis.range)
        elif axis.rangemode == "tozero":
            limits(0, None)
        if axis.title.text:
            getattr(self.axes, f"set_{letter}label")(_safe(axis.title.text))
        self.axes.set_axisbelow(True)
        if axis.showgrid is not False:
            self.axes.grid(axis=letter, color=RULE, linestyle=":", linewidth=0.5)


def _legend(figure: Figure, rows: Sequence[Axes], wanted: bool) -> None:
    found = {}
    for axes in rows if wanted else ():
        found |= {label: line for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if len(found) > 1:
        figure.legend(found.values(), found.keys(), loc="outside upper left", ncols=6, frameon=False)


def _safe(text: str) -> str:
    """Text as a page would show it, without its elements, in which no dollar begins a formula."""
    return unescape(re.sub(r"<[^>]*>", "", text)).replace("$", r"\$")
