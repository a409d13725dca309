"""The figure of what was learned against what was kept, of any recipes."""

from collections.abc import Iterable, Sequence
from html import unescape
from typing import NamedTuple

import plotly.graph_objects as go

from models.evaluation.figure_kit import RULE, blank, colour, label, padded, symbol
from models.evaluation.label_places import Point, best_places
from models.evaluation.record import ExperimentRecord, RecipeRecord
from models.evaluation.report import Joint, Published
from models.evaluation.scores import StepScores
from models.evaluation.summary_intervals import START, Ends, Intervals, Known

HEIGHT, MARGINS = 460, 90  # pixels: of the figure, and of what of it is above and below the plot


class Line(NamedTuple):
    """One recipe of one experiment, drawn in the colour of a number."""

    record: ExperimentRecord
    recipe: RecipeRecord
    number: int

    @property
    def summaries(self) -> list[StepScores]:
        """From the start to the last step."""
        return [self.record.zero_shot_summary, *(step.summary for step in self.recipe.steps)]


def trajectory(
    record: ExperimentRecord, known: Known, joint: Joint | None = None, published: Sequence[Published] = ()
) -> go.Figure:
    """Accumulation against retention: one line per recipe from the zero-shot point on, crossed lines for `joint`."""
    lines = [Line(record, recipe, number) for number, recipe in enumerate(record.recipes)]
    return trajectories(lines, known, joint, published)


def trajectories(
    lines: Sequence[Line], known: Known, joint: Joint | None = None, published: Sequence[Published] = ()
) -> go.Figure:
    """As `trajectory`, of recipes of any experiments under names of their own.

    The last point of each line and the first of all have their intervals, where they are known. Of `published` those
    are drawn that have scores on all sets.
    """
    figure = blank(height=HEIGHT, legend=False)
    marked = [(row.summary, row.name) for row in published if row.summary is not None]
    bound = [(joint.summary, joint.name)] if joint else []
    starts = {line.record.pretrained: line.record.zero_shot_summary for line in lines}.values()
    drawn_ends = [known[START], *(known[line.recipe.name, line.recipe.steps[-1].step] for line in lines)]
    shown = [summary for line in lines for summary in line.summaries] + [row for row, _ in bound + marked]
    x = padded([s.knowledge_accumulation for s in shown] + _flat(ends[0] for ends in drawn_ends), 0.12)
    y = padded([s.zero_shot_retention for s in shown] + _flat(ends[1] for ends in drawn_ends), 0.12)
    for line in lines:
        figure.add_trace(_path(line))
        name, last = line.recipe.name, line.recipe.steps[-1]
        figure.add_trace(_ends(name, last.summary, known[name, last.step], colour(line.number)))
    for start in starts:
        figure.add_trace(_mark(start, "zero-shot", "star", 16))
    figure.add_trace(_ends("zero-shot", lines[0].record.zero_shot_summary, known[START], RULE))
    for summary, name in marked:
        figure.add_trace(_mark(summary, name, "diamond-tall", 14))
    if joint:  # after the traces: lines go to panels with data only
        figure.add_vline(x=joint.summary.knowledge_accumulation, line={"color": RULE, "width": 1.5, "dash": "dash"})
        figure.add_hline(y=joint.summary.zero_shot_retention, line={"color": RULE, "width": 1.5, "dash": "dash"})
    ends = [(line.summaries[-1], line.recipe.name) for line in lines]
    _name_points(figure, [*((start, "zero-shot") for start in starts), *ends, *marked, *bound], x, y)
    figure.update_xaxes(title_text="knowledge accumulation →", range=x)
    return figure.update_yaxes(title_text="zero-shot retention →", range=y)


