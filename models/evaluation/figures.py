"""The figures of what an experiment learned and kept, as plotly values: drawn in pages, exported, tracked."""

import plotly.graph_objects as go

from models.evaluation.figure_kit import (
    LOSS_SCALE,
    RULE,
    SCORE_SCALE,
    blank,
    colour,
    faint,
    label,
    matrix,
    symbol,
)
from models.evaluation.record import ExperimentRecord, RecipeRecord
from models.evaluation.report import Joint, forgetting, merge_rows, summaries_inside
from models.evaluation.scores import primary
from models.evaluation.summaries import BENCHMARK
from models.evaluation.summary_intervals import START, Ends, Known
from models.evaluation.transfer import history_of, step_transfers

SPOKEN = dict(zip(BENCHMARK, ("knowledge accumulation", "zero-shot retention", "geometric mean"), strict=True))


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
            figure.add_annotation(x=0, xref="x domain", y=level, text=label(joint.name), showarrow=False,
                                  xanchor="left", yanchor="bottom", row=row, col=1)  # fmt: skip
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
                name=label(recipe.name), mode="lines+markers",
                line={"color": colour(index), "width": 2}, marker={"size": 8, "symbol": symbol(index)},
                hovertemplate="weight on the past %{text}<br>KA %{x:.3f}<br>ZS %{y:.3f}<extra></extra>",
            )  # fmt: skip
            for point in recipe.merge_points:  # not as the trace's text, which has one colour in the light and the dark
                figure.add_annotation(
                    x=point.summary.knowledge_accumulation, y=point.summary.zero_shot_retention,
                    text=f"{point.past_weight:g}", showarrow=False, xanchor="left", xshift=5, yshift=10,
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
                x=[step.step for step in found], y=[getattr(step, name) for step in found], name=label(recipe.name),
                legendgroup=recipe.name, showlegend=row == 1, mode="lines+markers", connectgaps=False,
                line={"color": colour(index), "width": 2},
                marker={"size": 6 if len(found) < 30 else 3, "symbol": symbol(index)},
                hovertemplate=f"{label(recipe.name)}<br>step %{{x}}<br>%{{y:.3f}}<extra></extra>", row=row, col=1,
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
                x=[item["position"] for item in rows], y=[item[name] for item in rows], name=label(recipe.name),
                legendgroup=recipe.name, showlegend=row == 1, mode="lines+markers",
                line={"color": colour(index), "width": 1.8},
                marker={"size": [7 if item["is_end"] else 3 for item in rows], "symbol": symbol(index), "opacity": 1},
                hovertemplate=f"{label(recipe.name)}<br>step %{{x:.2f}}<br>%{{y:.3f}}<extra></extra>", row=row, col=1,
            )  # fmt: skip
    return figure.update_xaxes(title_text="steps done", row=2, col=1)


def _add_line(
    figure: go.Figure, record: ExperimentRecord, index: int, name: str, ends: list[Ends | None], row: int
) -> None:
    """One summary of one recipe over the steps, and the band between `ends` where all of them are known."""
    recipe = record.recipes[index]
    summaries = [record.zero_shot_summary, *(step.summary for step in recipe.steps)]
    steps, values = [s.step for s in summaries], [round(getattr(s, name), 4) for s in summaries]
    shared = {"name": label(recipe.name), "legendgroup": recipe.name, "row": row, "col": 1}
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
        hovertemplate=f"{label(recipe.name)}<br>step %{{x}}<br>%{{y:.3f}}<extra></extra>", **shared,
    )  # fmt: skip
