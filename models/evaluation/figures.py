"""The figures of what an experiment learned and kept, as plotly values: drawn in pages, exported, tracked."""

from collections.abc import Iterable, Sequence

import plotly.graph_objects as go

from models.evaluation.figure_kit import (
    LOSS_SCALE,
    RULE,
    SCORE_SCALE,
    blank,
    colour,
    faint,
    matrix,
    padded,
    symbol,
)
from models.evaluation.record import ExperimentRecord, RecipeRecord
from models.evaluation.report import Joint, forgetting, merge_rows, summaries_inside
from models.evaluation.scores import StepScores, primary
from models.evaluation.summaries import BENCHMARK
from models.evaluation.summary_intervals import START, Ends, Intervals, Known
from models.evaluation.transfer import history_of, step_transfers

Line = tuple[ExperimentRecord, RecipeRecord]
SPOKEN = dict(zip(BENCHMARK, ("knowledge accumulation", "zero-shot retention", "geometric mean"), strict=True))


def trajectory(record: ExperimentRecord, known: Known, joint: Joint | None = None) -> go.Figure:
    """Accumulation against retention: one line per recipe from the zero-shot point on, crossed lines for `joint`."""
    return trajectories([(record, recipe) for recipe in record.recipes], known, joint)


def trajectories(lines: Sequence[Line], known: Known, joint: Joint | None = None) -> go.Figure:
    """As `trajectory`, of recipes of any experiments under names of their own.

    The last point of each line and the first of all have their intervals, where they are known.
    """
    figure = blank(height=460, legend=False)
    shown = [summary for line in lines for summary in _summaries(line)] + ([joint.summary] if joint else [])
    drawn_ends = [known[START], *(known[recipe.name, recipe.steps[-1].step] for _, recipe in lines)]
    x = padded([s.knowledge_accumulation for s in shown] + _flat(ends[0] for ends in drawn_ends), 0.12)
    y = padded([s.zero_shot_retention for s in shown] + _flat(ends[1] for ends in drawn_ends), 0.12)
    for index, line in enumerate(lines):
        figure.add_trace(_path(line, index))
        name, last = line[1].name, line[1].steps[-1]
        figure.add_trace(_ends(name, last.summary, known[name, last.step], colour(index)))
    for start in {record.pretrained: record.zero_shot_summary for record, _ in lines}.values():
        figure.add_trace(_start_mark(start))
    figure.add_trace(_ends("zero-shot", lines[0][0].zero_shot_summary, known[START], RULE))
    if joint:  # after the traces: lines go to panels with data only
        figure.add_vline(x=joint.summary.knowledge_accumulation, line={"color": RULE, "width": 1.5, "dash": "dash"})
        figure.add_hline(y=joint.summary.zero_shot_retention, line={"color": RULE, "width": 1.5, "dash": "dash"})
    _label_points(figure, lines, x, y, joint)
    figure.update_xaxes(title_text="knowledge accumulation →", range=x)
    return figure.update_yaxes(title_text="zero-shot retention →", range=y)


def over_steps(record: ExperimentRecord, known: Known, joint: Joint | None = None) -> go.Figure:
    """The three summaries by step, one panel each: lines of recipes in bands of their intervals, `joint` dashed."""
    figure = blank(height=720, rows=3, titles=tuple(SPOKEN.values()))
    for row, name in enumerate(BENCHMARK, start=1):
        for index, recipe in enumerate(record.recipes):
            ends = [getattr(known[key], name) for key in [START, *((recipe.name, s.step) for s in recipe.steps)]]
            _add_line(figure, record, index, name, ends, row)
        if joint:
            level = getattr(joint.summary, name)
            figure.add_hline(y=level, line={"color": RULE, "width": 1.5, "dash": "dash"}, row=row, col=1)
            figure.add_annotation(x=0, xref="x domain", y=level, text=joint.name, showarrow=False, xanchor="left",
                                  yanchor="bottom", row=row, col=1)  # fmt: skip
    last = 1 + max(recipe.steps[-1].step for recipe in record.recipes)
    every = 1 + last // 10
    ticks = [-1, *range(every - 1, last, every)] if every > 1 else list(range(-1, last))
    figure.update_xaxes(tickvals=ticks, ticktext=["start" if tick < 0 else str(tick) for tick in ticks])
    return figure.update_xaxes(title_text="step", row=3, col=1)


