"""The figures of a comparison of recipes of several experiments."""

from collections.abc import Sequence

import plotly.graph_objects as go

from models.evaluation.compare import Contender, common_mafs, standings, within
from models.evaluation.figure_kit import RULE, SCORE_SCALE, blank, colour, label, matrix, symbol
from models.evaluation.figures import SPOKEN
from models.evaluation.scores import primary
from models.evaluation.summaries import BENCHMARK


def over_compute(found: Sequence[Contender]) -> go.Figure:
    """The three summaries against the MAFs used so far, one panel each; the common budget is dashed."""
    figure = blank(height=720, rows=3, titles=tuple(SPOKEN.values()))
    for contender in found:
        used = _used(contender)
        for row, name in enumerate(BENCHMARK, start=1):
            summaries = [contender.record.zero_shot_summary, *(step.summary for step in contender.recipe.steps)]
            figure.add_scatter(
                x=used, y=[round(getattr(s, name), 4) for s in summaries], name=label(contender.label),
                legendgroup=contender.label, showlegend=row == 1, mode="lines+markers",
                line={"color": colour(contender.number), "width": 2},
                marker={"size": 6 if len(used) < 30 else 3, "symbol": symbol(contender.number)},
                hovertemplate=f"{label(contender.label)}<br>%{{x:.4g}} MAFs<br>%{{y:.3f}}<extra></extra>",
                row=row, col=1,
            )  # fmt: skip
    budget = common_mafs(found)
    for row in (1, 2, 3):
        figure.add_vline(x=budget, line={"color": RULE, "width": 1.5, "dash": "dash"}, row=row, col=1)
    figure.update_xaxes(exponentformat="SI", rangemode="tozero")
    return figure.update_xaxes(title_text="MAFs used", row=3, col=1)


def datasets(found: Sequence[Contender]) -> go.Figure:
    """Scores of every dataset at equal compute, a column per contender in the order of the standings."""
    shown = columns(found)
    record = found[0].record
    groups = {"adaptation": record.adaptation, "retention": record.retention}
    cells = {
        role: [[scores.get(name) for scores in shown.values()] for name in names] for role, names in groups.items()
    }
    return matrix(groups, list(shown), cells, SCORE_SCALE)


def columns(found: Sequence[Contender]) -> dict[str, dict[str, float]]:
    """Label -> dataset -> score at equal compute, in the order of the standings; those without such a step left out."""
    budget, named = common_mafs(found), {contender.label: contender for contender in found}
    ends = {row.label: within(named[row.label], budget) for row in standings(found)}
    return {label: primary(end.scores) for label, end in ends.items() if end is not None}


def _used(contender: Contender) -> list[float]:
    """MAFs used before the first step, and up to each that was scored."""
    scored, total, used = {step.step for step in contender.recipe.steps}, 0.0, [0.0]
    for step in contender.recipe.trained:
        total += step.mafs_used
        used += [total] if step.step in scored else []
    return used
