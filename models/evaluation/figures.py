"""The figures of an experiment as plotly values: the page inlines them, the tracker stores them."""

from collections.abc import Sequence
from itertools import pairwise

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from data_catalog import store
from models.evaluation.record import ExperimentRecord, RecipeRecord
from models.evaluation.report import forgetting, merge_rows
from models.evaluation.scores import StepScores, primary

# Lines and marks keep a contrast of 3 on white and on the dark page; text is never coloured with these.
COLOURS = ("#2b7fc4", "#c8650f", "#23936a", "#a45bc4", "#cf4657", "#8a7a17", "#6c7885", "#0f91a3")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "x", "pentagon")
POOLS = {"update": "#2b7fc4", "buffer": "#c8650f", "pretraining": "#6c7885"}
SCORE_SCALE = ("#e6ede9", "#c9ded7", "#93c4bb", "#4f9c9b", "#22707c", "#0d4456")  # 0 .. 1
LOSS_SCALE = ("#ebe8e3", "#ecd2ba", "#e5ac83", "#cf7550", "#a33c2f", "#651a24")
INK, RULE = "#3c444b", "#8a949c"  # for figures shown alone; the page sets its own, light and dark
CURVE_POINTS = 500
ROW_PIXELS, COLUMN_PIXELS, NAME_PIXELS = 24, 46, 150  # of a heat map; the least width of a column, of the names


def trajectory(record: ExperimentRecord) -> go.Figure:
    """Knowledge accumulation against zero-shot retention: one line per recipe, from the zero-shot point on."""
    figure = _figure(height=460, legend=False)
    for index, recipe in enumerate(record.recipes):
        figure.add_trace(_path(record, recipe, index))
    figure.add_trace(_start_mark(record.zero_shot_summary))
    x = _padded([row.knowledge_accumulation for row in _all_summaries(record)], 0.12)
    y = _padded([row.zero_shot_retention for row in _all_summaries(record)], 0.12)
    _label_points(figure, record, x, y)
    figure.update_xaxes(title_text="knowledge accumulation →", range=x)
    figure.update_yaxes(title_text="zero-shot retention →", range=y)
    return figure