def merge_tradeoff(record: ExperimentRecord) -> go.Figure:
    """Where the last merge of each recipe ends up, from its expert alone to its past alone."""
    figure = blank(height=380, legend=len({row["recipe"] for row in merge_rows(record)}) > 1)
    for index, recipe in enumerate(record.recipes):
        if recipe.merge_points:
            figure.add_scatter(
                x=[point.summary.knowledge_accumulation for point in recipe.merge_points],
                y=[point.summary.zero_shot_retention for point in recipe.merge_points],
                text=[f"{point.past_weight:g}" for point in recipe.merge_points],
                name=recipe.name, mode="lines+markers+text", textposition="top right",
                line={"color": colour(index), "width": 2}, marker={"size": 8, "symbol": symbol(index)},
                hovertemplate="weight on the past %{text}<br>KA %{x:.3f}<br>ZS %{y:.3f}<extra></extra>",
            )  # fmt: skip
    figure.update_xaxes(title_text="knowledge accumulation →")
    return figure.update_yaxes(title_text="zero-shot retention →")


def heat_map(record: ExperimentRecord, recipe: RecipeRecord) -> go.Figure:
    """Scores of every dataset over the steps of one recipe, the adaptation sets above the retention sets."""
    reports = [primary(record.zero_shot), *(primary(step.scores) for step in recipe.steps)]
    columns = ["start", *(str(step.step) for step in recipe.steps)]
    groups = {"adaptation": record.adaptation, "retention": record.retention}
    cells = {role: [[scores[name] for scores in reports] for name in names] for role, names in groups.items()}
    return matrix(groups, columns, cells, SCORE_SCALE)


def forgotten(record: ExperimentRecord) -> go.Figure:
    """Best score so far minus final score of every dataset under every recipe; 0 is nothing forgotten."""
    lost = [forgetting(record, recipe) for recipe in record.recipes]
    groups = {"adaptation": record.adaptation, "retention": record.retention}
    cells = {role: [[scores[name] for scores in lost] for name in names] for role, names in groups.items()}
    return matrix(groups, [recipe.name for recipe in record.recipes], cells, LOSS_SCALE)


def transfers(record: ExperimentRecord) -> go.Figure:
    """Forgetting, backward and forward transfer after every step, means over the datasets in that position."""
    tables = [step_transfers(history_of(record, recipe)) for recipe in record.recipes]
    titles = {"forgetting": "forgetting", "backward": "backward transfer", "forward": "forward transfer"}
    panels = [name for name in titles if any(getattr(step, name) is not None for found in tables for step in found)]
    figure = blank(height=90 + 180 * len(panels), rows=len(panels), titles=tuple(titles[name] for name in panels))
    for index, (recipe, found) in enumerate(zip(record.recipes, tables, strict=True)):
        for row, name in enumerate(panels, start=1):
            figure.add_scatter(
                x=[step.step for step in found], y=[getattr(step, name) for step in found], name=recipe.name,
                legendgroup=recipe.name, showlegend=row == 1, mode="lines+markers", connectgaps=False,
                line={"color": colour(index), "width": 2},
                marker={"size": 6 if len(found) < 30 else 3, "symbol": symbol(index)},
                hovertemplate=f"{recipe.name}<br>step %{{x}}<br>%{{y:.3f}}<extra></extra>", row=row, col=1,
            )  # fmt: skip
    figure.update_xaxes(tickformat="d", range=[-0.3, max(found[-1].step for found in tables) + 0.3])
    return figure.update_xaxes(title_text="step", row=len(panels), col=1)


def inside_steps(record: ExperimentRecord) -> go.Figure:
    """Both means through the updates: a dip after a step begins is the stability gap. Marks are the ends of steps."""
    figure = blank(height=480, rows=2, titles=("adaptation sets", "held-out sets"))
    for index, recipe in enumerate(record.recipes):
        rows = summaries_inside(record, recipe)
        for row, name in enumerate(("adaptation", "retention"), start=1):
            figure.add_scatter(
                x=[item["position"] for item in rows], y=[item[name] for item in rows], name=recipe.name,
                legendgroup=recipe.name, showlegend=row == 1, mode="lines+markers",
                line={"color": colour(index), "width": 1.8},
                marker={"size": [7 if item["is_end"] else 3 for item in rows], "symbol": symbol(index), "opacity": 1},
                hovertemplate=f"{recipe.name}<br>step %{{x:.2f}}<br>%{{y:.3f}}<extra></extra>", row=row, col=1,
            )  # fmt: skip
    return figure.update_xaxes(title_text="steps done", row=2, col=1)