def _path(line: Line) -> go.Scatter:
    summaries, name, number = line.summaries, label(line.recipe.name), line.number
    sizes = [0] + [7 if len(summaries) < 30 else 4] * (len(summaries) - 2) + [12]
    return go.Scatter(
        x=[row.knowledge_accumulation for row in summaries],
        y=[row.zero_shot_retention for row in summaries],
        text=[str(row.step) for row in summaries],
        name=name,
        mode="lines+markers",
        line={"color": colour(number), "width": 2},
        marker={"size": sizes, "symbol": symbol(number), "color": colour(number), "opacity": 1},
        hovertemplate=f"{name}, step %{{text}}<br>KA %{{x:.3f}}<br>ZS %{{y:.3f}}<extra></extra>",
    )


def _ends(name: str, summary: StepScores, intervals: Intervals, line: str) -> go.Scatter:
    """Error bars of one point; without intervals a trace that shows nothing."""
    k, z = summary.knowledge_accumulation, summary.zero_shot_retention
    bars = {
        axis: {"type": "data", "symmetric": False, "color": line, "thickness": 1.5, "width": 4,
               "array": [max(0, ends[1] - at)], "arrayminus": [max(0, at - ends[0])]}
        for axis, at, ends in (("error_x", k, intervals[0]), ("error_y", z, intervals[1])) if ends
    }  # fmt: skip
    return go.Scatter(
        x=[k], y=[z], mode="markers", marker={"size": 1, "color": line}, name=f"{label(name)}, 95 &#37;",
        hoverinfo="skip", **bars,
    )  # fmt: skip


def _mark(at: StepScores, name: str, shape: str, size: int) -> go.Scatter:
    return go.Scatter(
        x=[at.knowledge_accumulation],
        y=[at.zero_shot_retention],
        name=label(name),
        mode="markers",
        marker={"size": size, "symbol": shape, "color": RULE, "opacity": 1},
        hovertemplate=f"{label(name)}<br>KA %{{x:.3f}}<br>ZS %{{y:.3f}}<extra></extra>",
    )


def _name_points(
    figure: go.Figure, named: Sequence[tuple[StepScores, str]], x: Sequence[float], y: Sequence[float]
) -> None:
    """Write each name beside its point, off all that is drawn where that can be."""
    points = [(_share(row.knowledge_accumulation, x), _share(row.zero_shot_retention, y)) for row, _ in named]
    texts = [label(name) for _, name in named]
    read = zip(points, map(unescape, texts), strict=True)
    places = best_places(list(read), _drawn(figure, x, y), HEIGHT - MARGINS)
    for (row, _), text, place in zip(named, texts, places, strict=True):
        figure.add_annotation(
            x=row.knowledge_accumulation, y=row.zero_shot_retention, text=text, showarrow=False,
            xanchor=place.anchor, xshift=place.right, yshift=place.up,
        )  # fmt: skip


def _drawn(figure: go.Figure, x: Sequence[float], y: Sequence[float]) -> list[list[Point]]:
    """Every line of `figure` in shares of the plot: paths, error bars and lines across."""
    lines = []
    for trace in figure.data:
        if "lines" in trace.mode:
            lines.append([(_share(a, x), _share(b, y)) for a, b in zip(trace.x, trace.y, strict=True)])
        elif len(trace.x) == 1:
            (a,), (b,) = trace.x, trace.y
            if trace.error_x.array is not None:
                ends = a - trace.error_x.arrayminus[0], a + trace.error_x.array[0]
                lines.append([(_share(end, x), _share(b, y)) for end in ends])
            if trace.error_y.array is not None:
                ends = b - trace.error_y.arrayminus[0], b + trace.error_y.array[0]
                lines.append([(_share(a, x), _share(end, y)) for end in ends])
    for shape in figure.layout.shapes:
        across = "domain" in (shape.yref or "")
        level = _share(shape.x0, x) if across else _share(shape.y0, y)
        lines.append([(level, 0), (level, 1)] if across else [(0, level), (1, level)])
    return lines


def _share(value: float, ends: Sequence[float]) -> float:
    """0 at the lower end, 1 at the upper."""
    return (value - ends[0]) / (ends[1] - ends[0])


def _flat(pairs: Iterable[Ends | None]) -> list[float]:
    return [end for pair in pairs if pair is not None for end in pair]
