"""The figures of what a run did: curves of its updates, samples drawn, compute, stages."""

from collections.abc import Sequence
from html import escape
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go

from data_catalog import store
from models.evaluation.figure_kit import COLOURS, RULE, blank, colour, label, recipe_rows
from models.evaluation.record import ExperimentRecord, RecipeRecord, StageRecord, UnscoredStep

POOLS = {"update": "#2b7fc4", "buffer": "#c8650f", "pretraining": "#6c7885"}
CURVE_POINTS = 500
ALWAYS_SECONDS = 0.05  # stages drawn as bars are at least this long, so that each can be seen
_BAND = 22  # pixels of a row of the timeline


def curves(record: ExperimentRecord) -> go.Figure:
    """Loss and learning rate over the whole stream, each recipe in at most CURVE_POINTS points."""
    figure = blank(height=480, rows=2, titles=("loss", "learning rate"))
    for index, recipe in enumerate(record.recipes):
        rows = curve_rows(recipe.trained)
        for row, column in ((1, "loss"), (2, "lr")):
            hover = f"{label(recipe.name)}<br>step %{{x:.2f}}<br>{column} %{{y:.4g}}<extra></extra>"
            figure.add_scatter(
                x=[round(item["position"], 4) for item in rows], y=[float(f"{item[column]:.5g}") for item in rows],
                name=label(recipe.name), legendgroup=recipe.name, showlegend=row == 1, mode="lines",
                hovertemplate=hover, line={"color": colour(index), "width": 1.6}, row=row, col=1,
            )  # fmt: skip
    steps = max(len(recipe.trained) for recipe in record.recipes)
    figure.update_xaxes(tickvals=list(range(0, steps + 1, 1 + steps // 10)), range=[0, steps])
    figure.update_xaxes(title_text="step", row=2, col=1)
    return figure.update_yaxes(rangemode="tozero", exponentformat="e", nticks=5, row=2, col=1)


def curve_rows(steps: Sequence[UnscoredStep], points: int = CURVE_POINTS) -> list[dict[str, float]]:
    """Loss and lr of some steps averaged in at most `points` bins; `position` is the step plus the part of it done.

    Raises MissingArtifact if the table of a step is gone.
    """
    parts = []
    for step in steps:
        table = store.read_table(step.curves, ["loss", "lr"])
        position = step.step + (np.arange(table.num_rows) + 0.5) / max(table.num_rows, 1)
        parts.append(np.stack([position, *(table[name].to_numpy() for name in ("loss", "lr"))]))
    values = np.concatenate(parts, axis=1)  # [3, iterations]
    count = values.shape[1]
    bins = min(points, count)
    edges = [count * i // bins for i in range(bins + 1)] if bins else [0]
    means = (values[:, a:b].mean(axis=1).tolist() for a, b in pairwise(edges))
    return [dict(zip(("position", "loss", "lr"), mean, strict=True)) for mean in means]


def consumed_mixture(record: ExperimentRecord) -> go.Figure:
    """Samples drawn from each pool at every step, one row of bars per recipe."""
    figure = recipe_rows(_names(record), "samples drawn")
    pools = [pool for pool in POOLS if any(pool in step.draws for recipe in record.recipes for step in recipe.trained)]
    for row, recipe in enumerate(record.recipes, start=1):
        for pool in pools:
            drawn = [step.draws.get(pool, 0) for step in recipe.trained]
            figure.add_bar(
                x=_step_names(recipe), y=drawn, name=pool, marker_color=POOLS[pool], legendgroup=pool,
                showlegend=row == 1, hovertemplate=f"step %{{x}}<br>{pool}: %{{y:,}}<extra></extra>", row=row, col=1,
            )  # fmt: skip
    return figure.update_layout(barmode="stack")


def has_budget(record: ExperimentRecord) -> bool:
    """Whether any step was given, or measured, in MAFs."""
    return any(
        s.mafs_planned is not None or s.mafs_used is not None for recipe in record.recipes for s in recipe.trained
    )


def has_ledger(record: ExperimentRecord) -> bool:
    """Whether any step says which phase took how much."""
    return any(step.ledger for recipe in record.recipes for step in recipe.trained)


def budget(record: ExperimentRecord) -> go.Figure:
    """Memory-adjusted FLOPs of every step, used (bars) and planned (marks), one row per recipe."""
    figure = recipe_rows(_names(record), "MAFs")
    for row, recipe in enumerate(record.recipes, start=1):
        steps = _step_names(recipe)
        width = min(22, 600 / len(steps))
        figure.add_bar(
            x=steps, y=[step.mafs_used for step in recipe.trained], name="used", marker_color=COLOURS[0],
            legendgroup="used", showlegend=row == 1, row=row, col=1,
        )  # fmt: skip
        figure.add_scatter(
            x=steps, y=[step.mafs_planned for step in recipe.trained], name="planned", mode="markers",
            marker={"symbol": "line-ew", "size": width, "line": {"width": 3, "color": COLOURS[1]}},
            legendgroup="planned", showlegend=row == 1, row=row, col=1,
        )  # fmt: skip
    return figure


def has_timeline(record: ExperimentRecord) -> bool:
    """Whether it is known when the stages ran; older records do not say."""
    return any(stage.ended is not None for stage in record.stages)


def timeline(record: ExperimentRecord) -> go.Figure:
    """When each stage ran, one row per kind of stage; those re-used are hollow marks where they were looked up."""
    stages = [stage for stage in record.stages if stage.ended is not None]
    names = list(dict.fromkeys(stage.stage for stage in stages))
    start = min(stage.ended - stage.seconds for stage in stages)
    figure = blank(height=110 + _BAND * len(names))
    run = [stage for stage in stages if not stage.reused]
    figure.add_bar(
        y=[stage.stage for stage in run], x=[max(stage.seconds, ALWAYS_SECONDS) for stage in run],
        base=[round(stage.ended - stage.seconds - start, 2) for stage in run], orientation="h", name="executed",
        marker_color=COLOURS[0], text=[_spoken(stage) for stage in run], textposition="none",
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    known = [stage for stage in stages if stage.reused]
    figure.add_scatter(
        y=[stage.stage for stage in known], x=[round(stage.ended - start, 2) for stage in known], mode="markers",
        name="re-used", text=[_spoken(stage) for stage in known], hovertemplate="%{text}<extra></extra>",
        marker={"symbol": "diamond-open", "size": 9, "color": COLOURS[1], "line": {"width": 2}},
    )  # fmt: skip
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(title_text="seconds since the first stage began", rangemode="tozero")
    return figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=names, range=[len(names) - 0.5, -0.5], dtick=1,
        showgrid=False, linecolor=RULE,
    )  # fmt: skip


def _spoken(stage: StageRecord) -> str:
    done = "re-used" if stage.reused else "executed"
    return f"{escape(stage.label)}<br>{done}: {escape(stage.reason)}<br>{stage.seconds:.1f} s"


def _names(record: ExperimentRecord) -> tuple[str, ...]:
    return tuple(recipe.name for recipe in record.recipes)


def _step_names(recipe: RecipeRecord) -> list[str]:
    return [str(step.step) for step in recipe.trained]