def _add_line(
    figure: go.Figure, record: ExperimentRecord, index: int, name: str, ends: list[Ends | None], row: int
) -> None:
    """One summary of one recipe over the steps, and the band between `ends` where all of them are known."""
    recipe = record.recipes[index]
    summaries = [record.zero_shot_summary, *(step.summary for step in recipe.steps)]
    steps, values = [s.step for s in summaries], [round(getattr(s, name), 4) for s in summaries]
    shared = {"name": recipe.name, "legendgroup": recipe.name, "row": row, "col": 1}
    if None not in ends:
        outline = [high for _, high in ends] + [low for low, _ in ends][::-1]
        figure.add_scatter(
            x=steps + steps[::-1], y=[round(value, 4) for value in outline], mode="lines", fill="toself",
            fillcolor=faint(colour(index)), line={"width": 0, "color": colour(index)}, hoverinfo="skip",
            showlegend=False, **shared,
        )  # fmt: skip
    figure.add_scatter(
        x=steps, y=values, mode="lines+markers", line={"color": colour(index), "width": 2}, showlegend=row == 1,
        marker={"size": 6 if len(steps) < 30 else 3, "symbol": symbol(index)},
        hovertemplate=f"{recipe.name}<br>step %{{x}}<br>%{{y:.3f}}<extra></extra>", **shared,
    )  # fmt: skip


def _path(line: Line, index: int) -> go.Scatter:
    summaries, recipe = _summaries(line), line[1]
    sizes = [0] + [7 if len(summaries) < 30 else 4] * (len(summaries) - 2) + [12]
    hover = f"{recipe.name}, step %{{text}}<br>KA %{{x:.3f}}<br>ZS %{{y:.3f}}<extra></extra>"
    return go.Scatter(
        x=[row.knowledge_accumulation for row in summaries],
        y=[row.zero_shot_retention for row in summaries],
        text=[str(row.step) for row in summaries],
        name=recipe.name,
        mode="lines+markers",
        line={"color": colour(index), "width": 2},
        marker={"size": sizes, "symbol": symbol(index), "color": colour(index), "opacity": 1},
        hovertemplate=hover,
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
        x=[k], y=[z], mode="markers", marker={"size": 1, "color": line}, name=f"{name}, 95 %", hoverinfo="skip", **bars
    )


def _start_mark(start: StepScores) -> go.Scatter:
    return go.Scatter(
        x=[start.knowledge_accumulation],
        y=[start.zero_shot_retention],
        name="zero-shot",
        mode="markers",
        marker={"size": 16, "symbol": "star", "color": RULE, "opacity": 1},
        hovertemplate="zero-shot<br>KA %{x:.3f}<br>ZS %{y:.3f}<extra></extra>",
    )


def _label_points(
    figure: go.Figure, lines: Sequence[Line], x: list[float], y: list[float], joint: Joint | None
) -> None:
    """Name the points, each on the side its line does not come from, and no two names closer than a line of text."""
    pixels = (figure.layout.height - 90) / (y[1] - y[0])
    places = [(lines[0][0].zero_shot_summary, "zero-shot", 18)]
    places += [(joint.summary, joint.name, 10)] if joint else []
    for line in lines:
        before, last = _summaries(line)[-2:]
        places.append((last, line[1].name, -16 if last.zero_shot_retention < before.zero_shot_retention else 16))
    taken: list[tuple[float, float]] = []  # (share of the width, height in pixels) of the names so far
    for row, name, side in sorted(places, key=lambda place: -place[0].zero_shot_retention):
        near = (row.knowledge_accumulation - x[0]) / (x[1] - x[0])  # 0 at the left edge, 1 at the right
        height = row.zero_shot_retention * pixels + side
        for other, above in taken:
            if abs(other - near) < 0.4 and abs(above - height) < 16:
                height = above - 16
        taken.append((near, height))
        figure.add_annotation(
            x=row.knowledge_accumulation, y=row.zero_shot_retention, text=name, showarrow=False,
            yshift=height - row.zero_shot_retention * pixels,
            xanchor="right" if near > 0.7 else "left" if near < 0.3 else "center",
            xshift=12 if near > 0.7 else -12 if near < 0.3 else 0,
        )  # fmt: skip


def _flat(pairs: Iterable[Ends | None]) -> list[float]:
    return [end for pair in pairs if pair is not None for end in pair]


def _summaries(line: Line) -> list[StepScores]:
    """From the start to the last step."""
    record, recipe = line
    return [record.zero_shot_summary, *(step.summary for step in recipe.steps)]