def merge_tradeoff(record: ExperimentRecord) -> go.Figure:
    """Where the last merge of each recipe ends up, from its expert alone to its past alone."""
    figure = _figure(height=380, legend=len({row["recipe"] for row in merge_rows(record)}) > 1)
    for index, recipe in enumerate(record.recipes):
        colour = COLOURS[index % len(COLOURS)]
        if recipe.merge_points:
            figure.add_scatter(
                x=[point.summary.knowledge_accumulation for point in recipe.merge_points],
                y=[point.summary.zero_shot_retention for point in recipe.merge_points],
                text=[f"{point.past_weight:g}" for point in recipe.merge_points],
                name=recipe.name, mode="lines+markers+text", textposition="top right",
                line={"color": colour, "width": 2}, marker={"size": 8, "symbol": SYMBOLS[index % len(SYMBOLS)]},
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
    return _matrix(groups, columns, cells, SCORE_SCALE)


def forgotten(record: ExperimentRecord) -> go.Figure:
    """Best score so far minus final score of every dataset under every recipe; 0 is nothing forgotten."""
    lost = [forgetting(record, recipe) for recipe in record.recipes]
    groups = {"adaptation": record.adaptation, "retention": record.retention}
    cells = {role: [[scores[name] for scores in lost] for name in names] for role, names in groups.items()}
    return _matrix(groups, [recipe.name for recipe in record.recipes], cells, LOSS_SCALE)


def curves(record: ExperimentRecord) -> go.Figure:
    """Loss and learning rate over the whole stream, each recipe in at most CURVE_POINTS points."""
    figure = _figure(height=480, rows=2, titles=("loss", "learning rate"))
    for index, recipe in enumerate(record.recipes):
        rows = curve_rows(recipe)
        for row, column in ((1, "loss"), (2, "lr")):
            line = {"color": COLOURS[index % len(COLOURS)], "width": 1.6}
            hover = f"{recipe.name}<br>step %{{x:.2f}}<br>{column} %{{y:.4g}}<extra></extra>"
            figure.add_scatter(
                x=[item["position"] for item in rows], y=[item[column] for item in rows], name=recipe.name,
                legendgroup=recipe.name, showlegend=row == 1, mode="lines", line=line, hovertemplate=hover,
                row=row, col=1,
            )  # fmt: skip
    steps = max(len(recipe.steps) for recipe in record.recipes)
    figure.update_xaxes(tickvals=list(range(0, steps + 1, 1 + steps // 10)), range=[0, steps])
    figure.update_xaxes(title_text="step", row=2, col=1)
    figure.update_yaxes(rangemode="tozero", exponentformat="e", nticks=5, row=2, col=1)
    return figure


def curve_rows(recipe: RecipeRecord, points: int = CURVE_POINTS) -> list[dict[str, float]]:
    """Loss and lr of a recipe averaged in at most `points` bins; `position` is the step plus the part of it done.

    Raises MissingArtifact if the table of a step is gone.
    """
    rows = []
    for step in recipe.steps:
        table = store.read_table(step.curves, ["loss", "lr"]).to_pylist()
        rows += [{"position": step.step + (i + 0.5) / len(table), **row} for i, row in enumerate(table)]
    bins = min(points, len(rows))
    edges = [len(rows) * i // bins for i in range(bins + 1)] if bins else [0]
    return [_averaged(rows[a:b]) for a, b in pairwise(edges)]


def consumed_mixture(record: ExperimentRecord) -> go.Figure:
    """Samples drawn from each pool at every step, one row of bars per recipe."""
    figure = _recipe_rows(record, "samples drawn")
    pools = [pool for pool in POOLS if any(pool in step.draws for recipe in record.recipes for step in recipe.steps)]
    for row, recipe in enumerate(record.recipes, start=1):
        for pool in pools:
            drawn = [step.draws.get(pool, 0) for step in recipe.steps]
            figure.add_bar(
                x=_step_names(recipe), y=drawn, name=pool, marker_color=POOLS[pool], legendgroup=pool,
                showlegend=row == 1, hovertemplate=f"step %{{x}}<br>{pool}: %{{y:,}}<extra></extra>", row=row, col=1,
            )  # fmt: skip
    return figure.update_layout(barmode="stack")


def has_budget(record: ExperimentRecord) -> bool:
    """Whether any step was given, or measured, in MAFs."""
    return any(s.mafs_planned is not None or s.mafs_used is not None for recipe in record.recipes for s in recipe.steps)


def has_ledger(record: ExperimentRecord) -> bool:
    """Whether any step says which phase took how much."""
    return any(step.ledger for recipe in record.recipes for step in recipe.steps)


def budget(record: ExperimentRecord) -> go.Figure:
    """Memory-adjusted FLOPs of every step, used (bars) and planned (marks), one row per recipe."""
    figure = _recipe_rows(record, "MAFs")
    for row, recipe in enumerate(record.recipes, start=1):
        steps = _step_names(recipe)
        figure.add_bar(
            x=steps, y=[step.mafs_used for step in recipe.steps], name="used", marker_color=COLOURS[0],
            legendgroup="used", showlegend=row == 1, row=row, col=1,
        )  # fmt: skip
        figure.add_scatter(
            x=steps, y=[step.mafs_planned for step in recipe.steps], name="planned", mode="markers",
            marker={"symbol": "line-ew", "size": 22, "line": {"width": 3, "color": COLOURS[1]}},
            legendgroup="planned", showlegend=row == 1, row=row, col=1,
        )  # fmt: skip
    return figure


def _path(record: ExperimentRecord, recipe: RecipeRecord, index: int) -> go.Scatter:
    summaries = [record.zero_shot_summary, *(step.summary for step in recipe.steps)]
    colour = COLOURS[index % len(COLOURS)]
    sizes = [0] + [7] * (len(summaries) - 2) + [12]
    hover = f"{recipe.name}, step %{{text}}<br>KA %{{x:.3f}}<br>ZS %{{y:.3f}}<extra></extra>"
    return go.Scatter(
        x=[row.knowledge_accumulation for row in summaries],
        y=[row.zero_shot_retention for row in summaries],
        text=[str(row.step) for row in summaries],
        name=recipe.name,
        mode="lines+markers",
        line={"color": colour, "width": 2},
        marker={"size": sizes, "symbol": SYMBOLS[index % len(SYMBOLS)], "color": colour, "opacity": 1},
        hovertemplate=hover,
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


def _label_points(figure: go.Figure, record: ExperimentRecord, x: list[float], y: list[float]) -> None:
    """Name the points, each on the side its line does not come from, and no two names closer than a line of text."""
    pixels = (figure.layout.height - 90) / (y[1] - y[0])
    places = [(record.zero_shot_summary, "zero-shot", 18)]
    for recipe in record.recipes:
        line = [record.zero_shot_summary, *(step.summary for step in recipe.steps)]
        falls = line[-1].zero_shot_retention < line[-2].zero_shot_retention
        places.append((line[-1], recipe.name, -16 if falls else 16))
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


def _all_summaries(record: ExperimentRecord) -> list[StepScores]:
    return [record.zero_shot_summary, *(step.summary for recipe in record.recipes for step in recipe.steps)]


def _padded(values: list[float], share: float) -> list[float]:
    spread = max(max(values) - min(values), 0.02)
    return [min(values) - share * spread, max(values) + share * spread]


def _averaged(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def _step_names(recipe: RecipeRecord) -> list[str]:
    return [str(step.step) for step in recipe.steps]


def _recipe_rows(record: ExperimentRecord, unit: str) -> go.Figure:
    names = tuple(recipe.name for recipe in record.recipes)
    figure = _figure(height=110 + 150 * len(names), rows=len(names), titles=names, shared_y=True)
    figure.update_xaxes(type="category")
    figure.update_xaxes(title_text="step", row=len(names), col=1)
    return figure.update_yaxes(title_text=unit, rangemode="tozero", exponentformat="SI", nticks=4)


def _matrix(
    groups: dict[str, Sequence[str]], columns: list[str], cells: dict[str, list[list[float]]], scale: tuple[str, ...]
) -> go.Figure:
    heights = [len(names) for names in groups.values()]
    plot = ROW_PIXELS * sum(heights) + 56
    figure = make_subplots(
        rows=len(groups), cols=1, row_heights=heights, subplot_titles=list(groups), vertical_spacing=56 / plot
    )
    for row, (role, names) in enumerate(groups.items(), start=1):
        figure.add_heatmap(
            z=cells[role], x=columns, y=list(names), zmin=0, zmax=1, colorscale=list(scale), showscale=False,
            xgap=1, ygap=1, hovertemplate="%{y}<br>%{x}: %{z:.3f}<extra></extra>", row=row, col=1,
        )  # fmt: skip
        figure.add_trace(_numbers(list(names), columns, cells[role], scale), row=row, col=1)
    figure.update_xaxes(type="category", showgrid=False, ticks="", tickangle=0)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="", automargin=True)
    _plain(figure, plot + 60, legend=False)
    width = max(COLUMN_PIXELS, 8 * max(len(column) for column in columns) + 12)
    return figure.update_layout(
        margin={"l": 10, "r": 10, "t": 30, "b": 30}, meta={"width": NAME_PIXELS + width * len(columns)}
    )


def _numbers(rows: list[str], columns: list[str], cells: list[list[float]], scale: tuple[str, ...]) -> go.Scatter:
    """The cells' numbers, each black or white, whichever stands out more against its cell."""
    places = [(column, row, value) for row, line in zip(rows, cells, strict=True)
              for column, value in zip(columns, line, strict=True)]  # fmt: skip
    return go.Scatter(
        x=[column for column, _, _ in places],
        y=[row for _, row, _ in places],
        text=[f"{value:.2f}" for _, _, value in places],
        mode="text",
        textfont={"size": 11, "color": [text_colour(value, scale) for _, _, value in places]},
        hoverinfo="skip",
        showlegend=False,
    )


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


def _figure(
    height: int, rows: int = 1, titles: tuple[str, ...] = (), legend: bool = True, shared_y: bool = False
) -> go.Figure:
    spacing = 44 / (height - 90)  # room for the title of a row
    figure = make_subplots(
        rows=rows, cols=1, subplot_titles=titles or None, vertical_spacing=spacing if rows > 1 else None,
        shared_xaxes=False, shared_yaxes="all" if shared_y else False,
    )  # fmt: skip
    return _plain(figure, height, legend)


def _plain(figure: go.Figure, height: int, legend: bool) -> go.Figure:
    """No template, no background, axes that leave scrolling on a phone to the page."""
    figure.update_layout(
        template="none", height=height, dragmode=False, showlegend=legend,
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 56, "r": 12, "t": 30, "b": 60},
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0, "xanchor": "left"},
    )  # fmt: skip
    figure.update_annotations(font={"size": 13}, x=0, xanchor="left")  # the titles of rows
    figure.update_xaxes(
        title={"font": {"size": 13}, "standoff": 8},
        fixedrange=True,
        gridcolor=RULE,
        griddash="dot",
        gridwidth=0.5,
        zeroline=False,
        automargin=True,
    )
    return figure.update_yaxes(
        title={"font": {"size": 13}, "standoff": 8},
        automargin=True,
        fixedrange=True,
        gridcolor=RULE,
        griddash="dot",
        gridwidth=0.5,
        zeroline=False,
    )
